"""Tables of the recognisers' page, from benchmarks/results/teachers--cpu.json."""

from collections.abc import Callable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]


def dark(suite: dict[str, Any], table: Table) -> str:
    """What each recogniser keeps of its own daylight answer."""
    groups: dict[tuple[str, bool], dict[str, dict[str, Any]]] = {}
    for row in suite["rows"]:
        triple = row["triple"]
        light = "daylight" if triple is None else f"{triple[0]:g}, {triple[1]:g}, {triple[2]:g}"
        groups.setdefault((light, row["brightened"]), {})[row["teacher"]] = row
    rows: list[list[str]] = []
    for (light, bright), found in groups.items():
        cells = [light, "brightened" if bright else "as it is"]
        for name in ("CenterNet", "NanoDet"):
            r = found[name]
            share = r["kept"] / max(1, r["found_by_day"])
            cells += [
                str(r["found"]),
                f"{r['kept']} ({share:.0%})",
                f"{r['same_top_fraction']:.0%}",
            ]
        rows.append([*cells, f"{found['EfficientNetLite0']['same_top_fraction']:.0%}"])
    head = ["exposure factor, shot, read", "picture"]
    for name in ("CenterNet", "NanoDet"):
        head += [f"{name}: found", "kept", "same top class"]
    head.append("EfficientNet-Lite0: same top class")
    note = (
        f"{suite['photographs']}; noise draws each: {suite['draws']}; score at least "
        f"{suite['threshold']}. Under 100 photographs: an anecdote. "
        f"{_where(suite, suite['load'])}"
    )
    return f"{table(head, rows)}\n\n{note}"


def cost(suite: dict[str, Any], table: Table) -> str:
    """Seconds and sizes."""
    rows = [
        [
            r["teacher"],
            f"{r['parameters'] / 1e6:.2f} M",
            " x ".join(map(str, r["input"])),
            "{:.0f} ({:.0f} to {:.0f})".format(*(1000 * t for t in (r["seconds"], *r["spread"]))),
            f"{1000 * r['gradient_seconds']:.0f}",
        ]
        for r in suite["cost"]
    ]
    where = _where(suite, max(r["load"] for r in suite["cost"]))
    head = ["recogniser", "parameters", "input", "answer, ms (range)", "score map and gradient, ms"]
    return f"{table(head, rows)}\n\nOne picture of 576 x 768 px, median of 5. {where}"


def _where(suite: dict[str, Any], load: float) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in suite["versions"].items())
    commit = suite["commit"][:7] + (" with changes" if suite["commit"].endswith("+changes") else "")
    return f"{suite['device']}, load {load:.1f}; {versions}; commit `{commit}`."
