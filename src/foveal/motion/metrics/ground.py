"""Where the skin of a figure is against the floor and the surfaces of a scene."""

from collections.abc import Mapping

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.posecodes.figure import Figure
from foveal.motion.posecodes.points import Surface
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES

TOUCH = 0.02
"""A point this near to a surface touches it, m, on a figure of 1.7 m."""
_INSIDE = 0.05  # a point deeper than this in a surface that is no floor is under it


def check_finite(name: str, clip: Clip) -> None:
    """Refuse a clip with numbers that are not finite.

    Raises:
        ArgumentError: names the argument and the first such frame.
    """
    arrays = (clip.positions, clip.world_rotations, clip.angles[..., None])
    bad = np.any([~np.isfinite(a).all(axis=(1, 2)) for a in arrays], axis=0)
    if bad.any():
        raise ArgumentError(
            f"score: {name} has numbers that are not finite, the first in frame "
            f"{int(bad.argmax())}, must have none; mend the clip"
        )
    if not (np.isfinite(clip.fps) and clip.fps > 0):
        raise ArgumentError(f"score: {name} has fps {clip.fps}, must be > 0; give frames a second")


def skin(clip: Clip) -> Array:
    """Lowest points of the balls whose hulls are the solids (frames, points, 3), m.

    The soles stand for the solids of the bodies that they are on.
    """
    bare = {body for side in SIDES for body, _ in clip.skeleton.soles[side]}
    parts = [
        clip.skeleton.sole_points(clip.positions, clip.world_rotations, side) for side in SIDES
    ]
    shapes = [shape for shape in clip.skeleton.shapes if shape.body not in bare]
    if shapes:
        bodies = np.concatenate([np.full(len(s.corners), s.body) for s in shapes])
        radii = np.concatenate([np.full(len(s.corners), s.radius) for s in shapes])
        corners = np.concatenate([s.corners for s in shapes])
        points = clip.positions[:, bodies] + rot.rotate(clip.world_rotations[:, bodies], corners)
        points[..., 2] -= radii
        parts.append(points)
    return np.concatenate(parts, axis=1)


def _above(points: Array, surface: Surface, edge: float) -> Array:
    """Whether points are over (or under) the rectangle of a surface, widened by `edge`."""
    if surface.low is None or surface.high is None:
        return np.ones(points.shape[:-1], bool)
    low, high = np.array(surface.low) - edge, np.array(surface.high) + edge
    return np.all((points[..., :2] >= low) & (points[..., :2] <= high), axis=-1)


def clearance(points: Array, scene: Mapping[str, Surface], scale: float) -> Array:
    """Height of points (..., 3) over the highest surface that can carry them, m.

    The floor carries whatever is over or in it; another surface what is over its rectangle and at
    most 5 cm (at 1.7 m) inside.
    """
    out = points[..., 2] - scene["floor"].height
    for name, surface in scene.items():
        over = points[..., 2] - surface.height
        if name != "floor":
            near = _above(points, surface, TOUCH * scale) & (over >= -_INSIDE * scale)
            out = np.where(near, np.minimum(out, over), out)
    return out


def depth(points: Array, scene: Mapping[str, Surface]) -> Array:
    """How deep points (..., 3) are in the floor or in a box of the scene, m; 0 outside.

    In a box it is the way to the nearest face. A surface without a rectangle is no solid.
    """
    out = np.maximum(0.0, scene["floor"].height - points[..., 2])
    for name, surface in scene.items():
        if name == "floor" or surface.low is None or surface.high is None:
            continue
        low, high = np.array(surface.low), np.array(surface.high)
        ways = [
            surface.height - points[..., 2],
            points[..., 2] - surface.bottom,
            (points[..., :2] - low).min(axis=-1),
            (high - points[..., :2]).min(axis=-1),
        ]
        out = np.maximum(out, np.min(ways, axis=0))
    return out


def part_points(clip: Clip, scene: Mapping[str, Surface], part: str) -> Array:
    """Skin points (frames, n, 3) of a part by its name; underscores are spaces.

    Raises:
        ArgumentError: the figure has no such part.
    """
    return Figure(clip, scene).low_points(part.replace("_", " "))
