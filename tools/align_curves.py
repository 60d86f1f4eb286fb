"""Align a curve to a frozen recogniser on cuts of darkened photographs, without labels.

    python tools/prepare_photos.py PHOTOS
    python tools/align_curves.py --photos PHOTOS --teacher NAME --method METHOD --out OUT

Every eighth photograph of PHOTOS/train is kept for judging. Of the others, cuts are darkened, each
once, by calibrated sensor noise; these are all that the curve sees of the dark. "pretext" also gets
daylight cuts, of the odd photographs, and then its dark ones are of the even ones. The seeing is
judged on the kept photographs at the fixed levels of darkness, so that methods are chosen on
photographs that no figure is reported of. A training that was broken off goes on. Writes
OUT/TEACHER--METHOD.safetensors with its .json, and TEACHER--METHOD.log.json.
"""

import argparse
import json
import platform
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from foveal import lowlight
from foveal.data.sensor_noise import SOURCES, TRIPLES, draw_shot, shoot
from foveal.lowlight.evaluate import (
    disjoint_crops,
    fixed_methods,
    judge_in_the_dark,
    takes_whole_pictures,
)
from foveal.teachers import registry

KEPT, OFFSET = 8, 3
WORDS = ("EXIT", "STOP", "Hotel", "24h", "OPEN", "Taxi", "Bank", "BUS 315", "Police", "Metro 8-12")


def write_text(image: Tensor, seed: int) -> Tensor:
    """Put a few words on a picture, for a recogniser of text."""
    rng = random.Random(seed)
    picture = Image.fromarray((image.permute(1, 2, 0).cpu().numpy() * 255).round().astype("uint8"))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.randint(2, 4)):
        font = ImageFont.load_default(rng.randint(18, 54))
        words = " ".join(rng.sample(WORDS, rng.randint(1, 2)))
        at = rng.randint(0, picture.width * 2 // 3), rng.randint(0, picture.height * 5 // 6)
        shade = (rng.choice((20, 60, 200, 245)),) * 3
        if rng.random() < 0.5:
            back = tuple(255 - x for x in shade)
            draw.rectangle(draw.textbbox(at, words, font=font), fill=back)
        draw.text(at, words, font=font, fill=shade)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).to(image) / 255


def cut(image: Tensor, size: int, generator: torch.Generator, least_area: float) -> Tensor:
    """Return a random square of a picture, resized, mirrored by chance."""
    height, width = image.shape[1:]
    shrink, y, x, mirrored = torch.rand(4, generator=generator).tolist()
    side = round(min(height, width) * (least_area + (1 - least_area) * shrink) ** 0.5)
    top, left = int(y * (height - side + 1)), int(x * (width - side + 1))
    square = image[:, top : top + side, left : left + side]
    square = square.flip(-1) if mirrored < 0.5 else square
    return interpolate(square[None], (size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)


def cuts(
    photos: list[Tensor], count: int, size: int, seed: int, least_area: float = 0.15
) -> tuple[Tensor, list[int]]:
    """Return cuts in turns over photographs, and of which photograph each is."""
    generator = torch.Generator().manual_seed(seed)
    groups = [i % len(photos) for i in range(count)]
    return torch.stack([cut(photos[i], size, generator, least_area) for i in groups]), groups


def darkened(
    days: Tensor,
    seed: int,
    factor: tuple[float, float],
    sources: Sequence[str] = ("eld",),
    skew: float = 1.0,
) -> Tensor:
    """Return each picture as one dark shot.

    Args:
        days: Daylight.
        seed: Of all draws.
        factor: Range of exposure factors.
        sources: Of noise, in turns.
        skew: 1 draws factors log-uniformly; more draws more dark ones, of which fewer are trusted.
    """
    dark = torch.empty_like(days)
    draws = torch.rand(len(days), generator=torch.Generator().manual_seed(seed)) ** skew
    factors = (factor[0] * (factor[1] / factor[0]) ** draws).tolist()
    for at in range(0, len(days), 32):
        part = range(at, min(at + 32, len(days)))
        shots = [
            draw_shot(
                seed + i,
                source=sources[i % len(sources)],
                factor=(factors[i], factors[i]),
                jpeg_fraction=0.25,
            )
            for i in part
        ]
        dark[at : at + 32] = shoot(days[at : at + 32], shots)
    return dark


def judge(
    teacher: object, curve: lowlight.ConcaveCurve, kept: list[Tensor], triples: list[int]
) -> list[dict]:
    """Return what the teacher sees of the kept photographs by this curve and by fixed ones."""
    if takes_whole_pictures(teacher):
        shown, groups = kept, list(range(len(kept)))
    else:
        shown, groups = disjoint_crops(kept, teacher.size, most=200)
    methods = {**fixed_methods(), "aligned": curve}
    rows = []
    chosen = [TRIPLES[i] for i in triples]
    for outcomes in judge_in_the_dark(teacher, shown, groups, methods, triples=chosen, draws=2):
        found = {row.method: row for row in outcomes.summarize()}
        rows.append(
            {
                "triple": list(outcomes.triple),
                "items": found["aligned"].num_items,
                **{name: round(row.agreement, 4) for name, row in found.items()},
            }
        )
        print(rows[-1], flush=True)  # noqa: T201
    return rows


def main() -> None:
    """Align, write, log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--teacher", choices=registry.NAMES, required=True)
    parser.add_argument("--method", choices=("ensemble", "pretext"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=6144, help="dark cuts")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--head-steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--confidence", type=float, default=0.3)
    parser.add_argument("--sharpen", type=float, default=2.0)
    parser.add_argument("--low", type=float, default=0.003, help="least exposure factor")
    parser.add_argument("--high", type=float, default=0.08, help="greatest exposure factor")
    parser.add_argument("--skew", type=float, default=1.0, help="more: more of the darkest")
    parser.add_argument("--sources", choices=SOURCES, nargs="+", default=["eld", "eld", "brooks"])
    parser.add_argument("--least-area", type=float, default=0.15, help="of a cut, of the square")
    parser.add_argument(
        "--minutes", type=float, default=60, help="stop there, with the best so far"
    )
    parser.add_argument(
        "--judged", type=int, nargs="*", default=list(range(len(TRIPLES))), help="which darknesses"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher = registry.load(args.teacher).to(device)
    files = sorted((args.photos / "train").iterdir())
    photos = [lowlight.read_image(x).to(device) for x in files]
    if args.teacher == "pp-ocr":
        photos = [write_text(x, i) for i, x in enumerate(photos)]
    kept = photos[OFFSET::KEPT]
    photos = [x for i, x in enumerate(photos) if i % KEPT != OFFSET]
    start = time.perf_counter()
    normal = None
    if args.method == "pretext":
        side = round(1.4 * teacher.size)
        days, groups = cuts(photos[::2], args.count // 2, side, args.seed, args.least_area)
        normal, _ = cuts(photos[1::2], args.count // 2, side, args.seed + 1, args.least_area)
    else:
        days, groups = cuts(photos, args.count, teacher.size, args.seed, args.least_area)
    dark = darkened(days, args.seed, (args.low, args.high), args.sources, args.skew)
    del days
    prepared = time.perf_counter() - start
    stem = args.out / f"{args.teacher}--{args.method}"
    args.out.mkdir(parents=True, exist_ok=True)
    steps: list[dict[str, object]] = []

    def note(step: lowlight.AlignmentStep) -> None:
        seconds = time.perf_counter() - start
        if step.held_out is not None or (step.stage == "labels" and step.step == step.num_steps):
            fields = ("stage", "step", "loss", "held_out", "right")
            steps.append({x: getattr(step, x) for x in fields} | {"seconds": round(seconds)})
            print(args.teacher, args.method, steps[-1], flush=True)  # noqa: T201
        if step.stage == "curve" and seconds > 60 * args.minutes:
            raise StopIteration

    curve = lowlight.align(
        teacher,
        dark=dark,
        normal=normal,
        groups=groups,
        method=args.method,
        num_steps=args.steps,
        head_steps=args.head_steps,
        batch_size=args.batch,
        learning_rate=args.lr,
        confidence=args.confidence,
        sharpen=args.sharpen,
        check_every=100,
        patience=1000,
        seed=args.seed,
        checkpoint=stem.with_name(f"{stem.name}--checkpoint.safetensors"),
        on_step=note,
    )
    curve.save(stem.with_suffix(".safetensors"))
    log = {
        "arguments": {k: str(v) for k, v in vars(args).items()},
        "photographs": len(photos),
        "dark_cuts": len(dark),
        "daylight_cuts": 0 if normal is None else len(normal),
        "seconds_to_darken": prepared,
        "seconds": time.perf_counter() - start,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "steps": steps,
    }
    path = stem.with_name(f"{stem.name}.log.json")
    path.write_text(json.dumps(log, indent=1) + "\n")
    log["kept_photographs"] = judge(teacher, curve, kept, args.judged)
    path.write_text(json.dumps(log, indent=1) + "\n")


if __name__ == "__main__":
    main()
