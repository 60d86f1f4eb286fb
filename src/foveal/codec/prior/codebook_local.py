"""Codebook prior with mixing per position (variant V-B).

A small map z, upsampled bilinearly with integer weights, mixes K learned channel profiles at every
position:

    a(u, v) = A up(z)(u, v) + b, rounded to int8 in steps of 1/32;
    level(u, v) = base + sum_k a_k(u, v) c_k.

It takes latents of any height and width.

Source: as for `codebook_global`; this variant is ours.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

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


class CodebookLocalPrior(CodebookPrior):
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

    @torch.no_grad()
    def perplexity(self, side: Tensor) -> float:
        """Return the effective number of profiles, by the variance of levels that each causes."""
        c = self.config
        maps = side.view(len(side), c.side, *c.grid(c.height, c.width))
        weights = self.coefficients(maps, c.height, c.width)
        spread = weights.var(dim=(0, 2, 3), correction=0)
        return effective_number(spread * self.codebook.square().sum(dim=1))


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


class IntegerCodebookLocal(IntegerCodebook):
    """V-B in integers; codewords and base are profiles [n]."""

    @property
    def spread_bits(self) -> int:
        """Bits that mixed values gain between the side map and the latents' positions."""
        return 4 if self.config.stride == 2 else 6

    def _prepare(self) -> None:
        super()._prepare()
        self._profiles = np.ascontiguousarray(self._words.T)

    def coefficients(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        """Return the int8 coefficients [images, K, h, w] of side symbols, as int64."""
        c = self.config
        rows, columns = c.grid(height, width)
        coarse = (self._mix @ side.reshape(-1, c.side, rows * columns)).reshape(
            -1, c.codewords, rows, columns
        )
        wide = upsample(upsample(coarse, width, c.stride, 3), height, c.stride, 2)
        return self._rounded(wide + self._mix_bias[:, None, None])

    def _levels(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        weights = self.coefficients(side, height, width).astype(np.int32)
        weights = weights.reshape(len(side), self.config.codewords, height * width)
        sums = np.einsum("nk,ikp->inp", self._profiles, weights) + self._base[:, None]
        levels = round_shift(sums, self._level_shift).astype(np.int64)
        return levels.reshape(len(side), self.config.channels, height, width)
