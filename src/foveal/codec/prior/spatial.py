"""Spatial hyperprior, with a hyper-synthesis in integers: what the codebooks compete with.

A hyper-analysis gives a small map z of integers, and three 3x3 convolutions with nearest-neighbor
upsampling between them turn it into levels. Activations are 12-bit integers with 8 fractional bits
(ReLU, clipped), weights int16 with a power-of-two scale per layer, so that decoding is exact on
every device; the float twin clips and rounds activations alike.

Source: Balle et al., "Variational image compression with a scale hyperprior", ICLR 2018,
arXiv:1802.01436; Balle et al., "Integer networks for data compression with latent-variable models",
ICLR 2019. Differs: Laplace scales from a table, log(1 + |y|) into the hyper-analysis, nearest
upsampling instead of transposed convolutions, scales of weights fixed after training.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.codec.prior.base import (
    LEVEL_GAIN,
    WORD_GAIN,
    PriorOut,
    clip_inward,
    round_straight_through,
)
from foveal.codec.prior.config import PriorConfig
from foveal.codec.prior.hyper import HyperAnalysis, HyperPrior, SideIntegers, effective_number
from foveal.codec.prior.integers import (
    FRACTION,
    SIDE_LIMIT,
    IntegerPrior,
    Layout,
    convolve,
    doubles,
    fixed,
    fraction_bits,
    kernel_taps,
    round_shift,
)

ACTIVATION_BITS = 8
ACTIVATION_LIMIT = 4095
IN_BITS = (0, ACTIVATION_BITS, ACTIVATION_BITS)
OUT_BITS = (ACTIVATION_BITS, ACTIVATION_BITS, FRACTION)
LEAST_BITS = (ACTIVATION_BITS, 0, 0)
MOST_BITS = 15
LAYERS = 3
CHUNK = 1 << 18
"""Most values in memory at a time, where one image does not have more."""


def sizes(config: PriorConfig, height: int, width: int) -> list[tuple[int, int]]:
    """Return the size at which each of the three convolutions of the synthesis runs."""
    coarse = config.grid(height, width)
    middle = (-(-height // 2), -(-width // 2)) if config.stride == 4 else coarse
    return [coarse, middle, (height, width)]


class SpatialPrior(HyperPrior):
    """The float twin of `IntegerSpatial`.

    Args:
        config: Kind "spatial" and its sizes.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        c = config
        self.analysis = HyperAnalysis(c.channels, c.hidden, c.stride)
        self.to_side = nn.Conv2d(c.hidden, c.side, 1)
        self.side = SideIntegers(c.side)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(c.side, c.hidden, 3, padding=1),
                nn.Conv2d(c.hidden, c.hidden, 3, padding=1),
                nn.Conv2d(c.hidden, c.channels, 3, padding=1, bias=False),
            ]
        )
        with torch.no_grad():
            for weight in self.convs[-1].parameters():
                weight.mul_(LEVEL_GAIN / WORD_GAIN)

    def synthesise(
        self, side: Float[Tensor, "b d u v"], height: int, width: int
    ) -> Float[Tensor, "b n h w"]:
        """Return the levels of a side map."""
        x, step = side, float(1 << ACTIVATION_BITS)
        for i, (rows, columns) in enumerate(sizes(self.config, height, width)):
            if x.shape[2:] != (rows, columns):
                x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
                x = x[:, :, :rows, :columns]
            x = self.convs[i](x)
            if i < LAYERS - 1:
                x = clip_inward(torch.relu(x) * step, 0.0, ACTIVATION_LIMIT)
                x = round_straight_through(x) / step
        return self.level_map + WORD_GAIN * x

    def forward(
        self,
        latent: Float[Tensor, "b n h w"],
        gained: Float[Tensor, "b n h w"],
        extra: Tensor,
        *,
        hard: bool,
    ) -> PriorOut:
        """Give levels and side symbols; `gained` and `extra` play no part."""
        del gained, extra
        self.check_size(latent)
        side, bits = self.side(self.to_side(self.analysis(latent)), hard)
        levels = self.synthesise(side, latent.shape[2], latent.shape[3])
        return PriorOut(levels, bits, side.flatten(1))

    @torch.no_grad()
    def perplexity(self, side: Tensor) -> float:
        """Return the effective number of side channels, by their variance."""
        maps = side.view(len(side), self.config.side, -1)
        return effective_number(maps.var(dim=(0, 2), correction=0))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        out: dict[str, NDArray[Any]] = {}
        shifts: list[int] = []
        for i in range(LAYERS):
            last = i == LAYERS - 1
            parameters = dict(self.convs[i].named_parameters())
            weight = doubles(parameters["weight"]) * (WORD_GAIN if last else 1.0)
            bias = LEVEL_GAIN * doubles(self.base) if last else doubles(parameters["bias"])
            bits = fraction_bits(weight, (1 << 15) - 1, MOST_BITS, LEAST_BITS[i])
            room = (1 << 31) - 1
            bits = fraction_bits(bias * 2.0 ** IN_BITS[i], room, bits, LEAST_BITS[i])
            out[f"weight{i}"] = fixed(weight, bits, "int16")
            out[f"bias{i}"] = fixed(bias, bits + IN_BITS[i], "int32")
            shifts.append(bits)
        return out | {"shifts": np.array(shifts, dtype=np.int32)}


class IntegerSpatial(IntegerPrior):
    """The hyper-synthesis in integers.

    Sums run in fp64, where they are exact: construction proves from the weights at hand that no
    partial sum of integers can reach 2**53, so that neither order nor fused operations matter.

    Arrays, for i = 0, 1, 2: `weight{i}` [out, in, 3, 3] with `shifts[i]` fractional bits, and
    `bias{i}` [out] with those of the weights and of the layer's input together.
    """

    @classmethod
    def layout(cls, config: PriorConfig) -> Layout:
        """Return dtype and shape of every array."""
        widths = (config.side, config.hidden, config.hidden, config.channels)
        out: Layout = {"shifts": ("int32", (LAYERS,))}
        for i in range(LAYERS):
            out[f"weight{i}"] = ("int16", (widths[i + 1], widths[i], 3, 3))
            out[f"bias{i}"] = ("int32", (widths[i + 1],))
        return out

    def _prepare(self) -> None:
        self._weights: list[NDArray[np.float64]] = []
        self._biases: list[NDArray[np.int64]] = []
        self._shifts: list[int] = []
        for i in range(LAYERS):
            bits = self._shift(i, LEAST_BITS[i], MOST_BITS)
            weight = self.arrays[f"weight{i}"].reshape(len(self.arrays[f"weight{i}"]), -1)
            bias = self.arrays[f"bias{i}"].astype(np.int64)
            limit = ACTIVATION_LIMIT if i else SIDE_LIMIT
            reach = limit * np.abs(weight.astype(np.int64)).sum(axis=1) + np.abs(bias)
            self._below(f"weight{i}", int(reach.max()) + (1 << MOST_BITS), 1 << 53)
            self._weights.append(kernel_taps(self.arrays[f"weight{i}"]))
            self._biases.append(bias[:, None, None])
            self._shifts.append(bits + IN_BITS[i] - OUT_BITS[i])

    def _levels(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        values = self.config.widest * height * width
        some = max(1, CHUNK // values)
        out = np.zeros((len(side), self.config.channels, height, width), dtype=np.int64)
        for i in range(0, len(side), some):
            out[i : i + some] = self._run(side[i : i + some], height, width)
        return out

    def _run(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        steps = sizes(self.config, height, width)
        images = len(side)
        x = side.reshape(images, self.config.side, *steps[0])
        for i, (rows, columns) in enumerate(steps):
            if x.shape[2:] != (rows, columns):
                x = x.repeat(2, axis=2).repeat(2, axis=3)[:, :, :rows, :columns]
            x = round_shift(convolve(x, self._weights[i]) + self._biases[i], self._shifts[i])
            if i < LAYERS - 1:
                x = np.clip(x, 0, ACTIVATION_LIMIT)
        return x
