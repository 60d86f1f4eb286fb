"""Align a curve to a frozen recogniser on darkened photographs, without labels or daylight twins.

    python tools/prepare_photos.py PHOTOS
    python tools/align_curves.py --photos PHOTOS --teacher NAME --method METHOD --out OUT

The photographs of PHOTOS/train are parted in two: one part is darkened, each once, by calibrated
sensor noise, and is all that the curve sees of the dark; the other is daylight for the pretext. A
run that was broken off goes on. Writes OUT/NAME--METHOD.safetensors with its .json, and a log.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from foveal import lowlight
from foveal.data.sensor_noise import draw_shot, shoot
from foveal.teachers import registry


def pictures(folder: Path, count: int, side: int) -> list[Tensor]:
    """Return photographs whose shorter side is at most `side`, spread over the sources."""
    files = sorted(folder.iterdir())
    found = []
    for file in files[:: max(1, len(files) // count)][:count]:
        image = lowlight.read_image(file)
        scale = side / min(image.shape[1:])
        if scale < 1:
            size = [round(x * scale) for x in image.shape[1:]]
            image = interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
        found.append(image)
    return found


def darkened(images: list[Tensor], seed: int, factor: tuple[float, float]) -> list[Tensor]:
    """Return each picture as one dark shot."""
    shots = [draw_shot(seed + i, source="eld", factor=factor) for i in range(len(images))]
    return [shoot(x[None], [shot])[0] for x, shot in zip(images, shots, strict=True)]


def main() -> None:
    """Align, write, log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--teacher", choices=registry.NAMES, required=True)
    parser.add_argument("--method", choices=("ensemble", "pretext"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200, help="dark photographs")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--head-steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--confidence", type=float, default=0.3)
    parser.add_argument("--sharpen", type=float, default=2.0)
    parser.add_argument("--low", type=float, default=0.003, help="least exposure factor")
    parser.add_argument("--high", type=float, default=0.08, help="greatest exposure factor")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = registry.load(args.teacher).to(device)
    photos = pictures(args.photos / "train", 2 * args.count, round(1.5 * model.size))
    dark = darkened(photos[::2], args.seed, (args.low, args.high))
    stem = args.out / f"{args.teacher}--{args.method}"
    steps: list[dict[str, object]] = []
    start = time.perf_counter()

    def note(step: lowlight.AlignmentStep) -> None:
        if step.held_out is not None or (step.stage == "labels" and step.step == step.num_steps):
            fields = ("stage", "step", "loss", "held_out", "right")
            steps.append({x: getattr(step, x) for x in fields})
            print(steps[-1], f"{time.perf_counter() - start:.0f} s", flush=True)  # noqa: T201

    curve = lowlight.align(
        model,
        dark=dark,
        normal=photos[1::2],
        method=args.method,
        num_steps=args.steps,
        head_steps=args.head_steps,
        batch_size=args.batch,
        learning_rate=args.lr,
        confidence=args.confidence,
        sharpen=args.sharpen,
        seed=args.seed,
        checkpoint=stem.with_name(f"{stem.name}--checkpoint.safetensors"),
        on_step=note,
    )
    curve.save(stem.with_suffix(".safetensors"))
    log = {
        "arguments": {k: str(v) for k, v in vars(args).items()},
        "dark_photographs": len(dark),
        "daylight_photographs": len(photos[1::2]),
        "seconds": time.perf_counter() - start,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "steps": steps,
    }
    stem.with_name(f"{stem.name}.log.json").write_text(json.dumps(log, indent=1) + "\n")


if __name__ == "__main__":
    main()
