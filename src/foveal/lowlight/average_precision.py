"""Average precision of detections against labelled boxes, and paired intervals of its mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from foveal.errors import ArgumentError, ShapeError
from foveal.stats import Interval
from foveal.stats.bootstrap import ANECDOTE_BELOW
from foveal.teachers import Detections
from foveal.teachers.protocol import box_overlap


@dataclass(frozen=True, slots=True)
class Matches:
    """Detections of one class in all pictures, the surest first.

    Attributes:
        right: Whether each has a labelled box of its own.
        picture: Number of the picture of each.
        wanted: How many labelled boxes each picture has.
    """

    right: Bool[ndarray, "n"]
    picture: Int[ndarray, "n"]
    wanted: Int[ndarray, "pictures"]

    def average_precision(self, weights: Float[ndarray, "pictures"] | None = None) -> float:
        """Return the area under precision against recall; NaN without a labelled box.

        Precision is that of the best threshold of the same or a larger recall; all points count.

        Args:
            weights: How often each picture counts; None: once.

        Source: Everingham et al., "The Pascal Visual Object Classes Challenge: A Retrospective",
        IJCV 2015, from VOC 2010 on.
        """
        once = np.ones(len(self.wanted)) if weights is None else weights
        total = float((self.wanted * once).sum())
        if total == 0:
            return float("nan")
        counts = once[self.picture]
        right, found = np.cumsum(counts * self.right), np.cumsum(counts)
        precision = right / np.maximum(found, 1e-12)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return float((np.diff(right, prepend=0.0) * best).sum() / total)


def match_boxes(
    found: Sequence[Detections], truth: Sequence[Detections], *, overlap: float = 0.5
) -> dict[str, Matches]:
    """Match detections with labelled boxes, for each class that is labelled somewhere.

    A detection is right if the labelled box of its class that it overlaps most is overlapped by at
    least `overlap`, and no surer one took it.

    Args:
        found: Of each picture, by the names of the detector.
        truth: Labelled boxes of each picture by the same names; scores do not matter.
        overlap: Least intersection over union, in (0, 1].

    Raises: ShapeError: numbers of pictures differ. ArgumentError: names differ.
    Source: as `Matches.average_precision`.
    """
    if len(found) != len(truth) or not truth:
        raise ShapeError(
            f"match_boxes: found has {len(found)} pictures, must have the {len(truth)} of truth, "
            "one at least"
        )
    names = truth[0].names
    if any(x.names != names for x in (*found, *truth)):
        raise ArgumentError("match_boxes: found has other classes than truth, must have the same")
    if not 0 < overlap <= 1:
        raise ArgumentError(f"match_boxes: overlap is {overlap}, must be in (0, 1]")
    labelled = sorted({int(x) for there in truth for x in there.labels})
    out: dict[str, Matches] = {}
    for label in labelled:
        rows: list[tuple[float, int, bool]] = []
        wanted = np.zeros(len(truth), dtype=np.int64)
        for i, (here, there) in enumerate(zip(found, truth, strict=True)):
            mine, theirs = here.labels.cpu() == label, there.labels.cpu() == label
            wanted[i] = int(theirs.sum())
            scores = here.scores.float().cpu()[mine]
            order = scores.argsort(descending=True, stable=True)
            shared = box_overlap(
                here.boxes.float().cpu()[mine][order], there.boxes.float().cpu()[theirs]
            )
            taken: set[int] = set()
            for score, row in zip(scores[order].tolist(), shared, strict=True):
                best = int(row.argmax()) if len(row) else -1
                right = best >= 0 and float(row[best]) >= overlap and best not in taken
                if right:
                    taken.add(best)
                rows.append((score, i, right))
        rows.sort(key=lambda row: -row[0])
        right = np.array([row[2] for row in rows], dtype=bool)
        picture = np.array([row[1] for row in rows], dtype=np.int64)
        out[names[label]] = Matches(right, picture, wanted)
    return out


def mean_average_precision(
    classes: Mapping[str, Matches], weights: Float[ndarray, "pictures"] | None = None
) -> float:
    """Return the mean over the classes that have a labelled box."""
    each = np.array([x.average_precision(weights) for x in classes.values()])
    each = each[~np.isnan(each)]
    return float(each.mean()) if len(each) else float("nan")


def difference(
    a: Mapping[str, Matches],
    b: Mapping[str, Matches],
    *,
    num_resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of the difference of two means, resampling pictures; both are of the same ones.

    Raises: ArgumentError: no class, or other pictures or labelled boxes in both.
    Cost: resamples x detections. Resamples without any labelled box are left out.
    """
    if not a or {k: x.wanted.tolist() for k, x in a.items()} != {
        k: x.wanted.tolist() for k, x in b.items()
    }:
        raise ArgumentError(
            f"difference: a has classes {sorted(a)} and b {sorted(b)}, must be of the same "
            "labelled pictures, one class at least"
        )
    count = len(next(iter(a.values())).wanted)
    generator = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(num_resamples):
        weights = np.bincount(generator.integers(count, size=count), minlength=count).astype(float)
        found.append(mean_average_precision(a, weights) - mean_average_precision(b, weights))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(found, [tail, 1 - tail])
    mean = mean_average_precision(a) - mean_average_precision(b)
    return Interval(mean, float(low), float(high), count, count < ANECDOTE_BELOW)


def labelled(
    boxes: Sequence[tuple[float, float, float, float]],
    classes: Sequence[str],
    names: tuple[str, ...],
) -> Detections:
    """Return labelled boxes in the form of detections.

    Raises: ArgumentError: a class is not among `names`.
    """
    for name in classes:
        if name not in names:
            raise ArgumentError(f"labelled: class is {name!r}, must be one of {', '.join(names)}")
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.ones(len(boxes)),
        torch.tensor([names.index(x) for x in classes], dtype=torch.int64),
        names,
    )
