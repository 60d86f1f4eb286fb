"""Train the small flow network on layers of photographs that move by known motions, by daylight.

    python tools/prepare_photos.py PHOTOS
    python tools/train_flow.py --photos PHOTOS --out OUT --minutes 6

Scenes are made on the device while it trains: textures of PHOTOS/train, cut-outs of PHOTOS/stamps.
Pictures are changed as by day (a little brightness, contrast, gamma, color; faint noise), never
darkened. The last figures are of scenes of PHOTOS/test. Writes OUT/flow.safetensors with its .json,
and OUT/flow.log.json.
"""

import argparse
import json
import math
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foveal.data.moving_layers import MovingScenes, moving_layers
from foveal.teachers.flow import FlowNet

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
LEVEL_WEIGHTS = (0.05, 0.1, 0.2, 0.3, 1.0)
OUTLIER = 3.0


def files_of(folder: Path) -> list[Path]:
    """Return the pictures of a folder, sorted."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise SystemExit(f"train_flow: {folder} holds no picture; run tools/prepare_photos.py")
    return found


def load_squares(paths: list[Path], side: int, mode: str = "RGB") -> Tensor:
    """Return the middle squares of pictures, 8 bit, (n, channels, side, side)."""

    def read(path: Path) -> Tensor:
        image = Image.open(path).convert(mode)
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        box = (left, top, left + short, top + short)
        if mode == "RGBA":  # the whole cut-out, on a square
            long = max(image.size)
            whole = Image.new("RGBA", (long, long))
            whole.paste(image, ((long - image.width) // 2, (long - image.height) // 2))
            image, box = whole, (0, 0, *whole.size)
        image = image.resize((side, side), Image.Resampling.LANCZOS, box=box)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    with ThreadPoolExecutor(8) as pool:
        return torch.stack(list(pool.map(read, paths)))


def by_day(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Change clips (b, t, 3, h, w) as exposure, white balance and a good sensor do by day."""
    shape = (len(frames), 1, 1, 1, 1)

    def draw(low: float, high: float, *size: int) -> Tensor:
        u = torch.rand(*(size or shape), generator=generator, device=frames.device)
        return low + (high - low) * u

    b, t = frames.shape[:2]
    mean = frames.mean((1, 2, 3, 4), keepdim=True)
    x = mean + draw(0.8, 1.2) * (frames - mean)
    x = x * draw(0.9, 1.15) * draw(0.95, 1.05, b, 1, 3, 1, 1) * draw(0.97, 1.03, b, t, 1, 1, 1)
    x = x.clamp(0, 1) ** draw(0.85, 1.1)
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    return (x + draw(0, 0.01) * noise).clamp(0, 1)


def end_point_error(flow: Tensor, wanted: Tensor) -> Tensor:
    """Return the distance of each pixel's flow from the right one: (b, ..., h, w), axis 1 gone."""
    return (flow - wanted).square().sum(1).sqrt()


def loss_of(levels: list[Tensor], wanted: Tensor) -> Tensor:
    """Return the robust end-point error of all levels; large errors count by their root."""
    total = wanted.new_zeros(())
    for weight, flow in zip(LEVEL_WEIGHTS, levels, strict=True):
        squared = (flow - wanted).square().sum(1)
        total = total + weight * ((squared + 1e-4) ** 0.4).mean()
    return total


def one_shift(frames: Tensor) -> Tensor:
    """Return the one translation (b, 2) between the first two frames, by phase correlation."""
    grey = frames[:, :2].mean(2)
    height, width = grey.shape[-2:]
    window = torch.outer(torch.hann_window(height), torch.hann_window(width)).to(grey)
    spectrum = torch.fft.rfft2((grey - grey.mean((-2, -1), keepdim=True)) * window)
    cross = spectrum[:, 1] * spectrum[:, 0].conj()
    peak = torch.fft.irfft2(cross / cross.abs().clamp_min(1e-9), s=(height, width)).flatten(1)
    place = peak.argmax(1)
    y, x = place // width, place % width
    y = torch.where(y > height // 2, y - height, y)
    x = torch.where(x > width // 2, x - width, x)
    return torch.stack([x, y], 1).float()


@torch.no_grad()
def held_out(
    model: FlowNet,
    textures: Tensor,
    *,
    scenes: int,
    displacement: float,
    seed: int,
    size: int = 256,
) -> dict[str, Any]:
    """Return the errors on scenes whose backgrounds and shapes are of the given photographs."""
    device = next(model.parameters()).device
    each: dict[str, list[float]] = {}
    for k in range(scenes):
        for at in range(0, len(textures), 16):
            numbers = list(range(at, min(at + 16, len(textures))))
            made = moving_layers(
                len(numbers), size=(size, size), displacement=displacement, textures=textures,
                backgrounds=numbers, seed=seed + 1000 * k + at, device=device,
            )  # fmt: skip
            wanted = made.flow.transpose(1, 2)
            error = end_point_error(model(made.frames.transpose(1, 2)), wanted)
            shift = one_shift(made.frames)[:, :, None, None, None]
            seen = made.valid.float()
            rows = {
                "epe": error.mean((1, 2, 3)),
                "epe_valid": (error * seen).sum((1, 2, 3)) / seen.sum((1, 2, 3)),
                "over_3_px": (error > OUTLIER).float().mean((1, 2, 3)),
                "zero_epe": end_point_error(torch.zeros_like(wanted), wanted).mean((1, 2, 3)),
                "one_shift_epe": end_point_error(shift.expand_as(wanted), wanted).mean((1, 2, 3)),
            }
            for name, values in rows.items():
                each.setdefault(name, []).extend(values.tolist())
    # Only a scene without a pixel that is seen in both frames has a NaN, in `epe_valid`.
    found: dict[str, Any] = {name: torch.tensor(v).nanmean().item() for name, v in each.items()}
    by_photo = torch.tensor(each["epe"]).view(scenes, -1).mean(0)
    found["epe_standard_error"] = float(by_photo.std() / len(by_photo) ** 0.5)
    return {**found, "photographs": len(textures), "scenes": len(each["epe"])}


def scenes_of(
    textures: Tensor, cutouts: Tensor, step: int, args: argparse.Namespace
) -> MovingScenes:
    """Return the scenes of one step; how fast and how many is drawn anew for each."""
    random = np.random.default_rng((args.seed, step))
    return moving_layers(
        args.batch,
        size=(args.size, args.size),
        num_shapes=int(random.integers(3, 9)),
        displacement=float(args.displacement * random.choice([0.25, 0.5, 1.0, 1.0, 1.25])),
        textures=textures,
        cutouts=cutouts,
        seed=int(random.integers(2**31)),
        device=textures.device,
    )


def main() -> None:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6, help="of training")
    parser.add_argument("--steps", type=int, default=1_000_000, help="at most")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--displacement", type=float, default=24.0, help="pixels, at 256")
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--test-scenes", type=int, default=4, help="of each test photograph")
    parser.add_argument("--photographs", type=int, default=1_000_000, help="at most, of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.minutes > 0:
        parser.error(f"--minutes is {args.minutes}, must be > 0")
    begin = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(args.seed)
    side = round(1.5 * args.size)
    train = load_squares(files_of(args.photos / "train")[: args.photographs], side).to(device)
    test = load_squares(files_of(args.photos / "test")[: args.photographs], side).to(device)
    cutouts = None
    if (args.photos / "stamps").is_dir():
        stamps = files_of(args.photos / "stamps")[: args.photographs]
        cutouts = load_squares(stamps, args.size // 2, "RGBA").to(device)
    model = FlowNet().to(device)
    average = FlowNet().to(device).eval().requires_grad_(False)
    average.load_state_dict(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    generator = torch.Generator(device).manual_seed(args.seed)
    stem = args.out / "flow"
    args.out.mkdir(parents=True, exist_ok=True)
    log: dict[str, Any] = {
        "arguments": {k: str(v) for k, v in vars(args).items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "photographs": {
            "train": len(train),
            "test": len(test),
            "cutouts": 0 if cutouts is None else len(cutouts),
        },
        "losses": [],
    }

    def keep() -> None:
        if not all(bool(torch.isfinite(p).all()) for p in average.parameters()):
            raise SystemExit(f"train_flow: weights have NaN or infinity at step {step}")
        average.save(stem.with_suffix(".safetensors"))
        stem.with_name("flow.log.json").write_text(json.dumps(log, indent=1) + "\n")

    start, step, t, saved = time.time(), 0, 0.0, time.time()
    print(f"loaded in {start - begin:.0f} s; {log['photographs']}", flush=True)  # noqa: T201
    while t < 1:
        t = max((time.time() - start) / (60 * args.minutes), step / args.steps)
        rate = args.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1, t))) / 2)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 200)
        made = scenes_of(train, cutouts, step, args)
        clips = by_day(made.frames, generator).transpose(1, 2)
        with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
            levels = model.coarse_to_fine(clips)
        loss = loss_of(levels, made.flow.transpose(1, 2))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        step += 1
        if step % 100 == 1:
            wanted = made.flow.transpose(1, 2)
            row = {
                "step": step,
                "loss": loss.item(),
                "epe": end_point_error(levels[-1].detach(), wanted).mean().item(),
                "zero_epe": end_point_error(torch.zeros_like(wanted), wanted).mean().item(),
                "seconds": time.time() - start,
            }
            if not math.isfinite(row["loss"]):
                raise SystemExit(f"train_flow: the loss is {row['loss']} at step {step}")
            log["losses"].append(row)
            print({k: round(v, 3) for k, v in row.items()}, flush=True)  # noqa: T201
        if time.time() - saved > 60:
            saved = time.time()
            keep()
    log |= {"steps": step, "train_seconds": time.time() - start}
    keep()
    log["held_out"] = [
        {"displacement": d}
        | held_out(
            average, test, scenes=args.test_scenes, displacement=d, seed=10_000_000, size=args.size
        )
        for d in (args.displacement / 3, args.displacement)
    ]
    log["seconds"] = time.time() - begin
    keep()
    print(json.dumps(log["held_out"]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
