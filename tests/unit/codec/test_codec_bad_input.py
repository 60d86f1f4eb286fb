"""Bad input of encoding, decoding, extraction and model files: names, values and mends."""

import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal._core.weights import load_weights, save_weights
from foveal.codec.config import Source
from foveal.codec.container import Container, pack, unpack
from foveal.codec.encoding import encode
from foveal.codec.model import FeatureCodec
from foveal.codec.schemes import Sizes, joint, separate
from foveal.codec.stream import decode, decode_symbols, extract, inspect, load, split
from foveal.errors import ArgumentError, BitstreamError, ShapeError

GOLDEN = Path(__file__).parents[2] / "golden" / "codec"
Features = dict[str, Tensor]


@pytest.fixture(scope="module")
def model() -> FeatureCodec:
    """A model of two layers with priors of one size: edges and depth."""
    return load(GOLDEN / "factorized.safetensors")


def features(count: int = 2, rows: int = 6, columns: int = 7) -> Features:
    """Return features of both sources."""
    torch.manual_seed(1)
    edges = torch.randn(count, 2, rows, columns).relu()
    return {"edges": edges, "depth": torch.randn(count, 3, rows, columns)}


def changed(name: str, value: Tensor) -> Features:
    """Return features with one of them exchanged."""
    return features() | {name: value}


NAN = torch.full((2, 2, 6, 7), float("nan"))
INF = torch.full((2, 3, 6, 7), float("inf"))
ENCODE: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "NaN": (lambda: changed("edges", NAN), {}, "features edges has NaN or infinite.*check the"),
    "infinite": (lambda: changed("depth", INF), {}, "features depth has NaN or infinite"),
    "no image": (lambda: features(0), {}, r"shape \(0, 2, 6, 7\).*b at least 1"),
    "no row": (lambda: features(1, 0), {}, r"edges has shape \(1, 2, 0, 7\), must be"),
    "integers": (lambda: changed("edges", NAN.int()), {}, "edges has dtype torch.int32.*cast it"),
    "a bare map": (lambda: changed("depth", INF[0]), {}, r"depth has shape \(3, 6, 7\)"),
    "channels": (lambda: changed("depth", NAN), {}, r"\(2, 2, 6, 7\), must be \(b, 3, 6, 7\)"),
    "batches": (lambda: changed("depth", torch.zeros(3, 3, 6, 7)), {}, r"batches of \[2, 3\]"),
    "sizes": (lambda: changed("depth", torch.zeros(2, 3, 9, 7)), {}, "sizes"),
    "missing": (lambda: {"edges": features()["edges"]}, {}, r"features has no \['depth'\].*add"),
    "one tensor": (
        lambda: features()["edges"],
        {},
        r"one tensor of shape .*must be a dict with .* or images",
    ),
    "a tied size": (lambda: features(1, 13, 13), {}, "must be 3x4, to which.*codebook-local"),
    "huge": (lambda: features(1, 2048, 1024), {}, "must be 3x4, to which"),
    "unknown task": (features, {"tasks": ["night"]}, r"\['night'\], must be a list.*'edges'"),
    "no task": (features, {"tasks": []}, r"tasks is \[\], must be a list of some of"),
    "a string": (features, {"tasks": "edges"}, "tasks is 'edges', must be a list"),
    "quality 64": (features, {"quality": 64}, r"quality is 64, must be .*0\.\.63.*clip it"),
    "quality -2": (features, {"quality": -2}, r"quality is -2, must be .*0\.\.63"),
    "no quality": (features, {"quality": {"edges": 3}}, r"no entry for \['depth'\].*add it"),
    "both": (features, {"quality": 3, "target_bytes": 90}, "quality is 3 and target_bytes 90"),
    "full": (features, {"full_bytes": 0}, "full_bytes is 0, must be positive"),
    "order": (features, {"order": ["depth", "edges"]}, "order is .*no parents; leave it out"),
}


@pytest.mark.parametrize("name", list(ENCODE))
def test_encode(model: FeatureCodec, name: str) -> None:
    make, options, message = ENCODE[name]
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        encode(model, make(), **options)


def test_shapes_are_shape_errors(model: FeatureCodec) -> None:
    for make in (lambda: features(0), lambda: features(1, 13, 13), lambda: features(1, 0)):
        with pytest.raises(ShapeError):
            encode(model, make())


@pytest.mark.parametrize("target", [1, 12, 40])
def test_target_below_what_is_possible_says_what_is(model: FeatureCodec, target: int) -> None:
    with pytest.raises(ArgumentError, match=f"target_bytes is {target}, must be at least") as info:
        encode(model, features(1), target_bytes=target)
    least = re.search(r"at least (\d+) for image 0; raise it", str(info.value))
    assert least is not None
    payload = encode(model, features(1), target_bytes=int(least[1])).payload
    assert len(payload) <= int(least[1])


def test_orders_of_a_conditional_model() -> None:
    model = load(GOLDEN / "conditional.safetensors")
    x = features(1) | {"scene": torch.randn(1, 2, 6, 7)}
    for order in (["edges"], ["edges", "depth", "night"], "first", ["edges", "depth", "depth"]):
        with pytest.raises(ArgumentError, match=r'order is .*must be "best" or hold each of'):
            encode(model, x, order=order)


# Decoding.


def test_another_model_names_both_ids(model: FeatureCodec) -> None:
    other = load(GOLDEN / "conditional.safetensors")
    payload = encode(model, features(1)).payload
    ids = f"{model.model_id.hex()}, must be {other.model_id.hex()}; load the codec that wrote it"
    calls: list[Callable[[], object]] = [
        lambda: decode(other, payload),
        lambda: decode_symbols(other, payload),
        lambda: extract(other, payload, tasks=["depth"]),
    ]
    for call in calls:
        with pytest.raises(BitstreamError, match=ids):
            call()
    assert inspect(payload, other)["layers"] == [0, 1]
    assert inspect(payload, model)["layers"] == ["edges", "depth"]


def test_another_version_is_named_everywhere(model: FeatureCodec) -> None:
    payload = bytearray(encode(model, features(1)).payload)
    payload[2] = 0x30 | payload[2] & 15
    for call in (lambda p: decode(model, p), inspect, split):
        with pytest.raises(BitstreamError, match="version 3, must be 2; use the Foveal version"):
            call(bytes(payload))


def box_of(model: FeatureCodec, **changes: Any) -> Container:
    """Return the container of one image, with changes."""
    return replace(unpack(encode(model, features(1), quality=20).payload), **changes)


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "quality": ({"controls": (b"\x41",)}, "quality 64 .*must be below 64"),
    "controls": (
        {"controls": (b"\x01\x01\x01",)},
        r"3 control bytes per image \(010101\), must have 1 or 2,",
    ),
    "layer": ({"layers": (0, 2)}, "layer 2, must be below 2; it"),
    "a tied size": ({"size": (40, 41)}, "20x21, must be 3x4.*the payload is damaged"),
    "a huge size": ({"size": (16384, 16384)}, "latents, must be at most 4194304.*max_symbols"),
    "a zero byte": ({"streams": ((b"\x00\x01", b""),)}, "starts with a zero byte"),
    "left over": ({"streams": ((b"\xff" * 99, b""),)}, "rans"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_containers(model: FeatureCodec, name: str) -> None:
    changes, message = HOSTILE[name]
    payload = pack(box_of(model, **changes))
    for call in (decode, decode_symbols):
        with pytest.raises(BitstreamError, match=f"(?s){message}"):
            call(model, payload)


def peak_of(call: Callable[[], object]) -> int:
    """Return the most memory that a call holds above its start, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("controls", ["one quality", "one each"])
def test_images_without_layers_take_little_memory(controls: str) -> None:
    """They have no latents that a limit counts, but qualities of every pair."""
    many = [Source(f"s{i}", 1, height=2, width=2) for i in range(28)]
    sizes = Sizes(channels=1, stride=1, hidden=2, head_hidden=2, blocks=0, prior="factorized")
    wide = FeatureCodec(separate(many, sizes)).finalise()
    each = np.random.default_rng(0).integers(0, 2, (65536, 28), dtype=np.uint8)
    rows = [bytes(row) for row in each] if controls == "one each" else [b"\x05"] * 65536
    payload = pack(Container(wide.model_id, (), ((),) * 65536, tuple(rows)))
    assert peak_of(lambda: decode_symbols(wide, payload)) < 48 << 20


def test_large_images_are_not_decoded_all_at_once() -> None:
    """Beside the latents, 8 bytes each, there is room for a few images alone."""
    source = Source("a", 1, height=32, width=32)
    sizes = Sizes(channels=32, stride=1, hidden=2, head_hidden=2, blocks=0, prior="factorized")
    large = FeatureCodec(joint([source], sizes)).finalise()
    payload = pack(Container(large.model_id, (0,), ((b"",),) * 128, (b"\0",) * 128))
    assert peak_of(lambda: decode_symbols(large, payload)) < 64 << 20


def test_features_of_many_images_take_little_memory() -> None:
    """Gains of all channels and tasks are not held for all images at once."""
    tasks = [Source(name, 2, "vector") for name in "abcdefgh"]
    sizes = Sizes(channels=64, stride=1, hidden=2, head_hidden=2, blocks=0, prior="factorized")
    narrow = FeatureCodec(joint(tasks, sizes)).finalise()
    payload = pack(Container(narrow.model_id, (0,), ((b"",),) * 20000, (b"\1",) * 20000))
    assert peak_of(lambda: decode(narrow, payload, tasks=["a"])) < 48 << 20


def test_an_order_that_is_not_there() -> None:
    model = load(GOLDEN / "conditional.safetensors")
    x = features(1) | {"scene": torch.randn(1, 2, 6, 7)}
    box = unpack(encode(model, x, quality=9).payload)
    assert box.controls == (b"\x00\x0a",)
    with pytest.raises(BitstreamError, match="order 6, must be below 64 and 6"):
        decode(model, pack(replace(box, controls=(b"\x06\x0a",))))


def test_sizes_are_limited_together_and_one_by_one() -> None:
    model = load(GOLDEN / "codebook-local.safetensors")
    box = unpack(encode(model, features(1), quality=9).payload)
    large = pack(replace(box, size=(1000, 1000), streams=((b"",),)))
    with pytest.raises(BitstreamError, match=r"size \(1000, 1000\), 1250000 values.*max_symbols"):
        decode_symbols(model, large)
    with pytest.raises(BitstreamError, match="claims 180 latents, must be at most 179"):
        decode_symbols(model, encode(model, features(3)).payload, max_symbols=179)
    found = decode_symbols(model, large, max_symbols=1 << 25)
    assert found["joint"].shape == (1, 5, 500, 500)


def test_missing_tasks_and_dropped_layers(model: FeatureCodec) -> None:
    payload = encode(model, features(2), tasks=["depth"]).payload
    assert list(decode(model, payload)) == ["depth"]
    with pytest.raises(BitstreamError, match=r"layers \['depth'\].*suffice for \['edges'\]; send"):
        decode(model, payload, tasks=["edges"])
    with pytest.raises(ArgumentError, match=r"layers \[0\] are not in the payload.*leave them out"):
        extract(model, payload, tasks=["edges"])
    for tasks in (["night"], [], "depth"):
        with pytest.raises(ArgumentError, match="tasks is .*must be a list of some of"):
            decode(model, payload, tasks=tasks)
        with pytest.raises(ArgumentError, match="tasks is .*must be a list of some of"):
            extract(model, payload, tasks=tasks)
    whole = encode(model, features(2)).payload
    part = extract(model, whole, tasks=["depth"])
    assert len(part) < len(whole)
    assert np.array_equal(
        decode_symbols(model, part)["depth"], decode_symbols(model, whole)["depth"]
    )


def test_empty_layers_and_no_layers(model: FeatureCodec) -> None:
    """A layer whose tasks are off costs nothing; a payload of no layers decodes to nothing."""
    box = box_of(model, controls=(b"\x00",), streams=((b"", b""),))
    found = decode_symbols(model, pack(box))
    assert not any(value.any() for value in found.values())
    none = pack(replace(box, layers=(), streams=((),)))
    assert decode_symbols(model, none) == {}
    assert decode(model, none) == {}
    assert len(none) == 11


def test_one_symbol_layers() -> None:
    """A vector of one channel: one latent per image, and side symbols of 1x1."""
    from foveal.codec.config import Source
    from foveal.codec.schemes import Sizes, separate

    torch.manual_seed(4)
    sizes = Sizes(1, 1, 2, 2, 0, "codebook-local", side=1, codewords=1, hyper_hidden=1)
    model = FeatureCodec(separate((Source("gist", 1, kind="vector"),), sizes))
    x = {"gist": torch.tensor([[0.0], [3.0], [-500.0]])}
    model.start({"gist": torch.randn(64, 1)})
    model.finalise()
    payload = encode(model, x, quality=63).payload
    found = decode_symbols(model, payload)["gist"]
    assert found.shape == (3, 1, 1, 1)
    assert len(set(found.ravel().tolist())) == 3
    assert len(split(payload)) == 3
    assert decode(model, payload)["gist"].shape == (3, 1)


# Model files.

TAMPER: dict[str, tuple[str, Callable[[Tensor], Tensor], str]] = {
    "missing tables": ("int.edges.sizes", lambda t: t[:0], "sizes"),
    "sums": ("int.edges.frequencies", lambda t: t + 1, "must be at least 1 and sum to 65536"),
    "zero frequency": ("int.edges.frequencies", lambda t: t * 0, "minimum 0"),
    "far lows": ("int.edges.lows", lambda t: t + (1 << 21), r"lows is beyond 2\*\*20"),
    "float tables": ("int.edges.frequencies", lambda t: t.float(), "must be torch.int32"),
    "gains": ("int.depth.log_gains", lambda t: t[:, :63], r"must have 64 and \(1, 64, 5\)"),
    "gain dtype": ("int.depth.log_gains", lambda t: t.int(), "log_gains is torch.int32, must be"),
    "base": ("int.depth.prior.base", lambda t: t[:, :2], "base is int32 .*must be int32"),
    "side tables": ("int.depth.prior.side_lows", lambda t: t.long(), "side_lows is torch.int64"),
    "a network": ("net.heads.edges.last.bias", lambda t: t[:1], "do not fit its configuration"),
}


def rewritten(path: Path, name: str, make: Callable[[Tensor], Tensor] | None) -> Path:
    """Write a golden model with one tensor changed, or taken out, under a true hash."""
    config, tensors = load_weights(GOLDEN / "factorized.safetensors")
    tensors = {k: v.half() if k.startswith("net.") else v for k, v in tensors.items()}
    if make is None:
        del tensors[name]
    else:
        tensors[name] = make(tensors[name]).contiguous()
    save_weights(path / "model.safetensors", tensors, config)
    return path / "model.safetensors"


@pytest.mark.parametrize("name", list(TAMPER))
def test_tampered_model_files(tmp_path: Path, name: str) -> None:
    tensor, make, message = TAMPER[name]
    path = rewritten(tmp_path, tensor, make)
    with pytest.raises(ArgumentError, match=message):
        load(path)


@pytest.mark.parametrize(
    "tensor",
    ["int.edges.lows", "int.depth.log_gains", "int.depth.prior.base", "net.scales.edges.std"],
)
def test_missing_tensors(tmp_path: Path, tensor: str) -> None:
    with pytest.raises(ArgumentError):
        load(rewritten(tmp_path, tensor, None))


def test_a_changed_table_is_another_model(tmp_path: Path, model: FeatureCodec) -> None:
    def move(t: Tensor) -> Tensor:
        out = t.clone()
        out[0] += 1
        out[1] -= 1
        return out

    other = load(rewritten(tmp_path, "int.edges.frequencies", move))
    assert other.model_id != model.model_id
    same = load(rewritten(tmp_path, "int.edges.frequencies", lambda t: t))
    assert same.model_id == model.model_id


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="'night', must be one of"):
        load("night")
    with pytest.raises(ArgumentError):
        load(tmp_path / "night.safetensors")
    path = rewritten(tmp_path, "int.edges.lows", lambda t: t)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ArgumentError, match="does not match its SHA-256; get the file again"):
        load(path)
