"""Heads of equal budget on frozen streams: unseen tasks, their controls, and transfer of tasks.

    PYTHONPATH=src:tools python tools/probe_tasks.py --features features --out out --task depth \
        --probes joint.safetensors random.safetensors separate.safetensors:scene,normal

A probe is MODEL[:LAYER,LAYER,...]: a head is trained on the whole stream, or one on each of the
layers. Each writes TASK-of-MODEL[-LAYER].npz: for every quality the bytes of each test image's own
file (of the layers that the head reads) and the sums that the task's scores are made of. With
--reference the sums of uncompressed features and of the best constant answers are written as
reference.npz. What is there already is left alone.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from task_features import read
from torch import Tensor
from train_task_codecs import answered, batches_of, objectives, source_of, task_sums

from foveal.codec.config import CodecConfig, Head
from foveal.codec.evaluate.taskworld_track import constant_answers
from foveal.codec.integer_model import IntegerModel
from foveal.codec.model import FeatureCodec
from foveal.codec.stream import decode, encode, split
from foveal.codec.training import ANSWER, TrainOptions, train
from foveal.teachers.task_network import TaskBank
from foveal.teachers.task_scores import sums

AT_ONCE = 100


def reference(args: argparse.Namespace, bank: TaskBank, device: torch.device) -> None:
    """Write the sums at both ends of retention."""
    constants = constant_answers(bank.tasks, device=device)
    found: dict[str, NDArray[Any]] = {}
    for name in args.splits:
        part = read(args.features, name, device)
        for task in bank.tasks:
            features = part[f"features/{task}"].float()
            found[f"{name}/full/{task}"] = task_sums(bank, task, features, part)
            target, mask = part[f"target/{task}"], part.get(f"mask/{task}")
            target = target.float() if target.is_floating_point() else target.long()
            rows: list[Tensor] = []
            for i in range(0, len(target), AT_ONCE):
                some = target[i : i + AT_ONCE]
                answer = constants[task].to(device)
                answer = answer.expand(len(some), *answer.shape[1:])
                there = None if mask is None else mask[i : i + AT_ONCE]
                rows.append(sums(task, answer, some, there))
            found[f"{name}/chance/{task}"] = torch.cat(rows).cpu().numpy()
    np.savez_compressed(args.out / "reference.npz", **found)  # type: ignore[arg-type]


def only(model: FeatureCodec, name: str) -> FeatureCodec:
    """Return the codec of one layer, which has no parents, by itself."""
    config = model.config
    layer = next(item for item in config.layers if item.name == name)
    heads = tuple(head for head in config.heads if head.layers == (name,))
    names = {*layer.inputs, *(head.name for head in heads)}
    sources = tuple(source for source in config.sources if source.name in names)
    single = FeatureCodec(CodecConfig(sources, (layer,), heads)).to(model.device)
    held = model.state_dict()
    single.load_state_dict({key: held[key] for key in single.state_dict()})
    single.adopt(IntegerModel(tuple(x for x in model.integers.layers if x.name == name), ()))
    return single


def probe(
    path: Path,
    layer: str,
    args: argparse.Namespace,
    bank: TaskBank,
    features: dict[str, Tensor],
    tests: dict[str, dict[str, Tensor]],
) -> dict[str, NDArray[Any]]:
    """Train one head and judge it."""
    torch.manual_seed(args.seed)
    task, alias = args.task, f"{args.task}-probe"
    model = FeatureCodec.load(path).to(args.device)
    model = only(model, layer) if layer else model
    layers = tuple(x.name for x in model.config.layers)
    source = source_of(bank[task], args.arch)
    data = {name: features[name] for name in model.inputs} | {alias: features[task]}
    source = type(source)(alias, 8, "map", 16, 16, True, source.teacher, source.sha256)
    model.extend(source, Head(alias, layers, external=True), features[task][:1024].float())
    data[f"{ANSWER}{alias}"] = features[f"{ANSWER}{task}"]
    options = TrainOptions(
        steps=args.steps,
        batch=32,
        lr=2e-3,
        lowest=2000.0,
        highest=200000.0,
        alpha=0.02,
        warm_up=0.0,
        subsets=0.0,
        seed=args.seed,
        precision="bf16" if args.device == "cuda" else "fp32",
    )
    begin = time.perf_counter()
    log = train(
        model,
        batches_of(data),
        {alias: objectives(bank, features, (task,))[task]},
        options,
        tasks=(alias,),
        trainable=lambda name: name.startswith(f"heads.{alias}."),
    )
    out: dict[str, NDArray[Any]] = {"qualities": np.array(args.qualities)}
    sent = [task for item in model.config.layers for task in item.tasks]
    for name, part in tests.items():
        given = {key: part[f"features/{key}"].float() for key in model.inputs}
        sizes: list[NDArray[Any]] = []
        found: list[NDArray[Any]] = []
        for quality in args.qualities:
            stream = encode(model, given, tasks=sent, quality=quality)
            sizes.append(np.array([len(one) for one in split(stream.payload)]))
            back = decode(model, stream.payload, tasks=[alias], max_symbols=1 << 40)[alias]
            found.append(task_sums(bank, task, back, part))
        out[f"{name}/bytes"], out[f"{name}/sums/{task}"] = np.stack(sizes), np.stack(found)
    spent = time.perf_counter() - begin
    sys.stdout.write(f"{task} {path.stem} {layer}: {log.steps} steps, {spent:.0f} s\n")
    sys.stdout.flush()
    return out


def run(args: argparse.Namespace) -> None:
    """Do all probes of one task."""
    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True
    args.out.mkdir(parents=True, exist_ok=True)
    bank = TaskBank.load(None, args.arch).to(device)
    if args.reference:
        reference(args, bank, device)
    if not args.task:
        return
    features = read(args.features, "train", device)
    features |= answered(features, objectives(bank, features, (args.task,)))
    tests = {name: read(args.features, name, device) for name in args.splits}
    for text in args.probes:
        path, _, layers = text.partition(":")
        for layer in layers.split(",") if layers else [""]:
            name = f"{args.task}-of-{Path(path).stem}{'-' * bool(layer)}{layer}.npz"
            if not (args.out / name).exists():
                found = probe(Path(path), layer, args, bank, features, tests)
                np.savez_compressed(args.out / name, **found)  # type: ignore[arg-type]


def main() -> None:
    """Parse the command line and run the probes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, required=True, help="folder of task_features.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", default="", help="what the heads learn")
    parser.add_argument("--probes", nargs="*", default=[])
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--arch", default="residual")
    parser.add_argument("--splits", nargs="*", default=["test"])
    parser.add_argument("--qualities", nargs="+", type=int, default=[6, 18, 30, 40, 50])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
