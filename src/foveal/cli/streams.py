"""What the verbs of the codec share: features of files, payloads, and names between commas."""

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from foveal._core.files import read_input
from foveal.cli.common import is_video, reporter
from foveal.errors import ArgumentError, BitstreamError

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
    model: Any, files: list[Path], every: int, tasks: list[str] | None = None
) -> dict[str, Any]:
    """Return the features of every image or frame; no more than a few of these are held at once.

    Raises:
        ArgumentError: there are more than one stream holds, or the model names no network.
    """
    import torch

    from foveal.codec.arguments import MAX_IMAGES
    from foveal.codec.sources import features_of

    parts: dict[str, list[torch.Tensor]] = {}
    waiting: list[torch.Tensor] = []
    show = reporter("features")

    def flush() -> None:
        if waiting:
            for name, value in features_of(model, torch.stack(waiting), tasks=tasks).items():
                parts.setdefault(name, []).append(value.cpu())
            waiting.clear()

    for count, frame in enumerate(frame for file in files for frame in frames(file, every)):
        if count == MAX_IMAGES:
            raise ArgumentError(
                f"input: has over {MAX_IMAGES} images or frames, which is the most that one "
                "stream holds; split it or pass a larger -o every="
            )
        if len(waiting) == _AT_ONCE or (waiting and waiting[0].shape != frame.shape):
            flush()
        waiting.append(frame)
        show(count + 1, None)
    flush()
    return {name: torch.cat(values) for name, values in parts.items()}


def can_measure(model: Any, tasks: list[str] | None) -> bool:
    """Tell whether the model names a network of one of the tasks, so that a loss can be known."""
    sources = model.config.source_map
    return any(sources[task].teacher for task in tasks or model.config.tasks if task in sources)


@contextlib.contextmanager
def naming(source: Path) -> Generator[None]:
    """Put the file's name before what is wrong with its bytes."""
    try:
        yield
    except BitstreamError as error:
        raise BitstreamError(f"stream: {source} cannot be decoded: {error}") from error


def read_payload(source: Path) -> bytes:
    """Read a stream, after a look at its size."""
    path = read_input(source, what="stream")
    if path.stat().st_size > _MAX_STREAM_BYTES:
        raise BitstreamError(
            f"stream: {source} has {path.stat().st_size} bytes, must have at most "
            f"{_MAX_STREAM_BYTES}; it is no .fvl"
        )
    return path.read_bytes()
