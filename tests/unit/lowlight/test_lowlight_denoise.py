import importlib
import math

import pytest
import torch
from scipy import stats
from torch.nn.functional import interpolate

from foveal.data.sensor_noise import (
    TRIPLES,
    NoiseLine,
    Shot,
    linear_to_srgb,
    shoot,
    srgb_to_linear,
)
from foveal.errors import ArgumentError, ShapeError, UnsupportedError
from foveal.lowlight.denoise import (
    anscombe,
    denoise,
    inverse_anscombe,
    inverse_k_sigma,
    k_sigma,
    shrink,
    undo_cut,
)

LINES = [(1.0, 0.0), (1.0, 0.25), (1e-3, 1e-6), (1e-4, 1e-7), (4e-3, 2e-5), (1e-6, 1e-8)]


def _scene(height: int = 96, width: int = 120) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 7, 7, generator=generator)
    soft = interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0]
    soft[:, height // 3 :, : width // 4] *= 0.3
    return soft.clamp(0.02, 0.98)


def _truth(light: float, sigma: float, cut: bool) -> float:
    """Mean of the transform at unit gain, by SciPy's distributions."""
    counts = torch.arange(0, int(light + 12 * math.sqrt(light) + 30), dtype=torch.float64)
    weights = torch.from_numpy(stats.poisson.pmf(counts.numpy(), light))
    if sigma > 0:
        p = (torch.arange(4001, dtype=torch.float64) + 0.5) / 4001
        normal = torch.from_numpy(stats.norm.ppf(p.numpy()))
    else:
        normal = torch.zeros(1, dtype=torch.float64)
    values = counts[:, None] + sigma * normal
    values = values.clamp_min(0) if cut else values
    z = 2 * (values + 0.375 + sigma**2).clamp_min(0).sqrt()
    return float((weights * z.mean(1)).sum())


@pytest.mark.parametrize("light", [5.0, 20.0, 200.0])
@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_anscombe_stabilises(light: float, sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    gain = 1e-3
    counts = torch.poisson(torch.full((400_000,), light, dtype=torch.float64), generator=generator)
    x = gain * (counts + sigma * torch.randn(400_000, generator=generator, dtype=torch.float64))
    z = anscombe(x, gain, (gain * sigma) ** 2)
    assert z.std().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("sigma", [0.0, 0.7, 3.0, 5.9, 6.1, 40.0])
@pytest.mark.parametrize("light", [0.05, 0.5, 2.0, 10.0, 80.0, 400.0])
def test_exact_inverse_is_unbiased(light: float, sigma: float, cut: bool) -> None:
    gain = 1e-3
    z = torch.tensor([_truth(light, sigma, cut)])
    method = "cut" if cut else "exact"
    back = inverse_anscombe(z, gain, (gain * sigma) ** 2, method=method).item() / gain
    # on the far side of the table the published closed form takes over: cut or not is the same
    assert back == pytest.approx(light, abs=0.03 + 0.01 * math.sqrt(light + sigma**2))


def test_the_plain_inverse_is_biased_and_the_closed_form_is_close() -> None:
    for light in (0.5, 1.0, 3.0, 10.0, 50.0):
        z = torch.tensor([_truth(light, 0.0, False)])
        assert abs(inverse_anscombe(z, 1, 0, method="closed-form").item() - light) < 0.05
        if light >= 3:
            plain = inverse_anscombe(z, 1, 0, method="algebraic").item() - light
            assert plain == pytest.approx(-0.25, abs=0.08)


@pytest.mark.parametrize(("shot", "read"), LINES)
def test_transforms_are_invertible(shot: float, read: float) -> None:
    x = torch.linspace(0.0, 1, 500, dtype=torch.float64) * max(1.0, shot)
    z = anscombe(x, shot, read)
    assert torch.allclose(inverse_anscombe(z, shot, read, method="algebraic"), x, atol=1e-9)
    assert torch.allclose(inverse_k_sigma(k_sigma(x, shot, read), shot, read), x, atol=1e-9)
    for method in ("exact", "cut", "closed-form"):
        back = inverse_anscombe(z, shot, read, method=method)
        assert (back.diff() >= -1e-12).all()
        assert (back >= 0).all()


def test_k_sigma_makes_variance_the_mean_and_changes_gain() -> None:
    generator = torch.Generator().manual_seed(0)
    for shot, read in ((1e-3, 1e-6), (4e-3, 2e-5)):
        x = torch.full((400_000,), 0.05, dtype=torch.float64)
        noisy = shot * torch.poisson(x / shot, generator=generator)
        noisy += math.sqrt(read) * torch.randn(400_000, generator=generator, dtype=torch.float64)
        y = k_sigma(noisy, shot, read)
        assert y.var().item() == pytest.approx(y.mean().item(), rel=0.02)
    anchor = (2e-3, 5e-6)
    moved = inverse_k_sigma(y, *anchor)
    assert moved.var().item() == pytest.approx(
        anchor[0] * moved.mean().item() + anchor[1], rel=0.02
    )


@pytest.mark.parametrize("light", [0.0, 1e-3, 4e-3, 0.05])
def test_the_lift_of_blacks_is_undone(light: float) -> None:
    shot, read = 1e-3, 1e-5
    noisy = light + math.sqrt(shot * light + read) * torch.randn(2_000_000, dtype=torch.float64)
    mean = noisy.clamp_min(0).mean()[None]
    assert undo_cut(mean, shot, read).item() == pytest.approx(light, abs=5e-5)
    assert torch.equal(undo_cut(mean, shot, 0.0), mean)


def test_shrink_removes_noise_and_keeps_edges() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.zeros(3, 120, 130)
    clean[:, :, 65:] = 20
    noisy = clean + torch.randn(clean.shape, generator=generator)
    out = shrink(noisy, torch.ones_like(noisy))
    assert (out - clean).std() < 0.25
    assert (out[:, :, 64].mean() - 0).abs() < 0.5
    assert torch.equal(out, shrink(noisy, torch.ones_like(noisy)))
    flat = torch.full((3, 40, 41), 7.0)
    assert torch.allclose(shrink(flat, torch.ones_like(flat)), flat, atol=1e-4)
    silent = shrink(noisy, torch.zeros_like(noisy))
    assert torch.allclose(silent, noisy, atol=1e-3)


def test_noise_that_varies_is_followed() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(3, 64, 128, generator=generator)  # detail that only low noise leaves alone
    variance = torch.full_like(clean, 1e-4)
    variance[:, :, 64:] = 100
    out = shrink(clean, variance)
    assert (out - clean)[:, :, :56].abs().max() < 0.1
    assert out[:, :, 72:].std() < 0.4


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (8, 8), (9, 300), (500, 11)])
def test_any_size_and_bands_do_not_show(size: tuple[int, int], monkeypatch) -> None:
    x = torch.randn(3, *size)
    out = shrink(x, torch.ones_like(x))
    assert out.shape == x.shape
    assert torch.isfinite(out).all()
    module = importlib.import_module("foveal.lowlight.denoise")
    monkeypatch.setattr(module, "_BAND", 3000)
    assert torch.allclose(shrink(x, torch.ones_like(x)), out, atol=1e-5)


@pytest.mark.parametrize("transform", ["anscombe", "k-sigma"])
@pytest.mark.parametrize("triple", TRIPLES)
def test_denoised_pictures_are_closer_to_the_light(
    triple: tuple[float, float, float], transform: str
) -> None:
    scene = _scene()
    clean = srgb_to_linear(scene) * triple[0]
    dark = shoot(scene[None], [Shot.of_triple(triple, seed=0)])[0]
    out = denoise(dark, NoiseLine.same(*triple[1:]), transform=transform)
    before, after = ((srgb_to_linear(x) - clean).square().mean() for x in (dark, out))
    assert after < before / 8
    # blacks are not lifted: the mean of the darkest tenth is right
    low = clean < clean.quantile(0.1)
    bias = (srgb_to_linear(out) - clean)[low].mean().item()
    assert abs(bias) < 0.15 * math.sqrt(triple[2]) + 0.05 * clean[low].mean().item()


def test_estimated_noise_serves_as_well() -> None:
    scene = _scene(192, 200)
    triple = TRIPLES[3]
    clean = srgb_to_linear(scene) * triple[0]
    dark = shoot(scene[None], [Shot.of_triple(triple, seed=0)])[0]
    told, found = denoise(dark, NoiseLine.same(*triple[1:])), denoise(dark)
    told_error, found_error = (
        (srgb_to_linear(x) - clean).square().mean().item() for x in (told, found)
    )
    assert found_error < 1.3 * told_error


def test_strength_and_noiseless_pictures() -> None:
    dark = linear_to_srgb(torch.rand(3, 24, 24) * 0.01)
    line = NoiseLine.same(1e-4, 1e-7)
    assert denoise(dark, line, strength=0) is dark
    assert denoise(dark, NoiseLine.same(0, 0)) is dark
    weak, strong = (denoise(dark, line, strength=s) for s in (0.3, 1.5))
    assert strong.std() < weak.std() < dark.std()
    read_only = denoise(dark, NoiseLine.same(0, 1e-5))
    assert read_only.std() < dark.std()
    assert denoise(dark.double(), line).dtype == torch.float64


def test_channels_of_unlike_noise() -> None:
    noise = NoiseLine((4e-3, 1e-3, 2e-3), (1e-5, 1e-6, 4e-6))
    scene = _scene()
    shot = Shot(factor=0.05, noise=noise, seed=0)
    clean = srgb_to_linear(scene) * 0.05
    dark = shoot(scene[None], [shot])[0]
    out = denoise(dark, noise)
    for c in range(3):
        before, after = ((srgb_to_linear(x) - clean)[c].square().mean() for x in (dark, out))
        assert after < before / 5


def test_bad_arguments_of_denoise() -> None:
    image, line = torch.rand(3, 24, 24), NoiseLine.same(1e-4, 1e-7)
    for bad in (math.nan, -0.1, 1.1):
        with pytest.raises(ArgumentError, match="denoise: image is"):
            denoise(torch.full((3, 24, 24), bad), line)
    with pytest.raises(ArgumentError, match="strength is 4"):
        denoise(image, line, strength=4)
    with pytest.raises(ArgumentError, match="a channel without any"):
        denoise(image, NoiseLine((0.0, 1e-4, 1e-4), (0.0, 1e-7, 1e-7)))
    with pytest.raises(UnsupportedError, match=r"cannot be estimated \(black crush"):
        denoise(torch.zeros(3, 24, 24))
    for shot, read in ((0.0, 1.0), (-1.0, 0.0), (1.0, -1.0), (math.nan, 0.0), (1.0, math.inf)):
        for call in (anscombe, inverse_anscombe, k_sigma, inverse_k_sigma):
            with pytest.raises(ArgumentError, match=f"{call.__name__}: "):
                call(torch.rand(3), shot, read)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 32, 32), (4, 32, 32), (3, 0, 5), (32, 32)])
def test_denoise_wrong_shapes_and_types(shape: tuple[int, ...]) -> None:
    line = NoiseLine.same(1e-4, 1e-7)
    with pytest.raises(ShapeError, match="denoise: image has shape"):
        denoise(torch.rand(shape), line)
    with pytest.raises(ArgumentError, match=r"image is torch.uint8"):
        denoise(torch.zeros(3, 32, 32, dtype=torch.uint8), line)
    with pytest.raises(ArgumentError, match="transform is 'log'"):
        denoise(torch.rand(3, 32, 32), line, transform="log")
    with pytest.raises(ArgumentError, match="method is 'plain'"):
        inverse_anscombe(torch.rand(3), 1.0, 0.0, method="plain")
