"""Codebook prior with hard selection (variant V-C).

The channels form M groups, and each group chooses one of K codewords: the levels of its channels,
per position where the prior is tied to a size. The encoder takes the codeword that codes the
group in the fewest bits, its own symbol included. The choice costs about log2 K bits or less, by
static tables of how often each codeword is taken.

While training, levels mix the codewords with weights softmax(-bits / temperature); as the
temperature falls with `anneal` they become a choice (deterministic annealing; Rose, "Deterministic
annealing for clustering, compression, classification, regression, and related optimization
problems", Proc. IEEE 1998). Source of the codec: as for `codebook_global`; this variant is ours.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from foveal.codec.entropy.tables import FrequencyTables, categorical_tables
from foveal.codec.prior.base import (
    LEVEL_GAIN,
    LEVELS,
    WORD_GAIN,
    Prior,
    PriorOut,
    laplace_bits,
    level_of,
    scale_of,
)
from foveal.codec.prior.config import PriorConfig
from foveal.codec.prior.hyper import effective_number
from foveal.codec.prior.integers import FRACTION, IntegerPrior, Layout, doubles, fixed

CHUNK = 1 << 25
"""Most costs in memory at a time."""
HOT, COLD = 30.0, 0.5
"""First and last temperature, in bits."""
DEAD = 0.05
"""A codeword taken less often than this part of an equal share is dead."""


class CodebookVQPrior(Prior):
    """The float twin of `IntegerCodebookVQ`.

    Args:
        config: Kind "codebook-vq" and its sizes.
    """

    groups: Tensor
    usage: Tensor
    temperature: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        c = config
        spread = torch.linspace(-0.1, 0.1, c.codewords) if c.codewords > 1 else torch.zeros(1)
        noise = 0.005 * torch.randn(c.codewords, *self.level_map.shape)
        self.codebook = nn.Parameter(spread[:, None, None, None] + noise)
        self.logits = nn.Parameter(torch.zeros(c.side, c.codewords))
        self.register_buffer("groups", torch.from_numpy(c.groups()), persistent=False)
        usage = torch.full((c.side, c.codewords), 1 / c.codewords)
        self.register_buffer("usage", usage, persistent=False)
        self.register_buffer("temperature", torch.tensor(HOT), persistent=False)

    @property
    def words(self) -> Float[Tensor, "k n u v"]:
        """Levels of the codewords; u and v are 1 unless tied to a size."""
        return self.level_map + WORD_GAIN * self.codebook

    @torch.no_grad()
    def start(self, latent: Float[Tensor, "b n h w"]) -> None:
        """Start from latents: their scales, offset by quantiles of how images differ in energy."""
        super().start(latent)
        each = level_of(latent.abs().mean(dim=(1, 2, 3)))
        places = (torch.arange(self.config.codewords, device=each.device) + 0.5) / len(
            self.codebook
        )
        offsets = torch.quantile(each, places.to(each.dtype)) - each.mean()
        noise = 0.005 * torch.randn_like(self.codebook)
        self.codebook.copy_(offsets[:, None, None, None] / WORD_GAIN + noise)

    def anneal(self, progress: float) -> None:
        """Lower the temperature from 30 bits to 0.5 bits as `progress` goes from 0 to 1."""
        self.temperature.fill_(HOT * (COLD / HOT) ** min(max(progress, 0.0), 1.0))

    def symbol_bits(self) -> Float[Tensor, "m k"]:
        """Return the bits of each codeword's symbol."""
        return -functional.log_softmax(self.logits, dim=1) / float(np.log(2))

    @torch.no_grad()
    def costs(self, gained: Float[Tensor, "b n h w"], extra: Tensor) -> Float[Tensor, "b m k"]:
        """Return the bits that each codeword would cost each group, its own symbol included.

        Every latent counts as coded with the table of its index, table 0 included, so that a
        codeword that skips latents which are not zero is dear.
        """
        member = functional.one_hot(self.groups, self.config.side).float()
        rounded = torch.round(gained.float())[:, None]
        extra = extra.expand(gained.shape)[:, None]
        out: list[Tensor] = []
        for words in self.words.split(max(1, CHUNK // gained.numel())):
            index = torch.floor((words + extra).clamp(0, LEVELS - 1) + 0.5)
            bits = laplace_bits(rounded, scale_of(index)).sum(dim=(3, 4))
            with torch.autocast(gained.device.type, enabled=False):
                out.append(torch.einsum("bkn,nm->bmk", bits.float(), member))
        return torch.cat(out, dim=2) + self.symbol_bits()

    def forward(
        self,
        latent: Float[Tensor, "b n h w"],
        gained: Float[Tensor, "b n h w"],
        extra: Tensor,
        *,
        hard: bool,
    ) -> PriorOut:
        """Give levels and the codewords chosen; mixed levels and expected bits unless `hard`."""
        self.check_size(latent)
        costs = self.costs(gained, extra)
        chosen = costs.argmin(dim=2)
        one_hot = functional.one_hot(chosen, self.config.codewords).to(gained.dtype)
        if self.training:
            self.usage.lerp_(one_hot.mean(dim=0).to(self.usage.dtype), 0.02)
        weights = one_hot if hard else torch.softmax(-costs / self.temperature, dim=2)
        levels = torch.einsum("bnk,knuv->bnuv", weights[:, self.groups], self.words)
        bits = (weights * self.symbol_bits()).sum(dim=(1, 2))
        return PriorOut(levels.expand(latent.shape), bits, chosen.to(gained.dtype))

    @torch.no_grad()
    def revive(self) -> int:
        """Move codewords that are hardly taken beside the most taken one of their group."""
        share = self.usage * self.config.codewords
        dead = (share < DEAD).nonzero().tolist()
        for group, word in dead:
            channels = self.groups == group
            best = int(self.usage[group].argmax())
            source = self.codebook[best, channels]
            self.codebook[word, channels] = source + 0.0125 * torch.randn_like(source)
            self.logits[group, best] -= float(np.log(2))
            self.logits[group, word] = self.logits[group, best]
            self.usage[group, best] /= 2
            self.usage[group, word] = self.usage[group, best]
        return len(dead)

    def start_tables(self) -> FrequencyTables:
        """Return the tables of the trained probabilities of the codewords."""
        return categorical_tables(torch.softmax(self.logits.detach().double(), dim=1).cpu().numpy())

    @torch.no_grad()
    def perplexity(self, side: Tensor) -> float:
        """Return the effective number of codewords that a group takes, on average over groups."""
        one_hot = functional.one_hot(side.long(), self.config.codewords)
        shares = one_hot.sum(dim=0).double()
        return float(np.mean([effective_number(row) for row in shares]))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        base, words = doubles(self.base), doubles(self.codebook)
        words = WORD_GAIN * words + LEVEL_GAIN * base.reshape(self.level_map.shape)
        shape = (self.config.codewords, *base.shape)
        return {"codebook": fixed(words.reshape(shape), FRACTION, "int16")}


class IntegerCodebookVQ(IntegerPrior):
    """V-C in integers: a look-up.

    Array: `codebook` [K, n] or [K, n, h, w], in levels with 8 fractional bits.
    """

    @classmethod
    def layout(cls, config: PriorConfig) -> Layout:
        """Return dtype and shape of every array."""
        size = (config.height, config.width) if config.tied else ()
        return {"codebook": ("int16", (config.codewords, config.channels, *size))}

    def _prepare(self) -> None:
        words = self.arrays["codebook"]
        self._words = words if self.config.tied else words[:, :, None, None]
        self._groups = self.config.groups()
        self._channels = np.arange(self.config.channels)

    @property
    def side_range(self) -> tuple[int, int]:
        """Smallest and largest valid side symbol."""
        return 0, self.config.codewords - 1

    def _levels(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        levels = self._words[side[:, self._groups], self._channels].astype(np.int64)
        shape = (len(side), self.config.channels, height, width)
        return np.broadcast_to(levels, shape).copy()
