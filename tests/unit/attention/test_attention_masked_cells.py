"""Which cells `attend` keeps under a mask, and what each of several sequences is run with."""

import math

import pytest
import torch
import torch.nn.functional as F

from foveal.attention import Sage, Sparge, Window, XAttention, attend, attend_varlen
from foveal.attention.attend import choose_cells
from foveal.testing import relative_error

DIAGONAL = Window(sink=0, window=1)


def inputs(s=256, t=256, *, b=1, h=2, g=1, d=16, dtype=torch.float32):
    random = torch.Generator().manual_seed(0)
    q = torch.randn(b, h, s, d, generator=random).to(dtype)
    return q, *(torch.randn(b, g, t, d, generator=random).to(dtype) for _ in "kv")


def kept(mask, policy=DIAGONAL):
    """Return the cells of 256 queries and keys, the same in both heads."""
    q, k, _ = inputs()
    cells = choose_cells(q, k, policy, causal=True, scale=None, attn_mask=mask).to_bool()
    assert torch.equal(cells[:, 0], cells[:, 1])
    return cells[0, 0].int().tolist()


def everything():
    return torch.ones(1, 1, 256, 256, dtype=torch.bool)


def test_cells_that_the_mask_empties_are_dropped() -> None:
    mask = everything()
    mask[..., 128:192, :64] = False
    wanted = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]
    assert kept(mask, Window(sink=64, window=1)) == wanted


def test_a_query_that_may_see_nothing_changes_no_cell() -> None:
    mask = everything()
    mask[..., 130, :] = False
    assert kept(mask) == torch.eye(4, dtype=torch.int).tolist()


def test_one_blind_query_brings_back_what_the_mask_leaves_of_its_row() -> None:
    mask = everything()
    mask[..., 192:, 64:128] = False
    mask[..., 200, 64:] = False  # the diagonal cell leaves query 200 nothing
    assert kept(mask) == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 1, 1]]


def test_later_keys_do_not_count_as_seen() -> None:
    mask = everything()
    mask[..., 100, 4:101] = False  # in its own cell, query 100 may see later keys only
    assert kept(mask) == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_later_keys_alone_make_no_query_blind() -> None:
    mask = everything()
    mask[..., 100, :101] = False
    assert kept(mask) == torch.eye(4, dtype=torch.int).tolist()


def test_skip_thresholds_outlive_a_mask() -> None:
    q, k, _ = inputs()
    policy = Sparge(threshold=0.9, skip_threshold=(3.0, 5.0), dense_below=0)
    layout = choose_cells(q, k, policy, causal=True, scale=None, attn_mask=everything())
    assert layout.skip_threshold == (3.0, 5.0)


def test_without_causal_queries_in_the_padding_see_the_real_keys() -> None:
    q, k, v = inputs(b=2)
    real = torch.ones(2, 256, dtype=torch.bool)
    real[0, :70] = real[1, 200:] = False
    out, lse = attend(q, k, v, causal=False, attn_mask=real, return_lse=True)
    mask = real[:, None, None]
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(out, wanted, rtol=2e-5, atol=2e-5)
    assert bool(lse.isfinite().all())


def test_the_sums_of_an_empty_sequence_are_as_exact_as_others() -> None:
    for dtype, exact in ((torch.float64, torch.float64), (torch.float16, torch.float32)):
        q, k, v = inputs(dtype=dtype)
        nothing = torch.zeros(1, 256, dtype=torch.bool)
        out, lse = attend(q, k, v, attn_mask=nothing, return_lse=True)
        assert (out.dtype, lse.dtype) == (dtype, exact)
        assert bool((lse == -math.inf).all())


SETTINGS = [
    {"scale": 0.6},
    {"causal": False},
    {"precision": Sage("int4-fp16")},
    {"policy": XAttention(stride=8, threshold=0.5, dense_below=0), "scale": 0.05},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_each_sequence_is_run_with_the_given_settings(settings) -> None:
    q, k, v = inputs()
    parts = [[x[:, :, some] for x in (q, k, v)] for some in (slice(0, 106), slice(106, 256))]
    alone = [attend(*part, **settings) for part in parts]
    plain = [attend(*part) for part in parts]
    assert all(not torch.allclose(x, y, atol=1e-3) for x, y in zip(alone, plain, strict=True))
    flat = [x[0].transpose(0, 1) for x in (q, k, v)]
    cu = torch.tensor([0, 106, 256])
    out = attend_varlen(*flat, cu_seqlens_q=cu, cu_seqlens_k=cu, **settings)
    torch.testing.assert_close(out.transpose(0, 1)[None], torch.cat(alone, 2))
    for i, real in enumerate((torch.arange(256) < 106, torch.arange(256) >= 106)):
        padded = attend(q, k, v, attn_mask=real[None], **settings)
        torch.testing.assert_close(padded[:, :, real], alone[i])


def test_the_scale_counts_where_cells_are_chosen_and_where_numbers_are_rounded() -> None:
    q, k, v = inputs()
    policy = XAttention(stride=8, threshold=0.5, dense_below=0)
    chosen = [
        choose_cells(q, k, policy, causal=True, scale=scale, attn_mask=mask).bits
        for scale, mask in ((2.0, None), (2.0, everything()), (None, None))
    ]
    assert torch.equal(chosen[0], policy.layout(q, k, scale=2.0).bits)
    assert torch.equal(chosen[1], chosen[0])
    assert not torch.equal(chosen[2], chosen[0])
    found = attend(q, k, v, precision=Sage("int8-fp16"), scale=0.6)
    assert relative_error(found, attend(q, k, v, scale=0.6)) < 0.02
    assert relative_error(found, attend(q, k, v)) > 0.2
