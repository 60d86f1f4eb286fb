"""What `encode` takes: images, features by name, one tensor; and the loss that it measures."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foveal import codec
from foveal.codec import encoding, sources
from foveal.codec.config import CodecConfig, Head, Source
from foveal.errors import ArgumentError, ShapeError

SIZES = codec.Sizes(
    channels=4, hidden=8, head_hidden=8, side=2, codewords=2, hyper_hidden=4, blocks=0
)


class Network(nn.Module):
    """Features are the means of 4 x 4 pixels of some planes; the answer is what `answer` says."""

    def __init__(self, channels: int, answer: str) -> None:
        super().__init__()
        self.channels, self.answer = channels, answer

    def preprocess(self, images: Tensor) -> Tensor:
        return nn.functional.interpolate(images, size=(32, 32), mode="bilinear")

    def encode(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images[:, [0, 1, 2, 0, 1][: self.channels]], 4)

    def decode(self, features: Tensor) -> Tensor:
        return features.mean((2, 3)) if self.answer == "logits" else 2 * features + 1


NETWORKS = {
    "ours/tint": Network(4, "logits"),
    "ours/map": Network(2, "map"),
    "ours/late": Network(5, "map"),
    "ours/rgb": Network(3, "map"),
}
MAPS = {
    "tint": Source("tint", 4, "map", 8, 8, teacher="ours/tint"),
    "map": Source("map", 2, "map", 8, 8, teacher="ours/map"),
    "rgb": Source("rgb", 3, "map", 8, 8, teacher="ours/rgb"),
    "silent": Source("silent", 4, "map", 8, 8),
}


@pytest.fixture(autouse=True)
def _networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_load", NETWORKS.__getitem__)


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def made(*names: str, separate: bool = False) -> codec.FeatureCodec:
    torch.manual_seed(0)
    scheme = codec.schemes.separate if separate else codec.schemes.joint
    model = codec.FeatureCodec(scheme([MAPS[name] for name in names], SIZES))
    x = {n: torch.rand(32, *MAPS[n].shape) for n in names}
    model.start(x)
    return model.finalise(x)


def test_images_and_features_give_the_same_bytes() -> None:
    model = made("tint", "map")
    features = codec.features_of(model, images())
    net = NETWORKS["ours/tint"]
    assert torch.equal(features["tint"], net.encode(net.preprocess(images())))
    wanted = codec.encode(model, features, quality=50).payload
    assert codec.encode(model, images(), quality=50).payload == wanted
    one = codec.encode(model, images()[0], quality=50).payload
    assert one == codec.split(wanted)[0]
    assert one == codec.encode(model, {k: v[:1] for k, v in features.items()}, quality=50).payload


def test_one_tensor_of_features_for_one_source() -> None:
    model = made("tint")
    features = codec.features_of(model, images())["tint"]
    assert features.shape == (3, 4, 8, 8)
    wanted = codec.encode(model, images()).payload
    assert codec.encode(model, features).payload == wanted
    assert codec.encode(model, features.half().float()).receipt.details["images"] == 3


def test_only_what_the_tasks_need_is_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("tint", "map", separate=True)
    asked: list[str] = []

    def load(name: str) -> Network:
        asked.append(name)
        return NETWORKS[name]

    monkeypatch.setattr(sources, "_load", load)
    found = codec.features_of(model, images(), tasks=["map"])
    assert list(found) == ["map"]
    codec.encode(model, images(), tasks=["map"])
    assert set(asked) == {"ours/map"}


def test_networks_of_ones_own() -> None:
    model, net = made("silent"), NETWORKS["ours/tint"]
    found = codec.features_of(model, images(), networks={"silent": net})
    assert torch.equal(found["silent"], net.encode(net.preprocess(images())))
    stream = codec.encode(model, found, head=net.decode)
    assert stream.receipt.loss in (0, 1 / 3, 2 / 3, 1)
    with pytest.raises(ArgumentError, match=r"networks has \['loud'\], must have some of \['sil"):
        codec.features_of(model, images(), networks={"loud": net})


def test_three_channels_may_be_either() -> None:
    model = made("rgb")
    features = codec.features_of(model, images())
    for x in (features["rgb"], images(), images()[0]):
        with pytest.raises(ArgumentError, match=r"source rgb has 3 channels, as images have; give"):
            codec.encode(model, x)
    assert codec.decode(model, codec.encode(model, features).payload)["rgb"].shape == (3, 3, 8, 8)


def test_three_images_of_tokens_are_no_image() -> None:
    source = Source("words", 6, "tokens", 5, teacher="ours/tint")
    model = codec.FeatureCodec(codec.schemes.joint([source], codec.Sizes(4, 1, 8, 8, 0, side=2)))
    x = torch.randn(40, 5, 6)
    model.start({"words": x})
    model.finalise({"words": x})
    assert codec.encode(model, x[:3]).receipt.details["images"] == 3


def test_what_is_neither_is_named() -> None:
    both, one = made("tint", "map"), made("tint")
    for model, x, error, message in (
        (both, torch.rand(2, 4, 8, 8), ArgumentError, r"one tensor of shape \(2, 4, 8, 8\), must"),
        (one, torch.rand(2, 1, 8, 8), ShapeError, r"shape \(2, 1, 8, 8\), must be \(b, 4, 8, 8\)"),
        (one, torch.rand(4, 8, 8), ShapeError, r"shape \(4, 8, 8\), must be \(b, 4, 8, 8\)"),
        (one, torch.rand(3, 0, 8), ShapeError, r"images has shape \(1, 3, 0, 8\), must be"),
        (one, torch.full((1, 3, 8, 8), float("nan")), ArgumentError, "must be finite floating"),
        (one, torch.zeros(1, 3, 8, 8).byte(), ArgumentError, "divide by 255"),
        (made("silent"), images(), ArgumentError, "source silent names no network, must be a dict"),
    ):
        with pytest.raises(error, match=message):
            codec.encode(model, x)
    with pytest.raises(ArgumentError, match=r"features_of: tasks is \['night'\]"):
        codec.features_of(one, images(), tasks=["night"])


def test_the_loss_is_that_of_what_was_sent() -> None:
    model = made("tint", "map")
    x = codec.features_of(model, images())
    stream = codec.encode(model, images(), quality=5, measure=True)
    back = codec.decode(model, stream.payload)
    same = back["tint"].mean((2, 3)).argmax(1) == x["tint"].mean((2, 3)).argmax(1)
    wanted, got = 2 * x["map"] + 1, 2 * back["map"] + 1
    gap = (wanted - got).square().sum() / (wanted - wanted.mean()).square().sum()
    losses = stream.receipt.details["task_loss"]
    assert losses["tint"] == pytest.approx(1 - float(same.double().mean()))
    assert losses["map"] == pytest.approx(float(gap.sqrt()), rel=1e-5)
    assert losses["map"] > 0.01
    assert stream.receipt.loss == pytest.approx(sum(losses.values()) / 2)
    assert stream.receipt.loss_metric == (
        "mean over tasks of: top-1 disagreement, or relative error of maps, with the answer to "
        "uncompressed features"
    )


def test_the_seconds_have_networks_and_coding_and_no_measuring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[float] = []

    def slow(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def call(*arguments: object, **options: object) -> object:
            calls.append(seconds)
            time.sleep(seconds)
            return function(*arguments, **options)

        return call

    model, net = made("tint"), NETWORKS["ours/tint"]
    monkeypatch.setattr(net, "encode", slow(net.encode, 0.1))
    monkeypatch.setattr(net, "decode", slow(net.decode, 0.7))
    monkeypatch.setattr(encoding.Coder, "code", slow(encoding.Coder.code, 0.2))
    receipt = codec.encode(model, images(), measure=True).receipt
    assert receipt.loss is not None
    assert calls.count(0.2) == 1
    assert calls.count(0.7) >= 2
    assert 0.3 <= receipt.seconds < 1.4


def test_whose_answers_count() -> None:
    model = made("tint", "map")
    x = codec.features_of(model, images())
    plain = codec.encode(model, x, quality=20).receipt
    assert (plain.stage, plain.unit, plain.loss, plain.loss_metric) == ("codec", "bytes", None, "")
    assert plain.full == 3 * (4 + 2) * 64 * 4
    ours = codec.encode(model, x, quality=20, measure=True, tasks=["tint"]).receipt
    theirs = codec.encode(
        model, x, quality=20, tasks=["tint"], head=NETWORKS["ours/tint"].decode, full_bytes=9
    ).receipt
    assert ours.loss == theirs.loss
    assert ours.loss_metric == "top-1 disagreement with the answer to uncompressed features"
    assert (theirs.full, theirs.details["full_is"]) == (9, "given by the caller")
    mapped = codec.encode(model, x, head={"map": NETWORKS["ours/map"].decode}).receipt
    assert list(mapped.details["task_loss"]) == ["map"]
    assert mapped.loss_metric == "relative error with the answer to uncompressed features"
    many = codec.encode(model, torch.cat([images()] * 50), tasks=["map"], measure=True)
    assert many.receipt.loss == pytest.approx(
        codec.encode(model, images(), tasks=["map"], measure=True).receipt.loss, rel=1e-5
    )


def test_a_later_task_is_measured_where_its_features_can_be_known() -> None:
    model = made("tint")
    source = Source("late", 5, "map", 8, 8, teacher="ours/late")
    net = NETWORKS["ours/late"]
    true = net.encode(net.preprocess(images()))
    model.extend(source, Head("late", ("joint",), hidden=8, blocks=0, external=True), true)
    measured = codec.encode(model, images(), measure=True)
    assert set(measured.receipt.details["task_loss"]) == {"tint", "late"}
    features = codec.features_of(model, images())
    assert set(features) == {"tint"}
    alone = codec.encode(model, features, measure=True).receipt.details["task_loss"]
    assert set(alone) == {"tint"}
    given = codec.encode(model, features | {"late": true}, measure=True).receipt.details
    assert given["task_loss"] == pytest.approx(measured.receipt.details["task_loss"])
    nothing = codec.encode(model, features, tasks=["late"], measure=True).receipt
    assert (nothing.loss, nothing.loss_metric) == (None, "")


def test_what_cannot_be_measured_is_named() -> None:
    model, silent = made("tint", "map"), made("silent")
    decode = NETWORKS["ours/tint"].decode
    with pytest.raises(ArgumentError, match="only one can answer; leave one out"):
        codec.encode(model, images(), measure=True, head=decode)
    with pytest.raises(ArgumentError, match=r"head is one function, must be a dict for \['tint', "):
        codec.encode(model, images(), head=decode)
    with pytest.raises(ArgumentError, match=r"no network of \['silent'\]; give head"):
        codec.encode(silent, torch.rand(1, 4, 8, 8), measure=True)


def test_every_public_name_is_there() -> None:
    assert set(codec.__all__) <= set(dir(codec))
    assert all(getattr(codec, name).__doc__ for name in codec.__all__)
    assert CodecConfig is codec.CodecConfig


@pytest.mark.parametrize(("factor", "shift"), [(255.0, 0.0), (1.0, -0.6), (1.0, 0.3)])
def test_images_of_another_range_are_refused(factor: float, shift: float) -> None:
    model, x = made("tint"), images() * factor + shift
    low, high = float(x.min()), float(x.max())
    with pytest.raises(ArgumentError, match=f"within {low:.4g}..{high:.4g}, must be within 0..1"):
        codec.encode(model, x)
    assert codec.encode(model, images() * 1.02 - 0.01).payload, "what bicubic weights overshoot"


def test_another_version_of_a_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of other weights would be coded without a word, and mean something else."""
    net = Network(4, "logits")
    net.sha256 = "b" * 64
    monkeypatch.setattr(sources, "_load", {"ours/tint": net}.__getitem__)
    own = replace(MAPS["tint"], sha256="a" * 64)
    with pytest.raises(
        ArgumentError, match="network: ours/tint is b{12}, must be a{12}, which the"
    ):
        sources.network(own)
    assert sources.network(replace(own, sha256="b" * 64)) is net
    assert sources.network(replace(own, sha256="")) is net
