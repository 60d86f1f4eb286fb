"""Slow, balanced steps, jumps and kicks, and the terms that all careful actions are in."""

import math
from typing import Any

from foveal.motion.director.commands import FootTarget, Keyframe
from foveal.motion.director.library.keys import other
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


def key(
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
    """One keyframe; angles in degrees, names without a side apply to both sides."""
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


def stand_up(dt: float = 0.6) -> Keyframe:
    """Stand at the start."""
    return key(dt, "stands upright, arms at the sides", pelvis=(0.0, 0.0, -0.01))


def _lift(side: Side, foot: FootTarget) -> dict[str, Any]:
    return {side: foot}


def walk(side: Side, *, stride: float = 0.28, steps: int = 4) -> list[Keyframe]:
    """Walk forward a few steps; the last one brings the feet together."""
    out: list[Keyframe] = []
    at: dict[Side, float] = {"left": 0.0, "right": 0.0}
    swing = side
    for i in range(steps):
        stance, last = other(swing), i == steps - 1
        goal = at[stance] if last else at[stance] + stride
        to = 0.075 if stance == "left" else -0.075
        shift = key(
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
        mid = key(
            0.3,
            f"{swing} foot passes",
            pelvis=(at[stance], to, -0.03),
            contacts=frozenset({f"{stance}_foot"}),
            **mid_feet,
        )
        at[swing] = goal
        down = key(
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
    out.append(key(0.6, "stands", pelvis=(at["left"], 0, -0.01), left=end, right=end))
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
        key(
            0.8, "crouches, arms back", pelvis=(-0.06, 0, -0.26), tilt=24, spine_bend=12,
            shoulder_flexion=-40,
        ),
        key(
            0.32, "takes off, arms up", pelvis=(0.0, 0, -0.03), shoulder_flexion=120,
            left=tip, right=tip,
        ),
        key(
            fly, "in the air", pelvis=(0.0, 0, rise - 0.03), shoulder_flexion=130, left=air,
            right=air,
            contacts=_NONE,
        ),
        key(
            fly, "lands", pelvis=(-0.01, 0, -0.03), shoulder_flexion=60, contacts=_NONE, tilt=5,
        ),
        key(
            0.3, "absorbs the landing", pelvis=(-0.07, 0, -0.2), tilt=20, spine_bend=10,
            shoulder_flexion=40,
        ),
        stand_up(0.7),
    ]  # fmt: skip


def kick(side: Side) -> list[Keyframe]:
    """Kick forward with one leg while standing on the other."""
    stance = other(side)
    to = 0.085 if stance == "left" else -0.085
    on = frozenset({f"{stance}_foot"})

    def leg(x: float, z: float, pitch: float) -> dict[str, Any]:
        return _lift(side, FootTarget((x, 0, z), 0, pitch))

    arms: dict[str, Any] = {f"{stance}_shoulder_flexion": 40.0, "shoulder_abduction": 25.0}
    return [
        key(0.6, f"weight over the {stance} foot", pelvis=(0.0, to, -0.03)),
        key(
            0.4, "draws the leg back", pelvis=(0.0, to, -0.03), contacts=on,
            **leg(-0.22, 0.16, -0.6), **arms,
        ),
        key(
            0.35, "kicks forward", pelvis=(-0.02, to, -0.03), contacts=on, tilt=-6,
            **leg(0.50, 0.26, 0.35), **arms,
        ),
        key(
            0.4, "draws the foot back", pelvis=(0.0, to, -0.03), contacts=on,
            **leg(0.1, 0.14, 0.0), **arms,
        ),
        key(0.4, "sets the foot down", pelvis=(0.0, to, -0.03), contacts=on),
        stand_up(0.6),
    ]  # fmt: skip
