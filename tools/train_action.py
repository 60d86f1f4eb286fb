"""Train the action recogniser on rendered clips, by daylight only.

    python tools/prepare_photos.py PHOTOS
    python tools/train_action.py --photos PHOTOS --out OUT --minutes 4

Motions are computed once; cameras, paint, light and backdrops are drawn anew for every clip, and a
clip is shown about three times, mirrored, under other light and with the grain that cameras have by
day. At first most bodies are plain and stand before a plain room, later one in ten: cluttered looks
alone are not learned from scratch.
Photographs of PHOTOS/train stand behind the figures in training, those of PHOTOS/test in the last
figures; without any, walls are painted. Writes OUT/action.safetensors with its .json, and
OUT/action.log.json: held-out accuracy (other motions, other cameras, other looks), how it falls
when a clip stands still or its frames are shuffled, and the confusions.
"""

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import torch
from action_clips import NAMES, Clips, bank, photographs
from torch import Tensor, nn

from foveal.teachers.action import ActionNet


def say(**row: object) -> dict[str, object]:
    """Print one row and return it."""
    print(json.dumps(row), flush=True)  # noqa: T201 - a script talks
    return row


GRAIN = 0.1
"""Most noise by day, a standard deviation in sRGB; a third of it on average."""


class Pool:
    """Clips that were rendered: each is shown some times, mirrored, by other light and grain."""

    def __init__(self, clips: Clips, room: int) -> None:
        self.clips, self.room, self.at, self.filled = clips, room, 0, 0
        shape = (room, clips.frames, 3, clips.size, clips.size)
        self.frames = torch.zeros(shape, dtype=torch.uint8, device=clips.device)
        self.labels = torch.zeros(room, dtype=torch.long, device=clips.device)

    def batch(self, new: int, count: int) -> tuple[Tensor, Tensor]:
        """Render `new` clips, and return `count`, these among them: (b, 3, t, size, size)."""
        g, device = self.clips.generator, self.clips.device
        frames, label = self.clips.batch(new)
        here = torch.arange(self.at, self.at + new) % self.room
        self.frames[here.to(device)] = (frames * 255).round().byte()
        self.labels[here.to(device)] = label
        self.at = (self.at + new) % self.room
        self.filled = min(self.room, self.filled + new)
        old = torch.randint(self.filled, (count - new,), generator=g)
        which = torch.cat([here, old]).to(device)
        flip = (torch.rand(count, generator=g) < 0.5).to(device)
        light = (0.75 + 0.5 * torch.rand(count, 3, generator=g)).to(device)
        x = self.frames[which].float().div_(255)
        x = torch.where(flip[:, None, None, None, None], x.flip(-1), x)
        grain = (GRAIN * torch.rand(count, generator=g) ** 2).to(device)
        x = x * light[:, None, :, None, None]
        x = (x + grain[:, None, None, None, None] * torch.randn_like(x)).clamp_(0, 1)
        return x.transpose(1, 2), self.labels[which]


@torch.no_grad()
def judge(net: ActionNet, clips: Clips, rounds: int, batch: int) -> dict[str, object]:
    """Accuracy over every motion `rounds` times; also of clips that stand still or are shuffled."""
    net.eval()
    count, table = len(clips.bank.label), torch.zeros(len(net.names), len(net.names), dtype=int)
    still, mixed = 0, 0
    for _ in range(rounds):
        for at in range(0, count, batch):
            frames, label = clips.draw(torch.arange(at, min(at + batch, count)))
            x = frames.transpose(1, 2)
            middle = x.shape[2] // 2
            order = torch.randperm(x.shape[2], generator=clips.generator).to(x.device)
            frozen = x[:, :, middle : middle + 1].expand_as(x).contiguous()
            answers = [net(part).argmax(1) for part in (x, frozen, x[:, :, order])]
            for a, b in zip(label.tolist(), answers[0].tolist(), strict=True):
                table[a, b] += 1
            still += int((answers[1] == label).sum())
            mixed += int((answers[2] == label).sum())
    total = int(table.sum())
    right = table.diagonal()
    return {
        "clips": total,
        "motions": count,
        "accuracy": float(right.sum() / total),
        "accuracy_still": still / total,
        "accuracy_shuffled": mixed / total,
        "accuracy_by_action": {
            n: float(r / s) for n, r, s in zip(net.names, right, table.sum(1), strict=True)
        },
        "confusion": table.tolist(),
    }


def loss_of(net: nn.Module, x: Tensor, label: Tensor, device: str) -> Tensor:
    """Cross-entropy, in bf16 on a GPU."""
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        logits = net(x)
    return nn.functional.cross_entropy(logits.float(), label, label_smoothing=0.05)


def main() -> None:
    """Train as long as there is time, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4, help="of training")
    parser.add_argument("--steps", type=int, default=100_000, help="at most")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--new", type=int, default=32, help="of a batch, the others are seen again")
    parser.add_argument("--pool", type=int, default=3072, help="clips that are seen again")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--motions", type=int, default=120, help="of each action, for training")
    parser.add_argument("--held-out", type=int, default=30, help="motions of each action")
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not 1 <= args.new <= min(args.batch, args.pool):
        parser.error(f"--new is {args.new}, must be 1 to --batch and --pool")
    if not args.minutes > 0:
        parser.error(f"--minutes is {args.minutes}, must be > 0")
    started = time.perf_counter()
    photos = {
        split: photographs(args.photos and args.photos / split, args.size * 7 // 5, "cpu")
        for split in ("train", "test")
    }
    banks = {
        split: bank(split, count, "cpu", seed=args.seed)
        for split, count in (
            ("train", args.motions), ("val", args.held_out), ("test", args.held_out)
        )
    }  # fmt: skip
    rows = [say(stage="motions", seconds=time.perf_counter() - started)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    photos = {k: None if v is None else v.to(device) for k, v in photos.items()}

    def clips(split: str) -> Clips:
        b = banks[split]
        b.places, b.sizes = b.places.to(device), b.sizes.to(device)
        return Clips(
            b, split, size=args.size, frames=args.frames, seed=args.seed,
            photos=photos["test" if split == "test" else "train"],
        )  # fmt: skip

    day = clips("train")
    pool = Pool(day, args.pool)
    net = ActionNet(NAMES, size=args.size, frames=args.frames).to(device)
    net = net.to(memory_format=torch.channels_last_3d)
    flat = [p for p in net.parameters() if p.ndim < 2]
    groups = [
        {"params": [p for p in net.parameters() if p.ndim >= 2], "weight_decay": args.decay},
        {"params": flat, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=args.lr)
    start, step, done = time.perf_counter(), 0, 0.0
    since, seen = start, 0
    while done < 1:
        spent = time.perf_counter() - start
        done = max(spent / (60 * args.minutes), (step + 1) / args.steps)
        rate = args.lr * (0.005 + 0.5 * (1 + math.cos(math.pi * min(1, done))))
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100)
        net.train()
        day.simple = max(0.1, 1 - 4 * done)
        x, label = pool.batch(args.new, args.batch)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        loss = loss_of(net, x, label, device)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        step += 1
        seen += args.batch
        if step % 200 == 0 or done >= 1:
            now = time.perf_counter()
            if not math.isfinite(loss.item()):
                raise SystemExit(f"train_action: the loss is {loss.item()} at step {step}")
            rows.append(say(
                step=step, seconds=round(now - start, 1), loss=round(loss.item(), 4),
                clips_per_s=round(seen / (now - since), 1),
            ))  # fmt: skip
            since, seen = now, 0
        if step % 2000 == 0:
            found = judge(net, clips("val"), 1, args.batch)
            rows.append(say(step=step, val=found["accuracy"], still=found["accuracy_still"]))
    args.out.mkdir(parents=True, exist_ok=True)
    net = net.to(memory_format=torch.contiguous_format).eval()
    net.save(args.out / "action.safetensors")
    log: dict[str, Any] = {
        "arguments": {k: str(v) for k, v in vars(args).items()},
        "names": list(net.names),
        "parameters": sum(p.numel() for p in net.parameters()),
        "steps": step,
        "clips_rendered": step * args.new,
        "clips_seen": step * args.batch,
        "photographs": {k: 0 if v is None else len(v) for k, v in photos.items()},
        "train_motions": len(banks["train"].label),
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "log": rows,
    }

    def keep(**row: object) -> None:
        log.update(row, seconds=time.perf_counter() - started)
        (args.out / "action.log.json").write_text(json.dumps(log, indent=1) + "\n")

    with torch.no_grad():
        t = time.perf_counter()
        for _ in range(4):
            last = day.batch(args.batch)[0]
        last.sum().item()
        keep(render_clips_per_s=4 * args.batch / (time.perf_counter() - t))
    for split in ("test", "val"):
        held = judge(net, clips(split), 2, args.batch)
        keep(**{split: held})
        say(split=split, **{k: v for k, v in held.items() if k.startswith("accuracy")})


if __name__ == "__main__":
    main()
