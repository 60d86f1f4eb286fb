"""Close to the ground and on one leg: crawl, pick up, balance, hop; the right side acts."""

import math
from typing import Any

from foveal.motion.director.commands import Keyframe
from foveal.motion.director.library.keys import foot, key, raised, rolled, stand
from foveal.motion.director.library.reach import Hand

_THIGH, _KNEE = 0.412, 0.062
_ALL_FOURS = ("left_hand", "right_hand", "left_knee", "right_knee")
_TILT = 78.0


def _palm(x: float, y: float, z: float = 0.012) -> Hand:
    """A palm on the floor, fingers forward."""
    return Hand((x, y, z), (-0.6, 0.35 if y > 0 else -0.35, 0.0), (-1, 0, 0), True, -74.0)


def _fours(
    dt: float, words: str, x: float, knees: tuple[float, float], hands: tuple[float, float],
    *, lift: str = "", look: float = 0.0,
) -> Keyframe:  # fmt: skip
    """On hands and knees: hips over x, left and right knee and hand at their x."""
    degrees: dict[str, Any] = {}
    still = knees[1 if lift == "l" else 0]
    high = _KNEE + math.sqrt(_THIGH**2 - (still - x) ** 2)
    for side, knee in zip(("left", "right"), knees, strict=True):
        up = 0.035 if lift == side[0] else 0.0
        far = math.degrees(math.asin(max(-0.95, min(0.95, (knee - x) / _THIGH))))
        if up:  # the shin comes along, the knee is drawn up
            drop = high - _KNEE - up
            far = math.degrees(math.atan2(knee - x, drop))
        degrees[f"{side}_hip_flexion"] = _TILT + far
        degrees[f"{side}_knee_flexion"] = 98.0 + far + (8.0 if up else 0.0)
        degrees[f"{side}_ankle_flexion"] = -54.0
    sway = {"l": -0.025, "r": 0.025}.get(lift, 0.0)
    # the hand on the other side goes with the knee
    ups = [0.085 if lift == "r" else 0.012, 0.085 if lift == "l" else 0.012]
    return key(
        dt, words, pelvis=(x + 0.022, sway, high + 0.005 - 0.93), tilt=_TILT, trunk=(0, 0, 0),
        lean=0, head=(-38, look), feet=False, on="", supports=_ALL_FOURS,
        lh=_palm(hands[0], 0.19, ups[0]), rh=_palm(hands[1], -0.19, ups[1]), **degrees,
    )  # fmt: skip


_KNEES, _HANDS = 0.52, 0.93


def _down() -> list[Keyframe]:
    return [
        key(0.7, "crouches", pelvis=(-0.05, 0, -0.36), tilt=40, trunk=(26, 0, 0), head=(-20, 0),
            shoulder_flexion=62, elbow_flexion=20),
        key(0.6, "hands to the floor, heels up", pelvis=(0.16, 0, -0.53), tilt=64,
            trunk=(14, 0, 0), head=(-34, 0), on="", left=rolled(foot(), -50),
            right=rolled(foot(), -50), supports=_ALL_FOURS[:2], lh=_palm(0.72, 0.2),
            rh=_palm(0.72, -0.2)),
    ]  # fmt: skip


def crawl(halves: int = 6) -> list[Keyframe]:
    """Go down on hands and knees and crawl; a hand and the knee of the other side go together."""
    out = _down()
    x, knees, hands = _KNEES - 0.02, [_KNEES, _KNEES], [_HANDS, _HANDS]
    first = _fours(0.55, "on hands and knees", x, (knees[0], knees[1]), (0.84, 0.84))
    out.append(first)
    hands = [0.84, 0.84]
    for i in range(halves):
        side = i % 2  # the knee that goes: left, right, ...
        last = i == halves - 1
        stride = 0.13 if i == 0 or last else 0.26
        hand = 1 - side
        goal = knees[side] + stride
        reach = goal + 0.43 + 0.04
        middle = (0.5 * (knees[side] + goal), 0.5 * (hands[hand] + reach))
        half_k, half_h = knees.copy(), hands.copy()
        half_k[side], half_h[hand] = middle
        letter = "l" if side == 0 else "r"
        step = 0.5 * stride if i else 0.4 * stride
        out.append(
            _fours(0.3, f"{('left', 'right')[side]} knee and other hand go", x + 0.5 * step,
                   (half_k[0], half_k[1]), (half_h[0], half_h[1]), lift=letter, look=4)
        )  # fmt: skip
        knees[side], hands[hand] = goal, reach
        x = 0.5 * (knees[0] + knees[1]) - 0.02
        out.append(
            _fours(0.3, "sets them down", x, (knees[0], knees[1]), (hands[0], hands[1]), look=-4)
        )
    out.append(_fours(0.4, "rests on hands and knees", x, (knees[0], knees[1]),
                      (hands[0], hands[1])))  # fmt: skip
    return out


KNEES = _KNEES
"""How far before the feet the knees go down, m."""


def get_up() -> list[Keyframe]:
    """From hands and knees to standing; the feet come to the origin, the knees are at `KNEES`."""
    up = rolled(foot(), -50)
    tucked = rolled(foot(), -66)
    return [
        key(
            0.5, "tucks the toes, hips back", pelvis=(0.38, 0, -0.475), tilt=70, trunk=(8, 0, 0),
            head=(-30, 0), on="", left=tucked, right=tucked, supports=_ALL_FOURS,
            lh=_palm(0.78, 0.19), rh=_palm(0.78, -0.19),
        ),
        key(
            0.7, "pushes back onto the feet", pelvis=(0.12, 0, -0.55), tilt=62, trunk=(16, 0, 0),
            head=(-24, 0), on="", left=up, right=up, supports=_ALL_FOURS[:2],
            lh=_palm(0.68, 0.2), rh=_palm(0.68, -0.2),
        ),
        key(
            0.6, "heels down", pelvis=(-0.06, 0, -0.35), tilt=42, trunk=(28, 0, 0),
            head=(-16, 0), on="", supports=_ALL_FOURS[:2],
            shoulder_flexion=54, elbow_flexion=20,
        ),
        stand(0.9),
    ]  # fmt: skip


def pick_up() -> list[Keyframe]:
    """Step beside it, bend knees and back, take it, rise and hold it before the body."""
    right, left = foot(0.16, -0.02, yaw=-6), foot()
    feet: dict[str, Any] = {"left": left, "right": right}
    low = Hand((0.4, -0.08, 0.13), (-0.2, -1.0, 0.3), (-0.2, 0.9, -0.4), True)
    knee = Hand((0.22, 0.12, -0.32), (-0.8, 0.6, 0.2), (0, -0.4, -1))
    held = Hand((0.33, 0.08, -0.06), (-0.2, 0.6, -1), (0, -1, 0.2))
    return [
        key(0.4, "looks down", pelvis=(0.0, 0.05, -0.03), trunk=(6, 0, 0), head=(26, -6)),
        key(0.22, "right foot goes ahead", pelvis=(0.04, 0.06, -0.04), trunk=(8, 0, 0),
            head=(26, -6), on="l", right=raised(foot(0.09, -0.01), 0.06, -6),
            shoulder_flexion=10),
        key(0.2, "right foot down", pelvis=(0.07, 0.02, -0.06), trunk=(10, 0, 0), head=(24, -6),
            on="l", shoulder_flexion=14, **feet),
        key(0.75, "bends knees and back", pelvis=(-0.02, 0.01, -0.32), tilt=42, trunk=(44, 0, -6),
            head=(6, -4), rh=Hand((0.4, -0.08, 0.2), (-0.2, -1.0, 0.3), (0, 1, 0), True),
            lh=knee, **feet),
        key(0.3, "right hand at the floor", pelvis=(-0.02, 0.01, -0.355), tilt=46,
            trunk=(52, 0, -8), head=(4, -4), rh=low, lh=knee, **feet),
        key(0.25, "takes it", pelvis=(-0.02, 0.01, -0.355), tilt=46,
            trunk=(52, 0, -8), head=(4, -4), rh=low, lh=knee, **feet),
        key(0.6, "rises from the knees", pelvis=(0.02, 0.01, -0.2), tilt=26, trunk=(24, 0, -2),
            head=(4, 0), rh=Hand((0.34, 0.1, -0.2), (-0.3, 0.6, -0.9)), lh=knee, **feet),
        key(0.5, "stands and holds it", pelvis=(0.07, 0.0, -0.03), trunk=(3, 0, 0), head=(18, -4),
            rh=held, **feet),
        key(0.22, "left foot comes", pelvis=(0.13, -0.04, -0.03), trunk=(2, 0, 0), head=(18, -4),
            rh=held, on="r", right=right, left=raised(foot(0.1), 0.05, -6)),
        key(0.22, "left foot beside", pelvis=(0.15, -0.01, -0.02), trunk=(2, 0, 0), head=(14, -4),
            rh=held, on="r", right=right, left=foot(0.16)),
        key(0.4, "looks at it", pelvis=(0.16, 0, -0.015), trunk=(1, 0, 0), head=(20, -4), rh=held,
            right=right, left=foot(0.16)),
    ]  # fmt: skip


def balance() -> list[Keyframe]:
    """Shift over the right foot, lift the left knee, arms out, sway a little, set it down."""
    over = (0.0, -0.085, -0.02)
    up = raised(foot(0.16, -0.02), 0.36, -24)
    near = rolled(foot(), -34)

    def held(dt: float, lean: float, bend: float, out: float) -> Keyframe:
        return key(
            dt, "balances on the right leg", pelvis=(0.0, -0.085 - 0.001 * lean, -0.025),
            lean=0.3 * lean, trunk=(bend, lean, 0), head=(4, 0), on="r",
            left=raised(up, 0.01 * bend, 0), left_shoulder_abduction=74 - out,
            right_shoulder_abduction=74 + out, elbow_flexion=14, shoulder_flexion=8,
        )  # fmt: skip

    arms: dict[str, Any] = {
        "shoulder_abduction": 40.0,
        "shoulder_flexion": 6.0,
        "elbow_flexion": 14.0,
    }
    return [
        key(0.6, "weight over the right foot", pelvis=over, trunk=(2, 2, 0), head=(4, 0),
            shoulder_abduction=22),
        key(0.3, "left heel up", pelvis=over, trunk=(2, 2, 0), head=(4, 0), on="r", left=near,
            **arms),
        held(0.6, -3, 2, 6), held(0.6, 3, -1, -8), held(0.6, -2, 2, 5), held(0.5, 1, 1, -3),
        held(0.5, 0, 1, 0),
        key(0.5, "lowers the left foot", pelvis=over, trunk=(2, 0, 0), head=(4, 0), on="r",
            left=raised(foot(0.02), 0.05, -14), **arms),
        key(0.2, "left foot down", pelvis=over, trunk=(2, 0, 0), on="r", left=foot(),
            shoulder_abduction=20),
        stand(0.6),
    ]  # fmt: skip


def hop(count: int = 3) -> list[Keyframe]:
    """Hop on the right leg, the left heel drawn up behind; the arms help."""
    side = -0.085
    up = raised(foot(-0.2, -0.02), 0.3, -62)
    rise = 0.075
    t = math.sqrt(2.0 * rise / 9.81)
    arms: dict[str, Any] = {"shoulder_abduction": 26.0, "elbow_flexion": 62.0}
    out = [
        key(0.5, "weight over the right foot", pelvis=(0, side, -0.03), trunk=(3, 0, 0)),
        key(0.18, "left heel up", pelvis=(0, side, -0.03), on="r", left=rolled(foot(), -36),
            trunk=(4, 0, 0), **arms),
        key(0.35, "draws the left foot up", pelvis=(0, side, -0.04), on="r", left=up,
            trunk=(5, 0, 0), **arms),
    ]  # fmt: skip
    for i in range(count):
        x = 0.0
        out += [
            key(0.3 if i == 0 else 0.2, "dips", pelvis=(x, side, -0.13), tilt=6, trunk=(12, 0, 0),
                on="r", left=raised(up, -0.05), shoulder_flexion=-16, **arms),
            key(0.2, "pushes off", pelvis=(x, side, -0.015), trunk=(2, 0, 0), on="r", left=up,
                shoulder_flexion=22, **arms),
            key(t, "in the air", pelvis=(x, side, rise), trunk=(2, 0, 0), on="",
                left=raised(up, rise), right=raised(foot(), rise, -34), shoulder_flexion=34,
                **arms),
            key(t, "lands on the right foot", pelvis=(x, side, -0.02), trunk=(4, 0, 0), on="",
                left=up, right=foot(), shoulder_flexion=14, **arms),
        ]  # fmt: skip
    out += [
        key(0.24, "gives in the knee", pelvis=(0, side, -0.11), tilt=6, trunk=(10, 0, 0), on="r",
            left=raised(up, -0.06), shoulder_flexion=4, **arms),
        key(0.4, "straightens", pelvis=(0, side, -0.03), trunk=(3, 0, 0), on="r",
            left=raised(foot(-0.04), 0.08, -24), shoulder_abduction=18, elbow_flexion=34),
        key(0.2, "left foot down", pelvis=(0, side, -0.03), on="r", left=foot()),
        stand(0.5),
    ]  # fmt: skip
    return out
