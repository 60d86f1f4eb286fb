"""Photographs that `tools/prepare_photos.py` unpacked, and what results depend on."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from foveal.lowlight import read_image


def environment(*files: str) -> dict[str, Any]:
    """Commit (with "+changes" if `files`, from the root, differ), device and versions."""
    git = ["git", "-C", str(Path(__file__).parent.parent)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    status = [*git, "status", "--porcelain", "--", *files]
    dirty = subprocess.run(status, capture_output=True, text=True).stdout if files else ""
    return {
        "commit": commit.strip() + ("+changes" if dirty.strip() else ""),
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} thread, shared",
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def photographs(folder: Path, split: str, count: int) -> list[Tensor]:
    """Some photographs of a split, spread over its sources."""
    files = sorted((folder / split).iterdir())
    found = []
    for file in files[:: max(1, len(files) // count)][:count]:
        image = read_image(file)
        scale = 320 / min(image.shape[1:])
        if scale < 1:
            size = [round(side * scale) for side in image.shape[1:]]
            image = interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
        found.append(image)
    return found
