"""Align a curve to the frozen flow network on dark clips, and measure its flow in the dark.

    python tools/prepare_photos.py PHOTOS
    python tools/align_flow.py --photos PHOTOS --out OUT --method pretext ensemble

Clips are layers that move by known motions. The photographs of PHOTOS/train are parted in two: of
one part come the dark clips, of the other the daylight ones that the pretext learns by; the true
flow is not used. Measured on clips of PHOTOS/test under five darknesses, all methods on the same
noise. Writes OUT/flow--METHOD.safetensors, OUT/flow--METHOD.log.json and OUT/flow_lowlight.json.
"""

import argparse
import dataclasses
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from train_flow import files_of, load_squares

from foveal import lowlight
from foveal.data.moving_layers import MovingScenes, moving_layers
from foveal.data.sensor_noise import draw_shot, shoot
from foveal.errors import ArgumentError
from foveal.lowlight import baselines
from foveal.lowlight.evaluate_flow import FlowClip, evaluate_flow
from foveal.lowlight.flow_ensemble import align_to_flow
from foveal.teachers.flow import FlowNet

TEST_SEED, DARK_SEED, DAY_SEED = 20_000_000, 1000, 2000
METHODS = ("pretext", "ensemble")


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def scenes(textures: Tensor, count: int, seed: int, args: argparse.Namespace) -> list[MovingScenes]:
    """Return scenes one by one, whose backgrounds are all textures in turn."""
    made = []
    for i in range(count):
        made.append(
            moving_layers(
                1,
                size=(args.side, args.side),
                num_frames=args.frames,
                displacement=args.displacement,
                textures=textures,
                backgrounds=[i % len(textures)],
                seed=seed + i,
                device=textures.device,
            )
        )
    return made


def darkened(clip: Tensor, seed: int, args: argparse.Namespace) -> Tensor:
    """Return a clip (t, 3, h, w) as one camera takes it in the dark: other noise in each frame."""
    shot = draw_shot(seed, source="eld", factor=(args.low, args.high))
    shots = [dataclasses.replace(shot, seed=100 * seed + i) for i in range(len(clip))]
    return shoot(clip, shots)


def align(
    method: str,
    model: FlowNet,
    dark: list[Tensor],
    day: list[Tensor],
    groups: list[int],
    args: argparse.Namespace,
) -> tuple[lowlight.ConcaveCurve, dict[str, Any]]:
    """Return the curve of one method, and how it was learned."""
    steps: list[dict[str, Any]] = []
    start = time.perf_counter()

    def note(step: lowlight.AlignmentStep) -> None:
        if step.held_out is not None or step.step % 50 == 0:
            fields = ("stage", "step", "loss", "held_out", "right")
            steps.append({x: getattr(step, x) for x in fields})
            say(f"{method} {steps[-1]} {time.perf_counter() - start:.0f} s")

    common = {
        "dark": dark, "num_steps": args.steps, "batch_size": args.batch, "learning_rate": args.lr,
        "size": args.size, "seed": args.seed, "on_step": note, "groups": groups,
    }  # fmt: skip
    if method == "pretext":
        layers = {"pyramid": model.layers, "default": None}[args.layers]
        curve = lowlight.align(
            model, normal=day, method="pretext", head_steps=args.head_steps, layers=layers, **common
        )
    else:
        curve = align_to_flow(model, spread=args.spread, **common)
    return curve, {"method": method, "seconds": time.perf_counter() - start, "steps": steps}


def test_clips(args: argparse.Namespace, device: str) -> list[FlowClip]:
    """Return daylight clips of the test photographs; those of one photograph are a group."""
    textures = load_squares(files_of(args.photos / "test")[: args.photographs], args.texture)
    made = scenes(textures.to(device), args.test_clips, TEST_SEED, args)
    return [FlowClip(x.frames[0], x.flow[0], x.valid[0], int(x.source[0])) for x in made]


def main() -> None:
    """Align by each method, measure once, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--method", choices=METHODS, nargs="+", required=True)
    parser.add_argument("--network", default="flow", help="packaged name or file of the weights")
    parser.add_argument("--clips", type=int, default=200, help="dark ones; as many by daylight")
    parser.add_argument("--test-clips", type=int, default=228)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--side", type=int, default=256, help="of a clip, pixels")
    parser.add_argument("--texture", type=int, default=384, help="side of a photograph, pixels")
    parser.add_argument("--size", type=int, default=192, help="what the network sees, pixels")
    parser.add_argument("--displacement", type=float, default=24.0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--head-steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--layers", choices=("pyramid", "default"), default="pyramid")
    parser.add_argument("--spread", type=float, default=1.0, help="pixels; ensemble")
    parser.add_argument("--low", type=float, default=0.003, help="least exposure factor")
    parser.add_argument("--high", type=float, default=0.08, help="greatest exposure factor")
    parser.add_argument("--photographs", type=int, default=1_000_000, help="at most, of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    begin = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = FlowNet.load(args.network).to(device)
    photos = load_squares(files_of(args.photos / "train")[: args.photographs], args.texture)
    photos = photos.to(device)
    night = scenes(photos[::2], args.clips, DARK_SEED, args)
    dark = [darkened(x.frames[0], DARK_SEED + i, args) for i, x in enumerate(night)]
    groups = [int(x.source[0]) for x in night]
    day = [x.frames[0] for x in scenes(photos[1::2], args.clips, DAY_SEED, args)]
    args.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "arguments": {k: str(v) for k, v in vars(args).items()},
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "dark_photographs": len(photos[::2]),
        "daylight_photographs": len(photos[1::2]),
    }
    random = baselines.make("random-curve")
    methods: dict[str, Any] = {
        "random curve": random.to(device) if isinstance(random, torch.nn.Module) else random,
        "shipped curve": lowlight.ConcaveCurve.load().to(device),
    }
    failed: dict[str, str] = {}
    for method in dict.fromkeys(args.method):
        try:
            curve, log = align(method, model, dark, day, groups, args)
        except ArgumentError as error:
            failed[method] = str(error)
            say(f"{method} failed: {error}")
            continue
        stem = args.out / f"flow--{method}"
        curve.save(stem.with_suffix(".safetensors"))
        stem.with_name(f"{stem.name}.log.json").write_text(
            json.dumps({**report, **log}, indent=1) + "\n"
        )
        methods[f"aligned by {method}"] = curve.to(device)
    clips = test_clips(args, device)
    report |= {"clips": len(clips), "groups": len({x.group for x in clips}), "failed": failed}
    rows: list[dict[str, Any]] = []
    for table in evaluate_flow(model, clips, methods, draws=args.draws, seed=args.seed):
        for row in table:
            rows.append(dataclasses.asdict(row))
            if not row.method.startswith("reciprocal"):
                say(str(row))
        report |= {"seconds": time.perf_counter() - begin, "rows": rows}
        (args.out / "flow_lowlight.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
