"""Train the task networks on taskworld, all at once in one process, and measure them in 8 bits.

One command, one GPU, 8 minutes from the first scene to the last figure:

    PYTHONPATH=src python tools/train_tasks.py --out out --minutes 8 --commit $(git rev-parse HEAD)

Scenes are rendered once and kept on the device; every network learns from the same batches. Writes
`tasks-ARCH.safetensors` (and the JSON file beside it) for each architecture, `tasks.log.json`, and
`tasks-ARCH.resume.safetensors`, from which `--resume` goes on (with new moments of the optimizer).
`--minutes` is of all of it: scenes take at most a quarter, figures at the end are allowed for.
On a CPU: `--scenes 8 --held-out 4 --steps 2 --batch 2 --tasks scene`.
"""

import argparse
import copy
import json
import math
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from task_scenes import Scenes, jitter, mirrored, render
from torch import Tensor

from foveal.data import taskworld
from foveal.teachers.task_layers import ARCHITECTURES, multiply_adds
from foveal.teachers.task_losses import task_loss
from foveal.teachers.task_network import (
    SIZE,
    TaskNetwork,
    dead_channels,
    load_networks,
    save_networks,
)
from foveal.teachers.task_scores import best_constant, chance, scores, sums

CONTROL = ("scene", "segmentation", "normal", "reshading")
"""Tasks that the second architecture learns."""
HELD_OUT = ("val", "test", "shift")
EVERY = 50
"""Steps between two rows of the log."""


class Trainee:
    """One network that learns: its average, its optimizer and, on a GPU, its recorded step."""

    def __init__(
        self, task: str, arch: Any, args: argparse.Namespace, device: torch.device
    ) -> None:
        """Make it, with its own seed."""
        order = list(taskworld.TASKS).index(task) + 100 * ARCHITECTURES.index(arch)
        torch.manual_seed(1000 * args.seed + order)  # alike at the start, they would stay alike
        self.task, self.arch, self.device = task, arch, device
        self.name = f"{arch}/{task}"
        self.model = TaskNetwork(task, arch).to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).freeze()
        self.cuda = device.type == "cuda"
        rate: Any = torch.tensor(0.0, device=device) if self.cuda else 0.0
        parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": args.decay},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=rate,
            fused=self.cuda,
            **({"capturable": True} if self.cuda else {}),
        )
        self.lag = torch.tensor(1.0, device=device)
        self.loss = torch.zeros((), device=device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream() if self.cuda else None

    def learn(self, images: Tensor, target: Tensor, mask: Tensor | None) -> None:
        """Do one step; nothing here waits for the device."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.cuda, cache_enabled=False
        ):
            answer = self.model(images, check=False)
        loss = task_loss(self.task, answer, target, mask)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            mine, average = tensors_of(self.model), tensors_of(self.average)
            change = torch._foreach_sub(mine, average)
            torch._foreach_mul_(change, self.lag)
            torch._foreach_add_(average, change)
            self.loss.copy_(loss)

    def record(self, images: Tensor, target: Tensor, mask: Tensor | None) -> None:
        """Record a step on these very tensors, after some that are not recorded."""
        assert self.stream is not None
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(4):
                self.learn(images, target, mask)
        torch.cuda.current_stream().wait_stream(self.stream)
        torch.cuda.synchronize()
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.learn(images, target, mask)
        self.graph = graph

    def step(self, images: Tensor, target: Tensor, mask: Tensor | None) -> None:
        """Do one step on this network's own stream."""
        if self.stream is None:
            self.learn(images, target, mask)
            return
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            if self.graph is None:
                self.learn(images, target, mask)
            else:
                self.graph.replay()

    def pace(self, rate: float, lag: float) -> None:
        """Set the learning rate, and how fast the average follows."""
        self.lag.fill_(lag)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def tensors_of(model: TaskNetwork) -> list[Tensor]:
    """Return weights and running statistics, in one order."""
    buffers = [b for b in model.buffers() if b.is_floating_point()]
    return [*(p.detach() for p in model.parameters()), *buffers]


@torch.no_grad()
def kept_sums(network: TaskNetwork, scenes: Scenes, batch: int = 100) -> tuple[Tensor, list[int]]:
    """Return the sums of all scenes, answered in fp32, and the channels that stay zero."""
    rows: list[Tensor] = []
    largest: list[Tensor] = []
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        for index in torch.arange(len(scenes), device=scenes.images.device).split(batch):
            images, labels = scenes.pick(index)
            features = network.encode(images, check=False)
            largest.append(features.amax(0, keepdim=True))
            answer = network.decode(features)
            rows.append(sums(network.task.name, answer, *labels[network.task.name]))
    return torch.cat(rows), dead_channels(torch.cat(largest))


def measured(network: TaskNetwork, held_out: dict[str, Scenes], answer: Tensor) -> dict[str, Any]:
    """Return the scores on each held-out split, and those of the best constant answer."""
    task, out = network.task.name, {}
    for split, scenes in held_out.items():
        kept, dead = kept_sums(network, scenes)
        target, mask = scenes.targets[task], scenes.masks.get(task)
        target = target.float() if target.is_floating_point() else target.long()
        out[split] = {
            "scores": (found := scores(task, kept)),
            "chance": {
                m: chance(task, target, mask, answer=answer.to(target.device), measure=m)
                for m in found
            },
            "scenes": len(kept),
            "dead_channels": dead,
        }
    return out


def train(
    trainees: list[Trainee],
    scenes: Scenes,
    val: Scenes,
    args: argparse.Namespace,
    log: dict[str, Any],
    until: float,
) -> None:
    """Let all learn until the time or the steps are up; the averages are what counts."""
    device = scenes.images.device
    start, step = time.time(), log["steps"]
    first = min(1.0, step / args.steps) if args.steps else log["progress"]
    rest = max(1.0, until - start)
    static: tuple[Tensor, dict[str, tuple[Tensor, Tensor | None]]] | None = None
    progress, saved, looked = first, start, first
    while progress < 1 and (step < args.steps or args.steps == 0):
        index = torch.randint(len(scenes), (args.batch,), device=device)
        images, labels = scenes.pick(index)
        if args.mirror:
            flip = torch.rand(args.batch, device=device) < 0.5
            images, labels = mirrored(images, labels, flip)
        images = jitter(images, args.jitter).contiguous(memory_format=torch.channels_last)
        if static is None:
            static = (images, labels)
        else:
            static[0].copy_(images)
            for task, (target, mask) in labels.items():
                kept_target, kept_mask = static[1][task]
                kept_target.copy_(target)
                if mask is not None and kept_mask is not None:
                    kept_mask.copy_(mask)
        warm = min(1.0, (step + 1 - log["resumed_at"]) / args.warm_up)
        rate = args.lr * warm * (0.005 + 0.995 * (1 + math.cos(math.pi * progress)) / 2)
        lag = max(0.002, 9 / (10 + step - log["resumed_at"]))
        for trainee in trainees:
            trainee.pace(rate, lag)
            if step == log["resumed_at"] and args.graphs and trainee.cuda and "graphs" not in log:
                try:
                    trainee.record(static[0], *static[1][trainee.task])
                except RuntimeError as error:  # slower without, but no reason to stop
                    log["graphs"] = f"{trainee.name}: {error}"
                    print(log["graphs"], flush=True)  # noqa: T201
        for trainee in trainees:
            trainee.step(static[0], *static[1][trainee.task])
        for trainee in trainees:
            if trainee.stream is not None:
                torch.cuda.current_stream().wait_stream(trainee.stream)
        step += 1
        if device.type == "cuda" and step % 10 == 0:
            torch.cuda.synchronize()
        progress = first + (1 - first) * min(1.0, (time.time() - start) / rest)
        if args.steps:
            progress = max(progress, step / args.steps)
        log |= {"steps": step, "progress": progress}
        if step % EVERY == 1:
            losses = {t.name: float(t.loss) for t in trainees}
            lost = [name for name, loss in losses.items() if not math.isfinite(loss)]
            losses = {n: None if n in lost else round(loss, 5) for n, loss in losses.items()}
            row = {"step": step, "seconds": round(time.time() - start, 2), "losses": losses}
            log["rows"].append(row)
            print(json.dumps(row), flush=True)  # noqa: T201
            for trainee in [t for t in trainees if t.name in lost]:
                log["diverged"].append(trainee.name)
                trainees.remove(trainee)
        if progress - looked > 0.3 and progress < 0.95:
            looked = progress
            look(trainees, val, step, log)
        if time.time() - saved > 60:
            saved = time.time()
            keep(trainees, args, log)
    log["train_seconds"] = log.get("train_seconds", 0.0) + time.time() - start
    keep(trainees, args, log)


def look(trainees: list[Trainee], val: Scenes, step: int, log: dict[str, Any]) -> None:
    """Log the averages' scores on the first 200 validation scenes, in fp32."""
    few = Scenes(
        val.images[:200],
        {t: x[:200] for t, x in val.targets.items()},
        {t: x[:200] for t, x in val.masks.items()},
    )
    row: dict[str, Any] = {"step": step, "val": {}}
    for trainee in trainees:
        kept, dead = kept_sums(trainee.average, few)
        row["val"][trainee.name] = scores(trainee.task, kept) | {"dead_channels": len(dead)}
    log["looks"].append(row)
    print(json.dumps(row), flush=True)  # noqa: T201


def keep(trainees: list[Trainee], args: argparse.Namespace, log: dict[str, Any]) -> None:
    """Write the averages, to go on from, and the log."""
    for arch in args.arch:
        state = {
            f"{t.task}/{name}": value.contiguous()
            for t in trainees
            if t.arch == arch
            for name, value in t.average.state_dict().items()
        }
        if state:
            save_file(state, args.out / f"tasks-{arch}.resume.safetensors")
    (args.out / "tasks.log.json").write_text(json.dumps(log, indent=1, allow_nan=False) + "\n")


def resume(trainees: list[Trainee], args: argparse.Namespace, log: dict[str, Any]) -> None:
    """Take up the averages and the log of an earlier run."""
    for arch in args.arch:
        state = load_file(args.out / f"tasks-{arch}.resume.safetensors")
        for trainee in [t for t in trainees if t.arch == arch]:
            start = f"{trainee.task}/"
            mine = {n.removeprefix(start): v for n, v in state.items() if n.startswith(start)}
            trainee.model.load_state_dict(mine)
            trainee.average.load_state_dict(mine)
    earlier = json.loads((args.out / "tasks.log.json").read_text())
    log |= {k: earlier[k] for k in ("rows", "looks", "steps", "progress", "train_seconds")}
    log["resumed_at"] = earlier["steps"]


def finish(
    trainees: list[Trainee],
    scenes: Scenes,
    held_out: dict[str, Scenes],
    args: argparse.Namespace,
    log: dict[str, Any],
) -> None:
    """Write the 8-bit files, and measure what was written."""
    constants = {
        task: best_constant(
            task,
            t.float() if (t := scenes.targets[task][:1500]).is_floating_point() else t.long(),
            scenes.masks[task][:1500] if task in scenes.masks else None,
        )
        for task in scenes.targets
    }
    for arch in args.arch:
        mine = [t for t in trainees if t.arch == arch]
        if not mine:
            continue
        path = args.out / f"tasks-{arch}.safetensors"
        about = {"commit": args.commit, "world": taskworld.VERSION, "steps": log["steps"]}
        save_networks(path, [t.average.cpu() for t in mine], about=about)
        for task, network in load_networks(arch=arch, source=path).items():
            size = torch.zeros((1, 3, SIZE, SIZE))
            result: dict[str, Any] = {
                "parameters": sum(p.numel() for p in network.parameters()),
                "multiply_adds": multiply_adds(network, lambda n=network, x=size: n(x)),
                "sha256": network.sha256,
            }
            network.to(scenes.images.device)
            result |= measured(network, held_out, constants[task])
            log["results"][f"{arch}/{task}"] = result
            line = {s: result[s]["scores"] | {"chance": result[s]["chance"]} for s in held_out}
            print(f"{arch}/{task}", json.dumps(line), flush=True)  # noqa: T201
    (args.out / "tasks.log.json").write_text(json.dumps(log, indent=1, allow_nan=False) + "\n")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0, help="of the whole command")
    parser.add_argument("--tasks", nargs="+", default=list(taskworld.TASKS), metavar="TASK")
    parser.add_argument("--arch", nargs="+", default=list(ARCHITECTURES), choices=ARCHITECTURES)
    parser.add_argument("--scenes", type=int, default=24_000, help="to train on, at most")
    parser.add_argument("--held-out", type=int, default=500, help="scenes of each other split")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=0, help="at most; 0: until the time is up")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--warm-up", type=int, default=200, help="steps")
    parser.add_argument("--jitter", type=float, default=0.15)
    parser.add_argument("--mirror", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--graphs", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--workers", type=int, default=12, help="that draw scenes, on a GPU machine"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commit", default="", help="that the log is to name")
    parser.add_argument("--resume", action="store_true", help="go on from what lies in --out")
    args = parser.parse_args(arguments)
    if not args.minutes > 0:
        parser.error(f"--minutes is {args.minutes}, must be > 0")
    unknown = [t for t in args.tasks if t not in taskworld.TASKS]
    if unknown:
        parser.error(f"--tasks has {unknown}, must be of {list(taskworld.TASKS)}")
    if min(args.scenes, args.held_out, args.batch, args.warm_up) < 1:
        parser.error("--scenes, --held-out, --batch and --warm-up must be at least 1")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    args, begin = parsed(arguments), time.time()
    device, cuda = torch.device(args.device), args.device.startswith("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    args.out.mkdir(parents=True, exist_ok=True)
    log: dict[str, Any] = {
        "arguments": {k: str(v) for k, v in vars(args).items()},
        "commit": args.commit,
        "world": taskworld.VERSION,
        "device": torch.cuda.get_device_name() if cuda else platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **{"rows": [], "looks": [], "results": {}, "diverged": []},
        **{"steps": 0, "progress": 0.0, "resumed_at": 0, "train_seconds": 0.0},
    }
    with ExitStack() as stack:
        pool: Any = stack.enter_context(
            ProcessPoolExecutor(args.workers, get_context("spawn")) if cuda and args.workers
            else nullcontext()
        )  # fmt: skip
        chunk = 64 if cuda else 4
        held_out = {
            split: render(split, args.held_out, args.tasks, device, chunk=chunk, pool=pool)
            for split in HELD_OUT
        }
        scenes = render(
            "train", args.scenes, args.tasks, device, chunk=chunk, pool=pool,
            until=begin + 15 * args.minutes, floats=torch.float16,
        )  # fmt: skip
    log |= {"render_seconds": time.time() - begin, "scenes": len(scenes)}
    print(f"{len(scenes)} scenes in {log['render_seconds']:.1f} s", flush=True)  # noqa: T201
    trainees = [
        Trainee(task, arch, args, device)
        for arch in args.arch
        for task in args.tasks
        if arch == "residual" or task in CONTROL or args.arch == ["separable"]
    ]
    if args.resume:
        resume(trainees, args, log)
    torch.manual_seed(args.seed + log["resumed_at"])
    ending = 5 + 2.5 * len(trainees) if cuda else 0
    train(trainees, scenes, held_out["val"], args, log, begin + 60 * args.minutes - ending)
    finish(trainees, scenes, held_out, args, log)
    log["seconds"] = time.time() - begin
    (args.out / "tasks.log.json").write_text(json.dumps(log, indent=1, allow_nan=False) + "\n")
    print(f"{log['seconds']:.0f} s, {log['steps']} steps; lost: {log['diverged']}")  # noqa: T201
    return int(bool(log["diverged"]))


if __name__ == "__main__":
    sys.exit(main())
