"""Tasks: what a network is to tell of a picture, as targets of order 1 with masks."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from foveal.data.taskworld.labels import Labels
from foveal.data.taskworld.world import CLASSES, MAX_COUNT, SCENES
from foveal.errors import ArgumentError

DEPTH_RANGE = (0.3, 100.0)
"""Depths that become 0 and 1, m; their logarithm is in between."""
CURVATURE_TOP = 10.0
"""Curvature that becomes 1, 1/m; above it is cut."""


@dataclass(frozen=True)
class Task:
    """What is to be told.

    Args:
        name: As in `TASKS`.
        kind: One class a picture, one class a pixel, or numbers a pixel.
        channels: Classes, or numbers a pixel.
        masked: Whether `targets` gives a mask: some pixels (the sky) have no answer.
    """

    name: str
    kind: Literal["class", "segmentation", "dense"]
    channels: int
    masked: bool


TASKS: dict[str, Task] = {
    t.name: t
    for t in (
        Task("scene", "class", len(SCENES), False),
        Task("segmentation", "segmentation", len(CLASSES), False),
        Task("normal", "dense", 3, True),
        Task("depth", "dense", 1, True),
        Task("reshading", "dense", 1, True),
        Task("occlusion_edge", "dense", 1, False),
        Task("texture_edge", "dense", 1, False),
        Task("curvature", "dense", 2, True),
        Task("keypoints", "dense", 1, False),
        Task("object_count", "class", MAX_COUNT + 1, False),
    )
}
"""All tasks by name."""


def encode_depth(depth: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Depths in m to [0, 1] on a logarithmic scale; see `DEPTH_RANGE`."""
    low, high = map(math.log, DEPTH_RANGE)
    return ((depth.clamp_min(1e-6).log() - low) / (high - low)).clamp(0, 1)


def decode_depth(value: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Undo `encode_depth`, in m."""
    low, high = map(math.log, DEPTH_RANGE)
    return (value * (high - low) + low).exp()


def targets(
    labels: Labels, task: str | Task, size: int = 128
) -> tuple[
    Float[Tensor, "b c size size"] | Int64[Tensor, "b size size"] | Int64[Tensor, "b"],
    Bool[Tensor, "b size size"] | None,
]:
    """Targets of a task, reduced from the render.

    Classes a pixel are those at the middle of the larger pixel. Numbers are its mean over the
    pixels that have an answer, after `encode_depth` for depth and after the cut at
    `CURVATURE_TOP` for curvature; normals have length 1 again.

    Args:
        labels: From `render`.
        task: Of `TASKS`, or its name.
        size: Side of the targets, px; must divide that of the labels. Unused for one class a
            picture.

    Returns: The target, and where it has an answer (None: everywhere).

    Raises:
        ArgumentError: an unknown task, or a size that does not divide.
    """
    name = task.name if isinstance(task, Task) else task
    if name not in TASKS:
        raise ArgumentError(f"targets: task is {name!r}, must be one of {', '.join(TASKS)}")
    if name == "scene":
        return labels.scene_class, None
    if name == "object_count":
        return labels.object_count, None
    side = labels.depth.shape[-1]
    if isinstance(size, bool) or not isinstance(size, int) or size < 1 or side % size:
        raise ArgumentError(
            f"targets: size is {size!r}, must divide the {side} px of the labels; "
            "render at a multiple"
        )
    k = side // size
    if name == "segmentation":
        return labels.segmentation[:, k // 2 :: k, k // 2 :: k].contiguous(), None
    value: Tensor = getattr(labels, name)
    value = value[:, None] if value.ndim == 3 else value
    if name == "depth":
        value = encode_depth(value)
    elif name == "curvature":
        value = (value / CURVATURE_TOP).clamp(0, 1)
    if not TASKS[name].masked:
        return F.avg_pool2d(value, k), None
    share = F.avg_pool2d(labels.valid[:, None].float(), k)
    mask = share[:, 0] > 0
    value = F.avg_pool2d(torch.where(labels.valid[:, None], value, 0.0), k)
    value = value / share.clamp_min(1e-6)
    if name == "normal":
        value = F.normalize(value, dim=1, eps=1e-6)
    return value, mask
