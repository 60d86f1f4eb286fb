"""Fill the parts of the documents that are generated from committed results; --check only compares.

A generated part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import docs_bench_lowlight
import docs_codec
import docs_gpu
import docs_lowlight
import docs_noise
import docs_teachers

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (
    "README.md",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")),
)
STAGES = ("lowlight", "codec", "attention", "motion")


def load(name: str) -> Any:
    """Read one committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(head: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def receipts() -> str:
    """The receipts of the committed run of the demo."""
    run = load("demo--cpu")
    rows, published = [], []
    for stage in STAGES:
        r = run[stage]
        is_published = "full" in r["details"].get("estimated", [])
        if is_published:
            published.append(r["details"]["full_is"])
        rows.append(
            [
                stage,
                r["unit"],
                f"{100 * r['spent'] / r['full']:.2g} %{' †' * is_published}",
                f"{r['loss']:.4g}",
                r["loss_metric"],
                f"{r['seconds']:.0f}",
            ]
        )
    head = ["stage", "unit", "spent of full", "loss", "what the loss is", "seconds"]
    versions = ", ".join(f"{k} {v}" for k, v in run["versions"].items())
    note = f"One run, seed {run['seed']}, commit `{run['commit']}`; {versions}."
    if published:
        note = f"† The full price is published, not measured: {'; '.join(published)}.\n\n{note}"
    return f"{table(head, rows)}\n\n{note}"


def details() -> str:
    """The figures behind the receipts."""
    run = load("demo--cpu")
    see, send, think = (run[name]["details"] for name in STAGES[:3])
    gain = see["gain_over_dark"]
    rows = [
        ["see: agreement with daylight, dark", f"{see['agreement']['dark']:.1%}"],
        ["see: with the concave curve", f"{see['agreement']['concave curve']:.1%}"],
        [
            "see: gain, 95 % paired bootstrap over photographs",
            f"{gain['mean']:+.1%} ({gain['low']:+.1%} to {gain['high']:+.1%})",
        ],
        *[
            [f"see: {name}", f"{value:.1%}"]
            for name, value in see["agreement"].items()
            if name.startswith("fixed")
        ],
        ["send: bytes an image", f"{send['bytes_per_image']:.0f}"],
        ["send: top-1 retention", f"{1 - run['codec']['loss']:.1%}"],
        [
            "send: best pixel codec at that retention",
            f"{send['best_pixel']['bytes']:.0f} B ({send['best_pixel']['format']}, "
            f"{send['best_pixel']['size']} px, quality {send['best_pixel']['quality']})"
            if send["best_pixel"]
            else "none reached it",
        ],
        ["think: policy", f"`{think['policy']}`"],
        ["think: tokens", str(think["tokens"])],
        ["think: density", f"{think['density']:.1%}"],
        [
            "think: KL of the next token, nats",
            f"{think['kl_nats']:.4f} ± {think['kl_standard_error']:.4f}",
        ],
        [
            "think: perplexity, dense and sparse",
            f"{think['dense_perplexity']:.3f}, {think['sparse_perplexity']:.3f}",
        ],
        [
            "think: seconds in attention, dense and sparse",
            f"{think['dense_attention_seconds']:.2f}, {think['sparse_attention_seconds']:.2f}",
        ],
        ["act: status", run["motion"]["details"]["status"]],
    ]
    rows += [
        [f"act: {name.replace('_', ' ')}", f"{value:.4g}"]
        for name, value in run["motion"]["details"]["score"].items()
        if isinstance(value, float)
    ]
    return table(["measure", "value"], rows)


def motion() -> str:
    """Every scripted action under physics."""
    suite = load("motion--cpu")
    rows = [
        [
            row["action"],
            row["status"],
            "passed" if row["predicates_ok"] else "**failed**",
            f"{100 * row['tracking_error_m']:.1f}",
            f"{row['jerk_m_s3']:.0f} ({row['reference_jerk_m_s3']:.0f})",
            f"{1000 * row['foot_skate_m_s']:.0f}",
            f"{1000 * row['ground_penetration_m']:.0f}",
            f"{row['wall_s']:.0f} for {row['seconds']:.1f}",
        ]
        for row in suite["rows"]
    ]
    head = [
        "action", "status", "checks", "tracking error, cm", "jerk (reference), m/s³",
        "foot skate, mm/s", "penetration, mm", "seconds of work for seconds of clip",
    ]  # fmt: skip
    sample = suite["rows"][0]
    note = (
        f"{sample['samples']} samples, seed {sample['seed']}; {suite['device']}, shared; "
        f"MuJoCo {suite['versions']['mujoco']}, commit `{suite['commit']}`."
    )
    return f"{table(head, rows)}\n\n{note}"


def attention() -> str:
    """XAttention settings on a language model."""
    suite = load("attention--cpu")
    rows = []
    for row in suite["rows"]:
        settings = ", ".join(f"{k} {v}" for k, v in row["settings"].items())
        rows.append(
            [
                row["part"],
                settings or "default",
                f"{row['density']:.3f}",
                f"{row['kl_nats']:.4f} ± {row['kl_standard_error']:.4f}",
                f"{row['perplexity_ratio']:.4f}",
                f"{row['relative_l2_error']:.3f}",
            ]
        )
    head = ["part of the text", "setting", "density", "KL, nats", "perplexity ratio", "L2 error"]
    commits = sorted({row["commit"][:7] for row in suite["rows"]})
    tokens = sorted({row["tokens"] for row in suite["rows"]})
    note = (
        f"{suite['model']}; {suite['text']}; {tokens} tokens; commits {', '.join(commits)}, with "
        f"changes not committed at the time where the row says so. Timing: {suite['timing']}."
    )
    return f"{table(head, rows)}\n\n{note}"


def sage() -> str:
    """Errors of quantized attention, by setting; then the drift of a short accumulator."""
    suite = load("precision--cpu")
    real = [row for row in suite["rows"] if row["tensors"] != "outliers"]
    made = [row for row in suite["rows"] if row["tensors"] == "outliers"]
    rows = []
    for row in made:
        same = [r for r in real if r["settings"] == row["settings"]]
        chosen = row["settings"] or {}
        smooth = "+".join(x for x in "QKV" if chosen.get(f"smooth_{x.lower()}")) or "none"
        ratio = sum(r["seconds"] for r in same) / sum(
            r["seconds"] for r in real if r["settings"] is None
        )
        rows.append(
            [
                chosen.get("mode", "fp32, dense"),
                chosen.get("granularity", "thread") if chosen else "",
                smooth if chosen else "",
                f"{sum(r['cosine'] for r in same) / len(same):.5f}",
                f"{sum(r['relative_l1'] for r in same) / len(same):.4f}",
                f"{max(r['relative_l1'] for r in same):.4f}",
                f"{sum(r['rmse'] for r in same) / len(same):.4f}",
                *[f"{row['cosine']:.5f}", f"{row['relative_l1']:.4f}", f"{row['rmse']:.4f}"],
                f"{ratio:.1f}",
            ]
        )
    head = [
        "mode", "scales per", "smoothed", "model: cosine", "L1", "L1, worst layer", "RMSE",
        "outliers: cosine", "L1", "RMSE", "time of the emulation",
    ]  # fmt: skip
    versions = ", ".join(f"{k} {v}" for k, v in suite["versions"].items())
    note = (
        f"{suite['model']}, {len(real) // len(made)} layers, {suite['tokens']} tokens, causal; "
        f"{suite['text']}. Against fp64. Time: dense fp32 is 1; {suite['timing']}. "
        f"{suite['device']}; {versions}; commit `{suite['commit'][:7]}`."
    )
    drift = []
    for mean in (0.0, 1.0):
        for accumulate in ("two-level", "single"):
            for smooth in (False, True):
                key = {"value_mean": mean, "accumulate": accumulate, "smooth_v": smooth}
                same = [r for r in suite["drift"] if key.items() <= r.items()]
                found = [f"{r['relative_l1']:.4f}" for r in same]
                drift.append([f"{mean:g}", accumulate, "yes" if smooth else "no", *found])
    keys = sorted({row["num_keys"] for row in suite["drift"]})
    second = table(["mean of V", "accumulate", "V smoothed", *[f"{n} keys" for n in keys]], drift)
    return f"{table(head, rows)}\n\n{note}\n\nRelative L1 error of int8-fp8:\n\n{second}"


def policies(page: str) -> str:
    """Sparge or Spans beside XAttention, or token orders, by the page that shows them."""
    if page == "order":
        suite = load("order--cpu")
        rows = []
        for row in suite["rows"]:
            first = f"{row['features']}, {' x '.join(map(str, row['grid']))}"
            likeness = [f"{row[name]:.3f}" for name in ("similarity_q", "similarity_k")]
            found = [row["threshold"], row["top_k"]]
            pairs = [f"{x['density']:.3f}, {x['relative_l1_error']:.3f}" for x in found]
            rows.append([first, row["order"].replace("_", "-"), *likeness, *pairs])
        head = ["features and grid", "order", "likeness of q", "of k, smoothed"]
        for name in ("threshold", "top_k"):
            head.append(f"`{name}={suite[name]}`: density, L1 error")
        note = "Untrained projections of patches and of fields: orders compare, values do not. "
    else:
        suite = load("policies--cpu")
        rows = []
        for row in suite["rows"]:
            if row["page"] not in (page, "both"):
                continue
            cells = [
                row["name"],
                f"{row['density']:.3f}",
                f"{row['kl_nats']:.4f} ± {row['kl_standard_error']:.4f}",
                f"{row['perplexity_ratio']:.4f}",
                f"{row['relative_l2_error']:.3f}",
            ]
            if page == "spans":
                cells.insert(1, f"{row['kv_density']:.3f}" if "kv_density" in row else "")
            rows.append(cells)
        head = ["policy", "density", "KL, nats", "perplexity ratio", "L2 error"]
        if page == "spans":
            head[1:2] = ["KV density", "area density"]
        note = f"{suite['model']}; {suite['text']}; {suite['tokens']} tokens. "
        if page == "sparge":
            for name, key in (("queries", "q"), ("smoothed keys", "smoothed_k")):
                found = suite[f"likeness_{key}_per_layer"]
                note += f"Likeness of {name}, by layer: {min(found):.2f} to {max(found):.2f}. "
    note += f"{suite['device']}; torch {suite['torch']}; commit `{suite['commit'][:7]}`"
    note += ", with changes." if suite["commit"].endswith("+changes") else "."
    return f"{table(head, rows)}\n\n{note}"


def pitfalls() -> str:
    """What re-implementers get wrong, and the test of each; every test must exist."""
    rows = []
    for item in json.loads((ROOT / "docs" / "pitfalls.json").read_text()):
        found = item.get("note", "")
        for test in item.get("tests", []):
            path, name = test.split("::")
            if f"def {name}(" not in (ROOT / path).read_text():
                sys.exit(f"docs/pitfalls.json: {item['id']} names {test}, which does not exist")
            found += f"{', ' if found else ''}`{Path(path).stem}::{name}`"
        rows.append([item["id"], item["pitfall"], found])
    notes = sum(
        "note" in item for item in json.loads((ROOT / "docs" / "pitfalls.json").read_text())
    )
    return (
        f"{table(['id', 'pitfall', 'test'], rows)}\n\n{len(rows)} pitfalls, {notes} by a sentence."
    )


def selection(part: str) -> str:
    """Density and error of policies on a model's tensors, or planted slashes."""
    suite = load("selection--cpu")
    note = f"{suite['device']}; commit `{suite['commit'][:7]}`."
    if part == "parity":
        rows = []
        for r in suite["parity"]:
            ratios = [a / b for a, b in zip(r["alternating"], r["published"], strict=True)]
            density = sum(x[0] for x in r["density"]) / len(ratios)
            shown = [f"{x:.3f}" for x in (min(ratios), sum(ratios) / len(ratios), max(ratios))]
            rows.append([str(r["stride"]), str(r["threshold"]), f"{density:.3f}", *shown])
        head = ["stride", "published threshold", "density", "best layer", "mean", "worst layer"]
        return f"{table(head, rows)}\n\n{suite['tokens']} tokens, five layers. {note}"
    if part == "planted":
        rows = [
            [
                str(r["stride"]),
                "alternating" if r["alternate"] else "published",
                r["distance"],
                f"{100 * r['found']:.0f} %",
                f"{100 * r['chance']:.0f} %",
            ]
            for r in suite["planted"]
        ]
        head = ["stride", "residue", "distance of the slash", "found", "chance"]
        return f"{table(head, rows)}\n\n4096 tokens, six slashes a row. {note}"
    rows = [
        [
            r["kind"],
            re.sub(r"\w+\((.*)\)", _changed, r["setting"]),
            f"{r['density']:.3f}",
            f"{r['mass']:.3f}",
            f"{r['error']:.3f}",
            f"{max(r['errors']):.3f}",
        ]
        for r in sorted(suite["rows"], key=lambda r: (r["kind"], r["density"]))
    ]
    head = ["cells by", "setting", "density", "exact mass kept", "L2 error", "worst layer"]
    text = f"{suite['model']}, {len(suite['rows'][0]['errors'])} layers, {suite['tokens']} tokens"
    return f"{table(head, rows)}\n\n{text}. {note}"


def _changed(match: re.Match[str]) -> str:
    """The settings of a policy's repr that the tables compare."""
    names = ("stride", "threshold", "top_k", "window")
    pairs = [x.split("=") for x in match[1].split(", ")]
    return ", ".join(f"{a} {b}" for a, b in pairs if a in names and b != "None")


def quality(part: str) -> str:
    """Policies or precisions, by what they cost in a language model."""
    suite = load("quality--h100")
    found = [r for r in suite["rows"] if r["what"] == part]
    order = list(dict.fromkeys([x["kind"] for x in suite["chosen"]]))
    if part == "policy":
        found.sort(key=lambda r: (r["wanted_density"] or 9, order.index(r["kind"])))
    rows = []
    for r in found:
        lost = r["relative_l2_error"]
        digits = 4 if part == "policy" else 5
        cells = [
            f"{r['kl_nats']:.{digits}f} ± {r['kl_standard_error']:.{digits}f}",
            f"{r['perplexity_ratio']:.4f}",
            f"{100 * r['same_top_fraction']:.1f} %",
            "" if lost is None else f"{lost:.3f}",
        ]
        if part == "policy":
            wanted = r["wanted_density"]
            x = "" if wanted is None else f"{json.loads(r['policy']).get('window') or r['x']:.4g}"
            cells = ["" if wanted is None else str(wanted), x, f"{r['density']:.3f}", *cells]
        rows.append([r["kind"], *cells])
    head = ["KL, nats", "perplexity ratio", "same first token", "L2 error"]
    first = ["policy", "density wanted", "setting", "density"] if part == "policy" else [part]
    versions = ", ".join(f"{k} {v}" for k, v in suite["rows"][0]["versions"].items())
    commits = ", ".join(sorted({f"`{r['commit'][:7]}`" for r in suite["rows"]}))
    tokens = " and ".join(str(x) for x in sorted({r["tokens"] for r in found}))
    note = (
        f"{suite['model']}; {suite['text']}; mean of {suite['judged_parts']} parts of {tokens} "
        f"tokens, from token {suite['parts']['judge']}, dense perplexity "
        f"{found[0]['dense_perplexity']:.2f}. {found[0]['device']}; {versions}; commit {commits}."
    )
    if part == "policy":
        note = f"Settings: {suite['search']}. {note}"
        if missing := len(suite["chosen"]) - len(found):
            note += f" Chosen and not measured yet: {missing} settings."
    return f"{table([*first, *head], rows)}\n\n{note}"


def cpu_speed() -> str:
    """Times on the CPU, with density and error."""
    suite = load("cpu_speed--cpu")
    rows = [
        [
            str(r["tokens"]),
            r["dtype"],
            str(r["stride"]),
            f"{r['density']:.3f}",
            f"{r['relative_l2_error']:.4f}",
            *[f"{r[name]['median']:.0f}" for name in ("dense_ms", "select_ms", "attend_ms")],
            "{median:.0f} ({low:.0f} to {high:.0f})".format(**r["both_ms"]),
            f"{r['speedup']:.2f}",
        ]
        for r in suite["rows"]
    ]
    head = ["tokens", "dtype", "stride", "density", "L2 error", "dense, ms", "select, ms"]
    head += ["attend, ms", "both, ms (range)", "speed-up"]
    kernel = [
        [
            f"{r['density']:.3f}",
            f"{r['dense_ms']['median']:.0f}",
            f"{r['attend_ms']['median']:.0f}",
            f"{r['speedup']:.2f}",
            f"{1 / r['density']:.1f}",
        ]
        for r in suite["kernel"]
    ]
    second = table(
        ["density", "dense, ms", "attend, ms", "speed-up", "if free of overhead"], kernel
    )
    load_now = max(r["load"] for r in suite["rows"])
    note = (
        f"{suite['inputs']}; medians of 7; {suite['device']}, "
        f"{suite['capability']}, load at most {load_now:.1f}; commit `{suite['commit'][:7]}`."
    )
    return (
        f"{table(head, rows)}\n\nAttention alone, random cells, 8192 tokens:\n\n{second}\n\n{note}"
    )


PARTS = {
    "pitfalls": pitfalls,
    "selection": lambda: selection("real"),
    "planted": lambda: selection("planted"),
    "parity": lambda: selection("parity"),
    "cpu_speed": cpu_speed,
    "quality": lambda: quality("policy"),
    "quality_precision": lambda: quality("precision"),
    "captured": lambda: docs_gpu.captured(load("captured--h100"), table),
    "captured_error": lambda: docs_gpu.captured_error(load("captured--h100"), table),
    "gpu_speed": lambda: docs_gpu.speed(load("attention_speed--h100"), table),
    **docs_lowlight.parts(load, table),
    **docs_bench_lowlight.parts(RESULTS, table),
    **docs_codec.parts(RESULTS, load, table),
    "first_token": lambda: docs_gpu.first_token(load("attention_llm--h100"), table),
    "noise_estimates": lambda: docs_noise.estimates(load("regimes--cpu"), table),
    "noise_verdicts": lambda: docs_noise.verdicts(load("regimes--cpu"), table),
    "noise_removed": lambda: docs_noise.denoised(load("denoise--cpu"), table),
    "teachers_dark": lambda: docs_teachers.dark(load("teachers--cpu"), table),
    "teachers_cost": lambda: docs_teachers.cost(load("teachers--cpu"), table),
    "receipts": receipts,
    "details": details,
    "motion": motion,
    "attention": attention,
    "sage": sage,
    "order": lambda: policies("order"),
    "sparge": lambda: policies("sparge"),
    "spans": lambda: policies("spans"),
}


def fill(text: str) -> str:
    """Replace every generated part of a document."""
    for name, make in PARTS.items():
        pattern = re.compile(f"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if pattern.search(text):
            content = make()
            text = pattern.sub(lambda m, c=content: f"{m[1]}{c}\n{m[2]}", text)
    return text


def keep(summary: Path) -> None:
    """Commit-ready copy of a demo's summary: with the commit, without long lists."""
    run = json.loads(summary.read_text())
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    run["commit"] = commit.stdout.strip()
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "demo--cpu.json").write_text(json.dumps(run, indent=1) + "\n")


def main() -> int:
    """Fill, or compare and return 1 when a document is stale."""
    if "--keep" in sys.argv:
        keep(Path(sys.argv[sys.argv.index("--keep") + 1]))
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text()
        new = fill(text)
        if new != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(new)
    if stale and "--check" in sys.argv:
        sys.stdout.write(f"stale: {', '.join(stale)}; run make docs\n")
        return 1
    sys.stdout.write("documents: filled\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
