"""The generated parts of docs/lowlight/regimes.md."""

from collections.abc import Callable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]


def _triple(values: list[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)


def _spread(values: list[float] | None) -> str:
    return "" if values is None else f"{values[1]:.2f} ({values[0]:.2f} to {values[2]:.2f})"


def _note(suite: dict[str, Any]) -> str:
    return (
        f"{suite['device']}, load {suite['load']:.1f}; torch {suite['versions']['torch']}; "
        f"commit `{suite['commit'][:7]}`{' with changes' * suite['commit'].endswith('+changes')}."
    )


def estimates(suite: dict[str, Any], table: Table) -> str:
    """Ratios of estimates to the truth."""
    rows = []
    for key, name in (
        ("estimates", "as it is"),
        ("estimates_mosaic", "mosaic"),
        ("estimates_jpeg_90", "JPEG, quality 90"),
    ):
        for r in suite[key]:
            if key == "estimates" and r["triple"][0] in (0.0025, 0.2):
                continue
            rows.append(
                [
                    name,
                    _triple(r["triple"]),
                    *[_spread(r[k]) for k in ("deviation_at_mean_light", "shot", "read")],
                    f"{r['no_estimate']} of {r['photographs']}",
                ]
            )
    head = ["stored", "factor, shot, read", "deviation", "shot", "read", "no estimate"]
    note = "Estimate over truth: median (10 % to 90 %) of the photographs kept for evaluation. "
    return f"{table(head, rows)}\n\n{note}{_note(suite)}"


def verdicts(suite: dict[str, Any], table: Table) -> str:
    """Confusion of the gate, and what it is worth."""
    rows = []
    for split, title in (("train", "chosen on"), ("test", "judged on")):
        found = suite["verdicts"][split]
        for need, counts in found["needs_by_verdict"].items():
            total = sum(counts.values())
            wrong = f"{1 - counts[need] / total:.1%}" if total else ""
            rows.append([title, need, *[str(v) for v in counts.values()], wrong])
    names = list(suite["verdicts"]["test"]["needs_by_verdict"])
    head = ["photographs", "needs", *[f'said "{n}"' for n in names], "wrong"]
    worth = []
    for split, title in (("train", "chosen on"), ("test", "judged on")):
        a = suite["verdicts"][split]["agreement"]
        gains = [
            f"{100 * a[k]['mean']:+.1f} ({100 * a[k]['low']:+.1f} to {100 * a[k]['high']:+.1f})"
            for k in ("gate - untouched", "gate - curve")
        ]
        means = [f"{100 * a[k]:.1f}" for k in ("untouched", "curve", "gate")]
        worth.append([title, *means, *gains])
    second = table(
        ["photographs", "untouched", "curve always", "gate", "gate - untouched", "gate - curve"],
        worth,
    )
    chosen, n = suite["chosen"], suite["photographs"]
    note = (
        f"{n['train']} and {n['test']} photographs, {len(suite['estimates'])} levels of darkness "
        f"each; chosen: light {chosen['light']:.3g}, SNR {chosen['snr']:.3g}. {_note(suite)}"
    )
    return (
        f"{table(head, rows)}\n\nAgreement with daylight in percent over the whole grid, "
        f"with 95 % intervals over photographs:\n\n{second}\n\n{note}"
    )


def denoised(suite: dict[str, Any], table: Table) -> str:
    """Denoise and curve against the curve alone."""
    rows = []
    for r in suite["rows"]:
        cells = [_triple(r["triple"]), r["denoise"], f"{r['psnr']['mean']:.1f}"]
        gains = []
        for key, scale in (("psnr", 1), ("reciprocal", 100), ("shipped", 100)):
            g = r[key]["gain"]
            text = f"{scale * g['mean']:+.1f} ({scale * g['low']:+.1f} to {scale * g['high']:+.1f})"
            gains.append("" if r["denoise"] == "none" else text)
        cells += [gains[0], f"{100 * r['reciprocal']['mean']:.0f}", gains[1]]
        rows.append([*cells, f"{100 * r['shipped']['mean']:.0f}", gains[2]])
    head = [
        "factor, shot, read", "denoise", "PSNR, dB", "gain", "agreement, a = 0.1", "gain",
        "agreement, shipped curve", "gain",
    ]  # fmt: skip
    times = ", ".join(f"{k} {v:.1f}" for k, v in suite["seconds_a_megapixel"].items())
    note = (
        f"{suite['photographs']} photographs kept for evaluation, one noise draw each; gains over "
        f"no denoising with 95 % paired intervals. Fewer than 100 photographs: an anecdote. "
        f"CPU seconds a megapixel: {times}. {_note(suite)}"
    )
    return f"{table(head, rows)}\n\n{note}"
