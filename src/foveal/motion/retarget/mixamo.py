"""A skeleton with Mixamo's names and axes, in the proportions of a figure, in a T-pose.

Mixamo's joints have their y along the bone. Legs are turned half about z, so that x is to the
right; arms have z down. In .bvh all axes are the world's at rest, as in any BVH.
"""

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.export.bvh import end_site, t_pose
from foveal.motion.retarget.rig import POSITIONS, ROTATIONS, Rig
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES, Skeleton

PREFIX = "mixamorig:"
_TO_Y_UP = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
_TRUNK = ("Hips", "Spine", "Spine1", "Spine2", "Neck", "Head", "HeadTop_End")
_ARM = ("Shoulder", "Arm", "ForeArm", "Hand")
_ARM_BODIES = ("clavicle", "upper_arm", "forearm", "hand")
_LEG = ("UpLeg", "Leg", "Foot", "ToeBase", "Toe_End")
_LEG_BODIES = ("thigh", "shin", "foot", "toes")
_NEEDED = (
    "spine", "chest", "neck", "head",
    *(f"{side}_{part}" for side in SIDES for part in (*_ARM_BODIES, *_LEG_BODIES)),
)  # fmt: skip


def mixamo_rig(skeleton: Skeleton) -> Rig:
    """Build the rig of 25 joints, without fingers, in centimetres, y up, facing +z.

    Args:
        skeleton: Whose proportions it has.

    Raises:
        ArgumentError: the skeleton lacks one of our bodies.
    """
    if missing := [name for name in _NEEDED if name not in skeleton.names]:
        raise ArgumentError(
            f"mixamo_rig: skeleton has no {', '.join(missing)}, must have them; retarget to a BVH "
            "of your own"
        )
    rest = t_pose(skeleton)
    places = skeleton.offsets.copy()
    for i in range(1, skeleton.num_bodies):
        parent = skeleton.parents[i]
        places[i] = places[parent] + rot.rotate(rest[parent], skeleton.offsets[i])

    def at(name: str) -> Array:
        return places[skeleton.body(name)]

    def tip(name: str) -> Array:
        body = skeleton.body(name)
        return places[body] + rot.rotate(rest[body], end_site(skeleton, body))

    names: list[str] = []
    parents: list[int] = []
    positions: list[Array] = []
    axes: list[Array] = []

    def add(name: str, parent: str, place: Array, turn: Array) -> None:
        names.append(PREFIX + name)
        parents.append(names.index(PREFIX + parent) if parent else -1)
        positions.append(100.0 * _TO_Y_UP @ place)
        axes.append(turn)

    still = np.array([1.0, 0.0, 0.0, 0.0])
    middle = 0.5 * (at("spine") + at("chest"))
    root = places[0]
    trunk = (root, at("spine"), middle, at("chest"), at("neck"), at("head"), tip("head"))
    for i, (name, place) in enumerate(zip(_TRUNK, trunk, strict=True)):
        add(name, _TRUNK[i - 1] if i else "", place, still)
    for side, word in zip(SIDES, ("Left", "Right"), strict=True):
        sign = 1.0 if side == "left" else -1.0
        sideways = np.array([0.5, 0.5, 0.5 * sign, -0.5 * sign])
        for i, (name, body) in enumerate(zip(_ARM, _ARM_BODIES, strict=True)):
            above = word + _ARM[i - 1] if i else "Spine2"
            add(word + name, above, at(f"{side}_{body}"), sideways)
    for side, word in zip(SIDES, ("Left", "Right"), strict=True):
        down = np.array([0.0, 0.0, 0.0, 1.0])
        joints = [at(f"{side}_{body}") for body in _LEG_BODIES]
        joints.append(tip(f"{side}_toes"))
        for i, (name, place) in enumerate(zip(_LEG, joints, strict=True)):
            ahead = _TO_Y_UP @ (joints[min(i + 1, 4)] - joints[min(i, 3)])
            lift = np.arctan2(np.hypot(ahead[0], ahead[2]), -ahead[1]) if i > 1 else 0.0
            turn = rot.multiply(down, rot.from_axis_angle([1.0, 0.0, 0.0], np.array(lift)))
            add(word + name, word + _LEG[i - 1] if i else "Hips", place, turn)
    turns = tuple(ROTATIONS if i else (*POSITIONS, *ROTATIONS) for i in range(len(names)))
    up, side_, front = np.eye(3)[1], np.eye(3)[0], np.eye(3)[2]
    ends = [(names.index(PREFIX + "HeadTop_End"), up)]
    for word, sign in (("Left", 1.0), ("Right", -1.0)):
        hand = names.index(f"{PREFIX}{word}Hand")
        length = 100.0 * float(np.linalg.norm(_tip_of_hand(skeleton, word.lower())))
        ends.append((hand, sign * length * side_))
        ends.append((names.index(f"{PREFIX}{word}Toe_End"), front))
    return Rig(
        tuple(names), tuple(parents), np.array(positions), turns,
        tuple((i, positions[i] + gap) for i, gap in sorted(ends, key=lambda end: end[0])),
        unit=0.01, axes=np.array(axes),
    )  # fmt: skip


def _tip_of_hand(skeleton: Skeleton, side: str) -> Array:
    """From the wrist to the fingertips (3,), m."""
    hand = skeleton.body(f"{side}_hand")
    name = f"{side}_fingers"
    if name not in skeleton.names:
        return end_site(skeleton, hand)
    fingers = skeleton.body(name)
    return skeleton.offsets[fingers] + end_site(skeleton, fingers)
