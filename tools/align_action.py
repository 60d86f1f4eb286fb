"""Align a curve to the frozen action recogniser on dark clips, and judge what it sees by it.

    python tools/prepare_photos.py PHOTOS
    python tools/align_action.py --photos PHOTOS --weights OUT/action.safetensors --out OUT

Dark clips are rendered motions of the validation split, darkened by calibrated sensor noise: one
camera and exposure a clip, new noise in every frame. The daylight clips of the pretext are other
motions. Neither labels nor daylight twins are used. Judged are clips of the test split (other
motions, other cameras, other photographs) under the five fixed darknesses. Every curve is one for
the whole clip. Writes OUT/action--METHOD.safetensors with its .json and .log.json, and
OUT/action_lowlight.json: item by item, whether the daylight answer was given again, and the shares
of true answers. A run that was broken off goes on with the curves that it left if they were learned
by the same weights and arguments.
"""

import argparse
import dataclasses
import hashlib
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from action_clips import Clips, bank, photographs
from torch import Tensor

from foveal import lowlight
from foveal.data.sensor_noise import TRIPLES, draw_shot, shoot
from foveal.errors import ArgumentError
from foveal.lowlight import baselines
from foveal.lowlight.evaluate import fixed_methods, judge_in_the_dark
from foveal.lowlight.outcomes import Outcomes
from foveal.teachers.action import ActionNet

LEARNED_BY = {
    "photos", "count", "steps", "head_steps", "batch", "lr", "confidence", "sharpen", "low", "high",
    "seed",
}  # fmt: skip
"""Arguments that a curve depends on."""


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def darkened(clip: Tensor, seed: int, factor: tuple[float, float]) -> Tensor:
    """Return a clip (t, 3, h, w) as one camera takes it in the dark."""
    shot = draw_shot(seed, source="eld", factor=factor)
    seeds = [(shot.seed + 7919 * frame) % 2**62 for frame in range(len(clip))]
    return shoot(clip, [dataclasses.replace(shot, seed=x) for x in seeds])


def rendered(
    split: str,
    count: int,
    each: int,
    net: ActionNet,
    args: argparse.Namespace,
    device: str,
    seed: int,
) -> tuple[list[Tensor], list[int]]:
    """Return clips of a split, actions in turns, and their actions."""
    motions = bank(split, each, "cpu", seed=args.seed)
    motions.places, motions.sizes = motions.places.to(device), motions.sizes.to(device)
    folder = args.photos and args.photos / ("test" if split == "test" else "train")
    source = Clips(
        motions, split, size=net.size, frames=net.frames, seed=seed,
        photos=photographs(folder, net.size * 7 // 5, device),
    )  # fmt: skip
    order = torch.arange(len(motions.label)).view(len(net.names), each).T.flatten()
    which = order.repeat(-(-count // len(order)))[:count]
    clips: list[Tensor] = []
    labels: list[int] = []
    for some in which.split(32):
        frames, label = source.draw(some)
        clips += list(frames)
        labels += label.tolist()
    return clips, labels


def align(
    method: str, net: ActionNet, dark: list[Tensor], day: list[Tensor], args: argparse.Namespace,
    device: str,
) -> lowlight.ConcaveCurve:  # fmt: skip
    """Align by one method, write the curve and its log."""
    steps: list[dict[str, Any]] = []
    start = time.perf_counter()

    def note(step: lowlight.AlignmentStep) -> None:
        last = step.step == step.num_steps
        if step.held_out is not None or last or time.perf_counter() - start > args.limit:
            fields = ("stage", "step", "loss", "held_out", "right")
            steps.append({x: getattr(step, x) for x in fields})
            say(f"{method} {steps[-1]} {time.perf_counter() - start:.0f} s")

    curve = lowlight.align(
        net,
        dark=dark,
        normal=day,
        method=method,
        num_steps=args.steps,
        head_steps=args.head_steps,
        batch_size=args.batch,
        learning_rate=args.lr,
        confidence=args.confidence,
        sharpen=args.sharpen,
        seed=args.seed,
        on_step=note,
    )
    stem = args.out / f"action--{method}"
    curve.save(stem.with_suffix(".safetensors"))
    log = {
        "learned_by": learned_by(net, args),
        "arguments": {k: str(v) for k, v in vars(args).items()},
        "dark_clips": len(dark),
        "daylight_clips": len(day),
        "seconds": time.perf_counter() - start,
        "device": name_of(device),
        "torch": torch.__version__,
        "steps": steps,
    }
    stem.with_name(f"{stem.name}.log.json").write_text(json.dumps(log, indent=1) + "\n")
    return curve


def learned_by(net: ActionNet, args: argparse.Namespace) -> dict[str, str]:
    """Return all that a curve depends on."""
    digest = hashlib.sha256()
    for x in net.state_dict().values():
        digest.update(x.detach().cpu().numpy().tobytes())
    asked = {k: str(v) for k, v in vars(args).items() if k in LEARNED_BY}
    return {**asked, "network": digest.hexdigest()}


def is_of_this_run(file: Path, net: ActionNet, args: argparse.Namespace) -> bool:
    """Return whether a curve is there and complete, and was learned as it would be now."""
    log = file.with_suffix(".log.json")
    if not file.exists() or not log.exists():
        return False
    return json.loads(log.read_text()).get("learned_by") == learned_by(net, args)


def name_of(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else platform.machine()


def tables(outcomes: Outcomes) -> list[dict[str, Any]]:
    return [dataclasses.asdict(row) for row in outcomes.summarize()]


def main() -> None:
    """Align, judge, write after each darkness."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--weights", type=Path, default=None, help="default: the packaged ones")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="*", default=["ensemble", "pretext"])
    parser.add_argument("--count", type=int, default=224, help="dark clips")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--head-steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--confidence", type=float, default=0.3)
    parser.add_argument("--sharpen", type=float, default=2.0)
    parser.add_argument("--low", type=float, default=0.003, help="least exposure factor")
    parser.add_argument("--high", type=float, default=0.08, help="greatest exposure factor")
    parser.add_argument("--limit", type=float, default=240, help="seconds before all is printed")
    parser.add_argument("--clips", type=int, default=308, help="that are judged")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--label-draws", type=int, default=2, help="judged by the true action too")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = ActionNet.load(args.weights).to(device)
    each = -(-args.clips // len(net.names))
    clips, labels = rendered("test", args.clips, each, net, args, device, 1)
    half = -(-args.count // len(net.names))
    seen, _ = rendered("val", 2 * args.count, 2 * half, net, args, device, 2)
    night, day = seen[: args.count], seen[args.count :]
    dark = [darkened(x, args.seed + i, (args.low, args.high)) for i, x in enumerate(night)]
    say(f"clips {time.perf_counter() - start:.0f} s")
    curves: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for method in args.methods:
        file = args.out / f"action--{method}.safetensors"
        if is_of_this_run(file, net, args):
            curves[f"aligned, {method}"] = lowlight.ConcaveCurve.load(file).to(device)
            continue
        try:
            curves[f"aligned, {method}"] = align(method, net, dark, day, args, device)
        except ArgumentError as error:  # it cannot be aligned this way: the others can
            failed[method] = str(error)
            say(f"{method}: {error}")
    methods = {
        **fixed_methods(),
        **curves,
        "random-init curve": baselines.make("random-curve"),
        "shipped curve": lowlight.ConcaveCurve.load().to(device),
    }
    with torch.no_grad():
        answers = [int(net(x.transpose(0, 1)[None]).argmax()) for x in clips]
    right = sum(a == b for a, b in zip(answers, labels, strict=True)) / len(labels)
    say(f"by day {right:.3f} right; {time.perf_counter() - start:.0f} s")
    result: dict[str, Any] = {
        "arguments": {k: str(v) for k, v in vars(args).items()},
        "names": list(net.names),
        "clips": len(clips),
        "draws": args.draws,
        "label_draws": args.label_draws,
        "daylight_accuracy": right,
        "failed": failed,
        "device": name_of(device),
        "torch": torch.__version__,
        "rows": [],
        "true_rows": [],
        "outcomes": [],
    }
    groups = list(range(len(clips)))

    def judge(triple: Any, truth: list[int] | None, draws: int) -> Outcomes:
        found = judge_in_the_dark(
            net, clips, groups, methods, triples=[triple], draws=draws, seed=args.seed,
            labels=truth,
        )  # fmt: skip
        return next(found)

    for triple in TRIPLES:
        again = judge(triple, None, args.draws)
        result["rows"] += tables(again)
        result["outcomes"].append(again.to_json())
        if args.label_draws:
            result["true_rows"] += tables(judge(triple, labels, args.label_draws))
        result["seconds"] = time.perf_counter() - start
        (args.out / "action_lowlight.json").write_text(json.dumps(result, indent=1) + "\n")
        for row in again.summarize():
            if not row.method.startswith("reciprocal"):
                say(str(row))
        say(f"{triple} {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
