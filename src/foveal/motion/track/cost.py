"""What the physics tracker compares: simulated sensors and hinges with those of the reference."""

from dataclasses import dataclass

import numpy as np

from foveal.motion.rotations import Array

EVERY = 4
"""Physics steps from one compared step to the next."""


@dataclass(frozen=True)
class Weights:
    """Cost weights; errors are squared, in SI units."""

    position: float = 10.0
    relative: float = 10.0
    foot: float = 15.0
    foot_height: float = 40.0
    angle: float = 0.15
    com: float = 30.0
    com_velocity: float = 2.0
    axes: float = 5.0
    velocity: float = 0.01
    offset: float = 0.05
    knot: float = 4.0


def costs(
    weights: Weights,
    feet: int,
    got: Array,
    states: Array,
    want: Array,
    angles: Array,
    velocities: Array,
) -> Array:
    """Return the mean cost of each candidate.

    Args:
        weights: Of the terms.
        feet: How many of the tracked bodies, the last, are feet.
        got: Simulated sensors (candidates, steps, sensors) in the order of `to_mjcf`.
        states: Hinge angles and velocities (candidates, steps, 2 hinges).
        want: The reference's sensors (steps, sensors).
        angles: Its hinge angles (steps, hinges), rad.
        velocities: Its hinge velocities (steps, hinges), rad/s.

    Returns: Costs (candidates,); 1e9 where the simulation left the finite numbers.
    """
    w, hinges = weights, angles.shape[1]
    n = got.shape[2] - 12
    gap = got - want
    com = gap[..., n + 6 : n + 9]
    place = gap[..., :n].reshape(*gap.shape[:2], n // 3, 3)
    relative = place - com[..., None, :]
    sole = place[..., -feet:, :] ** 2
    cost = (
        w.position * (place**2).sum(-1).mean(-1)
        + w.relative * (relative**2).sum(-1).mean(-1)
        + w.foot * sole[..., :2].sum((-1, -2))
        + w.foot_height * sole[..., 2].sum(-1)
        + w.angle * ((states[..., :hinges] - angles) ** 2).sum(-1)
        + w.com * (com**2).sum(-1)
        + w.com_velocity * (gap[..., n + 9 : n + 12] ** 2).sum(-1)
        + w.axes * (gap[..., n : n + 6] ** 2).sum(-1)
        + w.velocity * ((states[..., hinges:] - velocities) ** 2).sum(-1)
    )
    total = cost.mean(axis=1)
    return np.where(np.isfinite(total), total, 1e9)
