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


def captured(suite: dict[str, Any], table: Table) -> str:
    """What queries, keys and values of a real model are like, over its layers."""
    rows = []
    names = {
        "rms": "root mean square",
        "largest": "largest",
        "mean_fraction": "mean over tokens / root mean square",
        "heaviest_channel": "heaviest channel / median channel",
    }
    for key, words in names.items():
        cells = []
        for x in "qkv":
            found = sorted(layer[x][key] for layer in suite["layers"])
            middle = found[len(found) // 2]
            cells.append(f"{found[0]:.2f} · {middle:.2f} · {found[-1]:.2f}")
        rows.append([words, *cells])
    return table(["least · median · most of the layers", "Q", "K", "V"], rows)


def captured_error(suite: dict[str, Any], table: Table) -> str:
    """Errors of each precision and of XAttention on tensors of a real model."""
    rows = []
    for name in suite["layers"][0]["error"]:
        found = [layer["error"][name] for layer in suite["layers"]]
        errors = sorted(x["relative_l2"] for x in found)
        density = [x["density"] for x in found if "density" in x]
        cosine = [x["cosine"] for x in found if "cosine" in x]
        rows.append(
            [
                name,
                f"{sum(density) / len(density):.3f}" if density else "1",
                f"{sum(errors) / len(errors):.4f}",
                f"{errors[-1]:.4f}",
                f"{sum(cosine) / len(cosine):.5f}" if cosine else "",
            ]
        )
    versions = ", ".join(f"{k} {v}" for k, v in suite["versions"].items())
    note = (
        f"{suite['model']}; {suite['text']}; {suite['rows_judged']}; {suite['device']}; "
        f"{versions}; commit `{suite['commit']}`."
    )
    head = ["numbers or policy", "density", "L2 error, mean of layers", "worst layer", "cosine"]
    return f"{table(head, rows)}\n\n{note}"
