"""See in the dark: enhancement that serves a frozen recogniser.

result = lowlight.enhance(lowlight.read_image("night.png"), lowlight.ConcaveCurve.load())
mine = lowlight.align(my_frozen_model, dark=night_images)
"""

from foveal._core.media import read_image, write_image
from foveal.lowlight.alignment import (
    ENSEMBLE,
    align,
    alignment_loss,
    pseudo_labels,
    reciprocal_curve,
)
from foveal.lowlight.concave_curve import ConcaveCurve, apply_curve, integrate
from foveal.lowlight.enhance import (
    Enhanced,
    EnhancedVideo,
    curve_receipt,
    enhance,
    enhance_video,
    predict_clip_curve,
)

__all__ = [
    "ENSEMBLE",
    "ConcaveCurve",
    "Enhanced",
    "EnhancedVideo",
    "align",
    "alignment_loss",
    "apply_curve",
    "curve_receipt",
    "enhance",
    "enhance_video",
    "integrate",
    "predict_clip_curve",
    "pseudo_labels",
    "read_image",
    "reciprocal_curve",
    "write_image",
]
