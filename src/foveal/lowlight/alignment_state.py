"""What a training keeps: its schedule, its steps, and a checkpoint to go on from."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal._core.weights import load_weights, save_weights
from foveal.errors import ArgumentError

_KEPT = 8
"""One picture in so many is kept for judging."""


@dataclass(frozen=True, slots=True)
class AlignmentStep:
    """Where a training is.

    Attributes:
        stage: "labels" asks the model about each picture; "head" learns on daylight pictures;
            "curve" on dark ones; "model" is that of `adapt`.
        step: Steps done in this stage, or pictures of "labels".
        num_steps: Steps of this stage at most.
        loss: Of this step's batch; NaN for "labels".
        held_out: Loss on pictures that are kept for it, at steps where it was measured.
        right: Share of right permutations ("head", and "curve" by the pretext), or of pictures
            whose answers are trusted ("labels", "model").
    """

    stage: str
    step: int
    num_steps: int
    loss: float
    held_out: float | None = None
    right: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast a curve learns; see `align`."""

    num_steps: int
    batch_size: int
    learning_rate: float
    patience: int
    check_every: int
    seed: int

    def split(
        self, pictures: Sequence[int], groups: Sequence[int] | None = None
    ) -> tuple[list[int], list[int]]:
        """Return the pictures to learn from and those to judge by; a lone one is both.

        Args:
            pictures: By number.
            groups: Of which scene each picture of the source is: a scene is not parted, as long as
                there are two.
        """
        scene = {i: i if groups is None else groups[i] for i in pictures}
        scenes = list(dict.fromkeys(scene.values()))
        if len(scenes) == 1:
            scene, scenes = {i: i for i in pictures}, list(pictures)
        order = torch.randperm(len(scenes), generator=torch.Generator().manual_seed(self.seed))
        kept = {scenes[i] for i in order[: max(1, len(scenes) // _KEPT)].tolist()}
        mixed = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(self.seed))
        every = [pictures[i] for i in mixed.tolist()]
        train = [i for i in every if scene[i] not in kept]
        return train or every, [i for i in every if scene[i] in kept]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: half a cosine, down to a hundredth."""
        return self.learning_rate * (0.01 + 0.495 * (1 + math.cos(math.pi * step / self.num_steps)))

    def pick(self, pictures: list[int], generator: torch.Generator) -> list[int]:
        """Return the pictures of one step, none twice."""
        order = torch.randperm(len(pictures), generator=generator)[: self.batch_size]
        return [pictures[i] for i in order.tolist()]


def digest_of(*settings: object) -> str:
    """Return a short digest of settings that must not change between two parts of a training."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


class Checkpoint:
    """A file that holds a training, or nothing where `path` is None.

    Args:
        path: Ends in .safetensors; a JSON file is written beside it.
        settings: Digest of what must not change.

    Raises:
        ArgumentError: the name is wrong, the file is damaged or of other settings.
    """

    def __init__(self, path: str | Path | None, settings: str) -> None:
        """Read the file if it is there."""
        self._path = None if path is None else Path(path)
        self._settings = settings
        self._config: dict[str, Any] = {}
        self._tensors: dict[str, Tensor] = {}
        if self._path is None:
            return
        if self._path.suffix != ".safetensors":
            raise ArgumentError(f"align: checkpoint is {path}, must end in .safetensors")
        if not self._path.exists():
            return
        self._config, self._tensors = load_weights(self._path)
        if self._config.get("settings") != settings:
            raise ArgumentError(
                f"align: checkpoint is {path}, which is of a training with other settings or "
                "pictures, must be of this one; remove the file or name another"
            )

    def restore_head(self, head: nn.Module) -> bool:
        """Load the head; False where there is none yet."""
        found = _within(self._tensors, "head.")
        if found:
            head.load_state_dict(found)
        return bool(found)

    def keep_head(self, head: nn.Module) -> None:
        """Write the head."""
        self._tensors.update({f"head.{k}": v for k, v in head.state_dict().items()})
        self._write()

    def restore(
        self,
        curve: nn.Module,
        best: dict[str, Tensor],
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> tuple[int, float, int]:
        """Load everything into its place; return (step, least held-out loss, checks waited)."""
        if "step" not in self._config:
            return 0, float("inf"), 0
        curve.load_state_dict(_within(self._tensors, "curve."))
        best.update(_within(self._tensors, "best."))
        state = optimiser.state_dict()
        kept = _within(self._tensors, "adam.")
        state["state"] = {
            i: {name: kept[f"{i}.{name}"] for name in ("step", "exp_avg", "exp_avg_sq")}
            for i in range(len(state["param_groups"][0]["params"]))
        }
        optimiser.load_state_dict(state)
        generator.set_state(self._tensors["generator"])
        config = self._config
        return int(config["step"]), float(config["least"]), int(config["waited"])

    def keep(
        self,
        curve: nn.Module,
        best: dict[str, Tensor],
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
        *,
        step: int,
        least: float,
        waited: int,
    ) -> None:
        """Write everything."""
        if self._path is None:
            return
        self._tensors.update({f"curve.{k}": v for k, v in curve.state_dict().items()})
        self._tensors.update({f"best.{k}": v for k, v in best.items()})
        for i, state in optimiser.state_dict()["state"].items():
            self._tensors.update({f"adam.{i}.{k}": v for k, v in state.items()})
        self._tensors["generator"] = generator.get_state()
        self._config.update(step=step, least=least, waited=waited)
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            self._config["settings"] = self._settings
            save_weights(self._path, self._tensors, self._config)


def _within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
