"""Orders of video tokens: likeness inside cells, and what Sparge makes of it, on the CPU.

    python benchmarks/order.py [--out FILE]

Features are patches of a real video and smooth random fields, projected to 64 channels; queries
and keys are two projections of them. No trained model is involved: only the order of the orders
can be compared with the published table, not the values.
"""

import argparse
import json
import math
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveal._core.video import read_video
from foveal.attention.block_sparse import block_sparse_attention
from foveal.attention.order import TokenOrder, mean_self_similarity
from foveal.attention.policy.sparge import Sparge
from foveal.data import samples

FILE = Path(__file__).parent / "results" / "order--cpu.json"
ORDERS = ("random", "row_major", "time_major", "hilbert")
THRESHOLD, TOP_K, WIDTH, FRAMES = 0.9, 0.2, 64, 16


def environment() -> dict[str, Any]:
    """Return what the numbers depend on."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    paths = ["../src/foveal/attention/order.py", "../src/foveal/attention/score/pooled.py"]
    paths += ["../src/foveal/attention/policy/sparge.py", "order.py"]
    state = [*git, "status", "--porcelain", "--", *paths]
    dirty = subprocess.run(state, capture_output=True, text=True).stdout
    return {
        "commit": commit.strip() + ("+changes" if dirty.strip() else ""),
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} threads, shared",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def video_patches(name: str, size: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Return patches of size x size pixels of every second frame, and the grid of tokens."""
    frames = torch.stack(list(read_video(samples.path(name), every=2, max_frames=FRAMES)))
    f, _, height, width = frames.shape
    grid = (f, height // size, width // size)
    cut = frames[:, :, : grid[1] * size, : grid[2] * size]
    patches = cut.unflatten(2, (-1, size)).unflatten(4, (-1, size))
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(0, 2), grid


def smooth_field(frames: int, height: int, width: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Return sums of 64 plane waves in 64 channels, with wavelengths of some 10 tokens."""
    random = torch.Generator().manual_seed(0)
    axes = [torch.arange(float(n)) for n in (frames, height, width)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
    waves = 0.35 * torch.randn(3, 64, generator=random)
    phase = 2 * math.pi * torch.rand(64, generator=random)
    amplitude = torch.randn(64, WIDTH, generator=random)
    return (places @ waves + phase).cos() @ amplitude, (frames, height, width)


def projections(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k, v: projections of standardized features; q and k share most of theirs.

    Queries and keys have one length, as behind the QK normalization of video transformers; a
    token's logit with itself is about 16.
    """
    random = torch.Generator().manual_seed(1)
    x = (x - x.mean(0)) / x.std()
    shared, own, value = (
        torch.randn(x.shape[1], WIDTH, generator=random) / math.sqrt(x.shape[1]) for _ in range(3)
    )
    q, k = (torch.nn.functional.normalize(x @ w, dim=1) for w in (shared, shared + 0.3 * own))
    size = math.sqrt(16 * math.sqrt(WIDTH))
    return (q * size)[None, None], (k * size)[None, None], (x @ value)[None, None]


def measure(x: Tensor, grid: tuple[int, int, int], name: str) -> list[dict[str, Any]]:
    """Return one row per order."""
    q, k, v = projections(x)
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    rows: list[dict[str, Any]] = []
    for maker in ORDERS:
        order: TokenOrder = getattr(TokenOrder, maker)(*grid)
        moved = [order.apply(y) for y in (q, k, v)]
        row = {
            "features": name,
            "grid": list(grid),
            "order": maker,
            "similarity_q": mean_self_similarity(moved[0]),
            "similarity_k": mean_self_similarity(moved[1], smooth=True),
        }
        for kind, value in (("threshold", THRESHOLD), ("top_k", TOP_K)):
            policy = Sparge(**{kind: value}, keep_sink=False, dense_below=0)
            layout = policy.layout(moved[0], moved[1], causal=False)
            out = order.undo(block_sparse_attention(*moved, layout, impl="cpu"))
            error = float((out - exact).abs().sum() / exact.abs().sum())
            row[kind] = {"density": layout.density, "relative_l1_error": error}
        rows.append(row)
        print(json.dumps(row), flush=True)  # noqa: T201 (a script talks)
    return rows


def main() -> None:
    """Measure all rows and write them."""
    parser = argparse.ArgumentParser(description="Orders of video tokens.")
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    cases = [
        ("smooth field, powers of two", *smooth_field(16, 32, 32)),
        ("smooth field", *smooth_field(13, 30, 45)),
        ("video-bikes, 16-pixel patches", *video_patches("video-bikes", 16)),
        ("video-carphone, 16-pixel patches", *video_patches("video-carphone", 16)),
        ("video-carphone, 8-pixel patches", *video_patches("video-carphone", 8)),
    ]
    rows = [row for name, x, grid in cases for row in measure(x, grid, name)]
    text = {"threshold": THRESHOLD, "top_k": TOP_K, "rows": rows, **environment()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
