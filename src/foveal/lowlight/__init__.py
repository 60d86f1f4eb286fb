"""See in the dark: enhancement for a frozen recogniser."""

from foveal.lowlight.alignment import align
from foveal.lowlight.concave_curve import ConcaveCurve

__all__ = ["ConcaveCurve", "align"]
