"""Training: the loss by hand, what is drawn, schemes that learn, resuming, freezing, errors."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foveal.codec import training_loop
from foveal.codec.config import Head, Source
from foveal.codec.model import FeatureCodec
from foveal.codec.prior.codebook_vq import CodebookVQPrior
from foveal.codec.rates import OFF
from foveal.codec.schemes import joint
from foveal.codec.stream import decode, decode_symbols, encode
from foveal.codec.training import (
    ANSWER,
    TrainOptions,
    draw_orders,
    draw_qualities,
    rate_task_loss,
    train,
    weight_of,
)
from foveal.errors import ArgumentError

_spec = importlib.util.spec_from_file_location(
    "training_world", Path(__file__).with_name("training_world.py")
)
assert _spec is not None
assert _spec.loader is not None
world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(world)
SCHEMES, SHORT, SIZES, SOURCES = world.SCHEMES, world.SHORT, world.SIZES, world.SOURCES
draw, make, means, run = world.draw, world.make, world.means, world.run
same, seeded, weights = world.same, world.seeded, world.weights
Features = dict[str, Tensor]


# What is drawn, and the loss.


def test_the_weight_rises_by_equal_factors() -> None:
    options = TrainOptions(lowest=10.0, highest=1000.0)
    found = weight_of(torch.tensor([0.0, 31.5, 63.0, OFF]), options)
    assert found.tolist() == pytest.approx([10, 100, 1000, 0])


def test_qualities_that_are_drawn() -> None:
    pairs = (("x", "a"), ("x", "b"), ("y", "b"), ("y", "c"))
    found = draw_qualities(pairs, 2000, subsets=0.5, generator=torch.Generator().manual_seed(0))
    assert found.shape == (2000, 4)
    assert torch.equal(found[:, 1], found[:, 2])
    on = found >= 0
    assert bool(on.any(1).all())
    assert bool((found[~on] == OFF).all())
    assert float(found.max()) <= 63
    whole = on.all(1)
    alike = whole & (found.amax(1) == found.amin(1))
    assert 0.5 < float(whole.float().mean()) < 0.62
    assert 0.5 < float(alike.float().mean()) < float(whole.float().mean())
    assert float(found[alike].mean()) == pytest.approx(31.5, abs=2)
    every = draw_qualities(pairs, 500, subsets=0.0, generator=torch.Generator().manual_seed(0))
    assert bool((every == every[:, :1]).all())


def test_orders_that_are_drawn() -> None:
    found = draw_orders(3, 600, torch.Generator().manual_seed(0))
    place = found.sum(2)  # how many come before
    assert bool((place.sort(1).values == torch.arange(3.0)).all())
    assert torch.equal(found, (place[:, :, None] > place[:, None, :]).float())
    assert len({tuple(row) for row in place.tolist()}) == 6


def test_groups_are_trained_in_their_order() -> None:
    config = joint(SOURCES, replace(SIZES, groups=3))
    model = FeatureCodec(config)
    x = seeded(4, 8)
    model.start(x)
    options = replace(SHORT, steps=1, batch=4)

    def batches(count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        index = torch.randint(8, (count,), generator=generator)
        return {name: value[index] for name, value in x.items()}

    loop = training_loop.Loop(model, batches, {}, options, None, None, None, None)
    loop.run()
    assert loop.before is not None
    assert torch.equal(loop.before, torch.ones(3, 3).tril(-1).expand(4, 3, 3))
    model.finalise(x)
    stream = encode(model, x, quality=40)
    found = decode_symbols(model, stream.payload)
    assert [len(found[f"joint-{i}"]) for i in range(3)] == [8, 8, 8]
    assert {k: v.shape for k, v in decode(model, stream.payload).items()} == {
        k: v.shape for k, v in x.items()
    }


def test_the_loss_by_hand() -> None:
    model, x = make(), seeded(5, 4)
    objectives = {"a": means()["a"]}
    quality = torch.tensor([[63.0, 0.0], [20.0, OFF], [OFF, 10.0], [5.0, 5.0]])
    options = replace(SHORT, alpha=0.3, beta=0.7)
    loss, parts = rate_task_loss(model, x, quality, objectives, options, answers=0.5, hard=True)
    out = model(x, quality, hard=True)
    total = 0.0
    for i in range(4):
        w = [0 if q < 0 else 50 * 100 ** (q / 63) for q in quality[i].tolist()]
        mse = {
            task: ((out.features[task][i] - x[task][i]) / model.scale(task).std[:, None, None])
            .square()
            .mean()
            .item()
            for task in ("a", "b")
        }
        far = (out.features["a"][i].mean((1, 2)) - x["a"][i].mean((1, 2))).square().sum().item()
        cost = w[0] * 2 * (0.3 * mse["a"] + 0.5 * 0.7 * far / 0.5) + w[1] * 0.3 * mse["b"]
        total += (float(out.bits[i].detach()) + cost) / math.sqrt(max(w)) / 4
    assert float(loss.detach()) == pytest.approx(total, rel=1e-4)
    assert float(parts["bits"]) == pytest.approx(float(out.bits.mean().detach()))
    assert set(parts) == {"bits", "side_bits", "mse/a", "mse/b", "answer/a"}


def test_answers_that_a_batch_brings_are_those_of_its_features() -> None:
    model, x = make(), seeded(5, 4)
    quality = torch.full((4, 2), 30.0)
    own = {f"{ANSWER}{task}": x[task].mean(dim=(2, 3)) for task in x}
    wanted = rate_task_loss(model, x, quality, means(), SHORT, hard=True)[0]
    assert torch.equal(
        rate_task_loss(model, x | own, quality, means(), SHORT, hard=True)[0], wanted
    )
    other = {name: value + 1 for name, value in own.items()}
    assert rate_task_loss(model, x | other, quality, means(), SHORT, hard=True)[0] > wanted


def test_only_the_tasks_that_count() -> None:
    model, x = make(), seeded(5, 4)
    quality = torch.full((4, 2), 30.0)
    parts = rate_task_loss(model, x, quality, means(), SHORT, tasks=("b",))[1]
    assert "mse/b" in parts
    assert "mse/a" not in parts


# Learning.


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_learns(scheme: str) -> None:
    model, x = make(scheme), seeded(9)
    layers = len(model.config.layers)
    before = torch.ones(layers, layers).tril(-1).expand(len(x["a"]), -1, -1)
    if scheme != "conditional":
        before = None

    def loss() -> float:
        total = 0.0
        with torch.no_grad():
            for q in (0.0, 30.0, 63.0):
                quality = torch.full((len(x["a"]), len(model.pairs)), q)
                total += float(
                    rate_task_loss(model, x, quality, means(), SHORT, hard=True, before=before)[0]
                )
        return total

    first = loss()
    log = run(model, replace(SHORT, steps=200, batch=16))
    assert loss() < 0.6 * first
    assert (log.steps, log.rows[-1]["step"]) == (200, 200)
    assert not model.training

    # Bits as estimated are the bytes as written; counted tables need fewer.
    model.finalise()
    quality = torch.full((128, len(model.pairs)), 45.0)
    with torch.no_grad():
        estimated = float(model(x, quality, hard=True, before=before).bits.sum())
    details = encode(model, x, quality=45).receipt.details
    real = details["latent_bits"] + details["side_bits"]
    assert real == pytest.approx(estimated, rel=0.02)
    assert 0 < 8 * details["stream_bytes"] - real <= 16 * 128 * layers  # ends of the streams
    counted = encode(model.finalise(seeded(3, 512)), x, quality=45).receipt.details
    assert 0.85 * real < counted["latent_bits"] + counted["side_bits"] < real


def test_the_average_of_the_weights_is_left() -> None:
    model = make()
    average = weights(model)

    def follow(step: int, total: int | None) -> None:
        decay = min(0.9, step / (9 + step))
        for name, value in weights(model).items():
            average[name] = decay * average[name] + (1 - decay) * value

    run(model, progress=follow)
    for name, value in weights(model).items():
        assert torch.allclose(value, average[name], atol=1e-5), name


def test_progress_counts_the_steps() -> None:
    seen: list[tuple[int, int | None]] = []
    run(make(), replace(SHORT, steps=5), progress=lambda *now: seen.append(now))
    assert seen == [(i, 5) for i in range(1, 6)]


def test_minutes_end_a_training_and_its_last_step_is_noted() -> None:
    seen: list[tuple[int, int | None]] = []
    options = replace(SHORT, steps=100_000, minutes=0.5 / 60)
    log = run(make(), options, progress=lambda *now: seen.append(now))
    assert 0.5 <= log.seconds < 5
    assert seen == [(i, None) for i in range(1, log.steps + 1)]
    assert [row["step"] for row in log.rows if row["step"] % 500] in ([log.steps], [])
    assert log.rows[-1]["step"] == log.steps


def test_a_seed_draws_everything_and_disturbs_nothing() -> None:
    first, second, other = make(), make(), make()
    torch.manual_seed(77)
    wanted = torch.rand(3)
    torch.manual_seed(77)
    run(first)
    assert torch.equal(torch.rand(3), wanted)
    run(second)
    assert same(weights(first), weights(second))
    run(other, replace(SHORT, seed=1))
    assert not same(weights(first), weights(other))


# Freezing.


def test_what_is_frozen_stays_bit_for_bit() -> None:
    model = make("conditional")
    before = weights(model)
    run(model, trainable=lambda name: name.startswith("layers.b.context"))
    for name, value in weights(model).items():
        assert torch.equal(value, before[name]) != name.startswith("layers.b.context"), name
    assert all(value.requires_grad for value in model.parameters())


def test_dead_codewords_of_a_frozen_stream_stay_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_loop, "CHECK_EVERY", 5)
    model = make("joint", "codebook-vq")
    prior = model.layer("joint").prior
    assert isinstance(prior, CodebookVQPrior)
    with torch.no_grad():
        prior.codebook[2] += 2.0  # 128 levels: dearer than all others
    model.finalise()
    prior.usage[:, 2] = 0
    before, own = weights(model), model.model_id
    log = run(model, replace(SHORT, steps=10), trainable=lambda name: name.startswith("heads."))
    assert all(row["revived"] == 0 for row in log.rows)
    assert all(
        torch.equal(value, before[name]) != name.startswith("heads.")
        for name, value in weights(model).items()
    )
    assert model.model_id == own
    model.adopt(model.integers)
    assert model.model_id == own
    prior.usage[:, 2] = 0
    assert run(model, replace(SHORT, steps=10)).rows[0]["revived"] > 0


def test_training_the_stream_makes_finalising_necessary_again() -> None:
    model = make().finalise()
    run(model, replace(SHORT, steps=1), trainable=lambda name: name.startswith("heads."))
    assert len(model.model_id) == 4
    run(model, replace(SHORT, steps=1))
    with pytest.raises(ArgumentError, match="must be finalised"):
        encode(model, seeded(0))


def test_parameters_that_were_frozen_by_the_caller_stay_so_afterwards() -> None:
    model = make()
    model.scales.requires_grad_(False)
    bias = model.head("a").last.bias
    assert bias is not None
    bias.requires_grad_(False)
    run(model, replace(SHORT, steps=1))
    assert not bias.requires_grad
    assert model.head("b").last.weight.requires_grad


# What is refused.


def test_a_loss_that_is_not_finite_is_named() -> None:
    def broken(count: int, generator: torch.Generator) -> Features:
        x = draw(count, generator)
        return x | {"b": x["b"] * float("nan")}

    model = make()
    with pytest.raises(ArgumentError, match="train: loss is nan at step 3, must be finite; lower"):
        train(model, broken, means(), replace(SHORT, steps=3))
    assert not model.training


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "tasks": ({"tasks": ("c",)}, r"train: tasks names \['c'\], must name some of \['a', 'b'\]"),
    "trainable": ({"trainable": lambda name: False}, "trainable takes no parameter, must take"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name: str) -> None:
    changes, message = BAD[name]
    with pytest.raises(ArgumentError, match=message):
        run(make(), **changes)


def test_objectives_of_unknown_tasks() -> None:
    with pytest.raises(ArgumentError, match=r"objectives names \['c'\], must name some of"):
        train(make(), draw, {"c": means()["a"]}, SHORT)


def test_batches_that_do_not_fit() -> None:
    with pytest.raises(ArgumentError, match=r"train: batches gives \[7\] images, must give 8"):
        train(make(), lambda count, g: draw(count - 1, g), {}, SHORT)
    with pytest.raises(ArgumentError, match=r"train: features has no \['b'\], must have"):
        train(make(), lambda count, g: {"a": draw(count, g)["a"]}, {}, SHORT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps, batch, lowest, highest are 0"),
        ({"batch": 0}, "at least 1"),
        ({"lowest": 0.0}, "0 < lowest <= highest"),
        ({"lowest": 2.0, "highest": 1.0}, "0 < lowest <= highest"),
        ({"precision": "fp8"}, "precision is 'fp8', must be 'fp32' or 'bf16'"),
        ({"lr": 0.0}, "lr is 0.0, must be positive"),
        ({"ema": 1.0}, "ema is 1.0, must be within"),
        ({"hard": 1.5}, "hard is 1.5, must be within"),
        ({"subsets": -0.1}, "subsets is -0.1, must be within"),
        ({"warm_up": 2.0}, "warm_up is 2.0, must be within"),
        ({"minutes": -1.0}, "minutes is -1.0, must be at least 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_options(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        TrainOptions(**changes)


def test_a_late_head_learns_on_a_frozen_stream() -> None:
    model = make().finalise()
    own = model.model_id
    source = Source("late", 2, height=4, width=4)
    data = seeded(0)
    model.extend(source, Head("late", ("a", "b"), external=True), data["a"][:, :2])

    def batches(count: int, generator: torch.Generator) -> Features:
        x = draw(count, generator)
        return x | {"late": x["a"][:, :2] - x["b"]}

    x, quality = batches(64, torch.Generator().manual_seed(4)), torch.full((64, 2), 63.0)

    def error() -> float:
        with torch.no_grad():
            return float(
                rate_task_loss(model, x, quality, {}, SHORT, tasks=("late",))[1]["mse/late"]
            )

    first = error()
    train(
        model,
        batches,
        {},
        replace(SHORT, steps=150, subsets=0.0),
        tasks=("late",),
        trainable=lambda name: name.startswith("heads.late."),
    )
    assert error() < 0.6 * first
    assert model.model_id == own
