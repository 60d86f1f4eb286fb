"""What every baseline is: sRGB images in [0, 1] in, brighter ones of the same shape out."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.errors import ArgumentError


@runtime_checkable
class Baseline(Protocol):
    """An enhancer to compare with: sRGB in [0, 1] in and out, shape, dtype and device kept."""

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return enhanced images; each depends on itself alone."""
        ...


def check_option(where: str, name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside [low, high].

    Raises:
        ArgumentError: it is outside, or NaN.
    """
    if not low <= value <= high:
        raise ArgumentError(f"{where}: {name} is {value}, must be in [{low:g}, {high:g}]")


def with_value(
    x: Float[Tensor, "b 3 h w"], value: Float[Tensor, "b 1 h w"], wanted: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b 3 h w"]:
    """Give pixels another value (their largest channel); hue and saturation stay (HSV)."""
    known = value > 0
    return torch.where(known, x * (wanted / torch.where(known, value, 1)), wanted).clamp(0, 1)
