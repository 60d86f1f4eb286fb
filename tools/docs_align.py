"""Generated part of the card of the aligned curves: how each was made, and judged."""

from collections.abc import Callable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]


def card(suite: Any, table: Table) -> str:
    """Write what was trained, and what it gave on the photographs kept for choosing."""
    made: list[list[str]] = []
    judged: list[list[str]] = []
    failed: list[str] = []
    for teacher, methods in suite["curves"].items():
        why = methods.get("failed", {})
        failed += [f"{teacher} by {method}: {reason}" for method, reason in why.items()]
        logs = {name: log for name, log in methods.items() if name != "failed"}
        made += [[teacher, name, *_made(log)] for name, log in logs.items()]
        judged += _judged(teacher, logs)
    head = ["recogniser", "method", "dark pictures", "trusted, or puzzles solved by day"]
    head += ["steps", "seconds", "device", "commit"]
    parts = [table(head, made)]
    if failed:
        parts.append(f"Not trained: {'; '.join(failed)}.")
    head = ["recogniser", "darkness", "items", "untouched", "ensemble", "pretext"]
    head += ["best fixed, in hindsight", "any fixed"]
    parts.append(table(head, judged))
    return "\n\n".join(parts)


def _made(log: Any) -> list[str]:
    steps = log["steps"]
    first = [x for x in steps if x["stage"] in ("labels", "head") and x.get("right") is not None]
    share = f"{first[-1]['right']:.0%}" if first else "–"
    done = max((x["step"] for x in steps if x["stage"] == "curve"), default=0)
    asked = log["arguments"]
    dark = log.get("dark_cuts") or log.get("dark_clips") or asked.get("clips", "–")
    return [
        str(dark),
        share,
        str(done),
        f"{log['seconds']:.0f}",
        log["device"],
        log.get("commit", "–"),
    ]


def _judged(teacher: str, logs: Any) -> list[list[str]]:
    found: dict[tuple[float, ...], dict[str, Any]] = {}
    for name, log in logs.items():
        for row in log.get("kept_photographs", []):
            found.setdefault(tuple(row["triple"]), {})[name] = row
    rows: list[list[str]] = []
    for triple, by in found.items():
        some = next(iter(by.values()))
        best = next(v for k, v in some.items() if k.startswith("best fixed"))
        most = next(v for k, v in some.items() if k.startswith("any reciprocal"))
        shares = [
            f"{100 * by[m]['aligned']:.1f}" if m in by else "–" for m in ("ensemble", "pretext")
        ]
        rows.append(
            [
                teacher,
                "k {:g}, {:g}, {:g}".format(*triple),
                str(some["items"]),
                f"{100 * some['untouched']:.1f}",
                *shares,
                f"{100 * best:.1f}",
                f"{100 * most:.1f}",
            ]
        )
    return rows
