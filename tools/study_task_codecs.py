"""Sum up what train_task_codecs.py and probe_tasks.py measured: one JSON with intervals.

    PYTHONPATH=src:tools python tools/study_task_codecs.py --runs out --out codec-tasks.json

`--second` holds joint and separate codecs of another architecture, with its own reference.
`out` holds NAME.npz and NAME.log.json of codecs, TASK-of-STREAM.npz of probes, subsets-NAME.npz of
judge_subsets.py, and reference.npz; `--transfer` holds probes of every task on every task's stream.
All figures are of the test scenes, whose means are resampled 1000 times, the same way for all.
Bytes are those of one picture's own file. Retention is (score - chance) / (uncompressed - chance).
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.codec.evaluate.curves import Figure, Resamples, rising
from foveal.codec.evaluate.points import Point, Rule, Scale
from foveal.codec.evaluate.taskworld_track import scores
from foveal.codec.evaluate.track import TrackTask
from foveal.teachers.task_scores import MEASURES

LEVELS = (0.95, 0.96, 0.97, 0.98, 0.99)
PRIORS = ("codebook-global", "codebook-local", "codebook-vq", "spatial", "factorized")
SPLIT = "test"


def task_of(name: str, chance: NDArray[Any]) -> TrackTask:
    """Return how a task is scored; nothing is asked of it here."""
    first = MEASURES[name][0]

    def none(*_: Any) -> Any:
        raise NotImplementedError

    def score(total: NDArray[Any]) -> float:
        return float(scores(name, total[None])[0])

    return TrackTask(
        name, none, none, {first.name: score}, first.higher_is_better, chance, "exact labels",
        scores=partial(scores, name),
    )  # fmt: skip


class Study:
    """The measured points, and the resamples that all figures share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        held = np.load(folder / "reference.npz")
        names = sorted(k.split("/")[2] for k in held.files if k.startswith(f"{SPLIT}/full/"))
        chance = {t: held[f"{SPLIT}/chance/{t}"] for t in names}
        full = {t: held[f"{SPLIT}/full/{t}"] for t in names}
        tasks = {t: task_of(t, chance[t]) for t in names}
        count = len(next(iter(full.values())))
        self.scale = Scale(tasks, chance, full, tuple(range(count)))
        self.draws = Resamples(self.scale, num=1000)

    def points(self, name: str, part: str = SPLIT) -> list[Point]:
        """Return the points of NAME.npz, by quality; all bytes count as payload."""
        held = np.load(self.folder / f"{name}.npz")
        tasks = [k.split("/")[2] for k in held.files if k.startswith(f"{part}/sums/")]
        none = np.zeros(len(self.scale), np.int64)
        out: list[Point] = []
        for i, quality in enumerate(held["qualities"].tolist()):
            sums = {t: held[f"{part}/sums/{t}"][i] for t in tasks}
            size = held[f"{part}/bytes"][i].astype(np.int64)
            out.append(Point(name, {"quality": quality}, size, none, none, sums))
        return out

    def side(self, name: str) -> list[float]:
        """Return mean bytes of side information, by quality."""
        held = np.load(self.folder / f"{name}.npz")
        return [float(x.mean()) for x in held[f"{SPLIT}/side_bytes"]]

    def at(self, points: list[Point], rule: Rule = "mean") -> list[dict[str, Any]]:
        """Return bytes at each level of the retention of all tasks of the points."""
        tasks = list(points[0].sums)
        found: list[dict[str, Any]] = []
        for level in LEVELS:
            size = self.draws.bytes_at(points, level, tasks, rule)
            row = {"retention": level, "bytes": asdict(size)}
            if rule == "mean" and size.value is not None and len(tasks) > 1:
                worst = [asdict(self.kept(points, size.value, [t])) for t in tasks]
                row["worst_task"] = min(worst, key=lambda x: float(x["value"]))
            found.append(row)
        return found

    def saved(self, ours: list[Point], theirs: list[Point]) -> list[dict[str, Any]]:
        """Return our bytes as a share of theirs at each level."""
        tasks = list(ours[0].sums)
        rows: list[dict[str, Any]] = []
        for level in LEVELS:
            mine = self.draws.reached(ours, level, tasks)
            other = self.draws.reached(theirs, level, tasks)
            both = np.isfinite(mine) & np.isfinite(other)
            share = np.where(both, mine / np.where(both, other, 1), np.nan)
            rows.append({"retention": level, "share": asdict(self.draws.figure(share))})
        return rows

    def kept(self, points: list[Point], size: float, tasks: Sequence[str]) -> Figure:
        """Return the mean retention of tasks at some mean bytes; ends are held."""
        return self.draws.figure(self.kept_rows(points, size, tasks))

    def kept_rows(self, points: list[Point], size: float, tasks: Sequence[str]) -> NDArray[Any]:
        """Return the same for every resample."""
        logs, risen = rising(*self.draws.curve(points, tasks))
        wanted = np.log(size)
        rows = zip(logs, risen, strict=True)
        return np.array([np.interp(wanted, x, y) for x, y in rows])

    def codec(self, name: str) -> dict[str, Any]:
        """Return all of one codec."""
        points = self.points(name)
        tasks = list(points[0].sums)
        rows: list[dict[str, Any]] = []
        for point, side in zip(points, self.side(name), strict=True):
            each = {t: float(self.draws.retention(point, [t])[0]) for t in tasks}
            rows.append(
                {
                    **point.settings,
                    "bytes": float(point.bytes.mean()),
                    "side_bytes": side,
                    "retention": each,
                    "mean": float(np.mean(list(each.values()))),
                }
            )
        out: dict[str, Any] = {"name": name, "points": rows, "at": self.at(points)}
        out["at_worst"] = self.at(points, "worst")
        log = self.folder / f"{name}.log.json"
        if log.exists():
            note = json.loads(log.read_text())
            kept = ("commit", "device", "torch", "job", "options", "parameters", "scenes", "steps")
            out["training"] = {key: note[key] for key in kept}
        return out

    def external(self, joint: str, random: str) -> list[dict[str, Any]]:
        """Return unseen tasks at the joint stream's bytes for each level."""
        seen = self.points(joint)
        known = list(seen[0].sums)
        rows: list[dict[str, Any]] = []
        unseen = sorted(
            p.name.removesuffix(f"-of-{joint}.npz") for p in self.folder.glob(f"*-of-{joint}.npz")
        )
        for level in (0.95, 0.99):
            size = self.draws.bytes_at(seen, level, known).value
            if size is None:
                continue
            for task in unseen:
                curves = {
                    "joint": self.points(f"{task}-of-{joint}"),
                    "random": self.points(f"{task}-of-{random}"),
                    "dedicated": self.points(self.own_stream(task)),
                }
                each = {k: self.kept_rows(v, size, [task]) for k, v in curves.items()}
                share = each["joint"] / each["dedicated"]
                rows.append(
                    {
                        "task": task,
                        "joint_retention": level,
                        "bytes": size,
                        **{k: asdict(self.draws.figure(v)) for k, v in each.items()},
                        "share_of_dedicated": asdict(self.draws.figure(share)),
                        "over_random": asdict(self.draws.figure(each["joint"] - each["random"])),
                        "dedicated_bytes": float(curves["dedicated"][-1].bytes.mean()),
                    }
                )
        return rows

    def own_stream(self, task: str) -> str:
        """Return the name of the probe of a task on the stream that was trained for it alone."""
        return next(p.stem for p in sorted(self.folder.glob(f"{task}-of-*-global-{task}.npz")))

    def subsets(self, joint: str, separate: str) -> list[dict[str, Any]]:
        """Return the bytes of a joint and of separate streams for every subset of the tasks.

        Both are judged at the same few qualities. Tasks that are not wanted are off: a joint stream
        leaves out what only they need, and their separate streams are not sent.
        """
        held = np.load(self.folder / f"subsets-{joint}.npz")
        parts = [k.removesuffix("/bytes") for k in held.files if k.endswith("/bytes")]
        rows: list[dict[str, Any]] = []
        for part in parts:
            both = [self.points(f"subsets-{name}", part) for name in (joint, separate)]
            cells: list[dict[str, Any]] = []
            for level in LEVELS:
                ours, theirs = (self.draws.reached(p, level, part.split("+")) for p in both)
                fine = np.isfinite(ours) & np.isfinite(theirs)
                share = np.where(fine, ours / np.where(fine, theirs, 1), np.nan)
                cells.append(
                    {
                        "retention": level,
                        "joint": asdict(self.draws.figure(ours)),
                        "separate": asdict(self.draws.figure(theirs)),
                        "share": asdict(self.draws.figure(share)),
                    }
                )
            rows.append({"tasks": part.split("+"), "at": cells})
        return rows

    def transfer(self, quality: int) -> list[dict[str, Any]]:
        """Return how streams made for one task serve every task, by heads of equal budget."""
        rows: list[dict[str, Any]] = []
        for path in sorted(self.folder.glob("*-of-*-global-*.npz")):
            task, _, rest = path.stem.partition("-of-")
            stream = rest.partition("-global-")[2]
            point = next(p for p in self.points(path.stem) if p.settings["quality"] == quality)
            found = asdict(self.draws.figure(self.draws.retention(point, [task])))
            size = float(point.bytes.mean())
            rows.append({"stream": stream, "task": task, "bytes": size, "retention": found})
        return rows

    def alone(self) -> list[dict[str, Any]]:
        """Return what each task costs by itself, with heads of equal budget."""
        rows: list[dict[str, Any]] = []
        for task in self.scale.tasks:
            if not any(self.folder.glob(f"{task}-of-*-global-{task}.npz")):
                continue
            points = self.points(self.own_stream(task))
            rows.append({"task": task, "at": self.at(points)})
        return rows


def run(args: argparse.Namespace) -> None:
    """Write the JSON."""
    study, pairs = Study(args.runs), Study(args.transfer)
    there = [
        p.stem
        for p in sorted(args.runs.glob("*-*.npz"))
        if "-of-" not in p.stem and not p.stem.startswith("subsets-")
    ]
    result: dict[str, Any] = {
        "commit": args.commit,
        "scenes": len(study.scale),
        "intervals": "95 %, 1000 resamples of the test scenes",
        "tasks": {
            name: {
                "measure": task.measure,
                "chance": task.score(study.scale.chance[name].sum(0)),
                "uncompressed": task.score(study.scale.full[name].sum(0)),
            }
            for name, task in study.scale.tasks.items()
        },
        "codecs": [study.codec(name) for name in there],
    }
    joint = study.points("joint-global")
    result["joint_over_separate"] = study.saved(joint, study.points("separate-global"))
    result["priors_over_spatial"] = {
        name: study.saved(study.points(name), study.points("joint-spatial"))
        for name in there
        if name.startswith("joint-") and name != "joint-spatial"
    }
    result["priors_of_equal_latents"] = {
        name: study.saved(study.points(name), study.points("same-spatial"))
        for name in there
        if name.startswith("same-") and name != "same-spatial"
    }
    result["grouped_over_joint"] = study.saved(study.points("grouped-global"), joint)
    result["linear_over_joint"] = study.saved(study.points("linear-global"), joint)
    own = study.points("conditional-global")
    result["conditional_over_separate"] = study.saved(own, study.points("separate-global"))
    result["conditional_over_joint"] = study.saved(own, joint)
    result["external"] = study.external("joint-global", "random-global")
    result["external_of_chosen"] = study.external("diverse-global", "diverse-random")
    result["external_of_four"] = study.external("normal4-global", "normal4-random")
    result["subsets"] = study.subsets("joint-global", "separate-global")
    result["transfer"] = {"quality": 40, "rows": pairs.transfer(40)}
    result["alone"] = study.alone()
    other = Study(args.second)
    pair = [other.points(f"{kind}-separable") for kind in ("joint", "separate")]
    result["second_architecture"] = {
        "codecs": [other.codec(f"{kind}-separable") for kind in ("joint", "separate")],
        "joint_over_separate": other.saved(pair[0], pair[1]),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--transfer", type=Path, required=True)
    parser.add_argument("--second", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--commit", default="")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
