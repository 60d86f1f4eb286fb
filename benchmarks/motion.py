"""Measure every scripted action under the physics tracker; resumable, one row an action.

    python benchmarks/motion.py [--samples 96] [--seed 0] [--only wave --only walk] [--fresh]

Rows of an earlier run with other samples, seed or code of `foveal.motion` are measured again.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import foveal.motion
from foveal import motion

RESULTS = Path(__file__).with_name("results") / "motion--cpu.json"
PACKAGES = ("foveal", "mujoco", "numpy")


def _device() -> str:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {os.cpu_count()} logical cores"


def _code() -> str:
    """Digest of the sources that the numbers depend on."""
    folder = Path(foveal.motion.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _commit() -> str:
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def measure(name: str, *, samples: int, seed: int) -> dict[str, Any]:
    """Generate one action and return its row; lengths in m, speeds in m/s, jerk in m/s^3."""
    began = time.perf_counter()
    clip = motion.generate(name, num_samples=samples, seed=seed)
    wall = time.perf_counter() - began
    scores = motion.score(clip)
    reference = motion.score(clip.reference) if clip.reference is not None else {}

    def number(value: Any) -> float | None:
        return round(float(value), 4) if isinstance(value, int | float) else None

    predicates = scores["predicates"]
    return {
        "action": name,
        "samples": samples,
        "seed": seed,
        "seconds": number(scores["seconds"]),
        "wall_s": round(wall, 1),
        "load_1min": round(os.getloadavg()[0], 1),
        "status": clip.status,
        "tracking_error_m": number(scores["tracking_error"]),
        "jerk_m_s3": number(scores["jerk"]),
        "reference_jerk_m_s3": number(reference.get("jerk")),
        "foot_skate_m_s": number(scores["foot_skate"]),
        "ground_penetration_m": number(scores["ground_penetration"]),
        "limit_violation_rad": number(scores["limit_violation"]),
        "predicates_ok": scores["predicate_failures"] == 0,
        "predicates": predicates,
    }


def main() -> None:
    """Measure what is missing and write the table after each row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(motion.ACTIONS))
    parser.add_argument("--fresh", action="store_true", help="measure every row again")
    options = parser.parse_args()
    code, rows = _code(), {}
    if RESULTS.exists() and not options.fresh:
        old = json.loads(RESULTS.read_text(encoding="utf-8"))
        if old.get("code_sha256") == code:
            rows = {row["action"]: row for row in old["rows"]}
    for name in options.only or motion.ACTIONS:
        row = rows.get(name)
        if row and (row["samples"], row["seed"]) == (options.samples, options.seed):
            continue
        rows[name] = measure(name, samples=options.samples, seed=options.seed)
        document = {
            "suite": "motion",
            "device": _device(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
            "commit": _commit(),
            "code_sha256": code,
            "rows": [rows[action] for action in motion.ACTIONS if action in rows],
        }
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        shown = {key: rows[name][key] for key in ("wall_s", "status", "tracking_error_m")}
        shown["jerk"] = (rows[name]["jerk_m_s3"], rows[name]["reference_jerk_m_s3"])
        shown["ok"] = rows[name]["predicates_ok"]
        print(name, shown, flush=True)  # noqa: T201 - a script's progress


if __name__ == "__main__":
    main()
