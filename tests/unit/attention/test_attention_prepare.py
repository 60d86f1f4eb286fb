"""What selection and kernels read of keys and values."""

import pytest
import torch

from foveal.attention.precision import Sage
from foveal.attention.prepare import prepare
from foveal.errors import ArgumentError, ShapeError


def _kv(t=150, seed=0):
    random = torch.Generator().manual_seed(seed)
    k = torch.randn(2, 3, t, 32, generator=random) + 4
    return k, torch.randn(2, 3, t, 24, generator=random)


def test_what_is_inside():
    k, v = _kv()
    found = prepare(k, v, precision=Sage("int8-fp8", smooth_v=True))
    assert found.keys.values.shape == (2, 3, 3, 64, 32)
    assert found.keys.scales.shape == (2, 3, 3, 4)
    assert found.values.values.shape == (2, 3, 3, 64, 24)
    assert found.values.values.dtype == torch.float8_e4m3fn
    assert found.pooled_keys.shape == (2, 3, 3, 32)
    assert found.self_similarity.shape == (2, 3, 3)
    torch.testing.assert_close(found.key_mean, k.mean(2, keepdim=True))
    torch.testing.assert_close(found.values.mean, v.mean(2, keepdim=True))
    torch.testing.assert_close(found.keys.dequantize(), k - found.key_mean, rtol=0, atol=0.02)
    plain = prepare(k, v, precision=Sage("int4-fp16", smooth_k=False))
    assert plain.key_mean is None
    assert plain.values.mean is None
    assert plain.values.values.dtype == torch.float16


def test_the_mean_of_bf16_keys_is_summed_in_fp32():
    k, v = _kv(4000)
    k = (k + 60).bfloat16()
    mean = prepare(k, v, precision=Sage()).key_mean
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), k.double().mean(2, keepdim=True), rtol=0, atol=1e-4)


def test_padding_counts_nowhere():
    k, v = _kv(65)
    found = prepare(k, v, precision=Sage(smooth_k=False))
    torch.testing.assert_close(found.pooled_keys[:, :, 1], k[:, :, 64])
    torch.testing.assert_close(found.self_similarity[:, :, 1], torch.ones(2, 3))


def test_self_similarity_of_known_cells():
    k, v = _kv(192)
    k[:, :, :64] = k[:, :, :1]  # the same key over and over
    k[:, :, 64:96], k[:, :, 96:128] = k[:, :, :1], -k[:, :, :1]  # half of it opposite
    k[:, :, 128:] = 0.0
    found = prepare(k, v, precision=Sage(smooth_k=False)).self_similarity
    torch.testing.assert_close(found[0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_a_frozen_mean_makes_chunks_consistent():
    k, v = _kv(256)
    whole = prepare(k, v, precision=Sage())
    late = prepare(k[:, :, 128:], v[:, :, 128:], precision=Sage(), k_mean=whole.key_mean)
    assert torch.equal(late.keys.values, whole.keys.values[:, :, 2:])
    assert torch.equal(late.keys.scales, whole.keys.scales[:, :, 2:])
    assert torch.equal(late.pooled_keys, whole.pooled_keys[:, :, 2:])
    own = prepare(k[:, :, 128:], v[:, :, 128:], precision=Sage())
    assert not torch.equal(own.keys.values, whole.keys.values[:, :, 2:])


def test_inputs_are_not_changed_and_may_be_views():
    k, v = _kv()
    before = k.clone(), v.clone()
    view = k.transpose(1, 2).contiguous().transpose(1, 2)
    for precision in (Sage(smooth_v=True), Sage("int4-fp16")):
        a, b = prepare(k, v, precision=precision), prepare(view, v, precision=precision)
        assert torch.equal(a.keys.values, b.keys.values)
    assert torch.equal(k, before[0])
    assert torch.equal(v, before[1])


@pytest.mark.skipif(hasattr(prepare, "__wrapped__"), reason="a type-checked run answers first")
def test_bad_arguments_are_named():
    k, v = _kv()
    with pytest.raises(ShapeError, match="prepare: k has shape"):
        prepare(k, v[:, :, 1:], precision=Sage())
    with pytest.raises(ShapeError, match="prepare: k_mean has shape"):
        prepare(k, v, precision=Sage(), k_mean=k[:, :, 0])
    with pytest.raises(ArgumentError, match="k_mean is given with smooth_k=False"):
        prepare(k, v, precision=Sage(smooth_k=False), k_mean=k[:, :, :1])
