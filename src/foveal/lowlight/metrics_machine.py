"""Measures of a frozen recogniser's answer to an enhanced picture, against its daylight answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.protocol import Detections, box_overlap, disagreement


def _answers(where: str, logits: Tensor, daylight: Tensor, name: str = "logits") -> None:
    if logits.shape != daylight.shape or logits.ndim < 2 or 0 in logits.shape:
        raise ShapeError(
            f"{where}: {name} has shape {tuple(logits.shape)}, must be that of daylight, "
            f"{tuple(daylight.shape)}, with two sides or more and not empty"
        )
    for label, x in ((name, logits), ("daylight", daylight)):
        if bool(x.isnan().any()):
            raise ArgumentError(f"{where}: {label} has NaN, must have none")


def agreement(
    logits: Float[Tensor, "b classes *positions"], daylight: Float[Tensor, "b classes *positions"]
) -> Float[Tensor, "b"]:
    """Share of positions whose best class is that of the daylight answer; 0 or 1 without positions.

    Args:
        logits: The answer to the enhanced picture.
        daylight: The answer of the same recogniser to the same scene in daylight.
    """
    _answers("agreement", logits, daylight)
    same = logits.argmax(1) == daylight.argmax(1)
    return same.float().reshape(len(logits), -1).mean(1)


def divergence(
    logits: Float[Tensor, "b classes *positions"], daylight: Float[Tensor, "b classes *positions"]
) -> Float[Tensor, "b"]:
    """KL(daylight || enhanced) of the softmax over classes, in nats, mean over positions.

    sum_c p_c (log p_c - log q_c), p of the daylight answer. For sigmoid answers see
    `teachers.disagreement`.
    """
    _answers("divergence", logits, daylight)
    return disagreement(logits, daylight, "softmax").clamp_min(0)


def feature_cosine(
    features: Float[Tensor, "b channels *positions"],
    daylight: Float[Tensor, "b channels *positions"],
) -> Float[Tensor, "b"]:
    """Cosine between features along the channels, mean over positions, in [-1, 1].

    <f, d> / (|f| |d|); a vector of zeros has cosine 0 with every other.
    """
    _answers("feature_cosine", features, daylight, "features")
    cosine = F.cosine_similarity(features.float(), daylight.float(), dim=1, eps=1e-12)
    return cosine.reshape(len(features), -1).mean(1)


@dataclass(frozen=True, slots=True)
class Retention:
    """How many daylight detections are found again.

    Attributes:
        wanted: Daylight detections.
        recovered: Of these, found again.
        false: Found, and matched with none.
    """

    wanted: int
    recovered: int
    false: int

    def __add__(self, other: "Retention") -> "Retention":
        """Return both pictures' counts together."""
        return Retention(
            self.wanted + other.wanted, self.recovered + other.recovered, self.false + other.false
        )

    @property
    def recall(self) -> float:
        """Recovered share of the daylight detections; NaN if there are none."""
        return self.recovered / self.wanted if self.wanted else math.nan

    @property
    def precision(self) -> float:
        """Share of what is found that daylight shows too; NaN if nothing is found."""
        found = self.recovered + self.false
        return self.recovered / found if found else math.nan


def detector_retention(
    found: Sequence[Detections], daylight: Sequence[Detections], *, overlap: float = 0.5
) -> list[Retention]:
    """Match detections with those of daylight, picture by picture.

    A detection matches the daylight box of its class with the largest intersection over union that
    is still free, if that is at least `overlap`; the surest choose first.

    Args:
        found: In the enhanced pictures.
        daylight: In the same scenes in daylight, by the same detector and threshold.
        overlap: Least intersection over union, in (0, 1].

    Returns: one a picture; `sum(them, Retention(0, 0, 0))` is that of the set.

    Source: the matching of Lin et al., "Microsoft COCO", ECCV 2014, arXiv:1405.0312.
    """
    if len(found) != len(daylight):
        raise ShapeError(
            f"detector_retention: found has {len(found)} pictures, must have the "
            f"{len(daylight)} of daylight"
        )
    if not 0 < overlap <= 1:
        raise ArgumentError(f"detector_retention: overlap is {overlap}, must be in (0, 1]")
    results: list[Retention] = []
    for here, there in zip(found, daylight, strict=True):
        if here.names != there.names:
            raise ArgumentError(
                f"detector_retention: found has {len(here.names)} classes and daylight "
                f"{len(there.names)} or others, must be of one detector"
            )
        shared = box_overlap(here.boxes.float().cpu(), there.boxes.float().cpu())
        shared[here.labels.cpu()[:, None] != there.labels.cpu()[None]] = -1
        recovered = 0
        for i in here.scores.cpu().argsort(descending=True, stable=True).tolist():
            if shared.shape[1] and float(shared[i].max()) >= overlap:
                shared[:, int(shared[i].argmax())] = -1
                recovered += 1
        results.append(Retention(len(there), recovered, len(here) - recovered))
    return results


def expected_calibration_error(
    logits: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"], *, num_bins: int = 15
) -> float:
    """How far a recogniser's confidence is from its accuracy, in [0, 1].

    sum_m |B_m| / n * |accuracy(B_m) - mean confidence(B_m)|, B_m the answers with confidence in
    ((m - 1) / bins, m / bins].

    Args:
        logits: Answers.
        labels: The right classes, or the daylight answers'.
        num_bins: Of equal width.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599,
    eqs. 2, 3 and 5. Biased upwards for few answers.
    """
    where = "expected_calibration_error"
    if logits.ndim != 2 or 0 in logits.shape or labels.shape != logits.shape[:1]:
        raise ShapeError(
            f"{where}: logits has shape {tuple(logits.shape)} and labels {tuple(labels.shape)}, "
            "must be (n, classes) and (n,), not empty"
        )
    if num_bins < 1:
        raise ArgumentError(f"{where}: num_bins is {num_bins}, must be >= 1")
    if bool(logits.isnan().any()):
        raise ArgumentError(f"{where}: logits has NaN, must have none")
    if not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        raise ArgumentError(
            f"{where}: labels has values from {int(labels.min())} to {int(labels.max())}, must be "
            f"in [0, {logits.shape[1] - 1}]"
        )
    confidence, answer = logits.double().softmax(1).max(1)
    right = (answer == labels).double()
    place = ((confidence * num_bins).ceil().long() - 1).clamp(0, num_bins - 1)
    gap = torch.zeros(num_bins, dtype=torch.float64, device=logits.device)
    gap.scatter_add_(0, place, right - confidence)
    return float(gap.abs().sum() / len(labels))
