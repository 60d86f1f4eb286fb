"""SACC+: after the curve, the model itself learns from its own trusted answers in the dark."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from foveal.errors import ArgumentError
from foveal.lowlight.alignment_state import AlignmentStep
from foveal.lowlight.alignment_tasks import Setup, brighten
from foveal.lowlight.concave_curve import ConcaveCurve
from foveal.lowlight.ensemble import Activation, labels_of, pseudo_loss
from foveal.lowlight.frozen import activation_of, answer_of, device_of, frozen, size_of
from foveal.lowlight.pictures import Pictures, Source

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)


def adapt(
    model: nn.Module,
    curve: ConcaveCurve,
    *,
    dark: Pictures,
    size: int | None = None,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    answer: Callable[[Any], Tensor] | None = None,
    activation: Activation | None = None,
    confidence: float = 0.5,
    num_steps: int = 200,
    batch_size: int = 8,
    learning_rate: float = 1e-4,
    only_norms: bool = True,
    noise: float = 0.025,
    seed: int = 0,
    on_step: Callable[[AlignmentStep], None] | None = None,
) -> nn.Module:
    """Return a copy of the model that has learned to see through what a curve cannot mend.

    The model answers for dark pictures under the curve; where it is sure enough, the copy learns to
    give that answer when noise is added. No label is used, and `model` is not changed. Statistics
    of batch normalisation stay.

    Args:
        model: As in `align`.
        curve: What `align` returned; stays as it is.
        dark: Night pictures, as in `align`.
        size: As in `align`.
        preprocess: As in `align`.
        answer: As in `align`.
        activation: As in `align`.
        confidence: Least probability of an answer that is trusted, in [0, 1].
        num_steps: Steps.
        batch_size: Pictures a step.
        learning_rate: Of Adam.
        only_norms: Change scales and shifts of normalisation layers only, which forgets less; False
            changes everything.
        noise: Standard deviation of the grey noise added to what the copy sees, of full scale.
        seed: Of cuts, noise and order.
        on_step: Called after each step; `right` is the share of pictures that are trusted.

    Raises:
        ArgumentError: a bad picture or argument; no answer is trusted; `only_norms` without any
            normalisation layer that has parameters.

    Source: SACC+ of Wang et al. (journal form), of which thresholds, rounds and augmentation are
        not known; the noise is that of Luo et al., "Similarity Min-Max", ICCV 2023.
    Cost: two forward passes and a backward one, a picture and step.
    """
    if not 0 <= confidence <= 1:
        raise ArgumentError(f"adapt: confidence is {confidence}, must be in [0, 1]")
    if num_steps < 1 or batch_size < 1:
        raise ArgumentError(
            f"adapt: num_steps is {num_steps} and batch_size {batch_size}, must be >= 1"
        )
    if not 0 < learning_rate < math.inf:
        raise ArgumentError(f"adapt: learning_rate is {learning_rate}, must be > 0")
    if not noise >= 0:
        raise ArgumentError(f"adapt: noise is {noise}, must be >= 0")
    night = Source("dark", dark, where="adapt")
    setup = Setup(
        model,
        size or size_of(model, 192),
        preprocess or (lambda x: x),
        device_of(model),
    )
    found = activation_of("adapt", model, activation)
    logits = answer or answer_of
    student = copy.deepcopy(model)
    chosen = _parameters(student, only_norms)
    kept = [(p, p.requires_grad) for p in student.parameters()]
    modes = [(m, m.training) for m in student.modules()]
    for module, _ in modes:
        module.training = False
    for parameter, _ in kept:
        parameter.requires_grad_(False)
    for parameter in chosen:
        parameter.requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(chosen, lr=learning_rate)
    trusted = 0.0
    with frozen(model), frozen(curve):
        for step in range(1, num_steps + 1):
            order = torch.randperm(len(night), generator=generator)[:batch_size].tolist()
            pictures = brighten(curve, night.batch(order, setup.size, generator, setup.device))
            with torch.no_grad():
                own = logits(setup.run(pictures))
            targets = labels_of([own], activation=found, confidence=confidence)
            grey = torch.randn(pictures[..., :1, :, :].shape, generator=generator) * noise
            seen = (pictures + grey.to(pictures)).clamp(0, 1)
            x = seen.transpose(1, 2) if seen.ndim == 5 else seen
            loss = pseudo_loss(logits(student(setup.preprocess(x))), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            trusted += targets.kept_fraction
            if on_step is not None:
                share = targets.kept_fraction
                on_step(AlignmentStep("model", step, num_steps, loss.item(), right=share))
    if trusted == 0:
        raise ArgumentError(
            f"adapt: confidence is {confidence}, which no answer reached in {num_steps} steps, "
            "must be lower; the model is as it was"
        )
    for module, mode in modes:
        module.training = mode
    for parameter, flag in kept:
        parameter.requires_grad_(flag)
        parameter.grad = None
    return student


def _parameters(model: nn.Module, only_norms: bool) -> list[nn.Parameter]:
    if not only_norms:
        found = list(model.parameters())
    else:
        norms = [m for m in model.modules() if isinstance(m, _NORMS)]
        found = [p for m in norms for p in m.parameters(recurse=False)]
    if not found:
        raise ArgumentError(
            f"adapt: only_norms is {only_norms}, and {type(model).__name__} has no "
            f"{'normalisation layer with parameters' if only_norms else 'parameter'}, must have "
            "some; pass only_norms=False, or adapt another model"
        )
    return found
