"""The frozen networks that a codec's features come from."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from foveal.codec.arguments import check_tasks, needed_sources
from foveal.codec.config import Source
from foveal.codec.model import FeatureCodec
from foveal.errors import ArgumentError, ShapeError

AT_ONCE = 16
OVERSHOOT = 0.1
"""What a resized image may lie outside [0, 1]."""


class EfficientNetCut:
    """EfficientNet-Lite0, cut behind its features of stride 16."""

    teacher = "efficientnet-lite0/stride16"

    def __init__(self) -> None:
        from foveal.data import samples
        from foveal.teachers.efficientnet_lite import EfficientNetLite0

        self.sha256 = samples.catalogue()["efficientnet-lite0"].sha256
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
        "or tasks-separable/ and a task; give your own as networks, or features as a dict"
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


def features_of(
    model: FeatureCodec,
    images: Tensor,
    *,
    tasks: Sequence[str] | None = None,
    networks: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Return the features that a model codes, worked out by frozen networks.

    Args:
        model: A codec.
        images: sRGB in [0, 1], [b, 3, height, width], any size.
        tasks: Only the sources that these tasks need. Default: all that a layer takes in.
        networks: By source, those that `fit` was given. Default: the one that the model names.

    Returns: Features by source, on the model's device.

    Raises:
        ArgumentError: a source has no network, a network or a task is unknown, or images are not
            finite or far outside [0, 1].
        ShapeError: `images` has another shape.
    """
    wanted = check_tasks(model, tasks, "features_of")
    unknown = [name for name in networks or {} if name not in model.config.source_map]
    if unknown:
        raise ArgumentError(
            f"features_of: networks has {unknown}, must have some of "
            f"{list(model.config.source_map)}; rename them"
        )
    return work_out(model, images, needed_sources(model, wanted), networks)


@torch.no_grad()
def work_out(
    model: FeatureCodec,
    images: Tensor,
    names: Sequence[str],
    networks: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Return the features of some sources; see `features_of`."""
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
    low, high = float(images.min()), float(images.max())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise ArgumentError(
            f"encode: images has values within {low:.4g}..{high:.4g}, must be within 0..1; divide "
            "by 255, or clip"
        )
    out: dict[str, Tensor] = {}
    for name in names:
        part = network_of(model, name, networks)
        ready: Any = getattr(part, "preprocess", None)
        parts = [x.to(model.device, torch.float32) for x in images.split(AT_ONCE)]
        out[name] = torch.cat([part.encode(x if ready is None else ready(x)) for x in parts])
    return out


def network_of(model: FeatureCodec, name: str, networks: Mapping[str, Any] | None = None) -> Any:
    """Return the network of a source, given or named by the model, on the model's device."""
    part = (networks or {}).get(name)
    if part is None:
        part = network(model.config.source_map[name])
    return placed(part, model.device)


def placed(part: Any, device: torch.device, *, freeze: bool = False) -> Any:
    """Return a network on a device: moved by its `to` if it has one, in evaluation mode."""
    if isinstance(part, nn.Module):
        part = part.to(device).eval()
        return part.requires_grad_(False) if freeze else part
    move = getattr(part, "to", None)
    if callable(move):
        move(device)
    return part


def given_features(
    model: FeatureCodec, x: Tensor | Mapping[str, Tensor], needed: Sequence[str]
) -> tuple[Mapping[str, Tensor], Tensor | None]:
    """Return the features that a caller means, and the images if these were given.

    A tensor [b, 3, h, w] or [3, h, w] is images; any other is the features of the one source.
    Tokens have three axes, so that [3, length, width] is a batch of them.

    Raises:
        ArgumentError: it may be either, since a source has three channels; it is images and the
            model names no network; it is one tensor for many sources; or it is no tensor at all.
    """
    if isinstance(x, Mapping):
        return x, None
    if not isinstance(x, Tensor):
        raise ArgumentError(
            f"encode: x is a {type(x).__name__}, must be images, a tensor of features or a dict of "
            "them; take torch.from_numpy or torch.tensor"
        )
    sources = [model.config.source_map[name] for name in needed]
    tokens = any(source.kind == "tokens" for source in sources)
    one = x.ndim == 3 and x.shape[0] == 3 and not tokens
    if one or (x.ndim == 4 and x.shape[1] == 3):
        for source in sources:
            if source.kind == "map" and source.channels == 3:
                raise ArgumentError(
                    f"encode: x has shape {tuple(x.shape)}, must not be one tensor where source "
                    f"{source.name} has 3 channels, as images have; give a dict with "
                    f"{list(needed)}, from images by features_of"
                )
            if not source.teacher:
                raise ArgumentError(
                    f"encode: x has shape {tuple(x.shape)}, as images have, but source "
                    f"{source.name} names no network, must be a dict of features with "
                    f"{list(needed)}; work them out by yours"
                )
        images = x[None] if one else x
        return work_out(model, images, needed), images
    if len(needed) != 1:
        raise ArgumentError(
            f"encode: x is one tensor of shape {tuple(x.shape)}, must be a dict with "
            f"{list(needed)} or images (b, 3, height, width); name them"
        )
    return {needed[0]: x}, None
