"""The generated parts of docs/attention/gpu.md."""

from collections.abc import Callable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]


def speed(suite: dict[str, Any], table: Table) -> str:
    """Ways to attend on a GPU, under the same cells."""
    rows = []
    for r in suite["rows"]:
        case = r["case"]
        rows.append(
            [
                str(case["num_tokens"]),
                "causal" if case["causal"] else "full",
                r["name"].removeprefix("torch "),
                f"{r['density']:.3f}",
                f"{r['milliseconds']:.2f}",
                f"{r['spread_milliseconds']:.2f}",
                "" if r["teraflops"] is None else f"{r['teraflops']:.0f}",
                "" if r.get("kernel_teraflops") is None else f"{r['kernel_teraflops']:.0f}",
                "" if r["error"] is None else f"{r['error']:.4f}",
            ]
        )
    head = ["tokens", "rule", "way", "density", "ms", "spread, ms", "TFLOP/s", "kernel alone"]
    head += ["error"]
    commits = ", ".join(f"`{x}`" for x in sorted({r["commit"] for r in suite["rows"]}))
    note = (
        f"32 query and 8 key heads of width 128, {suite['dtype']}; {suite['timing']}; "
        f"{suite['device']}, torch {suite['torch']}, triton {suite['triton']}; commits {commits}."
    )
    return f"{table(head, rows)}\n\n{note}"


def first_token(suite: dict[str, Any], table: Table) -> str:
    """Time to first token of the random model."""
    dense = {r["tokens"]: r["seconds"] for r in suite["rows"] if r["way"] == "torch SDPA"}
    rows = [
        [
            str(r["tokens"]),
            r["way"],
            r["precision"],
            f"{r.get('measured_density') or 1:.3f}",
            f"{r['seconds']:.2f}",
            f"{dense[r['tokens']] / r['seconds']:.2f}",
            "" if r["attention_seconds"] is None else f"{r['attention_seconds']:.2f}",
            ""
            if r["attention_seconds"] is None
            else f"{100 * r['attention_seconds'] / r['seconds']:.0f} %",
            f"{r['peak_bytes'] / 2**30:.1f}",
        ]
        for r in suite["rows"]
    ]
    head = ["tokens", "way", "numbers", "density", "s to first token", "speed-up"]
    head += ["in attention, s", "share", "peak, GiB"]
    note = (
        f"{suite['model']}; {suite['timing']}; {suite['device']}, torch {suite['torch']}, "
        f"transformers {suite['transformers']}; commit `{suite['commit']}`."
    )
    return f"{table(head, rows)}\n\n{note}"
