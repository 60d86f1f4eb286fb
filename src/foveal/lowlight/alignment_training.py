"""The steps that all alignments share: an untrained curve, and its training by some task."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from foveal.errors import ArgumentError
from foveal.lowlight.alignment_state import AlignmentStep, Checkpoint, Schedule
from foveal.lowlight.concave_curve import NUM_KNOTS, ConcaveCurve


@runtime_checkable
class Task(Protocol):
    """What a curve learns by."""

    pictures: list[int]

    def loss(
        self, curve: ConcaveCurve, indices: list[int], generator: torch.Generator
    ) -> tuple[Tensor, float | None]:
        """Return the loss on some pictures, and the share that is right or trusted, if known."""
        ...


def new_curve(*, start: float | None, coupled: bool, seed: int) -> ConcaveCurve:
    """Make an untrained curve that is close to the reciprocal curve of parameter `start`, or not.

    The random generator of the process stays as it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        curve = ConcaveCurve(coupled=coupled)
    if start is not None:
        knots = torch.arange(1, NUM_KNOTS + 1) / NUM_KNOTS
        curvature = (start / (start + knots)) ** 3 + 1e-3
        with torch.no_grad():
            curve.fc.bias.copy_(curvature[:, None].expand(-1, 3).flatten())
    return curve


def train_curve(
    curve: ConcaveCurve,
    task: Task,
    schedule: Schedule,
    *,
    groups: Sequence[int] | None = None,
    saved: Checkpoint | None = None,
    on_step: Callable[[AlignmentStep], None] | None = None,
) -> None:
    """Train the curve, and leave it at its best; `StopIteration` of `on_step` ends it early.

    Raises:
        ArgumentError: the loss is not finite before the first step.
    """
    saved = saved or Checkpoint(None, "")
    train, kept = schedule.split(task.pictures, groups)
    generator = torch.Generator().manual_seed(schedule.seed + 1)
    optimiser = torch.optim.Adam(curve.parameters(), lr=schedule.learning_rate)
    best = copy.deepcopy(curve.state_dict())
    step, least, waited = saved.restore(curve, best, optimiser, generator)

    @torch.no_grad()
    def judge() -> tuple[float, float | None]:
        losses: list[float] = []
        shares: list[float] = []
        same = torch.Generator().manual_seed(2)
        for at in range(0, len(kept), schedule.batch_size):
            loss, share = task.loss(curve, kept[at : at + schedule.batch_size], same)
            losses.append(loss.item())
            shares += [] if share is None else [share]
        return sum(losses) / len(losses), sum(shares) / len(shares) if shares else None

    if step == 0:
        least, _ = judge()
        if not math.isfinite(least):
            raise ArgumentError(
                f"align: the loss on the {len(kept)} pictures that are kept for judging is "
                f"{least}, must be finite; the model answers with NaN or infinity"
            )
    while step < schedule.num_steps and waited < schedule.patience:
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        loss, share = task.loss(curve, schedule.pick(train, generator), generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        held = None
        if step % schedule.check_every == 0 or step == schedule.num_steps:
            held, share = judge()
            waited += 1
            if held < least:
                least, waited = held, 0
                best = copy.deepcopy(curve.state_dict())
            saved.keep(curve, best, optimiser, generator, step=step, least=least, waited=waited)
        if on_step is not None:
            try:
                on_step(AlignmentStep("curve", step, schedule.num_steps, loss.item(), held, share))
            except StopIteration:
                break
    curve.load_state_dict(best)
