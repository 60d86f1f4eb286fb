"""What people do with their arms while they stand or sit: the everyday part of the list."""

import math
from typing import Any

from foveal.motion.director.commands import FootTarget, Keyframe
from foveal.motion.director.library.keys import foot, key, raised, rolled, stand
from foveal.motion.director.library.reach import Hand, Vector

_SLIGHT = (0.0, 0.0, -0.012)
_MOUTH: Vector = (0.185, 0.05, 0.235)  # the palm beside a cup or a fork at the mouth
_DOWN = (-0.25, 0.35, -1.0)


def warm_up() -> list[Keyframe]:
    """Swing both arms up and out three times, with a bounce of the knees; end rolling shoulders."""
    out: list[Keyframe] = []
    up: dict[str, Any] = {"clavicle_elevation": 28.0, "shoulder_flexion": 164.0,
                          "shoulder_abduction": 22.0, "elbow_flexion": 8.0}  # fmt: skip
    for i in range(3):
        out += [
            key(0.4, "swings the arms forward", pelvis=(0, 0, -0.05), trunk=(4, 0, 0),
                shoulder_flexion=78, elbow_flexion=14, shoulder_abduction=14),
            key(0.42, "both arms up, chest open", pelvis=(0, 0, -0.006), trunk=(-8, 0, 0),
                head=(-10, 0), **up),
            key(0.42, "arms out and down", pelvis=(0, 0, -0.03), shoulder_flexion=12,
                shoulder_abduction=84, elbow_flexion=10, wrist_rotation=-50),
            key(0.42, "arms swing past the hips", pelvis=(0, 0, -0.07), tilt=4, trunk=(10, 0, 0),
                shoulder_flexion=-22 if i < 2 else 0, shoulder_abduction=10, elbow_flexion=8),
        ]  # fmt: skip
    for sign in (1.0, -1.0):
        out.append(
            key(0.55, "twists the trunk", pelvis=(0, 0, -0.03), turn=6 * sign,
                trunk=(0, 0, 32 * sign), head=(0, 10 * sign), shoulder_flexion=48,
                shoulder_abduction=38, elbow_flexion=96, shoulder_rotation=-30)
        )  # fmt: skip
    return [*out, stand(0.7)]


def drink() -> list[Keyframe]:
    """Take a cup at waist height, lift it to the mouth, tip the head back, set it down."""
    table = Hand((0.36, 0.14, -0.1), _DOWN, (0, -1, 0.2))
    low = Hand((0.27, 0.1, 0.12), (-0.2, 0.5, -1), (0.1, -1, 0))
    mouth = Hand(_MOUTH, (-0.1, 0.7, -1), (-0.5, -1, 0.2))
    tipped = Hand((0.17, 0.05, 0.29), (0.1, 1.0, -0.55), (-0.8, -0.8, 0.2))
    return [
        key(0.7, "right hand takes a cup", pelvis=_SLIGHT, trunk=(5, 0, 2), head=(16, -6),
            rh=table),
        key(0.45, "lifts the cup", pelvis=_SLIGHT, trunk=(2, 0, 0), head=(6, -2), rh=low),
        key(0.5, "cup at the mouth", pelvis=_SLIGHT, head=(2, 0), rh=mouth),
        key(0.5, "drinks, head back", pelvis=_SLIGHT, trunk=(-5, 0, 0), head=(-20, 0), rh=tipped),
        key(0.55, "swallows", pelvis=_SLIGHT, trunk=(-5, 0, 0), head=(-22, 0), rh=tipped),
        key(0.5, "lowers the head", pelvis=_SLIGHT, head=(2, 0), rh=mouth),
        key(0.6, "sets the cup down", pelvis=_SLIGHT, trunk=(5, 0, 2), head=(16, -6), rh=table),
        stand(0.7),
    ]  # fmt: skip


def lift_dumbbell() -> list[Keyframe]:
    """Curl a weight three times: the upper arm hangs, the trunk counters a little."""
    low = Hand((0.13, 0.27, -0.38), (-1, 0.4, -0.3), (0.8, -0.6, 0.1))
    top = Hand((0.2, 0.25, 0.13), (-0.4, 0.35, -1), (-1, 0.1, 0.5))
    held: dict[str, Any] = {"left_shoulder_abduction": 12.0, "left_elbow_flexion": 14.0}
    out = [key(0.6, "takes up the weight", pelvis=(0, 0, -0.02), trunk=(3, 0, 0), head=(8, -8),
               rh=low, **held)]  # fmt: skip
    for _ in range(3):
        out += [
            key(0.85, "curls the right arm", pelvis=(0, 0, -0.012), trunk=(-3, 2, 0),
                head=(2, -6), rh=top, **held),
            key(0.25, "holds it up", pelvis=(0, 0, -0.012), trunk=(-3, 2, 0), head=(2, -6), rh=top,
                **held),
            key(0.95, "lowers the weight slowly", pelvis=(0, 0, -0.02), trunk=(2, 0, 0),
                head=(7, -8), rh=low, **held),
        ]  # fmt: skip
    return [*out, stand(0.6)]


SEAT = 0.45


def sit(height: float = SEAT, back: float = 0.42, *, look: bool = True) -> list[Keyframe]:
    """Sit down on a seat behind: the trunk goes forward, the hips back and down, then upright.

    Args:
        height: Of the seat, m.
        back: How far the pelvis goes back, m.
        look: Whether the figure glances behind first.
    """
    z = height + 0.086 - 0.93
    thighs: dict[str, Any] = {"rh": Hand((0.28, 0.16, -0.26), (-0.5, 0.7, -0.6), (0, 0, -1)),
              "lh": Hand((0.28, 0.16, -0.26), (-0.5, 0.7, -0.6), (0, 0, -1))}  # fmt: skip
    feet: dict[str, Any] = {"left": foot(y=0.02), "right": foot(y=-0.02)}
    first = [key(0.55, "looks at the seat", pelvis=(0, 0, -0.02), trunk=(4, 0, -16),
                 head=(14, -38))] if look else []  # fmt: skip
    sits = ("pelvis",)
    return [
        *first,
        key(0.55, "bends forward, hips back", pelvis=(-0.16, 0, -0.11), tilt=22, trunk=(16, 0, 0),
            head=(-6, 0), shoulder_flexion=22, elbow_flexion=24),
        key(0.5, "lowers onto the seat", pelvis=(-0.32, 0, 0.55 * z), tilt=30,
            trunk=(20, 0, 0), head=(-14, 0), shoulder_flexion=42, elbow_flexion=34),
        key(0.45, "touches the seat", pelvis=(-back + 0.01, 0, z + 0.004), tilt=14,
            trunk=(22, 0, 0), head=(-10, 0), supports=sits, shoulder_flexion=34, elbow_flexion=44,
            **feet),
        key(0.75, "sits up, hands on the thighs", pelvis=(-back, 0, z), tilt=-4, trunk=(2, 0, 0),
            head=(0, 0), supports=sits, **feet, **thighs),
        key(0.9, "sits", pelvis=(-back, 0, z), tilt=-4, trunk=(3, 0, 0), head=(4, 6),
            supports=sits, **feet, **thighs),
    ]  # fmt: skip


def rise(height: float = SEAT, back: float = 0.42) -> list[Keyframe]:
    """Stand up from a seat."""
    z = height + 0.086 - 0.93
    feet: dict[str, Any] = {"left": foot(y=0.02), "right": foot(y=-0.02)}
    return [
        key(0.6, "leans forward to rise", pelvis=(-back + 0.04, 0, z), tilt=24, trunk=(24, 0, 0),
            head=(-14, 0), supports=("pelvis",), shoulder_flexion=30, elbow_flexion=40, **feet),
        key(0.6, "rises", pelvis=(-0.2, 0, -0.2), tilt=28, trunk=(16, 0, 0), head=(-10, 0),
            shoulder_flexion=30, elbow_flexion=24, **feet),
        key(0.7, "stands", pelvis=(0, 0, -0.012), **feet),
        stand(0.4),
    ]  # fmt: skip


def eat() -> list[Keyframe]:
    """Three bites from a plate before the belly: the head comes to meet the hand."""
    plate = Hand((0.38, 0.06, -0.12), (-0.2, 0.6, -1), (0, -0.4, -1))
    mouth = Hand((0.21, 0.04, 0.205), (0.22, 1.0, -0.7), (-1, -0.4, 0.1))
    lifts = Hand((0.33, 0.06, 0.06), (-0.1, 0.7, -1), (-0.5, -0.6, -0.4))
    left = Hand((0.33, 0.1, -0.15), (-0.2, 0.6, -1), (0, 0, 1))
    out = [key(0.7, "right hand at the plate", pelvis=_SLIGHT, trunk=(6, 0, 0), head=(20, 0),
               rh=plate, lh=left)]  # fmt: skip
    for i in range(3):
        out += [
            key(0.35, "lifts a bite", pelvis=_SLIGHT, trunk=(5, 0, 0), head=(14, 0), rh=lifts,
                lh=left),
            key(0.4, "hand at the mouth", pelvis=_SLIGHT, trunk=(8, 0, 0), head=(10, 0), rh=mouth,
                lh=left),
            key(0.25, "takes the bite", pelvis=_SLIGHT, trunk=(8, 0, 0), head=(8, 0), rh=mouth,
                lh=left),
            key(0.5, "lowers the hand", pelvis=_SLIGHT, trunk=(5, 0, 0), head=(10, 4), rh=plate,
                lh=left),
            key(0.4, "chews", pelvis=_SLIGHT, trunk=(4, 0, 0), head=(4, 8 - 6 * i), rh=plate,
                lh=left),
        ]  # fmt: skip
    return [*out, stand(0.7)]


def steer() -> list[Keyframe]:
    """Hold a wheel before the chest and turn it left, right, left and back."""

    def wheel(degrees: float, dt: float, words: str) -> Keyframe:
        a = math.radians(degrees)
        c, s, ahead, high = 0.19 * math.cos(a), 0.19 * math.sin(a), 0.43, 0.0
        left = Hand((ahead - 0.3 * s, c, high - s), (-0.2, 0.7, -1), (0.2, -1, -0.3))
        right = Hand((ahead + 0.3 * s, c, high + s), (-0.2, 0.7, -1), (0.2, -1, -0.3))
        lean = degrees / 40.0
        return key(dt, words, pelvis=(-0.01, 0, -0.03), trunk=(3, 3 * lean, 5 * lean),
                   head=(4, 14 * lean), lh=left, rh=right)  # fmt: skip

    plan = [(0, 0.8, "hands on the wheel"), (-40, 0.7, "turns the wheel right"),
            (-40, 0.25, "holds"), (38, 0.95, "turns the wheel left"), (38, 0.25, "holds"),
            (-36, 0.95, "turns the wheel right"), (30, 0.9, "turns the wheel left"),
            (0, 0.7, "straight on")]  # fmt: skip
    return [*(wheel(*row) for row in plan), stand(0.8)]


def phone() -> list[Keyframe]:
    """Take a phone out, look at it, hold it to the ear, speak, and put it away."""
    shown = Hand((0.3, 0.1, 0.03), (-0.2, 0.5, -1), (-1, 0, 0.5))
    ear = Hand((0.07, 0.15, 0.275), (0.2, 1.0, -0.8), (0, -1, 0.1))
    pocket = Hand((0.04, 0.24, -0.36), (-1, 0.5, 0), (0, -1, 0))
    return [
        key(0.6, "right hand at the pocket", pelvis=_SLIGHT, trunk=(2, -3, 0), head=(12, -14),
            rh=pocket),
        key(0.7, "looks at the phone", pelvis=_SLIGHT, trunk=(3, 0, 0), head=(24, -4), rh=shown),
        key(0.3, "looks at the phone", pelvis=_SLIGHT, trunk=(3, 0, 0), head=(24, -4), rh=shown),
        key(0.7, "phone at the ear", pelvis=(0, 0.015, -0.015), head=(2, -4), rh=ear),
        key(0.8, "speaks", pelvis=(0, 0.02, -0.018), trunk=(2, 1, 6), head=(4, 8), rh=ear),
        key(0.9, "speaks", pelvis=(0, 0.015, -0.015), trunk=(0, 0, -3), head=(-2, -10), rh=ear,
            left_shoulder_flexion=16, left_elbow_flexion=48),
        key(0.7, "listens", pelvis=(0, 0.015, -0.015), head=(5, 0), rh=ear),
        key(0.6, "ends the call", pelvis=_SLIGHT, trunk=(3, 0, 0), head=(22, -4), rh=shown),
        stand(0.8),
    ]  # fmt: skip


def boxing() -> list[Keyframe]:
    """In a stance with the left foot ahead: jab, cross, jab, cross, with weight and hips."""
    left, right = foot(0.14, 0.02, yaw=-12), foot(-0.16, -0.03, yaw=-38)
    feet: dict[str, Any] = {"left": left, "right": right}
    guard_l = Hand((0.27, 0.08, 0.2), (0.1, 0.35, -1), (0, -1, 0))
    guard_r = Hand((0.22, 0.08, 0.19), (0.0, 0.4, -1), (0, -1, 0))
    jab = Hand((0.66, 0.17, 0.13), (0, 0.7, -0.7), (0, 0, -1))
    cross = Hand((0.64, 0.24, 0.13), (0, 0.7, -0.7), (0, 0, -1))

    def guard(dt: float, x: float, words: str = "guard up") -> Keyframe:
        return key(dt, words, pelvis=(x, 0, -0.075), turn=-16, trunk=(8, 0, -6), head=(6, 20),
                   lh=guard_l, rh=guard_r, **feet)  # fmt: skip

    def left_jab() -> Keyframe:
        return key(0.17, "left jab", pelvis=(0.035, 0, -0.08), turn=-18, trunk=(8, 0, -16),
                   head=(6, 30), lh=jab, rh=guard_r, **feet)  # fmt: skip

    def right_cross() -> Keyframe:
        return key(0.2, "right cross", pelvis=(0.06, 0.02, -0.09), turn=2, trunk=(9, 0, 26),
                   head=(6, -26), lh=guard_l, rh=cross, **feet)  # fmt: skip

    step = key(0.3, "steps into a stance", pelvis=(0, 0, -0.05), on="l", left=left,
               right=raised(foot(-0.09, -0.02, yaw=-20), 0.05, -12), turn=-8, trunk=(4, 0, 0),
               lh=Hand((0.25, 0.1, 0.1), (0, 0.4, -1)),
               rh=Hand((0.2, 0.1, 0.1), (0, 0.4, -1)))  # fmt: skip
    first = key(0.3, "left foot forward", pelvis=(0, 0, -0.04), on="r",
                left=raised(foot(0.09, 0.01, yaw=-6), 0.05, -6), trunk=(3, 0, 0),
                shoulder_flexion=20, elbow_flexion=70)  # fmt: skip
    out = [
        first,
        key(0.2, "left foot down", pelvis=(0.03, 0, -0.05), on="r", left=left, trunk=(4, 0, 0),
            shoulder_flexion=26, elbow_flexion=100),
        step, guard(0.3, 0.0), guard(0.25, -0.02, "gathers"),
    ]  # fmt: skip
    for i in range(2):
        out += [left_jab(), guard(0.26, 0.0), guard(0.12, -0.025, "draws the right shoulder back"),
                right_cross(), guard(0.3, 0.0), guard(0.3 if i == 0 else 0.4, -0.015)]  # fmt: skip
    return [*out, *_home(left)]


def _home(left: FootTarget) -> list[Keyframe]:
    """From a stance with the left foot ahead back to standing."""
    return [
        key(0.3, "steps up", pelvis=(0.05, 0.02, -0.05), on="l", left=left, turn=-6,
            right=raised(foot(0.0, -0.02, yaw=-18), 0.05, -10), shoulder_flexion=16,
            elbow_flexion=50),
        key(0.25, "right foot beside", pelvis=(0.1, 0, -0.03), on="l", left=left,
            right=foot(left.position[0]), shoulder_flexion=8, elbow_flexion=26),
        key(0.25, "straightens the left foot", pelvis=(left.position[0], -0.02, -0.02), on="r",
            left=raised(foot(left.position[0]), 0.025), right=foot(left.position[0])),
        stand(0.4, x=left.position[0]),
    ]  # fmt: skip


def throw() -> list[Keyframe]:
    """Step, draw the arm back, throw overarm with the hips first, follow through."""
    left, right = foot(0.34, 0.02), foot(0.0, -0.03, yaw=-42)
    ball = Hand((0.26, 0.1, 0.0), (-0.2, 0.6, -1))
    both = Hand((0.26, 0.04, 0.0), (-0.2, 0.6, -1), (0, -1, 0))
    back = Hand((-0.22, 0.36, 0.3), (-0.5, 1.0, -0.1), (0.6, 0, 0.6))
    high = Hand((0.08, 0.34, 0.5), (-0.2, 1.0, 0.0), (1, 0, 0))
    front = Hand((0.52, 0.2, 0.2), (0.0, 1.0, 0.1), (0.3, 0, -1))
    after = Hand((0.34, -0.24, -0.2), (0.2, 1.0, 0.0), (0, -0.4, -1))
    aim = Hand((0.5, 0.14, 0.12), (0, 0.6, -1))
    tuck = Hand((0.1, 0.16, -0.12), (-1, 0.6, -0.4))
    return [
        key(0.5, "ball in both hands", pelvis=(-0.02, -0.03, -0.03), trunk=(2, 0, -6),
            head=(2, 4), rh=both, lh=ball),
        key(0.2, "turns aside", pelvis=(-0.02, -0.06, -0.04), trunk=(-2, 0, -14), turn=-14,
            head=(0, 20), on="l", rh=Hand((0.05, 0.32, 0.05), (-0.6, 0.9, -0.6)), lh=aim,
            right=raised(foot(0, -0.03, yaw=-25), 0.03)),
        key(0.2, "draws the arm back", pelvis=(-0.05, -0.07, -0.05), trunk=(-6, 0, -18),
            turn=-22, head=(0, 36), on="l", rh=Hand((-0.12, 0.4, 0.1), (-0.6, 1, -0.5)), lh=aim,
            right=right),
        key(0.3, "strides forward", pelvis=(0.04, -0.05, -0.06), trunk=(-8, 0, -28), turn=-26,
            head=(0, 46), on="r", rh=back, lh=aim, right=right,
            left=raised(foot(0.22, 0.02), 0.08, 4)),
        key(0.22, "braces the left leg", pelvis=(0.14, 0, -0.09), trunk=(-8, 0, -26), turn=-14,
            head=(0, 36), on="r", rh=back, lh=aim, right=right, left=left),
        key(0.13, "throws, hips first", pelvis=(0.2, 0, -0.09), trunk=(6, 0, 8), turn=4,
            head=(6, -8), rh=high, lh=tuck, right=right, left=left),
        key(0.1, "releases in front", pelvis=(0.22, 0, -0.09), trunk=(16, 0, 20), turn=10,
            head=(0, -22), rh=front, lh=tuck, right=right, left=left),
        key(0.3, "follows through", pelvis=(0.25, 0.02, -0.1), trunk=(26, 0, 26), turn=14,
            head=(-14, -26), on="l", rh=after, lh=tuck, right=rolled(right, -28), left=left),
        key(0.35, "steps up", pelvis=(0.3, 0.04, -0.05), trunk=(12, 0, 8), turn=4, head=(-8, -8),
            on="l", left=left, right=raised(foot(0.2, -0.02, yaw=-14), 0.06, -8),
            right_shoulder_flexion=24, right_elbow_flexion=30),
        key(0.25, "right foot beside", pelvis=(0.34, 0, -0.03), trunk=(4, 0, 0), on="l", left=left,
            right=foot(0.34)),
        stand(0.5, x=0.34),
    ]  # fmt: skip
