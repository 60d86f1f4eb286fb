"""Layouts outdoors: the way goes along y, the camera looks about along it."""

import math
from collections.abc import Callable

from foveal.data.taskworld import furniture as f
from foveal.data.taskworld import outdoors as o
from foveal.data.taskworld import paints
from foveal.data.taskworld.build import Build
from foveal.data.taskworld.rooms import View


def _ground(b: Build, paint: int) -> None:
    b.box((0, 30, -0.5), (120, 120, 0.5), "ground", paint, casts=False)


def _houses(b: Build, side: int, edge: float, first: float, last: float, count: int) -> None:
    """A row of houses whose fronts stand about at x = side * edge."""
    dice, long = b.dice, (last - first) / count
    for i in range(count):
        high, deep = dice.between(2, 5.5), dice.between(0, 1.2)
        at = (side * (edge + deep + 4), first + (i + 0.5) * long, high)
        b.box(at, (4, long / 2 - dice.between(0, 0.6), high), "wall", b.paint(_front(b)))


def _front(b: Build):
    return (paints.facade if b.dice.chance(0.8) else paints.bricks)(b.dice)


def _walks(b: Build, road: float, walk: float) -> None:
    """Raised walks on both sides of a road."""
    paint = b.paint(b.dice.pick((paints.tiles, paints.stone, paints.bricks))(b.dice))
    for side in (-1, 1):
        b.box((side * (road + walk), 30, 0.06), (walk, 80, 0.06), "ground", paint, casts=False)


def _marks(b: Build, x: float) -> None:
    """A broken line along the road."""
    paint = b.paint(paints.plain(b.dice, (0.7, 0.7, 0.65)))
    for i in range(4):
        b.box((x, 3 + 6 * i, 0.0), (0.08, 1.3, 0.006), "ground", paint, casts=False)


def _crowd(b: Build, low: int, high: int, width: float, near: float, far: float) -> None:
    dice = b.dice
    for _ in range(dice.count(low, high)):
        at = (dice.between(-width, width), dice.between(near, far), dice.between(0, 6.28))
        o.person(b, at)


def _along(b: Build, width: float, near: float, far: float) -> list[View]:
    dice, views = b.dice, list[View]()
    for _ in range(24):
        x, y = dice.between(-width, width), dice.between(near, far)
        views.append((x, y, dice.between(-1.2, 1.2) * width * 0.8, y + dice.between(9, 16)))
    return views


def _street(b: Build, layout: int) -> list[View]:
    dice = b.dice
    road, walk = dice.between(2.8, 4.2), dice.between(0.8, 1.5)
    edge = road + 2 * walk
    _ground(b, b.paint(paints.stone(dice)))
    if layout == 0:
        _walks(b, road, walk)
        for side in (-1, 1):
            _houses(b, side, edge, -8, 50, 3)
    elif layout == 1:
        _walks(b, road, walk)
        side = dice.sign()
        _houses(b, side, edge, -8, 50, 3)
        park = b.paint(paints.leaves(dice))
        b.box((-side * (edge + 20), 30, 0.05), (20, 80, 0.05), "ground", park)
        for i in range(3):
            o.tree(b, (-side * (edge + dice.between(0.6, 3)), 6 + 6 * i + dice.between(-1, 1), 0))
        o.bush(b, (-side * (edge + 0.8), dice.between(4, 9), math.pi / 2))
    elif layout == 2:
        cross = dice.between(9, 15)
        for side in (-1, 1):
            high = dice.between(2.5, 5.5)
            b.box(
                (side * (edge + 6), cross / 2 - 9, high),
                (6, cross / 2 + 5, high),
                "wall",
                b.paint(_front(b)),
            )
            high = dice.between(2.5, 5.5)
            b.box((side * (edge + 6), cross + 27, high), (6, 18, high), "wall", b.paint(_front(b)))
            o.post(b, (side * (road + 0.5), cross - 3.5, 0))
        o.car(b, (dice.between(-6, 6), cross + 1.5, math.pi / 2 * dice.sign()))
    else:
        end = dice.between(16, 26)
        _walks(b, road, walk)
        for side in (-1, 1):
            _houses(b, side, edge, -8, end - 5, 2)
            o.post(b, (side * (road + 0.4), end - 4, 0))
        high = dice.between(3, 6)
        b.box((0, end + 5, high), (30, 4, high), "wall", b.paint(_front(b)))
    _marks(b, dice.between(-0.3, 0.3))
    for _ in range(dice.count(1, 5)):
        side = dice.sign()
        lane = side * (road - dice.between(0.9, 1.3))
        turn = (0 if side > 0 else math.pi) + dice.between(-0.06, 0.06)
        vehicle = o.car if dice.chance(0.7) else o.truck
        vehicle(b, (lane, dice.between(5, 26), turn), dice.chance(0.5))
    for _ in range(dice.count(2, 7)):
        side = dice.sign()
        at = (
            side * (road + dice.between(0.3, 2 * walk - 0.4)),
            dice.between(3, 18),
            dice.between(-0.3, 0.3),
        )
        dice.pick((o.tree, o.post, o.bollard, o.bush, o.bicycle, f.bin_))(b, at)
    _crowd(b, 0, 5, edge - 0.4, 3.5, 16)
    return _along(b, edge - 0.6, -2, 1)


def _plaza(b: Build, layout: int) -> list[View]:
    dice = b.dice
    half, far = dice.between(9, 14), dice.between(18, 26)
    _ground(b, b.paint(dice.pick((paints.tiles, paints.stone, paints.bricks, paints.checks))(dice)))
    _houses(b, -1, half, -4, far, 2)
    _houses(b, 1, half, -4, far, 2)
    for i in range(2):
        high = dice.between(2.5, 7)
        b.box(
            ((i - 0.5) * half * 1.3, far + 6, high),
            (half * 0.6, 4, high),
            "wall",
            b.paint(_front(b)),
        )
    middle = far * 0.42
    if layout == 0:
        o.fountain(b, (dice.between(-1, 1), middle, 0), dice.between(1.2, 2.2))
        for i in range(3):
            a = i * 2.1 + dice.between(-0.3, 0.3)
            o.bench(b, (math.sin(a) * 4.4, middle - math.cos(a) * 4.4, a + math.pi))
    elif layout == 1:
        for side in (-1, 1):
            for i in range(2):
                at = (side * dice.between(3, 5), middle - 2 + 6 * i, -side * math.pi / 2)
                o.kiosk(b, at)
    elif layout == 2:
        o.statue(b, (0, middle, dice.between(0, 1)))
        for side in (-1, 1):
            for i in range(3):
                o.tree(b, (side * half * dice.between(0.4, 0.6), 5 + 5 * i, 0))
    else:
        r = dice.between(3.4, 5)
        for i in range(7):
            a = i * 0.898
            o.bollard(b, (math.sin(a) * r, middle - math.cos(a) * r, 0))
        o.tree(b, (0, middle, 0))
        for side in (-1, 1):
            o.bench(b, (side * 1.8, middle, -side * math.pi / 2))
    _crowd(b, 1, 6, half * 0.5, 3.5, far * 0.6)
    for _ in range(dice.count(2, 7)):
        at = (dice.between(-0.6, 0.6) * half, dice.between(3, 13), dice.between(0, 6.28))
        kind = dice.count(0, 4)
        if kind == 0:
            f.ball(b, at, dice.between(0.12, 0.4))
        else:
            (o.post, o.bush, o.bollard, o.bench)[kind - 1](b, at)
    return _along(b, half * 0.5, -2, 1.5)


def _underpass(b: Build, layout: int) -> list[View]:
    dice = b.dice
    half, long, h = dice.between(4, 7), dice.between(16, 30), dice.between(2.8, 4)
    if layout == 3:
        half = dice.between(2.2, 3)
    _ground(b, b.paint(dice.pick((paints.stone, paints.stone, paints.tiles))(dice)))
    deck, side_wall = (
        b.paint(paints.stone(dice)),
        b.paint(dice.pick((paints.bricks, paints.tiles, paints.stone, paints.sign))(dice)),
    )
    b.box((0, long / 2 - 3, h + 0.6), (half + 6, long / 2, 0.6), "ceiling", deck)
    open_side = dice.sign() if dice.chance(0.4) and layout != 3 else 0
    for side in (-1, 1):
        if side != open_side:
            b.box(
                (side * (half + 0.3), long / 2 - 3, h / 2),
                (0.3, long / 2, h / 2),
                "wall",
                side_wall,
            )
    b.box(
        (dice.between(-8, 8), long + dice.between(12, 25), 3.5),
        (9, 3, dice.between(2.5, 4)),
        "wall",
        b.paint(_front(b)),
    )
    beam = b.paint(paints.stone(dice))
    for i in range(3):
        b.box((0, long * (0.1 + 0.28 * i), h - 0.15), (half, 0.2, 0.15), "ceiling", beam)
    paint, rounded, r = (
        b.paint(dice.pick((paints.stone, paints.stripes, paints.tiles))(dice)),
        dice.chance(0.5),
        dice.between(0.22, 0.42),
    )
    if layout == 0:
        for side in (-1, 1):
            for i in range(4):
                o.pillar(b, (side * half * 0.55, 1.5 + i * long * 0.2, 0), h, paint, rounded, r)
        o.car(b, (dice.between(-0.8, 0.8), dice.between(6, 14), dice.pick((0, math.pi))))
    elif layout == 1:
        for i in range(5):
            o.pillar(b, (dice.between(-0.2, 0.2), 2.5 + i * long * 0.17, 0), h, paint, rounded, r)
        for side in (-1, 1):
            turn = 0 if side > 0 else math.pi
            (o.car if dice.chance(0.7) else o.truck)(
                b, (side * half * 0.5, dice.between(5, 15), turn)
            )
    elif layout == 2:
        for i in range(4):
            x = -half * 0.72 + i * half * 0.48
            if dice.chance(0.75):
                o.car(b, (x, long * 0.45 + dice.between(-0.4, 0.4), dice.between(-0.1, 0.1)), False)
        for i in range(3):
            o.pillar(b, ((i - 1) * half * 0.8, long * 0.25, 0), h, paint, rounded, r)
    else:
        for i in range(3):
            side = dice.sign()
            o.barrier(b, (side * half * 0.45, 3 + 4 * i, dice.between(-0.3, 0.3)))
        for _ in range(2):
            o.bicycle(b, (half * 0.8 * dice.sign(), dice.between(4, 12), dice.between(-0.2, 0.2)))
        for i in range(3):
            o.pillar(b, (half * 0.9, 3 + i * 5, 0), h, paint, rounded, 0.2)
    _crowd(b, 0, 4, half * 0.8, 3, 14)
    for _ in range(dice.count(1, 6)):
        at = (dice.between(-0.85, 0.85) * half, dice.between(2.5, 10), dice.between(0, 6.28))
        kind = dice.count(0, 3)
        if kind == 0:
            f.ball(b, at, dice.between(0.12, 0.35))
        elif kind == 1:
            f.crate(b, at, dice.between(0.2, 0.5))
        else:
            (o.bicycle, o.barrier)[kind - 2](b, at)
    return _along(b, half * 0.6, -2.5, 0.5)


STREETS: dict[str, tuple[int, Callable[[Build, int], list[View]]]] = {
    "street": (4, _street),
    "plaza": (4, _plaza),
    "underpass": (4, _underpass),
}
"""Layouts of each class, the last held out, and what builds one."""
