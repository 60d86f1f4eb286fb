"""What the verbs of the codec share: frames of files, and payloads."""

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from foveal._core.files import read_input
from foveal.cli.common import is_video
from foveal.errors import BitstreamError

_MAX_STREAM_BYTES = 256 << 20


def frames(file: Path, every: int) -> Iterator[Any]:
    """Yield the images of a file, one at a time."""
    from foveal._core.media import read_image
    from foveal._core.video import read_video

    if is_video(file):
        yield from read_video(file, every=every)
    else:
        yield read_image(file)


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
