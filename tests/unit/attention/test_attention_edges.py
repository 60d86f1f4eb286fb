"""Ties, double precision and cut cells, where implementations could differ and results show it."""

import math

import pytest
import torch
import torch.nn.functional as F

from foveal.attention import BlockLayout, Sage, attend, block_sparse_attention
from foveal.attention.block_sparse import dense, rows
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.reference import block_sparse_reference


def inputs(s, t, *, h=2, g=1, d=16, dtype=torch.float32):
    random = torch.Generator().manual_seed(0)
    q = torch.randn(1, h, s, d, generator=random).to(dtype)
    return q, *(torch.randn(1, g, t, d, generator=random).to(dtype) for _ in "kv")


@pytest.mark.parametrize("run", ["cpu", "reference", "quantized"])
def test_a_cell_just_at_the_skip_threshold_is_skipped(run) -> None:
    q = torch.ones(1, 1, 64, 16)
    k = torch.zeros(1, 1, 256, 16)  # all logits are equal: every cell is 0 below the largest
    v = torch.tensor([0.0, 5.0, 5.0, 3.0]).repeat_interleave(64).view(1, 1, 256, 1)
    layout = BlockLayout.from_bool(
        torch.ones(1, 1, 1, 4, dtype=torch.bool),
        num_queries=64,
        num_keys=256,
        causal=False,
        skip_threshold=(0.0,),
    )
    if run == "quantized":
        out = quantized_attention(q, k, v, layout, precision=Sage("int8-fp16"))
    else:
        out = block_sparse_attention(q, k, v, layout, impl=run)
    # The first cell, of zeros, and the last, of threes, always stay.
    torch.testing.assert_close(out, torch.full_like(out, 1.5))


def test_queries_that_two_cut_cells_leave_nothing_are_zero() -> None:
    q, k, v = inputs(256, 266)
    cells = torch.zeros(1, 2, 4, 5, dtype=torch.bool)
    # Of row 2, keys 0..137 + i with a window of 100: its end in cell 0, the diagonal in cell 3.
    cells[:, :, 2, [0, 3]] = True
    layout = BlockLayout.from_bool(cells, num_queries=256, num_keys=266, span=100)
    assert layout.num_kept == 4
    exact, exact_lse = block_sparse_reference(q, k, v, layout)
    out, lse = block_sparse_attention(q, k, v, layout, return_lse=True)
    blind = exact_lse.isneginf()
    assert blind[0, 0, 128:192].unique().tolist() == [False, True]
    assert torch.equal(lse.isneginf(), blind)
    torch.testing.assert_close(out.double(), exact, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("rule", [{}, {"span": 100}, {"causal": False}])
def test_rows_by_chunks_of_query_cells(monkeypatch, rule) -> None:
    q, k, v = (x.requires_grad_() for x in inputs(300, 333))
    cells = torch.rand(1, 2, 5, 6, generator=torch.Generator().manual_seed(1)) < 0.7
    layout = BlockLayout.from_bool(cells, num_queries=300, num_keys=333, **rule)
    whole = block_sparse_attention(q, k, v, layout, impl="cpu")
    wanted = torch.autograd.grad(whole.square().sum(), (q, k, v))
    monkeypatch.setattr(rows, "_INDEX_BYTES", 2 * 8 * 2 * 6)  # two query cells at a time
    out = block_sparse_attention(q, k, v, layout, impl="cpu")
    torch.testing.assert_close(out, whole, rtol=2e-5, atol=2e-5)
    for a, b in zip(torch.autograd.grad(out.square().sum(), (q, k, v)), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


def test_a_bias_in_double_precision_is_not_rounded() -> None:
    q, k, v = inputs(100, 130, dtype=torch.float64)
    bias = torch.randn(1, 1, 100, 130, dtype=torch.float64)
    layout = BlockLayout.causal_like(q, k)
    exact, _ = block_sparse_reference(q, k, v, layout, attn_mask=bias)
    out = block_sparse_attention(q, k, v, layout, attn_mask=bias)
    torch.testing.assert_close(out, exact, rtol=1e-12, atol=1e-12)
    mask = bias.masked_fill(~torch.ones(100, 130, dtype=torch.bool).tril(30), -math.inf)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("span", [None, 1, 40, 199, 200, 201])
@pytest.mark.parametrize(("s", "t"), [(150, 200), (200, 200), (200, 90)])
def test_dense_attention_by_blocks_of_queries(monkeypatch, s, t, span) -> None:
    monkeypatch.setattr(dense, "_QUERIES_AT_ONCE", 64)
    q, k, v = inputs(s, t)
    mask = torch.ones(s, t, dtype=torch.bool).tril(t - s)
    if span is not None:
        mask &= torch.ones(s, t, dtype=torch.bool).triu(t - s - span + 1)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    out = dense.dense_attention(q, k, v, causal=True, scale=None, span=span)
    torch.testing.assert_close(out, wanted.nan_to_num(0.0), rtol=2e-5, atol=2e-5)
    if span is None:
        torch.testing.assert_close(attend(q, k, v), out)
