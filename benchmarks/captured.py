"""What the queries, keys and values of a real model are like, and what each precision does to them.

    python benchmarks/captured.py --packed FOLDER [--tokens 8192] [--out FILE]

FOLDER is what `tools/pack_model.py` wrote. One pass of SmolLM2 is stopped at every layer's
attention; Q, K and V are summarised there and then, and are not stored. Errors are relative L2
errors of sampled query rows against attention in fp64 on the same tensors.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from quality import PRECISIONS, environment
from torch import Tensor

from foveal.attention import Sage, XAttention, attend
from foveal.attention.integrations.loss import sample_rows

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import pack_model

FILE = Path(__file__).parent / "results" / "captured--h100.json"
ROWS = 256
PARTS = 40_000
"""First token of the text that is read: that of `quality.py`."""
ACCURACY = {
    **PRECISIONS,
    "int8-fp8, single": Sage("int8-fp8", accumulate="single"),
    "int4-fp8, Q not smoothed": Sage("int4-fp8", smooth_q=False),
    "int8-fp8, K not smoothed": Sage("int8-fp8", smooth_k=False),
}


def spread(x: Tensor) -> dict[str, float]:
    """Summarise (b, heads, tokens, channels): size, mean by channel, outliers."""
    x = x.float()
    size = float(x.square().mean().sqrt())
    mean = float(x.mean(2).square().mean().sqrt())
    by_channel = x.square().mean((0, 2)).sqrt()
    return {
        "rms": size,
        "largest": float(x.abs().max()),
        "mean_fraction": mean / size,
        "heaviest_channel": float((by_channel.amax(1) / by_channel.median(1).values).mean()),
    }


def attention_of_rows(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, scale: float) -> Tensor:
    """Return the exact outputs of some query rows, (heads, rows, width), in fp64."""
    group = q.shape[1] // k.shape[1]
    hidden = torch.arange(k.shape[2], device=q.device) > rows[:, None]
    outs: list[Tensor] = []
    for head in range(q.shape[1]):
        keys, values = k[0, head // group].double(), v[0, head // group].double()
        logits = q[0, head, rows].double() @ keys.T * scale
        outs.append(logits.masked_fill(hidden, -torch.inf).softmax(-1) @ values)
    return torch.stack(outs)


def judge(q: Tensor, k: Tensor, v: Tensor, scale: float) -> dict[str, Any]:
    """Return what the tensors are like and how far each precision is from fp64."""
    rows = sample_rows(q.shape[2], ROWS, 0, q.device)
    exact = attention_of_rows(q, k, v, rows, scale)
    found: dict[str, Any] = {"q": spread(q), "k": spread(k), "v": spread(v), "error": {}}
    runs: dict[str, Any] = {"bf16, exact kernel": None, **ACCURACY}
    for name, precision in runs.items():
        try:
            out = attend(q, k, v, policy=None, precision=precision, causal=True, scale=scale)
        except Exception as error:  # noqa: BLE001 - the table says so
            found["error"][name] = str(error)
            continue
        part = out[0][:, rows].double()
        cosine = torch.nn.functional.cosine_similarity(part.flatten(), exact.flatten(), 0)
        found["error"][name] = {
            "relative_l2": float((part - exact).norm() / exact.norm()),
            "cosine": float(cosine),
        }
    for stride in (8, 16):
        for threshold in (0.9, 0.95):
            policy = XAttention(stride=stride, threshold=threshold, dense_below=0)
            layout = policy.layout(q, k, causal=True, scale=scale)
            out = attend(q, k, v, policy=policy, causal=True, scale=scale)
            part = out[0][:, rows].double()
            found["error"][f"xattention, stride {stride}, {threshold}"] = {
                "relative_l2": float((part - exact).norm() / exact.norm()),
                "density": layout.density,
            }
    return found


def main() -> None:
    """Capture, summarise, write."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    parser = argparse.ArgumentParser(description="Queries, keys and values of a real model.")
    parser.add_argument("--packed", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    model, ids = pack_model.load(given.packed, "cuda" if torch.cuda.is_available() else "cpu")
    layers: list[dict[str, Any]] = []

    def stopped(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, **rest: Any) -> Any:
        layers.append(judge(q, k, v, rest["scaling"]))
        return sdpa_attention_forward(module, q, k, v, mask, **rest)

    AttentionInterface.register("stopped", stopped)
    model.set_attn_implementation("stopped")
    tokens = ids[None, PARTS : PARTS + given.tokens].to(model.device)
    with torch.no_grad():
        model.base_model(input_ids=tokens, use_cache=False)
    suite = {
        **environment(),
        "model": "SmolLM2-135M-Instruct, 4-bit weights de-quantised to bf16, computed in bf16",
        "text": f"pydoc topics, {given.tokens} tokens from token {PARTS}",
        "rows_judged": f"{ROWS} query rows of every head of every layer, against fp64",
        "layers": layers,
    }
    given.out.write_text(json.dumps(suite, indent=1) + "\n")
    for name in layers[0]["error"]:
        values = [layer["error"][name] for layer in layers]
        errors = [x["relative_l2"] for x in values if isinstance(x, dict)]
        if errors:
            mean = sum(errors) / len(errors)
            print(f"{name:34} error {mean:.4f}, worst layer {max(errors):.4f}")  # noqa: T201


if __name__ == "__main__":
    main()
