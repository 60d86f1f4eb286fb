"""The steps of training a codec: optimiser, average of the weights, CUDA graph, checkpoint."""

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveal._core.weights import load_weights, save_weights
from foveal.codec.checkpoint import differences, run_of
from foveal.codec.model import FeatureCodec
from foveal.codec.network import check_sources
from foveal.codec.prior.base import Prior
from foveal.codec.training_loss import (
    Batch,
    Objective,
    TrainOptions,
    draw_orders,
    draw_qualities,
    rate_task_loss,
)
from foveal.errors import ArgumentError

CHECK_EVERY = 500
KEEP_EVERY = 10
KEEP_SECONDS = 60.0
"""Between those checks a slow training is kept once a minute, at a multiple of ten steps."""
MAX_CHECKPOINT_BYTES = 16 << 30
_WARM_STEPS = 3


@dataclass
class TrainLog:
    """The loss and its parts, a row for every 500 steps and for the last."""

    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    no_graph: str = ""
    begin: int = 0
    """Step of the checkpoint that the training went on from; 0 if there was none."""
    not_kept: str = ""
    """Why the last checkpoint could not be written; empty if it was, or none was asked for."""

    @property
    def trained(self) -> int:
        """Steps of this call; 0 if the checkpoint was of this very training, and finished."""
        return self.steps - self.begin


class Loop:
    """One training; see `training.train` for the arguments."""

    def __init__(
        self,
        model: FeatureCodec,
        batches: Callable[[int, torch.Generator], Batch],
        objectives: Mapping[str, Objective],
        options: TrainOptions,
        tasks: tuple[str, ...] | None,
        trainable: Callable[[str], bool] | None,
        progress: Callable[[int, int | None], None] | None,
        checkpoint: str | Path | None,
    ) -> None:
        _check(model, objectives, tasks)
        self.model, self.batches, self.objectives = model, batches, objectives
        self.options, self.progress, self.tasks = options, progress, tasks
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        if self.checkpoint is not None and self.checkpoint.suffix != ".safetensors":
            raise ArgumentError(
                f"train: checkpoint is {self.checkpoint}, must end in .safetensors; choose another "
                "name"
            )
        self.device = model.device
        self.names: list[str] = []
        self.params: list[torch.nn.Parameter] = []
        for name, value in model.named_parameters():
            if trainable is None or trainable(name):
                self.names.append(name)
                self.params.append(value)
        if not self.params:
            raise ArgumentError(
                "train: trainable takes no parameter, must take at least one; names are those of "
                "model.named_parameters()"
            )
        on_gpu = self.device.type == "cuda"
        self.lr = torch.tensor(options.lr, device=self.device)
        self.optimizer = torch.optim.AdamW(
            self.params, lr=self.lr, betas=(0.9, 0.98), weight_decay=1e-4, capturable=on_gpu
        )
        self.ema = [p.detach().clone() for p in self.params]
        self.answers = torch.ones((), device=self.device)
        self.decay = torch.zeros((), device=self.device)
        self.inputs: dict[str, Tensor] = {}
        self.quality = torch.zeros(options.batch, len(model.pairs), device=self.device)
        self.hard = False
        self.no_graph = ""
        self.before: Tensor | None = None
        if model.config.conditional:
            places = list(model.config.order or (x.name for x in model.config.layers))
            place = torch.tensor([places.index(x.name) for x in model.config.layers])
            given = (place[:, None] > place[None]).float()
            self.before = given.to(self.device).repeat(options.batch, 1, 1)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.parts: dict[str, Tensor] = {}
        layers_of = {x.name: model.layer(x.name).prior for x in model.config.layers}
        self.priors: list[Prior] = list(layers_of.values())
        own = set(self.names)
        self.revivable = [
            prior
            for name, prior in layers_of.items()
            if {f"layers.{name}.prior.{key}" for key, _ in prior.named_parameters()} <= own
        ]
        self.states = {k: v for k, v in model.named_buffers() if v.is_floating_point()}
        self.begin_step = 0
        self.spent = 0.0
        self.about: dict[str, Any] = {}

    def _step(self) -> None:
        loss, parts = rate_task_loss(
            self.model,
            self.inputs,
            self.quality,
            self.objectives,
            self.options,
            answers=self.answers,
            hard=self.hard,
            before=self.before,
            tasks=self.tasks,
        )
        self.optimizer.zero_grad(set_to_none=self.graph is None)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for value, average in zip(self.params, self.ema, strict=True):
                average.lerp_(value, 1 - self.decay)
        self.parts = {"loss": loss.detach(), **parts}

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_STEPS):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._step()
        except RuntimeError as error:  # an answer that waits for the GPU cannot be recorded
            torch.cuda.synchronize()
            self.no_graph = str(error).splitlines()[0]
            self.optimizer.zero_grad(set_to_none=True)
            return
        self.graph = graph

    def _load(self, step: int) -> None:
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + step)
        batch = self.batches(self.options.batch, generator)
        if not self.inputs:
            tasks = self.tasks or self.model.config.tasks
            check_sources("train", batch, tuple(dict.fromkeys(self.model.inputs + tasks)))
            counts = {len(value) for value in batch.values()}
            if counts != {self.options.batch}:
                raise ArgumentError(
                    f"train: batches gives {sorted(counts)} images, must give "
                    f"{self.options.batch}; draw as many as it is asked for"
                )
        quality = draw_qualities(
            self.model.pairs, self.options.batch, subsets=self.options.subsets, generator=generator
        )
        if not self.inputs:
            self.inputs = {k: v.clone() for k, v in batch.items()}
        for name, value in batch.items():
            self.inputs[name].copy_(value)
        self.quality.copy_(quality)
        if self.before is not None and self.model.config.free_order:
            layers = len(self.model.config.layers)
            self.before.copy_(draw_orders(layers, self.options.batch, generator))
        self._seed_noise(int(torch.randint(1 << 62, (), generator=generator)))

    def _seed_noise(self, seed: int) -> None:
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index].manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _done(self, begin: float, step: int) -> float:
        done = step / self.options.steps
        if self.options.minutes > 0:
            spent = self.spent + time.perf_counter() - begin
            done = max(done, spent / (60 * self.options.minutes))
        return min(1.0, done)

    def run(self) -> TrainLog:
        """Train until the steps or the time are used up, and leave the averaged weights."""
        if any(not name.startswith("heads.") for name in self.names):
            self.model.forget()
        wanted = {name: value.requires_grad for name, value in self.model.named_parameters()}
        own = set(self.names)
        for name, value in self.model.named_parameters():
            value.requires_grad_(name in own)
        devices = [self.device] if self.device.type == "cuda" else []
        self.model.train()
        try:
            with torch.random.fork_rng(devices):
                return self._run()
        finally:
            for name, value in self.model.named_parameters():
                value.requires_grad_(wanted[name])
            self.model.eval()

    def _run(self) -> TrainLog:
        log = TrainLog()
        if self.checkpoint is not None:
            self._load(0)
            self.about = run_of(self.options, self.model.config, self.tasks, self.inputs)
            self._resume(self.checkpoint, log)
        begin = time.perf_counter()
        if self.checkpoint is not None and self._done(begin, self.begin_step) < 1:
            self._save(self.checkpoint, self.begin_step, self.spent, log)  # can it be written?
        step, o, noted, kept = self.begin_step, self.options, self.begin_step, begin
        while (done := self._done(begin, step)) < 1:
            rise = min(1.0, (step + 1) / 200)
            self.lr.fill_(o.lr * rise * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * done))))
            self.answers.fill_(0.0 if done < o.warm_up else 1.0)
            self.decay.fill_(min(o.ema, (1 + step) / (10 + step)))
            if step % 10 == 0 or step == self.begin_step:
                for prior in self.priors:
                    prior.anneal(done)
            self._load(step)
            if done >= 1 - o.hard and not self.hard:
                self.hard, self.graph = True, None
            if self.device.type == "cuda" and self.graph is None and not self.no_graph:
                self._capture()
            elif self.graph is not None:
                self.graph.replay()
            else:
                self._step()
            step += 1
            if step % CHECK_EVERY == 0:
                self._note(log, step, begin)
                noted, kept = step, time.perf_counter()
            elif step % KEEP_EVERY == 0 and time.perf_counter() - kept > KEEP_SECONDS:
                self._keep(log, step, begin)
                kept = time.perf_counter()
            if self.progress is not None:
                self.progress(step, o.steps if o.minutes <= 0 else None)
        if noted < step:
            self._note(log, step, begin)
        log.no_graph = self.no_graph
        log.steps, log.seconds = step, self.spent + time.perf_counter() - begin
        with torch.no_grad():
            for value, average in zip(self.params, self.ema, strict=True):
                value.copy_(average)
        return log

    def _note(self, log: TrainLog, step: int, begin: float) -> None:
        row = {name: float(value) for name, value in self.parts.items()}
        if not math.isfinite(row["loss"]):
            raise ArgumentError(
                f"train: loss is {row['loss']} at step {step}, must be finite; lower lr (now "
                f"{self.options.lr}) and look at the features"
            )
        early = self._done(begin, step) < 0.6
        revived = sum(prior.revive() for prior in self.revivable) if early else 0
        log.rows.append({"step": step, "revived": revived, **row})
        self._keep(log, step, begin)

    def _keep(self, log: TrainLog, step: int, begin: float) -> None:
        """Write the checkpoint, unless what it would hold is lost already.

        If that fails the last one is still there, and what is trained is in memory: go on.
        """
        if self.checkpoint is None or not math.isfinite(float(self.parts["loss"])):
            return
        try:
            self._save(self.checkpoint, step, self.spent + time.perf_counter() - begin, log)
        except (ArgumentError, OSError) as error:
            if not log.not_kept:
                warnings.warn(
                    f"train: checkpoint of step {step} cannot be written, the training goes on "
                    f"({error})",
                    RuntimeWarning,
                    stacklevel=2,
                )
            log.not_kept = str(error)
        else:
            log.not_kept = ""

    def _save(self, path: Path, step: int, seconds: float, log: TrainLog) -> None:
        tensors = {f"state/{name}": value for name, value in self.states.items()}
        moved = 0.0
        for name, value, average in zip(self.names, self.params, self.ema, strict=True):
            state = self.optimizer.state[value]
            tensors[f"value/{name}"] = value.detach()
            tensors[f"average/{name}"] = average
            tensors[f"first/{name}"] = state.get("exp_avg", torch.zeros_like(value))
            tensors[f"second/{name}"] = state.get("exp_avg_sq", torch.zeros_like(value))
            moved = max(moved, float(state.get("step", 0.0)))
        config = {
            "step": step,
            "moments": moved,
            "seconds": seconds,
            "rows": log.rows,
            "networks": self._networks(),
            "run": self.about,
        }
        save_weights(path, tensors, config)

    def _networks(self) -> list[list[str]]:
        """Return what tells codecs of equal sizes apart."""
        return [[s.name, s.teacher, s.sha256] for s in self.model.config.sources]

    def _resume(self, path: Path, log: TrainLog) -> None:
        if not path.exists():
            return
        config, tensors = load_weights(path, max_bytes=MAX_CHECKPOINT_BYTES)
        kinds = ("value", "average", "first", "second")
        wanted = {
            f"{kind}/{name}": value.shape
            for name, value in zip(self.names, self.params, strict=True)
            for kind in kinds
        }
        wanted |= {f"state/{name}": value.shape for name, value in self.states.items()}
        if {name: value.shape for name, value in tensors.items()} != wanted:
            raise ArgumentError(
                f"train: checkpoint {path} is of another model, must hold "
                f"{len(wanted)} tensors of this one; give another name"
            )
        if config.get("networks", self._networks()) != self._networks():
            raise ArgumentError(
                f"train: checkpoint {path} is for the networks {config['networks']}, "
                f"must be for {self._networks()}; give another name"
            )
        self.begin_step, self.spent = int(config["step"]), float(config["seconds"])
        self._check_finished(path, config.get("run"))
        moved = torch.tensor(float(config["moments"]), device=self.device)
        with torch.no_grad():
            for name, value in self.states.items():
                value.copy_(tensors[f"state/{name}"])
            for name, value, average in zip(self.names, self.params, self.ema, strict=True):
                value.copy_(tensors[f"value/{name}"])
                average.copy_(tensors[f"average/{name}"])
                self.optimizer.state[value] = {
                    "step": moved.clone(),
                    "exp_avg": tensors[f"first/{name}"].to(value),
                    "exp_avg_sq": tensors[f"second/{name}"].to(value),
                }
        log.begin = self.begin_step
        log.rows = [dict(row) for row in config["rows"]]

    def _check_finished(self, path: Path, run: Mapping[str, Any] | None) -> None:
        """Refuse a checkpoint that leaves nothing to do, unless it is of this very training."""
        if self._done(time.perf_counter(), self.begin_step) < 1 or run is None:
            return
        theirs, ours = differences(run, self.about)
        if theirs:
            raise ArgumentError(
                f"train: checkpoint {path} is at step {self.begin_step} of the run with {theirs}, "
                f"which leaves this one nothing to do, with {ours}, must be of this run or leave "
                "steps; raise steps or minutes to go on from it, or give another name"
            )


def _check(
    model: FeatureCodec, objectives: Mapping[str, Objective], tasks: tuple[str, ...] | None
) -> None:
    for item, names in (("objectives", tuple(objectives)), ("tasks", tasks or ())):
        unknown = [name for name in names if name not in model.config.tasks]
        if unknown:
            raise ArgumentError(
                f"train: {item} names {unknown}, must name some of {list(model.config.tasks)}; "
                "rename them"
            )
