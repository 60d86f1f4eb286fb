"""Four sets of a user's keyframes, as data: what in-betweening is tried on."""

from dataclasses import replace
from typing import Any

from foveal.motion.director.commands import Keyframe
from foveal.motion.director.library.keys import foot, key, placed, rolled
from foveal.motion.director.library.reach import Hand


def arms() -> tuple[Keyframe, ...]:
    """Arms up, out, and down."""
    up: dict[str, Any] = {"clavicle_elevation": 26.0, "shoulder_flexion": 166.0,
                          "shoulder_abduction": 16.0, "elbow_flexion": 8.0}  # fmt: skip
    return (
        key(0.0, "both arms up", pelvis=(-0.002, 0, -0.008), trunk=(-3, 0, 0), **up),
        key(1.0, "arms out", pelvis=(-0.006, 0, -0.01), shoulder_flexion=4, shoulder_abduction=86,
            elbow_flexion=6),
        key(1.0, "arms down", pelvis=(-0.006, 0, -0.01)),
    )  # fmt: skip


def lunge() -> tuple[Keyframe, ...]:
    """Stand, lunge with the right foot, stand again."""
    ahead = foot(0.64)
    heel = rolled(foot(), -40)
    start = key(0.0, "stands", pelvis=(-0.005, 0.0, -0.015))
    step = key(0.7, "right foot ahead", pelvis=(0.24, 0.02, -0.1), right=ahead, on="l",
               trunk=(3, 0, 0), shoulder_flexion=6, elbow_flexion=26)  # fmt: skip
    low = key(0.6, "lunges", pelvis=(0.43, -0.04, -0.26), right=ahead, left=heel, on="r",
              trunk=(4, 0, 0), shoulder_flexion=10, elbow_flexion=50)  # fmt: skip
    up = replace(step, dt=0.6, contacts=low.contacts, description="pushes back")
    end = key(0.8, "stands", pelvis=(-0.005, 0.0, -0.015), on="l")
    return start, step, low, up, end


def low_to_high() -> tuple[Keyframe, ...]:
    """From the floor at the left to high at the right."""
    low = Hand((0.32, 0.3, 0.24), (-0.2, 1.0, 0.3), None, True)
    rest = Hand((0.24, 0.12, -0.26), (-0.6, 0.7, -0.3))
    high = Hand((0.16, 0.3, 0.72), (0.3, 1.0, -0.2))
    return (
        key(0.0, "stands", pelvis=(-0.006, 0, -0.012)),
        key(1.1, "left hand near the floor", pelvis=(-0.055, 0.02, -0.32), tilt=42,
            trunk=(44, 8, 12), head=(-4, 16), lh=low, rh=rest),
        key(1.2, "right hand high", pelvis=(-0.006, -0.03, -0.012), trunk=(-3, -4, -12),
            head=(-20, -18), rh=high, left_shoulder_flexion=-6),
    )  # fmt: skip


def half_turn() -> tuple[Keyframe, ...]:
    """Half a turn to the right in four steps."""

    def turned(
        dt: float, pelvis: float, right: float, left: float, on: str, x: float = 0.0
    ) -> Keyframe:
        return key(dt, f"turned by {-pelvis:.0f} degrees", pelvis=(x, 0.0, -0.02), turn=pelvis,
                   on=on, right=placed("right", 0, 0, yaw=right),
                   left=placed("left", 0, 0, yaw=left))  # fmt: skip

    return (
        turned(0.0, 0, 0, 0, "lr", -0.005),
        turned(0.7, -45, -80, 0, "l", 0.0),
        turned(0.7, -90, -80, -100, "r", 0.0),
        turned(0.7, -135, -170, -100, "l", 0.0),
        turned(0.7, -180, -180, -180, "r", 0.005),
        turned(0.4, -180, -180, -180, "lr", 0.005),
    )


KEYSETS = {
    "in-between arms": arms,
    "in-between lunge": lunge,
    "in-between low to high": low_to_high,
    "in-between half turn": half_turn,
}
"""Sets of user keyframes by the names of the fact list."""
