"""Moving scenes: a camera that goes and turns, things that go, exact flow and tracks.

A thing moves as a whole; its texture moves with it.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from foveal.data.taskworld import cast
from foveal.data.taskworld.build import Build
from foveal.data.taskworld.labels import Labels, check_device, check_size, render_exposed
from foveal.data.taskworld.scenes import canonical, hashed, look, sample_build
from foveal.data.taskworld.world import BOX, CLASSES, MAX_COUNT, VERSION, Camera, Dice, Scene, Solid
from foveal.errors import ArgumentError

Pose = tuple[float, float, float, float]
"""Where a thing is moved to from where the scene has it, m, and how it is turned about z, rad."""
MAX_FRAMES = 256
GROUND = CLASSES.index("ground")
RATE = 15.0
"""Frames a second that speeds are meant for."""


@dataclass(frozen=True)
class Clip:
    """A scene that moves.

    Args:
        scene: As it is before the first frame.
        cameras: One a frame.
        pivots: Of each thing, the point on the ground that it turns about, m.
        poses: Of each frame and thing.
    """

    scene: Scene
    cameras: tuple[Camera, ...]
    pivots: tuple[tuple[float, float], ...]
    poses: tuple[tuple[Pose, ...], ...]

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        if not self.cameras:
            raise ArgumentError("Clip: cameras is empty, must hold one a frame")
        if len(self.poses) != len(self.cameras):
            raise ArgumentError(
                f"Clip: poses has {len(self.poses)} frames, must have {len(self.cameras)} as "
                "cameras do"
            )
        things = max(s.thing for s in self.scene.solids) + 1
        if not things <= len(self.pivots) <= MAX_COUNT:
            raise ArgumentError(
                f"Clip: pivots has {len(self.pivots)}, must have one for each of {things} things"
            )
        for i, row in enumerate(self.poses):
            if len(row) != len(self.pivots):
                raise ArgumentError(
                    f"Clip: poses[{i}] has {len(row)}, must have {len(self.pivots)} as pivots do"
                )

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.cameras)

    def at(self, frame: int) -> Scene:
        """The still scene of a frame, counted from 0."""
        if not 0 <= frame < len(self):
            raise ArgumentError(f"Clip.at: frame is {frame}, must be from 0 to {len(self) - 1}")
        solids = tuple(
            s if s.thing < 0 else _moved(s, self.pivots[s.thing], self.poses[frame][s.thing])
            for s in self.scene.solids
        )
        return replace(self.scene, camera=self.cameras[frame], solids=solids)


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a clip; s is the size, k is `MAX_COUNT`.

    Args:
        labels: As of a still scene; a batch of one.
        flow: To the next frame, right and down, px: where what a pixel shows is then, whether it is
            seen or not. 0 in the sky and in the last frame, where the next one is this one.
        visible: Where the flow's end is inside the next frame and nothing hides it; False in the
            sky.
        boxes: Around the pixels that are seen of each thing: left, top, right, bottom, px, the
            latter two not included; 0 of things that are not seen.
        seen: Which things are.
        hidden: Share of a thing, of what is inside the frame, that others hide.
    """

    labels: Labels
    flow: Float[Tensor, "2 s s"]
    visible: Bool[Tensor, "s s"]
    boxes: Int64[Tensor, "k 4"]
    seen: Bool[Tensor, "k"]
    hidden: Float[Tensor, "k"]


def sample_clip(seed: int, split: str = "train", frames: int = 16) -> Clip:
    """Draw a moving scene: that of `sample`, whose camera moves, and some of its things.

    Args:
        seed: As of `sample`.
        split: As of `sample`.
        frames: From 1 to 256; meant for 15 a second. A longer clip begins as a shorter one does.

    Raises:
        ArgumentError: as `sample`, or a number of frames that is not allowed.
    """
    if isinstance(frames, bool) or not isinstance(frames, int) or not 1 <= frames <= MAX_FRAMES:
        raise ArgumentError(
            f"sample_clip: frames is {frames!r}, must be from 1 to {MAX_FRAMES}; cut longer clips"
        )
    scene, build = sample_build(seed, split, "sample_clip")
    dice = Dice(VERSION, "clip", split, seed)
    # Things keep out of the way of the camera of the longest clip, so that shorter ones are its
    # beginnings.
    cameras = _path(dice, scene, MAX_FRAMES)
    pivots, poses = _moves(dice, scene, build, cameras)
    return Clip(scene, cameras[:frames], pivots, poses[:frames])


def fingerprint_clips(split: str, seeds: Iterable[int], frames: int = 16) -> str:
    """SHA-256 of the descriptions of moving scenes, as `fingerprint` of still ones.

    Raises:
        ArgumentError: as `sample_clip`, or no seed.
    """
    clips = (sample_clip(i, split, frames) for i in seeds)
    return hashed((canonical(astuple(c)) for c in clips), "fingerprint_clips")


def _path(dice: Dice, scene: Scene, frames: int) -> tuple[Camera, ...]:
    """Back and forth along a line as far as it is free, and a slow turn; both smooth."""
    start = scene.camera
    speed, side = dice.between(-0.4, 1.2) / RATE, dice.between(-0.6, 0.6) / RATE
    turn, swing = dice.between(-0.35, 0.35), dice.between(0.5, 1.5)
    nod = dice.between(-0.05, 0.05)
    reach = {1: 0.0, -1: 0.0}
    for sign in (1, -1):
        for step in range(1, 31):
            depth, _ = look(list(scene.solids), _along(start, sign * step * 0.1, speed, side))
            if depth.min() < 0.35:
                break
            reach[sign] = step * 0.1 - 0.05
    middle, half = (reach[1] - reach[-1]) / 2, (reach[1] + reach[-1]) / 2
    pace = math.hypot(speed, side)
    path: list[Camera] = []
    for i in range(frames):
        way = 0.0
        if half > 0.04:
            way = middle + half * math.sin(pace / half * i + math.asin(-middle / half))
        sway = math.sin(swing * i / RATE) / swing
        path.append(
            _along(start, way, speed, side)._replace(
                yaw=round(start.yaw + turn * sway, 6), pitch=round(start.pitch + nod * sway, 6)
            )
        )
    return tuple(path)


def _along(start: Camera, length: float, speed: float, side: float) -> Camera:
    norm = max(1e-9, math.hypot(speed, side))
    a, b = length * speed / norm, length * side / norm
    x = start.position[0] + a * math.sin(start.yaw) + b * math.cos(start.yaw)
    y = start.position[1] + a * math.cos(start.yaw) - b * math.sin(start.yaw)
    return start._replace(position=(round(x, 6), round(y, 6), start.position[2]))


def _moves(
    dice: Dice, scene: Scene, build: Build, cameras: tuple[Camera, ...]
) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[Pose, ...], ...]]:
    """Where things turn about, and their poses: a mover goes ahead, slows down and comes back."""
    rest: Pose = (0.0, 0.0, 0.0, 0.0)
    pivots = [(0.0, 0.0)] * build.things
    for thing in range(build.things):
        parts = [s for s in scene.solids if s.thing == thing]
        x = sum(s.center[0] for s in parts) / max(1, len(parts))
        y = sum(s.center[1] for s in parts) / max(1, len(parts))
        pivots[thing] = (round(x, 5), round(y, 5))
    tracks = {t: [rest] * len(cameras) for t in range(build.things)}
    for thing, speed, heading in build.movers:
        goes, sway = dice.chance(0.8), dice.between(0.5, 1.5) * dice.between(-0.08, 0.08)
        free = _free(scene, thing, pivots[thing], heading, cameras)
        if not goes or free < 0.15:
            continue
        # The texture of what is round and upright does not turn along.
        if any(s.kind != BOX and not s.lying for s in scene.solids if s.thing == thing):
            sway = 0.0
        for i in range(len(cameras)):
            # Where there is little room, slowly: no thing trembles.
            way = free / 2 * (1 - math.cos(min(2 * speed / free, 1.6) / RATE * i))
            x, y = -math.sin(heading) * way, math.cos(heading) * way
            tracks[thing][i] = (
                round(x, 6), round(y, 6), 0.0, round(sway * math.sin(2 * i / RATE), 6)
            )  # fmt: skip
    frames = range(len(cameras))
    return tuple(pivots), tuple(tuple(tracks[t][i] for t in tracks) for i in frames)


def _free(
    scene: Scene, thing: int, pivot: tuple[float, float], heading: float,
    cameras: tuple[Camera, ...],
) -> float:  # fmt: skip
    """How far a thing can go ahead before it comes near others or the camera, at most 6 m."""
    own = [s for s in scene.solids if s.thing == thing]
    others = [s for s in scene.solids if s.thing != thing and s.label != GROUND]
    if not own or not others:
        return 0.0
    ahead, right = (-math.sin(heading), math.cos(heading)), (math.cos(heading), math.sin(heading))
    apart = [(s.center[0] - pivot[0], s.center[1] - pivot[1], s) for s in own]
    wide = max(abs(x * right[0] + y * right[1]) + min(s.half[:2]) for x, y, s in apart)
    long = max(abs(x * ahead[0] + y * ahead[1]) + max(s.half) for x, y, s in apart)
    far = 6.0
    for off in (-wide, 0.0, wide):
        for high in (0.3, 0.9):
            at = (pivot[0] + off * right[0], pivot[1] + off * right[1], high)
            depth, _ = look(others, Camera(at, -heading, 0.0, 0.0, 0.05))
            far = min(far, float(depth.min()) - long - 0.2)
    for camera in cameras:
        x, y = camera.position[0] - pivot[0], camera.position[1] - pivot[1]
        to, beside = x * ahead[0] + y * ahead[1], abs(x * right[0] + y * right[1])
        if to > -long and beside < wide + 0.6:
            far = min(far, to - long - 0.6)
    return round(max(0.0, far), 4)


def _moved(solid: Solid, pivot: tuple[float, float], pose: Pose) -> Solid:
    if pose == (0.0, 0.0, 0.0, 0.0):
        return solid
    c, s = math.cos(pose[3]), math.sin(pose[3])
    x, y = solid.center[0] - pivot[0], solid.center[1] - pivot[1]
    # Round solids that stand have no yaw of their own: their texture does not turn.
    center = (
        pivot[0] + c * x - s * y + pose[0], pivot[1] + s * x + c * y + pose[1],
        solid.center[2] + pose[2],
    )  # fmt: skip
    return solid._replace(center=center, yaw=solid.yaw + pose[3])


def render_clip(clip: Clip, size: int = 256, device: str | torch.device = "cpu") -> Iterator[Frame]:
    """Draw a clip, one frame at a time; the exposure stays that of the first.

    Args:
        clip: From `sample_clip`.
        size: As of `render`.
        device: As of `render`.

    Raises:
        ArgumentError: no clip, or a size that is not allowed.
        UnsupportedError: no such device here.

    Cost: as of `render` a frame; two frames are held at a time.
    """
    if not isinstance(clip, Clip):
        raise ArgumentError(
            f"render_clip: clip is {type(clip).__name__}, must be Clip; `sample_clip` draws one"
        )
    check_size("render_clip", size)
    return _frames(clip, size, check_device("render_clip", device))


def _frames(clip: Clip, size: int, device: torch.device) -> Iterator[Frame]:
    labels, gain = render_exposed([clip.at(0)], size, device, None)
    for i in range(len(clip)):
        last = i + 1 == len(clip)
        then = labels if last else render_exposed([clip.at(i + 1)], size, device, gain)[0]
        flow, visible = _flow(clip, i, i if last else i + 1, labels, then, size)
        boxes, seen = _boxes(labels.object_id[0])
        yield Frame(labels, flow, visible, boxes, seen, _hidden(clip, i, labels, size))
        labels = then


def _flow(
    clip: Clip, now: int, then: int, labels: Labels, after: Labels, size: int
) -> tuple[Float[Tensor, "2 s s"], Bool[Tensor, "s s"]]:
    device = labels.depth.device
    start, end = clip.cameras[now], clip.cameras[then]
    z, valid = labels.depth[0].double(), labels.valid[0]
    tangent = math.tan(start.fov / 2)
    steps = ((torch.arange(size, device=device) + 0.5) * (2 / size) - 1).double() * tangent
    points = torch.stack([steps * z, steps[:, None] * z, z])
    view = torch.from_numpy(cast.view_of(start)).to(device)
    world = torch.einsum("ij,ihw->jhw", view, points)
    world = world + torch.tensor(start.position, dtype=torch.float64, device=device)[:, None, None]
    # Of each thing: the turn and the way from one pose to the next; the last row is what stands.
    rows: list[list[float]] = []
    for pivot, a, b in zip(clip.pivots, clip.poses[now], clip.poses[then], strict=True):
        c, s = math.cos(b[3] - a[3]), math.sin(b[3] - a[3])
        rows.append(
            [
                c,
                s,
                pivot[0] + a[0],
                pivot[1] + a[1],
                b[0] - a[0],
                b[1] - a[1],
                b[2] - a[2],
            ]
        )
    rows.append([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    table = torch.tensor(rows, dtype=torch.float64, device=device)
    move = table[labels.object_id[0] % len(rows)].permute(2, 0, 1)
    x, y = world[0] - move[2], world[1] - move[3]
    moved = torch.stack([
        move[0] * x - move[1] * y + move[2] + move[4],
        move[1] * x + move[0] * y + move[3] + move[5],
        world[2] + move[6],
    ])  # fmt: skip
    eye = torch.tensor(end.position, dtype=torch.float64, device=device)[:, None, None]
    ahead = torch.from_numpy(cast.view_of(end)).to(device)
    seen = torch.einsum("ij,jhw->ihw", ahead, moved - eye)
    depth = seen[2].clamp_min(1e-3)
    scale = size / 2 / math.tan(end.fov / 2)
    px = seen[0] / depth * scale + size / 2 - 0.5
    py = seen[1] / depth * scale + size / 2 - 0.5
    grid = torch.arange(size, device=device, dtype=torch.float64)
    flow = torch.stack([px - grid, py - grid[:, None]]).float() * valid
    inside = (px >= -0.5) & (px <= size - 0.5) & (py >= -0.5) & (py <= size - 0.5)
    inside &= valid & (seen[2] > 0.01)
    ix, iy = px.round().long().clamp(0, size - 1), py.round().long().clamp(0, size - 1)
    there = torch.where(after.valid[0], after.depth[0], cast.FAR)
    # The end lies between pixels: a slanted surface may be that much nearer at the next one.
    slack = _slack(after)
    same = after.object_id[0][iy, ix] == labels.object_id[0]
    free = depth.float() <= there[iy, ix] * 1.005 + slack[iy, ix] + 0.005
    return flow, inside & free & same


def _slack(labels: Labels) -> Float[Tensor, "s s"]:
    """How much the depth changes from a pixel to the next on its own plane."""
    z = labels.depth
    n = labels.normal[0]
    steps = z[0] / z.shape[-1]
    tilt = (n[0].abs() + n[1].abs()) / n[2].abs().clamp_min(0.02)
    return torch.minimum(1.6 * steps * tilt, 0.3 * z[0])


def _boxes(thing: Int64[Tensor, "s s"]) -> tuple[Int64[Tensor, "k 4"], Bool[Tensor, "k"]]:
    is_thing = thing == torch.arange(MAX_COUNT, device=thing.device)[:, None, None]
    rows, columns = is_thing.any(2), is_thing.any(1)
    seen = rows.any(1)
    size = thing.shape[-1]
    parts: list[Tensor] = []
    for line in (columns, rows):
        first = line.to(torch.uint8).argmax(1)
        last = size - line.flip(1).to(torch.uint8).argmax(1)
        parts.append(torch.stack([first, last], 1))
    boxes = torch.stack([parts[0][:, 0], parts[1][:, 0], parts[0][:, 1], parts[1][:, 1]], 1)
    return boxes * seen[:, None], seen


def _hidden(clip: Clip, frame: int, labels: Labels, size: int) -> Float[Tensor, "k"]:
    """Draw every thing alone, and see how many of its pixels are seen in the frame."""
    scene, thing = clip.at(frame), labels.object_id[0]
    out = torch.zeros(MAX_COUNT, device=thing.device)
    pixels = (size // cast.TILES) ** 2
    for number in range(len(clip.pivots)):
        own = tuple(s for s in scene.solids if s.thing == number)
        if not own:
            continue
        world = cast.pack([replace(scene, solids=own)], thing.device)
        d = cast.rays(world, size)
        _, which = cast.trace(world, (d[0][:, :pixels], d[1][:, :pixels], d[2][:, :pixels]))
        full, left = (which >= 0).sum(), (thing == number).sum()
        out[number] = torch.where(full > 0, 1 - left / full.clamp_min(1), 0.0).clamp(0, 1)
    return out
