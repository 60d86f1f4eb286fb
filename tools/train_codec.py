"""Train the feature codec for EfficientNet-Lite0 on a folder of photographs, without labels.

One command, one GPU, a few minutes:

    PYTHONPATH=src python tools/train_codec.py --photos photos/train --stamps photos/stamps \
        --minutes 5 --out codec-efficientnet-lite0.safetensors --log train.jsonl

Writes the weights (and the JSON file beside them) and a log with one JSON object per line; the last
one, `"event": "held-out"`, has real bytes from the real coder on photographs that were not
trained on.
"""

import argparse
import copy
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
from foveal.codec.feature_codec import CodecConfig
from foveal.teachers.efficientnet_lite import EfficientNetLite0

CANVAS, SIZE, STAMP = 768, 224, 256
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
    """Return [height, width, 3], cut to CANVAS about the middle, or None if it cannot be used."""
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    short = min(image.size)
    if short < 96:
        return None
    if short > CANVAS:
        image = image.resize(
            (round(image.width * CANVAS / short), round(image.height * CANVAS / short)),
            Image.Resampling.LANCZOS,
        )
    left, top = max(0, (image.width - CANVAS) // 2), max(0, (image.height - CANVAS) // 2)
    right, bottom = min(image.width, left + CANVAS), min(image.height, top + CANVAS)
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


def load_stamps(folder: Path | None, device: torch.device) -> Tensor | None:
    """Return cut-outs as [n, 4, STAMP, STAMP] in [0, 1], the colour times its alpha."""
    if folder is None:
        return None
    out = []
    for path in find(folder):
        image = np.asarray(Image.open(path).convert("RGBA"), dtype=np.float32) / 255
        height, width = image.shape[:2]
        canvas = np.zeros((STAMP, STAMP, 4), dtype=np.float32)
        top, left = (STAMP - height) // 2, (STAMP - width) // 2
        canvas[top : top + height, left : left + width] = image
        canvas[..., :3] *= canvas[..., 3:]
        out.append(torch.from_numpy(canvas).permute(2, 0, 1))
    return torch.stack(out).to(device)


def crop(
    photos: Photos, index: Tensor, boxes: tuple[Tensor, Tensor, Tensor, Tensor], flip: Tensor
) -> Tensor:
    """Return [b, 3, SIZE, SIZE] in [0, 1]: boxes as centre x, centre y, width, height in pixels.

    Sampled at twice the size and averaged, against aliasing.
    """
    x, y, width, height = boxes
    theta = torch.zeros((len(index), 2, 3), device=index.device)
    theta[:, 0, 0] = width / CANVAS * flip
    theta[:, 0, 2] = 2 * x / CANVAS - 1
    theta[:, 1, 1] = height / CANVAS
    theta[:, 1, 2] = 2 * y / CANVAS - 1
    grid = functional.affine_grid(theta, [len(index), 3, 2 * SIZE, 2 * SIZE], align_corners=False)
    source = photos.pixels[index].float() / 255
    out = functional.grid_sample(source, grid, padding_mode="border", align_corners=False)
    return functional.avg_pool2d(out, 2).clamp(0, 1)


def paste(images: Tensor, stamps: Tensor, share: float) -> Tensor:
    """Paste a random cut-out on a share of the images."""
    b, device = len(images), images.device
    u = torch.rand((6, b), device=device)
    theta = torch.zeros((b, 2, 3), device=device)
    scale = 0.8 + 1.4 * u[0]
    theta[:, 0, 0] = scale * torch.where(u[1] < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = scale
    theta[:, 0, 2] = (u[2] - 0.5) * scale
    theta[:, 1, 2] = (u[3] - 0.5) * scale
    grid = functional.affine_grid(theta, [b, 4, SIZE, SIZE], align_corners=False)
    pick = torch.randint(len(stamps), (b,), device=device)
    sprite = functional.grid_sample(stamps[pick], grid, align_corners=False)
    sprite = sprite * (u[4] < share).float()[:, None, None, None]
    colour, alpha = sprite[:, :3] * (0.7 + 0.6 * u[5])[:, None, None, None], sprite[:, 3:]
    return (images * (1 - alpha) + colour).clamp(0, 1)


def jitter(images: Tensor) -> Tensor:
    """Change brightness, contrast, saturation, colour balance and gamma of most images."""
    b, device = len(images), images.device
    u = torch.rand((5, b, 1, 1, 1), device=device)
    grey = images.mean(1, keepdim=True)
    saturation = 0.5 + u[0]
    out = grey + saturation * (images - grey)
    out = out * (0.85 + 0.3 * torch.rand((b, 3, 1, 1), device=device))
    mean = out.mean((1, 2, 3), keepdim=True)
    out = mean + (0.6 + 0.8 * u[1]) * (out - mean)
    out = (out * (0.5 + 0.8 * u[2])).clamp(0, 1) + 1e-4
    out = out ** torch.exp((u[3] - 0.5) * 0.8)
    return torch.where(u[4] < 0.7, out, images).clamp(0, 1)


def random_crops(photos: Photos, batch: int, stamps: Tensor | None, args: Any) -> Tensor:
    """Return random-resized crops, jittered, with pasted cut-outs, mixup and cutmix."""
    device = photos.pixels.device
    index = torch.randint(len(photos), (batch,), device=device)
    u = torch.rand((6, batch), device=device)
    short = torch.minimum(photos.widths, photos.heights)[index]
    side = short * (args.min_scale + (1 - args.min_scale) * u[0]).sqrt()
    ratio = torch.exp((u[1] - 0.5) * 2 * math.log(4 / 3)).sqrt()
    width = torch.minimum(side * ratio, photos.widths[index])
    height = torch.minimum(side / ratio, photos.heights[index])
    x = width / 2 + u[2] * (photos.widths[index] - width)
    y = height / 2 + u[3] * (photos.heights[index] - height)
    images = crop(photos, index, (x, y, width, height), torch.where(u[4] < 0.5, -1.0, 1.0))
    images = jitter(images)
    if stamps is not None:
        images = paste(images, stamps, args.stamp_share)
    other = images.roll(1, 0)
    v = torch.rand((5, batch, 1, 1, 1), device=device)
    axis = torch.arange(SIZE, device=device) / SIZE
    half = 0.15 + 0.25 * v[1]
    inside = ((axis[:, None] - v[2]).abs() < half) & ((axis[None, :] - v[3]).abs() < half)
    cut = (v[0] < args.mix_share) & inside
    blend = torch.where((v[0] > 1 - args.mix_share), 0.5 * v[4], 0.0)
    return torch.where(cut, other, images * (1 - blend) + other * blend)


def push(images: Tensor, teacher: EfficientNetLite0, share: float) -> Tensor:
    """Move a share of the images a little towards random classes, for more varied answers."""
    count = round(len(images) * share)
    if count == 0:
        return images
    part = images[:count].detach()
    target = torch.randint(1000, (count,), device=images.device)
    step = (2 + 6 * torch.rand((count, 1, 1, 1), device=images.device)) / 255
    for _ in range(2):
        part = part.detach().requires_grad_(True)
        loss = functional.cross_entropy(teacher(part), target)
        (gradient,) = torch.autograd.grad(loss, part)
        gradient = functional.avg_pool2d(gradient, 5, 1, 2)  # smooth: no pixel-sized patterns
        largest = gradient.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        part = (part - 4 * step * gradient / largest).clamp(0, 1)
    return torch.cat([part.detach(), images[count:]])


def centre_crops(photos: Photos, index: Tensor) -> Tensor:
    """Return the usual 87.5 % centre crop."""
    side = torch.minimum(photos.widths, photos.heights)[index] * 0.875
    boxes = (photos.widths[index] / 2, photos.heights[index] / 2, side, side)
    return crop(photos, index, boxes, torch.ones_like(side))


def deep(teacher: EfficientNetLite0, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the head's last 7 x 7 features, its pooled features and its logits."""
    y = features
    for block in teacher.blocks[11:]:
        y = block(y)
    pooled = functional.relu6(teacher.bn1(teacher.conv_head(y))).mean((2, 3))
    return y, pooled, teacher.fc(pooled)


def distillation_loss(
    model: codec.FeatureCodec,
    teacher: EfficientNetLite0,
    features: Tensor,
    args: Any,
    norms: tuple[Tensor, Tensor],
    trade_off: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Rate + trade_off * (features at three depths + KL), all without labels."""
    decoded, y_bits, z_bits = model(features)
    with torch.no_grad():
        wanted = deep(teacher, features)
    got = deep(teacher, decoded)
    mse = (model.normalise(decoded) - model.normalise(features)).square().mean()
    last = ((got[0] - wanted[0]) / norms[0][:, None, None]).square().mean()
    pooled = ((got[1] - wanted[1]) / norms[1]).square().mean()
    kl = functional.kl_div(
        got[2].log_softmax(1), wanted[2].log_softmax(1), log_target=True, reduction="batchmean"
    )
    rate = (y_bits + z_bits).mean() / SIZE**2
    distortion = args.alpha * mse + args.gamma * last + args.delta * pooled + args.beta * kl
    parts = {
        "y_bits": y_bits.mean(),
        "z_bits": z_bits.mean(),
        "mse": mse,
        "last": last,
        "pooled": pooled,
        "kl": kl,
    }
    return rate + trade_off * distortion, {k: v.detach() for k, v in parts.items()}


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
    torch.backends.cudnn.benchmark = True
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
    stamps = load_stamps(args.stamps, device)
    sizes = CodecConfig(latent_channels=args.latent, hidden=args.hidden, blocks=args.blocks)
    model = codec.FeatureCodec(sizes).to(device)
    with torch.no_grad():
        sample = torch.cat(
            [teacher.features(random_crops(photos, args.batch, stamps, args)) for _ in range(8)]
        )
        last, pooled, _ = deep(teacher, sample)
        norms = (last.std((0, 2, 3)).clamp_min(1e-3), pooled.std(0).clamp_min(0.02))
    model.fit_normalisation(sample)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=args.lr, weight_decay=args.weight_decay, betas=(0.9, 0.99)
    )
    average = copy.deepcopy(model)
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
            images = random_crops(photos, args.batch, stamps, args)
        images = push(images, teacher, args.push_share)
        with torch.no_grad():
            features = teacher.features(images)
        loss, parts = distillation_loss(
            model, teacher, features, args, norms, math.exp(log_trade_off)
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            decay = min(0.998, (1 + step) / (10 + step))
            new, old = list(model.parameters()), list(average.parameters())
            torch._foreach_lerp_(old, new, 1 - decay)
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
    model = average
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
    if args.judge_photos is not None:
        judge = load_photos(find(args.judge_photos), device)
        write("test", **held_out(codec.load(args.out, device=device), teacher, judge))


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder, searched recursively")
    parser.add_argument("--val-photos", type=Path, help="held-out folder; default: a random split")
    parser.add_argument("--judge-photos", type=Path, help="judged last, never chosen by")
    parser.add_argument("--val-fraction", type=float, default=0.1, help="held-out share")
    parser.add_argument("--teacher-weights", type=Path, help="default: the packaged sample")
    parser.add_argument("--out", type=Path, required=True, help="weights file, .safetensors")
    parser.add_argument("--log", type=Path, help="JSON lines; default: standard output")
    parser.add_argument("--minutes", type=float, default=5.0, help="training time")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--target-bytes", type=float, default=250.0, help="wanted bytes an image")
    parser.add_argument("--trade-off", type=float, default=0.02, help="first lambda")
    parser.add_argument("--stamps", type=Path, help="folder of cut-outs with alpha")
    parser.add_argument("--stamp-share", type=float, default=0.35)
    parser.add_argument("--mix-share", type=float, default=0.2, help="of cutmix, and of mixup")
    parser.add_argument("--push-share", type=float, default=0.0, help="moved to random classes")
    parser.add_argument("--min-scale", type=float, default=0.08, help="least area of a crop")
    parser.add_argument("--latent", type=int, default=48, help="latent channels")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--alpha", type=float, default=0.1, help="weight of the normalised MSE")
    parser.add_argument("--gamma", type=float, default=0.5, help="weight of the last features' MSE")
    parser.add_argument("--delta", type=float, default=1.0, help="weight of the pooled MSE")
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
