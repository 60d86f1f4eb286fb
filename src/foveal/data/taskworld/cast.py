"""Ray casting: the nearest solid a ray, and shadows. A tile of rays meets only what it may meet.

Tensors are (tiles, rays): a picture is 16 x 16 tiles. Coordinates are relative to the camera and
along the world's axes. Directions have length 1 along the view axis: a distance is a z-depth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from foveal.data.taskworld.world import BOX, CYLINDER, Camera, Scene

TILES = 16
"""Tiles along a side of a picture."""
FAR = 1e4
"""Depth of what is not met, m."""
_NEAR = 0.02
_FIELDS = 16
# Columns of `Packed.solids`; the second to last is the kind, the last the radius around.
CENTER, AXIS, HALF, LABEL, THING, MATERIAL, CASTS, KIND, AROUND = 0, 3, 6, 9, 10, 11, 12, 13, 14
Maps = tuple[Tensor, Tensor, Tensor]
"""The coordinates of a vector a ray."""


@dataclass(frozen=True, eq=False)
class Packed:
    """Scenes as tensors.

    Args:
        solids: Boxes first, then round ones, padded.
        boxes: How many places are for boxes.
        views: Rows are right, down and ahead.
        slope: Tangent of half the field of view.
        materials: One column each, of all scenes.
        first: Of each scene, the number of its first material.
        sky: Number of the sky's material.
        lights: Place or direction, whether it is a sun, color, ambient, fog, key.
    """

    solids: Float[Tensor, "b p f"]
    boxes: int
    views: Float[Tensor, "b 3 3"]
    slope: Float[Tensor, "b"]
    materials: Float[Tensor, "k m"]
    first: Int64[Tensor, "b"]
    sky: Int64[Tensor, "b"]
    lights: Float[Tensor, "b 12"]

    def cut(self, some: slice) -> "Packed":
        """Keep some of the scenes."""
        return Packed(
            self.solids[some], self.boxes, self.views[some], self.slope[some], self.materials,
            self.first[some], self.sky[some], self.lights[some],
        )  # fmt: skip


def view_of(camera: Camera) -> NDArray[np.float64]:
    """Rows are the camera's right, down and ahead in the world."""
    cy, sy = np.cos(camera.yaw), np.sin(camera.yaw)
    cp, sp = np.cos(camera.pitch), np.sin(camera.pitch)
    cr, sr = np.cos(camera.roll), np.sin(camera.roll)
    ahead = np.array([sy * cp, cy * cp, -sp])
    right = np.array([cy, -sy, 0.0])
    down = np.array([-sy * sp, -cy * sp, -cp])
    return np.stack([cr * right + sr * down, cr * down - sr * right, ahead])


def pack(scenes: Sequence[Scene], device: torch.device) -> Packed:
    """Bring scenes to a device in one copy a tensor."""
    counts = [sum(s.kind == BOX for s in scene.solids) for scene in scenes]
    boxes = max(1, *counts) if len(counts) > 1 else max(1, counts[0])
    rounds = max(1, max(len(x.solids) - n for x, n in zip(scenes, counts, strict=True)))
    table = np.zeros((len(scenes), boxes + rounds, _FIELDS))
    table[..., AROUND] = -1
    table[..., HALF : HALF + 3] = 1
    table[..., AXIS + 2] = 1
    table[:, :boxes, AXIS], table[:, :boxes, AXIS + 2] = 1, 0
    lights = np.zeros((len(scenes), 12))
    materials: list[list[float]] = []
    first: list[int] = []
    for i, scene in enumerate(scenes):
        eye = scene.camera.position
        places = [0, boxes]
        for solid in scene.solids:
            is_round = solid.kind != BOX
            row = table[i, places[is_round]]
            places[is_round] += 1
            row[:3] = np.subtract(solid.center, eye)
            c, s = np.cos(solid.yaw), np.sin(solid.yaw)
            row[3:6] = (c, s, 0.0) if not is_round or solid.lying else (0.0, 0.0, 1.0)
            row[6:9] = solid.half
            row[9:14] = (solid.label, solid.thing, solid.material, solid.casts, solid.kind)
            r, half = solid.half[0], solid.half[2]
            around = float(np.linalg.norm(solid.half))
            if is_round:
                around = float(np.hypot(r, half)) if solid.kind == CYLINDER else r + half
            row[14] = 1.0001 * around + 1e-3
        light = scene.light
        place = np.array(light.place)
        place = place / np.linalg.norm(place) if light.sun else place - eye
        lights[i] = (*place, light.sun, *light.color, *light.ambient, light.fog, light.key)
        first.append(len(materials))
        for m in scene.materials:
            materials.append([
                *m.first, *m.second, *m.gap, *m.cell, m.shift, m.joint, m.tone, m.parity, m.glyph,
                m.window, *m.noise, m.blend, m.sharp, m.grain, m.glow, m.seed,
            ])  # fmt: skip

    def send(x: object, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(dtype).to(device)

    return Packed(
        send(table), boxes, send(np.stack([view_of(s.camera) for s in scenes])),
        send([np.tan(s.camera.fov / 2) for s in scenes]), send(np.array(materials).T),
        send(first, torch.int64), send([s.sky for s in scenes], torch.int64), send(lights),
    )  # fmt: skip


def rays(world: Packed, size: int) -> Maps:
    """Directions of the rays of all tiles: (b * 256, 5 * pixels of a tile).

    Of each pixel first the middle, then four in its quarters.
    """
    q, device = size // TILES, world.solids.device
    off = torch.tensor(
        [[0.5, 0.25, 0.75, 0.25, 0.75], [0.5, 0.25, 0.25, 0.75, 0.75]], device=device
    )
    tile = torch.arange(TILES, device=device, dtype=torch.float32)[:, None] * q
    cells = tile + torch.arange(q, device=device)
    shape = (1, TILES, TILES, 5, q, q)
    x = cells[None, None, :, None, None, :] + off[0].view(1, 1, 1, 5, 1, 1)
    y = cells[None, :, None, None, :, None] + off[1].view(1, 1, 1, 5, 1, 1)
    slope = world.slope.view(-1, 1, 1, 1, 1, 1)
    x, y = (x * (2 / size) - 1) * slope, (y * (2 / size) - 1) * slope
    x, y = x.expand(-1, *shape[1:]), y.expand(-1, *shape[1:])
    x, y = x.reshape(len(slope), -1), y.reshape(len(slope), -1)
    out: list[Tensor] = []
    for i in range(3):
        right, down, ahead = (world.views[:, k, i, None] for k in range(3))
        out.append((right * x + down * y + ahead).view(len(slope) * TILES**2, -1))
    return out[0], out[1], out[2]


def whole(x: Shaped[Tensor, "n r"], size: int) -> Shaped[Tensor, "b k s s"]:
    """Put tiles together to pictures; k is rays a pixel."""
    q = size // TILES
    x = x.reshape(-1, TILES, TILES, x.shape[1] // q**2, q, q)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(len(x), -1, size, size)


def hit_box(row: Tensor, d: Maps, o: Maps | None) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave boxes; they miss where they leave first."""
    cx, cy, cz, c, s = (row[:, i, None] for i in (0, 1, 2, 3, 4))
    ox, oy, oz = (-cx, -cy, -cz) if o is None else (o[0] - cx, o[1] - cy, o[2] - cz)
    starts = (c * ox + s * oy, c * oy - s * ox, oz)
    ways = (c * d[0] + s * d[1], c * d[1] - s * d[0], d[2])
    enter: Tensor | None = None
    leave: Tensor | None = None
    for i in range(3):
        way = torch.where(ways[i].abs() < 1e-9, 1e-9, ways[i]).reciprocal()
        middle, reach = -starts[i] * way, row[:, HALF + i, None] * way.abs()
        enter = middle - reach if enter is None else torch.maximum(enter, middle - reach)
        leave = middle + reach if leave is None else torch.minimum(leave, middle + reach)
    assert enter is not None
    assert leave is not None
    return enter, leave


def hit_round(row: Tensor, d: Maps, o: Maps | None) -> Tensor:
    """Where rays enter cylinders and capsules; FAR where they miss, or start inside."""
    axis = [row[:, AXIS + i, None] for i in range(3)]
    m = [-row[:, i, None] if o is None else o[i] - row[:, i, None] for i in range(3)]
    radius, half, kind = row[:, HALF, None], row[:, HALF + 2, None], row[:, KIND, None]
    dd = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    shift = -(d[0] * m[0] + d[1] * m[1] + d[2] * m[2]) / dd  # to where the ray is nearest
    p = [m[i] + shift * d[i] for i in range(3)]
    dn = d[0] * axis[0] + d[1] * axis[1] + d[2] * axis[2]
    pn = p[0] * axis[0] + p[1] * axis[1] + p[2] * axis[2]
    pp = p[0] * p[0] + p[1] * p[1] + p[2] * p[2]
    a = (dd - dn * dn).clamp_min(1e-9)
    lateral = -dn * pn
    rest = pp - pn * pn - radius * radius
    inside = lateral * lateral - a * rest
    side = (-lateral - inside.clamp_min(0).sqrt()) / a
    y = pn + side * dn
    on_side = (inside >= 0) & (y.abs() <= half)
    slope_end = torch.where(y < 0, -half, half)
    slope = -slope_end * dn
    under = slope * slope - dd * (pp - 2 * slope_end * pn + slope_end * slope_end - radius * radius)
    ball = (-slope - under.clamp_min(0).sqrt()) / dd
    safe = torch.where(dn.abs() < 1e-9, 1e-9, dn)
    lid = (-torch.sign(dn) * half - pn) / safe
    on_lid = (rest + 2 * lid * lateral + lid * lid * a <= 0) & (dn.abs() >= 1e-9)
    flat = kind == CYLINDER
    end = torch.where(flat, lid, ball)
    on_end = torch.where(flat, on_lid, (under >= 0) & (inside >= 0))
    t = torch.where(on_side, side, end) + shift
    return torch.where((on_side | on_end) & (t > _NEAR), t, FAR)


def _order(may: Bool[Tensor, "n p"]) -> tuple[Tensor, Tensor, list[int]]:
    """Tiles by how many solids they may meet, those solids, and how many tiles have a k-th."""
    counts = may.sum(1)
    order = counts.argsort(descending=True, stable=True)
    lists = (~may[order]).to(torch.uint8).argsort(dim=1, stable=True)
    steps = (counts[:, None] > torch.arange(may.shape[1], device=may.device)).sum(0)
    return order, lists, [n for n in steps.tolist() if n]


def trace(world: Packed, d: Maps) -> tuple[Tensor, Tensor]:
    """Depth of the nearest solid and its number; FAR and -1 where rays meet nothing."""
    n, b = len(d[0]), len(world.solids)
    owner = torch.arange(n, device=d[0].device) // (n // b)
    middle = torch.stack([x.mean(1) for x in d], -1)
    middle = middle / middle.norm(dim=-1, keepdim=True)
    unit = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).rsqrt()
    cosine = (d[0] * middle[:, 0:1] + d[1] * middle[:, 1:2] + d[2] * middle[:, 2:3]) * unit
    wide = cosine.amin(1).clamp(-1, 1).acos() + 1e-3
    center, around = world.solids[..., :3], world.solids[..., AROUND]
    away = center.norm(dim=-1).clamp_min(1e-6)
    aim = torch.einsum("bti,bpi->btp", middle.view(b, -1, 3).double(), center.double()).float()
    bearing = (aim / away[:, None]).clamp(-1, 1).acos()
    near = (around / away).clamp(max=1).clamp_min(0).asin()
    may = bearing <= wide.view(b, -1, 1) + near[:, None] + 1e-3
    may = (may | (away <= around)[:, None]) & (around > 0)[:, None]
    may = may.view(n, -1)
    table = world.solids.flatten(0, 1)
    depth = torch.full_like(d[0], FAR)
    which = torch.full(d[0].shape, -1, dtype=torch.int32, device=depth.device)
    places = world.solids.shape[1]
    for first, some in ((0, may[:, : world.boxes]), (world.boxes, may[:, world.boxes :])):
        order, lists, steps = _order(some)
        ways = (d[0][order], d[1][order], d[2][order])
        depths, found, owners = depth[order], which[order], owner[order] * places + first
        for k, count in enumerate(steps):
            number = lists[:count, k]
            row = table[owners[:count] + number]
            part = (ways[0][:count], ways[1][:count], ways[2][:count])
            old = depths[:count]
            if first == 0:
                t, leave = hit_box(row, part, None)
                nearer = (t <= leave) & (t > _NEAR) & (t < old)
            else:
                t = hit_round(row, part, None)
                nearer = t < old
            depths[:count] = torch.where(nearer, t, old)
            mark = (number + first).to(torch.int32)[:, None]
            found[:count] = torch.where(nearer, mark, found[:count])
        depth, which = torch.empty_like(depth), torch.empty_like(which)
        depth[order], which[order] = depths, found
    return depth, which


def shaded(world: Packed, at: Maps, light: Maps, met: Bool[Tensor, "n r"]) -> Bool[Tensor, "n r"]:
    """Whether a solid is between points and the light, which is at `at + light`."""
    n, b = len(met), len(world.solids)
    low = torch.stack([torch.where(met, x, FAR).amin(1) for x in at], -1)
    high = torch.stack([torch.where(met, x, -FAR).amax(1) for x in at], -1)
    some = met.any(1)
    middle = torch.where(some[:, None], (low + high) / 2, 0.0)
    spread = torch.where(some, (high - low).norm(dim=-1) / 2, 0.0)
    way = _ways(world, middle, n // b)
    center, around = world.solids[..., :3], world.solids[..., AROUND]
    middle, way = middle.view(b, -1, 1, 3), way.view(b, -1, 1, 3)
    apart = center[:, None] - middle
    along = ((apart * way).sum(-1) / (way * way).sum(-1).clamp_min(1e-9)).clamp(0, 1)
    gap = (apart - along[..., None] * way).norm(dim=-1)
    may = gap * 0.999 <= around[:, None] + spread.view(b, -1, 1) + 0.02
    casts = (world.solids[..., CASTS] > 0) & (around > 0)
    may = (may & casts[:, None] & some.view(b, -1, 1)).view(n, -1)
    owner = torch.arange(n, device=met.device) // (n // b)
    table, places = world.solids.flatten(0, 1), world.solids.shape[1]
    dark = torch.zeros_like(met)
    for first, kinds in ((0, may[:, : world.boxes]), (world.boxes, may[:, world.boxes :])):
        order, lists, steps = _order(kinds)
        if not steps:
            continue
        busy = order[: steps[0]]
        o, d = [x[busy] for x in at], [x[busy] for x in light]
        shade, owners = dark[busy], owner[busy] * places + first
        for k, count in enumerate(steps):
            row = table[owners[:count] + lists[:count, k]]
            start = (o[0][:count], o[1][:count], o[2][:count])
            part = (d[0][:count], d[1][:count], d[2][:count])
            if first == 0:
                enter, leave = hit_box(row, part, start)
                hidden = (enter <= leave) & (leave > 1e-5) & (enter < 1)
            else:
                hidden = hit_round(row, part, start) < 1
            shade[:count] |= hidden
        dark[busy] = shade
    return dark


SUN = 400.0
"""How far away the sun is held to be, m."""


def _ways(world: Packed, points: Float[Tensor, "n 3"], tiles: int) -> Float[Tensor, "n 3"]:
    place = world.lights[:, None, :3]
    sun = world.lights[:, None, 3:4] > 0
    way = torch.where(sun, place * SUN, place - points.view(len(place), tiles, 3))
    return way.reshape(-1, 3)


def to_light(world: Packed, at: Maps, tiles: int) -> Maps:
    """Ways from points to the light."""
    place = world.lights[:, :3].repeat_interleave(tiles, 0)
    sun = (world.lights[:, 3] > 0).repeat_interleave(tiles)[:, None]
    way = [torch.where(sun, place[:, i, None] * SUN, place[:, i, None] - at[i]) for i in range(3)]
    return way[0], way[1], way[2]
