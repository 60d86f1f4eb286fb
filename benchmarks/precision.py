"""Error of quantized attention against fp64, on tensors of SmolLM2-135M and on ones with outliers.

    python benchmarks/precision.py [--tokens 2048] [--out FILE]

Writes cosine similarity, relative L1 and RMSE per setting and tensor, then the drift of a short
accumulator with the number of keys. About a minute on one core. Times are of the emulation.
"""

import argparse
import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.functional import cosine_similarity, scaled_dot_product_attention

from foveal.attention import BlockLayout, attend
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.precision import Sage
from foveal.data.texts import long_text
from foveal.teachers import smollm2

FILE = Path(__file__).parent / "results" / "precision--cpu.json"
LAYERS = (0, 7, 14, 21, 29)
NO, K, Q, BOTH = (
    {"smooth_k": k, "smooth_q": q}
    for k, q in ((False, False), (True, False), (False, True), (True, True))
)
SETTINGS: list[dict[str, Any]] = [
    *[{"mode": "int8-fp16", **smooth} for smooth in (NO, K, Q, BOTH)],
    *[{"mode": "int4-fp16", **smooth} for smooth in (NO, K, Q, BOTH)],
    *[{"mode": "int8-fp16", "granularity": name, **K} for name in ("warp", "block")],
    *[{"mode": "int4-fp16", "granularity": name, **BOTH} for name in ("warp", "block")],
    {"mode": "int8-fp8", **K},
    {"mode": "int8-fp8", "smooth_v": True, **K},
    {"mode": "int4-fp8", **BOTH},
    {"mode": "int4-fp8", "smooth_v": True, **BOTH},
]
DRIFT_KEYS = (1024, 4096, 16384, 32768)


def environment() -> dict[str, Any]:
    """Return what the numbers depend on."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    names = ("precision.py", "quantize", "prepare", "block_sparse/quantized.py")
    paths = [f"../src/foveal/attention/{name}" for name in names]
    dirty = subprocess.run(
        [*git, "status", "--porcelain", "--", *paths], capture_output=True, text=True
    ).stdout
    return {
        "commit": commit.strip() + ("+changes" if dirty.strip() else ""),
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} threads, shared",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def capture(num_tokens: int) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return Q, K, V after rotation of some layers, as SmolLM2 makes them from a long text."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    model, tokenizer = smollm2.load()
    found: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def keep(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **rest: Any) -> Any:
        if module.layer_idx in LAYERS:
            found[f"SmolLM2 layer {module.layer_idx}"] = (query, key, value)
        return sdpa_attention_forward(module, query, key, value, mask, **rest)

    AttentionInterface.register("keep", keep)
    model.set_attn_implementation("keep")
    ids = tokenizer(long_text(), add_special_tokens=False, verbose=False)["input_ids"]
    with torch.no_grad():
        model.model(torch.tensor([ids[:num_tokens]]))
    return found


def outliers(num_tokens: int) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return made tensors: K and Q with a mean that is large in a few channels, V with a mean.

    The bias is the same for all tokens, the pattern that motivates smoothing in the paper.
    """
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 4, num_tokens, 64, generator=random) for _ in range(3))
    for x, size in ((q, 12.0), (k, 16.0)):
        channels = torch.randperm(64, generator=random)[:4]
        x[..., channels] += torch.randn(1, 4, 1, 4, generator=random).sign() * size
    return {"outliers": (q, k, v + torch.randn(1, 4, 1, 64, generator=random))}


def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention in fp64, head by head."""
    group = q.shape[1] // k.shape[1]
    heads = [
        scaled_dot_product_attention(
            q[:, j].double(), k[:, j // group].double(), v[:, j // group].double(), is_causal=True
        )
        for j in range(q.shape[1])
    ]
    return torch.stack(heads, dim=1)


def errors(out: Tensor, truth: Tensor) -> dict[str, float]:
    """Return the three figures of the paper."""
    a, b = out.double().flatten(), truth.flatten()
    return {
        "cosine": cosine_similarity(a, b, dim=0).item(),
        "relative_l1": ((a - b).abs().sum() / b.abs().sum()).item(),
        "rmse": (a - b).square().mean().sqrt().item(),
    }


def measure(tensors: dict[str, tuple[Tensor, Tensor, Tensor]]) -> list[dict[str, Any]]:
    """Return one row per tensor and setting; the first of each tensor is full precision."""
    rows: list[dict[str, Any]] = []
    for name, (q, k, v) in tensors.items():
        truth = exact(q, k, v)
        layout = BlockLayout.causal_like(q, k)
        for settings in [None, *SETTINGS]:
            start = time.perf_counter()
            if settings is None:
                out = attend(q, k, v)
            else:
                out = quantized_attention(q, k, v, layout, precision=Sage(**settings))
            seconds = time.perf_counter() - start
            row = {"tensors": name, "settings": settings, **errors(out, truth), "seconds": seconds}
            rows.append(row)
            print(  # noqa: T201 (a script talks)
                f"{name:18} {settings or 'fp32'!s:75} cos {row['cosine']:.5f} "
                f"L1 {row['relative_l1']:.4f} RMSE {row['rmse']:.5f} {seconds:.2f} s",
                flush=True,
            )
    return rows


def drift() -> list[dict[str, Any]]:
    """Return the error of both accumulators by number of keys, for values with and without mean."""
    rows: list[dict[str, Any]] = []
    for mean in (0.0, 1.0):
        for num_keys in DRIFT_KEYS:
            random = torch.Generator().manual_seed(0)
            q = torch.randn(1, 1, 8, 64, generator=random)
            k = torch.randn(1, 1, num_keys, 64, generator=random)
            v = torch.randn(1, 1, num_keys, 16, generator=random) * 0.3 + mean
            layout = BlockLayout.dense(q, k)
            truth = attend(q.double(), k.double(), v.double(), causal=False)
            for accumulate in ("two-level", "single"):
                for smooth_v in (False, True):
                    precision = Sage(accumulate=accumulate, smooth_v=smooth_v)
                    out = quantized_attention(q, k, v, layout, precision=precision)
                    row = {"value_mean": mean, "num_keys": num_keys, "accumulate": accumulate}
                    rows.append({**row, "smooth_v": smooth_v, **errors(out, truth)})
                    print(rows[-1], flush=True)  # noqa: T201
    return rows


def main() -> None:
    """Measure everything and write the file."""
    parser = argparse.ArgumentParser(description="Quantized attention: error by setting.")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    torch.set_num_threads(1)  # small operations on busy cores: more threads wait for each other
    with torch.no_grad():
        rows = measure({**capture(given.tokens), **outliers(given.tokens)})
        text = {
            "model": "SmolLM2-135M-Instruct, 4-bit weights de-quantised, fp32",
            "text": "pydoc topics; one text, an anecdote",
            "timing": "once, one thread, on cores under other load; the speed of the emulation",
            "tokens": given.tokens,
            **environment(),
            "rows": rows,
            "drift": drift(),
        }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
