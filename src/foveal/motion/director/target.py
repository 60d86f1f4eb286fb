"""What the Keyframe Designer says: its JSON form, and the checked `Target` that it becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveal.errors import ArgumentError
from foveal.motion.director.commands import EASES, MAX_DT, MIN_DT, MIN_SPAN, Timing
from foveal.motion.director.parts import PARTS
from foveal.motion.director.pose import CONTACT_POINTS
from foveal.motion.posecodes import Fact, parse
from foveal.motion.posecodes.facts import All, AnyOf, Not, Within
from foveal.motion.posecodes.terms import WholeMeasure
from foveal.motion.skeleton import Skeleton

Json = dict[str, Any]
MAX_FACTS, MAX_WORDS = 8, 600


@dataclass(frozen=True, eq=False)
class Target:
    """A keyframe as it is wished for.

    Attributes:
        dt: Seconds from the keyframe before.
        description: The pose in words.
        parts: Part to its place in words.
        timing: Part to when it moves.
        contacts: Parts that bear weight at this keyframe; those that did so before stay in place.
        facts: What must hold in the pose, sentence to fact.
        cyclic: Whether the action repeats.
        starts_cycle: Whether the cycle begins here.
        finished: Whether this is the last keyframe.
        remarks: What could not be used of the answer, for the designer and the transcript.
    """

    dt: float
    description: str
    parts: Mapping[str, str] = field(default_factory=dict)
    timing: Mapping[str, Timing] = field(default_factory=dict)
    contacts: frozenset[str] = frozenset({"left_foot", "right_foot"})
    facts: Mapping[str, Fact] = field(default_factory=dict)
    cyclic: bool = False
    starts_cycle: bool = False
    finished: bool = False
    remarks: tuple[str, ...] = ()


def keyframe_schema(*, extra: Json | None = None, needs: Sequence[str] = ()) -> Json:
    """Return the JSON schema of one keyframe.

    Args:
        extra: Further properties.
        needs: Which of them are required.
    """
    share = {"type": "number", "minimum": 0, "maximum": 1}
    part = {
        "type": "object",
        "properties": {
            "part": {"type": "string", "enum": list(PARTS)},
            "pose": {
                "type": "string", "maxLength": MAX_WORDS, "description": "Where the part is.",
            },
            "start": share | {"description": "Share of the interval where it begins to move."},
            "end": share | {"description": "Share of the interval where it arrives."},
            "ease": {"type": "string", "enum": list(EASES)},
        },
        "required": ["part", "pose"],
        "additionalProperties": False,
    }  # fmt: skip
    contact = {"type": "string", "enum": list(CONTACT_POINTS)}
    fact = {"type": "string", "maxLength": 200}
    properties: Json = {
        "description": {
            "type": "string", "minLength": 1, "maxLength": MAX_WORDS,
            "description": "The whole pose in a sentence or two.",
            "examples": ["Stands with the left hand on the hip and looks down at it."],
        },
        "parts": {
            "type": "array", "items": part, "maxItems": 2 * len(PARTS),
            "examples": [[
                {"part": "left_arm", "pose": "left hand on the left hip, elbow out to the left"},
                {
                    "part": "head", "pose": "looks down at the hand",
                    "start": 0.2, "end": 0.9, "ease": "slow_start",
                },
            ]],
        },
        "dt": {
            "type": "number", "minimum": MIN_DT, "maximum": MAX_DT, "examples": [0.6],
            "description": "Seconds from the keyframe before.",
        },
        "contacts": {
            "type": "array", "items": contact, "maxItems": len(CONTACT_POINTS),
            "description": "What bears weight at this keyframe.",
            "examples": [["left_foot", "right_foot"]],
        },
        "facts": {
            "type": "array", "items": fact, "maxItems": MAX_FACTS,
            "description": "What must hold in the pose.",
            "examples": [["left hand within 0.2 m of left hip", "left elbow 60 to 120 degrees"]],
        },
    }  # fmt: skip
    ends: Json = {
        "starts_cycle": {
            "type": "boolean",
            "description": "Whether the cycle begins here.",
            "examples": [False],
        },
    }
    return {
        "type": "object",
        "properties": properties | ends | (extra or {}),
        "required": [*properties, *needs],
        "additionalProperties": False,
    }


def designer_schema() -> Json:
    """Return the JSON schema of the Designer's answer in the faithful mode."""
    extra: Json = {
        "cyclic": {
            "type": "boolean",
            "description": "Whether the action repeats.",
            "examples": [False],
        },
        "finished": {
            "type": "boolean",
            "description": "Whether this is the last keyframe.",
            "examples": [False],
        },
    }
    return keyframe_schema(extra=extra, needs=["finished"])


def contradictions(answer: Mapping[str, Any]) -> list[str]:
    """List what contradicts itself in an answer that fits the schema; empty if nothing does."""
    found: list[str] = []
    seen: dict[str, str] = {}
    for entry in answer["parts"]:
        part, pose = entry["part"], entry["pose"]
        if part in seen and seen[part] != pose:
            found.append(f"{part} is described twice, differently")
        seen[part] = pose
        if entry.get("end", 1.0) - entry.get("start", 0.0) < MIN_SPAN:
            found.append(f"{part} ends before it starts, or within {MIN_SPAN} of it")
    if answer.get("starts_cycle") and answer.get("cyclic") is False:
        found.append("the cycle starts here, and the action is not cyclic")
    return found


def read_target(
    answer: Mapping[str, Any], skeleton: Skeleton, surfaces: Sequence[str] = ()
) -> Target:
    """Make a target of an answer that fits `keyframe_schema`.

    What contradicts itself loses: the first words for a part count, a time share that is none is
    left out, and so is a fact that cannot be read; `remarks` says so.

    Args:
        answer: The answer.
        skeleton: The figure; facts may name its points.
        surfaces: Names of the scene's surfaces; facts may name these too.
    """
    remarks = contradictions(answer)
    parts: dict[str, str] = {}
    timing: dict[str, Timing] = {}
    for entry in answer["parts"]:
        part = entry["part"]
        if part in parts:
            continue
        parts[part] = entry["pose"]
        start, end = float(entry.get("start", 0.0)), float(entry.get("end", 1.0))
        own = (start, end, entry.get("ease", "smooth"))
        if own != (0.0, 1.0, "smooth") and end - start >= MIN_SPAN:
            timing[part] = Timing(start, end, entry.get("ease", "smooth"))
    facts: dict[str, Fact] = {}
    for sentence in answer["facts"]:
        try:
            fact = parse(sentence, skeleton=skeleton, surfaces=surfaces)
        except ArgumentError as error:
            remarks.append(f"the fact {sentence!r} cannot be read: {error}")
            continue
        if is_about_pose(fact):
            facts[sentence] = fact
        else:
            remarks.append(f"the fact {sentence!r} is about a motion and not about a pose")
    return Target(
        float(answer["dt"]),
        answer["description"],
        parts,
        timing,
        frozenset(answer["contacts"]),
        facts,
        bool(answer.get("cyclic", False)),
        bool(answer.get("starts_cycle", False)),
        bool(answer.get("finished", False)),
        tuple(remarks),
    )


def is_about_pose(fact: Fact) -> bool:
    """Return whether a fact can be judged in one pose (and the standing start)."""
    match fact:
        case All(facts) | AnyOf(facts):
            return all(is_about_pose(part) for part in facts)
        case Not(inner):
            return is_about_pose(inner)
        case Within():
            still = not isinstance(fact.measure, WholeMeasure) and fact.measure.unit != "m/s"
            return still and not fact.neutral
        case _:
            return False
