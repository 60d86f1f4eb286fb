"""A codec for networks of one's own, and heads for tasks that came later."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from foveal.codec import arguments, schemes
from foveal.codec.external import add_task, answer_distance
from foveal.codec.fit import FitRow, fit
from foveal.codec.model import FeatureCodec
from foveal.codec.sources import features_of
from foveal.codec.stream import decode, decode_symbols, encode, split
from foveal.codec.taxonomy import cheapest_order, learn_order, order_costs, subsets
from foveal.codec.training import TrainOptions
from foveal.errors import ArgumentError, ShapeError

SIZES = schemes.Sizes(
    channels=8, hidden=16, head_hidden=16, side=4, codewords=4, hyper_hidden=8, stride=2
)


class Blobs(nn.Module):
    """Features that say where a picture is bright; the answer is which quarter is brightest."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel
        self.gain = nn.Parameter(torch.ones(1))

    def preprocess(self, images: Tensor) -> Tensor:
        return functional.interpolate(images, size=(16, 16), mode="bilinear", antialias=True)

    def encode(self, images: Tensor) -> Tensor:
        plane = images[:, self.channel, None]
        return functional.avg_pool2d(torch.cat([plane, 1 - plane], 1), 2) * self.gain

    def decode(self, features: Tensor) -> Tensor:
        return 20 * functional.adaptive_avg_pool2d(features[:, :1], 2).flatten(1)


def pictures(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    return list(functional.interpolate(coarse, size=(20, 24), mode="bilinear"))


@pytest.fixture(scope="module")
def fitted() -> tuple[FeatureCodec, dict[str, Tensor], list]:
    networks = {"red": Blobs(0), "green": Blobs(1)}
    options = TrainOptions(
        steps=150, batch=16, lowest=200, highest=5000, warm_up=0.0, lr=5e-3, subsets=0.3
    )
    done = fit(networks, pictures(80), sizes=SIZES, options=options, scheme="conditional")
    stack = torch.cat([networks["red"].preprocess(x[None]) for x in pictures(24, 1)])
    features = {name: net.encode(stack) for name, net in networks.items()}
    assert not any(p.requires_grad for net in networks.values() for p in net.parameters())
    return done.model, {k: v.detach() for k, v in features.items()}, done.rows


def test_more_bytes_bring_answers_nearer(fitted) -> None:
    _, _, rows = fitted
    assert [row.quality for row in rows] == [0, 16, 32, 48, 63]
    assert rows[0].bytes < rows[-1].bytes
    for task in ("red", "green"):
        assert rows[-1].distance[task] < rows[0].distance[task]
        assert rows[-1].distance[task] < 0.5
        assert rows[-1].agreement[task] >= 0.5


def test_a_later_task_leaves_the_stream_alone(fitted, tmp_path: Path) -> None:
    model, features, _ = fitted
    model.save(tmp_path / "before.safetensors")
    model = FeatureCodec.load(tmp_path / "before.safetensors")
    payload = encode(model, features, quality=50).payload
    before = {k: v.clone() for k, v in model.state_dict().items()}
    identity = model.model_id
    images = torch.stack(pictures(40, 2))[:, :, :16, :16]
    own = {name: Blobs(i).encode(images).detach() for i, name in enumerate(("red", "green"))}
    log = add_task(
        model,
        "mix",
        Mix(),
        images,
        features=own,
        hidden=16,
        options=TrainOptions(steps=150, batch=16, subsets=0.0, lr=5e-3, alpha=1.0),
    )
    assert log.steps == 150
    assert model.model_id == identity
    assert model.config.heads[-1].external
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value), name
    assert encode(model, features, tasks=["red", "green"], quality=50).payload == payload
    decoded = decode(model, payload)
    wanted = (features["red"][:, :1] + features["green"][:, :1]) / 2
    error = (decoded["mix"] - wanted).square().mean()
    assert error < 0.7 * wanted.var(), "better than the mean"
    model.save(tmp_path / "after.safetensors")
    again = FeatureCodec.load(tmp_path / "after.safetensors")
    assert again.model_id == identity
    assert torch.equal(decode(again, payload)["mix"], decoded["mix"])


def test_a_head_whose_training_fails_does_not_stay(fitted, tmp_path: Path) -> None:
    model, features, _ = fitted
    model.save(tmp_path / "m.safetensors")
    model = FeatureCodec.load(tmp_path / "m.safetensors")
    keys, config, images = set(model.state_dict()), model.config, torch.rand(24, 3, 16, 16)
    options = TrainOptions(steps=3, batch=4)

    def stop(step: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_task(
            model, "mix", Mix(), images, features=features, options=options, progress=stop, hidden=8
        )
    assert (set(model.state_dict()), model.config) == (keys, config)
    with pytest.raises(ArgumentError, match="loss is nan at step 3"):
        add_task(model, "mix", Nothing(), images, features=features, options=options, hidden=8)
    assert (set(model.state_dict()), model.config) == (keys, config)
    add_task(model, "mix", Mix(), images, features=features, options=options, hidden=8)
    assert model.config.tasks == (*config.tasks, "mix")


class Nothing(nn.Module):
    def encode(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images[:, :2], 2)

    def decode(self, features: Tensor) -> Tensor:
        return features * float("nan")


class Mix(nn.Module):
    def encode(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images[:, :2].mean(1, keepdim=True), 2)

    def decode(self, features: Tensor) -> Tensor:
        return features


def test_only_a_new_task_can_be_added(fitted) -> None:
    model, features, _ = fitted
    with pytest.raises(ArgumentError, match="name is 'red', must be none of"):
        add_task(model, "red", Mix(), torch.rand(4, 3, 16, 16), features=features)
    with pytest.raises(ArgumentError, match=r"images has shape \(0, 3, 16, 16\)"):
        add_task(model, "new", Mix(), torch.rand(0, 3, 16, 16), features=features)


def test_features_of_other_images(fitted) -> None:
    model, features, _ = fitted
    with pytest.raises(ShapeError, match="batches of {'red': 24, 'green': 24}, must have 4 like"):
        add_task(model, "new", Mix(), torch.rand(4, 3, 16, 16), features=features)
    assert "new" not in model.config.tasks


def test_subsets_cost_less_than_all(fitted) -> None:
    model, features, _ = fitted
    rows = {row.tasks: sum(row.bytes) for row in subsets(model, features, quality=50)}
    assert set(rows) == {("red",), ("green",), ("red", "green")}
    assert max(rows["red",], rows["green",]) < rows["red", "green"]


def test_an_order_is_learned_and_found_per_image(fitted, tmp_path: Path) -> None:
    model, features, _ = fitted
    model.save(tmp_path / "m.safetensors")
    model = FeatureCodec.load(tmp_path / "m.safetensors")
    costs = order_costs(model, features, quality=50)
    sums = {key: float(value.sum()) for key, value in costs.items()}
    both = {
        (0, 1): sums[0, frozenset()] + sums[1, frozenset({0})],
        (1, 0): sums[1, frozenset()] + sums[0, frozenset({1})],
    }
    assert cheapest_order(sums) == min(both, key=lambda order: both[order])
    before = model.model_id
    order = learn_order(model, features, quality=50)
    assert sorted(order) == ["green", "red"]
    assert model.config.order == order
    assert model.model_id != before
    best = encode(model, features, quality=50, order="best").payload
    own = encode(model, features, quality=50).payload
    assert len(best) <= len(own) + 8
    for payload in (best, own):
        assert set(decode_symbols(model, payload)) == {"red", "green"}
    every = decode_symbols(model, own)
    other = encode(model, features, quality=50, order=tuple(reversed(order))).payload
    assert other != own
    same = np.mean(decode_symbols(model, other)["red"] == every["red"])
    assert same > 0.9, "orders differ where latents are skipped, and nowhere else"


def test_distances_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert answer_distance(logits, logits).tolist() == [0, 0]
    far = answer_distance(torch.zeros(1, 2), torch.tensor([[0.0, 100.0]]))
    assert far.item() == pytest.approx(np.log(2), rel=1e-5)
    maps = torch.zeros(2, 1, 2, 2)
    assert answer_distance(maps, maps + 0.5).tolist() == [0.5, 0.5]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match="networks is \\[\\]"):
        fit({}, pictures(4))
    with pytest.raises(ArgumentError, match="images has 3 pictures, must have at least 4"):
        fit({"red": Blobs(0)}, pictures(3))
    with pytest.raises(ArgumentError, match="device is 'moon', which this torch cannot use"):
        fit({"red": Blobs(0)}, pictures(8), device="moon")
    with pytest.raises(ArgumentError, match="scheme 'both'"):
        fit({"red": Blobs(0)}, pictures(8), scheme="both")  # type: ignore[arg-type]


def test_sizes_are_looked_at_before_the_pictures() -> None:
    def unread() -> Iterator[Tensor]:
        raise AssertionError("pictures are read")
        yield

    for sizes, message in (
        (replace(SIZES, stride=3), "stride of layer joint is 3, must be 1, 2 or 4"),
        (replace(SIZES, prior="none"), "prior of layer joint is 'none', must be one of"),
        (replace(SIZES, hidden=0), "hidden of layer joint is 0, must be an integer in 1.."),
    ):
        with pytest.raises(ArgumentError, match=message):
            fit({"red": Blobs(0)}, unread(), sizes=sizes)
    with pytest.raises(ArgumentError, match="source name is 'a b', must be up to 64 letters"):
        fit({"a b": Blobs(0)}, unread(), sizes=SIZES)


def test_pictures_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ShapeError, match=r"shape \(1, 3, 20, 24\) at 2, must be \(3, height, width"
    ):
        fit({"red": Blobs(0)}, [*pictures(2), pictures(1)[0][None], *pictures(3)], sizes=SIZES)
    monkeypatch.setattr(sys.modules[fit.__module__], "MAX_BYTES", 5 << 10)
    with pytest.raises(
        ArgumentError, match=r"features of 32 pictures take \d+ MiB, must be within"
    ):
        fit({"red": Blobs(0)}, pictures(40), sizes=SIZES, options=TrainOptions(steps=1, batch=2))
    monkeypatch.undo()
    uneven = [torch.rand(3, 16, 16 + 2 * i) for i in range(4)]
    with pytest.raises(ShapeError, match=r"\(16, 22\)\], must have one for the network of mix"):
        fit({"mix": Mix()}, uneven, sizes=SIZES)
    with pytest.raises(ArgumentError, match="answers of red that lie 0.0e.00 from that to mean"):
        fit({"red": Blobs(0)}, pictures(1) * 8, sizes=SIZES)


def test_more_held_out_pictures_than_one_stream_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are judged in parts, with the figures of the whole."""
    options = TrainOptions(steps=2, batch=4)
    rows: list[list[FitRow]] = []
    for most, part in ((4096, 512), (5, 5)):
        monkeypatch.setattr(arguments, "MAX_IMAGES", most)
        monkeypatch.setattr(sys.modules[fit.__module__], "_JUDGED_AT_ONCE", part)
        done = fit({"red": Blobs(0)}, pictures(30), sizes=SIZES, options=options, held_out=0.4)
        assert done.held_out == 12
        rows.append(done.rows)
    for one, other in zip(*rows, strict=True):
        assert (one.bytes, one.agreement) == (other.bytes, other.agreement)
        assert one.distance["red"] == pytest.approx(other.distance["red"], rel=1e-4)


def test_held_out_pictures_judge_and_are_not_trained_on() -> None:
    options = TrainOptions(steps=3, batch=4)
    shown, first, second = pictures(12), pictures(8, 1), pictures(8, 2)
    one, other = (
        fit({"red": Blobs(0)}, shown + held, sizes=SIZES, options=options, held_out=0.4)
        for held in (first, second)
    )
    assert one.held_out == other.held_out == 8
    assert one.model.model_id == other.model.model_id
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    net = Blobs(0)
    for done, held in ((one, first), (other, second)):
        x = net.encode(net.preprocess(torch.stack(held))).detach().half().float()
        for row in done.rows:
            files = split(encode(done.model, {"red": x}, quality=row.quality).payload)
            assert row.bytes == sum(map(len, files)) / 8


def test_what_has_to_is_moved() -> None:
    """A network that is no module, as the packaged cut of EfficientNet, goes to the device too."""

    class Cut:
        def __init__(self) -> None:
            self.inner, self.places = Blobs(0), list[torch.device]()
            self.encode, self.decode = self.inner.encode, self.inner.decode
            self.preprocess = self.inner.preprocess

        def to(self, device: torch.device) -> "Cut":
            self.places.append(device)
            return self

    cut = Cut()
    done = fit({"red": cut}, pictures(6), sizes=SIZES, options=TrainOptions(steps=1, batch=2))
    assert cut.places == [torch.device("cpu")]
    features_of(done.model, torch.stack(pictures(2)), networks={"red": cut})
    assert cut.places == [torch.device("cpu")] * 2
