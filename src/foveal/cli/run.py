"""`foveal run`: see and send on your own image, folder or video."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from foveal._core.files import check_folder, write_bytes, write_json, write_text
from foveal._core.formats import written_video_suffix
from foveal.cli.codec import features_of
from foveal.cli.common import (
    Json,
    Options,
    emit,
    inputs,
    is_video,
    parse_options,
    path_argument,
    path_option,
)
from foveal.cli.enhance import enhance_file
from foveal.errors import ArgumentError


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
    if options.every < 1:
        raise ArgumentError(f"-o: every is {options.every}, must be >= 1")
    files = inputs(source, target=out)
    check_folder(out)
    import torch

    from foveal import codec, lowlight
    from foveal.pipeline import Pipeline
    from foveal.teachers.efficientnet_lite import EfficientNetLite0

    curve, model, teacher = lowlight.ConcaveCurve.load(), codec.load(), EfficientNetLite0.load()
    summary: dict[str, Any] = {"format_version": 1, "files": []}
    sections: list[str] = []
    lines: list[str] = []
    for index, file in enumerate(files):
        stem = file.stem if len(files) == 1 else f"{index:04d}-{file.stem}"
        suffix = written_video_suffix(file.suffix) if is_video(file) else ".png"
        bright = out / f"{stem}-enhanced{suffix}"
        stream_path = out / f"{stem}.fvl"

        def see(path: Path, bright: Path = bright) -> Any:
            return _WithReceipt(bright, enhance_file(path, bright, curve, options.strength))

        def send(seen: Any, stream_path: Path = stream_path) -> Any:
            parts = list(features_of([seen.path], teacher, options.every))
            stream = codec.encode(model, torch.cat(parts), head=teacher.head)
            write_bytes(stream_path, stream.payload)
            return _WithReceipt(stream_path, stream.receipt)

        trace = Pipeline([("see", see), ("send", send)]).run(file)
        summary["files"].append(
            {
                "input": str(file),
                "enhanced": str(bright),
                "stream": str(stream_path),
                "lowlight": trace.receipts[0].to_dict(),
                "codec": trace.receipts[1].to_dict(),
            }
        )
        lines += [f"{file}:", *(f"  {receipt}" for receipt in trace.receipts)]
        sections.append(_section(file, bright, trace.receipts))
    from foveal.web.page import page

    write_json(out / "summary.json", summary)
    write_text(out / "report.html", page("Foveal run", "<h1>Foveal run</h1>" + "".join(sections)))
    emit(summary, as_json, [*lines, f"{out / 'report.html'}: open it in a browser"])


@dataclass(frozen=True)
class _WithReceipt:
    path: Path
    receipt: Any


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
