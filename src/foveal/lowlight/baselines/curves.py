"""Baselines that are one curve or one gain for the whole picture."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.data.sensor_noise import linear_to_srgb, srgb_to_linear
from foveal.lowlight.baselines.protocol import check_option
from foveal.lowlight.batches import widened
from foveal.lowlight.concave_curve import ConcaveCurve
from foveal.lowlight.ensemble import ENSEMBLE, reciprocal_curve

_HALVINGS = 24


@dataclass(frozen=True, slots=True)
class Identity:
    """Leave the picture as it is."""

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return `images`."""
        widened("Identity", images)
        return images


@dataclass(frozen=True, slots=True)
class Gamma:
    """x^gamma on coded values.

    Attributes:
        gamma: Power, in (0, 1] to brighten.
    """

    gamma: float = 0.45

    def __post_init__(self) -> None:
        check_option("Gamma", "gamma", self.gamma, 0.01, 10)

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images."""
        return (widened("Gamma", images) ** self.gamma).to(images.dtype)


@dataclass(frozen=True, slots=True)
class TargetGamma:
    """x^gamma with, for each picture, the gamma that gives a wanted mean.

    The mean falls with gamma, so gamma is found by halving the interval of its logarithm, 24 times.

    Attributes:
        target: Wanted mean of the coded values of all channels, in (0, 1).
        least: Least gamma; with it, black pictures and those with few bright pixels end darker than
            the target.
    """

    target: float = 0.4
    least: float = 0.05

    def __post_init__(self) -> None:
        check_option("TargetGamma", "target", self.target, 0.01, 0.99)
        check_option("TargetGamma", "least", self.least, 0.01, 1)

    def gammas(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b"]:
        """Return the power of each picture, in [least, 1]: none is darkened."""
        x = widened("TargetGamma", images)
        low = torch.full((len(x), 1, 1, 1), self.least, dtype=x.dtype, device=x.device).log()
        high = torch.zeros_like(low)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            bright = (x ** middle.exp()).mean((1, 2, 3), keepdim=True) > self.target
            low, high = torch.where(bright, middle, low), torch.where(bright, high, middle)
        return torch.where(x.mean((1, 2, 3)) >= self.target, 1.0, high.flatten().exp())

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images."""
        gammas = self.gammas(images)[:, None, None, None]
        return (images.to(gammas.dtype) ** gammas).to(images.dtype)


@dataclass(frozen=True, slots=True)
class Log:
    """log(1 + c x) / log(1 + c).

    Attributes:
        c: Strength, > 0; the slope at black is c / log(1 + c).
    """

    c: float = 100.0

    def __post_init__(self) -> None:
        check_option("Log", "c", self.c, 1e-3, 1e6)

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images."""
        x = torch.log1p(self.c * widened("Log", images))
        return (x / torch.log1p(torch.tensor(self.c, dtype=x.dtype))).clamp(0, 1).to(images.dtype)


@dataclass(frozen=True, slots=True)
class Reciprocal:
    """(1 + a) x / (x + a), the base family of SACC's curve ensemble.

    Attributes:
        a: > 0; the smaller, the brighter. The slope at black is 1 + 1 / a.
    """

    a: float = 0.1

    def __post_init__(self) -> None:
        check_option("Reciprocal", "a", self.a, 1e-5, 1e5)

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images."""
        x = reciprocal_curve(widened("Reciprocal", images), self.a)
        return x.clamp(0, 1).to(images.dtype)


def reciprocal_grid() -> dict[str, Reciprocal]:
    """Return the nine reciprocal curves of SACC's ensemble, a from 0.005 to 2, by name."""
    return {f"reciprocal-{a:.3g}": Reciprocal(a) for a in ENSEMBLE}


@dataclass(frozen=True, slots=True)
class GrayWorld:
    """One gain a channel in linear light: equal means, and a wanted mean over all.

    Attributes:
        target: Wanted mean in linear light, before values above 1 are cut; mid-grey is 0.18.
        most: Largest gain of a channel.
    """

    target: float = 0.18
    most: float = 1000.0

    def __post_init__(self) -> None:
        check_option("GrayWorld", "target", self.target, 1e-3, 1)
        check_option("GrayWorld", "most", self.most, 1, 1e6)

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return balanced images. A channel without any light stays black."""
        linear = srgb_to_linear(widened("GrayWorld", images))
        mean = linear.mean((2, 3), keepdim=True)
        gain = (self.target / mean.clamp_min(1e-12)).clamp_max(self.most)
        return linear_to_srgb((linear * gain).clamp(0, 1)).to(images.dtype)


class RandomCurve:
    """SACC's curve with random weights, as a check on what training adds."""

    def __init__(self, *, seed: int = 0) -> None:
        """Draw the weights as the paper does."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._curve = ConcaveCurve().eval().requires_grad_(False)

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images."""
        x = widened("RandomCurve", images).float()
        return self._curve.to(x.device)(x).to(images.dtype)
