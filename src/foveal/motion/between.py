"""In-betweening: a motion through a user's own keyframes, which it keeps exactly."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.director.commands import MIN_DT, FootTarget, Keyframe
from foveal.motion.director.keep import keep_exactly
from foveal.motion.inbetween import Method, Trajectory, fill, resolve
from foveal.motion.legs import leg_hinges, solve_leg
from foveal.motion.skeleton import SIDES, Side, Skeleton, humanoid
from foveal.motion.track.kinematic import track_kinematic

_STEP, _LIFT = 0.1, 0.06  # m: a foot that goes further than this on the floor is lifted by that


def in_between(
    keyframes: Sequence[Keyframe],
    *,
    fps: float = 30,
    method: Method = "smooth",
    skeleton: Skeleton | None = None,
    title: str = "",
) -> Clip:
    """Fill the time between a user's keyframes, without physics.

    The frame next to each keyframe has its pose exactly. Between them the weight moves over the
    planted feet, these stay where they are, and a foot that travels along the floor is lifted.

    Args:
        keyframes: At least two; `dt` of the first is 0.
        fps: Frames a second, in [5, 120].
        method: "smooth", or "linear" as in the paper (20 fps there).
        skeleton: The figure; ours by default.
        title: Of the clip.

    Raises:
        ArgumentError: fewer than two keyframes, one that is not valid, `fps` or `method` unknown.

    Example: >>> in_between([Keyframe(0.0), Keyframe(1.0, angles={"neck_bend": 0.3})]).seconds
    """
    if len(keyframes) < 2:
        raise ArgumentError(
            f"in_between: keyframes has {len(keyframes)} keyframes, must have at least 2; there is "
            "nothing between fewer"
        )
    if not 5 <= fps <= 120:
        raise ArgumentError(f"in_between: fps is {fps}, must be in [5, 120]; 30 is usual")
    body = skeleton or humanoid()
    keys = [replace(keyframes[0], dt=0.0), *keyframes[1:]]
    filled, kept = (keys, list(range(len(keys)))) if method == "linear" else _with_steps(keys)
    poses = resolve(filled, body)
    frames = fill(poses, body, fps=fps, method=method, keyframes=filled)
    frames, contacts = track_kinematic(body, filled, frames, fps=fps)
    pinned = _feet(body, frames)
    frames = keep_exactly(body, frames, poses, kept)
    frames = _pin(body, frames, pinned, [round(float(poses.times[i]) * fps) for i in kept])
    return Clip(
        body, float(fps), frames.root_positions, frames.root_rotations, frames.angles,
        np.asarray(contacts), poses.times[kept], title,
    )  # fmt: skip


def key_poses(keyframes: Sequence[Keyframe], *, skeleton: Skeleton | None = None) -> Clip:
    """Return a clip of one frame a keyframe, with their times: `keys` of `posecodes.check`."""
    body = skeleton or humanoid()
    poses = resolve([replace(keyframes[0], dt=0.0), *keyframes[1:]], body)
    return Clip(
        body, 1.0, poses.root_positions, poses.root_rotations, poses.angles,
        np.ones((len(poses.times), 2), bool), poses.times,
    )  # fmt: skip


def _with_steps(keys: Sequence[Keyframe]) -> tuple[list[Keyframe], list[int]]:
    """Put a keyframe with a lifted foot in the middle of each step along the floor."""
    out, kept = [keys[0]], [0]
    for before, after in pairwise(keys):
        feet: dict[Side, FootTarget] = {}
        lifted = False
        for side in SIDES:
            if side not in before.feet or side not in after.feet:
                break
            a, b = before.feet[side], after.feet[side]
            p, q = np.array(a.position), np.array(b.position)
            turned = abs(b.yaw - a.yaw) > 0.3
            level = abs(a.pitch) + abs(b.pitch) < 1e-6
            goes = f"{side}_foot" not in after.contacts and level
            high = _LIFT if goes and (np.linalg.norm(q - p) > _STEP or turned) else 0.0
            lifted |= high > 0
            x, y, z = (float(v) for v in 0.5 * (p + q) + np.array([0.0, 0.0, high]))
            feet[side] = FootTarget((x, y, z), 0.5 * (a.yaw + b.yaw), 0.5 * (a.pitch + b.pitch))
        if lifted and len(feet) == 2 and after.dt >= 2 * MIN_DT and not after.timing:
            names = {*before.angles, *after.angles}
            x, y, z = (0.5 * (p + q) for p, q in zip(before.pelvis, after.pelvis, strict=True))
            middle = replace(
                after, dt=0.5 * after.dt, description="a step", feet=feet, pelvis=(x, y, z),
                angles={
                    n: 0.5 * (before.angles.get(n, 0.0) + after.angles.get(n, 0.0)) for n in names
                },
                turn=0.5 * (before.turn + after.turn), tilt=0.5 * (before.tilt + after.tilt),
                lean=0.5 * (before.lean + after.lean), finished=False,
            )  # fmt: skip
            out += [middle, replace(after, dt=0.5 * after.dt)]
        else:
            out.append(after)
        kept.append(len(out) - 1)
    return out, kept


def _feet(body: Skeleton, frames: Trajectory) -> dict[Side, tuple[np.ndarray, np.ndarray]]:
    local = body.local_rotations(frames.root_rotations, frames.angles)
    at, turn = body.forward(frames.root_positions, local)
    out: dict[Side, tuple[np.ndarray, np.ndarray]] = {}
    for side in SIDES:
        foot = body.body(f"{side}_foot")
        out[side] = at[:, foot], rot.normalize(turn[:, foot])
    return out


def _pin(
    body: Skeleton, frames: Trajectory, feet: dict[Side, tuple[np.ndarray, np.ndarray]],
    kept: Sequence[int],
) -> Trajectory:  # fmt: skip
    """Solve the legs again, so that what keeping the keyframes moved stays on its feet."""
    angles = frames.angles.copy()
    low, high = body.limits.T
    for side, (ankle, turn) in feet.items():
        columns = leg_hinges(body, side)
        solved = solve_leg(
            body, side, frames.root_positions, frames.root_rotations, ankle, turn, angles
        )
        angles[:, columns] = np.clip(solved, low[columns], high[columns])
    at = [frame for frame in kept if frame < len(angles)]
    angles[at] = frames.angles[at]
    return replace(frames, angles=angles)
