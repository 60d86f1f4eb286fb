"""Walks, their styles, runs, turns, side steps and steps back, as tables over `gait.footsteps`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from foveal.motion.director.commands import Keyframe
from foveal.motion.director.library.gait import Footfall, Manner, footsteps
from foveal.motion.director.library.keys import HIP, other, placed
from foveal.motion.skeleton import Side


@dataclass(frozen=True)
class Walk:
    """A walk: length (m) and time (s) of a step, how far a foot is aside (m), and the manner.

    `unsteady` are repeated over the steps: sideways (m), share of the length, share of the time,
    lean (degrees).
    """

    stride: float = 0.6
    seconds: float = 0.52
    half: float = 0.065
    manner: Manner = field(default_factory=Manner)
    unsteady: tuple[tuple[float, float, float, float], ...] = ((0.0, 1.0, 1.0, 0.0),)
    words: str = "walks"


_DRUNK = (
    (0.06, 0.9, 1.1, 7.0), (0.13, 1.3, 0.85, 4.0), (-0.02, 0.45, 1.4, -9.0),
    (-0.13, 1.2, 0.8, -5.0), (-0.09, 0.45, 1.4, 6.0), (0.08, 1.35, 0.85, 8.0),
    (0.12, 0.5, 1.35, -4.0),
)  # fmt: skip
STYLES: dict[str, Walk] = {
    "neutral": Walk(),
    "happy": Walk(0.68, 0.48, 0.065, Manner(
        lift=0.1, sink=0.095, bob=0.085, swing=36, elbow=30, elbow_swing=30, hips=8, chest=13,
        trunk=-1, tilt=1, head=-6, push=-46), words="walks happily"),
    "proud": Walk(0.61, 0.54, 0.06, Manner(
        tilt=0, trunk=-9, head=-4, swing=24, elbow=16, out=12, chest=12, toe=18),
        words="walks proudly"),
    "angry": Walk(0.62, 0.42, 0.08, Manner(
        lift=0.13, tilt=2, trunk=13, head=-3, swing=30, elbow=58, elbow_swing=22, out=14, chest=14,
        toe=20), words="walks angrily"),
    "childlike": Walk(0.42, 0.36, 0.07, Manner(
        lift=0.15, sink=0.095, bob=0.09, swing=26, elbow=40, elbow_swing=20, out=20, head=-6,
        trunk=-1, sway=4, push=-42), words="skips along like a child"),
    "depressed": Walk(0.46, 0.66, 0.065, Manner(
        lift=0.045, tilt=2, trunk=11, head=24, swing=7, elbow=10, elbow_swing=3, chest=3, hips=3,
        sink=0.05, bob=0.02, push=-26, toe=8, out=5), words="walks with hanging head"),
    "drunk": Walk(0.46, 0.66, 0.1, Manner(
        lift=0.08, tilt=3, trunk=5, head=9, swing=14, elbow=24, out=22, sway=5, chest=8, sink=0.06),
        _DRUNK, words="staggers"),
    "old": Walk(0.30, 0.64, 0.075, Manner(
        lift=0.035, tilt=10, trunk=24, head=-12, swing=8, elbow=38, elbow_swing=6, sink=0.085,
        bob=0.012, push=-14, toe=5, chest=3, hips=2, out=10), words="walks with bent back"),
    "heavy": Walk(0.46, 0.66, 0.135, Manner(
        lift=0.06, tilt=-1, trunk=-2, swing=16, elbow=26, out=27, sway=7, hips=6, chest=7,
        sink=0.055, bob=0.022, push=-24), words="walks heavily"),
}  # fmt: skip
"""Walks by style; "neutral" is none."""
RUN = Walk(0.94, 0.32, 0.05, Manner(
    lift=0.1, sink=0.1, tilt=1, trunk=11, head=-6, swing=38, elbow=82, elbow_swing=22, out=12,
    hips=8, chest=16, fly=0.34, kick=0.22), words="runs")  # fmt: skip
BACK = Walk(-0.42, 0.58, 0.085, Manner(
    lift=0.055, swing=12, tilt=3, trunk=2, chest=3, hips=2, back=True, sink=0.05, bob=0.02,
    toe=12), words="walks backward")  # fmt: skip


def go(walk: Walk, steps: int, *, first: Side = "right", heading: float = 0.0) -> list[Keyframe]:
    """Go some steps; the last one brings the feet together.

    Args:
        walk: How.
        steps: How many, at least 2.
        first: The foot of the first step.
        heading: How far the way turns to the left over its first half, degrees.
    """
    falls: list[Footfall] = []
    x = y = yaw = 0.0
    side = first
    turns = max(1, min(steps - 1, round(abs(heading) / 25.0)))
    aside = 0.0
    for i in range(steps):
        away, length, slow, lean = walk.unsteady[i % len(walk.unsteady)]
        last = i == steps - 1
        if not last:
            yaw += heading / turns if i < turns else 0.0
            size = walk.stride * length * ((0.5 if walk.manner.fly else 0.6) if i == 0 else 1.0)
            x += size * math.cos(math.radians(yaw))
            y += size * math.sin(math.radians(yaw))
            aside = away
        a = math.radians(yaw)
        at = placed(
            side, x - aside * math.sin(a), y + aside * math.cos(a), yaw=yaw,
            half=max(walk.half, 0.075) if last else walk.half,
        )  # fmt: skip
        slower = 1.15 if i == 0 or last else 1.0
        falls.append(Footfall(side, at, walk.seconds * slow * slower, lean=lean))
        side = other(side)
    return footsteps(falls, walk.manner, words=walk.words)


def run(steps: int = 8, *, first: Side = "right") -> list[Keyframe]:
    """Run: a step to start, steps with flights, and three to come to a stand."""
    slow = replace(RUN.manner, fly=0.0, lift=0.1, swing=26.0, push=-40.0, toe=10.0, sink=0.075)
    easy = replace(slow, trunk=2.0, elbow=55.0)
    jog = replace(RUN.manner, kick=0.12, sink=0.085, swing=28.0, fly=0.32)
    plan = [(0.26, 0.36, slow), (0.42, 0.32, slow), (0.58, 0.32, jog), (0.76, 0.32, jog),
            *[(RUN.stride, RUN.seconds, RUN.manner)] * steps,
            (0.74, 0.36, jog), (0.6, 0.36, easy), (0.42, 0.42, easy), (0.0, 0.5, easy)]  # fmt: skip
    falls: list[Footfall] = []
    x, side = 0.0, first
    for stride, seconds, manner in plan:
        x += stride
        half = RUN.half if stride else 0.075
        falls.append(Footfall(side, placed(side, x, 0, half=half), seconds, manner=manner))
        side = other(side)
    return footsteps(falls, replace(Manner(), trunk=0.0), words="runs", rise=0.5)


def turn(degrees: float, *, seconds: float = 0.5) -> list[Keyframe]:
    """Turn on the spot to the left (negative: right), stepping round by 45 degrees at most."""
    count = max(1, math.ceil(abs(degrees) / 45.0))
    inner: Side = "left" if degrees > 0 else "right"
    falls: list[Footfall] = []
    for i in range(1, count + 1):
        yaw = degrees * i / count
        falls += [
            Footfall(side, placed(side, 0, 0, yaw=yaw, half=HIP), seconds)
            for side in (inner, other(inner))
        ]
    manner = Manner(lift=0.07, push=-25, toe=4, sink=0.02, bob=0.008, swing=5, hips=0, chest=0)
    return footsteps(falls, manner, words="turns on the spot")


def side_step(steps: int = 3, *, size: float = 0.3, side: Side = "right") -> list[Keyframe]:
    """Step to a side: one foot goes out, the other closes up."""
    sign = 1.0 if side == "left" else -1.0
    falls: list[Footfall] = []
    for i in range(1, steps + 1):
        for foot in (side, other(side)):
            half = 0.085
            falls.append(Footfall(foot, placed(foot, 0, sign * size * i, half=half), 0.5))
    manner = Manner(
        lift=0.07, push=-16, toe=4, sink=0.035, bob=0.015, swing=0, hips=0, chest=0, out=14, sway=3
    )
    return footsteps(falls, manner, words="steps sideways")


def climb(
    places: Sequence[tuple[Side, float, float]], *, seconds: float = 0.95, lift: float = 0.09
) -> list[Keyframe]:
    """Step from place to place: side, way (m) and height (m) of every footfall."""
    falls = [
        Footfall(side, placed(side, x, 0, z, half=0.08), seconds, lift=lift)
        for side, x, z in places
    ]
    manner = Manner(
        lift=lift,
        push=-28,
        toe=4,
        sink=0.05,
        bob=0.02,
        swing=14,
        tilt=4,
        trunk=6,
        head=8,
        hips=3,
        chest=5,
    )
    return footsteps(falls, manner, words="climbs", levels=True)
