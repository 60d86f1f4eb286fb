"""Known mistakes of re-implementations, each with a test that a wrong version fails."""

import math

import pytest
import torch

from foveal.attention import BlockLayout, Window, XAttention, attend, block_sparse_attention
from foveal.attention.policy.xattention import _smallest_set
from foveal.attention.score import antidiagonal_scores, block_mass, iter_block_mass


def _noise(s, t=None, h=2, g=None, d=32, seed=0):
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(1, h, s, d, generator=random)
    return q, torch.randn(1, g or h, t or s, d, generator=random)


def _mass_by_hand(q, k, stride):
    """Causal mass of one head, s = t a multiple of 64: one flat expression on the full logits."""
    logits = q @ k.T / math.sqrt(q.shape[1])
    tiles = logits.unflatten(1, (-1, stride)).unflatten(0, (-1, stride))
    m = torch.arange(stride)
    scores = tiles[:, stride - 1 - m, :, m].mean(0)
    hidden = torch.ones_like(scores).triu(1).bool()
    weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
    n = 64 // stride
    return weights.unflatten(1, (-1, n)).sum(2).unflatten(0, (-1, n)).sum(1)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_logits_are_averaged_and_softmax_runs_over_strided_keys(stride):
    q, k = _noise(256, h=1)
    wanted = _mass_by_hand(3 * q[0, 0], k[0, 0], stride)
    torch.testing.assert_close(block_mass(3 * q, k, stride=stride)[0, 0], wanted)


def test_only_queries_are_reversed_and_inside_their_group():
    q = torch.zeros(1, 1, 64, 1)
    k = torch.zeros(1, 1, 64, 1)
    q[0, 0, 8 + 6], k[0, 0, 16 + 1] = 1.0, 1.0  # group 1, group 2: 7 - 1 = 6 meets key 1
    scores = antidiagonal_scores(q, k, stride=8)[0, 0]
    assert scores[1, 2] == 1 / 8
    assert scores.count_nonzero() == 1


def test_early_rows_have_finite_mass_that_sums_to_the_strided_rows():
    q, k = _noise(200)
    mass = block_mass(q, k, stride=8, alternate=True)
    assert bool(mass.isfinite().all())
    torch.testing.assert_close(mass.sum(-1)[0, 0], torch.tensor([8.0, 8.0, 8.0, 1.0]))


def test_threshold_is_of_the_rows_own_total():
    # 65 tokens: the last row of cells holds one strided row. Mass 1 in all, not 8.
    q, k = _noise(64 * 7 + 1, h=1)
    q[:, :, -1] = 40 * k[:, :, 130] / k[:, :, 130].norm()
    policy = XAttention(threshold=0.5, dense_below=0, keep_sink=False, keep_diagonal=False)
    kept = policy.layout(q, k).to_bool()[0, 0]
    assert kept[7].sum() < 7


def test_the_crossing_block_is_kept_and_forced_mass_counts_first():
    mass = torch.tensor([[[[1.0, 4.0, 3.0, 2.0]]]])
    forced = torch.tensor([[True, False, False, False]])
    for threshold, wanted in [(0.1, 1), (0.11, 2), (0.5, 2), (0.51, 3), (0.8, 3), (0.81, 4)]:
        kept = _smallest_set(mass, forced, torch.tensor([threshold]))
        assert int(kept.sum()) == wanted, threshold
        assert bool(kept[..., 0].all())


def test_row_zero_is_one_forced_cell_and_the_sink_is_a_key_column():
    q, k = _noise(320, h=1)
    kept = XAttention(threshold=0.0, dense_below=0).layout(q, k).to_bool()[0, 0]
    assert kept.sum(1).tolist() == [1, 2, 2, 2, 2]
    assert bool(kept[:, 0].all())


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("size", [129, 191, 192, 193])
def test_padding_to_whole_groups_takes_no_mass_and_hides_no_key(causal, size):
    q, k = _noise(size, h=1)
    q, k = q.abs(), -k.abs()  # every real logit is negative: a padded one, 0, would win
    mass = block_mass(q, k, stride=16, causal=causal)
    total = torch.tensor([min(64, size - 64 * i) for i in range(mass.shape[2])]) / 16
    torch.testing.assert_close(mass.sum(-1)[0, 0], total.ceil())
    full = XAttention(threshold=0.999999, dense_below=0).layout(q, k, causal=causal)
    assert full.density > 0.99


@pytest.mark.parametrize("prefix", [64, 128, 8, 40, 77])
def test_chunked_prefill_counts_true_tokens(prefix):
    q, k = _noise(400, h=1)
    policy = XAttention(threshold=0.6, dense_below=0, alternate=False)
    late = policy.layout(q[:, :, prefix:], k)
    if prefix % 64 == 0:
        whole = policy.layout(q, k).to_bool()[:, :, prefix // 64 :]
        assert torch.equal(late.to_bool(), whole)
    if prefix % 8 == 0:
        scores = torch.cat([x for _, x in iter_block_mass(q[:, :, prefix:], k, stride=8)], 2)
        assert scores.sum(-1)[0, 0, 0] == pytest.approx(8, rel=1e-5)
    # Every query still sees itself, and nothing later.
    rows = torch.arange(prefix, 400)
    kept = late.to_bool()[0, 0]
    assert bool(kept[(rows - prefix) // 64, rows // 64].all())
    allowed = late.token_rule(rows - prefix, torch.arange(400))
    assert torch.equal(allowed, torch.ones(400, 400, dtype=torch.bool).tril()[prefix:])


def test_key_heads_are_grouped_as_neighbours_and_scored_per_query_head():
    q, k = _noise(256, h=6, g=2)
    repeated = k.repeat_interleave(3, dim=1)
    policy = XAttention(threshold=0.6, dense_below=0)
    assert torch.equal(policy.layout(q, k).bits, policy.layout(q, repeated).bits)
    layout = policy.layout(q, k)
    out = block_sparse_attention(q, k, k, layout)
    torch.testing.assert_close(out, block_sparse_attention(q, repeated, repeated, layout))


def test_threshold_one_is_exactly_dense_attention():
    q, k = _noise(333)
    q = 30 * q  # most of the mass rounds to zero
    dense = attend(q, k, k)
    assert torch.equal(attend(q, k, k, policy=XAttention(threshold=1.0, dense_below=0)), dense)


def test_window_of_a_sequence_covers_it_when_longer():
    q, k = _noise(200)
    assert Window(sink=0, window=200).layout(q, k).is_full


def test_local_cells_precede_the_diagonal():
    q, k = _noise(384, h=1)
    forced = {"threshold": 0.0, "dense_below": 0, "keep_sink": False}
    kept = XAttention(num_local_cells=2, **forced).layout(q, k).to_bool()[0, 0]
    band = torch.ones(6, 6).tril().triu(-2).bool()
    assert torch.equal(kept, band)
    # With 40 more keys than a multiple of 64 the diagonal crosses two cells; both stay local.
    q, k = _noise(128, 128 + 104, h=1)
    kept = XAttention(num_local_cells=1, **forced).layout(q, k).to_bool()[0, 0]
    assert kept.int().tolist() == [[1, 1, 1, 0], [0, 1, 1, 1]]


def test_dense_layers_and_the_cost_of_scoring():
    policy = XAttention(
        stride=8, threshold=0.3, dense_below=0, num_dense_layers=2, num_local_cells=0
    )
    q, k = _noise(320)
    full = BlockLayout.causal_like(q, k)
    for layer, dense in [(0, True), (1, True), (2, False)]:
        some = policy.for_layer(layer)
        layout = some.layout(q, k)
        assert layout.is_full is dense
        assert some.scoring_cost(layout) == (0 if dense else full.num_full / 8)
    both = (policy | Window(sink=0, window=1)).for_layer(0)
    assert both.layout(q, k).is_full
    # Scored, although everything was kept in the end.
    noise = XAttention(stride=8, threshold=0.9999999, dense_below=0)
    assert noise.scoring_cost(noise.layout(q, k)) == full.num_full / 8
    assert XAttention(dense_below=1024).scoring_cost(full) == 0
