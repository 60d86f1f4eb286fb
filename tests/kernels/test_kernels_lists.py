"""Index lists of kept cells, against a plain loop over `to_bool` and `token_rule`."""

import os
from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl

from foveal.attention import BlockLayout
from foveal.attention.block_sparse.triton_lists import cell_lists, dense_row
from foveal.attention.layout import num_cells

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
RULES = [
    {"causal": False},
    {"causal": True},
    {"causal": True, "span": 1},
    {"causal": True, "span": 40},
    {"causal": True, "span": 64},
    {"causal": True, "span": 100},
    {"causal": True, "span": 1000},
]
SIZES = [(1, 1), (64, 64), (200, 200), (192, 192), (65, 300), (70, 257), (300, 65), (256, 128)]


def _layout(s, t, rule, *, b=1, h=2, share=0.6, seed=0):
    random = torch.Generator().manual_seed(seed)
    kept = torch.rand(b, h, num_cells(s), num_cells(t), generator=random) < share
    return BlockLayout.from_bool(kept, num_queries=s, num_keys=t, **rule)


def _oracle(layout, batch, head, row):
    """Kept cells of a row, and how many of them are cut by the window, whole, and cut otherwise."""
    rows = torch.arange(row * 64, min(row * 64 + 64, layout.num_queries))
    cells = layout.to_bool()[batch, head, row].nonzero()[:, 0].tolist()
    left = whole = 0
    for m in cells:
        keys = torch.arange(m * 64, m * 64 + 64)
        if layout.span is not None:
            first = rows + (layout.num_keys - layout.num_queries) - layout.span
            if bool((keys[None, :] <= first[:, None]).any()):
                left += 1
                continue
        whole += bool(layout.token_rule(rows, keys).all())
    return cells, left, whole


def _check(layout):
    on_device = replace(layout, bits=layout.bits.to(DEVICE))
    lists, info = (x.cpu() for x in cell_lists(on_device))
    b, h, n, _ = layout.shape
    for i in range(b):
        for j in range(h):
            for row in range(n):
                cells, left, whole = _oracle(layout, i, j, row)
                assert info[i, j, row].tolist() == [left, left + whole, len(cells)]
                assert lists[i, j, row, : len(cells)].tolist() == cells


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(("s", "t"), SIZES)
def test_lists_are_those_of_the_loop(s, t, rule):
    _check(_layout(s, t, rule, share=0.7))


@pytest.mark.parametrize("share", [0.0, 0.1, 1.1])
def test_empty_sparse_and_full_rows_of_several_batches(share):
    _check(_layout(130, 190, {"causal": True, "span": 90}, b=2, h=3, share=share))
    _check(_layout(130, 190, {"causal": False}, b=2, h=1, share=share))


def test_more_cells_than_one_block_of_the_kernel():
    layout = _layout(70, 1030 * 64 + 5, {"causal": True}, h=1, share=0.5)
    _check(layout)
    _check(replace(layout, span=1020 * 64))


def test_strided_bits():
    layout = _layout(200, 200, {"causal": True}, b=2, h=4)
    _check(replace(layout, bits=layout.bits[:, ::2]))


@pytest.mark.parametrize("m", [2**15 - 1, 2**15, 2**15 + 100])
def test_cell_numbers_of_two_million_keys(m):
    kept = torch.zeros(1, 1, 1, m, dtype=torch.bool)
    kept[..., ::997] = True
    kept[..., -2:] = True
    layout = BlockLayout.from_bool(kept, num_queries=5, num_keys=m * 64)
    lists, _ = cell_lists(replace(layout, bits=layout.bits.to(DEVICE)))
    assert lists.dtype == (torch.int16 if m < 2**15 else torch.int32)
    _check(layout)


@triton.jit
def _dense_rows(out, s, t, m, span, CAUSAL: tl.constexpr, HAS_SPAN: tl.constexpr):
    row = tl.program_id(0)
    first, num_left, end, count = dense_row(row, s, t, m, span, CAUSAL, HAS_SPAN)
    tl.store(out + row * 4, first)
    tl.store(out + row * 4 + 1, num_left)
    tl.store(out + row * 4 + 2, end)
    tl.store(out + row * 4 + 3, count)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(("s", "t"), SIZES)
def test_dense_rows_are_those_of_the_loop(s, t, rule):
    layout = BlockLayout.dense(torch.zeros(1, 1, s, 16), torch.zeros(1, 1, t, 16), **rule)
    _, _, n, m = layout.shape
    out = torch.full((n, 4), -9, dtype=torch.int32, device=DEVICE)
    span = layout.span or 0
    _dense_rows[(n,)](out, s, t, m, span, CAUSAL=layout.causal, HAS_SPAN=layout.span is not None)
    for row, (first, num_left, end, count) in enumerate(out.tolist()):
        cells, left, whole = _oracle(layout, 0, 0, row)
        assert list(range(first, first + count)) == cells
        if cells:
            assert (num_left, end) == (left, left + whole)
        else:
            assert (num_left, end) == (0, 0)
