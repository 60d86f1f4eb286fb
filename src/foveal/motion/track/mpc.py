"""The physics tracker: cross-entropy predictive control of servo targets, in MuJoCo.

Ten times a second the tracker samples offsets to the reference's hinge targets, simulates each
candidate for 0.6 s, keeps the best tenth, and applies the first 0.1 s of their mean. No training.
The offsets are continuous: a replan keeps the value that is applied at that moment, and moves only
later knots. Trunk and legs are steered; the arms follow their servos.

Source: replaces the learned tracker of Zhang et al., FreeMotion, arXiv:2406.10740, by sampled
model-predictive control (cross-entropy method). Differs: no policy and no world model.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foveal._core.lazy import require
from foveal.motion.body import to_mjcf
from foveal.motion.body.mjcf import tracked
from foveal.motion.clip import Clip
from foveal.motion.rotations import Array, normalize, slerp
from foveal.motion.skeleton import SIDES, Skeleton

HORIZON_S, KNOT_S, REPLAN_S, TIMESTEP_S = 0.6, 0.2, 0.1, 0.005
_KNOTS = round(HORIZON_S / KNOT_S) + 1
SERVO_LAG_S = 0.1  # the default damping ratio of `to_mjcf`
_EVERY = 4  # cost on every fourth physics step


@dataclass(frozen=True)
class Weights:
    """Cost weights; errors are squared, in SI units."""

    position: float = 10.0
    relative: float = 10.0
    foot: float = 15.0
    foot_height: float = 40.0
    angle: float = 0.15
    com: float = 30.0
    com_velocity: float = 2.0
    axes: float = 5.0
    velocity: float = 0.01
    offset: float = 0.05
    knot: float = 4.0


def _steered(skeleton: Skeleton) -> list[int]:
    names = ["spine_bend", "spine_lean", "chest_bend", "chest_lean"]
    for side in SIDES:
        names += [
            f"{side}_{part}"
            for part in (
                "hip_flexion", "hip_abduction", "hip_rotation", "knee_flexion", "ankle_flexion",
                "ankle_inversion",
            )
        ]  # fmt: skip
    if set(names) <= set(skeleton.hinge_names):
        return [skeleton.hinge(name) for name in names]
    # another body: whatever carries the feet and the chest
    held: set[int] = set()
    for name in ("left_foot", "right_foot", "chest"):
        body = skeleton.body(name) if name in skeleton.names else -1
        while body >= 0:
            held.add(body)
            body = skeleton.parents[body]
    return [i for i, hinge in enumerate(skeleton.hinges) if hinge.body in held]


def _resample(clip: Clip, times: Array) -> tuple[Array, Array, Array]:
    """Reference root position, rotation and angles at `times`, the last frame held."""
    at = np.clip(times * clip.fps, 0.0, clip.num_frames - 1)
    i = np.minimum(at.astype(int), max(clip.num_frames - 2, 0))
    j = np.minimum(i + 1, clip.num_frames - 1)
    u = (at - i)[:, None]
    root = clip.root_positions[i] * (1 - u) + clip.root_positions[j] * u
    turn = slerp(clip.root_rotations[i], clip.root_rotations[j], u[:, 0])
    return root, turn, clip.angles[i] * (1 - u) + clip.angles[j] * u


class _Cost:
    """Compares simulated sensors and hinge states with the reference."""

    def __init__(
        self, weights: Weights, sensors: Array, angles: Array, velocities: Array, feet: int
    ) -> None:
        self.weights, self.sensors, self.feet = weights, sensors, feet
        self.angles, self.velocities = angles, velocities

    def __call__(self, first: int, sensors: Array, states: Array) -> Array:
        """Return costs (samples,) of (samples, steps, ...) that start at physics step `first`."""
        w, hinges = self.weights, self.angles.shape[1]
        rows = first + np.arange(0, sensors.shape[1], _EVERY)
        rows = np.minimum(rows, len(self.sensors) - 1)
        got, want = sensors[:, ::_EVERY], self.sensors[rows]
        n = sensors.shape[2] - 12
        gap = got - want
        com = gap[..., n + 6 : n + 9]
        place = gap[..., :n].reshape(*gap.shape[:2], n // 3, 3)
        relative = place - com[..., None, :]
        state = states[:, ::_EVERY]
        angle = state[..., 8 : 8 + hinges] - self.angles[rows]
        feet = place[..., -self.feet :, :] ** 2
        speed = state[..., 8 + hinges + 6 :] - self.velocities[rows]
        cost = (
            w.position * (place**2).sum(-1).mean(-1)
            + w.relative * (relative**2).sum(-1).mean(-1)
            + w.foot * feet[..., :2].sum((-1, -2))
            + w.foot_height * feet[..., 2].sum(-1)
            + w.angle * (angle**2).sum(-1)
            + w.com * (com**2).sum(-1)
            + w.com_velocity * (gap[..., n + 9 : n + 12] ** 2).sum(-1)
            + w.axes * (gap[..., n : n + 6] ** 2).sum(-1)
            + w.velocity * (speed**2).sum(-1)
        )
        total = cost.mean(axis=1)
        return np.where(np.isfinite(total), total, 1e9)


def track_mpc(
    clip: Clip,
    *,
    seed: int = 0,
    num_samples: int = 96,
    iterations: int = 2,
    sigma: float = 0.1,
    weights: Weights | None = None,
    time_budget_s: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[Clip, dict[str, Any]]:
    """Simulate the figure following a kinematic clip.

    Args:
        clip: The reference; its first pose is the start.
        seed: Of the sampling. The result does not depend on the number of threads.
        num_samples: Candidates an iteration.
        iterations: Refinements a control step.
        sigma: First standard deviation of the offsets, rad.
        weights: Cost weights.
        time_budget_s: Wall seconds of steering; afterwards the servos follow the reference alone.
        progress: Called with the finished fraction.

    Returns: The simulated clip, with `reference` set and an honest `status`, and details: physics
    steps simulated, seconds steered, whether the budget ended first.

    Raises:
        MissingExtraError: MuJoCo is not installed.
    """
    mujoco = require("mujoco", "motion", "the physics tracker")
    rollout = require("mujoco.rollout", "motion", "the physics tracker")
    weights = weights or Weights()
    skeleton = clip.skeleton
    model = mujoco.MjModel.from_xml_string(to_mjcf(skeleton, timestep=TIMESTEP_S))
    block, horizon = round(REPLAN_S / TIMESTEP_S), round(HORIZON_S / TIMESTEP_S)
    total = max(round(clip.seconds / TIMESTEP_S), 1)
    times = np.arange(total + horizon + block) * TIMESTEP_S
    root, turn, angles = _resample(clip, times)
    velocities = np.gradient(angles, TIMESTEP_S, axis=0)
    sensors, start = _reference_sensors(mujoco, model, root, turn, angles)
    names, feet = tracked(skeleton)
    cost = _Cost(weights, sensors, angles, velocities, feet)
    low, high = skeleton.limits.T
    # A servo's damping drags it behind by SERVO_LAG_S; the lead cancels that on the reference.
    leading = angles + SERVO_LAG_S * velocities
    reach = 0.5  # targets may pass a limit: the limit stops the hinge and not the servo
    steered = _steered(skeleton)
    rng = np.random.default_rng(seed)
    threads = max(1, min(os.cpu_count() or 1, 8))
    datas = [mujoco.MjData(model) for _ in range(threads)]
    # Linear interpolation from knots to physics steps.
    at = np.arange(horizon) * TIMESTEP_S / KNOT_S
    basis = np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(_KNOTS)[None, :]))
    shift = np.minimum(np.arange(_KNOTS) + REPLAN_S / KNOT_S, _KNOTS - 1)
    advance = np.maximum(0.0, 1.0 - np.abs(shift[:, None] - np.arange(_KNOTS)[None, :]))
    mean = np.zeros((_KNOTS, len(steered)))
    state, states = start, [start[None]]
    fallen: float | None = None
    simulated, began, exhausted = 0, time.perf_counter(), False
    elite = max(4, num_samples // 10)
    with rollout.Rollout(nthread=threads) as pool:

        def run(knots: Array, step: int, length: int) -> tuple[Array, Array]:
            targets = np.repeat(leading[None, step : step + length], len(knots), axis=0)
            targets[:, :, steered] += np.einsum("tk,nkd->ntd", basis[:length], knots)
            out, sensed = pool.rollout(
                model,
                datas,
                np.repeat(state[None], len(knots), axis=0),
                np.clip(targets, low - reach, high + reach),
            )
            return np.asarray(out), np.asarray(sensed)

        for step in range(0, total, block):
            late = time_budget_s is not None and time.perf_counter() - began > time_budget_s
            exhausted = exhausted or (late and fallen is None)
            if fallen is None and not exhausted:
                spread = np.full_like(mean, sigma)
                for _ in range(iterations):
                    noise = rng.standard_normal((num_samples, *mean.shape))
                    noise[:, 0] = 0.0  # servo targets stay continuous from one replan to the next
                    knots = mean + spread * noise
                    knots[0], knots[1, 1:] = mean, 0.0
                    out, sensed = run(knots, step, horizon)
                    simulated += num_samples * horizon
                    costs = cost(step, sensed, out)
                    costs += weights.offset * (knots**2).sum(axis=(1, 2)) / _KNOTS
                    costs += weights.knot * (np.diff(knots, axis=1) ** 2).sum(axis=(1, 2)) / _KNOTS
                    best = np.argsort(costs, kind="stable")[:elite]
                    mean = knots[best].mean(axis=0)
                    spread = 0.5 * spread + 0.5 * knots[best].std(axis=0)
            else:
                mean = np.zeros_like(mean)
            out, sensed = run(mean[None], step, block)
            simulated += block
            states.append(out[0])
            state = out[0, -1].copy()
            mean = advance @ mean
            if fallen is None:
                fallen = _fall_time(
                    sensed[0], sensors[step : step + block], step, names.index(skeleton.names[0])
                )
            if progress is not None:
                progress(min(1.0, (step + block) / total))
    path = np.concatenate(states)[: total + 1]
    rows = np.minimum(np.round(np.arange(clip.num_frames) / clip.fps / TIMESTEP_S), len(path) - 1)
    frames = path[rows.astype(int)]
    hinges = len(skeleton.hinges)
    status = "tracked" if fallen is None else f"fell at t={fallen:.2f} s"
    if exhausted:
        status += " (time budget ended first)"
    result = replace(
        clip,
        root_positions=frames[:, 1:4],
        root_rotations=normalize(frames[:, 4:8]),
        angles=frames[:, 8 : 8 + hinges],
        status=status,
        reference=clip,
    )
    return result, {
        "physics_steps": simulated,
        "seconds_steering": time.perf_counter() - began,
        "time_budget_ended": exhausted,
        "seed": seed,
        "num_samples": num_samples,
    }


def _reference_sensors(
    mujoco: Any, model: Any, root: Array, turn: Array, angles: Array
) -> tuple[Array, Array]:
    """Sensor readings of the reference poses, and the start as a full physics state."""
    data = mujoco.MjData(model)
    poses = np.concatenate([root, turn, angles], axis=1)
    out = np.empty((len(poses), model.nsensordata))
    before = np.zeros(model.nv)
    for i, pose in enumerate(poses):
        data.qpos[:] = pose
        if i + 1 < len(poses):
            mujoco.mj_differentiatePos(model, before, TIMESTEP_S, pose, poses[i + 1])
            data.qvel[:] = before
        mujoco.mj_forward(model, data)
        out[i] = data.sensordata
    kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
    start = np.empty(mujoco.mj_stateSize(model, kind))
    mujoco.mj_resetData(model, data)
    data.qpos[:] = poses[0]
    mujoco.mj_getState(model, data, start, kind)
    return out, start


def _fall_time(got: Array, want: Array, step: int, root: int) -> float | None:
    """Time of the first physics step where the figure counts as fallen, or None.

    Fallen: the pelvis is 0.3 m off its wanted height, or the chest axis 0.9 rad off.
    """
    n, z = got.shape[1] - 12, 3 * root + 2
    low = np.abs(got[:, z] - want[:, z]) > 0.3
    cosine = np.sum(got[:, n + 3 : n + 6] * want[:, n + 3 : n + 6], axis=1)
    bad = np.flatnonzero(low | (cosine < np.cos(0.9)) | ~np.isfinite(got[:, z]))
    return float((step + bad[0]) * TIMESTEP_S) if len(bad) else None
