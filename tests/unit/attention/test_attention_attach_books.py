"""What `attach` counts, against layouts and counting by hand."""

import random
import time

import pytest
import torch

from foveal.attention import BlockLayout, Sparge, Window, XAttention
from foveal.attention.integrations.ledger import Ledger
from foveal.attention.integrations.masks import MaskRule
from foveal.attention.integrations.stopwatch import Stopwatch
from foveal.attention.integrations.visible import Rule, count, kept, pairs_per_cell


def _rules():
    source = random.Random(0)
    for _ in range(60):
        s, t = source.randint(1, 300), source.randint(1, 300)
        causal = source.random() < 0.7
        yield Rule(s, t, causal, source.choice([None, 1, 5, 64, 100, 299]) if causal else None)
    yield Rule(5000, 5000, causal=True, span=70)  # more than one chunk of rows


@pytest.mark.parametrize("rule", [*_rules()], ids=str)
def test_counts_are_those_of_the_layout(rule):
    s, t = rule.num_queries, rule.num_keys
    like = [torch.zeros(1, 1, n, 1) for n in (s, t)]
    full = BlockLayout.dense(*like, causal=rule.causal, span=rule.span)
    pairs = pairs_per_cell(rule, torch.device("cpu"))
    seen = full.token_rule(torch.arange(s), torch.arange(t))
    assert count(rule) == (full.num_full, int(seen.sum()))
    assert pairs.sum() == seen.sum()
    generator = torch.Generator().manual_seed(s)
    some = torch.rand(2, 3, *pairs.shape, generator=generator) < 0.5
    layout = BlockLayout.from_bool(
        some, num_queries=s, num_keys=t, causal=rule.causal, span=rule.span
    )
    cells, tokens = kept(layout, pairs)
    assert cells == layout.num_kept
    if count(rule)[1]:
        assert float(tokens) / (6 * count(rule)[1]) == pytest.approx(layout.density)


def test_ledger_adds_up():
    q, k = torch.randn(2, 4, 200, 8), torch.randn(2, 2, 200, 8)
    ledger, rule = Ledger(), Rule(200, 200, causal=True)
    policy = XAttention(stride=8, threshold=0.0, dense_below=0)
    layout = policy.layout(q, k)
    for loss in (0.2, 0.4):
        ledger.count_sparse("a", 0, layout, policy, impl="cpu", loss=torch.tensor(loss))
    ledger.count_dense("a", 0, q, rule, "why", impl="dense", loss=True)
    ledger.count_dense("b", 1, q, rule, "why", impl="dense", loss=False)
    a, b = ledger.totals().values()
    assert (a.kept, a.full) == (2 * layout.num_kept + 80, 3 * 80)
    assert a.density == pytest.approx((2 * layout.density + 1) / 3)
    assert a.loss == pytest.approx(0.2)
    assert a.scoring == 2 * policy.scoring_cost(layout)
    assert (b.kept, b.full, b.density, b.loss, b.prefills) == (80, 80, 1, None, 1)
    assert ledger.dense == {"why": 2}
    assert ledger.newest("b").is_full
    ledger.count_dense("c", 1, q, rule, "why", impl="dense", loss=False)
    with pytest.raises(Exception, match=r"layer is 1, stands for \['b', 'c'\]; pass one of these"):
        ledger.newest(1)


@pytest.mark.parametrize(
    "policy", [Sparge(top_k=0.5, dense_below=0), XAttention(dense_below=0), Window()]
)
def test_scoring_is_counted_without_the_layout(policy):
    q, k = torch.randn(1, 4, 200, 8), torch.randn(1, 2, 333, 8)
    ledger, layout = Ledger(), policy.layout(q, k)
    ledger.count_sparse("a", 0, layout, policy, impl="cpu", loss=None)
    assert ledger.totals()["a"].scoring == policy.scoring_cost(layout)


def test_masks_survive_what_models_do_to_them():
    for rule in (
        MaskRule(),
        MaskRule(span=50),
        MaskRule(real=((0, 90), (20, 100))),
        MaskRule(span=50, real=((0, 0), (20, 90))),
        MaskRule(stop=80),
        MaskRule(span=50, real=((10, 80), (0, 80)), stop=80),
    ):
        mask = rule.encode(2, 100, "cpu")
        if mask is None:
            assert rule == MaskRule()
            continue
        assert MaskRule.of(mask) is rule
        assert MaskRule.of(mask.clone()) == rule


def test_stopwatch():
    watch, cpu = Stopwatch(), torch.device("cpu")
    start = watch.mark(cpu)
    time.sleep(0.01)
    watch.add("work", start, watch.mark(cpu))
    watch.add("work", None, watch.mark(cpu))  # while a graph is captured there is no mark
    assert 0.01 <= watch.seconds("work") < 1
    assert watch.seconds("other") == 0
