"""Logit factors below zero and zero: the largest product is then not the largest logit."""

import pytest
import torch

from foveal.attention import BlockLayout, Sage
from foveal.attention.block_sparse.api import block_sparse_attention
from foveal.attention.block_sparse.quantized import quantized_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 150, 32, generator=generator) for _ in range(3))
    return (8 * q).to(DEVICE), (8 * k).to(DEVICE), v.to(DEVICE)


@pytest.mark.parametrize("scale", [-0.5, 0.0])
def test_exact_kernel_takes_any_scale(scale):
    q, k, v = _inputs()
    layout = BlockLayout.dense(q, k, causal=True)
    out, lse = block_sparse_attention(q, k, v, layout, scale=scale, impl="triton", return_lse=True)
    wanted, sums = block_sparse_attention(
        q, k, v, layout, scale=scale, impl="reference", return_lse=True
    )
    torch.testing.assert_close(out, wanted, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(lse, sums, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [-0.5, 0.0])
@pytest.mark.parametrize("mode", ["int8-fp8", "int4-fp16"])
def test_quantized_kernel_takes_any_scale(scale, mode):
    q, k, v = _inputs()
    layout = BlockLayout.dense(q, k, causal=True)
    settings = {"precision": Sage(mode), "scale": scale, "return_lse": True}
    out, lse = quantized_attention(q, k, v, layout, impl="triton", **settings)
    wanted, sums = quantized_attention(q, k, v, layout, impl="cpu", **settings)
    # The kernel takes cells in pairs, so weights are rounded under other maxima.
    torch.testing.assert_close(out, wanted, rtol=0.0, atol=0.1)
    torch.testing.assert_close(lse, sums, rtol=1e-4, atol=1e-3)
