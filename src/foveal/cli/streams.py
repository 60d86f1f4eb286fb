"""What the verbs of the codec share: features of files, payloads, and names between commas."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from foveal._core.files import read_input
from foveal.cli.common import emit, failure, is_video, reporter
from foveal.errors import ArgumentError, BitstreamError, FovealError

_MAX_STREAM_BYTES = 256 << 20
_AT_ONCE = 16


def names(text: str) -> list[str] | None:
    """Return the names between commas; None if there are none."""
    return [name.strip() for name in text.split(",") if name.strip()] or None


def frames(file: Path, every: int) -> Iterator[Any]:
    """Yield the images of a file, one at a time."""
    from foveal._core.media import read_image
    from foveal._core.video import read_video

    if is_video(file):
        yield from read_video(file, every=every)
    else:
        yield read_image(file)


def features_of_files(
    model: Any,
    files: list[Path],
    every: int,
    tasks: list[str] | None = None,
    networks: dict[str, Any] | None = None,
    rows: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the features of every image or frame; no more than a few of these are held at once.

    Args:
        model: The codec.
        files: Images and videos.
        every: Of a video, each how-many-th frame.
        tasks: Those that count. Default: all.
        networks: By source. Default: those that the model names.
        rows: Gets a row for each file. If given, a file that cannot be read to its end is left out
            and its row has the error.

    Raises:
        ArgumentError: there are more than one stream holds, a source has no network, or no file
            can be read.
    """
    import torch

    from foveal.codec.arguments import MAX_IMAGES
    from foveal.codec.sources import features_of

    parts: dict[str, list[torch.Tensor]] = {}
    waiting: list[torch.Tensor] = []
    show = reporter("features")
    seen = 0
    kept: list[int] = []

    def every_frame() -> Iterator[torch.Tensor]:
        for file in files:
            begin = seen
            try:
                yield from frames(file, every)
            except (FovealError, OSError) as error:
                if rows is None:
                    raise
                rows.append({"input": str(file), "error": failure(file, error)[0]})
                continue
            kept.extend(range(begin, seen))
            if rows is not None:
                rows.append({"input": str(file), "images": seen - begin})

    def flush() -> None:
        if waiting:
            found = features_of(model, torch.stack(waiting), tasks=tasks, networks=networks)
            for name, value in found.items():
                parts.setdefault(name, []).append(value.cpu())
            waiting.clear()

    for frame in every_frame():
        if seen == MAX_IMAGES:
            raise ArgumentError(
                f"input: has over {MAX_IMAGES} images or frames, which is the most that one "
                "stream holds; split it or pass a larger -o every="
            )
        if len(waiting) == _AT_ONCE or (waiting and waiting[0].shape != frame.shape):
            flush()
        waiting.append(frame)
        seen += 1
        show(seen, None)
    flush()
    if rows and not kept:
        raise ArgumentError(
            f"input: none of {len(files)} files can be read, some must be; the first: "
            f"{next((row['error'] for row in rows if 'error' in row), 'has no frame')}"
        )
    whole = {name: torch.cat(values) for name, values in parts.items()}
    return whole if len(kept) == seen else {name: x[kept] for name, x in whole.items()}


def own_networks(model: Any, text: str) -> dict[str, Any]:
    """Load the networks of `-o networks=`; none if it is empty.

    Raises:
        ArgumentError: a name is unknown, or no source of the model.
    """
    from foveal.cli.train import networks_of

    found = networks_of(text) if text else {}
    unknown = [name for name in found if name not in model.config.source_map]
    if unknown:
        raise ArgumentError(
            f"-o networks: has {unknown}, must have some of {list(model.config.source_map)}; "
            "rename them"
        )
    return found


def answering(model: Any, tasks: Iterable[str], networks: dict[str, Any]) -> dict[str, Any]:
    """Return the networks that can answer for tasks: given, or named by the model."""
    from foveal.codec.sources import network_of

    sources = model.config.source_map
    return {
        task: network_of(model, task, networks)
        for task in tasks
        if task in sources and (task in networks or sources[task].teacher)
    }


@contextlib.contextmanager
def naming(source: Path) -> Generator[None]:
    """Put the file's name before what is wrong with its bytes."""
    try:
        yield
    except BitstreamError as error:
        raise BitstreamError(f"stream: {source} cannot be decoded: {error}") from error


def streams_in(folder: Path) -> list[Path]:
    """Return the streams in a folder and those below it.

    Raises:
        ArgumentError: there are none.
    """
    found = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix == ".fvl" and p.is_file() and not p.name.startswith(".foveal-")
    )
    if not found:
        raise ArgumentError(f"stream: folder {folder} holds no .fvl, must hold some; check it")
    return found


def each_stream(
    files: list[Path], work: Callable[[Path], tuple[dict[str, Any], list[str]]], as_json: bool
) -> None:
    """Do the work on every stream of a folder, print what it gives, and go on past what fails.

    Raises:
        typer.Exit: one failed.
    """
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for file in files:
        try:
            row, said = work(file)
        except (FovealError, OSError) as error:
            row, said = {"error": failure(file, error)[0]}, []
        rows.append({"input": str(file), **row})
        lines += said
    finish({"files": rows}, as_json, lines)


def finish(value: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    """Print what was made, then which files of `value["files"]` were left out; count these.

    Raises:
        typer.Exit: some were, with code 2: what was asked for is done in part.
    """
    rows: list[dict[str, Any]] = value["files"]
    failed = [row for row in rows if "error" in row]
    lines = [*lines, *(f"{row['input']}: left out: {row['error']}" for row in failed)]
    emit({**value, "failed": len(failed)}, as_json, lines)
    if failed:
        typer.echo(f"foveal: {len(failed)} of {len(rows)} files left out; see above", err=True)
        raise typer.Exit(2)


def model_at_hand(weights: str, payload: bytes, source: Path) -> Any:
    """Return the codec that wrote a stream: the one named, or a packaged one; None if unknown.

    Raises:
        ArgumentError: a codec is named that did not write it.
    """
    from foveal import codec
    from foveal._core import weights as files

    wrote = codec.inspect(payload)["model_id"]
    if weights:
        model = codec.load(weights)
        if model.model_id.hex() != wrote:
            raise ArgumentError(
                f"-o weights: {weights} is model {model.model_id.hex()}, must be {wrote}, which "
                f"wrote {source}; give that codec or leave it out"
            )
        return model
    folder = Path(files.__file__).parents[1] / "weights"
    models = (codec.load(path) for path in sorted(folder.glob("codec-*.safetensors")))
    return next((model for model in models if model.model_id.hex() == wrote), None)


def read_payload(source: Path) -> bytes:
    """Read a stream, after a look at its size."""
    path = read_input(source, what="stream")
    if path.stat().st_size > _MAX_STREAM_BYTES:
        raise BitstreamError(
            f"stream: {source} has {path.stat().st_size} bytes, must have at most "
            f"{_MAX_STREAM_BYTES}; it is no .fvl"
        )
    return path.read_bytes()
