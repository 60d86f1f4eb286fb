"""The bench: codecs chosen on some images of a track and compared on others at equal retention."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from foveal.codec.evaluate.curves import Figure, Resamples
from foveal.codec.evaluate.measure import FEATURE_LABELS, Measurement, Plan, Progress
from foveal.codec.evaluate.pixel_anchors import CODECS
from foveal.codec.evaluate.points import Point, Rule, Scale, front, halves, same
from foveal.codec.evaluate.track import Track, uncompressed
from foveal.codec.evaluate.tracks import Bundle
from foveal.stats.bootstrap import ANECDOTE_BELOW

PIXELS, FEATURES = "all pixel anchors", "all feature anchors"
BEYOND = 0.02
"""Retention that choices behind the best point may lack; see `points.front`."""


@dataclass(frozen=True, slots=True)
class View:
    """Under which figure points are chosen and compared.

    Args:
        tasks: Tasks that count.
        rule: Their mean, or the worst.
        payload: Bytes without containers, instead of whole files.
    """

    tasks: tuple[str, ...]
    rule: Rule = "mean"
    payload: bool = False

    @property
    def name(self) -> str:
        """A name in tables."""
        return self.rule if len(self.tasks) > 1 else "".join(self.tasks)

    def of(self, points: Sequence[Point]) -> list[Point]:
        """Return points that have the tasks, without containers if these do not count."""
        there = [p for p in points if set(self.tasks) <= set(p.sums)]
        if not self.payload:
            return there
        return [replace(p, container=np.zeros_like(p.container)) for p in there]


def views(tasks: Sequence[str]) -> list[View]:
    """Return the views: all tasks by their mean and worst, and each; the same of payloads."""
    several = [View(tuple(tasks)), View(tuple(tasks), "worst")] if len(tasks) > 1 else []
    files = [*several, *(View((task,)) for task in tasks)]
    return [*files, *(replace(view, payload=True) for view in files)]


def families(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Return points by codec, those of all pixel and of all feature anchors together first."""
    each: dict[str, list[Point]] = {}
    for point in points:
        each.setdefault(point.label, []).append(point)
    out: dict[str, list[Point]] = {}
    for name, labels in ((PIXELS, CODECS), (FEATURES, FEATURE_LABELS)):
        every = [p for label in labels for p in each.get(label, [])]
        if every:
            out[name] = every
    return out | each


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Points of the images that choose, or of those that judge.

    Args:
        scale: What 0 and 1 mean there.
        points: By family.
    """

    scale: Scale
    points: dict[str, list[Point]]

    def front(self, family: str, view: View) -> list[Point]:
        """Return what these images choose of a family."""
        there = view.of(self.points.get(family, []))
        return front(self.scale, there, view.tasks, view.rule, beyond=BEYOND)


def run_track(bundle: Bundle, plan: Plan, *, progress: Progress | None = None) -> dict[str, Any]:
    """Measure every codec on a track.

    Settings are chosen by one part of the images (another split, or every other group) and judged
    by the rest; if there is but one group, it chooses and judges, which is said.

    Args:
        bundle: The track, and what chooses and trains for it.
        plan: What is compared.
        progress: Called with what is done, how many and in all.

    Returns: A table as plain data: every codec's points and, for each view, bytes at the plan's
    retentions, how many times these all pixel anchors need, and the BD-rate against them.
    """
    run, track = Measurement(bundle, plan, progress), bundle.judge
    choose, judge, known = _split(run, track)
    draws = Resamples(judge.scale, num=plan.resamples, seed=plan.seed)
    codecs: list[dict[str, Any]] = []
    if known:
        table = _Table(choose, judge, draws, plan)
        codecs = [table.codec(family, views(known)) for family in judge.points]
    return {
        "track": track.name,
        "reality": track.reality,
        "source": track.source,
        "seeds": [track.seeds[0], track.seeds[-1]] if track.seeds else [],
        "images_that_choose": len(choose.scale),
        "images_that_judge": len(judge.scale),
        "chosen_by_the_images_that_judge": choose is judge,
        "groups_that_judge": draws.num_groups,
        "anecdote": draws.num_groups < ANECDOTE_BELOW,
        "tasks": _tasks(track, judge.scale, known),
        "skipped": run.skipped,
        "models_that_do_not_fit": run.not_fitting,
        "codecs": codecs,
    }


def _split(run: Measurement, track: Track) -> tuple[Split, Split, list[str]]:
    """Measure; return what chooses, what judges, and the tasks that the network knows on both."""
    plan, other = run.plan, run.bundle.choose
    full = uncompressed(track, device=plan.device, batch=plan.batch)
    scale = Scale.of(track, full)
    if other is not None:
        full_there = uncompressed(other, device=plan.device, batch=plan.batch)
        there = Scale.of(other, full_there)
        known = [t for t in scale.known() if t in there.known()]
        choose = Split(there, families(run.points(other, full_there, known)))
        wanted = {
            p.key for v in views(known) for name in choose.points for p in choose.front(name, v)
        }
        # Of the rungs that no view chose, nothing is asked on the images that judge.
        rungs = [r for r in plan.all_rungs if (r.codec, repr(sorted(_settings(r)))) in wanted]
        return choose, Split(scale, families(run.points(track, full, known, rungs))), known
    known = list(scale.known())
    points = run.points(track, full, known)
    first, second = halves(track.group_of)
    if not second:
        whole = Split(scale, families(points))
        return whole, whole, known
    parts = [
        Split(scale.take(items), families([p.take(items) for p in points]))
        for items in (first, second)
    ]
    known = [t for t in known if all(t in part.scale.known() for part in parts)]
    return parts[0], parts[1], known


def _settings(rung: Any) -> list[tuple[str, float]]:
    return [("quality", float(rung.quality)), ("scale", float(rung.scale))]


def _tasks(track: Track, scale: Scale, known: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "measure": task.measure,
            "higher_is_better": task.higher_is_better,
            "truth": task.truth,
            "chance": task.score(scale.chance[name].sum(0)),
            "uncompressed": task.score(scale.full[name].sum(0)),
            "judged": name in known,
        }
        for name, task in track.tasks.items()
    }


class _Table:
    """Rows of one track."""

    def __init__(self, choose: Split, judge: Split, draws: Resamples, plan: Plan) -> None:
        self.choose, self.judge, self.draws, self.plan = choose, judge, draws, plan
        self._kept: dict[tuple[str, View], list[Point]] = {}

    def front(self, family: str, view: View) -> list[Point]:
        """Return the points of a family that other images chose, on the images that judge."""
        key = (family, view)
        if key not in self._kept:
            there = view.of(self.judge.points.get(family, []))
            self._kept[key] = same(there, self.choose.front(family, view))
        return self._kept[key]

    def codec(self, family: str, every: Sequence[View]) -> dict[str, Any]:
        """Return all rows of a family."""
        kind = "learned"
        for name, labels in (("pixels", CODECS), ("features", FEATURE_LABELS)):
            kind = name if family in labels else kind
        kind = {PIXELS: "pixels", FEATURES: "features", "label": "label"}.get(family, kind)
        single = family not in (PIXELS, FEATURES)
        rows = [self._view(family, v) for v in every if self.front(family, v)]
        return {
            "codec": family,
            "kind": kind,
            "views": rows,
            "points": [self._point(p) for p in self.judge.points[family]] if single else [],
        }

    def _view(self, family: str, view: View) -> dict[str, Any]:
        points, anchor = self.front(family, view), self.front(PIXELS, view)
        row: dict[str, Any] = {
            "view": view.name,
            "tasks": list(view.tasks),
            "bytes": "payload" if view.payload else "file",
            "best_retention": asdict(self._best(points, view)),
            "at": [],
        }
        for level in self.plan.levels:
            found = self.draws.bytes_at(points, level, view.tasks, view.rule)
            cell: dict[str, Any] = {"retention": level, "bytes": asdict(found)}
            if anchor and family != PIXELS:
                times = self.draws.ratio(points, anchor, level, view.tasks, view.rule)
                cell["times_fewer_than_pixels"] = asdict(times)
            row["at"].append(cell)
        if anchor and family != PIXELS:
            rate, interval = self.draws.bd_rate(points, anchor, view.tasks, view.rule)
            row["bd_rate"] = asdict(rate) | {"interval": asdict(interval)}
        return row

    def _best(self, points: Sequence[Point], view: View) -> Figure:
        """Return the retention of the point with most bytes, beyond which nothing is known."""
        last = max(points, key=lambda p: float(p.bytes.mean()))
        return self.draws.figure(self.draws.retention(last, view.tasks, view.rule))

    def _point(self, point: Point) -> dict[str, Any]:
        scale = self.judge.scale
        tasks = {
            name: {
                **{m: f(point.sums[name].sum(0)) for m, f in scale.tasks[name].measures.items()},
                "retention": asdict(self.draws.figure(self.draws.retention(point, [name]))),
            }
            for name in point.sums
        }
        return {
            "settings": dict(point.settings),
            "bytes": asdict(self.draws.figure(self.draws.mean_bytes(point))),
            "median_bytes": float(np.median(point.bytes)),
            "payload": float(point.payload.mean()),
            "side": float(point.side.mean()),
            "container": float(point.container.mean()),
            "tasks": tasks,
        }
