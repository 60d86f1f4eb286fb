"""Actions on things: sit, lie, reach, step up, stairs, stones; geometry comes from the scene.

Every maker gets the surfaces and where the figure stands, and returns keyframes in the world,
with the way to the thing before them.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from foveal.errors import ProviderError
from foveal.motion.director.commands import Keyframe
from foveal.motion.director.library.daily import rise, sit
from foveal.motion.director.library.keys import Place, key, mirrored, moved, other
from foveal.motion.director.library.reach import Hand
from foveal.motion.director.library.walks import Walk, climb, go, turn
from foveal.motion.posecodes.points import Surface
from foveal.motion.skeleton import Side

Scene = Mapping[str, Surface]
DEFAULTS: dict[str, dict[str, object]] = {
    "sit on chair": {"seat": {"box": [[-0.75, -0.3, 0.0], [-0.2, 0.3, 0.45]]}},
    "lie on bed": {"bed": {"box": [[-1.2, -1.0, 0.0], [-0.2, 1.0, 0.45]]}},
    "reach shelf": {"shelf": {"box": [[0.52, -0.6, 1.48], [0.9, 0.6, 1.5]]}},
    "stepping stones": {
        f"stone {i}": {"box": [[0.6 * i - 0.77, -0.4, -0.1], [0.6 * i - 0.42, 0.4, 0.1]]}
        for i in (1, 2, 3, 4)
    },
    "step up 12 cm": {"box": {"box": [[0.25, -0.5, 0.0], [1.0, 0.5, 0.12]]}},
    "step up 30 cm": {"box": {"box": [[0.25, -0.5, 0.0], [1.0, 0.5, 0.3]]}},
    "stairs": {
        f"step {i}": {"box": [[0.3 * i - 0.08, -0.5, 0.0], [0.3 * i + 0.22, 0.5, 0.16 * i]]}
        for i in (1, 2, 3)
    },
}
"""Scenes as plain data, for who has none: the thing is where the figure finds it at once."""


def _turned(angle: float) -> float:
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


def approach(start: Place, x: float, y: float, yaw: float, *, z: float = 0.0) -> list[Keyframe]:
    """Go to a place on the floor and turn to face `yaw`, rad; () if the figure is there."""
    out: list[Keyframe] = []
    place = start
    gap = math.hypot(x - start.x, y - start.y)
    if gap > 0.06:
        face = math.atan2(y - start.y, x - start.x)
        out, place = _turn_to(out, place, face)
        steps = max(2, 1 + math.ceil(gap / 0.55 + 0.3))
        walk = Walk(stride=gap / (steps - 1.4), seconds=0.56)
        keys = [moved(k, place) for k in go(walk, steps)]
        out += keys
        place = Place(x, y, z, face)
    out, _ = _turn_to(out, place, yaw)
    return out


def _turn_to(out: list[Keyframe], place: Place, yaw: float) -> tuple[list[Keyframe], Place]:
    by = _turned(yaw - place.yaw)
    if abs(by) < math.radians(4.0):
        return out, place
    keys = [moved(k, place) for k in turn(math.degrees(by))]
    return [*out, *keys], Place(place.x, place.y, place.z, place.yaw + by)


def find(scene: Scene, action: str, *names: str) -> Surface:
    """Return the first of some surfaces that a scene has, with its rectangle.

    Raises:
        ProviderError: it has none of them, or one without a rectangle.
    """
    for name in names:
        if (surface := scene.get(name)) is not None and surface.low is not None:
            return surface
    raise ProviderError(
        f"Scripted.plan: scene has {', '.join(scene)}, must have a box called {names[0]!r} for "
        f"{action!r}; pass Scripted(scene={{{names[0]!r}: {{'box': [[x, y, z], [x, y, z]]}}}})"
    )


def _corners(surface: Surface) -> tuple[float, float, float, float]:
    (x0, y0), (x1, y1) = surface.low or (0.0, 0.0), surface.high or (0.0, 0.0)
    return x0, y0, x1, y1


def _edge(surface: Surface, start: Place, *, long: bool = False) -> tuple[float, float, float]:
    """Return the middle of the edge next to the figure (of the long edges), and its way out."""
    x0, y0, x1, y1 = _corners(surface)
    mx, my = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
    edges = [(x1, my, 0.0), (x0, my, math.pi), (mx, y1, 0.5 * math.pi), (mx, y0, -0.5 * math.pi)]
    if long:
        edges = edges[:2] if y1 - y0 >= x1 - x0 else edges[2:]
    return min(edges, key=lambda e: math.hypot(e[0] - start.x, e[1] - start.y))


def sit_on(scene: Scene, start: Place, side: Side = "right") -> list[Keyframe]:
    """Go before the seat, turn the back to it and sit down."""
    del side
    seat = find(scene, "sit on chair", "seat", "chair", "bench")
    x, y, out = _edge(seat, start)
    x0, y0, x1, y1 = _corners(seat)
    deep = (x1 - x0) if abs(math.cos(out)) > 0.5 else (y1 - y0)
    gap = 0.2
    back = gap + min(0.25, max(0.14, 0.5 * deep))
    place = Place(x + gap * math.cos(out), y + gap * math.sin(out), 0.0, out)
    keys = approach(start, place.x, place.y, out)
    return [*keys, *(moved(k, place) for k in sit(seat.height, back))]


def rise_from(scene: Scene, place: Place) -> list[Keyframe]:
    """Stand up from the seat of a scene; `place` is where the feet are."""
    seat = find(scene, "sit on chair", "seat", "chair", "bench", "bed")
    x0, y0, x1, y1 = _corners(seat)
    deep = (x1 - x0) if abs(math.cos(place.yaw)) > 0.5 else (y1 - y0)
    return [moved(k, place) for k in rise(seat.height, 0.2 + min(0.25, max(0.14, 0.5 * deep)))]


def lie_on(scene: Scene, start: Place, side: Side = "right") -> list[Keyframe]:
    """Sit on the long side of a bed, swing the legs up, lie down on the back."""
    del side
    bed = find(scene, "lie on bed", "bed")
    x, y, out = _edge(bed, start, long=True)
    place = Place(x + 0.2 * math.cos(out), y + 0.2 * math.sin(out), 0.0, out)
    keys = approach(start, place.x, place.y, out)
    x0, y0, x1, y1 = _corners(bed)
    deep = (x1 - x0) if abs(math.cos(out)) > 0.5 else (y1 - y0)
    seated = sit(bed.height, 0.42, look=True)[:-1]
    return [*keys, *(moved(k, place) for k in [*seated, *_down(bed.height, deep)])]


def _down(height: float, deep: float) -> list[Keyframe]:
    """From sitting on the long side of a bed to lying in its middle, head to the left."""
    z = height + 0.095 - 0.93
    middle = -(0.2 + 0.5 * deep)
    carried = ("pelvis", "back")
    legs: dict[str, Any] = {"hip_abduction": 3.0, "ankle_flexion": -12.0}
    return [
        key(0.8, "leans aside on the right hand, legs come up", pelvis=(-0.5, 0.02, z + 0.01),
            turn=-42, tilt=-38, lean=-6, trunk=(14, -6, 0), head=(14, 0), feet=False, on="",
            supports=carried, hip_flexion=62, knee_flexion=58, ankle_flexion=-8,
            right_shoulder_flexion=-36, right_shoulder_abduction=30, right_elbow_flexion=30,
            left_shoulder_flexion=24, left_elbow_flexion=40),
        key(0.75, "turns along the bed", pelvis=(0.6 * middle - 0.2, 0.0, z + 0.01), turn=-84,
            tilt=-52, trunk=(20, 0, 0), head=(20, 0), feet=False, on="", supports=carried,
            hip_flexion=52, knee_flexion=42, ankle_flexion=-10, shoulder_flexion=-30,
            shoulder_abduction=26, elbow_flexion=44),
        key(0.8, "lowers the back", pelvis=(middle, 0.0, z), turn=-90, tilt=-76,
            trunk=(14, 0, 0), head=(14, 0), feet=False, on="", supports=carried, hip_flexion=24,
            knee_flexion=22, ankle_flexion=-12, shoulder_flexion=-10, shoulder_abduction=22,
            elbow_flexion=30),
        key(0.7, "lies on the back", pelvis=(middle, 0.0, z), turn=-90, tilt=-89, trunk=(0, 0, 0),
            head=(8, 0), feet=False, on="", supports=carried, hip_flexion=1, knee_flexion=4,
            shoulder_abduction=20, shoulder_flexion=2, elbow_flexion=14, **legs),
        key(0.8, "rests", pelvis=(middle, 0.0, z), turn=-90, tilt=-89, head=(8, 6), feet=False,
            on="", supports=carried, hip_flexion=1, knee_flexion=4, shoulder_abduction=20,
            shoulder_flexion=2, elbow_flexion=14, **legs),
    ]  # fmt: skip


def out_of_bed(scene: Scene, last: Keyframe) -> list[Keyframe]:
    """Sit up, swing the legs down and stand up, from the last keyframe of `lie_on`."""
    bed = find(scene, "lie on bed", "bed")
    yaw = last.turn + 0.5 * math.pi
    x0, y0, x1, y1 = _corners(bed)
    deep = (x1 - x0) if abs(math.cos(yaw)) > 0.5 else (y1 - y0)
    middle = -(0.2 + 0.5 * deep)
    place = Place(
        last.pelvis[0] - middle * math.cos(yaw), last.pelvis[1] - middle * math.sin(yaw), 0.0, yaw
    )
    up = [replace(k, dt=0.75) for k in reversed(_down(bed.height, deep)[:3])]
    seated = replace(sit(bed.height, 0.42)[-2], dt=0.8, contacts=frozenset[str]())
    return [moved(k, place) for k in [*up, seated, *rise(bed.height, 0.42)]]


def reach_shelf(scene: Scene, start: Place, side: Side = "right") -> list[Keyframe]:
    """Go before a shelf and lay a hand on its edge; rise onto the toes if it is high."""
    shelf = scene.get("shelf")
    if shelf is None:
        shelf = find(scene, "reach shelf", "shelf")
    place, keys, ahead = start, list[Keyframe](), 0.5
    if shelf.low is not None:
        x, y, out = _edge(shelf, start)
        yaw = _turned(out + math.pi)
        away = 0.52
        # the right hand is before the middle of the edge
        place = Place(x + away * math.cos(out), y + away * math.sin(out), 0.0, yaw)
        if math.hypot(place.x - start.x, place.y - start.y) < 0.12 and abs(
            _turned(yaw - start.yaw)) < 0.1:  # fmt: skip
            place = Place(start.x, start.y, 0.0, start.yaw)
            ahead = (x - start.x) * math.cos(yaw) + (y - start.y) * math.sin(yaw)
        else:
            keys, ahead = approach(start, place.x, place.y, yaw), away
    top = shelf.height + 0.05
    high = max(0.0, min(1.0, (top - 1.35) / 0.5))
    bend = 30.0 * max(0.0, min(1.0, (1.0 - top) / 0.5)) + 4.0
    target = Hand((ahead + 0.03, -0.14, top), (-0.2, -0.6, -1), (0.2, 0.1, -1), True)
    near = Hand((ahead - 0.14, -0.17, 0.5 * (top + 1.05)), (-0.3, -0.6, -1), (0.3, 0.6, -1), True)
    up = (0.02, 0.0, -0.008 - 0.002 * bend)
    look = (-18.0 * high + 14 * (1 - high), -6.0)
    act = [
        key(0.5, "looks at the shelf", pelvis=(0, 0, -0.012), head=(look[0] * 0.7, -3)),
        key(0.5, "raises the right hand", pelvis=up, trunk=(bend * 0.5, 2 * high, 3), head=look,
            rh=near),
        key(0.5, "right hand on the shelf", pelvis=up, trunk=(bend, 5 * high, 8), head=look,
            rh=target),
        key(0.6, "holds on", pelvis=up, trunk=(bend, 5 * high, 8), head=look, rh=target),
        key(0.5, "takes the hand back", pelvis=up, trunk=(bend * 0.5, 2 * high, 2),
            head=(look[0] * 0.5, -3), rh=near),
        key(0.8, "stands"),
    ]  # fmt: skip
    if side == "left":
        act = [mirrored(k) for k in act]
    return [*keys, *(moved(k, place) for k in act)]


def _numbered(scene: Scene, word: str) -> list[Surface]:
    out: list[Surface] = []
    while (surface := scene.get(f"{word} {len(out) + 1}")) is not None and surface.low is not None:
        out.append(surface)
    return out


def _way(start: Place, first: Surface, last: Surface) -> tuple[float, float, float]:
    """Return the axis along which surfaces follow each other: yaw, and the line's x or y."""
    x0, y0, x1, y1 = _corners(first)
    u0, v0, u1, v1 = _corners(last)
    dx, dy = 0.5 * (u0 + u1 - x0 - x1), 0.5 * (v0 + v1 - y0 - y1)
    if first is last:
        dx, dy = 0.5 * (x0 + x1) - start.x, 0.5 * (y0 + y1) - start.y
    yaw = 0.0 if dx >= 0 else math.pi
    if abs(dy) > abs(dx):
        yaw = 0.5 * math.pi if dy > 0 else -0.5 * math.pi
    return yaw, 0.5 * (x0 + x1), 0.5 * (y0 + y1)


def _along(surface: Surface, place: Place) -> tuple[float, float]:
    """Return from where to where a surface lies ahead of a place, m."""
    c, s = round(math.cos(place.yaw)), round(math.sin(place.yaw))
    x0, y0, x1, y1 = _corners(surface)
    ends = [(x - place.x) * c + (y - place.y) * s for x, y in ((x0, y0), (x1, y1))]
    return min(ends), max(ends)


def _before(start: Place, first: Surface, last: Surface, gap: float = 0.26) -> tuple[
    list[Keyframe], Place
]:  # fmt: skip
    """Go before the first of some surfaces, facing along them."""
    yaw, mx, my = _way(start, first, last)
    near, _ = _along(first, Place(0, 0, 0, yaw))
    c, s = round(math.cos(yaw)), round(math.sin(yaw))
    place = Place(c * (near - gap) + (mx if c == 0 else 0), s * (near - gap) + (
        my if s == 0 else 0), 0.0, yaw)  # fmt: skip
    off = math.hypot(place.x - start.x, place.y - start.y)
    if off < 0.1 and abs(_turned(yaw - start.yaw)) < 0.07:
        return [], start
    return approach(start, place.x, place.y, yaw), place


def step_up(scene: Scene, start: Place, side: Side = "right") -> list[Keyframe]:
    """Step onto a box with one foot, then the other one beside it."""
    box = find(scene, "step up", "box")
    keys, place = _before(start, box, box)
    near, far = _along(box, place)
    at = min(near + 0.2, 0.5 * (near + far) + 0.05)
    steps: list[tuple[Side, float, float]] = [(side, at, box.height), (other(side), at, box.height)]
    return [*keys, *(moved(k, place) for k in climb(steps, seconds=0.9 + box.height))]


def stairs(scene: Scene, start: Place, side: Side = "right") -> list[Keyframe]:
    """Climb stairs, a foot a step."""
    flight = _numbered(scene, "step") or [find(scene, "stairs", "step 1")]
    keys, place = _before(start, flight[0], flight[-1])
    steps: list[tuple[Side, float, float]] = []
    for stair in flight:
        near, far = _along(stair, place)
        steps.append((side, min(near + 0.17, 0.5 * (near + far) + 0.02), stair.height))
        side = other(side)
    steps.append((side, *steps[-1][1:]))
    return [*keys, *(moved(k, place) for k in climb(steps, seconds=0.9, lift=0.07))]


def stones(scene: Scene, start: Place, side: Side = "right") -> list[Keyframe]:
    """Cross stones, a foot a stone, from the first one, on which the figure stands."""
    path = _numbered(scene, "stone") or [find(scene, "stepping stones", "stone 1")]
    yaw, _, _ = _way(start, path[0], path[-1])
    keys, place = _turn_to([], start, yaw)
    steps: list[tuple[Side, float, float]] = []
    side = other(side)
    before = 0.0
    for stone in path[1:]:
        near, far = _along(stone, place)
        # the shortest step that puts the whole foot on the stone, not nearer than its middle - 5 cm
        at = max(min(near + 0.1, 0.5 * (near + far)), before + 0.05)
        steps.append((side, at, stone.height - place.z))
        side = other(side)
        before = at
    if steps:
        steps.append((side, *steps[-1][1:]))
    made = climb(steps, seconds=0.85, lift=0.12) if steps else []
    return [*keys, *(moved(k, place) for k in made)]
