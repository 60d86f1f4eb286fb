"""File formats of a clip: BVH and binary glTF, written here, no dependency."""

from foveal.motion.export.bvh import to_bvh
from foveal.motion.export.glb import to_glb

__all__ = ["to_bvh", "to_glb"]
