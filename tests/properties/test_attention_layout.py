"""Properties of block layouts."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.attention import BlockLayout
from foveal.attention.layout import num_cells


@st.composite
def layouts(draw, count=1):
    s, t = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    causal = draw(st.booleans())
    span = draw(st.none() | st.integers(1, 200)) if causal else None
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    kept = [torch.rand(2, 3, num_cells(s), num_cells(t), generator=random) < 0.5] * 1
    kept += [torch.rand(kept[0].shape, generator=random) < 0.5 for _ in range(count - 1)]
    rule = {"num_queries": s, "num_keys": t, "causal": causal, "span": span}
    return [BlockLayout.from_bool(x, **rule) for x in kept]


def _pairs(layout):
    """Expand to tokens."""
    s, t = layout.num_queries, layout.num_keys
    tokens = layout.to_bool().repeat_interleave(64, 2)[:, :, :s].repeat_interleave(64, 3)[..., :t]
    rule = layout.token_rule(torch.arange(s), torch.arange(t))
    return tokens & rule, rule


@settings(max_examples=30, deadline=None)
@given(layouts())
def test_density_counts_allowed_token_pairs(built):
    pairs, rule = _pairs(built[0])
    full = int(rule.sum()) * pairs.shape[0] * pairs.shape[1]
    assert built[0].density == (int(pairs.sum()) / full if full else 1.0)


@settings(max_examples=30, deadline=None)
@given(layouts())
def test_bits_round_trip_and_no_empty_cell_is_kept(built):
    layout = built[0]
    kept = layout.to_bool()
    again = BlockLayout.from_bool(
        kept,
        num_queries=layout.num_queries,
        num_keys=layout.num_keys,
        causal=layout.causal,
        span=layout.span,
    )
    assert torch.equal(again.bits, layout.bits)
    assert layout.num_kept == int(kept.sum()) <= layout.num_full


@settings(max_examples=30, deadline=None)
@given(layouts(count=2))
def test_union_and_intersection_act_on_cells(built):
    a, b = built
    assert torch.equal((a | b).to_bool(), a.to_bool() | b.to_bool())
    assert torch.equal((a & b).to_bool(), a.to_bool() & b.to_bool())
    assert torch.equal((a | a).bits, a.bits)
