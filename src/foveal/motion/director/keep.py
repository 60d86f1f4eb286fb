"""Keep the user's own keyframes exactly, whatever the in-fill and the balance did around them."""

from collections.abc import Sequence

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.inbetween import Trajectory
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Skeleton

_BLEND = 0.4  # s; over this the change that a kept pose needs fades out


def keep_exactly(
    skeleton: Skeleton, frames: Trajectory, poses: Trajectory, kept: Sequence[int]
) -> Trajectory:
    """Return frames that go exactly through some keyframes.

    The frame next to a kept keyframe's time gets its pose, to the last digit; the difference
    fades out over at most 0.4 s on both sides, and never past another kept keyframe.

    Args:
        skeleton: The figure.
        frames: Poses over time.
        poses: The keyframes' own poses.
        kept: Numbers of the keyframes to keep.
    """
    if not kept:
        return frames
    root, turn = frames.root_positions.copy(), frames.root_rotations.copy()
    angles = frames.angles.copy()
    at = [int(np.abs(frames.times - poses.times[number]).argmin()) for number in kept]
    for number, frame in zip(kept, at, strict=True):
        before = max((f for f in at if f < frame), default=-1)
        after = min((f for f in at if f > frame), default=len(root))
        fade = _fade(frames.times, frame, before, after)
        root += fade[:, None] * (poses.root_positions[number] - root[frame])
        angles += fade[:, None] * (poses.angles[number] - angles[frame])
        needed = rot.multiply(poses.root_rotations[number], rot.conjugate(turn[frame]))
        none = np.array([1.0, 0.0, 0.0, 0.0])
        turn = rot.multiply(rot.slerp(none, needed, fade), turn)
        root[frame], turn[frame] = poses.root_positions[number], poses.root_rotations[number]
        angles[frame] = poses.angles[number]
    low, high = skeleton.limits.T
    return Trajectory(
        frames.times, root, rot.unwrap_signs(rot.normalize(turn)), np.clip(angles, low, high)
    )


def _fade(times: Array, frame: int, before: int, after: int) -> Array:
    """Minimum-jerk weights (frames,): 1 at a frame, 0 at its kept neighbors and beyond 0.4 s."""
    left = times[frame] - times[before] if before >= 0 else np.inf
    right = times[after] - times[frame] if after < len(times) else np.inf
    gone = times - times[frame]
    span = np.where(gone < 0, min(_BLEND, left), min(_BLEND, right))
    u = np.clip(1.0 - np.abs(gone) / np.maximum(span, 1e-9), 0.0, 1.0)
    u[frame] = 1.0
    return u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
