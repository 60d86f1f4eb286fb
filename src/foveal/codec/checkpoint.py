"""Which training a checkpoint is of, so that a finished one is not taken for another's."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from foveal.codec.config import CodecConfig
from foveal.codec.training_loss import Batch, TrainOptions

DATA_IMAGES = 8
"""So many images of the first batch stand for the data, by the mean of their features each."""
NEAR = 1e-2
"""Means of the same features differ by less between devices, as a share of how they spread."""


def run_of(
    options: TrainOptions, config: CodecConfig, tasks: tuple[str, ...] | None, first: Batch
) -> dict[str, Any]:
    """Return what makes a run: its options, tasks, codec, and the images that it sees first."""
    about = json.dumps(config.to_dict(), sort_keys=True).encode()
    return {
        **dataclasses.asdict(options),
        "tasks": list(tasks or config.tasks),
        "codec": hashlib.sha256(about).hexdigest()[:12],
        "data": {name: _means(x[:DATA_IMAGES]) for name, x in first.items()},
    }


def _means(x: Tensor) -> list[float]:
    return x.double().reshape(len(x), -1).mean(1).nan_to_num().tolist()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str]:
    """Return what two runs differ in, as each has it; empty if they are one run."""
    keys = [key for key in {**old, **new} if key != "data" and old.get(key) != new.get(key)]
    parts = [[f"{key}={run.get(key, 'unknown')}" for key in keys] for run in (old, new)]
    if not _same_data(old.get("data", {}), new["data"]):
        for part, run in zip(parts, (old, new), strict=True):
            part.append(f"data {_shown(run.get('data', {}))}")
    return ", ".join(parts[0]), ", ".join(parts[1])


def _same_data(old: Mapping[str, list[float]], new: Mapping[str, list[float]]) -> bool:
    if old.keys() != new.keys():
        return False
    for name, means in new.items():
        a, b = torch.tensor(old[name]), torch.tensor(means)
        if a.shape != b.shape:
            return False
        room = NEAR * float(b.std(correction=0)) + 1e-4 * float(b.abs().max())
        if not bool(((a - b).abs() <= room).all()):
            return False
    return True


def _shown(data: Mapping[str, list[float]]) -> str:
    shown = (f"{name} ({', '.join(f'{x:.4g}' for x in v[:3])}, ...)" for name, v in data.items())
    return "of means " + ", ".join(shown) if data else "unknown"
