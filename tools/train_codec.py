"""Train the feature codec for EfficientNet-Lite0 on a folder of photographs, without labels.

One command, one GPU, a few minutes:

    PYTHONPATH=src python tools/train_codec.py --photos photos --minutes 5 \
        --out codec-efficientnet-lite0.safetensors --log train.jsonl

Writes the weights (and the JSON file beside them) and a log with one JSON object per line; the last
one, `"event": "held-out"`, has real bytes from the real coder on photographs that were not
trained on.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from foveal import codec
from foveal.teachers.efficientnet_lite import EfficientNetLite0

SHORT, CANVAS, SIZE = 320, 448, 224
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass
class Photos:
    """Photographs on one device: uint8 [n, 3, CANVAS, CANVAS], zero outside [height, width]."""

    pixels: Tensor
    widths: Tensor
    heights: Tensor

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.pixels)


def read_photo(path: Path) -> np.ndarray | None:
    """Return [height, width, 3] with the shorter side SHORT, or None if it cannot be used."""
    try:
        with Image.open(path) as file:
            file.draft("RGB", (2 * SHORT, 2 * SHORT))
            image = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    short = min(image.size)
    if short < 96:
        return None
    size = [max(SHORT, round(s * SHORT / short)) for s in image.size]
    image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    left, top = max(0, (size[0] - CANVAS) // 2), max(0, (size[1] - CANVAS) // 2)
    right, bottom = min(size[0], left + CANVAS), min(size[1], top + CANVAS)
    return np.asarray(image.crop((left, top, right, bottom)))


def load_photos(paths: Sequence[Path], device: torch.device) -> Photos:
    """Read photographs in threads and put them on `device`."""
    with ThreadPoolExecutor(8) as pool:
        arrays = [a for a in pool.map(read_photo, paths) if a is not None]
    if not arrays:
        sys.exit(f"train_codec: none of {len(paths)} files is a photograph of 96 pixels or more")
    pixels = torch.zeros((len(arrays), 3, CANVAS, CANVAS), dtype=torch.uint8)
    for i, array in enumerate(arrays):
        height, width = array.shape[:2]
        pixels[i, :, :height, :width] = torch.from_numpy(array.copy()).permute(2, 0, 1)
    widths = torch.tensor([a.shape[1] for a in arrays], dtype=torch.float32, device=device)
    heights = torch.tensor([a.shape[0] for a in arrays], dtype=torch.float32, device=device)
    return Photos(pixels.to(device), widths, heights)


def crop(
    photos: Photos, index: Tensor, boxes: tuple[Tensor, Tensor, Tensor, Tensor], flip: Tensor
) -> Tensor:
    """Return [b, 3, SIZE, SIZE] in [0, 1]: boxes as centre x, centre y, width, height in pixels."""
    x, y, width, height = boxes
    theta = torch.zeros((len(index), 2, 3), device=index.device)
    theta[:, 0, 0] = width / CANVAS * flip
    theta[:, 0, 2] = 2 * x / CANVAS - 1
    theta[:, 1, 1] = height / CANVAS
    theta[:, 1, 2] = 2 * y / CANVAS - 1
    grid = functional.affine_grid(theta, [len(index), 3, SIZE, SIZE], align_corners=False)
    source = photos.pixels[index].float() / 255
    out = functional.grid_sample(source, grid, padding_mode="border", align_corners=False)
    return out.clamp(0, 1)


def random_crops(photos: Photos, batch: int) -> Tensor:
    """Return random-resized crops with flips and mild changes of brightness."""
    device = photos.pixels.device
    index = torch.randint(len(photos), (batch,), device=device)
    u = torch.rand((7, batch), device=device)
    side = SHORT * (0.3 + 0.7 * u[0]).sqrt()
    ratio = torch.exp((u[1] - 0.5) * 2 * math.log(4 / 3)).sqrt()
    width = torch.minimum(side * ratio, photos.widths[index])
    height = torch.minimum(side / ratio, photos.heights[index])
    x = width / 2 + u[2] * (photos.widths[index] - width)
    y = height / 2 + u[3] * (photos.heights[index] - height)
    images = crop(photos, index, (x, y, width, height), torch.where(u[4] < 0.5, -1.0, 1.0))
    changed = (u[5] < 0.5).float()[:, None, None, None]
    gain = (0.35 + 0.85 * u[6])[:, None, None, None]
    return images * (1 - changed) + (images * gain).clamp(0, 1) * changed


def centre_crops(photos: Photos, index: Tensor) -> Tensor:
    """Return the usual 87.5 % centre crop."""
    side = torch.full((len(index),), SHORT * 0.875, device=index.device)
    boxes = (photos.widths[index] / 2, photos.heights[index] / 2, side, side)
    return crop(photos, index, boxes, torch.ones_like(side))


@torch.no_grad()
def held_out(
    model: codec.FeatureCodec, teacher: EfficientNetLite0, photos: Photos
) -> dict[str, Any]:
    """Return real bytes and agreement with the recogniser's own uncompressed prediction."""
    sizes: list[int] = []
    same: list[bool] = []
    in_top5: list[bool] = []
    kl: list[float] = []
    overhead = 0.0
    for index in torch.arange(len(photos), device=photos.pixels.device).split(128):
        features = teacher.features(centre_crops(photos, index))
        stream = codec.encode(model, features)
        decoded = codec.decode(model, stream.payload).to(features)
        sizes += [12 + n for n in codec.inspect(stream.payload)["stream_bytes"]]
        details = stream.receipt.details
        overhead -= (details["y_bits"] + details["z_bits"]) / 8
        wanted, got = teacher.head(features), teacher.head(decoded)
        top = wanted.argmax(1)
        same += (top == got.argmax(1)).tolist()
        in_top5 += (top[:, None] == got.topk(5, dim=1).indices).any(1).tolist()
        each = functional.kl_div(
            got.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="none"
        )
        kl += each.sum(1).tolist()
    n = len(sizes)
    p = sum(same) / n
    return {
        "images": n,
        "top1_agreement": p,
        "top1_agreement_standard_error": math.sqrt(p * (1 - p) / n),
        "top1_within_top5": sum(in_top5) / n,
        "kl_nats": sum(kl) / n,
        "bytes_mean": sum(sizes) / n,
        "bytes_median": float(np.median(sizes)),
        "bytes_max": max(sizes),
        "coder_overhead_bytes_mean": (sum(sizes) - 12 * n + overhead) / n,
        "single_image_container_bytes": 12,
    }


def find(folder: Path) -> list[Path]:
    """Return the photographs below a folder, in a fixed order."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        sys.exit(f"train_codec: --photos is {folder}, must hold jpg, png or webp files")
    return paths


def train(args: argparse.Namespace, log: TextIO) -> None:
    """Train, evaluate and save."""

    def write(event: str, **values: Any) -> None:
        log.write(json.dumps({"event": event, **values}) + "\n")
        log.flush()

    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    begin = time.perf_counter()
    paths = find(args.photos)
    if args.val_photos is None:
        random.Random(args.seed).shuffle(paths)
        cut = max(1, round(len(paths) * args.val_fraction))
        val_paths, paths = paths[:cut], paths[cut:] or paths[:cut]
    else:
        val_paths = find(args.val_photos)
    photos, val = load_photos(paths, device), load_photos(val_paths, device)
    teacher = EfficientNetLite0.load(args.teacher_weights).to(device)
    model = codec.FeatureCodec().to(device)
    with torch.no_grad():
        sample = [teacher.features(random_crops(photos, args.batch)) for _ in range(8)]
    model.fit_normalisation(torch.cat(sample))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=args.lr, weight_decay=1e-4, betas=(0.9, 0.99)
    )
    write(
        "start",
        photos=len(photos),
        held_out=len(val),
        parameters=sum(p.numel() for p in model.parameters()),
        device=str(device),
        torch=torch.__version__,
        seconds=time.perf_counter() - begin,
        arguments={k: str(v) for k, v in vars(args).items()},
    )

    begin, limit, step = time.perf_counter(), args.minutes * 60, 0
    log_trade_off, mean_bytes = math.log(args.trade_off), 0.0
    next_log = 0.0
    while (elapsed := time.perf_counter() - begin) < limit:
        t = elapsed / limit
        for group in optimiser.param_groups:
            group["lr"] = (
                args.lr
                * min(1.0, t / 0.02 + 0.01)
                * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * t)))
            )
        with torch.no_grad():
            features = teacher.features(random_crops(photos, args.batch))
        loss, parts = codec.rate_task_loss(
            model,
            features,
            teacher.head,
            trade_off=math.exp(log_trade_off),
            alpha=args.alpha,
            beta=args.beta if t > 0.1 else 0.0,
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 10 == 0:
            # Steers lambda towards the wanted size until 3/4 of the time, then leaves it alone.
            now = float(parts["y_bits"] + parts["z_bits"]) / 8 + 12
            mean_bytes = now if step == 0 else 0.9 * mean_bytes + 0.1 * now
            if 0.03 < t < 0.75:
                pull = 0.05 * math.log(args.target_bytes / mean_bytes)
                log_trade_off += max(-0.05, min(0.05, pull))
                log_trade_off = max(math.log(1e-5), min(math.log(100.0), log_trade_off))
        if elapsed >= next_log:
            next_log = elapsed + limit / 40
            write(
                "step",
                step=step,
                seconds=round(elapsed, 2),
                loss=float(loss.detach()),
                trade_off=math.exp(log_trade_off),
                **{name: float(value) for name, value in parts.items()},
            )
        step += 1
    model.finalise()
    model.save(args.out)
    result = held_out(codec.load(args.out, device=device), teacher, val)
    write(
        "held-out",
        steps=step,
        trade_off=math.exp(log_trade_off),
        seconds=time.perf_counter() - begin,
        model_id=model.model_id.hex(),
        weights_bytes=args.out.stat().st_size,
        **result,
    )


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder, searched recursively")
    parser.add_argument("--val-photos", type=Path, help="held-out folder; default: a random split")
    parser.add_argument("--val-fraction", type=float, default=0.1, help="held-out share")
    parser.add_argument("--teacher-weights", type=Path, help="default: the packaged sample")
    parser.add_argument("--out", type=Path, required=True, help="weights file, .safetensors")
    parser.add_argument("--log", type=Path, help="JSON lines; default: standard output")
    parser.add_argument("--minutes", type=float, default=5.0, help="training time")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--target-bytes", type=float, default=250.0, help="wanted bytes an image")
    parser.add_argument("--trade-off", type=float, default=0.02, help="first lambda")
    parser.add_argument("--alpha", type=float, default=1.0, help="weight of the normalised MSE")
    parser.add_argument("--beta", type=float, default=2.0, help="weight of the KL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.log is None:
        train(args, sys.stdout)
    else:
        args.log.parent.mkdir(parents=True, exist_ok=True)
        with args.log.open("w") as log:
            train(args, log)


if __name__ == "__main__":
    main()
