"""Training that stops and goes on: the same weights, and no checkpoint that is lost."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foveal._core import weights as weights_file
from foveal.codec import training_loop
from foveal.codec.model import FeatureCodec
from foveal.codec.prior.config import KINDS
from foveal.codec.schemes import joint
from foveal.codec.training import train
from foveal.errors import ArgumentError

_spec = importlib.util.spec_from_file_location(
    "training_world", Path(__file__).with_name("training_world.py")
)
assert _spec is not None
assert _spec.loader is not None
world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(world)
SHORT, SIZES, SOURCES = world.SHORT, world.SIZES, world.SOURCES
draw, make, means, run = world.draw, world.make, world.means, world.run
same, seeded, weights = world.same, world.seeded, world.weights
Features = dict[str, Tensor]


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
    again = run(make(scheme, prior), checkpoint=path)
    assert again.rows == wanted.rows
    assert (again.begin, again.steps, again.trained) == (40, 40, 0)


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


# A finished checkpoint, and one that cannot be written.


def tens(count: int, generator: torch.Generator) -> Features:
    return {name: 10 * x for name, x in draw(count, generator).items()}


OTHER_RUNS: dict[str, tuple[dict[str, Any], str, str]] = {
    "shorter": ({"steps": 20}, "steps=40", "steps=20"),
    "seed": ({"seed": 3}, r"seed=0, data of means a \(.*", r"seed=3, data of means a \(.*"),
    "rate": ({"lr": 0.01, "ema": 0.5}, "lr=0.005, ema=0.9", "lr=0.01, ema=0.5"),
}


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_a_finished_checkpoint_is_not_another_runs(name: str, tmp_path: Path) -> None:
    changes, theirs, ours = OTHER_RUNS[name]
    path = tmp_path / "x.safetensors"
    run(make(), checkpoint=path)
    before = path.read_bytes()
    message = (
        f"x.safetensors is at step 40 of the run with {theirs}, which leaves this one nothing to "
        f"do, with {ours}, must be of this run or leave steps; raise steps or minutes"
    )
    with pytest.raises(ArgumentError, match=message):
        run(make(), replace(SHORT, **changes), checkpoint=path)
    assert path.read_bytes() == before
    assert run(make(), replace(SHORT, **changes | {"steps": 41}), checkpoint=path).trained == 1


def test_a_finished_checkpoint_is_not_for_other_data_or_tasks(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    run(make("joint"), checkpoint=path)
    with pytest.raises(ArgumentError, match=r"run with data of means a \(.*, with data of means a"):
        train(make("joint"), tens, means(), SHORT, checkpoint=path)
    only = {"a": means()["a"]}
    with pytest.raises(ArgumentError, match=r"tasks=\['a', 'b'\], which .*, with tasks=\['a'\]"):
        train(make("joint"), draw, only, SHORT, tasks=("a",), checkpoint=path)
    other = make("joint")
    other.config = replace(other.config, order=("joint",))
    with pytest.raises(ArgumentError, match=r"codec=[0-9a-f]{12}, which .*, with codec=[0-9a-f]"):
        run(other, checkpoint=path)


def nearly(count: int, generator: torch.Generator) -> Features:
    """The same features as another device works them out."""
    return {name: x * (1 + 1e-4) for name, x in draw(count, generator).items()}


def test_the_same_run_is_known_again(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    model, again = make(), make(seed=7)
    run(model, checkpoint=path)
    assert train(again, nearly, means(), SHORT, checkpoint=path).trained == 0
    assert same(weights(again), weights(model))
    about = json.loads(path.with_suffix(".json").read_text())
    del about["config"]["run"]  # written by an earlier version, which did not say
    path.with_suffix(".json").write_text(json.dumps(about))
    assert run(make(), replace(SHORT, steps=20), checkpoint=path).trained == 0


class FullDisk:
    """Refuses to write from some call on, as a disk without space does."""

    def __init__(self, good: int) -> None:
        self.good = good
        self.write = Path.write_bytes

    def __call__(self, path: Path, data: bytes) -> int:
        self.good -= 1
        if self.good < 0:
            raise OSError(28, "No space left on device")
        return self.write(path, data)


def fill(monkeypatch: pytest.MonkeyPatch, good: int) -> None:
    disk = FullDisk(good)
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: disk(path, data))


def test_a_full_disk_is_noticed_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(monkeypatch, 0)
    steps: list[int] = []
    with pytest.raises(ArgumentError, match=r"x.json cannot be written \(No space left"):
        run(
            make(),
            checkpoint=tmp_path / "x.safetensors",
            progress=lambda step, _: steps.append(step),
        )
    assert steps == []


def test_a_disk_that_fills_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "CHECK_EVERY", 10)
    whole, model = make(), make()
    wanted = run(whole)
    fill(monkeypatch, 4)  # the first one and that of step 10, of two files each
    path = tmp_path / "x.safetensors"
    with pytest.warns(
        RuntimeWarning, match="of step 20 cannot be written, the training goes on .*No space left"
    ) as seen:
        log = run(model, checkpoint=path)
    assert len(seen) == 1
    assert "No space left" in log.not_kept
    assert log.rows == wanted.rows
    assert same(weights(model), weights(whole))
    assert json.loads(path.with_suffix(".json").read_text())["config"]["step"] == 10
    monkeypatch.undo()
    assert run(make(), checkpoint=path).not_kept == ""


def test_features_that_are_no_numbers_are_still_the_losss_error(tmp_path: Path) -> None:
    def broken(count: int, generator: torch.Generator) -> Features:
        return {name: x * math.nan for name, x in draw(count, generator).items()}

    with pytest.raises(ArgumentError, match="loss is nan at step 40"):
        train(make(), broken, means(), SHORT, checkpoint=tmp_path / "x.safetensors")
