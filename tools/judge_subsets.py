"""Judge every subset of a codec's own tasks, at a few qualities.

    PYTHONPATH=src:tools python tools/judge_subsets.py --features features --out out \
        --models joint-global.safetensors separate-global.safetensors

Writes out/subsets-MODEL.npz: TASK+TASK/bytes [q, n] and TASK+TASK/sums/TASK [q, n, k] of the test
scenes for each subset, as train_task_codecs.py does for all tasks.
"""

import argparse
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from task_features import read
from train_task_codecs import judge

from foveal.codec.model import FeatureCodec
from foveal.data import taskworld
from foveal.teachers.task_network import TaskBank


def run(args: argparse.Namespace) -> None:
    """Judge all models."""
    device = torch.device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    bank = TaskBank.load(taskworld.TASKS).to(device)
    part = read(args.features, "test", device)
    for path in args.models:
        model = FeatureCodec.load(path).to(device)
        own = [head.name for head in model.config.heads if not head.external]
        found: dict[str, NDArray[Any]] = {"qualities": np.array(args.qualities)}
        for size in range(1, len(own) + 1):
            for tasks in combinations(own, size):
                rows = judge(model, bank, part, tasks=tasks, qualities=tuple(args.qualities))
                found |= {f"{'+'.join(tasks)}/{key}": value for key, value in rows.items()}
        np.savez_compressed(args.out / f"subsets-{path.stem}.npz", **found)  # type: ignore[arg-type]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, required=True, help="folder of task_features.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--qualities", nargs="+", type=int, default=[12, 24, 40, 56])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
