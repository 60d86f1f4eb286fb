"""The physics tracker: cross-entropy predictive control of servo targets, in MuJoCo.

Ten times a second the tracker samples offsets to the reference's hinge targets, simulates each
candidate for 0.6 s, keeps the best tenth, and applies the first 0.1 s of their mean; where the
servos alone follow closely nothing is sampled, so that what stands still is not shaken. No
training. The offsets are continuous: a replan keeps the value that is applied at that moment, and
moves only later knots. Trunk and legs are steered; the arms follow their servos.

Where it falls it goes back to the last stable moment and tries again, with more candidates, and
then with the reference slowed down there, unless a foot is to leave the ground with none to stay:
flight cannot be slowed. What it cannot do stays a fall and is called one.

Source: replaces the learned tracker of Zhang et al., FreeMotion, arXiv:2406.10740, by sampled
model-predictive control (cross-entropy method). Differs: no policy and no world model.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from foveal._core.lazy import require
from foveal.errors import ArgumentError
from foveal.motion.body.mjcf import tracked
from foveal.motion.clip import Clip
from foveal.motion.rotations import Array, normalize
from foveal.motion.track.cost import Weights
from foveal.motion.track.planner import BLOCK, HORIZON, HORIZON_S, TIMESTEP_S, Planner
from foveal.motion.track.reference import Reference, resample
from foveal.motion.track.world import World, compile_model

_TRIES = ((2, 1.0), (2, 0.75), (3, 0.6))
"""Candidates, as a multiple, and speed of the reference, of each try after a fall."""
_BACK_S, _AFTER_S = 0.5, 0.5
"""A try begins at least so long before the fall, and its terms hold until so long after it."""
_STABLE_M = 0.1
"""A moment is stable where the pelvis is that near to where it should be."""
_LONGEST = 3.0
"""Simulated time is at most this multiple of the clip's."""


@dataclass(frozen=True)
class _Moment:
    """Where the simulation stands before a block of steps."""

    phase: float
    state: Array
    plan: Array
    stable: bool


@dataclass(frozen=True)
class _Block:
    """Some physics steps that were simulated."""

    states: Array
    phases: Array
    pushes: Array


def track_mpc(
    clip: Clip,
    *,
    seed: int = 0,
    num_samples: int = 96,
    iterations: int = 2,
    sigma: float = 0.1,
    weights: Weights | None = None,
    scene: Mapping[str, object] | str | Path | None = None,
    retries: int = 3,
    root_assist: float = 0.0,
    time_budget_s: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[Clip, dict[str, Any]]:
    """Simulate the figure following a kinematic clip.

    Time and simulated steps grow with the clip's seconds, `num_samples` and `iterations`; memory
    with `num_samples`.

    Args:
        clip: The reference; its first pose is the start.
        seed: Of the sampling. The result does not depend on the number of threads.
        num_samples: Candidates an iteration, at least 4.
        iterations: Refinements a control step.
        sigma: First standard deviation of the offsets, rad.
        weights: Cost weights.
        scene: Surfaces by name, or an MJCF file, in which the figure is put as it is; None is the
            floor alone.
        retries: Tries after a fall, 0 to 3, from the last stable moment: with twice the
            candidates; slowed to 0.75; with three times the candidates slowed to 0.6.
        root_assist: Greatest force that may push the pelvis, N, and, times 0.3 m, torque. What was
            used is in the details. 0, the usual, is physics alone.
        time_budget_s: Wall seconds of steering; afterwards the servos follow the reference alone.
        progress: Called with the finished fraction.

    Returns: The simulated clip, with `reference` set and an honest `status`, and details: physics
    steps simulated, seconds steered, whether the budget ended first, `retries` that were made,
    `slowed_s`, seconds by which it is longer than the clip, and `root_assist`. Where it was
    slowed, `reference` is slowed alike, so that both have the same frames.

    Raises:
        MissingExtraError: MuJoCo is not installed.
        ArgumentError: a number is out of range, or the scene cannot be read or has no floor.
    """
    mujoco = require("mujoco", "motion", "the physics tracker")
    if not 0 <= retries <= len(_TRIES):
        raise ArgumentError(
            f"track_mpc: retries is {retries}, must be in [0, {len(_TRIES)}]; 3 is usual"
        )
    if not (np.isfinite(root_assist) and root_assist >= 0):
        raise ArgumentError(
            f"track_mpc: root_assist is {root_assist}, must be a force in N, at least 0; 0 is "
            "physics alone"
        )
    model = compile_model(mujoco, clip.skeleton, scene, TIMESTEP_S)
    reference = Reference(mujoco, model, clip, TIMESTEP_S)
    with World(model, clip.skeleton, root_assist) as world:
        planner = Planner(world, weights or Weights())
        run = _Run(clip, reference, planner, retries)
        began = time.perf_counter()
        rng = np.random.default_rng(seed)
        while not run.ended:
            late = time_budget_s is not None and time.perf_counter() - began > time_budget_s
            run.exhausted |= late and run.fallen is None
            if run.fallen is None and not run.exhausted:
                factor, rate = run.terms
                window = reference.window(run.phase, rate, HORIZON)
                run.plan = planner.improve(
                    run.state, run.plan, window, rng,
                    samples=factor * num_samples, iterations=iterations, sigma=sigma,
                )  # fmt: skip
            else:
                run.plan, rate = planner.nothing, 1.0
            run.advance(rate)
            if progress is not None:
                progress(min(1.0, run.phase / reference.steps))
    details: dict[str, Any] = {
        "physics_steps": planner.simulated,
        "seconds_steering": time.perf_counter() - began,
        "time_budget_ended": run.exhausted,
        "seed": seed,
        "num_samples": num_samples,
        "retries": run.tried,
    }
    result, slowed = run.clip()
    details["slowed_s"] = slowed
    details["root_assist"] = run.pushed(root_assist)
    return result, details


class _Run:
    """A simulation that can go back."""

    def __init__(self, clip: Clip, reference: Reference, planner: Planner, retries: int) -> None:
        self.reference, self.planner, self.retries = reference, planner, retries
        self._clip, self._blocks, self._moments = clip, list[_Block](), list[_Moment]()
        self.phase, self.state, self.plan = 0.0, reference.start, planner.nothing
        self.fallen: float | None = None
        self.exhausted, self.tried = False, 0
        self._hard_until = -1.0
        names = tracked(clip.skeleton)[0]
        self._root = names.index(clip.skeleton.names[0])
        self._stable = True

    @property
    def ended(self) -> bool:
        """Whether all of the reference was shown, or it takes too long."""
        steps = BLOCK * len(self._blocks)
        return self.phase >= self.reference.steps or steps > _LONGEST * self.reference.steps

    @property
    def terms(self) -> tuple[int, float]:
        """Return how many candidates, as a multiple, at which speed of the reference."""
        if self.phase >= self._hard_until:
            return 1, 1.0
        factor, rate = _TRIES[self.tried - 1]
        return factor, 1.0 if self.reference.flies(self.phase, HORIZON_S) else rate

    def advance(self, rate: float) -> None:
        """Simulate one block by the plan, and go back if that is a fall that can be tried again."""
        window = self.reference.window(self.phase, rate, BLOCK)
        out, sensed = self.planner.run(self.state, self.plan[None], window.servo)
        self._moments.append(_Moment(self.phase, self.state, self.plan, self._stable))
        phases = self.phase + rate * np.arange(1, BLOCK + 1)
        self._blocks.append(_Block(out[0], phases, self.planner.pushes(self.plan, BLOCK)))
        self.phase, self.state = self.phase + rate * BLOCK, out[0, -1].copy()
        self.plan = self.planner.later(self.plan)
        gap = sensed[0, -1, 3 * self._root :][:3] - window.sensors[-1, 3 * self._root :][:3]
        self._stable = bool(np.linalg.norm(gap) < _STABLE_M)
        if self.fallen is not None:
            return
        first = _first_bad(sensed[0], window.sensors, self._root)
        if first is None:
            return
        if self.tried < self.retries and not self.exhausted:
            self._go_back()
        else:
            self.fallen = (BLOCK * (len(self._blocks) - 1) + first) * TIMESTEP_S

    def _go_back(self) -> None:
        back = max(0, len(self._moments) - round(_BACK_S / (BLOCK * TIMESTEP_S)))
        while back and not self._moments[back].stable:
            back -= 1
        self._hard_until = self.phase + _AFTER_S / TIMESTEP_S
        self.tried += 1
        moment = self._moments[back]
        del self._moments[back:], self._blocks[back:]
        self.phase, self.state, self.plan = moment.phase, moment.state, moment.plan
        self._stable = moment.stable

    def pushed(self, budget: float) -> dict[str, float]:
        """Return what pushed the root."""
        force = np.linalg.norm(np.concatenate([b.pushes[:, :3] for b in self._blocks]), axis=1)
        if not budget:
            return {"budget_n": 0.0, "peak_n": 0.0, "impulse_ns": 0.0}
        return {
            "budget_n": budget,
            "peak_n": float(force.max()),
            "impulse_ns": float(force.sum() * TIMESTEP_S),
        }

    def clip(self) -> tuple[Clip, float]:
        """Return the simulated clip, and by how many seconds it is longer than the reference."""
        clip, steps = self._clip, self.reference.steps
        path = np.concatenate([self.reference.start[None], *(b.states for b in self._blocks)])
        phases = np.concatenate([[0.0], *(b.phases for b in self._blocks)])
        broken = np.flatnonzero(~np.isfinite(path).all(axis=1))
        if len(broken):  # it fell before: what was left last is held
            path[broken[0] :] = path[broken[0] - 1]
        slowed = bool((np.diff(phases) < 1.0 - 1e-9).any())
        status = "tracked" if self.fallen is None else f"fell at t={self.fallen:.2f} s"
        if self.exhausted:
            status += " (time budget ended first)"
        count = clip.num_frames
        if slowed:
            ends = np.searchsorted(phases, steps - 1e-9)
            count = round(float(min(ends, len(path) - 1)) * TIMESTEP_S * clip.fps) + 1
        times = np.arange(count) / clip.fps
        rows = np.minimum(np.round(times / TIMESTEP_S).astype(int), len(path) - 1)
        reference, contacts, keyframes = clip, clip.contacts, clip.keyframe_times
        if slowed:
            shown = np.minimum(phases[rows] * TIMESTEP_S, clip.seconds)
            root, turn, angles = resample(clip, shown)
            frames = np.minimum(np.round(shown * clip.fps).astype(int), clip.num_frames - 1)
            contacts = clip.contacts[frames]
            keyframes = np.searchsorted(phases, clip.keyframe_times / TIMESTEP_S - 1e-9)
            keyframes = np.minimum(keyframes, len(path) - 1) * TIMESTEP_S
            reference = replace(
                clip, root_positions=root, root_rotations=turn, angles=angles, contacts=contacts,
                keyframe_times=keyframes,
            )  # fmt: skip
        frames_of = path[rows]
        own = len(clip.skeleton.hinges)
        result = replace(
            clip,
            root_positions=frames_of[:, 1:4],
            root_rotations=normalize(frames_of[:, 4:8]),
            angles=frames_of[:, 8 : 8 + own],
            contacts=contacts,
            keyframe_times=keyframes,
            status=status,
            reference=reference,
        )
        return result, (count - clip.num_frames) / clip.fps


def _first_bad(got: Array, want: Array, root: int) -> int | None:
    """Return the first physics step where the figure counts as fallen, or None.

    Fallen: the pelvis is 0.3 m off its wanted height, or the chest axis 0.9 rad off.
    """
    n, z = got.shape[1] - 12, 3 * root + 2
    low = np.abs(got[:, z] - want[:, z]) > 0.3
    cosine = np.sum(got[:, n + 3 : n + 6] * want[:, n + 3 : n + 6], axis=1)
    bad = np.flatnonzero(low | (cosine < np.cos(0.9)) | ~np.isfinite(got[:, z]))
    return int(bad[0]) if len(bad) else None
