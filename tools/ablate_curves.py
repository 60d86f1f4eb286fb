"""Ablations of the curve for EfficientNet-Lite0: family, knots, thumbnail, targets, SACC+.

    python tools/ablate_curves.py --photos PHOTOS --judge FOLDER --out OUT

All variants learn from the same trusted cuts in the same order, a few hundred steps each; all are
judged on the same noise. One change at a time from the first: concave, a curve a channel, 255
knots, area thumbnail, targets of the curve ensemble. Writes OUT/ablation.json.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from align_curves import KEPT, OFFSET, cuts, darkened
from torch import Tensor, nn
from torch.nn import functional as F

from foveal import lowlight
from foveal.data.sensor_noise import TRIPLES
from foveal.lowlight.alignment_training import new_curve
from foveal.lowlight.concave_curve import ConcaveCurve, apply_curve, integrate
from foveal.lowlight.ensemble import PseudoLabels, labels_of, pseudo_labels, pseudo_loss
from foveal.lowlight.evaluate import disjoint_crops, fixed_methods, judge_in_the_dark
from foveal.teachers.efficientnet_lite import EfficientNetLite0

BASE = "concave, ensemble"
Levels = Callable[[Tensor], Tensor]


class Family(nn.Module):
    """The curve's network, with another way from its 255 x 3 numbers to a curve."""

    def __init__(self, levels: Levels, net: ConcaveCurve) -> None:
        """Take the network's trunk over."""
        super().__init__()
        self.net, self.levels = net, levels
        self.raw: Tensor | None = None
        net.fc.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.raw = output.view(-1, 255, 3)

    def forward(self, image: Tensor) -> Tensor:
        """Brighten (b, 3, h, w)."""
        self.net.curvature(image)
        assert self.raw is not None
        return apply_curve(image, self.levels(self.raw))


def few_knots(count: int) -> Levels:
    """Concave, with `count` of the knots, evenly spaced."""
    step = 255 / count

    def levels(raw: Tensor) -> Tensor:
        keep = torch.zeros(255, 1, device=raw.device)
        keep[[round(step * (i + 1)) - 1 for i in range(count)]] = 1
        return integrate(raw.relu() * keep)

    return levels


def monotone(raw: Tensor) -> Tensor:
    """Increasing, no more: slopes are free."""
    slopes = F.softplus(raw).transpose(1, 2)
    curve = F.pad(slopes.cumsum(2), (1, 0))
    return curve / curve[..., -1:]


def free_table(raw: Tensor) -> Tensor:
    """Any table of values in [0, 1]; starts at the curve that `start` sets."""
    x = torch.linspace(0, 1, 256, device=raw.device)
    start = 1.1 * x / (x + 0.1)
    return (start + F.pad(raw.transpose(1, 2), (1, 0))).clamp(0, 1)


def gamma(raw: Tensor) -> Tensor:
    """Raise to a power in [0.15, 1], one a channel."""
    x = torch.linspace(0, 1, 256, device=raw.device)[1:]
    power = 0.15 + 0.85 * raw.mean(1).sigmoid()
    return F.pad(x ** power[..., None], (1, 0))  # black stays black


def variants(seed: int) -> dict[str, nn.Module]:
    """Return untrained variants of the family and of the network."""

    def net(**options: bool) -> ConcaveCurve:
        return new_curve(start=0.1, coupled=options.get("coupled", False), seed=seed)

    def plain() -> ConcaveCurve:
        return new_curve(start=None, coupled=False, seed=seed)

    nearest = ConcaveCurve(thumbnail="nearest")
    nearest.load_state_dict(net().state_dict())
    return {
        BASE: net(),
        "one curve for all channels": net(coupled=True),
        "nearest thumbnail": nearest,
        "start at 2x - x^2": plain(),
        "64 knots": Family(few_knots(64), net()),
        "16 knots": Family(few_knots(16), net()),
        "monotone": Family(monotone, net()),
        "free table": Family(free_table, plain()),
        "gamma": Family(gamma, plain()),
    }


def main() -> None:
    """Train all, judge all, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True, help="photographs to judge on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12288, help="dark cuts")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--confidence", type=float, default=0.3)
    parser.add_argument("--adapt-steps", type=int, default=200)
    parser.add_argument("--crops", type=int, default=300)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)  # before the long work
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher = EfficientNetLite0.load().to(device).requires_grad_(False)
    files = sorted((args.photos / "train").iterdir())
    photos = [lowlight.read_image(x).to(device) for i, x in enumerate(files) if i % KEPT != OFFSET]
    start = time.perf_counter()
    days, _ = cuts(photos, args.count, teacher.size, args.seed)
    dark = darkened(days, args.seed, (0.003, 0.08), ("eld", "eld", "brooks"), 1.6)
    parts = [
        pseudo_labels(teacher, x, confidence=args.confidence, sharpen=2.0) for x in dark.split(256)
    ]
    keep = torch.cat([x.keep for x in parts]).nonzero()[:, 0]
    wanted = torch.cat([x.probabilities for x in parts])[keep]
    dark, days = dark[keep], days[keep]
    with torch.no_grad():
        answers = [
            labels_of([teacher(x)], activation="softmax", confidence=0.0, sharpen=2.0)
            for x in days.split(256)
        ]
    by_day = torch.cat([x.probabilities for x in answers])
    print(f"{len(keep)} trusted, {time.perf_counter() - start:.0f} s", flush=True)  # noqa: T201

    def ensemble_loss(curve: nn.Module, i: Tensor) -> Tensor:
        every = torch.ones(len(i), dtype=torch.bool, device=device)
        return pseudo_loss(teacher(curve(dark[i])), PseudoLabels(wanted[i], every, "softmax"))

    def daylight_loss(curve: nn.Module, i: Tensor) -> Tensor:
        every = torch.ones(len(i), dtype=torch.bool, device=device)
        return pseudo_loss(teacher(curve(dark[i])), PseudoLabels(by_day[i], every, "softmax"))

    def feature_loss(curve: nn.Module, i: Tensor) -> Tensor:
        with torch.no_grad():
            day = teacher.features(days[i])
        return F.mse_loss(teacher.features(curve(dark[i])), day) / day.square().mean()

    jobs = {name: (model, ensemble_loss) for name, model in variants(args.seed).items()}
    for name, loss in (
        ("daylight answers (paired bound)", daylight_loss),
        ("daylight features (paired bound)", feature_loss),
    ):
        jobs[name] = (new_curve(start=0.1, coupled=False, seed=args.seed), loss)
    trained: dict[str, nn.Module] = {}
    for name, (model, loss) in jobs.items():
        model.to(device)
        optimiser = torch.optim.Adam(model.parameters(), lr=args.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, args.steps)
        generator = torch.Generator().manual_seed(args.seed)
        value = torch.zeros(())
        for _ in range(args.steps):
            i = torch.randint(len(dark), (args.batch,), generator=generator).to(device)
            value = loss(model, i)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
        trained[name] = model.eval().requires_grad_(False)
        print(f"{name}: {value.item():.4f}, {time.perf_counter() - start:.0f} s", flush=True)  # noqa: T201
    shown = [lowlight.read_image(x).to(device) for x in sorted(args.judge.iterdir())]
    small = [
        F.interpolate(x[None], scale_factor=512 / min(x.shape[1:]), mode="bicubic", antialias=True)[
            0
        ]
        for x in shown
    ]
    crops, groups = disjoint_crops([x.clamp(0, 1) for x in small], teacher.size, most=args.crops)
    with torch.no_grad():
        named = [int(teacher(x[None]).argmax()) for x in crops]
    student = lowlight.adapt(
        teacher, trained[BASE], dark=dark, num_steps=args.adapt_steps, batch_size=32, seed=args.seed
    )  # fmt: skip
    print(f"adapted, {time.perf_counter() - start:.0f} s", flush=True)  # noqa: T201
    options = {"triples": TRIPLES, "draws": args.draws, "seed": args.seed}
    rows: list[dict[str, object]] = []
    methods = {**fixed_methods(), **trained}
    plus = {"SACC+ on it": trained[BASE], "SACC+ without a curve": lambda x: x}
    both = zip(
        judge_in_the_dark(teacher, crops, groups, methods, **options),
        judge_in_the_dark(student, crops, groups, plus, labels=named, **options),
        strict=True,
    )
    for found, adapted in both:
        found.merge(adapted)
        for name in (*found.methods, "best fixed reciprocal, chosen in hindsight"):
            gain = found.difference(name, (1.0, BASE))
            rows.append(
                {
                    "triple": list(found.triple),
                    "method": name,
                    "agreement": round(found.agreement(name), 4),
                    "against_base": [round(x, 4) for x in (gain.mean, gain.low, gain.high)],
                }
            )
        print(found.triple, f"{time.perf_counter() - start:.0f} s", flush=True)  # noqa: T201
    report = {
        "suite": "lowlight_ablation",
        "arguments": {k: str(v) for k, v in vars(args).items()},
        "teacher": "efficientnet-lite0",
        "trusted_cuts": len(keep),
        "photographs": len(shown),
        "crops": len(crops),
        "draws": args.draws,
        "base": BASE,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "seconds": time.perf_counter() - start,
        "rows": rows,
    }
    (args.out / "ablation.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
