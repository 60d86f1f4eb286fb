"""Foveal: light, bits, attention and keyframes, spent only where they matter.

Importing this package is cheap: the stages and torch are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveal import attention, codec, lowlight, motion
    from foveal.pipeline import Pipeline
    from foveal.receipt import Receipt

__version__ = "0.1.0"
__all__ = ["Pipeline", "Receipt", "__version__", "attention", "codec", "lowlight", "motion"]

_STAGES = ("attention", "codec", "lowlight", "motion")


def __getattr__(name: str) -> Any:
    if name in _STAGES:
        return importlib.import_module(f"foveal.{name}")
    if name == "Receipt":
        return importlib.import_module("foveal.receipt").Receipt
    if name == "Pipeline":
        return importlib.import_module("foveal.pipeline").Pipeline
    raise AttributeError(f"module 'foveal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
