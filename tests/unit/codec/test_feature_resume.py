"""Training that stops and goes on: the same weights, and no checkpoint that is lost."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foveal._core import weights as weights_file
from foveal.codec import training_loop
from foveal.codec.config import CodecConfig, Source
from foveal.codec.model import FeatureCodec
from foveal.codec.prior.config import KINDS
from foveal.codec.schemes import Sizes, conditional, joint, separate
from foveal.codec.training import Objective, TrainLog, TrainOptions, train
from foveal.errors import ArgumentError

SOURCES = (
    Source("a", 3, height=4, width=4, nonnegative=True),
    Source("b", 2, height=4, width=4),
)
SIZES = Sizes(4, 2, 8, 8, 0, "codebook-global", side=2, codewords=3, hyper_hidden=4)
SCHEMES: dict[str, Callable[..., CodecConfig]] = {
    "separate": separate,
    "joint": joint,
    "conditional": conditional,
}
SHORT = TrainOptions(steps=40, batch=8, lr=5e-3, ema=0.9, lowest=50.0, highest=5000.0)
MIX = torch.tensor([[2.0, 1.0], [-1.0, 2.0], [0.5, -1.5], [1.0, 1.0], [-2.0, 0.5]])
Features = dict[str, Tensor]


def draw(count: int, generator: torch.Generator) -> Features:
    """Return smooth features of two causes, which both sources share."""
    causes = torch.randn(count, 2, 2, 2, generator=generator)
    causes = torch.nn.functional.interpolate(causes, size=(4, 4), mode="bilinear")
    x = torch.einsum("cn,bnhw->bchw", MIX, causes)
    return {"a": x[:, :3].relu(), "b": x[:, 3:]}


def seeded(seed: int, count: int = 128) -> Features:
    return draw(count, torch.Generator().manual_seed(seed))


def make(scheme: str = "separate", prior: str = "codebook-global", seed: int = 1) -> FeatureCodec:
    torch.manual_seed(seed)
    model = FeatureCodec(SCHEMES[scheme](SOURCES, replace(SIZES, prior=prior)))
    model.start(seeded(0))
    return model


def means() -> dict[str, Objective]:
    def answer(x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))

    def distance(got: Tensor, wanted: Tensor) -> Tensor:
        return (got - wanted).square().sum(1)

    return {task: Objective(answer, distance, unit=0.5, weight=2.0) for task in ("a", "b")}


def run(model: FeatureCodec, options: TrainOptions = SHORT, **more: Any) -> TrainLog:
    return train(model, draw, means(), options, **more)


def weights(model: FeatureCodec) -> Features:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def same(a: Features, b: Features) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Stopped(Exception):
    """The power is gone."""


@pytest.mark.parametrize("prior", KINDS)
@pytest.mark.parametrize("scheme", ["joint", "conditional"])
def test_a_training_goes_on_as_if_it_had_not_stopped(
    scheme: str, prior: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "CHECK_EVERY", 10)
    whole, parts = make(scheme, prior), make(scheme, prior)
    wanted = run(whole, checkpoint=tmp_path / "whole.safetensors")

    def stop(step: int, total: int | None) -> None:
        if step == 27:
            raise Stopped

    path = tmp_path / "parts.safetensors"
    with pytest.raises(Stopped):
        run(parts, checkpoint=path, progress=stop)
    assert not parts.training
    assert all(value.requires_grad for value in parts.parameters())
    parts = make(scheme, prior)
    steps: list[int] = []
    found = run(parts, checkpoint=path, progress=lambda step, _: steps.append(step))
    assert steps == list(range(21, 41))
    assert found.rows == wanted.rows
    assert same(weights(parts), weights(whole))
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    config = json.loads(path.with_suffix(".json").read_text())["config"]
    assert (config["step"], config["moments"]) == (40, 40)
    assert run(make(scheme, prior), checkpoint=path).rows == wanted.rows  # nothing is left to do


def test_a_slow_training_is_kept_between_its_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "KEEP_SECONDS", -1.0)
    whole, parts = make(), make()
    wanted = run(whole)

    def stop(step: int, total: int | None) -> None:
        if step == 27:
            raise KeyboardInterrupt

    path = tmp_path / "parts.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(parts, checkpoint=path, progress=stop)
    parts = make()
    found = run(parts, checkpoint=path)
    assert (found.begin, found.steps) == (20, 40)
    assert found.rows == wanted.rows
    assert same(weights(parts), weights(whole))


def test_what_is_lost_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is no number must not replace the last good checkpoint."""
    monkeypatch.setattr(training_loop, "KEEP_SECONDS", -1.0)

    def broken(count: int, generator: torch.Generator) -> Features:
        x = draw(count, generator)
        return {k: v * (math.nan if len(seen) >= 15 else 1.0) for k, v in x.items()}

    seen: list[int] = []
    path = tmp_path / "x.safetensors"
    with pytest.raises(ArgumentError, match="loss is nan at step 40"):
        train(
            make(),
            broken,
            means(),
            SHORT,
            checkpoint=path,
            progress=lambda step, _: seen.append(step),
        )
    assert json.loads(path.with_suffix(".json").read_text())["config"]["step"] == 10


def test_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    run(make("joint"), replace(SHORT, steps=2), checkpoint=path)
    with pytest.raises(ArgumentError, match="is of another model, must hold .* tensors of this"):
        run(make("separate"), checkpoint=path)
    torch.manual_seed(1)
    wider = FeatureCodec(joint(SOURCES, replace(SIZES, channels=5)))
    wider.start(seeded(0))
    with pytest.raises(ArgumentError, match="is of another model"):
        run(wider, checkpoint=path)


def test_a_checkpoint_larger_than_weights_may_be_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    run(make(), replace(SHORT, steps=2), checkpoint=path)
    monkeypatch.setattr(weights_file, "MAX_BYTES", 100)
    log = run(make(), replace(SHORT, steps=3), checkpoint=path)
    assert (log.begin, log.steps) == (2, 3)
    monkeypatch.setattr(training_loop, "MAX_CHECKPOINT_BYTES", 100)
    with pytest.raises(ArgumentError, match="must have at most 100"):
        run(make(), SHORT, checkpoint=path)


def test_a_checkpoint_without_its_json_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"something dear")
    with pytest.raises(ArgumentError, match=r"x.json does not exist"):
        run(make(), replace(SHORT, steps=2), checkpoint=path)
    assert path.read_bytes() == b"something dear"
    with pytest.raises(ArgumentError, match=r"checkpoint is .*x.bin, must end in .safetensors"):
        run(make(), replace(SHORT, steps=2), checkpoint=tmp_path / "x.bin")


def test_a_checkpoint_for_other_networks_of_equal_sizes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    run(make(), replace(SHORT, steps=2), checkpoint=path)
    other = make()
    first = replace(SOURCES[0], teacher="another")
    other.config = replace(other.config, sources=(first, SOURCES[1]))
    with pytest.raises(ArgumentError, match="is for the networks .*'a', ''.*'a', 'another'"):
        run(other, SHORT, checkpoint=path)
