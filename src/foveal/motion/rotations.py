"""Unit quaternions, scalar first (w, x, y, z), as batched NumPy functions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Numbers = NDArray[Any] | Sequence[Any] | float
"""What becomes an `Array`; numpy's own name for it cannot be checked at run time for tuples."""
"""float64 wherever nothing else is said; NumPy's stubs lose the dtype in most expressions."""


def multiply(a: Numbers, b: Numbers) -> Array:
    """Return the Hamilton product `a b`: rotate by `b`, then by `a`.

    Args:
        a: Quaternions (..., 4), applied last.
        b: Quaternions (..., 4), broadcast against `a`.
    """
    aw, ax, ay, az = np.moveaxis(np.asarray(a, np.float64), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b, np.float64), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(q: Numbers) -> Array:
    """Return the inverse of unit quaternions (..., 4)."""
    return np.asarray(q, np.float64) * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(q: Numbers, v: Numbers) -> Array:
    """Rotate vectors (..., 3) by unit quaternions (..., 4); both broadcast."""
    q_, v_ = np.asarray(q, np.float64), np.asarray(v, np.float64)
    w, u = q_[..., :1], q_[..., 1:]
    t = 2.0 * np.cross(u, v_)
    return v_ + w * t + np.cross(u, t)


def from_axis_angle(axis: Numbers, angle: Numbers) -> Array:
    """Return the rotation by `angle` (..., rad) about a unit `axis` (..., 3)."""
    half = 0.5 * np.asarray(angle, np.float64)[..., None]
    axis_ = np.asarray(axis, np.float64)
    return np.concatenate(
        [np.cos(half), np.sin(half) * np.broadcast_to(axis_, (*half.shape[:-1], 3))], axis=-1
    )


def normalize(q: Numbers) -> Array:
    """Scale quaternions (..., 4) to unit length."""
    q_ = np.asarray(q, np.float64)
    return q_ / np.linalg.norm(q_, axis=-1, keepdims=True)


def to_matrix(q: Numbers) -> Array:
    """Return rotation matrices (..., 3, 3); the columns are the rotated axes."""
    q_ = np.asarray(q, np.float64)
    return np.stack([rotate(q_, np.eye(3)[i]) for i in range(3)], axis=-1)


def from_matrix(m: Numbers) -> Array:
    """Return unit quaternions (..., 4) of rotation matrices (..., 3, 3), with w >= 0."""
    m_ = np.asarray(m, np.float64)
    xx, yy, zz = m_[..., 0, 0], m_[..., 1, 1], m_[..., 2, 2]
    # Four candidate rows of 4 q q^T: the one with the largest diagonal is well conditioned.
    a = m_[..., 2, 1] - m_[..., 1, 2]
    b = m_[..., 0, 2] - m_[..., 2, 0]
    c = m_[..., 1, 0] - m_[..., 0, 1]
    d = m_[..., 0, 1] + m_[..., 1, 0]
    e = m_[..., 0, 2] + m_[..., 2, 0]
    f = m_[..., 1, 2] + m_[..., 2, 1]
    rows = np.stack(
        [
            np.stack([1 + xx + yy + zz, a, b, c], -1),
            np.stack([a, 1 + xx - yy - zz, d, e], -1),
            np.stack([b, d, 1 - xx + yy - zz, f], -1),
            np.stack([c, e, f, 1 - xx - yy + zz], -1),
        ],
        axis=-2,
    )
    best = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    q = normalize(np.take_along_axis(rows, best[..., None, None], axis=-2)[..., 0, :])
    return np.where(q[..., :1] < 0, -q, q)


def slerp(a: Numbers, b: Numbers, t: Numbers) -> Array:
    """Interpolate on the shorter arc from `a` (t=0) to `b` (t=1).

    Args:
        a: Unit quaternions (..., 4).
        b: Unit quaternions (..., 4).
        t: Fractions, broadcast against the leading axes.
    """
    a_, b_ = np.asarray(a, np.float64), np.asarray(b, np.float64)
    t_ = np.asarray(t, np.float64)[..., None]
    dot = np.sum(a_ * b_, axis=-1, keepdims=True)
    b_ = np.where(dot < 0, -b_, b_)
    dot = np.abs(dot)
    angle = np.arccos(np.clip(dot, -1.0, 1.0))
    sine = np.sin(angle)
    near = sine < 1e-6
    safe = np.where(near, 1.0, sine)
    wa = np.where(near, 1.0 - t_, np.sin((1.0 - t_) * angle) / safe)
    wb = np.where(near, t_, np.sin(t_ * angle) / safe)
    return normalize(wa * a_ + wb * b_)


def unwrap_signs(q: Numbers) -> Array:
    """Flip signs along axis 0 so that neighbouring frames (frames, ..., 4) share a hemisphere."""
    out = np.array(q, np.float64)
    for i in range(1, len(out)):
        flip = np.sum(out[i] * out[i - 1], axis=-1, keepdims=True) < 0
        out[i] = np.where(flip, -out[i], out[i])
    return out


def euler_from_matrix(m: Numbers, order: str) -> Array:
    """Decompose R = R_i(a) R_j(b) R_k(c), about the moving axes named by `order`.

    Args:
        m: Rotation matrices (..., 3, 3).
        order: Three different letters of "xyz", outermost first, for example "yxz".

    Returns: Angles (..., 3), rad, the middle one in [-pi/2, pi/2]; at the poles the last is 0.
    """
    m_ = np.asarray(m, np.float64)
    i, j, k = ("xyz".index(letter) for letter in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    middle = np.arcsin(np.clip(sign * m_[..., i, k], -1.0, 1.0))
    pole = np.abs(m_[..., i, k]) > 1.0 - 1e-9
    first = np.where(
        pole,
        np.arctan2(sign * m_[..., k, j], m_[..., j, j]),
        np.arctan2(-sign * m_[..., j, k], m_[..., k, k]),
    )
    last = np.where(pole, 0.0, np.arctan2(-sign * m_[..., i, j], m_[..., i, i]))
    return np.stack([first, middle, last], axis=-1)


def continuous_euler(m: Array, order: str) -> Array:
    """Decompose rotations over time without jumps: of two branches the nearer to the frame before.

    Any rotation is (a, b, c) and (a + pi, pi - b, c + pi), each up to whole turns. At a pole, where
    only a sum of first and last counts, the last angle stays.

    Args:
        m: Rotation matrices (frames, ..., 3, 3).
        order: As of `euler_from_matrix`.

    Returns: Angles (frames, ..., 3), rad; the first frame's middle one is in [-pi/2, pi/2].
    """
    out = euler_from_matrix(m, order)
    axis = np.eye(3)["xyz".index(order[2])]
    for t in range(1, len(out)):
        before = out[t - 1]
        pole = np.abs(np.cos(out[t, ..., 1])) < 1e-6
        if bool(pole.any()):
            back = to_matrix(from_axis_angle(axis, -before[..., 2]))
            kept = euler_from_matrix(m[t] @ back, order)
            kept[..., 2] += before[..., 2]
            out[t] = np.where(pole[..., None], kept, out[t])
        other = np.stack(
            [out[t, ..., 0] + np.pi, np.pi - out[t, ..., 1], out[t, ..., 2] + np.pi], -1
        )
        first, second = (
            x + 2.0 * np.pi * np.round((before - x) / (2.0 * np.pi)) for x in (out[t], other)
        )
        nearer = ((second - before) ** 2).sum(-1) < ((first - before) ** 2).sum(-1)
        out[t] = np.where(nearer[..., None], second, first)
    return out
