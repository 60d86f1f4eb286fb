"""Coding features: subsets, qualities, targets, orders, and what a payload is made of."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.codec import encoding
from foveal.codec.arguments import asking_tasks
from foveal.codec.config import CodecConfig, Head, Source
from foveal.codec.container import pack, unpack
from foveal.codec.model import FeatureCodec
from foveal.codec.schemes import Sizes, conditional, joint, separate
from foveal.codec.stream import decode, decode_symbols, encode, extract, inspect, split
from foveal.errors import ArgumentError, BitstreamError, ShapeError

SCHEMES: dict[str, Callable[..., CodecConfig]] = {
    "separate": separate,
    "joint": joint,
    "conditional": conditional,
}
SOURCES = (
    Source("a", 3, height=6, width=5, nonnegative=True),
    Source("b", 2, height=6, width=5),
    Source("c", 2, height=6, width=5),
)
SIZES = Sizes(4, 2, 6, 6, 1, "codebook-global", side=2, codewords=4, hyper_hidden=4)
LOCAL = replace(SIZES, prior="codebook-local")
Features = dict[str, Tensor]


def features(
    sources: tuple[Source, ...] = SOURCES, count: int = 4, size: tuple[int, int] | None = None
) -> Features:
    """Return random features, related between sources."""
    out: Features = {}
    common = torch.randn(count, 1, *(size or sources[0].shape[1:]))
    for source in sources:
        shape = source.shape if size is None else (source.channels, *size)
        x = torch.randn(count, *shape)
        x = 3 * common + x if source.kind == "map" and x.shape[2:] == common.shape[2:] else x
        out[source.name] = x.relu() if source.nonnegative else x
    return out


def make(config: CodecConfig, seed: int = 0) -> FeatureCodec:
    """Return a finalised model with random weights whose tasks and layers differ."""
    torch.manual_seed(seed)
    model = FeatureCodec(config)
    x = features(config.sources, 48)
    model.start(x)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if ".context.last" in key:
                value.normal_(0, 0.1)
            elif key.endswith("prior.base"):
                value.add_(0.3 * torch.randn_like(value))
            elif key.endswith("log_gain"):
                value.add_(0.5 * torch.randn(value.shape[0], 1, value.shape[2]))
    return model.finalise(x)


@pytest.fixture(scope="module", params=SCHEMES)
def model(request: pytest.FixtureRequest) -> FeatureCodec:
    return make(SCHEMES[request.param](SOURCES, SIZES))


@pytest.fixture(scope="module")
def ordered() -> FeatureCodec:
    return make(conditional(SOURCES, LOCAL), 5)


def costs(payload: bytes) -> list[int]:
    return [len(one) for one in split(payload)]


# Tasks.


def test_a_head_needs_not_read_what_its_layer_was_coded_given() -> None:
    config = conditional(SOURCES[:2], LOCAL)
    heads = tuple(Head(name, (name,), hidden=6) for name in "ab")
    model = make(replace(config, heads=heads, order=("a", "b")))
    x = features(SOURCES[:2])
    payload = encode(model, x, quality=50).payload
    whole, part = decode(model, payload), decode(model, payload, tasks=["b"])
    assert torch.equal(part["b"], whole["b"])
    alone = unpack(encode(model, x, tasks=["b"], quality=50).payload)
    assert alone.streams[0][0] != unpack(payload).streams[0][1], "b is coded given a"


def test_an_order_that_only_seems_best_is_not_taken(
    ordered: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search measures layers one by one; what counts is the whole, coded."""
    x = features(count=6)
    coded = encoding.Coder.code

    def dearer(self: encoding.Coder, rows: slice, qualities: Any, order: int = 0) -> Any:
        streams, bits = coded(self, rows, qualities, order)
        return [[row[0] + bytes(99 * (order > 0)), *row[1:]] for row in streams], bits

    found = {c[0] for c in unpack(encode(ordered, x, order="best").payload).controls}
    assert found != {0}, "some image has a better order"
    monkeypatch.setattr(encoding.Coder, "code", dearer)
    assert {c[0] for c in unpack(encode(ordered, x, order="best").payload).controls} == {0}


def test_a_task_less_costs_less(model: FeatureCodec) -> None:
    x = features()
    whole = encode(model, x).payload
    saved = 0
    for task in "abc":
        rest = encode(model, x, tasks=[t for t in "abc" if t != task]).payload
        fewer, more = (inspect(p)["image_bytes"] for p in (rest, whole))
        assert all(a <= b for a, b in zip(fewer, more, strict=True))
        saved += sum(more) - sum(fewer)
        if len(model.config.layers) > 1:
            assert len(rest) < len(whole)
        assert sorted(decode(model, rest, tasks=[t for t in "abc" if t != task])) == sorted(
            set("abc") - {task}
        )
    assert saved > 0


def test_one_task_of_many_layers_costs_its_layer_and_11_bytes() -> None:
    model = make(separate(SOURCES, SIZES))
    x = features(count=1)
    for number, task in enumerate("abc"):
        payload = encode(model, {task: x[task]}, tasks=[task], quality=33).payload
        found = unpack(payload)
        assert found.layers == (number,)
        assert found.controls == (bytes([34]),)
        assert len(payload) == 11 + len(found.streams[0][0])
        whole = unpack(encode(model, x, quality=33).payload)
        assert whole.streams[0][number] == found.streams[0][0]


def test_each_task_has_a_quality_of_its_own() -> None:
    model = make(separate(SOURCES, SIZES))
    x = features()
    each = {"a": 3, "b": 60, "c": 31}
    mixed = unpack(encode(model, x, quality=each).payload)
    for number, (task, quality) in enumerate(each.items()):
        alone = unpack(encode(model, x, tasks=[task], quality=quality).payload)
        assert [row[number] for row in mixed.streams] == [row[0] for row in alone.streams]
    assert encode(model, x, quality=each).qualities == ((3, 60, 31),) * 4


def test_a_shared_layer_takes_the_finest_gain_channel_by_channel() -> None:
    model = make(joint(SOURCES, SIZES))
    x = features()
    stream = encode(model, x, quality={"a": 40, "b": 50, "c": 45})
    table = model.integers.layers[0].log_gains.astype(int)
    finest = np.max([table[0, 40], table[1, 50], table[2, 45]], axis=0)
    found = model.integers.log_gains(np.array([stream.qualities[0]]))[0][0]
    assert found.tolist() == finest.tolist()
    assert len({*finest.tolist()} - {*table[1, 50].tolist()}) > 0


def test_higher_quality_costs_more_and_errs_less(model: FeatureCodec) -> None:
    x = features(count=8)
    payloads = [encode(model, x, quality=q).payload for q in (0, 30, 63)]
    sizes = [len(p) for p in payloads]
    assert sizes == sorted(set(sizes))
    latents = [model.latents(layer, x) for layer in model.config.layers]
    errors: list[float] = []
    for payload, quality in zip(payloads, (0, 30, 63), strict=True):
        found = decode_symbols(model, payload)
        asked = np.full((8, model.integers.pairs), quality)
        gains = [np.exp(g / 256 * 0.0951) for g in model.integers.log_gains(asked)]
        errors.append(
            sum(
                float(np.abs(found[layer.name] / g[..., None, None] - y.numpy()).mean())
                for layer, g, y in zip(model.config.layers, gains, latents, strict=True)
            )
        )
    assert errors == sorted(errors, reverse=True)


# Integers and floats.


def test_integers_survive(model: FeatureCodec) -> None:
    x = features(count=5)
    coder = encoding.Coder(model, x, list(model.config.layers), None)
    known: dict[int, np.ndarray] = {}
    wanted = np.full((5, model.integers.pairs), 44)
    for number in model.integers.orders[0]:
        _, known[number], _ = coder.layer(number, slice(0, 5), wanted, known)
    found = decode_symbols(model, encode(model, x, quality=44).payload)
    for number, layer in enumerate(model.config.layers):
        assert np.array_equal(found[layer.name], known[number])


def test_images_do_not_influence_each_others_bytes(model: FeatureCodec) -> None:
    x, other = features(count=3), features(count=3)
    changed = {k: torch.stack([100 * other[k][0], v[1], other[k][2]]) for k, v in x.items()}
    first = unpack(encode(model, x, quality=50).payload).streams
    second = unpack(encode(model, changed, quality=50).payload).streams
    assert first[1] == second[1]
    assert first[0] != second[0]


@pytest.mark.parametrize("quality", [20, 63])
def test_training_sees_what_decoding_gives(model: FeatureCodec, quality: int) -> None:
    x = features(count=16)
    layers = len(model.config.layers)
    before = torch.ones(layers, layers).tril(-1).expand(16, -1, -1)
    asked = torch.full((16, model.integers.pairs), float(quality))
    with torch.no_grad():
        out = model(x, asked, hard=True, before=before)
    stream = encode(model, x, quality=quality)
    found = decode(model, stream.payload)
    for task, value in out.features.items():
        # Indices differ at their edges, and parents are rounded a little apart.
        off = (found[task] - value).abs().mean() / value.std()
        assert off < 0.02, task
    real = stream.receipt.details["latent_bits"]
    estimated = float(torch.stack(list(out.latent_bits.values())).sum())
    assert estimated == pytest.approx(real, rel=0.12)
    assert stream.receipt.details["stream_bytes"] == pytest.approx(
        (real + stream.receipt.details["side_bits"]) / 8, abs=3 * 16 * layers
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_features_of_other_types(model: FeatureCodec, dtype: torch.dtype) -> None:
    x = {k: v.to(dtype) for k, v in features().items()}
    wanted = encode(model, {k: v.float() for k, v in x.items()}, quality=30).payload
    assert encode(model, x, quality=30).payload == wanted


def test_features_that_need_a_gradient(model: FeatureCodec) -> None:
    x = {k: v.requires_grad_() for k, v in features().items()}
    assert not decode(model, encode(model, x).payload)["a"].requires_grad


# Targets.


@pytest.mark.parametrize("target", [60, 90, 150, 400])
def test_a_target_is_met_and_the_next_quality_would_miss_it(
    model: FeatureCodec, target: int
) -> None:
    x = features(count=3)
    stream = encode(model, x, target_bytes=target)
    assert max(costs(stream.payload)) <= target
    for i, row in enumerate(stream.qualities):
        assert len(set(row)) == 1
        alone = {k: v[i : i + 1] for k, v in x.items()}
        assert len(encode(model, alone, quality=row[0]).payload) == costs(stream.payload)[i]
        if row[0] < 63:
            assert len(encode(model, alone, quality=row[0] + 1).payload) > target


def test_targets_count_the_bytes_of_the_very_file() -> None:
    sources = tuple(Source(f"t{i}", 2, height=4, width=4) for i in range(9))
    config = separate(sources, replace(SIZES, channels=3, prior="codebook-local"))
    model = make(config)
    for size in (None, (300, 3)):
        x = features(sources, 1, size)
        least = len(encode(model, x, tasks=["t8"], quality=0).payload)
        for target in range(least, least + 12):
            payload = encode(model, x, tasks=["t8"], target_bytes=target).payload
            assert len(payload) <= target
        exact = len(encode(model, x, tasks=["t8"], quality=20).payload)
        assert len(encode(model, x, tasks=["t8"], target_bytes=exact).payload) <= exact
        with pytest.raises(ArgumentError, match=f"must be at least {least} for image 0; raise it"):
            encode(model, x, tasks=["t8"], target_bytes=least - 1)


def test_targets_of_an_order(ordered: FeatureCodec) -> None:
    x = features(count=2)
    least = max(costs(encode(ordered, x, quality=0).payload))
    for order in (None, "best", ["c", "b", "a"]):
        for target in (least + 8, least + 13):
            assert (
                max(costs(encode(ordered, x, target_bytes=target, order=order).payload)) <= target
            )


@pytest.mark.parametrize("target", [0, -3, float("nan"), float("inf")])
def test_targets_that_are_none(model: FeatureCodec, target: float) -> None:
    with pytest.raises(ArgumentError, match=f"target_bytes is {target}, must be positive and"):
        encode(model, features(), target_bytes=target)


# Orders.


def test_the_best_order_is_that_of_brute_force(ordered: FeatureCodec) -> None:
    x = features(count=12)
    paths = list(permutations("abc"))
    sizes = np.array([costs(encode(ordered, x, order=path).payload) for path in paths])
    best = encode(ordered, x, order="best")
    found = np.array(costs(best.payload))
    assert len({*np.argmin(sizes, axis=0).tolist()}) > 1
    assert (found <= sizes[0]).all()
    # The search takes parents as coded by themselves, which a skipped latent is not.
    assert (found <= sizes.min(axis=0) + 2).all()
    assert (found == sizes.min(axis=0)).mean() > 0.5
    wanted = decode_symbols(ordered, best.payload)
    for i in range(12):
        one = {k: v[i] for k, v in wanted.items()}
        order = unpack(best.payload).controls[i][0]
        path = [ordered.config.layers[n].name for n in ordered.integers.orders[order]]
        alone = encode(ordered, {k: v[i : i + 1] for k, v in x.items()}, order=path).payload
        assert all(np.array_equal(decode_symbols(ordered, alone)[k][0], v) for k, v in one.items())


def test_the_search_alone_is_exact_where_nothing_is_skipped() -> None:
    config = conditional(SOURCES[:2], LOCAL)
    model = make(config, 3)
    with torch.no_grad():
        for layer in config.layers:
            model.layer(layer.name).prior.base.fill_(60 / 16)  # no table is 0
    model.finalise()
    x = features(SOURCES[:2], 8)
    both = [
        costs(encode(model, x, quality=50, order=list(path)).payload)
        for path in permutations(("a", "b"))
    ]
    assert costs(encode(model, x, quality=50, order="best").payload) == np.min(both, 0).tolist()


def test_orders_of_a_subset(ordered: FeatureCodec) -> None:
    x = features(count=4)
    own = costs(encode(ordered, x, tasks=["a", "c"]).payload)
    best = encode(ordered, x, tasks=["a", "c"], order="best").payload
    assert all(a <= b for a, b in zip(costs(best), own, strict=True))
    assert unpack(best).layers == (0, 2)
    assert sorted(decode(ordered, best)) == ["a", "c"]


def test_many_layers_have_one_order_and_no_search() -> None:
    sources = tuple(Source(f"x{i}", 1, height=2, width=2) for i in range(6))
    model = make(conditional(sources, replace(SIZES, channels=2)))
    x = features(sources, 2)
    assert encode(model, x, order="best").payload == encode(model, x).payload
    names = [source.name for source in sources]
    assert encode(model, x, order=names).payload == encode(model, x).payload
    with pytest.raises(ArgumentError, match=r'must be "best" or be \[\'x0\', \'x1\''):
        encode(model, x, order=names[::-1])


# Tasks that were added later.


@pytest.fixture(scope="module", params=["joint", "separate"])
def extended(request: pytest.FixtureRequest) -> FeatureCodec:
    model = make(SCHEMES[request.param](SOURCES, SIZES))
    layers = tuple(layer.name for layer in model.config.layers)
    source = Source("late", 3, height=6, width=5)
    model.extend(source, Head("late", layers, external=True), torch.randn(8, 3, 6, 5))
    return model


def test_a_late_task_gets_the_whole_stream(extended: FeatureCodec) -> None:
    x = features()
    wanted = encode(extended, x, tasks=["a", "b", "c"], quality=30)
    found = encode(extended, x, tasks=["late"], quality=30)
    assert found.payload == wanted.payload
    assert encode(extended, x, tasks=["late"], quality={"late": 30}).payload == wanted.payload


def test_a_late_task_beside_another_leaves_no_layer_silent(extended: FeatureCodec) -> None:
    x = features()
    both = encode(extended, x, tasks=["a", "late"], quality=30)
    assert both.qualities[0] == (30, 30, 30)
    finer = encode(extended, x, tasks=["a", "late"], quality={"a": 50, "late": 20})
    assert finer.qualities[0] == (50, 20, 20)
    assert all(np.abs(y).sum() > 0 for y in decode_symbols(extended, both.payload).values())
    assert asking_tasks(extended, ["a", "late"]) == [("a", "late"), ("late",), ("late",)]
    with pytest.raises(ArgumentError, match=r"quality has no entry for \['late'\]"):
        encode(extended, x, tasks=["a", "late"], quality={"a": 50})


# Parts of payloads.


def test_what_is_taken_out_is_not_coded_again(model: FeatureCodec) -> None:
    x = features()
    whole = encode(model, x, quality=25).payload
    part = extract(model, whole, tasks=["b"])
    found, all_of_it = unpack(part), unpack(whole)
    for i, row in enumerate(found.streams):
        for layer, stream in zip(found.layers, row, strict=True):
            assert stream == all_of_it.streams[i][all_of_it.layers.index(layer)]
    latents, wanted = decode_symbols(model, part), decode_symbols(model, whole)
    assert all(np.array_equal(latents[name], wanted[name]) for name in latents)
    if not model.config.conditional:
        a, b = decode(model, part, tasks=["b"])["b"], decode(model, whole, tasks=["b"])["b"]
        assert torch.equal(a, b)


def test_an_extracted_task_is_as_small_as_one_that_was_sent_alone() -> None:
    model = make(separate(SOURCES, SIZES))
    x, each = features(), {"a": 3, "b": 60, "c": 31}
    whole = encode(model, x, quality=each).payload
    for task, quality in each.items():
        alone = encode(model, x, tasks=[task], quality=quality).payload
        assert extract(model, whole, tasks=[task]) == alone
    both = extract(model, whole, tasks=["a", "c"])
    assert both == encode(model, x, tasks=["c", "a"], quality={"a": 3, "c": 31}).payload


def test_split_payloads_are_those_of_each_image(model: FeatureCodec) -> None:
    x = features(count=3)
    payload = encode(model, x, quality=25).payload
    wanted = decode(model, payload)
    for i, one in enumerate(split(payload)):
        for task, value in decode(model, one).items():
            assert torch.allclose(value[0], wanted[task][i], atol=1e-5)


def test_inspect_by_hand(model: FeatureCodec) -> None:
    payload = encode(model, features(), quality=25).payload
    found = inspect(payload, model)
    assert found["layers"] == [layer.name for layer in model.config.layers]
    assert found["images"] == 4
    assert found["size"] is None
    parts = ("header", "control", "index", "stream", "checksum")
    assert sum(found[f"{part}_bytes"] for part in parts) == len(payload) == found["total_bytes"]
    assert sum(found["layer_bytes"]) == sum(found["image_bytes"]) == found["stream_bytes"]
    assert inspect(payload)["layers"] == list(range(len(model.config.layers)))
    strange = replace(unpack(payload), layers=(5,), streams=((b"",),) * 4)
    assert inspect(pack(strange), model)["layers"] == [5]


def test_only_what_a_task_needs_is_decoded() -> None:
    model = make(separate(SOURCES, SIZES))
    payload = encode(model, features(), quality=25).payload
    whole = unpack(payload)
    damaged = replace(whole, streams=tuple((a, b"\xff\xff", c) for a, _, c in whole.streams))
    wanted = decode(model, payload)
    found = decode(model, pack(damaged), tasks=["c", "a"])
    assert sorted(found) == ["a", "c"]
    assert all(torch.equal(found[task], wanted[task]) for task in found)
    with pytest.raises(BitstreamError):
        decode(model, pack(damaged))


def test_layers_that_are_not_there_do_not_count_against_the_limit() -> None:
    model = make(separate(SOURCES, SIZES))
    one = encode(model, features(), tasks=["b"]).payload
    latents = 4 * 4 * 3 * 3
    assert decode_symbols(model, one, max_symbols=latents)["b"].size == latents
    with pytest.raises(BitstreamError, match=f"claims {latents} latents, must be at most"):
        decode_symbols(model, one, max_symbols=latents - 1)


# What is refused.


def test_numbers_that_do_not_fit() -> None:
    model = make(separate(SOURCES[:1], SIZES))
    x = features(SOURCES[:1])["a"]
    assert decode(model, encode(model, {"a": x * 1e20}).payload)["a"].isfinite().all()
    with pytest.raises(ArgumentError, match="features a has NaN or infinite values, must be fin"):
        encode(model, {"a": x.double() * 1e60})
    model.scale("a").std.fill_(1e-3)
    with pytest.raises(ArgumentError, match="layer a latents that are not finite, must be of the"):
        encode(model, {"a": x.sign() * 3e38})


def test_sizes_are_those_of_each_source() -> None:
    sources = (Source("a", 2, height=8, width=8), Source("b", 2, height=4, width=4))
    model = make(separate(sources, LOCAL))
    x = features(sources)
    assert unpack(encode(model, x).payload).size is None
    with pytest.raises(ShapeError, match=r"sizes \[\(4, 4\), \(8, 8\)\], must have those of the"):
        encode(model, {"a": x["a"][..., :4, :4], "b": torch.randn(4, 2, 8, 8)})
    small = {"a": x["a"][..., :4, :4], "b": x["b"]}
    assert decode(model, encode(model, small).payload)["a"].shape == (4, 2, 4, 4)


def test_sides_of_length_1_stay() -> None:
    sources = (Source("a", 2, height=1, width=8),)
    model = make(separate(sources, LOCAL))
    for width in (5, 12):
        x = torch.randn(2, 2, 1, width)
        assert decode(model, encode(model, x).payload)["a"].shape == x.shape
    with pytest.raises(ShapeError, match=r"size \(3, 8\), must have length 1 where the model's"):
        encode(model, torch.randn(2, 2, 3, 8))
    strange = replace(unpack(encode(model, torch.randn(2, 2, 1, 5)).payload), size=(3, 5))
    with pytest.raises(BitstreamError, match=r"size \(3, 5\), must have length 1 where the model"):
        decode(model, pack(strange))


def test_qualities_of_unknown_tasks() -> None:
    model = make(separate(SOURCES[:1], SIZES))
    with pytest.raises(ArgumentError, match=r"quality has \['depth'\], must have some of \['a'\]"):
        encode(model, features(SOURCES[:1]), quality={"a": 3, "depth": 4})
