"""Attention under `torch.compile(fullgraph=True)`, operator checks, and compiled FlexAttention."""

import dataclasses
import json
from dataclasses import replace

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.testing import CompileCounter

from foveal.attention import BlockLayout, Sage, Sparge, Window, XAttention, attend
from foveal.attention.block_sparse.api import block_sparse_attention
from foveal.attention.block_sparse.ops import block_sparse
from foveal.attention.ops import attend_op
from foveal.errors import UnsupportedError

pytestmark = pytest.mark.compile
POLICY = XAttention(stride=8, threshold=0.5, dense_below=0)
REAL = torch.ones(2, 300, dtype=torch.bool)
REAL[0, :70] = False


def inputs(s=300, t=300, dtype=torch.float32, **kwargs):
    random = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, s, 32, generator=random).to(dtype).requires_grad_(**kwargs)
    k, v = (torch.randn(2, 2, t, 32, generator=random).to(dtype) for _ in "kv")
    return q, k, v


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"policy": POLICY},
        {"policy": POLICY, "causal": False},
        {"policy": POLICY | Window(sink=64, window=64), "return_lse": True},
        {"policy": Sparge(threshold=0.8, skip_threshold=4.0, dense_below=0)},
        {"precision": Sage("int8-fp8")},
        {"policy": POLICY, "precision": Sage("int4-fp16", granularity="block")},
        {"policy": POLICY, "attn_mask": REAL},
        {"policy": POLICY, "attn_mask": REAL[:, None, None]},
    ],
    ids=str,
)
def test_whole_graphs(settings) -> None:
    q, k, v = inputs(requires_grad=False)

    def layer(q, k, v):
        out = attend(q * 2.0, k, v, **settings)
        return out if isinstance(out, tuple) else (out,)

    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(q, k, v), layer(q, k, v), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"return_lse": True},
        {"policy": POLICY},
        {"mask": "padding"},
        {"mask": "bool"},
        {"mask": "float"},
        {"mask": "float", "policy": POLICY},
    ],
    ids=str,
)
@pytest.mark.parametrize("dynamic", [None, True])
def test_lengths_that_change_are_compiled_a_few_times_only(settings, dynamic) -> None:
    settings = dict(settings)
    kind = settings.pop("mask", None)
    counter = CompileCounter()

    def layer(q, k, v, mask):
        out = attend(q, k, v, attn_mask=mask, **settings)
        return out if isinstance(out, tuple) else (out,)

    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend=counter, dynamic=dynamic)
    for s, t in ((100, 100), (200, 200), (170, 300), (230, 260), (300, 140)):
        q, k, v = inputs(s, t, requires_grad=False)
        mask = None
        if kind == "padding":
            mask = torch.arange(t).expand(2, -1) >= torch.tensor([[0], [t - 40]])
        elif kind is not None:
            mask = torch.randn(1, 4, s, t, generator=torch.Generator().manual_seed(1))
            mask = mask > 0 if kind == "bool" else mask
        for a, b in zip(compiled(q, k, v, mask), layer(q, k, v, mask), strict=True):
            torch.testing.assert_close(a, b)
    assert counter.frame_count <= 3  # Fixed s = t, then any s = t, then any two lengths.


SKIPS = Sparge(top_k=0.9, skip_threshold=1.0, dense_below=0)
WHOLE = Sparge(top_k=0.9, dense_below=0)


@pytest.mark.parametrize(
    "policy", [SKIPS | WHOLE, SKIPS | Window(), replace(SKIPS, dense_below=999)], ids=str
)
def test_gradients_where_nothing_is_skipped_after_all(policy) -> None:
    q, k, v = inputs(requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda q: attend(q, k, v, policy=policy).square().sum(), fullgraph=True, backend="aot_eager"
    )
    (wanted,) = torch.autograd.grad(attend(q, k, v, policy=policy).square().sum(), q)
    (found,) = torch.autograd.grad(compiled(q), q)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", [SKIPS, SKIPS & WHOLE], ids=str)
def test_a_gradient_through_skipped_cells_is_refused(policy) -> None:
    q, k, v = inputs(requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda q: attend(q, k, v, policy=policy).square().sum(), fullgraph=True, backend="aot_eager"
    )
    out = compiled(q)
    with pytest.raises(UnsupportedError, match="skip threshold"):
        out.backward()


def test_another_policy_compiles_anew() -> None:
    q, k, v = inputs(requires_grad=False)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda policy: attend(q, k, v, policy=policy), fullgraph=True, backend="aot_eager"
    )
    for policy in (POLICY, Window(sink=0, window=64), XAttention(threshold=0.9, dense_below=0)):
        torch.testing.assert_close(compiled(policy), attend(q, k, v, policy=policy))


def test_gradients_of_a_whole_graph() -> None:
    q, k, v = inputs(requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda q: attend(q, k, v, policy=POLICY).square().sum(),
        fullgraph=True,
        backend="aot_eager",
    )
    (wanted,) = torch.autograd.grad(attend(q, k, v, policy=POLICY).square().sum(), q)
    (found,) = torch.autograd.grad(compiled(q), q)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*Error detected in GeneratedBackward:UserWarning")
def test_a_gradient_by_the_mask_is_refused_and_not_left_out() -> None:
    q, k, v = inputs(requires_grad=True)
    bias = torch.zeros(1, 1, 300, 300, requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda bias: attend(q, k, v, policy=POLICY, attn_mask=bias).square().sum(),
        fullgraph=True,
        backend="aot_eager",
    )
    with pytest.raises(BackendCompilerFailed, match="attn_mask requires a gradient"):
        compiled(bias).backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_block_sparse_operator(dtype) -> None:
    q, k, v = inputs(130, 200, dtype=dtype, requires_grad=True)
    layout = POLICY.layout(q.detach(), k)
    mask = torch.rand(1, 1, 130, 200) < 0.9
    for some in (None, mask):
        arguments = (q, k, v, layout.bits, some, True, None, None, 0.2)
        torch.library.opcheck(block_sparse, arguments)
    skipping = (q.detach(), k, v, layout.bits, None, True, None, [1.0] * 4, 0.2)
    torch.library.opcheck(block_sparse, skipping)


def test_attend_operator() -> None:
    q, k, v = inputs(130, 200, requires_grad=True)
    torch.library.opcheck(attend_op, (q, k, v, None, POLICY.to_json(), "", True, 0.2, "auto"))
    for policy in (SKIPS, SKIPS | WHOLE, SKIPS & WHOLE):
        skipping = (q.detach(), k, v, None, policy.to_json(), "", True, 0.2, "auto")
        torch.library.opcheck(attend_op, skipping)
    padded = (q.detach(), k, v, REAL[:, :200], POLICY.to_json(), "", True, 0.2, "auto")
    torch.library.opcheck(attend_op, padded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operators_foretell_shapes_and_types(dtype) -> None:
    q, k, v = inputs(130, 200, dtype=dtype, requires_grad=False)
    v = v[..., :24].contiguous()
    layout = POLICY.layout(q, k)
    torch.library.opcheck(block_sparse, (q, k, v, layout.bits, None, True, None, None, 0.2))
    skips = Sparge(threshold=0.8, skip_threshold=4.0, dense_below=0).to_json()
    numbers = json.dumps(dataclasses.asdict(Sage("int8-fp8")))
    mask = torch.rand(2, 1, 1, 200) < 0.9
    for policy, precision, some in (
        (POLICY.to_json(), "", None),
        (POLICY.to_json(), "", mask),
        (skips, "", None),
        (POLICY.to_json(), numbers, None),
        ("", "", REAL[:, :200]),
    ):
        arguments = (q, k, v, some, policy, precision, True, 0.2, "auto")
        torch.library.opcheck(attend_op, arguments)


def test_masks_scales_and_widths_of_values_in_a_whole_graph() -> None:
    q, k, v = inputs(requires_grad=True)
    v = v[..., :24].contiguous()
    some = [x.detach().requires_grad_() for x in (q, k, v)]
    cells = [POLICY.layout(q.detach(), k, scale=scale).bits for scale in (None, 2.0)]
    assert not torch.equal(*cells)
    bias = 3 * torch.randn(2, 1, 300, 300, generator=torch.Generator().manual_seed(1))

    def loss(q, k, v):
        plain = attend(q, k, v, policy=POLICY).square().sum()
        return plain + attend(q, k, v, policy=POLICY, scale=2.0, attn_mask=bias).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*some), loss(*some))
    found = torch.autograd.grad(compiled(*some), some)
    wanted = torch.autograd.grad(loss(*some), some)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own
def test_compiled_flex_attention_agrees() -> None:
    q, k, v = inputs(256, 320, requires_grad=False)
    kept = torch.rand(2, 4, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    layout = BlockLayout.from_bool(kept, num_queries=256, num_keys=320, span=100)
    out = block_sparse_attention(q, k, v, layout, impl="flex")
    wanted = block_sparse_attention(q, k, v, layout, impl="reference")
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own
def test_flex_does_not_go_on_uncompiled() -> None:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=1):
        attend(*inputs(64, 64, requires_grad=False), impl="flex")
        with pytest.raises(UnsupportedError, match="more shapes"):
            attend(*inputs(64, 128, requires_grad=False), impl="flex")


def test_flex_refuses() -> None:
    q, k, v = inputs(requires_grad=False)
    with pytest.raises(UnsupportedError, match="attn_mask"):
        attend(q, k, v, impl="flex", attn_mask=torch.ones(1, 1, 300, 300, dtype=torch.bool))
    with pytest.raises(UnsupportedError, match="return_lse"):
        attend(q, k, v, impl="flex", return_lse=True)
    with pytest.raises(UnsupportedError, match="gradient"):
        attend(q.requires_grad_(), k, v, impl="flex")
