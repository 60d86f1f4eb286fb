"""Time to first token of a Llama-8B-shaped model on a GPU, dense and attached at fixed densities.

    python benchmarks/attention_llm.py [--tokens 32768 131072] [--layers 32] [--out FILE]

Weights are random, in bf16: only time and memory are read from them. Layouts are random cells
beside the first column and the diagonal, made once and the same for every layer, so that neither
the choice of cells nor the text has a say. Rows are written one by one.
"""

import argparse
import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from foveal.attention import BlockLayout, Policy, Sage, attach

FILE = Path(__file__).parent / "results" / "attention_llm--h100.json"
DENSITIES = (0.05, 0.1, 0.2)
WARM = 4096
"""Tokens of the run that warms up."""
LONG = 100_000
"""From here on each setting runs once."""


@dataclass(frozen=True)
class RandomCells(Policy):
    """Random cells of a given density beside the first column and the diagonal, made once."""

    density: float
    made: dict[Any, BlockLayout] = field(default_factory=dict, compare=False, repr=False)

    def layout(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        *,
        causal: bool = True,
        scale: float | None = None,
    ) -> BlockLayout:
        """Return the layout of these sizes."""
        key = (q.shape[:3], k.shape[2], causal)
        if key not in self.made:
            full = BlockLayout.dense(q[:, :1], k[:, :1], causal=causal)
            n, m = full.shape[2:]
            heads: list[torch.Tensor] = []
            for head in range(q.shape[1]):
                seed = torch.Generator(q.device).manual_seed(head)
                kept = torch.rand(1, 1, n, m, device=q.device, generator=seed) < self.density
                kept[..., 0] = True
                kept |= torch.eye(n, m, dtype=torch.bool, device=q.device)
                sizes = {"num_queries": q.shape[2], "num_keys": k.shape[2], "causal": causal}
                heads.append(BlockLayout.from_bool(kept, **sizes).bits)
            bits = torch.cat(heads, 1).expand(q.shape[0], -1, -1, -1).contiguous()
            self.made[key] = BlockLayout(bits, q.shape[2], k.shape[2], causal)
        return self.made[key]


def model_of(layers: int) -> Any:
    """Return the random model."""
    config = transformers.LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        rope_theta=500000.0,
        max_position_embeddings=131072,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        return transformers.LlamaForCausalLM(config).eval()


def first_token(model: Any, tokens: torch.Tensor) -> tuple[float, float]:
    """Return (seconds to the first token, peak bytes) of a prefill with its cache."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    with torch.no_grad():
        model(tokens, use_cache=True, logits_to_keep=1)
    torch.cuda.synchronize()
    return time.perf_counter() - start, float(torch.cuda.max_memory_allocated())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time to first token.")
    parser.add_argument("--tokens", type=int, nargs="+", default=[32768, 131072])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    where = {
        "model": f"Llama-8B-shaped, {given.layers} layers, random weights, bf16",
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": commit,
    }
    rows: list[dict[str, Any]] = []
    model = model_of(given.layers)
    for length in given.tokens:
        tokens = torch.randint(0, 128256, (1, length), device="cuda")
        runs = given.repeats if length < LONG else 1
        settings: list[tuple[float | None, Sage | None]] = [(None, None)]
        settings += [(x, p) for x in DENSITIES for p in (None, Sage("int8-fp8"))]
        settings += [(1.0, Sage("int8-fp8"))]
        for density, precision in settings:
            row: dict[str, Any] = {"tokens": length, "density": density or 1.0}
            row["precision"] = precision.mode if precision else "bf16"
            if density is None:
                row["way"] = "torch SDPA"
                first_token(model, tokens[:, :WARM])
                times, peaks = zip(*(first_token(model, tokens) for _ in range(runs)), strict=True)
                with attach(model, policy=None, loss_rows=0) as handle:
                    first_token(model, tokens)
                details = handle.receipt.details
            else:
                row["way"] = "attached"
                policy = None if density == 1.0 else RandomCells(density)
                if policy is not None:
                    heads = (torch.empty(1, x, length, 1, device="cuda") for x in (32, 8))
                    policy.layout(*heads)
                with attach(model, policy=policy, precision=precision, loss_rows=0):
                    first_token(model, tokens[:, :WARM])
                with attach(model, policy=policy, precision=precision, loss_rows=0) as handle:
                    times, peaks = zip(
                        *(first_token(model, tokens) for _ in range(runs)), strict=True
                    )
                details = handle.receipt.details
                row["measured_density"] = handle.density
            calls = 1 if density is None else runs
            attention = (details["attend_seconds"] + details["select_seconds"]) / calls
            row |= {
                "seconds": sorted(times)[len(times) // 2],
                "seconds_all": list(times),
                "attention_seconds": attention,
                "peak_bytes": max(peaks),
                "impl": details["impl"],
            }
            rows.append(row)
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps({**where, "rows": rows}, indent=1) + "\n")
            print(  # noqa: T201 - a script talks
                f"{length:>7} {row['way']:<10} {row['precision']:<8} density {row['density']:.2f} "
                f"{row['seconds']:.3f} s, attention {attention:.3f} s, "
                f"{row['peak_bytes'] / 2**30:.1f} GiB {row['impl']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
