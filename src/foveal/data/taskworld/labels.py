"""Pictures and all their labels from one pass over the scenes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from foveal.data.taskworld import cast, shade
from foveal.data.taskworld.cast import FAR, LABEL, THING, Packed
from foveal.data.taskworld.world import BOX, CLASSES, CYLINDER, MAX_COUNT, Scene
from foveal.errors import ArgumentError, UnsupportedError

RAYS, MOST_RAYS, RAY_BYTES = 1 << 19, 1 << 25, 600
"""Rays cast at once, and on a GPU with much free memory; what one takes."""
SIZES = (32, 1024)
"""Smallest and largest side of a picture, px."""
REACH = 60.0
"""Corners farther away are no keypoints, m."""


@dataclass(frozen=True, eq=False)
class Labels:
    """What `render` makes; s is `size`. Axes of the camera: x right, y down, z ahead.

    Args:
        image: sRGB in [0, 1], four rays a pixel.
        scene_class: Of `SCENES`.
        segmentation: Of `CLASSES`, at the middle of the pixel as all that follows.
        normal: Unit, toward the camera; 0 in the sky.
        depth: Along z, m; 0 in the sky.
        valid: False in the sky.
        reshading: Cosine between the normal and the way to the camera: a white world with a lamp at
            the camera; 0 in the sky.
        occlusion_edge: Where depth jumps to the next pixel, in [0, 1].
        texture_edge: How fast the albedo changes on a surface, in [0, 1].
        curvature: Principal ones, 1/m: plane (0, 0), ball (1/r, 1/r), cylinder (1/r, 0).
        keypoints: Heat of corners and tops that are seen, in [0, 1].
        object_count: Things of which at least 1/2048 of the pixels are seen.
        object_id: Which thing; -1 is the background.
    """

    image: Float[Tensor, "b 3 s s"]
    scene_class: Int64[Tensor, "b"]
    segmentation: Int64[Tensor, "b s s"]
    normal: Float[Tensor, "b 3 s s"]
    depth: Float[Tensor, "b s s"]
    valid: Bool[Tensor, "b s s"]
    reshading: Float[Tensor, "b s s"]
    occlusion_edge: Float[Tensor, "b s s"]
    texture_edge: Float[Tensor, "b s s"]
    curvature: Float[Tensor, "b 2 s s"]
    keypoints: Float[Tensor, "b s s"]
    object_count: Int64[Tensor, "b"]
    object_id: Int64[Tensor, "b s s"]


def check_size(where: str, size: int) -> None:
    """Refuse what is no side of a picture."""
    low, high = SIZES
    fits = isinstance(size, int) and low <= size <= high and size % cast.TILES == 0
    if not fits or isinstance(size, bool):
        raise ArgumentError(
            f"{where}: size is {size!r}, must be a multiple of {cast.TILES} from {low} to {high}; "
            "render larger and resize"
        )


def check_device(where: str, device: str | torch.device) -> torch.device:
    """Refuse what is no device that is here."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UnsupportedError(
            f"{where}: device is {device!r}, must be one that torch has here; pass 'cpu'"
        ) from error
    return found


def render(scenes: Sequence[Scene], size: int = 256, device: str | torch.device = "cpu") -> Labels:
    """Draw scenes with all labels.

    Args:
        scenes: From `sample`.
        size: Side of the pictures, px: a multiple of 16 from 32 to 1024.
        device: Where it is done, and where the labels are.

    Raises:
        ArgumentError: no scene, no scene of these, or a size that is not allowed.
        UnsupportedError: no such device here.

    Cost: linear in the rays, five a pixel, and in the solids that a tile of 1/16 of a side may
        meet. Memory beside the labels is bounded: about 300 MB, on a GPU a quarter of what is free
        and at most 20 GB; or what one picture needs, 3 kB a pixel.
    """
    return render_exposed(scenes, size, device, None)[0]


def _rays_at_once(device: torch.device) -> int:
    if device.type != "cuda":
        return RAYS
    free, _ = torch.cuda.mem_get_info(device)
    return min(MOST_RAYS, max(RAYS, free // 4 // RAY_BYTES))


def render_exposed(
    scenes: Sequence[Scene], size: int, device: str | torch.device, gain: Tensor | None
) -> tuple[Labels, Tensor]:
    """As `render`, with the gains of the exposure, which may be given."""
    check_size("render", size)
    if isinstance(scenes, Scene):
        raise ArgumentError("render: scenes is a Scene, must be a list of them; put it in one")
    scenes = list(scenes)
    for i, scene in enumerate(scenes):
        if not isinstance(scene, Scene):
            raise ArgumentError(
                f"render: scenes[{i}] is {type(scene).__name__}, must be Scene; `sample` draws one"
            )
    if not scenes:
        raise ArgumentError("render: scenes is empty, must hold a scene at least; sample one")
    found = check_device("render", device)
    step = max(1, _rays_at_once(found) // (5 * size * size))
    parts: list[Labels] = []
    gains: list[Tensor] = []
    with torch.no_grad():
        for first in range(0, len(scenes), step):
            some = scenes[first : first + step]
            known = None if gain is None else gain[first : first + step]
            part, used = _render(some, size, found, known)
            parts.append(part)
            gains.append(used)
    if len(parts) == 1:
        return parts[0], gains[0]
    joined = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Labels)}
    return Labels(**joined), torch.cat(gains)


def _render(
    scenes: list[Scene], size: int, device: torch.device, gain: Tensor | None
) -> tuple[Labels, Tensor]:
    world = cast.pack(scenes, device)
    d = cast.rays(world, size)
    depth, which = cast.trace(world, d)
    pixels = (size // cast.TILES) ** 2
    seen = shade.surface(world, d, depth, which)
    mid, sub = slice(0, pixels), slice(pixels, None)
    ways = (d[0][:, sub], d[1][:, sub], d[2][:, sub])
    quarters = _part(seen, sub)
    color, lit = shade.paint(world, ways, depth[:, sub], quarters, size)
    light = torch.stack([cast.whole(x, size).mean(1) for x in lit], 1)
    image, used = shade.expose(light, world.lights[:, 11], gain)

    middle = _part(seen, mid)
    table = world.solids.flatten(0, 1).t().contiguous()

    def image_of(x: Tensor) -> Tensor:
        return cast.whole(x, size)[:, 0]

    valid = image_of(middle.met)
    label = torch.where(middle.met, table[LABEL][middle.row].long(), CLASSES.index("sky"))
    label = torch.where(shade.panes(world, middle), CLASSES.index("opening"), label)
    thing = torch.where(middle.met, table[THING][middle.row].long(), -1)
    thing = image_of(thing)
    normal = torch.stack([image_of(x) for x in middle.normal], 1)
    turned = [(world.views[:, i, :, None, None] * normal).sum(1) for i in range(3)]
    normal = torch.stack(turned, 1) * valid[:, None]
    z = image_of(depth[:, mid])
    part = middle.row * 8 + middle.face
    surface_id = torch.where(middle.met, part, -1)
    own = surface_id[:, None].expand(-1, 4, -1).flatten(1)
    other = torch.where(quarters.met, quarters.row * 8 + quarters.face, -1)
    same = cast.whole((other == own).float(), size)
    albedo = torch.stack([(cast.whole(x, size) * same).sum(1) for x in color], 1)
    weight = same.sum(1)
    albedo = (albedo / weight.clamp_min(1)[:, None]).clamp_min(1e-4).pow(1 / 2.2)
    ids = torch.where(weight > 0, image_of(surface_id), -1)
    curvature = torch.stack([image_of(x) for x in middle.bend], 1) * valid[:, None]
    classes = torch.tensor([s.scene_class for s in scenes], device=device)
    return Labels(
        image=image,
        scene_class=classes,
        segmentation=image_of(label),
        normal=normal,
        depth=torch.where(valid, z, 0.0),
        valid=valid,
        reshading=(image_of(middle.facing).clamp(0, 1) * valid),
        occlusion_edge=occlusion_edges(world, z, normal, valid),
        texture_edge=texture_edges(albedo, ids),
        curvature=curvature,
        keypoints=keypoints(world, corners(scenes), z, size),
        object_count=count(thing, size),
        object_id=thing,
    ), used


def _part(seen: shade.Surface, some: slice) -> shade.Surface:
    def cut(x: Tensor) -> Tensor:
        return x[:, some]

    return replace(
        seen, met=cut(seen.met), row=cut(seen.row), u=cut(seen.u), v=cut(seen.v),
        normal=(cut(seen.normal[0]), cut(seen.normal[1]), cut(seen.normal[2])),
        bend=(cut(seen.bend[0]), cut(seen.bend[1])), face=cut(seen.face),
        material=cut(seen.material), facing=cut(seen.facing),
    )  # fmt: skip


def count(thing: Int64[Tensor, "b s s"], size: int) -> Int64[Tensor, "b"]:
    """Things with at least 1/2048 of the pixels."""
    numbers = thing.flatten(1) + 1
    totals = torch.zeros(len(thing), MAX_COUNT + 1, dtype=torch.int64, device=thing.device)
    totals.scatter_add_(1, numbers, torch.ones_like(numbers))
    return (totals[:, 1:] >= max(1, size * size // 2048)).sum(1)


def occlusion_edges(
    world: Packed, depth: Tensor, normal: Tensor, valid: Tensor
) -> Float[Tensor, "b s s"]:
    """How far the next pixels are from the plane of this one, for its own depth; blurred a little.

    A jump by 20 % of the depth is a whole edge, one by 4 % is none. Two surfaces that touch in a
    corner have none.
    """
    size = depth.shape[-1]
    steps = (torch.arange(size, device=depth.device) + 0.5) * (2 / size) - 1
    slope = world.slope.view(-1, 1, 1)
    x, y = (steps * slope).expand(-1, size, -1), (steps[:, None] * slope).expand(-1, -1, size)
    far = torch.where(valid, depth, FAR)
    d_here = normal[:, 0] * x + normal[:, 1] * y + normal[:, 2]
    jump = torch.zeros_like(depth)
    for dim in (1, 2):
        for sign in (-1, 1):
            there = far.roll(sign, dim)
            nx, ny = x.roll(sign, dim), y.roll(sign, dim)
            d_there = normal[:, 0] * nx + normal[:, 1] * ny + normal[:, 2]
            plane = far * d_here / torch.where(d_there.abs() < 1e-6, -1e-6, d_there)
            plane = torch.where(plane > 0, plane, FAR)
            m = normal.roll(sign, dim)
            back = there * (m[:, 0] * nx + m[:, 1] * ny + m[:, 2])
            d_back = m[:, 0] * x + m[:, 1] * y + m[:, 2]
            other = back / torch.where(d_back.abs() < 1e-6, -1e-6, d_back)
            other = torch.where(other > 0, other, FAR)
            nearer = torch.minimum(far, there)
            # On one smooth or broken surface, one of both planes leads to the other point.
            gap = torch.minimum((there - plane).abs(), (far - other).abs())
            gap = torch.minimum(gap, (there - far).abs()) / nearer
            edge = torch.zeros_like(depth)
            inner = [slice(None)] * 3
            inner[dim] = slice(1, None) if sign == 1 else slice(0, -1)
            edge[tuple(inner)] = ((gap - 0.04) / 0.16).clamp(0, 1)[tuple(inner)]
            both_sky = ~valid & ~valid.roll(sign, dim)
            jump = torch.maximum(jump, torch.where(both_sky, 0.0, edge))
    return _blur(jump)


def _blur(x: Float[Tensor, "b s s"]) -> Float[Tensor, "b s s"]:
    p = F.pad(x[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    p = (p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]) / 4
    return ((p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]) / 4).clamp(0, 1)


def texture_edges(
    albedo: Float[Tensor, "b 3 s s"], surface: Int64[Tensor, "b s s"]
) -> Float[Tensor, "b s s"]:
    """1 - exp(-6 g), with g the change of the albedo's 1/2.2nd power from pixel to pixel.

    Only pixels on the same side of the same solid are compared; the sky has no texture.
    """
    total = torch.zeros_like(albedo[:, 0])
    for dim in (1, 2):
        change = torch.zeros_like(albedo)
        weight = torch.zeros_like(total)
        for sign in (-1, 1):
            same = (surface == surface.roll(sign, dim)) & (surface >= 0)
            inside = torch.zeros_like(same)
            inner = [slice(None)] * 3
            inner[dim] = slice(1, None) if sign == 1 else slice(0, -1)
            inside[tuple(inner)] = same[tuple(inner)]
            step = (albedo - albedo.roll(sign, dim + 1)) * sign
            change = change + torch.where(inside[:, None], step, 0.0)
            weight = weight + inside
        mean = change / weight.clamp_min(1)[:, None]
        total = total + (mean * mean).mean(1)
    return 1 - torch.exp(-6 * total.sqrt())


def corners(scenes: Sequence[Scene]) -> Float[Tensor, "b k 3"]:
    """Corners of boxes, but for the largest, and tops of round solids; NaN pads."""
    rows: list[list[tuple[float, float, float]]] = []
    for scene in scenes:
        row: list[tuple[float, float, float]] = []
        for solid in scene.solids:
            x, y, z = solid.center
            if solid.kind == BOX and max(solid.half) < 12:
                c, s = math.cos(solid.yaw), math.sin(solid.yaw)
                hx, hy, hz = solid.half
                for i in range(8):
                    px, py = hx * (1 - 2 * (i & 1)), hy * (1 - (i & 2))
                    row.append(
                        (x + c * px - s * py, y + s * px + c * py, z + hz * (1 - (i & 4) / 2))
                    )
            elif solid.kind != BOX and not solid.lying:
                half = solid.half[2] + (0 if solid.kind == CYLINDER else solid.half[0])
                row.append((x, y, z + half))
            elif solid.kind != BOX:
                row.append((x, y, z + solid.half[0]))
        rows.append(row)
    longest = max(1, *(len(r) for r in rows)) if len(rows) > 1 else max(1, len(rows[0]))
    table = np.full((len(rows), longest, 3), np.nan)
    for i, (row, scene) in enumerate(zip(rows, scenes, strict=True)):
        if row:
            view = cast.view_of(scene.camera)
            table[i, : len(row)] = np.subtract(row, scene.camera.position) @ view.T
    return torch.from_numpy(table).float()


def keypoints(
    world: Packed, points: Float[Tensor, "b k 3"], depth: Tensor, size: int
) -> Float[Tensor, "b s s"]:
    """Heat of points in the camera's axes that no surface hides; sigma is 1/128 of the side."""
    points = points.to(depth.device, non_blocking=True)
    z = points[..., 2]
    usable = (z > 0.2) & (z < REACH)
    safe = torch.where(usable, z, 1.0)
    slope = world.slope[:, None]
    px = (points[..., 0] / safe / slope + 1) * (size / 2) - 0.5
    py = (points[..., 1] / safe / slope + 1) * (size / 2) - 0.5
    usable &= (px > -0.5) & (px < size - 0.5) & (py > -0.5) & (py < size - 0.5)
    px, py = torch.where(usable, px, 0.0), torch.where(usable, py, 0.0)
    ix, iy = px.round().long(), py.round().long()
    farthest = F.max_pool2d(depth[:, None], 3, 1, 1).flatten(1)
    place = (iy.clamp(0, size - 1) * size + ix.clamp(0, size - 1)).clamp(0, size * size - 1)
    usable &= z <= farthest.gather(1, place) * 1.01 + 0.02
    sigma = size / 128
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=depth.device)
    qx, qy = ix[..., None, None] + offsets, iy[..., None, None] + offsets[:, None]
    qx, qy = torch.broadcast_tensors(qx, qy)
    far2 = (qx - px[..., None, None]) ** 2 + (qy - py[..., None, None]) ** 2
    heat = torch.exp(-far2 / (2 * sigma * sigma))
    inside = (qx >= 0) & (qx < size) & (qy >= 0) & (qy < size) & usable[..., None, None]
    heat = torch.where(inside, heat, 0.0)
    place = (qy.clamp(0, size - 1) * size + qx.clamp(0, size - 1)).flatten(1)
    out = torch.zeros(len(depth), size * size, device=depth.device)
    out.scatter_reduce_(1, place, heat.flatten(1), "amax")
    return out.view_as(depth)
