"""A pinhole camera that sees a whole clip; the same numbers aim MuJoCo's free camera."""

import itertools
from dataclasses import dataclass

import numpy as np

from foveal.motion.rotations import Array
from foveal.motion.shapes import WorldShapes

FOV = 45.0  # vertical, degrees; MuJoCo's default
MARGIN = 1.06
AZIMUTH, ELEVATION = 205.0, -12.0


@dataclass(frozen=True, eq=False)
class Camera:
    """Where the camera is.

    Args:
        lookat: What is in the middle (3,), m.
        distance: To there, m.
        azimuth: Direction of view about z, degrees; 180 looks along -x, at the face of a figure.
        elevation: Direction of view above the horizon, degrees; negative looks down.
    """

    lookat: Array
    distance: float
    azimuth: float = AZIMUTH
    elevation: float = ELEVATION

    def axes(self) -> tuple[Array, Array, Array]:
        """Return right, up and ahead, each (3,)."""
        a, e = np.radians([self.azimuth, self.elevation])
        ahead = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        right = np.array([np.sin(a), -np.cos(a), 0.0])
        return right, np.cross(right, ahead), ahead

    @property
    def eye(self) -> Array:
        """Where it stands (3,), m."""
        return self.lookat - self.distance * self.axes()[2]

    def project(self, points: Array, size: tuple[int, int]) -> Array:
        """Return columns and rows (..., 2) of points (..., 3), in pixels from the top left."""
        width, height = size
        right, up, ahead = self.axes()
        away = np.asarray(points) - self.eye
        scale = 0.5 * height / np.tan(np.radians(0.5 * FOV)) / (away @ ahead)
        return np.stack(
            [0.5 * width + scale * (away @ right), 0.5 * height - scale * (away @ up)], axis=-1
        )


def frame_clip(shapes: WorldShapes, size: tuple[int, int]) -> Camera:
    """Stand where the solids of all frames, and the floor under them, are in view.

    Args:
        shapes: The solids.
        size: Width and height, pixels.
    """
    boxes = np.linalg.norm(shapes.sizes, axis=1)
    reach = np.where(shapes.is_box, boxes, shapes.sizes[:, 0] + shapes.sizes[:, 2])[:, None]
    low = (shapes.centers - reach).min(axis=(0, 1))
    high = (shapes.centers + reach).max(axis=(0, 1))
    low[2] = min(low[2], 0.0)
    middle = 0.5 * (low + high)
    right, up, ahead = Camera(middle, 1.0).axes()
    away = np.array(list(itertools.product(*zip(low, high, strict=True)))) - middle
    tangent = np.tan(np.radians(0.5 * FOV)) / MARGIN
    needed = np.maximum(
        np.abs(away @ up) / tangent, np.abs(away @ right) / (tangent * size[0] / size[1])
    )
    return Camera(middle, float((needed - away @ ahead).max()))
