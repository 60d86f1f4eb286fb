"""The trivial anchor of class tasks: answer where the image is, and send the label.

Nothing that codes features can be cheaper in the long run, and nothing else can be asked of it
afterwards. Real bytes, rounded up for every image: a fixed number of bits, and a Huffman code of
the classes that the network names in training images.
"""

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from numpy import ndarray

from foveal.codec.evaluate.points import Point
from foveal.codec.evaluate.track import Sums, Track, TrackTask
from foveal.errors import ArgumentError


def huffman(counts: Sequence[int]) -> list[str]:
    """Return a prefix code of 0s and 1s for symbols by how often each is counted.

    Every symbol has a word, also one that is counted 0 times; a single one has the empty word.

    Raises: ArgumentError: no symbol, or a negative count.

    Source: Huffman, "A Method for the Construction of Minimum-Redundancy Codes", Proc. IRE 1952.
    """
    if not counts or min(counts) < 0:
        raise ArgumentError(f"huffman: counts is {list(counts)}, must hold counts from 0 on")
    heap = [(count, i, [i]) for i, count in enumerate(counts)]
    words = [""] * len(counts)
    heapq.heapify(heap)
    while len(heap) > 1:
        low, high = heapq.heappop(heap), heapq.heappop(heap)
        for bit, part in (("0", low[2]), ("1", high[2])):
            for symbol in part:
                words[symbol] = bit + words[symbol]
        heapq.heappush(heap, (low[0] + high[0], min(low[1], high[1]), low[2] + high[2]))
    return words


def write_labels(labels: Sequence[Sequence[int]], codes: Sequence[Sequence[str]]) -> list[bytes]:
    """Return the bytes of each image's labels, one of each task, by the tasks' codes."""
    out: list[bytes] = []
    for row in labels:
        bits = "".join(words[label] for label, words in zip(row, codes, strict=True))
        size = -(-len(bits) // 8)
        out.append(int(bits.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big"))
    return out


def read_labels(data: bytes, codes: Sequence[Sequence[str]]) -> list[int]:
    """Undo `write_labels` for one image.

    Raises: ArgumentError: the data end before the labels do.
    """
    bits = "".join(f"{byte:08b}" for byte in data)
    out, at = list[int](), 0
    for words in codes:
        known = {word: i for i, word in enumerate(words)}
        end = at
        while bits[at:end] not in known:
            end += 1
            if end > len(bits):
                raise ArgumentError(f"read_labels: data has {len(data)} bytes, must have more")
        out.append(known[bits[at:end]])
        at = end
    return out


def fixed_code(classes: int) -> list[str]:
    """Return words of one length, the least that tells the classes apart."""
    bits = (classes - 1).bit_length()
    return [f"{i:0{bits}b}" if bits else "" for i in range(classes)]


@torch.no_grad()
def labels_of(
    track: Track, task: TrackTask, *, device: str | torch.device = "cpu", batch: int = 32
) -> Int64[ndarray, "n"]:
    """Return the class that a task's network names in each of a track's images, uncompressed.

    Raises: ArgumentError: it does not name one class an image.
    """
    if task.classes < 1:
        raise ArgumentError(
            f"labels_of: task is {task.name!r}, which names no class, must; leave it out"
        )
    parts = [task.answer(track.batch(x, device)).argmax(1) for x in track.chunks(batch)]
    return torch.cat(parts).cpu().numpy()


def label_points(
    track: Track,
    full: Mapping[str, Sums],
    *,
    counts: Mapping[str, Sequence[int]] | None = None,
    tasks: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
) -> list[Point]:
    """Return what the labels of a track cost: in bits of one number, and by a Huffman code.

    Args:
        track: What is judged.
        full: Sums of its uncompressed images.
        counts: How often each class is named in training images, by task; without it there is no
            Huffman code.
        tasks: Class tasks whose labels are sent together. Default: all of them.
        device: Of the networks.

    Returns: No point if there is no class task.

    Raises: ArgumentError: a task names no class.
    """
    named = {name: task for name, task in track.tasks.items() if task.classes}
    names = list(named if tasks is None else tasks)
    if not names:
        return []
    columns = [labels_of(track, track.tasks[name], device=device) for name in names]
    rows = np.stack(columns, 1).tolist()
    codes = {"fixed": [fixed_code(track.tasks[name].classes) for name in names]}
    if counts is not None:
        codes["huffman"] = [huffman(counts[name]) for name in names]
    sums = {name: full[name] for name in names}
    out: list[Point] = []
    for coding, words in codes.items():
        files = write_labels(rows, words)
        sizes = np.array([len(x) for x in files], np.int64)
        zero = np.zeros_like(sizes)
        out.append(Point("label", {"coding": coding}, sizes, zero, zero, sums))
    return out
