"""Close the loop of a cyclic action, and repeat it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.director.commands import CONTACTS, Keyframe
from foveal.motion.director.pose import (
    CONTACT_POINTS,
    Pose,
    heading,
    moved,
    points,
    to_keyframe,
)
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Skeleton

_SAME = 0.05  # m; a last pose this near to the first is made equal to it
_STRAIGHT = np.radians(20.0)  # a turn below this is no turn
_Z = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class Closed:
    """A cycle whose last pose is its first, up to travel and turn.

    Attributes:
        keyframes: The plan.
        poses: Their poses.
        bearing: What is planted at each.
        loop: First and last keyframe of one cycle.
        added: Whether a keyframe was added to close it, and none was bent.
    """

    keyframes: tuple[Keyframe, ...]
    poses: tuple[Pose, ...]
    bearing: tuple[frozenset[str], ...]
    loop: tuple[int, int]
    added: bool


def _turn_about(pose: Pose, yaw: float, shift: Array, pivot: Array) -> Pose:
    """Turn a pose about a vertical axis through `pivot`, then shift it."""
    turn = rot.from_axis_angle(_Z, np.array(yaw))
    root = pivot + rot.rotate(turn, pose.root - pivot)
    return Pose(root + shift, rot.normalize(rot.multiply(turn, pose.turn)), pose.angles)


def close(
    keyframes: Sequence[Keyframe],
    poses: Sequence[Pose],
    bearing: Sequence[frozenset[str]],
    first: int,
    skeleton: Skeleton,
) -> Closed:
    """Make the last pose of a cycle equal to its first, up to travel over the floor and turn.

    If the last pose is already within 5 cm of that, it is replaced; otherwise a keyframe is added.
    A foot that is planted in both poses decides where the closing pose stands, so that it does not
    slide; without one, the pelvis keeps its place over the floor.

    Args:
        keyframes: The plan.
        poses: Their poses.
        bearing: What is planted at each.
        first: Number of the keyframe that begins the cycle.
        skeleton: The figure.

    Raises:
        ArgumentError: fewer than two keyframes from `first` on.
    """
    last = len(keyframes) - 1
    if not 0 <= first < last:
        raise ArgumentError(
            f"close: first is {first}, must be in [0, {last - 1}]; a cycle has at least two keys"
        )
    start, end = poses[first], poses[last]
    yaw = (heading(end) - heading(start) + np.pi) % (2.0 * np.pi) - np.pi
    yaw = float(yaw) if abs(yaw) > _STRAIGHT else 0.0
    again = _turn_about(start, yaw, np.zeros(3), start.root)
    common = [
        part
        for part in ("left_foot", "right_foot")
        if part in bearing[last] and part in bearing[first]
    ]
    names = [CONTACT_POINTS[part] for part in common] or ["pelvis"]
    here, there = points(skeleton, again, names), points(skeleton, end, names)
    shift = np.mean([there[name] - here[name] for name in names], axis=0)
    shift[2] = 0.0
    goal = moved(again, shift)
    a, b = points(skeleton, goal), points(skeleton, end)
    gap = max(float(np.linalg.norm(a[name] - b[name])) for name in a)
    base = replace(keyframes[first], finished=True, timing={})
    if gap <= _SAME and last - first >= 2:
        key = to_keyframe(goal, skeleton, replace(keyframes[last], finished=True))
        return Closed(
            (*keyframes[:last], key), (*poses[:last], goal), tuple(bearing), (first, last), False
        )
    dt = keyframes[first].dt if first else _usual(keyframes)
    held = bearing[last] & bearing[first]
    key = to_keyframe(
        goal,
        skeleton,
        replace(
            base,
            dt=max(dt, 0.1),
            contacts=held & frozenset(CONTACTS),
            supports=bearing[first] - frozenset(CONTACTS),
            description=f"{keyframes[first].description} (the cycle is closed)",
        ),
    )
    earlier = [replace(k, finished=False) for k in keyframes]
    return Closed(
        (*earlier, key), (*poses, goal), (*bearing, bearing[first]), (first, last + 1), True
    )


def _usual(keyframes: Sequence[Keyframe]) -> float:
    return float(np.median([key.dt for key in keyframes[1:]]))


def repeat(closed: Closed, cycles: int, skeleton: Skeleton) -> Closed:
    """Show a closed cycle several times; travel and turn add up.

    Args:
        closed: As `close` returns it.
        cycles: How often, >= 1.
        skeleton: The figure.

    Raises:
        ArgumentError: `cycles` is below 1.
    """
    if cycles < 1:
        raise ArgumentError(f"repeat: cycles is {cycles}, must be >= 1; 1 is once")
    first, last = closed.loop
    keys, poses, bearing = list(closed.keyframes), list(closed.poses), list(closed.bearing)
    start = closed.poses[first]
    for _ in range(cycles - 1):
        end = poses[-1]
        yaw = heading(end) - heading(start)
        shift = (end.root - start.root) * np.array([1.0, 1.0, 0.0])
        keys[-1] = replace(keys[-1], finished=False)
        for i in range(first + 1, last + 1):
            pose = _turn_about(closed.poses[i], yaw, shift, start.root)
            poses.append(pose)
            bearing.append(closed.bearing[i])
            base = replace(closed.keyframes[i], finished=False)
            if i == first + 1 and first == 0:
                base = replace(base, dt=max(base.dt, 0.05))
            keys.append(to_keyframe(pose, skeleton, base))
    keys[-1] = replace(keys[-1], finished=True)
    return Closed(tuple(keys), tuple(poses), tuple(bearing), closed.loop, closed.added)
