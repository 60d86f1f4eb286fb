"""Teach one network the mean of the curves that several aligned ones give: the general curve.

    python tools/distil_curve.py --photos PHOTOS --curves A.safetensors B.safetensors ... --out FILE

The family of concave curves is convex, so that the mean of curves is one of them. The pictures are
cuts of seven eighths of PHOTOS/train, darkened as for `align_curves.py`, and some by daylight.
"""

import argparse
import json
import platform
from pathlib import Path

import torch
from align_curves import KEPT, OFFSET, cuts, darkened
from torch.nn import functional as F

from foveal import lowlight
from foveal.lowlight.alignment_training import new_curve
from foveal.lowlight.concave_curve import THUMBNAIL

SIDE = 128


def main() -> None:
    """Distil, write, log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--curves", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    parser.add_argument("--count", type=int, default=8192, help="dark cuts; an eighth by daylight")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    files = sorted((args.photos / "train").iterdir())
    photos = [lowlight.read_image(x).to(device) for i, x in enumerate(files) if i % KEPT != OFFSET]
    days, groups = cuts(photos, args.count, SIDE, args.seed)
    dark = darkened(days, args.seed, (0.003, 0.08), ("eld", "eld", "brooks"), 1.3)
    seen = torch.cat([dark, days[: args.count // 8]])
    groups += groups[: args.count // 8]
    thumbnails = F.adaptive_avg_pool2d(seen, (THUMBNAIL, THUMBNAIL))
    with torch.no_grad():
        teachers = [lowlight.ConcaveCurve.load(x).to(device) for x in args.curves]
        wanted = torch.stack([x.predict(thumbnails) for x in teachers]).mean(0)
    held = torch.tensor([g % 8 == 0 for g in groups], device=device)
    train = (~held).nonzero()[:, 0]
    curve = new_curve(start=0.1, coupled=False, seed=args.seed).to(device)
    optimiser = torch.optim.Adam(curve.parameters(), lr=args.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, args.steps)
    generator = torch.Generator().manual_seed(args.seed)
    steps: list[dict[str, float]] = []
    for step in range(1, args.steps + 1):
        i = train[torch.randint(len(train), (args.batch,), generator=generator).to(device)]
        loss = F.mse_loss(curve.predict(thumbnails[i]), wanted[i])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % (args.steps // 10 or 1) == 0:
            with torch.no_grad():
                apart = (curve.predict(thumbnails[held]) - wanted[held]).square().mean().sqrt()
            steps.append({"step": step, "loss": loss.item(), "held_out_rms": apart.item()})
            print(steps[-1], flush=True)  # noqa: T201
    curve.eval().requires_grad_(False).save(args.out)
    log = {
        "arguments": {k: str(v) for k, v in vars(args).items() if k not in ("photos", "out")},
        "curves": [x.stem for x in args.curves],
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "steps": steps,
    }
    args.out.with_suffix(".log.json").write_text(json.dumps(log, indent=1) + "\n")


if __name__ == "__main__":
    main()
