"""Choose which tasks a joint stream is made of, by what their own streams do for the others.

    PYTHONPATH=src:tools python tools/choose_tasks.py --runs out --separate separate-global \
        dedicated-global --out chosen.json

Reads TASK-of-STREAM-LAYER.npz of probe_tasks.py and reference.npz, all of the validation scenes. Of
each set of `--count` tasks, an unseen task is served at least as well as by the best of the set's
streams; the set whose worst unseen task is served best is printed, its names between commas.
"""

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.codec.evaluate.taskworld_track import scores


def retention(task: str, sums: NDArray[Any], held: Any, split: str) -> float:
    """Return the retention of a task on all scenes."""
    rows = (sums, held[f"{split}/chance/{task}"], held[f"{split}/full/{task}"])
    got, chance, full = (float(scores(task, x.sum(0)[None])[0]) for x in rows)
    return (got - chance) / (full - chance)


def matrix(
    folder: Path, models: list[str], quality: int, split: str
) -> dict[str, dict[str, float]]:
    """Return retention by stream and task."""
    held = np.load(folder / "reference.npz")
    out: dict[str, dict[str, float]] = {}
    for model in models:
        for path in sorted(folder.glob(f"*-of-{model}-*.npz")):
            task, _, rest = path.stem.partition("-of-")
            found = np.load(path)
            at = found["qualities"].tolist().index(quality)
            kept = retention(task, found[f"{split}/sums/{task}"][at], held, split)
            out.setdefault(rest.removeprefix(f"{model}-"), {})[task] = kept
    return out


def run(args: argparse.Namespace) -> None:
    """Choose and write."""
    found = matrix(args.runs, args.separate, args.quality, args.split)
    tasks = sorted(found)
    rows: list[dict[str, Any]] = []
    for chosen in combinations(tasks, args.count):
        unseen = {t: max(found[s][t] for s in chosen) for t in tasks if t not in chosen}
        rows.append({"tasks": list(chosen), "unseen": unseen, "least": min(unseen.values())})
    rows.sort(key=lambda row: -row["least"])
    note = {"quality": args.quality, "split": args.split, "transfer": found, "sets": rows[:10]}
    args.out.write_text(json.dumps(note, indent=1) + "\n")
    sys.stdout.write(",".join(rows[0]["tasks"]) + "\n")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--separate", nargs="+", required=True, help="names of the streams' codecs")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--quality", type=int, default=40)
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path, required=True)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
