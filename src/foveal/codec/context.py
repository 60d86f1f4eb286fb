"""Coding a layer given other layers that are decoded already, in integers.

Two small convolutions read the decoded latents of the parents and give, for every latent of the
child, a correction of its level and a center: what is coded is the latent minus the rounded center.
A parent that is not there counts as zero, and one input plane per parent says whether it is. Values
are integers all the way: latents are divided by their gains with stored reciprocals.

Source: the idea of coding groups of tasks conditionally along a graph is that of TAMC (ICLR 2025);
this network, its integers and the choice of the order per image are ours.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.codec.prior.base import LEVEL_GAIN, clip_inward, round_straight_through
from foveal.codec.prior.integers import (
    FRACTION,
    convolve,
    doubles,
    fixed,
    fraction_bits,
    kernel_taps,
    round_shift,
)
from foveal.errors import ArgumentError

VALUE_BITS = 6
VALUE_LIMIT = 4095
HIDDEN_BITS = 8
HIDDEN_LIMIT = 4095
GAIN_BITS = 10
RECIPROCAL_BITS = 16
WEIGHT_BITS = 15
CHUNK = 1 << 18
"""Most input values in memory at a time, where one image does not have more."""
_SCALE = 1 << VALUE_BITS

Ints = NDArray[np.int64]


class Context(nn.Module):
    """The float twin of `IntegerContext`.

    Args:
        parents: Latent channels of each parent.
        channels: Latent channels of the child.
        hidden: Channels in between.
    """

    def __init__(self, parents: tuple[int, ...], channels: int, hidden: int) -> None:
        super().__init__()
        self.parents = parents
        self.first = nn.Conv2d(sum(parents) + len(parents), hidden, 3, padding=1)
        self.last = nn.Conv2d(hidden, 2 * channels, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(
        self, values: list[Tensor], there: Float[Tensor, "b p"]
    ) -> tuple[Float[Tensor, "b n h w"], Float[Tensor, "b n h w"]]:
        """Return corrections of the levels, and centers before the child's gain.

        Args:
            values: Decoded latents of each parent, divided by their gains.
            there: 1 for each parent that is decoded already, else 0.
        """
        planes: list[Tensor] = []
        for i, value in enumerate(values):
            steps = clip_inward(value * _SCALE, -VALUE_LIMIT, VALUE_LIMIT)
            planes.append(round_straight_through(steps) / _SCALE * there[:, i, None, None, None])
        size = values[0].shape[2:]
        planes.append(there[:, :, None, None].expand(-1, -1, *size))
        step = float(1 << HIDDEN_BITS)
        hidden = torch.relu(self.first(torch.cat(planes, dim=1))) * step
        hidden = round_straight_through(clip_inward(hidden, 0.0, HIDDEN_LIMIT)) / step
        levels, centers = self.last(hidden).chunk(2, dim=1)
        return LEVEL_GAIN * levels, centers

    @torch.no_grad()
    def export(self) -> "IntegerContext":
        """Build the integers from the present weights."""
        arrays: dict[str, NDArray[Any]] = {}
        shifts: list[int] = []
        first, last = doubles(self.first.weight), doubles(self.last.weight)
        biases = [doubles(self.first.bias), doubles(self.last.bias)]  # type: ignore[arg-type]
        half = len(biases[1]) // 2
        last[:half] *= LEVEL_GAIN
        biases[1][:half] *= LEVEL_GAIN
        for i, (weight, inputs) in enumerate(((first, VALUE_BITS), (last, HIDDEN_BITS))):
            bits = fraction_bits(weight, (1 << 15) - 1, WEIGHT_BITS, HIDDEN_BITS)
            bits = fraction_bits(biases[i] * 2.0**inputs, (1 << 31) - 1, bits, HIDDEN_BITS)
            arrays[f"weight{i}"] = fixed(weight, bits, "int16")
            arrays[f"bias{i}"] = fixed(biases[i], bits + inputs, "int32")
            shifts.append(bits)
        arrays["shifts"] = np.array(shifts, dtype=np.int32)
        return IntegerContext(self.parents, arrays)


class IntegerContext:
    """The context network in integers.

    Sums run in fp64, where they are exact: construction proves from the weights that none can reach
    2**53.

    Args:
        parents: Latent channels of each parent.
        arrays: `weight0` int16 [hidden, inputs, 3, 3], `bias0` int32 [hidden], `weight1` int16
            [2 n, hidden, 1, 1], `bias1` int32 [2 n], `shifts` int32 [2].

    Raises:
        ArgumentError: an array is missing or does not fit.
    """

    def __init__(self, parents: tuple[int, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.parents, self.arrays = parents, dict(arrays)
        inputs = self.inputs
        try:
            w0, b0 = self.arrays["weight0"], self.arrays["bias0"]
            w1, b1 = self.arrays["weight1"], self.arrays["bias1"]
            shifts = self.arrays["shifts"]
        except KeyError as error:
            raise ArgumentError(
                f"IntegerContext: {error.args[0]} is missing, must be there; export the model again"
            ) from error
        hidden, outputs = b0.size, b1.size
        good = b0.ndim == b1.ndim == 1 and hidden > 0
        good = good and w0.shape == (hidden, inputs, 3, 3) and w1.shape == (outputs, hidden, 1, 1)
        good = good and w0.dtype == w1.dtype == np.int16 and b0.dtype == b1.dtype == np.int32
        good = good and shifts.dtype == np.int32 and shifts.shape == (2,)
        good = good and outputs % 2 == 0 and outputs > 0
        if not good or not all(HIDDEN_BITS <= s <= WEIGHT_BITS for s in shifts.tolist()):
            raise ArgumentError(
                f"IntegerContext: arrays have shapes {w0.shape}, {b0.shape}, {w1.shape}, "
                f"{b1.shape}, {shifts.shape}, must be of {inputs} inputs and an even number of "
                "outputs; export the model again"
            )
        self._taps = kernel_taps(w0)
        self._last = w1.reshape(outputs, -1).astype(np.float64)
        self._biases = [b0.astype(np.int64)[:, None, None], b1.astype(np.int64)[:, None]]
        self._shifts = [int(s) for s in shifts]
        for weight, limit in ((w0, VALUE_LIMIT), (w1, HIDDEN_LIMIT)):
            sums = np.abs(weight.reshape(len(weight), -1).astype(np.int64)).sum(axis=1)
            if int(sums.max()) * limit >= 1 << 52:
                raise ArgumentError(
                    "IntegerContext: weights can sum to 2**52, must stay below; export again"
                )

    def __call__(self, values: list[Ints | None], shape: tuple[int, int]) -> tuple[Ints, Ints]:
        """Return corrections in fixed-point levels and centers in 1/64, int64 [b, n, h, w] each.

        Args:
            values: Of each parent what `to_values` gives, None if it is not there; at least one is.
            shape: Rows and columns.
        """
        images = next(len(v) for v in values if v is not None)
        some = max(1, CHUNK // (self.inputs * shape[0] * shape[1]))
        parts = [
            self._run([None if v is None else v[i : i + some] for v in values], shape)
            for i in range(0, images, some)
        ]
        levels, centers = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return levels, centers

    def _run(self, values: list[Ints | None], shape: tuple[int, int]) -> tuple[Ints, Ints]:
        images = next(len(v) for v in values if v is not None)
        x = np.zeros((images, self.inputs, *shape), dtype=np.int64)
        start = 0
        for i, (value, channels) in enumerate(zip(values, self.parents, strict=True)):
            if value is not None:
                x[:, start : start + channels] = value
                x[:, sum(self.parents) + i] = _SCALE
            start += channels
        sums = convolve(x, self._taps) + self._biases[0]
        hidden = round_shift(sums, self._shifts[0] + VALUE_BITS - HIDDEN_BITS)
        hidden = np.clip(hidden, 0, HIDDEN_LIMIT).reshape(images, len(self._taps[0, 0]), -1)
        sums = (self._last @ hidden.astype(np.float64)).astype(np.int64) + self._biases[1]
        half = sums.shape[1] // 2
        full = self._shifts[1] + HIDDEN_BITS
        levels = round_shift(sums[:, :half], full - FRACTION)
        centers = round_shift(sums[:, half:], full - VALUE_BITS)
        centers = np.clip(centers, -VALUE_LIMIT, VALUE_LIMIT)
        size = (images, half, *shape)
        return levels.reshape(size), centers.reshape(size)

    @property
    def outputs(self) -> int:
        """Latent channels of the child."""
        return self.arrays["bias1"].size // 2

    @property
    def inputs(self) -> int:
        """Planes that the first convolution reads."""
        return sum(self.parents) + len(self.parents)


def to_values(y: Ints, reciprocal: Ints) -> Ints:
    """Return latents divided by their gains, in 1/64, clipped.

    Args:
        y: int64 [b, n, h, w].
        reciprocal: 1 / gain with 16 fractional bits, int64 [b, n].
    """
    values = round_shift(y * reciprocal[:, :, None, None], RECIPROCAL_BITS - VALUE_BITS)
    return np.clip(values, -VALUE_LIMIT, VALUE_LIMIT)


def to_centers(centers: Ints, gain: Ints) -> Ints:
    """Return integer centers of latents from centers in 1/64 and gains with 10 fractional bits."""
    return round_shift(centers * gain[:, :, None, None], VALUE_BITS + GAIN_BITS)


def gain_tables(log_gains: NDArray[np.int16], log_step: float) -> tuple[Ints, Ints]:
    """Return gains (10 fractional bits) and reciprocals (16) of fixed-point log-gains, to store."""
    real = log_gains.astype(np.float64) * (log_step / (1 << FRACTION))
    top = float((1 << 31) - 1)
    gain = np.rint(np.minimum(np.exp(real) * (1 << GAIN_BITS), top))
    reciprocal = np.rint(np.minimum(np.exp(-real) * (1 << RECIPROCAL_BITS), top))
    return gain.astype(np.int64), reciprocal.astype(np.int64)
