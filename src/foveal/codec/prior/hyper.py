"""Parts that the priors with a hyper-analysis share."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from foveal.codec.entropy.tables import FrequencyTables, laplace_tables
from foveal.codec.prior.base import (
    LEVEL_GAIN,
    WORD_GAIN,
    Prior,
    clip_inward,
    laplace_bits,
    round_straight_through,
)
from foveal.codec.prior.integers import (
    COEFFICIENT_BITS,
    COEFFICIENT_LIMIT,
    SIDE_LIMIT,
    doubles,
    fixed,
    fraction_bits,
)

SIDE_RANGE = 10.0
"""Side integers stay within it, smoothly: a hard clip stops the gradient."""
SIDE_GAIN = 4.0
"""Side integers per unit of a network's output, so that they leave zero early in training."""
MIX_BITS = 16
FRACTION_LEAST = 3
"""Fewest fractional bits of codewords: with the 5 of the coefficients, those of a level."""


class HyperAnalysis(nn.Module):
    """Two 3x3 convolutions on log(1 + |latent|), together of stride 1, 2 or 4."""

    def __init__(self, channels: int, hidden: int, stride: int) -> None:
        super().__init__()
        first = 2 if stride == 4 else 1
        self.conv_in = nn.Conv2d(channels, hidden, 3, stride=first, padding=1)
        self.conv_out = nn.Conv2d(hidden, hidden, 3, stride=stride // first, padding=1)

    def forward(self, latent: Float[Tensor, "b n h w"]) -> Float[Tensor, "b c u v"]:
        """Return hidden maps of ceil(size / stride) positions."""
        hidden = functional.leaky_relu(self.conv_in(torch.log1p(latent.abs())), 0.1)
        return functional.leaky_relu(self.conv_out(hidden), 0.1)


class SideIntegers(nn.Module):
    """Rounding of side values, and their static Laplace model per channel.

    Args:
        count: Number of channels d.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.location = nn.Parameter(torch.zeros(count))
        self.log_scale = nn.Parameter(torch.zeros(count))

    def forward(
        self, values: Float[Tensor, "b d u v"], hard: bool
    ) -> tuple[Float[Tensor, "b d u v"], Float[Tensor, "b"]]:
        """Return the rounded integers and their bits per image; noise unless `hard`."""
        values = values.float() if values.dtype.itemsize < 4 else values
        smooth = SIDE_RANGE * torch.tanh(SIDE_GAIN / SIDE_RANGE * values)
        rounded = round_straight_through(smooth)
        noisy = rounded if hard else smooth + torch.rand_like(smooth) - 0.5
        location, scale = self.location[:, None, None], self.log_scale.clamp(-3, 3.5).exp()
        bits = laplace_bits(noisy - location, scale[:, None, None])
        return rounded, bits.sum(dim=(1, 2, 3))

    def tables(self) -> FrequencyTables:
        """Return the tables of the trained model."""
        return laplace_tables(
            np.exp(doubles(self.log_scale).clip(-3, 3.5)),
            doubles(self.location).clip(-SIDE_LIMIT, SIDE_LIMIT),
        )


class HyperPrior(Prior):
    """A float twin whose side symbols are rounded outputs of a hyper-analysis."""

    analysis: HyperAnalysis
    side: SideIntegers

    def start_tables(self) -> FrequencyTables:
        """Return the Laplace tables of the side integers."""
        return self.side.tables()


def coefficients(values: Tensor) -> Tensor:
    """Round mixing coefficients to the steps that int8 has: 1/32, within +-127/32."""
    step = 1 << COEFFICIENT_BITS
    scaled = clip_inward(values * step, -COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)
    return round_straight_through(scaled) / step


def mix_arrays(weight: Tensor, bias: Tensor) -> tuple[dict[str, NDArray[Any]], int]:
    """Export a = A z + b in steps of 1/32, with the fractional bits that fit int32."""
    a, b = doubles(weight) * 2.0**COEFFICIENT_BITS, doubles(bias) * 2.0**COEFFICIENT_BITS
    bits = fraction_bits(np.concatenate([a.ravel(), b]), (1 << 31) - 1, MIX_BITS)
    return {"mix": fixed(a, bits, "int32"), "mix_bias": fixed(b, bits, "int32")}, bits


def codebook_arrays(codebook: Tensor, base: Tensor) -> tuple[dict[str, NDArray[Any]], int]:
    """Export codewords [K, ...] and base [...] of trained units so that int32 sums cannot overflow.

    Returns: The arrays, and the fractional bits of the codewords; the base has 5 more.
    """
    words, static = WORD_GAIN * doubles(codebook), LEVEL_GAIN * doubles(base)
    bits = fraction_bits(words, (1 << 15) - 1, 14, FRACTION_LEAST)
    units = 2.0**COEFFICIENT_BITS
    sums = COEFFICIENT_LIMIT * np.abs(words).sum(axis=0) + units * np.abs(static)
    bits = min(bits, fraction_bits(sums, (1 << 31) - (1 << 24), bits, FRACTION_LEAST))
    arrays = {
        "codebook": fixed(words, bits, "int16"),
        "base": fixed(static, bits + COEFFICIENT_BITS, "int32"),
    }
    return arrays, bits


def effective_number(shares: Tensor) -> float:
    """Return exp(entropy) of non-negative `shares`: 1 if one has all, their count if all equal."""
    total = float(shares.sum())
    if not total > 0:
        return 1.0
    p = shares.double() / shares.double().sum()
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))
