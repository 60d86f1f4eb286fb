"""Slow, balanced actions that the physics tracker can follow: joint targets in degrees.

Every function returns keyframes from standing back to standing in their own start frame;
`Scripted` joins them. Positive angles: flexion moves a limb forward, abduction outward, bend
forward, lean and turn to the left.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from foveal.motion.director.commands import FootTarget, Keyframe
from foveal.motion.skeleton import Side

_BOTH = frozenset({"left_foot", "right_foot"})
_NONE: frozenset[str] = frozenset()
_REST = {"shoulder_abduction": 8.0, "elbow_flexion": 12.0}


def _angles(**degrees: float) -> dict[str, float]:
    """Fill both arms with the rest pose; names without a side apply to both sides."""
    out = {f"{side}_{name}": value for side in ("left", "right") for name, value in _REST.items()}
    for name, value in degrees.items():
        sided = name.startswith(("left_", "right_", "spine", "chest", "neck", "head"))
        for full in (name,) if sided else (f"left_{name}", f"right_{name}"):
            out[full] = value
    return {name: math.radians(value) for name, value in out.items()}


def _key(
    dt: float,
    description: str,
    *,
    pelvis: tuple[float, float, float] = (0.0, 0.0, 0.0),
    tilt: float = 0.0,
    turn: float = 0.0,
    left: FootTarget | None = None,
    right: FootTarget | None = None,
    contacts: frozenset[str] = _BOTH,
    **degrees: float,
) -> Keyframe:
    feet: dict[Side, FootTarget] = {
        "left": left or FootTarget(),
        "right": right or FootTarget(),
    }
    return Keyframe(
        dt,
        description,
        _angles(**degrees),
        pelvis,
        math.radians(turn),
        math.radians(tilt),
        feet,
        contacts,
    )


def _stand(dt: float = 0.6) -> Keyframe:
    return _key(dt, "stands upright, arms at the sides", pelvis=(0.0, 0.0, -0.01))


def _other(side: Side) -> Side:
    return "right" if side == "left" else "left"


def _lift(side: Side, foot: FootTarget) -> dict[str, Any]:
    return {side: foot}


def stand(side: Side) -> list[Keyframe]:
    """Stand still for a second."""
    del side
    return [_stand(1.0)]


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
        return _key(dt, words, pelvis=(0, 0, -0.01), **arm)

    swings = [(0.7, 12.0), (0.3, 38.0), (0.3, 6.0), (0.3, 38.0), (0.3, 12.0)]
    return [up(dt, out, f"{side} hand above the head, swinging") for dt, out in swings] + [
        _stand(0.7)
    ]


def bow(side: Side) -> list[Keyframe]:
    """Bend the trunk forward and come back; the hips go back to keep balance."""
    del side
    low: dict[str, Any] = {"spine_bend": 22.0, "chest_bend": 15.0, "neck_bend": 10.0}
    down = _key(
        0.9, "bows, trunk forward", pelvis=(-0.09, 0, -0.03), tilt=28, shoulder_flexion=12, **low
    )
    hold = _key(0.4, "holds the bow", pelvis=(-0.09, 0, -0.03), tilt=28, shoulder_flexion=12, **low)
    return [down, hold, _stand(0.9)]


def squat(side: Side) -> list[Keyframe]:
    """Bend the knees deeply with the arms held forward."""
    del side
    arms: dict[str, Any] = {"shoulder_flexion": 75.0, "shoulder_abduction": 5.0}
    low = (-0.10, 0.0, -0.33)
    return [
        _key(0.9, "squats, thighs low, arms forward", pelvis=low, tilt=24, spine_bend=12, **arms),
        _key(0.3, "holds the squat", pelvis=low, tilt=24, spine_bend=12, **arms),
        _stand(0.9),
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
        _key(0.5, "arms forward", pelvis=(0, 0, -0.01), shoulder_flexion=85, elbow_flexion=20),
        _key(0.6, "both arms above the head", pelvis=(0, 0, -0.01), spine_bend=-6, **up),
        _key(0.5, "holds the stretch", pelvis=(0, 0, -0.01), spine_bend=-6, **up),
        _key(0.6, "arms forward", pelvis=(0, 0, -0.01), shoulder_flexion=85, elbow_flexion=20),
        _stand(0.6),
    ]


def walk(side: Side, *, stride: float = 0.28, steps: int = 4) -> list[Keyframe]:
    """Walk forward a few steps; the last one brings the feet together."""
    out: list[Keyframe] = []
    at: dict[Side, float] = {"left": 0.0, "right": 0.0}
    swing = side
    for i in range(steps):
        stance, last = _other(swing), i == steps - 1
        goal = at[stance] if last else at[stance] + stride
        to = 0.075 if stance == "left" else -0.075
        shift = _key(
            0.45 if i == 0 else 0.4,
            f"weight over the {stance} foot",
            pelvis=(at[stance] - (0.02 if i == 0 else 0.06), to, -0.035),
            left=FootTarget((at["left"], 0, 0)),
            right=FootTarget((at["right"], 0, 0)),
        )
        mid_feet: dict[str, Any] = {
            stance: FootTarget((at[stance], 0, 0)),
            swing: FootTarget((0.5 * (at[swing] + goal), 0, 0.09), 0.0, -0.1),
            f"{stance}_shoulder_flexion": 18.0,
            f"{swing}_shoulder_flexion": -12.0,
        }
        mid = _key(
            0.3,
            f"{swing} foot passes",
            pelvis=(at[stance], to, -0.03),
            contacts=frozenset({f"{stance}_foot"}),
            **mid_feet,
        )
        at[swing] = goal
        down = _key(
            0.3,
            f"{swing} foot lands",
            pelvis=(at[stance] + (0.0 if last else 0.05), to, -0.045),
            left=FootTarget((at["left"], 0, 0)),
            right=FootTarget((at["right"], 0, 0)),
            contacts=frozenset({f"{stance}_foot"}),
        )
        out += [shift, mid, down]
        swing = stance
    end = FootTarget((at["left"], 0, 0))
    out.append(_key(0.6, "stands", pelvis=(at["left"], 0, -0.01), left=end, right=end))
    return out


def step(side: Side) -> list[Keyframe]:
    """Step in place: lift one foot, then the other."""
    return walk(side, stride=0.0, steps=2)


def jump(side: Side) -> list[Keyframe]:
    """Jump straight up; the flight time is that of a 0.16 m ballistic rise."""
    del side
    rise, g = 0.16, 9.81
    fly = math.sqrt(2.0 * rise / g)
    air = FootTarget((0.0, 0.0, rise), 0.0, -0.5)
    tip = FootTarget((0.0, 0.0, 0.0), 0.0, 0.0)
    return [
        _key(
            0.8, "crouches, arms back", pelvis=(-0.06, 0, -0.26), tilt=24, spine_bend=12,
            shoulder_flexion=-40,
        ),
        _key(
            0.32, "takes off, arms up", pelvis=(0.0, 0, -0.03), shoulder_flexion=120,
            left=tip, right=tip,
        ),
        _key(
            fly, "in the air", pelvis=(0.0, 0, rise - 0.03), shoulder_flexion=130, left=air,
            right=air,
            contacts=_NONE,
        ),
        _key(
            fly, "lands", pelvis=(-0.01, 0, -0.03), shoulder_flexion=60, contacts=_NONE, tilt=5,
        ),
        _key(
            0.3, "absorbs the landing", pelvis=(-0.07, 0, -0.2), tilt=20, spine_bend=10,
            shoulder_flexion=40,
        ),
        _stand(0.7),
    ]  # fmt: skip


def kick(side: Side) -> list[Keyframe]:
    """Kick forward with one leg while standing on the other."""
    stance = _other(side)
    to = 0.085 if stance == "left" else -0.085
    on = frozenset({f"{stance}_foot"})

    def leg(x: float, z: float, pitch: float) -> dict[str, Any]:
        return _lift(side, FootTarget((x, 0, z), 0, pitch))

    arms: dict[str, Any] = {f"{stance}_shoulder_flexion": 40.0, "shoulder_abduction": 25.0}
    return [
        _key(0.6, f"weight over the {stance} foot", pelvis=(0.0, to, -0.03)),
        _key(
            0.4, "draws the leg back", pelvis=(0.0, to, -0.03), contacts=on,
            **leg(-0.22, 0.16, -0.6), **arms,
        ),
        _key(
            0.35, "kicks forward", pelvis=(-0.02, to, -0.03), contacts=on, tilt=-6,
            **leg(0.50, 0.26, 0.35), **arms,
        ),
        _key(
            0.4, "draws the foot back", pelvis=(0.0, to, -0.03), contacts=on,
            **leg(0.1, 0.14, 0.0), **arms,
        ),
        _key(0.4, "sets the foot down", pelvis=(0.0, to, -0.03), contacts=on),
        _stand(0.6),
    ]  # fmt: skip


def punch(side: Side) -> list[Keyframe]:
    """Guard, then two straight punches, the named side first."""
    guard: dict[str, Any] = {
        "shoulder_flexion": 40.0,
        "elbow_flexion": 125.0,
        "shoulder_abduction": 8.0,
    }
    out = [_key(0.5, "guard up", pelvis=(0, 0, -0.06), **guard)]
    for hand in (side, _other(side)):
        hit: dict[str, Any] = {
            f"{hand}_shoulder_flexion": 85.0, f"{hand}_elbow_flexion": 6.0,
            "chest_turn": 18.0 if hand == "right" else -18.0,
        }  # fmt: skip
        out.append(_key(0.25, f"{hand} punch", pelvis=(0, 0, -0.06), **(guard | hit)))
        out.append(_key(0.25, "guard up", pelvis=(0, 0, -0.06), **guard))
    return [*out, _stand(0.6)]


def crouch(side: Side) -> list[Keyframe]:
    """Sit down into a low crouch with the hands near the knees."""
    del side
    low = (-0.06, 0.0, -0.45)
    arms: dict[str, Any] = {"shoulder_flexion": 50.0, "elbow_flexion": 30.0}
    return [
        _key(1.1, "crouches low", pelvis=low, tilt=38, spine_bend=20, chest_bend=10, **arms),
        _key(0.4, "holds the crouch", pelvis=low, tilt=38, spine_bend=20, chest_bend=10, **arms),
        _stand(1.1),
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
        _key(0.7, f"turns to the {side}", pelvis=(0, 0, -0.02), turn=sign * 12, **twist),
        _key(0.4, "looks there", pelvis=(0, 0, -0.02), turn=sign * 12, **twist),
        _stand(0.7),
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
        _key(0.7, f"leans to the {side}", pelvis=hips, **bent),
        _key(0.4, "holds", pelvis=hips, **bent),
        _stand(0.7),
    ]


def drink(side: Side) -> list[Keyframe]:
    """Lift a hand to the mouth, tip the head back, and lower it."""
    arm: dict[str, Any] = {
        f"{side}_shoulder_flexion": 62.0, f"{side}_elbow_flexion": 138.0,
        f"{side}_shoulder_abduction": 12.0, f"{side}_shoulder_rotation": -42.0,
    }  # fmt: skip
    return [
        _key(0.8, f"{side} hand at the mouth", pelvis=(0, 0, -0.01), **arm),
        _key(0.5, "drinks, head back", pelvis=(0, 0, -0.01), neck_bend=-14, head_bend=-10, **arm),
        _key(0.5, "lowers the head", pelvis=(0, 0, -0.01), **arm),
        _stand(0.8),
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
