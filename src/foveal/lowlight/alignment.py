"""Label-free training of the concave curve for a frozen recogniser (SACC, curve ensemble)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ArgumentError
from foveal.lowlight.concave_curve import ConcaveCurve

ENSEMBLE = tuple(float(a) for a in torch.logspace(-2.3, 0.3, 9))
"""Parameters of the reciprocal curves, log-spaced from 0.005 to 2."""


def reciprocal_curve(x: Tensor, a: float) -> Tensor:
    """Brighten by (1 + a) x / (x + a), a concave curve with g(0) = 0 and g(1) = 1; a > 0."""
    return (1 + a) * x / (x + a)


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """Soft answers of the ensemble and which of them are trusted."""

    probabilities: Float[Tensor, "b classes"]
    labels: Int64[Tensor, "b"]
    keep: Tensor


@torch.no_grad()
def pseudo_labels(
    recogniser: Callable[[Tensor], Tensor],
    dark: Float[Tensor, "b 3 height width"],
    *,
    confidence: float = 0.3,
) -> PseudoLabels:
    """Ask a frozen recogniser about nine brightened versions of each dark image.

    Args:
        recogniser: Images in [0, 1] to class logits; not changed.
        dark: sRGB in [0, 1].
        confidence: Least mean probability of an answer that is trusted, in [0, 1].

    Source: SACC, curve-ensemble pseudo labels. Differs: the published grid and filter are not
    known; ours are reciprocal curves, mean softmax, and a threshold.
    Cost: nine passes of the recogniser.
    """
    if not 0 <= confidence <= 1:
        raise ArgumentError(f"pseudo_labels: confidence is {confidence}, must be in [0, 1]")
    mean: Tensor | None = None
    for a in ENSEMBLE:
        p = recogniser(reciprocal_curve(dark, a)).softmax(-1)
        mean = p if mean is None else mean + p
    if mean is None:
        raise ArgumentError("pseudo_labels: ENSEMBLE is empty, must hold at least one curve")
    mean = mean / len(ENSEMBLE)
    best, labels = mean.max(-1)
    return PseudoLabels(mean, labels, best >= confidence)


def alignment_loss(
    curve: ConcaveCurve,
    recogniser: Callable[[Tensor], Tensor],
    dark: Float[Tensor, "b 3 height width"],
    *,
    confidence: float = 0.3,
) -> Float[Tensor, ""]:
    """Cross-entropy of the recogniser on the curve's images against the ensemble's answers.

    Gradients reach the curve through the frozen recogniser. Zero (with a gradient of zero) when
    no answer of the batch is trusted.
    """
    targets = pseudo_labels(recogniser, dark, confidence=confidence)
    log_p = F.log_softmax(recogniser(curve(dark)), -1)
    per_image = -(targets.probabilities * log_p).sum(-1)
    keep = targets.keep.to(per_image.dtype)
    return (per_image * keep).sum() / keep.sum().clamp_min(1)


def align(
    recogniser: torch.nn.Module,
    *,
    dark: Float[Tensor, "n 3 height width"],
    normal: Float[Tensor, "m 3 height width"] | None = None,
    num_steps: int = 500,
    batch_size: int = 8,
    learning_rate: float = 1e-4,
    confidence: float = 0.3,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> ConcaveCurve:
    """Train a curve for your own frozen recogniser from unlabelled dark images.

    Args:
        recogniser: Images in [0, 1] to class logits, differentiable. Its parameters, their
            `requires_grad` and its mode are the same afterwards as before.
        dark: sRGB in [0, 1], of the size that `recogniser` takes.
        normal: Not used by the curve-ensemble method; giving it raises.
        num_steps: Optimisation steps, each ten passes of the recogniser on one batch.
        batch_size: Images a step.
        learning_rate: Of Adam.
        confidence: See `pseudo_labels`.
        seed: Of the initialisation and of the order of the images.
        on_step: Called with the step and its loss, for progress or to stop by raising.

    Raises:
        ArgumentError: no image, a NaN, or `normal` was given.
    """
    if normal is not None:
        raise ArgumentError(
            "align: normal is given, must be None; the curve-ensemble method needs dark images only"
        )
    if dark.ndim != 4 or dark.shape[0] == 0 or not torch.isfinite(dark).all():
        raise ArgumentError(
            f"align: dark has shape {tuple(dark.shape)}, must be (n, 3, height, width), "
            "n >= 1, without NaN or infinity"
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        curve = ConcaveCurve()
    curve = curve.to(dark.device)
    was_training = recogniser.training
    gradients = [p.requires_grad for p in recogniser.parameters()]
    recogniser.eval().requires_grad_(False)
    optimiser = torch.optim.Adam(curve.parameters(), lr=learning_rate)
    try:
        for step in range(num_steps):
            pick = torch.randint(len(dark), (min(batch_size, len(dark)),), generator=generator)
            loss = alignment_loss(
                curve, recogniser, dark[pick.to(dark.device)], confidence=confidence
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if on_step is not None:
                on_step(step, loss.item())
    finally:
        recogniser.train(was_training)
        for parameter, flag in zip(recogniser.parameters(), gradients, strict=True):
            parameter.requires_grad_(flag)
    return curve.eval().requires_grad_(False)
