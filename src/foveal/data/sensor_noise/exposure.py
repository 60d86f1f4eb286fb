"""Darkening of daylight images by calibrated sensor physics, in linear light.

sRGB -> exact inverse transfer -> exposure factor -> white-balance gains undone -> Bayer mosaic
-> Poisson shot noise, Gaussian read noise, row noise, quantisation -> demosaic -> gains -> sRGB.
`shoot` does the same with every further detail, and keeps a record of each sample.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.data.sensor_noise.color import linear_to_srgb, srgb_to_linear
from foveal.data.sensor_noise.models import CAMERAS, WHITE_LEVEL, Line, log_uniform, uniform
from foveal.data.sensor_noise.models import camera as find_camera
from foveal.data.sensor_noise.sensor import capture, demosaic, mosaic
from foveal.errors import ArgumentError, ShapeError


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
    if camera is not None and camera not in CAMERAS:
        raise ArgumentError(f"sample_exposure: camera is {camera!r}, must be one of {CAMERAS}")
    if not 0 < factor[0] <= factor[1] <= 1:
        raise ArgumentError(f"sample_exposure: factor is {factor}, must be 0 < low <= high <= 1")

    index = int(torch.randint(len(CAMERAS), (), generator=generator))
    found = find_camera(camera or CAMERAS[index])
    low, high = found.gains
    gain = log_uniform(generator, low, max(low, min(high, max_gain)))
    log_gain = float(torch.tensor(gain).log())

    def sigma(line: Line) -> float:
        noise = torch.randn((), generator=generator).item()
        return float(torch.tensor(line[0] * log_gain + line[1] + line[2] * noise).exp())

    return Exposure(
        factor=log_uniform(generator, *factor),
        gain=gain,
        read_sigma=sigma(found.read),
        row_sigma=sigma(found.row),
        red_gain=uniform(generator, 1.9, 2.4),
        blue_gain=uniform(generator, 1.5, 1.9),
    )


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
        ArgumentError: `image` is not floating-point or holds NaN.

    Source: noise formation of Wei et al., CVPR 2020, arXiv:2003.12751 (Gaussian read noise in
    place of Tukey-lambda); gains after Brooks et al., CVPR 2019, arXiv:1811.11127.
    Cost: linear in pixels.
    """
    if image.ndim != 4 or image.shape[1] != 3 or min(image.shape[-2:]) < 2:
        raise ShapeError(
            f"darken: image has shape {tuple(image.shape)}, must be (b, 3, height, width) "
            "with height and width >= 2"
        )
    if not image.dtype.is_floating_point or not torch.isfinite(image).all():
        raise ArgumentError(
            f"darken: image is {image.dtype} or holds NaN, must be finite floating-point in "
            "[0, 1]; divide 8-bit values by 255"
        )
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, width % 2, 0, height % 2), mode="replicate")
    gains = image.new_tensor([exposure.red_gain, 1.0, exposure.blue_gain])[:, None, None]
    raw = mosaic(srgb_to_linear(padded) * exposure.factor / gains)
    numbers = capture(
        raw * WHITE_LEVEL,
        gain=exposure.gain,
        read_sigma=exposure.read_sigma,
        row_sigma=exposure.row_sigma,
        generator=generator,
    )
    linear = demosaic(numbers.round() / WHITE_LEVEL) * gains
    out = linear_to_srgb(linear.clamp(0, 1))[..., :height, :width]
    return (out * 255).round() / 255
