"""Odd inputs of `attend`: the right answer."""

import math

import pytest
import torch

from foveal.attention import (
    Sage,
    Sparge,
    Window,
    XAttention,
    attend,
    attend_varlen,
    block_sparse_attention,
)
from foveal.attention.attend import choose_cells
from foveal.attention.block_sparse.dense import dense_attention
from foveal.attention.block_sparse.quantized import quantized_attention

POLICY = XAttention(stride=8, threshold=0.6, dense_below=0)


def inputs(s=130, t=130, *, b=2, h=4, g=2, d=32, dtype=torch.float32):
    random = torch.Generator().manual_seed(0)
    q = torch.randn(b, h, s, d, generator=random).to(dtype)
    return q, *(torch.randn(b, g, t, d, generator=random).to(dtype) for _ in "kv")


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("s", "t"), [(130, 130), (70, 130), (130, 70), (1, 130)])
@pytest.mark.parametrize("scale", [-0.3, 0.0])
def test_a_scale_below_or_at_zero(scale, s, t, causal) -> None:
    q, k, v = inputs(s, t)
    wanted = attend(q, k, v, scale=scale, causal=causal, impl="reference")
    torch.testing.assert_close(attend(q, k, v, scale=scale, causal=causal), wanted)
    torch.testing.assert_close(
        attend(q, k, v, scale=scale, causal=causal, policy=Window(sink=9999)), wanted
    )


def test_one_query_sees_all_keys_and_a_window_of_them() -> None:
    q, k, v = inputs(1, 130)
    wanted = attend(q, k, v, causal=False)
    torch.testing.assert_close(attend(q, k, v), wanted, rtol=0, atol=0)
    near = dense_attention(q, k, v, causal=True, scale=None, span=20)
    torch.testing.assert_close(near, attend(q, k[:, :, -20:], v[:, :, -20:]))


def test_queries_that_see_nothing_have_a_gradient_of_zero() -> None:
    q, k, v = inputs()
    q.requires_grad_()
    nothing = torch.zeros(2, 130, dtype=torch.bool)
    for policy in (None, POLICY):
        attend(q, k, v, policy=policy, attn_mask=nothing).sum().backward()
    empty, cu = q[0].transpose(0, 1), torch.tensor([0, 130])
    none = k[0, :, :0].transpose(0, 1)
    out = attend_varlen(empty, none, none, cu_seqlens_q=cu, cu_seqlens_k=torch.tensor([0, 0]))
    out.sum().backward()
    assert out.shape == (130, 4, 32)
    assert not q.grad.any()


@pytest.mark.parametrize(
    "settings",
    [
        {"impl": "reference"},
        {"impl": "cpu"},
        {"precision": Sage("int8-fp16")},
        {"attn_mask": torch.ones(2, 130).bool()},
    ],
    ids=str,
)
def test_the_lse_of_fp64_is_fp64(settings) -> None:
    q, k, v = inputs(dtype=torch.float64)
    out, lse = attend(q, k, v, return_lse=True, **settings)
    assert (out.dtype, lse.dtype) == (torch.float64, torch.float64)


@pytest.mark.parametrize(
    "settings", [{}, {"policy": POLICY}, {"precision": Sage()}, {"return_lse": True}], ids=str
)
def test_tensors_without_data_have_shapes(settings) -> None:
    q, k, v = (x.to("meta") for x in inputs())
    found = attend(q, k, v, **settings)
    out = found[0] if isinstance(found, tuple) else found
    assert out.shape == q.shape
    assert out.is_meta


def everything(q, k, v):
    """Return results of all that multiplies matrices, gradients included."""
    found = []
    settings = [
        {"policy": POLICY},
        {"policy": Sparge(top_k=0.5, dense_below=0, skip_threshold=3.0)},
        {"precision": Sage("int8-fp16"), "policy": POLICY},
        {"precision": Sage("int4-fp8")},
        {"attn_mask": torch.ones(1, 1, 130, 130)},
        {"impl": "reference"},
    ]
    for some in settings:
        found += attend(q.detach(), k, v, return_lse=True, **some)
    for some in ({}, {"policy": POLICY}, {"policy": Window(sink=0, window=64)}):
        out = attend(q, k, v, **some)
        found += [out, *torch.autograd.grad(out.square().sum(), q)]
    layout = POLICY.layout(q.detach(), k)
    found.append(layout.bits)
    found.append(Sparge(threshold=0.5, dense_below=0).layout(q.detach(), k).bits)
    found.append(quantized_attention(q.detach(), k, v, layout, precision=Sage()))
    found.append(block_sparse_attention(q.detach(), k, v, layout))
    return found


def test_autocast_changes_nothing() -> None:
    q, k, v = inputs()
    q.requires_grad_()
    wanted = everything(q, k, v)
    with torch.autocast("cpu", torch.bfloat16):
        for a, b in zip(everything(q, k, v), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("precision", [None, Sage("int8-fp16")])
@pytest.mark.parametrize("least", [-math.inf, torch.finfo(torch.float32).min])
def test_added_masks_leave_no_query_blind(least, precision) -> None:
    q, k, v = inputs(256, 256)
    allowed = torch.zeros(1, 1, 256, 256, dtype=torch.bool)
    allowed[..., 70:80] = True
    added = torch.where(allowed, 0.0, least)
    policy = Window(sink=0, window=1)
    for mask in (allowed, added):
        out = attend(q, k, v, policy=policy, precision=precision, attn_mask=mask)
        wanted = attend(q, k, v, attn_mask=allowed)
        torch.testing.assert_close(out[:, :, 70:], wanted[:, :, 70:], rtol=0.02, atol=0.02)
    bias = torch.randn(1, 4, 256, 256)
    kept = choose_cells(q, k, policy, causal=True, scale=None, attn_mask=bias)
    assert torch.equal(kept.bits, policy.layout(q, k).bits)


@pytest.mark.parametrize("policy", [None, Window(sink=9999)], ids=["none", "window"])
@pytest.mark.parametrize("d_value", [32, 24])
def test_gradients_of_rows_that_an_additive_mask_hides_wholly(policy, d_value) -> None:
    """Their weights are equal, 1 / t each; exp(logits - lse) would make each of them 1."""
    q, k, v = inputs(100, 150, h=2, g=2)
    v = v[..., :d_value].contiguous()
    mask = torch.zeros(1, 1, 100, 150)
    mask[:, :, 3:20] = -3e38
    mask[:, :, 40:, 64:] = -3e38
    seen = torch.arange(150) <= torch.arange(100)[:, None] + 50
    found, wanted = ([x.clone().requires_grad_() for x in (q, k, v)] for _ in range(2))
    direction = torch.randn(2, 2, 100, d_value, generator=torch.Generator().manual_seed(1))
    out, lse = attend(*found, policy=policy, attn_mask=mask, return_lse=True, impl="cpu")
    hidden = mask.masked_fill(~seen, -torch.inf)
    # Not torch's fused attention, which is wrong in this by a factor of t (torch 2.13, CPU).
    weights = torch.softmax(wanted[0] @ wanted[1].mT / 32**0.5 + hidden, -1)
    exact = weights @ wanted[2]
    torch.testing.assert_close(out, exact)
    assert bool(lse[:, :, 3:20].isfinite().all())
    (out * direction).sum().backward()
    (exact * direction).sum().backward()
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)
