"""Strength, bounds, coupling and smoothing stay inside the family of concave curves."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal import lowlight
from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight.curve_family import HUMAN_LEAST_SLOPE, HUMAN_MOST_GAIN, blend

X = torch.linspace(0, 1, 256, dtype=torch.float64)


def _curves(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(1, 255, 3, generator=generator, dtype=torch.float64)
    return lowlight.integrate(u * (torch.rand(u.shape, generator=generator) > 0.95))


def assert_member(curve: torch.Tensor) -> None:
    near = 1e-9 if curve.dtype == torch.float64 else 1e-6
    slope = curve.diff()
    assert curve[..., 0].abs().max() < near
    assert (curve[..., -1] - 1).abs().max() < near
    assert slope.min() > -near
    assert slope.diff().max() < near
    assert (curve - X.to(curve.dtype)).min() > -1e-6


@given(
    st.integers(0, 500),
    st.floats(0, 1),
    st.sampled_from(["machine", "human"]),
    st.floats(0, 1),
    st.floats(1, 50),
)
@settings(max_examples=40, deadline=None)
def test_every_operation_stays_in_the_family(seed, strength, look, slope, gain) -> None:
    curve = _curves(seed)
    assert_member(lowlight.finish(curve, strength=strength, look=look))
    assert_member(lowlight.couple(curve))
    assert_member(torch.lerp(curve, _curves(seed + 1), strength))
    assert_member(lowlight.bound(curve, least_slope=slope, most_gain=gain))


@given(st.integers(0, 500), st.floats(0, 0.9), st.floats(1.5, 30))
@settings(max_examples=40, deadline=None)
def test_the_bound_is_the_brightest_curve_that_obeys(seed, slope, gain) -> None:
    curve = _curves(seed)
    bounded = lowlight.bound(curve, least_slope=slope, most_gain=gain)
    steps = bounded.diff() * 255
    assert steps.min() > slope - 1e-9
    assert steps.max() < gain + 1e-9
    # raise it anywhere below the curve, and a slope or the gain is broken
    room = (curve - bounded) > 1e-3
    line = torch.minimum(1 - slope * (1 - X), gain * X)
    assert (bounded - torch.minimum(curve, line)).abs().max() < 1e-12
    assert ((line - bounded).abs()[room.any(1)[0].expand(1, 3, -1)] < 1e-9).any() == room.any()


def test_the_human_look_keeps_highlights_apart_and_greys_grey() -> None:
    step = torch.zeros(1, 255, 3)
    step[:, :3] = 1  # everything above 1 % of the range is white
    curve = lowlight.finish(lowlight.integrate(step), look="human")
    table = lowlight.lookup_table(curve[0])
    assert (table == table[:1]).all()
    assert len(np.unique(table[0, 128:])) >= int(HUMAN_LEAST_SLOPE * 127)
    assert table[0, 252] < 255
    assert len(np.unique(lowlight.lookup_table(lowlight.integrate(step)[0])[0, 128:])) == 1
    assert (curve.diff() * 255).max() <= HUMAN_MOST_GAIN + 1e-4


def test_strength_is_between_and_checked() -> None:
    curve = _curves(1)
    assert torch.equal(blend(curve, 1.0), curve) or (blend(curve, 1.0) - curve).abs().max() < 1e-12
    assert (blend(curve, 0.0) - X).abs().max() < 1e-12
    weaker, stronger = (lowlight.finish(curve, strength=s) for s in (0.3, 0.8))
    assert (stronger - weaker).min() > -1e-12
    with pytest.raises(ArgumentError, match=r"strength is -0\.1"):
        lowlight.finish(curve, strength=-0.1)
    with pytest.raises(ArgumentError, match="look is 'nice'"):
        lowlight.finish(curve, look="nice")
    with pytest.raises(ArgumentError, match="least_slope is 2"):
        lowlight.bound(curve, least_slope=2)
    with pytest.raises(ArgumentError, match=r"most_gain is 0\.5"):
        lowlight.bound(curve, most_gain=0.5)
    with pytest.raises(ArgumentError, match="most_gain is nan"):
        lowlight.bound(curve, most_gain=float("nan"))


def _flicker(frames: list[torch.Tensor], **settings) -> tuple[float, lowlight.CurveStream]:
    stream = lowlight.CurveStream(lowlight.ConcaveCurve.load(), **settings)
    curves = [stream.update(frame) for frame in frames]
    for curve in curves:
        assert_member(curve)
    steps = [(b - a).abs().max().item() for a, b in itertools.pairwise(curves)]
    return sum(steps) / len(steps), stream


def test_smoothing_takes_the_flicker_out() -> None:
    generator = torch.Generator().manual_seed(0)
    scene = torch.rand(3, 24, 32, generator=generator) * 0.1
    lights = 0.6 + 0.8 * torch.rand(20, generator=generator)
    frames = [scene * light for light in lights]
    rough, _ = _flicker(frames, half_life=0)
    smooth, stream = _flicker(frames, half_life=12)
    assert smooth < 0.15 * rough
    assert stream.cuts == []


def test_half_of_an_old_curve_is_left_after_the_half_life() -> None:
    model = lowlight.ConcaveCurve.load()
    old, new = torch.full((3, 16, 16), 0.02), torch.full((3, 16, 16), 0.3)
    stream = lowlight.CurveStream(model, half_life=4, cut=1.0)
    first = stream.update(old)
    for _ in range(4):
        last = stream.update(new)
    target = model.predict(new[None])
    assert (last - (first + target) / 2).abs().max() < 1e-5


def test_a_cut_starts_anew_and_noise_does_not() -> None:
    model = lowlight.ConcaveCurve.load()
    generator = torch.Generator().manual_seed(0)
    left = torch.zeros(3, 32, 32)
    left[:, :, :16] = 0.06
    right = left.flip(2)
    frames = [left] * 5 + [right] * 5
    frames = [(f + 0.01 * torch.randn(f.shape, generator=generator)).clamp(0, 1) for f in frames]
    stream = lowlight.CurveStream(model)
    curves = [stream.update(frame) for frame in frames]
    assert stream.cuts == [5]
    assert (curves[5] - model.predict(frames[5][None])).abs().max() < 1e-6


@pytest.mark.parametrize(("light", "cuts"), [(1 / 3, []), (3.0, []), (15.0, [1])])
def test_a_lamp_is_no_cut_unless_it_is_a_great_one(light, cuts) -> None:
    scene = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(1)) * 0.06
    _, stream = _flicker([scene, scene * light])
    assert stream.cuts == cuts


def test_a_stream_names_its_arguments() -> None:
    model = lowlight.ConcaveCurve()
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ArgumentError, match="half_life is"):
            lowlight.CurveStream(model, half_life=bad)
    with pytest.raises(ArgumentError, match="cut is 0"):
        lowlight.CurveStream(model, cut=0)
    with pytest.raises(ArgumentError, match="NaN"):
        lowlight.CurveStream(model).update(torch.full((3, 4, 4), float("nan")))
    with pytest.raises(ShapeError, match=r"\(3, 0, 4\)"):
        lowlight.CurveStream(model).update(torch.zeros(3, 0, 4))
