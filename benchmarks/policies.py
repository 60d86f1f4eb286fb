"""Quality against density of Sparge and Spans in SmolLM2-135M on the CPU, beside XAttention.

    python benchmarks/policies.py [--tokens 2048] [--out FILE] [--fresh]

One text and one part of it: an anecdote. Nothing is chosen by these numbers, except where the
documents say so. `benchmarks/attention.py` judges XAttention on more.
"""

import argparse
import json
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from foveal.attention import BlockLayout, Policy, XAttention
from foveal.attention.evaluate import compare_states, read_states
from foveal.attention.order import mean_self_similarity
from foveal.attention.policy.spans import Spans
from foveal.attention.policy.sparge import Sparge
from foveal.data.texts import long_text
from foveal.teachers import smollm2

FILE = Path(__file__).parent / "results" / "policies--cpu.json"
NUM_KV_HEADS = 3


def _spans(alpha: float, beta: float) -> Spans:
    return Spans((alpha,) * NUM_KV_HEADS, (beta,) * NUM_KV_HEADS)


POLICIES: list[tuple[str, str, Policy]] = [
    ("sparge", "top_k=0.3", Sparge(top_k=0.3)),
    ("sparge", "top_k=0.5", Sparge(top_k=0.5)),
    ("sparge", "threshold=0.9", Sparge(threshold=0.9)),
    (
        "sparge",
        "threshold=0.9, include_crossing=False",
        Sparge(threshold=0.9, include_crossing=False),
    ),
    ("sparge", "threshold=0.9, similarity=0.3", Sparge(threshold=0.9, similarity=0.3)),
    ("sparge", "threshold=0.98", Sparge(threshold=0.98)),
    ("spans", "every head 0.25 N", _spans(0, 0.25)),
    ("spans", "every head 0.5 N", _spans(0, 0.5)),
    ("spans", "0.125 N, 0.5 N and N", Spans((0, 0, 0), (0.125, 0.5, 1.0))),
    ("both", "XAttention()", XAttention()),
]
"""Page that shows the row, its name there, and the policy."""


@dataclass(frozen=True)
class Likeness(Policy):
    """Keep everything, and note how alike the tokens of the cells are."""

    found: list[tuple[float, float]] = field(default_factory=list)

    def layout(
        self, q: Tensor, k: Tensor, *, causal: bool = True, scale: float | None = None
    ) -> BlockLayout:
        """Return all cells."""
        self.found.append((mean_self_similarity(q), mean_self_similarity(k, smooth=True)))
        return BlockLayout.dense(q, k, causal=causal)


def environment() -> dict[str, Any]:
    """Return what the numbers depend on."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    state = [*git, "status", "--porcelain", "--", "../src/foveal/attention"]
    dirty = subprocess.run(state, capture_output=True, text=True).stdout
    return {
        "commit": commit.strip() + ("+changes" if dirty.strip() else ""),
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} threads, shared",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> None:
    """Measure all rows and write them."""
    parser = argparse.ArgumentParser(description="Sparge and Spans: quality and density.")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--fresh", action="store_true", help="measure rows that exist again")
    given = parser.parse_args()
    model, tokenizer = smollm2.load()
    ids = tokenizer(long_text(), add_special_tokens=False, verbose=False)["input_ids"]
    tokens = torch.tensor([ids[: given.tokens]])
    where = environment()
    likeness = Likeness()
    dense, _, _ = read_states(model, tokens, policy=likeness)
    rows: list[dict[str, Any]] = []
    if given.out.exists() and not given.fresh:
        rows = [r for r in json.loads(given.out.read_text())["rows"] if r["tokens"] == given.tokens]
    for page, name, policy in POLICIES:
        if any(row["policy"] == repr(policy) for row in rows):
            continue
        states, handle, _ = read_states(model, tokens, policy=policy)
        found = compare_states(model, tokens, dense, states)
        details = handle.receipt.details
        row = {
            "page": page,
            "name": name,
            "policy": repr(policy),
            "tokens": given.tokens,
            "density": handle.density,
            "kl_nats": found.kl,
            "kl_standard_error": found.kl_standard_error,
            "perplexity_ratio": found.sparse_perplexity / found.dense_perplexity,
            "relative_l2_error": handle.receipt.loss,
            "scoring_fraction": details["scoring_block_products"] / handle.receipt.full,
        }
        if isinstance(policy, Spans):
            row["kv_density"] = policy.kv_density(given.tokens)
            row["area_density"] = policy.area_density(given.tokens)
        row["commit"] = where["commit"]
        rows.append(row)
        print(json.dumps(row), flush=True)  # noqa: T201 (a script talks)
    text = {
        "model": "SmolLM2-135M-Instruct, 4-bit weights de-quantised, fp32",
        "text": "pydoc topics; one text, an anecdote",
        "tokens": given.tokens,
        "likeness_q_per_layer": [q for q, _ in likeness.found],
        "likeness_smoothed_k_per_layer": [k for _, k in likeness.found],
        "rows": rows,
        **where,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
