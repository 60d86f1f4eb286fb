"""What the verbs of the codec share: features of files, payloads, and names between commas."""

import contextlib
from collections.abc import Generator, Iterable, Iterator
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
    model: Any,
    files: list[Path],
    every: int,
    tasks: list[str] | None = None,
    networks: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the features of every image or frame; no more than a few of these are held at once.

    Raises:
        ArgumentError: there are more than one stream holds, or a source has no network.
    """
    import torch

    from foveal.codec.arguments import MAX_IMAGES
    from foveal.codec.sources import features_of

    parts: dict[str, list[torch.Tensor]] = {}
    waiting: list[torch.Tensor] = []
    show = reporter("features")

    def flush() -> None:
        if waiting:
            found = features_of(model, torch.stack(waiting), tasks=tasks, networks=networks)
            for name, value in found.items():
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


def read_payload(source: Path) -> bytes:
    """Read a stream, after a look at its size."""
    path = read_input(source, what="stream")
    if path.stat().st_size > _MAX_STREAM_BYTES:
        raise BitstreamError(
            f"stream: {source} has {path.stat().st_size} bytes, must have at most "
            f"{_MAX_STREAM_BYTES}; it is no .fvl"
        )
    return path.read_bytes()
