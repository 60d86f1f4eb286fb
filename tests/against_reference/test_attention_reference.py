"""Fast paths against clear loops in fp64."""

import pytest
import torch

from foveal.attention import BlockLayout, block_sparse_attention
from foveal.attention.layout import num_cells
from foveal.attention.reference import antidiagonal_reference, block_sparse_reference
from foveal.attention.score import antidiagonal_scores, block_mass
from foveal.attention.score.reference import block_mass_reference
from foveal.testing import assert_as_accurate


def _case(s, t, h=4, g=2, d=16, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(2, h, s, d, generator=random).to(dtype)
    k = torch.randn(2, g, t, d, generator=random).to(dtype)
    v = torch.randn(2, g, t, d, generator=random).to(dtype)
    return q, k, v, random


def _layout(q, k, random, **rule):
    kept = torch.rand(2, q.shape[1], num_cells(q.shape[2]), num_cells(k.shape[2]), generator=random)
    return BlockLayout.from_bool(kept < 0.5, num_queries=q.shape[2], num_keys=k.shape[2], **rule)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("s", "t", "causal", "span"),
    [
        (192, 192, True, None),
        (150, 150, True, None),
        (100, 237, True, None),
        (237, 100, True, None),
        (130, 201, False, None),
        (200, 200, True, 70),
        (90, 161, True, 5),
    ],
)
def test_error_is_at_most_twice_that_of_the_reference(s, t, causal, span, dtype):
    q, k, v, random = _case(s, t, h=2, g=1, dtype=dtype)
    layout = _layout(q, k, random, causal=causal, span=span)
    exact, exact_lse = block_sparse_reference(q, k, v, layout)
    same, same_lse = block_sparse_reference(q, k, v, layout, dtype=dtype)
    fast = block_sparse_attention(q, k, v, layout, impl="cpu")
    fast_lse, lse = block_sparse_attention(q, k, v, layout, return_lse=True)
    assert fast.dtype == dtype
    assert_as_accurate(fast, same, exact)
    assert_as_accurate(fast_lse, same, exact)
    assert torch.equal(lse.isinf(), exact_lse.isinf())
    seen = exact_lse.isfinite()
    assert_as_accurate(lse[seen], same_lse[seen], exact_lse[seen])
    assert bool((fast[~seen] == 0).all())


def test_poison_in_unselected_cells_does_not_leak():
    q, k, v, _ = _case(256, 256)
    kept = torch.ones(2, 4, 4, 4, dtype=torch.bool)
    kept[..., 1] = False
    layout = BlockLayout.from_bool(kept, num_queries=256, num_keys=256)
    k[:, :, 64:128] = torch.nan
    v[:, :, 64:128] = torch.nan
    assert bool(block_sparse_attention(q, k, v, layout).isfinite().all())


def test_gradients_match_the_reference():
    q, k, v, random = _case(130, 130, h=2, g=1, dtype=torch.float64)
    layout = _layout(q, k, random) | BlockLayout.window(q, k, sink=0, window=1)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    fast = torch.autograd.grad(block_sparse_attention(q, k, v, layout).square().sum(), inputs)
    slow = torch.autograd.grad(block_sparse_reference(q, k, v, layout)[0].square().sum(), inputs)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("alternate", [False, True])
@pytest.mark.parametrize(("s", "t", "stride"), [(64, 64, 8), (75, 91, 8), (40, 33, 16)])
def test_one_product_equals_the_sum_over_antidiagonals(s, t, stride, alternate):
    q, k, _, _ = _case(s, t, h=2, g=1)
    fast = antidiagonal_scores(q, k, stride=stride, alternate=alternate)
    slow = antidiagonal_reference(q[1, 1], k[1, 0], stride=stride, alternate=alternate)
    torch.testing.assert_close(fast[1, 1].double(), slow, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("s", "t"), [(128, 128), (150, 201), (140, 90)])
def test_block_mass_equals_the_loops(s, t, causal):
    q, k, _, _ = _case(s, t, h=2, g=1, d=8)
    rule = {"stride": 16, "causal": causal, "alternate": True}
    torch.testing.assert_close(
        block_mass(q, k, **rule).double(), block_mass_reference(q, k, **rule), rtol=1e-4, atol=1e-5
    )


def test_block_mass_does_not_depend_on_the_chunk(monkeypatch):
    q, k, _, _ = _case(300, 300)
    whole = block_mass(q, k, stride=8, alternate=True)
    monkeypatch.setattr("foveal.attention.score.api._CHUNK_BYTES", 1)
    torch.testing.assert_close(block_mass(q, k, stride=8, alternate=True), whole)
