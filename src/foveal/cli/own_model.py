"""The recogniser that a bench judges by: one of ours, or the user's own."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveal.errors import ArgumentError
from foveal.lowlight.frozen import answer_of, size_of
from foveal.teachers import prepare, registry

_SIZE = 224


class OwnModel(nn.Module):
    """A user's classifier behind the protocol of ours.

    Args:
        model: Takes sRGB in [0, 1]; what it wants beyond (mean, deviation) it does itself, or in a
            method `preprocess`.
        size: Side of the square that it takes, in pixels; 0: the model's `size`, or 224.
    """

    def __init__(self, model: nn.Module, size: int = 0) -> None:
        """Hold the model, which is frozen already."""
        super().__init__()
        self.model = model
        self.size = size or size_of(model, _SIZE)

    def preprocess(self, images: Float[Tensor, "b 3 height width"]) -> Tensor:
        """Bring images of any size into the square: by the model's own way, or its middle."""
        own = getattr(self.model, "preprocess", None)
        if not callable(own):
            return prepare(images, self.size)
        placed: Any = own(images)
        return placed

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return answer_of(self.model(x))


def load_teacher(name: str, model: str, size: int, device: torch.device) -> Any:
    """Load a recogniser of ours, or the user's own model.

    Args:
        name: Of `foveal.teachers.registry`.
        model: module:attribute, or empty; a model with a method `detect` is a detector.
        size: See `OwnModel`.
        device: Where it goes.

    Raises: ArgumentError: there is none of that name, or it is no module.
    """
    if not model:
        return registry.load(name).to(device)
    found = made(model)
    if not isinstance(found, nn.Module):
        raise ArgumentError(
            f"-o model: {model} gives {type(found).__name__}, must give a torch module when called "
            "without arguments"
        )
    found = found.eval().requires_grad_(False).to(device)
    return found if callable(getattr(found, "detect", None)) else OwnModel(found, size)


def made(model: str, option: str = "-o model") -> Any:
    """Import and call; what the function itself imports is found in the current folder too."""
    module, _, attribute = model.partition(":")
    if not (module and attribute):
        raise ArgumentError(
            f"{option}: model is {model!r}, must be module:attribute, such as my_models:resnet"
        )
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        make = _imported(model, module, attribute, option)
        return make()
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _imported(model: str, module: str, attribute: str, option: str) -> Callable[[], Any]:
    try:
        make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(
            f"{option}: model is {model!r} and cannot be imported ({error}), must be on the module "
            "path or in the current folder; check both names"
        ) from error
    if not callable(make):
        raise ArgumentError(
            f"{option}: {model} is {type(make).__name__}, must be callable without arguments"
        )
    return make
