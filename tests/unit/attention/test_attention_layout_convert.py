"""Layouts from and to masks, FlexAttention and index lists."""

import dataclasses
import math

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from foveal.attention import BlockLayout, block_sparse_attention
from foveal.errors import ArgumentError, ShapeError, UnsupportedError


def random_layout(s=200, t=330, *, causal=True, span=None, heads=3, seed=0, skip=None):
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(2, heads, -(-s // 64), -(-t // 64), generator=generator) < 0.6
    return BlockLayout.from_bool(
        kept, num_queries=s, num_keys=t, causal=causal, span=span, skip_threshold=skip
    )


def test_from_mask_keeps_touched_cells() -> None:
    mask = torch.zeros(1, 2, 70, 130, dtype=torch.bool)
    mask[0, 0, 0, 0] = mask[0, 0, 69, 129] = mask[0, 1, 63, 64] = True
    kept = BlockLayout.from_mask(mask).to_bool()
    assert kept.shape == (1, 2, 2, 3)
    assert kept.nonzero().tolist() == [[0, 0, 0, 0], [0, 0, 1, 2], [0, 1, 0, 1]]


def test_from_mask_takes_a_rule_along() -> None:
    mask = torch.ones(1, 2, 70, 130, dtype=torch.bool)
    layout = BlockLayout.from_mask(mask, causal=True)
    assert layout.causal
    assert layout.to_bool()[0, 0].int().tolist() == [[1, 1, 0], [1, 1, 1]]
    assert not BlockLayout.from_mask(mask).causal


@pytest.mark.parametrize("bad", [torch.ones(1, 1, 4, 4), torch.ones(4, 4, dtype=torch.bool)])
def test_from_mask_refuses(bad) -> None:
    with pytest.raises(ShapeError, match="mask"):
        BlockLayout.from_mask(bad)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("tile", [(64, 64), (128, 64), (64, 128), (32, 64), (16, 16), (128, 128)])
@pytest.mark.parametrize(
    ("s", "t", "span"),
    [
        (200, 330, None),
        (200, 330, 70),
        # The diagonal, an edge of the window, or the end of the keys just touches a tile.
        (200, 327, None),
        (200, 327, 62),
        (200, 327, 64),
        (200, 327, 100),
        (192, 319, None),
    ],
)
def test_lists_against_token_pairs(causal, tile, s, t, span) -> None:
    if span and not causal:
        return
    layout = random_layout(s, t, causal=causal, span=span)
    rule = layout.token_rule(torch.arange(s), torch.arange(t))
    pairs = layout.to_bool().repeat_interleave(64, 2).repeat_interleave(64, 3)[:, :, :s, :t] & rule
    lists = layout.to_lists(tile_queries=tile[0], tile_keys=tile[1])
    listed = lists.listed
    last = lists.counts.shape[2] - 1
    for b, h, r in ((0, 0, 0), (0, 1, 1), (0, 0, last), (0, 1, last), (1, 1, last), (1, 2, last)):
        rows = pairs[b, h, r * tile[0] : (r + 1) * tile[0]]
        wanted = [
            c for c in range(-(-t // tile[1])) if rows[:, c * tile[1] : (c + 1) * tile[1]].any()
        ]
        found = lists.indices[b, h, r][listed[b, h, r]].tolist()
        assert found == wanted  # query rows past s have no say
        for c, partial in zip(found, lists.partial[b, h, r].tolist(), strict=False):
            tile_pairs = rows[:, c * tile[1] : (c + 1) * tile[1]]
            assert partial == (not tile_pairs.all() or (c + 1) * tile[1] > t)


def test_lists_pad_with_the_last_tile() -> None:
    lists = random_layout().to_lists()
    past = ~lists.listed & (lists.counts > 0)[..., None]
    last = lists.indices.gather(3, (lists.counts.long() - 1).clamp_min(0)[..., None])
    assert past.any()
    assert torch.equal(lists.indices[past], last.expand_as(lists.indices)[past])


@pytest.mark.parametrize("size", [0, 8, 48, 96])
def test_lists_refuse_other_tiles(size) -> None:
    with pytest.raises(ArgumentError, match="tile_keys"):
        random_layout().to_lists(tile_keys=size)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize(("causal", "span"), [(True, None), (False, None), (True, 100)])
def test_flex_attention_agrees(causal, span) -> None:
    layout = random_layout(256, 320, causal=causal, span=span)
    q = torch.randn(2, 3, 256, 16)
    k, v = torch.randn(2, 3, 320, 16), torch.randn(2, 3, 320, 16)
    out = flex_attention(q, k, v, block_mask=layout.to_block_mask())
    ours = block_sparse_attention(q, k, v, layout, impl="reference")
    torch.testing.assert_close(out, ours, rtol=1e-5, atol=1e-5)


def test_block_mask_round_trip() -> None:
    layout = random_layout(256, 320)
    again = BlockLayout.from_block_mask(layout.to_block_mask(), causal=True)
    assert torch.equal(layout.bits, again.bits)


def test_from_created_block_mask() -> None:
    mask = create_block_mask(
        lambda b, h, i, j: i >= j, 1, 1, 300, 300, device="cpu", BLOCK_SIZE=128
    )
    layout = BlockLayout.from_block_mask(mask, causal=True)
    assert layout.is_full
    assert layout.density == 1.0
    bad = create_block_mask(lambda b, h, i, j: i >= j, 1, 1, 96, 96, device="cpu", BLOCK_SIZE=32)
    with pytest.raises(UnsupportedError, match="BLOCK_SIZE"):
        BlockLayout.from_block_mask(bad)


def test_block_mask_cannot_skip() -> None:
    with pytest.raises(UnsupportedError, match="skip_threshold"):
        random_layout(skip=(1.0, 2.0, 3.0)).to_block_mask()


def test_union_of_grouped_heads() -> None:
    layout = random_layout(heads=4, skip=(1.0, 5.0, math.inf, 2.0))
    union = layout.group_heads(2)
    kept, wanted = union.to_bool(), layout.to_bool()
    assert torch.equal(kept[:, 0], wanted[:, 0] | wanted[:, 1])
    assert torch.equal(kept[:, 0], kept[:, 1])
    assert torch.equal(kept[:, 3], wanted[:, 2] | wanted[:, 3])
    assert union.density > layout.density
    assert union.skip_threshold == (5.0, 5.0, math.inf, math.inf)
    assert layout.group_heads(2, group="query") is layout
    with pytest.raises(ArgumentError, match="num_kv_heads"):
        layout.group_heads(3)
    with pytest.raises(ArgumentError, match="group"):
        layout.group_heads(2, group="mean")


def test_skip_thresholds_combine() -> None:
    a = random_layout(seed=1, skip=(1.0, 2.0, math.inf))
    b = random_layout(seed=2, skip=(3.0, 1.0, 4.0))
    plain = random_layout(seed=3)
    assert (a | b).skip_threshold == (3.0, 2.0, math.inf)
    assert (a & b).skip_threshold == (1.0, 1.0, 4.0)
    assert (a | plain).skip_threshold is None
    assert (a & plain).skip_threshold == (plain & a).skip_threshold == a.skip_threshold
    assert "skips" in repr(a)


@pytest.mark.parametrize("value", [(1.0,), (1.0, -1.0, 0.0), (1.0, math.nan, 0.0)])
def test_skip_threshold_refused(value) -> None:
    with pytest.raises(ArgumentError, match="skip_threshold"):
        random_layout(skip=value)


def test_with_span() -> None:
    layout = random_layout(300, 300)
    narrow = layout.with_span(80)
    wanted = (
        layout.to_bool()
        & BlockLayout.causal_like(
            torch.zeros(2, 3, 300, 8), torch.zeros(2, 3, 300, 8), span=80
        ).to_bool()
    )
    assert torch.equal(narrow.to_bool(), wanted)
    assert not torch.equal(narrow.to_bool(), layout.to_bool())
    assert torch.equal(narrow.with_span(20).to_bool(), layout.with_span(20).to_bool())
    assert random_layout(skip=(1.0, 2.0, 3.0)).with_span(80).skip_threshold == (1.0, 2.0, 3.0)
    assert narrow.with_span(None) is narrow
    assert narrow.with_span(100) is narrow
    with pytest.raises(ArgumentError, match="span"):
        dataclasses.replace(layout, causal=False).with_span(3)
