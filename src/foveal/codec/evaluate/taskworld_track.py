"""The track of drawn rooms and streets, whose labels are exact."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from foveal.codec.evaluate.track import Cut, Sums, Track, TrackTask
from foveal.data.taskworld import SPLITS, TASKS, render, sample, targets
from foveal.errors import ArgumentError
from foveal.teachers import task_scores
from foveal.teachers.task_network import SIZE, TaskBank

Answers = Mapping[str, Float[Tensor, "1 ..."]]
_AT_ONCE = 32


class _Labels:
    """Targets and masks of a task for all images of a track, where the networks are."""

    def __init__(self, task: str, targets: Tensor, mask: Tensor | None) -> None:
        self.task, self.targets, self.mask = task, targets, mask

    def sums(self, prediction: Tensor, items: Sequence[int]) -> Tensor:
        index = torch.as_tensor(items, device=self.targets.device)
        mask = None if self.mask is None else self.mask[index]
        return task_scores.sums(self.task, prediction, self.targets[index], mask)

    def constant(self, answer: Tensor) -> Sums:
        rows: list[Tensor] = []
        for i in range(0, len(self.targets), _AT_ONCE):
            items = range(i, min(i + _AT_ONCE, len(self.targets)))
            shape = (len(items), *answer.shape[1:])
            rows.append(self.sums(answer.to(self.targets.device).expand(shape), items))
        return torch.cat(rows).cpu().numpy()


def _score(task: str, measure: str, total: Float[ndarray, "k"]) -> float:
    return task_scores.score(task, torch.from_numpy(total)[None], measure)


def scores(task: str, totals: Float[ndarray, "b k"]) -> Float[ndarray, "b"]:
    """Return what `task_scores.score` returns for each row by itself; none may be empty."""
    measure = task_scores.MEASURES[task][0].name
    if measure == "miou":
        side = TASKS[task].channels
        cells = totals.reshape(-1, side, side)
        right = np.diagonal(cells, axis1=1, axis2=2)
        union = cells.sum(1) + cells.sum(2) - right
        return (right / np.where(union > 0, union, 1)).sum(1) / (union > 0).sum(1)
    if measure == "f1":
        parts = totals[:, :-1].reshape(len(totals), -1, 3)
        precision = parts[..., 1] / np.maximum(parts[..., 0], 1)
        recall = parts[..., 2] / np.maximum(totals[:, -1:], 1)
        return (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max(1)
    if measure == "top1":
        return totals[:, 0] / totals[:, 1]
    if measure in ("angle", "abs_rel", "l1"):
        return totals[:, 0] / totals[:, -1]
    return np.array([_score(task, measure, total) for total in totals])


def draw(
    split: str, seeds: Sequence[int], tasks: Sequence[str], device: str | torch.device
) -> tuple[list[UInt8[ndarray, "s s 3"]], dict[str, tuple[Tensor, Tensor | None]]]:
    """Return 8-bit pictures of seeds, and targets and masks of every task."""
    images: list[UInt8[ndarray, "s s 3"]] = []
    found: dict[str, list[tuple[Tensor, Tensor | None]]] = {task: [] for task in tasks}
    for i in range(0, len(seeds), _AT_ONCE):
        labels = render([sample(s, split) for s in seeds[i : i + _AT_ONCE]], SIZE, device)
        levels = (labels.image * 255).round().to(torch.uint8)
        images += list(levels.permute(0, 2, 3, 1).contiguous().cpu().numpy())
        for task in tasks:
            found[task].append(targets(labels, task))
    joined: dict[str, tuple[Tensor, Tensor | None]] = {}
    for task, parts in found.items():
        masks = [mask for _, mask in parts if mask is not None]
        joined[task] = (torch.cat([x for x, _ in parts]), torch.cat(masks) if masks else None)
    return images, joined


def constant_answers(
    tasks: Sequence[str], *, images: int = 512, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """Return the best answers that are the same for every image, of the training split."""
    _, labels = draw("train", range(images), tasks, device)
    return {task: task_scores.best_constant(task, x, mask) for task, (x, mask) in labels.items()}


def taskworld_track(
    bank: TaskBank,
    *,
    split: str = "test",
    images: int = 500,
    first_seed: int = 0,
    tasks: Sequence[str] | None = None,
    constants: Answers | None = None,
    device: str | torch.device = "cpu",
) -> Track:
    """Return drawn images with exact labels, judged by frozen task networks.

    Args:
        bank: Networks of the tasks; they are moved to `device`.
        split: "val" to choose by, "test" or "shift" to judge by.
        images: Number of images.
        first_seed: Seeds are counted up from it.
        tasks: Which of the bank's. Default: all.
        constants: Best constant answers, `constant_answers`. Default: made here.
        device: Where images are drawn and networks run.

    Raises: ArgumentError: no such split, or a task that the bank lacks.
    """
    if split not in SPLITS:
        raise ArgumentError(f"taskworld_track: split is {split!r}, must be one of {SPLITS}")
    if images < 1:
        raise ArgumentError(f"taskworld_track: images is {images}, must be at least 1")
    names = list(bank.tasks if tasks is None else tasks)
    networks = {name: bank[name].to(device) for name in names}
    if constants is None:
        constants = constant_answers(names, device=device)
    seeds = tuple(range(first_seed, first_seed + images))
    pictures, labels = draw(split, seeds, names, device)
    made: dict[str, TrackTask] = {}
    for name in names:
        network, held = networks[name], _Labels(name, *labels[name])
        measures = task_scores.MEASURES[name]
        digest = network.sha256
        made[name] = TrackTask(
            name=name,
            answer=partial(network.forward, check=False),
            sums=held.sums,
            measures={m.name: partial(_score, name, m.name) for m in measures},
            higher_is_better=measures[0].higher_is_better,
            chance=held.constant(constants[name]),
            truth="exact labels",
            cut=Cut(
                partial(network.encode, check=False),
                partial(network.decode, check=False),
                f"tasks-{network.arch}/{name}",
                digest,
            ),
            fingerprint=digest,
            scores=partial(scores, name),
            classes=TASKS[name].channels if TASKS[name].kind == "class" else 0,
        )
    return Track(
        name=f"taskworld-{split}",
        images=pictures,
        tasks=made,
        source=f"{images} drawn rooms and streets, split {split}, seeds {seeds[0]}..{seeds[-1]}",
        reality=False,
        seeds=seeds,
    )
