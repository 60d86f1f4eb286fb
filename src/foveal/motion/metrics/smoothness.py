"""Jerk, joint limits, and whether a cycle closes."""

from typing import NamedTuple

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.metrics.fit import derivative
from foveal.motion.rotations import Array

LIMIT_SLACK = np.radians(0.1)
"""Excess over a limit that does not count as a violated frame, rad."""


def jerks(clip: Clip) -> Array | None:
    """Norm of the third derivative of each body origin (frames, bodies), m/s^3.

    Of the cubic that fits 0.06 s (at least two frames) to each side best; None below four frames.
    """
    third = derivative(clip.positions, clip.fps, order=3, degree=3)
    return None if third is None else np.linalg.norm(third, axis=-1)


def mean_jerk(clip: Clip) -> float | None:
    """Mean of `jerks`, m/s^3; None below four frames."""
    found = jerks(clip)
    return None if found is None else float(found.mean())


def limit_excess(clip: Clip) -> Array:
    """Excess of each hinge over its limits (frames, hinges), rad; 0 within."""
    low, high = clip.skeleton.limits.T
    return np.maximum(0.0, np.maximum(low - clip.angles, clip.angles - high))


def limit_violation(clip: Clip) -> float:
    """Largest excess of a hinge over its limits, rad."""
    return float(limit_excess(clip).max(initial=0.0))


def limit_fraction(clip: Clip) -> float:
    """Share in [0, 1] of frames in which a hinge is over a limit by more than 0.1 degrees."""
    return float((limit_excess(clip) > LIMIT_SLACK).any(axis=1).mean())


class LoopGap(NamedTuple):
    """How far the last pose of a clip is from its first; see `loop_gap`."""

    pose: float
    angle: float
    velocity: float | None


def loop_gap(clip: Clip) -> LoopGap | None:
    """Compare the last frame with the first: 0 where a cycle closes.

    Both are seen from the pelvis, turned by its heading, so that travel over the floor and turning
    do not count; height and lean do.

    Returns: Largest distance of a body origin, m; largest turn of a body, rad; largest difference
    of the velocity of a body origin, that of the travel included, m/s (None below three frames).
    None for a single frame.
    """
    if clip.num_frames < 2:
        return None
    ends = [0, -1]
    root = clip.world_rotations[ends, 0]
    back = rot.conjugate(
        rot.from_axis_angle([0.0, 0.0, 1.0], 2.0 * np.arctan2(root[:, 3], root[:, 0]))
    )[:, None]
    flat = clip.positions[ends, :1] * np.array([1.0, 1.0, 0.0])
    placed = rot.rotate(back, clip.positions[ends] - flat)
    turned = rot.multiply(back, clip.world_rotations[ends])
    gap = rot.multiply(rot.conjugate(turned[0]), turned[1])
    angle = 2.0 * np.arctan2(np.linalg.norm(gap[:, 1:], axis=1), np.abs(gap[:, 0]))
    change = None
    # through the outermost frames alone: a cycle may start and end with a jolt
    near, degree = min(4, clip.num_frames), min(3, clip.num_frames - 1)
    start, end = (
        derivative(clip.positions[part], clip.fps, order=1, degree=degree)
        for part in (slice(near), slice(-near, None))
    )
    if clip.num_frames > 2 and start is not None and end is not None:
        leaving, arriving = rot.rotate(back, np.stack([start[0], end[-1]]))
        change = float(np.linalg.norm(arriving - leaving, axis=-1).max())
    return LoopGap(
        float(np.linalg.norm(placed[1] - placed[0], axis=-1).max()), float(angle.max()), change
    )
