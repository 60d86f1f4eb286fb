"""See in the dark: enhancement that serves a frozen recogniser.

result = lowlight.enhance(lowlight.read_image("night.png"), lowlight.ConcaveCurve.load())
mine = lowlight.align(my_frozen_model, dark=night_images)
"""

from foveal._core.media import read_image, write_image
from foveal.lowlight import baselines, metrics
from foveal.lowlight.adaptation import adapt
from foveal.lowlight.alignment import align, alignment_loss
from foveal.lowlight.alignment_state import AlignmentStep
from foveal.lowlight.concave_curve import ConcaveCurve, apply_curve, closed_form, integrate
from foveal.lowlight.curve_family import CurveStream, bound, couple, finish
from foveal.lowlight.denoise import denoise
from foveal.lowlight.enhance import Enhanced, curve_receipt, enhance
from foveal.lowlight.ensemble import ENSEMBLE, PseudoLabels, pseudo_labels, reciprocal_curve
from foveal.lowlight.export import export_cube, export_numpy, export_onnx
from foveal.lowlight.files import EnhancedFile, enhance_file, image_curve
from foveal.lowlight.lookup import apply_table, lookup_table
from foveal.lowlight.preview import preview
from foveal.lowlight.regimes import (
    Gated,
    NoiseEstimate,
    Verdict,
    auto,
    estimate_noise,
    judge,
)
from foveal.lowlight.video import (
    EnhancedVideo,
    enhance_camera,
    enhance_video,
    predict_clip_curve,
    video_curve,
)

__all__ = [
    "ENSEMBLE",
    "AlignmentStep",
    "ConcaveCurve",
    "CurveStream",
    "Enhanced",
    "EnhancedFile",
    "EnhancedVideo",
    "Gated",
    "NoiseEstimate",
    "PseudoLabels",
    "Verdict",
    "adapt",
    "align",
    "alignment_loss",
    "apply_curve",
    "apply_table",
    "auto",
    "baselines",
    "bound",
    "closed_form",
    "couple",
    "curve_receipt",
    "denoise",
    "enhance",
    "enhance_camera",
    "enhance_file",
    "enhance_video",
    "estimate_noise",
    "export_cube",
    "export_numpy",
    "export_onnx",
    "finish",
    "image_curve",
    "integrate",
    "judge",
    "lookup_table",
    "metrics",
    "predict_clip_curve",
    "preview",
    "pseudo_labels",
    "read_image",
    "reciprocal_curve",
    "video_curve",
    "write_image",
]
