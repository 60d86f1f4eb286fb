"""Time of block-sparse attention on the CPU, selection included, beside torch SDPA.

    python benchmarks/cpu_speed.py [--tokens 2048 4096 8192 16384] [--out FILE]

Q, K, V of one layer of SmolLM2-135M reading a long text, and its first tokens for the shorter rows.
The threshold is the one at which XAttention keeps 15 % of the pairs; every row has the density that
came out and the error against exact attention. Dense is torch SDPA, causal. Run it on an idle
machine; the load is written down. The break-even is the shortest length at which selection and
attention together beat dense attention.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from precision import capture, environment
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from foveal.attention import BlockLayout, XAttention, block_sparse_attention

FILE = Path(__file__).parent / "results" / "cpu_speed--cpu.json"
HEADS, WIDTH, LAYER = 9, 64, 14
REPEATS = 7
DENSITY = 0.15


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Median and spread of some runs after one to warm up, in milliseconds."""
    work()
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        found.append(1e3 * (time.perf_counter() - start))
    found.sort()
    return {"median": statistics.median(found), "low": found[0], "high": found[-1]}


def measure(
    tensors: tuple[Tensor, Tensor, Tensor], tokens: int, stride: int, dtype: torch.dtype
) -> dict[str, Any]:
    """One row."""
    q, k, v = (x[:, :, :tokens].to(dtype).contiguous() for x in tensors)
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        policy = XAttention(stride=stride, threshold=middle, dense_below=0)
        layout = policy.layout(q, k)
        low, high = (middle, high) if layout.density < DENSITY else (low, middle)
    out = block_sparse_attention(q, k, v, layout, impl="cpu")
    exact = scaled_dot_product_attention(
        q.float(), k.float(), v.float(), is_causal=True, enable_gqa=True
    )
    dense = timed(lambda: scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
    select = timed(lambda: policy.layout(q, k))
    attend = timed(lambda: block_sparse_attention(q, k, v, layout, impl="cpu"))
    both = timed(lambda: block_sparse_attention(q, k, v, policy.layout(q, k), impl="cpu"))
    return {
        "tokens": tokens,
        "dtype": str(dtype).removeprefix("torch."),
        "stride": stride,
        "threshold": policy.threshold,
        "density": layout.density,
        "relative_l2_error": float((out.float() - exact).norm() / exact.norm()),
        "dense_ms": dense,
        "select_ms": select,
        "attend_ms": attend,
        "both_ms": both,
        "speedup": dense["median"] / both["median"],
        "load": os.getloadavg()[0],
    }


def exact_density(tokens: int, density: float) -> dict[str, Any]:
    """Attention alone on random cells of a given density."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, tokens, WIDTH, generator=random) for _ in "qkv")
    cells = tokens // 64
    kept = torch.rand(1, HEADS, cells, cells, generator=random) < density
    kept |= torch.eye(cells, dtype=torch.bool)
    layout = BlockLayout.from_bool(kept, num_queries=tokens, num_keys=tokens)
    dense = timed(lambda: scaled_dot_product_attention(q, k, v, is_causal=True))
    attend = timed(lambda: block_sparse_attention(q, k, v, layout, impl="cpu"))
    return {
        "tokens": tokens,
        "density": layout.density,
        "dense_ms": dense,
        "attend_ms": attend,
        "speedup": dense["median"] / attend["median"],
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    suite = {
        "suite": "cpu_speed",
        **environment(),
        "inputs": f"SmolLM2-135M, layer {LAYER}, {HEADS} query and 3 key heads of width {WIDTH}",
    }
    # Without bf16 arithmetic in the CPU, torch emulates it many times slower than fp32.
    fast = "AMX" in torch.backends.cpu.get_cpu_capability()
    dtypes = (torch.float32, torch.bfloat16) if fast else (torch.float32,)
    suite["capability"] = torch.backends.cpu.get_cpu_capability()
    with torch.inference_mode():
        tensors = capture(max(arguments.tokens))[f"SmolLM2 layer {LAYER}"]
        suite["rows"] = [
            measure(tensors, tokens, stride, dtype)
            for tokens in arguments.tokens
            for stride in (8, 16)
            for dtype in dtypes
        ]
        suite["kernel"] = [exact_density(8192, x) for x in (0.05, 0.1, 0.2, 0.4)]
    arguments.out.write_text(json.dumps(suite, indent=1) + "\n")


if __name__ == "__main__":
    main()
