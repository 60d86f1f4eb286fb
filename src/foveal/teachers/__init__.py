"""Frozen recognisers behind one protocol: images in [0, 1] in, differentiable logits out.

Recognisers: `efficientnet_lite.EfficientNetLite0`, `centernet.CenterNet`, `nanodet.NanoDet`,
`mtcnn.MTCNN`, `pp_ocr.TextDetector` and `pp_ocr.TextReader`, `person_mask.PersonMask`;
of clips `action.ActionNet` and `flow.FlowNet`; `smollm2` for language.
"""

from foveal.teachers.placement import Placement, Preprocessing, prepare
from foveal.teachers.protocol import Detections, Detector, Teacher, disagreement

__all__ = [
    "Detections",
    "Detector",
    "Placement",
    "Preprocessing",
    "Teacher",
    "disagreement",
    "prepare",
]
