"""What the tracker simulates: the figure, its scene, and what may push it."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from foveal._core.lazy import require
from foveal.errors import ArgumentError
from foveal.motion.body import to_mjcf
from foveal.motion.body.mjcf import tracked
from foveal.motion.posecodes.points import Surface, read_scene
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES, Skeleton

REACH_RAD = 0.5
"""Servo targets may pass a limit by that much: the limit stops the hinge and not the servo."""
ASSIST_ARM_M = 0.3
"""Torques that push the root are at most the force times this."""


def steered_hinges(skeleton: Skeleton) -> list[int]:
    """Return the hinges that the tracker moves: trunk and legs, or what carries feet and chest."""
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
    held: set[int] = set()
    for name in ("left_foot", "right_foot", "chest"):
        body = skeleton.body(name) if name in skeleton.names else -1
        while body >= 0:
            held.add(body)
            body = skeleton.parents[body]
    return [i for i, hinge in enumerate(skeleton.hinges) if hinge.body in held]


def compile_model(
    mujoco: Any, skeleton: Skeleton, scene: Mapping[str, object] | str | Path | None, step: float
) -> Any:
    """Return the model of a figure in a scene.

    Args:
        mujoco: The library.
        skeleton: The figure.
        scene: Surfaces by name (boxes stand still), an MJCF file, which is taken as it is, with its
            own moving things, or None for the floor alone.
        step: Physics step, s.

    Raises:
        ArgumentError: the scene cannot be read, or has no floor.
    """
    spec = mujoco.MjSpec.from_string(to_mjcf(skeleton, timestep=step))
    if scene is None:
        return spec.compile()
    if isinstance(scene, str | Path):
        return _with_file(mujoco, spec, Path(scene))
    given = dict(scene)
    if given.get("floor", 0) is None:
        raise ArgumentError(
            "track_mpc: scene has no floor, must have one to stand on; leave out 'floor' for one "
            "at height 0"
        )
    for name, surface in read_scene(given).items():
        _add_surface(mujoco, spec, name, surface)
    return spec.compile()


def _add_surface(mujoco: Any, spec: Any, name: str, surface: Surface) -> None:
    if name == "floor":
        spec.geom("floor").pos = [0.0, 0.0, surface.height]
        return
    if surface.low is None or surface.high is None:
        return  # a mark and nothing solid
    low = np.array([*surface.low, max(surface.bottom, surface.height - 10.0)])
    high = np.array([*surface.high, surface.height])
    spec.worldbody.add_geom(
        name=f"scene {name}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=(low + high) / 2,
        size=(high - low) / 2, contype=0, conaffinity=1, condim=3, friction=[1.0, 0.01, 0.001],
    )  # fmt: skip


def _with_file(mujoco: Any, spec: Any, path: Path) -> Any:
    if path.suffix.lower() not in (".xml", ".mjcf") or not path.is_file():
        raise ArgumentError(
            f"track_mpc: scene is {str(path)!r}, must be an MJCF file (.xml); give surfaces as a "
            "mapping otherwise"
        )
    try:
        other = mujoco.MjSpec.from_file(str(path))
        plane = mujoco.mjtGeom.mjGEOM_PLANE
        has_floor = any(geom.type == plane for geom in other.geoms)
        spec.attach(other, prefix="scene/", frame=spec.worldbody.add_frame())
        if has_floor:
            spec.delete(spec.geom("floor"))
        model = spec.compile()
    except (ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"track_mpc: scene is {str(path)!r}, must be MJCF that MuJoCo reads ({error}); open it "
            "in MuJoCo's viewer to find the line"
        ) from error
    if not has_floor:
        raise ArgumentError(
            f"track_mpc: scene is {str(path)!r}, has no plane, must have a floor to stand on; add "
            "<geom type='plane' size='0 0 1'/> to its worldbody"
        )
    return model


class World:
    """Simulates many futures of a figure at once; the result does not depend on the threads."""

    def __init__(self, model: Any, skeleton: Skeleton, root_assist: float = 0.0) -> None:
        self._mujoco = require("mujoco", "motion", "the physics tracker")
        rollout = require("mujoco.rollout", "motion", "the physics tracker")
        self.model, self.skeleton = model, skeleton
        threads = max(1, min(os.cpu_count() or 1, 8))
        self._datas = [self._mujoco.MjData(model) for _ in range(threads)]
        self._pool = rollout.Rollout(nthread=threads)
        self.steered = steered_hinges(skeleton)
        self.feet = tracked(skeleton)[1]
        self._low, self._high = skeleton.limits.T
        arm = 3 * [1.0] + 3 * [ASSIST_ARM_M]
        self._assist = root_assist * np.array(arm) if root_assist else np.zeros(0)
        self.offsets = len(self.steered) + len(self._assist)
        self._root = model.body(skeleton.names[0]).id

    def __enter__(self) -> "World":
        """Keep the threads."""
        self._pool.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the threads."""
        self._pool.__exit__(kind, error, trace)

    def run(self, state: Array, offsets: Array, servo: Array) -> tuple[Array, Array]:
        """Simulate candidates from one state.

        Args:
            state: The full physics state.
            offsets: Of the steered hinges' targets (candidates, steps, offsets), rad; those of the
                root are shares of what may push it.
            servo: Targets without them (steps, hinges), rad.

        Returns: States (candidates, steps, state) and sensors (candidates, steps, sensors).
        """
        count, kind = len(self.steered), self._mujoco.mjtState
        targets = np.repeat(servo[None], len(offsets), axis=0)
        targets[:, :, self.steered] += offsets[..., :count]
        control = np.clip(targets, self._low - REACH_RAD, self._high + REACH_RAD)
        spec = kind.mjSTATE_CTRL
        missing = self.model.nu - control.shape[2]
        if missing:  # motors of the scene rest
            control = np.pad(control, ((0, 0), (0, 0), (0, missing)))
        if len(self._assist):
            pushes = np.zeros((*control.shape[:2], self.model.nbody, 6))
            pushes[:, :, self._root] = self.pushes(offsets)
            control = np.concatenate([control, pushes.reshape(*control.shape[:2], -1)], axis=2)
            spec |= kind.mjSTATE_XFRC_APPLIED
        out, sensed = self._pool.rollout(
            self.model,
            self._datas,
            np.repeat(state[None], len(offsets), axis=0),
            control,
            control_spec=int(spec),
        )
        return np.asarray(out), np.asarray(sensed)[..., : self.sensors]

    @property
    def sensors(self) -> int:
        """How many sensor values are of the figure; a scene's own come after them."""
        return 3 * len(tracked(self.skeleton)[0]) + 12

    def pushes(self, offsets: Array) -> Array:
        """Return the root's force and torque (..., 6), N and N m, of offsets (..., offsets)."""
        return np.clip(offsets[..., len(self.steered) :], -1.0, 1.0) * self._assist

    def hinges(self, states: Array) -> Array:
        """Return hinge angles and velocities (..., 2 hinges) of states."""
        own, first = len(self.skeleton.hinges), 1 + self.model.nq + 6
        return np.concatenate([states[..., 8 : 8 + own], states[..., first : first + own]], axis=-1)
