"""Generated parts of the page on what the codec of several tasks measures."""

from collections.abc import Callable, Iterable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]

SCHEMES = {
    "joint-global": "joint",
    "grouped-global": "joint, half of its channels given the other half",
    "separate-global": "separate",
    "conditional-global": "conditional, one layer a task, order as listed",
    "linear-global": "joint, linear paths beside its networks",
    "random-global": "joint, analysis never trained",
}
PRIORS = {
    "joint-global": "codebook-global",
    "joint-local": "codebook-local",
    "joint-vq": "codebook-vq",
    "joint-spatial": "spatial",
    "joint-factorized": "factorized",
}
SAME = {
    "same-global": "codebook-global",
    "same-global32": "codebook-global, 32 codewords, side of 32 channels",
    "same-local": "codebook-local",
    "same-vq": "codebook-vq",
    "same-spatial": "spatial",
    "same-factorized": "factorized",
}
TASKS = (
    "scene", "segmentation", "normal", "reshading", "depth", "occlusion_edge", "curvature",
    "keypoints",
)  # fmt: skip


def span(figure: Any, digits: int = 0, scale: float = 1.0) -> str:
    """Write a figure with its interval."""
    if figure["value"] is None:
        return "not reached"
    ends = [
        "-" if figure[k] is None else f"{scale * figure[k]:.{digits}f}" for k in ("low", "high")
    ]
    return f"{scale * figure['value']:.{digits}f} ({ends[0]} to {ends[1]})"


def at(rows: Iterable[Any], level: float) -> Any:
    """Return the row of a level."""
    return next(row for row in rows if abs(row["retention"] - level) < 1e-9)


def note(study: Any) -> str:
    """Say how it was measured."""
    runs = [c["training"] for c in study["codecs"] if "training" in c]
    devices = ", ".join(sorted({run["device"] for run in runs}))
    commits = ", ".join(f"`{c}`" for c in sorted({run["commit"] for run in runs}))
    return (
        f"{study['scenes']} test scenes; {study['intervals']}; trained on {runs[0]['scenes']} "
        f"scenes on one {devices} (commits {commits}), summed up at `{study['commit']}`."
    )


def schemes(study: Any, table: Table) -> str:
    """Write bytes at equal mean retention of every scheme."""
    head = ["scheme", "steps", "bytes at 95 %", "bytes at 99 %", "worst task at 99 %, in %"]
    rows: list[list[str]] = []
    for codec in study["codecs"]:
        if codec["name"] in SCHEMES:
            some, most = at(codec["at"], 0.95), at(codec["at"], 0.99)
            worst = span(most["worst_task"], 1, 100) if "worst_task" in most else "-"
            steps = str(codec["training"]["steps"]) if "training" in codec else "-"
            rows.append(
                [SCHEMES[codec["name"]], steps, span(some["bytes"]), span(most["bytes"]), worst]
            )
    lines = [table(head, rows), ""]
    for key, what in (
        ("joint_over_separate", "Joint needs {} % of the bytes of separate at {} % mean retention"),
        ("conditional_over_separate", "Conditional needs {} % of those of separate at {} %"),
        ("conditional_over_joint", "Conditional needs {} % of those of joint at {} %"),
        ("grouped_over_joint", "Channels in halves need {} % of those of joint at {} %"),
        ("linear_over_joint", "Linear paths need {} % of those of joint at {} %"),
    ):
        if key in study:
            said = [
                what.format(span(at(study[key], level)["share"], 0, 100), round(100 * level))
                for level in (0.95, 0.99)
            ]
            lines.append("; ".join(said) + ".")
    return "\n".join([*lines, "", note(study)])


def priors(study: Any, table: Table) -> str:
    """Write what each prior needs, trained with transforms of its own."""
    return shares_of_spatial(study, table, PRIORS, study["priors_over_spatial"])


def equal_latents(study: Any, table: Table) -> str:
    """Write what each prior needs for the same integers."""
    return shares_of_spatial(study, table, SAME, study["priors_of_equal_latents"])


def shares_of_spatial(study: Any, table: Table, names: dict[str, str], found: Any) -> str:
    """Write bytes at equal retention, as a share of the spatial hyperprior."""
    levels = [row["retention"] for row in next(iter(found.values()))]
    head = ["prior", "steps", "side bytes", *(f"{level:.0%}" for level in levels)]
    rows: list[list[str]] = []
    for codec in study["codecs"]:
        name = codec["name"]
        if name not in names:
            continue
        own = found.get(name)
        shares = [span(r["share"], 2) if own else "1" for r in own or levels]
        side = max(point["side_bytes"] for point in codec["points"])
        steps = str(codec["training"]["steps"]) if "training" in codec else "-"
        rows.append([names[name], steps, f"{side:.1f}", *shares])
    return f"{table(head, rows)}\n\n{note(study)}"


def external(study: Any, table: Table) -> str:
    """Write the tasks that the packaged stream never saw."""
    return unseen(study, table, study["external"])


def external_of_chosen(study: Any, table: Table) -> str:
    """Write the tasks that a stream of the chosen tasks never saw."""
    return unseen(study, table, study["external_of_chosen"])


def external_of_four(study: Any, table: Table) -> str:
    """Write the tasks that a stream of four varied tasks never saw."""
    return unseen(study, table, study["external_of_four"])


def second(study: Any, table: Table) -> str:
    """Write joint against separate for networks of another architecture."""
    found = study["second_architecture"]
    head = ["retention", *(c["name"].partition("-")[0] for c in found["codecs"])]
    head += ["worst task, joint, in %", "joint / separate"]
    rows: list[list[str]] = []
    for share in found["joint_over_separate"]:
        level = share["retention"]
        cells = [at(c["at"], level) for c in found["codecs"]]
        rows.append(
            [
                f"{level:.0%}",
                *(span(c["bytes"]) for c in cells),
                span(cells[0]["worst_task"], 1, 100),
                span(share["share"], 2),
            ]
        )
    runs = [c["training"] for c in found["codecs"]]
    return (
        f"{table(head, rows)}\n\nBytes; {study['scenes']} test scenes; {study['intervals']}; "
        f"{runs[0]['steps']} steps on {runs[0]['scenes']} scenes on one {runs[0]['device']}, "
        f"commit `{runs[0]['commit']}`."
    )


def unseen(study: Any, table: Table, found: Any) -> str:
    """Write unseen tasks on a frozen stream beside their controls."""
    head = [
        "task", "bytes", "head on the joint stream", "on a random stream",
        "own stream, equal head", "share of its own stream's",
    ]  # fmt: skip
    rows = [
        [
            r["task"],
            f"{r['bytes']:.0f}",
            *(span(r[key], 1, 100) for key in ("joint", "random", "dedicated")),
            span(r["share_of_dedicated"], 1, 100),
        ]
        for r in found
    ]
    return f"{table(head, rows)}\n\nIn per cent of retention. {note(study)}"


def transfer(study: Any, table: Table) -> str:
    """Write how a stream made for one task serves every other."""
    rows = study["transfer"]["rows"]
    tasks = [t for t in TASKS if any(r["task"] == t for r in rows)]
    streams = [t for t in TASKS if any(r["stream"] == t for r in rows)]
    out: list[list[str]] = []
    for stream in streams:
        own = {r["task"]: r for r in rows if r["stream"] == stream}
        if len(own) < 2:
            continue
        size = next(iter(own.values()))["bytes"]
        out.append(
            [
                stream,
                f"{size:.0f}",
                *(f"{100 * own[t]['retention']['value']:.0f}" if t in own else "-" for t in tasks),
            ]
        )
    widest = max(
        (r["retention"]["high"] - r["retention"]["low"]) / 2
        for r in rows
        if r["retention"]["low"] is not None and r["retention"]["high"] is not None
    )
    return (
        f"{table(['stream of', 'bytes', *tasks], out)}\n\nRetention in per cent at quality "
        f"{study['transfer']['quality']}, by heads of equal budget; no interval is wider than "
        f"± {100 * widest:.0f}. {note(study)}"
    )


def subsets(study: Any, table: Table) -> str:
    """Write what one stream costs beside one for each task, by how many tasks are wanted."""
    levels = (0.95, 0.97)
    head = ["tasks wanted"]
    for level in levels:
        head += [f"joint, {level:.0%}", f"separate, {level:.0%}", "joint / separate"]
    rows: list[list[str]] = []
    for row in study["subsets"]:
        cells = [at(row["at"], level) for level in levels]
        body = [
            text
            for c in cells
            for text in (span(c["joint"]), span(c["separate"]), span(c["share"], 2))
        ]
        rows.append([", ".join(row["tasks"]), *body])
    return f"{table(head, rows)}\n\nBytes at that mean retention of the tasks wanted. {note(study)}"


def alone(study: Any, table: Table) -> str:
    """Write what each task costs by itself."""
    rows: list[tuple[float, list[str]]] = []
    for row in study["alone"]:
        cells = [at(row["at"], level)["bytes"] for level in (0.95, 0.97)]
        size = cells[0]["value"] or float("inf")
        rows.append((size, [row["task"], *(span(c) for c in cells)]))
    body = [cells for _, cells in sorted(rows)]
    return (
        f"{table(['task', 'bytes at 95 %', 'bytes at 97 %'], body)}\n\nWhere the "
        "lower end is the figure itself, fewer bytes were not tried. " + note(study)
    )


def orders(found: Any, table: Table) -> str:
    """Write what the order of a conditional stream's layers is worth."""
    check = found["validation"]
    by_bytes = sorted(check["orders"], key=lambda row: row["bytes"])
    names = {"given": "as listed", "learned": "learned on validation", "worst": "the worst there",
             "best": "the best of each picture"}  # fmt: skip
    rows = [
        [
            str(r["quality"]),
            names[r["order"]],
            f"{r['bytes']:.1f}",
            f"{r['share_of_given']['value']:.3f} ({r['share_of_given']['low']:.3f} to "
            f"{r['share_of_given']['high']:.3f})",
        ]
        for r in found["test"]
    ]
    head = ["quality", "order", "bytes", "share of the order as listed"]
    best = by_bytes[0]
    return (
        f"{table(head, rows)}\n\nOn {check['scenes']} validation scenes at quality "
        f"{check['quality']}, {check['alone_bytes']:.0f} bytes if no layer sees another, "
        f"{best['bytes']:.0f} in the best of all {len(by_bytes)} orders "
        f"({', '.join(best['order'])}; {1 - best['bytes'] / check['alone_bytes']:.1%} fewer), "
        f"{by_bytes[-1]['bytes']:.0f} in the worst, {check['best_of_each_bytes']:.0f} if each "
        f"picture has its own. {found['test'][0]['scenes']} test scenes; {found['device']}, commit "
        f"`{found['commit']}`, model {found['model_id']}."
    )


def devices(found: Any, table: Table) -> str:
    """Write how many streams decode otherwise on another device, thread count or version."""
    head = [
        "decoded on", "threads", "torch", "streams", "mismatches", "ms a stream",
        f"mismatches in batches of {found['least_batch']}", "ms a stream in these",
    ]  # fmt: skip
    rows = [
        [
            r["device"], str(r["threads"]), r["torch"], str(r["streams"]), str(r["mismatches"]),
            f"{r['ms_per_stream']:.1f}", str(r["mismatches_in_batches"]),
            f"{r['ms_per_stream_in_batches']:.1f}",
        ]
        for r in found["decoded"]
    ]  # fmt: skip
    kinds = ", ".join(f"{n} in {p}" for p, n in found["precisions"].items())
    return (
        f"{table(head, rows)}\n\nWritten on one {found['written_on']['device']} with torch "
        f"{found['written_on']['torch']}: transforms of {kinds}; {found['mean_bytes']:.0f} bytes "
        f"on average; model {found['model_id']}, commit `{found['commit']}`."
    )


def fuzz(found: Any) -> str:
    """Write what hostile streams did."""
    refused = sum(ways.get("refused", 0) for ways in found["outcomes"].values())
    alike = sum(ways.get("decoded", 0) for ways in found["outcomes"].values())
    most = max(row["bytes"] for row in found["highest_memory"].values())
    return (
        f"{found['count']} streams, truncated, flipped, spliced or made to harm, many with their "
        f"checksum mended: {refused} are refused with a `BitstreamError`, {alike} decode to the "
        f"same integers in both decoders, {len(found['findings'])} do anything else. At most "
        f"{most / 1e6:.0f} MB were asked for (of {found['limit_bytes'] / 1e6:.0f} allowed). "
        f"{found['machine']}, commit `{found['commit'][:7]}`."
    )


def card(log: Any, table: Table) -> str:
    """Write the figures of the recogniser's codec."""
    head = ["photographs", "n", "quality", "bytes, mean (max)", "top-1 agreement", "top 5", "KL"]
    rows: list[list[str]] = []
    for name, key in (("test, judged last", "test"), ("validation", "validation")):
        rows += [
            [
                name,
                str(r["images"]),
                str(r["quality"]),
                f"{r['bytes']:.0f} ({r['bytes_max']})",
                f"{r['agreement']:.3f} ± {r['standard_error']:.3f}",
                f"{r['top5']:.3f}",
                f"{r['kl_nats']:.3f}",
            ]
            for r in log[key]
        ]
    spent = log["seconds"]
    return (
        f"{table(head, rows)}\n\n± is one standard error; fewer than 100 photographs: an anecdote. "
        f"{log['steps']} steps of {log['arguments']['batch']} crops, "
        f"{spent['training'] / 60:.1f} minutes on one {log['device']}, torch {log['torch']}, seed "
        f"{log['arguments']['seed']}, commit `{log['commit']}`; model {log['model_id']}."
    )
