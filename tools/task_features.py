"""Features of taskworld scenes for training and judging codecs, rendered once and kept in a folder.

    PYTHONPATH=src python tools/task_features.py --out features --train 16000 --held-out 500

Writes `train.safetensors` (features of every task, fp16) and `val`, `test`, `shift` with 8-bit
images, features, targets and masks. Needs the task networks in `--tasks`, or the packaged ones.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from task_scenes import described, render
from torch import Tensor

from foveal.data import taskworld
from foveal.teachers.task_network import SIZE, TaskBank


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@torch.no_grad()
def encoded(bank: TaskBank, images: Tensor) -> dict[str, Tensor]:
    """Return the features of 8-bit images, fp16, in parts."""
    parts: dict[str, list[Tensor]] = {}
    for part in images.split(128):
        for task, value in bank.features(part.float() / 255, check=False).items():
            parts.setdefault(task, []).append(value.half())
    return {task: torch.cat(values) for task, values in parts.items()}


def make(out: Path, bank: TaskBank, train: int, held_out: int, workers: int) -> None:
    """Render, encode and write."""
    device = next(bank.parameters()).device
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        begin, parts = time.perf_counter(), dict[str, list[Tensor]]()
        for scenes in described("train", train, 64, pool):
            with torch.no_grad():
                labels = taskworld.render(scenes, size=SIZE, device=device)
                images = (labels.image * 255).round().to(torch.uint8)
            for task, value in encoded(bank, images).items():
                parts.setdefault(task, []).append(value.cpu())
        save_file({k: torch.cat(v) for k, v in parts.items()}, out / "train.safetensors")
        say(f"train: {train} scenes, {time.perf_counter() - begin:.0f} s")
        for split in ("val", "test", "shift"):
            kept = render(split, held_out, list(bank.tasks), device, chunk=50, pool=pool)
            tensors = {"image": kept.images}
            for task, value in kept.targets.items():
                tensors[f"target/{task}"] = value.half() if value.is_floating_point() else value
            tensors |= {f"mask/{k}": v for k, v in kept.masks.items()}
            tensors |= {f"features/{k}": v for k, v in encoded(bank, kept.images).items()}
            save_file(
                {k: v.cpu().contiguous() for k, v in tensors.items()}, out / f"{split}.safetensors"
            )
            say(f"{split}: {len(kept)} scenes, {time.perf_counter() - begin:.0f} s")


def read(folder: Path, split: str, device: torch.device) -> dict[str, Tensor]:
    """Return the tensors of a split on a device."""
    return load_file(str(folder / f"{split}.safetensors"), device=str(device))


def main() -> None:
    """Parse the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, help="file of the networks; default: the packaged")
    parser.add_argument("--arch", default="residual")
    parser.add_argument("--train", type=int, default=16000)
    parser.add_argument("--held-out", type=int, default=500)
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    bank = TaskBank.load(None, args.arch, source=args.tasks).to(args.device)
    make(args.out, bank, args.train, args.held_out, args.workers)


if __name__ == "__main__":
    main()
