"""Train Zero-DCE and SCI on the darkened photographs that the curves learn from.

    python tools/train_baselines.py --photos PHOTOS --out OUT

The pictures are those of `align_curves.py`: cuts of seven eighths of PHOTOS/train, darkened by
calibrated noise. Zero-DCE wants pictures of all exposures and gets as many by daylight; SCI gets
the dark ones. Writes OUT/zero-dce.safetensors, OUT/sci.safetensors and baselines.log.json.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from align_curves import KEPT, OFFSET, cuts, darkened

from foveal import lowlight
from foveal.lowlight import baselines

SIDE = 256


def main() -> None:
    """Train, write, log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2048, help="dark cuts")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--low", type=float, default=0.003, help="least exposure factor")
    parser.add_argument("--high", type=float, default=0.08, help="greatest exposure factor")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    files = sorted((args.photos / "train").iterdir())
    photos = [lowlight.read_image(x).to(device) for i, x in enumerate(files) if i % KEPT != OFFSET]
    days, _ = cuts(photos, args.count, SIDE, args.seed)
    dark = darkened(days, args.seed, (args.low, args.high))
    args.out.mkdir(parents=True, exist_ok=True)
    log: dict[str, object] = {
        "arguments": {k: str(v) for k, v in vars(args).items()},
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
    }
    for name, train, pictures in (
        ("zero-dce", baselines.train_zero_dce, torch.cat([dark, days])),
        ("sci", baselines.train_sci, dark),
    ):
        steps: list[dict[str, float]] = []
        start = time.perf_counter()

        def note(step: baselines.TrainingStep, name: str = name, start: float = start) -> None:
            if step.step % 200 == 0 or step.step == step.num_steps:
                row = {"step": step.step, "loss": step.loss}
                row["seconds"] = round(time.perf_counter() - start)
                steps.append(row)  # noqa: B023
                print(name, row, flush=True)  # noqa: T201

        model = train(pictures, num_steps=args.steps, seed=args.seed, device=device, on_step=note)
        model.save(args.out / f"{name}.safetensors")
        log[name] = {"pictures": len(pictures), "steps": steps}
    (args.out / "baselines.log.json").write_text(json.dumps(log, indent=1) + "\n")


if __name__ == "__main__":
    main()
