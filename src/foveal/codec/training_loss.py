"""What training minimises, and what it draws: see `training`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.codec.network import Network
from foveal.codec.rates import OFF, QUALITIES
from foveal.errors import ArgumentError

Batch = Mapping[str, Tensor]
ANSWER = "answer/"
"""A batch may bring the answers to its own features, under this and the task's name."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What the features of one task are for.

    Args:
        answer: The frozen rest of the network: features -> prediction, differentiable.
        distance: (prediction, wanted prediction) -> distance of each image, at least 0.
        unit: Distance that counts as 1, such as that of a constant answer.
        weight: Weight of the task.
    """

    answer: Callable[[Tensor], Tensor]
    distance: Callable[[Tensor, Tensor], Float[Tensor, "b"]]
    unit: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a codec is trained.

    Args:
        steps: Number of steps.
        minutes: Stop after so long, with the learning rate falling by the clock; 0 for no limit.
        batch: Images a step.
        lr: Highest learning rate of AdamW.
        lowest: w at quality 0, in bits per unit of distortion.
        highest: w at the highest quality.
        alpha: Weight of the squared error of the features.
        beta: Weight of the distance between answers.
        warm_up: Fraction of the steps before the answers count.
        hard: Fraction of the steps, the last ones, in which the rate is that of rounded latents.
        subsets: Fraction of images for which only some of the tasks are wanted.
        ema: Decay of the average of the weights.
        seed: Of everything that is drawn.
        precision: "bf16" runs transforms and answers in bf16 on a GPU.
    """

    steps: int = 20000
    minutes: float = 0.0
    batch: int = 64
    lr: float = 2e-3
    lowest: float = 100.0
    highest: float = 20000.0
    alpha: float = 0.2
    beta: float = 1.0
    warm_up: float = 0.05
    hard: float = 0.2
    subsets: float = 0.5
    ema: float = 0.999
    seed: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.steps < 1 or self.batch < 1 or not 0 < self.lowest <= self.highest:
            raise ArgumentError(
                f"TrainOptions: steps, batch, lowest, highest are {self.steps}, {self.batch}, "
                f"{self.lowest}, {self.highest}, must be at least 1, at least 1 and 0 < lowest <= "
                "highest; change them"
            )
        if not self.lr > 0:
            raise ArgumentError(f"TrainOptions: lr is {self.lr}, must be positive; raise it")
        if not self.minutes >= 0:
            raise ArgumentError(
                f"TrainOptions: minutes is {self.minutes}, must be at least 0; 0 is no limit"
            )
        if not 0 <= self.ema < 1:
            raise ArgumentError(f"TrainOptions: ema is {self.ema}, must be within 0..1, below 1")
        for name in ("warm_up", "hard", "subsets"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ArgumentError(
                    f"TrainOptions: {name} is {value}, must be within 0..1; change it"
                )
        if self.precision not in ("fp32", "bf16"):
            raise ArgumentError(
                f"TrainOptions: precision is {self.precision!r}, must be 'fp32' or 'bf16'; choose "
                "one"
            )


def draw_qualities(
    pairs: tuple[tuple[str, str], ...],
    batch: int,
    *,
    subsets: float,
    generator: torch.Generator,
) -> Float[Tensor, "b pairs"]:
    """Draw the qualities of a batch: one for all tasks, or some of the tasks, each its own.

    A task has one quality in all layers that serve it.
    """
    names = sorted({task for _, task in pairs})
    quality = torch.rand(batch, 1, generator=generator) * (QUALITIES - 1)
    quality = quality.repeat(1, len(names))
    apart = torch.rand(batch, 1, generator=generator) < subsets
    own = torch.rand(batch, len(names), generator=generator) * (QUALITIES - 1)
    same = torch.rand(batch, 1, generator=generator) < 0.5
    on = torch.rand(batch, len(names), generator=generator) < 0.5
    first = torch.randint(len(names), (batch, 1), generator=generator)
    on = on.scatter(1, first, True)
    some = torch.where(on, torch.where(same, quality, own), torch.full_like(own, OFF))
    quality = torch.where(apart, some, quality)
    return quality[:, [names.index(task) for _, task in pairs]]


def draw_orders(
    layers: int, batch: int, generator: torch.Generator
) -> Float[Tensor, "b layers layers"]:
    """Draw an order of the layers for each image: 1 where the row's layer is after the column's."""
    place = torch.rand(batch, layers, generator=generator).argsort(dim=1).argsort(dim=1)
    return (place[:, :, None] > place[:, None, :]).float()


def weight_of(quality: Tensor, options: TrainOptions) -> Tensor:
    """Return w(q); 0 where a task is off."""
    span = math.log(options.highest / options.lowest)
    w = options.lowest * torch.exp(quality.clamp_min(0) / (QUALITIES - 1) * span)
    return torch.where(quality < 0, torch.zeros_like(w), w)


def rate_task_loss(
    model: Network,
    features: Batch,
    quality: Float[Tensor, "b pairs"],
    objectives: Mapping[str, Objective],
    options: TrainOptions,
    *,
    answers: float | Tensor = 1.0,
    hard: bool = False,
    before: Tensor | None = None,
    tasks: tuple[str, ...] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Return the loss of a batch and its detached parts, averaged over images.

    Args:
        model: A codec in training.
        features: Features of all sources.
        quality: Qualities of each (layer, task) pair.
        objectives: By task; a task without one counts by its features alone.
        options: Weights.
        answers: Factor of beta, for a warm-up.
        hard: Rounded latents in the rate, instead of uniform noise.
        before: Which layers each layer may see; see `FeatureCodec.forward`.
        tasks: Heads that count. Default: all.
    """
    on_gpu = quality.is_cuda and options.precision == "bf16"
    with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
        out = model(features, quality, hard=hard, before=before, tasks=tasks)
    weights = weight_of(quality, options)
    parts: dict[str, Tensor] = {"bits": out.bits.detach().mean()}
    side = torch.stack(list(out.side_bits.values())).sum(0)
    parts["side_bits"] = side.detach().mean()
    distortion = torch.zeros_like(weights[:, 0])
    for task in tasks or model.config.tasks:
        columns = [i for i, (_, name) in enumerate(model.pairs) if name == task]
        own = [weights[:, i] for i in columns] or list(weights.unbind(1))
        w = torch.stack(own).amax(dim=0)
        decoded, wanted = out.features[task].float(), features[task].float()
        gap = model.normalise(task, decoded) - model.normalise(task, wanted)
        mse = gap.square().flatten(1).mean(1)
        term = options.alpha * mse
        objective = objectives.get(task)
        parts[f"mse/{task}"] = mse.detach().mean()
        if objective is not None:
            with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
                reference = features.get(f"{ANSWER}{task}")
                if reference is None:
                    with torch.no_grad():
                        reference = objective.answer(wanted)
                got = objective.answer(decoded)
            far = objective.distance(got.float(), reference.float()) / objective.unit
            term = objective.weight * (term + answers * options.beta * far)
            parts[f"answer/{task}"] = far.detach().mean()
        distortion = distortion + w * term
    root = weights.amax(dim=1).clamp_min(1e-6).sqrt()
    loss = ((out.bits + distortion) / root).mean()
    return loss, parts
