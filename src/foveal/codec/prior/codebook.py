"""What the two codebook priors that mix share: coefficients times codewords, summed in int32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from foveal.codec.prior.config import PriorConfig
from foveal.codec.prior.hyper import HyperPrior, codebook_arrays, mix_arrays
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


class CodebookPrior(HyperPrior):
    """The float twin: a linear map of side integers to coefficients, and codewords."""

    mix: nn.Linear
    codebook: nn.Parameter

    def _arrays(self) -> dict[str, NDArray[Any]]:
        mix, mix_bits = mix_arrays(self.mix.weight, self.mix.bias)
        words, word_bits = codebook_arrays(self.codebook, self.base)
        return {**mix, **words, "shifts": np.array([mix_bits, word_bits], dtype=np.int32)}


class IntegerCodebook(IntegerPrior):
    """The integers: int8 coefficients times int16 codewords.

    Arrays: `mix` A [K, d] and `mix_bias` b [K] in coefficient steps with `shifts[0]` fractional
    bits; `codebook` [K, n, ...] in levels with `shifts[1]`; `base` [n, ...] with 5 more.
    """

    @classmethod
    def layout(cls, config: PriorConfig) -> Layout:
        """Return dtype and shape of every array."""
        c = config
        size = () if c.any_size else (c.height, c.width)
        return {
            "mix": ("int32", (c.codewords, c.side)),
            "mix_bias": ("int32", (c.codewords,)),
            "codebook": ("int16", (c.codewords, c.channels, *size)),
            "base": ("int32", (c.channels, *size)),
            "shifts": ("int32", (2,)),
        }

    @property
    def spread_bits(self) -> int:
        """Bits that mixed values gain between the side map and the latents' positions."""
        return 0

    def _prepare(self) -> None:
        a, c, spread = self.arrays, self.config, self.spread_bits
        self._mix_shift = self._shift(0, 0, 16) + spread
        self._level_shift = self._shift(1, 3, 14) + COEFFICIENT_BITS - FRACTION
        mixed = top(a["mix"]) * SIDE_LIMIT * c.side + top(a["mix_bias"]) + (spread > 0)
        self._below("mix", mixed << spread, 1 << 62)
        self._mix = a["mix"].astype(np.int64)
        self._mix_bias = a["mix_bias"].astype(np.int64) << spread
        words = a["codebook"].reshape(c.codewords, -1)
        self._words, self._base = words.astype(np.int32), a["base"].reshape(-1)
        reach = COEFFICIENT_LIMIT * np.abs(words.astype(np.int64)).sum(axis=0)
        reach += np.abs(self._base.astype(np.int64))
        self._below("codebook", int(reach.max()) + (1 << self._level_shift), 1 << 31)

    def _rounded(self, mixed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return mixed values as int8 coefficients, in int64."""
        found = round_shift(mixed, self._mix_shift)
        return np.clip(found, -COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)
