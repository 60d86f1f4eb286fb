"""The kinematic tracker: planted feet stay put, nothing is below the floor, flight is ballistic.

Deterministic and without physics: it prepares the reference of the physics tracker and is a
fast mode of its own. Source: contact clean-up is ours; the paper (arXiv:2406.10740) has none.
"""

from collections.abc import Sequence

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.contacts import contact_plan, other_supports, runs
from foveal.motion.director.commands import Keyframe
from foveal.motion.inbetween import Trajectory, rest_ankles
from foveal.motion.legs import hip_positions, leg_hinges, leg_length, solve_leg
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES, Skeleton

GRAVITY = 9.81
_REACH = 0.998  # share of the straight leg that a planted foot may need
_Z = np.array([0.0, 0.0, 1.0])


def _smooth(values: Array, sigma: float) -> Array:
    """Gaussian filter along axis 0, edges held; `sigma` in frames."""
    radius = int(np.ceil(3.0 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(values, [(radius, radius)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    return np.apply_along_axis(np.convolve, 0, padded, kernel / kernel.sum(), mode="valid")


def _yaw(rotations: Array) -> Array:
    forward = rot.rotate(rotations, np.array([1.0, 0.0, 0.0]))
    return np.arctan2(forward[:, 1], forward[:, 0])


def _pose(skeleton: Skeleton, t: Trajectory, root: Array, angles: Array) -> tuple[Array, Array]:
    return skeleton.forward(root, skeleton.local_rotations(t.root_rotations, angles))


def _quintic(
    z0: float, z1: float, v0: float, v1: float, a0: float, a1: float, u: Array, span: float
) -> Array:
    """Evaluate the quintic with given end values, speeds and accelerations at u in [0, 1]."""
    v0, v1, a0, a1 = v0 * span, v1 * span, a0 * span**2, a1 * span**2
    rise = z1 - z0
    c3 = 10.0 * rise - 6.0 * v0 - 4.0 * v1 - 1.5 * a0 + 0.5 * a1
    c4 = -15.0 * rise + 8.0 * v0 + 7.0 * v1 + 1.5 * a0 - a1
    c5 = 6.0 * rise - 3.0 * (v0 + v1) - 0.5 * (a0 - a1)
    return z0 + u * (v0 + u * (0.5 * a0 + u * (c3 + u * (c4 + u * c5))))


def _ballistic(skeleton: Skeleton, t: Trajectory, contacts: Array, carried: Array) -> Array:
    """Root positions whose centre of mass follows a parabola while nothing carries the figure.

    The push before and the yielding after are bent to leave and to meet the parabola at its
    speed and at the acceleration of gravity, so that the ground force fades out and in.
    """
    root = t.root_positions.copy()
    com = skeleton.center_of_mass(*_pose(skeleton, t, root, t.angles))
    wanted, last = com.copy(), len(root) - 1
    for first, end, free in runs(~np.asarray(contacts.any(axis=1) | carried)):
        a, b = first - 1, end
        if not free or a < 0 or b > last:
            continue
        time = t.times[first:end] - t.times[a]
        span = t.times[b] - t.times[a]
        wanted[first:end] = com[a] + (com[b] - com[a]) * (time / span)[:, None]
        wanted[first:end, 2] += 0.5 * GRAVITY * time * (span - time)
        rise = (com[b, 2] - com[a, 2]) / span
        up, down = rise + 0.5 * GRAVITY * span, rise - 0.5 * GRAVITY * span
        low, z = a, com[:, 2]
        while low > 0 and z[low - 1] < z[low]:
            low -= 1
        if a - low >= 3:
            whole = float(t.times[a] - t.times[low])
            u = (t.times[low:a] - t.times[low]) / whole
            wanted[low:a, 2] = _quintic(z[low], z[a], 0.0, up, 0.0, -GRAVITY, u, whole)
        low = b
        while low < last and z[low + 1] < z[low]:
            low += 1
        if low - b >= 3:
            whole = float(t.times[low] - t.times[b])
            u = (t.times[b:low] - t.times[b]) / whole
            wanted[b:low, 2] = _quintic(z[b], z[low], down, 0.0, -GRAVITY, 0.0, u, whole)
    return root + wanted - com


def _feet(
    skeleton: Skeleton, positions: Array, world: Array, contacts: Array, levels: Array
) -> dict[str, tuple[Array, Array]]:
    """Foot targets: constant while planted, the reference bent to meet them while swinging."""
    out = {}
    rest = rest_ankles(skeleton)
    for column, side in enumerate(SIDES):
        body = skeleton.body(f"{side}_foot")
        ankle, turn = positions[:, body].copy(), world[:, body].copy()
        spans = runs(contacts[:, column])
        for first, end, planted in spans:
            if planted:
                # Land where the reference lands; at the start of the clip, where it stands.
                ankle[first:end, :2] = ankle[first, :2]
                ankle[first:end, 2] = rest[side][2] + levels[first:end, column]
                flat = rot.from_axis_angle(_Z, _yaw(world[first : first + 1, body]))
                turn[first:end] = flat
        for first, end, planted in spans:
            if planted:
                continue
            u = (np.arange(first, end) - first + 1.0) / (end - first + 1.0)
            ease = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
            shift = np.zeros((end - first, 3))
            if first > 0:
                shift += (1.0 - ease)[:, None] * (ankle[first - 1] - positions[first - 1, body])
            if end < len(ankle):
                shift += ease[:, None] * (ankle[end] - positions[end, body])
            ankle[first:end] += shift
            points = skeleton.sole_points(positions, world, side)[first:end, :, 2]
            low = points.min(axis=1) - positions[first:end, body, 2] + ankle[first:end, 2]
            ankle[first:end, 2] += np.maximum(0.0, -low)
        out[side] = (ankle, turn)
    return out


def _balanced(
    skeleton: Skeleton,
    com: Array,
    feet: dict[str, tuple[Array, Array]],
    contacts: Array,
    fps: float,
) -> Array:
    """Horizontal centre of mass (frames, 2) that the planted feet can carry.

    The pressure point p is the centre of mass drawn onto the planted feet; the centre of mass c
    then solves the inverted pendulum c - T^2 c'' = p with T^2 = h / g, whose bounded solution is p
    convolved with exp(-|t| / T) / 2T: the weight moves before the foot lifts.
    """
    k = skeleton.height / 1.7
    center: list[Array] = []
    for side, (ankle, turn) in zip(SIDES, feet.values(), strict=True):
        foot = skeleton.body(f"{side}_foot")
        own = [point[0] for body, point in skeleton.soles[side] if body == foot]
        middle = np.array([0.5 * (min(own) + max(own)) + 0.01 * k, 0.0, 0.0])
        center.append(ankle + rot.rotate(turn, middle))
    left, right = (c[:, :2] for c in center)
    across = right - left
    u = np.sum((com[:, :2] - left) * across, axis=1) / np.maximum(np.sum(across**2, axis=1), 1e-9)
    both, only_left = contacts.all(axis=1), contacts[:, 0] & ~contacts[:, 1]
    u = np.where(both, np.clip(u, 0.1, 0.9), np.where(only_left, 0.06, 0.94))
    away = com[:, :2] - (left + u[:, None] * across)
    length = np.linalg.norm(away, axis=1, keepdims=True)
    free = 0.02 * k
    pressure = com[:, :2] - away * np.maximum(0.0, 1.0 - free / np.maximum(length, 1e-9))
    planted = np.flatnonzero(contacts.any(axis=1))
    if len(planted) == 0 or len(com) < 4:
        return com[:, :2]
    frames = np.arange(len(com))
    pressure = np.stack(
        [np.interp(frames, planted, pressure[planted, i]) for i in range(2)], axis=1
    )
    pressure = _smooth(pressure, max(0.05 * fps, 1.0))
    period = np.sqrt(float(com[:, 2].mean()) / GRAVITY) * fps
    radius = int(np.ceil(5.0 * period))
    kernel = np.exp(-np.abs(np.arange(-radius, radius + 1)) / period)
    # Even continuation: the motion starts and ends at rest.
    padded = np.pad(pressure, [(radius, radius), (0, 0)], mode="symmetric")
    kernel /= kernel.sum()
    return np.stack([np.convolve(padded[:, i], kernel, mode="valid") for i in range(2)], axis=1)


def _lower_into_reach(
    skeleton: Skeleton, t: Trajectory, root: Array, feet: dict[str, tuple[Array, Array]],
    contacts: Array, fps: float,
) -> Array:  # fmt: skip
    drop = np.zeros(len(root))
    for column, side in enumerate(SIDES):
        hip = hip_positions(skeleton, root, t.root_rotations, side, t.angles)
        gap = hip - feet[side][0]
        flat = np.sum(gap[:, :2] ** 2, axis=1)
        reach = (_REACH * leg_length(skeleton, side)) ** 2
        limit = np.sqrt(np.maximum(reach - flat, 0.0))
        need = np.maximum(gap[:, 2] - limit, 0.0)
        drop = np.maximum(drop, np.where(contacts[:, column], need, 0.0))
    radius = max(1, int(0.1 * fps))
    padded = np.pad(drop, radius, mode="edge")
    wide = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1).max(axis=1)
    out = root.copy()
    grounded = contacts.any(axis=1)
    out[:, 2] -= np.where(grounded, np.maximum(_smooth(wide, radius / 2.0), drop), 0.0)
    return out


def track_kinematic(
    skeleton: Skeleton, keyframes: Sequence[Keyframe], reference: Trajectory, *, fps: float
) -> tuple[Trajectory, np.ndarray]:
    """Clean an interpolated reference: pinned feet, clear floor, balance, ballistic flight.

    Args:
        skeleton: The figure.
        keyframes: The plan, for its contacts.
        reference: Frames at `fps`.
        fps: Frames a second.

    Returns: The cleaned trajectory (same times, pelvis rotation and upper body) and the contact
    plan (frames, 2). A planted foot is constant unless a hinge limit keeps the leg from it.
    """
    contacts = contact_plan(keyframes, reference.times)
    carried, levels = other_supports(keyframes, reference.times)
    root = _ballistic(skeleton, reference, contacts, carried)
    share = 1.0 - _smooth(carried.astype(np.float64)[:, None], max(0.1 * fps, 1.0))
    positions, world = _pose(skeleton, reference, root, reference.angles)
    feet = _feet(skeleton, positions, world, contacts, levels)
    angles = reference.angles.copy()
    low, high = skeleton.limits.T
    balanced: Array | None = None
    for _ in range(4):
        root = _lower_into_reach(skeleton, reference, root, feet, contacts, fps)
        for side in SIDES:
            columns = leg_hinges(skeleton, side)
            solved = solve_leg(skeleton, side, root, reference.root_rotations, *feet[side], angles)
            angles[:, columns] = np.clip(solved, low[columns], high[columns])
        com = skeleton.center_of_mass(*_pose(skeleton, reference, root, angles))
        if balanced is None:
            balanced = _balanced(skeleton, com, feet, contacts, fps)
        root = root.copy()
        root[:, :2] += share * (balanced - com[:, :2])
    root = _lower_into_reach(skeleton, reference, root, feet, contacts, fps)
    for side in SIDES:
        columns = leg_hinges(skeleton, side)
        solved = solve_leg(skeleton, side, root, reference.root_rotations, *feet[side], angles)
        angles[:, columns] = np.clip(solved, low[columns], high[columns])
    return Trajectory(reference.times, root, reference.root_rotations, angles), contacts
