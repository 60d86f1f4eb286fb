"""Against torch SDPA with explicit token masks."""

import pytest
import torch
import torch.nn.functional as F

from foveal.attention import BlockLayout, Window, XAttention, attend, block_sparse_attention


def _qkv(s, t, h=6, g=2, d=32):
    random = torch.Generator().manual_seed(1)
    shapes = ((1, h, s, d), (1, g, t, d), (1, g, t, d))
    return [torch.randn(x, generator=random) for x in shapes]


@pytest.mark.parametrize(("s", "t"), [(256, 256), (200, 200), (70, 333)])
@pytest.mark.parametrize("policy", [None, Window(sink=64, window=100), XAttention(dense_below=0)])
def test_attend_equals_masked_sdpa(s, t, policy):
    q, k, v = _qkv(s, t)
    layout = policy.layout(q, k) if policy else BlockLayout.causal_like(q, k)
    tokens = layout.to_bool().repeat_interleave(64, 2)[:, :, :s].repeat_interleave(64, 3)[..., :t]
    mask = tokens & torch.ones(s, t, dtype=torch.bool).tril(t - s)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(attend(q, k, v, policy=policy), wanted, rtol=1e-5, atol=1e-5)


def test_non_causal_equals_sdpa():
    q, k, v = _qkv(150, 333)
    layout = BlockLayout.dense(q, k)
    wanted = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    for impl in ("auto", "cpu"):
        out = block_sparse_attention(q, k, v, layout, impl=impl)
        torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_same_cells_as_flex_attention():
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v = _qkv(256, 256)
    layout = Window(sink=10, window=70).layout(q, k)
    kept = layout.to_bool()

    def keep(b, h, i, j):
        return kept[b, h, i // 64, j // 64] & (i >= j)

    mask = create_block_mask(keep, 1, 6, 256, 256, device="cpu", BLOCK_SIZE=64)
    wanted = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
    torch.testing.assert_close(
        block_sparse_attention(q, k, v, layout), wanted, rtol=1e-5, atol=1e-5
    )
