"""The generated part of docs/models/flow.md: what the flow network sees by day and in the dark."""

from collections.abc import Callable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]


def flow_card(training: dict[str, Any], dark: dict[str, Any], table: Table) -> str:
    """Errors by daylight, errors in the dark, and how both were made.

    Args:
        training: What tools/train_flow.py logged.
        dark: What tools/align_flow.py measured.
        table: Writes a Markdown table.
    """
    return f"{_by_day(training, table)}\n\n{_in_the_dark(dark, table)}"


def _by_day(log: dict[str, Any], table: Table) -> str:
    rows = [
        [
            f"{r['displacement']:g}",
            f"{r['epe']:.2f} ± {r['epe_standard_error']:.2f}",
            f"{r['epe_valid']:.2f}",
            f"{100 * r['over_3_px']:.1f} %",
            f"{r['zero_epe']:.2f}",
            f"{r['one_shift_epe']:.2f}",
        ]
        for r in log["held_out"]
    ]
    head = ["greatest displacement, px", "error, px", "of pixels seen in both frames"]
    head += ["over 3 px", "no motion", "one shift, phase correlation"]
    last, asked = log["held_out"][-1], log["arguments"]
    return (
        f"By daylight, {last['scenes']} scenes of {last['photographs']} photographs that it was "
        f"not trained on, {asked['size']} x {asked['size']} px; ± one standard error over "
        f"photographs:\n\n{table(head, rows)}\n\n"
        f"{log['steps']} steps of {asked['batch']} scenes in {log['train_seconds'] / 60:.1f} "
        f"minutes; {log['photographs']['train']} photographs, {log['photographs']['cutouts']} "
        f"cut-outs; learning rate {asked['lr']}, seed {asked['seed']}; {log['device']}, torch "
        f"{log['torch']}."
    )


def _in_the_dark(suite: dict[str, Any], table: Table) -> str:
    rows = [
        [
            ", ".join(f"{x:g}" for x in r["triple"]),
            r["method"],
            f"{r['error']:.2f}",
            f"{100 * r['outliers']:.0f} %",
            f"{r['departure']:.2f}",
            _interval(r["gain"]),
            _interval(r["against_best"]),
        ]
        for r in suite["rows"]
        if not r["method"].startswith("reciprocal ")
    ]
    head = ["exposure factor, shot, read", "brightened by", "error, px", "over 3 px"]
    head += ["from the day's answer, px", "gain, px", "against the best fixed, px"]
    asked = suite["arguments"]
    few = " Under 100 groups: an anecdote." if suite["groups"] < 100 else ""
    lost = "".join(f" {name} gave no curve: {why}." for name, why in suite["failed"].items())
    return (
        f"In the dark, {suite['clips']} clips of {asked['frames']} frames, greatest displacement "
        f"{float(asked['displacement']):g} px; one curve a clip, all methods on the same noise:\n\n"
        f"{table(head, rows)}\n\n"
        "Gain: error of the untouched clip less that of the method; against the best fixed: its "
        "error less that of the method, where it is chosen on these very clips. Both with 95 % "
        f"intervals by {suite['groups']} photographs, which are resampled.{few} The aligned curves "
        f"learned on dark clips of {suite['dark_photographs']} other photographs, the pretext's "
        f"head on daylight clips of another {suite['daylight_photographs']}.{lost} "
        f"{suite['device']}, torch {suite['torch']}."
    )


def _interval(row: dict[str, Any]) -> str:
    return f"{row['mean']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
