"""One pose while it is being made: the pelvis, the hinges, and where every named point is."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.director.commands import Keyframe
from foveal.motion.director.library import ACTIONS
from foveal.motion.director.parts import part_of_bodies
from foveal.motion.inbetween import resolve
from foveal.motion.posecodes.points import find_axis, find_point
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES, Skeleton

CONTACT_POINTS = {
    "left_foot": "left foot", "right_foot": "right foot", "left_hand": "left hand",
    "right_hand": "right hand", "left_knee": "left knee", "right_knee": "right knee",
    "pelvis": "pelvis", "back": "chest", "head": "head",
}  # fmt: skip
"""Parts that may bear on a surface, and the point that stands for each."""
_SIDED = (
    "shoulder", "elbow", "wrist", "hand", "fingertips", "hip", "knee", "ankle", "foot", "toes",
)  # fmt: skip
POINTS = (
    "head", "crown", "mouth", "neck", "chest", "pelvis",
    *(f"{side} {name}" for name in _SIDED for side in SIDES),
)  # fmt: skip
"""Points that are told to a model, and that its commands may name."""


@dataclass(frozen=True, eq=False)
class Pose:
    """A pose of a figure. Arrays are read-only.

    Attributes:
        root: The pelvis in the world (3,), m.
        turn: The pelvis in the world (4,), w first.
        angles: Hinge angles (hinges,), rad, in the order of the skeleton's hinges.
    """

    root: Array
    turn: Array
    angles: Array

    def __post_init__(self) -> None:
        """Copy and freeze the arrays."""
        for name in ("root", "turn", "angles"):
            value = np.array(getattr(self, name), np.float64)
            value.setflags(write=False)
            object.__setattr__(self, name, value)

    @property
    def state(self) -> tuple[float, ...]:
        """All numbers of the pose, rounded to 1e-6."""
        return tuple(round(float(x), 6) for x in (*self.root, *self.turn, *self.angles))


def from_keyframe(key: Keyframe, skeleton: Skeleton) -> Pose:
    """Return the pose of a keyframe.

    Raises:
        ArgumentError: it is not valid (see `commands.validate`).
    """
    poses = resolve([replace(key, dt=0.0)], skeleton)
    return Pose(poses.root_positions[0], poses.root_rotations[0], poses.angles[0])


def standing(skeleton: Skeleton) -> Pose:
    """Return the pose that every motion starts in: upright, arms hanging, elbows a little bent."""
    return from_keyframe(ACTIONS["stand"].make("left")[0], skeleton)


def to_keyframe(pose: Pose, skeleton: Skeleton, base: Keyframe) -> Keyframe:
    """Return `base` with the pose of `pose`, every hinge named and no foot targets."""
    low, high = skeleton.limits.T
    turn, tilt, roll = rot.euler_from_matrix(rot.to_matrix(pose.turn), "zyx")
    shift = (pose.root - skeleton.offsets[0]) * 1.7 / skeleton.height
    angles = np.clip(pose.angles, low, high)
    return replace(
        base,
        pelvis=(float(shift[0]), float(shift[1]), float(shift[2])),
        turn=float(turn),
        tilt=float(tilt),
        lean=-float(roll),
        angles={name: float(a) for name, a in zip(skeleton.hinge_names, angles, strict=True)},
        feet={},
    )


@lru_cache(maxsize=128)
def place(skeleton: Skeleton, pose: Pose) -> tuple[Array, Array]:
    """Return the world positions (bodies, 3) and rotations (bodies, 4) of a pose; read-only."""
    local = skeleton.local_rotations(pose.turn[None], pose.angles[None])
    positions, world = skeleton.forward(pose.root[None], local)
    positions.setflags(write=False)
    world.setflags(write=False)
    return positions[0], world[0]


def points(skeleton: Skeleton, pose: Pose, names: Iterable[str] = POINTS) -> dict[str, Array]:
    """Return the world positions (3,) of named points, m."""
    positions, world = place(skeleton, pose)
    out: dict[str, Array] = {}
    for name in names:
        body, local = find_point(skeleton, name)
        out[name] = positions[body] + rot.rotate(world[body], local)
    return out


def moved(pose: Pose, shift: Array, turn: Array | None = None) -> Pose:
    """Move a pose as a whole: turn it (4,) about its pelvis, then shift it (3,), m."""
    spun = pose.turn if turn is None else rot.normalize(rot.multiply(turn, pose.turn))
    return Pose(pose.root + shift, spun, pose.angles)


def to_clip(skeleton: Skeleton, poses: Iterable[Pose], *, fps: float = 10.0) -> Clip:
    """Return a clip of one frame a pose, for what judges clips."""
    held = list(poses)
    return Clip(
        skeleton,
        fps,
        np.array([p.root for p in held]),
        np.array([p.turn for p in held]),
        np.array([p.angles for p in held]),
        np.ones((len(held), 2), bool),
        np.arange(len(held)) / fps,
    )


def heading(pose: Pose) -> float:
    """Return where the pelvis faces, as its turn to the left from +x, rad.

    Where it lies on its back or front, its up axis stands for what it faces.
    """
    forward = rot.rotate(pose.turn, np.array([1.0, 0.0, 0.0]))
    if np.hypot(forward[0], forward[1]) < 0.2:
        up = rot.rotate(pose.turn, np.array([0.0, 0.0, 1.0]))
        forward = -np.sign(forward[2]) * up
    return float(np.arctan2(forward[1], forward[0]))


def part_of_point(skeleton: Skeleton, name: str) -> str:
    """Return the part that a point belongs to."""
    return part_of_bodies(skeleton)[find_point(skeleton, name)[0]]


_WAYS = ("chest", "pelvis", "face", "left palm", "right palm")


def directions(skeleton: Skeleton, pose: Pose) -> str:
    """Return in words where trunk, face and palms face and how far elbows and knees are bent."""
    _, world = place(skeleton, pose)
    lines: list[str] = []
    for name in _WAYS:
        point, axis = find_axis(name, "facing")
        way = rot.rotate(world[find_point(skeleton, point)[0]], np.asarray(axis, np.float64)) + 0.0
        lines.append(f"- {name} faces [{way[0]:.1f}, {way[1]:.1f}, {way[2]:.1f}]")
    bends = ("elbow", "knee")
    for bend in bends:
        told: list[str] = []
        for side in SIDES:
            column = skeleton.hinge(f"{side}_{bend}_flexion")
            told.append(f"{side} {bend} {np.degrees(pose.angles[column]):.0f}")
        lines.append(f"- bent by degrees: {', '.join(told)}")
    return "\n".join(lines).replace("-0.0", "0.0")
