"""The hand-written action library: joint targets in degrees, no motion capture."""

from foveal.motion.director.library.careful import ACTIONS, Action

__all__ = ["ACTIONS", "Action"]
