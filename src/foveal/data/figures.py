"""Moving bodies of boxes and capsules, drawn by one ray a pixel: batched, in torch, on any device.

`Solids` are plain tensors in world space (z up, meters); `Cameras` look at them, `Looks` say what
they are painted with and how they are lit. `foveal.data.figure_looks` draws both at random.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from foveal.data.figure_rays import FAR, Maps, dot, hit_box, hit_capsule, into, less, maps, three
from foveal.data.sensor_noise.color import linear_to_srgb, srgb_to_linear
from foveal.errors import ArgumentError, ShapeError

PATTERNS = ("plain", "stripes", "checks", "clouds")
"""What `Looks.pattern` counts; see `Looks`."""
BEHIND = ("painted", "photograph behind the floor", "photograph")
"""What `Looks.behind` counts; on a photograph the floor is seen by its shadow only."""

_PIXELS = 1 << 22
"""Pixels that are drawn at once; about 200 bytes each."""
_Part = TypeVar("_Part", "Solids", "Cameras", "Looks")


@dataclass(frozen=True, eq=False)
class Solids:
    """Clips of boxes and capsules that move without changing their size.

    Args:
        centers: In the world, m.
        turns: Rotations; the columns are a solid's own axes in the world.
        sizes: Of a box: half its sides, m. Of a capsule, whose axis is its own z: radius, radius,
            half the distance between the centers of its round ends (0 is a ball), m.
        is_box: Which are boxes.
    """

    centers: Float[Tensor, "b t s 3"]
    turns: Float[Tensor, "b t s 3 3"]
    sizes: Float[Tensor, "b s 3"]
    is_box: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Check shapes and values."""
        b, t, s = (*self.centers.shape, 0, 0, 0)[:3]
        if self.centers.shape != (b, t, s, 3) or 0 in (b, t, s):
            raise ShapeError(
                f"Solids: centers has shape {tuple(self.centers.shape)}, must be (b, t, s, 3) with "
                "a clip, a frame and a solid at least"
            )
        for name, shape in (("turns", (b, t, s, 3, 3)), ("sizes", (b, s, 3))):
            if getattr(self, name).shape != shape:
                raise ShapeError(
                    f"Solids: {name} has shape {tuple(getattr(self, name).shape)}, must be {shape}"
                    f" as centers are {tuple(self.centers.shape)}"
                )
        if len(self.is_box) != s:
            raise ShapeError(f"Solids: is_box has {len(self.is_box)}, must have {s}")
        _all_finite("Solids", self)
        if bool((self.sizes[..., :2] <= 0).any()) or bool((self.sizes < 0).any()):
            raise ArgumentError("Solids: sizes has values <= 0, must be > 0; see its order")


@dataclass(frozen=True, eq=False)
class Cameras:
    """One still camera a clip.

    Args:
        azimuth: Where it stands, seen from the target: 0 on the side of x, a quarter on that of y,
            rad.
        elevation: Above the target, in (-pi/2, pi/2), rad.
        distance: From the target, m.
        field_of_view: Between the upper and the lower edge, in (0, pi), rad.
        target: What is in the middle, m.
    """

    azimuth: Float[Tensor, "b"]
    elevation: Float[Tensor, "b"]
    distance: Float[Tensor, "b"]
    field_of_view: Float[Tensor, "b"]
    target: Float[Tensor, "b 3"]

    def __post_init__(self) -> None:
        """Check the values."""
        b, half = len(self.azimuth), math.pi / 2
        _same_clips("Cameras", self, b)
        if self.target.shape != (b, 3):
            raise ShapeError(
                f"Cameras: target has shape {tuple(self.target.shape)}, must be {(b, 3)}"
            )
        _all_finite("Cameras", self)
        for name, low, high in (
            ("elevation", -half, half), ("distance", 0, FAR), ("field_of_view", 0, math.pi),
        ):  # fmt: skip
            value = getattr(self, name)
            wrong = value[(value <= low) | (value >= high)]
            if len(wrong):
                raise ArgumentError(
                    f"Cameras: {name} is {wrong[:8].tolist()}, must be in ({low:.4g}, {high:.4g})"
                )

    def position(self) -> Float[Tensor, "b 3"]:
        """Where the cameras are, m."""
        flat = self.elevation.cos()
        away = [flat * self.azimuth.cos(), flat * self.azimuth.sin(), self.elevation.sin()]
        return self.target + self.distance[:, None] * torch.stack(away, -1)

    def rays(self, height: int, width: int) -> Float[Tensor, "b n 3"]:
        """Return the unit directions of the pixels, row by row."""
        ahead = F.normalize(self.target - self.position(), dim=-1)
        up = torch.zeros_like(ahead)
        up[:, 2] = 1
        right = F.normalize(torch.linalg.cross(ahead, up), dim=-1)
        above = torch.linalg.cross(right, ahead)
        rows = 1 - (torch.arange(height, device=ahead.device) + 0.5) * (2 / height)
        columns = (torch.arange(width, device=ahead.device) + 0.5) * (2 / width) - 1
        columns = columns * (width / height)
        tangent = (self.field_of_view / 2).tan()[:, None, None, None]
        x = columns[None, None, :, None] * tangent * right[:, None, None]
        y = rows[None, :, None, None] * tangent * above[:, None, None]
        return F.normalize(ahead[:, None, None] + x + y, dim=-1).flatten(1, 2)


@dataclass(frozen=True, eq=False)
class Looks:
    """Paint, light and what is behind. Colors are linear light in [0, 1].

    Every surface has a pattern in its own coordinates q (it moves along with its solid): with
    u = `waves` q + `phases`, "stripes" is sin u_1, "checks" the product of the three sines,
    "clouds" a sum of sines that bend each other; the pattern mixes two colors.

    Args:
        material: Of each solid; the last two materials are those of the floor and the wall.
        pattern: Of `PATTERNS`.
        waves, phases: See above, rad/m and rad.
        edge: How sharp the pattern is: 1 is soft, 30 is hard.
        colors: Both of each material.
        light: Direction to the sun, of any length.
        sun, sky: Color of the sun, and of what comes from everywhere.
        wall: Distance of the wall behind the target, m.
        wall_azimuth: How the wall is turned away from the camera, in (-pi/3, pi/3), rad.
        behind: Of `BEHIND`.
        backdrop: sRGB in [0, 1], of the size of the frames; None where `behind` is 0 everywhere.
    """

    material: Int64[Tensor, "b s"]
    pattern: Int64[Tensor, "b m"]
    waves: Float[Tensor, "b m 3 3"]
    phases: Float[Tensor, "b m 3"]
    edge: Float[Tensor, "b m"]
    colors: Float[Tensor, "b m 2 3"]
    light: Float[Tensor, "b 3"]
    sun: Float[Tensor, "b 3"]
    sky: Float[Tensor, "b 3"]
    wall: Float[Tensor, "b"]
    wall_azimuth: Float[Tensor, "b"]
    behind: Int64[Tensor, "b"]
    backdrop: Float[Tensor, "b 3 height width"] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        _same_clips("Looks", self, len(self.material))
        count = self.pattern.shape[1]
        for name, most in (
            ("material", count - 1), ("pattern", len(PATTERNS) - 1), ("behind", len(BEHIND) - 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if int(value.min()) < 0 or int(value.max()) > most:
                raise ArgumentError(f"Looks: {name} has numbers out of 0 to {most}")
        _all_finite("Looks", self)
        if not bool((self.wall > 0).all()) or not bool(
            (self.wall_azimuth.abs() < math.pi / 3).all()
        ):
            raise ArgumentError(
                "Looks: wall or wall_azimuth is out of range, must be > 0 and in (-pi/3, pi/3)"
            )
        if int(self.behind.max()) > 0 and self.backdrop is None:
            raise ArgumentError(
                "Looks: backdrop is None, must be photographs where behind is not 0; pass them"
            )
        if bool((self.light.norm(dim=-1) == 0).any()):
            raise ArgumentError("Looks: light is 0, must be a direction; (0, 0, 1) is noon")


def render(
    solids: Solids,
    cameras: Cameras,
    looks: Looks,
    *,
    height: int,
    width: int,
    samples: int = 1,
    shadows: bool = True,
) -> Float[Tensor, "b t 3 height width"]:
    """Draw clips: the nearest of all solids, a floor at z = 0 and a wall, lit by a sun and a sky.

    Args:
        solids: In the world.
        cameras: One a clip. What a camera is inside of is not drawn.
        looks: One a clip.
        height: Of the frames, in pixels.
        width: Of the frames, in pixels.
        samples: Rays a pixel are the square of this.
        shadows: Of the sun, hard.

    Returns: sRGB in [0, 1].

    Raises:
        ArgumentError: a size is too small.
        ShapeError: the numbers of clips or solids differ, or the backdrop is of another size.

    Cost: linear in clips, frames, solids, pixels and rays a pixel; shadows double it. Memory beside
        the frames is bounded: 2^22 rays are drawn at once, or those of one frame if they are more.
    """
    for name, value in (("height", height), ("width", width), ("samples", samples)):
        if value < 1:
            raise ArgumentError(f"render: {name} is {value}, must be >= 1")
    b, t, s = solids.centers.shape[:3]
    for name, part in (("cameras.azimuth", cameras.azimuth), ("looks.material", looks.material)):
        if len(part) != b:
            raise ShapeError(f"render: {name} has {len(part)} clips, must have {b} as solids do")
    if looks.material.shape[1] != s:
        raise ShapeError(
            f"render: looks.material names {looks.material.shape[1]} solids, must name {s}"
        )
    photo = looks.backdrop
    if photo is not None and photo.shape != (b, 3, height, width):
        raise ShapeError(
            f"render: looks.backdrop has shape {tuple(photo.shape)}, must be "
            f"{(b, 3, height, width)}; resize it"
        )
    frames = max(1, _PIXELS // (height * width * samples**2))
    parts: list[Tensor] = []
    for clips in torch.arange(b).split(max(1, frames // t)):
        some = slice(int(clips[0]), int(clips[-1]) + 1)
        body, camera, paint = _cut(solids, some), _cut(cameras, some), _cut(looks, some)
        times: list[Tensor] = []
        for first in range(0, t, frames):
            now = slice(first, first + frames)
            part = replace(body, centers=body.centers[:, now], turns=body.turns[:, now])
            lit = _draw(part, camera, paint, (height * samples, width * samples), shadows)
            lit = lit.flatten(0, 1)
            lit = F.avg_pool2d(lit, samples) if samples > 1 else lit
            times.append(linear_to_srgb(lit.clamp(0, 1)).unflatten(0, (len(clips), -1)))
        parts.append(torch.cat(times, 1))
    return torch.cat(parts)


def _tensors(part: Solids | Cameras | Looks) -> dict[str, Tensor]:
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    return {name: x for name, x in values.items() if isinstance(x, Tensor)}


def _same_clips(where: str, part: Cameras | Looks, count: int) -> None:
    for name, x in _tensors(part).items():
        if len(x) != count:
            raise ShapeError(f"{where}: {name} has {len(x)} clips, must have {count} as others do")


def _all_finite(where: str, part: Solids | Cameras | Looks) -> None:
    for name, x in _tensors(part).items():
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            raise ArgumentError(f"{where}: {name} has NaN or infinity, must be finite")


def _cut(part: _Part, some: slice) -> _Part:
    return replace(part, **{name: x[some] for name, x in _tensors(part).items()})


def _draw(
    solids: Solids, cameras: Cameras, looks: Looks, size: tuple[int, int], shadows: bool
) -> Float[Tensor, "b t 3 height width"]:
    rays, eye = cameras.rays(*size), cameras.position()
    ray: Maps = maps(rays[:, None])
    depth, which = _nearest(solids, eye, ray)
    floor, wall = solids.centers.shape[2], solids.centers.shape[2] + 1
    ground = torch.where(ray[2] < -1e-6, -eye[:, 2, None, None] / ray[2].clamp_max(-1e-6), FAR)
    ground = torch.where(ground > 0, ground, FAR)
    bearing = cameras.azimuth + looks.wall_azimuth
    toward = torch.stack([bearing.cos(), bearing.sin(), torch.zeros_like(bearing)], -1)
    foot = cameras.target - looks.wall[:, None] * toward
    slope = dot(ray, toward[:, None])
    gap = ((foot - eye) * toward).sum(-1)[:, None, None]
    back = torch.where(slope < -1e-6, gap / slope.clamp_max(-1e-6), FAR)
    for t, number in ((ground, floor), (back, wall)):
        nearer = t < depth
        which = torch.where(nearer, number, which)
        depth = torch.where(nearer, t, depth)
    depth = depth.clamp_max(FAR)
    at = three(lambda i: eye[:, i, None, None] + depth * ray[i])
    own, normal = _surface(solids, at, which, foot, toward)
    light = F.normalize(looks.light, dim=-1)
    facing = dot(normal, light[:, None]).clamp_min(0)
    if shadows:
        raised = three(lambda i: at[i] + 2e-3 * normal[i])
        facing = facing * ~_shaded(solids, raised, light)
    return _paint(looks, own, normal, facing, which, size)


def _nearest(solids: Solids, eye: Float[Tensor, "b 3"], ray: Maps) -> tuple[Tensor, Tensor]:
    """Distance to the nearest solid, and its number; (b, t, n). FAR and the wall's if none."""
    b, t, s = solids.centers.shape[:3]
    depth = torch.full((b, t, ray[0].shape[-1]), FAR, device=eye.device)
    which = torch.full(depth.shape, s + 1, dtype=torch.int32, device=eye.device)
    for i in range(s):
        away = eye[:, None] - solids.centers[:, :, i]
        size = solids.sizes[:, i, None]
        turn = solids.turns[:, :, i]
        if solids.is_box[i]:
            start = (away[..., None] * turn).sum(-2)
            found = hit_box(maps(start[:, :, None]), into(ray, turn), size)
        else:
            axis = turn[..., 2]
            found = hit_capsule(
                dot(ray, axis), dot(ray, away), (axis * away).sum(-1)[..., None],
                (away * away).sum(-1)[..., None], size,
            )  # fmt: skip
        nearer = found < depth
        which = torch.where(nearer, i, which)
        depth = torch.where(nearer, found, depth)
    return depth, which


def _shaded(solids: Solids, at: Maps, light: Float[Tensor, "b 3"]) -> Tensor:
    """Whether a solid is between a point and the sun."""
    shaded = torch.zeros(at[0].shape, dtype=torch.bool, device=light.device)
    for i in range(solids.centers.shape[2]):
        center, turn = solids.centers[:, :, i], solids.turns[:, :, i]
        away = less(at, center)
        size = solids.sizes[:, i, None]
        if solids.is_box[i]:
            own = (light[:, None, :, None] * turn).sum(-2)
            start = into(away, turn)
            found = hit_box(start, maps(own[:, :, None]), size)
        else:
            axis = turn[..., 2]
            found = hit_capsule(
                (axis * light[:, None]).sum(-1)[..., None], dot(away, light[:, None]),
                dot(away, axis), away[0] ** 2 + away[1] ** 2 + away[2] ** 2, size,
            )  # fmt: skip
        shaded |= found < FAR
    return shaded


def _surface(
    solids: Solids, at: Maps, which: Tensor, foot: Float[Tensor, "b 3"],
    toward: Float[Tensor, "b 3"],
) -> tuple[Maps, Maps]:  # fmt: skip
    """Where points lie in the coordinates of what they are on, and normals in the world."""
    b, t, s = solids.centers.shape[:3]
    zero, one = torch.zeros_like(toward[:, 0]), torch.ones_like(toward[:, 0])
    along = torch.stack([-toward[:, 1], toward[:, 0], zero], -1)
    wall = torch.stack([along, torch.stack([zero, zero, one], -1), toward], -1)
    floor = torch.eye(3, device=toward.device).expand(b, 3, 3)
    origins = torch.stack([torch.zeros_like(foot), foot], 1)[:, None].expand(b, t, 2, 3)
    planes = torch.stack([floor, wall], 1)[:, None].expand(b, t, 2, 3, 3)
    sizes = torch.cat([solids.sizes, torch.ones_like(origins[:, 0])], 1)[:, None]
    rows = torch.cat(
        [
            torch.cat([solids.centers, origins], 2),
            torch.cat([solids.turns, planes], 2).flatten(3),
            sizes.expand(b, t, s + 2, 3),
        ],
        -1,
    )
    first = torch.arange(b * t, device=which.device).view(b, t, 1) * (s + 2)
    found: Tensor = F.embedding(which + first, rows.flatten(0, 2))
    away = three(lambda i: at[i] - found[..., i])
    turn: Tensor = found[..., 3:12].unflatten(-1, (3, 3))
    size = maps(found[..., 12:])
    columns = [maps(turn[..., i]) for i in range(3)]
    own = three(lambda i: _sum(away, columns[i]))
    boxes = torch.tensor([*solids.is_box, False, False], device=which.device)[which.long()]
    ends = own[2].clamp(-size[2], size[2])
    round_ = [own[0] / size[0], own[1] / size[0], (own[2] - ends) / size[0]]
    reach = [(own[i] / size[i]).abs() for i in range(3)]
    most = torch.maximum(torch.maximum(reach[0], reach[1]), reach[2])
    flat = [torch.where(reach[i] == most, own[i].sign(), 0) for i in range(3)]
    ground = which >= s
    local = three(
        lambda i: torch.where(ground, float(i == 2), torch.where(boxes, flat[i], round_[i]))
    )
    normal = three(lambda k: _sum(local, maps(turn[..., k, :])))
    return own, normal


def _sum(a: Maps, b: Maps) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _paint(
    looks: Looks, own: Maps, normal: Maps, facing: Tensor, which: Tensor, size: tuple[int, int]
) -> Float[Tensor, "b t 3 height width"]:
    """Linear light of each pixel."""
    b, count = looks.pattern.shape
    last = torch.arange(count - 2, count, device=which.device).expand(b, 2)
    material = torch.cat([looks.material, last], 1)
    s = material.shape[1]
    rows = torch.cat(
        [
            looks.waves.flatten(2), looks.phases, looks.edge[..., None], looks.colors.flatten(2),
            looks.pattern[..., None].to(looks.edge.dtype),
        ],
        -1,
    )  # fmt: skip
    table = rows.gather(1, material[..., None].expand(b, s, rows.shape[-1]))
    first = torch.arange(b, device=which.device).view(b, 1, 1) * s
    found = F.embedding(which + first, table.flatten(0, 1))
    u = [
        sum(found[..., 3 * i + k] * own[k] for k in range(3)) + found[..., 9 + i] for i in range(3)
    ]
    sines = [x.sin() for x in u]
    bent = (u[0] + 2 * sines[1]).sin() + (u[1] + 2 * sines[2]).sin() + (u[2] + 2 * sines[0]).sin()
    kind = found[..., 19].long()
    value = torch.where(kind == 1, sines[0], 0.0)
    value = torch.where(kind == 2, sines[0] * sines[1] * sines[2] * 3, value)
    value = torch.where(kind == 3, bent / 2, value)
    mix = torch.where(kind == 0, 0.0, (value * found[..., 12]).sigmoid())
    above = 0.75 + 0.25 * normal[2]
    seen: list[Tensor] = []
    for i in range(3):
        color = torch.lerp(found[..., 13 + i], found[..., 16 + i], mix)
        light = above * looks.sky[:, i, None, None] + facing * looks.sun[:, i, None, None]
        seen.append(color * light)
    lit = torch.stack(seen, 2)
    if looks.backdrop is not None:
        photo = F.interpolate(looks.backdrop, size, mode="bilinear", align_corners=False)
        far = srgb_to_linear(photo).flatten(2)[:, None]
        behind = looks.behind[:, None, None]
        floor, wall = which == s - 2, which == s - 1
        brightness = looks.sky.mean(-1) + looks.sun.mean(-1) * F.normalize(looks.light, dim=-1)[
            :, 2
        ].clamp_min(0)
        got = looks.sky.mean(-1)[:, None, None] + facing * looks.sun.mean(-1)[:, None, None]
        dimmed = torch.where(floor, got / brightness[:, None, None].clamp_min(1e-3), 1.0)
        shown = ((behind >= 1) & wall) | ((behind == 2) & floor)
        lit = torch.where(shown[:, :, None], far * dimmed[:, :, None], lit)
    return lit.unflatten(-1, size)
