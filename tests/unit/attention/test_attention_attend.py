"""`attend`: masks, padding, several sequences, skipping, odd inputs."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from foveal.attention import (
    BlockLayout,
    Policy,
    Sage,
    Sparge,
    Window,
    XAttention,
    attend,
    attend_varlen,
    block_sparse_attention,
)
from foveal.attention.block_sparse.api import choose_impl
from foveal.attention.reference import block_sparse_reference
from foveal.errors import ArgumentError, ShapeError, UnsupportedError
from foveal.testing import assert_as_accurate

POLICY = XAttention(stride=8, threshold=0.6, dense_below=0)


def inputs(s=300, t=300, *, b=2, h=4, g=2, d=32, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(b, h, s, d, generator=random).to(dtype)
    return q, *(torch.randn(b, g, t, d, generator=random).to(dtype) for _ in "kv")


def sdpa(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).nan_to_num(0.0)


def causal(s, t):
    return torch.ones(s, t, dtype=torch.bool).tril(t - s)


def close(a, b, **kwargs):
    torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5, **kwargs)


@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("s", [300, 130])
def test_padding_runs_each_sequence_alone(side, s) -> None:
    q, k, v = inputs(s, 300)
    real = torch.ones(2, 300, dtype=torch.bool)
    if side in ("left", "both"):
        real[0, :77] = False
    if side in ("right", "both"):
        real[1, 210:] = False
    out = attend(q, k, v, policy=POLICY, attn_mask=real)
    for i in range(2):
        found = real[i].nonzero()[:, 0]
        a, b = int(found[0]), int(found[-1]) + 1
        rows = slice(max(0, a - (300 - s)), max(0, b - (300 - s)))
        one = slice(i, i + 1)
        alone = attend(q[one, :, rows], k[one, :, a:b], v[one, :, a:b], policy=POLICY)
        assert torch.equal(out[one, :, rows], alone)
        assert not out[i, :, : rows.start].any()
        assert not out[i, :, rows.stop :].any()


def test_padding_is_exact_when_dense() -> None:
    q, k, v = inputs()
    real = torch.ones(2, 300, dtype=torch.bool)
    real[0, :77] = real[1, 250:] = False
    out, lse = attend(q, k, v, attn_mask=real, return_lse=True)
    mask = causal(300, 300) & real[:, None, None, :] & real[:, None, :, None]
    close(out, sdpa(q, k, v, mask))
    assert torch.equal(lse.isinf(), ~real[:, None].expand(2, 4, 300))


def test_padding_with_holes_and_empty_sequences() -> None:
    q, k, v = inputs()
    real = torch.ones(2, 300, dtype=torch.bool)
    real[0, 100:120] = False
    real[1] = False
    out = attend(q, k, v, attn_mask=real)
    close(out[:1], sdpa(q[:1], k[:1], v[:1], causal(300, 300) & real[:1, None, None, :]))
    assert not out[1].any()


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 4), (2, 4)])
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("is_causal", [True, False])
def test_general_masks(shape, kind, is_causal) -> None:
    q, k, v = inputs(150, 201)
    random = torch.Generator().manual_seed(3)
    mask = torch.rand(*shape, 150, 201, generator=random) < 0.6
    bias = torch.zeros(mask.shape)
    if kind == "float":
        bias = torch.randn(mask.shape, generator=random)
        given = bias.masked_fill(~mask, -math.inf)
    else:
        given = mask
    allowed = mask & causal(150, 201) if is_causal else mask
    wanted = sdpa(q, k, v, bias.masked_fill(~allowed, -math.inf))
    close(attend(q, k, v, causal=is_causal, attn_mask=given), wanted)
    reference = attend(q, k, v, causal=is_causal, attn_mask=given, impl="reference")
    close(reference, wanted)


def test_a_mask_that_broadcasts_over_queries() -> None:
    q, k, v = inputs()
    mask = torch.rand(2, 1, 1, 300) < 0.7
    close(attend(q, k, v, attn_mask=mask), sdpa(q, k, v, mask & causal(300, 300)))


def test_a_policy_never_blinds_a_query_that_the_mask_lets_see() -> None:
    q, k, v = inputs(640, 640, b=1)
    mask = torch.zeros(1, 1, 640, 640, dtype=torch.bool)
    mask[..., 400:, 130:140] = True  # far from sink and diagonal
    mask[..., :400, :400] = True
    out, lse = attend(q, k, v, policy=Window(sink=0, window=1), attn_mask=mask, return_lse=True)
    assert bool(lse.isfinite().all())
    close(out[..., 448:, :], sdpa(q, k, v, mask & causal(640, 640))[..., 448:, :])


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        (torch.ones(300, dtype=torch.bool), ShapeError),
        (torch.ones(2, 299, dtype=torch.bool), ShapeError),
        (torch.ones(2, 300), ShapeError),
        (torch.ones(2, 4, 300, 299, dtype=torch.bool), ShapeError),
        (torch.ones(1, 1, 300, 300, dtype=torch.int64), ArgumentError),
    ],
)
def test_masks_refused(mask, error) -> None:
    with pytest.raises(error, match="attn_mask"):
        attend(*inputs(), attn_mask=mask)


# --- several sequences laid end to end


def test_varlen_equals_single_calls() -> None:
    lengths_q, lengths_k = [70, 0, 130, 5], [90, 20, 130, 0]
    q, k, v = inputs(205, 240, b=1)
    cu_q = torch.tensor([0, *torch.tensor(lengths_q).cumsum(0).tolist()])
    cu_k = torch.tensor([0, *torch.tensor(lengths_k).cumsum(0).tolist()])
    flat = [x[0].transpose(0, 1) for x in (q, k, v)]
    out = attend_varlen(*flat, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, policy=POLICY)
    for i in (0, 2):
        rows, columns = slice(cu_q[i], cu_q[i + 1]), slice(cu_k[i], cu_k[i + 1])
        alone = attend(q[:, :, rows], k[:, :, columns], v[:, :, columns], policy=POLICY)
        assert torch.equal(out[rows].transpose(0, 1), alone[0])
    assert out.shape == (205, 4, 32)
    assert not out[200:].any()


@pytest.mark.parametrize("cu", [[0, 5], [1, 300], [0, 200, 100, 300], []])
def test_varlen_offsets_refused(cu) -> None:
    q, k, v = (x[0].transpose(0, 1) for x in inputs(b=1))
    good = torch.tensor([0, 300])
    with pytest.raises(ArgumentError, match="cu_seqlens_q"):
        attend_varlen(q, k, v, cu_seqlens_q=torch.tensor(cu, dtype=torch.long), cu_seqlens_k=good)
    with pytest.raises(ShapeError, match="equally many"):
        attend_varlen(q, k, v, cu_seqlens_q=good, cu_seqlens_k=torch.tensor([0, 10, 300]))


# --- the second stage


@pytest.mark.parametrize("rule", [{"causal": True}, {"causal": False}, {"span": 150}])
@pytest.mark.parametrize("skip", [0.0, 1.0, 4.0, math.inf])
def test_skipping_equals_the_loops(rule, skip) -> None:
    q, k, v = inputs(330, 400, seed=4)
    q = q * 3
    kept = torch.rand(2, 4, 6, 7, generator=torch.Generator().manual_seed(0)) < 0.8
    layout = BlockLayout.from_bool(
        kept, num_queries=330, num_keys=400, skip_threshold=(skip, 0.5, math.inf, 2.0), **rule
    )
    out, lse = block_sparse_attention(q, k, v, layout, return_lse=True)
    exact, exact_lse = block_sparse_reference(q, k, v, layout)
    close(out.double(), exact)
    close(lse.double(), exact_lse)


def test_skipping_leaves_out_what_it_promises() -> None:
    q, k, v = inputs(256, 256, b=1, h=2, g=1, seed=5)
    q[:], k[:] = 0, 0
    k[:, :, :64, 0] = 1.0
    q[..., 0] = 10 * math.sqrt(32)  # logits 10 in the first cell and 0 elsewhere
    full = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    rule = {"num_queries": 256, "num_keys": 256, "causal": False}
    out = block_sparse_attention(
        q, k, v, BlockLayout.from_bool(full, skip_threshold=(9.0, 11.0), **rule)
    )
    inner = full.clone()
    inner[:, 0, :, 1:3] = False  # first and last cells are never skipped
    close(out, block_sparse_attention(q, k, v, BlockLayout.from_bool(inner, **rule)))
    assert not torch.equal(out[:, 0], out[:, 1])


def test_sparge_with_its_second_stage_through_attend() -> None:
    q, k, v = inputs(512, 512)
    policy = Sparge(threshold=0.9, skip_threshold=3.0, dense_below=0)
    layout = policy.layout(q, k)
    assert layout.skip_threshold == (3.0,) * 4
    exact, _ = block_sparse_reference(q, k, v, layout)
    close(attend(q, k, v, policy=policy).double(), exact)


# --- gradients


@pytest.mark.parametrize("rule", [{}, {"causal": False}, {"span": 100}])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_against_the_reference(rule, masked) -> None:
    q, k, v = (x.requires_grad_() for x in inputs(150, 180, b=1, d=8, dtype=torch.float64))
    kept = torch.rand(1, 4, 3, 3, generator=torch.Generator().manual_seed(1)) < 0.7
    layout = BlockLayout.from_bool(kept, num_queries=150, num_keys=180, **rule)
    mask = torch.rand(1, 1, 150, 180, generator=torch.Generator().manual_seed(2)) < 0.8
    mask = mask if masked else None
    weights = torch.randn(1, 4, 150, 8, dtype=torch.float64)
    both = []
    for impl in ("cpu", "reference"):
        if impl == "cpu":
            out, lse = block_sparse_attention(
                q, k, v, layout, attn_mask=mask, impl=impl, return_lse=True
            )
        else:
            out, lse = block_sparse_reference(q, k, v, layout, attn_mask=mask)
        loss = (out * weights).sum() + lse.masked_fill(lse.isinf(), 0.0).square().sum()
        both.append(torch.autograd.grad(loss, (q, k, v)))
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_in_low_precision(dtype) -> None:
    inputs_ = inputs(200, 200, b=1)
    layout = POLICY.layout(*inputs_[:2])
    exact = [x.double().requires_grad_() for x in inputs_]
    fast = [x.to(dtype).requires_grad_() for x in inputs_]
    same = [x.to(dtype).requires_grad_() for x in inputs_]
    block_sparse_attention(*fast, layout, impl="cpu").float().square().sum().backward()
    block_sparse_reference(*same, layout, dtype=dtype)[0].float().square().sum().backward()
    block_sparse_reference(*exact, layout)[0].square().sum().backward()
    for a, b, c in zip(fast, same, exact, strict=True):
        assert_as_accurate(a.grad, b.grad, c.grad, floor=4 * torch.finfo(dtype).eps)


def test_gradients_refused() -> None:
    q, k, v = (x.requires_grad_() for x in inputs(100, 100))
    layout = BlockLayout.from_bool(
        torch.ones(2, 4, 2, 2, dtype=torch.bool),
        num_queries=100,
        num_keys=100,
        skip_threshold=(1.0,) * 4,
    )
    with pytest.raises(UnsupportedError, match="skip_threshold"):
        block_sparse_attention(q, k, v, layout).sum().backward()
    with pytest.raises(UnsupportedError, match="gradient"):
        attend(q, k, v, precision=Sage("int8-fp8"))
    bias = torch.zeros(1, 1, 100, 100, requires_grad=True)
    with pytest.raises(UnsupportedError, match="attn_mask requires a gradient"):
        attend(q, k, v, attn_mask=bias).sum().backward()


# --- odd inputs


@pytest.mark.parametrize("d", [16, 32, 80, 128, 256])
@pytest.mark.parametrize(("s", "t"), [(1, 1), (1, 130), (63, 65), (129, 127), (192, 192)])
def test_widths_and_lengths(d, s, t) -> None:
    q, k, v = inputs(s, t, d=d)
    layout = BlockLayout.causal_like(q, k)
    close(block_sparse_attention(q, k, v, layout, impl="cpu"), sdpa(q, k, v, causal(s, t)))


def test_values_of_another_width() -> None:
    q, k, _ = inputs()
    v = torch.randn(2, 2, 300, 48)
    layout = POLICY.layout(q, k)
    exact, exact_lse = block_sparse_reference(q, k, v, layout)
    out, lse = block_sparse_attention(q, k, v, layout, return_lse=True)
    close(out.double(), exact)
    close(lse.double(), exact_lse)


def test_inputs_that_are_not_contiguous() -> None:
    q, k, v = inputs()
    wanted = attend(q, k, v, policy=POLICY)
    views = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    assert torch.equal(attend(*views, policy=POLICY), wanted)
    one = k[:, :1].expand(-1, 2, -1, -1)
    assert torch.equal(
        attend(q, one, v, policy=POLICY), attend(q, one.contiguous(), v, policy=POLICY)
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("which", ["k", "v"])
@pytest.mark.parametrize("precision", [None, Sage("int8-fp8")])
def test_what_is_not_finite_stays_in_its_head(value, which, precision) -> None:
    q, k, v = inputs(512, 512, b=1)
    wanted = attend(q, k, v, policy=POLICY, precision=precision)
    (k if which == "k" else v)[0, 1, 70] = value
    out = attend(q, k, v, policy=POLICY, precision=precision)
    assert torch.equal(out[:, :2], wanted[:, :2])
    assert not bool(out[:, 2:].isfinite().all())


def test_cells_of_zeros() -> None:
    q, k, v = inputs(512, 512)
    k[:, :, 64:128] = 0
    q[:, :, 128:192] = 0
    for policy in (POLICY, Sparge(threshold=0.9, dense_below=0)):
        assert bool(attend(q, k, v, policy=policy).isfinite().all())


def test_arguments_refused() -> None:
    q, k, v = inputs()
    with pytest.raises(ArgumentError, match="precision"):
        attend(q, k, v, precision="int8")
    with pytest.raises(ShapeError, match="k has shape"):
        attend(q, k[..., :16], v)
    with pytest.raises(ShapeError, match="k has shape"):
        attend(q, torch.cat([k, k[:, :1]], 1), v)
    with pytest.raises(ArgumentError, match="k is torch.float16"):
        attend(q, k.half(), v)
    with pytest.raises(ShapeError, match="no empty axis"):
        attend(q[:, :, :0], k, v)
    with pytest.raises(ArgumentError, match="q is torch.int64"):
        attend(q.long(), k.long(), v.long())
    with pytest.raises(UnsupportedError, match="impl"):
        attend(q, k, v, precision=Sage("int8-fp8"), impl="flex")


# --- policies as text


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        XAttention(threshold=(0.5, 0.75)),
        Window(sink=3, window=70) | POLICY,
        Sparge(top_k=0.5) & Window() | POLICY,
    ],
)
def test_policies_survive_text(policy) -> None:
    assert Policy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"policy": "Policy"}',
        '{"policy": "os.system"}',
        '{"policy": "Window", "size": 3}',
        '{"policy": "Window", "window": "x"}',
        '{"policy": "Window", "window": -1}',
        "[" * 100_000,
    ],
)
def test_policies_refused_as_text(text) -> None:
    with pytest.raises(ArgumentError):
        Policy.from_json(text)


def test_auto_asks_the_layout_and_nothing_else() -> None:
    q, k, _ = inputs()
    full = BlockLayout.causal_like(q, k)
    assert choose_impl(full, q, k) == "dense"
    assert choose_impl(full, q, k, return_lse=True) == "cpu"
    assert choose_impl(full, q, k, attn_mask=torch.ones(1, 1, 300, 300)) == "cpu"
    assert choose_impl(replace(full, skip_threshold=(1.0,) * 4), q, k) == "cpu"
    assert choose_impl(POLICY.layout(q, k), q, k) == "cpu"
    with pytest.raises(UnsupportedError, match="triton"):
        block_sparse_attention(q, k, k, full, impl="triton")
    with pytest.raises(UnsupportedError, match="dense"):
        block_sparse_attention(q, k, k, POLICY.layout(q, k), impl="dense")


def test_queries_beyond_the_last_have_no_say_in_skipping() -> None:
    q, k, v = inputs(250, 256, b=1, h=2, g=1, seed=5)
    q[:], k[:] = 0, 0
    k[:, :, :64, 0] = 1.0
    q[..., 0] = 10 * math.sqrt(32)
    full = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    layout = BlockLayout.from_bool(
        full, num_queries=250, num_keys=256, causal=False, skip_threshold=(9.0, 11.0)
    )
    exact, _ = block_sparse_reference(q, k, v, layout)
    close(block_sparse_attention(q, k, v, layout).double(), exact)
