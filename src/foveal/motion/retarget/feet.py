"""Feet that stay: legs of two bones, bent so that the ankle is where it should be."""

from collections.abc import Mapping

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.retarget.geometry import across, shortest, unit
from foveal.motion.retarget.rig import RigMotion
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES

_FADE = 0.25  # s in which a foot that was lifted goes over to its own way
_STRAIGHT = 0.9999  # of the leg's length, the farthest that an ankle is put


def weights(planted: np.ndarray, fps: float) -> Array:
    """How much a foot is held (frames,): 1 while planted, less with the time from then, then 0."""
    at = np.flatnonzero(planted)
    if not len(at):
        return np.zeros(len(planted))
    frames = np.arange(len(planted))
    gap = np.abs(frames[:, None] - at[None]).min(axis=1) / fps
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(gap / _FADE, 0.0, 1.0))


def pin_feet(
    motion: RigMotion,
    joints: Mapping[str, list[int]],
    goals: Mapping[str, Array],
    axes: Array,
) -> dict[int, Array]:
    """Find the turns of thighs and shins that put ankles on their goals where feet are planted.

    Args:
        motion: The motion so far.
        joints: Joints of our bodies.
        goals: Path of each ankle (frames, 3).
        axes: The rig's ahead, left and up as columns.

    Returns: Turns (frames, 4) of thighs and shins relative to the pose of reference.
    """
    rig, places = motion.rig, motion.positions
    _, pose, _ = rig.posed()
    out: dict[int, Array] = {}
    for column, side in enumerate(SIDES):
        hip, knee, ankle = (joints[f"{side}_{part}"][0] for part in ("thigh", "shin", "foot"))
        h, k, a = (places[:, i] for i in (hip, knee, ankle))
        held = weights(motion.contacts[:, column], motion.fps)[:, None]
        goal = a + held * (goals[side] - a)
        relative = rot.multiply(motion.turns[:, knee], rot.conjugate(pose[knee]))
        ahead = rot.rotate(relative, axes[:, 0])
        bent = _bend(h, k, a, goal, ahead)
        moved = held[:, 0] > 0
        for joint, step in ((hip, bent[0]), (knee, bent[1])):
            turn = rot.multiply(motion.turns[:, joint], rot.conjugate(pose[joint]))
            out[joint] = np.where(moved[:, None], rot.multiply(step, turn), turn)
    return out


def _frames(along: Array, towards: Array) -> Array:
    """Rotations (frames, 4) whose x is `along` and whose y is near `towards`."""
    x = unit(along)
    z = unit(np.cross(x, towards))
    return rot.from_matrix(np.stack([x, np.cross(z, x), z], axis=-1))


def _bend(h: Array, k: Array, a: Array, goal: Array, ahead: Array) -> tuple[Array, Array]:
    """World rotations (frames, 4) that bring a thigh and a shin to where the ankle is on its goal.

    The knee stays in its plane: where it points does not change, but for the turn of the line from
    hip to ankle.
    """
    upper, lower = np.linalg.norm(k - h, axis=1), np.linalg.norm(a - k, axis=1)
    before, after = a - h, goal - h
    old_line, line = unit(before), unit(after)
    off = across(k - h, old_line)
    # a straight leg has no plane of its own; the shin's front has one that it will bend in
    side = np.linalg.norm(off, axis=1, keepdims=True)
    share = np.clip(side / (0.02 * (upper + lower)[:, None]), 0.0, 1.0)
    old_pole = unit(share * unit(off) + (1.0 - share) * unit(across(ahead, old_line)))
    pole = rot.rotate(shortest(before, after), old_pole)
    most = np.maximum(_STRAIGHT * (upper + lower), np.linalg.norm(before, axis=1))
    reach = np.clip(np.linalg.norm(after, axis=1), np.abs(upper - lower) + 1e-9, most)
    along = (upper**2 - lower**2 + reach**2) / (2.0 * reach)
    up = np.sqrt(np.maximum(upper**2 - along**2, 0.0))
    knee = h + along[:, None] * line + up[:, None] * pole
    end = h + reach[:, None] * line
    old, new = np.cross(old_line, old_pole), np.cross(line, pole)
    return (
        rot.multiply(_frames(knee - h, new), rot.conjugate(_frames(k - h, old))),
        rot.multiply(_frames(end - knee, new), rot.conjugate(_frames(a - k, old))),
    )
