"""Darkening of daylight images by calibrated sensor physics, in linear light.

sRGB -> exact inverse transfer -> exposure factor -> white-balance gains undone -> Bayer mosaic
-> Poisson shot noise, Gaussian read noise, row noise, quantisation -> demosaic -> gains -> sRGB.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ArgumentError, ShapeError

WHITE_LEVEL = 15583.0
"""Usable levels of the 14-bit sensors that were calibrated (white minus black)."""

# camera: (log K range) and (slope, bias, deviation) of log read sigma and log row sigma against
# log K, natural logarithms. Figures: Wei et al., "A Physics-based Noise Formation Model" (ELD).
_CAMERAS = {
    "SonyA7S2": ((0.094, 6.01), (0.541, 1.218, 0.268), (0.528, -0.592, 0.294)),
    "Canon5D4": ((0.218, 13.96), (0.677, 1.512, 0.246), (0.471, -0.808, 0.244)),
    "Canon70D": ((0.407, 26.08), (0.568, 1.998, 0.249), (0.729, -0.937, 0.250)),
    "Canon700D": ((0.448, 28.65), (0.652, 2.080, 0.258), (0.622, -0.776, 0.248)),
    "NikonD850": ((0.415, 26.56), (0.563, 0.799, 0.214), (0.448, -1.798, 0.232)),
}
CAMERAS = tuple(_CAMERAS)


@dataclass(frozen=True, slots=True)
class Exposure:
    """The settings of one dark shot.

    Args:
        factor: Light kept, in (0, 1]; 0.02 is fifty times less light.
        gain: System gain K, digital numbers an electron.
        read_sigma: Standard deviation of the read noise, in digital numbers.
        row_sigma: Standard deviation of the row noise, in digital numbers.
        red_gain: White-balance gain of red, unitless.
        blue_gain: White-balance gain of blue, unitless.
    """

    factor: float
    gain: float
    read_sigma: float
    row_sigma: float
    red_gain: float = 2.1
    blue_gain: float = 1.7

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 < self.factor <= 1:
            raise ArgumentError(f"Exposure: factor is {self.factor}, must be in (0, 1]")
        for name in ("gain", "red_gain", "blue_gain"):
            if not getattr(self, name) > 0:
                raise ArgumentError(f"Exposure: {name} is {getattr(self, name)}, must be > 0")
        for name in ("read_sigma", "row_sigma"):
            if not getattr(self, name) >= 0:
                raise ArgumentError(f"Exposure: {name} is {getattr(self, name)}, must be >= 0")


def sample_exposure(
    generator: torch.Generator,
    *,
    camera: str | None = None,
    factor: tuple[float, float] = (0.003, 0.2),
    max_gain: float = 8.0,
) -> Exposure:
    """Draw one exposure from the calibrated cameras.

    Args:
        generator: CPU generator; the draw is repeatable.
        camera: One of `CAMERAS`, or None for any of them.
        factor: Range of the exposure factor, drawn log-uniformly.
        max_gain: Upper bound of the system gain; larger ones leave hardly any picture.

    Raises:
        ArgumentError: an unknown camera or an empty range.
    """
    if camera is not None and camera not in _CAMERAS:
        raise ArgumentError(f"sample_exposure: camera is {camera!r}, must be one of {CAMERAS}")
    if not 0 < factor[0] <= factor[1] <= 1:
        raise ArgumentError(f"sample_exposure: factor is {factor}, must be 0 < low <= high <= 1")

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    def normal() -> float:
        return torch.randn((), generator=generator).item()

    def log_uniform(low: float, high: float) -> float:
        return float(torch.tensor(uniform(*torch.tensor([low, high]).log().tolist())).exp())

    index = int(torch.randint(len(CAMERAS), (), generator=generator))
    (low, high), read, row = _CAMERAS[camera or CAMERAS[index]]
    gain = log_uniform(low, max(low, min(high, max_gain)))
    log_gain = float(torch.tensor(gain).log())

    def sigma(line: tuple[float, float, float]) -> float:
        return float(torch.tensor(line[0] * log_gain + line[1] + line[2] * normal()).exp())

    return Exposure(
        factor=log_uniform(*factor),
        gain=gain,
        read_sigma=sigma(read),
        row_sigma=sigma(row),
        red_gain=uniform(1.9, 2.4),
        blue_gain=uniform(1.5, 1.9),
    )


def srgb_to_linear(x: Tensor) -> Tensor:
    """Exact inverse of the sRGB transfer function (IEC 61966-2-1); any shape, [0, 1]."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: Tensor) -> Tensor:
    """Exact sRGB transfer function (IEC 61966-2-1); any shape, [0, 1]."""
    low = x.clamp_min(0.0031308)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * low ** (1 / 2.4) - 0.055)


def darken(
    image: Float[Tensor, "b 3 height width"], exposure: Exposure, generator: torch.Generator
) -> Float[Tensor, "b 3 height width"]:
    """Shoot `image` again with less light.

    Args:
        image: sRGB in [0, 1]. Odd sides are padded by repetition and cut again.
        exposure: Light, gain and noise of the shot.
        generator: On the device of `image`; the noise is repeatable.

    Returns: sRGB in [0, 1], rounded to 8 bit as a camera would store it.

    Raises:
        ShapeError: `image` is not (b, 3, height, width) with sides of at least 2.

    Source: noise formation of Wei et al., CVPR 2020, arXiv:2003.12751 (Gaussian read noise in
    place of Tukey-lambda); gains after Brooks et al., CVPR 2019, arXiv:1811.11127.
    Cost: linear in pixels.
    """
    if image.ndim != 4 or image.shape[1] != 3 or min(image.shape[-2:]) < 2:
        raise ShapeError(
            f"darken: image has shape {tuple(image.shape)}, must be (b, 3, height, width) "
            "with height and width >= 2"
        )
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, width % 2, 0, height % 2), mode="replicate")
    gains = image.new_tensor([exposure.red_gain, 1.0, exposure.blue_gain])[:, None, None]
    raw = _mosaic(srgb_to_linear(padded) * exposure.factor / gains)
    electrons = raw * WHITE_LEVEL / exposure.gain
    numbers = torch.poisson(electrons, generator=generator) * exposure.gain

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=image.device, dtype=image.dtype)

    numbers = numbers + exposure.read_sigma * randn(*numbers.shape)
    numbers = numbers + exposure.row_sigma * randn(*numbers.shape[:-1], 1)
    linear = _demosaic(numbers.round() / WHITE_LEVEL) * gains
    out = linear_to_srgb(linear.clamp(0, 1))[..., :height, :width]
    return (out * 255).round() / 255


def _mosaic(rgb: Tensor) -> Tensor:
    """RGGB mosaic: (b, 3, h, w) -> (b, 1, h, w), even sides."""
    raw = rgb[:, 1:2].clone()
    raw[..., 0::2, 0::2] = rgb[:, 0:1, 0::2, 0::2]
    raw[..., 1::2, 1::2] = rgb[:, 2:3, 1::2, 1::2]
    return raw


def _demosaic(raw: Tensor) -> Tensor:
    """Bilinear demosaic of an RGGB mosaic, as normalised convolution (right at the border too)."""
    height, width = raw.shape[-2:]
    masks = raw.new_zeros(1, 3, height, width)
    masks[:, 0, 0::2, 0::2] = 1
    masks[:, 1, 0::2, 1::2] = 1
    masks[:, 1, 1::2, 0::2] = 1
    masks[:, 2, 1::2, 1::2] = 1
    kernel = raw.new_tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    kernel = kernel.expand(3, 1, 3, 3)
    total = F.conv2d(masks * raw, kernel, padding=1, groups=3)
    weight = F.conv2d(masks, kernel, padding=1, groups=3)
    return torch.where(masks.bool(), raw, total / weight)
