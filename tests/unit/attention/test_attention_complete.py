"""Layouts that keep everything: exactly the cells in which the rule allows a pair, and known so."""

import pytest
import torch

from foveal.attention import BlockLayout


def _pair(s: int, t: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(1, 2, s, 8), torch.zeros(1, 1, t, 8)


@pytest.mark.parametrize("s", [1, 64, 65, 128, 129, 200])
@pytest.mark.parametrize("t", [1, 64, 65, 130, 193, 300])
@pytest.mark.parametrize("rule", [(False, None), (True, None), (True, 1), (True, 64), (True, 65)])
def test_dense_keeps_the_cells_with_a_visible_pair(s, t, rule):
    causal, span = rule
    layout = BlockLayout.dense(*_pair(s, t), causal=causal, span=span)
    pairs = layout.token_rule(torch.arange(s), torch.arange(t))
    pairs = torch.nn.functional.pad(pairs, (0, -t % 64, 0, -s % 64))
    wanted = pairs.unflatten(1, (-1, 64)).unflatten(0, (-1, 64)).any(3).any(1)
    assert torch.equal(layout.to_bool(), wanted.expand(1, 2, -1, -1))
    assert layout.complete


def test_only_what_is_known_to_be_whole_says_so():
    q, k = _pair(200, 300)
    full = BlockLayout.causal_like(q, k)
    part = BlockLayout.window(q, k, sink=0, window=1)
    assert not part.complete
    assert full.with_span(100).complete
    assert not part.with_span(100).complete
    assert (full | part).complete
    assert not (full & part).complete
