"""What `attach` costs when everything goes dense: a small Llama, with and without it.

    python benchmarks/attach_overhead.py [--tokens 2048] [--rounds 15] [--out FILE]

Prefills of one sequence, and a dozen decoding steps after one. Each round runs every way once, in
an order drawn anew; one thread, and its processor time beside wall time, since the machine may
be busy with other things. Medians over the rounds, and the median of the ratios of processor time
to the plain model within a round. "aa" is the plain model a second time: what this machine makes of
no difference at all.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers
from precision import environment

from foveal.attention import XAttention, attach

FILE = Path(__file__).parent / "results" / "attach_overhead--cpu.json"
CONFIG = {
    "vocab_size": 1024,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
}
STEPS = 12


def ways(model: torch.nn.Module, tokens: int) -> dict[str, Callable[[], AbstractContextManager]]:
    """Contexts to run in, by name."""
    few, many = XAttention(), XAttention(threshold=1.0)
    return {
        "plain": nullcontext,
        "aa": nullcontext,
        "no policy": lambda: attach(model, policy=None),
        "under min_tokens": lambda: attach(model, policy=few, min_tokens=tokens + 1),
        "every cell kept": lambda: attach(model, policy=many, min_tokens=0),
    }


def seconds(work: Callable[[], object], context: AbstractContextManager) -> tuple[float, float]:
    """Wall and processor time of `work`, attaching and leaving not included."""
    with context:
        start = time.perf_counter(), time.process_time()
        work()
        return time.perf_counter() - start[0], time.process_time() - start[1]


def interleaved(
    work: Callable[[], object], contexts: dict[str, Callable[[], Any]], rounds: int
) -> dict[str, Any]:
    """Median milliseconds and ratios to the plain model."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contexts}
    names = list(contexts)
    for name in names:  # warm up
        seconds(work, contexts[name]())
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            times[name].append(seconds(work, contexts[name]()))
    table = {}
    for name, found in times.items():
        wall, cpu = ([x[i] for x in found] for i in (0, 1))
        ratios = sorted(x / y[1] - 1 for x, y in zip(cpu, times["plain"], strict=True))
        table[name] = {
            "wall_ms": 1e3 * statistics.median(wall),
            "cpu_ms": 1e3 * statistics.median(cpu),
            "overhead": statistics.median(ratios),
            "overhead_quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
        }
    return table


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**CONFIG)).eval()
    ids = torch.randint(0, CONFIG["vocab_size"], (1, arguments.tokens))
    contexts = ways(model, arguments.tokens)

    def read() -> None:
        model.model(input_ids=ids, use_cache=False)

    def write() -> None:
        cache = transformers.DynamicCache(config=model.config)
        model(input_ids=ids[:, :128], cache=cache)
        for i in range(STEPS):
            model(input_ids=ids[:, 128 + i : 129 + i], cache=cache)

    with torch.inference_mode():
        wanted = model.model(input_ids=ids, use_cache=False).last_hidden_state
        errors = {}
        for name, context in contexts.items():
            with context():
                found = model.model(input_ids=ids, use_cache=False).last_hidden_state
            errors[name] = float((found - wanted).norm() / wanted.norm())
        suite = {
            "suite": "attach_overhead",
            **environment(),
            "model": {"family": "Llama", **CONFIG},
            "tokens": arguments.tokens,
            "rounds": arguments.rounds,
            "load": os.getloadavg()[0],
            "relative_l2_error": errors,
            "prefill": interleaved(read, contexts, arguments.rounds),
            "decode": {
                "steps": STEPS,
                "after": 128,
                **interleaved(write, contexts, 2 * arguments.rounds),
            },
        }
    arguments.out.write_text(json.dumps(suite, indent=1) + "\n")


if __name__ == "__main__":
    main()
