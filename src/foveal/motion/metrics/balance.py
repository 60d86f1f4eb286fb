"""Where the weight is over what carries it."""

import math

import numpy as np

from foveal.motion.clip import Clip
from foveal.motion.metrics.dynamics import GRAVITY, Wrench
from foveal.motion.rotations import Array

LIGHT = 0.25
"""Below this share of the weight on the ground a pressure point means nothing."""


def hull(points: Array) -> Array:
    """Corners (n, 2) of the convex hull of points (m, 2), counterclockwise."""
    ordered = sorted({(float(x), float(y)) for x, y in points})
    if len(ordered) < 3:
        return np.array(ordered).reshape(-1, 2)

    def half(row: list[tuple[float, float]]) -> list[tuple[float, float]]:
        out: list[tuple[float, float]] = []
        for x, y in row:
            while len(out) > 1:
                (ax, ay), (bx, by) = out[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                out.pop()
            out.append((x, y))
        return out[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def margin(point: Array, corners: Array) -> float:
    """Signed distance of a point (2,) to the border of a hull, m: positive inside."""
    x, y = float(point[0]), float(point[1])
    ends = [(float(a), float(b)) for a, b in corners]
    gap, inside = math.inf, True
    for (ax, ay), (bx, by) in zip(ends, ends[1:] + ends[:1], strict=True):
        dx, dy, px, py = bx - ax, by - ay, x - ax, y - ay
        share = min(max((px * dx + py * dy) / max(dx * dx + dy * dy, 1e-18), 0.0), 1.0)
        gap = min(gap, math.hypot(px - share * dx, py - share * dy))
        inside = inside and dx * py - dy * px > 0
    return gap if inside else -gap


def margins(places: Array, points: Array, touches: Array) -> Array:
    """Signed distances (frames,), m, of places (frames, 2) to the hulls of what touches.

    Args:
        places: Where the weight is.
        points: Points of the skin (frames, points, 3), m.
        touches: Which of them carry the figure (frames, points).

    Returns: Positive inside, negative outside; NaN where nothing touches or a place is NaN.
    """
    out = np.full(len(places), np.nan)
    for i in np.flatnonzero(touches.any(axis=1) & np.isfinite(places).all(axis=1)):
        out[i] = margin(places[i], hull(points[i, touches[i], :2]))
    return out


def com_margins(clip: Clip, points: Array, touches: Array) -> Array:
    """Signed distance (frames,), m, of the plumb of the centre of mass to the support polygon.

    The polygon is the convex hull of the touching points, seen from above. NaN in flight.
    """
    com = clip.skeleton.center_of_mass(clip.positions, clip.world_rotations)
    return margins(com[:, :2], points, touches)


def pressure_points(clip: Clip, needed: Wrench, points: Array, touches: Array) -> Array:
    """Zero moment points (frames, 2), m, at the mean height of the touching points.

    Where the ground would have to push so that no torque tips the figure. NaN where less than a
    quarter of the weight is on the ground or nothing touches.
    """
    weight = float(clip.skeleton.masses.sum()) * GRAVITY
    count = touches.sum(axis=1)
    level = (points[..., 2] * touches).sum(axis=1) / np.maximum(count, 1)
    up = needed.com[:, 2] - level
    down = needed.force[:, 2]
    carried = (count > 0) & (down > LIGHT * weight)
    safe = np.where(carried, down, 1.0)
    x = needed.com[:, 0] - (needed.torque[:, 1] + up * needed.force[:, 0]) / safe
    y = needed.com[:, 1] + (needed.torque[:, 0] - up * needed.force[:, 1]) / safe
    return np.where(carried[:, None], np.stack([x, y], axis=1), np.nan)


def zmp_margins(clip: Clip, needed: Wrench, points: Array, touches: Array) -> Array:
    """Signed distance (frames,), m, of the zero moment point to the support polygon; else NaN."""
    places = pressure_points(clip, needed, points, touches)
    return margins(places, points, touches)
