"""`foveal enhance`: brighten an image, a folder or a video for a recogniser."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from foveal._core.files import check_folder
from foveal._core.formats import (
    ALPHA_SUFFIXES,
    DEEP_SUFFIXES,
    IMAGE_SUFFIXES,
    WRITTEN_VIDEO_SUFFIXES,
    written_video_suffix,
)
from foveal.cli.common import (
    Json,
    Options,
    emit,
    end_with,
    failure,
    inputs,
    is_video,
    parse_options,
    path_argument,
    reporter,
)
from foveal.errors import ArgumentError, FovealError


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
    check_strength(options.strength)
    if overwrite and source.is_file():
        raise ArgumentError(
            "--overwrite: is given with one file, must be with a folder; leave it out, one file is "
            "always written"
        )
    pairs = _pairs(source, target)
    from foveal.lowlight import ConcaveCurve

    model = ConcaveCurve.load(options.weights)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    failed = 0
    for file, out in pairs:
        row: dict[str, Any] = {"input": str(file), "output": str(out)}
        rows.append(row)
        if source.is_dir() and out.exists() and not overwrite:
            row["skipped"] = True
            lines.append(f"{out}: is there already, skipped (--overwrite writes it again)")
            continue
        try:
            receipt, dropped = enhance_file(file, out, model, options.strength)
        except (FovealError, OSError) as error:
            if not source.is_dir():
                raise
            failed += 1
            row["error"], line = failure(file, error)
            lines.append(line)
            continue
        row |= {"dropped": dropped, "receipt": receipt.to_dict()}
        note = f" (dropped, as {out.suffix} cannot hold it: {', '.join(dropped)})"
        lines.append(f"{out}: {receipt}{note if dropped else ''}")
    emit({"files": rows, "failed": failed}, as_json, lines)
    end_with(failed, len(pairs))


def _pairs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return input and output of every file, after a look at what would go wrong."""
    files = inputs(source, target=target)
    if not source.is_dir():
        if target.is_dir():
            raise ArgumentError(
                f"target: {target} is a folder, must be a file for a file input; add a name"
            )
        known = WRITTEN_VIDEO_SUFFIXES if is_video(source) else sorted(IMAGE_SUFFIXES)
        if target.suffix.lower() not in known:
            raise ArgumentError(
                f"target: {target} ends in {target.suffix!r}, must end in one of {list(known)} for "
                f"{source}; choose another name"
            )
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


def enhance_file(file: Path, out: Path, model: Any, strength: float) -> tuple[Any, list[str]]:
    """Enhance one file; alpha and 16 bits are kept where the target format has them.

    Returns: the receipt, and what of "alpha" and "16 bit" the target's format made us drop.
    """
    from foveal import lowlight
    from foveal._core.media import read_picture, write_image

    if is_video(file):
        done = lowlight.enhance_video(
            file, out, model, strength=strength, on_frame=reporter(file.name)
        )
        return done.receipt, []
    picture = read_picture(file)
    result = lowlight.enhance(picture.pixels, model, strength=strength)
    suffix = out.suffix.lower()
    keeps_alpha, keeps_depth = suffix in ALPHA_SUFFIXES, suffix in DEEP_SUFFIXES
    write_image(
        out,
        result.image,
        alpha=picture.alpha if keeps_alpha else None,
        bit_depth=picture.bit_depth if keeps_depth else 8,
    )
    dropped = [] if keeps_alpha or picture.alpha is None else ["alpha"]
    if picture.bit_depth == 16 and not keeps_depth:
        dropped.append("16 bit")
    return result.receipt, dropped


def check_strength(strength: float) -> None:
    """Refuse a wrong strength once, before the first file.

    Raises:
        ArgumentError: it is not in [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ArgumentError(f"-o: strength is {strength}, must be in [0, 1]; 1 is usual")
