"""Clips on other skeletons: Mixamo's, or any BVH file's."""

from foveal.motion.retarget.bvh_read import read_bvh
from foveal.motion.retarget.bvh_write import rig_to_bvh
from foveal.motion.retarget.mixamo import mixamo_rig
from foveal.motion.retarget.names import CONVENTIONS
from foveal.motion.retarget.rig import Rig, RigMotion
from foveal.motion.retarget.transfer import retarget

__all__ = ["CONVENTIONS", "Rig", "RigMotion", "mixamo_rig", "read_bvh", "retarget", "rig_to_bvh"]
