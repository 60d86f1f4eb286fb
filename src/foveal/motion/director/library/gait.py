"""Locomotion from footfalls: walks and their styles, runs, turns, side steps, stairs, stones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveal.motion.director.commands import FootTarget, Keyframe
from foveal.motion.director.library.keys import between, key, other, raised, rolled
from foveal.motion.skeleton import Side


@dataclass(frozen=True)
class Footfall:
    """One step: which foot, where it lands, and how long it takes, s."""

    side: Side
    to: FootTarget
    seconds: float
    lift: float = -1.0
    lean: float = 0.0
    manner: "Manner | None" = None


@dataclass(frozen=True)
class Manner:
    """How somebody goes: angles in degrees, lengths in m.

    Args:
        lift: Clearance of the passing foot.
        push, toe: Pitch of the foot when it leaves the ground, and before it lands.
        sink, bob: How far the pelvis is below standing at landing, and how far it rises from there.
        tilt, trunk, head: Bend forward of pelvis, back and head.
        swing, elbow, elbow_swing, out: Of the arms: how far they swing, and how far they are bent,
            bend more in front, and hang outward.
        hips, chest: Turn of pelvis and chest with the step.
        sway: Lean of the trunk to the standing leg.
        fly: Share of a step in the air.
        kick: How far the passing heel is flung up behind.
        knee: Bend of the standing leg, as a sink of the pelvis in mid-stance.
    """

    lift: float = 0.07
    push: float = -38.0
    toe: float = 14.0
    sink: float = 0.062
    bob: float = 0.032
    tilt: float = 2.0
    trunk: float = 2.0
    head: float = 0.0
    swing: float = 22.0
    elbow: float = 18.0
    elbow_swing: float = 14.0
    out: float = 8.0
    hips: float = 5.0
    chest: float = 9.0
    sway: float = 1.5
    fly: float = 0.0
    kick: float = 0.0
    back: bool = False


def footsteps(
    steps: Sequence[Footfall],
    manner: Manner,
    *,
    words: str = "walks",
    levels: bool = False,
    rise: float = 0.6,
) -> list[Keyframe]:
    """Make keyframes of steps from standing; ends standing if the last two feet are level.

    Each step has four keyframes: the rear foot rolls off its ball, passes, reaches, and is put
    down flat; arms swing against the legs, the pelvis turns with the leg and the chest against it.

    Args:
        steps: Footfalls; sides alternate, or one foot stays.
        manner: How, unless a footfall says otherwise.
        words: What is done.
        levels: Whether feet land at heights, whose surfaces bear them.
        rise: Time to stand at the end, s.
    """
    out: list[Keyframe] = []
    at: dict[Side, FootTarget] = {"left": FootTarget(), "right": FootTarget()}
    for number, fall in enumerate(steps):
        last = number == len(steps) - 1
        step = _Step(fall, fall.manner or manner, at[fall.side], at[other(fall.side)], levels)
        out += step.bound() if step.manner.fly else step.walk(first=number == 0, last=last)
        at[fall.side] = fall.to
    a, b = at["left"], at["right"]
    x, y = _middle(a, b, 0.5)
    z = min(a.position[2], b.position[2])
    marks = {"left_foot": a.position[2], "right_foot": b.position[2]} if levels else None
    end = key(
        rise,
        f"stands; {words} no more",
        pelvis=(x, y, z - 0.012),
        turn=math.degrees(0.5 * (a.yaw + b.yaw)),
        left=a,
        right=b,
        levels=marks,
        tilt=0.4 * manner.tilt,
        trunk=(0.6 * manner.trunk, 0, 0),
        head=(0.6 * manner.head, 0),
        shoulder_abduction=max(8.0, 0.8 * manner.out),
        elbow_flexion=max(12.0, 0.6 * manner.elbow),
    )
    return [*out, end]


class _Step:
    """One step: `p0` to `p1` is the way of the swinging foot, `ps` the place of the other."""

    def __init__(
        self, fall: Footfall, manner: Manner, p0: FootTarget, ps: FootTarget, levels: bool
    ) -> None:
        self.fall, self.manner, self.levels = fall, manner, levels
        self.swing, self.stance = fall.side, other(fall.side)
        self.p0, self.p1, self.ps = p0, fall.to, ps
        # how large the step is before and behind the standing foot, 1 from 35 cm on
        self.size = 1.0 if manner.fly else min(1.0, abs(_along(ps, fall.to)) / 0.35)
        self.start = 1.0 if manner.fly else min(1.0, abs(_along(ps, p0)) / 0.35)

    def pose(
        self,
        dt: float,
        share: float,
        foot: FootTarget,
        pelvis_z: float,
        on: str,
        words: str,
        stance_foot: FootTarget | None = None,
    ) -> Keyframe:
        """One keyframe at a share of the step, the swinging foot at a place."""
        m, fall, sign = self.manner, self.fall, 1.0 if self.swing == "left" else -1.0
        # +1 when the swinging leg is in front, -1 when it is behind
        phase = -math.cos(math.pi * share)
        amount = self.start + share * (self.size - self.start)
        forward = -phase * m.swing * amount  # of the arm on the swinging side
        way = -1.0 if m.back else 1.0
        if m.back:
            forward = -0.4 * forward
        arms: dict[str, Any] = {}
        for side, angle in ((self.swing, forward), (self.stance, -forward)):
            front = 0.5 + 0.5 * angle / max(m.swing, 1.0)
            arms[f"{side}_shoulder_flexion"] = angle + (4.0 if m.fly else 0.0)
            arms[f"{side}_elbow_flexion"] = m.elbow + m.elbow_swing * front
            arms[f"{side}_shoulder_abduction"] = m.out
        twist = -sign * way * m.hips * amount * phase
        counter = sign * way * m.chest * amount * phase
        x, y = _middle(self.ps, foot, abs(0.5 - share))
        yaw = 0.5 * (self.ps.yaw + between(self.p0, self.p1, share).yaw)
        lean = fall.lean - sign * math.sin(math.pi * share) * m.sway
        marks: dict[str, float] = {}
        if self.levels:
            marks[f"{self.stance}_foot"] = self.ps.position[2]
            marks[f"{self.swing}_foot"] = foot.position[2]
        feet = {self.swing: foot, self.stance: stance_foot or self.ps}
        return key(
            dt,
            words,
            pelvis=(x, y, pelvis_z),
            turn=math.degrees(yaw) + twist,
            tilt=m.tilt,
            trunk=(m.trunk, lean, counter - twist),
            head=(m.head, -counter),
            left=feet["left"],
            right=feet["right"],
            on=on,
            levels=marks,
            **arms,
        )

    def walk(self, *, first: bool, last: bool) -> list[Keyframe]:
        """Roll off, pass, reach, land; the first step begins with a shift of the weight."""
        m, p0, p1, ps, t = self.manner, self.p0, self.p1, self.ps, self.fall.seconds
        lift = m.lift if self.fall.lift < 0 else self.fall.lift
        climb = p1.position[2] - p0.position[2]
        push = m.push * (0.4 if m.back else 0.35 + 0.65 * self.start)
        toe = m.toe * self.size * (-1.0 if m.back else 1.0)
        before = min(p0.position[2], ps.position[2]) - m.sink * max(self.start, 0.25)
        after = min(ps.position[2], p1.position[2]) - m.sink * (
            max(self.size, 0.25) if last else self.size
        )
        top = ps.position[2] - m.sink + m.bob - 0.3 * max(climb, 0.0)
        if climb > 0.02:
            top = 0.5 * (ps.position[2] + p0.position[2]) - 0.05
        rear = raised(p0, 0.02, 6.0) if m.back else rolled(p0, push)
        high = max(p0.position[2], p1.position[2]) + lift
        mid = between(p0, p1, 0.38 if climb > 0.02 else 0.5)
        mid = FootTarget((*mid.position[:2], high), mid.yaw, math.radians(push * 0.3))
        near = between(p0, p1, 0.9)
        over = 0.25 * lift + 0.012 * abs(toe) / 14 + (0.5 * lift if climb > 0.02 else 0.0)
        near = FootTarget((*near.position[:2], p1.position[2] + over), near.yaw, math.radians(toe))
        side, on = self.swing, self.stance[0]
        out: list[Keyframe] = []
        if first:
            words = f"weight over the {self.stance} foot"
            out.append(self.pose(0.45 * t, 0.0, p0, before, "lr", words))
        rising = before + 0.25 * (top - before)
        return [
            *out,
            self.pose(0.2 * t, 0.14, rear, rising, on, f"{side} foot rolls off"),
            self.pose(0.32 * t, 0.5, mid, top, on, f"{side} foot passes"),
            self.pose(0.3 * t, 0.86, near, 0.4 * top + 0.6 * after, on, f"{side} foot reaches"),
            self.pose(0.18 * t, 1.0, p1, after, on, f"{side} foot lands"),
        ]

    def bound(self) -> list[Keyframe]:
        """A running step: push, flight, landing on the other foot."""
        m, p0, p1, t = self.manner, self.p0, self.p1, self.fall.seconds
        ground, air = 0.5 * (1.0 - m.fly) * t, 0.5 * m.fly * t
        z, on, side = -m.sink, self.stance[0], self.swing
        heel = raised(between(p0, p1, 0.3), 0.12 + m.kick, -75.0)
        knee = raised(between(p0, p1, 0.68), 0.16 + 0.4 * m.lift, -25.0)
        reach = raised(between(p0, p1, 0.93), 0.10, 2.0)
        off = raised(rolled(self.ps, -48.0), 0.07, -60.0)
        behind = raised(self.ps, 0.14, -62.0, ahead=0.06)
        return [
            self.pose(ground, 0.35, heel, z - 0.02, on, f"{side} heel up behind"),
            self.pose(ground, 0.62, knee, z + 0.03, on, f"{side} knee forward"),
            self.pose(air, 0.86, reach, z + 0.05, "", "flies", off),
            self.pose(air, 1.0, p1, z + 0.01, "", f"{side} foot lands", behind),
        ]


def _along(a: FootTarget, b: FootTarget) -> float:
    """How far b is ahead of a, along b."""
    gap = np.array(b.position[:2]) - np.array(a.position[:2])
    return float(gap @ np.array([math.cos(b.yaw), math.sin(b.yaw)]))


def _middle(a: FootTarget, b: FootTarget, share: float) -> tuple[float, float]:
    p, q = np.array(a.position[:2]), np.array(b.position[:2])
    x, y = p + share * (q - p)
    return float(x), float(y)
