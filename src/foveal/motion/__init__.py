"""Words to motion: keyframes where they matter, everything between computed.

`generate` makes a `Clip`, `score` measures it, `ACTIONS` names what the scripted provider knows.
"""

from foveal.motion.clip import Clip
from foveal.motion.director import ACTIONS, FootTarget, Keyframe, Provider, Scripted
from foveal.motion.director.providers import Plan
from foveal.motion.generate import generate
from foveal.motion.metrics import score
from foveal.motion.skeleton import Skeleton, humanoid

__all__ = [
    "ACTIONS",
    "Clip",
    "FootTarget",
    "Keyframe",
    "Plan",
    "Provider",
    "Scripted",
    "Skeleton",
    "generate",
    "humanoid",
    "score",
]
