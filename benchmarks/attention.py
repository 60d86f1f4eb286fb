"""Quality against density of XAttention settings in SmolLM2-135M on the CPU.

    python benchmarks/attention.py [--tokens 4096] [--out FILE] [--parts PART ...] [--fresh]

Settings are compared on one part of a text ("select") and a few of them are judged on two others
("judge"). Rows are written one by one and those that exist are skipped, so a run may be broken
off; `--fresh` measures all again. Each row carries time, density and error.
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

from foveal.attention import XAttention
from foveal.attention.evaluate import compare_states, read_states
from foveal.data.texts import long_text
from foveal.teachers import smollm2

FILE = Path(__file__).parent / "results" / "attention--cpu.json"
PARTS = {"select": 0, "judge-1": 40_000, "judge-2": 70_000}
"""First token of each part of the text."""

SELECT: list[dict[str, Any]] = [
    {"threshold": 0.9, "stride": 8},
    {"threshold": 0.9, "stride": 4},
    {"threshold": 0.9, "stride": 16},
    {"threshold": 0.9, "stride": 8, "alternate": False},
    {"threshold": 0.9, "stride": 8, "num_dense_layers": 1},
    {"threshold": 0.9, "stride": 8, "num_dense_layers": 2},
    {"threshold": 0.95, "stride": 8},
    {"threshold": 0.98, "stride": 8},
    {"threshold": 0.95, "stride": 4},
    {"threshold": 0.98, "stride": 4},
    {"threshold": 0.95, "stride": 8, "num_local_cells": 2},
    {"threshold": 0.98, "stride": 16},
    {"threshold": 0.9, "stride": 8, "num_local_cells": 1},
    {"threshold": 0.95, "stride": 16},
]
JUDGE: list[dict[str, Any]] = [
    {"threshold": 0.98, "stride": 8},
    {"threshold": 0.95, "stride": 4},
    {"threshold": 0.95, "stride": 8},
]
"""Settings judged on other parts."""


def environment() -> dict[str, Any]:
    """Return what the numbers depend on."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    dirty = subprocess.run(
        [*git, "status", "--porcelain", "--", "../src/foveal/attention"],
        capture_output=True,
        text=True,
    ).stdout
    return {
        "commit": commit.strip() + ("+changes" if dirty.strip() else ""),
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} threads, shared",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def measure(
    model: Any, tokens: torch.Tensor, dense: torch.Tensor, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return the row of one setting."""
    states, handle, seconds = read_states(model, tokens, policy=XAttention(**settings))
    found = compare_states(model, tokens, dense, states)
    receipt = handle.receipt
    return {
        "density": handle.density,
        "kl_nats": found.kl,
        "kl_standard_error": found.kl_standard_error,
        "perplexity_ratio": found.sparse_perplexity / found.dense_perplexity,
        "dense_perplexity": found.dense_perplexity,
        "same_top_fraction": found.same_top_fraction,
        "relative_l2_error": receipt.loss,
        "scoring_fraction": receipt.details["scoring_block_products"] / receipt.full,
        "seconds": seconds,
        "select_seconds": receipt.details["select_seconds"],
        "attend_seconds": receipt.details["attend_seconds"],
        "impl": receipt.details["impl"],
    }


def main() -> None:
    """Measure the missing rows and print a table."""
    parser = argparse.ArgumentParser(description="XAttention: quality and density.")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--fresh", action="store_true")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if given.out.exists() and not given.fresh:
        rows = json.loads(given.out.read_text())["rows"]
    model, tokenizer = smollm2.load()
    ids = tokenizer(long_text(), add_special_tokens=False, verbose=False)["input_ids"]
    where = environment()
    for part in given.parts:
        start = PARTS[part]
        tokens = torch.tensor([ids[start : start + given.tokens]])
        dense, base = None, {}
        for settings in SELECT if part == "select" else JUDGE:
            policy = repr(XAttention(**settings))
            key = {"part": part, "tokens": given.tokens, "policy": policy}
            if any(key.items() <= row.items() for row in rows):
                continue
            if dense is None:
                dense, handle, seconds = read_states(model, tokens, policy=None)
                attend = handle.receipt.details["attend_seconds"]
                base = {"dense_seconds": seconds, "dense_attend_seconds": attend}
            clock = time.process_time()
            row = {**key, "settings": settings, **measure(model, tokens, dense, settings), **base}
            rows.append({**row, "process_seconds": time.process_time() - clock, **where})
            text = {
                "model": "SmolLM2-135M-Instruct, 4-bit weights de-quantised, fp32",
                "text": "pydoc topics; one text, an anecdote",
                "timing": "each pass once, on cores under other load: no speed can be read from it",
                "rows": rows,
            }
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(text, indent=1) + "\n")
            print(  # noqa: T201 (a script talks)
                f"{part:8} {settings!s:75} density {row['density']:.3f} KL {row['kl_nats']:.4f} "
                f"ppl x {row['perplexity_ratio']:.4f} top {row['same_top_fraction']:.3f} "
                f"L2 {row['relative_l2_error']:.3f} {row['seconds']:.1f} s "
                f"(dense {row['dense_seconds']:.1f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
