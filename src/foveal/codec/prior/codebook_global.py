"""Codebook prior with global mixing (variant V-A).

A few integers z per image mix K learned maps of levels:

    a = A z + b, rounded to int8 in steps of 1/32;    level = base + sum_k a_k c_k.

The maps have the latents' size, so the prior is tied to it. The hyper-analysis pools over positions
with learned weights per channel, which start as the average.

Source: Yang et al., Video Coding for Machines: Compact Visual Representation Compression for
Intelligent Collaborative Analytics, arXiv:2110.09241; Hu et al., arXiv:2106.08512; reconstruction:
details of the prior are ours.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

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


class CodebookGlobalPrior(Prior):
    """The float twin of `IntegerCodebookGlobal`.

    Args:
        config: Kind "codebook-global" and its sizes.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        c = config
        self.analysis = HyperAnalysis(c.channels, c.hidden, 1)
        positions = c.height * c.width
        self.pooling = nn.Parameter(torch.ones(c.hidden, c.height, c.width) / positions**0.5)
        self.to_side = nn.Linear(c.hidden, c.side)
        self.side = SideIntegers(c.side)
        self.mix = nn.Linear(c.side, c.codewords)
        self.codebook = nn.Parameter(
            0.0125 * torch.randn(c.codewords, c.channels, c.height, c.width)
        )

    def coefficients(self, side: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Return the mixing coefficients of side symbols."""
        return coefficients(self.mix(side))

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
        weights = self.pooling / self.pooling[0].numel() ** 0.5
        pooled = torch.einsum("bchw,chw->bc", self.analysis(latent), weights)
        side, bits = self.side(self.to_side(pooled)[:, :, None, None], hard)
        side = side[:, :, 0, 0]
        mixed = self.coefficients(side) @ self.codebook.flatten(1)
        levels = self.level_map + WORD_GAIN * mixed.view(-1, *self.codebook.shape[1:])
        return PriorOut(levels, bits, side)

    def start_tables(self) -> FrequencyTables:
        """Return the Laplace tables of the side integers."""
        return self.side.tables()

    @torch.no_grad()
    def perplexity(self, side: Tensor) -> float:
        """Return the effective number of maps, by the variance of levels that each causes."""
        spread = self.coefficients(side).var(dim=0, correction=0)
        return effective_number(spread * self.codebook.square().flatten(1).sum(dim=1))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        mix, mix_bits = mix_arrays(self.mix.weight, self.mix.bias)
        words, word_bits = codebook_arrays(self.codebook, self.base)
        return {**mix, **words, "shifts": np.array([mix_bits, word_bits], dtype=np.int32)}


class IntegerCodebookGlobal(IntegerPrior):
    """V-A in integers: int8 coefficients times int16 codewords, summed in int32.

    Arrays: `mix` A [K, d] and `mix_bias` b [K] in coefficient steps with `shifts[0]` fractional
    bits; `codebook` [K, n, h, w] in levels with `shifts[1]`; `base` [n, h, w] with 5 more.
    """

    @classmethod
    def layout(cls, config: PriorConfig) -> Layout:
        """Return dtype and shape of every array."""
        c = config
        return {
            "mix": ("int32", (c.codewords, c.side)),
            "mix_bias": ("int32", (c.codewords,)),
            "codebook": ("int16", (c.codewords, c.channels, c.height, c.width)),
            "base": ("int32", (c.channels, c.height, c.width)),
            "shifts": ("int32", (2,)),
        }

    def _prepare(self) -> None:
        a, c = self.arrays, self.config
        self._mix_shift = self._shift(0, 0, 16)
        self._level_shift = self._shift(1, 3, 14) + COEFFICIENT_BITS - FRACTION
        self._below("mix", top(a["mix"]) * SIDE_LIMIT * c.side + top(a["mix_bias"]), 1 << 62)
        self._mix = a["mix"].astype(np.int64)
        self._mix_bias = a["mix_bias"].astype(np.int64)
        words = a["codebook"].reshape(c.codewords, -1)
        reach = COEFFICIENT_LIMIT * np.abs(words.astype(np.int64)).sum(axis=0)
        reach += np.abs(a["base"].reshape(-1).astype(np.int64))
        self._below("codebook", int(reach.max()) + (1 << self._level_shift), 1 << 31)
        self._words = words.astype(np.int32)
        self._base = a["base"].reshape(-1)

    def coefficients(self, side: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the int8 coefficients [images, K] of side symbols, as int64."""
        mixed = round_shift(side @ self._mix.T + self._mix_bias, self._mix_shift)
        return np.clip(mixed, -COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)

    def _levels(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        weights = self.coefficients(side).astype(np.int32)
        sums = np.einsum("ik,ke->ie", weights, self._words) + self._base
        levels = round_shift(sums, self._level_shift).astype(np.int64)
        return levels.reshape(-1, self.config.channels, height, width)
