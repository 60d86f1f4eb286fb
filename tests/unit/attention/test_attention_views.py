"""Strides of the inputs do not matter: views give what their copies give."""

import pytest
import torch

from foveal import attention
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.prepare import prepare

KINDS = {
    "token by token": lambda b, h, s, d: torch.randn(b, s, h, d).transpose(1, 2),
    "channel by channel": lambda b, h, s, d: torch.randn(b, h, d, s).mT,
    "all axes turned": lambda b, h, s, d: torch.randn(d, s, h, b).permute(3, 2, 1, 0),
    "every other channel": lambda b, h, s, d: torch.randn(b, h, s, 2 * d)[..., ::2],
    "every other token": lambda b, h, s, d: torch.randn(b, h, 2 * s, d)[:, :, ::2],
    "one batch entry for all": lambda b, h, s, d: torch.randn(1, h, s, d).expand(b, h, s, d),
    "one head for all": lambda b, h, s, d: torch.randn(b, 1, s, d).expand(b, h, s, d),
    "one token for all": lambda b, h, s, d: torch.randn(b, h, 1, d).expand(b, h, s, d),
}
# One head of whole cells is what torch's `flatten` does not copy.
SIZES = [(1, 1, 1, 128, 128), (2, 4, 2, 100, 150)]


@pytest.fixture(params=SIZES, ids=str)
def sizes(request):
    return request.param


@pytest.fixture(params=KINDS)
def views(request, sizes):
    b, h, g, s, t = sizes
    make = KINDS[request.param]
    return make(b, h, s, 32), make(b, g, t, 32), make(b, g, t, 32)


def _copies(tensors):
    return [x.clone(memory_format=torch.contiguous_format) for x in tensors]


def _close(found, wanted, *, atol=1e-5):
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("mode", ["int8-fp8", "int8-fp16", "int4-fp8"])
def test_quantized_attention_of_views(views, mode):
    precision = attention.Sage(mode)

    def run(q, k, v):
        layout = attention.BlockLayout.causal_like(q, k)
        return quantized_attention(q, k, v, layout, precision=precision, return_lse=True)

    # Sums in another order may bring a weight over a rounding boundary.
    _close(run(*views), run(*_copies(views)), atol=4e-3)


@pytest.mark.parametrize("mode", ["int8-fp8", "int8-fp16"])
def test_codes_of_views_are_contiguous(views, mode):
    _, k, v = views
    found = prepare(k, v, precision=attention.Sage(mode), impl="cpu")
    wanted = prepare(*_copies((k, v)), precision=attention.Sage(mode), impl="cpu")
    for codes in (found.keys.values, found.values.values):
        assert codes.is_contiguous()
    _close(
        (found.keys.dequantize(), found.values.dequantize(), found.pooled_keys),
        (wanted.keys.dequantize(), wanted.values.dequantize(), wanted.pooled_keys),
    )


def test_attention_and_gradients_of_views(views):
    def run(q, k, v):
        some = [x.detach().requires_grad_() for x in (q, k, v)]
        policy = attention.Window(sink=64, window=64)
        out, lse = attention.attend(*some, policy=policy, return_lse=True)
        (out.square().sum() + lse[lse.isfinite()].sum()).backward()
        return out.detach(), lse.detach(), *(x.grad for x in some)

    _close(run(*views), run(*_copies(views)))


@pytest.mark.parametrize(
    "policy",
    [attention.XAttention(stride=8, dense_below=0), attention.Sparge(top_k=0.5)],
    ids=["xattention", "sparge"],
)
def test_choice_of_views(views, policy):
    q, k, _ = views
    found, wanted = policy.layout(q, k), policy.layout(*_copies((q, k)))
    assert torch.equal(found.bits, wanted.bits)


def test_varlen_of_views(sizes):
    _, h, g, s, t = sizes
    tensors = [
        torch.randn(32, n, heads).permute(2, 1, 0).transpose(0, 1)
        for n, heads in ((s, h), (t, g), (t, g))
    ]
    cu_q, cu_k = torch.tensor([0, 30, 30, s]), torch.tensor([0, 64, 65, t])

    def run(q, k, v, **settings):
        return attention.attend_varlen(q, k, v, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, **settings)

    for settings in ({}, {"precision": attention.Sage()}):
        _close([run(*tensors, **settings)], [run(*_copies(tensors), **settings)], atol=4e-3)
