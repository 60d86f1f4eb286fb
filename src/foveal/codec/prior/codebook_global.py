"""Codebook hyperprior with global mixing (variant V-A).

A few integers z per image, from a hyper-analysis with global average pooling, mix K learned maps of
log-scales into one table index per latent:

    level = clamp(round(base + sum_k a_k c_k), 0, L - 1),   a = A z + b,
    scale = scale_min * (scale_max / scale_min) ** (level / (L - 1)).

Training uses a float twin with straight-through rounding. `CodebookGlobalPrior.export` turns A, b,
c and base into fixed-point integers once; from then on these integers alone decide, at the encoder
and at the decoder, so that the same bytes give the same symbols on every device.

Source: Yang et al., Video Coding for Machines: Compact Visual Representation Compression for
Intelligent Collaborative Analytics, arXiv:2110.09241; Hu et al., arXiv:2106.08512; reconstruction:
details of the prior are ours.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from foveal.codec.entropy.tables import FrequencyTables, laplace_tables
from foveal.errors import ArgumentError, BitstreamError

FRACTION_BITS = 12
Z_LIMIT = 127
Z_RANGE = 10.0  # the hyper-analysis stays within it, smoothly: a hard clip stops the gradient
LEVEL_GAIN = 16.0  # levels per unit of the trained maps, so that they learn as fast as the weights


def round_straight_through(x: Tensor) -> Tensor:
    """Round to the nearest integer; the gradient is that of the identity."""
    return x + (torch.round(x) - x).detach()


def laplace_bits(x: Tensor, scale: Tensor) -> Tensor:
    """Return -log2 of the Laplace mass of [x - 1/2, x + 1/2] (median 0), elementwise, in bits."""
    magnitude = x.abs()
    far = torch.log1p(-torch.exp(-1 / scale)) - (magnitude - 0.5).clamp_min(0) / scale - math.log(2)
    inner = (0.5 - magnitude).clamp_min(0)
    mass = 1 - 0.5 * (torch.exp(-inner / scale) + torch.exp(-(0.5 + magnitude) / scale))
    near = torch.log(mass.clamp_min(1e-9))
    return torch.where(magnitude < 0.5, near, far) / -math.log(2)


@dataclass(frozen=True)
class IntegerPrior:
    """The exported prior: everything that decoding symbols needs, in integers.

    Args:
        z_tables: One table per hyper-latent.
        y_tables: One table per scale level.
        mix: A, int64 [codewords, hyper], with 12 fractional bits.
        mix_bias: b, int64 [codewords], with 12 fractional bits.
        codebook: c, int64 [codewords, elements], in levels with 12 fractional bits.
        base: int64 [elements], in levels with 24 fractional bits.

    Raises:
        ArgumentError: shapes disagree, or 64-bit sums could overflow.
    """

    z_tables: FrequencyTables
    y_tables: FrequencyTables
    mix: NDArray[np.int64]
    mix_bias: NDArray[np.int64]
    codebook: NDArray[np.int64]
    base: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check shapes and the range of the sums; the values may come from an untrusted file."""
        codewords, hyper, elements = self.mix_bias.size, len(self.z_tables), self.base.size
        wanted = ((codewords, hyper), (codewords,), (codewords, elements), (elements,))
        found = (self.mix.shape, self.mix_bias.shape, self.codebook.shape, self.base.shape)
        if wanted != found or codewords == 0 or elements == 0:
            raise ArgumentError(
                f"IntegerPrior: mix, mix_bias, codebook, base have shapes {found}, must be "
                f"{wanted}; export the model again"
            )

        def top(x: NDArray[np.int64]) -> int:
            return max(abs(int(x.max())), abs(int(x.min())))

        weight = top(self.mix) * Z_LIMIT * hyper + top(self.mix_bias)
        if weight * top(self.codebook) * codewords + top(self.base) >= 1 << 62:
            raise ArgumentError(
                "IntegerPrior: mix, codebook and base can reach 2**62, must stay below; "
                "export a model with smaller weights"
            )

    @property
    def hyper(self) -> int:
        """Number of hyper-latents."""
        return len(self.z_tables)

    @property
    def elements(self) -> int:
        """Number of latents of one image."""
        return int(self.base.size)

    def indices(self, z: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the table index of every latent: int64 [images, elements] from [images, hyper].

        Raises:
            BitstreamError: a hyper-latent is beyond +-127.
        """
        if z.size and (int(z.max()) > Z_LIMIT or int(z.min()) < -Z_LIMIT):
            raise BitstreamError(
                f"IntegerPrior.indices: z is within {int(z.min())}..{int(z.max())}, must be within "
                f"+-{Z_LIMIT}; the stream is damaged or belongs to another model"
            )
        weights = z.astype(np.int64) @ self.mix.T + self.mix_bias
        level = weights @ self.codebook + self.base
        shift = 2 * FRACTION_BITS
        index = (level + (1 << (shift - 1))) >> shift
        return np.clip(index, 0, len(self.y_tables) - 1)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the arrays as tensors, for a weights file."""
        out = {
            "mix": self.mix,
            "mix_bias": self.mix_bias,
            "codebook": self.codebook.astype(np.int32),
            "base": self.base,
        }
        for name, tables in (("z", self.z_tables), ("y", self.y_tables)):
            out[f"{name}_frequencies"] = tables.frequencies.astype(np.int32)
            out[f"{name}_sizes"] = tables.sizes
            out[f"{name}_lows"] = tables.lows
        return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in out.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "IntegerPrior":
        """Undo `to_tensors`.

        Raises:
            ArgumentError: an array is missing, has another dtype, or fails the checks.
        """

        def get(name: str) -> NDArray[np.int64]:
            value = tensors.get(name)
            if value is None or value.dtype not in (torch.int32, torch.int64):
                raise ArgumentError(
                    f"IntegerPrior.from_tensors: {name} is "
                    f"{'missing' if value is None else value.dtype}, must be an int32 or int64 "
                    "tensor; export the model again"
                )
            return value.cpu().numpy().astype(np.int64)

        def tables(name: str) -> FrequencyTables:
            return FrequencyTables(
                get(f"{name}_frequencies"), get(f"{name}_sizes"), get(f"{name}_lows")
            )

        arrays = (get(name) for name in ("mix", "mix_bias", "codebook", "base"))
        return cls(tables("z"), tables("y"), *arrays)


class CodebookGlobalPrior(nn.Module):
    """The trainable float twin of `IntegerPrior`.

    Args:
        channels: Latent channels.
        size: Height and width of the latent, in positions.
        hyper: Number d of hyper-latents z.
        codewords: Number K of learned log-scale maps.
        levels: Number L of scales in the table.
        scale_min: Smallest Laplace scale, in quantisation steps.
        scale_max: Largest Laplace scale, in quantisation steps.
    """

    def __init__(
        self,
        *,
        channels: int,
        size: int,
        hyper: int = 12,
        codewords: int = 16,
        levels: int = 64,
        scale_min: float = 0.05,
        scale_max: float = 20.0,
    ) -> None:
        super().__init__()
        self.levels, self.scale_min = levels, scale_min
        self.log_step = math.log(scale_max / scale_min) / (levels - 1)
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        self.to_z = nn.Linear(channels, hyper)
        self.mix = nn.Linear(hyper, codewords)
        self.codebook = nn.Parameter(0.05 * torch.randn(codewords, channels, size, size))
        start = 0.4 * (levels - 1) / LEVEL_GAIN
        self.base = nn.Parameter(torch.full((channels, size, size), start))
        self.z_location = nn.Parameter(torch.zeros(hyper))
        self.z_log_scale = nn.Parameter(torch.zeros(hyper))

    def analyse(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Return the unrounded hyper-latents of the latents `y`."""
        hidden = functional.leaky_relu(self.conv_in(torch.log1p(y.abs())), 0.1)
        hidden = functional.leaky_relu(self.conv_out(hidden), 0.1)
        return Z_RANGE * torch.tanh(self.to_z(hidden.mean(dim=(2, 3))) / Z_RANGE)

    def scales(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """Return the Laplace scale of every latent, in quantisation steps, for rounded `z`."""
        mixed = torch.einsum("bk,kchw->bchw", self.mix(z), self.codebook)
        level = LEVEL_GAIN * (self.base + mixed)
        level = level + (level.clamp(0, self.levels - 1) - level).detach()
        return self.scale_min * torch.exp(self.log_step * level)

    def bits(self, y: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Return differentiable estimates of the bits of y and of z, per image (uniform noise)."""
        z = self.analyse(y)
        noise = torch.rand_like(z) - 0.5
        z_bits = laplace_bits(z + noise - self.z_location, self.z_log_scale.exp())
        scale = self.scales(round_straight_through(z))
        y_bits = laplace_bits(y + torch.rand_like(y) - 0.5, scale)
        return y_bits.sum(dim=(1, 2, 3)), z_bits.sum(dim=1)

    @torch.no_grad()
    def export(self) -> IntegerPrior:
        """Build the integer prior from the present weights, in fp64, once."""

        def fixed(x: Tensor, bits: int) -> NDArray[np.int64]:
            scaled = x.detach().double().cpu().numpy() * float(1 << bits)
            return np.rint(scaled).astype(np.int64)

        levels = np.arange(self.levels, dtype=np.float64)
        codewords = self.codebook.shape[0]
        return IntegerPrior(
            z_tables=laplace_tables(
                self.z_log_scale.detach().double().exp().clamp(0.05, 40).cpu().numpy(),
                self.z_location.detach().double().clamp(-Z_LIMIT, Z_LIMIT).cpu().numpy(),
            ),
            y_tables=laplace_tables(self.scale_min * np.exp(self.log_step * levels)),
            mix=fixed(self.mix.weight, FRACTION_BITS),
            mix_bias=fixed(self.mix.bias, FRACTION_BITS),
            codebook=fixed(LEVEL_GAIN * self.codebook.reshape(codewords, -1), FRACTION_BITS),
            base=fixed(LEVEL_GAIN * self.base.reshape(-1), 2 * FRACTION_BITS),
        )
