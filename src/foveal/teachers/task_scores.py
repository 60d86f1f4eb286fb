"""Scores of the tasks from sums that add up over images, so that resampling images is exact.

kept = sums("depth", prediction, target, mask)    # (b, k): a row for each image
score("depth", kept)                              # of all of them; score("depth", kept[draw])
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from foveal.data.taskworld import decode_depth
from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.task_losses import check_answers
from foveal.teachers.task_network import task_of


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a task.

    Args:
        name: What `score` calls it.
        higher_is_better: Whether more is better.
        unit: What it counts.
    """

    name: str
    higher_is_better: bool
    unit: str


_TOP1 = Measure("top1", True, "share of images")
_L1 = "mean absolute error"
_F1 = Measure("f1", True, "harmonic mean of precision and recall")
MEASURES: dict[str, tuple[Measure, ...]] = {
    "scene": (_TOP1,),
    "segmentation": (
        Measure("miou", True, "mean over classes"),
        Measure("pixels", True, "share of pixels"),
    ),
    "normal": (
        Measure("angle", False, "mean, degrees"),
        Measure("within_11_25", True, "share of pixels within 11.25 degrees"),
    ),
    "depth": (
        Measure("abs_rel", False, "mean of |error| / depth"),
        Measure("delta1", True, "share of pixels within a factor of 1.25"),
    ),
    "reshading": (Measure("l1", False, _L1),),
    "occlusion_edge": (_F1,),
    "texture_edge": (_F1,),
    "curvature": (
        Measure("balanced_l1", False, "mean absolute error of curved and of flat places, averaged"),
        Measure("l1", False, _L1),
    ),
    "keypoints": (_F1,),
    "object_count": (Measure("mae", False, "mean absolute error, objects"), _TOP1),
}
"""The measures of each task; the first is the task's score."""
HIGHER_IS_BETTER = {task: measures[0].higher_is_better for task, measures in MEASURES.items()}
"""Whether more is better, of each task's score."""
THRESHOLDS = tuple(k / 20 for k in range(1, 20))
"""Of edges and key points: the F1 is that of the best of them for the whole set of images."""
PRESENT = {"occlusion_edge": 0.25, "texture_edge": 0.25, "keypoints": 0.5}
"""From which value on a pixel of the labels counts as edge or as key point."""
_WITHIN = 11.25
_DELTA = 1.25


def sums(
    task: str, prediction: Tensor, target: Tensor, mask: Bool[Tensor, "b h w"] | None = None
) -> Float[Tensor, "b k"]:
    """Return what `score` needs of each image, fp64; rows of several batches can be put together.

    Args:
        task: A name of `foveal.data.taskworld.TASKS`.
        prediction: What `TaskNetwork.decode` returns.
        target: What `foveal.data.taskworld.targets` returns first.
        mask: What it returns second: the pixels that count.

    Raises:
        ArgumentError: no such task, or NaN or infinity in the prediction.
        ShapeError: prediction, target or mask do not fit.
    """
    kind = check_answers("sums", task, prediction, target, mask)
    prediction = prediction.detach()
    if not bool(prediction.isfinite().all()):
        raise ArgumentError(
            f"sums: prediction of {task} holds NaN or infinity, must be finite; see what made it"
        )
    if kind == "class":
        off = (prediction.argmax(1) - target).abs()
        counted = [off == 0, torch.ones_like(off)] + [off] * (task == "object_count")
        return torch.stack([c.double() for c in counted], 1)
    if mask is None:
        mask = torch.ones_like(prediction[:, 0], dtype=torch.bool)
    if kind == "segmentation":
        return _confusion(prediction, target, mask)
    target = target.double()
    if task in PRESENT:
        return _matches(prediction, target[:, 0] >= PRESENT[task], mask)
    prediction = prediction.double()
    if task == "normal":
        angle = torch.rad2deg(_angle(prediction, target))
        values = [angle, angle < _WITHIN]
    elif task == "depth":
        found, true = decode_depth(prediction[:, 0].clamp(0, 1)), decode_depth(target[:, 0])
        values = [(found - true).abs() / true, torch.maximum(found / true, true / found) < _DELTA]
    else:
        values = [(prediction - target).abs().mean(1)]
        if task == "curvature":
            curved = target.amax(1) > 0
            values += [values[0] * curved, curved]
    values.append(torch.ones_like(mask))
    return torch.stack([(v.double() * mask).sum((1, 2)) for v in values], 1)


def score(task: str, kept: Float[Tensor, "n k"], measure: str | None = None) -> float:
    """Return a task's score over all images whose sums are given.

    Top-1 of the scene; mean absolute error of the count; mean intersection over union of a
    segmentation, over the classes that labels or answers have; mean angle of normals, degrees; mean
    |error| / depth; mean absolute error of reshading; of curvature the mean of that of curved and
    of flat places. Of edges and key points the F1 of pixels: a pixel of the answer is right if a
    labeled one is it or one of its eight neighbors, a labeled one is found likewise, and the
    threshold is the best one of `THRESHOLDS` for all images together.

    Args:
        task: A name of `foveal.data.taskworld.TASKS`.
        kept: Rows of `sums`; a row may come several times.
        measure: One of `MEASURES[task]` by name; by default the first.

    Raises:
        ArgumentError: no such task or measure, or no pixel that counts.
        ShapeError: not the sums of that task, or none.
    """
    known = task_of("score", task)
    names = [m.name for m in MEASURES[task]]
    name = names[0] if measure is None else measure
    if name not in names:
        raise ArgumentError(f"score: measure is {measure!r}, must be one of {names} for {task}")
    width = _width(task)
    if kept.ndim != 2 or kept.shape[1] != width or len(kept) == 0:
        raise ShapeError(
            f"score: kept has shape {tuple(kept.shape)}, must be (n, {width}) for {task} with n >= "
            "1; take what sums returns"
        )
    total = kept.double().sum(0)
    if known.kind == "segmentation":
        return _of_confusion(total.view(known.channels, known.channels), name)
    if task in PRESENT:
        return _best_f1(total)
    if name == "balanced_l1":
        curved, flat = total[2].clamp_min(1), (total[-1] - total[2]).clamp_min(1)
        return float((total[1] / curved + (total[0] - total[1]) / flat) / 2)
    place, count = (1, -1) if name in ("within_11_25", "delta1") else (0, -1)
    if known.kind == "class":
        place, count = (2 if name == "mae" else 0), 1
    if not float(total[count]) > 0:
        raise ArgumentError(f"score: kept of {task} counts no pixel, must count one; see the mask")
    return float(total[place] / total[count])


def scores(task: str, kept: Float[Tensor, "n k"]) -> dict[str, float]:
    """Return all measures of a task by name; see `score`."""
    task_of("scores", task)
    return {m.name: score(task, kept, m.name) for m in MEASURES[task]}


def best_constant(
    task: str, target: Tensor, mask: Bool[Tensor, "n h w"] | None = None
) -> Float[Tensor, "1 *answer"]:
    """Return the answer that is best if it must be the same for every image.

    The most frequent class, of the image or of each pixel; the median count; the median of each
    pixel (of log depth, for depth); the mean normal of each pixel; of edges and key points the
    pixels that most often are some, as many as give the best F1. Pixels that no image has take that
    of all pixels.

    Args:
        task: A name of `foveal.data.taskworld.TASKS`.
        target: Of the split that was trained on.
        mask: Its pixels that count.

    Raises:
        ArgumentError: no such task, or no pixel that counts.
        ShapeError: target is empty or does not fit.
    """
    known = task_of("best_constant", task)
    dense = known.kind == "dense"
    wanted = {"class": "(n,)", "segmentation": "(n, h, w)"}.get(
        known.kind, f"(n, {known.channels}, h, w)"
    )
    sides = {"class": 1, "segmentation": 3}.get(known.kind, 4)
    shape = tuple(target.shape)
    if target.ndim != sides or 0 in shape or (dense and shape[1] != known.channels):
        raise ShapeError(f"best_constant: target has shape {shape}, must be {wanted} for {task}")
    if task == "object_count":
        return _one_hot(target.median()[None], known.channels)
    if known.kind == "class":
        return _one_hot(target.bincount(minlength=known.channels).argmax()[None], known.channels)
    if mask is None:
        mask = torch.ones((shape[0], *shape[-2:]), dtype=torch.bool, device=target.device)
    if not bool(mask.any()):
        raise ArgumentError(f"best_constant: mask of {task} has no pixel, must have one")
    if known.kind == "segmentation":
        counts = torch.stack([((target == c) & mask).sum(0) for c in range(known.channels)])
        counts = torch.where(counts.sum(0) > 0, counts, counts.sum((1, 2))[:, None, None])
        return _one_hot(counts.argmax(0)[None], known.channels)
    if task in PRESENT:
        return _best_pixels(task, target, mask)
    rows = []
    for channel in target.unbind(1):
        values = torch.where(mask, channel.float(), torch.nan)
        if task == "normal":
            rows.append(torch.where(mask, channel.float(), 0).sum(0))
        else:
            median = values.nanmedian(0).values
            rows.append(torch.where(median.isnan(), values.nanmedian(), median))
    answer = torch.stack(rows)[None]
    if task != "normal":
        return answer
    nowhere = answer.norm(dim=1, keepdim=True) < 1e-6
    return F.normalize(torch.where(nowhere, answer.sum((2, 3), keepdim=True), answer), dim=1)


def chance(
    task: str,
    target: Tensor,
    mask: Bool[Tensor, "n h w"] | None = None,
    *,
    answer: Float[Tensor, "1 *answer"] | None = None,
    measure: str | None = None,
) -> float:
    """Return what a constant answer scores.

    Args:
        task: A name of `foveal.data.taskworld.TASKS`.
        target: Labels that it is scored on.
        mask: Their pixels that count.
        answer: What is answered to every image, `best_constant` of the split that was trained on;
            by default that of these very labels.
        measure: As of `score`.

    Raises:
        ArgumentError, ShapeError: as `best_constant`, `sums` and `score`.
    """
    if answer is None:
        answer = best_constant(task, target, mask)
    rows = []
    for i in range(0, len(target), 64):
        part = target[i : i + 64]
        held = None if mask is None else mask[i : i + 64]
        rows.append(sums(task, answer.expand(len(part), *answer.shape[1:]), part, held))
    return score(task, torch.cat(rows), measure)


def retention(score: float, chance: float, uncompressed: float) -> float:
    """Return how much of what a network knows is left: 1 is all of it, 0 is a constant answer.

    (score - chance) / (uncompressed - chance), for errors as well as for scores.

    Raises:
        ArgumentError: a number is not finite, or uncompressed is chance.
    """
    named: Mapping[str, float] = {"score": score, "chance": chance, "uncompressed": uncompressed}
    for name, value in named.items():
        if not abs(value) < float("inf"):
            raise ArgumentError(f"retention: {name} is {value}, must be finite")
    if uncompressed == chance:
        raise ArgumentError(
            f"retention: uncompressed is {uncompressed}, must differ from chance; the network "
            "knows nothing that could be kept"
        )
    return (score - chance) / (uncompressed - chance)


def _width(task: str) -> int:
    known = task_of("score", task)
    if known.kind == "class":
        return 3 if task == "object_count" else 2
    if known.kind == "segmentation":
        return known.channels**2
    if task in PRESENT:
        return 3 * len(THRESHOLDS) + 1
    return {"normal": 3, "depth": 3, "curvature": 4}.get(task, 2)


def _confusion(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    b, k = prediction.shape[:2]
    cell = (target * k + prediction.argmax(1)).flatten(1)
    counts = torch.zeros((b, k * k), dtype=torch.float64, device=prediction.device)
    return counts.scatter_add_(1, cell, mask.flatten(1).double())


def _of_confusion(counts: Tensor, name: str) -> float:
    right, total = counts.diagonal(), counts.sum()
    if not float(total) > 0:
        raise ArgumentError("score: kept of segmentation counts no pixel, must count one")
    if name == "pixels":
        return float(right.sum() / total)
    union = counts.sum(0) + counts.sum(1) - right
    return float((right[union > 0] / union[union > 0]).mean())


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Of unit vectors; exact for small angles, where an arc cosine is not."""
    return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))


def _near(marked: Tensor) -> Tensor:
    return F.max_pool2d(marked.float()[:, None], 3, 1, 1)[:, 0] > 0


def _matches(prediction: Tensor, labeled: Tensor, mask: Tensor) -> Tensor:
    """Of each threshold: pixels answered, those of them near a label, labels near an answer."""
    labeled = labeled & mask
    close, columns = _near(labeled), []
    for threshold in THRESHOLDS:
        marked = (prediction[:, 0] >= threshold) & mask
        columns += [marked, marked & close, labeled & _near(marked)]
    return torch.stack([c.sum((1, 2)).double() for c in [*columns, labeled]], 1)


def _best_f1(total: Tensor) -> float:
    answered, right, found = total[:-1].view(-1, 3).unbind(1)
    precision = right / answered.clamp_min(1)
    recall = found / total[-1].clamp_min(1)
    return float((2 * precision * recall / (precision + recall).clamp_min(1e-12)).max())


def _best_pixels(task: str, target: Tensor, mask: Tensor) -> Tensor:
    labeled = (target[:, 0] >= PRESENT[task]) & mask
    often = labeled.sum(0) / mask.sum(0).clamp_min(1)
    close = _near(labeled)
    best, answer = -1.0, torch.ones_like(often)
    for level in often.flatten().sort().values[:: max(1, often.numel() // 20)].unique():
        marked = often >= level
        seen = marked & mask
        precision = (seen & close).sum() / seen.sum().clamp_min(1)
        recall = (labeled & _near(marked[None])).sum() / labeled.sum().clamp_min(1)
        f1 = float(2 * precision * recall / (precision + recall).clamp_min(1e-12))
        if f1 > best:
            best, answer = f1, marked.float()
    return answer[None, None]


def _one_hot(index: Tensor, channels: int) -> Tensor:
    return F.one_hot(index, channels).movedim(-1, 1).float()
