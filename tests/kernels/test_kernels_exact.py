"""The exact kernel against the gathered cells on the CPU and fp64."""

import math
import os
from dataclasses import replace

import pytest
import torch

from foveal._core.gpu import triton_refusal
from foveal.attention import BlockLayout
from foveal.attention.block_sparse.api import block_sparse_attention
from foveal.attention.block_sparse.cpu import block_sparse_cpu
from foveal.attention.block_sparse.triton_exact import block_sparse_triton
from foveal.attention.layout import num_cells
from foveal.attention.reference import block_sparse_reference
from foveal.errors import UnsupportedError
from foveal.testing import assert_as_accurate

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
DTYPES = [torch.float16, torch.bfloat16, torch.float32]
FLOORS = {torch.float32: 1e-6 if INTERPRETED else 4e-6}
"""fp32 products are three of tf32 on GPUs; other types may be one rounding of the result off."""


def _case(s, t, d=32, e=None, *, b=1, h=2, g=1, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(b, h, s, d, generator=random) * 1.5
    k = torch.randn(b, g, t, d, generator=random)
    v = torch.randn(b, g, t, e or d, generator=random) + 0.5
    return q.to(dtype), k.to(dtype), v.to(dtype)


def _layout(q, k, *, share=0.7, seed=0, **rule):
    random = torch.Generator().manual_seed(seed)
    n, m = num_cells(q.shape[2]), num_cells(k.shape[2])
    kept = torch.rand(*q.shape[:2], n, m, generator=random) < share
    rule = {"causal": True, **rule}
    return BlockLayout.from_bool(kept, num_queries=q.shape[2], num_keys=k.shape[2], **rule)


def _run(q, k, v, layout, *, scale=None, mask=None, dense=False):
    """Run the kernel on DEVICE and return its results on the CPU."""
    q, k, v = (x.to(DEVICE) for x in (q, k, v))
    layout = replace(layout, bits=layout.bits.to(DEVICE))
    scale = q.shape[3] ** -0.5 if scale is None else scale
    mask = None if mask is None else mask.to(DEVICE)
    out, lse = block_sparse_triton(q, k, v, layout, scale=scale, attn_mask=mask, dense=dense)
    assert out.dtype == q.dtype
    assert lse.dtype == torch.float32
    return out.cpu(), lse.cpu()


def _gate(q, k, v, layout, *, scale=None, mask=None, dense=False, check_lse=True):
    out, lse = _run(q, k, v, layout, scale=scale, mask=mask, dense=dense)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    exact = (x.double() for x in (q, k, v))
    truth, sums = block_sparse_reference(*exact, layout, scale=scale, attn_mask=mask)
    plain, _ = block_sparse_cpu(q, k, v, layout, scale=scale, attn_mask=mask)
    assert_as_accurate(out, plain, truth, floor=FLOORS.get(q.dtype))
    seen = sums.isfinite()
    assert bool((out[~seen] == 0).all())
    if check_lse:
        assert torch.equal(lse == -math.inf, ~seen)
        torch.testing.assert_close(lse[seen].double(), sums[seen], rtol=1e-6, atol=2e-5)
    return out, lse


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("d", "e"),
    [
        (16, 16), (32, 32), (40, 40), (64, 64), (80, 80), (128, 128), (256, 256),
        (64, 40), (16, 128), (128, 32), (8, 200), (256, 16), (1, 1),
    ],
)  # fmt: skip
def test_every_width_and_type(d, e, dtype):
    q, k, v = _case(130, 130, d, e, dtype=dtype)
    if not INTERPRETED and triton_refusal(q.to(DEVICE)) is not None:
        with pytest.raises(UnsupportedError, match="shared memory"):
            layout = _layout(q, k)
            layout = replace(layout, bits=layout.bits.to(DEVICE))
            block_sparse_attention(*(x.to(DEVICE) for x in (q, k, v)), layout, impl="triton")
        return
    _gate(q, k, v, _layout(q, k))


@pytest.mark.parametrize("d", [32, 128])  # narrow heads take whole cells in pairs
@pytest.mark.parametrize(
    ("s", "t", "rule"),
    [
        (200, 200, {}),
        (200, 200, {"causal": False}),
        (65, 300, {}),
        (300, 65, {}),
        (1, 130, {}),
        (130, 1, {}),
        (64, 320, {"causal": False}),
        (200, 200, {"span": 70}),
        (200, 200, {"span": 5}),
        (90, 330, {"span": 150}),
        (150, 100, {"span": 64}),
    ],
)
def test_every_rule_and_size(s, t, rule, d):
    q, k, v = _case(s, t, d, 32, h=1, dtype=torch.float16)
    _gate(q, k, v, _layout(q, k, share=0.8, **rule))
    layout = BlockLayout.dense(q, k, **{"causal": True, **rule})
    listed = _gate(q, k, v, layout)
    dense = _run(q, k, v, layout, dense=True)
    assert torch.equal(listed[0], dense[0])
    assert torch.equal(listed[1], dense[1])


def test_rows_before_the_first_key_are_zero():
    q, k, v = _case(200, 90, dtype=torch.float16)
    out, lse = _run(q, k, v, BlockLayout.dense(q, k, causal=True), dense=True)
    assert bool((out[:, :, :110] == 0).all())
    assert bool((lse[:, :, :110] == -math.inf).all())
    assert bool(lse[:, :, 110:].isfinite().all())
    assert bool((out[:, :, 110:] != 0).any(-1).all())


def test_rows_without_a_cell_are_zero():
    q, k, v = _case(130, 130)
    layout = _layout(q, k, share=0.0)
    out, lse = _run(q, k, v, layout)
    assert bool((out == 0).all())
    assert bool((lse == -math.inf).all())


@pytest.mark.parametrize(("h", "g"), [(4, 4), (4, 2), (6, 2), (3, 1)])
def test_grouped_heads_of_several_batches(h, g):
    q, k, v = _case(100, 150, b=2, h=h, g=g, dtype=torch.float16)
    _gate(q, k, v, _layout(q, k))


@pytest.mark.parametrize("kind", ["bshd", "expanded", "transposed", "sliced", "packed"])
def test_strides_of_the_inputs(kind):
    plain = _case(100, 150, b=2, h=2, g=2, dtype=torch.float16)
    q, k, v = (x.to(DEVICE) for x in plain)
    if kind == "bshd":
        q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
    elif kind == "expanded":
        k, v = (x[:1, :1].expand(2, 2, -1, -1) for x in (k, v))
    elif kind == "transposed":  # the last axis is not dense
        q, k, v = (x.mT.contiguous().mT for x in (q, k, v))
    elif kind == "sliced":  # what lies past the end and beside the channels is NaN
        q, k, v = (torch.nn.functional.pad(x, (8, 8, 0, 64), value=math.nan) for x in (q, k, v))
        q, k, v = q[:, :, :100, 8:40], k[:, :, :150, 8:40], v[:, :, :150, 8:40]
    else:
        q, k, v = torch.cat([q, k[:, :, :100], v[:, :, :100]], 3).chunk(3, 3)
    assert not q.is_contiguous() or kind == "expanded"
    layout = _layout(q, k)
    wanted = _gate(*(x.cpu().contiguous() for x in (q, k, v)), layout)
    found = _run(q, k, v, layout)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


def test_scale_is_taken_as_it_is():
    q, k, v = _case(100, 100)
    wide = _gate(q, k, v, _layout(q, k), scale=0.4)
    small = _gate(q, k, v, _layout(q, k), scale=1e-3)
    assert not torch.allclose(wide[0], small[0], atol=1e-2)
    _gate(q, k, v, _layout(q, k), scale=0.0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "axes",
    ["1111", "111t", "11s1", "b11t", "1hs1", "1hst", "b1st", "bhst", "bh11"],
)
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_masks_of_every_shape(kind, axes, causal):
    q, k, v = _case(70, 130, b=2, h=2, g=1)
    sizes = dict(zip("bhst", (2, 2, 70, 130), strict=True), **{"1": 1})
    shape = [sizes[axis] for axis in axes]
    random = torch.Generator().manual_seed(3)
    if kind == "bool":
        mask = torch.rand(shape, generator=random) < 0.6
        mask.view(-1)[0] = True
    else:
        mask = torch.randn(shape, generator=random)
    _gate(q, k, v, _layout(q, k, share=0.9, causal=causal), mask=mask)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lowest", ["finfo.min", "-inf", "False"])
def test_masks_that_hide_whole_rows(lowest, dtype):
    q, k, v = _case(100, 150, dtype=dtype)
    hidden = torch.rand(1, 2, 100, 150, generator=torch.Generator().manual_seed(1)) < 0.5
    hidden[:, :, 3:20] = True  # rows that see nothing
    hidden[:, :, 70:] |= torch.arange(150) >= 64  # and whole cells
    if lowest == "False":
        mask = ~hidden
    else:
        value = torch.finfo(dtype).min if lowest == "finfo.min" else -math.inf
        mask = torch.zeros(1, 2, 100, 150, dtype=dtype).masked_fill(hidden, value)
    out, lse = _gate(q, k, v, _layout(q, k, share=0.9), mask=mask, check_lse=lowest != "finfo.min")
    if lowest == "finfo.min":  # Equal logits: the mean of the values, not nothing.
        assert bool(lse.isfinite().all())
        assert bool((out[:, :, 3:20] != 0).any(-1).all())


def test_masks_beside_a_window_and_strided():
    q, k, v = _case(200, 200)
    wide = torch.rand(1, 1, 200, 400, generator=torch.Generator().manual_seed(2)) < 0.7
    _gate(q, k, v, _layout(q, k, span=90), mask=wide[..., ::2])


@pytest.mark.parametrize(
    ("threshold", "mask"),
    [(0.0, False), (1.0, False), (3.0, False), (math.inf, False), (0.0, True), (1.0, True)],
)
def test_skipped_cells_are_those_of_the_reference(threshold, mask):
    q, k, v = _case(100, 448, h=2, dtype=torch.float16)
    k[:, :, :64] += 0.5 * q[:, :1].mean(2, keepdim=True)
    k[:, :, 128:300] *= 0.1
    k[:, :, 384:] *= 0.1  # The last cell is never skipped.
    some = None
    if mask:
        some = torch.rand(1, 1, 100, 448, generator=torch.Generator().manual_seed(1)) < 0.8
    plain = _layout(q, k, share=1.1, causal=False)
    layout = replace(plain, skip_threshold=(threshold, math.inf))
    out, _ = _gate(q, k, v, layout, mask=some)
    whole, _ = _run(q, k, v, plain, mask=some)
    skipped = not torch.allclose(out[:, 0], whole[:, 0], atol=2e-3)
    assert skipped == (threshold <= 1.0)
    torch.testing.assert_close(out[:, 1], whole[:, 1], atol=1e-3, rtol=2e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_what_is_not_finite_stays_in_its_head(where, bad):
    q, k, v = _case(100, 100, h=4, g=2)
    layout = _layout(q, k, share=1.1)
    out, lse = _run(q, k, v, layout)
    spoiled = {"q": q.clone(), "k": k.clone(), "v": v.clone()}
    spoiled[where][0, 0, 70, 5] = bad
    found, sums = _run(*spoiled.values(), layout)
    others = slice(1, 4) if where == "q" else slice(2, 4)
    assert torch.equal(found[:, others], out[:, others])
    assert torch.equal(sums[:, others], lse[:, others])
    assert not bool(found[0, 0].isfinite().all())
    before = slice(0, 64)  # queries that see neither that key nor its cell
    assert torch.equal(found[:, :, before], out[:, :, before])


@pytest.mark.parametrize("d", [32, 128])
def test_large_logits_neither_overflow_nor_vanish(d):
    q, k, v = _case(100, 200, d, 32, dtype=torch.float16)
    _gate(q * 30, k * 30, v, _layout(q, k, causal=False), check_lse=False)
    out, lse = _run(q * 0 - 60, k * 0 + 60, v, _layout(q, k, causal=False, share=1.1))
    torch.testing.assert_close(
        out.float(), v.float().mean(2, keepdim=True).expand_as(out), atol=2e-3, rtol=0
    )
    assert bool(lse.isfinite().all())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("d", [64, 128])
def test_long_inputs(d, dtype):
    q, k, v = _case(2000, 2300, d, h=2, g=1, dtype=dtype)
    _gate(q, k, v, _layout(q, k, share=0.5))
    _gate(q, k, v, BlockLayout.dense(q, k, causal=True, span=900), dense=True)
