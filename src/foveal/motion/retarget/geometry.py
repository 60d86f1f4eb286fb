"""Directions and the shortest turns between them."""

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.rotations import Array


def unit(v: Array) -> Array:
    """Scale vectors (..., 3) to unit length; those of none stay."""
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def across(v: Array, line: Array) -> Array:
    """Return the part of vectors (..., 3) that is at right angles to unit vectors."""
    return v - np.sum(v * line, axis=-1, keepdims=True) * line


def shortest(start: Array, end: Array) -> Array:
    """Return the shortest rotations (..., 4) that take directions (..., 3) to others."""
    a, b = unit(start), unit(end)
    cosine = np.sum(a * b, axis=-1, keepdims=True)
    q = np.concatenate([1.0 + cosine, np.cross(a, b)], axis=-1)
    # half a turn, about anything at right angles
    other = np.eye(3)[np.abs(a).argmin(axis=-1)]
    back = np.concatenate([np.zeros_like(cosine), unit(np.cross(a, other))], axis=-1)
    return rot.normalize(np.where(cosine < -1.0 + 1e-12, back, q))
