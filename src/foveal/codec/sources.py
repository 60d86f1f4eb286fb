"""The frozen networks that a codec's features come from."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from foveal.codec.config import Source
from foveal.codec.model import FeatureCodec
from foveal.errors import ArgumentError, ShapeError

AT_ONCE = 16


class EfficientNetCut:
    """EfficientNet-Lite0, cut behind its features of stride 16."""

    teacher = "efficientnet-lite0/stride16"

    def __init__(self) -> None:
        from foveal.teachers.efficientnet_lite import EfficientNetLite0

        self.network = EfficientNetLite0.load()

    def to(self, device: torch.device) -> "EfficientNetCut":
        """Move the network."""
        self.network.to(device)
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Return [b, 112, 14, 14] from images [b, 3, 224, 224]."""
        return self.network.features(images)

    def decode(self, features: Tensor) -> Tensor:
        """Return logits [b, 1000]."""
        return self.network.head(features)

    def preprocess(self, images: Tensor) -> Tensor:
        """Bring images of any size to 224 pixels."""
        return self.network.preprocess(images)


@cache
def _load(teacher: str) -> Any:
    family, _, point = teacher.partition("/")
    if teacher == EfficientNetCut.teacher:
        return EfficientNetCut()
    if family in ("tasks-residual", "tasks-separable"):
        from foveal.teachers.task_network import TaskNetwork

        arch = "residual" if family == "tasks-residual" else "separable"
        return TaskNetwork.load(point, arch)
    raise ArgumentError(
        f"network: teacher is {teacher!r}, must be {EfficientNetCut.teacher!r} or tasks-residual/ "
        "or tasks-separable/ and a task; work the features out yourself and give them as a dict"
    )


def network(source: Source) -> Any:
    """Return the frozen network that a source names: encode, decode and preprocess.

    Raises:
        ArgumentError: it names none that ships with Foveal, or another version of it.
    """
    found = _load(source.teacher)
    sha256 = fingerprint(found)[1]
    if source.sha256 and sha256 != source.sha256:
        raise ArgumentError(
            f"network: {source.teacher} is {sha256[:12]}, must be {source.sha256[:12]}, which the "
            "codec was trained for; use the Foveal version that wrote the codec"
        )
    return found


def fingerprint(teacher: Any) -> tuple[str, str]:
    """Return the name and the hash by which a model file knows a network; "" where unknown."""
    sha256 = getattr(teacher, "sha256", "")
    task, arch = getattr(teacher, "task", None), getattr(teacher, "arch", "")
    name = getattr(teacher, "teacher", "")
    if task is not None and arch:
        name = f"tasks-{arch}/{task.name}"
    return (name if isinstance(name, str) else "", sha256 if isinstance(sha256, str) else "")


@torch.no_grad()
def features_of(
    model: FeatureCodec, images: Tensor, needed: tuple[str, ...] | None = None
) -> dict[str, Tensor]:
    """Return the features of a model's sources, worked out by the networks that it names.

    Args:
        model: A codec whose sources name their networks.
        images: sRGB in [0, 1], [b, 3, height, width], any size.
        needed: Sources. Default: all that a layer takes in.

    Raises:
        ArgumentError: a source names no network, or images are not finite.
        ShapeError: `images` has another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ShapeError(
            f"encode: images has shape {tuple(images.shape)}, must be (b, 3, height, width) with "
            "no side of 0; add a batch axis"
        )
    if not images.dtype.is_floating_point or not bool(torch.isfinite(images).all()):
        raise ArgumentError(
            f"encode: images is {images.dtype} or holds NaN, must be finite floating-point in "
            "[0, 1]; divide by 255"
        )
    inputs = {name for layer in model.config.layers for name in layer.inputs}
    out: dict[str, list[Tensor]] = {}
    for source in model.config.sources:
        if source.name not in (needed or inputs):
            continue
        part = network(source)
        part.to(model.device)
        for some in images.split(AT_ONCE):
            ready = part.preprocess(some.to(model.device, torch.float32))
            out.setdefault(source.name, []).append(part.encode(ready))
    return {name: torch.cat(parts) for name, parts in out.items()}
