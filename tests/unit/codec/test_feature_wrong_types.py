"""What is of the wrong type is named: by Foveal, or by the type checker where one runs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from foveal.codec.config import CodecConfig, Head, Layer, Source
from foveal.codec.external import add_task
from foveal.codec.fit import fit
from foveal.codec.model import FeatureCodec
from foveal.codec.rates import Wish
from foveal.codec.schemes import Sizes, separate
from foveal.codec.stream import decode, encode, extract, inspect, load, split
from foveal.errors import ArgumentError

A = Source("a", 3, height=8, width=6)
LAYER = Layer("one", ("a",), ("a",), channels=4)
HEAD = Head("a", ("one",))
PLAIN = CodecConfig((A,), (LAYER,), (HEAD,))
CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "source-name": (A, {"name": 3}, "source name is 3"),
    "kind": (A, {"kind": "cube"}, "kind of a is 'cube', must be one of"),
    "width": (A, {"width": 2.0}, "width of a is 2.0"),
    "nonnegative": (A, {"nonnegative": 1}, "nonnegative, teacher, sha256 of a are 1, '', ''"),
    "teacher": (A, {"teacher": None}, "must be a bool and texts; change them"),
    "inputs-list": (LAYER, {"inputs": ["a"]}, "inputs of layer one is ['a']"),
    "inputs-numbers": (LAYER, {"inputs": (1,)}, "inputs of layer one is (1,)"),
    "stride": (LAYER, {"stride": 2.0}, "stride of layer one is 2.0"),
    "external": (HEAD, {"external": 1}, "external of head a is 1, must be True or False"),
    "order": (PLAIN, {"order": "one"}, "order is 'one', must be a tuple"),
}


def refused(text: str, call: Callable[..., object], *arguments: Any, **more: Any) -> None:
    """Expect our own error with a text, or the type checker's about the same argument."""
    with pytest.raises((ArgumentError, TypeCheckError)) as found:
        call(*arguments, **more)
    if isinstance(found.value, ArgumentError):
        assert text in str(found.value)
    else:
        assert "Type-check error" in str(found.value)


@pytest.mark.parametrize("name", CASES)
def test_configurations(name: str) -> None:
    start, changes, message = CASES[name]
    refused(message, replace, start, **changes)


@pytest.mark.parametrize("quality", [3.0, "9", None])
def test_qualities(quality: object) -> None:
    message = f"is {quality!r}, must be an integer in 0..63; clip it, or leave the task out"
    refused(f"encode: quality {message}", Wish.of, [("a",)], quality)
    refused(f"encode: quality of a {message}", Wish.of, [("a",)], {"a": quality})


@pytest.mark.parametrize("value", ["300", True, (300,)])
def test_sizes_in_bytes(value: object) -> None:
    model, x = FeatureCodec(PLAIN).finalise(), {"a": torch.zeros(1, 3, 8, 6)}
    message = f"bytes is {value!r}, must be a number, positive and finite; "
    refused(f"encode: target_{message}give quality", encode, model, x, target_bytes=value)
    refused(f"encode: full_{message}leave it out", encode, model, x, full_bytes=value)


@pytest.mark.parametrize("device", [None, 1.5])
def test_what_is_no_device(device: object) -> None:
    refused(f"load: device is '{device}', which this torch cannot use", load, device=device)


def test_arrays_are_not_tensors() -> None:
    model = FeatureCodec(separate((A,), Sizes(2, 2, 2, 2, 0, side=1)))
    model.start({"a": torch.randn(4, *A.shape)})
    array = np.zeros((1, *A.shape))
    message = "features a is a ndarray, must be a tensor; take"
    refused(message, encode, model.finalise(), {"a": array})


@pytest.mark.parametrize("payload", [None, "FV", np.zeros(20, np.uint8), [70, 86]])
def test_payloads(payload: object) -> None:
    model = FeatureCodec(PLAIN).finalise()
    for call in (
        inspect,
        split,
        lambda p: decode(model, p),
        lambda p: extract(model, p, tasks=["a"]),
    ):
        refused(f"unpack: payload is a {type(payload).__name__}, must be bytes", call, payload)


def test_a_stream_is_not_its_payload() -> None:
    model = FeatureCodec(PLAIN).finalise()
    stream = encode(model, {"a": torch.zeros(1, 3, 8, 6)})
    refused("payload is a Stream, must be bytes; give stream.payload", decode, model, stream)


def test_what_is_no_network() -> None:
    model, images = FeatureCodec(PLAIN).finalise(), torch.rand(4, 3, 8, 8)
    message = "add_task: teacher is a Identity, must have methods encode and decode; wrap it"
    refused(message, add_task, model, "new", torch.nn.Identity(), images)
    refused("fit: network of a is a Identity, must have", fit, {"a": torch.nn.Identity()}, [images])


def test_linear_is_true_or_false() -> None:
    with pytest.raises(ArgumentError, match="linear of layer x is 1, must be True or False"):
        Layer("x", ("a",), ("a",), linear=1)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="linear of head x is 'yes', must be True or False"):
        Head("x", ("a",), linear="yes")  # type: ignore[arg-type]
