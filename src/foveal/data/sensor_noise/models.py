"""What noise a sensor has: variance = shot * x + read, in linear light with white at 1."""

import math
from dataclasses import dataclass

import torch

from foveal.errors import ArgumentError

WHITE_LEVEL = 15583.0
"""Usable levels of the 14-bit sensors that were calibrated (white minus black)."""

PHONE_LEVEL = 959.0
"""Usable levels of the 10-bit phone sensor that PMRID calibrates."""

TRIPLES = (
    (0.05, 1e-3, 1e-6),
    (0.02, 1e-4, 1e-7),
    (0.005, 1e-4, 1e-7),
    (0.01, 1e-3, 1e-6),
    (0.02, 4e-3, 2e-5),
)
"""The fixed darkness levels of our benchmarks: (exposure factor, shot, read)."""

_TUKEY_SHAPES = (-0.24, 0.2)

Line = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Range of the gain K; lines (slope, bias, deviation) of log sigma against log K."""

    gains: tuple[float, float]
    read: Line
    tukey: Line
    row: Line


# Natural logarithms, digital numbers. Figures: Wei et al., "A Physics-based Noise Formation
# Model for Extreme Low-light Raw Denoising" (ELD), CVPR 2020, arXiv:2003.12751, as released.
_CAMERAS = {
    "SonyA7S2": Calibration(
        (0.094, 6.01), (0.541, 1.218, 0.268), (0.462, 0.566, 0.263), (0.528, -0.592, 0.294)
    ),
    "Canon5D4": Calibration(
        (0.218, 13.96), (0.677, 1.512, 0.246), (0.656, 1.093, 0.286), (0.471, -0.808, 0.244)
    ),
    "Canon70D": Calibration(
        (0.407, 26.08), (0.568, 1.998, 0.249), (0.487, 1.464, 0.382), (0.729, -0.937, 0.250)
    ),
    "Canon700D": Calibration(
        (0.448, 28.65), (0.652, 2.080, 0.258), (0.598, 1.537, 0.389), (0.622, -0.776, 0.248)
    ),
    "NikonD850": Calibration(
        (0.415, 26.56), (0.563, 0.799, 0.214), (0.477, -0.090, 0.239), (0.448, -1.798, 0.232)
    ),
}
CAMERAS = tuple(_CAMERAS)


def camera(name: str) -> Calibration:
    """Return the calibration of one of `CAMERAS`."""
    return _CAMERAS[name]


@dataclass(frozen=True, slots=True)
class NoiseLine:
    """Variance against light: `shot * x + read`, for red, green and blue.

    Args:
        shot: Slope, the light of one electron; white is 1. Not negative.
        read: Variance in the dark. Not negative.
    """

    shot: tuple[float, float, float]
    read: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("shot", "read"):
            value = getattr(self, name)
            if len(value) != 3 or not all(math.isfinite(v) and v >= 0 for v in value):
                raise ArgumentError(
                    f"NoiseLine: {name} is {value}, must be three finite numbers >= 0"
                )

    @classmethod
    def same(cls, shot: float, read: float) -> "NoiseLine":
        """Return one line for the three channels."""
        return cls((shot, shot, shot), (read, read, read))


def brooks_noise(generator: torch.Generator) -> NoiseLine:
    """Draw shot and read noise of a consumer camera.

    ln shot ~ U(ln 1e-4, ln 1.2e-2); ln read ~ N(2.18 ln shot + 1.20, 0.26), natural logarithms
    (with decimal ones the read noise would be about five times as large).

    Source: Brooks et al., CVPR 2019, arXiv:1811.11127, section 3.1.
    """
    log_shot = uniform(generator, math.log(1e-4), math.log(1.2e-2))
    log_read = 2.18 * log_shot + 1.20 + 0.26 * torch.randn((), generator=generator).item()
    return NoiseLine.same(math.exp(log_shot), math.exp(log_read))


def pmrid_noise(iso: float) -> NoiseLine:
    """Noise of the phone sensor that PMRID calibrates, at an ISO speed.

    In digital numbers K = 5.995267e-4 ISO + 8.68861e-3 and
    sigma^2 = 7.11772e-7 ISO^2 + 6.514934e-4 ISO + 0.11492713, of 959 usable levels.

    Source: Wang et al., "Practical Deep Raw Image Denoising on Mobile Devices" (PMRID), ECCV
    2020, arXiv:2010.06935.
    """
    if not (math.isfinite(iso) and iso > 0):
        raise ArgumentError(f"pmrid_noise: iso is {iso}, must be > 0")
    gain = 5.995267e-4 * iso + 8.68861e-3
    variance = 7.11772e-7 * iso**2 + 6.514934e-4 * iso + 0.11492713
    return NoiseLine.same(gain / PHONE_LEVEL, variance / PHONE_LEVEL**2)


@dataclass(frozen=True, slots=True)
class CameraDraw:
    """One draw of an ELD camera: gain and standard deviations in digital numbers."""

    camera: str
    gain: float
    read_sigma: float
    row_sigma: float
    tukey_shape: float | None


def eld_noise(
    generator: torch.Generator,
    *,
    camera: str | None = None,
    max_gain: float = 8.0,
    tukey: bool = True,
) -> CameraDraw:
    """Draw gain, read and row noise of a calibrated camera.

    log K is uniform over the camera's range; log sigma = slope log K + bias + N(0, deviation).

    Args:
        generator: CPU generator; the draw is repeatable.
        camera: One of `CAMERAS`, or None for any of them.
        max_gain: Upper bound of the system gain; larger ones leave hardly any picture.
        tukey: Read noise with Tukey-lambda tails, by the released scale; else Gaussian, by the
            released Gaussian fit. The shape is uniform in [-0.24, 0.2], the released extremes
            (their table by ISO is not reproduced).

    Raises:
        ArgumentError: an unknown camera.
    """
    if camera is not None and camera not in _CAMERAS:
        raise ArgumentError(f"eld_noise: camera is {camera!r}, must be one of {CAMERAS}")
    index = int(torch.randint(len(CAMERAS), (), generator=generator))
    name = camera or CAMERAS[index]
    found = _CAMERAS[name]
    low, high = found.gains
    gain = log_uniform(generator, low, max(low, min(high, max_gain)))
    log_gain = float(torch.tensor(gain).log())

    def sigma(line: Line) -> float:
        noise = torch.randn((), generator=generator).item()
        return float(torch.tensor(line[0] * log_gain + line[1] + line[2] * noise).exp())

    if not tukey:
        return CameraDraw(name, gain, sigma(found.read), sigma(found.row), None)
    scale, row = sigma(found.tukey), sigma(found.row)
    shape = uniform(generator, *_TUKEY_SHAPES)
    return CameraDraw(name, gain, scale * math.sqrt(tukey_variance(shape)), row, shape)


def tukey_variance(shape: float) -> float:
    """Variance of the Tukey-lambda distribution of scale 1.

    2 / l^2 (1 / (1 + 2 l) - G(l + 1)^2 / G(2 l + 2)), and pi^2 / 3 at l = 0 (logistic).

    Raises:
        ArgumentError: the shape is not in (-0.5, 2]: below, the variance is infinite.
    """
    if not -0.5 < shape <= 2:
        raise ArgumentError(f"tukey_variance: shape is {shape}, must be in (-0.5, 2]")
    if abs(shape) < 1e-4:
        return math.pi**2 / 3
    log_ratio = 2 * math.lgamma(shape + 1) - math.lgamma(2 * shape + 2)
    return 2 / shape**2 * (1 / (1 + 2 * shape) - math.exp(log_ratio))


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Draw from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def log_uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Draw from [low, high), uniformly in the logarithm."""
    # exp and log of torch, in fp32: recorded draws of earlier versions stay as they were
    ends: list[float] = torch.tensor([low, high]).log().tolist()
    return float(torch.tensor(uniform(generator, ends[0], ends[1])).exp())
