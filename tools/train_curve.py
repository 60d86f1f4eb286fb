"""Train the shipped concave curve for EfficientNet-Lite0 on darkened photographs, without labels.

Run: python tools/train_curve.py --photos DIR --teacher PATH --out OUT [--steps N]
The targets are the recogniser's own answers on the photograph before it was darkened (default), or
the curve ensemble's answers on the dark one, as SACC does. Photographs of DIR/train are used for
training, those of DIR/test only for the last figures (--judge).
"""

import argparse
import copy
import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import train_codec as codec_tool
from PIL import Image
from train_codec import find

from foveal._core.weights import save_weights
from foveal.data.sensor_noise import darken, sample_exposure
from foveal.lowlight.concave_curve import NUM_KNOTS, ConcaveCurve
from foveal.lowlight.ensemble import ENSEMBLE, reciprocal_curve
from foveal.teachers.efficientnet_lite import EfficientNetLite0


def load_test(folder: Path, device: str, only: set[Path] | None = None) -> list[torch.Tensor]:
    """Photographs as uint8 (3, height, width), the shorter side 320 px."""
    out = []
    for path in find(folder):
        if only is not None and path not in only:
            continue
        image = Image.open(path).convert("RGB")
        scale = 320 / min(image.size)
        size = (max(320, round(image.width * scale)), max(320, round(image.height * scale)))
        array = np.array(image.resize(size, Image.Resampling.LANCZOS))
        out.append(torch.from_numpy(array).permute(2, 0, 1).to(device))
    return out


BINS = (0.005, 0.01, 0.02, 0.03, 0.05)


@torch.no_grad()
def evaluate(photos, teacher, curve, device, seed=1234, draws=8):
    """Agreement with the daylight answer: dark as it is, by each fixed curve, and by ours.

    Paired: every method sees the same noise. Standard errors are over photographs, whose draws
    are averaged first.
    """
    cpu = torch.Generator().manual_seed(seed)
    noise = torch.Generator(device).manual_seed(seed)
    names = ("none", "curve", *map(str, ENSEMBLE))
    hits = {name: [] for name in names}
    factors = []
    for image in photos:
        side = min(image.shape[1:])
        top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
        day = image[None, :, top : top + side, left : left + side].float() / 255
        day = torch.nn.functional.interpolate(day, (224, 224), mode="bilinear", antialias=True)
        answer = teacher(day).argmax(-1)
        rows = []
        for _ in range(draws):
            exposure = sample_exposure(cpu, factor=(0.005, 0.05))
            factors.append(exposure.factor)
            dark = darken(day, exposure, noise)
            rows += [dark, curve(dark), *(reciprocal_curve(dark, a) for a in ENSEMBLE)]
        right = (teacher(torch.cat(rows)).argmax(-1) == answer).float().view(draws, -1)
        for name, column in zip(names, right.T.tolist(), strict=True):
            hits[name] += column
    table = {name: np.array(v).reshape(len(photos), draws) for name, v in hits.items()}
    mean = {name: float(v.mean()) for name, v in table.items()}
    best = max(map(str, ENSEMBLE), key=lambda name: mean[name])

    def paired(other: str) -> dict[str, float]:
        each = (table["curve"] - table[other]).mean(1)
        return {
            "difference": float(each.mean()),
            "standard_error": float(each.std(ddof=1) / len(each) ** 0.5),
        }

    where = np.array(factors)
    bins = []
    for low, high in itertools.pairwise(BINS):
        inside = (where >= low) & (where < high)
        bins.append(
            {"factor": [low, high], "num": int(inside.sum())}
            | {
                name: float(table[name].reshape(-1)[inside].mean())
                for name in ("none", "curve", best)
            }
        )
    each = table["curve"].mean(1)
    return {
        "agreement": mean,
        "num": int(where.size),
        "photos": len(photos),
        "best_fixed": best,
        "curve_standard_error": float(each.std(ddof=1) / len(each) ** 0.5),
        "curve_minus_none": paired("none"),
        "curve_minus_best_fixed": paired(best),
        "by_exposure": bins,
    }


def start_from(curve: ConcaveCurve, a: float) -> None:
    """Let the untrained curve be close to the reciprocal curve of parameter `a`."""
    knots = torch.arange(1, NUM_KNOTS + 1) / NUM_KNOTS
    curvature = (a / (a + knots)) ** 3 + 1e-3
    with torch.no_grad():
        curve.fc.bias.copy_(curvature[:, None].expand(-1, 3).flatten())


def targets(recogniser, day, dark, kind, sharpen):
    """Soft answers and weights: of the daylight picture, or of the ensemble of dark ones."""
    with torch.no_grad():
        if kind == "daylight":
            p = recogniser(day).softmax(-1)
        else:
            p = sum(recogniser(reciprocal_curve(dark, a)).softmax(-1) for a in ENSEMBLE)
            p = (p / len(ENSEMBLE)) ** sharpen
            p = p / p.sum(-1, keepdim=True)
        return p, p.max(-1).values


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
    parser.add_argument("--targets", choices=("daylight", "ensemble"), default="daylight")
    parser.add_argument("--sharpen", type=float, default=2.0, help="power of ensemble answers")
    parser.add_argument("--confidence", type=float, default=0.1, help="answers below are left out")
    parser.add_argument("--low", type=float, default=0.005, help="least exposure factor")
    parser.add_argument("--high", type=float, default=0.08, help="greatest exposure factor")
    parser.add_argument("--max-gain", type=float, default=4.0)
    parser.add_argument("--thumbnail", choices=("area", "nearest"), default="area")
    parser.add_argument("--start", type=float, default=0.1, help="first curve's parameter")
    parser.add_argument("--val-fraction", type=float, default=0.0, help="of the training photos")
    parser.add_argument("--judge", action="store_true", help="evaluate on the test photographs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    teacher = EfficientNetLite0.load(args.teacher).to(device)
    everything = find(args.photos / "train")
    val_paths = everything[:: round(1 / args.val_fraction)] if args.val_fraction else []
    paths = [p for p in everything if p not in set(val_paths)]
    train = codec_tool.load_photos(paths, torch.device(device))
    stamps = codec_tool.load_stamps(args.photos / "stamps", torch.device(device))
    curve = ConcaveCurve(thumbnail=args.thumbnail).to(device)
    start_from(curve, args.start)
    optimiser = torch.optim.Adam(curve.parameters(), lr=args.lr)
    average = copy.deepcopy(curve)
    cpu = torch.Generator().manual_seed(args.seed)
    noise = torch.Generator(device).manual_seed(args.seed)
    crops = argparse.Namespace(min_scale=0.15, stamp_share=0.3, mix_share=0.0)
    log, start, step, t = [], time.time(), 0, 0.0
    while t < 1 and step < args.steps:
        t = max((time.time() - start) / (args.minutes * 60), step / args.steps)
        rate = args.lr * (0.01 + 0.5 * (1 + np.cos(np.pi * min(1, t)))) * min(1, step / 50 + 0.02)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.no_grad():
            day = codec_tool.random_crops(train, args.batch, stamps, crops)
            dark = torch.cat(
                [
                    darken(
                        part,
                        sample_exposure(cpu, factor=(args.low, args.high), max_gain=args.max_gain),
                        noise,
                    )
                    for part in day.split(8)
                ]
            )
        wanted, weight = targets(teacher, day, dark, args.targets, args.sharpen)
        each = -(wanted * teacher(curve(dark)).log_softmax(-1)).sum(-1)
        weight = weight * (weight > args.confidence)
        loss = (each * weight).sum() / weight.sum().clamp_min(1)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(curve.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            decay = min(0.995, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(curve.parameters()), 1 - decay)
        if step % 100 == 0:
            log.append({"step": step, "loss": loss.item(), "seconds": time.time() - start})
            sys.stdout.write(json.dumps(log[-1]) + "\n")
            sys.stdout.flush()
        step += 1
    curve = average.eval()
    metrics = {"train_photos": len(train), "steps": step}
    if val_paths:
        metrics["val"] = evaluate(
            load_test(args.photos / "train", device, set(val_paths)), teacher, curve, device
        )
    if args.judge:
        test = load_test(args.photos / "test", device)
        metrics["test"] = evaluate(test, teacher, curve, device)
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
