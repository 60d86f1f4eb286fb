"""The integer path: lanes against one by one for every prior, orders and subsets together."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from foveal.codec import integer_model
from foveal.codec.config import Source
from foveal.codec.container import Container
from foveal.codec.integer_model import IntegerLayer, IntegerModel, Ints, groups_of, pick
from foveal.codec.model import FeatureCodec
from foveal.codec.prior.config import KINDS
from foveal.codec.schemes import Sizes, conditional, separate
from foveal.errors import BitstreamError

SOURCES = tuple(Source(name, 2, height=5, width=4) for name in ("a", "b", "c"))
NAMES = (*KINDS, "conditional")
IMAGES = 120


def make(name: str, sources: tuple[Source, ...] = SOURCES) -> FeatureCodec:
    """Return a finalised model with random weights whose layers skip some latents."""
    torch.manual_seed(NAMES.index(name))
    kind = "codebook-local" if name == "conditional" else name
    sizes = Sizes(5, 1, 4, 4, 0, kind, side=2, codewords=3, hyper_hidden=4)
    model = FeatureCodec((conditional if name == "conditional" else separate)(sources, sizes))
    model.start({s.name: torch.randn(32, *s.shape) for s in sources})
    with torch.no_grad():
        for key, value in model.named_parameters():
            if ".context.last" in key:
                value.normal_(0, 0.3)
            elif key.endswith("prior.base"):
                value.add_(torch.randn_like(value)).sub_(0.4)
            elif key.endswith("log_gain"):
                value.add_(0.3 * torch.randn_like(value))
    return model.finalise()


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> FeatureCodec:
    return make(request.param)


def symbols(layer: IntegerLayer, rng: np.random.Generator, extra: Ints) -> tuple[Ints, Ints, Ints]:
    """Return random side symbols, latents with outliers, and table indices."""
    shape = layer.shape()
    low, high = layer.prior.side_range
    side = rng.integers(max(low, -4), min(high, 4) + 1, (len(extra), layer.prior.num_side))
    indices = layer.indices(side, extra, shape)
    y = rng.integers(-4, 5, indices.shape)
    y[rng.random(indices.shape) < 0.02] = 5000
    return side, np.where(indices > 0, y, 0), indices


def controls_of(model: IntegerModel, rng: np.random.Generator, count: int) -> tuple[Ints, Ints]:
    """Return orders and qualities of many images, of which each has some layer on."""
    orders = rng.integers(0, len(model.orders), count)
    qualities = rng.integers(-1, 64, (count, model.pairs))
    qualities[:, 0] = np.maximum(qualities[:, 0], 0)
    return orders, qualities


def payload(
    model: IntegerModel, orders: Ints, qualities: Ints, seed: int
) -> tuple[Container, dict[str, Ints]]:
    """Code random integers image by image; return the container and what it holds."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[bytes, ...]] = []
    out: dict[str, list[Ints]] = {layer.name: [] for layer in model.layers}
    for order, own in zip(orders.tolist(), qualities, strict=True):
        known: dict[int, Ints] = {}
        streams: dict[int, bytes] = {}
        for number in model.orders[order]:
            layer = model.layers[number]
            extra, centers = model.surroundings(number, known, own[None], None)
            side, y, indices = symbols(layer, rng, np.broadcast_to(extra, (1, *layer.shape())))
            streams[number] = layer.encode(side, y, indices, layer.shape())[0]
            known[number] = y.reshape(1, *layer.shape()) + centers
            out[layer.name].append(known[number])
        rows.append(tuple(streams[number] for number in range(len(model.layers))))
    first = [bytes([i]) if model.conditional else b"" for i in orders.tolist()]
    controls = tuple(a + bytes((q + 1).tolist()) for a, q in zip(first, qualities, strict=True))
    container = Container(b"\0" * 4, tuple(range(len(model.layers))), tuple(rows), controls)
    return container, {name: np.concatenate(values) for name, values in out.items()}


def test_many_images_at_once_are_coded_as_one_by_one(model: FeatureCodec) -> None:
    rng = np.random.default_rng(7)
    for layer in model.integers.layers:
        log_gain = rng.integers(-9000, 9000, (IMAGES, layer.channels, 1, 1))
        shape = layer.shape()
        side, y, indices = symbols(layer, rng, log_gain)
        assert (indices == 0).any()
        assert (indices > 0).any()
        wide = layer.encode(side, y, indices, shape)
        each = [
            layer.encode(side[i : i + 1], y[i : i + 1], indices[i : i + 1], shape)[0]
            for i in range(IMAGES)
        ]
        assert wide == each
        assert np.array_equal(layer.decode(wide, log_gain, shape), y)
        assert np.array_equal(layer.decode(wide[:17], log_gain[:17], shape), y[:17])


@pytest.mark.parametrize("lanes", [True, False])
def test_orders_and_subsets_together_decode_exactly(
    model: FeatureCodec, lanes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    integers = model.integers
    orders, qualities = controls_of(integers, np.random.default_rng(11), 24)
    container, wanted = payload(integers, orders, qualities, 5)
    monkeypatch.setattr(integer_model, "DECODE_LANES_FROM", 1 if lanes else 1 << 30)
    found = integers.decode(container)
    assert sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        assert np.array_equal(found[name], value)


def test_few_images_at_a_time_decode_the_same(
    model: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    integers = model.integers
    orders, qualities = controls_of(integers, np.random.default_rng(3), 9)
    container, wanted = payload(integers, orders, qualities, 9)
    monkeypatch.setattr(integer_model, "LATENTS_MOST", 1)
    for name, value in integers.decode(container).items():
        assert np.array_equal(value, wanted[name])


def test_images_do_not_depend_on_their_neighbors() -> None:
    integers = make("conditional").integers
    orders, qualities = controls_of(integers, np.random.default_rng(2), 12)
    container, wanted = payload(integers, orders, qualities, 1)
    mirrored = replace(
        container, streams=container.streams[::-1], controls=container.controls[::-1]
    )
    for name, value in integers.decode(mirrored).items():
        assert np.array_equal(value[::-1], wanted[name])


def test_a_layer_that_is_off_is_silent_whatever_its_neighbors_are() -> None:
    integers = make("conditional").integers
    known = {0: np.full((1, *integers.layers[0].shape()), 9)}
    qualities = np.array([[40, -1, 40]])
    extra, centers = integers.surroundings(1, known, qualities, None)
    assert (extra < -(1 << 20)).all()
    assert not centers.any()
    side = np.zeros((1, integers.layers[1].prior.num_side), dtype=np.int64)
    assert not integers.layers[1].indices(side, extra, integers.layers[1].shape()).any()


def test_a_parent_that_is_off_or_later_is_absent() -> None:
    integers = make("conditional").integers
    known = {0: np.full((1, *integers.layers[0].shape()), 9)}
    alone = integers.surroundings(1, {}, np.array([[40, 40, 40]]), None)
    off = integers.surroundings(1, known, np.array([[-1, 40, 40]]), None)
    on = integers.surroundings(1, known, np.array([[40, 40, 40]]), None)
    assert np.array_equal(
        np.broadcast_to(off[0], on[0].shape), np.broadcast_to(alone[0], on[0].shape)
    )
    assert not off[1].any()
    assert not np.array_equal(np.broadcast_to(alone[0], on[0].shape), on[0])
    assert on[1].any()


def test_orders_by_hand() -> None:
    model = make("conditional").integers
    assert model.orders == ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    other = replace(model, order=(2, 0, 1))
    assert other.orders == ((2, 0, 1), (0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 1, 0))
    assert make("factorized").integers.orders == ((0, 1, 2),)
    many = make("conditional", tuple(Source(f"x{i}", 1) for i in range(6))).integers
    assert many.orders == (tuple(range(6)),)


def test_controls_by_hand() -> None:
    model = make("conditional").integers
    orders, qualities = model.controls([b"\3\1", b"\0\x40"])
    assert orders.tolist() == [3, 0]
    assert qualities.tolist() == [[0] * 3, [63] * 3]
    orders, qualities = model.controls([b"\5\0\1\x40"])
    assert (orders.tolist(), qualities.tolist()) == ([5], [[-1, 0, 63]])
    orders, qualities = model.controls([b"\1\7\5"])
    assert (orders.tolist(), qualities.tolist()) == ([1], [[6, -1, 6]])
    for bad in (b"\6\1", b"\0\x41", b"\0", b"\0\1\x09", b"\0\1\1\1\1", b"\0\x41\7"):
        with pytest.raises(BitstreamError, match="decode: payload has"):
            model.controls([bad])


def test_groups_hold_every_image_once_and_agree() -> None:
    rng = np.random.default_rng(0)
    orders, qualities = rng.integers(0, 3, 50), rng.integers(-1, 2, (50, 3))
    groups = groups_of(orders, qualities, 4)
    assert sorted(np.concatenate(groups).tolist()) == list(range(50))
    for rows in groups:
        assert len(rows) <= 4
        assert len({(orders[i], *(qualities[i] >= 0).tolist()) for i in rows.tolist()}) == 1
        assert rows.tolist() == sorted(rows.tolist())
    keys = Counter((orders[i], *(qualities[i] >= 0).tolist()) for i in range(50))
    assert len(groups) == sum(-(-count // 4) for count in keys.values())


def test_the_best_entry_over_wanted_tasks() -> None:
    table = np.zeros((2, 64, 2), dtype=np.int64)
    table[0, 5], table[1, 9] = (10, 3), (4, 8)
    qualities = np.array([[5, 9], [5, -1], [-1, 9], [-1, -1]])
    assert pick(table, qualities, np.max, 0).tolist() == [[10, 8], [10, 3], [4, 8], [0, 0]]
    assert pick(table, qualities, np.min, 99).tolist() == [[4, 3], [10, 3], [4, 8], [99, 99]]


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_what_a_layer_was_coded_given_stays_with_it(dropped: int) -> None:
    model = make("conditional").integers
    orders = np.array([4, 0])  # (2, 0, 1) and (0, 1, 2)
    qualities = np.full((2, 3), 30)
    container, _ = payload(model, orders, qualities, 4)
    assert model.with_parents(container, [dropped]) == [0, 1, 2]
    one = replace(container, streams=container.streams[1:], controls=container.controls[1:])
    assert model.with_parents(one, [dropped]) == [[0], [0, 1], [0, 1, 2]][dropped]
    off = replace(one, controls=(b"\0" + bytes([0, 31, 31]),))
    assert model.with_parents(off, [dropped]) == [[0], [1], [1, 2]][dropped]
