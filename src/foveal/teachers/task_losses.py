"""What the task networks learn by, and what a codec for their features learns by."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ShapeError
from foveal.teachers.task_network import task_of

SPARSE_WEIGHT = {"occlusion_edge": 4.0, "texture_edge": 3.0, "keypoints": 6.0}
"""What a pixel that is wholly edge, or key point, counts against one that is none."""
CURVED_WEIGHT = 20.0
"""What a number of a curved place counts in the loss of curvature; most places are flat, and
a network that weighs all alike answers flat everywhere."""
TEMPERATURE = 2.0
_LEAST = 1e-6


def task_loss(
    task: str, prediction: Tensor, target: Tensor, mask: Bool[Tensor, "b h w"] | None = None
) -> Float[Tensor, ""]:
    """Return the loss of answers against labels, a mean over images or valid pixels; never waits.

    Cross entropy of classes and pixels; 1 - cosine plus L1 of normals; cross entropy weighted by
    `SPARSE_WEIGHT` of edges and key points; L1 of all else, of curvature with `CURVED_WEIGHT`.

    Args:
        task: A name of `foveal.data.taskworld.TASKS`.
        prediction: What `TaskNetwork.decode` returns.
        target: What `foveal.data.taskworld.targets` returns first.
        mask: What it returns second: the pixels that count.

    Raises:
        ArgumentError: no such task.
        ShapeError: prediction, target or mask do not fit.
    """
    kind = check_answers("task_loss", task, prediction, target, mask)
    prediction = prediction.float()
    if kind == "class":
        return F.cross_entropy(prediction, target)
    if kind == "segmentation":
        return _masked_mean(F.cross_entropy(prediction, target, reduction="none"), mask)
    target = target.float()
    if task == "normal":
        cosine = (prediction * target).sum(1)
        return _masked_mean(1 - cosine + (prediction - target).abs().mean(1), mask)
    if task in SPARSE_WEIGHT:
        held = prediction.clamp(_LEAST, 1 - _LEAST)
        each = F.binary_cross_entropy(held, target.clamp(0, 1), reduction="none")
        weight = 1 + (SPARSE_WEIGHT[task] - 1) * target.clamp(0, 1)
        return _masked_mean((weight * each).mean(1), mask)
    each = (prediction - target).abs()
    if task == "curvature":
        each = each * torch.where(target > 0, CURVED_WEIGHT, 1.0)
    return _masked_mean(each.mean(1), mask)


def distillation_loss(task: str, prediction: Tensor, reference: Tensor) -> Float[Tensor, " b"]:
    """Return how far answers are from a network's own answers, of each image; no labels, no waits.

    KL(reference || prediction) at temperature 2, times 4, of classes; KL of each pixel of a
    segmentation; 1 - cosine of normals; L1 of all else; means over pixels.

    Args:
        task: A name of `foveal.data.taskworld.TASKS`.
        prediction: The decoder's answer to coded features.
        reference: Its answer to the features as they were; no gradient goes there.

    Raises:
        ArgumentError: no such task.
        ShapeError: the shapes differ or are not the task's.
    """
    kind = _checked_kind("distillation_loss", task, prediction)
    if reference.shape != prediction.shape:
        raise ShapeError(
            f"distillation_loss: reference has shape {tuple(reference.shape)}, must be "
            f"{tuple(prediction.shape)} as prediction; take the same network's answer"
        )
    prediction, reference = prediction.float(), reference.detach().float()
    if task == "normal":
        return (1 - (prediction * reference).sum(1)).flatten(1).mean(1)
    if kind == "dense":
        return (prediction - reference).abs().flatten(1).mean(1)
    t = TEMPERATURE if kind == "class" else 1.0
    logs = F.log_softmax(prediction / t, 1), F.log_softmax(reference / t, 1)
    divergence = t * t * F.kl_div(*logs, reduction="none", log_target=True).sum(1)
    return divergence if kind == "class" else divergence.flatten(1).mean(1)


def check_answers(
    where: str, task: str, prediction: Tensor, target: Tensor, mask: Tensor | None
) -> str:
    """Refuse answers and labels that do not fit the task or each other; return the task's kind.

    Raises:
        ArgumentError: no such task.
        ShapeError: prediction, target or mask do not fit.
    """
    kind = _checked_kind(where, task, prediction)
    shape = tuple(prediction.shape)
    labels = shape if kind == "dense" else (shape[0], *shape[2:])
    if tuple(target.shape) != labels:
        raise ShapeError(
            f"{where}: target has shape {tuple(target.shape)}, must be {labels} for {task}; take "
            "what foveal.data.taskworld.targets returns"
        )
    pixels = (shape[0], *shape[2:])
    if mask is not None and (kind == "class" or tuple(mask.shape) != pixels):
        wanted = "None for a class" if kind == "class" else f"{pixels} or None"
        raise ShapeError(f"{where}: mask has shape {tuple(mask.shape)}, must be {wanted}")
    return kind


def _checked_kind(where: str, task: str, prediction: Tensor) -> str:
    known = task_of(where, task)
    shape, sides = tuple(prediction.shape), 2 if known.kind == "class" else 4
    if len(shape) != sides or shape[1] != known.channels or 0 in shape:
        wanted = f"(b, {known.channels}{', h, w' if sides == 4 else ''})"
        raise ShapeError(
            f"{where}: prediction has shape {shape}, must be {wanted} for {task}; take what "
            "TaskNetwork.decode returns"
        )
    return known.kind


def _masked_mean(each: Float[Tensor, "b h w"], mask: Tensor | None) -> Float[Tensor, ""]:
    if mask is None:
        return each.mean()
    held = mask.to(each.dtype)
    return (each * held).sum() / held.sum().clamp_min(1)
