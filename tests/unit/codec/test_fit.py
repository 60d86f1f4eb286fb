"""A codec for networks of one's own, and heads for tasks that came later."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from foveal.codec import schemes
from foveal.codec.external import add_task, answer_distance
from foveal.codec.fit import fit
from foveal.codec.model import FeatureCodec
from foveal.codec.stream import decode, decode_symbols, encode
from foveal.codec.taxonomy import cheapest_order, learn_order, order_costs, subsets
from foveal.codec.training import TrainOptions
from foveal.errors import ArgumentError

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
    with pytest.raises(ArgumentError, match="scheme 'both'"):
        fit({"red": Blobs(0)}, pictures(8), scheme="both")  # type: ignore[arg-type]
