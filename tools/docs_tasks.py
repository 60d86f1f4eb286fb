"""Generated part of the model card of the task networks."""

from collections.abc import Callable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]
_SHARES = {"top1", "miou", "pixels", "within_11_25", "delta1", "f1"}
_NAMES = {
    "top1": "top-1",
    "miou": "mean IoU",
    "pixels": "pixels right",
    "angle": "mean angle",
    "within_11_25": "within 11.25°",
    "abs_rel": "error / depth",
    "delta1": "within 1.25 times",
    "l1": "mean absolute error",
    "balanced_l1": "the same, curved and flat alike",
    "f1": "F1",
    "mae": "mean absolute error",
}


def card(train: Any, table: Table) -> str:
    """Write each network's figures on held-out scenes, and those of the best constant answer.

    Args:
        train: `tasks.log.json` of tools/train_tasks.py.
        table: Writes Markdown.
    """
    head = ["network", "measure", "val", "test", "constant answer", "shift", "constant answer"]
    rows: list[list[str]] = []
    for name, result in train["results"].items():
        for measure in result["test"]["scores"]:
            test, shift = result["test"], result["shift"]
            values = [
                result["val"]["scores"], test["scores"], test["chance"], shift["scores"],
                shift["chance"],
            ]  # fmt: skip
            figures = [figure(measure, v[measure]) for v in values]
            rows.append([name.replace("/", ": "), _NAMES[measure], *figures])
    some = next(iter(train["results"].values()))
    scenes = ", ".join(f"{some[s]['scenes']} of {s}" for s in ("val", "test", "shift"))
    dead = sum(len(r["val"]["dead_channels"]) for r in train["results"].values())
    return (
        f"{table(head, rows)}\n\n"
        f"{train['steps']} steps of {train['arguments']['batch']} of {train['scenes']} scenes "
        f"({train['world']}), {train['train_seconds'] / 60:.1f} minutes of training, "
        f"{train['seconds'] / 60:.1f} in all, on one {train['device']}, torch {train['torch']}, "
        f"seed {train['arguments']['seed']}, commit {train['commit'][:12] or 'unknown'}. Measured "
        f"on {scenes}. Channels that are zero on all of val: {dead} of "
        f"{8 * len(train['results'])}.{again(train)}"
    )


def again(train: Any) -> str:
    """Say which network was trained once more, and why."""
    if "again" not in train:
        return ""
    run = train["again"]
    return (
        f" {run['network'].replace('/', ': ')} was trained once more by itself ({run['steps']} "
        f"steps, {run['scenes']} scenes, commit {run['commit'][:12]}): {run['why']}."
    )


def figure(measure: str, value: float) -> str:
    """Write a share in per cent, an angle in degrees, all else with three digits."""
    if measure in _SHARES:
        return f"{value:.1%}"
    return f"{value:.1f}°" if measure == "angle" else f"{value:.3g}"
