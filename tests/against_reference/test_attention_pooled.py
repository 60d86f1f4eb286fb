"""Sparge's cells against clear loops in fp64."""

import itertools

import pytest
import torch

from foveal.attention.policy.sparge import Sparge
from foveal.attention.score.pooled import mean_token, pool_cells
from foveal.attention.score.pooled_reference import self_similarity_reference, sparge_reference


def _case(s, t, h=4, g=2, d=16, dtype=torch.float32, seed=0):
    """Tokens that resemble the others of their cell, some cells more than others."""
    random = torch.Generator().manual_seed(seed)

    def tokens(heads, length, common):
        x = torch.randn(1, heads, length, d, generator=random)
        cells = torch.randn(1, heads, -(-length // 64), d, generator=random)
        strength = common * torch.rand(1, heads, cells.shape[2], 1, generator=random)
        return (x + (cells * strength).repeat_interleave(64, 2)[:, :, :length]).to(dtype)

    return tokens(h, s, 3.0), tokens(g, t, 3.0)


SETTINGS = [
    {"threshold": 0.7},
    {"threshold": 0.7, "include_crossing": False},
    {"threshold": 0.0},
    {"top_k": 0.4},
    {"threshold": 0.8, "similarity": 0.5, "keep_sink": True},
    {"threshold": 0.8, "similarity": 0.4, "smooth_k": False},
    {"top_k": 0.25, "similarity": 0.6, "scale": 1.0},
]


@pytest.mark.parametrize(
    ("s", "t", "causal"),
    [
        (320, 320, True),
        (321, 321, True),
        (300, 300, False),
        (130, 301, True),
        (301, 130, True),
        (70, 257, False),
    ],
)
def test_chosen_cells_are_those_of_the_reference(s, t, causal):
    q, k = _case(s, t)
    differ = []
    for settings in SETTINGS:
        settings = {"similarity": 0.3, "keep_sink": False, **settings}
        scale = settings.pop("scale", None)
        policy = Sparge(dense_below=0, **settings)
        kept = policy.layout(q, k, causal=causal, scale=scale).to_bool()
        wanted = sparge_reference(q, k, causal=causal, scale=scale, **settings)
        assert torch.equal(kept, wanted), settings
        differ.append(kept)
    different = [not torch.equal(a, b) for a, b in itertools.combinations(differ, 2)]
    assert sum(different) > len(different) / 2, "the settings must matter for this case"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_pooled_in_fp32(dtype):
    q, k = _case(257, 257, dtype=dtype)
    settings = {"threshold": 0.7, "similarity": 0.3, "keep_sink": False}
    kept = Sparge(dense_below=0, **settings).layout(q, k).to_bool()
    assert torch.equal(kept, sparge_reference(q, k, **settings))
    shift = mean_token(k)
    assert shift.dtype == torch.float32
    exact = k.double().mean(2, keepdim=True)
    assert (shift - exact).norm() < 1e-6 * k.double().norm()
    mean = pool_cells(k, shift=shift).mean[:, :, 0]
    assert (mean - (k.double() - exact)[:, :, :64].mean(2)).abs().max() < 1e-6


def test_small_chunks_choose_the_same_cells(monkeypatch):
    from foveal.attention.score import pooled

    q, k = _case(700, 700)
    policy = Sparge(threshold=0.7, similarity=0.3, dense_below=0)
    whole = policy.layout(q, k)
    monkeypatch.setattr(pooled, "_CHUNK_BYTES", 1)
    assert torch.equal(policy.layout(q, k).bits, whole.bits)


@pytest.mark.parametrize("length", [1, 5, 63, 64])
def test_self_similarity_is_the_mean_of_the_normalized_gram_matrix(length):
    x = torch.randn(1, 1, 128 + length, 8) + torch.randn(8)
    found = pool_cells(x)
    for cell, tokens in enumerate(x[0, 0].split(64)):
        wanted = self_similarity_reference(tokens)
        assert found.self_similarity[0, 0, cell].item() == pytest.approx(wanted, abs=1e-6)
        torch.testing.assert_close(found.mean[0, 0, cell], tokens.mean(0))
