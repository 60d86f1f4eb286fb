"""Quantized attention under masks of the caller."""

import math

import pytest
import torch

from foveal.attention import BlockLayout, Sage, Sparge, Window, XAttention, attend
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.prepare.api import prepare
from foveal.attention.quantize.api import quantize_queries
from foveal.errors import ShapeError, UnsupportedError

POLICY = XAttention(stride=8, threshold=0.6, dense_below=0)
SHAPES = [(2, 4, 200, 260), (1, 4, 200, 260), (2, 1, 200, 260), (1, 1, 1, 260), (2, 4, 200, 1)]


def inputs(s=200, t=260, *, b=2, h=4, g=2, d=32, dtype=torch.float32):
    random = torch.Generator().manual_seed(0)
    q = torch.randn(b, h, s, d, generator=random).to(dtype)
    return q, *(torch.randn(b, g, t, d, generator=random).to(dtype) for _ in "kv")


def a_mask(kind, shape):
    random = torch.Generator().manual_seed(1)
    mask = torch.randn(shape, generator=random)
    if kind == "bool":
        return mask > 0
    return mask.masked_fill(torch.rand(shape, generator=random) < 0.3, -math.inf)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("mode", ["int8-fp16", "int4-fp16"])
def test_a_mask_acts_on_the_logits_of_the_codes(mode, causal, kind, shape) -> None:
    q, k, v = inputs()
    sage, mask = Sage(mode), a_mask(kind, shape)
    out, lse = attend(q, k, v, precision=sage, causal=causal, attn_mask=mask, return_lse=True)
    codes, means = quantize_queries(
        q, bits=sage.bits, granularity=sage.granularity, smooth=sage.smooths_q
    )
    ready = prepare(k, v, precision=sage)
    keys = ready.keys.dequantize().double().repeat_interleave(2, 1)
    logits = codes.dequantize().double() @ keys.mT
    centered = (k - ready.key_mean).double().repeat_interleave(2, 1)
    if means is not None:
        rows = means.double().repeat_interleave(64, 2)[:, :, :200]
        logits = logits + rows @ centered.mT
    logits = logits + q.double() @ ready.key_mean.double().repeat_interleave(2, 1).mT
    logits = logits / math.sqrt(32)
    logits = logits.masked_fill(~mask, -math.inf) if kind == "bool" else logits + mask
    if causal:
        logits = logits.masked_fill(~torch.ones(200, 260).bool().tril(60), -math.inf)
    wanted = torch.softmax(logits, -1).nan_to_num(0.0)
    wanted = wanted @ ready.values.dequantize().double().repeat_interleave(2, 1)
    torch.testing.assert_close(lse.double(), logits.logsumexp(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.double(), wanted, rtol=2e-3, atol=2e-3)
    assert not out[lse.isneginf()].any()


@pytest.mark.parametrize("sage", [Sage("int8-fp8"), Sage("int4-fp8", smooth_v=True)], ids=str)
def test_a_mask_of_whole_cells_is_a_layout(sage) -> None:
    q, k, v = inputs()
    kept = torch.rand(2, 4, 4, 5, generator=torch.Generator().manual_seed(2)) < 0.6
    layout = BlockLayout.from_bool(kept, num_queries=200, num_keys=260)
    mask = kept.repeat_interleave(64, 2)[:, :, :200].repeat_interleave(64, 3)[..., :260]
    wanted = quantized_attention(q, k, v, layout, precision=sage, return_lse=True)
    full = BlockLayout.causal_like(q, k)
    found = quantized_attention(q, k, v, full, precision=sage, attn_mask=mask, return_lse=True)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    found = attend(q, k, v, precision=sage, attn_mask=mask, return_lse=True)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "policy",
    [POLICY, POLICY | Window(sink=0, window=64), Sparge(top_k=0.9, skip_threshold=9.0)],
    ids=str,
)
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_policy_precision_and_mask_together(policy, kind) -> None:
    q, k, v = inputs()
    mask = a_mask(kind, (2, 1, 200, 260))
    out, lse = attend(
        q, k, v, policy=policy, precision=Sage("int8-fp16"), attn_mask=mask, return_lse=True
    )
    wanted, sums = attend(q, k, v, policy=policy, attn_mask=mask, return_lse=True)
    assert torch.equal(lse.isneginf(), sums.isneginf())
    seen = ~sums.isneginf()
    torch.testing.assert_close(lse[seen], sums[seen], rtol=0, atol=0.05)
    torch.testing.assert_close(out, wanted, rtol=0, atol=0.05)


def test_padding_with_holes() -> None:
    q, k, v = inputs()
    real = torch.rand(2, 260, generator=torch.Generator().manual_seed(3)) < 0.5
    out = attend(q, k, v, policy=POLICY, precision=Sage("int8-fp16"), attn_mask=real)
    torch.testing.assert_close(
        out, attend(q, k, v, policy=POLICY, attn_mask=real), rtol=0, atol=0.05
    )


def test_masks_refused() -> None:
    q, k, v = inputs()
    full = BlockLayout.causal_like(q, k)
    with pytest.raises(ShapeError, match="attn_mask has shape"):
        quantized_attention(
            q, k, v, full, precision=Sage(), attn_mask=torch.ones(1, 3, 200, 260).bool()
        )
    with pytest.raises(UnsupportedError, match="attn_mask requires a gradient"):
        attend(q, k, v, precision=Sage(), attn_mask=torch.zeros(1, 1, 200, 260, requires_grad=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_whose_mask_is_the_least_number_see_every_key_alike(dtype) -> None:
    """Times log2(e) the least finite number is -inf, and a row of that would be zero."""
    q, k, v = inputs(dtype=dtype)
    mask = torch.zeros(1, 1, 200, 260, dtype=dtype)
    mask[:, :, 30:40] = torch.finfo(dtype).min
    some = {"precision": Sage("int8-fp16"), "causal": False, "return_lse": True, "impl": "cpu"}
    out, lse = attend(q, k, v, attn_mask=mask, **some)
    assert bool(lse.isfinite().all())
    wanted = v.float().mean(2, keepdim=True).repeat_interleave(2, 1)
    torch.testing.assert_close(
        out[:, :, 30:40].float(), wanted.expand(-1, -1, 10, -1), rtol=0, atol=5e-3
    )
