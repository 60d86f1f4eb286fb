"""Pseudo-labels of an ensemble of curves: what a frozen model says of many brightened versions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ArgumentError

Activation: TypeAlias = Literal["softmax", "sigmoid"]
Recogniser: TypeAlias = Callable[[Tensor], Tensor]

ENSEMBLE = tuple(float(a) for a in torch.logspace(-2.3, 0.3, 9))
"""Parameters of the reciprocal curves, log-spaced from 0.005 to 2."""
BACKGROUND = 0.1
"""Sigmoid answers below this are taken for a sure no."""


def reciprocal_curve(x: Tensor, a: float) -> Tensor:
    """Brighten by (1 + a) x / (x + a), a concave curve with g(0) = 0 and g(1) = 1; a > 0."""
    return (1 + a) * x / (x + a)


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """Soft answers of the ensemble and which of them are trusted.

    Attributes:
        probabilities: Mean answer.
        keep: Softmax: images (and positions) whose best class is sure enough. Sigmoid: scores that
            are a sure yes or a sure no, in images with a sure yes.
        activation: What makes probabilities of logits.
    """

    probabilities: Float[Tensor, "b classes *positions"]
    keep: Bool[Tensor, "b *rest"]
    activation: Activation

    @property
    def labels(self) -> Tensor:
        """Most probable class."""
        return self.probabilities.argmax(1)

    @property
    def kept_fraction(self) -> float:
        """Images with an answer that is trusted, in [0, 1]."""
        return float(self.keep.reshape(len(self.keep), -1).any(1).float().mean())


@torch.no_grad()
def pseudo_labels(
    recogniser: Recogniser,
    dark: Float[Tensor, "b *frames 3 height width"],
    *,
    confidence: float = 0.3,
    activation: Activation = "softmax",
    sharpen: float = 1.0,
) -> PseudoLabels:
    """Ask a frozen recogniser about nine brightened versions of each dark image.

    Args:
        recogniser: Images in [0, 1] to logits (b, classes, *positions); not changed.
        dark: sRGB in [0, 1].
        confidence: Least mean probability of an answer that is trusted, in [0, 1].
        activation: Softmax over classes, or each score by itself.
        sharpen: Power of the mean softmax answers, normalised again; 1 leaves them.

    Source: SACC, curve-ensemble pseudo labels. Differs: the published grid and filter are not
    known; ours are reciprocal curves, mean probabilities, and a threshold.
    Cost: nine passes of the recogniser.
    """
    if not 0 <= confidence <= 1:
        raise ArgumentError(f"pseudo_labels: confidence is {confidence}, must be in [0, 1]")
    if not sharpen > 0:
        raise ArgumentError(f"pseudo_labels: sharpen is {sharpen}, must be > 0; 1 changes nothing")
    answers = (recogniser(reciprocal_curve(dark, a)) for a in ENSEMBLE)
    return labels_of(answers, activation=activation, confidence=confidence, sharpen=sharpen)


@torch.no_grad()
def labels_of(
    answers: Iterable[Float[Tensor, "b classes *positions"]],
    *,
    activation: Activation,
    confidence: float,
    sharpen: float = 1.0,
) -> PseudoLabels:
    """Return the mean of several answers, and where it is trusted; see `pseudo_labels`.

    Args:
        answers: Logits, at least one.
        activation: What makes probabilities of them.
        confidence: As in `pseudo_labels`.
        sharpen: As in `pseudo_labels`.
    """
    count = 0
    total = torch.zeros(())
    for logits in answers:
        p = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
        total = p if count == 0 else total + p
        count += 1
    mean = total / max(count, 1)
    if activation == "sigmoid":
        sure = mean >= confidence
        some = sure.flatten(1).any(1).view(-1, *[1] * (mean.ndim - 1))
        return PseudoLabels(mean, (sure | (mean <= BACKGROUND)) & some, activation)
    keep = mean.amax(1) >= confidence
    mean = mean**sharpen
    return PseudoLabels(mean / mean.sum(1, keepdim=True), keep, activation)


def pseudo_loss(
    logits: Float[Tensor, "b classes *positions"], targets: PseudoLabels
) -> Float[Tensor, ""]:
    """Return the cross-entropy of answers against pseudo-labels that are trusted.

    Zero, with a gradient of zero, when no answer of the batch is trusted. Sigmoid: summed over
    scores, over the number of things that are surely there.
    """
    p, keep = targets.probabilities, targets.keep.to(logits.dtype)
    if targets.activation == "softmax":
        each = -(p * F.log_softmax(logits, 1)).sum(1)
        return (each * keep).sum() / keep.sum().clamp_min(1)
    each = F.binary_cross_entropy_with_logits(logits, p, reduction="none")
    things = (p * keep * (p > BACKGROUND)).sum().clamp_min(1)
    return (each * keep).sum() / things
