"""Generated parts of the page on the low-light bench, of all tables in benchmarks/results."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from foveal.data.sensor_noise import TRIPLES
from foveal.lowlight.baselines import BASELINES
from foveal.lowlight.bench_table import Table
from foveal.lowlight.outcomes import BEST_FIXED, CEILING, FIXED, UNTOUCHED, Outcomes, Triple
from foveal.stats import Interval

Write = Callable[[list[str], list[list[str]]], str]

BRIGHT, DIM, DARK, _, NOISY = TRIPLES
LIGHT_LIMITED: tuple[Triple, ...] = (DARK, DIM)
WITHOUT_TRAINING = ("random-curve", "zero-dce", "sci")
NOTHING = "No table is committed yet."


def parts(folder: Path, write: Write) -> dict[str, Callable[[], str]]:
    """Return what fills each mark of the page."""
    return {
        "lowlight_bench": lambda: machine(folder, write),
        "lowlight_bench_human": lambda: human(folder, write),
        "lowlight_bench_targets": lambda: targets(folder, write),
        "lowlight_ablation": lambda: ablation(folder, write),
    }


def tables(folder: Path) -> list[tuple[str, Table]]:
    """Read the tables of the suite by name; those of an older form are left out."""
    found: list[tuple[str, Table]] = []
    for path in sorted(folder.glob("lowlight--*.json")):
        kept = json.loads(path.read_text())
        if "where" in kept:
            table = Table.read(path)
            table.where["commit"] = kept.get("commit", "not kept")
            found.append((path.stem.removeprefix("lowlight--"), table))
    return found


def curves(table: Table) -> list[str]:
    """Names of the learned curves, without what was put before them."""
    other = {*FIXED, *BASELINES, UNTOUCHED}
    return [
        name
        for name in table.methods
        if name not in other and not name.startswith(("denoise, then ", "auto gate, "))
    ]


def points(x: Interval) -> str:
    """Mean and interval in points of a hundred."""
    return f"{100 * x.mean:+.1f} ({100 * x.low:+.1f} to {100 * x.high:+.1f})"


def machine(folder: Path, write: Write) -> str:
    """What recognisers see, a table a file: agreement, and gain over the dark picture."""
    parts: list[str] = []
    for name, table in tables(folder):
        if not table.machine:
            continue
        triples = [t for t in TRIPLES if t in table.machine]
        rows = {t: {r.method: r for r in table.machine[t].summarize()} for t in triples}
        body: list[list[str]] = []
        for method in dict.fromkeys(m for t in triples for m in rows[t]):
            if method in FIXED:
                continue
            cells = [
                f"{100 * r.agreement:.1f}: {points(r.gain)}" if (r := rows[t].get(method)) else "–"
                for t in triples
            ]
            body.append([method, *cells])
        best = [table.machine[t].best_fixed() for t in triples]
        body.append(["(that best curve)", *[x.removeprefix("reciprocal ") for x in best]])
        body.append(["(pictures by the gate)", *[_regimes(table, t) for t in triples]])
        head = ["method", *[label(t) for t in triples]]
        parts.append(f"{_title(name, table)}\n\n{write(head, body)}")
    return "\n\n".join(parts) or NOTHING


def label(triple: Triple) -> str:
    """Name a darkness in the head of a table."""
    return "k {:g}, {:g}, {:g}".format(*triple)


def _regimes(table: Table, triple: Triple) -> str:
    found = table.regimes.get(triple, {})
    total = sum(found.values())
    shares = [f"{100 * n / total:.0f} % {name}" for name, n in found.items() if n]
    return ", ".join(shares) or "–"


def _title(name: str, table: Table) -> str:
    w = table.where
    some = next(iter({**table.machine, **table.human}.values()))
    count = len(set(table.groups))
    anecdote = " Fewer than 100 groups: an anecdote." if count < 100 else ""
    return (
        f"### {w['teacher']}: {w['source']}\n\n"
        f"{w['pictures']} pictures x {some.draws} draws, {count} groups.{anecdote} "
        f"{w['device']}, torch {w['torch']}, seed {w['seed']}, commit `{w['commit']}`; "
        f"`lowlight--{name}.json`."
    )


def human(folder: Path, write: Write) -> str:
    """How pictures look beside daylight, a table a darkness; PSNR with the gain over the dark."""
    head = ["method", "PSNR, dB (gain)", "SSIM", "PSNR, mean-aligned", "SSIM, mean-aligned"]
    head += ["ΔE 2000", "order error", "clipped", "entropy, bits"]
    parts: list[str] = []
    for name, table in tables(folder):
        if table.human:
            parts.append(_title(name, table))
        for triple in (t for t in TRIPLES if t in table.human):
            outcomes = table.machine.get(triple)
            kept = outcomes.best_fixed() if outcomes is not None else ""
            rows: list[list[str]] = []
            for r in table.human[triple].summarize():
                if r.method in FIXED and r.method != kept:
                    continue
                m, gain = r.means, r.gains["psnr"]
                rows.append(
                    [
                        r.method,
                        f"{m['psnr']:.2f} ({gain.mean:+.2f}: {gain.low:+.2f} to {gain.high:+.2f})",
                        f"{m['ssim']:.3f}",
                        f"{m['psnr_mean_aligned']:.2f}",
                        f"{m['ssim_mean_aligned']:.3f}",
                        f"{m['ciede2000']:.1f}",
                        f"{m['lightness_order_error']:.3f}",
                        f"{100 * m['clipped_fraction']:.1f} %",
                        f"{m['entropy']:.2f}",
                    ]
                )
            parts.append(f"{label(triple)}\n\n{write(head, rows)}")
    return "\n\n".join(parts) or NOTHING


def ablation(folder: Path, write: Write) -> str:
    """What each part of the curve and of its training is worth, against the first variant."""
    suite = json.loads((folder / "lowlight_ablation--h200.json").read_text())
    rows: dict[str, dict[Triple, str]] = {}
    for r in suite["rows"]:
        if r["method"] in FIXED:
            continue
        gain = points(Interval(*r["against_base"], suite["photographs"], anecdote=True))
        alone = r["method"] == suite["base"]
        text = f"{100 * r['agreement']:.1f}" + ("" if alone else f": {gain}")
        rows.setdefault(r["method"], {})[tuple(r["triple"])] = text
    body = [[name, *(found[t] for t in TRIPLES)] for name, found in rows.items()]
    asked = suite["arguments"]
    return (
        f"{write(['variant', *map(label, TRIPLES)], body)}\n\n"
        f"{suite['trusted_cuts']} trusted cuts of {asked['count']}, {asked['steps']} steps of "
        f"{asked['batch']}; judged on {suite['crops']} crops of {suite['photographs']} photographs "
        f"x {suite['draws']} draws. Fewer than 100 groups: an anecdote. {suite['device']}, torch "
        f"{suite['torch']}, seed {asked['seed']}, commit `{suite['commit']}`; "
        f"`lowlight_ablation--h200.json`."
    )


def targets(folder: Path, write: Write) -> str:
    """The figures that were aimed at, for each learned curve, with paired intervals in points."""
    head = ["recogniser", "curve", "darkness", "figure", "measured, points", "aim", "reached"]
    rows = [
        [f"{table.where['teacher']} ({name})", *row]
        for name, table in tables(folder)
        for row in aims(table)
    ]
    return write(head, rows) if rows else NOTHING


def aims(table: Table) -> Iterator[list[str]]:
    """Yield curve, darkness, figure, what was measured, aim and verdict."""
    boxes = table.where.get("answers") == "boxes"
    for curve in curves(table):
        for triple in LIGHT_LIMITED:
            found = table.machine.get(triple)
            if found is None or curve not in found.methods:
                continue
            lines = _recovered(found, curve) if boxes else _against(found, curve)
            yield from ([curve, label(triple), *line] for line in lines)
            if (clean := f"denoise, then {curve}") in found.methods:
                if boxes:
                    lines = _recovered(found, clean)
                    yield from ([clean, label(triple), *line] for line in lines)
                x = found.difference(clean, (1, CEILING))
                line = ["less the ceiling of any curve", points(x), "none", verdict(x, 0)]
                yield [clean, label(triple), *line]
        twin = curve.replace("pretext", "ensemble")
        if twin != curve and twin in table.methods:
            for triple in (t for t in TRIPLES if t in table.machine):
                x = table.machine[triple].difference(curve, (1, twin))
                yield [curve, label(triple), f"less {twin}", points(x), "compared", "compared"]
        bright, noisy = table.machine.get(BRIGHT), table.machine.get(NOISY)
        if bright is not None:
            for name in (curve, f"auto gate, {curve}"):
                if name in bright.methods:
                    x = bright.difference(name, (1, UNTOUCHED))
                    line = ["less untouched", points(x), "within 1", verdict(x, -0.01)]
                    yield [name, label(BRIGHT), *line]
        if noisy is not None and (clean := f"denoise, then {curve}") in noisy.methods:
            x = noisy.difference(clean, (1, curve))
            yield [clean, label(NOISY), "less the curve alone", points(x), "shown", "shown"]
            said = _regimes(table, NOISY)
            yield ["the gate", label(NOISY), "pictures", said, "says noise-limited", "shown"]


def _against(found: Outcomes, curve: str) -> Iterator[list[str]]:
    x = found.difference(curve, (1, BEST_FIXED))
    yield ["less the best fixed curve", points(x), "lower bound over -1", verdict(x, -0.01)]
    low, high = found.agreement(BEST_FIXED), found.agreement(CEILING)
    share = (found.agreement(curve) - low) / (high - low) if high > low else float("nan")
    x = found.difference(curve, (2 / 3, BEST_FIXED), (1 / 3, CEILING))
    text = f"{100 * share:.0f} % of the way; less a third of it: {points(x)}"
    yield ["from there to the ceiling", text, "a third", verdict(x, 0)]
    for other in WITHOUT_TRAINING:
        if other in found.methods:
            x = found.difference(curve, (1, other))
            yield [f"less {other}", points(x), "clearly above", verdict(x, 0)]


def _recovered(found: Outcomes, curve: str) -> Iterable[list[str]]:
    dark = found.agreement(UNTOUCHED)
    share = (found.agreement(curve) - dark) / (1 - dark) if dark < 1 else float("nan")
    x = found.difference(curve, (0.5, UNTOUCHED), (0.5, None))
    text = f"{100 * share:.0f} %; less half: {points(x)}"
    return [["lost things found again", text, "half", verdict(x, 0)]]


def verdict(x: Interval, least: float) -> str:
    """Say whether the whole interval is above a bound, below it, or neither."""
    if x.low > least:
        return "yes"
    if x.high < least:
        return "no"
    return "open, mean " + ("above" if x.mean > least else "below")
