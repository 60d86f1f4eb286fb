"""Train and judge codecs for the features of taskworld's task networks.

    PYTHONPATH=src:tools python tools/train_task_codecs.py --features features --out out \
        --jobs joint:codebook-global:scene,segmentation,normal,reshading:2.0 \
               separate:spatial:scene,segmentation,normal,reshading:2.0

A job is SCHEME:PRIOR:TASKS:MINUTES[:NAME[:OPTION=VALUE,...]], SCHEME one of joint, separate and
conditional; frozen=analysis leaves what has that in its name as it was drawn (a random stream);
transforms=FILE takes all but the prior from another codec and trains the prior alone, so that
latents are the same for all priors.
Each writes NAME.safetensors (with its JSON), NAME.log.json (settings, losses) and NAME.npz: for
each split and quality the bytes of every image's own file, and per task the sums that scores are
made of, so that any two codecs can be compared image by image afterwards. What is there already is
left alone, and a codec in training is kept every 500 steps, so that an interrupted run goes on.
"""

import argparse
import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from task_features import read
from torch import Tensor

from foveal.codec import schemes
from foveal.codec.config import Source
from foveal.codec.model import FeatureCodec
from foveal.codec.stream import decode, encode
from foveal.codec.stream import split as split_images
from foveal.codec.training import ANSWER, Objective, TrainOptions, train
from foveal.teachers.task_losses import distillation_loss
from foveal.teachers.task_network import TaskBank, TaskNetwork
from foveal.teachers.task_scores import sums

QUALITIES = (0, 6, 12, 18, 24, 30, 35, 40, 45, 50, 56, 63)
SCHEMES = {
    "joint": schemes.joint,
    "separate": schemes.separate,
    "conditional": schemes.conditional,
}


@dataclass(frozen=True)
class Job:
    """One codec to train."""

    scheme: str
    prior: str
    tasks: tuple[str, ...]
    minutes: float
    name: str
    options: dict[str, str]

    @classmethod
    def of(cls, text: str) -> "Job":
        """Read SCHEME:PRIOR:TASKS:MINUTES[:NAME[:OPTIONS]]."""
        parts = text.split(":")
        name = parts[4] if len(parts) > 4 and parts[4] else f"{parts[0]}-{parts[1]}"
        options = dict(item.split("=") for item in parts[5].split(",")) if len(parts) > 5 else {}
        known = {f.name for kind in (schemes.Sizes, TrainOptions) for f in dataclasses.fields(kind)}
        unknown = sorted(set(options) - known - {"frozen", "transforms"})
        if parts[0] not in SCHEMES or unknown:
            sys.exit(
                f"train_task_codecs: job {text!r} has scheme {parts[0]!r} and options {unknown}, "
                f"must have one of {list(SCHEMES)} and some of {sorted(known)}, frozen, transforms"
            )
        return cls(parts[0], parts[1], tuple(parts[2].split(",")), float(parts[3]), name, options)


def source_of(network: TaskNetwork, arch: str) -> Source:
    """Return the source that a task network is."""
    name = network.task.name
    return Source(
        name, 8, "map", 16, 16, True, teacher=f"tasks-{arch}/{name}", sha256=network.sha256
    )


def objectives(
    bank: TaskBank, features: dict[str, Tensor], tasks: tuple[str, ...]
) -> dict[str, Objective]:
    """Return each task's objective; the unit is the distance of the answer to mean features."""
    out: dict[str, Objective] = {}
    for task in tasks:
        sample = features[task][:256].float()
        network = bank[task]

        def answer(x: Tensor, network: TaskNetwork = network) -> Tensor:
            return network.decode(x, check=False)

        def distance(got: Tensor, wanted: Tensor, task: str = task) -> Tensor:
            return distillation_loss(task, got, wanted)

        with torch.no_grad():
            mean = sample.mean(0, keepdim=True).expand_as(sample)
            unit = float(distance(answer(mean), answer(sample)).mean())
        weight = WEIGHTS.get(task, 1.0)
        out[task] = Objective(answer, distance, unit=max(unit, 1e-6), weight=weight)
    return out


WEIGHTS = {"segmentation": 2.0, "scene": 0.5}
"""Of tasks in the loss: the least of all retentions is to be high too."""


@torch.no_grad()
def answered(features: dict[str, Tensor], objectives: dict[str, Objective]) -> dict[str, Tensor]:
    """Return the networks' answers to all features, fp16, so that no step works them out again."""
    out: dict[str, Tensor] = {}
    for task, objective in objectives.items():
        parts = [objective.answer(x.float()).half() for x in features[task].split(128)]
        out[f"{ANSWER}{task}"] = torch.cat(parts)
    return out


def batches_of(features: dict[str, Tensor]) -> Any:
    """Return a function that draws batches from features on the device."""
    count = len(next(iter(features.values())))
    device = next(iter(features.values())).device

    def batches(size: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(count, (size,), generator=generator).to(device)
        return {name: value[index].float() for name, value in features.items()}

    return batches


@torch.no_grad()
def judge(
    model: FeatureCodec,
    bank: TaskBank,
    split: dict[str, Tensor],
    *,
    tasks: tuple[str, ...] | None = None,
    qualities: tuple[int, ...] = QUALITIES,
    order: Any = None,
) -> dict[str, NDArray[Any]]:
    """Return bytes [q, n] of one-image files and sums [q, n, k] per task."""
    layers = {name for layer in model.config.layers for name in layer.inputs}
    features = {name: split[f"features/{name}"].float() for name in layers}
    out: dict[str, list[NDArray[Any]]] = {}
    for quality in qualities:
        stream = encode(model, features, tasks=tasks, quality=quality, order=order)
        total = np.array([len(one) for one in split_images(stream.payload)])
        decoded = decode(model, stream.payload, tasks=tasks, max_symbols=1 << 40)
        out.setdefault("bytes", []).append(total)
        details = stream.receipt.details
        out.setdefault("side_bytes", []).append(
            np.array(details["side_bits"] / 8 / details["images"])
        )
        for task, value in decoded.items():
            out.setdefault(f"sums/{task}", []).append(task_sums(bank, task, value, split))
    return {name: np.stack(values) for name, values in out.items()}


@torch.no_grad()
def task_sums(
    bank: TaskBank, task: str, features: Tensor, split: dict[str, Tensor]
) -> NDArray[np.float64]:
    """Return the score sums of every image, answered from features."""
    rows: list[Tensor] = []
    target, mask = split[f"target/{task}"], split.get(f"mask/{task}")
    target = target.float() if target.is_floating_point() else target.long()
    for i in range(0, len(features), 100):
        answer = bank[task].decode(features[i : i + 100].float(), check=False)
        part = None if mask is None else mask[i : i + 100]
        rows.append(sums(task, answer, target[i : i + 100], part))
    return torch.cat(rows).cpu().numpy()


def make(
    job: Job, args: argparse.Namespace, bank: TaskBank, features: dict[str, Tensor]
) -> FeatureCodec:
    """Train and save one codec."""
    torch.manual_seed(args.seed)
    config = SCHEMES[job.scheme](
        [source_of(bank[task], args.arch) for task in job.tasks], sizes_of(job)
    )
    model = FeatureCodec(config).to(args.device)
    own = {task: features[task] for task in job.tasks}
    model.start({name: value[:1024].float() for name, value in own.items()})
    only = ""
    if "transforms" in job.options:
        only = ".prior."
        held = FeatureCodec.load(job.options["transforms"]).to(args.device).state_dict()
        kept = {k: v for k, v in held.items() if only not in k}
        missing = model.load_state_dict(kept, strict=False)
        if missing.unexpected_keys or any(only not in k for k in missing.missing_keys):
            sys.exit(f"train_task_codecs: {job.name}: transforms are of another shape")
        for layer in config.layers:  # priors begin with the scales of these latents
            latents = model.latents(layer, own)
            model.layer(layer.name).prior.start(latents - latents.mean((0, 2, 3), keepdim=True))
    options = options_of(job, args)
    begin = time.perf_counter()
    aims = {} if only else objectives(bank, own, job.tasks)
    log = train(
        model,
        batches_of(own | answered(own, aims)),
        aims,
        options,
        trainable=lambda name: only in name and job.options.get("frozen", "\n") not in name,
        checkpoint=args.out / f"{job.name}.resume.safetensors",
    )
    spent = time.perf_counter() - begin
    counted = {name: value[-args.counted :].float() for name, value in own.items()}
    model.finalise(counted)
    model.save(args.out / f"{job.name}.safetensors")
    note = {
        "commit": args.commit,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "CPU",
        "torch": torch.__version__,
        "job": dataclasses.asdict(job),
        "options": dataclasses.asdict(options),
        "parameters": sum(p.numel() for p in model.parameters()),
        "scenes": len(next(iter(own.values()))),
        "steps": log.steps,
        "no_graph": log.no_graph,
        "seconds": {"training": spent, "finalise": time.perf_counter() - begin - spent},
        "losses": log.rows,
    }
    (args.out / f"{job.name}.log.json").write_text(json.dumps(note, indent=1) + "\n")
    return model


def sizes_of(job: Job) -> schemes.Sizes:
    """Return the sizes that a job's options ask for."""
    own = {
        f.name: type(f.default)(int(job.options[f.name]))
        for f in dataclasses.fields(schemes.Sizes)
        if f.name in job.options
    }
    return schemes.Sizes(**{"prior": job.prior, **own})  # type: ignore[arg-type]


def options_of(job: Job, args: argparse.Namespace) -> TrainOptions:
    """Return the training options of a job."""
    own: dict[str, Any] = {}
    for f in dataclasses.fields(TrainOptions):
        if f.name in job.options:
            own[f.name] = type(f.default)(job.options[f.name])
    base: dict[str, Any] = {
        "steps": 1_000_000 if job.minutes > 0 else args.steps,
        "minutes": job.minutes,
        "seed": args.seed,
        "precision": "bf16" if args.device == "cuda" else "fp32",
        "warm_up": 0.0,
        "subsets": 0.3 if job.scheme == "joint" else 0.5,
        "lowest": 2000.0,
        "highest": 200000.0,
        "alpha": 0.02,
        "batch": 32,
    }
    return TrainOptions(**{**base, **own})


def run(args: argparse.Namespace) -> None:
    """Do all jobs."""
    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True
    args.out.mkdir(parents=True, exist_ok=True)
    bank = TaskBank.load(None, args.arch, source=args.tasks).to(device)
    features = read(args.features, "train", device)
    splits = {split: read(args.features, split, device) for split in args.splits}
    for job in map(Job.of, args.jobs):
        path = args.out / f"{job.name}.safetensors"
        if (args.out / f"{job.name}.npz").exists():
            continue
        model = (
            FeatureCodec.load(path).to(device) if path.exists() else make(job, args, bank, features)
        )
        begin = time.perf_counter()
        found: dict[str, NDArray[Any]] = {"qualities": np.array(args.qualities)}
        for split, tensors in splits.items():
            found |= {
                f"{split}/{k}": v
                for k, v in judge(model, bank, tensors, qualities=tuple(args.qualities)).items()
            }
        np.savez_compressed(args.out / f"{job.name}.npz", **found)
        sys.stdout.write(f"{job.name}: judged in {time.perf_counter() - begin:.0f} s\n")
        sys.stdout.flush()


def main() -> None:
    """Parse the command line and run the jobs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, required=True, help="folder of task_features.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", nargs="+", required=True)
    parser.add_argument("--tasks", type=Path, help="file of the networks; default: the packaged")
    parser.add_argument("--arch", default="residual")
    parser.add_argument("--splits", nargs="*", default=["val", "test"])
    parser.add_argument("--qualities", nargs="+", type=int, default=list(QUALITIES))
    parser.add_argument("--steps", type=int, default=20000, help="where a job's minutes are 0")
    parser.add_argument("--counted", type=int, default=2048, help="scenes that tables count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commit", default="")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
