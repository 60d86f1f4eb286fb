import pytest
import torch

from foveal.data.sensor_noise import (
    CAMERAS,
    WHITE_LEVEL,
    Exposure,
    darken,
    linear_to_srgb,
    sample_exposure,
    srgb_to_linear,
)
from foveal.data.sensor_noise import exposure as exposure_module
from foveal.errors import ArgumentError, ShapeError


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_transfer_functions_are_inverse_and_known() -> None:
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)
    assert (linear_to_srgb(srgb_to_linear(x)) - x).abs().max() < 1e-7
    assert srgb_to_linear(torch.tensor(0.5, dtype=torch.float64)).item() == pytest.approx(
        0.21404114
    )


def test_without_noise_only_light_is_lost() -> None:
    image = torch.full((1, 3, 16, 16), 0.8)
    clean = Exposure(factor=0.25, gain=1e-4, read_sigma=0, row_sigma=0)
    out = darken(image, clean, _generator())
    wanted = linear_to_srgb(srgb_to_linear(image) * 0.25)
    assert (out - wanted).abs().max() < 2 / 255


def test_noise_variance_is_shot_plus_read_plus_row(monkeypatch) -> None:
    gain, read, row, level = 2.0, 5.0, 3.0, 0.5
    image = linear_to_srgb(torch.full((1, 3, 512, 512), level))
    exposure = Exposure(0.2, gain, read, row, red_gain=1.0, blue_gain=1.0)
    raw, original = [], exposure_module.demosaic
    monkeypatch.setattr(
        exposure_module, "demosaic", lambda x: (raw.append(x * WHITE_LEVEL), original(x))[1]
    )
    darken(image, exposure, _generator())
    numbers = level * 0.2 * WHITE_LEVEL
    assert raw[0].mean().item() == pytest.approx(numbers, rel=0.01)
    wanted = gain * numbers + read**2 + row**2 + 1 / 12
    assert raw[0].var().item() == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize(("read", "row"), [(40.0, 0.0), (0.0, 40.0), (30.0, 50.0)])
def test_read_and_row_noise_alone(read: float, row: float, monkeypatch) -> None:
    """Without shot noise in the way: its variance is a hundred times theirs at usual settings."""
    raw, original = [], exposure_module.demosaic
    monkeypatch.setattr(
        exposure_module, "demosaic", lambda x: (raw.append(x * WHITE_LEVEL), original(x))[1]
    )
    image = linear_to_srgb(torch.full((1, 3, 1024, 256), 0.5))
    exposure = Exposure(0.2, 1e-4, read, row, red_gain=1.0, blue_gain=1.0)
    darken(image, exposure, _generator())
    means = raw[0].mean(-1)
    assert raw[0].var().item() == pytest.approx(read**2 + row**2, rel=0.1)
    assert means.var().item() == pytest.approx(row**2 + read**2 / 256, rel=0.15)


def test_darken_is_repeatable_and_takes_odd_sizes() -> None:
    image = torch.rand(2, 3, 7, 9)
    exposure = sample_exposure(_generator(3))
    a, b = (darken(image, exposure, _generator(1)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.shape == image.shape
    assert not torch.equal(a, darken(image, exposure, _generator(2)))
    assert torch.equal(a, (a * 255).round() / 255)


def test_exposures_stay_in_their_range() -> None:
    generator = _generator()
    draws = [sample_exposure(generator, factor=(0.01, 0.1), max_gain=4) for _ in range(200)]
    assert all(0.01 <= d.factor <= 0.1 and d.gain <= 4.0001 for d in draws)
    assert len({round(d.gain, 6) for d in draws}) > 150
    with pytest.raises(ArgumentError, match="camera is 'x'"):
        sample_exposure(generator, camera="x")
    with pytest.raises(ArgumentError, match="factor"):
        sample_exposure(generator, factor=(0.5, 0.1))
    assert len(CAMERAS) == 5


def test_bad_arguments() -> None:
    exposure = Exposure(0.1, 1, 1, 1)
    with pytest.raises(ShapeError, match="darken: image has shape"):
        darken(torch.rand(3, 8, 8), exposure, _generator())
    for image in (torch.full((1, 3, 8, 8), torch.nan), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ArgumentError, match="darken: image is"):
            darken(image, exposure, _generator())
    with pytest.raises(ArgumentError, match="factor is 0"):
        Exposure(0, 1, 1, 1)
    with pytest.raises(ArgumentError, match="gain"):
        Exposure(0.1, -1, 1, 1)
