"""Act: an instruction becomes keyframes, a motion, and a simulated figure that follows it."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foveal import motion
from foveal._core.files import write_json
from foveal.cli.common import reporter
from foveal.receipt import Receipt

INSTRUCTION = "squat and then wave with the right hand"


@dataclass(frozen=True, slots=True)
class Act:
    """What the page needs."""

    receipt: Receipt
    player: dict[str, Any]
    score: dict[str, Any]
    status: str


def act(out: Path, *, seed: int) -> Act:
    """Generate, track in MuJoCo, score, export."""
    start = time.perf_counter()
    show = reporter("act, percent")
    clip = motion.generate(
        INSTRUCTION, track="mpc", seed=seed, progress=lambda done: show(round(100 * done), 100)
    )
    score: dict[str, Any] = dict(motion.score(clip))
    for suffix in (".bvh", ".glb"):
        clip.save(out / f"motion{suffix}")
    write_json(out / "score.json", {"status": clip.status, **score})
    if clip.receipt is None:
        raise ValueError("motion.generate returned no receipt")
    receipt = replace(
        clip.receipt,
        seconds=time.perf_counter() - start,
        details={
            **clip.receipt.details,
            "score": score,
            "status": clip.status,
            "seed": seed,
            "instruction": INSTRUCTION,
        },
    )
    return Act(receipt, clip.to_player(), score, clip.status)
