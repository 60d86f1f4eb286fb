"""Policies, layouts and the errors of the attention stage."""

import pytest
import torch

from foveal.attention import BlockLayout, Window, XAttention, attend, block_sparse_attention
from foveal.errors import ArgumentError, ShapeError, UnsupportedError


def _noise(s, h=2, d=32, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(1, h, s, d, generator=random), torch.randn(1, h, s, d, generator=random)


def test_threshold_one_is_dense():
    q, k = _noise(300)
    layout = XAttention(threshold=1.0, dense_below=0).layout(q, k)
    assert torch.equal(layout.bits, BlockLayout.causal_like(q, k).bits)
    assert layout.density == 1.0


def test_threshold_per_head_and_forced_cells():
    q, k = _noise(320)
    kept = XAttention(threshold=(0.0, 1.0), dense_below=0).layout(q, k).to_bool()[0]
    forced = torch.eye(5, dtype=torch.bool)
    forced[:, 0] = True
    assert torch.equal(kept[0], forced)
    assert torch.equal(kept[1], torch.ones(5, 5).tril().bool())


def test_smallest_set_reaches_the_mass():
    from foveal.attention.score import block_mass

    q, k = _noise(512)
    mass = block_mass(q * 3, k, stride=8, alternate=True)
    kept = XAttention(stride=8, threshold=0.7, dense_below=0).layout(q * 3, k).to_bool()
    forced = torch.eye(8, dtype=torch.bool)
    forced[:, 0] = True
    held, total = (mass * kept).sum(-1), mass.sum(-1)
    assert bool((held >= 0.7 * total - 1e-4).all())
    lightest = torch.where(kept & ~forced, mass, torch.inf).amin(-1)
    free = lightest.isfinite()
    assert bool((held - lightest < 0.7 * total + 1e-4)[free].all())


@pytest.mark.parametrize("stride", [8, 16])
def test_planted_vertical_is_found(stride):
    q, k = _noise(1024, h=1, d=64)
    q += 3.0
    k[:, :, 200] = 6.0
    kept = XAttention(stride=stride, threshold=0.5, dense_below=0).layout(q, k).to_bool()[0, 0]
    assert bool(kept[3:, 3].all())


@pytest.mark.parametrize("distance", [256, 259])
def test_planted_slash_is_found_at_even_and_odd_distances(distance):
    random = torch.Generator().manual_seed(3)
    base = torch.randn(1024, 64, generator=random)
    base = 8 * base / base.norm(dim=1, keepdim=True)
    k = base[None, None]
    q = 4 * base.roll(distance, 0)[None, None]
    policy = XAttention(stride=8, threshold=0.5, dense_below=0, keep_sink=False)
    kept = policy.layout(q, k).to_bool()[0, 0]
    rows = torch.arange(6, 16)
    assert kept[rows, rows - distance // 64].float().mean() > 0.9


def test_block_128_selects_pairs_of_cells():
    q, k = _noise(512)
    kept = XAttention(block=128, threshold=0.3, dense_below=0).layout(q, k, causal=False).to_bool()
    pairs = kept.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    assert torch.equal(pairs.any(3).any(-1), pairs.all(3).all(-1))


def test_policies_combine():
    q, k = _noise(512)
    a, b = Window(sink=0, window=64), Window(sink=64, window=1)
    either, both = (a | b).layout(q, k), (a & b).layout(q, k)
    assert torch.equal(either.bits, a.layout(q, k).bits | b.layout(q, k).bits)
    assert torch.equal(both.bits, a.layout(q, k).bits & b.layout(q, k).bits)


def test_costs_of_scoring_add_up():
    q, k = _noise(512)
    one, other = XAttention(stride=8, dense_below=0), XAttention(stride=16, dense_below=0)
    layout = BlockLayout.causal_like(q, k)
    for policy in (one | other, one & other):
        assert policy.scoring_cost(layout) == layout.num_full * (1 / 8 + 1 / 16)


def test_window_keeps_every_near_key():
    q, k = _noise(300)
    kept = Window(sink=1, window=65).layout(q[:, :, :100], k).to_bool()[0, 0]
    for i in range(100):
        for j in [0, *range(200 + i - 64, 200 + i + 1)]:
            assert kept[i // 64, j // 64]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 2, 66, 130])
def test_window_keeps_cells_with_a_near_key_and_no_others(window, causal):
    q, k = _noise(300)
    layout = BlockLayout.window(q, k, sink=0, window=window, causal=causal)
    back = torch.arange(300)[:, None] - torch.arange(300)
    near = (back < window) & (back >= 0 if causal else back > -window)
    assert torch.equal(layout.to_bool()[:, :1], BlockLayout.from_mask(near[None, None]).to_bool())


def test_layout_prints_pattern_and_density():
    q, k = _noise(192)
    text = repr(BlockLayout.causal_like(q, k))
    assert "density=1.000" in text
    assert text.splitlines()[1:] == ["#  ", "## ", "###"]


@pytest.mark.skipif(hasattr(attend, "__wrapped__"), reason="a type-checked run answers first")
def test_errors_name_the_argument():
    q, k = _noise(128)
    with pytest.raises(ShapeError, match=r"attend: k has shape \(1, 3, 128, 32\)"):
        attend(q, k.new_zeros(1, 3, 128, 32), k)
    with pytest.raises(ArgumentError, match="v is torch.float64"):
        attend(q, k, k.double())
    with pytest.raises(ArgumentError, match="precision is 'int8'"):
        attend(q, k, k, precision="int8")
    with pytest.raises(ArgumentError, match="stride is 24"):
        XAttention(stride=24)
    with pytest.raises(ArgumentError, match=r"threshold is 1\.5"):
        XAttention(threshold=1.5)
    with pytest.raises(ArgumentError, match="num_local_cells is -1"):
        XAttention(num_local_cells=-1)
    with pytest.raises(ArgumentError, match="num_dense_layers is -1"):
        XAttention(num_dense_layers=-1)
    with pytest.raises(ShapeError, match="chunks hold 0 query cells"):
        BlockLayout.from_chunks([], num_queries=128, num_keys=128)
    with pytest.raises(UnsupportedError, match='impl is "dense"'):
        layout = BlockLayout.window(q, k, sink=0, window=1)
        block_sparse_attention(q, k, k, layout, impl="dense")
    with pytest.raises(ArgumentError, match="window is 0"):
        Window(window=0)
    with pytest.raises(ArgumentError, match="threshold has 3 values"):
        XAttention(threshold=(0.5,) * 3, dense_below=0).layout(q, k)
    with pytest.raises(UnsupportedError, match='impl="cpu"'):
        block_sparse_attention(q, k, k, BlockLayout.dense(q, k), impl="triton")
    with pytest.raises(ShapeError, match="layout is 1 x 2 heads over 64 x 64"):
        short = BlockLayout.dense(q[:, :, :64], k[:, :, :64])
        block_sparse_attention(q, k, k, short)
