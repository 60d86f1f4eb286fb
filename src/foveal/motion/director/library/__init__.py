"""The hand-written action library: joint targets, places of palms and footfalls, no motion capture.

`ACTIONS` are slow and balanced, for the physics tracker; `MOTIONS` are the natural ones of the
fact list, for the kinematic mode.
"""

from foveal.motion.director.library.careful import ACTIONS, Action
from foveal.motion.director.library.table import MOTIONS, Asked, Motion

__all__ = ["ACTIONS", "MOTIONS", "Action", "Asked", "Motion"]
