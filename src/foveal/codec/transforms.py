"""Analysis and synthesis transforms of maps, vectors and tokens.

A vector is a map of one position, tokens without a grid are a map of one column; a side of length
1 gets kernels and strides of length 1 along it, so that one pair of transforms serves all of them.
"""

from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from foveal.codec.config import Source

SLOPE = 0.1


def _kernel(size: tuple[int, int]) -> tuple[int, int]:
    return (3 if size[0] > 1 else 1, 3 if size[1] > 1 else 1)


def conv(inputs: int, outputs: int, size: tuple[int, int], stride: int = 1) -> nn.Conv2d:
    """Return a 3 x 3 convolution, 1 long along sides of length 1, that keeps the size / stride."""
    kernel = _kernel(size)
    steps = (stride if size[0] > 1 else 1, stride if size[1] > 1 else 1)
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride=steps, padding=padding)


class ResidualBlock(nn.Module):
    """x + conv(leaky_relu(conv(x))), without normalisation."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.first = conv(channels, channels, size)
        self.second = conv(channels, channels, size)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the block's output, of the shape of `x`."""
        hidden = functional.leaky_relu(self.first(functional.leaky_relu(x, SLOPE)), SLOPE)
        return x + self.second(hidden)


def cells(x: Float[Tensor, "b c h w"], up: tuple[int, int]) -> Float[Tensor, "b d u v"]:
    """Return each cell of up[0] x up[1] positions as channels; edges are repeated to fill cells.

    Channel c of the position in row i, column j of its cell is channel (c * up[0] + i) * up[1] + j.
    """
    b, c = x.shape[:2]
    wide = pad_to_cells(x, up)
    rows, columns = wide.shape[2] // up[0], wide.shape[3] // up[1]
    wide = wide.reshape(b, c, rows, up[0], columns, up[1]).permute(0, 1, 3, 5, 2, 4)
    return wide.reshape(b, c * up[0] * up[1], rows, columns)


def spread(
    x: Float[Tensor, "b d u v"], up: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "b c h w"]:
    """Undo `cells`: put channels beside each other, and cut what is beyond `size`."""
    b, _, rows, columns = x.shape
    wide = x.reshape(b, -1, up[0], up[1], rows, columns).permute(0, 1, 4, 2, 5, 3)
    wide = wide.reshape(b, -1, rows * up[0], columns * up[1])
    return wide[:, :, : size[0], : size[1]]


def pad_to_cells(x: Float[Tensor, "b c h w"], up: tuple[int, int]) -> Float[Tensor, "b c y x"]:
    """Repeat the last row and column until cells are full."""
    pads = (0, -x.shape[3] % up[1], 0, -x.shape[2] % up[0])
    return functional.pad(x, pads, mode="replicate") if any(pads) else x


def _silence(last: nn.Conv2d) -> None:
    """Let a branch begin with 0."""
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)


class Analysis(nn.Module):
    """From normalised features to unrounded latents.

    Args:
        inputs: Channels of the features, those of all sources together.
        hidden: Channels inside.
        outputs: Latent channels.
        size: Nominal rows and columns of the features.
        stride: 1, 2 or 4.
        blocks: Residual blocks on either side of the stride.
        linear: Add a linear function of each cell of stride x stride positions; the rest begins
            with 0.
    """

    def __init__(
        self,
        *,
        inputs: int,
        hidden: int,
        outputs: int,
        size: tuple[int, int],
        stride: int,
        blocks: int,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.cell = (stride if size[0] > 1 else 1, stride if size[1] > 1 else 1)
        parts: list[nn.Module] = [conv(inputs, hidden, size)]
        parts += [ResidualBlock(hidden, size) for _ in range(blocks)]
        for _ in range(stride.bit_length() - 1):
            parts.append(conv(hidden, hidden, size, stride=2))
        parts += [ResidualBlock(hidden, size) for _ in range(blocks)]
        parts.append(nn.Conv2d(hidden, outputs, 1))
        self.parts = nn.Sequential(*parts)
        self.linear: nn.Conv2d | None = None
        if linear:
            self.linear = nn.Conv2d(inputs, outputs, self.cell, stride=self.cell, bias=False)
            _silence(self.last)

    @property
    def last(self) -> nn.Conv2d:
        """The layer that gives the latents."""
        return cast(nn.Conv2d, self.parts[-1])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n u v"]:
        """Return latents of ceil(h / stride) x ceil(w / stride) positions."""
        y = self.parts(x)
        return y if self.linear is None else y + self.linear(pad_to_cells(x, self.cell))


class Synthesis(nn.Module):
    """From decoded latents to normalised features; most work is done at the latents' size.

    Args:
        inputs: Latent channels, those of all layers together.
        hidden: Channels inside.
        outputs: Channels of the features.
        size: Nominal rows and columns of the features.
        stride: Positions of the features per latent position.
        blocks: Residual blocks at the latents' size.
        fine_blocks: Residual blocks at the features' size.
        linear: Add a linear function of the latents of each position; the rest begins with 0.
    """

    def __init__(
        self,
        *,
        inputs: int,
        hidden: int,
        outputs: int,
        size: tuple[int, int],
        stride: int,
        blocks: int,
        fine_blocks: int = 0,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.up = (stride if size[0] > 1 else 1, stride if size[1] > 1 else 1)
        small = (-(-size[0] // stride), -(-size[1] // stride))
        inner = max(outputs, hidden // 4) if stride > 1 else hidden
        self.first = conv(inputs, hidden, small)
        self.blocks = nn.Sequential(*[ResidualBlock(hidden, small) for _ in range(blocks)])
        self.spread = nn.Conv2d(hidden, inner * self.up[0] * self.up[1], 1)
        self.refine = conv(inner, inner, size)
        self.fine = nn.Sequential(*[ResidualBlock(inner, size) for _ in range(fine_blocks)])
        self.last = conv(inner, outputs, size)
        self.linear: nn.Conv2d | None = None
        if linear:
            self.linear = nn.Conv2d(inputs, outputs * self.up[0] * self.up[1], 1)
            _silence(self.last)

    def forward(
        self, y: Float[Tensor, "b n u v"], size: tuple[int, int]
    ) -> Float[Tensor, "b c h w"]:
        """Return features of `size`, which the latents cover."""
        hidden = functional.leaky_relu(self.blocks(self.first(y)), SLOPE)
        wide = spread(self.spread(hidden), self.up, size)
        wide = self.fine(wide + self.refine(functional.leaky_relu(wide, SLOPE)))
        x = self.last(functional.leaky_relu(wide, SLOPE))
        return x if self.linear is None else x + spread(self.linear(y), self.up, size)


def principal(x: Float[Tensor, "b c h w"], analysis: Analysis) -> Float[Tensor, "n c i j"]:
    """Return weights of an analysis' linear part that give the principal components of cells.

    They are orthonormal, by falling variance; latents beyond the numbers of a cell get 0.
    """
    wanted = cast(nn.Conv2d, analysis.linear).weight
    vectors = cells(x.double(), analysis.cell).transpose(0, 1).flatten(1)
    centered = vectors - vectors.mean(1, keepdim=True)
    found = torch.linalg.eigh(centered @ centered.T).eigenvectors.flip(1).T[: len(wanted)]
    out = wanted.new_zeros(wanted.shape)
    out[: len(found)] = found.reshape(-1, *wanted.shape[1:]).to(wanted)
    return out


def least_squares(
    y: Float[Tensor, "b n u v"], target: Float[Tensor, "b d u v"], ridge: float = 1e-6
) -> tuple[Float[Tensor, "d n 1 1"], Float[Tensor, "d"]]:
    """Return weights and bias of the 1 x 1 convolution from `y` that is nearest to `target`.

    Args:
        y: Latents.
        target: What they shall give.
        ridge: Share of the latents' mean variance that is added to each.
    """
    a = y.double().transpose(0, 1).flatten(1)
    b = target.double().transpose(0, 1).flatten(1)
    mean_a, mean_b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    a, b = a - mean_a, b - mean_b
    square = a @ a.T
    added = ridge * square.diagonal().mean() + 1e-12
    weight = torch.linalg.solve(square + added * torch.eye(len(a)).to(square), a @ b.T).T
    bias = (mean_b - weight @ mean_a)[:, 0]
    return weight[:, :, None, None].to(y.dtype), bias.to(y.dtype)


def to_map(x: Tensor, source: Source) -> Float[Tensor, "b c h w"]:
    """Return features of `source` as a map: tokens lie along the rows of their grid."""
    if source.kind == "vector":
        return x[:, :, None, None]
    if source.kind == "tokens":
        return x.transpose(1, 2).unflatten(2, (source.height, source.width))
    return x


def from_map(x: Float[Tensor, "b c h w"], kind: Literal["map", "vector", "tokens"]) -> Tensor:
    """Undo `to_map`."""
    if kind == "vector":
        return x[:, :, 0, 0]
    if kind == "tokens":
        return x.flatten(2).transpose(1, 2).contiguous()
    return x


def mean_and_std(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "c"], Float[Tensor, "c"]]:
    """Return the mean and standard deviation of each channel; never 0."""
    return x.mean(dim=(0, 2, 3)), x.std(dim=(0, 2, 3), correction=0).clamp_min(1e-3)


def quantise(x: Tensor) -> Tensor:
    """Round to integers within the coder's range."""
    return torch.round(x).clamp(-(1 << 15), 1 << 15)
