"""Pictures of a clip by NumPy alone: ray casting of capsules and boxes, a floor, their shadows.

The same pixels on every machine; no OpenGL. Left limbs are blue and right ones orange, as in the
.glb file.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from foveal.motion.clip import Clip
from foveal.motion.export.camera import FOV, Camera, frame_clip
from foveal.motion.rotations import Array
from foveal.motion.shapes import world_shapes

COLORS = {"trunk": (172, 176, 186), "left": (64, 128, 220), "right": (236, 136, 52)}
_SKY, _HAZE = np.array([226.0, 233.0, 241.0]), np.array([246.0, 247.0, 248.0])
_TILES = np.array([[222.0, 222.0, 220.0], [208.0, 209.0, 209.0]])
_SHADOW, _AMBIENT = 0.62, 0.42
_SUN = np.array([0.35, -0.45, 0.82]) / np.linalg.norm([0.35, -0.45, 0.82])
_SCALE = 2  # samples a pixel and side
_TILE = 0.5  # m


def _hit_box(o: Array, d: Array, half: Array) -> tuple[Array, Array]:
    """Depth (n,), inf where it misses, and normal (n, 3) of rays in the frame of a box."""
    d = np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
    near, far = (-np.sign(d) * half - o) / d, (np.sign(d) * half - o) / d
    depth = near.max(axis=1)
    depth = np.where((depth <= far.min(axis=1)) & (depth > 0), depth, np.inf)
    axis = near.argmax(axis=1)
    return depth, np.eye(3, dtype=o.dtype)[axis] * -np.sign(d)


def _hit_capsule(o: Array, d: Array, radius: float, half: float) -> tuple[Array, Array]:
    """Depth (n,), inf where it misses, and normal (n, 3) of rays along the z of a capsule."""
    a = np.maximum(d[:, 0] ** 2 + d[:, 1] ** 2, 1e-9)
    b = o[:, 0] * d[:, 0] + o[:, 1] * d[:, 1]
    root = b**2 - a * (o[:, 0] ** 2 + o[:, 1] ** 2 - radius**2)
    t = (-b - np.sqrt(np.maximum(root, 0.0))) / a
    z = o[:, 2] + t * d[:, 2]
    side = (root >= 0) & (np.abs(z) <= half) & (t > 0)
    depth, at = np.where(side, t, np.inf), np.where(side, z, 0.0)
    for end in (half, -half):
        pz = o[:, 2] - end
        b = o[:, 0] * d[:, 0] + o[:, 1] * d[:, 1] + pz * d[:, 2]
        root = b**2 - (o[:, 0] ** 2 + o[:, 1] ** 2 + pz**2 - radius**2)
        t = -b - np.sqrt(np.maximum(root, 0.0))
        nearer = (root >= 0) & (t > 0) & (t < depth)
        depth, at = np.where(nearer, t, depth), np.where(nearer, end, at)
    normal = (o + np.where(np.isfinite(depth), depth, 0.0)[:, None] * d) / radius
    normal[:, 2] -= at / radius
    return depth, normal


def _reduce(color: Array) -> NDArray[np.uint8]:
    """Average the samples of each pixel."""
    height, width = (n // _SCALE for n in color.shape[:2])
    small = color.reshape(height, _SCALE, width, _SCALE, 3).mean(axis=(1, 3))
    return np.clip(small + 0.5, 0, 255).astype(np.uint8)


class SoftwareRenderer:
    """Draws frames of one clip from one camera.

    Args:
        clip: The clip.
        size: Width and height, pixels.
        camera: Where from; by default where all frames are in view.
    """

    def __init__(self, clip: Clip, size: tuple[int, int], camera: Camera | None = None) -> None:
        """Cast the rays of the floor, which stays, once."""
        self.shapes = world_shapes(clip)
        self.camera = camera or frame_clip(self.shapes, size)
        self.size = size
        self._hulls = self._find_hulls()
        sides = [name.split("_")[0] for name in self.shapes.bodies]
        self._colors = np.array([COLORS.get(side, COLORS["trunk"]) for side in sides], float)
        width, height = (_SCALE * n for n in size)
        right, up, ahead = self.camera.axes()
        tangent = np.tan(np.radians(0.5 * FOV))
        x = (np.arange(width) + 0.5 - 0.5 * width) * (2.0 * tangent / height)
        y = (0.5 * height - np.arange(height) - 0.5) * (2.0 * tangent / height)
        rays = ahead + x[None, :, None] * right + y[:, None, None] * up
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        self._rays = rays.astype(np.float32)
        self._floor, self._ground = self._paint_floor(rays)
        self._empty = _reduce(self._floor)

    def _paint_floor(self, rays: Array) -> tuple[Array, Array]:
        """Colors of the empty scene, and the points of the floor (height, width, 3), NaN above."""
        eye, down = self.camera.eye, rays[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(down < -1e-6, -eye[2] / down, np.inf)
        t = np.where(t > 0, t, np.inf)
        seen = np.isfinite(t)
        points = np.full(rays.shape, np.nan)
        points[seen] = eye + t[seen][:, None] * rays[seen]
        cell = np.floor(np.where(seen[..., None], points, 0.0)[..., :2] / _TILE).astype(np.int64)
        floor = _TILES[(cell[..., 0] + cell[..., 1]) % 2]
        fade = np.exp(-np.maximum(np.where(seen, t, 1e6) - 2.0 * self.camera.distance, 0.0) / 6.0)
        floor = fade[..., None] * floor + (1.0 - fade[..., None]) * _HAZE
        up = np.clip(3.0 * down, 0.0, 1.0)[..., None]
        colors = np.where(seen[..., None], floor, up * _SKY + (1.0 - up) * _HAZE)
        return colors.astype(np.float32), points.astype(np.float32)

    def _find_hulls(self) -> Array:
        """Points (frames, shapes, 16, 3) whose hull holds each solid."""
        shapes = self.shapes
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
        corners = np.einsum(
            "fsij,scj->fsci", shapes.turns, shapes.sizes[:, None] * signs
        )  # of the boxes
        along = shapes.turns[..., 2] * shapes.sizes[:, 2:]
        ball = shapes.sizes[:, :1, None] * (signs @ np.array(self.camera.axes()))
        ends = [sign * along[:, :, None] + ball for sign in (-1.0, 1.0)]
        is_box = np.array(shapes.is_box)[:, None, None]
        around = [np.where(is_box, corners, end) for end in ends]
        return shapes.centers[:, :, None] + np.concatenate(around, axis=2)

    def _window(self, points: Array) -> tuple[slice, slice] | None:
        """Rows and columns that hold the projections of points (n, 3)."""
        height, width = self._rays.shape[:2]
        if float(((points - self.camera.eye) @ self.camera.axes()[2]).min()) < 1e-3:
            return slice(0, height), slice(0, width)  # beside the camera: look everywhere
        at = self.camera.project(points, (width, height))
        x0, y0 = np.clip(np.floor(at.min(axis=0)) - 1, 0, (width, height)).astype(int)
        x1, y1 = np.clip(np.ceil(at.max(axis=0)) + 1, 0, (width, height)).astype(int)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def _cast(self, frame: int, i: int, start: Array, rays: Array) -> tuple[Array, Array]:
        """Depths and normals in the world where rays (n, 3) from points meet a solid."""
        turn = self.shapes.turns[frame, i].astype(np.float32)
        size = self.shapes.sizes[i].astype(np.float32)
        o = (start - self.shapes.centers[frame, i]).astype(np.float32) @ turn
        d = rays @ turn
        o, d = np.broadcast_arrays(o, d)
        if self.shapes.is_box[i]:
            depth, normal = _hit_box(o, d, size)
        else:
            depth, normal = _hit_capsule(o, d, float(size[0]), float(size[2]))
        return depth, normal @ turn.T

    def _shade_floor(self, frame: int, color: Array) -> None:
        dark = np.zeros(color.shape[:2], bool)
        for i, hull in enumerate(self._hulls[frame]):
            window = self._window(hull - _SUN * (hull[:, 2:] / _SUN[2]))
            if window is None:
                continue
            ground = self._ground[window].reshape(-1, 3)
            lit = np.isfinite(ground[:, 0]) & ~dark[window].reshape(-1)
            depth, _ = self._cast(frame, i, ground[lit], _SUN.astype(np.float32)[None])
            hit = np.zeros(len(lit), bool)
            hit[lit] = np.isfinite(depth)
            dark[window] |= hit.reshape(dark[window].shape)
        color[dark] *= _SHADOW

    def draw(self, frame: int) -> NDArray[np.uint8]:
        """Draw a frame: uint8 (height, width, 3)."""
        color = self._floor.copy()
        self._shade_floor(frame, color)
        depth = np.full(color.shape[:2], np.inf, np.float32)
        for i, hull in enumerate(self._hulls[frame]):
            window = self._window(hull)
            if window is None:
                continue
            rays = self._rays[window]
            t, normal = self._cast(frame, i, self.camera.eye, rays.reshape(-1, 3))
            t = t.reshape(rays.shape[:2])
            nearer = t < depth[window]
            if not nearer.any():
                continue
            depth[window][nearer] = t[nearer]
            light = np.maximum(normal[nearer.reshape(-1)] @ _SUN, 0.0)
            shade = _AMBIENT + (1.0 - _AMBIENT) * light
            color[window][nearer] = self._colors[i] * shade[:, None]
        changed = np.isfinite(depth) | (color[..., 0] != self._floor[..., 0])
        rows, columns = (np.flatnonzero(changed.any(axis=axis)) // _SCALE for axis in (1, 0))
        out = self._empty.copy()
        if len(rows):
            y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
            part = color[_SCALE * y0 : _SCALE * y1, _SCALE * x0 : _SCALE * x1]
            out[y0:y1, x0:x1] = _reduce(part)
        return out

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Draw all frames, one after the other."""
        for frame in range(len(self.shapes.centers)):
            yield self.draw(frame)
