"""`attach` on modules of one's own, through F.scaled_dot_product_attention."""

import contextlib
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from foveal import attention
from foveal.attention import Sage, Window, XAttention, attend
from foveal.errors import ArgumentError, UnsupportedError

attach = functools.partial(attention.attach, min_tokens=0)
ALL = XAttention(threshold=1.0)
SPARSE = Window(sink=0, window=1)


class SelfAttention(nn.Module):
    """One call of SDPA with whatever options are given."""

    def __init__(self, width=32, heads=4, key_heads=4, **options):
        super().__init__()
        self.heads, self.key_heads, self.options = heads, key_heads, options
        size = width // heads
        self.q = nn.Linear(width, heads * size)
        self.k, self.v = (nn.Linear(width, key_heads * size) for _ in "kv")

    def forward(self, x, memory=None):
        memory = x if memory is None else memory
        q = self.q(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = (
            f(memory).unflatten(2, (self.key_heads, -1)).transpose(1, 2) for f in (self.k, self.v)
        )
        return F.scaled_dot_product_attention(q, k, v, **self.options).transpose(1, 2).flatten(2)


class Transformer(nn.Module):
    """A vision transformer, as far as attention is concerned."""

    def __init__(self, depth=3, **options):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(SelfAttention(**options) for _ in range(depth))
        self.eval()

    def forward(self, x):
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return x


def inputs(batch=2, length=150, width=32):
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(0))


def reference(model, x, **options):
    """The output of a one-block model by `attend`."""
    block = model.blocks[0]
    q = block.q(x).unflatten(2, (block.heads, -1)).transpose(1, 2)
    k, v = (f(x).unflatten(2, (block.key_heads, -1)).transpose(1, 2) for f in (block.k, block.v))
    return torch.relu(x + attend(q, k, v, **options).transpose(1, 2).flatten(2))


BOOL = torch.rand(1, 1, 150, 150, generator=torch.Generator().manual_seed(1)) < 0.8
BIAS = torch.randn(2, 4, 150, 150, generator=torch.Generator().manual_seed(1))
CALLS = {
    "plain": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.9},
    "bool": {"attn_mask": BOOL},
    "two axes": {"attn_mask": BOOL[0, 0]},
    "keys only": {"attn_mask": BOOL[:, :, :1]},
    "bias": {"attn_mask": BIAS},
    "grouped": {"key_heads": 2, "enable_gqa": True},
}


@pytest.mark.parametrize("name", CALLS)
@torch.no_grad()
def test_options_are_honored(name):
    options = CALLS[name]
    model, x = Transformer(1, **options), inputs()
    wanted = model(x)
    with attach(model, policy=ALL) as handle:
        inside = model(x)
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-5)
    assert handle.receipt.details["calls"] == 1
    assert "dropout" not in handle.receipt.details["dense_calls"]
    mask = options.get("attn_mask")
    mask = mask[(None,) * (4 - mask.ndim)] if mask is not None else None
    same = {"causal": options.get("is_causal", False), "scale": options.get("scale")}
    with attach(model, policy=SPARSE) as handle:
        inside = model(x)
    wanted = reference(model, x, policy=SPARSE, attn_mask=mask, **same)
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-5)
    assert handle.receipt.spent < handle.receipt.full
    assert handle.receipt.details["dense_calls"] == {}
    assert handle.receipt.loss > 0


DENSE_CALLS = {
    "dropout": ({"dropout_p": 1e-9}, {}),
    "top-left causal with s != t": ({"is_causal": True}, {"memory": inputs(length=170)}),
    "decode": ({}, {"x": inputs(length=1), "memory": inputs()}),
    "axes that broadcast": ({}, {"memory": inputs(1)}),
    "mask that wants a gradient": ({"attn_mask": BIAS.clone().requires_grad_()}, {}),
}


@pytest.mark.parametrize("reason", DENSE_CALLS)
@torch.no_grad()
def test_what_cannot_be_sparse_is_dense_and_counted(reason):
    options, call = DENSE_CALLS[reason]
    block = SelfAttention(**options)
    call = {"x": inputs(), **call}
    wanted = block(**call)
    with attach(block, policy=SPARSE) as handle:
        inside = block(**call)
        if reason == "decode":
            block(inputs())  # so that there is a receipt
    torch.testing.assert_close(inside, wanted, rtol=1e-6, atol=1e-6)
    assert handle.receipt.details["dense_calls"] == {reason: 1}


@torch.no_grad()
def test_other_reasons():
    block, x = SelfAttention(attn_mask=BOOL), inputs()
    with attach(block, policy=None) as handle:
        torch.testing.assert_close(block(x), SelfAttention.forward(block, x))
    assert handle.receipt.details["dense_calls"] == {"no policy": 1}
    with attach(block, policy=None, precision=Sage("int8-fp8"), loss_rows=150) as handle:
        quantized = block(x)
    assert handle.receipt.details["dense_calls"] == {}
    error = (quantized - block(x)).norm() / block(x).norm()
    assert 0 < handle.receipt.loss == pytest.approx(float(error), rel=0.2)
    with attach(block, policy=SPARSE, min_tokens=151) as handle:
        block(x)
    assert handle.receipt.details["dense_calls"] == {"fewer than min_tokens keys": 1}

    class OneAttention(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x)

    for shape in ((150, 8), (3, 150, 8), (2, 3, 4, 150, 8)):
        x = torch.randn(shape)
        block = OneAttention()
        with contextlib.ExitStack() as stack:
            handle = stack.enter_context(attach(block, policy=SPARSE))
            assert torch.equal(block(x), F.scaled_dot_product_attention(x, x, x))
            if x.ndim > 2:
                assert handle.receipt.details["dense_calls"] == {"not four axes": 1}
                assert handle.receipt.full == 2 * 9 * x.shape[:-2].numel()


@torch.no_grad()
def test_errors_of_torch_stay_its_own():
    class WrongAttention(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x[..., :4], x)

    block = WrongAttention()
    with pytest.raises(RuntimeError), attach(block, policy=SPARSE):
        block(inputs()[:, None])
    assert not _get_current_function_mode_stack()


def test_gradients():
    model, x = Transformer(2), inputs()
    with attach(model, policy=ALL):
        model(x).square().sum().backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(x).square().sum().backward()
    for a, p in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_autocast():
    model, x = Transformer(2), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        wanted = model(x)
        with attach(model, policy=ALL):
            inside = model(x)
        with attach(model, policy=SPARSE):
            assert model(x).dtype == wanted.dtype
    torch.testing.assert_close(inside, wanted, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("mask", [None, BOOL[0, 0]], ids=["plain", "mask"])
@torch.no_grad()
def test_multihead_attention_of_torch(mask):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0).eval()
    model, x = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), inputs()
    mask = None if mask is None else ~mask
    wanted = model(x, mask=mask)
    with attach(model, policy=ALL) as handle:
        inside = model(x, mask=mask)
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    assert handle.receipt.details["calls"] == 2
    with attach(model, policy=SPARSE) as handle:
        model(x, mask=mask)
    assert handle.density < 1


# --- which modules -------------------------------------------------------------------------------


class Holder(nn.Module):
    """Attention of two kinds, and one that computes its own."""

    class Mixer(nn.Module):
        def forward(self, x):
            x = x[:, None]
            return F.scaled_dot_product_attention(x, x, x)[:, 0]

    class FusedAttention(nn.Module):
        def forward(self, x):
            return (x @ x.mT).softmax(-1) @ x

    def __init__(self, fused=False):
        super().__init__()
        self.first, self.mixer = SelfAttention(), self.Mixer()
        self.fused = self.FusedAttention() if fused else nn.Identity()

    def forward(self, x):
        return self.fused(self.mixer(self.first(x)))


@torch.no_grad()
def test_default_modules_are_those_by_name_and_those_that_call_it():
    model = Holder()
    with attach(model, policy=SPARSE) as handle:
        model(inputs())
    assert handle.layouts("first").shape == handle.layouts("mixer").shape == (3, 3)
    with attach(model, policy=SPARSE, modules=["mixer"]) as handle:
        model(inputs())
    assert handle.receipt.details["calls"] == 1
    with attach(model, policy=SPARSE, modules=lambda _, x: isinstance(x, SelfAttention)) as handle:
        model(inputs())
    assert handle.layouts("first").shape == (3, 3)


@torch.no_grad()
def test_modules_that_never_reach_us_are_named_on_leaving():
    model = Holder(fused=True)
    with (
        pytest.raises(UnsupportedError, match="attach: FusedAttention fused never called"),
        attach(model, policy=SPARSE),
    ):
        model(inputs())
    with pytest.raises(KeyError), attach(model, policy=SPARSE):
        raise KeyError
    with (
        pytest.raises(UnsupportedError, match=r"blocks\.7 and 2 more never called"),
        attach(Transformer(10), policy=SPARSE),
    ):
        pass
    layer = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    x = inputs()
    with (
        pytest.raises(UnsupportedError, match=r"MultiheadAttention \(model\) never called"),
        attach(layer, policy=SPARSE),
    ):
        layer(x, x, x)  # it wants the weights, which SDPA does not have
    with attach(layer, policy=SPARSE):
        layer(x, x, x, need_weights=False)


@torch.no_grad()
def test_an_attention_that_holds_another_is_one():
    class OuterAttention(nn.Module):
        class AttnNorm(nn.Module):
            def forward(self, x):
                return x / 2

        def __init__(self):
            super().__init__()
            self.inner, self.norm = SelfAttention(), self.AttnNorm()

        def forward(self, x):
            return self.norm(self.inner(x))

    model, x = OuterAttention(), inputs()
    with attach(model, policy=SPARSE) as handle:
        model(x)
    assert list(handle.receipt.details["density_per_layer"]) == ["0"]
    assert handle.receipt.details["calls"] == 1


def test_bad_modules_are_named():
    for modules, match in (
        (["first", "second.mixer"], r"modules holds 'second.mixer'.*is it one of \['mixer'\]"),
        (["nothing"], "modules holds 'nothing'.*look there"),
        ([], "must choose at least one module of Holder"),
        (lambda name, _: False, "must choose at least one module of Holder"),
    ):
        with (
            pytest.raises(ArgumentError, match=match),
            attach(Holder(), policy=SPARSE, modules=modules),
        ):
            pass


# --- leaving nothing behind ----------------------------------------------------------------------


@torch.no_grad()
def test_nothing_is_left_behind():
    model, x = Transformer(), inputs()

    class Mine(Exception):
        pass

    for error in (Mine, KeyboardInterrupt):

        def fail(*_, error=error):
            raise error

        hook = model.blocks[1].q.register_forward_hook(fail)
        with pytest.raises(error), attach(model, policy=SPARSE):
            model(x)
        hook.remove()
        assert not _get_current_function_mode_stack()
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with attach(model, policy=SPARSE) as handle:
        hook = model.blocks[1].q.register_forward_hook(fail)
        with contextlib.suppress(KeyboardInterrupt):
            model(x)
        hook.remove()
        model(x)
        assert len(handle.receipt.details["density_per_layer"]) == 3


@torch.no_grad()
def test_blocks_nest():
    one, two, x = Transformer(), Transformer(), inputs()
    plain = one(x)
    with attach(one, policy=ALL) as outer, attach(two, policy=SPARSE) as inner:
        torch.testing.assert_close(one(x), plain, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(two(x), plain, rtol=1e-4, atol=1e-4)
    assert outer.receipt.details["calls"] == inner.receipt.details["calls"] == 3
    assert inner.density < outer.density == 1
    with attach(one, policy=ALL) as outer, attach(one, policy=SPARSE) as inner:
        one(x)
    assert inner.receipt.details["calls"] == 3
    with pytest.raises(ArgumentError, match="no prefill"):
        _ = outer.receipt


@torch.no_grad()
def test_one_module_used_twice_and_within_itself():
    class RecursiveAttention(SelfAttention):
        def forward(self, x, depth=2):
            return super().forward(self(x, depth - 1) if depth else x)

    model = RecursiveAttention()
    with attach(model, policy=SPARSE) as handle:
        model(inputs())
    assert handle.receipt.details["calls"] == 3


# --- both seams ----------------------------------------------------------------------------------


@torch.no_grad()
def test_a_module_that_holds_a_transformers_model():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
    )

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.language = SelfAttention(), transformers.LlamaModel(config)

        def forward(self, x):
            x = self.language(inputs_embeds=x).last_hidden_state
            return self.pool(x)

    model, x = Both().eval(), inputs()
    wanted = model(x)
    with attach(model, policy=ALL) as handle:
        inside = model(x)
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    assert handle.receipt.details["calls"] == 3
    names = set(handle.receipt.details["density_per_layer"])
    assert names == {"language.layers.0.self_attn", "1", "pool"}
    with attach(model, policy=SPARSE, modules=["pool"]) as handle:
        model(x)
    assert handle.receipt.details["calls"] == 1


@torch.no_grad()
def test_a_transformers_model_by_its_sdpa():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    model = transformers.BertModel(config).eval()
    ids = torch.randint(0, 64, (2, 150), generator=torch.Generator().manual_seed(0))
    wanted = model(ids).last_hidden_state
    with attach(model, policy=ALL, modules=lambda _, x: "SelfAttention" in type(x).__name__) as h:
        inside = model(ids).last_hidden_state
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    assert h.receipt.details["calls"] == 2


def test_what_is_no_module_or_policy_is_refused():
    with (
        pytest.raises(ArgumentError, match="model is a dict.*pipe.transformer"),
        attach({}, policy=ALL),
    ):
        pass
    with pytest.raises(ArgumentError, match="policy is 0.9"), attach(Transformer(), policy=0.9):
        pass
