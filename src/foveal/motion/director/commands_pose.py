"""The six commands of the Keyframe Animator: what each means exactly, and its JSON form.

Places are in the world frame (x where the figure faced at the start, y to its left then, z up), in
meters; turns are in degrees. Names are those of fixed lists, so that the forms, and with them the
keys of recordings, do not hang on the figure; what a figure lacks is refused when it is applied.

Source: the command set of Zhang et al., "FreeMotion", ECCV 2024, arXiv:2406.10740, table 1.
Differs: the semantics below are ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from foveal.errors import ArgumentError
from foveal.motion.director.pose import POINTS

Vector = tuple[float, float, float]
Joint = Literal[
    "neck", "crown",
    "left elbow", "right elbow", "left wrist", "right wrist", "left fingertips", "right fingertips",
    "left knee", "right knee", "left ankle", "right ankle", "left toes", "right toes",
]  # fmt: skip
Effector = Literal["left hand", "right hand", "left foot", "right foot", "head"]
Bone = Literal[
    "head", "trunk", "left upper arm", "right upper arm", "left forearm", "right forearm",
    "left thigh", "right thigh", "left shin", "right shin",
]  # fmt: skip
JOINTS: tuple[Joint, ...] = get_args(Joint)
EFFECTORS: tuple[Effector, ...] = get_args(Effector)
BONES: tuple[Bone, ...] = get_args(Bone)
MAX_PLACE, MAX_TURN = 50.0, 180.0


@dataclass(frozen=True)
class JointMove:
    """Turn the one bone that ends at a joint, about its own start, until it points at a place.

    The length of every bone stays. What hangs on the joint follows without bending. A target that
    is nearer or farther than the bone is long only gives the direction. For "neck" the whole trunk
    is the bone, bent evenly from the pelvis; for "crown" it is neck and head; for "left toes" the
    foot. A hinge stops at its limit.

    Args:
        joint: Where the bone ends; one of `JOINTS`.
        target: Where it should be, m.
    """

    joint: Joint
    target: Vector


@dataclass(frozen=True)
class EndEffectorMove:
    """Bring a hand, a foot or the head to a place with the whole limb; the pelvis stays.

    A hand moves its arm (with its collarbone, if the figure has one), and also the trunk with
    `reach="trunk"`; a foot moves its leg; the head moves trunk and neck. Out of reach, the limb
    stretches as near as it can. The point is the middle of the palm, the middle of the foot or the
    middle of the head. A foot keeps the turn that its sole has in the world, as far as its ankle
    can. What is planted cannot be moved by this.

    Args:
        effector: One of `EFFECTORS`.
        target: Where it should be, m.
        bend: A place that the elbow or knee should tend to, m; it never costs reach. None leaves
            it near where it is.
        reach: "limb" or "trunk"; only for hands.
    """

    effector: Effector
    target: Vector
    bend: Vector | None = None
    reach: Literal["limb", "trunk"] = "limb"


@dataclass(frozen=True)
class PelvisWithSupport:
    """Move and turn the pelvis while what is planted stays planted, to less than a millimeter.

    Planted legs and arms bend for it; trunk, head and free limbs keep their joint angles and go
    along. If the planted limbs cannot follow, the pelvis stops at the nearest place that they
    allow. A planted pelvis, as on a seat, turns and does not move.

    Args:
        target: Where the pelvis should be, m; None leaves it there.
        lean_forward, lean_left, turn_left: Turns from how it is now, in degrees: the first two
            about its own axes across and ahead, the last about the vertical, which comes first.
    """

    target: Vector | None = None
    lean_forward: float = 0.0
    lean_left: float = 0.0
    turn_left: float = 0.0


@dataclass(frozen=True)
class PelvisWithoutSupport:
    """Move and turn the whole figure as one rigid body: no joint angle changes.

    For jumps, falls, lying down and turning round in the air. It is refused while anything is
    planted.

    Args:
        target: Where the pelvis should be, m; None leaves it there.
        lean_forward, lean_left, turn_left: As of `PelvisWithSupport`.
    """

    target: Vector | None = None
    lean_forward: float = 0.0
    lean_left: float = 0.0
    turn_left: float = 0.0


@dataclass(frozen=True)
class Roll:
    """Twist one bone about its own axis; where its ends are stays.

    Limbs: positive turns the front of the limb outward, away from the body's middle (toes out,
    palm forward). Head and trunk: positive turns the face or chest to the figure's left. Stops at
    the limit.

    Args:
        bone: One of `BONES`; "trunk" spreads the twist over the spine.
        degrees: From how it is now.
    """

    bone: Bone
    degrees: float


@dataclass(frozen=True)
class Camera:
    """Look at the figure from elsewhere in the next picture; the pose stays.

    Args:
        azimuth: Where the camera stands, in degrees to the left of where the pelvis faces: 0 sees
            the front, 90 the left side, 180 the back.
        elevation: How far above the horizon it stands, in degrees; 90 looks straight down.
        focus: The point in the middle of the picture; one of `POINTS`.
    """

    azimuth: float
    elevation: float = 10.0
    focus: str = "chest"


Command = JointMove | EndEffectorMove | PelvisWithSupport | PelvisWithoutSupport | Roll | Camera
NAMES: dict[str, type[Command]] = {
    "joint_move": JointMove,
    "end_effector_move": EndEffectorMove,
    "pelvis_with_support": PelvisWithSupport,
    "pelvis_without_support": PelvisWithoutSupport,
    "roll": Roll,
    "camera": Camera,
}
"""The commands by the names that answers give them."""

Json = dict[str, Any]


def _place(words: str) -> Json:
    number = {"type": "number", "minimum": -MAX_PLACE, "maximum": MAX_PLACE}
    return {"type": "array", "items": number, "minItems": 3, "maxItems": 3, "description": words}


def _degrees(words: str, most: float = MAX_TURN) -> Json:
    return {"type": "number", "minimum": -most, "maximum": most, "description": words}


def _one(name: str, words: str, optional: Sequence[str] = (), **parts: Json) -> Json:
    properties: Json = {"command": {"type": "string", "enum": [name], "description": words}}
    properties |= parts
    needed = [part for part in properties if part not in optional]
    return {
        "type": "object",
        "properties": properties,
        "required": needed,
        "additionalProperties": False,
    }


def _pelvis(name: str, words: str) -> Json:
    turns = {
        "lean_forward": _degrees("Degrees; negative is backward."),
        "lean_left": _degrees("Degrees; negative is to the right."),
        "turn_left": _degrees("Degrees; negative is to the right."),
    }
    place = _place("Where the pelvis should be [x, y, z], m.")
    return _one(name, words, ("target", *turns), target=place, **turns)


def command_schema() -> Json:
    """Return the JSON schema of one command."""
    joint = {"type": "string", "enum": list(JOINTS)}
    effector = {"type": "string", "enum": list(EFFECTORS)}
    bone = {"type": "string", "enum": list(BONES)}
    focus = {"type": "string", "enum": list(POINTS)}
    reach = {"type": "string", "enum": ["limb", "trunk"]}
    return {
        "anyOf": [
            _one(
                "joint_move", "Turn the one bone that ends at the joint towards the target.",
                joint=joint, target=_place("[x, y, z], m."),
            ),
            _one(
                "end_effector_move", "Bring a hand, foot or the head to a place.",
                ("bend", "reach"), effector=effector, target=_place("[x, y, z], m."),
                bend=_place("Where elbow or knee should tend to [x, y, z], m."), reach=reach,
            ),
            _pelvis("pelvis_with_support", "Move the pelvis; what is planted stays."),
            _pelvis("pelvis_without_support", "Move the whole figure; nothing is planted."),
            _one(
                "roll", "Twist a bone about its own axis.", bone=bone,
                degrees=_degrees("Limbs: positive is outward. Head, trunk: positive is left."),
            ),
            _one(
                "camera", "Look from elsewhere in the next picture.", ("elevation", "focus"),
                azimuth=_degrees("0 front, 90 its left side, 180 back.", 360.0),
                elevation=_degrees("Degrees above the horizon.", 90.0), focus=focus,
            ),
        ]
    }  # fmt: skip


def read_command(answer: Mapping[str, Any]) -> Command:
    """Make a command of an answer that fits `command_schema`.

    Raises:
        ArgumentError: an unknown command or argument, a name that is not of its list, a number
            that is not finite.
    """
    values = dict(answer)
    name = values.pop("command", None)
    if name not in NAMES:
        raise ArgumentError(
            f"read_command: command is {name!r}, must be one of {', '.join(NAMES)}; rename it"
        )
    allowed: dict[str, Sequence[str]] = {
        "joint": JOINTS, "effector": EFFECTORS, "bone": BONES, "focus": POINTS,
        "reach": ("limb", "trunk"),
    }  # fmt: skip
    for key, value in values.items():
        if key in allowed and value not in allowed[key]:
            raise ArgumentError(
                f"read_command: {key} is {value!r}, must be one of {', '.join(allowed[key])}; "
                "rename it"
            )
        if key in ("target", "bend"):
            values[key] = tuple(float(x) for x in value)
        elif isinstance(value, int) and not isinstance(value, bool):
            values[key] = float(value)
        numbers = values[key] if isinstance(values[key], tuple) else (values[key],)
        if any(isinstance(x, int | float) and not math.isfinite(x) for x in numbers):
            raise ArgumentError(f"read_command: {key} is {value!r}, must be finite; correct it")
    try:
        return NAMES[name](**values)
    except TypeError as error:
        raise ArgumentError(
            f"read_command: {name} has {', '.join(values) or 'nothing'}, must have the arguments "
            f"of {NAMES[name].__name__}; see its docstring"
        ) from error


def part_of(command: Command) -> str:
    """Return the part that a command adjusts, or "" for the camera."""
    if isinstance(command, PelvisWithSupport | PelvisWithoutSupport):
        return "pelvis"
    if isinstance(command, Camera):
        return ""
    if isinstance(command, JointMove):
        name: str = command.joint
    elif isinstance(command, EndEffectorMove):
        name = command.effector
    else:
        name = command.bone
    side, _, rest = name.partition(" ")
    if not rest:
        return {"neck": "trunk", "trunk": "trunk"}.get(name, "head")
    leg = rest in ("knee", "ankle", "toes", "foot", "thigh", "shin")
    return f"{side}_{'leg' if leg else 'arm'}"
