"""Files and training that the learned baselines share."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from foveal._core import weights
from foveal.errors import ArgumentError
from foveal.lowlight.pictures import Pictures, Source

Own = TypeVar("Own", bound="LearnedBaseline")
Losses = dict[str, Tensor]
"""Parts of a loss by name; their sum is minimized."""


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """What `on_step` is told.

    Attributes:
        step: From 1.
        num_steps: Of the whole training.
        loss: Sum of `parts`.
        parts: Each loss times its weight.
    """

    step: int
    num_steps: int
    loss: float
    parts: dict[str, float] = field(default_factory=dict)


OnStep = Callable[[TrainingStep], None]


class LearnedBaseline(nn.Module):
    """A network whose weights are a safetensors file with a JSON file beside it."""

    family: ClassVar[str]
    """How the names of its packaged weights begin."""

    def save(self, path: str | Path) -> None:
        """Write the weights (.safetensors) and what they are of (.json beside it), for `load`."""
        path, name = Path(path), type(self).__name__
        if path.suffix != ".safetensors":
            raise ArgumentError(f"{name}.save: path is {path}, must end in .safetensors")
        weights.save_weights(path, self.state_dict(), {"model": name})

    @classmethod
    def load(cls: type[Own], source: str | Path | None = None) -> Own:
        """Load packaged weights by name (default: those of the family's name), or a file by path.

        Raises:
            ArgumentError: no such weights, or they are damaged or of another network.
        """
        name = cls.__name__
        path = Path(cls.family if source is None else source)
        if path.suffix != ".safetensors":
            try:
                path = weights.packaged(str(path), family=cls.family)
            except ArgumentError as error:
                raise ArgumentError(
                    f"{name}.load: source is {str(path)!r}, no weights of that name come with "
                    f"Foveal; train them (train_{cls.family.replace('-', '_')}), save them, and "
                    "give the path of the .safetensors file"
                ) from error
        config, tensors = weights.load_weights(path)
        if config.get("model") != name:
            raise ArgumentError(
                f"{name}.load: source is {path}, holds {config.get('model')!r}, must hold {name!r}"
            )
        for key, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ArgumentError(f"{name}.load: source is {path}, {key} has NaN or infinity")
        model = cls()
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ArgumentError(f"{name}.load: source is {path} ({error})") from error
        return model.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a baseline is trained; see `train_zero_dce` for what each is."""

    num_steps: int
    batch_size: int
    size: int
    learning_rate: float
    weight_decay: float
    clip: float
    seed: int
    device: str

    def check(self, where: str) -> None:
        """Refuse what cannot be trained with."""
        for name, value, least in (
            ("num_steps", self.num_steps, 1), ("batch_size", self.batch_size, 1),
            ("size", self.size, 32),
        ):  # fmt: skip
            if value < least:
                raise ArgumentError(f"{where}: {name} is {value}, must be >= {least}")
        for name, value in (("learning_rate", self.learning_rate), ("clip", self.clip)):
            if not 0 < value < math.inf:
                raise ArgumentError(f"{where}: {name} is {value}, must be > 0 and finite")
        if not 0 <= self.weight_decay < math.inf:
            raise ArgumentError(
                f"{where}: weight_decay is {self.weight_decay}, must be >= 0 and finite"
            )
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ArgumentError(
                f"{where}: device is {self.device!r}, cannot be used here ({error}); 'cpu' can"
            ) from error


def fit(
    where: str,
    pictures: Pictures,
    recipe: Recipe,
    parameters: Iterable[nn.Parameter],
    losses: Callable[[Tensor], Losses],
    on_step: OnStep | None,
) -> None:
    """Minimize a loss over random cuts of pictures with Adam, in epochs of shuffled order.

    Raises:
        ArgumentError: a picture is bad, or the loss is no longer finite.
    """
    source = Source("pictures", pictures, where=where)
    generator = torch.Generator().manual_seed(recipe.seed)
    parameters = list(parameters)
    optimizer = torch.optim.Adam(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    order: list[int] = []
    for step in range(1, recipe.num_steps + 1):
        while len(order) < recipe.batch_size:
            order += torch.randperm(len(source), generator=generator).tolist()
        chosen, order = order[: recipe.batch_size], order[recipe.batch_size :]
        batch = source.batch(chosen, recipe.size, generator, recipe.device)
        if batch.ndim != 4:
            raise ArgumentError(
                f"{where}: pictures holds clips of shape {tuple(batch.shape[1:])}, must be "
                "pictures (3, height, width); give the frames one by one"
            )
        parts = losses(batch)
        loss = torch.stack(list(parts.values())).sum()
        if not bool(torch.isfinite(loss)):
            raise ArgumentError(
                f"{where}: learning_rate is {recipe.learning_rate}, with which the loss is "
                f"{loss.item()} at step {step}; lower it"
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
        optimizer.step()
        if on_step is not None:
            told = {name: part.item() for name, part in parts.items()}
            on_step(TrainingStep(step, recipe.num_steps, loss.item(), told))
