"""Who decides the keyframes: commands, the action library and the providers."""

from foveal.motion.director.commands import FootTarget, Keyframe
from foveal.motion.director.library import ACTIONS
from foveal.motion.director.providers import Provider, Scripted

__all__ = ["ACTIONS", "FootTarget", "Keyframe", "Provider", "Scripted"]
