"""The curve ensemble for motion: where nine brightened clips agree, a curve learns their flow."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from foveal.errors import ArgumentError
from foveal.lowlight.alignment_state import AlignmentStep, Schedule
from foveal.lowlight.alignment_tasks import brighten
from foveal.lowlight.alignment_training import new_curve, train_curve
from foveal.lowlight.concave_curve import ConcaveCurve
from foveal.lowlight.ensemble import ENSEMBLE, reciprocal_curve
from foveal.lowlight.frozen import device_of, frozen
from foveal.lowlight.pictures import Pictures, Source

_EPSILON = 1e-3


@dataclass(frozen=True, slots=True)
class PseudoFlow:
    """What an ensemble of curves says of motion, and where it is trusted.

    Attributes:
        flow: Median of the answers, component by component, in pixels; 0 where one is NaN.
        keep: Pixels where the answers agree, and are numbers.
    """

    flow: Float[Tensor, "b 2 pairs h w"]
    keep: Bool[Tensor, "b pairs h w"]


@torch.no_grad()
def pseudo_flow(
    model: Callable[[Tensor], Tensor], dark: Float[Tensor, "b t 3 h w"], *, spread: float = 1.0
) -> PseudoFlow:
    """Ask a frozen flow network about nine brightened versions of each dark clip.

    Args:
        model: Clips (b, 3, t, h, w) in [0, 1] to flow (b, 2, t - 1, h, w) in pixels; not changed.
        dark: sRGB in [0, 1].
        spread: A pixel is trusted where the median distance of the answers from their median is at
            most this, in pixels.

    Raises: ArgumentError: `spread` is not above 0, or what the model returns is no flow.

    Source: SACC's curve ensemble (`pseudo_labels`) is for classes; for numbers the mean of
        probabilities becomes a median, and confidence becomes agreement. Ours.
    Cost: nine passes of the model; memory: nine answers.
    """
    if not spread > 0:
        raise ArgumentError(f"pseudo_flow: spread is {spread}, must be > 0, in pixels")
    clips = dark.transpose(1, 2)
    answers = torch.stack([_flow_of(model, reciprocal_curve(clips, a)) for a in ENSEMBLE])
    middle = answers.median(0).values
    distance = (answers - middle).norm(dim=2).median(0).values
    return PseudoFlow(middle.nan_to_num(0, 0, 0), distance <= spread)


def _flow_of(model: Callable[[Tensor], Tensor], clips: Float[Tensor, "b 3 t h w"]) -> Tensor:
    flow = model(clips)
    b, _, t, height, width = clips.shape
    if flow.shape != (b, 2, t - 1, height, width):
        raise ArgumentError(
            f"pseudo_flow: model returned {tuple(flow.shape)} for {tuple(clips.shape)}, must be "
            f"flow of {(b, 2, t - 1, height, width)}; a network that names things goes to align"
        )
    return flow.float()


def pseudo_flow_loss(
    flow: Float[Tensor, "b 2 pairs h w"], targets: PseudoFlow
) -> Float[Tensor, ""]:
    """Return the mean distance, in pixels, from the answers that are trusted.

    Zero, with a gradient of zero, when none is.
    """
    keep = targets.keep.to(flow.dtype)
    distance = ((flow - targets.flow).square().sum(1) + _EPSILON**2).sqrt()
    return (distance * keep).sum() / keep.sum().clamp_min(1)


def align_to_flow(
    model: nn.Module,
    *,
    dark: Pictures,
    size: int | None = None,
    spread: float = 1.0,
    num_steps: int = 300,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    start: float | None = 0.1,
    coupled: bool = False,
    patience: int = 6,
    check_every: int = 25,
    groups: Sequence[int] | None = None,
    seed: int = 0,
    on_step: Callable[[AlignmentStep], None] | None = None,
) -> ConcaveCurve:
    """Train a curve under which a frozen flow network answers as most of nine curves let it.

    `align(method="ensemble")` for a model whose answer is motion; one curve a clip. Clips without a
    trusted pixel are left out. Of the others one in eight is kept; training stops early by the loss
    on these, and the best curve is returned.

    Args:
        model: Clips (b, 3, t, size, size) in [0, 1] to flow (b, 2, t - 1, size, size), in pixels.
            Unchanged afterwards.
        dark: Clips (t, 3, h, w) taken in the dark, or one tensor of them.
        size: Side of what the model sees, in pixels; default: `model.size`.
        spread: See `pseudo_flow`.
        num_steps: At most.
        batch_size: Clips a step.
        learning_rate: Of Adam.
        start: See `align`.
        coupled: One curve for all channels.
        patience: Checks without a better one before training stops.
        check_every: Steps between checks.
        groups: Of which scene each clip is; see `align`.
        seed: Of the initialisation and the order of the clips.
        on_step: Called after each step; see `align`.

    Raises: ArgumentError: a value is out of range, the clips are no clips, or nowhere do the
        answers agree.
    Cost: a step is ten passes and a backward pass of the model on a batch; before, nine passes a
        clip.
    """
    side = int(getattr(model, "size", 0)) if size is None else size
    for name, value, least in (
        ("num_steps", num_steps, 1), ("batch_size", batch_size, 1), ("patience", patience, 1),
        ("check_every", check_every, 1), ("size", side, 16),
    ):  # fmt: skip
        if value < least:
            raise ArgumentError(f"align_to_flow: {name} is {value}, must be >= {least}")
    if not 0 < learning_rate < math.inf:
        raise ArgumentError(f"align_to_flow: learning_rate is {learning_rate}, must be > 0")
    if start is not None and not start > 0:
        raise ArgumentError(f"align_to_flow: start is {start}, must be > 0, or None")
    source = Source("dark", dark, where="align_to_flow")
    if source[0].ndim != 4 or len(source[0]) < 2:
        raise ArgumentError(
            f"align_to_flow: dark holds {tuple(source[0].shape)}, must be clips (t, 3, height, "
            "width) of two frames or more"
        )
    if groups is not None and len(groups) != len(source):
        raise ArgumentError(
            f"align_to_flow: groups has {len(groups)} numbers, must be one for each of "
            f"{len(source)} clips"
        )
    curve = new_curve(start=start, coupled=coupled, seed=seed)
    device = device_of(model)
    schedule = Schedule(num_steps, batch_size, learning_rate, patience, check_every, seed)
    curve.to(device)
    with frozen(model):
        task = _Task(model, source, side, device, spread)
        task.ask(batch_size, on_step)
        train_curve(curve, task, schedule, groups=groups, on_step=on_step)
    return curve.eval().requires_grad_(False)


class _Task:
    """Clips by number, and what the ensemble says of them."""

    def __init__(
        self, model: nn.Module, source: Source, size: int, device: str, spread: float
    ) -> None:
        self.pictures: list[int] = []
        self._model, self._source, self._size = model, source, size
        self._device, self._spread = device, spread

    def ask(self, batch_size: int, on_step: Callable[[AlignmentStep], None] | None) -> None:
        """Ask the model about the middle of every clip once; clips without an answer are left out.

        Raises: ArgumentError: there is none with one.
        """
        count = len(self._source)
        for at in range(0, count, batch_size):
            indices = list(range(at, min(at + batch_size, count)))
            dark = self._source.batch(indices, self._size, None, self._device)
            keep = pseudo_flow(self._model, dark, spread=self._spread).keep.flatten(1).any(1)
            self.pictures += [i for i, yes in zip(indices, keep.tolist(), strict=True) if yes]
            if on_step is not None:
                done = at + len(indices)
                share = len(self.pictures) / done
                on_step(AlignmentStep("labels", done, count, math.nan, right=share))
        if not self.pictures:
            raise ArgumentError(
                f"align_to_flow: spread is {self._spread}, within which the nine answers agree "
                f"nowhere in {count} clips, must be larger; or they are too dark or too noisy for "
                "this model under any curve"
            )

    def loss(
        self, curve: ConcaveCurve, indices: list[int], generator: torch.Generator
    ) -> tuple[Tensor, float | None]:
        """Return the loss on some clips, and the share of pixels that are trusted."""
        dark = self._source.batch(indices, self._size, generator, self._device)
        targets = pseudo_flow(self._model, dark, spread=self._spread)
        flow = self._model(brighten(curve, dark).transpose(1, 2))
        return pseudo_flow_loss(flow, targets), float(targets.keep.float().mean())
