"""Derivatives of sampled motion that do not depend on how finely it was sampled."""

import math

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.rotations import Array

HALF_S = 0.06
"""Half the time over which a polynomial is fitted, s; at least two frames on each side."""


def half_window(fps: float) -> int:
    """Frames on each side of a frame that its derivatives are fitted to."""
    return max(2, round(HALF_S * fps))


def windows(count: int, fps: float) -> tuple[Array, int]:
    """Return the first frame of the window of each frame (frames,), and how many it has.

    Windows at the ends of a clip have their full length and are not centered.
    """
    size = min(2 * half_window(fps) + 1, count)
    return np.clip(np.arange(count) - half_window(fps), 0, count - size), size


def _weights(size: int, order: int, degree: int, fps: float) -> Array:
    """Weights (place in the window, sample) of the derivative at each place of a window."""
    places = np.arange(size)
    steps = (places[None, :] - places[:, None]) / size
    powers = steps[..., None] ** np.arange(degree + 1)
    return math.factorial(order) * np.linalg.pinv(powers)[:, order] * (fps / size) ** order


def derivative(values: Array, fps: float, *, order: int, degree: int) -> Array | None:
    """Derivative of values (frames, ...) by least squares: exact for polynomials of `degree`.

    Returns: (frames, ...) in units of the values a second to the power of `order`, or None where a
    clip has fewer frames than a polynomial has coefficients.
    """
    first, size = windows(len(values), fps)
    if size <= degree:
        return None
    weights = _weights(size, order, degree, fps)[np.arange(len(values)) - first]
    out = np.zeros(np.shape(values))
    for j in range(size):
        weight = weights[:, j].reshape(-1, *([1] * (out.ndim - 1)))
        out += weight * values[first + j]
    return out


def spin(rotations: Array, fps: float) -> tuple[Array, Array] | None:
    """Angular velocity and acceleration (frames, 3) of rotations (frames, 4) in their own frames.

    Returns: rad/s and rad/s^2, or None for fewer than three frames.
    """
    first, size = windows(len(rotations), fps)
    if size <= 2:
        return None
    at = np.arange(len(rotations)) - first
    speed, change = (_weights(size, order, 2, fps)[at] for order in (1, 2))
    velocity, acceleration = np.zeros((2, len(rotations), 3))
    for j in range(size):
        turn = rot.multiply(rot.conjugate(rotations), rotations[first + j])
        turned = rotation_vector(turn)
        velocity += speed[:, j, None] * turned
        acceleration += change[:, j, None] * turned
    return velocity, acceleration


def rotation_vector(turns: Array) -> Array:
    """Axis times angle (..., 3), rad, of rotations (..., 4), the shorter way round."""
    turns = np.where(turns[..., :1] < 0, -turns, turns)
    sine = np.linalg.norm(turns[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, turns[..., :1])
    return np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0) * turns[..., 1:]
