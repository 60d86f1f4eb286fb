"""Exposure fusion of virtual exposures of one picture."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.data.sensor_noise import linear_to_srgb, srgb_to_linear
from foveal.errors import ShapeError
from foveal.lowlight.baselines.protocol import check_option
from foveal.lowlight.batches import widened

_SPREAD = 0.2


def _half(x: Tensor, dim: int) -> Tensor:
    """Blur along one side with the taps (1, 4, 6, 4, 1) / 16, and keep every second pixel."""
    count = -(-x.shape[dim] // 2)
    x = _pad(x, dim, 2)
    a, b, c, d, e = (_every_second(x, dim, at, count) for at in range(5))
    return (a + 4 * b + 6 * c + 4 * d + e) / 16


def _double(x: Tensor, dim: int, size: int) -> Tensor:
    """Put zeros between the pixels of one side, and blur with twice those taps."""
    count = x.shape[dim]
    x = _pad(x, dim, 1)
    before, here, after = (x.narrow(dim, at, count) for at in range(3))
    even, odd = (before + 6 * here + after) / 8, (here + after) / 2
    return torch.stack([even, odd], dim + 1).flatten(dim, dim + 1).narrow(dim, 0, size)


def _pad(x: Tensor, dim: int, by: int) -> Tensor:
    sides = (0, 0, by, by) if dim == 2 else (by, by, 0, 0)
    return F.pad(x, sides, mode="replicate")


def _every_second(x: Tensor, dim: int, start: int, count: int) -> Tensor:
    part = slice(start, start + 2 * count - 1, 2)
    return x[:, :, part] if dim == 2 else x[..., part]


def _up(x: Tensor, size: tuple[int, int]) -> Tensor:
    return _double(_double(x, 2, size[0]), 3, size[1])


def gaussian_pyramid(x: Float[Tensor, "b c h w"], levels: int) -> list[Tensor]:
    """Return `x` and its halves, blurred before each halving."""
    pyramid = [x]
    for _ in range(levels - 1):
        pyramid.append(_half(_half(pyramid[-1], 2), 3))
    return pyramid


def laplacian_pyramid(x: Float[Tensor, "b c h w"], levels: int) -> list[Tensor]:
    """Return what each halving loses, and the smallest picture; `collapse` gives `x` back."""
    small = gaussian_pyramid(x, levels)
    lost = [a - _up(b, (a.shape[2], a.shape[3])) for a, b in pairwise(small)]
    return [*lost, small[-1]]


def collapse(pyramid: list[Tensor]) -> Float[Tensor, "b c h w"]:
    """Undo `laplacian_pyramid`."""
    x = pyramid[-1]
    for lost in reversed(pyramid[:-1]):
        x = lost + _up(x, (lost.shape[2], lost.shape[3]))
    return x


def fusion_weights(exposure: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Contrast times saturation times how near the channels are to one half.

    |Laplacian of the mean channel| * standard deviation of the channels *
    prod_c exp(-(x_c - 0.5)^2 / (2 * 0.2^2)).

    Source: as `ExposureFusion`, section 3.1, all exponents 1.
    """
    grey = F.pad(exposure.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    centre = grey[:, :, 1:-1, 1:-1]
    contrast = (
        grey[:, :, :-2, 1:-1] + grey[:, :, 2:, 1:-1] + grey[:, :, 1:-1, :-2] + grey[:, :, 1:-1, 2:]
        - 4 * centre
    ).abs()  # fmt: skip
    saturation = exposure.std(1, keepdim=True, correction=0)
    nearness = (-((exposure - 0.5) ** 2) / (2 * _SPREAD**2)).sum(1, keepdim=True).exp()
    return contrast * saturation * nearness


def fuse(exposures: list[Float[Tensor, "b 3 h w"]]) -> Float[Tensor, "b 3 h w"]:
    """Blend exposures of one scene over all scales.

    Args:
        exposures: sRGB in [0, 1], one or more of one shape.

    Source: as `ExposureFusion`, section 3.2.
    Memory: one pyramid; exposures are added one by one, weights are made twice.
    """
    if not exposures or any(x.shape != exposures[0].shape for x in exposures):
        raise ShapeError(
            f"fuse: exposures has shapes {[tuple(x.shape) for x in exposures]}, must be one or "
            "more of one shape"
        )
    levels = max(1, min(exposures[0].shape[2:]).bit_length() - 1)
    total = sum((fusion_weights(x) for x in exposures), torch.zeros_like(exposures[0][:, :1]))
    blended: list[Tensor] = []
    for x in exposures:
        # a tiny share each, so that where no exposure is wanted all count alike
        weights = (fusion_weights(x) + 1e-12) / (total + 1e-12 * len(exposures))
        parts = [
            w * part
            for w, part in zip(
                gaussian_pyramid(weights, levels), laplacian_pyramid(x, levels), strict=True
            )
        ]
        blended = [a + b for a, b in zip(blended, parts, strict=True)] if blended else parts
    return collapse(blended).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class ExposureFusion:
    """Fuse exposures that are made of the one picture by gains in linear light.

    The gains run evenly in stops from 1 to the one that gives a wanted mean.

    Attributes:
        num_exposures: Of the longest series.
        target: Mean linear light of the brightest one, before values above 1 are cut.
        most: Largest gain.

    Source: Mertens, Kautz and Van Reeth, "Exposure Fusion", Pacific Graphics 2007. Differs: the
    exposures are virtual, so no noise is averaged out.
    """

    num_exposures: int = 4
    target: float = 0.25
    most: float = 1000.0

    def __post_init__(self) -> None:
        check_option("ExposureFusion", "num_exposures", self.num_exposures, 2, 16)
        check_option("ExposureFusion", "target", self.target, 1e-3, 1)
        check_option("ExposureFusion", "most", self.most, 1, 1e6)

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return fused images; those brighter than the target stay, but for rounding."""
        linear = srgb_to_linear(widened("ExposureFusion", images))
        mean = linear.mean((1, 2, 3), keepdim=True)
        gain = (self.target / mean.clamp_min(1e-12)).clamp(1, self.most)
        exposures = [
            linear_to_srgb((linear * gain ** (i / (self.num_exposures - 1))).clamp(0, 1))
            for i in range(self.num_exposures)
        ]
        return fuse(exposures).to(images.dtype)
