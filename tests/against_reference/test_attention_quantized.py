"""The second gate: codes compared exactly, outputs with an fp64 evaluation on the same codes."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.attention import BlockLayout
from foveal.attention.block_sparse import quantized, rows
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.block_sparse.quantized_reference import quantized_reference
from foveal.attention.layout import num_cells
from foveal.attention.precision import Sage
from foveal.attention.prepare import prepare
from foveal.attention.prepare.reference import summarize_keys_reference
from foveal.attention.quantize import quantize_keys, quantize_queries, quantize_values
from foveal.attention.quantize.reference import (
    cell_means_reference,
    quantize_tokens_reference,
    quantize_values_reference,
)
from foveal.attention.reference import block_sparse_reference
from foveal.testing import assert_as_accurate, assert_on_same_codes, relative_error

MODES = ["int8-fp8", "int8-fp16", "int4-fp8", "int4-fp16"]
GRANULARITIES = ["thread", "warp", "block"]
CASES = st.fixed_dictionaries(
    {
        "s": st.integers(1, 200),
        "t": st.integers(1, 200),
        "d": st.sampled_from([32, 40, 64]),
        "seed": st.integers(0, 2**20),
        "granularity": st.sampled_from(GRANULARITIES),
        "bits": st.sampled_from([8, 4]),
        "dtype": st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    }
)


def _case(s, t, d=32, seed=0, dtype=torch.float32, e=None):
    """Two key heads, four query heads; K has outlier channels and a mean, Q a mean."""
    random = torch.Generator().manual_seed(seed)
    shift = torch.zeros(d)
    shift[::9] = 8.0
    q = torch.randn(1, 4, s, d, generator=random) + shift / 8
    k = torch.randn(1, 2, t, d, generator=random) + shift
    v = torch.randn(1, 2, t, e or d, generator=random) + 0.5
    return q.to(dtype), k.to(dtype), v.to(dtype)


def _layout(q, k, seed=0, share=0.6, **rule):
    random = torch.Generator().manual_seed(seed)
    kept = torch.rand(1, q.shape[1], num_cells(q.shape[2]), num_cells(k.shape[2]), generator=random)
    rule = {"causal": True, **rule}
    return BlockLayout.from_bool(kept < share, num_queries=q.shape[2], num_keys=k.shape[2], **rule)


def _tokens(codes):
    return codes.values.flatten(2, 3)[:, :, : codes.num_tokens]


@settings(max_examples=25, deadline=None)
@given(CASES)
def test_codes_of_queries_and_keys_are_those_of_the_loops(case):
    bits, granularity = case.pop("bits"), case.pop("granularity")
    q, k, _ = _case(**case)
    for smooth in (False, True):
        codes, mean = quantize_queries(q, bits=bits, granularity=granularity, smooth=smooth)
        if smooth:
            torch.testing.assert_close(mean.double(), cell_means_reference(q), rtol=0, atol=1e-5)
        wanted, scales = quantize_tokens_reference(
            q, side="q", bits=bits, granularity=granularity, mean=mean
        )
        assert torch.equal(_tokens(codes), wanted)
        assert torch.equal(codes.scales, scales)
        key_mean = k.float().mean(2, keepdim=True) if smooth else None
        codes = quantize_keys(k, bits=bits, granularity=granularity, mean=key_mean)
        wanted, scales = quantize_tokens_reference(
            k, side="k", bits=bits, granularity=granularity, mean=key_mean
        )
        assert torch.equal(_tokens(codes), wanted)
        assert torch.equal(codes.scales, scales)
        assert bool((codes.values.flatten(2, 3)[:, :, k.shape[2] :] == 0).all())


@pytest.mark.parametrize("t", [1, 64, 150])
@pytest.mark.parametrize(("format", "smooth"), [("fp8", False), ("fp8", True), ("fp16", False)])
def test_codes_of_values_are_those_of_the_loops(t, format, smooth):
    _, _, v = _case(4, t, d=24)
    v[:, :, :, 3] *= 1e4 if format == "fp8" else 1.0
    codes = quantize_values(v, format=format, smooth=smooth)
    wanted, scales = quantize_values_reference(v, format=format, mean=codes.mean)
    assert torch.equal(codes.scales, scales)
    found = codes.values.float().flatten(2, 3)
    assert torch.equal(found[:, :, :t], wanted.float())
    assert bool((found[:, :, t:] == 0).all())


@pytest.mark.parametrize("t", [1, 63, 128, 150])
@pytest.mark.parametrize("smooth_k", [False, True])
def test_summaries_are_those_of_the_gram_matrix(t, smooth_k):
    _, k, v = _case(4, t)
    k[0, 0, 0] = k[0, 0].mean(0) if smooth_k and t > 1 else 0.0  # a key that is zero
    found = prepare(k, v, precision=Sage(smooth_k=smooth_k))
    pooled, similarity = summarize_keys_reference(k, mean=found.key_mean)
    torch.testing.assert_close(found.pooled_keys.double(), pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.self_similarity.double(), similarity, rtol=0, atol=1e-5)


def _second_gate(q, k, v, layout, precision, scale=None):
    prepared = prepare(k, v, precision=precision)
    codes, mean = quantize_queries(
        q, bits=precision.bits, granularity=precision.granularity, smooth=precision.smooths_q
    )
    wanted = quantized_reference(
        q, k, layout, queries=codes, query_means=mean, prepared=prepared, scale=scale
    )
    found, lse = quantized_attention(
        q, k, v, layout, precision=precision, scale=scale, return_lse=True
    )
    # Weights on a rounding boundary may become either neighbor: the reference says how many.
    difference = found.double() - wanted.out
    excess = difference.sign() * (difference.abs() - wanted.slack).clamp_min(0)
    assert_on_same_codes(wanted.out + excess, wanted.out)
    assert wanted.slack.norm() <= 1e-2 * wanted.out.norm()
    seen = wanted.lse.isfinite()
    assert torch.equal(lse.isfinite(), seen)
    torch.testing.assert_close(lse[seen].double(), wanted.lse[seen], rtol=0, atol=3e-5)
    assert bool(
        (found.transpose(2, 3)[~seen[:, :, None].expand(-1, -1, v.shape[3], -1)] == 0).all()
    )
    return wanted, relative_error(found, wanted.out)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_equals_fp64_on_the_same_codes(mode, granularity):
    q, k, v = _case(150, 201)
    _second_gate(q, k, v, _layout(q, k), Sage(mode, granularity=granularity))


@pytest.mark.parametrize(
    ("s", "t", "rule"),
    [
        (192, 192, {}),
        (100, 237, {}),
        (237, 100, {}),
        (130, 201, {"causal": False}),
        (200, 200, {"span": 70}),
        (330, 330, {"span": 170}),
        (90, 161, {"span": 5}),
        (1, 130, {}),
        (70, 1, {"causal": False}),
    ],
)
@pytest.mark.parametrize(
    "switches",
    [
        {"smooth_k": False, "smooth_q": True},
        {"smooth_k": True, "smooth_q": True, "smooth_v": True},
        {"smooth_k": False, "smooth_q": False},
    ],
)
def test_every_rule_and_smoothing_equals_fp64_on_the_same_codes(s, t, rule, switches):
    q, k, v = _case(s, t, e=20)
    _second_gate(q, k, v, _layout(q, k, share=0.8, **rule), Sage(**switches), scale=0.3)


@settings(max_examples=15, deadline=None)
@given(CASES, st.booleans(), st.booleans(), st.sampled_from(MODES))
def test_any_shape_equals_fp64_on_the_same_codes(case, causal, smooth_k, mode):
    case = {**case, "dtype": torch.float32}
    del case["bits"]
    precision = Sage(mode, granularity=case.pop("granularity"), smooth_k=smooth_k)
    q, k, v = _case(**case)
    layout = BlockLayout.dense(q, k, causal=causal) & _layout(q, k, share=0.7, causal=causal)
    if layout.num_kept:
        _second_gate(q, k, v, layout, precision)


@pytest.mark.parametrize("mode", MODES)
def test_skipped_cells_equal_fp64_on_the_same_codes(mode):
    q, k, v = _case(150, 520)
    k[:, :, 128:320] *= 0.1  # cells that some query cells, and not all, can do without
    q[:, :, :64] *= 3
    thresholds = (0.5, 1.5, math.inf, 0.0)
    full = _layout(q, k, share=0.9)
    layout = replace(full, skip_threshold=thresholds)
    wanted, _ = _second_gate(q, k, v, layout, Sage(mode))
    kept = _second_gate(q, k, v, full, Sage(mode))[0]
    moved = (wanted.lse - kept.lse).abs().amax((0, 2))
    assert moved[2] == 0
    assert bool((moved[[0, 3]] > 1e-3).all())


def test_the_gate_sees_a_lost_bit_that_the_first_gate_lets_pass(monkeypatch):
    q, k, v = _case(128, 128)
    layout = _layout(q, k, share=1.0)
    _second_gate(q, k, v, layout, Sage())
    right = quantized_attention(q, k, v, layout, precision=Sage())
    logits = quantized._logits
    monkeypatch.setattr(quantized, "_logits", lambda *args: logits(*args) * (1 + 2**-12))
    wrong = quantized_attention(q, k, v, layout, precision=Sage())
    assert_as_accurate(wrong, right, block_sparse_reference(q, k, v, layout)[0])
    with pytest.raises(AssertionError):
        _second_gate(q, k, v, layout, Sage())


def test_the_result_does_not_depend_on_steps_and_chunks(monkeypatch):
    q, k, v = _case(300, 333)
    for precision in (Sage("int4-fp8"), Sage(accumulate="single")):
        layout = replace(_layout(q, k, share=0.7), skip_threshold=(0.2, 1.0, 0.0, math.inf))
        whole = quantized_attention(q, k, v, layout, precision=precision, return_lse=True)
        for size in (2**17, 1):
            monkeypatch.setattr(quantized, "_GATHER_BYTES", size)
            monkeypatch.setattr(rows, "_INDEX_BYTES", 64 * size // 2**17)
            steps = quantized_attention(q, k, v, layout, precision=precision, return_lse=True)
            for x, y in zip(steps, whole, strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
        monkeypatch.undo()
