"""Codes, scales and summaries by kernels are those of plain torch, bit for bit for equal means."""

import math
import os
from dataclasses import replace

import pytest
import torch

from foveal.attention.precision import Sage
from foveal.attention.prepare import prepare
from foveal.attention.prepare import triton as prepare_by_kernels
from foveal.attention.prepare.triton import prepare_triton
from foveal.attention.quantize import quantize_keys, quantize_queries, quantize_values
from foveal.attention.quantize.reference import quantize_tokens_reference
from foveal.attention.quantize.triton import quantize_tokens, quantize_values_tiled

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
DTYPES = [torch.float16, torch.bfloat16, torch.float32]
GRANULARITIES = ["thread", "warp", "block"]
BAD = [math.nan, math.inf, -math.inf]


def _tokens(s, d, dtype=torch.float32, *, b=1, h=2, seed=0, exact=False):
    """Tokens with outlier channels; with `exact` all their sums are exact in fp32."""
    random = torch.Generator().manual_seed(seed)
    if exact:
        x = torch.randint(-64, 65, (b, h, s, d), generator=random) / 16 + 3.0
        return x.to(dtype)
    x = torch.randn(b, h, s, d, generator=random)
    x[..., ::7] *= 20
    x[..., ::5] += 4
    return x.to(dtype)


def _equal(found, wanted):
    """Compare to the last bit, NaN with NaN."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    found, wanted = found.cpu().contiguous(), wanted.cpu().contiguous()
    if wanted.is_floating_point() and wanted.element_size() > 1:
        torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    else:
        assert torch.equal(found.view(torch.uint8), wanted.view(torch.uint8))


def _equal_codes(found, wanted):
    _equal(found.values, wanted.values)
    _equal(found.scales, wanted.scales)
    _equal(found.groups, wanted.groups)
    assert found.num_tokens == wanted.num_tokens


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_codes_of_tokens(granularity, bits, dtype):
    x = _tokens(150, 40, dtype)
    some = {"bits": bits, "granularity": granularity}
    wanted, _ = quantize_queries(x, smooth=False, **some)
    _equal_codes(quantize_tokens(x.to(DEVICE), "q", **some)[0], wanted)
    mean = x.float().mean(2, keepdim=True)
    for center in (None, mean):
        wanted = quantize_keys(x, mean=center, **some)
        on_device = None if center is None else center.to(DEVICE)
        _equal_codes(quantize_tokens(x.to(DEVICE), "k", mean=on_device, **some)[0], wanted)


@pytest.mark.parametrize("s", [1, 15, 63, 64, 65, 128, 200])
@pytest.mark.parametrize("d", [1, 16, 80, 128])
def test_codes_of_every_size_with_the_mean_of_each_cell(s, d):
    x = _tokens(s, d, exact=True)
    for bits, granularity in ((8, "thread"), (4, "warp")):
        wanted, mean = quantize_queries(x, bits=bits, granularity=granularity, smooth=True)
        codes, found, _, _ = quantize_tokens(
            x.to(DEVICE), "q", bits=bits, granularity=granularity, smooth=True
        )
        _equal(found, mean)
        _equal_codes(codes, wanted)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_smoothed_codes_are_those_of_their_own_means(granularity):
    x = _tokens(150, 64, torch.float16)
    codes, mean, _, _ = quantize_tokens(
        x.to(DEVICE), "q", bits=4, granularity=granularity, smooth=True
    )
    _, close = quantize_queries(x, bits=4, granularity=granularity, smooth=True)
    torch.testing.assert_close(mean.cpu(), close, rtol=0, atol=1e-5)
    wanted, scales = quantize_tokens_reference(
        x, side="q", bits=4, granularity=granularity, mean=mean.cpu()
    )
    values = codes.values.flatten(2, 3).cpu()
    _equal(values[:, :, :150], wanted)
    assert bool((values[:, :, 150:] == 0).all())
    _equal(codes.scales, scales)


@pytest.mark.parametrize("side", ["q", "k"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_zeros_ties_and_what_is_not_finite(granularity, side):
    x = _tokens(200, 32)
    x[0, 0, :64] = 0.0
    x[0, 0, 70] = 0.0
    x[0, 1, :64] = torch.arange(-32.0, 32.0)[:, None] + 0.5  # many ties
    x[0, 1, :64, 0] = 127.0
    for i, bad in enumerate(BAD):
        x[0, 0, 129 + i, 3] = bad
    x[0, 1, 195] = 1e-30  # under the floor
    x[0, 1, 60:64, 1] = 3e38
    some = {"bits": 8, "granularity": granularity}
    wanted = quantize_queries(x, smooth=False, **some)[0] if side == "q" else None
    wanted = quantize_keys(x, **some) if wanted is None else wanted
    assert bool(wanted.scales.isnan().any())
    _equal_codes(quantize_tokens(x.to(DEVICE), side, **some)[0], wanted)


@pytest.mark.parametrize("kind", ["bshd", "transposed", "expanded", "sliced"])
def test_strided_inputs(kind):
    x = _tokens(150, 32, torch.float16, b=2).to(DEVICE)
    if kind == "bshd":
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    elif kind == "transposed":
        x = x.mT.contiguous().mT
    elif kind == "expanded":
        x = x[:, :1].expand(-1, 2, -1, -1)
    else:  # what lies beside it is NaN
        x = torch.nn.functional.pad(x, (8, 8, 0, 64), value=math.nan)[:, :, :150, 8:40]
    assert not x.is_contiguous()
    plain = x.cpu().contiguous()
    precision = Sage(smooth_k=False)
    found = prepare_triton(x, x, precision=precision)
    wanted = prepare(plain, plain, precision=precision, impl="cpu")
    _equal_codes(found.keys, wanted.keys)
    _equal(found.values.by_key(), wanted.values.values)
    _equal(found.values.scales, wanted.values.scales)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(("t", "e"), [(1, 16), (64, 40), (150, 64), (130, 128), (70, 3)])
def test_codes_of_values_and_their_order(t, e, smooth, dtype):
    v = _tokens(t, e, dtype, b=2)
    v[0, 0, :, 0] = 0.0
    v[0, 1, t // 2, 1] = math.nan
    v[-1, 1, t // 2, 2] = math.inf
    wanted = quantize_values(v, format="fp8", smooth=smooth)
    mean = wanted.mean if wanted.mean is None else wanted.mean.to(DEVICE)
    found = quantize_values_tiled(v.to(DEVICE), scales=wanted.scales.to(DEVICE), mean=mean)
    assert found.tiled
    assert found.width == e
    assert found.num_tokens == t
    _equal(found.by_key(), wanted.values)
    on_cpu = replace(found, values=found.values.cpu(), scales=wanted.scales, mean=wanted.mean)
    _equal(on_cpu.dequantize(), wanted.dequantize())
    # Place 4c + 2b + a of each 16 holds key 8b + 2c + a.
    raw, keys = found.values.view(torch.uint8).cpu(), wanted.values.view(torch.uint8)
    for place in range(64):
        c, b, a = place % 16 // 4, place % 4 // 2, place % 2
        key = place // 16 * 16 + 8 * b + 2 * c + a
        assert torch.equal(raw[..., place], keys[..., key, :])


@pytest.mark.parametrize(
    "precision",
    [
        Sage(),
        Sage("int4-fp8", granularity="warp"),
        Sage(smooth_k=False, granularity="block"),
        Sage(smooth_v=True),
        Sage(smooth_k=False, smooth_v=True),
        Sage("int8-fp16"),
        Sage("int4-fp16", smooth_k=False),
    ],
    ids=str,
)
@pytest.mark.parametrize("t", [1, 130, 520])
def test_prepared_keys_and_values(t, precision):
    """Sums are exact here, so that the means are equal, and with them all codes."""
    k = _tokens(t, 40, torch.float16, exact=True)
    v = _tokens(t, 24, torch.float16, seed=1, exact=True)
    found = prepare_triton(k.to(DEVICE), v.to(DEVICE), precision=precision)
    wanted = prepare(k, v, precision=precision, impl="cpu")
    assert found.precision == precision
    assert (found.key_mean is None) == (wanted.key_mean is None)
    if found.key_mean is not None:
        _equal(found.key_mean, wanted.key_mean)
    _equal_codes(found.keys, wanted.keys)
    assert found.values.tiled == (precision.value_format == "fp8")
    _equal(found.values.by_key(), wanted.values.by_key())
    _equal(found.values.scales, wanted.values.scales)
    assert (found.values.mean is None) == (wanted.values.mean is None)
    if found.values.mean is not None:
        _equal(found.values.mean, wanted.values.mean)
    near = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found.pooled_keys.cpu(), wanted.pooled_keys, **near)
    torch.testing.assert_close(found.self_similarity.cpu(), wanted.self_similarity, **near)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_means_and_summaries_of_any_keys(dtype):
    k, v = _tokens(520, 64, dtype), _tokens(520, 64, dtype, seed=1)
    k[0, 0, 5] = 0.0
    precision = Sage(smooth_v=True)
    found = prepare_triton(k.to(DEVICE), v.to(DEVICE), precision=precision)
    near = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found.key_mean.cpu(), k.float().mean(2, keepdim=True), **near)
    torch.testing.assert_close(found.values.mean.cpu(), v.float().mean(2, keepdim=True), **near)
    wanted = prepare(k, v, precision=precision, k_mean=found.key_mean.cpu(), impl="cpu")
    _equal_codes(found.keys, wanted.keys)
    torch.testing.assert_close(found.values.scales.cpu(), wanted.values.scales, **near)
    torch.testing.assert_close(found.pooled_keys.cpu(), wanted.pooled_keys, **near)
    torch.testing.assert_close(found.self_similarity.cpu(), wanted.self_similarity, **near)


def test_a_mean_key_that_is_given_is_the_one_subtracted():
    k, v = _tokens(150, 32, b=2), _tokens(150, 32, b=2, seed=1)
    mean = torch.randn(2, 2, 1, 32)
    before = mean.clone()
    found = prepare_triton(k.to(DEVICE), v.to(DEVICE), precision=Sage(), k_mean=mean.to(DEVICE))
    wanted = prepare(k, v, precision=Sage(), k_mean=mean, impl="cpu")
    _equal_codes(found.keys, wanted.keys)
    _equal(found.key_mean, before)
    _equal(found.values.by_key(), wanted.values.values)


@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_finite_stays_in_its_head(bad):
    k, v = _tokens(520, 16), _tokens(520, 16, seed=1)
    k[0, 0, 77, 3] = bad
    v[0, 0, 518, 5] = bad
    precision = Sage(smooth_v=True)
    found = prepare_triton(k.to(DEVICE), v.to(DEVICE), precision=precision)
    clean = prepare_triton(k[:, 1:].to(DEVICE), v[:, 1:].to(DEVICE), precision=precision)
    assert not bool(found.key_mean[0, 0, 0, 3].isfinite())
    assert bool(found.keys.scales[0, 0].isnan().all())
    assert bool(found.values.scales[0, 0, 0, 5].isnan())
    assert not bool(found.values.mean[0, 0, 0, 5].isfinite())
    assert bool(found.self_similarity[0, 0].isnan().all())
    for name in ("key_mean", "pooled_keys", "self_similarity"):
        _equal(getattr(found, name)[:, 1:], getattr(clean, name))
    _equal(found.keys.values[:, 1:], clean.keys.values)
    _equal(found.keys.scales[:, 1:], clean.keys.scales)
    _equal(found.values.values[:, 1:], clean.values.values)
    wanted = prepare(k, v, precision=precision, impl="cpu")
    assert torch.equal(found.keys.scales.isnan().cpu(), wanted.keys.scales.isnan())
    assert torch.equal(found.values.scales.isnan().cpu(), wanted.values.scales.isnan())


def test_chips_without_fp8_get_values_key_by_key(monkeypatch):
    monkeypatch.setattr(prepare_by_kernels, "has_fp8", lambda device: False)
    k, v = _tokens(100, 32), _tokens(100, 32, seed=1)
    precision = Sage(smooth_k=False)
    found = prepare_triton(k.to(DEVICE), v.to(DEVICE), precision=precision)
    wanted = prepare(k, v, precision=precision, impl="cpu")
    assert not found.values.tiled
    _equal(found.values.values, wanted.values.values)
    _equal_codes(found.keys, wanted.keys)
