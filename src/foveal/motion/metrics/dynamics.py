"""The wrench that a motion needs from outside, and the part of it that no contact can give."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from foveal._core.lazy import require
from foveal.motion import rotations as rot
from foveal.motion.body import to_mjcf
from foveal.motion.clip import Clip
from foveal.motion.metrics.fit import derivative, half_window, spin
from foveal.motion.metrics.ground import TOUCH, clearance, skin
from foveal.motion.posecodes.points import Surface
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Skeleton

GRAVITY = 9.81
FRICTION = 1.0
"""Friction coefficient of every contact, as in `foveal.motion.body.to_mjcf`."""
_EDGES = 8
_FEATURE = "the dynamics residual and the pressure point of motion.score"


@dataclass(frozen=True, eq=False)
class Wrench:
    """What has to push the figure from outside, gravity aside.

    Attributes:
        force: (frames, 3), N.
        torque: About the centre of mass (frames, 3), N m.
        com: Centre of mass (frames, 3), m.
    """

    force: Array
    torque: Array
    com: Array


@lru_cache(maxsize=4)
def _model(skeleton: Skeleton) -> Any:
    mujoco = require("mujoco", "motion", _FEATURE)
    model = mujoco.MjModel.from_xml_string(to_mjcf(skeleton))
    off = mujoco.mjtDisableBit
    model.opt.disableflags |= int(off.mjDSBL_CONTACT) | int(off.mjDSBL_LIMIT)
    model.opt.gravity[:] = (0.0, 0.0, -GRAVITY)
    return model


def needed_wrench(clip: Clip) -> Wrench | None:
    """Wrench from outside that the motion needs, by inverse dynamics (`mj_inverse`).

    Velocities and accelerations are those of the parabola that fits 0.06 s (at least two frames)
    to each side best. What the root would have to be pushed with is what the world has to give.

    Returns: The wrench, or None for a clip below three frames.

    Raises:
        MissingExtraError: MuJoCo is not installed.
    """
    mujoco = require("mujoco", "motion", _FEATURE)
    model = _model(clip.skeleton)
    hinges = [clip.skeleton.hinge(model.joint(j).name) for j in range(1, model.njnt)]
    turning = spin(clip.root_rotations, clip.fps)
    moved = np.concatenate([clip.root_positions, clip.angles[:, hinges]], axis=1)
    speed, change = (derivative(moved, clip.fps, order=k, degree=2) for k in (1, 2))
    if turning is None or speed is None or change is None:
        return None
    qvel, qacc = (
        np.concatenate([rate[:, :3], spun, rate[:, 3:]], axis=1)
        for rate, spun in zip((speed, change), turning, strict=True)
    )
    qpos = np.concatenate([moved[:, :3], clip.root_rotations, moved[:, 3:]], axis=1)
    data = mujoco.MjData(model)
    pushed = np.empty((clip.num_frames, 6))
    for i in range(clip.num_frames):
        data.qpos[:], data.qvel[:], data.qacc[:] = qpos[i], qvel[i], qacc[i]
        mujoco.mj_inverse(model, data)
        pushed[i] = data.qfrc_inverse[:6]
    force = pushed[:, :3]
    com = clip.skeleton.center_of_mass(clip.positions, clip.world_rotations)
    torque = rot.rotate(rot.normalize(clip.root_rotations), pushed[:, 3:])
    return Wrench(force, torque + np.cross(clip.root_positions - com, force), com)


def touching_points(clip: Clip, scene: Mapping[str, Surface]) -> tuple[Array, Array]:
    """Points of the skin (frames, points, 3) and whether each touches a surface (frames, points).

    A point touches up to 2 cm (at 1.7 m) over a surface.
    """
    points = skin(clip)
    scale = clip.skeleton.height / 1.7
    return points, clearance(points, scene, scale) <= TOUCH * scale


def widened(touches: Array, fps: float) -> Array:
    """Flags (frames, points) that are set in any frame which an acceleration is fitted to."""
    half, count = half_window(fps), len(touches)
    out = touches.copy()
    for shift in range(1, min(half, count - 1) + 1):
        out[shift:] |= touches[:-shift]
        out[:-shift] |= touches[shift:]
    return out


def residuals(clip: Clip, needed: Wrench, points: Array, touches: Array) -> tuple[Array, Array]:
    """Part of the needed wrench that pushes at contacts cannot give.

    In each frame non-negative pushes along eight edges of the friction cone (coefficient 1) at
    each touching point are chosen so that the length of (force / weight, torque about the centre
    of mass / (weight * height)) that is left is least.

    Args:
        clip: The motion.
        needed: Of `needed_wrench`.
        points: Points of the skin (frames, points, 3), m.
        touches: Which of them may push (frames, points).

    Returns: What is left of the force over the weight (frames,), and of the torque over weight
    times height (frames,); unitless.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    nnls = require("scipy.optimize", "motion", _FEATURE).nnls
    weight = float(clip.skeleton.masses.sum()) * GRAVITY
    size = weight * clip.skeleton.height
    # the edges turn with the figure, so that a turned world changes nothing
    yaw = 2.0 * np.arctan2(clip.root_rotations[:, 3], clip.root_rotations[:, 0])
    angle = yaw[:, None] + 2.0 * np.pi * np.arange(_EDGES) / _EDGES
    edges = np.stack(
        [FRICTION * np.cos(angle), FRICTION * np.sin(angle), np.ones_like(angle)], axis=-1
    )
    left = np.concatenate([needed.force / weight, needed.torque / size], axis=1)
    for i in np.flatnonzero(touches.any(axis=1)):
        arms = points[i, touches[i]] - needed.com[i]
        push = np.broadcast_to(edges[i], (len(arms), _EDGES, 3))
        turn = np.cross(arms[:, None], push) / clip.skeleton.height
        columns = np.concatenate([push, turn], axis=-1).reshape(-1, 6).T
        left[i] -= columns @ nnls(columns, left[i], maxiter=30 * columns.shape[1])[0]
    return np.linalg.norm(left[:, :3], axis=1), np.linalg.norm(left[:, 3:], axis=1)
