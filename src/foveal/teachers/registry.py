"""Recognisers by name."""

import importlib
from typing import Any

from foveal.errors import ArgumentError

NAMES = {
    "efficientnet-lite0": "foveal.teachers.efficientnet_lite:EfficientNetLite0",
    "centernet": "foveal.teachers.centernet:CenterNet",
    "nanodet": "foveal.teachers.nanodet:NanoDet",
    "mtcnn": "foveal.teachers.mtcnn:MTCNN",
    "person-mask": "foveal.teachers.person_mask:PersonMask",
    "pp-ocr": "foveal.teachers.pp_ocr:TextDetector",
}
"""Vision recognisers that `load` knows."""


def load(name: str) -> Any:
    """Load a frozen recogniser with its packaged weights.

    Args:
        name: One of `NAMES`.

    Raises:
        ArgumentError: an unknown name.
        MediaError: its package cannot be fetched.
    """
    if name not in NAMES:
        raise ArgumentError(f"teacher: name is {name!r}, must be one of {sorted(NAMES)}")
    module, _, kind = NAMES[name].partition(":")
    return getattr(importlib.import_module(module), kind).load()
