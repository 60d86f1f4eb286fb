"""`foveal bench lowlight -o layout=...`: labelled pictures of the user's that are dark already."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from foveal import __version__
from foveal._core.files import write_json
from foveal.cli.common import reporter
from foveal.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from foveal.cli.bench_lowlight import LowlightOptions

SUITE = "lowlight labels"
LAYOUTS = ("codan", "exdark", "dark-face", "arid")
_OF_DARKENING = ("photos", "frames", "video", "tables", "triples", "shorter_side", "draws", "seed")


def bench_labels(options: "LowlightOptions", out: Path | None, as_json: bool) -> dict[str, Any]:
    """Judge methods by labels: top classes, or boxes with average precision."""
    from foveal.cli.bench_lowlight import make_methods, pick_device
    from foveal.cli.own_model import load_teacher
    from foveal.lowlight.evaluate import check_names, fixed_methods, is_detector
    from foveal.lowlight.outcomes import fingerprint

    _check(options)
    _check_out(out)
    every = _items(options)
    count = min(len(every), options.most)
    items = [every[i * len(every) // count] for i in range(count)]  # spread over the classes
    device = pick_device(options.device)
    own_methods = make_methods(options, device)
    check_names("bench lowlight", own_methods)
    methods = {**fixed_methods(), **own_methods}
    of_boxes = options.layout in ("exdark", "dark-face")
    if not of_boxes and not options.model:
        raise UnsupportedError(
            f"-o layout: {options.layout} has classes of its own, which no packaged recogniser "
            "names; give your model by -o model=module:attribute"
        )
    teacher = load_teacher(options.teacher, options.model, options.size, device)
    if is_detector(teacher) != of_boxes:
        kind = "a detector" if of_boxes else "a classifier"
        raise UnsupportedError(
            f"-o layout: {options.layout} is judged by {kind}, which "
            f"{options.model or options.teacher} is not; name another teacher or model"
        )
    if of_boxes and options.size:
        raise ArgumentError(
            f"-o size: size is {options.size}, must be for a classifier; a detector sees whole "
            "pictures; leave it out"
        )
    where = {
        "foveal": __version__,
        "teacher": options.model or options.teacher,
        "teacher_fingerprint": fingerprint(teacher),
        "layout": options.layout,
        "split": Path(options.split).name,
        "items": len(items),
        "methods": {name: fingerprint(way) for name, way in methods.items()},
    }
    show = reporter(options.layout)

    def tell(i: int) -> None:
        show(i + 1, len(items))

    if of_boxes:
        rows, more = _boxes(teacher, items, methods, device, tell)
    else:
        own = getattr(teacher.model, "classes", None) or sorted({x.label for x in every})
        names = [str(x) for x in own]
        rows, more = _classes(teacher, items, names, methods, device, options.num_frames, tell)
    if not as_json:
        for row in rows:
            if not row["method"].startswith("reciprocal "):
                typer.echo(_line(row))
    result = {"suite": SUITE, "where": where, **more, "rows": rows}
    if out is not None:
        write_json(out, result)
    return result


def _check_out(out: Path | None) -> None:
    """Refuse to write over another suite's table, which may hold hours of work."""
    if out is None or not out.exists():
        return
    try:
        found = json.loads(out.read_text())["suite"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        found = "none that can be read"
    if found != SUITE:
        raise ArgumentError(
            f"--out: {out} is there and its suite is {found!r}, must be {SUITE!r} to be written "
            "over; remove it or name another file"
        )


def _check(options: "LowlightOptions") -> None:
    if options.layout == "vbof":
        raise UnsupportedError(
            "-o layout: vbof has motion and no classes or boxes; load it by "
            "foveal.data.layouts.vbof, and compare your flow with read_flow"
        )
    if options.layout not in LAYOUTS:
        raise ArgumentError(
            f"-o layout: layout is {options.layout!r}, must be one of {', '.join(LAYOUTS)}"
        )
    if not options.root:
        raise ArgumentError("-o root: root is not given, must be the folder of the data set")
    if options.most < 1:
        raise ArgumentError(f"-o most: most is {options.most}, must be >= 1")
    if options.num_frames < 1:
        raise ArgumentError(f"-o num_frames: num_frames is {options.num_frames}, must be >= 1")
    plain = type(options)()
    for name in _OF_DARKENING:
        if getattr(options, name) != getattr(plain, name):
            raise ArgumentError(
                f"-o {name}: {name} is given with layout, must be for pictures that are darkened; "
                "leave it out"
            )


def _items(options: "LowlightOptions") -> list[Any]:
    from foveal.data import layouts

    if options.layout == "codan":
        return layouts.codan(options.root, options.split or "test_night")
    if options.layout == "exdark":
        return layouts.exdark(options.root, options.split or None)
    if options.layout == "arid":
        return layouts.arid(options.root, options.split or None)
    if options.split:
        raise ArgumentError("-o split: split is given, must not be: dark-face has none")
    return layouts.dark_face(options.root)


def _classes(
    model: Any,
    items: list[Any],
    names: list[str],
    methods: dict[str, Any],
    device: Any,
    num_frames: int,
    tell: Callable[[int], None],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from foveal.lowlight.evaluate_labels import judge_classes

    outcomes = judge_classes(
        model, items, names, methods, device=device, num_frames=num_frames, on_item=tell
    )
    rows = [
        {"method": x.method, "top1": x.agreement, "gain": asdict(x.gain)}
        for x in outcomes.summarize()
    ]
    return rows, {"classes": names, "right": outcomes.to_json()["again"]}


def _boxes(
    detector: Any,
    items: list[Any],
    methods: dict[str, Any],
    device: Any,
    tell: Callable[[int], None],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from foveal.lowlight.average_precision import difference, mean_average_precision
    from foveal.lowlight.evaluate_labels import judge_boxes
    from foveal.lowlight.outcomes import UNTOUCHED

    found = judge_boxes(detector, items, methods, device=device, on_item=tell)
    dark = found.matches[UNTOUCHED]
    rows: list[dict[str, Any]] = []
    for row in found.outcomes.summarize():
        mine = found.matches.get(row.method)
        if mine is None:
            continue  # bounds have no order of their boxes
        precision = found.precision(row.method)
        rows.append(
            {
                "method": row.method,
                "average_precision": mean_average_precision(mine),
                "gain": asdict(difference(mine, dark)),
                "recall": row.agreement,
                "recall_gain": asdict(row.gain),
                "precision": None if precision != precision else precision,
                "classes": {name: x.average_precision() for name, x in mine.items()},
            }
        )
    text = found.outcomes.to_json()
    return rows, {"left_out": found.left_out, "again": text["again"], "false": text["false"]}


def _line(row: dict[str, Any]) -> str:
    gain = row["gain"]
    change = f"({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
    if "top1" in row:
        return (
            f"{row['method']:<46} top-1 {100 * row['top1']:5.1f} %  gain "
            f"{100 * gain['mean']:+5.1f} {change}"
        )
    sure = "none" if row["precision"] is None else f"{100 * row['precision']:.1f} %"
    return (
        f"{row['method']:<46} mAP@.5 {100 * row['average_precision']:5.1f}  gain "
        f"{100 * gain['mean']:+5.1f} {change}  at score 0.3: recall {100 * row['recall']:.1f} %, "
        f"precision {sure}"
    )
