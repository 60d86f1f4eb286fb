"""The reference of the physics tracker at every physics step, read at any speed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foveal.motion.clip import Clip
from foveal.motion.rotations import Array, slerp

SERVO_LAG_S = 0.1
"""The default damping ratio of `to_mjcf`: a servo's damping drags it behind by so much."""


def resample(clip: Clip, times: Array) -> tuple[Array, Array, Array]:
    """Return root positions, root rotations and angles of a clip at `times`, its ends held."""
    at = np.clip(times * clip.fps, 0.0, clip.num_frames - 1)
    i = np.minimum(at.astype(int), max(clip.num_frames - 2, 0))
    j = np.minimum(i + 1, clip.num_frames - 1)
    u = (at - i)[:, None]
    root = clip.root_positions[i] * (1 - u) + clip.root_positions[j] * u
    turn = slerp(clip.root_rotations[i], clip.root_rotations[j], u[:, 0])
    return root, turn, clip.angles[i] * (1 - u) + clip.angles[j] * u


@dataclass(frozen=True)
class Window:
    """Some physics steps of the reference, as they are to be shown."""

    servo: Array
    sensors: Array
    angles: Array
    velocities: Array


class Reference:
    """What the sensors, hinges and servo targets would be if the figure did as the clip says.

    Args:
        mujoco: The library.
        model: The figure, perhaps in a scene.
        clip: What is to be followed.
        timestep: Physics step, s.
    """

    def __init__(self, mujoco: Any, model: Any, clip: Clip, timestep: float) -> None:
        self.timestep = timestep
        self.steps = max(round(clip.seconds / timestep), 1)
        times = np.arange(self.steps + 1) * timestep
        root, turn, self.angles = resample(clip, times)
        if len(self.angles) > 1:
            self.velocities = np.gradient(self.angles, timestep, axis=0)
        else:
            self.velocities = np.zeros_like(self.angles)
        self.sensors, self.start = _sensors(mujoco, model, root, turn, self.angles, timestep)
        frames = np.minimum(np.round(times * clip.fps).astype(int), clip.num_frames - 1)
        self.in_the_air = np.logical_not(clip.contacts[frames].any(axis=1))

    def rows(self, phase: float, rate: float, count: int) -> Array:
        """Return the rows (count,) that are shown from a row on, at some share of the speed."""
        rows = np.round(phase + rate * np.arange(count)).astype(int)
        return np.minimum(rows, self.steps)

    def window(self, phase: float, rate: float, count: int) -> Window:
        """Return the reference from a row on; slower shows smaller velocities."""
        rows = self.rows(phase, rate, count)
        ended = (rows == self.steps)[:, None]
        velocities = np.where(ended, 0.0, rate * self.velocities[rows])
        sensors = self.sensors[rows].copy()
        sensors[:, -3:] = np.where(ended, 0.0, rate * sensors[:, -3:])
        angles = self.angles[rows]
        return Window(angles + SERVO_LAG_S * velocities, sensors, angles, velocities)

    def flies(self, phase: float, seconds: float) -> bool:
        """Whether no foot is to touch anything at some time of the next `seconds`."""
        first = int(phase)
        return bool(self.in_the_air[first : first + round(seconds / self.timestep)].any())


def _sensors(
    mujoco: Any, model: Any, root: Array, turn: Array, angles: Array, timestep: float
) -> tuple[Array, Array]:
    """Sensor readings of the reference poses, and the start as a full physics state."""
    data = mujoco.MjData(model)
    mujoco.mj_resetData(model, data)
    poses = np.tile(data.qpos, (len(root), 1))
    own = 7 + angles.shape[1]
    poses[:, :own] = np.concatenate([root, turn, angles], axis=1)
    out = np.empty((len(poses), model.nsensordata))
    speed = np.zeros(model.nv)
    for i, pose in enumerate(poses):
        data.qpos[:] = pose
        if i + 1 < len(poses):
            mujoco.mj_differentiatePos(model, speed, timestep, pose, poses[i + 1])
            data.qvel[:] = speed
        mujoco.mj_forward(model, data)
        out[i] = data.sensordata
    kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
    start = np.empty(mujoco.mj_stateSize(model, kind))
    mujoco.mj_resetData(model, data)
    data.qpos[:] = poses[0]
    mujoco.mj_getState(model, data, start, kind)
    return out, start
