"""Layouts of rooms: x in [-width/2, width/2], y in [0, depth]. The last of each class is held out.

A layout fills a `Build` and returns views: places for the camera and what it looks at.
"""

import math
from collections.abc import Callable

from foveal.data.taskworld import furniture as f
from foveal.data.taskworld import outdoors as o
from foveal.data.taskworld import paints
from foveal.data.taskworld.build import Build

View = tuple[float, float, float, float]
"""Camera x and y, and the x and y that it looks at."""
Layout = Callable[[Build], list[View]]
BACK, LEFT, RIGHT = 0.0, math.pi / 2, -math.pi / 2
"""Turns that set the back (+y) of a thing against that wall; the front wall's is pi."""


def shell(b: Build, w: float, d: float, h: float, *, open_end: bool = False) -> None:
    """Floor, ceiling and walls."""
    dice = b.dice
    floor, wall, ceiling = (
        b.paint(p(dice))
        for p in (paints.floor, paints.wall, dice.pick((paints.plain, paints.tiles, paints.planks)))
    )
    other = b.paint(paints.wall(dice)) if dice.chance(0.4) else wall
    b.box((0, d / 2, -0.1), (w / 2 + 0.2, d / 2 + 0.2, 0.1), "ground", floor, casts=False)
    b.box((0, d / 2, h + 0.1), (w / 2 + 0.2, d / 2 + 0.2, 0.1), "ceiling", ceiling, casts=False)
    for side in (-1, 1):
        b.box(
            (side * (w / 2 + 0.1), d / 2, h / 2),
            (0.1, d / 2 + 0.2, h / 2),
            "wall",
            wall,
            casts=False,
        )
    b.box((0, -0.1, h / 2), (w / 2, 0.1, h / 2), "wall", wall, casts=False)
    if not open_end:
        b.box((0, d + 0.1, h / 2), (w / 2, 0.1, h / 2), "wall", other, casts=False)


def lamps(b: Build, w: float, d: float, h: float) -> None:
    """One or two lamps at the ceiling; they are part of it."""
    paint = b.paint(paints.glow(b.dice, b.dice.between(1.5, 3)))
    if b.dice.chance(0.5):
        half = b.dice.between(0.2, 0.5)
        for y in (d * 0.3, d * 0.7):
            b.box((0, y, h - 0.03), (half * 1.6, half * 0.5, 0.03), "ceiling", paint, casts=False)
    else:
        b.capsule((0, d / 2, h - 0.35), 0.16, 0, "ceiling", paint, casts=False)


def opening(b: Build, w: float, d: float, h: float, turn: float, off: float, kind: str) -> None:
    """A window or a door on a wall; `off` is along the wall, m from its middle."""
    dice = b.dice
    spot = {
        BACK: (off, d, BACK),
        LEFT: (-w / 2, d / 2 + off, LEFT),
        RIGHT: (w / 2, d / 2 - off, RIGHT),
    }
    at = spot.get(turn, (off, 0.0, math.pi))
    frame = b.paint(paints.plain(dice))
    if kind == "door":
        half = dice.between(0.4, 0.48)
        b.box((0, -0.01, 1.04), (half + 0.07, 0.02, 1.04), "opening", frame, -1, at)
        b.box((0, -0.03, 1.0), (half, 0.02, 1.0), "opening", b.paint(paints.wood(dice)), -1, at)
        return
    half, tall = dice.between(0.5, 1.1), dice.between(0.4, 0.65)
    base = min(dice.between(0.85, 1.1), h - 2 * tall - 0.15)
    b.box((0, -0.01, base + tall), (half + 0.07, 0.03, tall + 0.07), "opening", frame, -1, at)
    pane = b.paint(paints.glow(dice, dice.between(1, 2.5)))
    for side in (-1, 1):
        middle = (side * half / 2, -0.035, base + tall)
        b.box(middle, (half / 2 - 0.03, 0.015, tall), "opening", pane, -1, at, casts=False)


def decor(b: Build, w: float, d: float, h: float) -> None:
    """Pictures on the walls, and a carpet."""
    dice = b.dice
    for _ in range(dice.count(0, 3)):
        turn, off = dice.pick((BACK, LEFT, RIGHT, math.pi)), dice.between(-0.4, 0.4)
        spot = {
            BACK: (off * w, d, BACK), LEFT: (-w / 2, d / 2 + off * d, LEFT),
            RIGHT: (w / 2, d / 2 - off * d, RIGHT),
        }  # fmt: skip
        at = spot.get(turn, (off * w, 0.0, math.pi))
        face = dice.pick((paints.checks, paints.sign, paints.cloth, paints.stripes, paints.leaves))
        half, tall = dice.between(0.15, 0.5), dice.between(0.15, 0.4)
        middle = (0, -0.015, min(h - 0.5, dice.between(1.4, 1.8)))
        b.box(middle, (half, 0.02, tall), "item", b.paint(face(dice)), -1, at)
    if dice.chance(0.4):
        at = (dice.between(-0.15, 0.15) * w, d * dice.between(0.35, 0.6), dice.between(-0.3, 0.3))
        size = (dice.between(0.2, 0.32) * w, dice.between(0.15, 0.25) * d, 0.012)
        b.box((0, 0, 0), size, "ground", b.paint(paints.cloth(dice)), -1, at, casts=False)


def clutter(b: Build, w: float, d: float, h: float, low: int, high: int) -> None:
    """Balls, bins, pots and crates on the floor where there is room, then pictures."""
    dice = b.dice
    for _ in range(dice.count(low, high)):
        at = (dice.between(-0.45, 0.45) * w, dice.between(0.1, 0.9) * d, dice.between(0, 6.28))
        kind = dice.count(0, 4)
        if kind <= 1:
            f.ball(b, at, dice.between(0.1, 0.28))
        elif kind == 2:
            f.bin_(b, at)
        elif kind == 3:
            f.pot(b, at, dice.between(0.6, 1.2))
        else:
            f.crate(b, at, dice.between(0.15, 0.3))
    decor(b, w, d, h)


def around(b: Build, w: float, d: float) -> list[View]:
    """Views from near the walls and corners, across the room."""
    views: list[View] = []
    for _ in range(24):
        side, t = b.dice.count(0, 3), b.dice.between(-0.85, 0.85)
        inset = b.dice.between(0.3, 0.7)
        x = (t * w / 2, t * w / 2, -w / 2 + inset, w / 2 - inset)[side]
        y = (inset, d - inset, d / 2 + t * d / 2, d / 2 + t * d / 2)[side]
        tx, ty = b.dice.between(-0.25, 0.25) * w, d / 2 + b.dice.between(-0.25, 0.25) * d
        views.append(
            (max(-w / 2 + 0.25, min(w / 2 - 0.25, x)), max(0.25, min(d - 0.25, y)), tx, ty)
        )
    return views


def _bedroom(b: Build, layout: int) -> list[View]:
    dice = b.dice
    w, d, h = dice.between(3.4, 5), dice.between(3.6, 5.2), dice.between(2.4, 3)
    shell(b, w, d, h)
    lamps(b, w, d, h)
    if layout == 0:
        x = dice.between(-0.4, 0.4)
        f.bed(b, (x, d - 1.2, BACK), dice.between(1.4, 1.8))
        for side in (-1, 1):
            stand = (x + side * 1.2, d - 0.25, BACK)
            f.cabinet(b, stand, 0.4, 0.36, dice.between(0.4, 0.55))
            f.thing(b, stand, dice.between(0.58, 0.6), 0.1)
        f.cabinet(
            b, (-w / 2 + 0.3, d * 0.3, LEFT), dice.between(1, 1.6), 0.55, dice.between(1.8, 2.2)
        )
        opening(b, w, d, h, RIGHT, dice.between(-0.5, 0.5), "window")
    elif layout == 1:
        f.bed(b, (w / 2 - 0.6, d / 2 + 0.4, BACK), dice.between(0.9, 1.15))
        f.table(b, (-w / 2 + 0.35, d * 0.55, LEFT), 1.2, 0.6)
        f.monitor(b, (-w / 2 + 0.3, d * 0.55, LEFT))
        f.chair(b, (-w / 2 + 1.0, d * 0.55, RIGHT))
        f.shelf(
            b,
            (dice.between(-0.6, 0.3), d - 0.16, BACK),
            dice.between(0.8, 1.2),
            dice.between(1.2, 2),
        )
        opening(b, w, d, h, BACK, -w * 0.28, "window")
    elif layout == 2:
        for side in (-1, 1):
            f.bed(b, (side * dice.between(0.85, 1.05), d - 1.15, BACK), 0.95)
        f.cabinet(b, (0, d - 0.25, BACK), 0.45, 0.4, 0.5)
        f.thing(b, (0, d - 0.25, 0), 0.54, 0.13)
        f.cabinet(
            b,
            (dice.between(-0.5, 0.5), 0.25, math.pi),
            dice.between(1, 1.5),
            0.45,
            dice.between(0.7, 1),
        )
        f.lamp(b, (w / 2 - 0.3, d * 0.3, 0))
        opening(b, w, d, h, LEFT, 0, "window")
    else:
        f.bunk(b, (-w / 2 + 0.55, d - 1.15, BACK))
        f.sofa(b, (w / 2 - 0.55, d * 0.5, RIGHT), 1.4)
        f.crate(b, (0, d - 0.5, 0), 0.3)
        f.shelf(b, (w * 0.2, d - 0.16, BACK), 0.9, 1.1, boards=2)
        opening(b, w, d, h, BACK, w * 0.25, "window")
    clutter(b, w, d, h, 2, 7)
    return around(b, w, d)


def _desk(b: Build, x: float, y: float, yaw: float) -> None:
    dice, c, s = b.dice, math.cos(yaw), math.sin(yaw)
    f.table(b, (x, y, yaw), dice.between(1.2, 1.6), dice.between(0.65, 0.8))
    f.monitor(b, (x - s * 0.15, y + c * 0.15, yaw))
    f.chair(b, (x + s * 0.65, y - c * 0.65, yaw + math.pi + dice.between(-0.5, 0.5)))


def _office(b: Build, layout: int) -> list[View]:
    dice = b.dice
    w, d, h = dice.between(5, 8), dice.between(5, 8), dice.between(2.6, 3.2)
    shell(b, w, d, h)
    lamps(b, w, d, h)
    if layout == 0:
        turn = dice.pick((BACK, math.pi))
        for y in (d * 0.35, d * 0.72):
            for x in (-w * 0.25, w * 0.25):
                if dice.chance(0.85):
                    _desk(b, x + dice.between(-0.2, 0.2), y, turn)
        opening(b, w, d, h, BACK, 0, "window")
    elif layout == 1:
        for x, y, turn in (
            (-w / 2 + 0.42, d * 0.35, LEFT),
            (-w / 2 + 0.42, d * 0.72, LEFT),
            (w / 2 - 0.42, d * 0.5, RIGHT),
        ):
            _desk(b, x, y, turn)
        f.shelf(b, (dice.between(-0.5, 0.5), d - 0.17, BACK), 1.4, dice.between(1.6, 2.1))
        opening(b, w, d, h, BACK, w * 0.32, "door")
    elif layout == 2:
        long = dice.between(2, 3)
        f.table(b, (0, d / 2, 0), long, 1.1)
        for i in range(3):
            x = (i - 1) * long / 3
            f.chair(b, (x, d / 2 + 0.85, dice.between(-0.4, 0.4)))
            f.chair(b, (x, d / 2 - 0.85, math.pi + dice.between(-0.4, 0.4)))
        board = b.paint(paints.sign(dice, 0.1))
        b.box((0, d - 0.02, 1.5), (1.1, 0.02, 0.5), "wall", board)
        f.thing(b, (dice.between(-0.5, 0.5), d / 2, 0), 0.74)
        opening(b, w, d, h, LEFT, 0, "window")
        f.cabinet(b, (w / 2 - 0.25, d * 0.6, RIGHT), 1.4, 0.45, 1.0)
    else:
        screen = b.paint(paints.cloth(dice))
        b.box((0, d / 2, 0.6), (1.6, 0.03, 0.6), "storage", screen)
        b.box((0, d / 2, 0.6), (0.03, 1.2, 0.6), "storage", screen)
        for side in (-1, 1):
            for end, turn in ((-1, BACK), (1, math.pi)):
                _desk(b, side * 0.85, d / 2 + end * 0.45, turn)
        opening(b, w, d, h, RIGHT, 0, "door")
    clutter(b, w, d, h, 1, 6)
    return around(b, w, d)


def _counter(b: Build, x: float, y: float, turn: float, long: float, hang: bool) -> None:
    dice, c, s = b.dice, math.cos(turn), math.sin(turn)
    f.cabinet(b, (x, y, turn), long, 0.6, 0.88)
    if hang:
        at = (x - s * 0.12, y + c * 0.12, turn)
        f.cabinet(b, at, long * dice.between(0.5, 0.95), 0.35, dice.between(0.5, 0.7), 1.45)
    for _ in range(dice.count(1, 3)):
        t = dice.between(-0.42, 0.42) * long
        f.thing(b, (x + c * t, y + s * t, turn + dice.between(-0.4, 0.4)), 0.92, 0.12)


def _fridge(b: Build, x: float, y: float, turn: float) -> None:
    f.cabinet(b, (x, y, turn), 0.65, 0.62, b.dice.between(1.6, 1.95), 0.02)


def _kitchen(b: Build, layout: int) -> list[View]:
    dice = b.dice
    w, d, h = dice.between(3.2, 5), dice.between(3.4, 5), dice.between(2.4, 2.9)
    shell(b, w, d, h)
    lamps(b, w, d, h)
    if layout == 0:
        _counter(b, 0.25, d - 0.32, BACK, w - 1.6, True)
        _fridge(b, -w / 2 + 0.4, d - 0.35, BACK)
        size = dice.between(0.8, 1.1)
        f.table(b, (0, d * 0.4, 0), size, size)
        for turn in dice.order(4)[: dice.count(2, 4)]:
            a = turn * math.pi / 2
            f.chair(b, (math.sin(a) * 0.75, d * 0.4 - math.cos(a) * 0.75, a + math.pi))
        opening(b, w, d, h, RIGHT, 0, "window")
    elif layout == 1:
        _counter(b, 0.3, d - 0.32, BACK, w - 0.7, False)
        _counter(b, -w / 2 + 0.32, d * 0.5, LEFT, d * 0.5, True)
        _fridge(b, -w / 2 + 0.36, d * 0.12 + 0.1, LEFT)
        opening(b, w, d, h, BACK, dice.between(-0.3, 0.5), "window")
        f.stool(b, (w * 0.2, d * 0.5, 0))
    elif layout == 2:
        for side, turn in ((-1, LEFT), (1, RIGHT)):
            _counter(b, side * (w / 2 - 0.32), d * 0.55, turn, d * 0.7, side < 0)
        _fridge(b, w / 2 - 0.35, d * 0.12, RIGHT)
        opening(b, w, d, h, BACK, 0, dice.pick(("door", "window")))
    else:
        _counter(b, 0, d - 0.32, BACK, w - 0.9, True)
        f.cabinet(b, (0, d * 0.45, 0), dice.between(1.2, 1.8), 0.8, 0.9)
        for x in (-0.5, 0, 0.5):
            f.stool(b, (x, d * 0.45 - 0.62, 0))
        f.thing(b, (0.3, d * 0.45, 0), 0.93)
        opening(b, w, d, h, LEFT, 0, "window")
    clutter(b, w, d, h, 1, 5)
    return around(b, w, d)


def _corridor(b: Build, layout: int) -> list[View]:
    dice = b.dice
    w, d, h = dice.between(1.9, 3.2), dice.between(9, 18), dice.between(2.4, 3.2)
    shell(b, w, d, h)
    paint = b.paint(paints.glow(dice, dice.between(1.5, 3)))
    for i in range(3):
        b.box((0, d * (0.2 + 0.3 * i), h - 0.03), (0.15, 0.6, 0.03), "ceiling", paint, casts=False)
    spots = [(-0.3 + 0.25 * i) * d for i in range(3)]
    if layout == 0:
        for y in spots:
            opening(b, w, d, h, LEFT, y + dice.between(-0.5, 0.5), "door")
            opening(b, w, d, h, RIGHT, -y + dice.between(-0.5, 0.5), "door")
    elif layout == 1:
        for y in spots:
            opening(b, w, d, h, LEFT, y, "window")
            if dice.chance(0.7):
                opening(b, w, d, h, RIGHT, -y, "door")
    elif layout == 2:
        steel = b.paint(paints.wall(dice))
        for i in range(4):
            for side in (-1, 1):
                b.box(
                    (side * w / 2, d * (0.15 + 0.22 * i), h / 2), (0.22, 0.25, h / 2), "wall", steel
                )
        opening(b, w, d, h, BACK, 0, "door")
        for i in range(2):
            f.table(b, (-w / 2 + 0.3, d * (0.26 + 0.22 * i), LEFT), 1, 0.4, 0.45)
    else:
        for i in range(4):
            f.cabinet(
                b,
                (w / 2 - 0.22, d * (0.2 + 0.16 * i), RIGHT),
                d * 0.12,
                0.4,
                dice.between(1.7, 1.9),
                0.02,
            )
        turn = b.paint(paints.wall(dice))
        b.box((-w * 0.3, d * 0.75, h / 2), (w * 0.2, d * 0.2, h / 2), "wall", turn)
        opening(b, w, d, h, LEFT, -d * 0.2, "door")
    for _ in range(dice.count(1, 5)):
        side = dice.sign()
        at = (side * (w / 2 - 0.35), dice.between(0.2, 0.8) * d, LEFT if side < 0 else RIGHT)
        dice.pick((f.bin_, f.chair, f.pot))(b, at)
    for _ in range(dice.count(0, 3)):
        o.person(
            b,
            (
                dice.between(-0.3, 0.3) * w,
                dice.between(0.25, 0.9) * d,
                dice.pick((0, math.pi)) + dice.between(-0.3, 0.3),
            ),
        )
    for _ in range(dice.count(0, 2)):
        f.ball(
            b,
            (dice.between(-0.35, 0.35) * w, dice.between(0.15, 0.5) * d, 0),
            dice.between(0.1, 0.22),
        )
    decor(b, w, d, h)
    views: list[View] = []
    for _ in range(24):
        x, y = dice.between(-0.36, 0.36) * w, dice.between(0.02, 0.3) * d + 0.2
        if dice.chance(0.3) and layout != 3:
            views.append((x, d - y, dice.between(-0.3, 0.3) * w, d * 0.3))
        else:
            views.append((x, y, dice.between(-0.35, 0.35) * w, d * 0.7))
    return views


def _warehouse(b: Build, layout: int) -> list[View]:
    dice = b.dice
    w, d, h = dice.between(9, 14), dice.between(11, 20), dice.between(4.5, 7)
    shell(b, w, d, h)
    paint = b.paint(paints.glow(dice, dice.between(2, 4)))
    for y in (d * 0.3, d * 0.7):
        b.box((0, y, h - 0.1), (w * 0.3, 0.12, 0.05), "ceiling", paint, casts=False)
    if layout == 0:
        for side in (-1, 1):
            for i in range(2):
                f.rack(
                    b,
                    (side * dice.between(1.7, 2.3), d * (0.35 + 0.3 * i), LEFT),
                    d * 0.25,
                    dice.between(2.4, 4),
                )
    elif layout == 1:
        for side, turn in ((-1, LEFT), (1, RIGHT)):
            f.rack(
                b,
                (side * (w / 2 - 0.5), d * dice.between(0.4, 0.6), turn),
                d * 0.45,
                dice.between(2.4, 4),
            )
        f.rack(b, (0, d - 0.5, BACK), w * 0.4, dice.between(2.4, 3.5))
        for _ in range(dice.count(3, 7)):
            f.crate(
                b,
                (dice.between(-0.28, 0.28) * w, dice.between(0.25, 0.8) * d, dice.between(0, 3)),
                dice.between(0.3, 0.7),
            )
    elif layout == 2:
        for _ in range(dice.count(3, 5)):
            x, y, half = (
                dice.between(-0.38, 0.38) * w,
                dice.between(0.25, 0.85) * d,
                dice.between(0.35, 0.65),
            )
            if any(math.hypot(x - q[0], y - q[1]) < q[2] + 1.2 * half for q in b.taken):
                continue
            f.crate(b, (x, y, dice.between(0, 3)), half)
            top = 2 * b.solids[-1].half[2]
            for i in range(dice.count(0, 2)):
                f.crate(b, (x, y, dice.between(0, 3)), half * (0.85 - 0.15 * i), top, False)
                top += 2 * b.solids[-1].half[2]
        f.rack(b, (-w / 2 + 0.6, d * 0.5, LEFT), d * 0.4, dice.between(2.4, 4))
        o.truck(b, (w * 0.25, d * 0.6, dice.between(-0.4, 0.4)))
    else:
        steel, rounded = b.paint(paints.stripes(dice, 0.2, 0.5)), dice.chance(0.5)
        for x in (-w * 0.2, w * 0.2):
            for y in (d * 0.3, d * 0.55, d * 0.8):
                o.pillar(b, (x, y, 0), h, steel, rounded, 0.25)
        for _ in range(dice.count(4, 8)):
            f.crate(
                b,
                (dice.between(-0.4, 0.4) * w, dice.between(0.2, 0.9) * d, dice.between(0, 3)),
                dice.between(0.3, 0.7),
            )
    opening(b, w, d, h, BACK, dice.between(-0.3, 0.3) * w, "door")
    for _ in range(dice.count(0, 3)):
        at = (dice.between(-0.3, 0.3) * w, dice.between(0.25, 0.8) * d, dice.between(0, 6.28))
        o.person(b, at)
    for _ in range(dice.count(1, 6)):
        at = (dice.between(-0.3, 0.3) * w, dice.between(0.15, 0.6) * d, dice.between(0, 6.28))
        dice.pick((f.crate, f.ball))(b, at, dice.between(0.2, 0.4))
    views: list[View] = []
    for _ in range(24):
        x, y = dice.between(-0.4, 0.4) * w, dice.between(0.03, 0.2) * d + 0.3
        views.append((x, y, dice.between(-0.25, 0.25) * w, d * dice.between(0.45, 0.7)))
    return views


ROOMS: dict[str, tuple[int, Callable[[Build, int], list[View]]]] = {
    "bedroom": (4, _bedroom),
    "office": (4, _office),
    "kitchen": (4, _kitchen),
    "corridor": (4, _corridor),
    "warehouse": (4, _warehouse),
}
"""Layouts of each class, the last held out, and what builds one."""
