"""Which tasks a stream sends, as its control bytes say: what decoders give and `inspect` shows."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.codec import load
from foveal.codec.config import CodecConfig, Head, Layer, Source
from foveal.codec.container import pack, unpack
from foveal.codec.model import FeatureCodec
from foveal.codec.numpy_decoder import export_numpy_decoder
from foveal.codec.schemes import Sizes, joint
from foveal.codec.stream import decode, encode, extract, inspect
from foveal.errors import ArgumentError, BitstreamError

SOURCES = tuple(Source(name, 2, height=4, width=4) for name in "abc")
SIZES = Sizes(6, 2, 6, 6, 0, "factorized")


def features(count: int = 3) -> dict[str, Tensor]:
    return {source.name: torch.randn(count, *source.shape) for source in SOURCES}


def finished(config: CodecConfig) -> FeatureCodec:
    torch.manual_seed(3)
    model = FeatureCodec(config)
    model.start(features(32))
    return model.finalise(features(32))


@pytest.fixture(scope="module")
def model() -> FeatureCodec:
    """One layer for three tasks: pairs (joint, a), (joint, b), (joint, c)."""
    return finished(joint(SOURCES, SIZES))


@pytest.fixture(scope="module")
def layered() -> FeatureCodec:
    """A core for all, a layer that a and b share, and one that c needs and a may read."""
    sizes: dict[str, Any] = {"channels": 4, "hidden": 6, "prior": "factorized"}
    layers = (
        Layer("core", ("a", "b", "c"), ("a", "b", "c"), **sizes),
        Layer("fine", ("a", "b"), ("a", "b"), **sizes),
        Layer("more", ("c",), ("c",), **sizes),
    )
    heads = (
        Head("a", ("core",), ("fine", "more"), hidden=6),
        Head("b", ("core", "fine"), hidden=6),
        Head("c", ("more",), ("core",), hidden=6),
    )
    return finished(CodecConfig(SOURCES, layers, heads))


def ported(model: FeatureCodec, folder: Path) -> Any:
    path = folder / "decoder.py"
    export_numpy_decoder(model, path)
    spec = importlib.util.spec_from_file_location("sent_decoder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_task_that_is_off_has_no_features(model: FeatureCodec, tmp_path: Path) -> None:
    payload = encode(model, features(), tasks=["b"], quality=50).payload
    assert unpack(payload).controls == (bytes([51, 0b010]),) * 3
    port = ported(model, tmp_path)
    assert list(decode(model, payload)) == list(port.features(payload)) == ["b"]
    wanted = r"tasks is \['a', 'b'\], but \['a'\] were not sent .*, must be some of \['b'\]; send"
    with pytest.raises(BitstreamError, match=wanted):
        decode(model, payload, tasks=["b", "a"])
    with pytest.raises(port.BitstreamError, match=r"does not send \['a'\], only \['b'\]"):
        port.features(payload, ["b", "a"])


def test_inspect_names_layers_and_tasks(model: FeatureCodec, layered: FeatureCodec) -> None:
    payload = encode(layered, features(), tasks=["a", "b"]).payload
    found = inspect(payload, layered)
    assert found["layers"] == ["core", "fine"]
    assert (found["tasks"], found["not_sent"]) == (["a", "b"], ["c"])
    for other in (None, model):
        plain = inspect(payload, other)
        assert plain["layers"] == [0, 1]
        assert not {"tasks", "not_sent"} & set(plain)
        assert plain == {key: found[key] for key in plain} | {"layers": [0, 1]}


@pytest.mark.parametrize("tasks", ["a", "b", "c", "ab", "ac", "bc", "abc"])
def test_what_is_encoded_is_what_is_sent(
    layered: FeatureCodec, model: FeatureCodec, tasks: str
) -> None:
    for one in (layered, model):
        payload = encode(
            one, features(), tasks=list(tasks), quality=dict.fromkeys("abc", 9)
        ).payload
        assert sorted(decode(one, payload)) == list(tasks)
        whole = encode(one, features(), quality={"a": 5, "b": 60, "c": 20}).payload
        assert set(tasks) <= set(inspect(extract(one, whole, tasks=list(tasks)), one)["tasks"])


def test_every_image_counts(model: FeatureCodec, tmp_path: Path) -> None:
    """By hand: task a is off in image 1, b in none, c in all."""
    box = unpack(encode(model, features(), tasks=["a", "b"], quality={"a": 9, "b": 30}).payload)
    assert box.controls == (bytes([10, 31, 0]),) * 3
    mixed = pack(replace(box, controls=(b"\x0a\x1f\x00", b"\x00\x1f\x00", b"\x0a\x1f\x00")))
    found = inspect(mixed, model)
    assert (found["tasks"], found["not_sent"]) == (["b"], ["a", "c"])
    assert list(decode(model, mixed)) == list(ported(model, tmp_path).features(mixed)) == ["b"]
    none = pack(replace(box, controls=(b"\x00",) * 3))
    assert decode(model, none) == {}
    assert inspect(none, model)["not_sent"] == ["a", "b", "c"]


def test_a_late_task_reads_whatever_is_there(tmp_path: Path) -> None:
    model = finished(joint(SOURCES, SIZES))
    model.extend(
        Source("late", 1, height=4, width=4), Head("late", ("joint",)), torch.randn(8, 1, 4, 4)
    )
    payload = encode(model, features(), tasks=["b"]).payload
    port = ported(model, tmp_path)
    assert list(decode(model, payload)) == list(port.features(payload)) == ["b", "late"]
    box = unpack(payload)
    assert decode(model, pack(replace(box, controls=(b"\x00",) * 3))) == {}


def test_features_of_what_is_sent_stay(model: FeatureCodec) -> None:
    """The check takes nothing away: the heads read the same latents as before."""
    payload = encode(model, features(), tasks=["a", "c"], quality=40).payload
    every, one = decode(model, payload), decode(model, payload, tasks=["c"])
    assert torch.equal(every["c"], one["c"])
    assert np.isfinite(one["c"].numpy()).all()


def test_a_decoder_is_written_as_python(model: FeatureCodec, tmp_path: Path) -> None:
    for name in ("decoder.txt", "decoder", "decoder.py.gz"):
        with pytest.raises(ArgumentError, match=rf"path is '.*{name}', must end in \.py; choose"):
            export_numpy_decoder(model, tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meter"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ArgumentError, match=f"load: device is '{device}', which .*; take 'cpu'"):
        load(device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(ArgumentError, match=r"load: device is 'cuda', which this torch .*'cpu'"):
        load("joint-4task", device="cuda")
