"""From rotations back to hinge angles, for any axes, on the branch that the limits allow."""

import itertools

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Hinge, Skeleton

_ROUNDS = 40
_DAMPING = 1e-6


def hinge_angles(skeleton: Skeleton, rotations: Array) -> Array:
    """Decompose rotations relative to the parent (frames, bodies, 4) into hinge angles.

    A body keeps the part that its hinges can show. Of the two decompositions about three axes, the
    one nearer to the limits is taken; at a pole the last angle is 0. Hinges with other than
    coordinate axes are solved by least squares.

    Returns: Angles (frames, hinges), rad, not clamped.
    """
    out = np.zeros((len(rotations), len(skeleton.hinges)))
    for body in range(1, skeleton.num_bodies):
        own = [i for i, hinge in enumerate(skeleton.hinges) if hinge.body == body]
        hinges = [skeleton.hinges[i] for i in own]
        if len(own) == 1:
            out[:, own] = _twist(rotations[:, body], hinges[0])[:, None]
        elif own and _along_axes(hinges):
            out[:, own] = _euler(rotations[:, body], hinges)
        elif own:
            out[:, own] = _least_squares(rotations[:, body], hinges)
    return out


def _wrapped(angles: Array) -> Array:
    return (angles + np.pi) % (2.0 * np.pi) - np.pi


def _twist(turn: Array, hinge: Hinge) -> Array:
    return _wrapped(2.0 * np.arctan2(turn[:, 1:] @ np.array(hinge.axis), turn[:, 0]))


def _letters(hinges: list[Hinge]) -> list[str]:
    return ["xyz"[int(np.argmax(np.abs(hinge.axis)))] for hinge in hinges]


def _along_axes(hinges: list[Hinge]) -> bool:
    letters = _letters(hinges)
    plain = all(sorted(np.abs(hinge.axis).tolist()) == [0.0, 0.0, 1.0] for hinge in hinges)
    return plain and len(set(letters)) == len(letters) <= 3


def _euler(turn: Array, hinges: list[Hinge]) -> Array:
    letters = _letters(hinges)
    order = "".join(letters) + "".join(a for a in "xyz" if a not in letters)
    first = rot.euler_from_matrix(rot.to_matrix(turn), order)
    other = _wrapped(first * np.array([1.0, -1.0, 1.0]) + np.pi)
    signs = np.array([sum(hinge.axis) for hinge in hinges] + [1.0] * (3 - len(hinges)))
    low = np.array([hinge.lower for hinge in hinges] + [0.0] * (3 - len(hinges)))
    high = np.array([hinge.upper for hinge in hinges] + [0.0] * (3 - len(hinges)))
    both = [signs * angles for angles in (first, other)]
    excess = [np.maximum(0.0, np.maximum(low - a, a - high)).sum(axis=1) for a in both]
    # a hair of preference for the first keeps it where both are within
    taken = np.where((excess[1] < excess[0] - 1e-9)[:, None], both[1], both[0])
    return taken[:, : len(hinges)]


def _least_squares(turn: Array, hinges: list[Hinge]) -> Array:
    """Damped Gauss-Newton on the rotation that is left, from zero and three other starts."""
    best, missed = np.zeros((len(turn), len(hinges))), np.full(len(turn), np.inf)
    for shares in itertools.product((0.0, 0.5), repeat=2):
        start = [shares[0] * hinge.lower + shares[1] * hinge.upper for hinge in hinges]
        angles, miss = _from(turn, hinges, np.tile(start, (len(turn), 1)))
        better = miss < missed - 1e-9
        best, missed = np.where(better[:, None], angles, best), np.where(better, miss, missed)
    return best


def _from(turn: Array, hinges: list[Hinge], angles: Array) -> tuple[Array, Array]:
    low = np.array([hinge.lower for hinge in hinges])
    high = np.array([hinge.upper for hinge in hinges])
    left = np.zeros((len(turn), 3))
    for last in (*[False] * _ROUNDS, True):
        now = np.tile([1.0, 0.0, 0.0, 0.0], (len(turn), 1))
        axes: list[Array] = []
        for i, hinge in enumerate(hinges):
            axes.append(rot.rotate(now, np.array(hinge.axis)))
            now = rot.multiply(now, rot.from_axis_angle(hinge.axis, angles[:, i]))
        gap = rot.multiply(turn, rot.conjugate(now))
        gap = np.where(gap[:, :1] < 0, -gap, gap)
        left = 2.0 * gap[:, 1:]
        if last:
            break
        slope = np.stack(axes, axis=2)
        square = np.swapaxes(slope, 1, 2) @ slope + _DAMPING * np.eye(len(hinges))
        push = np.einsum("fij,fi->fj", slope, left)
        step = np.linalg.solve(square, push[..., None])[..., 0]
        angles = np.clip(angles + np.clip(step, -0.5, 0.5), low, high)
    return angles, np.linalg.norm(left, axis=1)
