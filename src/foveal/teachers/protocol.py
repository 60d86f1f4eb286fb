"""What every frozen recogniser offers, and what it answers."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.placement import Preprocessing

Activation = Literal["softmax", "sigmoid"]


class Teacher(Protocol):
    """A frozen recogniser that gradients can pass through.

    Called with sRGB in [0, 1] of (b, 3, size, size) it returns logits (b, classes, *positions):
    `activation` turns them into probabilities, `disagreement` compares two of them.
    """

    activation: Activation
    points: tuple[str, ...]

    @property
    def size(self) -> int:
        """Side of the square that it takes, in pixels."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures come into the square, and their normalisation (done inside)."""
        ...

    def preprocess(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 size size"]:
        """Bring images of any size into the square."""
        ...

    def features(
        self, x: Float[Tensor, "b 3 size size"], point: str | None = None
    ) -> Float[Tensor, "b channels *grid"]:
        """Return what the network holds at one of `points`; each has a default."""
        ...

    def __call__(self, x: Float[Tensor, "b 3 size size"]) -> Float[Tensor, "b classes *positions"]:
        """Return logits."""
        ...


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes of one image, best first.

    Args:
        boxes: Left, top, right, bottom, in pixels of the image.
        scores: Probabilities.
        labels: Indices into `names`.
        names: The classes.
        landmarks: Points x y of each box in pixels, where the detector gives them.
    """

    boxes: Float[Tensor, "n 4"]
    scores: Float[Tensor, "n"]
    labels: Int64[Tensor, "n"]
    names: tuple[str, ...]
    landmarks: Float[Tensor, "n k 2"] | None = None

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.scores)

    @property
    def classes(self) -> list[str]:
        """Name of each box's class."""
        return [self.names[i] for i in self.labels.tolist()]


class Detector(Teacher, Protocol):
    """A teacher that also answers in boxes."""

    def detect(
        self, images: Float[Tensor, "b 3 height width"], *, threshold: float = 0.3
    ) -> list[Detections]:
        """Find things in images of any size."""
        ...


def disagreement(
    logits: Float[Tensor, "b classes *positions"],
    wanted: Float[Tensor, "b classes *positions"],
    activation: Activation,
) -> Float[Tensor, "b"]:
    """How far one answer is from another, in nats; differentiable in `logits`.

    Softmax: the Kullback-Leibler divergence of the classes, averaged over positions. Sigmoid: that
    of each class and position by itself, summed, over the number of things that `wanted` expects
    (the sum of its probabilities from 0.1 on, at least 1): most of a score map is background.

    Args:
        logits: The answer that is judged.
        wanted: Logits of the answer that is right, such as that to the daylight picture. No
            gradient flows to it.
        activation: `teacher.activation`.

    Returns: At least 0; 0 where both agree.
    """
    if logits.shape != wanted.shape or logits.ndim < 2:
        raise ShapeError(
            f"disagreement: logits has shape {tuple(logits.shape)}, must be that of wanted, "
            f"{tuple(wanted.shape)}, with two sides or more"
        )
    wanted = wanted.detach()
    if activation == "softmax":
        p, log_p = wanted.softmax(1), wanted.log_softmax(1)
        return (p * (log_p - logits.log_softmax(1))).sum(1).reshape(len(logits), -1).mean(1)
    if activation != "sigmoid":
        raise ArgumentError(f"disagreement: activation is {activation!r}, must be softmax, sigmoid")
    p = wanted.sigmoid()
    loss = F.binary_cross_entropy_with_logits(logits, p, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(wanted, p, reduction="none")
    count = (p * (p >= 0.1)).flatten(1).sum(1).clamp_min(1)
    return (loss - entropy).flatten(1).sum(1) / count


def check_threshold(where: str, threshold: float) -> None:
    """Refuse a threshold that is no probability.

    Raises:
        ArgumentError: it is not in (0, 1).
    """
    if not 0 < threshold < 1:
        raise ArgumentError(f"{where}: threshold is {threshold}, must be in (0, 1)")


def box_overlap(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of each pair; 0 where a box has no area."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp_min(0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).clamp_min(0).prod(-1) for x in (a, b)]
    return both / (areas[0][:, None] + areas[1][None] - both).clamp_min(1e-9)


def suppress(
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, "n"],
    labels: Int64[Tensor, "n"],
    *,
    overlap: float,
    by: Literal["union", "smaller"] = "union",
) -> Int64[Tensor, "k"]:
    """Which boxes stay, best first: none that overlaps a better one of its class too much.

    Args:
        boxes: Left, top, right, bottom.
        scores: The larger, the better.
        labels: Class of each box.
        overlap: Most overlap of two that both stay.
        by: What the intersection is divided by: the union, or the smaller of both areas.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, labels = boxes[order], labels[order]
    shared = box_overlap(boxes, boxes)
    if by == "smaller":
        area = (boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(-1)
        least = torch.minimum(area[:, None], area[None]).clamp_min(1e-9)
        both = shared / (1 + shared) * (area[:, None] + area[None])
        shared = both / least
    clash = ((shared > overlap) & (labels[:, None] == labels[None])).cpu()
    keep = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if keep[i]:
            keep[i + 1 :] &= ~clash[i, i + 1 :]
    return order[keep.to(order.device)]
