"""What rays see where they hit: normals, curvature, surface coordinates, color in the light."""

from dataclasses import dataclass

import torch
from torch import Tensor

from foveal.data.taskworld.cast import (
    AXIS,
    CENTER,
    HALF,
    KIND,
    MATERIAL,
    Maps,
    Packed,
    shaded,
    to_light,
)  # fmt: skip
from foveal.data.taskworld.materials import albedo, windows
from foveal.data.taskworld.world import BOX, CYLINDER


@dataclass(frozen=True, eq=False)
class Surface:
    """One value a ray; where nothing is met, the sky.

    Args:
        met: Whether a solid is.
        row: Of the table of solids, all scenes in a row.
        normal: Out of the solid, in the world's axes.
        bend: Both principal curvatures, 1/m.
        face: Which side of the solid, 0 to 6.
        u, v: Surface coordinates, m.
        material: Among those of all scenes.
        facing: Cosine between the normal and the way to the camera.
    """

    met: Tensor
    row: Tensor
    normal: Maps
    bend: tuple[Tensor, Tensor]
    face: Tensor
    u: Tensor
    v: Tensor
    material: Tensor
    facing: Tensor


def surface(world: Packed, d: Maps, depth: Tensor, which: Tensor) -> Surface:
    """Find out about the points that rays hit."""
    n, (b, places) = len(depth), world.solids.shape[:2]
    owner = torch.arange(n, device=depth.device) // (n // b)
    met = which >= 0
    row = which.clamp_min(0).long() + owner[:, None] * places
    table = world.solids.flatten(0, 1).t().contiguous()

    def field(i: int) -> Tensor:
        return table[i][row]

    center = [field(CENTER + i) for i in range(3)]
    axis = [field(AXIS + i) for i in range(3)]
    half = [field(HALF + i) for i in range(3)]
    kind = field(KIND)
    t = torch.where(met, depth, 1.0)
    own = [t * d[i] - center[i] for i in range(3)]
    # Boxes: the side that the ray enters last.
    c, s = axis[0], axis[1]
    ways = (c * d[0] + s * d[1], c * d[1] - s * d[0], d[2])
    lx, ly, lz = c * own[0] + s * own[1], c * own[1] - s * own[0], own[2]
    enters: list[Tensor] = []
    for i in range(3):
        way = torch.where(ways[i].abs() < 1e-9, 1e-9, ways[i]).reciprocal()
        start = -(
            center[2]
            if i == 2
            else (c * center[0] + s * center[1], c * center[1] - s * center[0])[i]
        )
        enters.append(-start * way - half[i] * way.abs())
    top = (enters[2] >= enters[0]) & (enters[2] >= enters[1])
    first = ~top & (enters[0] >= enters[1])
    along = torch.where(top, ways[2], torch.where(first, ways[0], ways[1]))
    sign = torch.where(along > 0, -1.0, 1.0)
    zero = torch.zeros_like(t)
    box_n = (
        torch.where(top, zero, sign * torch.where(first, c, -s)),
        torch.where(top, zero, sign * torch.where(first, s, c)),
        torch.where(top, sign, zero),
    )
    box_u, box_v = torch.where(first, ly, lx), torch.where(top, ly, lz)
    face = torch.where(top, 4, torch.where(first, 0, 2)) + (sign > 0)
    # Round ones: from the axis, or from the middle of the end.
    y = own[0] * axis[0] + own[1] * axis[1] + own[2] * axis[2]
    over = (y.abs() - half[2]).clamp_min(0)
    flat = kind == CYLINDER
    beyond = torch.where(flat, y, torch.where(y < 0, y + over, y - over))
    out = [own[i] - beyond * axis[i] for i in range(3)]
    size = (out[0] * out[0] + out[1] * out[1] + out[2] * out[2]).sqrt()
    dn = d[0] * axis[0] + d[1] * axis[1] + d[2] * axis[2]
    lid = flat & ((half[2] - y.abs()) < (half[0] - size).abs()) & (y * dn < 0)
    inverse = size.clamp_min(1e-9).reciprocal()
    end_sign = torch.where(y < 0, -1.0, 1.0)
    round_n = [torch.where(lid, end_sign * axis[i], out[i] * inverse) for i in range(3)]
    upright = axis[2] > 0.5
    e1 = (torch.where(upright, 1.0, 0.0), zero, torch.where(upright, 0.0, 1.0))
    e2 = (
        axis[1] * e1[2] - axis[2] * e1[1],
        axis[2] * e1[0] - axis[0] * e1[2],
        axis[0] * e1[1] - axis[1] * e1[0],
    )
    p = sum(own[i] * e1[i] for i in range(3)) + zero
    q = sum(own[i] * e2[i] for i in range(3)) + zero
    round_u = torch.where(lid, p, half[0] * torch.atan2(q, p))
    round_v = torch.where(lid, q, y)
    is_box = kind == BOX
    ball = ~flat & (over > 0) & ~is_box
    bend = torch.where(is_box | lid, zero, half[0].reciprocal())
    normal = [torch.where(is_box, box_n[i], round_n[i]) for i in range(3)]
    face = torch.where(is_box, face, torch.where(lid, 5, 6))
    # The sky: a plane of clouds.
    lift = d[2].clamp_min(0) + 0.25
    u = torch.where(met, torch.where(is_box, box_u, round_u), 3 * d[0] / lift)
    v = torch.where(met, torch.where(is_box, box_v, round_v), 3 * d[1] / lift)
    unit = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).rsqrt()
    facing = -(normal[0] * d[0] + normal[1] * d[1] + normal[2] * d[2]) * unit
    own_material = torch.where(met, field(MATERIAL).long(), world.sky[owner][:, None])
    material = own_material + world.first[owner][:, None]
    return Surface(
        met, row, (normal[0], normal[1], normal[2]), (bend, torch.where(ball, bend, zero)), face,
        u, v, material, facing,
    )  # fmt: skip


def panes(world: Packed, seen: Surface) -> Tensor:
    """Where a wall's texture shows a window."""
    return windows(lambda i: world.materials[i][seen.material], seen.u, seen.v) & seen.met


def paint(
    world: Packed, d: Maps, depth: Tensor, seen: Surface, size: int
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Albedo and light of rays, before exposure."""
    n, b = len(depth), len(world.solids)
    tiles = n // b

    def column(i: int) -> Tensor:
        return world.materials[i][seen.material]

    def scene(i: int) -> Tensor:
        return world.lights[:, i].repeat_interleave(tiles)[:, None]

    t = torch.where(seen.met, depth, 1.0)
    slope = world.slope.repeat_interleave(tiles)[:, None]
    pixel = t * slope * (2 / size) * 0.75 * seen.facing.clamp(0.06, 1).pow(-0.6)
    pixel = torch.where(seen.met, pixel, 8 * slope / size)
    color = albedo(column, seen.u, seen.v, pixel)
    at = [t * d[i] + 2e-3 * seen.normal[i] for i in range(3)]
    points = (at[0], at[1], at[2])
    way = to_light(world, points, tiles)
    length2 = way[0] * way[0] + way[1] * way[1] + way[2] * way[2]
    cosine = sum(way[i] * seen.normal[i] for i in range(3)) * length2.clamp_min(1e-9).rsqrt()
    dark = shaded(world, points, way, seen.met)
    sun = scene(3) > 0
    fall = torch.where(sun, 1.0, 1 / (1 + length2 / 9))
    direct = cosine.clamp_min(0) * fall * ~dark
    nx, ny, nz = seen.normal
    around = torch.where(sun, 0.7 + 0.3 * nz, 0.8 + 0.12 * nz + 0.08 * nx - 0.05 * ny)
    around = around + 0.08 * torch.sin(3 * nx + 2 * ny)
    glow = torch.where(seen.met, column(22), 0.0)
    sky_glow = world.materials[22][(world.first + world.sky)].repeat_interleave(tiles)[:, None]
    haze = 1 - torch.exp(-scene(10) * t)
    out: list[Tensor] = []
    for i in range(3):
        light = direct * scene(4 + i) + around * scene(7 + i) + glow
        lit = torch.where(seen.met, color[i] * light, color[i] * sky_glow)
        veil = scene(7 + i) * 1.3
        out.append(torch.where(seen.met, torch.lerp(lit, veil.expand_as(lit), haze), lit))
    return color, (out[0], out[1], out[2])


def expose(light: Tensor, key: Tensor, gain: Tensor | None) -> tuple[Tensor, Tensor]:
    """Linear light to sRGB, and the gain: by the mean brightness unless it is given."""
    if gain is None:
        mean = light.clamp_max(2.0).mean((1, 2, 3))
        gain = (key / mean.clamp_min(1e-4)).clamp(0.2, 8)
    x = 1 - torch.exp(-1.35 * gain.view(-1, 1, 1, 1) * light)
    x = (x * (0.6 + 0.9 * x * (1 - x) + 0.4 * x)).clamp(0, 1)  # the toe of a film
    low = x * 12.92
    high = 1.055 * x.clamp_min(1e-8).pow(1 / 2.4) - 0.055
    return torch.where(x <= 0.0031308, low, high), gain
