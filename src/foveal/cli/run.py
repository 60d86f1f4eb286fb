"""`foveal run`: see and send on your own image, folder or video."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from foveal._core.files import check_folder, write_bytes, write_json, write_text
from foveal._core.formats import written_video_suffix
from foveal.cli.common import (
    Json,
    Options,
    check_every,
    emit,
    end_with,
    failure,
    inputs,
    is_video,
    parse_options,
    path_argument,
    path_option,
)
from foveal.cli.enhance import SaccOptions, check_strength, enhance_file
from foveal.cli.streams import features_of_files
from foveal.errors import FovealError


@dataclass(frozen=True)
class RunOptions:
    """Options of `foveal run`."""

    strength: float = 1.0
    every: int = 5


def run(
    source: Annotated[Path, path_argument("Image, folder or video.")],
    out: Annotated[Path, path_option("--out", "Output folder.")] = Path("out/run"),
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Brighten the input, then code what the recogniser sees in it; writes a page."""
    options = parse_options(RunOptions, option)
    check_strength(options.strength)
    files = inputs(source, target=out)
    check_every(option, options.every, files)
    check_folder(out)
    from foveal import codec, lowlight

    models = _Models(lowlight.ConcaveCurve.load(), codec.load())
    summary: dict[str, Any] = {"format_version": 1, "failed": 0, "files": []}
    sections: list[str] = []
    lines: list[str] = []
    for index, file in enumerate(files):
        stem = file.stem if len(files) == 1 else f"{index:04d}-{file.stem}"
        try:
            row, receipts, section = _see_and_send(file, out / stem, models, options)
        except (FovealError, OSError) as error:
            if not source.is_dir():
                raise
            message, line = failure(file, error)
            summary["failed"] += 1
            summary["files"].append({"input": str(file), "error": message})
            lines.append(line)
            sections.append(_failed(file, message))
            continue
        summary["files"].append(row)
        lines += [f"{file}:", *(f"  {receipt}" for receipt in receipts)]
        sections.append(section)
    from foveal.web.page import page

    write_json(out / "summary.json", summary)
    write_text(out / "report.html", page("Foveal run", "<h1>Foveal run</h1>" + "".join(sections)))
    emit(summary, as_json, [*lines, f"{out / 'report.html'}: open it in a browser"])
    end_with(summary["failed"], len(files))


@dataclass(frozen=True)
class _Models:
    curve: Any
    codec: Any


@dataclass(frozen=True)
class _WithReceipt:
    path: Path
    receipt: Any


def _see_and_send(
    file: Path, base: Path, models: _Models, options: RunOptions
) -> tuple[dict[str, Any], list[Any], str]:
    """Return the row of the summary, the receipts and the section of the page of one file."""
    from foveal import codec
    from foveal.pipeline import Pipeline

    suffix = written_video_suffix(file.suffix) if is_video(file) else ".png"
    bright = base.with_name(f"{base.name}-enhanced{suffix}")
    stream_path = base.with_name(f"{base.name}.fvl")

    def see(path: Path) -> Any:
        done = enhance_file(path, bright, models.curve, SaccOptions(strength=options.strength))
        return _WithReceipt(bright, done["receipt"])

    def send(seen: Any) -> Any:
        features = features_of_files(models.codec, [seen.path], options.every)
        stream = codec.encode(models.codec, features, measure=True)
        write_bytes(stream_path, stream.payload)
        return _WithReceipt(stream_path, stream.receipt)

    receipts = Pipeline([("see", see), ("send", send)]).run(file).receipts
    row = {
        "input": str(file),
        "enhanced": str(bright),
        "stream": str(stream_path),
        "lowlight": receipts[0].to_dict(),
        "codec": receipts[1].to_dict(),
    }
    return row, receipts, _section(file, bright, receipts)


def _failed(file: Path, message: str) -> str:
    import html

    name = html.escape(file.name)
    return (
        f'<section><h2>{name}</h2><p class="receipt">failed: {html.escape(message)}</p></section>'
    )


def _section(before: Path, after: Path, receipts: list[Any]) -> str:
    import html

    from foveal._core.media import read_image
    from foveal._core.video import read_video
    from foveal.cli.demo.see import to_array
    from foveal.web.page import data_uri, slider

    def first(path: Path) -> Any:
        image = next(iter(read_video(path, max_frames=1))) if is_video(path) else read_image(path)
        return to_array(image)

    lines = "".join(f'<p class="receipt">{html.escape(str(r))}</p>' for r in receipts)
    picture = slider(data_uri(first(before)), data_uri(first(after)), caption=before.name)
    return f"<section><h2>{html.escape(before.name)}</h2>{picture}{lines}</section>"
