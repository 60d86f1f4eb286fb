"""A seed becomes a scene: class, layout, what stands in it, light, and where the camera is."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from foveal.data.taskworld import paints
from foveal.data.taskworld.build import Build
from foveal.data.taskworld.cast import view_of
from foveal.data.taskworld.rooms import ROOMS, View
from foveal.data.taskworld.streets import STREETS
from foveal.data.taskworld.world import (
    BOX,
    CYLINDER,
    SCENES,
    SPLITS,
    VERSION,
    Camera,
    Dice,
    Light,
    Scene,
    Solid,
)  # fmt: skip
from foveal.errors import ArgumentError

LAYOUTS = {**ROOMS, **STREETS}
_TRIES = 10
_GRID = 11


def check_seed(where: str, seed: int, split: str) -> None:
    """Refuse what names no scene."""
    if split not in SPLITS:
        raise ArgumentError(f"{where}: split is {split!r}, must be one of {', '.join(SPLITS)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ArgumentError(
            f"{where}: seed is {seed!r}, must be a whole number from 0 to 2^63 - 1; count from 0"
        )


def sample(seed: int, split: str = "train") -> Scene:
    """Draw a scene: the same on every machine.

    Args:
        seed: Which one, from 0 on.
        split: "train", "val" and "test" are never the same scenes; "shift" has the layouts, one of
            each class, that no other split has.

    Raises:
        ArgumentError: a negative seed, no whole number, or an unknown split.
    """
    return sample_build(seed, split)[0]


def sample_build(seed: int, split: str, where: str = "sample") -> tuple[Scene, Build]:
    """As `sample`, with what the scene was built in, mirrored as the scene is."""
    check_seed(where, seed, split)
    dice = Dice(VERSION, split, seed)
    name = dice.pick(SCENES)
    layouts, fill = LAYOUTS[name]
    layout = layouts - 1 if split == "shift" else dice.count(0, layouts - 2)
    b = Build(dice)
    views = fill(b, layout)
    inside = name in ROOMS
    sky = b.paint(paints.sky(dice))
    height = dice.between(1.0, 1.9) if inside else dice.between(1.1, 2.2)
    light = _light(dice, b, inside)
    mirrored = dice.chance(0.5)
    if mirrored:
        b.solids = [_mirror(s) for s in b.solids]
        views = [(-x, y, -tx, ty) for x, y, tx, ty in views]
        b.movers = [(n, speed, -heading) for n, speed, heading in b.movers]
        light = light._replace(place=(-light.place[0], *light.place[1:]))
    b.mirrored = mirrored
    camera = _choose(dice, b, views, height, inside)
    return Scene(
        VERSION, split, seed, SCENES.index(name), layout, camera, light, tuple(b.solids),
        tuple(b.materials), sky,
    ), b  # fmt: skip


def _mirror(s: Solid) -> Solid:
    return s._replace(center=(-s.center[0], *s.center[1:]), yaw=-s.yaw)


def _light(dice: Dice, b: Build, inside: bool) -> Light:
    warm = dice.between(-0.15, 0.2)
    tint = (round(1 + warm, 4), 1.0, round(1 - warm, 4))
    key = round(dice.between(0.18, 0.42), 4)
    if not inside:
        turn, lift = dice.between(0, 2 * math.pi), dice.between(0.35, 1.25)
        place = (
            round(math.cos(turn) * math.cos(lift), 5), round(math.sin(turn) * math.cos(lift), 5),
            round(math.sin(lift), 5),
        )  # fmt: skip
        sun = 0.0 if dice.chance(0.15) else dice.between(0.8, 3)
        color = (round(sun * tint[0], 4), round(sun, 4), round(sun * tint[2], 4))
        grey = dice.between(0.35, 0.7)
        ambient = (round(grey * (1 - warm / 2), 4), round(grey, 4), round(grey * (1 + warm / 2), 4))
        fog = round(dice.scale(0.0005, 0.012), 5)
        return Light(place, True, color, ambient, fog, key)
    # Just under the first lamp, or where the room's middle is.
    lit = [s for s in b.solids if s.label == 2 and b.materials[s.material].glow > 0]
    x, y, z = lit[0].center if lit else (0.0, 2.0, 2.4)
    top = max((s.center[2] for s in b.solids if s.label == 2), default=2.5)
    place = (
        round(x + dice.between(-0.3, 0.3), 4),
        round(y + dice.between(-0.3, 0.3), 4),
        round(min(z, top) - 0.25, 4),
    )
    power, grey = dice.between(1, 4), dice.between(0.2, 0.5)
    return Light(
        place, False, (round(power * tint[0], 4), round(power, 4), round(power * tint[2], 4)),
        (round(grey * tint[0], 4), round(grey, 4), round(grey * tint[2], 4)), 0.0, key,
    )  # fmt: skip


def _choose(dice: Dice, b: Build, views: list[View], height: float, inside: bool) -> Camera:
    """The first view that is open and shows things, or else the best."""
    best, best_score = None, -math.inf
    need = min(4, b.things)
    for x, y, tx, ty in views[:_TRIES]:
        yaw = math.atan2(tx - x, ty - y) + dice.between(-0.12, 0.12)
        pitch = dice.between(-0.02, 0.3) if inside else dice.between(-0.06, 0.14)
        camera = Camera(
            (round(x, 4), round(y, 4), round(height, 4)), round(yaw, 5), round(pitch, 5),
            round(dice.between(-0.05, 0.05), 5), round(math.radians(dice.between(50, 75)), 5),
        )  # fmt: skip
        depth, things = look(b.solids, camera)
        close = float((depth < 0.8).mean()) + float((depth < 1.4).mean()) / 2
        score = min(things, need) / max(1, need) - 4 * close - 4 * float(depth.min() < 0.3)
        if score > best_score:
            best, best_score = camera, score
        if things >= need and close < 0.08 and depth.min() > 0.4:
            break
    assert best is not None
    return best


def look(solids: list[Solid], camera: Camera) -> tuple[NDArray[np.float64], int]:
    """Depths of a few rays, and how many things they meet; 0 where the camera is in a solid."""
    steps = (np.arange(_GRID) + 0.5) * (2 / _GRID) - 1
    slope = np.tan(camera.fov / 2)
    x, y = np.meshgrid(steps * slope, steps * slope)
    d = np.stack([x.ravel(), y.ravel(), np.ones(_GRID**2)], -1) @ view_of(camera)
    center = np.array([s.center for s in solids]) - np.array(camera.position)
    half = np.array([s.half for s in solids])
    yaw = np.array([s.yaw for s in solids])
    kind = np.array([s.kind for s in solids])
    lying = np.array([s.lying for s in solids])
    # Round solids are taken for the boxes around them: near enough to choose a view.
    round_ = kind != BOX
    extra = np.where(kind == CYLINDER, 0, half[:, 0])
    size = half.copy()
    size[round_, 2] += extra[round_]
    flat = round_ & lying
    size[flat] = np.stack([half[flat, 2] + extra[flat], half[flat, 0], half[flat, 0]], -1)
    c, s = np.cos(yaw), np.sin(yaw)
    ways = np.stack([
        c * d[:, :1] + s * d[:, 1:2], c * d[:, 1:2] - s * d[:, :1], 
        np.broadcast_to(d[:, 2:], (len(d), len(c))),
    ])  # fmt: skip
    start = -np.stack(
        [c * center[:, 0] + s * center[:, 1], c * center[:, 1] - s * center[:, 0], center[:, 2]]
    )
    way = 1 / np.where(np.abs(ways) < 1e-9, 1e-9, ways)
    middle, reach = -start[:, None] * way, size.T[:, None] * np.abs(way)
    enter, leave = (middle - reach).max(0), (middle + reach).min(0)
    t = np.where((enter <= leave) & (leave > 0), np.maximum(enter, 0), 1e4)
    which = t.argmin(1)
    depth = t[np.arange(len(t)), which]
    thing = np.array([s.thing for s in solids])[which]
    thing[depth >= 1e4] = -1
    return depth, len(set(thing[thing >= 0].tolist()))


def canonical(x: object) -> str:
    """One text for one description: all its numbers to 5 decimals."""

    def plain(x: object) -> object:
        if isinstance(x, bool | int | str):
            return x
        if isinstance(x, float):
            return f"{x:.5f}" if abs(x) >= 5e-6 else "0.00000"
        assert isinstance(x, tuple)
        return [plain(y) for y in x]

    return json.dumps(plain(x), separators=(",", ":"))


def hashed(texts: Iterable[str], where: str) -> str:
    """SHA-256 of lines, of which there must be one."""
    digest, some = hashlib.sha256(), False
    for text in texts:
        digest.update((text + "\n").encode())
        some = True
    if not some:
        raise ArgumentError(f"{where}: seeds is empty, must hold a seed at least")
    return digest.hexdigest()


def fingerprint(split: str, seeds: Iterable[int]) -> str:
    """SHA-256 of the descriptions of scenes, one a line: tells whether the world is the same.

    Raises:
        ArgumentError: as `sample`, or no seed.
    """
    return hashed((canonical(astuple(sample(i, split))) for i in seeds), "fingerprint")
