"""The interface of the priors: a float twin for training, integers for coding.

A prior gives every latent a level, and a level is a Laplace scale in logarithmic steps:

    scale = SCALE_MIN * (SCALE_MAX / SCALE_MIN) ** (level / (LEVELS - 1)),

in quantisation steps. What comes from outside the prior (the gain of the rate, conditional coding)
is added to the levels as `extra`, so that one prior serves all rates. The sum, rounded and clipped,
is the index of one of `LEVELS` static tables; index 0 means that the latent is skipped: it is zero
and no symbol is coded. For coding, levels are integers with `FRACTION` fractional bits, computed
from exported integers alone, so that every device finds the same tables.
"""

import abc
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.codec.entropy.tables import (
    FrequencyTables,
    count_symbols,
    counted_tables,
    laplace_tables,
)
from foveal.codec.prior.config import PriorConfig
from foveal.codec.prior.integers import FRACTION, IntegerPrior
from foveal.errors import ShapeError

LEVELS = 64
SCALE_MIN = 0.05
SCALE_MAX = 20.0
LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (LEVELS - 1)
LEVEL_GAIN = 16.0
"""Levels per unit of a trained map, so that maps learn as fast as the weights of networks."""
WORD_GAIN = 64.0
"""Levels per unit of a trained codeword: codewords have further to go than what starts well."""
START_LEVEL = 0.4 * (LEVELS - 1)


def round_straight_through(x: Tensor) -> Tensor:
    """Round to the nearest integer; the gradient is that of the identity."""
    return x + (torch.round(x) - x).detach()


class _ClipInward(torch.autograd.Function):
    """Clip; beyond the limits only a gradient that leads back passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (x,), (low, high), grad = ctx.saved_tensors, ctx.limits, grads[0]
        outward = ((x < low) & (grad > 0)) | ((x > high) & (grad < 0))
        return grad.masked_fill(outward, 0), None, None


def clip_inward(x: Tensor, low: float, high: float) -> Tensor:
    """Clip to `low`..`high`; values beyond can learn to come back, but not to go further."""
    out: Tensor = _ClipInward.apply(x, low, high)
    return out


def scale_of(level: Tensor) -> Tensor:
    """Return the Laplace scale of levels, in quantisation steps."""
    return SCALE_MIN * torch.exp(LOG_STEP * level)


def level_of(scale: Tensor) -> Tensor:
    """Return the level of Laplace scales, within 0..LEVELS - 1."""
    return (torch.log(scale.clamp_min(1e-30) / SCALE_MIN) / LOG_STEP).clamp(0, LEVELS - 1)


def laplace_bits(x: Tensor, scale: Tensor) -> Tensor:
    """Return -log2 of the Laplace mass of [x - 1/2, x + 1/2] (median 0), elementwise, in bits."""
    magnitude = x.abs()
    far = torch.log1p(-torch.exp(-1 / scale)) - (magnitude - 0.5).clamp_min(0) / scale - math.log(2)
    inner = (0.5 - magnitude).clamp_min(0)
    mass = 1 - 0.5 * (torch.exp(-inner / scale) + torch.exp(-(0.5 + magnitude) / scale))
    near = torch.log(mass.clamp_min(1e-9))
    return torch.where(magnitude < 0.5, near, far) / -math.log(2)


def table_index(levels: Tensor) -> Tensor:
    """Return the table index of float levels (`extra` included), with the identity's gradient."""
    level = clip_inward(levels, 0.0, LEVELS - 1.0)
    return level + (torch.floor(level + 0.5) - level).detach()


def latent_bits(
    gained: Float[Tensor, "b n h w"], levels: Tensor, noise: bool
) -> Float[Tensor, "b"]:
    """Estimate the bits of the latents of each image, differentiably.

    Args:
        gained: Latents times the gain of the rate, not rounded.
        levels: Levels with `extra` added, broadcastable to `gained`.
        noise: True adds uniform noise of one step and takes the scale of the very level. False
            rounds latents and levels with straight-through gradients; what is skipped (a level
            below 1/2) costs nothing, and the codec must zero it (`table_index(levels) < 0.5`).

    Returns: Bits per image, fp32 for half-precision input. With noise, a latent that will be
    skipped still costs about 0.08 bit. Without, the level of a skipped latent still has the
    gradient that it would have if it were coded, so that it can come back.
    """
    value = gained.float() if gained.dtype.itemsize < 4 else gained
    if noise:
        level = clip_inward(levels, 0.0, LEVELS - 1.0)
        bits = laplace_bits(value + torch.rand_like(value) - 0.5, scale_of(level))
    else:
        index = table_index(levels)
        skipped = index < 0.5
        value = round_straight_through(value)
        value = torch.where(skipped, value.detach(), value)
        bits = laplace_bits(value, scale_of(index))
        bits = bits - torch.where(skipped, bits, torch.zeros_like(bits)).detach()
    return bits.sum(dim=(1, 2, 3))


def latent_tables() -> FrequencyTables:
    """Build the tables of the latents before any symbol was counted: Laplace, one per level."""
    return laplace_tables(SCALE_MIN * np.exp(LOG_STEP * np.arange(LEVELS, dtype=np.float64)))


def index_of(levels: NDArray[np.int64], *, reuse: bool = False) -> NDArray[np.int64]:
    """Return the table index of fixed-point levels with `extra` added; 0 means skipped.

    Args:
        levels: int64.
        reuse: Whether the result may take the memory of `levels`.
    """
    out = levels if reuse else levels.copy()
    out += (1 << FRACTION) >> 1
    out >>= FRACTION
    return np.clip(out, 0, LEVELS - 1, out=out)


class PriorOut(NamedTuple):
    """What a float twin says of a batch.

    Args:
        levels: Levels without `extra`, not clipped.
        side_bits: Estimated bits of the side symbols per image.
        side: Side symbols [b, num_side], rounded; straight-through gradient where there is one.
    """

    levels: Float[Tensor, "b n h w"]
    side_bits: Float[Tensor, "b"]
    side: Float[Tensor, "b s"]


class Prior(nn.Module, abc.ABC):
    """The trainable float twin of an `IntegerPrior`.

    Given the same side symbols, its levels are those of the integers to 0.02 for the codebooks and
    the static prior and to 0.3 for the spatial one (rounded weights), so that table indices differ
    only at their edges. Streams depend on the integers alone.

    Args:
        config: Kind and sizes.
    """

    base: nn.Parameter

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        size = () if config.any_size else (config.height, config.width)
        self.base = nn.Parameter(torch.full((config.channels, *size), START_LEVEL / LEVEL_GAIN))
        self._side_tables: FrequencyTables | None = None

    @abc.abstractmethod
    def forward(
        self,
        latent: Float[Tensor, "b n h w"],
        gained: Float[Tensor, "b n h w"],
        extra: Tensor,
        *,
        hard: bool,
    ) -> PriorOut:
        """Give levels and side symbols.

        Args:
            latent: Latents before the gain of the rate; what hyper-analyses read.
            gained: Latents times the gain, not rounded; what a search reads.
            extra: What will be added to the levels, in levels, broadcastable to `gained`.
            hard: False trains (noise or soft choices), True estimates what coding does.
        """

    @abc.abstractmethod
    def start_tables(self) -> FrequencyTables:
        """Return the tables of the side symbols that the trained parameters imply."""

    @abc.abstractmethod
    def perplexity(self, side: Tensor) -> float:
        """Return how many codewords the side symbols of many images use, effectively.

        1 is a prior that says the same of every image; a value far below the number of codewords
        means dead codewords.
        """

    @abc.abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return the integers to export."""

    def anneal(self, progress: float) -> None:
        """Follow the training's progress, 0..1; only choices that harden heed it."""
        del progress

    def revive(self) -> int:
        """Move dead codewords to where there is use for them; return how many."""
        return 0

    @property
    def level_map(self) -> Float[Tensor, "n u v"]:
        """The static part of the levels; u and v are 1 where it is per channel."""
        base = LEVEL_GAIN * self.base
        return base if base.ndim == 3 else base[:, None, None]

    @torch.no_grad()
    def start(self, latent: Float[Tensor, "b n h w"]) -> None:
        """Start the static part of the levels from latents: the likeliest Laplace scales."""
        self.check_size(latent)
        dims = (0,) if self.base.ndim == 3 else (0, 2, 3)
        self.base.copy_(level_of(latent.abs().mean(dim=dims)) / LEVEL_GAIN)

    def check_size(self, latent: Tensor) -> None:
        """Raise ShapeError unless `latent` is [b, n, h, w] of a size that this prior takes."""
        c = self.config
        if latent.ndim != 4 or latent.shape[1] != c.channels:
            raise ShapeError(
                f"Prior: latent has shape {tuple(latent.shape)}, must be (b, {c.channels}, h, w); "
                "give the latents of this model"
            )
        c.check_size("Prior", latent.shape[2], latent.shape[3])

    def fit_side(self, side: NDArray[Any]) -> None:
        """Count the side symbols of training images for the tables that `export` writes.

        Args:
            side: [images, num_side] at the size of the config, as coded.
        """
        c = self.config
        indices = c.side_indices(c.height, c.width)
        if side.ndim != 2 or side.shape[1] != indices.size or side.dtype.kind not in "iu":
            raise ShapeError(
                f"Prior.fit_side: side is {side.dtype} {side.shape}, must be integers (images, "
                f"{indices.size}); give the side symbols of latents of the config's size"
            )
        tables = self.start_tables()
        counts = count_symbols(tables, side, np.broadcast_to(indices, side.shape))
        self._side_tables = counted_tables(counts, tables)

    @torch.no_grad()
    def export(self) -> IntegerPrior:
        """Build the integers from the present parameters, in fp64, once, after training."""
        tables = self._side_tables if self._side_tables is not None else self.start_tables()
        return _classes(self.config.kind)[1](self.config, self._arrays(), tables)


def _classes(kind: str) -> tuple[type[Prior], type[IntegerPrior]]:
    from foveal.codec.prior import (
        codebook_global,
        codebook_local,
        codebook_vq,
        factorized,
        spatial,
    )

    return {
        "codebook-global": (
            codebook_global.CodebookGlobalPrior,
            codebook_global.IntegerCodebookGlobal,
        ),
        "codebook-local": (codebook_local.CodebookLocalPrior, codebook_local.IntegerCodebookLocal),
        "codebook-vq": (codebook_vq.CodebookVQPrior, codebook_vq.IntegerCodebookVQ),
        "factorized": (factorized.FactorizedPrior, factorized.IntegerFactorized),
        "spatial": (spatial.SpatialPrior, spatial.IntegerSpatial),
    }[kind]


def make_prior(config: PriorConfig) -> Prior:
    """Build the untrained float twin of `config.kind`."""
    return _classes(config.kind)[0](config)


def integer_prior_from_tensors(config: PriorConfig, tensors: dict[str, Tensor]) -> IntegerPrior:
    """Undo `IntegerPrior.to_tensors`; the tensors may come from an untrusted file.

    Raises:
        ArgumentError: a tensor is missing, unknown, of another dtype or shape, or out of bounds.
    """
    return _classes(config.kind)[1].from_tensors(config, tensors)
