"""Words to motion: keyframes where they matter, everything between computed.

`generate` makes a `Clip`, `score` measures it, `ACTIONS` names what the scripted provider knows;
a chat model as provider designs and animates keyframes of anything else.
"""

from foveal.motion.clip import Clip
from foveal.motion.director import ACTIONS, FootTarget, Keyframe, Provider, Scripted
from foveal.motion.director.chat import (
    Budget,
    CallbackModel,
    Cassette,
    ManualModel,
    OpenAICompatible,
    Recorded,
)
from foveal.motion.director.commands import Timing
from foveal.motion.director.constraints import Constraints
from foveal.motion.director.direction import Direction
from foveal.motion.director.loop import Limits
from foveal.motion.director.providers import Plan
from foveal.motion.generate import generate
from foveal.motion.metrics import score
from foveal.motion.retarget import RigMotion, read_bvh, retarget
from foveal.motion.skeleton import Skeleton, humanoid

__all__ = [
    "ACTIONS",
    "Budget",
    "CallbackModel",
    "Cassette",
    "Clip",
    "Constraints",
    "Direction",
    "FootTarget",
    "Keyframe",
    "Limits",
    "ManualModel",
    "OpenAICompatible",
    "Plan",
    "Provider",
    "Recorded",
    "RigMotion",
    "Scripted",
    "Skeleton",
    "Timing",
    "generate",
    "humanoid",
    "read_bvh",
    "retarget",
    "score",
]
