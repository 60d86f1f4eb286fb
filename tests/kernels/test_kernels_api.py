"""What users call, on kernels: `attend`, gradients, what is refused and what "auto" runs."""

import functools
import os
from dataclasses import replace

import pytest
import torch

from foveal.attention import (
    BlockLayout,
    Sage,
    Spans,
    Sparge,
    Window,
    XAttention,
    attend,
    attend_varlen,
    block_sparse_attention,
)
from foveal.attention.block_sparse import ops
from foveal.attention.block_sparse.api import choose_impl
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.prepare import prepare
from foveal.errors import UnsupportedError
from foveal.testing import relative_error

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
NEAR = 2e-6 if INTERPRETED else 2e-5
ROUNDED = 1.5e-2
"""The CPU rounds weights to fp8 under the maximum of one cell, kernels under that of two."""

POLICIES = {
    "none": None,
    "window": Window(sink=64, window=64),
    "scored": XAttention(stride=16, threshold=0.5, dense_below=0),
    "sparge": Sparge(top_k=0.5, dense_below=0),
    "spans": Spans((64.0,), (0.5,)),
}


def _case(s, t, d=32, *, b=1, h=2, g=1, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(b, h, s, d, generator=random)
    k, v = (torch.randn(b, g, t, d, generator=random) for _ in "kv")
    return [x.to(DEVICE, dtype) for x in (q, k, v)]


def _same(found, wanted, near=NEAR):
    """Compare (out, lse) of two ways."""
    assert relative_error(found[0], wanted[0].double()) <= near
    seen = wanted[1].isfinite()
    assert torch.equal(found[1].isfinite(), seen)
    torch.testing.assert_close(found[1][seen], wanted[1][seen], rtol=1e-5, atol=5e-5)


@pytest.fixture
def launches(monkeypatch):
    """Names of the kernels that were asked for."""
    from foveal.attention.block_sparse import triton_exact, triton_sage

    found = []

    def counted(name, run, *args, **options):
        found.append(name)
        return run(*args, **options)

    for module, name in ((triton_exact, "block_sparse_triton"), (triton_sage, "sage_triton")):
        monkeypatch.setattr(module, name, functools.partial(counted, name, getattr(module, name)))
    return found


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("impl", ["triton", "auto"])
def test_attend_by_every_policy(launches, impl, name, causal):
    q, k, v = _case(130, 300)
    policy, causal = POLICIES[name], causal or name == "spans"
    some = {"policy": policy, "causal": causal, "return_lse": True}
    assert policy is None or policy.layout(q, k, causal=causal).density < 1
    found = attend(q, k, v, **some, impl=impl)
    assert launches == ["block_sparse_triton"]
    _same(found, attend(q, k, v, **some, impl="cpu"))
    assert len(launches) == 1


@pytest.mark.parametrize("name", ["none", "window", "scored"])
@pytest.mark.parametrize("precision", [Sage(), Sage("int4-fp16", granularity="warp")], ids=str)
def test_attend_with_a_precision(launches, precision, name):
    q, k, v = _case(130, 300)
    some = {"policy": POLICIES[name], "precision": precision, "return_lse": True}
    found = attend(q, k, v, **some)
    assert launches == ["sage_triton"]
    near = ROUNDED if precision.value_format == "fp8" else 5e-3
    _same(found, attend(q, k, v, **some, impl="cpu"), near=near)


@pytest.mark.parametrize("precision", [None, Sage()], ids=str)
@pytest.mark.parametrize("kind", ["bool", "float", "-inf"])
def test_attend_under_masks(launches, kind, precision):
    q, k, v = _case(100, 200)
    random = torch.Generator().manual_seed(1)
    mask = (torch.rand(1, 2, 100, 200, generator=random) < 0.7).to(DEVICE)
    mask[..., 30:40, :] = False
    if kind != "bool":
        low = -3.0 if kind == "float" else -torch.inf
        mask = torch.zeros(mask.shape, device=DEVICE).masked_fill(~mask, low)
    some = {"policy": POLICIES["window"], "precision": precision, "attn_mask": mask}
    found = attend(q, k, v, **some, return_lse=True)
    assert len(launches) == 1
    wanted = attend(q, k, v, **some, return_lse=True, impl="cpu")
    _same(found, wanted, near=NEAR if precision is None else 5e-3)


@pytest.mark.parametrize("precision", [None, Sage()], ids=str)
@pytest.mark.parametrize("sides", ["left", "right", "both", "holes"])
def test_attend_with_padding(launches, sides, precision):
    q, k, v = _case(150, 150, b=2)
    real = torch.ones(2, 150, dtype=torch.bool)
    if sides in ("left", "both"):
        real[0, :70] = False
    if sides in ("right", "both"):
        real[1, 100:] = False
    if sides == "holes":
        real[0, 50:80:3] = False
    some = {"attn_mask": real.to(DEVICE), "precision": precision, "return_lse": True}
    found = attend(q, k, v, **some)
    assert len(launches) == 2
    wanted = attend(q, k, v, **some, impl="cpu")
    _same(found, wanted, near=NEAR if precision is None else ROUNDED)


@pytest.mark.parametrize("precision", [None, Sage()], ids=str)
def test_varlen(launches, precision):
    starts = torch.tensor([0, 70, 70, 100, 230])
    ends = torch.tensor([0, 80, 90, 90, 220])
    q, k, v = _case(230, 220)
    q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))
    some = {"cu_seqlens_q": starts, "cu_seqlens_k": ends, "precision": precision}
    found = attend_varlen(q, k, v, **some, impl="triton")
    assert len(launches) == 2
    wanted = attend_varlen(q, k, v, **some, impl="cpu")
    assert relative_error(found, wanted.double()) <= (NEAR if precision is None else ROUNDED)
    assert bool((found[70:100] == 0).all()) == bool((wanted[70:100] == 0).all())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rule", [{}, {"span": 90}, {"causal": False}], ids=str)
def test_gradients_are_those_of_the_cpu(rule, masked):
    q, k, v = _case(100, 150, h=4, g=2)
    kept = torch.rand(1, 4, 2, 3, generator=torch.Generator().manual_seed(1)) < 0.8
    layout = BlockLayout.from_bool(
        kept.to(DEVICE), num_queries=100, num_keys=150, **{"causal": True, **rule}
    )
    mask = (torch.rand(1, 1, 100, 150) < 0.8).to(DEVICE) if masked else None
    weight = torch.randn(1, 4, 100, 32).to(DEVICE)

    def grads(impl):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out, lse = block_sparse_attention(
            *leaves, layout, impl=impl, attn_mask=mask, return_lse=True
        )
        loss = (out * weight).sum() + lse.masked_fill(lse.isneginf(), 0.0).sum()
        return torch.autograd.grad(loss, leaves)

    for found, wanted in zip(grads("triton"), grads("cpu"), strict=True):
        assert relative_error(found, wanted.double()) <= 5 * NEAR


def test_the_operator_tells_shapes_and_types_without_running():
    q, k, v = _case(70, 100, dtype=torch.float16)
    layout = BlockLayout.dense(q, k, causal=True)
    arguments = (q, k, v, layout.bits, None, True, None, None, 0.2, True)
    torch.library.opcheck(
        ops.block_sparse_gpu, arguments, test_utils=("test_schema", "test_faketensor")
    )


def test_gradients_through_skips_and_masks_are_refused():
    q, k, v = _case(70, 100)
    q.requires_grad_()
    layout = BlockLayout.dense(q, k, causal=True)
    skipping = replace(layout, skip_threshold=(1.0, 1.0))
    with pytest.raises(UnsupportedError, match="skip_threshold is set"):
        block_sparse_attention(q, k, v, skipping, impl="triton").sum().backward()
    mask = torch.zeros(1, 1, 70, 100, device=DEVICE, requires_grad=True)
    with pytest.raises(UnsupportedError, match="attn_mask requires a gradient"):
        block_sparse_attention(q, k, v, layout, impl="triton", attn_mask=mask).sum().backward()
    with pytest.raises(UnsupportedError, match="q requires a gradient"):
        quantized_attention(q, k, v, layout, precision=Sage(), impl="triton")


def test_what_kernels_do_not_take_is_refused_by_name():
    q, k, v = _case(70, 100)
    layout = BlockLayout.dense(q, k, causal=True)
    exact = [x.double() for x in (q, k, v)]
    wide = _case(70, 100, 257)
    broad = torch.cat([v] * 9, 3)
    for inputs, name, why in (
        (exact, "q", "it is torch.float64"),
        (wide, "q", "its width is 257"),
        ([q, k, broad], "v", "its width is 288"),
    ):
        for call in (
            functools.partial(block_sparse_attention, *inputs, layout),
            functools.partial(quantized_attention, *inputs, layout, precision=Sage()),
            functools.partial(attend, *inputs, policy=Window()),
        ):
            with pytest.raises(UnsupportedError, match=f'for this {name}: {why}.*impl="auto"'):
                call(impl="triton")
            call()  # "auto" finds another way
    for inputs, name in ((exact, "k"), (wide, "k"), ([q, k, broad], "v")):
        with pytest.raises(UnsupportedError, match=f"prepare: .* for this {name}: "):
            prepare(*inputs[1:], precision=Sage(), impl="triton")


def test_without_a_gpu_triton_is_refused_and_auto_is_not(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    q, k, v = (x.cpu() for x in _case(70, 100))
    layout = BlockLayout.dense(q, k, causal=True)
    with pytest.raises(UnsupportedError, match="for this q: it is on cpu, .* CUDA devices"):
        block_sparse_attention(q, k, v, layout, impl="triton")
    with pytest.raises(UnsupportedError, match="for this q: it is on cpu"):
        quantized_attention(q, k, v, layout, precision=Sage(), impl="triton")
    with pytest.raises(UnsupportedError, match="for this k: it is on cpu"):
        prepare(k, v, precision=Sage(), impl="triton")
    assert choose_impl(layout, q, v, return_lse=True) == "cpu"
    assert not prepare(k, v, precision=Sage()).values.tiled
    XAttention(stride=16, dense_below=0).layout(q, k)


def test_what_auto_runs():
    q, k, v = _case(130, 130)
    square = BlockLayout.dense(q, k, causal=True)
    assert choose_impl(square, q, v) == "dense"
    assert choose_impl(square, q, v, return_lse=True) == "triton"
    mask = torch.ones(1, 1, 1, 130, dtype=torch.bool, device=DEVICE)
    assert choose_impl(square, q, v, attn_mask=mask) == "triton"
    assert choose_impl(replace(square, skip_threshold=(1.0, 1.0)), q, v) == "triton"
    assert choose_impl(replace(square, complete=False), q, v) == "triton"  # no look at the bits
    assert choose_impl(BlockLayout.dense(q, k, causal=True, span=90), q, v) == "triton"
    assert choose_impl(BlockLayout.dense(q, k), q, v) == "dense"
    part = q[:, :, :70]
    assert choose_impl(BlockLayout.dense(part, k, causal=True), part, v) == "triton"
    assert choose_impl(BlockLayout.dense(part, k), part, v) == "dense"
    exact = q.double()
    assert choose_impl(square, exact, v.double(), return_lse=True) == "cpu"
    assert choose_impl(square, exact, v.double()) == "dense"


@pytest.mark.parametrize("precision", [None, Sage()], ids=str)
def test_inputs_are_not_changed(precision):
    inputs = _case(70, 100)
    before = [x.clone() for x in inputs]
    attend(*inputs, precision=precision, policy=POLICIES["scored"], impl="triton")
    for x, y in zip(inputs, before, strict=True):
        assert torch.equal(x, y)


@pytest.mark.gpu
def test_long_heads_start_past_two_to_the_31_elements():
    """Offsets of later heads do not fit 32 bits."""
    s, h = 2**17, 132
    q = torch.zeros(1, h, s, 128, dtype=torch.float16, device=DEVICE)
    k, v = (torch.randn(1, h, s, 128, dtype=torch.float16, device=DEVICE) for _ in "kv")
    q[:, -1] = torch.randn(s, 128, device=DEVICE)
    policy = Window(sink=64, window=64)
    part = [x[:, -1:].contiguous() for x in (q, k, v)]
    for precision in (None, Sage()):
        found = attend(q, k, v, policy=policy, precision=precision)[:, -1:]
        wanted = attend(*part, policy=policy, precision=precision)
        assert relative_error(found, wanted.double()) <= 1e-5
