"""Draw the record of a dark picture: one random generator a sample, every draw kept."""

import torch

from foveal.data.sensor_noise.color import camera_matrix
from foveal.data.sensor_noise.models import (
    CAMERAS,
    PHONE_LEVEL,
    WHITE_LEVEL,
    NoiseLine,
    brooks_noise,
    eld_noise,
    log_uniform,
    pmrid_noise,
    uniform,
)
from foveal.data.sensor_noise.profiles import Profiles
from foveal.data.sensor_noise.shot import Row, Shot
from foveal.errors import ArgumentError

SOURCES = ("brooks", "eld", "pmrid", "profiles")
"""Noise of: Brooks' line; ELD's cameras; PMRID's phone; profiles measured by darktable's users."""

_UNKNOWN_LEVELS = 16383  # of a 14-bit sensor, where a source does not name its own
_PHONE_ISO = (100.0, 6400.0)


def draw_shot(
    seed: int,
    *,
    source: str = "eld",
    factor: tuple[float, float] = (0.003, 0.2),
    camera: str | None = None,
    profiles: Profiles | None = None,
    iso: tuple[float, float] | None = None,
    color: bool = True,
    jpeg_fraction: float = 0.5,
    jpeg_quality: tuple[int, int] = (70, 95),
) -> Shot:
    """Draw a dark picture's record; `shoot` makes the picture.

    The exposure factor is log-uniform; color matrices are mixed uniformly, gains are
    1 / N(0.8, 0.1), red U(1.9, 2.4), blue U(1.5, 1.9) (Brooks et al., CVPR 2019).

    Args:
        seed: Of the one generator that everything is drawn from, also the seed of the pixels.
        source: One of `SOURCES`.
        factor: Range of the exposure factor.
        camera: Of "eld" only: one of `CAMERAS`; None for any of them.
        profiles: Of "profiles" only: `camera_profiles()`.
        iso: Of "pmrid" (log-uniform; 100 to 6400) and "profiles" (uniform among the profiles
            within; all).
        color: Through the camera's colors and white balance; else those of sRGB.
        jpeg_fraction: Share of pictures that are stored as JPEG, in [0, 1].
        jpeg_quality: Range of their quality, within 1 to 95.

    Raises:
        ArgumentError: an unknown source, an argument that the source does not use, or a range
            that is empty.
    """
    _check(source, camera, profiles, iso)
    if not 0 < factor[0] <= factor[1] <= 1:
        raise ArgumentError(f"draw_shot: factor is {factor}, must be 0 < low <= high <= 1")
    if not 0 <= jpeg_fraction <= 1:
        raise ArgumentError(f"draw_shot: jpeg_fraction is {jpeg_fraction}, must be in [0, 1]")
    if not 1 <= jpeg_quality[0] <= jpeg_quality[1] <= 95:
        raise ArgumentError(f"draw_shot: jpeg_quality is {jpeg_quality}, must be within 1 to 95")
    generator = torch.Generator().manual_seed(seed)
    kept = log_uniform(generator, *factor)
    noise, name, row, shape, levels = _noise(generator, source, camera, profiles, iso)
    matrix, gains = _color(generator)
    is_jpeg = uniform(generator, 0, 1) < jpeg_fraction
    quality = int(torch.randint(jpeg_quality[0], jpeg_quality[1] + 1, (), generator=generator))
    return Shot(
        factor=min(max(kept, factor[0]), factor[1]),
        noise=noise,
        seed=int(torch.randint(2**62, (), generator=generator)),
        source=name,
        shot_noise="gaussian" if source == "brooks" else "poisson",
        tukey_shape=shape,
        row_sigma=row,
        levels=levels,
        camera=matrix if color else None,
        gains=gains if color else (1.0, 1.0, 1.0),
        mosaic=True,
        jpeg_quality=quality if is_jpeg else None,
    )


def _check(
    source: str,
    camera: str | None,
    profiles: Profiles | None,
    iso: tuple[float, float] | None,
) -> None:
    if source not in SOURCES:
        raise ArgumentError(f"draw_shot: source is {source!r}, must be one of {SOURCES}")
    if camera is not None and source != "eld":
        raise ArgumentError(f'draw_shot: camera is for "eld", not for {source!r}; leave it out')
    if camera is not None and camera not in CAMERAS:
        raise ArgumentError(f"draw_shot: camera is {camera!r}, must be one of {CAMERAS}")
    if (profiles is not None) != (source == "profiles"):
        raise ArgumentError(
            'draw_shot: profiles must be given for "profiles" and for no other source; '
            "use camera_profiles()"
        )
    if iso is not None and source not in ("pmrid", "profiles"):
        raise ArgumentError(f'draw_shot: iso is for "pmrid" and "profiles", not for {source!r}')
    if iso is not None and not 0 < iso[0] <= iso[1]:
        raise ArgumentError(f"draw_shot: iso is {iso}, must be 0 < low <= high")


def _noise(
    generator: torch.Generator,
    source: str,
    camera: str | None,
    profiles: Profiles | None,
    iso: tuple[float, float] | None,
) -> tuple[NoiseLine, str, float, float | None, int]:
    """Return noise, name, row sigma, Tukey shape and levels."""
    if source == "brooks":
        return brooks_noise(generator), "brooks", 0.0, None, _UNKNOWN_LEVELS
    if source == "pmrid":
        speed = log_uniform(generator, *(iso or _PHONE_ISO))
        return pmrid_noise(speed), f"pmrid:ISO {speed:.0f}", 0.0, None, int(PHONE_LEVEL)
    if profiles is not None:
        rows = [p for p in profiles.usable if iso is None or iso[0] <= p.iso <= iso[1]]
        if not rows:
            raise ArgumentError(f"draw_shot: iso is {iso}, no profile is within; widen it")
        p = rows[int(torch.randint(len(rows), (), generator=generator))]
        name = f"profile:{p.maker} {p.model} ISO {p.iso}"
        return p.noise, name, 0.0, None, _UNKNOWN_LEVELS
    drawn = eld_noise(generator, camera=camera)
    noise = NoiseLine.same(drawn.gain / WHITE_LEVEL, (drawn.read_sigma / WHITE_LEVEL) ** 2)
    row = drawn.row_sigma / WHITE_LEVEL
    return noise, f"eld:{drawn.camera}", row, drawn.tukey_shape, int(WHITE_LEVEL)


def _color(generator: torch.Generator) -> tuple[tuple[Row, Row, Row], Row]:
    weights = torch.rand(4, generator=generator) + 1e-6
    r, g, b = camera_matrix(weights).tolist()
    whole = 1 / max(0.8 + 0.1 * torch.randn((), generator=generator).item(), 0.3)
    red, blue = uniform(generator, 1.9, 2.4), uniform(generator, 1.5, 1.9)
    return (tuple(r), tuple(g), tuple(b)), (red * whole, whole, blue * whole)
