"""A track: images, and tasks that are judged on what a codec left of them."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from foveal.errors import ArgumentError, ShapeError
from foveal.stats.bootstrap import ANECDOTE_BELOW

Sums = Float[ndarray, "_ _"]
"""Of every image, what adds up over images to what a score is made of; fp64 [n, k]."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a frozen network is cut in two, for codecs of features.

    Args:
        encode: Images (b, 3, h, w) in [0, 1] -> features.
        answer: Features -> the network's answer.
        teacher: What the network is.
        sha256: Hash of the network, if it has one.
    """

    encode: Callable[[Tensor], Tensor]
    answer: Callable[[Tensor], Any]
    teacher: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class TrackTask:
    """What is asked of the images, and how an answer is judged.

    Args:
        name: Its name in the track.
        answer: Images (b, 3, h, w) in [0, 1] -> answer of a frozen recogniser.
        sums: (answer, numbers of the images) -> sums [b, k], fp64, that add up over images.
        measures: By name: sums over images [k] -> figure; the first is the task's score.
        higher_is_better: Whether more of the score is better.
        chance: Sums [n, k] of the best answer that is the same for every image.
        truth: What an answer is compared with.
        cut: Where the network is cut; None if only images can be coded.
        fingerprint: Changes with the recogniser and the truth.
        classes: Number of classes if the answer is logits [b, classes] of one class; else 0.
        scores: The score of many sums [b, k] at once, for resamples; None: one after the other.
    """

    name: str
    answer: Callable[[Tensor], Any]
    sums: Callable[[Any, Sequence[int]], Tensor]
    measures: Mapping[str, Callable[[Float[ndarray, "k"]], float]]
    higher_is_better: bool
    chance: Sums
    truth: str
    cut: Cut | None = None
    fingerprint: str = ""
    classes: int = 0
    scores: Callable[[Float[ndarray, "b k"]], Float[ndarray, "b"]] | None = None

    @property
    def measure(self) -> str:
        """Name of the score."""
        return next(iter(self.measures))

    def score(self, sums: Float[ndarray, "k"]) -> float:
        """Return the score of sums over images."""
        return self.measures[self.measure](sums)


@dataclass(frozen=True, slots=True)
class Track:
    """Images and the tasks that are judged on them.

    Args:
        name: Its name in tables.
        images: sRGB, uint8 [h, w, 3], of any sizes.
        tasks: By name.
        source: What the images are, in words.
        reality: Photographs or what else was not drawn for training; such tracks come first.
        groups: Which images belong together and are resampled as one. Default: none.
        seeds: What the images were made from, if they were.
    """

    name: str
    images: Sequence[ndarray]
    tasks: Mapping[str, TrackTask]
    source: str
    reality: bool = True
    groups: tuple[int, ...] = ()
    seeds: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        n = len(self.images)
        if n == 0 or not self.tasks:
            raise ArgumentError(
                f"Track: images has {n} and tasks {len(self.tasks)}, must have one at least"
            )
        for image in self.images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ShapeError(
                    f"Track: images has one of {image.dtype} {image.shape}, must be uint8 (h, w, 3)"
                )
        if self.groups and len(self.groups) != n:
            raise ArgumentError(
                f"Track: groups has {len(self.groups)}, must have {n}, one an image; leave it out"
            )
        for name, task in self.tasks.items():
            if task.chance.ndim != 2 or len(task.chance) != n:
                raise ShapeError(
                    f"Track: chance of {name} has shape {task.chance.shape}, must be ({n}, k)"
                )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def group_of(self) -> tuple[int, ...]:
        """Group of each image."""
        return self.groups or tuple(range(len(self)))

    @property
    def num_groups(self) -> int:
        """Number of independent items."""
        return len(set(self.group_of))

    @property
    def anecdote(self) -> bool:
        """Whether there are too few independent items for more than an anecdote."""
        return self.num_groups < ANECDOTE_BELOW

    def chunks(self, size: int) -> list[list[int]]:
        """Return the numbers of the images in parts of one shape and up to `size` images."""
        out: list[list[int]] = []
        for i, image in enumerate(self.images):
            last = out[-1] if out else []
            if last and len(last) < size and self.images[last[0]].shape == image.shape:
                last.append(i)
            else:
                out.append([i])
        return out

    def batch(self, items: Sequence[int], device: str | torch.device) -> Float[Tensor, "b 3 h w"]:
        """Return images of one shape as sRGB in [0, 1]."""
        return to_tensor(np.stack([self.images[i] for i in items]), device)

    def fingerprint(self) -> str:
        """Return what tells this track's images and tasks from others."""
        digest = hashlib.sha256(self.name.encode())
        for image in self.images:
            digest.update(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
        for name, task in sorted(self.tasks.items()):
            digest.update(f"{name} {task.fingerprint} {task.truth}".encode())
            digest.update(np.ascontiguousarray(task.chance).tobytes())
        return digest.hexdigest()[:16]


def to_tensor(images: UInt8[ndarray, "b h w 3"], device: str | torch.device) -> Tensor:
    """Return 8-bit images as fp32 (b, 3, h, w) in [0, 1] on a device."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def judge(
    track: Track, images: Float[Tensor, "b 3 h w"], items: Sequence[int]
) -> dict[str, Tensor]:
    """Return the sums of every task for some of a track's images, coded or not."""
    return {name: task.sums(task.answer(images), items) for name, task in track.tasks.items()}


def uncompressed(
    track: Track, *, device: str | torch.device = "cpu", batch: int = 32
) -> dict[str, Sums]:
    """Return the sums of every task for the images as they are: what retention 1 means."""
    rows: dict[str, list[Tensor]] = {name: [] for name in track.tasks}
    for items in track.chunks(batch):
        for name, part in judge(track, track.batch(items, device), items).items():
            rows[name].append(part)
    return {name: torch.cat(parts).cpu().numpy() for name, parts in rows.items()}


@torch.no_grad()
def features_of(
    track: Track, task: str, *, device: str | torch.device = "cpu", batch: int = 32
) -> Float[Tensor, "n *shape"]:
    """Return the features at a task's cut for all images of a track, on the CPU.

    Raises: ArgumentError: the task has no cut.
    """
    cut = track.tasks[task].cut
    if cut is None:
        raise ArgumentError(
            f"features_of: task {task!r} of {track.name} is not cut, must be to have features; "
            "take another task"
        )
    return torch.cat([cut.encode(track.batch(x, device)).cpu() for x in track.chunks(batch)])


@torch.no_grad()
def judge_features(
    track: Track,
    features: Mapping[str, Tensor],
    *,
    device: str | torch.device = "cpu",
    batch: int = 64,
) -> dict[str, Sums]:
    """Return the sums of tasks whose features, coded or not, are given for all images.

    Raises:
        ArgumentError: a task is not cut, or there is none of that name.
        ShapeError: features of another number of images.
    """
    out: dict[str, Sums] = {}
    for name, x in features.items():
        task = track.tasks.get(name)
        if task is None or task.cut is None:
            raise ArgumentError(
                f"judge_features: features has {name!r}, must be of a task of {track.name} that is "
                f"cut: {[k for k, v in track.tasks.items() if v.cut is not None]}"
            )
        if len(x) != len(track):
            raise ShapeError(
                f"judge_features: features of {name} has {len(x)} images, must have the "
                f"{len(track)} of {track.name}"
            )
        rows: list[Tensor] = []
        for i in range(0, len(x), batch):
            items = range(i, min(i + batch, len(x)))
            rows.append(task.sums(task.cut.answer(x[i : i + batch].to(device)), items))
        out[name] = torch.cat(rows).double().cpu().numpy()
    return out
