"""Our own MuJoCo body: the MJCF text of a `Skeleton`."""

from foveal.motion.body.mjcf import to_mjcf

__all__ = ["to_mjcf"]
