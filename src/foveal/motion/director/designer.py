"""The Keyframe Designer: one keyframe a question, from the pose that really came out.

Source: Zhang et al., "FreeMotion", ECCV 2024, arXiv:2406.10740 (sequential design on the realized
pose, render and coordinates; the designer ends the action). Differs: contacts, timing and facts are
part of each keyframe; scene facts are computed; a claim to be finished is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from foveal.motion.director.animator import Stage, world_prompt
from foveal.motion.director.chat.request import Message, Request
from foveal.motion.director.commands_pose import command_schema
from foveal.motion.director.constraints import Constraints
from foveal.motion.director.picture import contact_sheet, table
from foveal.motion.director.pose import Pose, directions, points
from foveal.motion.director.prompts import DESIGNER, FACTS, FAST, fill_in, prompt
from foveal.motion.director.scene_facts import describe
from foveal.motion.director.target import Json, designer_schema, keyframe_schema

MAX_COMMANDS = 16


@dataclass(frozen=True, eq=False)
class Moment:
    """Where the Designer stands.

    Attributes:
        pose: The pose that came out last.
        time: Its time, s.
        planted: What is planted in it.
        history: A line for each keyframe so far.
        remarks: What the Designer must know of its last answer.
        left: Keyframes that may still be designed.
    """

    pose: Pose
    time: float
    planted: frozenset[str]
    history: tuple[str, ...]
    remarks: tuple[str, ...]
    left: int


def _sections(stage: Stage, moment: Moment, constraints: Constraints) -> str:
    shown = points(stage.skeleton, moment.pose)
    sections: Sequence[tuple[str, str]] = (
        ("The instruction", stage.instruction),
        ("What is fixed", constraints.words()),
        ("Keyframes so far, as they came out", "\n".join(moment.history)),
        ("To know", "\n".join(f"- {remark}" for remark in moment.remarks)),
        (f"The figure now, at t = {moment.time:.2f} s: points [x, y, z]", table(shown)),
        ("Directions", directions(stage.skeleton, moment.pose)),
        (
            "The scene and the figure in it",
            describe(stage.skeleton, moment.pose, stage.scene, sorted(moment.planted), shown),
        ),
    )
    return "\n\n".join(f"## {title}\n{body}" for title, body in sections if body)


def designer_request(stage: Stage, moment: Moment, constraints: Constraints, turn: int) -> Request:
    """Ask for the next keyframe."""
    text = _sections(stage, moment, constraints)
    text += (
        f"\n\n## Now\nDesign the next keyframe. At most {moment.left} more are possible; "
        "say finished with the last one."
    )
    return _request(stage, moment, "designer", turn, DESIGNER, text, designer_schema())


def fast_schema() -> Json:
    """Return the JSON schema of a whole motion in one answer."""
    commands = {
        "type": "array", "items": command_schema(), "maxItems": MAX_COMMANDS,
        "description": "Carried out in order.",
        "examples": [[
            {"command": "end_effector_move", "effector": "left hand", "target": [0.3, 0.2, 1.1]},
        ]],
    }  # fmt: skip
    key = keyframe_schema(extra={"commands": commands}, needs=["commands"])
    return {
        "type": "object",
        "properties": {
            "cyclic": {
                "type": "boolean",
                "description": "Whether the action repeats.",
                "examples": [False],
            },
            "keyframes": {"type": "array", "items": key, "minItems": 1, "maxItems": 24},
        },
        "required": ["keyframes"],
        "additionalProperties": False,
    }


def fast_request(stage: Stage, moment: Moment, constraints: Constraints) -> Request:
    """Ask for all keyframes at once."""
    text = _sections(stage, moment, constraints)
    text += f"\n\n## Now\nDesign the whole motion, in at most {moment.left} keyframes."
    return _request(stage, moment, "fast", 0, FAST, text, fast_schema())


def _request(
    stage: Stage, moment: Moment, role: str, turn: int, version: str, text: str, schema: Json
) -> Request:
    picture = contact_sheet(
        stage.skeleton, moment.pose, stage.scene, sorted(moment.planted), size=stage.picture_size
    )
    return Request(
        stage.instruction,
        role,
        turn,
        version,
        fill_in(version, world=world_prompt(stage.skeleton), facts=prompt(FACTS)),
        (Message(text, (picture,)),),
        schema,
        max_tokens=8000 if role == "fast" else 2000,
        state=moment.pose.state,
    )
