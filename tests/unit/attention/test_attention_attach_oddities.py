"""`attach` on what few models do: masks of other kinds, nested tensors, copies of the model."""

import copy
import functools
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.bias import causal_lower_right, causal_upper_left

from foveal import attention
from foveal.attention import Window, XAttention
from foveal.errors import ArgumentError

attach = functools.partial(attention.attach, min_tokens=0)
ALL = XAttention(threshold=1.0)
SPARSE = Window(sink=0, window=1)


class OneAttention(nn.Module):
    """Attends to what it is given."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, **self.options)


def tensors(length=150):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, length, 16, generator=generator) for _ in "qkv"]


@pytest.mark.parametrize("kind", [causal_upper_left, causal_lower_right])
@pytest.mark.parametrize("queries", [150, 100])
def test_causal_bias_of_torch_is_honored(kind, queries):
    q, k, v = tensors()
    block = OneAttention(attn_mask=kind(queries, 150))
    wanted = block(q[:, :, :queries], k, v)
    with attach(block, policy=SPARSE) as handle:
        found = block(q[:, :, :queries], k, v)
    assert type(found) is torch.Tensor
    torch.testing.assert_close(found, wanted)
    assert handle.receipt.details["dense_calls"] == {"mask of a class of its own": 1}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
def test_nested_tensors_run_as_they_are(layout):
    def nested(x):
        if layout == torch.strided:
            return torch.nested.nested_tensor([x[0], x[1, :, :100]], layout=layout)
        some = [x[0].transpose(0, 1), x[1, :, :100].transpose(0, 1)]
        return torch.nested.nested_tensor(some, layout=layout).transpose(1, 2)

    block, full = OneAttention(), tensors()
    with torch.no_grad():
        wanted = block(*map(nested, full))
        with attach(block, policy=SPARSE) as handle:
            found = block(*map(nested, full))
            block(*full)  # so that there is a receipt
    for one, other in zip(found.unbind(), wanted.unbind(), strict=True):
        torch.testing.assert_close(one, other)
    assert handle.receipt.details["dense_calls"] == {"nested tensors": 1}


def test_integer_masks_are_refused_by_torch_itself():
    block, full = OneAttention(attn_mask=torch.ones(150, 150, dtype=torch.int64)), tensors()
    for policy in (None, SPARSE):
        with pytest.raises(RuntimeError, match="attn_mask dtype"), attach(block, policy=policy):
            block(*full)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_that_see_no_key_under_a_finite_mask_average_the_values(dtype):
    q, k, v = (x.to(dtype) for x in tensors())
    mask = torch.zeros(150, 150, dtype=dtype)
    mask[3] = torch.finfo(dtype).min
    block = OneAttention(attn_mask=mask)
    wanted = block(q, k, v)
    with attach(block, policy=ALL) as handle:
        found = block(q, k, v)
    assert handle.receipt.details["dense_calls"] == {}
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_module_in_two_blocks_attention_is_that_of_torch(fails):
    block, (q, k, v) = OneAttention(), tensors()
    wanted = block(q, k, v)
    with attach(block, policy=SPARSE) as outer:
        block(q, k, v)
        with attach(block, policy=SPARSE) as inner:
            block(q, k, v)
            if fails:
                with pytest.raises(RuntimeError):
                    block(q, k[..., :3], v)
            found = F.scaled_dot_product_attention(q, k, v)  # of nobody's module
        beside = F.scaled_dot_product_attention(q, k, v)
    assert torch.equal(found, wanted)
    assert torch.equal(beside, wanted)
    assert outer.receipt.details["calls"] == 1
    assert inner.receipt.details["calls"] == 1 + fails


COPIES = [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]


def users_hook(module, args):
    """Stand for a hook of somebody else."""


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("nested", [False, True])
def test_a_copy_made_inside_is_free_of_us(copied, nested):
    model, full = nn.ModuleList([OneAttention(), OneAttention()]), tensors()
    model[0].register_forward_pre_hook(users_hook)
    model[0].note = "kept"
    wanted = [block(*full) for block in model]
    with attach(model, policy=SPARSE) as handle:
        sparse = [block(*full) for block in model]
        if nested:
            with attach(model[0], policy=SPARSE):
                model[0](*full)
                other = copied(model)
        else:
            other = copied(model)
        found = [block(*full) for block in other]
        again = [block(*full) for block in model]
    assert all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(again, sparse, strict=True))
    assert not torch.equal(sparse[0], wanted[0])
    assert handle.receipt.details["calls"] == 4
    for one, first in zip(other, model, strict=True):
        assert vars(one).keys() == vars(first).keys()
        assert [*one._forward_pre_hooks.values()] == [*first._forward_pre_hooks.values()]
        assert not one._forward_hooks
        assert not one._forward_hooks_always_called
    assert other[0].note == "kept"
    with attach(other, policy=SPARSE) as second:  # and can be attached itself
        assert all(torch.equal(x(*full), y) for x, y in zip(other, sparse, strict=True))
    assert second.receipt.details["calls"] == 2
    assert all("__getstate__" not in vars(x) for x in (*model, *other))


class CopiesItself(OneAttention):
    def __deepcopy__(self, memo):
        found = CopiesItself()
        found.__dict__ = copy.deepcopy(self.__dict__)
        return found


def test_shallow_copies_and_classes_that_copy_themselves():
    full = tensors()
    plain, own = OneAttention(), CopiesItself()
    wanted = plain(*full)
    with attach(nn.ModuleList([plain, own]), policy=SPARSE):
        for block in (plain, own):
            assert not torch.equal(block(*full), wanted)
        shallow, itself = copy.copy(plain), copy.deepcopy(own)
    assert torch.equal(shallow(*full), wanted)
    assert isinstance(itself, CopiesItself)
    shallow.note = "new"
    assert copy.deepcopy(shallow).note == "new"


def test_a_loss_that_is_not_finite_names_its_layers():
    first, second = OneAttention(), OneAttention()
    q, k, v = tensors()
    with attach(nn.ModuleList([first, second]), policy=SPARSE) as handle:
        first(q, k, v)
        second(q * math.nan, k, v)
    with pytest.raises(ArgumentError, match=r"Handle.receipt: loss of \['1'\] is not finite"):
        _ = handle.receipt
    assert 0 < handle.density < 1


def test_modules_that_can_name_nothing_are_refused():
    with (
        pytest.raises(ArgumentError, match=r"attach: modules is 3, must be"),
        attach(OneAttention(), policy=SPARSE, modules=3),
    ):
        pass


def test_padded_encoder_of_torch_without_its_nested_tensors():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(2, 150, 32, generator=torch.Generator().manual_seed(0))
    padding = torch.arange(150) >= torch.tensor([[150], [100]])
    with torch.no_grad():
        wanted = encoder(x, src_key_padding_mask=padding)
        with attach(encoder, policy=ALL) as handle:
            found = encoder(x, src_key_padding_mask=padding)
    torch.testing.assert_close(found[~padding], wanted[~padding], rtol=1e-4, atol=1e-4)
    assert handle.receipt.details["dense_calls"] == {}
