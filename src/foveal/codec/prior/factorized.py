"""Factorised prior: static levels, no side symbols."""

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from foveal.codec.entropy.tables import FrequencyTables, laplace_tables
from foveal.codec.prior.base import LEVEL_GAIN, Prior, PriorOut
from foveal.codec.prior.config import PriorConfig
from foveal.codec.prior.integers import FRACTION, IntegerPrior, Layout, fixed


class FactorizedPrior(Prior):
    """The float twin of `IntegerFactorized`: one level per channel, or per latent if tied.

    Args:
        config: Kind "factorized" and its sizes.
    """

    def forward(
        self,
        latent: Float[Tensor, "b n h w"],
        gained: Float[Tensor, "b n h w"],
        extra: Tensor,
        *,
        hard: bool,
    ) -> PriorOut:
        """Give the static levels; nothing but the latents' shape plays a part."""
        del gained, extra, hard
        self.check_size(latent)
        nothing = latent.new_zeros(len(latent), 0)
        return PriorOut(self.level_map.expand(latent.shape), nothing.sum(dim=1), nothing)

    def start_tables(self) -> FrequencyTables:
        """Return one table, which no symbol uses."""
        return laplace_tables([1.0])

    def perplexity(self, side: Tensor) -> float:
        """Return 1: every image has the same levels."""
        del side
        return 1.0

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"base": fixed(LEVEL_GAIN * self.base, FRACTION, "int32")}


class IntegerFactorized(IntegerPrior):
    """Static levels in integers. Array: `base` [n] or [n, h, w], with 8 fractional bits."""

    @classmethod
    def layout(cls, config: PriorConfig) -> Layout:
        """Return dtype and shape of every array."""
        size = (config.height, config.width) if config.tied else ()
        return {"base": ("int32", (config.channels, *size))}

    def _prepare(self) -> None:
        base = self.arrays["base"].astype(np.int64)
        self._base = base if self.config.tied else base[:, None, None]

    def _levels(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        shape = (len(side), self.config.channels, height, width)
        return np.broadcast_to(self._base, shape).copy()
