"""Retinex in one step: divide by an illumination that follows the edges (after LIME)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.lowlight.baselines.protocol import check_option
from foveal.lowlight.batches import luma, widened


def box_mean(x: Float[Tensor, "b c h w"], radius: int) -> Float[Tensor, "b c h w"]:
    """Mean over squares of side 2 radius + 1; at the border over what lies inside."""
    return _line_mean(_line_mean(x, radius, 2), radius, 3)


def _line_mean(x: Tensor, radius: int, dim: int) -> Tensor:
    """Mean along one side by a running sum, in fp64: the sums are large beside what they differ."""
    size = x.shape[dim]
    place = torch.arange(size, device=x.device)
    low, high = (place - radius).clamp_min(0), (place + radius + 1).clamp_max(size)
    sides = (0, 0, 1, 0) if dim == 2 else (1, 0, 0, 0)
    total = F.pad(x.cumsum(dim, dtype=torch.float64), sides)
    share = 1 / (high - low).to(torch.float64)
    share = share[:, None] if dim == 2 else share
    mean = (total.index_select(dim, high) - total.index_select(dim, low)) * share
    return mean.to(x.dtype)


def guided_filter(
    guide: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b c h w"], *, radius: int, epsilon: float
) -> Float[Tensor, "b c h w"]:
    """Smooth `x` where `guide` is flat, and keep it where `guide` has edges.

    q = mean(a) I + mean(b), a = cov(I, x) / (var(I) + epsilon), b = mean(x) - a mean(I), all over
    squares.

    Args:
        guide: Picture whose edges are kept.
        x: What is smoothed.
        radius: Of the squares, in pixels.
        epsilon: Variance of the guide that counts as flat.

    Source: He, Sun and Tang, "Guided Image Filtering", IEEE TPAMI 2013, eqs. 5, 6, 8.
    Cost: independent of the radius.
    """
    mean_guide, mean_x = box_mean(guide, radius), box_mean(x, radius)
    shared = box_mean(guide * x, radius) - mean_guide * mean_x
    spread = (box_mean(guide * guide, radius) - mean_guide**2).clamp_min(0)
    a = shared / (spread + epsilon)
    b = mean_x - a * mean_guide
    return box_mean(a, radius) * guide + box_mean(b, radius)


@dataclass(frozen=True, slots=True)
class Lime:
    """x / T^gamma, T being the largest channel, smoothed but for its edges.

    Attributes:
        gamma: Of the illumination; 1 removes it wholly, 0 leaves the picture.
        radius: Of the guided filter, in pixels; None: a fiftieth of the longer side.
        epsilon: Of the guided filter, relative to the square of the mean illumination, so that dark
            pictures have edges too.
        floor: Least illumination.

    Source: Guo, Li and Ling, "LIME: Low-Light Image Enhancement via Illumination Map Estimation",
    IEEE TIP 2017: eqs. 3 and 13, gamma 0.8. Differs: T is refined by a guided filter and not by
    weighted total variation; no BM3D follows. Hence "LIME-like".
    """

    gamma: float = 0.8
    radius: int | None = None
    epsilon: float = 0.01
    floor: float = 1e-3

    def __post_init__(self) -> None:
        check_option("Lime", "gamma", self.gamma, 0, 1)
        check_option("Lime", "radius", 1 if self.radius is None else self.radius, 1, 1000)
        check_option("Lime", "epsilon", self.epsilon, 1e-8, 1e3)
        check_option("Lime", "floor", self.floor, 1e-6, 1)

    def illumination(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 1 height width"]:
        """Return T, in [floor, 1]."""
        x = widened("Lime", images)
        brightest = x.amax(1, keepdim=True)
        radius = self.radius or max(1, max(x.shape[2:]) // 50)
        scale = brightest.mean((1, 2, 3), keepdim=True).clamp_min(self.floor)
        smooth = guided_filter(
            luma(x) / scale, brightest / scale, radius=radius, epsilon=self.epsilon
        )
        return (smooth * scale).clamp(self.floor, 1)

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images."""
        t = self.illumination(images)
        return (images.to(t.dtype) / t**self.gamma).clamp(0, 1).to(images.dtype)
