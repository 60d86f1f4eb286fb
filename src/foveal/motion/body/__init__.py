"""Our own MuJoCo body as MJCF text, and any other one read from it."""

from foveal.motion.body.mjcf import to_mjcf
from foveal.motion.body.read import read_mjcf

__all__ = ["read_mjcf", "to_mjcf"]
