"""Properties of block layouts."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.attention import BlockLayout
from foveal.attention.layout import num_cells

RULES = st.fixed_dictionaries(
    {
        "s": st.integers(1, 300),
        "t": st.integers(1, 300),
        "causal": st.booleans(),
        "span": st.none() | st.integers(1, 200),
        "seed": st.integers(0, 2**20),
    }
)


def _layouts(s, t, causal, span, seed, count=1):
    """Build outside the strategy: type checkers draw random numbers to look into containers."""
    random = torch.Generator().manual_seed(seed)
    kept = [torch.rand(2, 3, num_cells(s), num_cells(t), generator=random) for _ in range(count)]
    rule = {
        "num_queries": s,
        "num_keys": t,
        "causal": causal,
        "span": span if causal else None,
    }
    return [BlockLayout.from_bool(x < 0.5, **rule) for x in kept]


def _pairs(layout):
    """Expand to tokens."""
    s, t = layout.num_queries, layout.num_keys
    tokens = layout.to_bool().repeat_interleave(64, 2)[:, :, :s].repeat_interleave(64, 3)[..., :t]
    rule = layout.token_rule(torch.arange(s), torch.arange(t))
    return tokens & rule, rule


@settings(max_examples=30, deadline=None)
@given(RULES)
def test_density_counts_allowed_token_pairs(rule):
    (layout,) = _layouts(**rule)
    pairs, allowed = _pairs(layout)
    full = int(allowed.sum()) * pairs.shape[0] * pairs.shape[1]
    assert layout.density == (int(pairs.sum()) / full if full else 1.0)


@settings(max_examples=30, deadline=None)
@given(RULES)
def test_bits_round_trip_and_no_empty_cell_is_kept(rule):
    (layout,) = _layouts(**rule)
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
@given(RULES)
def test_union_and_intersection_act_on_cells(rule):
    a, b = _layouts(**rule, count=2)
    assert torch.equal((a | b).to_bool(), a.to_bool() | b.to_bool())
    assert torch.equal((a & b).to_bool(), a.to_bool() & b.to_bool())
    assert torch.equal((a | a).bits, a.bits)
