"""Codebook prior with mixing per position (variant V-B).

A small map z, upsampled bilinearly with integer weights, mixes K learned channel profiles at every
position:

    a(u, v) = A up(z)(u, v) + b, rounded to int8 in steps of 1/32;
    level(u, v) = base + sum_k a_k(u, v) c_k.

It takes latents of any height and width.

Source: as for `codebook_global`; this variant is ours.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from foveal.codec.entropy.tables import FrequencyTables
from foveal.codec.prior.base import WORD_GAIN, Prior, PriorOut
from foveal.codec.prior.config import PriorConfig
from foveal.codec.prior.hyper import (
    HyperAnalysis,
    SideIntegers,
    codebook_arrays,
    coefficients,
    effective_number,
    mix_arrays,
)
from foveal.codec.prior.integers import (
    COEFFICIENT_BITS,
    COEFFICIENT_LIMIT,
    FRACTION,
    SIDE_LIMIT,
    IntegerPrior,
    Layout,
    round_shift,
    top,
)


class CodebookLocalPrior(Prior):
    """The float twin of `IntegerCodebookLocal`.

    Args:
        config: Kind "codebook-local" and its sizes.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        c = config
        self.analysis = HyperAnalysis(c.channels, c.hidden, c.stride)
        self.to_side = nn.Conv2d(c.hidden, c.side, 1)
        self.side = SideIntegers(c.side)
        self.mix = nn.Linear(c.side, c.codewords)
        self.codebook = nn.Parameter(0.0125 * torch.randn(c.codewords, c.channels))

    def coefficients(
        self, side: Float[Tensor, "b d u v"], height: int, width: int
    ) -> Float[Tensor, "b k h w"]:
        """Return the mixing coefficients of a side map at every position."""
        mixed = torch.einsum("bduv,kd->bkuv", side, self.mix.weight)
        wide = functional.interpolate(mixed, scale_factor=self.config.stride, mode="bilinear")
        return coefficients(wide[:, :, :height, :width] + self.mix.bias[:, None, None])

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
        weights = self.coefficients(side, latent.shape[2], latent.shape[3])
        mixed = torch.einsum("bkhw,kn->bnhw", weights, self.codebook)
        return PriorOut(self.level_map + WORD_GAIN * mixed, bits, side.flatten(1))

    def start_tables(self) -> FrequencyTables:
        """Return the Laplace tables of the channels of the side map."""
        return self.side.tables()

    @torch.no_grad()
    def perplexity(self, side: Tensor) -> float:
        """Return the effective number of profiles, by the variance of levels that each causes."""
        c = self.config
        maps = side.view(len(side), c.side, *c.grid(c.height, c.width))
        weights = self.coefficients(maps, c.height, c.width)
        spread = weights.var(dim=(0, 2, 3), correction=0)
        return effective_number(spread * self.codebook.square().sum(dim=1))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        mix, mix_bits = mix_arrays(self.mix.weight, self.mix.bias)
        words, word_bits = codebook_arrays(self.codebook, self.base)
        return {**mix, **words, "shifts": np.array([mix_bits, word_bits], dtype=np.int32)}


def upsample(x: NDArray[np.int64], size: int, stride: int, axis: int) -> NDArray[np.int64]:
    """Return bilinear values times 2 * stride, with `size` instead of ceil(size / stride) entries.

    Centers are aligned: position u lies at (u + 1/2) / stride - 1/2 of the coarse axis, and the
    coarse axis continues with its border values.
    """
    place = 2 * np.arange(size, dtype=np.int64) + 1 - stride
    before, part = place // (2 * stride), place % (2 * stride)
    part = part.reshape(-1, *[1] * (x.ndim - 1 - axis))
    low = x.take(np.clip(before, 0, x.shape[axis] - 1), axis=axis)
    high = x.take(np.clip(before + 1, 0, x.shape[axis] - 1), axis=axis)
    return low * (2 * stride - part) + high * part


class IntegerCodebookLocal(IntegerPrior):
    """V-B in integers: int8 coefficients times int16 profiles, summed in int32.

    Arrays: `mix` A [K, d] and `mix_bias` b [K] in coefficient steps with `shifts[0]` fractional
    bits; `codebook` [K, n] in levels with `shifts[1]`; `base` [n] with 5 more.
    """

    @classmethod
    def layout(cls, config: PriorConfig) -> Layout:
        """Return dtype and shape of every array."""
        c = config
        return {
            "mix": ("int32", (c.codewords, c.side)),
            "mix_bias": ("int32", (c.codewords,)),
            "codebook": ("int16", (c.codewords, c.channels)),
            "base": ("int32", (c.channels,)),
            "shifts": ("int32", (2,)),
        }

    def _prepare(self) -> None:
        a, c = self.arrays, self.config
        self._spread_bits = 4 if c.stride == 2 else 6
        self._mix_shift = self._shift(0, 0, 16) + self._spread_bits
        self._level_shift = self._shift(1, 3, 14) + COEFFICIENT_BITS - FRACTION
        mixed = top(a["mix"]) * SIDE_LIMIT * c.side + top(a["mix_bias"]) + 1
        self._below("mix", mixed << self._spread_bits, 1 << 62)
        self._mix = a["mix"].astype(np.int64)
        self._mix_bias = a["mix_bias"].astype(np.int64)[:, None, None] << self._spread_bits
        reach = COEFFICIENT_LIMIT * np.abs(a["codebook"].astype(np.int64)).sum(axis=0)
        reach += np.abs(a["base"].astype(np.int64))
        self._below("codebook", int(reach.max()) + (1 << self._level_shift), 1 << 31)
        self._profiles = np.ascontiguousarray(a["codebook"].T.astype(np.int32))
        self._base = a["base"][:, None]

    def coefficients(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        """Return the int8 coefficients [images, K, h, w] of side symbols, as int64."""
        c = self.config
        rows, columns = c.grid(height, width)
        coarse = (self._mix @ side.reshape(-1, c.side, rows * columns)).reshape(
            -1, c.codewords, rows, columns
        )
        wide = upsample(upsample(coarse, width, c.stride, 3), height, c.stride, 2)
        mixed = round_shift(wide + self._mix_bias, self._mix_shift)
        return np.clip(mixed, -COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)

    def _levels(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        weights = self.coefficients(side, height, width).astype(np.int32)
        weights = weights.reshape(len(side), self.config.codewords, height * width)
        sums = np.einsum("nk,ikp->inp", self._profiles, weights) + self._base
        levels = round_shift(sums, self._level_shift).astype(np.int64)
        return levels.reshape(len(side), self.config.channels, height, width)
