"""Label-free training of the concave curve for somebody's frozen model (SACC)."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from jaxtyping import Float
from torch import Tensor, nn

from foveal.errors import ArgumentError
from foveal.lowlight.alignment_state import AlignmentStep, Checkpoint, Schedule, digest_of
from foveal.lowlight.alignment_tasks import EnsembleTask, PretextTask, Setup
from foveal.lowlight.alignment_training import new_curve, train_curve
from foveal.lowlight.concave_curve import ConcaveCurve
from foveal.lowlight.ensemble import Activation, pseudo_labels, pseudo_loss
from foveal.lowlight.frozen import activation_of, answer_of, device_of, frozen, size_of
from foveal.lowlight.outcomes import fingerprint
from foveal.lowlight.pictures import Pictures, Source

Method: TypeAlias = Literal["ensemble", "pretext"]

_DEFAULT_SIZE = 192


def align(
    model: nn.Module,
    *,
    dark: Pictures,
    normal: Pictures | None = None,
    method: Method = "ensemble",
    size: int | None = None,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    answer: Callable[[Any], Tensor] | None = None,
    activation: Activation | None = None,
    layers: Sequence[str] | None = None,
    num_steps: int = 300,
    head_steps: int = 300,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    confidence: float = 0.3,
    sharpen: float = 1.0,
    start: float | None = 0.1,
    coupled: bool = False,
    patience: int = 6,
    check_every: int = 25,
    checkpoint: str | Path | None = None,
    groups: Sequence[int] | None = None,
    seed: int = 0,
    on_step: Callable[[AlignmentStep], None] | None = None,
) -> ConcaveCurve:
    """Train a curve under which your own frozen model sees best, without a label.

    "ensemble": the model answers for nine brightened versions of each dark picture; where their
    mean is sure enough, the curve learns to give that answer. Wants what the model says.
    "pretext": a small head learns on the model's features of *daylight* pictures to tell in which
    order nine turned cells lie; then head and model are still, and the curve learns to make dark
    pictures as readable to the head. Wants features only: any torch model will do.

    Pictures without a trusted answer are left out ("ensemble"). Of the others one in eight is kept;
    training stops early by the loss on these, and the best is
    returned.

    Args:
        model: Takes (b, 3, size, size), or (b, 3, t, size, size) for clips, sRGB in [0, 1] unless
            `preprocess` makes what it wants. Differentiable. Its parameters, buffers, modes and
            `requires_grad` are the same afterwards as before.
        dark: Night pictures: a tensor (n, 3, h, w) or (n, t, 3, h, w), or a list of tensors or
            files, which are read when they are needed.
        normal: Daylight pictures, likewise; "pretext" needs them. Others than the dark ones.
        method: See above.
        size: Side of what the model sees, in pixels. Default: `model.size`, or 192.
        preprocess: From sRGB in [0, 1] to the model's input, such as a normalisation;
            differentiable.
        answer: From the model's output to logits (b, classes, *positions). Default: the output
            itself, or its "logits" or "out". "ensemble" only.
        activation: Of these logits; default `model.activation`, or "softmax". "ensemble" only.
        layers: Names of the modules whose features the head reads; default: the last module at each
            of the three coarsest sizes that a puzzle can be read from. "pretext" only.
        num_steps: Steps of the curve at most.
        head_steps: Steps of the head. "pretext" only.
        batch_size: Pictures a step.
        learning_rate: Of Adam, for both; that of the curve falls by half a cosine.
        confidence: Least mean probability of an answer that is trusted, in [0, 1].
        sharpen: See `pseudo_labels`.
        start: The curve starts near the reciprocal curve of this parameter; None starts at
            2x - x^2, as published.
        coupled: One curve for all channels.
        patience: Checks without a better one before training stops.
        check_every: Steps between checks.
        checkpoint: A `.safetensors` file that is written at each check; if it is there, training
            goes on from it to the same result. One of another model's weights is refused; that
            `preprocess` and `answer` are the same is yours to see to.
        groups: Of which scene each dark picture is, such as of which film a frame: no scene is
            both learned from and kept. Default: each picture is its own.
        seed: Of the initialisation, the order of the pictures and, by "pretext", the cuts.
        on_step: Called after each step, for progress; `StopIteration` raised at a step of the curve
            ends the training and the best curve so far is returned, anything else goes through.

    Raises:
        ArgumentError: a picture has NaN or lies out of [0, 1]; `normal` is darker than `dark`
            (swapped?); "pretext" without `normal`; no layer, no logits; the head learned nothing;
            the loss is NaN or infinite.

    Source: Wang et al., "Self-Aligned Concave Curve", ACM MM 2022, and the ensemble of its journal
        form. Their step counts (5000, learning rate 1e-4) can be set; ours are for two CPU cores.
        Unknown there and chosen here: grid and filter of the ensemble, permutations, batch.
    Cost: a step is a forward and a backward pass of the model on a batch; "ensemble" adds nine
        forward passes a picture, once. Memory: one batch, and the ensemble's answers in 16 bits as
        long as they fit 512 MiB, or an eighth of a GPU.
    """
    if method not in get_args(Method):
        raise ArgumentError(f"align: method is {method!r}, must be one of {get_args(Method)}")
    if method == "pretext" and normal is None:
        raise ArgumentError(
            "align: normal is None, must be daylight pictures for method='pretext'; without any, "
            "method='ensemble' does"
        )
    for name, value, least in (
        ("num_steps", num_steps, 1), ("head_steps", head_steps, 1), ("batch_size", batch_size, 1),
        ("patience", patience, 1), ("check_every", check_every, 1), ("size", size or 32, 32),
    ):  # fmt: skip
        if value < least:
            raise ArgumentError(f"align: {name} is {value}, must be >= {least}")
    if not 0 < learning_rate < math.inf:
        raise ArgumentError(f"align: learning_rate is {learning_rate}, must be > 0")
    if start is not None and not 0 < start < math.inf:
        raise ArgumentError(f"align: start is {start}, must be > 0 and finite, or None")
    night, day = Source("dark", dark), None if normal is None else Source("normal", normal)
    if groups is not None and len(groups) != len(night):
        raise ArgumentError(
            f"align: groups has {len(groups)} numbers, must be one for each of "
            f"{len(night)} pictures"
        )
    lights = [x.brightness() for x in (night, day) if x is not None]  # which reads files
    if lights[-1] < lights[0]:
        raise ArgumentError(
            f"align: normal has median brightness {lights[-1]:.3f} and dark {lights[0]:.3f}, must "
            "be the other way round; are they swapped?"
        )
    kind = activation_of("align", model, activation)
    curve = new_curve(start=start, coupled=coupled, seed=seed)
    setup = Setup(
        model=model,
        size=size or size_of(model, _DEFAULT_SIZE),
        preprocess=preprocess or (lambda x: x),
        device=device_of(model),
    )
    schedule = Schedule(num_steps, batch_size, learning_rate, patience, check_every, seed)
    settings = digest_of(
        *(method, schedule, setup.size, confidence, sharpen, start, coupled, activation),
        *(() if method == "ensemble" else (head_steps, layers)),
        *zip((len(x) for x in (night, day) if x is not None), lights, strict=True),
        *(() if groups is None else (tuple(groups),)),
    )
    if checkpoint is not None:  # of this very model, or its answers would be taken for another's
        settings = digest_of(settings, fingerprint(model))
    saved = Checkpoint(checkpoint, settings)
    curve.to(setup.device)
    with frozen(model):
        if day is None or method == "ensemble":
            task: Any = EnsembleTask(setup, night, answer or answer_of, kind, confidence, sharpen)
            task.ask(batch_size, on_step)
        else:
            task = PretextTask(setup, night, day, layers, seed)
            task.learn_head(schedule, head_steps, saved, on_step)
        train_curve(curve, task, schedule, groups=groups, saved=saved, on_step=on_step)
    return curve.eval().requires_grad_(False)


def alignment_loss(
    curve: ConcaveCurve,
    recogniser: Callable[[Tensor], Tensor],
    dark: Float[Tensor, "b 3 height width"],
    *,
    confidence: float = 0.3,
    activation: Activation = "softmax",
) -> Float[Tensor, ""]:
    """Cross-entropy of the recogniser on the curve's images against the ensemble's answers.

    Gradients reach the curve through the frozen recogniser. Zero (with a gradient of zero) when
    no answer of the batch is trusted.
    """
    targets = pseudo_labels(recogniser, dark, confidence=confidence, activation=activation)
    return pseudo_loss(recogniser(curve(dark)), targets)
