"""The quantized kernel against fp64 on the same codes."""

import math
import os
from dataclasses import replace

import pytest
import torch

from foveal.attention import BlockLayout
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.block_sparse.quantized_reference import quantized_reference
from foveal.attention.layout import num_cells
from foveal.attention.precision import Sage
from foveal.attention.prepare import prepare
from foveal.attention.quantize.triton import quantize_tokens
from foveal.attention.reference import block_sparse_reference
from foveal.testing import relative_error

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
NEAR = 2e-6 if INTERPRETED else 1e-3
"""Relative error beyond rounding boundaries; GPUs sum fp8 products in short accumulators."""

MODES = ["int8-fp8", "int8-fp16", "int4-fp8", "int4-fp16"]
GRANULARITIES = ["thread", "warp", "block"]


def _case(s, t, d=32, e=None, *, b=1, h=2, g=1, dtype=torch.float32, seed=0):
    """Keys have outlier channels and a mean, queries a mean."""
    random = torch.Generator().manual_seed(seed)
    shift = torch.zeros(d)
    shift[::9] = 8.0
    q = torch.randn(b, h, s, d, generator=random) + shift / 8
    k = torch.randn(b, g, t, d, generator=random) + shift
    v = torch.randn(b, g, t, e or d, generator=random) + 0.5
    return q.to(dtype), k.to(dtype), v.to(dtype)


def _layout(q, k, *, share=0.7, seed=0, **rule):
    random = torch.Generator().manual_seed(seed)
    n, m = num_cells(q.shape[2]), num_cells(k.shape[2])
    kept = torch.rand(*q.shape[:2], n, m, generator=random) < share
    rule = {"causal": True, **rule}
    return BlockLayout.from_bool(kept, num_queries=q.shape[2], num_keys=k.shape[2], **rule)


def _moved(prepared, device):
    """Return the same codes on another device."""
    keys, values = prepared.keys, prepared.values
    return replace(
        prepared,
        keys=replace(
            keys,
            values=keys.values.to(device),
            scales=keys.scales.to(device),
            groups=keys.groups.to(device),
        ),
        values=replace(
            values,
            values=values.values.to(device),
            scales=values.scales.to(device),
            mean=None if values.mean is None else values.mean.to(device),
        ),
        key_mean=None if prepared.key_mean is None else prepared.key_mean.to(device),
        pooled_keys=prepared.pooled_keys.to(device),
        self_similarity=prepared.self_similarity.to(device),
    )


def _run(q, k, v, layout, precision, *, scale=None, mask=None, prepared=None):
    """Run the kernel on DEVICE, on codes made there; return (out, lse, codes), on the CPU."""
    q, k, v = (x.to(DEVICE) for x in (q, k, v))
    if prepared is None:
        prepared = prepare(k, v, precision=precision, impl="triton")
        assert prepared.values.tiled == (precision.value_format == "fp8")
    prepared = _moved(prepared, DEVICE)
    out, lse = quantized_attention(
        q,
        k,
        v,
        replace(layout, bits=layout.bits.to(DEVICE)),
        precision=precision,
        scale=scale,
        attn_mask=None if mask is None else mask.to(DEVICE),
        prepared=prepared,
        impl="triton",
        return_lse=True,
    )
    assert (out.dtype, lse.dtype) == (q.dtype, torch.float32)
    return out.cpu(), lse.cpu(), _moved(prepared, "cpu")


def _gate(q, k, v, layout, precision, *, scale=None, prepared=None, near=NEAR):
    out, lse, prepared = _run(q, k, v, layout, precision, scale=scale, prepared=prepared)
    codes, mean, _, _ = quantize_tokens(
        q.to(DEVICE),
        "q",
        bits=precision.bits,
        granularity=precision.granularity,
        smooth=precision.smooths_q,
    )
    codes = replace(
        codes, values=codes.values.cpu(), scales=codes.scales.cpu(), groups=codes.groups.cpu()
    )
    wanted = quantized_reference(
        q,
        k,
        layout,
        queries=codes,
        query_means=None if mean is None else mean.cpu(),
        prepared=prepared,
        scale=scale,
        pairs=layout.skip_threshold is None,
    )
    difference = out.double() - wanted.out
    excess = difference.sign() * (difference.abs() - wanted.slack).clamp_min(0)
    assert relative_error(wanted.out + excess, wanted.out) <= near
    assert wanted.slack.norm() <= 1e-2 * wanted.out.norm()
    seen = wanted.lse.isfinite()
    assert torch.equal(lse == -math.inf, ~seen)
    torch.testing.assert_close(lse[seen].double(), wanted.lse[seen], rtol=1e-6, atol=3e-5)
    assert bool((out[~seen] == 0).all())
    return out, lse


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_granularity(mode, granularity):
    q, k, v = _case(130, 260)
    _gate(q, k, v, _layout(q, k, share=0.9), Sage(mode, granularity=granularity))


@pytest.mark.parametrize(
    ("s", "t", "rule", "mode"),
    [
        (190, 190, {}, "int8-fp8"),
        (130, 290, {"causal": False}, "int8-fp8"),
        (65, 300, {}, "int4-fp16"),
        (200, 90, {}, "int8-fp8"),
        (1, 130, {}, "int4-fp16"),
        (70, 1, {"causal": False}, "int8-fp8"),
        (200, 200, {"span": 70}, "int8-fp16"),
        (100, 330, {"span": 170}, "int8-fp8"),
        (90, 161, {"span": 5}, "int4-fp8"),
    ],
)
def test_every_rule_and_size_listed_and_dense(s, t, rule, mode):
    q, k, v = _case(s, t, e=20, h=1)
    precision = Sage(mode)
    _gate(q, k, v, _layout(q, k, share=0.8, **rule), precision, scale=0.3)
    layout = BlockLayout.dense(q, k, **{"causal": True, **rule})
    assert layout.complete
    dense = _gate(q, k, v, layout, precision)
    listed = _run(q, k, v, replace(layout, complete=False), precision)
    assert torch.equal(dense[0], listed[0])
    assert torch.equal(dense[1], listed[1])


@pytest.mark.parametrize(
    "switches",
    [
        {"smooth_k": False},
        {"smooth_k": False, "smooth_q": True},
        {"smooth_q": True},
        {"smooth_v": True},
        {"smooth_q": True, "smooth_v": True, "granularity": "warp"},
        {"smooth_k": False, "smooth_q": True, "granularity": "block"},
        {"accumulate": "single"},
        {"accumulate": "single", "smooth_q": True, "smooth_v": True},
        {"mode": "int4-fp8", "smooth_q": False},
        {"mode": "int4-fp16", "smooth_k": False},
    ],
    ids=str,
)
def test_every_smoothing_and_accumulation(switches):
    q, k, v = _case(130, 200, h=2, g=2)
    _gate(q, k, v, _layout(q, k, share=0.9, span=180), Sage(**switches), near=5 * NEAR)


@pytest.mark.parametrize("mode", ["int8-fp8", "int8-fp16"])
@pytest.mark.parametrize(
    ("d", "e"),
    [(16, 16), (40, 40), (64, 64), (80, 80), (128, 128), (64, 24), (40, 128), (256, 8), (200, 32)],
)
def test_every_width(d, e, mode):
    # fp32 of this width does not fit the shared memory of a GPU, and is refused there
    dtype = torch.float16 if d > 128 else torch.float32
    near = 2 * NEAR + (torch.finfo(dtype).eps if d > 128 else 0)  # one rounding of the result
    q, k, v = _case(70, 190, d, e, h=1, dtype=dtype)
    for smooth_q in (False, True):
        _gate(q, k, v, _layout(q, k, share=0.9), Sage(mode, smooth_q=smooth_q), near=near)


@pytest.mark.parametrize("mode", MODES)
def test_heads_that_lie_side_by_side(mode):
    """Models hand over views of (b, s, h, d): codes made of them must not keep these strides."""
    q, k, v = (
        x.transpose(1, 2).contiguous().transpose(1, 2) for x in _case(70, 190, b=2, h=4, g=2)
    )
    _gate(q, k, v, _layout(q, k, share=0.9), Sage(mode), near=2 * NEAR)


@pytest.mark.parametrize("mode", ["int8-fp8", "int8-fp16"])
def test_codes_may_lie_otherwise(mode):
    def other(x):
        return x.transpose(0, 1).contiguous().transpose(0, 1)

    q, k, v = (x.to(DEVICE) for x in _case(70, 190, b=2, h=4, g=2))
    layout, precision = _layout(q.cpu(), k.cpu(), share=0.9), Sage(mode)
    prepared = prepare(k, v, precision=precision, impl="triton")
    keys, values = prepared.keys, prepared.values
    moved = replace(
        prepared,
        keys=replace(keys, values=other(keys.values), scales=other(keys.scales)),
        values=replace(values, values=other(values.values), scales=other(values.scales)),
    )
    wanted, _, _ = _run(q, k, v, layout, precision, prepared=prepared)
    found, _, _ = _run(q, k, v, layout, precision, prepared=moved)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_types_grouped_heads_and_batches(dtype):
    q, k, v = _case(40, 100, b=2, h=4, g=2, dtype=dtype)
    layout = _layout(q, k)
    near = torch.finfo(dtype).eps  # one rounding of the result
    for switches in ({}, {"smooth_q": True, "smooth_v": True}):
        _gate(q, k, v, layout, Sage(**switches), near=near)


def test_strided_inputs():
    precision = Sage(smooth_q=True)
    q, k, v = (x.to(DEVICE) for x in _case(70, 100, h=2, g=2))
    layout = _layout(q.cpu(), k.cpu())
    wanted = _run(q, k, v, layout, precision)
    # What lies past the end and beside the channels is NaN.
    wide = [torch.nn.functional.pad(x, (8, 8, 0, 64), value=math.nan) for x in (q, k, v)]
    cut = [y[:, :, : x.shape[2], 8:40] for x, y in zip((q, k, v), wide, strict=True)]
    turned = [x.mT.contiguous().mT for x in (q, k, v)]
    rows_first = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    for inputs in (cut, turned, rows_first):
        assert not any(x.is_contiguous() for x in inputs)
        found = _run(*inputs, layout, precision)
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("switches", [{}, {"smooth_v": True, "smooth_q": True}], ids=str)
def test_fp8_without_hardware_for_it(switches):
    """Values that are not tiled: fp8 codes, multiplied in fp16."""
    precision = Sage(**switches)
    q, k, v = _case(130, 200)
    layout = _layout(q, k, share=0.9)
    prepared = prepare(k, v, precision=precision, impl="cpu")
    assert not prepared.values.tiled
    emulated = _gate(q, k, v, layout, precision, prepared=prepared)
    native = _run(q, k, v, layout, precision)
    assert relative_error(emulated[0], native[0].double()) <= max(1e-3, NEAR)


@pytest.mark.parametrize(
    ("threshold", "mode"),
    [(0.0, "int8-fp8"), (1.0, "int4-fp8"), (1.0, "int8-fp16"), (math.inf, "int8-fp8")],
)
def test_skipped_cells_are_those_of_the_reference(threshold, mode):
    q, k, v = _case(70, 448, h=2)
    middle = k.mean(2, keepdim=True)
    for some in (slice(128, 320), slice(384, 448)):  # The last cell is never skipped.
        k[:, :, some] = middle + 0.1 * (k[:, :, some] - middle)
    plain = _layout(q, k, share=1.1, causal=False)
    layout = replace(plain, skip_threshold=(threshold, math.inf))
    out, _ = _gate(q, k, v, layout, Sage(mode))
    whole, _, _ = _run(q, k, v, plain, Sage(mode))
    skipped = relative_error(out[:, 0], whole[:, 0].double()) > 2e-2
    assert skipped == (threshold <= 1.0)
    assert relative_error(out[:, 1], whole[:, 1].double()) <= 1e-2


@pytest.mark.parametrize(
    ("axes", "kind"),
    [(axes, "bool") for axes in ("1111", "111t", "11s1", "b11t", "1hs1", "b1st", "bhst", "bh11")]
    + [(axes, kind) for axes in ("11s1", "b1st") for kind in ("float", "finfo.min", "-inf")],
)
def test_masks(axes, kind):
    q, k, v = _case(40, 150, b=2, h=2)
    sizes = dict(zip("bhst", (2, 2, 40, 150), strict=True), **{"1": 1})
    shape = [sizes[axis] for axis in axes]
    random = torch.Generator().manual_seed(3)
    mask = torch.rand(shape, generator=random) < 0.6
    mask.view(-1)[0] = True
    if kind == "float":
        mask = torch.randn(shape, generator=random)
    elif kind != "bool":
        value = torch.finfo(torch.float32).min if kind == "finfo.min" else -math.inf
        mask = torch.zeros(shape).masked_fill(~mask, value)
    precision = Sage(smooth_q="s" in axes)
    layout = _layout(q, k, share=0.9, span=140)
    out, lse, prepared = _run(q, k, v, layout, precision, mask=mask)
    some = {"precision": precision, "attn_mask": mask, "prepared": prepared, "impl": "cpu"}
    wanted, sums = quantized_attention(q, k, v, layout, **some, return_lse=True)
    assert relative_error(out, wanted.double()) <= 5e-3
    seen = sums.isfinite()
    assert torch.equal(lse == -math.inf, ~seen)
    assert bool((out[~seen] == 0).all())
    likely = seen & (sums > -1e30)
    torch.testing.assert_close(lse[likely], sums[likely], rtol=1e-6, atol=5e-5)


@pytest.mark.parametrize("mode", ["int8-fp8", "int8-fp16"])
def test_rows_that_see_nothing_are_zero(mode):
    q, k, v = _case(150, 100)
    precision = Sage(mode, smooth_v=mode == "int8-fp8")
    out, lse, _ = _run(q, k, v, BlockLayout.dense(q, k, causal=True), precision)
    assert bool((out[:, :, :50] == 0).all())
    assert bool((lse[:, :, :50] == -math.inf).all())
    assert bool((out[:, :, 50:] != 0).any(-1).all())
    out, lse, _ = _run(q, k, v, _layout(q, k, share=0.0), precision)
    assert bool((out == 0).all())
    assert bool((lse == -math.inf).all())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["k", "v"])
def test_what_is_not_finite_stays_in_its_head(where, bad):
    q, k, v = _case(64, 100, h=4, g=2)
    layout = _layout(q, k, share=0.9)
    out, lse, _ = _run(q, k, v, layout, Sage())
    spoiled = {"k": k.clone(), "v": v.clone()}
    spoiled[where][0, 0, 70, 5] = bad
    found, sums, _ = _run(q, *spoiled.values(), layout, Sage())
    assert torch.equal(found[:, 2:], out[:, 2:])
    assert torch.equal(sums[:, 2:], lse[:, 2:])
    seen = lse.isfinite()[:, :2]
    channel = found[:, :2] if where == "k" else found[:, :2, :, 5:6]
    assert bool(channel[seen].isnan().all())


def test_constant_values_and_zero_inputs_stay_finite():
    q, k, v = _case(70, 130)
    for smooth_v in (False, True):
        precision = Sage(smooth_v=smooth_v, smooth_q=smooth_v)
        layout = _layout(q, k, share=1.1, causal=False)
        out, _, _ = _run(q, k, v * 0 + 3, layout, precision)
        torch.testing.assert_close(out, torch.full_like(out, 3.0), rtol=3e-2, atol=0)
        out, lse, _ = _run(q * 0, k * 0, v * 0, layout, precision)
        assert bool((out == 0).all())
        torch.testing.assert_close(lse, torch.full_like(lse, math.log(130)))


def _sampled_error(s, precision):
    """Relative error of some rows of a long input whose values have mean 1, against fp64."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, s, 128, generator=random).to(torch.float16) for _ in range(3))
    v = v + 1
    q, k, v = (x.to(DEVICE) for x in (q, k, v))
    layout = BlockLayout.dense(q, k)
    out = quantized_attention(q, k, v, layout, precision=precision, impl="triton")
    rows = torch.arange(0, s, s // 64, device=DEVICE)
    part = q[:, :, rows].contiguous()
    truth, _ = block_sparse_reference(
        part.double(), k.double(), v.double(), BlockLayout.dense(part, k)
    )
    return relative_error(out[:, :, rows], truth)


@pytest.mark.gpu
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_sums_of_long_inputs_do_not_drift(granularity):
    assert _sampled_error(2**15, Sage(granularity=granularity)) <= 5e-3
    assert _sampled_error(2**15, Sage("int8-fp16", granularity=granularity)) <= 5e-3


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_many_cells(mode):
    q, k, v = _case(700, 1500, 128, g=1)
    _gate(q, k, v, _layout(q, k, share=0.6), Sage(mode))
    _gate(q, k, v, BlockLayout.dense(q, k, causal=True, span=600), Sage(mode))
