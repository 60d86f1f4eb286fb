"""Facts about poses and motions: written as sentences, judged on clips with signed margins."""

from foveal.motion.posecodes.evaluate import Result, evaluate
from foveal.motion.posecodes.facts import Fact
from foveal.motion.posecodes.mirror import mirror, mirror_clip, mirror_scene
from foveal.motion.posecodes.parse import parse
from foveal.motion.posecodes.text import to_text

__all__ = [
    "Fact",
    "Result",
    "evaluate",
    "mirror",
    "mirror_clip",
    "mirror_scene",
    "parse",
    "to_text",
]
