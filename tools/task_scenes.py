"""Scenes of taskworld, rendered once and kept on a device, and batches of them to learn from."""

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveal.data import taskworld
from foveal.teachers.task_network import SIZE


@dataclass
class Scenes:
    """Rendered scenes on one device: 8-bit images, and target and mask of each task."""

    images: Tensor
    targets: dict[str, Tensor]
    masks: dict[str, Tensor]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.images)

    def pick(self, index: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor | None]]]:
        """Return images in [0, 1] and each task's target and mask."""
        labels: dict[str, tuple[Tensor, Tensor | None]] = {}
        for task, target in self.targets.items():
            mask = self.masks[task][index] if task in self.masks else None
            picked = target[index]
            labels[task] = (picked.float() if picked.is_floating_point() else picked.long(), mask)
        return self.images[index].float() / 255, labels


def draw(split: str, seeds: Sequence[int]) -> list[Any]:
    """Return descriptions of scenes; runs in other processes."""
    return [taskworld.sample(seed, split) for seed in seeds]


def described(split: str, count: int, chunk: int, pool: Executor | None) -> Iterator[list[Any]]:
    """Yield descriptions, `chunk` at a time, drawn ahead by the pool."""
    parts = [range(i, min(i + chunk, count)) for i in range(0, count, chunk)]
    if pool is None:
        for part in parts:
            yield draw(split, part)
        return
    ahead = [pool.submit(draw, split, part) for part in parts]
    try:
        for future in ahead:
            yield future.result()
    finally:
        for future in ahead:
            future.cancel()


def render(
    split: str,
    count: int,
    tasks: Sequence[str],
    device: torch.device,
    *,
    chunk: int,
    pool: Executor | None,
    until: float = math.inf,
    floats: torch.dtype = torch.float32,
) -> Scenes:
    """Render the first scenes of a split; fewer than `count` if the time is up before."""
    kept: dict[str, Tensor] = {}
    done = 0
    for scenes in described(split, count, chunk, pool):
        with torch.no_grad():
            labels = taskworld.render(scenes, size=SIZE, device=device)
            made = {"image": (labels.image * 255).round().to(torch.uint8)}
            for task in tasks:
                target, mask = taskworld.targets(labels, task)
                dtype = floats if target.is_floating_point() else torch.uint8
                made[f"target/{task}"] = target.to(dtype)
                if mask is not None:
                    made[f"mask/{task}"] = mask
        for name, value in made.items():
            if name not in kept:
                kept[name] = value.new_empty((count, *value.shape[1:]))
            kept[name][done : done + len(value)] = value
        done += len(scenes)
        if time.time() > until:
            break
    kept = {name: value[:done] for name, value in kept.items()}
    return Scenes(
        kept.pop("image"),
        {n.partition("/")[2]: v for n, v in kept.items() if n.startswith("target/")},
        {n.partition("/")[2]: v for n, v in kept.items() if n.startswith("mask/")},
    )


def mirrored(images: Tensor, labels: dict[str, Any], flip: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Mirror a share of a batch about its middle column; what points right then points left."""

    def turn(x: Tensor) -> Tensor:
        return torch.where(flip.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)

    out: dict[str, Any] = {}
    for task, (target, mask) in labels.items():
        if target.ndim > 1:
            target = turn(target)
        if task == "normal":
            sign = torch.ones((len(flip), 3, 1, 1), device=target.device)
            sign[:, 0, 0, 0] = torch.where(flip, -1.0, 1.0)
            target = target * sign
        out[task] = (target, None if mask is None else turn(mask))
    return turn(images), out


def jitter(images: Tensor, amount: float) -> Tensor:
    """Change light, contrast, gamma and color a little, and add a little noise."""
    b, device = len(images), images.device
    u = 2 * torch.rand((4, b, 1, 1, 1), device=device) - 1
    tint = 1 + 0.3 * amount * (2 * torch.rand((b, 3, 1, 1), device=device) - 1)
    mean = images.mean((1, 2, 3), keepdim=True)
    out = mean * (1 + amount * u[0]) + (1 + amount * u[1]) * (images - mean)
    out = (out * tint).clamp(0, 1) + 1e-4
    out = out ** torch.exp(amount * u[2])
    out = out + 0.06 * amount * (u[3] + 1) / 2 * torch.randn_like(images)
    return out.clamp(0, 1)
