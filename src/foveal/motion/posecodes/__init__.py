"""Facts about poses and motions: written as sentences, judged on clips with signed margins."""

from foveal.motion.posecodes.actions import (
    ActionFacts,
    Requirement,
    action_facts,
    check,
    find_action,
    shows,
    table,
    to_dicts,
)
from foveal.motion.posecodes.evaluate import Result, evaluate
from foveal.motion.posecodes.facts import Fact
from foveal.motion.posecodes.mirror import mirror, mirror_clip, mirror_scene
from foveal.motion.posecodes.parse import parse
from foveal.motion.posecodes.text import to_text

__all__ = [
    "ActionFacts",
    "Fact",
    "Requirement",
    "Result",
    "action_facts",
    "check",
    "evaluate",
    "find_action",
    "mirror",
    "mirror_clip",
    "mirror_scene",
    "parse",
    "shows",
    "table",
    "to_dicts",
    "to_text",
]
