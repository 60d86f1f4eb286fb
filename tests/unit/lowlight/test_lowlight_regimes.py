import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from foveal.data import samples
from foveal.data.sensor_noise import TRIPLES, NoiseLine, Shot, linear_to_srgb, shoot
from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight import read_image, regimes
from foveal.lowlight.regimes import (
    LIGHT_THRESHOLD,
    SNR_THRESHOLD,
    auto,
    estimate_noise,
    judge,
    linear_luminance,
    sort_regime,
)


def _scene(height: int = 320, width: int = 384, seed: int = 0) -> torch.Tensor:
    """Soft blobs of light with some edges: sRGB in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 9, 9, generator=generator)
    soft = interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0]
    soft[:, height // 3 :, : width // 4] *= 0.3
    return soft.clamp(0.02, 0.98)


def _shot(triple: tuple[float, float, float], seed: int = 1, **changes: object) -> torch.Tensor:
    shot = dataclasses.replace(Shot.of_triple(triple, seed=seed), **changes)
    return shoot(_scene()[None], [shot])[0]


@pytest.mark.parametrize("lag", [1, 2])
def test_shares_are_those_of_gaussian_noise(lag: int) -> None:
    x = 0.5 + 0.01 * torch.randn(3, 700, 700, dtype=torch.float64)
    _, variance, _ = regimes._blocks(x, lag)
    share = variance.flatten().quantile(regimes._QUANTILE).item() / 1e-4
    assert share == pytest.approx(regimes._SHARE[lag], rel=0.02)
    assert variance.mean().item() == pytest.approx(1e-4, rel=0.02)


def test_planes_have_no_noise() -> None:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(80.0), indexing="ij")
    plane = (0.3 + 0.001 * x + 0.002 * y).expand(3, -1, -1)
    assert regimes._blocks(plane.double(), 1)[1].max() < 1e-14  # that of fp32 numbers


@pytest.mark.parametrize("triple", TRIPLES)
def test_triples_are_found(triple: tuple[float, float, float]) -> None:
    _, shot, read = triple
    estimate = estimate_noise(_shot(triple))
    assert estimate.problem == ""
    assert not estimate.correlated
    assert estimate.noise is not None
    for found in estimate.noise.shot:
        assert found == pytest.approx(shot, rel=0.3)
    at_mean = shot * estimate.light + read
    found = sum(estimate.noise.shot) / 3 * estimate.light + sum(estimate.noise.read) / 3
    assert found == pytest.approx(at_mean, rel=0.25)
    assert estimate.snr == pytest.approx(estimate.light / math.sqrt(at_mean), rel=0.15)


def test_channels_have_their_own_noise() -> None:
    noise = NoiseLine((4e-4, 1e-4, 2e-4), (4e-7, 1e-7, 2e-7))
    found = estimate_noise(_shot(TRIPLES[0], noise=noise)).noise
    assert found is not None
    assert found.shot[0] / found.shot[1] == pytest.approx(4, rel=0.25)
    assert found.shot[2] / found.shot[1] == pytest.approx(2, rel=0.25)


def test_a_mosaic_makes_noise_alike_and_halves_it() -> None:
    estimate = estimate_noise(_shot(TRIPLES[0], mosaic=True))
    assert estimate.correlated
    assert estimate.noise is not None
    assert estimate.noise.shot[1] / 1e-3 == pytest.approx(0.55, abs=0.15)


def test_values_cut_at_black_are_mended() -> None:
    for level in (0.0, 0.5, 1.0, 3.0, 20.0):
        x = (level + torch.randn(4_000_000, dtype=torch.float64)).clamp_min(0) * 0.01
        mean, variance, _ = regimes._mend(x.mean()[None], x.var()[None])
        assert variance.item() == pytest.approx(1e-4, rel=0.02)
        assert mean.item() == pytest.approx(level * 0.01, abs=2e-4)


def test_rounding_is_taken_off_only_where_it_was_done() -> None:
    deep = torch.rand(3, 256, 256).double() * 3e-4 + 0.0025  # linear: one step of 8 bit is 3e-4
    deep = linear_to_srgb(deep)
    exact, rounded = estimate_noise(deep), estimate_noise((deep * 255).round() / 255)
    assert exact.noise is not None
    assert exact.noise.read[1] + exact.noise.shot[1] * 0.0026 == pytest.approx(
        (3e-4) ** 2 / 12, rel=0.1
    )
    assert "few levels" not in rounded.problem
    assert rounded.noise is None


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (torch.zeros(3, 64, 64), "black crush: 1 of 256"),
        (torch.randint(0, 5, (3, 64, 64)) / 255, "black crush: 5 of 256"),
        ((torch.rand(3, 64, 64) - 0.7).clamp(0, 1), "black crush: "),
        ((torch.linspace(252, 255, 3 * 4096).round() / 255).reshape(3, 64, 64), "few levels: "),
        (torch.rand(3, 15, 20), "too few blocks"),
        (torch.rand(3, 1, 1) * 0.5 + 0.5, "too few blocks"),
        (0.9 + 0.1 * torch.rand(3, 64, 64), "too few blocks"),
        ((torch.linspace(0.2, 0.8, 3 * 65536).reshape(3, 256, 256) * 255).round() / 255, "hides"),
    ],
    ids=["black", "five", "mostly-black", "white", "small", "pixel", "bright", "smooth"],
)
def test_no_estimate_says_why(image: torch.Tensor, problem: str) -> None:
    estimate = estimate_noise(image)
    assert estimate.noise is None
    assert problem in estimate.problem
    assert math.isnan(estimate.snr)
    assert problem in str(judge(image))


def test_darkness_beyond_8_bits_is_named() -> None:
    """Light of a few steps, cleaner than a step: what is left is a posterised picture."""
    estimate = estimate_noise(_shot((0.001, 1e-6, 1e-10)))
    assert estimate.noise is None
    assert "of 256 levels" in estimate.problem


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10))
def test_any_size_gives_an_answer(height: int, width: int, seed: int) -> None:
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    estimate = estimate_noise(image)
    assert (estimate.noise is None) == bool(estimate.problem)
    assert judge(image).regime in ("well-lit", "light-limited", "noise-limited")


def test_luminance_by_hand() -> None:
    image = linear_to_srgb(torch.tensor([0.1, 0.2, 0.4]))[:, None, None]
    assert linear_luminance(image).item() == pytest.approx(0.02126 + 0.14304 + 0.02888, rel=1e-4)


def test_regimes_of_the_fixed_darkness_levels() -> None:
    scene = _scene()
    day = judge((scene * 255).round() / 255)
    assert day.regime == "well-lit"
    found = [judge(_shot(t)).regime for t in TRIPLES]
    assert found[1] == found[2] == "light-limited"
    assert found[4] == "noise-limited"
    verdict = judge(_shot(TRIPLES[4]))
    assert verdict.estimate.snr < verdict.snr_threshold == SNR_THRESHOLD
    text = str(verdict)
    assert text.startswith("noise-limited: light 0.0")
    assert f"({LIGHT_THRESHOLD:.4f})" in text
    assert "shot " in text


def test_order_of_the_regimes() -> None:
    def sort(light: float, snr: float) -> str:
        return sort_regime(light, snr, light_threshold=0.02, snr_threshold=2)

    assert sort(0.5, 1.9) == "noise-limited"
    assert sort(0.02, 2.0) == "well-lit"
    assert sort(0.0199, 2.0) == "light-limited"
    assert sort(0.5, math.nan) == "well-lit"
    assert sort(0.01, math.nan) == "light-limited"


def test_auto_leaves_bright_pictures_untouched() -> None:
    calls: list[str] = []

    def enhance(x: torch.Tensor) -> torch.Tensor:
        calls.append("enhance")
        return x + 1

    def clean(x: torch.Tensor) -> torch.Tensor:
        calls.append("denoise")
        return x + 10

    bright = (_scene() * 255).round() / 255
    gated = auto(bright, enhance, denoise=clean)
    assert gated.image is bright
    assert calls == []
    dim, noisy = _shot(TRIPLES[1]), _shot(TRIPLES[4])
    assert torch.equal(auto(dim, enhance, denoise=clean).image, dim + 1)
    assert torch.equal(auto(noisy, enhance, denoise=clean).image, (noisy + 10) + 1)
    assert calls == ["enhance", "denoise", "enhance"]
    everywhere = {"denoise": clean, "denoise_when": "dark"}
    assert torch.equal(auto(dim, enhance, **everywhere).image, (dim + 10) + 1)
    assert auto(bright, enhance, **everywhere).image is bright
    flat = torch.full_like(dim, 2 / 255)  # dark, and no noise can be told
    assert torch.equal(auto(flat, enhance, **everywhere).image, flat + 1)
    without = auto(noisy, enhance)
    assert torch.equal(without.image, noisy + 1)
    assert without.verdict.regime == "noise-limited"


@pytest.mark.parametrize("call", [estimate_noise, judge])
def test_values_outside_are_refused(call) -> None:
    for bad in (math.nan, -0.1, 1.1, math.inf):
        with pytest.raises(ArgumentError, match=f"{call.__name__}: image has values"):
            call(torch.full((3, 32, 32), bad))
    with pytest.raises(ArgumentError, match="light_threshold is 0"):
        judge(torch.rand(3, 32, 32), light_threshold=0)
    with pytest.raises(ArgumentError, match="snr_threshold is nan"):
        judge(torch.rand(3, 32, 32), snr_threshold=math.nan)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 32, 32), (4, 32, 32), (3, 0, 5), (32, 32)])
def test_regimes_wrong_shapes_and_types(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="estimate_noise: image has shape"):
        estimate_noise(torch.rand(shape))
    with pytest.raises(ArgumentError, match=r"image is torch.uint8"):
        estimate_noise(torch.zeros(3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ArgumentError, match="denoise_when is 'always', must be one of"):
        auto(torch.rand(3, 32, 32), lambda x: x, denoise_when="always")


@pytest.mark.assets
def test_photographs_of_the_packaged_samples() -> None:
    """Ten photographs that nothing was chosen on."""
    photos = [read_image(samples.path(f"photo-{i:02d}")) for i in range(10)]
    day = [judge(x).regime for x in photos]
    assert day.count("well-lit") >= 9
    wanted = {1: "light-limited", 4: "noise-limited"}
    for index, regime in wanted.items():
        factor, shot, read = TRIPLES[index]
        found, ratios = [], []
        for seed, photo in enumerate(photos):
            dark = shoot(photo[None], [Shot.of_triple(TRIPLES[index], seed=seed)])[0]
            verdict = judge(dark)
            found.append(verdict.regime)
            noise = verdict.estimate.noise
            assert noise is not None
            light = linear_luminance(photo).mean().item() * factor
            ratios.append((noise.shot[1] * light + noise.read[1]) / (shot * light + read))
        assert found.count(regime) >= 9
        assert 0.9 < sorted(ratios)[5] < 1.3
        assert min(ratios) > 0.8
        assert sorted(ratios)[7] < 1.6  # one has fine texture everywhere: taken for noise
