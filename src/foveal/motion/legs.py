"""Closed-form inverse kinematics of a six-hinge leg."""

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Side, Skeleton

_LEG = (
    "hip_flexion", "hip_abduction", "hip_rotation", "knee_flexion", "ankle_flexion",
    "ankle_inversion",
)  # fmt: skip


def leg_hinges(skeleton: Skeleton, side: Side) -> list[int]:
    """Return the hinge indices of a leg, hip to ankle, in the order of `solve_leg`."""
    return [skeleton.hinge(f"{side}_{name}") for name in _LEG]


def hip_positions(skeleton: Skeleton, root: Array, root_rotation: Array, side: Side) -> Array:
    """World positions (frames, 3) of a hip, for the pelvis poses (frames, 3) and (frames, 4)."""
    return root + rot.rotate(root_rotation, skeleton.offsets[skeleton.body(f"{side}_thigh")])


def leg_length(skeleton: Skeleton, side: Side) -> float:
    """Hip to ankle distance of the straight leg, m."""
    parts = (skeleton.body(f"{side}_shin"), skeleton.body(f"{side}_foot"))
    return float(sum(abs(skeleton.offsets[part][2]) for part in parts))


def solve_leg(
    skeleton: Skeleton,
    side: Side,
    root: Array,
    root_rotation: Array,
    ankle: Array,
    foot_rotation: Array,
) -> Array:
    """Find the six hinge angles that put a foot at a world pose.

    The hip is three hinges in one point (flexion, abduction, rotation), the knee one, the ankle
    two, so the angles follow in closed form. A foot out of reach gets the straight leg towards it.
    Angles are not clamped to the limits: callers count what exceeds them.

    Args:
        skeleton: The figure.
        side: Which leg.
        root: Pelvis position (frames, 3), m.
        root_rotation: Pelvis rotation (frames, 4).
        ankle: Wanted ankle position in the world (frames, 3), m.
        foot_rotation: Wanted foot rotation in the world (frames, 4).

    Returns: Angles (frames, 6), rad: hip flexion, abduction, rotation, knee, ankle flexion,
    ankle inversion.
    """
    sign = 1.0 if side == "left" else -1.0
    upper = abs(float(skeleton.offsets[skeleton.body(f"{side}_shin")][2]))
    lower = abs(float(skeleton.offsets[skeleton.body(f"{side}_foot")][2]))
    hip = hip_positions(skeleton, root, root_rotation, side)
    r = rot.rotate(rot.conjugate(foot_rotation), hip - ankle)
    reach = np.clip(np.linalg.norm(r, axis=1), abs(upper - lower) + 1e-6, None)
    cosine = (reach**2 - upper**2 - lower**2) / (2.0 * upper * lower)
    knee = np.arccos(np.clip(cosine, -1.0, 1.0))
    # Roll about x brings the hip into the shin's x-z plane, pitch about y to its angle there.
    roll = np.arctan2(r[:, 1], r[:, 2])
    vz = np.hypot(r[:, 1], r[:, 2])
    wanted = np.arctan2(-upper * np.sin(knee), lower + upper * np.cos(knee))
    pitch = wanted - np.arctan2(r[:, 0], vz)
    x, y = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    shin = rot.multiply(
        foot_rotation,
        rot.conjugate(rot.multiply(rot.from_axis_angle(y, pitch), rot.from_axis_angle(x, roll))),
    )
    thigh = rot.multiply(shin, rot.from_axis_angle(y, -knee))
    local = rot.multiply(rot.conjugate(root_rotation), thigh)
    hip_angles = rot.euler_from_matrix(rot.to_matrix(local), "yxz")
    return np.stack(
        [
            -hip_angles[:, 0],
            sign * hip_angles[:, 1],
            sign * hip_angles[:, 2],
            knee,
            -pitch,
            sign * roll,
        ],
        axis=1,
    )
