"""Train the feature codec of EfficientNet-Lite0 on photographs, without labels, at many rates.

Example:
    PYTHONPATH=src python tools/train_codec.py --photos photos/train --stamps photos/stamps \
        --judge-photos photos/test --val-fraction 0.12 --minutes 6 \
        --out codec-efficientnet-lite0.safetensors --log codec.json

Writes the model, and one JSON with the arguments, the losses over time and the figures: mean bytes
of the very files and the agreement with the recogniser's own answer, by quality, on validation and
judged photographs. Validation photographs are drawn from --photos; those of --judge-photos are
looked at last. The time limit makes the number of steps depend on the machine.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from photo_crops import Photos, centre_crops, find, load_photos, load_stamps, push, random_crops
from torch import Tensor
from torch.nn import functional

from foveal.codec import schemes
from foveal.codec.model import FeatureCodec, Source
from foveal.codec.sources import EfficientNetCut, fingerprint
from foveal.codec.stream import decode, encode, inspect
from foveal.codec.training import ANSWER, Objective, TrainOptions, train
from foveal.teachers.efficientnet_lite import EfficientNetLite0

TASK = "class"
QUALITIES = (0, 8, 16, 24, 28, 32, 36, 40, 44, 48, 52, 56, 63)


class Deep:
    """The recogniser behind the cut: its last features, its pooled features and its logits."""

    def __init__(self, teacher: EfficientNetLite0, sample: Tensor, args: argparse.Namespace):
        self.teacher, self.args = teacher, args
        with torch.no_grad():
            last, pooled, _ = self.parts(sample)
        self.last_norm = last.std((0, 2, 3)).clamp_min(1e-3)[:, None, None]
        self.pooled_norm = pooled.std(0).clamp_min(0.02)
        self.cuts = [last[0].numel(), pooled[0].numel()]

    def parts(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features [b, 320, 7, 7], pooled [b, 1280] and logits [b, 1000]."""
        y = features
        for block in self.teacher.blocks[11:]:
            y = block(y)
        pooled = functional.relu6(self.teacher.bn1(self.teacher.conv_head(y))).mean((2, 3))
        return y, pooled, self.teacher.fc(pooled)

    def answer(self, features: Tensor) -> Tensor:
        """Return all parts in one row an image, normalised."""
        last, pooled, logits = self.parts(features)
        rows = [(last / self.last_norm).flatten(1), pooled / self.pooled_norm, logits]
        return torch.cat([row.float() for row in rows], dim=1)

    def distance(self, got: Tensor, wanted: Tensor) -> Tensor:
        """Return the weighted squared errors and the KL divergence of each image."""
        a, b = self.cuts
        gap = (got - wanted).square()
        kl = functional.kl_div(
            got[:, a + b :].log_softmax(1),
            wanted[:, a + b :].log_softmax(1),
            log_target=True,
            reduction="none",
        ).sum(1)
        last, pooled = gap[:, :a].mean(1), gap[:, a : a + b].mean(1)
        return self.args.gamma * last + self.args.delta * pooled + self.args.beta * kl


class Pool:
    """Features and answers of many crops; with every draw a few of them are replaced."""

    def __init__(
        self, count: int, fresh: Callable[[int], Tensor], deep: Deep, args: argparse.Namespace
    ):
        self.fresh, self.deep, self.new, self.next = fresh, deep, args.fresh, 0
        first = fresh(1)
        rows = deep.answer(first).shape[1]
        self.features = first.new_empty((count, *first.shape[1:]), dtype=torch.float16)
        self.answers = first.new_empty((count, rows), dtype=torch.float16)
        for i in range(0, count, args.batch):
            self.put(i, min(args.batch, count - i))

    @torch.no_grad()
    def put(self, start: int, count: int) -> None:
        """Work out new crops."""
        part = self.fresh(count)
        self.features[start : start + count] = part
        self.answers[start : start + count] = self.deep.answer(part)

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return features and answers of some crops."""
        self.next = self.next if self.next + self.new <= len(self.features) else 0
        self.put(self.next, self.new)
        self.next += self.new
        index = torch.randint(len(self.features), (count,), generator=generator)
        index = index.to(self.features.device)
        return {TASK: self.features[index].float(), ANSWER + TASK: self.answers[index].float()}


@torch.no_grad()
def judge(model: FeatureCodec, teacher: EfficientNetLite0, photos: Photos) -> list[dict[str, Any]]:
    """Return bytes of one-image files and agreement with the uncompressed answer, by quality."""
    index = torch.arange(len(photos), device=photos.pixels.device)
    features = torch.cat([teacher.features(centre_crops(photos, part)) for part in index.split(64)])
    wanted = torch.cat([teacher.head(part) for part in features.split(64)])
    rows: list[dict[str, Any]] = []
    for quality in QUALITIES:
        stream = encode(model, features, quality=quality)
        facts = inspect(stream.payload)
        got = teacher.head(decode(model, stream.payload)[TASK])
        n = len(features)
        p = float((wanted.argmax(1) == got.argmax(1)).double().mean())
        kl = functional.kl_div(
            got.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="batchmean"
        )
        ideal = stream.receipt.details
        rows.append(
            {
                "quality": quality,
                "images": n,
                "bytes": 11 + sum(facts["image_bytes"]) / n,
                "bytes_max": 11 + max(facts["image_bytes"]),
                "side_bytes": ideal["side_bits"] / 8 / n,
                "agreement": p,
                "standard_error": math.sqrt(p * (1 - p) / n),
                "top5": float(
                    (wanted.argmax(1)[:, None] == got.topk(5).indices).any(1).double().mean()
                ),
                "kl_nats": float(kl),
            }
        )
    return rows


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train, save and judge."""
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    device = torch.device(args.device)
    paths = find(args.photos)
    random.Random(args.seed).shuffle(paths)
    cut = max(1, round(len(paths) * args.val_fraction))
    photos, val = load_photos(paths[cut:], device), load_photos(paths[:cut], device)
    stamps = load_stamps(args.stamps, device)
    teacher = EfficientNetLite0.load().to(device)

    @torch.no_grad()
    def fresh(count: int) -> Tensor:
        crops = random_crops(photos, count, stamps, args)
        with torch.enable_grad():
            crops = push(crops, teacher, args.push_share)
        return teacher.features(crops)

    name, sha256 = fingerprint(EfficientNetCut())
    source = Source(TASK, 112, "map", 14, 14, teacher=name, sha256=sha256)
    sizes = schemes.Sizes(
        channels=args.latent,
        hidden=args.hidden,
        head_hidden=args.hidden,
        blocks=args.blocks,
        fine_blocks=args.fine_blocks,
        stride=args.stride,
        linear=args.linear,
        prior=args.prior,
        side=args.side,
        codewords=args.codewords,
    )
    model = FeatureCodec(schemes.joint([source], sizes)).to(device)
    sample = torch.cat([fresh(args.batch) for _ in range(8)])
    model.start({TASK: sample})
    deep = Deep(teacher, sample[: 2 * args.batch], args)
    begin = time.perf_counter()
    pool = Pool(args.pool, fresh, deep, args)
    filled = time.perf_counter() - begin

    def batches(count: int, generator: torch.Generator) -> dict[str, Tensor]:
        return pool.draw(count, generator)

    options = TrainOptions(
        steps=args.steps,
        minutes=args.minutes,
        batch=args.batch,
        lr=args.lr,
        lowest=args.lowest,
        highest=args.highest,
        alpha=args.alpha,
        subsets=0.0,
        seed=args.seed,
        precision=args.precision,
    )
    log = train(model, batches, {TASK: Objective(deep.answer, deep.distance)}, options)
    counted = torch.cat([fresh(args.batch) for _ in range(24)])
    model.finalise({TASK: counted})
    model.save(args.out)
    model = FeatureCodec.load(args.out).to(device)
    kept = {k: v for k, v in vars(args).items() if not isinstance(v, Path)}
    result: dict[str, Any] = {
        "commit": args.commit,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "arguments": kept,
        "photographs": {"training": len(photos), "validation": len(val)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_bytes": args.out.stat().st_size,
        "model_id": model.model_id.hex(),
        "steps": log.steps,
        "no_graph": log.no_graph,
        "seconds": {"crops": filled, "training": log.seconds},
        "losses": log.rows,
        "validation": judge(model, teacher, val),
    }
    if args.judge_photos is not None:
        result["test"] = judge(model, teacher, load_photos(find(args.judge_photos), device))
    return result


def wrong_paths(out: Path, log: Path) -> str:
    """Return what would be lost after the training by these paths; "" if nothing would."""
    if out.suffix != ".safetensors":
        return f"--out is {out}, must end in .safetensors"
    if log.resolve() in (out.resolve(), out.with_suffix(".json").resolve()):
        return f"--log is {log}, which belongs to the model, must be another file"
    missing = [str(path.parent) for path in (out, log) if not path.parent.is_dir()]
    return f"{missing[0]} is no folder, must be one; make it first" if missing else ""


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder, searched recursively")
    parser.add_argument("--judge-photos", type=Path, help="judged last, never chosen by")
    parser.add_argument("--val-fraction", type=float, default=0.12, help="held-out share")
    parser.add_argument("--stamps", type=Path, help="folder of cut-outs with alpha")
    parser.add_argument("--out", type=Path, required=True, help="weights file, .safetensors")
    parser.add_argument("--log", type=Path, required=True, help="JSON of everything measured")
    parser.add_argument("--minutes", type=float, default=5.0, help="training time; 0: by steps")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--pool", type=int, default=160_000, help="crops that training draws from")
    parser.add_argument("--fresh", type=int, default=16, help="crops replaced at every step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--lowest", type=float, default=15000.0, help="bits per unit at quality 0")
    parser.add_argument("--highest", type=float, default=300000.0, help="the same at quality 63")
    parser.add_argument("--prior", default="codebook-global")
    parser.add_argument("--latent", type=int, default=48, help="latent channels")
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--blocks", type=int, default=1, help="at the latents' size")
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--linear", action="store_true", help="start as principal components")
    parser.add_argument("--fine-blocks", type=int, default=2, help="at the features' size")
    parser.add_argument("--side", type=int, default=12)
    parser.add_argument("--codewords", type=int, default=16)
    parser.add_argument("--stamp-share", type=float, default=0.35)
    parser.add_argument("--mix-share", type=float, default=0.2, help="of cutmix, and of mixup")
    parser.add_argument("--push-share", type=float, default=0.3, help="moved to random classes")
    parser.add_argument("--min-scale", type=float, default=0.08, help="least area of a crop")
    parser.add_argument("--alpha", type=float, default=0.1, help="weight of the normalised MSE")
    parser.add_argument("--gamma", type=float, default=0.5, help="weight of the last features' MSE")
    parser.add_argument("--delta", type=float, default=1.0, help="weight of the pooled MSE")
    parser.add_argument("--beta", type=float, default=2.0, help="weight of the KL")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commit", default="", help="of the script, for the log")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if wrong := wrong_paths(args.out, args.log):
        parser.error(wrong)
    args.log.write_text(json.dumps(run(args), indent=1) + "\n")


if __name__ == "__main__":
    main()
