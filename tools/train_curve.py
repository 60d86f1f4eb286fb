"""Train the shipped concave curve: SACC's curve ensemble on darkened photographs.

Run: python tools/train_curve.py --photos DIR --teacher PATH --out OUT [--steps N]
Photographs of DIR/train are used for training, those of DIR/test only for the last figures.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foveal._core.weights import save_weights
from foveal.data.sensor_noise import darken, sample_exposure
from foveal.lowlight.alignment import ENSEMBLE, alignment_loss, reciprocal_curve
from foveal.lowlight.concave_curve import ConcaveCurve
from foveal.teachers.efficientnet_lite import EfficientNetLite0


def load_photos(folder: Path, device: str) -> list[torch.Tensor]:
    """Photographs as uint8 (3, height, width), the shorter side at most 320 px."""
    out = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".jpg", ".png", ".webp"}):
        image = Image.open(path).convert("RGB")
        scale = 320 / min(image.size)
        size = (max(320, round(image.width * scale)), max(320, round(image.height * scale)))
        array = np.array(image.resize(size, Image.Resampling.LANCZOS))
        out.append(torch.from_numpy(array).permute(2, 0, 1).to(device))
    return out


def crops(photos: list[torch.Tensor], count: int, generator: torch.Generator) -> torch.Tensor:
    """Random crops of 224 px with flips and scales of 0.7 to 1."""
    out = []
    for _ in range(count):
        image = photos[int(torch.randint(len(photos), (), generator=generator))]
        side = int(224 + torch.randint(0, 97, (), generator=generator))
        top = int(torch.randint(0, image.shape[1] - side + 1, (), generator=generator))
        left = int(torch.randint(0, image.shape[2] - side + 1, (), generator=generator))
        crop = image[None, :, top : top + side, left : left + side].float() / 255
        crop = torch.nn.functional.interpolate(crop, (224, 224), mode="bilinear", antialias=True)
        out.append(crop.flip(-1) if torch.rand((), generator=generator) < 0.5 else crop)
    return torch.cat(out)


@torch.no_grad()
def evaluate(photos, teacher, curve, device, seed=1234, draws=8):
    """Agreement with the daylight answer: dark as it is, by each fixed curve, and by ours."""
    cpu = torch.Generator().manual_seed(seed)
    noise = torch.Generator(device).manual_seed(seed)
    hits = {name: [] for name in ("none", "curve", *map(str, ENSEMBLE))}
    for image in photos:
        side = min(image.shape[1:])
        top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
        day = image[None, :, top : top + side, left : left + side].float() / 255
        day = torch.nn.functional.interpolate(day, (224, 224), mode="bilinear", antialias=True)
        answer = teacher(day).argmax(-1)
        for _ in range(draws):
            dark = darken(day, sample_exposure(cpu, factor=(0.005, 0.05)), noise)
            hits["none"].append(float(teacher(dark).argmax(-1) == answer))
            hits["curve"].append(float(teacher(curve(dark)).argmax(-1) == answer))
            for a in ENSEMBLE:
                hits[str(a)].append(float(teacher(reciprocal_curve(dark, a)).argmax(-1) == answer))
    return {name: sum(v) / len(v) for name, v in hits.items()} | {"num": len(hits["none"])}


def main() -> None:
    """Train, judge on the held-out photographs, write weights and log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    teacher = EfficientNetLite0.load(args.teacher).to(device)
    train = load_photos(args.photos / "train", device)
    test = load_photos(args.photos / "test", device)
    curve = ConcaveCurve().to(device)
    optimiser = torch.optim.Adam(curve.parameters(), lr=args.lr)
    cpu = torch.Generator().manual_seed(args.seed)
    noise = torch.Generator(device).manual_seed(args.seed)
    log, start, step = [], time.time(), 0
    for step in range(args.steps):
        rate = args.lr * 0.5 * (1 + np.cos(np.pi * step / args.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        day = crops(train, args.batch, cpu)
        dark = torch.cat([darken(part, sample_exposure(cpu), noise) for part in day.split(4)])
        loss = alignment_loss(curve, teacher, dark)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 0:
            log.append({"step": step, "loss": loss.item(), "seconds": time.time() - start})
            sys.stdout.write(json.dumps(log[-1]) + "\n")
        if time.time() - start > args.minutes * 60:
            break
    curve.eval()
    metrics = {
        "train_photos": len(train),
        "test_photos": len(test),
        "steps": step + 1,
        "agreement_test": evaluate(test, teacher, curve, device),
        "agreement_train": evaluate(train, teacher, curve, device, draws=1),
    }
    sys.stdout.write(json.dumps(metrics) + "\n")
    args.out.mkdir(parents=True, exist_ok=True)
    config = {"model": "ConcaveCurve", "thumbnail": curve.thumbnail, "seed": args.seed}
    save_weights(args.out / "sacc-efficientnet-lite0.safetensors", curve.state_dict(), config)
    report = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "args": {k: str(v) for k, v in vars(args).items()},
        "metrics": metrics,
        "log": log,
    }
    (args.out / "sacc-efficientnet-lite0.log.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
