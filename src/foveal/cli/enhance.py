"""`foveal enhance`: brighten an image, a folder or a video for a recogniser."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from foveal._core.files import check_folder
from foveal._core.formats import written_video_suffix
from foveal.cli.common import (
    Json,
    Options,
    emit,
    inputs,
    is_video,
    parse_options,
    path_argument,
    reporter,
)
from foveal.errors import ArgumentError


@dataclass(frozen=True)
class SaccOptions:
    """Options of `-m sacc`."""

    strength: float = 1.0
    weights: str = "sacc-efficientnet-lite0"


def enhance(
    source: Annotated[Path, path_argument("Image, folder or video.")],
    target: Annotated[Path, path_argument("Output file, or folder for a folder.")],
    method: Annotated[str, typer.Option("-m", "--method", help="sacc")] = "sacc",
    option: Options = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write again what is there (else a folder resumes).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Brighten dark images and videos by SACC's concave curve."""
    if method != "sacc":
        raise ArgumentError(f"-m: method is {method!r}, must be 'sacc'")
    options = parse_options(SaccOptions, option)
    pairs = _pairs(source, target)
    from foveal.lowlight import ConcaveCurve

    model = ConcaveCurve.load(options.weights)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for file, out in pairs:
        if source.is_dir() and out.exists() and not overwrite:
            rows.append({"input": str(file), "output": str(out), "skipped": True})
            lines.append(f"{out}: is there already, skipped (--overwrite writes it again)")
            continue
        receipt = enhance_file(file, out, model, options.strength)
        rows.append({"input": str(file), "output": str(out), "receipt": receipt.to_dict()})
        lines.append(f"{out}: {receipt}")
    emit({"files": rows}, as_json, lines)


def _pairs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return input and output of every file, after a look at what would go wrong."""
    files = inputs(source, target=target)
    if not source.is_dir():
        if target.is_dir():
            raise ArgumentError(f"target: {target} is a folder, must be a file for a file input")
        check_folder(target.parent)
        return [(source, target)]
    check_folder(target)
    pairs: dict[Path, Path] = {}
    for file in files:
        out = target / file.relative_to(source)
        out = out.with_suffix(written_video_suffix(file.suffix)) if is_video(file) else out
        if out in pairs:
            raise ArgumentError(
                f"input: {pairs[out]} and {file} would both become {out}; rename one of them"
            )
        pairs[out] = file
    return [(file, out) for out, file in pairs.items()]


def enhance_file(file: Path, out: Path, model: Any, strength: float) -> Any:
    """Enhance one file; alpha and 16 bits are kept where the target format has them."""
    from foveal import lowlight
    from foveal._core.media import read_picture, write_image

    if is_video(file):
        return lowlight.enhance_video(
            file, out, model, strength=strength, on_frame=reporter(file.name)
        ).receipt
    picture = read_picture(file)
    result = lowlight.enhance(picture.pixels, model, strength=strength)
    png = out.suffix.lower() == ".png"
    keeps_alpha = out.suffix.lower() in (".png", ".webp", ".avif")
    write_image(
        out,
        result.image,
        alpha=picture.alpha if keeps_alpha else None,
        bit_depth=picture.bit_depth if png else 8,
    )
    return result.receipt
