"""Sparge: its quirks, known mistakes of re-implementations, and its errors."""

import math
import re

import pytest
import torch
from jaxtyping import TypeCheckError

from foveal.attention import BlockLayout, attend
from foveal.attention.policy.sparge import Sparge
from foveal.attention.score.pooled import mean_token, pool_cells
from foveal.errors import ArgumentError, ShapeError


def _refuse(words, call, *args, **kwargs):
    """Expect an ArgumentError with these words; with run-time type checks, theirs will do."""
    with pytest.raises((ArgumentError, TypeCheckError)) as found:
        call(*args, **kwargs)
    if isinstance(found.value, ArgumentError):
        assert re.search(words, str(found.value))


def _blocks(s, t=None, h=2, g=None, d=32, seed=0, noise=0.1, strength=3.0):
    """Every cell repeats one token but for a little noise, so that means describe it."""
    random = torch.Generator().manual_seed(seed)

    def tokens(heads, length):
        cells = strength * torch.randn(1, heads, -(-length // 64), d, generator=random)
        x = cells.repeat_interleave(64, 2)[:, :, :length]
        return x + noise * torch.randn(x.shape, generator=random)

    return tokens(h, s), tokens(g or h, t or s)


def _kept(q, k, causal=False, scale=None, **settings):
    settings = {"dense_below": 0, "keep_sink": False, "similarity": -1.0, **settings}
    return Sparge(**settings).layout(q, k, causal=causal, scale=scale).to_bool()


def _probabilities(q, k, scale=None):
    means = [x.unflatten(2, (-1, 64)).mean(3) for x in (q, k)]
    logits = means[0] @ means[1].transpose(2, 3)
    return torch.softmax(logits * (1 / math.sqrt(q.shape[3]) if scale is None else scale), -1)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("setting", [{"threshold": 1.0}, {"top_k": 1.0}, {"threshold": (1.0, 1)}])
def test_one_keeps_everything(setting, causal):
    q, k = _blocks(300)
    layout = Sparge(dense_below=0, **setting).layout(q, k, causal=causal)
    assert torch.equal(layout.bits, BlockLayout.dense(q, k, causal=causal).bits)


def test_one_for_one_head_only_keeps_everything_there():
    q, k = _blocks(640)
    kept = _kept(q, k, causal=True, threshold=(0.0, 1.0))[0]
    assert torch.equal(kept[0].any(1), torch.ones(10, dtype=torch.bool))
    assert kept[0].sum() < 25
    assert torch.equal(kept[1], torch.ones(10, 10).tril().bool())


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99])
def test_kept_set_reaches_the_threshold_and_is_the_smallest(threshold):
    q, k = _blocks(1024, strength=1.0)
    weights = _probabilities(q, k)
    kept = _kept(q, k, threshold=threshold)
    held = (weights * kept).sum(-1)
    assert bool((held >= threshold - 1e-5).all())
    lightest = weights.masked_fill(~kept, 2.0).amin(-1)
    assert bool((held - lightest < threshold + 1e-5).all())


def test_released_code_leaves_the_crossing_cell_out_but_keeps_one():
    q, k = _blocks(1024, strength=1.0)
    weights = _probabilities(q, k)
    full, without = (_kept(q, k, threshold=0.6, include_crossing=c) for c in (True, False))
    held = (weights * without).sum(-1)
    assert bool((without.sum(-1) == (full.sum(-1) - 1).clamp_min(1)).all())
    assert bool(((held <= 0.6 + 1e-5) | (without.sum(-1) == 1)).all())
    assert bool((held < 0.6).any())


def test_top_k_is_a_fraction_of_the_cells_that_a_row_sees():
    q, k = _blocks(64 * 20, h=1, strength=1.0)
    count = _kept(q, k, causal=True, top_k=0.3)[0, 0].sum(-1)
    visible = torch.arange(1, 21)
    wanted = torch.tensor([math.ceil(0.3 * v - 1e-9) for v in visible.tolist()])
    # One more where the diagonal cell was not among the chosen.
    assert bool(((count == wanted) | (count == wanted + 1)).all())
    assert bool((count == wanted).any())
    # 0.07 * 100 is a little more than 7 in floating point.
    long = torch.randn(2, 1, 1, 6400, 2)
    assert _kept(*long, top_k=0.07)[0, 0].sum(-1).tolist() == [7] * 100
    # Of all cells it would be 6 for every row, so that the first six rows would be dense.
    assert count[5] < 6


def test_of_equal_cells_the_earlier_are_chosen():
    q, k = torch.ones(1, 1, 640, 8), torch.ones(1, 1, 640, 8)
    for settings in ({"top_k": 0.3}, {"threshold": 0.25}):
        kept = _kept(q, k, smooth_k=False, **settings)[0, 0]
        assert bool((kept.sum(-1) == 3).all())
        assert bool(kept[:, :3].all())


def test_dissimilar_cell_of_keys_leaves_the_softmax_and_is_kept_in_every_row():
    q, k = _blocks(640, h=1, strength=1.0)
    random = torch.Generator().manual_seed(5)
    mixed = k.clone()
    # A cell that looks heavy by its mean, yet whose tokens point everywhere.
    mixed[:, :, 192:256] = 30 * torch.randn(1, 1, 64, 32, generator=random)
    mixed[:, :, 192:256] += 3 * q[:, :, :64].mean(2, keepdim=True)
    alike = pool_cells(mixed, shift=mean_token(mixed)).self_similarity[0, 0] > 0.5
    assert alike.tolist() == [i != 3 for i in range(10)]
    kept = _kept(q, mixed, threshold=0.5, similarity=0.5)[0, 0]
    assert bool(kept[:, 3].all())
    rest = [i for i in range(10) if i != 3]
    without = torch.cat([mixed[:, :, :192], mixed[:, :, 256:]], 2)
    assert torch.equal(kept[:, rest], _kept(q, without, threshold=0.5)[0, 0])
    # Had it stayed in the softmax it would have taken all mass in the first row.
    assert _kept(q, mixed, threshold=0.5)[0, 0, 0].nonzero().tolist() == [[3]]


def test_dissimilar_cell_of_queries_keeps_its_whole_row():
    q, k = _blocks(640, h=1)
    q[:, :, 128:192] = torch.randn(1, 1, 64, 32)
    kept = _kept(q, k, threshold=0.0, similarity=0.5)[0, 0]
    assert kept.sum(-1).tolist() == [10 if i == 2 else 1 for i in range(10)]


def test_similarity_has_one_value_per_query_head_and_one_head_of_keys():
    q, k = _blocks(640, h=2, g=1, noise=3.0)
    kept = _kept(q, k, threshold=0.0, similarity=(-1.0, 1.0))[0]
    assert kept[0].sum() == 10
    assert bool(kept[1].all())


def test_partial_cells_are_pooled_over_the_tokens_that_they_have():
    # The last cell has 3 tokens. Divided by 64 its likeness would be (3/64)^2 and its mean tiny.
    q, k = _blocks(64 * 4 + 3, h=1)
    pooled = pool_cells(k)
    assert pooled.self_similarity[0, 0, 4] > 0.9
    torch.testing.assert_close(pooled.mean[0, 0, 4], k[0, 0, 256:].mean(0))
    q[:, :, :64] = 10 * k[:, :, 256:].mean(2, keepdim=True)
    assert _kept(q, k, threshold=0.5, similarity=0.5)[0, 0, 0].nonzero().tolist() == [[4]]


def test_smoothing_of_keys_changes_the_similarity_test_and_not_the_scores():
    q, k = _blocks(640, strength=1.0)
    offset = k + 20 * torch.ones(32)
    for settings in ({"threshold": 0.7}, {"top_k": 0.3}):
        plain = _kept(q, k, smooth_k=False, **settings)
        assert torch.equal(_kept(q, offset, smooth_k=True, **settings), plain)
        assert torch.equal(_kept(q, offset, smooth_k=False, **settings), plain)
    random = torch.randn(1, 2, 640, 32) + 20
    assert bool((pool_cells(random).self_similarity > 0.9).all())
    assert bool((pool_cells(random, shift=mean_token(random)).self_similarity < 0.3).all())


def test_inputs_are_left_as_they_are_and_strides_do_not_matter():
    q, k = _blocks(320, h=2)
    copies = q.clone(), k.clone()
    kept = _kept(q, k, threshold=0.7, similarity=0.5)
    assert torch.equal(q, copies[0])
    assert torch.equal(k, copies[1])
    apart = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k)]
    assert torch.equal(_kept(*apart, threshold=0.7, similarity=0.5), kept)


def test_scale_of_the_caller_counts_and_padding_the_width_does_not():
    q, k = _blocks(640, strength=1.0)
    weights = _probabilities(q, k, scale=0.05)
    kept = _kept(q, k, threshold=0.8, scale=0.05)
    assert bool(((weights * kept).sum(-1) >= 0.8 - 1e-5).all())
    assert kept.sum() > _kept(q, k, threshold=0.8).sum()
    padded = [torch.nn.functional.pad(x, (0, 32)) for x in (q, k)]
    same = _kept(*padded, threshold=0.8, scale=1 / math.sqrt(32))
    assert torch.equal(same, _kept(q, k, threshold=0.8))


@pytest.mark.parametrize("prefix", [64, 128, 192])
def test_a_later_chunk_of_queries_gets_the_rows_of_the_whole(prefix):
    q, k = _blocks(640)
    whole = _kept(q, k, causal=True, threshold=0.7, similarity=0.5)
    chunk = _kept(q[:, :, prefix:], k, causal=True, threshold=0.7, similarity=0.5)
    assert torch.equal(chunk, whole[:, :, prefix // 64 :])


@pytest.mark.parametrize(("s", "t"), [(320, 320), (100, 333), (257, 300), (1, 500), (300, 70)])
def test_diagonal_is_kept_so_that_no_query_is_empty(s, t):
    q, k = _blocks(s, t)
    kept = _kept(q, k, causal=True, threshold=0.0)
    for i in range(max(0, s - t), s):
        assert bool(kept[:, :, i // 64, (i + t - s) // 64].all())


def test_grouped_heads_are_as_repeated_ones_and_batches_as_single_ones():
    q, k = _blocks(320, h=4, g=2)
    kept = _kept(q, k, threshold=0.7, similarity=0.5)
    assert torch.equal(_kept(q, k.repeat_interleave(2, 1), threshold=0.7, similarity=0.5), kept)
    more = _blocks(320, h=4, g=2, seed=1)
    both = _kept(torch.cat([q, more[0]]), torch.cat([k, more[1]]), threshold=0.7, similarity=0.5)
    assert torch.equal(both[:1], kept)
    assert torch.equal(both[1:], _kept(*more, threshold=0.7, similarity=0.5))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e38])
@pytest.mark.parametrize("which", ["q", "k"])
def test_numbers_that_say_nothing_keep_their_cells_and_harm_no_other_head(which, bad):
    q, k = _blocks(640)
    clean = _kept(q, k, threshold=0.5, similarity=-0.1)
    (q if which == "q" else k)[0, 0, 130] = bad
    kept = _kept(q, k, threshold=0.5, similarity=-0.1)
    assert torch.equal(kept[:, 1], clean[:, 1])
    assert bool((kept[0, 0, 2] if which == "q" else kept[0, 0, :, 2]).all())
    assert bool(kept.any(-1).all())


def test_rows_whose_scores_overflow_are_kept_whole():
    q, k = _blocks(640, h=1)
    scores = q.unflatten(2, (-1, 64)).mean(3) @ k.unflatten(2, (-1, 64)).mean(3).transpose(2, 3)
    over = (scores[0, 0] > 3.4).any(-1)
    kept = _kept(q, k, threshold=0.5, scale=1e38, smooth_k=False)[0, 0]
    assert torch.equal(kept.all(-1), over)
    assert bool(over.any())


def test_cells_of_zeros_are_unlike_anything():
    q, k = _blocks(320, h=1)
    k[:, :, 64:128] = 0
    kept = _kept(q, k, threshold=0.0, similarity=0.0, smooth_k=False)[0, 0]
    assert bool(kept[:, 1].all())
    assert kept.sum() == 5 + 5
    q, k = _blocks(320, h=1)
    q[:, :, 128:192] = 0  # likeness 0, which does not exceed 0
    kept = _kept(q, k, threshold=0.0, similarity=0.0)[0, 0]
    assert kept.sum(-1).tolist() == [1, 1, 5, 1, 1]
    same = torch.randn(1, 1, 100, 32).repeat_interleave(64, 2)
    assert pool_cells(same).self_similarity.max() <= 1
    assert bool(_kept(same, same, threshold=0.0, similarity=1.0).all())


def test_sink_and_dense_tokens_are_whole_rows_and_columns():
    q, k = _blocks(640, h=1)
    bare = _kept(q, k, threshold=0.0)[0, 0]
    sink = _kept(q, k, threshold=0.0, keep_sink=True)[0, 0]
    wanted = bare.clone()
    wanted[:, 0] = True
    assert torch.equal(sink, wanted)
    text = _kept(q, k, threshold=0.0, num_whole_first=65, num_whole_last=1)[0, 0]
    for cell in (0, 1, 9):
        bare[cell], bare[:, cell] = True, True
    assert torch.equal(text, bare)
    whole = _kept(q, k, threshold=0.0)[0, 0]
    for cell in (0, 9):  # 64 tokens are one cell and not the next
        whole[cell], whole[:, cell] = True, True
    text = _kept(q, k, threshold=0.0, num_whole_first=64, num_whole_last=64)[0, 0]
    assert torch.equal(text, whole)
    late = _kept(q[:, :, 192:], k, threshold=0.0, num_whole_first=200, causal=True)[0, 0]
    assert late[0].sum() == 4  # the row of tokens 192 to 255 begins before token 200


def test_skip_threshold_is_on_the_layout_in_nats_per_head():
    q, k = _blocks(320)
    policy = Sparge(threshold=0.5, skip_threshold=4, dense_below=0)
    assert policy.layout(q, k).skip_threshold == (4.0, 4.0)
    policy = Sparge(threshold=1.0, skip_threshold=(4.0, 0.0), dense_below=0)
    layout = policy.layout(q, k)
    assert layout.skip_threshold == (4.0, 0.0)
    assert torch.equal(layout.bits, BlockLayout.causal_like(q, k).bits)
    assert Sparge(threshold=0.5, dense_below=0).layout(q, k).skip_threshold is None
    assert Sparge(threshold=0.5, skip_threshold=4.0).layout(q, k).skip_threshold is None
    policy = Sparge(threshold=0.5, skip_threshold=4.0, num_dense_layers=1, dense_below=0)
    assert policy.for_layer(0).layout(q, k).skip_threshold is None
    assert policy.for_layer(1).layout(q, k).skip_threshold == (4.0, 4.0)


def test_second_stage_skips_what_weighs_next_to_nothing_in_the_heads_that_want_it():
    q = torch.full((1, 2, 256, 16), 0.5)
    k = torch.zeros(1, 2, 256, 16)
    k[:, :, :64] = 10.0  # a logit of 20 in the first cell, 0 elsewhere
    v = torch.ones(1, 2, 256, 16)
    v[:, :, 64:192] = 1e6  # the last cell of a row is never skipped
    policy = Sparge(threshold=1.0, skip_threshold=(10.0, math.inf), dense_below=0)
    out = attend(q, k, v, policy=policy, causal=False)
    torch.testing.assert_close(out[:, 0], torch.ones(1, 256, 16))
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(out[:, 1], exact[:, 1])
    assert bool((out[:, 1] > 1.001).all())


@pytest.mark.parametrize("setting", [{"threshold": 0.2}, {"top_k": 0.2}])
def test_first_layers_steps_and_short_inputs_are_dense(setting):
    q, k = _blocks(640)
    full = BlockLayout.causal_like(q, k).bits
    policy = Sparge(num_dense_layers=2, num_dense_steps=5, dense_below=0, **setting)
    for dense in (policy.for_layer(1), policy.for_step(4), Sparge(dense_below=641, **setting)):
        assert torch.equal(dense.layout(q, k).bits, full)
        assert dense.scoring_cost(dense.layout(q, k)) == 0
    for sparse in (policy.for_layer(2), policy.for_step(5), Sparge(dense_below=640, **setting)):
        layout = sparse.layout(q, k)
        assert not torch.equal(layout.bits, full)
        assert 0 < sparse.scoring_cost(layout) < 0.1 * layout.num_full * 2


def test_density_grows_with_the_threshold():
    q, k = _blocks(1024, strength=1.0)
    sums = [_kept(q, k, threshold=x).sum().item() for x in (0.0, 0.3, 0.6, 0.9, 0.99, 1.0)]
    assert sums == sorted(set(sums))


def test_pooling_keeps_no_copy_of_the_sequence():
    from foveal.attention.score import pooled

    seen = []
    real = torch.linalg.vector_norm

    def spy(x, **kwargs):
        seen.append(x.numel() * 4)
        return real(x, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooled, "_CHUNK_BYTES", 2**16)
        patch.setattr(torch.linalg, "vector_norm", spy)
        pool_cells(torch.zeros(1, 2, 4096, 32, dtype=torch.bfloat16))
    assert max(seen) <= 2**16
    assert sum(seen) == 4096 * 2 * 32 * 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "exactly one"),
        ({"threshold": 0.5, "top_k": 0.5}, "exactly one"),
        ({"top_k": 0.5, "include_crossing": False}, "include_crossing is False"),
        ({"threshold": 1.1}, r"threshold is 1.1, must lie in \[0, 1\]"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"threshold": ()}, r"threshold is \(\)"),
        ({"threshold": "0.5"}, "threshold is 0.5"),
        ({"threshold": [0.5]}, "threshold is"),
        ({"threshold": True}, "threshold is True"),
        ({"top_k": 0.0}, r"top_k is 0.0, must lie in \(0, 1\]"),
        ({"top_k": 0.5, "similarity": 1.5}, "similarity is 1.5"),
        ({"top_k": 0.5, "similarity": (0.5, math.nan)}, "similarity is"),
        ({"top_k": 0.5, "skip_threshold": -1.0}, "skip_threshold is -1.0"),
        ({"top_k": 0.5, "skip_threshold": math.nan}, "skip_threshold is nan"),
        ({"top_k": 0.5, "dense_below": -1}, "dense_below is -1"),
        ({"top_k": 0.5, "num_dense_steps": -1}, "num_dense_steps is -1"),
    ],
)
def test_values_out_of_range_are_refused(settings, words):
    _refuse(words, Sparge, **settings)


@pytest.mark.parametrize("name", ["threshold", "top_k", "similarity", "skip_threshold"])
def test_wrong_number_of_heads_is_refused(name):
    q, k = _blocks(320)
    settings = {"threshold": 0.5} if name != "top_k" else {}
    policy = Sparge(dense_below=0, **{**settings, name: (0.5, 0.5, 0.5)})
    with pytest.raises(ArgumentError, match=f"{name} has 3 values, must have one per query head"):
        policy.layout(q, k)


def test_bad_shapes_and_steps_are_refused():
    policy = Sparge(threshold=0.5)
    with pytest.raises(ShapeError, match="Sparge.layout: k has shape"):
        policy.layout(torch.zeros(1, 4, 64, 8), torch.zeros(1, 3, 64, 8))
    with pytest.raises(ShapeError, match="pool_cells: x has shape"):
        pool_cells(torch.zeros(1, 1, 0, 8))
    with pytest.raises(ArgumentError, match="step is -1"):
        policy.for_step(-1)
