"""Slow, balanced actions that the physics tracker can follow: joint targets in degrees.

Every function returns keyframes from standing back to standing in their own start frame;
`Scripted` joins them. Positive angles: flexion moves a limb forward, abduction outward, bend
forward, lean and turn to the left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from foveal.motion.director.commands import Keyframe
from foveal.motion.director.library.careful_steps import (
    jump,
    key,
    kick,
    stand_up,
    step,
    walk,
)
from foveal.motion.director.library.keys import other
from foveal.motion.skeleton import Side


def stand(side: Side) -> list[Keyframe]:
    """Stand still for a second."""
    del side
    return [stand_up(1.0)]


def wave(side: Side) -> list[Keyframe]:
    """Raise one hand above the head and swing it."""

    def up(dt: float, out: float, words: str) -> Keyframe:
        arm: dict[str, Any] = {
            f"{side}_clavicle_elevation": 20.0,
            f"{side}_shoulder_flexion": 155.0,
            f"{side}_shoulder_abduction": out,
            f"{side}_elbow_flexion": 35.0,
            f"{side}_wrist_rotation": -65.0,  # the palm faces who is greeted
        }
        return key(dt, words, pelvis=(0, 0, -0.01), **arm)

    swings = [(0.7, 12.0), (0.3, 38.0), (0.3, 6.0), (0.3, 38.0), (0.3, 12.0)]
    return [up(dt, out, f"{side} hand above the head, swinging") for dt, out in swings] + [
        stand_up(0.7)
    ]


def bow(side: Side) -> list[Keyframe]:
    """Bend the trunk forward and come back; the hips go back to keep balance."""
    del side
    low: dict[str, Any] = {"spine_bend": 22.0, "chest_bend": 15.0, "neck_bend": 10.0}
    down = key(
        0.9, "bows, trunk forward", pelvis=(-0.09, 0, -0.03), tilt=28, shoulder_flexion=12, **low
    )
    hold = key(0.4, "holds the bow", pelvis=(-0.09, 0, -0.03), tilt=28, shoulder_flexion=12, **low)
    return [down, hold, stand_up(0.9)]


def squat(side: Side) -> list[Keyframe]:
    """Bend the knees deeply with the arms held forward."""
    del side
    arms: dict[str, Any] = {"shoulder_flexion": 75.0, "shoulder_abduction": 5.0}
    low = (-0.10, 0.0, -0.33)
    return [
        key(0.9, "squats, thighs low, arms forward", pelvis=low, tilt=24, spine_bend=12, **arms),
        key(0.3, "holds the squat", pelvis=low, tilt=24, spine_bend=12, **arms),
        stand_up(0.9),
    ]


def stretch(side: Side) -> list[Keyframe]:
    """Raise both arms above the head."""
    del side
    up: dict[str, Any] = {
        "clavicle_elevation": 25.0,
        "shoulder_flexion": 168.0,
        "shoulder_abduction": 33.0,
        "elbow_flexion": 8.0,
    }
    return [
        key(0.5, "arms forward", pelvis=(0, 0, -0.01), shoulder_flexion=85, elbow_flexion=20),
        key(0.6, "both arms above the head", pelvis=(0, 0, -0.01), spine_bend=-6, **up),
        key(0.5, "holds the stretch", pelvis=(0, 0, -0.01), spine_bend=-6, **up),
        key(0.6, "arms forward", pelvis=(0, 0, -0.01), shoulder_flexion=85, elbow_flexion=20),
        stand_up(0.6),
    ]


def punch(side: Side) -> list[Keyframe]:
    """Guard, then two straight punches, the named side first."""
    guard: dict[str, Any] = {
        "shoulder_flexion": 40.0,
        "elbow_flexion": 125.0,
        "shoulder_abduction": 8.0,
    }
    out = [key(0.5, "guard up", pelvis=(0, 0, -0.06), **guard)]
    for hand in (side, other(side)):
        hit: dict[str, Any] = {
            f"{hand}_shoulder_flexion": 85.0, f"{hand}_elbow_flexion": 6.0,
            "chest_turn": 18.0 if hand == "right" else -18.0,
        }  # fmt: skip
        out.append(key(0.25, f"{hand} punch", pelvis=(0, 0, -0.06), **(guard | hit)))
        out.append(key(0.25, "guard up", pelvis=(0, 0, -0.06), **guard))
    return [*out, stand_up(0.6)]


def crouch(side: Side) -> list[Keyframe]:
    """Sit down into a low crouch with the hands near the knees."""
    del side
    low = (-0.06, 0.0, -0.45)
    arms: dict[str, Any] = {"shoulder_flexion": 50.0, "elbow_flexion": 30.0}
    return [
        key(1.1, "crouches low", pelvis=low, tilt=38, spine_bend=20, chest_bend=10, **arms),
        key(0.4, "holds the crouch", pelvis=low, tilt=38, spine_bend=20, chest_bend=10, **arms),
        stand_up(1.1),
    ]


def turn(side: Side) -> list[Keyframe]:
    """Turn the trunk to one side and look there; the feet stay."""
    sign = 1.0 if side == "left" else -1.0
    twist: dict[str, Any] = {
        "spine_turn": sign * 14.0,
        "chest_turn": sign * 38.0,
        "neck_turn": sign * 35.0,
    }
    return [
        key(0.7, f"turns to the {side}", pelvis=(0, 0, -0.02), turn=sign * 12, **twist),
        key(0.4, "looks there", pelvis=(0, 0, -0.02), turn=sign * 12, **twist),
        stand_up(0.7),
    ]


def lean(side: Side) -> list[Keyframe]:
    """Lean the trunk sideways."""
    sign = 1.0 if side == "left" else -1.0
    bent: dict[str, Any] = {
        "spine_lean": sign * 20.0,
        "chest_lean": sign * 16.0,
        "neck_lean": sign * 8.0,
    }
    hips = (0.0, -sign * 0.05, -0.02)
    return [
        key(0.7, f"leans to the {side}", pelvis=hips, **bent),
        key(0.4, "holds", pelvis=hips, **bent),
        stand_up(0.7),
    ]


def drink(side: Side) -> list[Keyframe]:
    """Lift a hand to the mouth, tip the head back, and lower it."""
    arm: dict[str, Any] = {
        f"{side}_shoulder_flexion": 62.0, f"{side}_elbow_flexion": 138.0,
        f"{side}_shoulder_abduction": 12.0, f"{side}_shoulder_rotation": -42.0,
    }  # fmt: skip
    return [
        key(0.8, f"{side} hand at the mouth", pelvis=(0, 0, -0.01), **arm),
        key(0.5, "drinks, head back", pelvis=(0, 0, -0.01), neck_bend=-14, head_bend=-10, **arm),
        key(0.5, "lowers the head", pelvis=(0, 0, -0.01), **arm),
        stand_up(0.8),
    ]


@dataclass(frozen=True)
class Action:
    """A library entry: how it is made, what it is called, what must be true of the result."""

    make: Callable[[Side], list[Keyframe]]
    synonyms: tuple[str, ...]
    predicate: str
    default_side: Side = "right"


ACTIONS: dict[str, Action] = {
    "stand": Action(stand, ("stand", "wait", "idle", "stay"), "upright"),
    "wave": Action(wave, ("wave", "greet", "hello", "hail"), "hand_above_head"),
    "bow": Action(bow, ("bow", "curtsy"), "torso_pitched"),
    "squat": Action(squat, ("squat", "kneebend"), "pelvis_lowered"),
    "stretch": Action(stretch, ("stretch", "cheer", "raise"), "both_hands_above_head"),
    "walk": Action(walk, ("walk", "stroll", "go"), "moved_forward"),
    "step": Action(step, ("step", "march", "stomp"), "feet_lifted_in_turn"),
    "jump": Action(jump, ("jump", "leap"), "both_feet_off_ground"),
    "kick": Action(kick, ("kick",), "foot_kicked"),
    "punch": Action(punch, ("punch", "box", "jab", "hit"), "hands_punched"),
    "crouch": Action(crouch, ("crouch", "duck"), "pelvis_lowered"),
    "turn": Action(turn, ("turn", "look", "twist"), "trunk_turned", "left"),
    "lean": Action(lean, ("lean", "sway", "tilt"), "trunk_leaned", "left"),
    "drink": Action(drink, ("drink", "sip"), "hand_at_mouth"),
}
"""Actions that `Scripted` knows, by name."""
