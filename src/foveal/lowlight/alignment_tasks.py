"""What the curve learns by: the ensemble's trusted answers, or a puzzle on daylight features."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveal.errors import ArgumentError
from foveal.lowlight.alignment_state import AlignmentStep, Checkpoint, Schedule
from foveal.lowlight.concave_curve import ConcaveCurve
from foveal.lowlight.ensemble import Activation, PseudoLabels, pseudo_labels, pseudo_loss
from foveal.lowlight.frozen import Taps, choose_layers
from foveal.lowlight.pictures import Source
from foveal.lowlight.pretext import JigsawHead, far_permutations, shuffle

PUZZLE = 255 / 192
"""Side of a cut over that of the puzzle made of it."""
_LABELS_BYTES = 512 << 20
_LABELS_FRACTION = 8
"""On a GPU, answers may take one part in so many of its memory."""
_LEARNED = 0.98
"""A head has learned something when its loss is below this part of that of guessing."""


def brighten(
    curve: ConcaveCurve, pictures: Float[Tensor, "b *frames 3 height width"]
) -> Float[Tensor, "b *frames 3 height width"]:
    """Apply a curve to each picture, or one to each clip."""
    if pictures.ndim == 4:
        return curve(pictures)
    stacked = pictures.transpose(1, 2).flatten(2, 3)  # frames below each other, as released
    return curve(stacked).unflatten(2, pictures.shape[1:2] + pictures.shape[3:4]).transpose(1, 2)


@dataclass(frozen=True)
class Setup:
    """The model and how pictures come into it."""

    model: nn.Module
    size: int
    preprocess: Callable[[Tensor], Tensor]
    device: str

    def run(self, pictures: Tensor) -> Any:
        """Return the model's output."""
        x = pictures.transpose(1, 2) if pictures.ndim == 5 else pictures
        return self.model(self.preprocess(x))


class EnsembleTask:
    """The curve learns the trusted answers of the curve ensemble."""

    def __init__(
        self,
        setup: Setup,
        night: Source,
        answer: Callable[[Any], Tensor],
        activation: Activation,
        confidence: float,
        sharpen: float,
    ) -> None:
        self.setup, self.source, self._answer = setup, night, answer
        self.confidence, self.activation = confidence, activation
        self.pictures: list[int] = []
        self._ask = functools.partial(
            pseudo_labels, confidence=confidence, activation=activation, sharpen=sharpen
        )
        self._labels: dict[int, PseudoLabels] = {}
        self._bytes = 0
        self._most_bytes = _LABELS_BYTES
        if setup.device.startswith("cuda"):
            memory = torch.cuda.get_device_properties(setup.device).total_memory
            self._most_bytes = max(_LABELS_BYTES, memory // _LABELS_FRACTION)

    def recognise(self, pictures: Tensor) -> Tensor:
        """Return the model's logits.

        Raises:
            ArgumentError: they are no logits of these pictures, or softmax of one class.
        """
        logits = self._answer(self.setup.run(pictures))
        if logits.ndim < 2 or len(logits) != len(pictures):
            raise ArgumentError(
                f"align: the model's answer to {len(pictures)} pictures has shape "
                f"{tuple(logits.shape)}, must be (b, classes, *positions); pass answer="
            )
        if logits.shape[1] < 2 and self.activation == "softmax":
            raise ArgumentError(
                f"align: activation is 'softmax' and the answer has {logits.shape[1]} class, of "
                "which it is always sure; pass activation='sigmoid'"
            )
        return logits

    def ask(self, batch_size: int, on_step: Callable[[AlignmentStep], None] | None) -> None:
        """Ask the model about every picture once, and keep those with an answer to learn from.

        Raises:
            ArgumentError: there is none.
        """
        every, trusted = list(range(len(self.source))), []
        for at in range(0, len(every), batch_size):
            indices = every[at : at + batch_size]
            keep = self._labels_of(self._cuts(indices), indices).keep
            some = keep.reshape(len(indices), -1).any(1).tolist()
            trusted += [i for i, yes in zip(indices, some, strict=True) if yes]
            if on_step is not None:
                share = len(trusted) / (at + len(indices))
                step = at + len(indices)
                on_step(AlignmentStep("labels", step, len(every), math.nan, right=share))
        if not trusted:
            raise ArgumentError(
                f"align: confidence is {self.confidence}, which the ensemble's answer reached for "
                f"none of {len(every)} pictures, must be lower; or these pictures are too dark or "
                "too noisy for this model under any curve"
            )
        self.pictures = trusted

    def loss(
        self, curve: ConcaveCurve, indices: list[int], generator: torch.Generator
    ) -> tuple[Tensor, float | None]:
        """Return the loss on some pictures."""
        dark = self._cuts(indices)
        labels = self._labels_of(dark, indices)
        return pseudo_loss(self.recognise(brighten(curve, dark)), labels), None

    def _cuts(self, indices: list[int]) -> Tensor:
        # Each picture has one cut, so that it is asked about once.
        cuts = [torch.Generator().manual_seed(i) for i in indices]
        pairs = zip(indices, cuts, strict=True)
        return torch.cat(
            [self.source.batch([i], self.setup.size, g, self.setup.device) for i, g in pairs]
        )

    def _labels_of(self, dark: Tensor, indices: list[int]) -> PseudoLabels:
        new = [i for i in dict.fromkeys(indices) if i not in self._labels]
        fresh: dict[int, PseudoLabels] = {}
        if new:
            found = self._ask(self.recognise, dark[[indices.index(i) for i in new]])
            for row, i in enumerate(new):
                half = found.probabilities[row : row + 1].half()
                fresh[i] = PseudoLabels(half, found.keep[row : row + 1], found.activation)
                size = half.numel() * 2 + found.keep[row].numel()
                if self._bytes + size <= self._most_bytes:
                    self._labels[i] = fresh[i]
                    self._bytes += size
        parts = [self._labels.get(i) or fresh[i] for i in indices]
        probabilities = torch.cat([x.probabilities for x in parts]).float()
        return PseudoLabels(probabilities, torch.cat([x.keep for x in parts]), parts[0].activation)


class PretextTask:
    """The curve learns to make turned and shuffled dark cells readable to a head that knows day."""

    def __init__(
        self, setup: Setup, night: Source, day: Source, layers: Sequence[str] | None, seed: int
    ) -> None:
        self.setup, self.source, self._day = setup, night, day
        self.pictures = list(range(len(night)))
        self._side = round(setup.size * PUZZLE)
        self._orders = far_permutations()
        probe = day.batch([0], setup.size, None, setup.device)
        names = layers or choose_layers(setup.model, lambda: setup.run(probe))
        self._taps = Taps(setup.model, names)
        with torch.no_grad():
            channels = [x.shape[1] for x in self._features(probe)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = JigsawHead(channels).to(setup.device)

    def _features(self, pictures: Tensor) -> list[Tensor]:
        with self._taps.open() as found:
            self.setup.run(pictures)
        missing = [name for name in self._taps.names if name not in found]
        if missing:
            raise ArgumentError(
                f"align: layers has {missing}, which did not run, must run in each pass; "
                "name others"
            )
        return [found[name] for name in self._taps.names]

    def _puzzle(
        self, source: Source, indices: list[int], generator: torch.Generator, jitter: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        cuts = source.batch(indices, self._side, generator, self.setup.device)
        label = torch.randint(len(self._orders), (len(indices),), generator=generator)
        turns = torch.randint(4, (len(indices), 9), generator=generator)
        puzzle = shuffle(cuts, self._orders[label], turns, generator, jitter=jitter)
        frames = puzzle if puzzle.ndim == 4 else puzzle.flatten(0, 1)
        size = (self.setup.size, self.setup.size)
        if frames.shape[-2:] != size:
            frames = torch.nn.functional.interpolate(frames, size, mode="bilinear")
        puzzle = frames.view(*puzzle.shape[:-2], *size)
        return puzzle, label.to(self.setup.device), turns.to(self.setup.device)

    def learn_head(
        self,
        schedule: Schedule,
        num_steps: int,
        saved: Checkpoint,
        on_step: Callable[[AlignmentStep], None] | None,
    ) -> None:
        """Train the head on daylight pictures, once."""
        if saved.restore_head(self.head):
            self.head.eval().requires_grad_(False)
            return
        train, kept = schedule.split(range(len(self._day)))
        generator = torch.Generator().manual_seed(schedule.seed)
        optimiser = torch.optim.Adam(self.head.parameters(), lr=schedule.learning_rate)
        right = held = 0.0
        for step in range(1, num_steps + 1):
            indices = schedule.pick(train, generator)
            puzzle, label, turns = self._puzzle(self._day, indices, generator, jitter=0.2)
            with torch.no_grad():
                levels = self._features(puzzle)
            loss, _ = self.head.loss(levels, label, turns)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            measured = None
            if step == num_steps:
                held, right = self._judge_head(kept)
                measured = held
            if on_step is not None:
                on_step(
                    AlignmentStep("head", step, num_steps, loss.item(), measured, right or None)
                )
        chance = len(self._taps.names) * (math.log(len(self._orders)) + math.log(4))
        if not held < _LEARNED * chance:
            raise ArgumentError(
                f"align: head_steps is {num_steps}, after which the head's loss on held-out "
                f"daylight puzzles is {held:.2f} (chance {chance:.2f}), must be enough for "
                f"{_LEARNED * chance:.2f}; give more steps, other layers, or more daylight pictures"
            )
        self.head.eval().requires_grad_(False)
        saved.keep_head(self.head)

    @torch.no_grad()
    def _judge_head(self, kept: list[int]) -> tuple[float, float]:
        generator = torch.Generator().manual_seed(1)
        losses: list[float] = []
        rights: list[float] = []
        for _ in range(4):
            puzzle, label, turns = self._puzzle(self._day, kept[:32], generator, jitter=0.0)
            loss, right = self.head.loss(self._features(puzzle), label, turns)
            losses.append(loss.item())
            rights.append(right)
        return sum(losses) / len(losses), sum(rights) / len(rights)

    def loss(
        self, curve: ConcaveCurve, indices: list[int], generator: torch.Generator
    ) -> tuple[Tensor, float]:
        """Return the loss on puzzles of some pictures, and the share that the head solves."""
        puzzle, label, turns = self._puzzle(self.source, indices, generator, jitter=0.0)
        return self.head.loss(self._features(brighten(curve, puzzle)), label, turns)
