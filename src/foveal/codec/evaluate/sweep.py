"""Pixel codecs over a track: encoders in processes, recognisers on a device, rung by rung."""

import multiprocessing
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray
from torch import Tensor

from foveal.codec.evaluate import pixel_anchors
from foveal.codec.evaluate.pixel_anchors import SETTINGS, Rung, encode_pixels, why_missing
from foveal.codec.evaluate.points import Point
from foveal.codec.evaluate.store import folder_of, read_points, write_points
from foveal.codec.evaluate.track import Track, judge, to_tensor
from foveal.errors import ArgumentError

Coded = tuple[Int64[ndarray, "_"], Int64[ndarray, "_"], UInt8[ndarray, "_ _ _ 3"]]
"""Bytes of files and of payloads, and decoded images."""


@dataclass
class Sweep:
    """What a sweep found.

    Attributes:
        points: One for each rung.
        skipped: Codecs that this machine lacks, and why.
        encode_seconds: Of all processes together, for the rungs that were not read from files.
        seconds: As the clock went.
        read: Rungs that were read from files of an earlier sweep.
    """

    points: list[Point] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    encode_seconds: float = 0.0
    seconds: float = 0.0
    read: int = 0


def sweep(
    track: Track,
    rungs: Sequence[Rung],
    *,
    device: str | torch.device = "cpu",
    workers: int = 0,
    batch: int = 32,
    folder: str | Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Sweep:
    """Code a track's images at every rung, and ask its tasks about what is left.

    Args:
        track: Images and tasks.
        rungs: Ways to code, as of `pixel_anchors.grid`. Codecs that are missing are skipped.
        device: Of the recognisers.
        workers: Processes that code; 0: this one. A script that asks for some must guard its main
            part by `if __name__ == "__main__"`.
        batch: Images at once.
        folder: Where rungs are kept, each in a file as soon as it is done; those that are there for
            the same images, recognisers and versions are read. Default: nowhere.
        progress: Called with rungs done and in all.

    Memory: images of the track once, and 2 x workers + 1 batches of decoded ones.
    """
    if workers < 0 or batch < 1:
        raise ArgumentError(
            f"sweep: workers is {workers} and batch {batch}, must be at least 0 and 1"
        )
    out, begin = Sweep(), time.perf_counter()
    for codec in dict.fromkeys(rung.codec for rung in rungs):
        reason = why_missing(codec)
        if reason is not None:
            out.skipped[codec] = reason
    wanted = [rung for rung in dict.fromkeys(rungs) if rung.codec not in out.skipped]
    about = [SETTINGS, pixel_anchors.versions()]
    where = None if folder is None else folder_of(Path(folder), track, about)
    found: dict[Rung, Point] = {}
    for rung in wanted:
        if where is not None and (where / f"{rung.key}.npz").exists():
            found[rung] = read_points(where / f"{rung.key}.npz")[0]
    out.read = len(found)
    left = [rung for rung in wanted if rung not in found]
    done = len(found)
    chunks = track.chunks(batch)
    parts: dict[Rung, list[tuple[Coded, dict[str, Tensor]]]] = {}
    for rung, items, coded, seconds in _coded(track, left, chunks, workers):
        images = to_tensor(coded[2], device)
        empty = np.empty((0, 1, 1, 3), np.uint8)
        kept = (coded[0], coded[1], empty)
        parts.setdefault(rung, []).append((kept, judge(track, images, items)))
        out.encode_seconds += seconds
        if len(parts[rung]) == len(chunks):
            found[rung] = _joined(rung, parts.pop(rung))
            if where is not None:
                write_points(where / f"{rung.key}.npz", [found[rung]])
            done += 1
            if progress is not None:
                progress(done, len(wanted))
    out.points = [found[rung] for rung in wanted]
    out.seconds = time.perf_counter() - begin
    return out


def _joined(rung: Rung, parts: list[tuple[Coded, dict[str, Tensor]]]) -> Point:
    size = np.concatenate([coded[0] for coded, _ in parts])
    payload = np.concatenate([coded[1] for coded, _ in parts])
    sums = {
        name: torch.cat([rows[name] for _, rows in parts]).double().cpu().numpy()
        for name in parts[0][1]
    }
    settings = {"quality": float(rung.quality), "scale": float(rung.scale)}
    return Point(rung.codec, settings, payload, np.zeros_like(size), size - payload, sums)


# Encoders.

_held: list[UInt8[ndarray, "_ _ 3"]] = []
"""In a process that codes: the images of the track, in memory that all processes share."""


def _start(path: str, shapes: list[tuple[int, int, int]]) -> None:
    torch.set_num_threads(1)
    flat = np.memmap(path, dtype=np.uint8, mode="r")
    at = 0
    for shape in shapes:
        size = int(np.prod(shape))
        _held.append(flat[at : at + size].reshape(shape))
        at += size


def _encode_held(rung: Rung, items: list[int]) -> tuple[Coded, float]:
    return _encode([_held[i] for i in items], rung)


def _encode(images: Sequence[UInt8[ndarray, "_ _ 3"]], rung: Rung) -> tuple[Coded, float]:
    begin = time.perf_counter()
    files = [encode_pixels(image, rung.codec, rung.quality, rung.scale) for image in images]
    coded = (
        np.array([f.file_bytes for f in files], np.int64),
        np.array([f.payload_bytes for f in files], np.int64),
        np.stack([f.decoded for f in files]),
    )
    return coded, time.perf_counter() - begin


def _coded(
    track: Track, rungs: Sequence[Rung], chunks: list[list[int]], workers: int
) -> Iterator[tuple[Rung, list[int], Coded, float]]:
    """Yield coded parts in the order of rungs and chunks."""
    jobs = [(rung, items) for rung in rungs for items in chunks]
    if not workers or not jobs:
        for rung, items in jobs:
            coded, seconds = _encode([track.images[i] for i in items], rung)
            yield rung, items, coded, seconds
        return
    with tempfile.TemporaryDirectory(prefix="foveal-sweep-") as name:
        path = Path(name) / "images.bin"
        with path.open("wb") as file:
            for image in track.images:
                file.write(np.ascontiguousarray(image).tobytes())
        shapes = [image.shape for image in track.images]
        context = multiprocessing.get_context("spawn")
        waiting: deque[tuple[Rung, list[int], Future[tuple[Coded, float]]]] = deque()
        with ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start, initargs=(str(path), shapes)
        ) as pool:
            try:
                for rung, items in jobs:
                    waiting.append((rung, items, pool.submit(_encode_held, rung, items)))
                    if len(waiting) > 2 * workers:
                        first, which, future = waiting.popleft()
                        yield first, which, *future.result()
                while waiting:
                    first, which, future = waiting.popleft()
                    yield first, which, *future.result()
            finally:
                for _, _, future in waiting:
                    future.cancel()
