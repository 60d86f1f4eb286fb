"""Carry out a command on a pose: the new pose, and what a model should know about it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.director.commands_pose import (
    Camera,
    Command,
    EndEffectorMove,
    JointMove,
    PelvisWithoutSupport,
    PelvisWithSupport,
    Roll,
)
from foveal.motion.director.ik import Goal, Pin, Solved, solver
from foveal.motion.director.parts import hinges_of, part_of_bodies
from foveal.motion.director.pose import CONTACT_POINTS, Pose, place, points
from foveal.motion.posecodes.points import find_point
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Skeleton

_SHORT = 0.01  # m; a distance left below this is not told
_TURN = np.radians(1.0)
_FAR = 1.02  # of a limb's length; a farther target only gives the direction
_STARTS = {
    "wrist": "elbow", "elbow": "shoulder", "fingertips": "wrist",
    "knee": "hip", "ankle": "knee", "toes": "ankle",
}  # fmt: skip
_BENDS = {"hand": "elbow", "foot": "knee"}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a command.

    Attributes:
        pose: The pose after it; the one before it if it was refused.
        note: A sentence for the model.
        left: Distance left to the target, m; 0 if there was none.
        refused: Whether nothing was done.
    """

    pose: Pose
    note: str
    left: float = 0.0
    refused: bool = False


def pins_of(skeleton: Skeleton, pose: Pose, planted: Collection[str]) -> list[Pin]:
    """Return pins that keep planted parts where they are in a pose; feet keep their turn too.

    Args:
        skeleton: The figure.
        pose: The pose.
        planted: Names of `CONTACT_POINTS`.
    """
    at = points(skeleton, pose, [CONTACT_POINTS[part] for part in planted])
    _, world = place(skeleton, pose)
    out: list[Pin] = []
    for part in sorted(planted):
        point = CONTACT_POINTS[part]
        turn = world[find_point(skeleton, point)[0]] if part.endswith("_foot") else None
        out.append(Pin(point, at[point], turn))
    return out


def apply(skeleton: Skeleton, pose: Pose, command: Command, planted: Collection[str]) -> Outcome:
    """Carry out a command.

    Args:
        skeleton: The figure.
        pose: The pose before it.
        command: One of the six.
        planted: Parts that bear on a surface and must stay, names of `CONTACT_POINTS`.

    Raises:
        MissingExtraError: mink is not installed.
    """
    match command:
        case Camera():
            return Outcome(pose, "the next picture is from there")
        case Roll():
            return _roll(skeleton, pose, command)
        case PelvisWithoutSupport():
            return _rigid(pose, command, planted)
        case PelvisWithSupport():
            return _supported(skeleton, pose, command, planted)
        case JointMove():
            return _joint(skeleton, pose, command, planted)
        case EndEffectorMove():
            return _effector(skeleton, pose, command, planted)


def _refuse(pose: Pose, why: str) -> Outcome:
    return Outcome(pose, f"refused: {why}", refused=True)


def _told(solved: Solved, what: str) -> Outcome:
    left = solved.worst
    note = f"{what} is there" if left < _SHORT else f"{what} is {left:.2f} m short"
    if left >= _SHORT and solved.at_limit:
        note += f"; at the limit: {', '.join(solved.at_limit[:4])}"
    elif left >= _SHORT:
        note += "; out of reach, the limb is as near as it gets"
    if solved.astray > _TURN:
        note += f", and {np.degrees(solved.astray):.0f} degrees short of its turn"
    return Outcome(solved.pose, note, left)


def _carried(skeleton: Skeleton, hinges: Sequence[int], planted: Collection[str]) -> str:
    """Return a planted part that hinges would move along, or ""."""
    turned = {skeleton.hinges[i].body for i in hinges}
    for part in planted:
        body = find_point(skeleton, CONTACT_POINTS[part])[0]
        while body >= 0:
            if body in turned:
                return part
            body = skeleton.parents[body]
    return ""


def _spine(skeleton: Skeleton, below: str) -> list[int]:
    """Return the hinges of the bodies from the pelvis (without it) to the joint of `below`."""
    out: list[int] = []
    body = skeleton.parents[skeleton.body(below)]
    while body > 0:
        out += [i for i, hinge in enumerate(skeleton.hinges) if hinge.body == body]
        body = skeleton.parents[body]
    return sorted(out)


def _joint(skeleton: Skeleton, pose: Pose, command: JointMove, planted: Collection[str]) -> Outcome:
    name = command.joint
    side, _, rest = name.partition(" ")
    if name == "neck":
        hinges, start = _spine(skeleton, "neck"), "pelvis"
    elif name == "crown":
        hinges, start = hinges_of(skeleton, "head"), "neck"
    else:
        start = f"{side} {_STARTS[rest]}"
        body = find_point(skeleton, start)[0]
        hinges = [i for i, hinge in enumerate(skeleton.hinges) if hinge.body == body]
    if part := _carried(skeleton, hinges, planted):
        return _refuse(
            pose, f"{part} is planted and would move; move the pelvis with support, or another part"
        )
    at = points(skeleton, pose, [start, name])
    away = np.array(command.target) - at[start]
    length = float(np.linalg.norm(at[name] - at[start]))
    if np.linalg.norm(away) < 1e-6:
        return _refuse(pose, f"the target is at the {start} itself; it gives no direction")
    target = at[start] + away * length / np.linalg.norm(away)
    goal = Goal({name: target})
    return _told(solver(skeleton).solve(pose, goal, hinges=hinges), name)


def _effector(
    skeleton: Skeleton, pose: Pose, command: EndEffectorMove, planted: Collection[str]
) -> Outcome:
    name = command.effector
    side, _, rest = name.partition(" ")
    own = name.replace(" ", "_")
    if own in planted:
        return _refuse(
            pose,
            f"{own} is planted in this keyframe; move the pelvis with support, or another part",
        )
    facing: dict[str, Array] = {}
    if rest == "foot":
        parts = [f"{side}_leg"]
        facing[name] = place(skeleton, pose)[1][find_point(skeleton, name)[0]]
    elif rest == "hand":
        parts = [f"{side}_arm", *(["trunk"] if command.reach == "trunk" else [])]
    else:
        parts = ["trunk", "head"]
    hinges = hinges_of(skeleton, *parts)
    if part := _carried(skeleton, hinges, planted):
        return _refuse(pose, f"{part} is planted and would move; use reach 'limb' or another part")
    hints: dict[str, Array] = {}
    if command.bend is not None and rest in _BENDS:
        joint = f"{side} {_BENDS[rest]}"
        hints[joint] = np.array(command.bend)
    wanted = np.array(command.target)
    near = _within(skeleton, pose, name, hinges, wanted)
    goal = Goal({name: near}, hints=hints)
    solved = solver(skeleton).solve(pose, goal, hinges=hinges)
    if facing:  # the sole as before, without giving up the place
        ankle = [i for i in hinges if skeleton.hinges[i].body == find_point(skeleton, name)[0]]
        level = solver(skeleton).solve(solved.pose, Goal(facing=facing), hinges=ankle)
        goal = Goal({name: near}, facing=facing)
        both = solver(skeleton).solve(level.pose, goal, hinges=hinges)
        if both.worst <= solved.worst + _SHORT:
            solved = both
    gap = float(np.linalg.norm(points(skeleton, solved.pose, [name])[name] - wanted))
    return _told(replace(solved, left={name: gap}), name)


def _within(
    skeleton: Skeleton, pose: Pose, name: str, hinges: Sequence[int], target: Array
) -> Array:
    """Bring a target that no chain can reach to just beyond its reach, on the line to its base."""
    moving = {skeleton.hinges[i].body for i in hinges}
    body, local = find_point(skeleton, name)
    length, base = float(np.linalg.norm(local)), body
    while moving & set(_above(skeleton, base)):
        length += float(np.linalg.norm(skeleton.offsets[base]))
        base = skeleton.parents[base]
    start = place(skeleton, pose)[0][base]
    away = target - start
    distance = float(np.linalg.norm(away))
    return target if distance <= _FAR * length else start + away * _FAR * length / distance


def _above(skeleton: Skeleton, body: int) -> list[int]:
    out: list[int] = []
    while skeleton.parents[body] >= 0:
        body = skeleton.parents[body]
        out.append(body)
    return out


def _turned(pose: Pose, command: PelvisWithSupport | PelvisWithoutSupport) -> Array:
    forward, left, turn = np.radians([command.lean_forward, command.lean_left, command.turn_left])
    x, y, z = np.eye(3)
    own = rot.multiply(rot.from_axis_angle(y, forward), rot.from_axis_angle(-x, left))
    return rot.normalize(rot.multiply(rot.multiply(rot.from_axis_angle(z, turn), pose.turn), own))


def _rigid(pose: Pose, command: PelvisWithoutSupport, planted: Collection[str]) -> Outcome:
    if planted:
        return _refuse(
            pose, f"{', '.join(sorted(planted))} planted in this keyframe; use pelvis_with_support"
        )
    root = pose.root if command.target is None else np.array(command.target)
    return Outcome(Pose(root, _turned(pose, command), pose.angles), "the figure is there")


def _supported(
    skeleton: Skeleton, pose: Pose, command: PelvisWithSupport, planted: Collection[str]
) -> Outcome:
    limbs = [part for part in planted if part not in ("pelvis", "back", "head")]
    if not planted:
        return _refuse(pose, "nothing is planted in this keyframe; use pelvis_without_support")
    seated = "pelvis" in planted
    root = pose.root if command.target is None or seated else np.array(command.target)
    goal = Goal(pelvis=(root, _turned(pose, command)))
    where = part_of_bodies(skeleton)
    parts = {where[find_point(skeleton, CONTACT_POINTS[part])[0]] for part in limbs}
    hinges = hinges_of(skeleton, *sorted(parts))
    solved = solver(skeleton).solve(
        pose, goal, hinges=hinges, pins=pins_of(skeleton, pose, planted)
    )
    out = _told(solved, "the pelvis")
    if seated and command.target is not None:
        gap = float(np.linalg.norm(np.array(command.target) - solved.pose.root))
        return Outcome(solved.pose, "the pelvis is planted: it turned and did not move", gap)
    return out


def _roll(skeleton: Skeleton, pose: Pose, command: Roll) -> Outcome:
    columns = roll_hinges(skeleton).get(command.bone, {})
    if not columns:
        able = ", ".join(name for name, found in roll_hinges(skeleton).items() if found)
        return _refuse(pose, f"this figure cannot roll its {command.bone}; it can roll {able}")
    low, high = skeleton.limits.T
    angles = pose.angles.copy()
    rest = np.radians(command.degrees)
    for number, (column, sign) in enumerate(columns.items()):
        share = rest / (len(columns) - number)
        before = angles[column]
        angles[column] = np.clip(before + sign * share, low[column], high[column])
        rest -= sign * (angles[column] - before)
    left = float(abs(np.degrees(rest)))
    note = "rolled" if left < 0.5 else f"rolled to the limit, {left:.0f} degrees are left"
    return Outcome(Pose(pose.root, pose.turn, angles), note)


def roll_hinges(skeleton: Skeleton) -> Mapping[str, dict[int, float]]:
    """Return for each bone the hinges that twist it, and the sign that makes a roll positive.

    A hinge twists a bone if its axis is the bone's own, and no later hinge of the body turns it;
    or if it is the first hinge of the next body, as where a forearm's twist shows at the wrist.
    """
    out: dict[str, dict[int, float]] = {}
    where = part_of_bodies(skeleton)
    first = {hinge.body: i for i, hinge in reversed(list(enumerate(skeleton.hinges)))}
    last = {hinge.body: i for i, hinge in enumerate(skeleton.hinges)}
    for bone in ("head", "trunk"):
        ends = [last[i] for i, part in enumerate(where) if part == bone and i in last]
        out[bone] = _twists(skeleton, ends, 1.0)
    chains = (("upper_arm", "forearm", "hand"), ("thigh", "shin", "foot"))
    for side, outward in (("left", 1.0), ("right", -1.0)):
        for chain in chains:
            for part, after in pairwise(chain):
                name = f"{side} {part.replace('_', ' ')}"
                body, child = (skeleton.body(f"{side}_{word}") for word in (part, after))
                out[name] = _twists(skeleton, [last[body]], outward) or _twists(
                    skeleton, [first[child]], outward
                )
    return out


def _twists(skeleton: Skeleton, columns: Sequence[int], positive: float) -> dict[int, float]:
    up = {column: skeleton.hinges[column].axis[2] for column in columns}
    return {i: positive * float(np.sign(z)) for i, z in up.items() if abs(z) > 0.99}
