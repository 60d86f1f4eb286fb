"""Pictures of a pose for a model to look at: orthographic views with a ruled grid.

Left limbs are blue and right limbs orange in every view, the face has a nose, what is planted has a
green rim; every view has a title that says which side of the figure is where, and a scale in
meters, so that places can be read off. NumPy alone; the same pixels on every machine but for fonts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveal.motion import rotations as rot
from foveal.motion.clip import capsule_frame
from foveal.motion.director.commands_pose import Camera
from foveal.motion.director.parts import part_of_bodies
from foveal.motion.director.pose import CONTACT_POINTS, Pose, heading, place, points
from foveal.motion.director.scene_facts import Scene
from foveal.motion.posecodes.points import find_point
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Skeleton

_COLORS = {
    "head": (236, 196, 160), "trunk": (150, 150, 158), "pelvis": (120, 120, 130),
    "left_arm": (70, 130, 230), "left_leg": (40, 80, 190),
    "right_arm": (245, 150, 60), "right_leg": (205, 95, 25),
}  # fmt: skip
_SCENE, _PLANTED, _NOSE = (190, 170, 120), (40, 190, 70), (200, 40, 60)
_PAPER, _GRID, _INK = (250, 250, 248), (222, 222, 222), (40, 40, 40)
_TITLES = {
    "front": "FRONT - its LEFT hand is on the right of this view",
    "left": "LEFT SIDE - it faces to the left of this view",
    "top": "FROM ABOVE - it faces up, its left is left",
    "diagonal": "DIAGONAL - from its front left",
}
_SCALE = 2  # samples a pixel and side


@dataclass(frozen=True, eq=False)
class View:
    """An orthographic camera.

    Args:
        title: What the view is called.
        azimuth: Where it stands, to the left of +x in the world, rad.
        elevation: Above the horizon, rad.
        center: What is in the middle (3,), m.
        height: Height of what is seen, m.
    """

    title: str
    azimuth: float
    elevation: float
    center: Array
    height: float

    def axes(self) -> tuple[Array, Array, Array]:
        """Return the picture's right and up, and the way back to the camera, each (3,)."""
        a, e = self.azimuth, self.elevation
        back = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        right = np.array([-np.sin(a), np.cos(a), 0.0])
        return right, np.cross(back, right), back


@dataclass(frozen=True, eq=False)
class _Solid:
    kind: str
    center: Array
    turn: Array
    size: Array
    color: tuple[int, int, int]


def _solids(skeleton: Skeleton, pose: Pose, scene: Scene, planted: Sequence[str]) -> list[_Solid]:
    positions, world = place(skeleton, pose)
    where = part_of_bodies(skeleton)
    held = {find_point(skeleton, CONTACT_POINTS[part])[0] for part in planted}
    out: list[_Solid] = []
    for shape in skeleton.shapes:
        turn = world[shape.body]
        color = _PLANTED if shape.body in held else _COLORS[where[shape.body]]
        center = positions[shape.body] + rot.rotate(turn, shape.center)
        if shape.kind == "box":
            out.append(_Solid("box", center, rot.to_matrix(turn), np.array(shape.end), color))
            continue
        local, half = capsule_frame(shape.start, shape.end)
        axes = rot.to_matrix(rot.multiply(turn, local))
        size = np.array([shape.radius, shape.radius, half])
        out.append(_Solid("capsule", center, axes, size, color))
    head = skeleton.body("head")
    solid = next(s for s in skeleton.shapes if s.body == head)
    tip = solid.center + np.array([solid.radius, 0.0, 0.0])
    nose = positions[head] + rot.rotate(world[head], tip)
    size = np.array([0.022, 0.022, 0.0]) * skeleton.height / 1.7
    out.append(_Solid("capsule", nose, np.eye(3), size, _NOSE))
    for surface in scene.values():
        if surface.low is None or surface.high is None:
            continue
        bottom = surface.bottom if np.isfinite(surface.bottom) else surface.height - 0.05
        low, high = np.array([*surface.low, bottom]), np.array([*surface.high, surface.height])
        out.append(_Solid("box", 0.5 * (low + high), np.eye(3), 0.5 * (high - low), _SCENE))
    return out


def _hit(solid: _Solid, origin: Array, ahead: Array) -> tuple[Array, Array]:
    """Return depth along the ray (inf where it misses) and the normal of every ray (n, 3)."""
    o = (origin - solid.center) @ solid.turn
    d = ahead @ solid.turn
    if solid.kind == "box":
        with np.errstate(divide="ignore", invalid="ignore"):
            near = (-np.sign(d) * solid.size - o) / d
            far = (np.sign(d) * solid.size - o) / d
        flat = np.abs(d) < 1e-12
        inside = np.abs(o) <= solid.size
        near = np.where(flat, np.where(inside, -np.inf, np.inf), near)
        far = np.where(flat, np.where(inside, np.inf, -np.inf), far)
        axis = near.argmax(axis=1)
        depth = near.max(axis=1)
        depth = np.where(depth <= far.min(axis=1), depth, np.inf)
        normal = np.eye(3)[axis] * -np.sign(d)
    else:
        r, half = solid.size[0], solid.size[2]
        depth, at = np.full(len(o), np.inf), np.zeros(len(o))
        a = d[0] ** 2 + d[1] ** 2
        if a > 1e-12:
            b = o[:, 0] * d[0] + o[:, 1] * d[1]
            root = b**2 - a * (o[:, 0] ** 2 + o[:, 1] ** 2 - r**2)
            t = (-b - np.sqrt(np.maximum(root, 0.0))) / a
            z = o[:, 2] + t * d[2]
            ok = (root >= 0) & (np.abs(z) <= half)
            depth, at = np.where(ok, t, depth), np.where(ok, z, at)
        for end in (-half, half):
            p = o - np.array([0.0, 0.0, end])
            b = p @ d
            root = b**2 - np.sum(p**2, axis=1) + r**2
            t = -b - np.sqrt(np.maximum(root, 0.0))
            ok = (root >= 0) & (t < depth)
            depth, at = np.where(ok, t, depth), np.where(ok, end, at)
        finite = np.where(np.isfinite(depth), depth, 0.0)
        normal = o + finite[:, None] * d
        normal[:, 2] -= at
        normal /= r
    return depth, normal @ solid.turn.T


def _cast(view: View, solids: Sequence[_Solid], size: int) -> NDArray[np.uint8]:
    right, up, back = view.axes()
    n = size * _SCALE
    pixel = view.height / n
    color = np.empty((n, n, 3))
    color[:] = _PAPER
    depth = np.full((n, n), np.inf)
    light = back + 0.5 * up - 0.35 * right
    light /= np.linalg.norm(light)
    _rule(color, view, n)
    for solid in solids:
        reach = float(np.linalg.norm(solid.size)) + float(solid.size[0])
        x = (solid.center - view.center) @ right / pixel + n / 2
        y = n / 2 - (solid.center - view.center) @ up / pixel
        x0, x1 = (int(np.clip(v, 0, n)) for v in (x - reach / pixel - 1, x + reach / pixel + 2))
        y0, y1 = (int(np.clip(v, 0, n)) for v in (y - reach / pixel - 1, y + reach / pixel + 2))
        if x0 >= x1 or y0 >= y1:
            continue
        columns = (np.arange(x0, x1) + 0.5 - n / 2) * pixel
        rows = (n / 2 - np.arange(y0, y1) - 0.5) * pixel
        origin = (
            view.center + 50.0 * back + rows[:, None, None] * up + columns[None, :, None] * right
        ).reshape(-1, 3)
        t, normal = _hit(solid, origin, -back)
        t = t.reshape(len(rows), len(columns))
        shade = 0.45 + 0.55 * np.maximum(normal @ light, 0.0).reshape(t.shape)
        window = (slice(y0, y1), slice(x0, x1))
        nearer = t < depth[window]
        depth[window] = np.where(nearer, t, depth[window])
        painted = np.array(solid.color) * shade[..., None]
        color[window] = np.where(nearer[..., None], painted, color[window])
    small = color.reshape(size, _SCALE, size, _SCALE, 3).mean(axis=(1, 3))
    return np.clip(small + 0.5, 0, 255).astype(np.uint8)


def _rule(color: Array, view: View, n: int) -> None:
    """Draw half-meter lines along the picture's own axes where these are the world's."""
    right, up, _ = view.axes()
    pixel = view.height / n
    for axis, along in ((right, 1), (up, 0)):
        k = int(np.argmax(np.abs(axis)))
        if abs(axis[k]) < 0.999:
            continue
        for value, at in _ticks(view, axis, k):
            where = int(n / 2 + (at / pixel if along else -at / pixel))
            width = 3 if abs(value) < 1e-9 and k == 2 else 1
            if 0 <= where < n - width:
                if along:
                    color[:, where : where + width] = _GRID
                else:
                    color[where : where + width, :] = _INK if width == 3 else _GRID


def _ticks(view: View, axis: Array, k: int) -> list[tuple[float, float]]:
    """Return values of half meters of the world's axis `k`, and their place in the view, m."""
    sign = float(np.sign(axis[k]))
    middle, half = float(view.center[k]), 0.5 * view.height
    first = np.ceil((middle - half) * 2.0) / 2.0
    values = np.arange(first, middle + half + 1e-9, 0.5)
    return [(round(float(v), 1) + 0.0, sign * (float(v) - middle)) for v in values]


def views(skeleton: Skeleton, pose: Pose, camera: Camera | None = None) -> list[View]:
    """Return the four views of a pose: front, left, above, and the diagonal or a camera's.

    The first three stand square to the world's axes that are next to where the pelvis faces.
    """
    at = points(skeleton, pose)
    stack = np.array(list(at.values()))
    low, high = stack.min(axis=0), stack.max(axis=0)
    center = 0.5 * (low + high)
    span = max(2.1 * skeleton.height / 1.7, 1.15 * float((high - low).max()) + 0.25)
    face = heading(pose)
    square = np.round(face / (0.5 * np.pi)) * 0.5 * np.pi
    out = [
        View(_TITLES["front"], square, 0.0, center, span),
        View(_TITLES["left"], square + 0.5 * np.pi, 0.0, center, span),
        View(_TITLES["top"], square + np.pi, 0.5 * np.pi, center, span),
    ]
    if camera is None:
        out.append(View(_TITLES["diagonal"], face + 0.7, 0.45, center, span))
    else:
        title = f"YOUR CAMERA - azimuth {camera.azimuth:.0f}, elevation {camera.elevation:.0f}"
        azimuth, elevation = np.radians([camera.azimuth, camera.elevation])
        focus = points(skeleton, pose, [camera.focus])[camera.focus]
        out.append(View(title, face + azimuth, float(elevation), focus, 0.5 * span))
    return out


def contact_sheet(
    skeleton: Skeleton,
    pose: Pose,
    scene: Scene,
    planted: Sequence[str],
    *,
    camera: Camera | None = None,
    size: int = 768,
) -> NDArray[np.uint8]:
    """Draw four views of a pose in one square picture.

    Args:
        skeleton: The figure.
        pose: The pose.
        scene: Its surfaces.
        planted: Parts that bear on something; they are green.
        camera: What the fourth view shows instead of the diagonal.
        size: Side of the picture in pixels, even.

    Returns: uint8 (size, size, 3).
    """
    from PIL import Image, ImageDraw, ImageFont

    half = size // 2
    solids = _solids(skeleton, pose, scene, planted)
    sheet = Image.new("RGB", (size, size), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(max(9, size // 60))
    for number, view in enumerate(views(skeleton, pose, camera)):
        x, y = half * (number % 2), half * (number // 2)
        sheet.paste(Image.fromarray(_cast(view, solids, half)), (x, y))
        _label(draw, font, view, (x, y), half)
    draw.line([(half, 0), (half, size)], _INK, 2)
    draw.line([(0, half), (size, half)], _INK, 2)
    legend = "BLUE = its left   ORANGE = its right   GREEN = planted   RED = nose"
    width = draw.textlength(legend, font)
    draw.rectangle([(half - width / 2 - 6, half - 10), (half + width / 2 + 6, half + 10)], _PAPER)
    draw.text((half, half), legend, _INK, font, anchor="mm")
    return np.asarray(sheet)


def _label(draw: object, font: object, view: View, corner: tuple[int, int], half: int) -> None:
    right, up, _ = view.axes()
    x, y = corner
    pixel = view.height / half
    pen = draw
    pen.text((x + 6, y + (4 if y == 0 else 16)), view.title, _INK, font)  # type: ignore[attr-defined]
    for axis, along in ((right, True), (up, False)):
        k = int(np.argmax(np.abs(axis)))
        if abs(axis[k]) < 0.999:
            continue
        for value, at in _ticks(view, axis, k):
            words = f"{'xyz'[k]}={value + 0.0:g}"
            if along:
                place_ = (x + half / 2 + at / pixel, y + half - 14)
                fits, anchor = 24 < place_[0] - x < half - 24, "mb"
            else:
                place_ = (x + 4, y + half / 2 - at / pixel)
                fits, anchor = 24 < place_[1] - y < half - 34, "lm"
            if fits:
                pen.text(place_, words, _INK, font, anchor=anchor)  # type: ignore[attr-defined]


def table(shown: Mapping[str, Array]) -> str:
    """Write points as lines `name: x y z`, m."""
    return "\n".join(f"- {name}: [{p[0]:.2f}, {p[1]:.2f}, {p[2]:.2f}]" for name, p in shown.items())
