"""What a ray meets: balls at the ends of a cylinder, and boxes. Maps are one value a ray."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

FAR = 1e4
"""Distance of what is not met, m."""
_NEAR = 1e-3
Maps: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""The coordinates of a vector a ray."""


def three(make: Callable[[int], Tensor]) -> Maps:
    """Make the coordinates one by one."""
    return make(0), make(1), make(2)


def maps(x: Float[Tensor, "*n 3"]) -> Maps:
    """Part vectors into their coordinates."""
    return x[..., 0], x[..., 1], x[..., 2]


def dot(a: Maps, v: Float[Tensor, "*n 3"]) -> Tensor:
    """Product of the vectors of all rays with one for all of them.

    By hand: a matrix product may run in TF32, which is too coarse for rays.
    """
    return a[0] * v[..., 0, None] + a[1] * v[..., 1, None] + a[2] * v[..., 2, None]


def into(a: Maps, turn: Float[Tensor, "*n 3 3"]) -> Maps:
    """Turn vectors into the axes that are the columns of a rotation."""
    return dot(a, turn[..., 0]), dot(a, turn[..., 1]), dot(a, turn[..., 2])


def less(a: Maps, v: Float[Tensor, "*n 3"]) -> Maps:
    """Take one vector off those of all rays."""
    return a[0] - v[..., 0, None], a[1] - v[..., 1, None], a[2] - v[..., 2, None]


def hit_capsule(
    dn: Tensor, dm: Tensor, mn: Tensor, mm: Tensor, size: Float[Tensor, "b 1 3"]
) -> Tensor:
    """Distance along a unit ray d from m (seen from the center) to a capsule with axis n.

    The ray meets the endless cylinder at x; where x lies beyond an end, the ball of that end is
    met, if at all. From the products d.n, d.m, m.n and m.m; FAR where nothing is met.
    """
    radius, half = size[..., :1], size[..., 2:]
    a = (1 - dn * dn).clamp_min(1e-9)
    lateral = dm - dn * mn
    inside = lateral * lateral - a * (mm - mn * mn - radius * radius)
    x = (-lateral - inside.clamp_min(0).sqrt()) / a
    y = mn + x * dn
    end = torch.where(y < 0, -half, half)
    slope = dm - end * dn
    ball = slope * slope - (mm - 2 * end * mn + end * end - radius * radius)
    x = torch.where(y.abs() <= half, x, -slope - ball.clamp_min(0).sqrt())
    met = (inside >= 0) & ((y.abs() <= half) | (ball >= 0)) & (x > _NEAR)
    return torch.where(met, x, FAR)


def hit_box(start: Maps, ray: Maps, size: Float[Tensor, "b 1 3"]) -> Tensor:
    """Distance along a ray to a box, all in its own axes: the slabs that it is the cut of."""
    enter, leave = [], []
    for i in range(3):
        d = torch.where(ray[i].abs() < 1e-9, 1e-9, ray[i])
        middle, reach = -start[i] / d, size[..., i, None] / d.abs()
        enter.append(middle - reach)
        leave.append(middle + reach)
    first = torch.maximum(torch.maximum(enter[0], enter[1]), enter[2])
    last = torch.minimum(torch.minimum(leave[0], leave[1]), leave[2])
    return torch.where((first <= last) & (first > _NEAR), first, FAR)
