"""Locomotion from footfalls: walks and their styles, runs, turns, side steps, stairs, stones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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


def tread(steps: Sequence[Footfall], manner: Manner, *, words: str = "walks",
          levels: bool = False, rise: float = 0.6) -> list[Keyframe]:  # fmt: skip
    """Make keyframes of steps from standing; ends standing if the last two feet are level.

    Each step has four or five keyframes: the rear foot rolls off its ball, passes, reaches, and
    is put down flat; arms swing against the legs, the pelvis turns with the leg and the chest
    against it.
    """
    out: list[Keyframe] = []
    at: dict[Side, FootTarget] = {"left": FootTarget(), "right": FootTarget()}
    for number, fall in enumerate(steps):
        m = fall.manner or manner
        swing, stance = fall.side, other(fall.side)
        last = number == len(steps) - 1
        p0, p1, ps = at[swing], fall.to, at[stance]
        lift = m.lift if fall.lift < 0 else fall.lift
        ahead = _along(ps, p1)
        before = -_along(ps, p0)
        size = min(1.0, abs(ahead) / 0.35) if not m.fly else 1.0
        start = min(1.0, abs(before) / 0.35) if not m.fly else 1.0
        climb = p1.position[2] - p0.position[2]
        push = m.push * (0.35 + 0.65 * start) if not m.back else m.push * 0.4
        toe = m.toe * size * (-1.0 if m.back else 1.0)
        sign = 1.0 if swing == "left" else -1.0

        def pose(
            dt: float, share: float, foot: FootTarget, pelvis_z: float, on: str, what: str,
            size: float = size, start: float = start, ahead: float = ahead, before: float = before,
            m: Manner = m, fall: Footfall = fall, swing: Side = swing, stance: Side = stance,
            ps: FootTarget = ps, sign: float = sign, stance_foot: FootTarget | None = None,
        ) -> Keyframe:  # fmt: skip
            # +1 when the swinging leg is in front, -1 when it is behind
            phase = -math.cos(math.pi * share)
            amount = start + share * (size - start)
            forward = -phase * m.swing * amount  # of the arm on the swinging side
            if m.back:
                forward = -0.4 * forward
            yaw = 0.5 * (ps.yaw + between(p0, p1, share).yaw)
            arms: dict[str, float] = {}
            for side, angle in ((swing, forward), (stance, -forward)):
                arms[f"{side}_shoulder_flexion"] = angle + (4.0 if m.fly else 0.0)
                arms[f"{side}_elbow_flexion"] = m.elbow + m.elbow_swing * (
                    0.5 + 0.5 * angle / max(m.swing, 1.0)
                )
                arms[f"{side}_shoulder_abduction"] = m.out
            twist = m.hips * amount * phase * -sign * (-1.0 if m.back else 1.0)
            counter = m.chest * amount * phase * sign * (-1.0 if m.back else 1.0)
            x, y = _middle(ps, foot, abs(0.5 - share))
            over = math.sin(math.pi * share) * m.sway
            body_lean = fall.lean + sign * -over
            levels_: dict[str, float] = {}
            if levels:
                levels_ = {f"{stance}_foot": ps.position[2], f"{swing}_foot": foot.position[2]}
            targets = {swing: foot, stance: stance_foot or ps}
            return key(
                dt, what, pelvis=(x, y, pelvis_z), turn=math.degrees(yaw) + twist, tilt=m.tilt,
                trunk=(m.trunk, body_lean, counter - twist), head=(m.head, -counter),
                left=targets["left"], right=targets["right"], on=on, levels=levels_, **arms,
            )  # fmt: skip

        letter = stance[0]
        ground = min(p0.position[2], ps.position[2]), min(ps.position[2], p1.position[2])
        t = fall.seconds
        first = 0.45 * t if number == 0 and not m.fly else 0.0
        low0 = ground[0] - m.sink * max(start, 0.25)
        top = ps.position[2] - m.sink + m.bob - 0.3 * max(climb, 0.0)
        low1 = ground[1] - m.sink * max(size, 0.25 if last else size)
        if climb > 0.02:
            top = 0.5 * (ps.position[2] + p0.position[2]) - 0.05
        if first:
            out.append(pose(first, 0.0, p0, low0, "lr", f"weight over the {stance} foot"))
        rear = rolled(p0, push) if not m.back else raised(p0, 0.02, 6.0)
        if m.fly:
            out += _bound(pose, swing, stance, p0, ps, p1, t, m)
        else:
            high = max(p0.position[2], p1.position[2]) + lift
            mid = between(p0, p1, 0.5 if climb <= 0.02 else 0.38)
            mid = FootTarget((*mid.position[:2], high), mid.yaw, math.radians(push * 0.3))
            near = between(p0, p1, 0.9)
            near = FootTarget(
                (*near.position[:2], p1.position[2] + 0.25 * lift + 0.012 * abs(toe) / 14
                 + (0.5 * lift if climb > 0.02 else 0.0)),
                near.yaw, math.radians(toe),
            )  # fmt: skip
            out += [
                pose(0.2 * t, 0.14, rear, low0 + 0.25 * (top - low0), letter,
                     f"{swing} foot rolls off"),
                pose(0.32 * t, 0.5, mid, top, letter, f"{swing} foot passes"),
                pose(0.3 * t, 0.86, near, 0.4 * top + 0.6 * low1, letter, f"{swing} foot reaches"),
                pose(0.18 * t, 1.0, p1, low1, letter, f"{swing} foot lands"),
            ]  # fmt: skip
        at[swing] = p1
    m = manner
    a, b = at["left"], at["right"]
    x, y = _middle(a, b, 0.5)
    z = min(a.position[2], b.position[2])
    marks = {"left_foot": a.position[2], "right_foot": b.position[2]} if levels else None
    out.append(
        key(rise, "stands", pelvis=(x, y, z - 0.012), turn=math.degrees(0.5 * (a.yaw + b.yaw)),
            left=a, right=b, levels=marks, tilt=0.4 * m.tilt, trunk=(0.6 * m.trunk, 0, 0),
            head=(0.6 * m.head, 0), shoulder_abduction=max(8.0, 0.8 * m.out),
            elbow_flexion=max(12.0, 0.6 * m.elbow))
    )  # fmt: skip
    return out


def _bound(pose, swing, stance, p0, ps, p1, t, m):  # type: ignore[no-untyped-def]
    """Keyframes of a running step: push, flight, landing on the other foot."""
    letter = stance[0]
    stance_s = (1.0 - m.fly) * t
    z = -m.sink
    heel = raised(between(p0, p1, 0.3), 0.12 + m.kick, -75.0)
    knee = raised(between(p0, p1, 0.68), 0.16 + 0.4 * m.lift, -25.0)
    reach = raised(between(p0, p1, 0.93), 0.10, 2.0)
    off = rolled(ps, -48.0)
    up = raised(off, 0.07, -60.0)
    out = []
    out.append(pose(0.5 * stance_s, 0.35, heel, z - 0.02, letter, f"{swing} heel up behind"))
    out.append(pose(0.5 * stance_s, 0.62, knee, z + 0.03, letter, f"{swing} knee forward"))
    out.append(pose(0.5 * m.fly * t, 0.86, reach, z + 0.05, "", "flies", stance_foot=up))
    after = raised(ps, 0.14, -62.0, ahead=0.06)
    out.append(
        pose(0.5 * m.fly * t, 1.0, p1, z + 0.01, "", f"{swing} foot lands", stance_foot=after)
    )
    return out


def _along(a: FootTarget, b: FootTarget) -> float:
    """How far b is ahead of a, along b."""
    gap = np.array(b.position[:2]) - np.array(a.position[:2])
    return float(gap @ np.array([math.cos(b.yaw), math.sin(b.yaw)]))


def _middle(a: FootTarget, b: FootTarget, share: float) -> tuple[float, float]:
    p, q = np.array(a.position[:2]), np.array(b.position[:2])
    x, y = p + share * (q - p)
    return float(x), float(y)
