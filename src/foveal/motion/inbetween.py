"""From keyframes to frames: resolve each pose, then fill the time between.

Source: Zhang et al., "FreeMotion", ECCV 2024, arXiv:2406.10740 (`method="linear"`: linear root
position, spherical rotations, 20 fps). Differs: `method="smooth"`, the default, uses quintic
segments whose knot velocity is zero at turning points and holds (there it is the minimum-jerk
curve) and the monotone slope elsewhere, so that a body does not stop at every keyframe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.director.commands import Keyframe, validate
from foveal.motion.director.parts import hinges_of
from foveal.motion.director.timing import part_times
from foveal.motion.hinges import hinge_angles
from foveal.motion.legs import leg_hinges, solve_leg
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES, Skeleton

Method = Literal["smooth", "linear"]
METHODS: tuple[Method, ...] = ("smooth", "linear")
_X, _Y, _Z = np.eye(3)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses over time: `times` (frames,) s, root (frames, 3) m and (frames, 4), `angles` rad."""

    times: Array
    root_positions: Array
    root_rotations: Array
    angles: Array


def rest_ankles(skeleton: Skeleton) -> dict[str, Array]:
    """Ankle positions (3,) of the standing figure, m."""
    identity = np.zeros((1, skeleton.num_bodies, 4))
    identity[..., 0] = 1.0
    positions, _ = skeleton.forward(skeleton.offsets[:1], identity)
    return {side: positions[0, skeleton.body(f"{side}_foot")] for side in SIDES}


def resolve(keyframes: Sequence[Keyframe], skeleton: Skeleton) -> Trajectory:
    """Turn keyframes into full poses; feet with a target get their leg by inverse kinematics.

    Args:
        keyframes: At least one.
        skeleton: The figure; lengths in keyframes are for 1.7 m and scale with its height.

    Raises:
        ArgumentError: a keyframe is not valid (see `commands.validate`).
    """
    validate(keyframes, skeleton)
    scale, count = skeleton.height / 1.7, len(keyframes)
    times = np.cumsum([key.dt if i else 0.0 for i, key in enumerate(keyframes)])
    root = skeleton.offsets[0] + scale * np.array([key.pelvis for key in keyframes])
    rotations = rot.multiply(
        rot.from_axis_angle(_Z, np.array([key.turn for key in keyframes])),
        rot.multiply(
            rot.from_axis_angle(_Y, np.array([key.tilt for key in keyframes])),
            rot.from_axis_angle(-_X, np.array([key.lean for key in keyframes])),
        ),
    )
    angles = np.zeros((count, len(skeleton.hinges)))
    for i, key in enumerate(keyframes):
        for name, value in key.angles.items():
            angles[i, skeleton.hinge(name)] = value
    rest = rest_ankles(skeleton)
    for side in SIDES:
        columns = leg_hinges(skeleton, side)
        for i, key in enumerate(keyframes):
            if side not in key.feet:
                continue
            target = key.feet[side]
            foot = rot.multiply(
                rot.from_axis_angle(_Z, np.array([target.yaw])),
                rot.from_axis_angle(_Y, np.array([-target.pitch])),
            )
            ankle = rest[side] + scale * np.array([target.position])
            angles[i, columns] = solve_leg(
                skeleton, side, root[i : i + 1], rotations[i : i + 1], ankle, foot,
                angles[i : i + 1],
            )[0]  # fmt: skip
    low, high = skeleton.limits.T
    return Trajectory(times, root, rot.unwrap_signs(rotations), np.clip(angles, low, high))


def knot_slopes(times: Array, values: Array) -> Array:
    """Return monotone slopes (knots, ...): harmonic means, zero at turning points and ends."""
    steps = np.diff(times).reshape(-1, *([1] * (values.ndim - 1)))
    secants = np.diff(values, axis=0) / steps
    out = np.zeros_like(values)
    before, after = secants[:-1], secants[1:]
    same = before * after > 1e-12
    total = np.where(same, before + after, 1.0)
    out[1:-1] = np.where(same, 2.0 * before * after / total, 0.0)
    return out


def quintic(times: Array, values: Array, at: Array, rest: Array | None = None) -> Array:
    """Evaluate the quintic Hermite spline with `knot_slopes` and zero knot acceleration.

    Args:
        times: Knots (knots,), s.
        values: (knots, ...).
        at: Times to evaluate at, s.
        rest: Knots (knots,) where the speed is zero whatever comes before and after.
    """
    slopes = knot_slopes(times, values)
    if rest is not None:
        slopes[rest] = 0.0
    i = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    shape = (-1, *([1] * (values.ndim - 1)))
    h = np.diff(times)[i].reshape(shape)
    u = np.clip((at - times[i]).reshape(shape) / h, 0.0, 1.0)
    rise = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
    first = u - 6.0 * u**3 + 8.0 * u**4 - 3.0 * u**5
    last = -4.0 * u**3 + 7.0 * u**4 - 3.0 * u**5
    return (
        values[i]
        + (values[i + 1] - values[i]) * rise
        + h * (slopes[i] * first + slopes[i + 1] * last)
    )


def fill(
    poses: Trajectory,
    skeleton: Skeleton,
    *,
    fps: float,
    method: Method,
    keyframes: Sequence[Keyframe] = (),
) -> Trajectory:
    """Interpolate poses to frames at `fps`.

    Args:
        poses: Keyframe poses.
        skeleton: The figure.
        fps: Frames a second, > 0.
        method: "smooth", or "linear" as in the paper (20 fps there).
        keyframes: The plan that `poses` are of; its timing of parts is kept by "smooth".

    Raises:
        ArgumentError: `method` is not known.
    """
    if method not in METHODS:
        raise ArgumentError(f"fill: method is {method!r}, must be one of {METHODS}; pick one")
    times, count = poses.times, len(poses.times)
    if count == 1:
        return poses
    frames = np.arange(round(times[-1] * fps) + 1) / fps
    at = np.minimum(frames, times[-1])
    low, high = skeleton.limits.T
    if method == "smooth":
        root = quintic(times, poses.root_positions, at)
        turn = quintic(times, poses.root_rotations, at)
        angles = quintic(times, poses.angles, at)
        for part, warped, rest in part_times(keyframes, times, at):
            columns = hinges_of(skeleton, part)
            angles[:, columns] = quintic(times, poses.angles[:, columns], warped, rest)
            if part == "pelvis":
                root = quintic(times, poses.root_positions, warped, rest)
                turn = quintic(times, poses.root_rotations, warped, rest)
        return Trajectory(frames, root, rot.normalize(turn), np.clip(angles, low, high))
    i = np.clip(np.searchsorted(times, at, side="right") - 1, 0, count - 2)
    u = (at - times[i]) / np.diff(times)[i]
    root = poses.root_positions
    local = skeleton.local_rotations(poses.root_rotations, poses.angles)
    turned = rot.slerp(local[i], local[i + 1], u[:, None])
    return Trajectory(
        frames,
        root[i] + (root[i + 1] - root[i]) * u[:, None],
        turned[:, 0],
        np.clip(hinge_angles(skeleton, turned), low, high),
    )
