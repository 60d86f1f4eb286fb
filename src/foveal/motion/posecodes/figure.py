"""A clip as facts see it: points, headings, clearances and speeds, each computed once."""

from functools import cached_property
from typing import Literal

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.posecodes.points import FLOOR, POINTS, Scene, Surface, find_axis, find_point
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES

_UNIT: dict[str, tuple[float, float, float]] = {
    "forward": (1, 0, 0), "back": (-1, 0, 0), "left": (0, 1, 0), "right": (0, -1, 0),
    "up": (0, 0, 1), "down": (0, 0, -1), "+x": (1, 0, 0), "-x": (-1, 0, 0), "+y": (0, 1, 0),
    "-y": (0, -1, 0), "+z": (0, 0, 1), "-z": (0, 0, -1),
}  # fmt: skip


class Figure:
    """A clip with what is derived from it. All arrays start with frames; z is up, metres."""

    def __init__(self, clip: Clip, scene: Scene | None = None) -> None:
        """Take a clip and the surfaces around it.

        Raises:
            ArgumentError: the clip has positions that are not finite.
        """
        if not (np.isfinite(clip.positions).all() and np.isfinite(clip.angles).all()):
            bad = int(np.argmin(np.isfinite(clip.positions).all(axis=(1, 2))))
            raise ArgumentError(
                f"Figure: clip has numbers that are not finite, the first in frame {bad}, must "
                "have none; mend the clip"
            )
        self.clip, self.skeleton = clip, clip.skeleton
        self.scene: dict[str, Surface] = {"floor": FLOOR} | dict(scene or {})
        self.scale = clip.skeleton.height / 1.7
        self._points: dict[str, Array] = {}
        self._low: dict[str, Array] = {}

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.clip.num_frames

    def point(self, name: str) -> Array:
        """World positions (frames, 3) of a point."""
        if name not in self._points:
            body, local = find_point(self.skeleton, name)
            world = self.clip.world_rotations[:, body]
            self._points[name] = self.clip.positions[:, body] + rot.rotate(world, local)
        return self._points[name]

    def world(self, name: str) -> Array:
        """World rotations (frames, 4) of the body that a point is on."""
        return self.clip.world_rotations[:, find_point(self.skeleton, name)[0]]

    def axis(self, part: str, verb: Literal["facing", "pointing"]) -> Array:
        """Unit vectors (frames, 3) of where a part faces or points."""
        start, end = find_axis(part, verb)
        if isinstance(end, str):
            line = self.point(end) - self.point(start)
            return line / np.linalg.norm(line, axis=1, keepdims=True)
        return rot.rotate(self.world(start), np.array(end))

    def yaw(self, part: str) -> Array:
        """Yaw of a body (frames,), rad, continuous: its twist about the vertical.

        Unlike the direction of the body's front, it does not jump where the body lies down.
        """
        w, _, _, z = np.moveaxis(self.world("chest" if part == "trunk" else part), -1, 0)
        return np.unwrap(2.0 * np.arctan2(z, w))

    @cached_property
    def heading(self) -> Array:
        """Rotations (frames, 4) from the figure's heading to the world."""
        return rot.from_axis_angle([0.0, 0.0, 1.0], self.yaw("pelvis"))

    def direction(self, name: str, *, start: bool = False) -> Array:
        """Unit vectors (frames, 3) of a direction, by the heading now or at the start."""
        unit = np.array(_UNIT[name], np.float64)
        if name[0] in "+-" or name in ("up", "down"):
            return np.broadcast_to(unit, (self.frames, 3))
        turned = rot.rotate(self.heading, unit)
        return np.broadcast_to(turned[:1], turned.shape) if start else turned

    def velocity(self, name: str) -> Array:
        """Velocity (frames, 3) of a point, m/s, by central differences."""
        path = self.point(name)
        if self.frames < 2:
            return np.zeros_like(path)
        return np.gradient(path, 1.0 / self.clip.fps, axis=0)

    @cached_property
    def support(self) -> Array:
        """Height (frames,) of the lower sole, m."""
        return np.minimum(*(self.low_points(f"{side} foot")[..., 2].min(axis=1) for side in SIDES))

    def surface(self, name: str) -> Surface:
        """Return a surface of the scene.

        Raises:
            ArgumentError: the scene has none of that name.
        """
        if name not in self.scene:
            raise ArgumentError(
                f"evaluate: scene has no {name!r}, must have it to judge a fact about it; it has "
                f"{', '.join(self.scene)}"
            )
        return self.scene[name]

    def top(self, name: str) -> Array:
        """Height (frames,) of the top of a surface, m."""
        if name == "support":
            return self.support
        return np.full(self.frames, self.surface(name).height)

    def low_points(self, part: str) -> Array:
        """Points (frames, n, 3) on the skin of a part that can touch a level surface."""
        if part not in self._low:
            self._low[part] = self._skin(part)
        return self._low[part]

    def _skin(self, part: str) -> Array:
        side, _, word = part.partition(" ")
        if side in SIDES and word in ("foot", "toes", "heel"):
            soles = self.clip.skeleton.sole_points(
                self.clip.positions, self.clip.world_rotations, side
            )
            bodies = [self.skeleton.names[body] for body, _ in self.skeleton.soles[side]]
            local = np.array([at[0] for _, at in self.skeleton.soles[side]])
            toes = np.array([name == f"{side}_toes" for name in bodies])
            keep = {"foot": toes | True, "toes": toes, "heel": ~toes & (local < 0)}[word]
            return soles[:, keep]
        body, local = find_point(self.skeleton, part)
        shapes = [s for s in self.skeleton.shapes if s.body == body]
        at, world = self.clip.positions[:, None, body], self.clip.world_rotations[:, None, body]
        if part in POINTS and POINTS[part].at == "joint" and word in ("knee", "elbow"):
            balls = [(local[None], shapes[0].radius if shapes else 0.0)]
        else:
            balls = [(s.corners, s.radius) for s in shapes] or [(local[None], 0.0)]
        skin = [at + rot.rotate(world, p) - np.array([0.0, 0.0, r]) for p, r in balls]
        return np.concatenate(skin, axis=1)

    def gap(self, points: Array, name: str, *, top: bool = False) -> Array:
        """Signed distance of points (frames, ..., 3) to a surface's solid, m; negative inside.

        With `top`, what is beside or under the solid is as far as the top's rectangle is.
        """
        if name == "support":
            height = self.support.reshape(-1, *([1] * (points.ndim - 2)))
            return points[..., 2] - height
        surface = self.surface(name)
        over = points[..., 2] - surface.height
        if surface.low is None or surface.high is None:
            return over
        low, high = np.array(surface.low), np.array(surface.high)
        aside = np.linalg.norm(
            np.maximum(0.0, np.maximum(low - points[..., :2], points[..., :2] - high)), axis=-1
        )
        under = np.maximum(0.0, surface.bottom - points[..., 2])
        outside = np.hypot(aside, np.maximum(np.maximum(over, 0.0), under))
        return np.where(outside > 0, np.hypot(aside, over) if top else outside, over)
