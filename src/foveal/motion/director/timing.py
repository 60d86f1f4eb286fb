"""Per-part timing: the clock of each part within an interval."""

from collections.abc import Iterator, Sequence

import numpy as np

from foveal.motion.director.commands import Keyframe, Timing
from foveal.motion.director.parts import PARTS
from foveal.motion.rotations import Array

_RAMP = 0.125  # share of an even move in which it gathers and loses speed
_LEAN = 1.6  # exponent that leans a move to one side


def clock(timing: Timing, u: Array) -> Array:
    """Return how far a part is in its move, in [0, 1], at shares `u` of the interval.

    What comes out is put through the minimum-jerk curve by the in-fill, at rest on both ends; so
    "smooth" is linear here, and "even" is the inverse of that curve but for its ends.
    """
    v = np.clip((u - timing.start) / (timing.end - timing.start), 0.0, 1.0)
    if timing.ease == "slow_start":
        return v**_LEAN
    if timing.ease == "slow_end":
        return 1.0 - (1.0 - v) ** _LEAN
    if timing.ease == "even":
        return _inverse(_trapezoid(v))
    return v


def _trapezoid(v: Array) -> Array:
    """Distance gone at constant speed, with a ramp of speed at both ends."""
    top = 1.0 / (1.0 - _RAMP)
    rise = 0.5 * top * v**2 / _RAMP
    fall = 1.0 - 0.5 * top * (1.0 - v) ** 2 / _RAMP
    middle = top * (v - 0.5 * _RAMP)
    return np.where(v < _RAMP, rise, np.where(v > 1.0 - _RAMP, fall, middle))


def _inverse(s: Array) -> Array:
    """Return u where the minimum-jerk curve is s; by bisection, exact to 1e-12."""
    low, high = np.zeros_like(s), np.ones_like(s)
    for _ in range(40):
        u = 0.5 * (low + high)
        above = u**3 * (10.0 - 15.0 * u + 6.0 * u**2) > s
        low, high = np.where(above, low, u), np.where(above, u, high)
    return 0.5 * (low + high)


def part_times(
    keyframes: Sequence[Keyframe], times: Array, at: Array
) -> Iterator[tuple[str, Array, Array]]:
    """Give, for each part with timing of its own, its times and the knots where it rests.

    A part rests at both ends of an interval in which it has its own timing.

    Args:
        keyframes: The plan; may be empty.
        times: Keyframe times (keyframes,), s.
        at: Frame times (frames,), s.

    Returns: Part, times at which to evaluate its spline (frames,), knots where it rests (knots,).
    """
    for part in PARTS:
        own = [key.timing.get(part) for key in keyframes]
        if not any(own):
            continue
        rest = np.zeros(len(times), bool)
        warped = np.array(at, np.float64)
        for i in range(1, len(keyframes)):
            timing = own[i]
            if timing is None:
                continue
            rest[[i - 1, i]] = True
            inside = (at >= times[i - 1]) & (at < times[i])
            span = times[i] - times[i - 1]
            warped[inside] = times[i - 1] + span * clock(timing, (at[inside] - times[i - 1]) / span)
        yield part, warped, rest
