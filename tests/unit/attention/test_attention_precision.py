"""The precision setting: defaults, refusals by name, and what is emulated."""

from dataclasses import replace

import pytest

from foveal.attention.precision import Sage, check_choice
from foveal.errors import ArgumentError


@pytest.mark.parametrize(
    ("mode", "bits", "values", "smooths_q"),
    [
        ("int8-fp8", 8, "fp8", False),
        ("int8-fp16", 8, "fp16", False),
        ("int4-fp8", 4, "fp8", True),
        ("int4-fp16", 4, "fp16", True),
    ],
)
def test_modes(mode, bits, values, smooths_q):
    some = Sage(mode)
    assert (some.bits, some.value_format, some.smooths_q) == (bits, values, smooths_q)
    assert replace(some, smooth_q=not smooths_q).smooths_q is not smooths_q
    assert (some.granularity, some.smooth_k, some.accumulate) == ("thread", True, "two-level")
    assert some == Sage(mode)
    assert hash(some) == hash(Sage(mode))
    assert some != Sage(mode, granularity="warp")


@pytest.mark.skipif(hasattr(check_choice, "__wrapped__"), reason="a type-checked run answers first")
@pytest.mark.parametrize(
    ("args", "settings", "words"),
    [
        (("int8",), {}, "Sage: mode is 'int8', must be one of 'int8-fp8', .*; pick one"),
        ((None,), {}, "mode is None"),
        ((), {"granularity": "token"}, "granularity is 'token', must be one of 'thread'"),
        ((), {"accumulate": "fp32"}, "accumulate is 'fp32', must be one of 'two-level'"),
        ((), {"smooth_k": 1}, "smooth_k is 1, must be a bool"),
        ((), {"smooth_k": None}, "smooth_k is None, must be a bool"),
        ((), {"smooth_q": "yes"}, "smooth_q is 'yes', must be a bool"),
        (("int8-fp16",), {"smooth_v": True}, "smooth_v is True with mode='int8-fp16'"),
        (("int4-fp16",), {"accumulate": "single"}, "accumulate is 'single' with mode='int4-fp16'"),
    ],
)
def test_values_that_are_not_allowed_are_named(args, settings, words):
    with pytest.raises(ArgumentError, match=words):
        Sage(*args, **settings)


def test_only_the_mode_is_positional():
    with pytest.raises(TypeError):
        Sage("int8-fp8", "warp")


def test_emulated_formats_are_told():
    told = Sage("int4-fp8").emulated_by("cpu")
    assert list(told) == ["int4", "fp8"]
    assert "exact" in told["int4"]
    assert "13 fraction bits" in Sage(accumulate="single").emulated_by("cpu")["fp8"]
    assert Sage("int8-fp8").emulated_by("triton") == {}
    assert list(Sage("int4-fp8").emulated_by("triton", has_fp8=False)) == ["int4", "fp8"]
    assert Sage("int8-fp16").emulated_by("triton", has_fp8=False) == {}
