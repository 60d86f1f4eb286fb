"""Known mistakes of quantized attention, each with a test that a wrong version fails."""

import math

import pytest
import torch

from foveal.attention import BlockLayout, attend
from foveal.attention.block_sparse import quantized
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.precision import Sage
from foveal.attention.prepare import prepare
from foveal.errors import ArgumentError, ShapeError, UnsupportedError
from foveal.testing import relative_error

MODES = ["int8-fp8", "int8-fp16", "int4-fp8", "int4-fp16"]
BUDGET = {"int8-fp8": 0.06, "int8-fp16": 0.015, "int4-fp8": 0.25, "int4-fp16": 0.25}


def _noise(s, t=None, h=2, g=None, d=32, e=None, seed=0):
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(1, h, s, d, generator=random)
    k, v = (torch.randn(1, g or h, t or s, width, generator=random) for width in (d, e or d))
    return q, k, v


def _run(q, k, v, precision, *, causal=True, layout=None, **rest):
    layout = BlockLayout.dense(q, k, causal=causal) if layout is None else layout
    return quantized_attention(q, k, v, layout, precision=precision, return_lse=True, **rest)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("d", [32, 80, 128, 256])
def test_it_is_near_exact_attention(mode, d):
    q, k, v = _noise(150, 201, h=4, g=2, d=d, e=40)
    out, lse = _run(q, k, v, Sage(mode))
    exact, exact_lse = attend(q, k, v, return_lse=True)
    assert relative_error(out, exact) < BUDGET[mode]
    assert (lse - exact_lse).abs().max() < (0.05 if "int8" in mode else 0.6)


def test_the_sum_is_of_unrounded_weights():
    # Two keys with weights 1 and p, p rounded down by e4m3: sums of rounded weights would differ.
    q = torch.ones(1, 1, 1, 1)
    k = torch.tensor([0.0, math.log(1.06 / 16)]).view(1, 1, 2, 1)
    v = torch.tensor([0.0, 448.0]).view(1, 1, 2, 1)
    out, lse = _run(q, k, v, Sage(smooth_k=False), causal=False, scale=1.0)
    logits = k.flatten()  # quantized exactly: one scale, and the other key is 0
    mass = logits.exp().sum()
    rounded = torch.tensor(448 * 1.06 / 16).to(torch.float8_e4m3fn).float() / 448
    assert float(rounded) != pytest.approx(1.06 / 16, rel=1e-2)
    assert float(out) == pytest.approx(float(448 * rounded / mass), rel=1e-5)
    assert float(lse) == pytest.approx(float(mass.log()), abs=1e-5)


@pytest.mark.parametrize("mode", ["int8-fp8", "int8-fp16"])
@pytest.mark.parametrize("smooth_q", [False, True])
def test_lse_has_no_offset_and_gets_the_mean_key_back(mode, smooth_q):
    q, k, v = _noise(130, 150, h=4, g=2)
    k = k + torch.randn(1, 2, 1, 32, generator=torch.Generator().manual_seed(5)) * 6
    exact = attend(q, k, v, return_lse=True, scale=0.2)[1]
    for smooth_k in (True, False):
        precision = Sage(mode, smooth_k=smooth_k, smooth_q=smooth_q)
        lse = _run(q, k, v, precision, scale=0.2)[1]
        assert lse.dtype == torch.float32
        # Forgotten: offset 6.1, mean key several, its head or scale likewise.
        assert (lse - exact).abs().max() < 0.5
        assert (lse - exact).abs().mean() < 0.05


@pytest.mark.parametrize("mode", MODES[:2])
def test_two_halves_of_the_keys_merge_to_the_whole(mode):
    q, k, v = _noise(100, 256)
    k = k + torch.cat([torch.full((128, 32), 2.0), torch.full((128, 32), -1.0)])
    parts = [
        _run(q, k[:, :, some], v[:, :, some], Sage(mode), causal=False)
        for some in (slice(0, 128), slice(128, 256))
    ]
    weights = torch.stack([lse for _, lse in parts]).softmax(0)[..., None]
    merged = weights[0] * parts[0][0] + weights[1] * parts[1][0]
    total = torch.logaddexp(parts[0][1], parts[1][1])
    exact, exact_lse = attend(q, k, v, causal=False, return_lse=True)
    whole, whole_lse = _run(q, k, v, Sage(mode), causal=False)
    assert relative_error(merged, exact) < 1.2 * relative_error(whole, exact)
    assert relative_error(merged, exact) < BUDGET[mode]
    assert (total - whole_lse).abs().max() < 0.1
    assert (total - exact_lse).abs().max() < 0.1
    # The mean key matters here: without it the halves would be weighted wrongly.
    assert prepare(k[:, :, :128], v[:, :, :128], precision=Sage()).key_mean.mean() > 1.5


@pytest.mark.parametrize("mode", MODES)
def test_zero_queries_keys_and_constant_channels_are_right(mode):
    q, k, v = _noise(130)
    v[..., 3], v[..., 4] = 0.0, 2.5
    switches = {"smooth_v": True} if mode.endswith("fp8") else {}
    for x, y in ((q * 0, k), (q, k * 0), (q * 0, k * 0), (q, torch.ones_like(k))):
        out, lse = _run(x, y, v, Sage(mode, **switches))
        exact, exact_lse = attend(x, y, v, return_lse=True)
        assert relative_error(out, exact) < 0.05
        # Formats differ on how well they hold a mean of random values, not on the mass.
        torch.testing.assert_close(lse, exact_lse, rtol=0, atol=0.5)
        assert bool((out[..., 3] == 0).all())
        torch.testing.assert_close(
            out[..., 4], torch.full_like(out[..., 4], 2.5), rtol=0.07, atol=0
        )


def test_the_scale_is_of_the_given_width_and_is_applied_to_smoothed_queries_once():
    q, k, v = _noise(130, d=40)
    q = q + 3
    for scale in (None, 0.05, 0.4):
        for smooth_q in (False, True):
            out, lse = _run(q, k, v, Sage("int8-fp16", smooth_q=smooth_q), scale=scale)
            exact, exact_lse = attend(q, k, v, scale=scale, return_lse=True)
            assert relative_error(out, exact) < 0.06
            assert (lse - exact_lse).abs().max() < 0.3
            assert (lse - exact_lse).abs().mean() < 0.06


def test_smoothing_queries_only_helps_if_its_logits_return():
    q, k, v = _noise(256, h=1, d=64)
    q = q + torch.randn(64, generator=torch.Generator().manual_seed(3)) * 6
    exact = attend(q, k, v)
    plain = _run(q, k, v, Sage("int4-fp16", smooth_q=False))[0]
    smooth = _run(q, k, v, Sage("int4-fp16", smooth_q=True))[0]
    assert relative_error(smooth, exact) < 0.5 * relative_error(plain, exact)


def test_a_mean_key_costs_nothing_when_smoothed():
    q, k, v = _noise(256)
    shift = torch.randn(32, generator=torch.Generator().manual_seed(1)) * 20
    exact = attend(q, k, v)
    base = relative_error(_run(q, k, v, Sage())[0], exact)
    assert relative_error(_run(q, k + shift, v, Sage())[0], exact) < 1.3 * base
    assert relative_error(_run(q, k + shift, v, Sage(smooth_k=False))[0], exact) > 1.6 * base


def test_a_mean_value_costs_less_when_smoothed():
    q, k, v = _noise(256)
    shifted = v + 30
    exact = attend(q, k, shifted)
    errors = [
        (_run(q, k, shifted, Sage(smooth_v=smooth))[0] - exact).norm() for smooth in (False, True)
    ]
    assert errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("s", "t"), [(1, 1), (1, 65), (63, 64), (65, 127), (129, 100)])
def test_ragged_ends_equal_the_same_tokens_inside_a_longer_input(mode, s, t):
    """Padding, here loud garbage past the end, must change nothing."""
    q, k, v = _noise(s, t)
    precision = Sage(mode)
    out, lse = _run(q, k, v, precision)
    exact, exact_lse = attend(q, k, v, return_lse=True)
    seen = exact_lse.isfinite()
    assert torch.equal(lse.isfinite(), seen)
    assert bool((out.transpose(2, 3).masked_select(~seen[:, :, None]) == 0).all())
    assert relative_error(out, exact) < BUDGET[mode] + 0.1
    big_k, big_v = (torch.full((1, 2, t + 90, 32), 1e6) for _ in range(2))
    big_k[:, :, :t], big_v[:, :, :t] = k, v
    view = _run(q, big_k[:, :, :t], big_v[:, :, :t], precision)
    assert torch.equal(view[0], out)


def test_no_uninitialized_memory_is_read(monkeypatch):
    torch.use_deterministic_algorithms(True)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    try:
        q, k, v = _noise(100, 130)
        for mode in MODES:
            assert bool(_run(q, k, v, Sage(mode))[0].isfinite().all())
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("span", [None, 30])
def test_queries_that_see_no_key_are_zero(mode, span):
    q, k, v = _noise(200, 90)
    layout = BlockLayout.dense(q, k, causal=True, span=span)
    out, lse = _run(q, k, v, Sage(mode), layout=layout)
    assert bool((out[:, :, :110] == 0).all())
    assert bool(lse[:, :, :110].isneginf().all())
    assert bool(lse[:, :, 110:].isfinite().all())
    empty = BlockLayout(torch.zeros_like(layout.bits), 200, 90, True, span)
    out, lse = _run(q, k, v, Sage(mode), layout=empty)
    assert bool((out == 0).all())
    assert bool(lse.isneginf().all())


def test_causal_is_bottom_right_also_with_fewer_queries():
    q, k, v = _noise(70, 200)
    late = _run(q, k, v, Sage("int8-fp16"))[0]
    queries = torch.cat([torch.zeros(1, 2, 130, 32), q], 2)
    whole = attend(queries, k, v)[:, :, 130:]
    assert relative_error(late, whole) < 0.015
    # The last query sees the last key, the first one 131 keys.
    v2 = v.clone()
    v2[:, :, 131:] += 100
    moved = (_run(q, k, v2, Sage("int8-fp16"))[0] - late).abs().amax((1, 3))[0]
    assert moved[0] < 1e-2
    assert bool((moved[1:] > 1e-2).all())


def test_grouped_heads_equal_repeated_ones():
    q, k, v = _noise(130, 150, h=6, g=2)
    layout = BlockLayout.window(q, k, sink=1, window=40)
    for mode in MODES:
        found = _run(q, k, v, Sage(mode), layout=layout)
        again = _run(q, *(x.repeat_interleave(3, 1) for x in (k, v)), Sage(mode), layout=layout)
        for x, y in zip(found, again, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("which", ["k", "v"])
def test_damage_in_one_head_harms_no_other(mode, which, bad):
    q, k, v = _noise(100, h=4, g=2)
    clean = _run(q, k, v, Sage(mode))
    (k if which == "k" else v)[0, 1, 20, 3] = bad
    out, lse = _run(q, k, v, Sage(mode))
    assert torch.equal(out[:, :2], clean[0][:, :2])
    assert torch.equal(lse[:, :2], clean[1][:, :2])
    hurt = out[:, 2:, 20:] if which == "k" else out[:, 2:, 20:, 3]
    assert bool(hurt.isnan().all())


def test_unselected_damage_does_not_leak_without_smoothing():
    q, k, v = _noise(256)
    kept = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    kept[..., 1] = False
    layout = BlockLayout.from_bool(kept, num_queries=256, num_keys=256)
    clean = _run(q, k, v, Sage(smooth_k=False), layout=layout)[0]
    k[:, :, 64:128] = torch.nan
    assert torch.equal(_run(q, k, v, Sage(smooth_k=False), layout=layout)[0], clean)


def test_the_short_accumulator_is_right_step_by_step():
    random = torch.Generator().manual_seed(0)
    weights = torch.rand(1, 1, 1, 64, generator=random).mul(448).to(torch.float8_e4m3fn).float()
    v = torch.rand(1, 1, 64, 1, generator=random).mul(448).to(torch.float8_e4m3fn).float()
    zero = torch.zeros(1, 1, 1)
    state = quantized._State(top=zero - math.inf, mass=zero, out=zero)
    found = quantized._short_sum(state, weights, v, zero)
    total = 0
    for start in (0, 32):
        terms = [total, *(weights[0, 0, 0] * v[0, 0, :, 0])[start : start + 32].tolist()]
        unit = 2.0 ** (math.frexp(max(terms))[1] - 1 - 13)
        total = sum(math.trunc(x / unit) for x in terms) * unit
    assert float(found) == total
    exact = float((weights[0, 0, 0] * v[0, 0, :, 0]).double().sum())
    assert 0 < exact - total < exact * 33 * 2 * 2**-13


def test_a_short_accumulator_drifts_with_the_number_of_keys():
    random = torch.Generator().manual_seed(0)
    q = torch.randn(1, 1, 4, 16, generator=random)
    errors = {}
    for t in (1024, 4096):
        k = torch.randn(1, 1, t, 16, generator=random)
        v = torch.randn(1, 1, t, 4, generator=random) * 0.3 + 1
        exact = attend(q, k, v, causal=False)
        for accumulate in ("single", "two-level"):
            out = _run(q, k, v, Sage(accumulate=accumulate), causal=False)[0]
            errors[accumulate, t] = relative_error(out, exact)
    assert errors["two-level", 4096] < 0.01
    assert errors["single", 4096] > 0.04
    assert errors["single", 4096] > 2.5 * errors["single", 1024]


def test_dtypes_views_and_callers_tensors_survive():
    q, k, v = _noise(100, h=2)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        some = [x.to(dtype).transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
        before = [x.clone() for x in some]
        out, lse = _run(*some, Sage())
        assert out.dtype == dtype
        assert lse.dtype == torch.float32
        assert all(torch.equal(x, y) for x, y in zip(some, before, strict=True))
        assert torch.equal(out, _run(*(x.contiguous() for x in some), Sage())[0])


def test_prepared_codes_are_used_and_checked():
    q, k, v = _noise(100, 130)
    layout = BlockLayout.causal_like(q, k)
    prepared = prepare(k, v, precision=Sage())
    out = quantized_attention(q, k, v, layout, precision=Sage(), prepared=prepared)
    assert torch.equal(out, _run(q, k, v, Sage())[0])
    with pytest.raises(ArgumentError, match="prepared is for Sage"):
        quantized_attention(q, k, v, layout, precision=Sage("int4-fp8"), prepared=prepared)
    other = prepare(k[:, :, 1:], v[:, :, 1:], precision=Sage())
    with pytest.raises(ShapeError, match="129 tokens"):
        quantized_attention(q, k, v, layout, precision=Sage(), prepared=other)


def test_gradients_are_refused():
    q, k, v = _noise(64)
    layout = BlockLayout.causal_like(q, k)
    for i, name in enumerate("qkv"):
        some = [x.clone().requires_grad_(i == j) for j, x in enumerate((q, k, v))]
        with pytest.raises(UnsupportedError, match=f"{name} requires a gradient"):
            quantized_attention(*some, layout, precision=Sage())
        with torch.no_grad():
            quantized_attention(*some, layout, precision=Sage())


@pytest.mark.skipif(
    hasattr(quantized_attention, "__wrapped__"), reason="a type-checked run answers first"
)
def test_bad_arguments_are_named():
    q, k, v = _noise(64)
    layout = BlockLayout.causal_like(q, k)
    with pytest.raises(ShapeError, match="v has shape"):
        quantized_attention(q, k, v[:, :, 1:], layout, precision=Sage())
    with pytest.raises(ShapeError, match="layout is 1 x 2 heads over 64 x 64"):
        quantized_attention(q[:, :, 1:], k, v, layout, precision=Sage())
    with pytest.raises(ArgumentError, match="k is torch.float16"):
        quantized_attention(q, k.half(), v, layout, precision=Sage())
    wide = torch.zeros(1, 1, 64, 1040)
    with pytest.raises(UnsupportedError, match="width 1040"):
        some = BlockLayout.causal_like(wide, wide)
        quantized_attention(wide, wide, wide, some, precision=Sage())


def test_memory_does_not_grow_with_the_product_of_the_lengths(monkeypatch):
    sizes = []
    logits = quantized._logits

    def watch(*args):
        found = logits(*args)
        sizes.append(found.numel() * 4)
        return found

    monkeypatch.setattr(quantized, "_logits", watch)
    q, k, v = _noise(64, 8192, h=1, d=16)
    monkeypatch.setattr(quantized, "_GATHER_BYTES", 2**20)
    _run(q, k, v, Sage("int4-fp8"), causal=False)
    assert max(sizes) < 2**20
    assert sum(sizes) == 4 * 64 * 8192
