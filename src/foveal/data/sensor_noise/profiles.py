"""Measured noise of real cameras: the profiles in Debian's `darktable` package (GPL-3+).

The file is fetched and verified by `foveal.data.samples` and read at run time; no figure of it is
part of Foveal.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from foveal._core.files import read_input
from foveal.data import samples
from foveal.data.sensor_noise.models import NoiseLine
from foveal.errors import ArgumentError, MediaError

MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Profile:
    """One measurement: a camera at an ISO speed. `noise` is in linear light, white at 1."""

    maker: str
    model: str
    iso: int
    noise: NoiseLine


@dataclass(frozen=True, slots=True)
class Profiles:
    """What a file of profiles holds.

    Args:
        usable: In the order of the file.
        num_cameras: All cameras, also those without a usable profile.
        num_profiles: All profiles.
        num_skipped: Those that the file itself marks to be skipped.
        num_impossible: Others, with a channel whose shot noise is not above zero.
    """

    usable: tuple[Profile, ...]
    num_cameras: int
    num_profiles: int
    num_skipped: int
    num_impossible: int

    def cameras(self) -> tuple[tuple[str, str], ...]:
        """Return (maker, model) of the cameras with a usable profile, in order."""
        return tuple(dict.fromkeys((p.maker, p.model) for p in self.usable))

    def noise(self, maker: str, model: str, iso: float) -> NoiseLine:
        """Noise at an ISO speed, by straight lines between the measured ones.

        Several measurements at one speed are averaged.

        Raises:
            ArgumentError: no such camera, or a speed outside of the measured ones.
        """
        return interpolate([p for p in self.usable if (p.maker, p.model) == (maker, model)], iso)


def interpolate(profiles: Iterable[Profile], iso: float) -> NoiseLine:
    """Noise of one camera at an ISO speed between measured ones; see `Profiles.noise`."""
    groups: dict[int, list[NoiseLine]] = {}
    for p in profiles:
        groups.setdefault(p.iso, []).append(p.noise)
    if not groups:
        raise ArgumentError("profiles: there is none of this camera; `cameras()` lists them")
    speeds = sorted(groups)
    if not speeds[0] <= iso <= speeds[-1]:
        raise ArgumentError(
            f"profiles: iso is {iso}, must be in {speeds[0]} to {speeds[-1]}, which were measured"
        )
    above = next(s for s in speeds if s >= iso)
    below = max(s for s in speeds if s <= iso)
    share = 0.0 if above == below else (iso - below) / (above - below)

    def mean(speed: int, name: str, channel: int) -> float:
        found: list[float] = [getattr(n, name)[channel] for n in groups[speed]]
        return sum(found) / len(found)

    def value(name: str) -> tuple[float, float, float]:
        r, g, b = (
            mean(below, name, c) * (1 - share) + mean(above, name, c) * share for c in range(3)
        )
        return r, g, b

    return NoiseLine(shot=value("shot"), read=value("read"))


@cache
def camera_profiles() -> Profiles:
    """Return the packaged profiles, fetching the package (6 MB) first if needed.

    Raises:
        MediaError: it cannot be fetched, or is not the file expected.
    """
    return read_profiles(samples.path("noise-profiles"))


def read_profiles(path: str | Path) -> Profiles:
    """Read a file of darktable's noise profiles.

    Variance in the dark below zero (a fit may cross zero there) is taken as zero. Profiles that
    the file marks to be skipped, and those whose shot noise is not above zero, are left out.

    Raises:
        ArgumentError: the file is missing, a folder or empty.
        MediaError: it is over 16 MB, not JSON, or not of this form; the message says where.
    """
    source = read_input(path, what="noise profiles")
    if source.stat().st_size > MAX_BYTES:
        raise MediaError(f"profiles: {source} has over {MAX_BYTES} bytes, must be smaller")
    try:
        document = json.loads(source.read_bytes())
    except (ValueError, RecursionError) as error:
        raise MediaError(f"profiles: {source} is not JSON ({error})") from error
    usable: list[Profile] = []
    cameras = total = skipped = impossible = 0
    for maker in _rows(document, "noiseprofiles", "the file"):
        maker_name = _text(maker, "maker")
        for camera in _rows(maker, "models", maker_name):
            cameras += 1
            model = _text(camera, "model")
            for row in _rows(camera, "profiles", model):
                total += 1
                where = f"{maker_name} {model}"
                iso, a, b = _iso(row, where), _triple(row, "a", where), _triple(row, "b", where)
                if row.get("skip") is True:
                    skipped += 1
                elif min(a) <= 0:
                    impossible += 1
                else:
                    r, g, bl = (max(v, 0.0) for v in b)
                    usable.append(Profile(maker_name, model, iso, NoiseLine(a, (r, g, bl))))
    if not usable:
        raise MediaError(f"profiles: {source} holds no usable profile")
    return Profiles(tuple(usable), cameras, total, skipped, impossible)


def _rows(value: Any, name: str, where: str) -> list[dict[str, Any]]:
    rows = value.get(name) if isinstance(value, dict) else None
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise MediaError(f"profiles: {name} of {where} is no list of objects")
    return rows


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise MediaError(f"profiles: {name} is {value!r}, must be a text")
    return value


def _iso(row: dict[str, Any], where: str) -> int:
    value = row.get("iso")
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise MediaError(f"profiles: iso of {where} is {value!r}, must be a whole number > 0")
    return value


def _triple(row: dict[str, Any], name: str, where: str) -> tuple[float, float, float]:
    value = row.get(name)
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(type(v) in (int, float) and abs(v) < 1e6 and math.isfinite(v) for v in value)
    ):
        raise MediaError(f"profiles: {name} of {where} is {value!r}, must be three numbers")
    return float(value[0]), float(value[1]), float(value[2])
