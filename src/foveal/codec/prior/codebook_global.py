"""Codebook prior with global mixing (variant V-A).

A few integers z per image mix K learned maps of levels:

    a = A z + b, rounded to int8 in steps of 1/32;    level = base + sum_k a_k c_k.

The maps have the latents' size, so the prior is tied to it. The hyper-analysis pools over positions
with learned weights per channel, which start as the average.

Source: Yang et al., Video Coding for Machines: Compact Visual Representation Compression for
Intelligent Collaborative Analytics, arXiv:2110.09241; Hu et al., arXiv:2106.08512; reconstruction:
details of the prior are ours.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.codec.prior.base import WORD_GAIN, PriorOut
from foveal.codec.prior.codebook import CodebookPrior, IntegerCodebook
from foveal.codec.prior.config import PriorConfig
from foveal.codec.prior.hyper import (
    HyperAnalysis,
    SideIntegers,
    coefficients,
    effective_number,
)
from foveal.codec.prior.integers import round_shift


class CodebookGlobalPrior(CodebookPrior):
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

    @torch.no_grad()
    def perplexity(self, side: Tensor) -> float:
        """Return the effective number of maps, by the variance of levels that each causes."""
        spread = self.coefficients(side).var(dim=0, correction=0)
        return effective_number(spread * self.codebook.square().flatten(1).sum(dim=1))


class IntegerCodebookGlobal(IntegerCodebook):
    """V-A in integers; codewords and base are maps [n, h, w]."""

    def coefficients(self, side: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the int8 coefficients [images, K] of side symbols, as int64."""
        return self._rounded(side @ self._mix.T + self._mix_bias)

    def _levels(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        weights = self.coefficients(side).astype(np.int32)
        sums = np.einsum("ik,ke->ie", weights, self._words) + self._base
        levels = round_shift(sums, self._level_shift).astype(np.int64)
        return levels.reshape(-1, self.config.channels, height, width)
