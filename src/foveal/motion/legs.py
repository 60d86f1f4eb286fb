"""Inverse kinematics of a leg: closed form for our own, damped least squares for any other."""

from functools import lru_cache

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Side, Skeleton

# what the closed form is for: hinges of the hip, knee and ankle about these axes
_AXES = {"thigh": "yxz", "shin": "y", "foot": "yx"}
_ROUNDS, _REACHED = 80, 1e-9
_DAMPING, _RADIAN = 1e-4, 0.3  # m a radian of the foot's turn counts as


@lru_cache(maxsize=64)
def _path(skeleton: Skeleton, side: Side) -> tuple[int, ...]:
    """Bodies from the child of the root down to the foot."""
    out: list[int] = []
    body = skeleton.body(f"{side}_foot")
    while body > 0:
        out.insert(0, body)
        body = skeleton.parents[body]
    return tuple(out)


@lru_cache(maxsize=64)
def _leg(skeleton: Skeleton, side: Side) -> tuple[int, ...]:
    """Bodies of the leg itself, thigh to foot."""
    path = _path(skeleton, side)
    return path[path.index(skeleton.body(f"{side}_thigh")) :]


@lru_cache(maxsize=64)
def _has_closed_form(skeleton: Skeleton, side: Side) -> bool:
    leg = _leg(skeleton, side)
    if [skeleton.names[i] for i in leg] != [f"{side}_{part}" for part in _AXES]:
        return False
    if skeleton.parents[leg[0]] != 0 or any(skeleton.offsets[i][:2].any() for i in leg[1:]):
        return False
    for body, axes in zip(leg, _AXES.values(), strict=True):
        own = [np.abs(hinge.axis).tolist() for hinge in skeleton.hinges if hinge.body == body]
        if own != [[float(letter == axis) for letter in "xyz"] for axis in axes]:
            return False
    return True


def leg_hinges(skeleton: Skeleton, side: Side) -> list[int]:
    """Return the hinge indices of a leg, hip to ankle, in the order of `solve_leg`."""
    leg = _leg(skeleton, side)
    return [i for i, hinge in enumerate(skeleton.hinges) if hinge.body in leg]


def hip_positions(
    skeleton: Skeleton, root: Array, root_rotation: Array, side: Side, angles: Array | None = None
) -> Array:
    """World positions (frames, 3) of a hip.

    Args:
        skeleton: The figure.
        root: Pelvis position (frames, 3), m.
        root_rotation: Pelvis rotation (frames, 4).
        side: Which leg.
        angles: All hinge angles (frames, hinges), for figures whose legs do not hang on the root.
    """
    thigh = skeleton.body(f"{side}_thigh")
    if skeleton.parents[thigh] == 0 or angles is None:
        at, turn = root, root_rotation
        for body in _path(skeleton, side):
            at = at + rot.rotate(turn, skeleton.offsets[body])
            if body == thigh:
                break
        return at
    local = skeleton.local_rotations(root_rotation, angles)
    return skeleton.forward(root, local)[0][:, thigh]


def leg_length(skeleton: Skeleton, side: Side) -> float:
    """Hip to ankle distance of the straight leg, m."""
    return float(sum(np.linalg.norm(skeleton.offsets[i]) for i in _leg(skeleton, side)[1:]))


def solve_leg(
    skeleton: Skeleton,
    side: Side,
    root: Array,
    root_rotation: Array,
    ankle: Array,
    foot_rotation: Array,
    angles: Array | None = None,
) -> Array:
    """Find the hinge angles of a leg that put a foot at a world pose.

    Where the hip is three hinges in one point (flexion, abduction, rotation), the knee one and the
    ankle two, as in our own figure, the angles follow in closed form; a foot out of reach gets the
    straight leg towards it, and angles are not clamped to the limits: callers count what exceeds
    them. Any other leg is solved by damped least squares within its limits, and a foot out of
    reach comes as near as it can.

    Args:
        skeleton: The figure.
        side: Which leg.
        root: Pelvis position (frames, 3), m.
        root_rotation: Pelvis rotation (frames, 4).
        ankle: Wanted ankle position in the world (frames, 3), m.
        foot_rotation: Wanted foot rotation in the world (frames, 4).
        angles: All hinge angles (frames, hinges): what lies between the root and the hip, and where
            least squares start. Default: zeros.

    Returns: Angles (frames, leg hinges), rad, in the order of `leg_hinges`.
    """
    if not _has_closed_form(skeleton, side):
        start = np.zeros((len(root), len(skeleton.hinges))) if angles is None else angles
        return _solve_any(skeleton, side, root, root_rotation, ankle, foot_rotation, start)
    upper = abs(float(skeleton.offsets[skeleton.body(f"{side}_shin")][2]))
    lower = abs(float(skeleton.offsets[skeleton.body(f"{side}_foot")][2]))
    hip = hip_positions(skeleton, root, root_rotation, side)
    r = rot.rotate(rot.conjugate(foot_rotation), hip - ankle)
    reach = np.clip(np.linalg.norm(r, axis=1), abs(upper - lower) + 1e-6, None)
    cosine = (reach**2 - upper**2 - lower**2) / (2.0 * upper * lower)
    knee = np.arccos(np.clip(cosine, -1.0, 1.0))
    # Roll about x brings the hip into the shin's x-z plane, pitch about y to its angle there. The
    # hip is below the plane of a foot that is stretched under a kneeling figure; no ankle rolls
    # past a quarter turn.
    over = np.where(r[:, 2] < 0.0, -1.0, 1.0)
    roll = np.arctan2(over * r[:, 1], over * r[:, 2])
    vz = over * np.hypot(r[:, 1], r[:, 2])
    wanted = np.arctan2(-upper * np.sin(knee), lower + upper * np.cos(knee))
    pitch = wanted - np.arctan2(r[:, 0], vz)
    pitch = (pitch + np.pi) % (2.0 * np.pi) - np.pi
    x, y = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    shin = rot.multiply(
        foot_rotation,
        rot.conjugate(rot.multiply(rot.from_axis_angle(y, pitch), rot.from_axis_angle(x, roll))),
    )
    thigh = rot.multiply(shin, rot.from_axis_angle(y, -knee))
    local = rot.multiply(rot.conjugate(root_rotation), thigh)
    hip_angles = rot.euler_from_matrix(rot.to_matrix(local), "yxz")
    about = np.stack([*hip_angles.T, knee, pitch, roll], axis=1)
    signs = [sum(skeleton.hinges[i].axis) for i in leg_hinges(skeleton, side)]
    return about * np.array(signs)


def _solve_any(
    skeleton: Skeleton,
    side: Side,
    root: Array,
    root_rotation: Array,
    ankle: Array,
    foot_rotation: Array,
    start: Array,
) -> Array:
    path, columns = _path(skeleton, side), leg_hinges(skeleton, side)
    low, high = skeleton.limits[columns].T
    angles = np.array(start, np.float64)
    # a bent knee has a way to go; a straight one has none
    values = np.clip(angles[:, columns], low, high)
    values = np.where(values == 0.0, np.clip(0.1 * np.sign(low + high), low, high), values)
    for _ in range(_ROUNDS):
        angles[:, columns] = values
        at, turn = root, root_rotation
        anchors: dict[int, Array] = {}
        axes: dict[int, Array] = {}
        for body in path:
            at = at + rot.rotate(turn, skeleton.offsets[body])
            for i, hinge in enumerate(skeleton.hinges):
                if hinge.body == body:
                    anchors[i], axes[i] = at, rot.rotate(turn, np.array(hinge.axis))
                    step = rot.from_axis_angle(hinge.axis, angles[:, i])
                    turn = rot.multiply(turn, step)
        gap = rot.multiply(foot_rotation, rot.conjugate(turn))
        gap = np.where(gap[:, :1] < 0, -gap, gap)
        miss = np.concatenate([ankle - at, 2.0 * _RADIAN * gap[:, 1:]], axis=1)
        slopes = [
            np.concatenate([np.cross(axes[i], at - anchors[i]), _RADIAN * axes[i]], axis=1)
            for i in columns
        ]
        jacobian = np.stack(slopes, axis=2)
        # a hinge that a limit stops moves no further that way
        flat = np.einsum("fij,fi->fj", jacobian, miss)
        stuck = ((values <= low) & (flat < 0)) | ((values >= high) & (flat > 0))
        jacobian = np.where(stuck[:, None, :], 0.0, jacobian)
        square = jacobian @ np.swapaxes(jacobian, 1, 2) + _DAMPING * np.eye(6)
        step = np.einsum("fij,fi->fj", jacobian, np.linalg.solve(square, miss[..., None])[..., 0])
        moved = np.clip(values + np.clip(step, -0.3, 0.3), low, high)
        if float(np.abs(moved - values).max(initial=0.0)) < _REACHED:
            break
        values = moved
    return values
