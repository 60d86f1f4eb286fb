"""From a clip to any rig: rotations in the world relative to rest, the root by leg length."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.export.bvh import end_site
from foveal.motion.retarget.bvh_read import read_bvh
from foveal.motion.retarget.feet import pin_feet
from foveal.motion.retarget.geometry import shortest
from foveal.motion.retarget.mixamo import mixamo_rig
from foveal.motion.retarget.names import NEEDED, find_joints
from foveal.motion.retarget.rig import POSITIONS, Rig, RigMotion
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES, Skeleton

_ONE = np.array([1.0, 0.0, 0.0, 0.0])
_LIMBS = ("upper_arm", "forearm", "hand"), ("thigh", "shin", "foot")


@dataclass(frozen=True, eq=False)
class Frame:
    """How a rig stands in the pose of reference.

    Attributes:
        axes: Columns are its ahead, left and up in its own coordinates (3, 3).
        scale: Its length for each metre of the figure, by the legs.
        ankle: Height of its ankle over its sole, in its unit.
    """

    axes: Array
    scale: float
    ankle: float


def _length(points: list[Array]) -> float:
    return float(sum(np.linalg.norm(b - a) for a, b in pairwise(points)))


def _axes(where: Array, joints: Mapping[str, list[int]]) -> Array:
    """Ahead, left and up of a standing rig: the coordinate axes nearest to it."""
    hips, feet = (
        np.mean([where[joints[f"{side}_{part}"][0]] for side in SIDES], axis=0)
        for part in ("thigh", "foot")
    )
    across = where[joints["left_thigh"][0]] - where[joints["right_thigh"][0]]
    up, left = hips - feet, across
    axes: list[Array] = []
    for vector in (up, left):
        vector = vector - sum((float(vector @ a) * a for a in axes), np.zeros(3))
        k = int(np.abs(vector).argmax())
        size = float(np.linalg.norm(vector))
        if size < 1e-9 or abs(vector[k]) < 0.8 * size:
            raise ArgumentError(
                "retarget: the rig at rest is no figure that stands along the axes, must be one "
                f"(hips over feet {np.round(up, 3)}, right to left hip {np.round(across, 3)}); "
                "pass rest_frame, a frame of the file where it stands in a T- or A-pose"
            )
        axes.append(np.eye(3)[k] * np.sign(vector[k]))
    return np.stack([np.cross(axes[1], axes[0]), axes[1], axes[0]], axis=1)


def rig_axes(rig: Rig) -> Array:
    """Ahead, left and up of a rig as columns (3, 3); y up and ahead z where no figure is found."""
    try:
        return _axes(rig.posed()[0], find_joints(rig, None))
    except ArgumentError:
        return np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def _measure(skeleton: Skeleton, rig: Rig, joints: Mapping[str, list[int]]) -> Frame:
    where, _, tips = rig.posed()
    axes = _axes(where, joints)
    up = axes[:, 2]
    legs: list[float] = []
    ours: list[float] = []
    for side in SIDES:
        legs.append(_length([where[joints[f"{side}_{part}"][0]] for part in _LIMBS[1]]))
        ours.append(_length(_source_chain(skeleton, [f"{side}_{part}" for part in _LIMBS[1]])))
    scale = float(np.mean(legs) / np.mean(ours))
    if not scale > 0:
        raise ArgumentError(
            f"retarget: the rig's legs are {np.round(legs, 4)} long, must be > 0; take another rest"
        )
    points = np.array([*where, *tips]) @ up
    feet = [joints[f"{side}_foot"][0] for side in SIDES]
    ankle = float(np.mean(where[feet] @ up))
    if not -0.02 <= points.min() / np.mean(legs) <= 0.1:  # rest is not on the floor
        low = [i for foot in feet for i in rig.below(foot)]
        heights = [float(where[i] @ up) for i in low]
        heights += [float(t @ up) for (i, _), t in zip(rig.ends, tips, strict=True) if i in low]
        gap = ankle - min(heights)
        # what is between the lowest joint and the sole is not in the file: as much as with ours
        ankle = gap + scale * (_under_toes(skeleton) if gap > 0.01 * scale else _ankle(skeleton))
    return Frame(axes, scale, ankle)


def _source_chain(skeleton: Skeleton, names: list[str]) -> list[Array]:
    places = skeleton.rest_positions
    return [places[skeleton.body(name)] for name in names]


def _ankle(skeleton: Skeleton) -> float:
    """Height of the ankle of the resting figure over its soles, m."""
    places = skeleton.rest_positions
    heights = [
        places[skeleton.body(f"{side}_foot"), 2]
        - min(places[body, 2] + at[2] - skeleton.sole_radius for body, at in skeleton.soles[side])
        for side in SIDES
    ]
    return float(np.mean(heights))


def _under_toes(skeleton: Skeleton) -> float:
    """Height of the lowest joint or end of the resting feet over the soles, m."""
    places, low = skeleton.rest_positions, list[float]()
    for side in SIDES:
        name = f"{side}_toes" if f"{side}_toes" in skeleton.names else f"{side}_foot"
        body = skeleton.body(name)
        at = float(places[body, 2] + min(0.0, end_site(skeleton, body)[2]))
        low.append(at - float(places[skeleton.body(f"{side}_foot"), 2]))
    return float(np.mean(low)) + _ankle(skeleton)


def _alignments(
    skeleton: Skeleton, rig: Rig, joints: Mapping[str, list[int]], axes: Array
) -> dict[str, Array]:
    """Rotations from our zero pose to the rig's pose of reference, for each body, in our axes.

    Bones of arms and legs are turned onto those of the rig on the shortest way, each from where its
    parent's turn has left it. Feet keep their soles level and take the rig's direction alone; the
    trunk, the neck and the clavicles stay.
    """
    where, _, tips = rig.posed()
    out: dict[str, Array] = {}
    for side in SIDES:
        for chain in _LIMBS:
            turn = _ONE
            for part, following in (*pairwise(chain), (chain[-1], "")):
                name = f"{side}_{part}"
                if name not in joints or name not in skeleton.names:
                    continue
                start = _bone(skeleton, name, f"{side}_{following}")
                end = _rig_bone(rig, joints, name, f"{side}_{following}", where, tips)
                if part == "foot":
                    out[name] = _turn_level(start, end, axes)
                    continue
                if start is not None and end is not None:
                    turn = rot.multiply(shortest(rot.rotate(turn, start), axes.T @ end), turn)
                out[name] = turn
        if f"{side}_foot" in out:
            out[f"{side}_toes"] = out[f"{side}_foot"]
    return out


def _turn_level(start: Array | None, end: Array | None, axes: Array) -> Array:
    if start is None or end is None:
        return _ONE
    a, b = start[:2], (axes.T @ end)[:2]
    if min(np.linalg.norm(a), np.linalg.norm(b)) < 1e-6:
        return _ONE
    angle = np.arctan2(b[1], b[0]) - np.arctan2(a[1], a[0])
    return rot.from_axis_angle([0.0, 0.0, 1.0], np.array(angle))


def _bone(skeleton: Skeleton, name: str, following: str) -> Array | None:
    body = skeleton.body(name)
    places = skeleton.rest_positions
    if following in skeleton.names:
        gap = places[skeleton.body(following)] - places[body]
    else:
        children = [i for i, p in enumerate(skeleton.parents) if p == body]
        gap = skeleton.offsets[children[0]] if children else skeleton.centers[body]
    return gap if np.linalg.norm(gap) > 1e-6 else None


def _rig_bone(
    rig: Rig, joints: Mapping[str, list[int]], name: str, following: str, where: Array,
    tips: list[Array],
) -> Array | None:  # fmt: skip
    """Direction of a bone of the rig: to the next joint, its children's middle, or its end."""
    i = joints[name][0]
    toes = name.replace("_foot", "_toes")
    if following in joints:
        ends = [where[joints[following][0]]]
    elif name.endswith("_foot") and toes in joints:
        ends = [where[joints[toes][0]]]
    else:
        ends = [where[child] for child in rig.children[i]]
        ends = ends or [tip for (j, _), tip in zip(rig.ends, tips, strict=True) if j == i]
    if not ends:
        return None
    gap = np.mean(ends, axis=0) - where[i]
    return gap if np.linalg.norm(gap) > 1e-6 else None


def _followers(
    skeleton: Skeleton, joints: Mapping[str, list[int]]
) -> dict[int, tuple[str, str, float]]:
    """What each joint follows: two bodies and the share of the second."""
    out: dict[int, tuple[str, str, float]] = {}
    has = set(skeleton.names)
    root = skeleton.names[0]
    chest = "chest" if "chest" in has else root
    for body, found in joints.items():
        if body == "trunk":
            low = "spine" if "spine" in has else chest
            for k, i in enumerate(found):
                share = k / (len(found) - 1) if len(found) > 1 else 1.0
                out[i] = (low, chest, share)
        elif body == "neck" and body in has:
            for k, i in enumerate(found):
                out[i] = ("neck", "head" if "head" in has else "neck", k / len(found))
        else:
            name = root if body == "pelvis" else body
            out |= {i: (name, name, 0.0) for i in found if name in has}
    return out


def find_rig(
    to: "str | Path | Rig",
    skeleton: Skeleton,
    mapping: Mapping[str, str] | None = None,
    rest_frame: int | None = None,
) -> tuple[Rig, dict[str, list[int]]]:
    """Return the rig that `to` is of, and its joints for our bodies; see `retarget`.

    Raises:
        ArgumentError: it cannot be read, or a clip of the skeleton cannot be moved to it.
    """
    if missing := [n for n in NEEDED[1:] if n not in skeleton.names]:
        raise ArgumentError(
            f"retarget: the clip's figure has no {', '.join(missing)}, must have them; read it "
            "with names= that say which they are"
        )
    if isinstance(to, Rig):
        rig = to
        if rest_frame is not None:
            raise ArgumentError(
                f"retarget: rest_frame is {rest_frame}, must be None for a rig; use "
                "RigMotion.rest_at"
            )
    elif str(to).lower() == "mixamo":
        rig = mixamo_rig(skeleton)
    elif Path(to).suffix.lower() == ".bvh":
        motion = read_bvh(to)
        rig = motion.rig if rest_frame is None else motion.rest_at(rest_frame)
    else:
        raise ArgumentError(
            f"retarget: to is {str(to)!r}, must be 'mixamo', a Rig or the path of a .bvh file"
        )
    joints = find_joints(rig, mapping)
    if not set(POSITIONS) <= set(rig.channels[0]):
        raise ArgumentError(
            f"retarget: the root {rig.names[0]!r} has the channels {rig.channels[0]}, must have "
            f"{POSITIONS}; add them"
        )
    _axes(rig.posed()[0], joints)
    return rig, joints


def retarget(
    clip: Clip,
    to: "str | Path | Rig" = "mixamo",
    *,
    mapping: Mapping[str, str] | None = None,
    rest_frame: int | None = None,
    keep_feet: bool = True,
) -> RigMotion:
    """Move another skeleton as a clip moves its own.

    Each joint turns in the world, relative to its pose of reference, as the body that it follows
    turns relative to the same pose of ours, so that twist stays and an A-pose is told from a
    T-pose. Joints between pelvis and neck share the turns of spine and chest; joints that follow
    nothing keep their rest. The path of the hips, their middle, is scaled by the length of the
    legs.

    Args:
        clip: What to do.
        to: "mixamo" (the names and axes of its skeleton, in the clip's proportions), the path of a
            BVH file (its joints, channels, unit and axes; it stands on the floor at 0) or a `Rig`.
        mapping: Names of the rig's joints to our bodies, where guessing by Mixamo's, CMU's, SMPL's,
            Unreal's, biped's and similar names is wrong or finds nothing.
        rest_frame: Frame of the BVH file in which it stands, if its rest is no stand.
        keep_feet: Bend the legs so that feet go the clip's way, scaled, while they are planted:
            they slide only if the clip's do.

    Raises:
        ArgumentError: the rig cannot be read, lacks a needed joint (names our bodies without one),
            or does not stand at rest; `mapping` or `rest_frame` names what is not there.

    Differs from a copy of local rotations: those are right only for rigs with our rest and axes.
    """
    skeleton = clip.skeleton
    rig, joints = find_rig(to, skeleton, mapping, rest_frame)
    frame = _measure(skeleton, rig, joints)
    follow = _followers(skeleton, joints)
    aligned = _alignments(skeleton, rig, joints, frame.axes)
    wanted = {i: _turns(clip, aligned, row, frame.axes) for i, row in follow.items()}
    turns = _spread(rig, wanted, clip.num_frames)
    motion = RigMotion(
        rig, clip.fps, _root_path(clip, rig, joints, frame, turns), turns, clip.title,
        np.array(clip.contacts),
    )  # fmt: skip
    if not keep_feet:
        return motion
    goals = {side: _goal(clip, frame, side) for side in SIDES}
    bent = pin_feet(motion, joints, goals, frame.axes)
    turns = _spread(rig, wanted | bent, clip.num_frames)
    return replace(motion, turns=turns)


def _turns(
    clip: Clip, aligned: Mapping[str, Array], row: tuple[str, str, float], axes: Array
) -> Array:
    """Turns (frames, 4) in the rig's axes relative to its pose of reference."""
    first, second, share = row
    pair = [
        rot.multiply(
            clip.world_rotations[:, clip.skeleton.body(name)],
            rot.conjugate(aligned.get(name, _ONE)),
        )
        for name in (first, second)
    ]
    ours = pair[0] if share == 0 else rot.slerp(pair[0], pair[1], share)
    # conjugating by a change of axes turns the vector part
    return np.concatenate([ours[:, :1], ours[:, 1:] @ axes.T], axis=1)


def _spread(rig: Rig, wanted: Mapping[int, Array], count: int) -> Array:
    """Turns of all joints relative to rest: the wanted ones, and rest under their parent."""
    _, pose, _ = rig.posed()
    out = np.tile(_ONE, (count, rig.num_joints, 1))
    for i, parent in enumerate(rig.parents):
        if i in wanted:
            out[:, i] = rot.multiply(wanted[i], pose[i])
        elif parent >= 0:
            kept = rot.multiply(rot.conjugate(pose[parent]), pose[i])
            out[:, i] = rot.multiply(out[:, parent], kept)
        else:
            out[:, i] = pose[i]
    return out


def _goal(clip: Clip, frame: Frame, side: str) -> Array:
    """Path of an ankle (frames, 3) in the rig's unit and axes."""
    return _scaled(clip, frame, [f"{side}_foot"])


def _scaled(clip: Clip, frame: Frame, names: list[str]) -> Array:
    """Path of the middle of bodies (frames, 3), as high over the rig's ankles as over ours."""
    bodies = [clip.skeleton.body(name) for name in names]
    path = frame.scale * clip.positions[:, bodies].mean(axis=1)
    path[:, 2] += frame.ankle - frame.scale * _ankle(clip.skeleton)
    return path @ frame.axes.T


def _root_path(
    clip: Clip, rig: Rig, joints: Mapping[str, list[int]], frame: Frame, turns: Array
) -> Array:
    """Where the root must be for the hips to go where ours go (frames, 3)."""
    thighs = [f"{side}_thigh" for side in SIDES]
    at = rig.place(np.zeros((len(turns), 3)), turns)
    return _scaled(clip, frame, thighs) - at[:, [joints[name][0] for name in thighs]].mean(axis=1)
