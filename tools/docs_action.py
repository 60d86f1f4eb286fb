"""Generated part of the model card of the action recogniser."""

from collections.abc import Callable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]
_SHORT = {
    "best fixed reciprocal, chosen in hindsight": "best fixed curve, in hindsight",
    "any reciprocal right, picture by picture": "any fixed curve right, clip by clip",
}


def card(train: Any, suite: Any, table: Table) -> str:
    """Write what was measured by daylight and in the dark.

    Args:
        train: `action.log.json` of tools/train_action.py.
        suite: `action_lowlight.json` of tools/align_action.py.
        table: Writes Markdown.
    """
    return f"{daylight(train, table)}\n\n{confusions(train)}\n\n{dark(suite, table)}"


def daylight(train: Any, table: Table) -> str:
    """Accuracy on held-out clips, and of clips without motion or without order."""
    names = {"val": "other motions", "test": "other motions, cameras and looks"}
    rows = [
        [
            names[split],
            str(train[split]["clips"]),
            *(
                f"{train[split][key]:.1%}"
                for key in ("accuracy", "accuracy_still", "accuracy_shuffled")
            ),
        ]
        for split in names
    ]
    head = ["held out", "clips", "top-1", "middle frame only", "frames shuffled"]
    by_action = train["test"]["accuracy_by_action"].items()
    each = ", ".join(f"{name} {share:.0%}" for name, share in sorted(by_action, key=lambda x: x[1]))
    minutes = train["seconds"] / 60
    note = (
        f"By action, last row: {each}.\n\n"
        f"{train['parameters'] / 1e6:.2f} M parameters; {train['steps']} steps, "
        f"{train['clips_rendered']:,} clips rendered of {train['train_motions']:,} motions, "
        f"{minutes:.1f} minutes with the motions and these figures on one {train['device']}, torch "
        f"{train['torch']}, seed {train['arguments']['seed']}."
    )
    return f"{table(head, rows)}\n\n{note}"


def confusions(train: Any, most: int = 5) -> str:
    """Name the pairs that are taken for each other most often."""
    names, found = train["names"], train["test"]["confusion"]
    total = [max(sum(row), 1) for row in found]
    pairs = sorted(
        (
            (found[i][j] / total[i], names[i], names[j])
            for i in range(len(names))
            for j in range(len(names))
            if i != j and found[i][j]
        ),
        reverse=True,
    )
    if not pairs:
        return "None of these clips was taken for another action."
    return "Most often taken for another: " + ", ".join(
        f"{a} for {b} ({share:.0%})" for share, a, b in pairs[:most]
    ) + "."  # fmt: skip


def dark(suite: Any, table: Table) -> str:
    """Agreement with the daylight answer under each darkness, and top-1."""
    true = {(tuple(r["triple"]), r["method"]): r["agreement"] for r in suite["true_rows"]}
    parts: list[str] = []
    for triple in dict.fromkeys(tuple(r["triple"]) for r in suite["rows"]):
        rows = []
        for r in suite["rows"]:
            if tuple(r["triple"]) != triple or r["method"].startswith("reciprocal"):
                continue
            top = true.get((triple, r["method"]))
            rows.append(
                [
                    _SHORT.get(r["method"], r["method"]),
                    f"{r['agreement']:.1%}",
                    _points(r["gain"]),
                    _points(r["against_best"]),
                    "" if top is None else f"{top:.1%}",
                ]
            )
        k, shot, read = triple
        head = [f"k {k:g}, shot {shot:g}, read {read:g}", "agreement", "over untouched"]
        parts.append(table([*head, "over best fixed", "top-1"], rows))
    failed = "".join(f" No curve by {name}: {why}." for name, why in suite["failed"].items())
    note = (
        f"{suite['clips']} clips, {suite['draws']} noise draws each ({suite['label_draws']} for "
        f"top-1); by daylight {suite['daylight_accuracy']:.1%} are right. Points in percent, 95 % "
        f"paired bootstrap over clips.{failed} {suite['device']}, torch {suite['torch']}."
    )
    return "\n\n".join([*parts, note])


def _points(interval: Any) -> str:
    mean, low, high = (100 * interval[key] for key in ("mean", "low", "high"))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
