"""Comparison of two readings, by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from foveal.attention.evaluate.language import compare_states


def test_perplexity_looks_at_the_next_token_and_kl_goes_from_dense_to_sparse() -> None:
    vocabulary, length = 5, 300
    tokens = torch.randint(vocabulary, (1, length), generator=torch.Generator().manual_seed(0))
    following = tokens[0].roll(-1)
    # States are logits: the dense model gives the next token 0.6, the sparse one 0.2.
    dense = torch.full((length, vocabulary), 0.1)
    dense[torch.arange(length), following] = 0.6
    sparse = torch.full((length, vocabulary), 0.2)
    model = SimpleNamespace(get_output_embeddings=lambda: torch.nn.Identity())
    found = compare_states(model, tokens, dense.log(), sparse.log())
    assert found.dense_perplexity == pytest.approx(1 / 0.6, rel=1e-5)
    assert found.sparse_perplexity == pytest.approx(5, rel=1e-5)
    assert found.kl == pytest.approx(0.6 * math.log(3) + 0.4 * math.log(0.5), rel=1e-5)
    assert found.kl_standard_error == pytest.approx(0, abs=1e-6)
