"""Inverse kinematics with limits: a few hinges move, what is planted stays, the rest is frozen.

Each solve is a run of small quadratic programs (mink on MuJoCo's Jacobians, solved by DAQP): the
targets and the pins are weighted least squares, the hinge limits and the frozen hinges are exact. A
target out of reach gives the pose that comes nearest. Deterministic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from foveal._core.lazy import require
from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.body import to_mjcf
from foveal.motion.director.pose import POINTS, Pose
from foveal.motion.posecodes.points import find_point
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Skeleton

_PIN = 100.0  # weight of what is planted against 1 of a target
_HINT = 0.05
_POSTURE = 0.01
_STEP = 0.35  # rad and m an iteration
_STILL = 1e-6
_ROUNDS = 90
_STRAIGHT = 0.05  # rad; a straight elbow or knee has no way to bend but with a nudge
_NEAR = 0.01  # m; above this other starts are tried


@dataclass(frozen=True, eq=False)
class Pin:
    """A part that stays where it is.

    Args:
        point: Its point, one of `POINTS`.
        position: Where the point is, (3,), m.
        rotation: Rotation of its body (4,), or None where it may turn.
    """

    point: str
    position: Array
    rotation: Array | None = None


@dataclass(frozen=True, eq=False)
class Goal:
    """What a solve is to reach.

    Args:
        places: Point to its wanted position (3,), m.
        pelvis: Wanted position (3,) and rotation (4,) of the pelvis; None where it stays.
        facing: Point to the wanted rotation (4,) of its body.
        hints: Point to a position (3,) that it should tend to, weakly.
    """

    places: Mapping[str, Array] = field(default_factory=dict)
    pelvis: tuple[Array, Array] | None = None
    facing: Mapping[str, Array] = field(default_factory=dict)
    hints: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Solved:
    """A solved pose.

    Attributes:
        pose: The pose.
        left: Distance left to each place of the goal, and to "pelvis", m.
        astray: Angle left to the pelvis rotation of the goal, rad; 0 without one.
        slipped: Largest distance that a pin was left by, m.
        at_limit: Names of the moving hinges that are at a limit.
    """

    pose: Pose
    left: dict[str, float]
    astray: float
    slipped: float
    at_limit: tuple[str, ...]

    @property
    def worst(self) -> float:
        """Largest distance left, m; 0 without a place."""
        return max(self.left.values(), default=0.0)


def _site(name: str) -> str:
    return "point " + name


class Solver:
    """The inverse kinematics of one figure.

    Raises:
        MissingExtraError: mink is not installed.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self.mink: Any = require("mink", "motion", "inverse kinematics")
        mujoco: Any = require("mujoco", "motion", "inverse kinematics")
        self.skeleton = skeleton
        document = ET.fromstring(to_mjcf(skeleton))
        bodies = {node.get("name"): node for node in document.iter("body")}
        for name in POINTS:
            body, local = find_point(skeleton, name)
            at = " ".join(f"{x:.12g}" for x in local)
            ET.SubElement(bodies[skeleton.names[body]], "site", name=_site(name), pos=at)
        self.model = mujoco.MjModel.from_xml_string(ET.tostring(document, encoding="unicode"))
        joints = [self.model.joint(name) for name in skeleton.hinge_names]
        self._q = np.array([int(joint.qposadr[0]) for joint in joints])
        self._v = np.array([int(joint.dofadr[0]) for joint in joints])

    def _to_q(self, pose: Pose, angles: Array) -> Array:
        q = np.zeros(self.model.nq)
        q[:3], q[3:7], q[self._q] = pose.root, pose.turn, angles
        return q

    def _to_pose(self, q: Array) -> Pose:
        low, high = self.skeleton.limits.T
        return Pose(q[:3], rot.normalize(q[3:7]), np.clip(q[self._q], low, high))

    def _pose_of(self, rotation: Array | None, position: Array) -> Any:
        turn = np.array([1.0, 0.0, 0.0, 0.0]) if rotation is None else rotation
        return self.mink.SE3(np.concatenate([turn, position]))

    def _tasks(self, goal: Goal, pins: Sequence[Pin]) -> list[Any]:
        tasks: list[Any] = []

        def add(
            name: str, kind: str, weight: float, position: Array | None, rotation: Array | None
        ) -> None:
            # a tenth of the weight on radians: a decimeter off counts as six degrees
            task = self.mink.FrameTask(
                name,
                kind,
                position_cost=0.0 if position is None else weight,
                orientation_cost=0.0 if rotation is None else 0.1 * weight,
                lm_damping=1e-4,
            )
            at = np.zeros(3) if position is None else position
            task.set_target(self._pose_of(rotation, at))
            tasks.append(task)

        for name, position in goal.places.items():
            add(_site(name), "site", 1.0, position, None)
        for name, position in goal.hints.items():
            add(_site(name), "site", _HINT, position, None)
        for name, rotation in goal.facing.items():
            add(_site(name), "site", 1.0, None, rotation)
        if goal.pelvis is not None:
            add(self.skeleton.names[0], "body", 1.0, *goal.pelvis)
        for pin in pins:
            add(_site(pin.point), "site", _PIN, pin.position, pin.rotation)
        return tasks

    def solve(
        self, pose: Pose, goal: Goal, *, hinges: Sequence[int], pins: Sequence[Pin] = ()
    ) -> Solved:
        """Move some hinges, and the pelvis if the goal says so, towards a goal.

        Args:
            pose: Where to start; among equal solutions the one near it is found.
            goal: What to reach.
            hinges: Indices of the hinges that may move.
            pins: What stays where it is, if it can.

        Raises:
            ArgumentError: a target is not finite.
        """
        for name, target in {**goal.places, **goal.hints}.items():
            if not np.isfinite(target).all():
                raise ArgumentError(
                    f"Solver.solve: {name} is {target.tolist()}, must be finite; give meters"
                )
        best = self._from(pose, pose.angles, goal, hinges, pins)
        if best.worst <= _NEAR or goal.pelvis is not None:
            return best
        for start in self._starts(pose, hinges):
            found = self._from(pose, start, goal, hinges, pins)
            if found.worst < best.worst - 1e-3:
                best = found
            if best.worst <= _NEAR:
                break
        return best

    def _starts(self, pose: Pose, hinges: Sequence[int]) -> list[Array]:
        """Other poses to start from: quarter, half and three quarters of the moving hinges."""
        low, high = self.skeleton.limits.T
        out: list[Array] = []
        for share in (0.5, 0.75, 0.25):
            angles = pose.angles.copy()
            columns = list(hinges)
            angles[columns] = low[columns] + share * (high - low)[columns]
            out.append(angles)
        return out

    def _nudged(self, angles: Array, hinges: Sequence[int]) -> Array:
        out = angles.copy()
        for i in hinges:
            hinge = self.skeleton.hinges[i]
            if hinge.lower == 0.0 and out[i] < _STRAIGHT:
                out[i] = 3.0 * _STRAIGHT
        return out

    def _from(
        self, pose: Pose, start: Array, goal: Goal, hinges: Sequence[int], pins: Sequence[Pin]
    ) -> Solved:
        mink = self.mink
        angles = self._nudged(start, hinges) if goal.places else start
        configuration = mink.Configuration(self.model, q=self._to_q(pose, angles))
        posture = mink.PostureTask(self.model, cost=_POSTURE)
        posture.set_target(self._to_q(pose, pose.angles))
        moving = {int(self._v[i]) for i in hinges}
        if goal.pelvis is not None:
            moving |= set(range(6))
        frozen = [i for i in range(self.model.nv) if i not in moving]
        hold = [mink.DofFreezingTask(self.model, frozen)] if frozen else []
        limits = [mink.ConfigurationLimit(self.model)]
        hinted = [*self._tasks(goal, pins), posture]
        exact = self._tasks(replace(goal, hints={}), pins)
        # posture and hints choose, then what is left is closed, then what is planted is put right
        for tasks in (hinted, exact, self._tasks(Goal(), pins)):
            for _ in range(_ROUNDS if tasks else 0):
                try:
                    step = mink.solve_ik(
                        configuration, tasks, 1.0, "daqp", damping=1e-7, limits=limits,
                        constraints=hold,
                    )  # fmt: skip
                except mink.MinkError:
                    break  # no step from here: what is left is measured and told
                step[frozen] = 0.0
                size = float(np.abs(step).max(initial=0.0))
                configuration.integrate_inplace(step * min(1.0, _STEP / max(size, 1e-12)), 1.0)
                if size < _STILL:
                    break
        return self._solved(self._to_pose(configuration.q), goal, hinges, pins)

    def _solved(self, pose: Pose, goal: Goal, hinges: Sequence[int], pins: Sequence[Pin]) -> Solved:
        from foveal.motion.director.pose import points

        names = [*goal.places, *(pin.point for pin in pins)]
        at = points(self.skeleton, pose, dict.fromkeys(names))
        astray = 0.0
        left = {n: float(np.linalg.norm(at[n] - p)) for n, p in goal.places.items()}
        if goal.pelvis is not None:
            left["pelvis"] = float(np.linalg.norm(pose.root - goal.pelvis[0]))
            same = abs(float(np.dot(pose.turn, goal.pelvis[1])))
            astray = 2.0 * float(np.arccos(min(same, 1.0)))
        slipped = [float(np.linalg.norm(at[pin.point] - pin.position)) for pin in pins]
        low, high = self.skeleton.limits.T
        close = 1e-3
        at_limit = tuple(
            self.skeleton.hinge_names[i]
            for i in hinges
            if pose.angles[i] < low[i] + close or pose.angles[i] > high[i] - close
        )
        return Solved(pose, left, astray, max(slipped, default=0.0), at_limit)


@lru_cache(maxsize=4)
def solver(skeleton: Skeleton) -> Solver:
    """Return the solver of a figure; built once.

    Raises:
        MissingExtraError: mink is not installed.
    """
    return Solver(skeleton)
