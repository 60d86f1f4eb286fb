"""Keyframes in our own compact terms: degrees, places of palms, footfalls, contacts as letters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foveal.motion.director.commands import FootTarget, Keyframe, Timing
from foveal.motion.director.library.reach import Hand, Vector, chest_pose, reach
from foveal.motion.skeleton import SIDES, Side, humanoid

REST = {"shoulder_abduction": 8.0, "elbow_flexion": 12.0}
"""What an arm does where nothing is said, degrees."""
CONTACTS: dict[str, frozenset[str]] = {
    "lr": frozenset({"left_foot", "right_foot"}),
    "l": frozenset({"left_foot"}),
    "r": frozenset({"right_foot"}),
    "": frozenset(),
}
HIP = 0.09  # m; the feet of the standing figure are this far aside
_BALL, _HEEL, _SOLE = 0.125, -0.06, 0.066


def other(side: Side) -> Side:
    """Return the other side."""
    return "right" if side == "left" else "left"


def foot(x: float = 0.0, y: float = 0.0, z: float = 0.0, *, yaw: float = 0.0) -> FootTarget:
    """A flat foot, shifted from its rest place (m), turned to the left (degrees)."""
    return FootTarget((x, y, z), math.radians(yaw), 0.0)


def placed(side: Side, x: float, y: float, z: float = 0.0, *, yaw: float = 0.0,
           half: float = HIP) -> FootTarget:  # fmt: skip
    """The foot of a figure that stands at (x, y) and faces `yaw` degrees, `half` m aside."""
    a, sign = math.radians(yaw), 1.0 if side == "left" else -1.0
    return FootTarget(
        (x - sign * half * math.sin(a), y + sign * (half * math.cos(a) - HIP), z), a, 0.0
    )


def rolled(at: FootTarget, pitch: float) -> FootTarget:
    """Roll a flat foot over its ball (negative pitch, degrees) or its heel (positive)."""
    a = math.radians(-pitch)
    pivot = _BALL if pitch < 0 else _HEEL
    # where the ankle goes if the pivot on the sole stays
    ahead = pivot * (1.0 - math.cos(a)) + _SOLE * math.sin(a)
    up = pivot * math.sin(a) - _SOLE * (1.0 - math.cos(a))
    x, y, z = at.position
    c, s = math.cos(at.yaw), math.sin(at.yaw)
    return FootTarget((x + c * ahead, y + s * ahead, z + up), at.yaw, math.radians(pitch))


def raised(at: FootTarget, up: float, pitch: float = 0.0, *, ahead: float = 0.0) -> FootTarget:
    """Lift a foot by `up` m, with its toes up by `pitch` degrees and `ahead` m along itself."""
    x, y, z = at.position
    c, s = math.cos(at.yaw), math.sin(at.yaw)
    return FootTarget((x + c * ahead, y + s * ahead, z + up), at.yaw, math.radians(pitch))


def between(a: FootTarget, b: FootTarget, share: float) -> FootTarget:
    """Return the foot that is `share` of the way from one place to another, its pitch too."""
    p, q = np.array(a.position), np.array(b.position)
    x, y, z = (float(v) for v in p + share * (q - p))
    return FootTarget(
        (x, y, z), a.yaw + share * (b.yaw - a.yaw), a.pitch + share * (b.pitch - a.pitch)
    )


def spread(
    trunk: Vector = (0.0, 0.0, 0.0), head: tuple[float, float] = (0.0, 0.0)
) -> dict[str, float]:
    """Spread the trunk's bend, lean and turn and the head's bend and turn over hinges, degrees."""
    bend, lean, turn = trunk
    nod, look = head
    return {
        "spine_bend": 0.45 * bend, "chest_bend": 0.55 * bend,
        "spine_lean": 0.5 * lean, "chest_lean": 0.5 * lean,
        "spine_turn": 0.27 * turn, "chest_turn": 0.73 * turn,
        "neck_bend": 0.65 * nod, "head_bend": 0.35 * nod, "neck_turn": look,
    }  # fmt: skip


def key(
    dt: float,
    words: str,
    *,
    pelvis: Vector = (0.0, 0.0, -0.01),
    tilt: float = 0.0,
    turn: float = 0.0,
    lean: float = 0.0,
    trunk: Vector = (0.0, 0.0, 0.0),
    head: tuple[float, float] = (0.0, 0.0),
    left: FootTarget | None = None,
    right: FootTarget | None = None,
    feet: bool = True,
    on: str = "lr",
    lh: Hand | None = None,
    rh: Hand | None = None,
    timing: Mapping[str, Timing] | None = None,
    supports: Sequence[str] = (),
    levels: Mapping[str, float] | None = None,
    **degrees: float,
) -> Keyframe:
    """One keyframe; hinge names without a side apply to both sides.

    Args:
        dt: As of `Keyframe`, as are `pelvis`, `timing`, `supports` and `levels`.
        words: The pose in words.
        pelvis: Shift of the pelvis, m.
        tilt: Bend forward of the pelvis, degrees.
        turn: Turn to the left of the pelvis, degrees.
        lean: Lean to the left of the pelvis, degrees.
        trunk: Bend forward, lean to the left and turn to the left of the back, degrees.
        head: Bend forward and turn to the left of the head, degrees.
        left: The left foot; None is the rest place.
        right: The right foot.
        feet: False leaves the legs to their hinge angles.
        on: The planted feet: "lr", "l", "r" or "".
        lh: Place of the left palm; else the arm is at rest or as its hinges say.
        rh: Place of the right palm.
        timing: When parts move.
        supports: What else bears weight.
        levels: Height under contacts, m.
        degrees: Hinge angles.
    """
    out = {f"{side}_{name}": value for side in SIDES for name, value in REST.items()}
    out |= {name: value for name, value in spread(trunk, head).items() if value}
    for name, value in degrees.items():
        sided = name.startswith(("left_", "right_", "spine", "chest", "neck", "head"))
        for full in (name,) if sided else (f"left_{name}", f"right_{name}"):
            out[full] = value
    angles = {name: math.radians(value) for name, value in out.items()}
    tilt, turn, lean = math.radians(tilt), math.radians(turn), math.radians(lean)
    for side, hand in (("left", lh), ("right", rh)):
        if hand is not None:
            chest = chest_pose(pelvis, turn, tilt, lean, angles)
            angles |= reach("left" if side == "left" else "right", hand, chest)
    targets: dict[Side, FootTarget] = {}
    if feet:
        targets = {"left": left or FootTarget(), "right": right or FootTarget()}
        for side, at in targets.items():
            if at.pitch < 0 and f"{side}_toes_extension" not in angles:
                angles[f"{side}_toes_extension"] = min(-at.pitch, math.radians(60.0))
    return Keyframe(
        dt, words, angles, pelvis, turn, tilt, targets, CONTACTS[on], False, lean, timing or {},
        frozenset(supports), levels or {},
    )  # fmt: skip


def stand(dt: float = 0.6, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0,
          words: str = "stands upright, arms at the sides") -> Keyframe:  # fmt: skip
    """Stand at a place, m and degrees."""
    levels = {"left_foot": z, "right_foot": z} if z else None
    return key(
        dt, words, pelvis=(x, y, z - 0.01), turn=yaw, levels=levels,
        left=placed("left", x, y, z, yaw=yaw), right=placed("right", x, y, z, yaw=yaw),
    )  # fmt: skip


def mirrored(keyframe: Keyframe) -> Keyframe:
    """Swap left and right."""

    def name(full: str) -> str:
        side, _, rest = full.partition("_")
        return f"{other('left' if side == 'left' else 'right')}_{rest}" if side in SIDES else full

    middle = ("lean", "turn")
    x, y, z = keyframe.pelvis
    feet: dict[Side, FootTarget] = {
        other(side): FootTarget((at.position[0], -at.position[1], at.position[2]), -at.yaw,
                                at.pitch)
        for side, at in keyframe.feet.items()
    }  # fmt: skip
    words = keyframe.description.replace("left", "\0").replace("right", "left")
    return replace(
        keyframe,
        description=words.replace("\0", "right"),
        angles={
            name(full): -value if full.endswith(middle) else value
            for full, value in keyframe.angles.items()
        },
        pelvis=(x, -y, z),
        turn=-keyframe.turn,
        lean=-keyframe.lean,
        feet=feet,
        contacts=frozenset(name(c) for c in keyframe.contacts),
        timing={name(part): t for part, t in keyframe.timing.items()},
        supports=frozenset(name(c) for c in keyframe.supports),
        levels={name(c): z for c, z in keyframe.levels.items()},
    )


@dataclass(frozen=True)
class Place:
    """Where a standing figure is, m, and where it faces, rad."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0

    def after(self, keyframe: Keyframe) -> "Place":
        """Return where a keyframe leaves the figure: between its feet."""
        rest = {side: _rest(side) for side in SIDES}
        at = [rest[s] + np.array(f.position[:2]) for s, f in keyframe.feet.items()]
        if not at:
            x, y = keyframe.pelvis[:2]
            return Place(x, y, 0.0, keyframe.turn)
        middle = np.mean(at, axis=0)
        z = min(f.position[2] for f in keyframe.feet.values())
        back = rest["left"][0]
        x = float(middle[0]) - back * math.cos(keyframe.turn)
        y = float(middle[1]) - back * math.sin(keyframe.turn)
        return Place(x, y, z, keyframe.turn)


def _rest(side: Side) -> np.ndarray:
    body = humanoid()
    at = body.offsets[body.body(f"{side}_thigh")][:2]
    return np.array(at)


def moved(keyframe: Keyframe, place: Place) -> Keyframe:
    """Carry a keyframe, made for the start frame, to where a figure stands."""
    if place == Place():
        return keyframe
    c, s = math.cos(place.yaw), math.sin(place.yaw)
    turned = np.array([[c, -s], [s, c]])
    start = np.array([place.x, place.y])

    def carry(xy: tuple[float, float]) -> np.ndarray:
        return turned @ np.array(xy) + start

    x, y = (float(v) for v in carry(keyframe.pelvis[:2]))
    feet: dict[Side, FootTarget] = {}
    for side, at in keyframe.feet.items():
        rest = _rest(side)
        px, py = carry((rest[0] + at.position[0], rest[1] + at.position[1])) - rest
        feet[side] = FootTarget(
            (float(px), float(py), at.position[2] + place.z), at.yaw + place.yaw, at.pitch
        )
    levels = dict(keyframe.levels)
    if place.z:
        levels = {f"{side}_foot": levels.get(f"{side}_foot", 0.0) + place.z for side in SIDES}
    return replace(
        keyframe, pelvis=(x, y, keyframe.pelvis[2] + place.z), feet=feet, levels=levels,
        turn=keyframe.turn + place.yaw,
    )  # fmt: skip
