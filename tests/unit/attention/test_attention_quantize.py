"""Codes by hand, and the usual mistakes of quantizers."""

import math

import pytest
import torch

from foveal.attention.quantize import (
    group_of_token,
    quantize_keys,
    quantize_queries,
    quantize_values,
)
from foveal.errors import ArgumentError, ShapeError

INT8 = {"bits": 8, "granularity": "thread"}


def _noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("side", "granularity", "num_groups"),
    [
        ("q", "block", 1),
        ("q", "warp", 4),
        ("q", "thread", 32),
        ("k", "block", 1),
        ("k", "warp", 1),
        ("k", "thread", 4),
    ],
)
def test_groups_are_equally_large(side, granularity, num_groups):
    groups = group_of_token(side, granularity)
    assert groups.bincount().tolist() == [64 // num_groups] * num_groups


def test_thread_groups_are_what_one_thread_owns():
    # In a 16 x 8 fragment, thread 4 r + c owns rows r and r + 8 and columns 2 c and 2 c + 1.
    q, k = group_of_token("q", "thread"), group_of_token("k", "thread")
    assert (q == q[16 + 3]).nonzero()[:, 0].tolist() == [16 + 3, 16 + 11]
    assert (k == k[2]).nonzero()[:, 0].tolist() == [
        x for i in range(8) for x in (8 * i + 2, 8 * i + 3)
    ]


def test_codes_by_hand_round_half_to_even():
    k = torch.zeros(1, 1, 64, 2)
    k[0, 0, 0] = torch.tensor([127.0, 0.5])
    k[0, 0, 1] = torch.tensor([-1.5, -2.5])
    k[0, 0, 8] = torch.tensor([2.5, -0.5])
    codes = quantize_keys(k, **INT8)
    assert codes.scales[0, 0, 0].tolist()[0] == 1.0
    assert codes.values[0, 0, 0, [0, 1, 8]].tolist() == [[127, 0], [-2, -2], [2, 0]]
    four = quantize_keys(k / 127 * 7, bits=4, granularity="block")
    assert int(four.values.max()) == 7
    assert codes.values.dtype == four.values.dtype == torch.int8


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("granularity", ["thread", "warp", "block"])
def test_error_is_at_most_half_a_step(bits, granularity):
    q, k = _noise(2, 3, 150, 40), _noise(2, 3, 150, 40, seed=1) * 10
    mean = k.mean(2, keepdim=True)
    codes, means = quantize_queries(q, bits=bits, granularity=granularity, smooth=True)
    rows = means.repeat_interleave(64, 2)[:, :, :150]
    for x, some in (
        (q - rows, codes),
        (k - mean, quantize_keys(k, bits=bits, granularity=granularity, mean=mean)),
    ):
        step = some.token_scales().flatten(2)[:, :, :150, None]
        assert bool(((some.dequantize() - x).abs() <= step * 0.50001).all())
        assert bool((some.values.abs() <= 2 ** (bits - 1) - 1).all())
        assert int(some.values.abs().max()) == 2 ** (bits - 1) - 1


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("smooth", [False, True])
def test_all_zero_and_constant_cells_are_finite(bits, smooth):
    x = torch.zeros(1, 1, 130, 32)
    x[:, :, 64:] = 3.0
    codes, mean = quantize_queries(x, bits=bits, granularity="thread", smooth=smooth)
    assert bool(codes.scales.isfinite().all())
    assert bool((codes.values[:, :, 0] == 0).all())
    back = codes.dequantize()
    if mean is not None:
        back = back + mean.repeat_interleave(64, 2)[:, :, :130]
    torch.testing.assert_close(back, x)
    keys = quantize_keys(x, bits=bits, granularity="block", mean=x.mean(2, keepdim=True))
    assert bool(keys.dequantize().isfinite().all())


@pytest.mark.parametrize("value", [0.0, 5.0, -1e-30, 1e30])
@pytest.mark.parametrize(("format", "smooth"), [("fp8", False), ("fp8", True), ("fp16", False)])
def test_constant_channels_are_finite(value, format, smooth):
    v = torch.full((1, 1, 70, 4), value)
    codes = quantize_values(v, format=format, smooth=smooth)
    assert bool(codes.dequantize().isfinite().all())
    torch.testing.assert_close(codes.dequantize(), v, rtol=2**-4, atol=1e-6)


def test_the_largest_value_becomes_448():
    v = _noise(1, 2, 100, 8)
    codes = quantize_values(v, format="fp8")
    assert bool((codes.values.float().abs().flatten(2, 3).amax(2) == 448).all())
    torch.testing.assert_close(codes.scales, v.abs().amax(2, keepdim=True) / 448)


def test_fp16_values_are_exact_in_range_and_scaled_above_it():
    v = _noise(1, 1, 70, 4).half()
    v[..., 1] *= 100
    exact = quantize_values(v, format="fp16")
    assert bool((exact.scales == 1).all())
    assert torch.equal(exact.dequantize(), v.float())
    large = quantize_values(v.bfloat16() * 1e5, format="fp16")
    assert bool((large.scales.log2() % 1 == 0).all())
    torch.testing.assert_close(large.dequantize(), v.bfloat16().float() * 1e5, rtol=2e-2, atol=1)


@pytest.mark.parametrize("tokens", [1, 65, 127])
def test_padding_changes_no_scale_and_no_mean(tokens):
    x = _noise(1, 2, tokens, 32) + 100
    last = tokens // 64 * 64
    for granularity in ("thread", "warp", "block"):
        codes, mean = quantize_queries(x, bits=8, granularity=granularity, smooth=True)
        torch.testing.assert_close(mean[:, :, -1], x[:, :, last:].mean(2))
        # With padding in the mean, or with the mean subtracted from padding, scales reach 100/127.
        assert float(codes.scales.max()) < 10 / 127
        keys = quantize_keys(x, bits=8, granularity=granularity, mean=x.mean(2, keepdim=True))
        assert float(keys.scales.max()) < 10 / 127
    values = quantize_values(x, format="fp8", smooth=True)
    torch.testing.assert_close(values.mean, x.mean(2, keepdim=True))
    assert float(values.scales.max()) < 10 / 448


def test_the_mean_is_subtracted_in_fp32():
    # Around 100 a bf16 step is 0.5: a difference rounded to bf16, or to the grid of k, shows.
    k = (_noise(1, 1, 256, 32) * 4 + 100).bfloat16()
    mean = k.float().mean(2, keepdim=True)
    once = quantize_keys(k, mean=mean, **INT8)
    twice = quantize_keys((k - mean.bfloat16()), **INT8)
    error = (once.dequantize() - (k.double() - mean.double())).norm()
    assert error < 0.5 * (twice.dequantize() - (k.double() - mean.double())).norm()
    assert torch.equal(once.values, quantize_keys(k.float() - mean, **INT8).values)


def test_inputs_are_not_changed_and_strides_do_not_matter():
    k = _noise(2, 70, 3, 32)
    before = k.clone()
    view = k.transpose(1, 2)
    mean = view.mean(2, keepdim=True)
    found = quantize_keys(view, mean=mean, **INT8)
    assert torch.equal(found.values, quantize_keys(view.contiguous(), mean=mean, **INT8).values)
    expanded = view[:, :1].expand(2, 4, 70, 32)
    some = quantize_queries(expanded, smooth=True, **INT8)[0]
    assert torch.equal(some.values[:, 0], some.values[:, 3])
    for format, smooth in (("fp8", True), ("fp16", False)):
        quantize_values(view, format=format, smooth=smooth)
    assert torch.equal(k, before)
    plain = quantize_values(view, format="fp8").values.view(torch.uint8)
    packed = quantize_values(view.contiguous(), format="fp8").values.view(torch.uint8)
    assert torch.equal(plain, packed)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_damage_stays_in_its_group_and_is_not_hidden(bad):
    k = _noise(1, 2, 130, 32)
    clean = quantize_keys(k, **INT8)
    k[0, 1, 66, 5] = bad
    codes = quantize_keys(k, **INT8)
    assert bool(codes.scales.isnan().sum() == 1)
    assert bool(codes.scales[0, 1, 1, group_of_token("k", "thread")[2]].isnan())
    assert torch.equal(codes.values[:, 0], clean.values[:, 0])
    assert torch.equal(codes.values[0, 1, [0, 2]], clean.values[0, 1, [0, 2]])
    for format in ("fp8", "fp16"):
        values = quantize_values(k, format=format).dequantize()
        assert bool(values[0, 1, :, 5].isnan().all())
        assert int(values.isnan().sum()) == 130


@pytest.mark.skipif(
    hasattr(quantize_keys, "__wrapped__"), reason="a type-checked run answers first"
)
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: quantize_keys(x[0], **INT8), ShapeError, "quantize_keys: k has shape"),
        (lambda x: quantize_keys(x[:, :, :0], **INT8), ShapeError, "without an empty axis"),
        (lambda x: quantize_keys(x.long(), **INT8), ArgumentError, "k is torch.int64"),
        (lambda x: quantize_keys(x, bits=2, granularity="warp"), ArgumentError, "bits is 2"),
        (lambda x: quantize_keys(x, bits=8, granularity="row"), ArgumentError, "granularity is"),
        (lambda x: quantize_keys(x, mean=x[:, :, 0], **INT8), ShapeError, "mean has shape"),
        (
            lambda x: quantize_queries(x, bits=True, granularity="warp", smooth=False),
            ArgumentError,
            "quantize_queries: bits is True",
        ),
        (lambda x: quantize_values(x, format="e5m2"), ArgumentError, "format is 'e5m2'"),
        (lambda x: quantize_values(x, format="fp16", smooth=True), ArgumentError, "smooth is True"),
        (lambda x: group_of_token("v", "warp"), ArgumentError, "side is 'v'"),
    ],
)
def test_bad_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call(torch.zeros(1, 1, 4, 8))
