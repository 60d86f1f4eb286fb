"""Many rates from one model: gains of the latents, per task and quality.

Before rounding, latent channel c is multiplied by a gain: the more, the finer. Every task that a
layer serves has gains of its own at each of `QUALITIES` qualities (trained at a few anchors, in
between interpolated in the logarithm); a channel takes the largest gain that any wanted task asks
for. A task that is not wanted asks for nothing, so that channels which only it needs fall silent.

Log-gains are counted in the levels of the prior's tables, since a gain of exp(LOG_STEP) moves a
latent's scale by just one level: what the encoder multiplies by, the decoder adds to the table
index, in integers.

Source: gain vectors of variable-rate codecs are common (Cui et al., "Asymmetric Gained Deep Image
Compression With Continuous Rate Adaptation", CVPR 2021); the largest gain over tasks is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.codec.prior.base import LOG_STEP
from foveal.codec.prior.integers import FRACTION
from foveal.errors import ArgumentError

QUALITIES = 64
ANCHORS = 6
OFF = -1
SILENT = -(1 << 14)  # log-gain of a task that is not wanted, in levels


class Gains(nn.Module):
    """Trainable log-gains of one layer.

    Args:
        tasks: Number of tasks that the layer serves.
        channels: Latent channels.
        lowest, highest: Gains at both ends to start from.
    """

    def __init__(
        self, tasks: int, channels: int, *, lowest: float = 0.25, highest: float = 4.0
    ) -> None:
        super().__init__()
        start = torch.linspace(0, 1, ANCHORS) * np.log(highest / lowest) + np.log(lowest)
        self.log_gain = nn.Parameter(start[None, :, None].repeat(tasks, 1, channels))

    def forward(self, quality: Float[Tensor, "b t"]) -> Float[Tensor, "b n"]:
        """Return log-gains in levels for qualities in 0 .. QUALITIES - 1, or `OFF`."""
        position = quality.clamp_min(0) * ((ANCHORS - 1) / (QUALITIES - 1))
        low = position.floor().clamp(0, ANCHORS - 2).long()
        part = (position - low)[..., None]
        tasks = torch.arange(quality.shape[1], device=quality.device)[None]
        table = self.log_gain / LOG_STEP
        gains = table[tasks, low] * (1 - part) + table[tasks, low + 1] * part
        gains = torch.where(quality[..., None] < 0, torch.full_like(gains, SILENT), gains)
        return gains.amax(dim=1)

    @torch.no_grad()
    def export(self) -> NDArray[np.int16]:
        """Return log-gains in fixed point, int16 [tasks, QUALITIES, channels]."""
        tasks = self.log_gain.shape[0]
        rows: list[Tensor] = []
        double = nn.Parameter(self.log_gain.detach().double().cpu())
        twin = Gains(tasks, self.log_gain.shape[2])
        twin.log_gain = double
        for task in range(tasks):
            quality = torch.full((QUALITIES, tasks), float(OFF), dtype=torch.float64)
            quality[:, task] = torch.arange(QUALITIES, dtype=torch.float64)
            rows.append(twin(quality))
        limit = (1 << 15) - 1
        fixed = torch.round(torch.stack(rows) * (1 << FRACTION)).clamp(-limit, limit)
        return fixed.numpy().astype(np.int16)


def log_gains(table: NDArray[np.int16], qualities: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the fixed-point log-gain of every channel, int64 [images, channels].

    Args:
        table: What `Gains.export` returned.
        qualities: int64 [images, tasks]; `OFF` for a task that is not wanted.
    """
    tasks = np.arange(table.shape[0])[None]
    chosen = table[tasks, np.maximum(qualities, 0)].astype(np.int64)
    silent = np.int64(SILENT << FRACTION)
    return np.where(qualities[..., None] < 0, silent, chosen).max(axis=1)


def gains(log_gain: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the factors that belong to fixed-point log-gains; 1 where a channel is silent."""
    silent = log_gain <= SILENT << FRACTION
    return np.exp(np.where(silent, 0, log_gain) * (LOG_STEP / (1 << FRACTION)))


@dataclass(frozen=True, slots=True)
class Wish:
    """Which tasks are wanted of each layer, and how well.

    Args:
        qualities: One integer per (layer, task) of the model, in order; `OFF` if not wanted.
    """

    qualities: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the range."""
        if not self.qualities or not all(OFF <= q < QUALITIES for q in self.qualities):
            raise ArgumentError(
                f"encode: quality is {self.qualities}, must be within 0..{QUALITIES - 1} "
                f"(or {OFF} where a task is not wanted); clip it"
            )

    @classmethod
    def of(cls, asked: Sequence[Sequence[str]], quality: int | Mapping[str, int]) -> "Wish":
        """Return the wish of some tasks; each pair gets the highest quality that one asks for.

        Args:
            asked: Of each pair the tasks that ask for it; none if it is off.
            quality: 0 to QUALITIES - 1, one for all tasks or one each.

        Raises:
            ArgumentError: a quality is out of range, or `quality` leaves a wanted task out.
        """
        tasks = sorted({task for tasks in asked for task in tasks})
        if isinstance(quality, Mapping):
            missing = [task for task in tasks if task not in quality]
            if missing:
                raise ArgumentError(
                    f"encode: quality has no entry for {missing}, must have one for every wanted "
                    "task; add it or give one number for all"
                )
            each = {task: _quality(task, quality[task]) for task in tasks}
        else:
            each = dict.fromkeys(tasks, _quality("", quality))
        return cls(tuple(max((each[task] for task in tasks), default=OFF) for tasks in asked))


MASKED_FROM = 3
"""Pairs from which on a mask is shorter than a byte for each."""


def masked_width(pairs: int) -> int | None:
    """Return the bytes of a quality and a mask of the pairs that have it; None for few pairs."""
    return 1 + -(-pairs // 8) if pairs >= MASKED_FROM else None


def control_bytes(wishes: Sequence[Wish], sent: Sequence[bool]) -> list[bytes]:
    """Return the quality bytes of images, of one width, the shortest that serves them all.

    0 is off or not sent, q + 1 otherwise. One byte stands for all pairs; one byte and a mask,
    least bits first, for those whose bit is set; else each pair has its own.

    Args:
        wishes: Of each image.
        sent: Of each pair, whether its layer is in the file.
    """
    width = masked_width(len(sent))
    rows = [
        [q + 1 if there else 0 for q, there in zip(wish.qualities, sent, strict=True)]
        for wish in wishes
    ]
    kept = [{v for v, there in zip(row, sent, strict=True) if there} for row in rows]
    if all(len(values) <= 1 for values in kept):
        return [bytes(values or {0}) for values in kept]
    if width is not None and all(len(set(row) - {0}) <= 1 for row in rows):
        masks = [sum(1 << i for i, value in enumerate(row) if value) for row in rows]
        return [
            bytes([max(row)]) + mask.to_bytes(width - 1, "little")
            for row, mask in zip(rows, masks, strict=True)
        ]
    return [bytes(row) for row in rows]


def read_controls(rows: Sequence[bytes], pairs: int) -> NDArray[np.int64] | None:
    """Undo `control_bytes`: qualities [images, pairs], `OFF` for 0, or None if it cannot be.

    A quality that is too high is not looked for.

    Args:
        rows: Quality bytes of images, all as many.
        pairs: (layer, task) pairs of the model.
    """
    values = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)
    if values.shape[1] in (1, pairs):
        return np.broadcast_to(values.astype(np.int64) - 1, (len(rows), pairs))
    if values.shape[1] != masked_width(pairs):
        return None
    bits = np.unpackbits(values[:, 1:], axis=1, bitorder="little")
    if bits[:, pairs:].any():
        return None
    return np.where(bits[:, :pairs] > 0, values[:, :1], 0).astype(np.int64) - 1


def _quality(task: str, value: Any) -> int:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not 0 <= int(value) < QUALITIES:
        raise ArgumentError(
            f"encode: quality{f' of {task}' if task else ''} is {value!r}, must be an integer in "
            f"0..{QUALITIES - 1}; clip it, or leave the task out of tasks"
        )
    return int(value)
