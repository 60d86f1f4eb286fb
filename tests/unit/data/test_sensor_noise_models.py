"""Formulas against their sources, and mistakes of public code that ours must not have."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.data.sensor_noise import (
    TONES,
    WHITE_LEVEL,
    NoiseLine,
    brooks_noise,
    camera_matrix,
    eld_noise,
    linear_to_tone,
    pmrid_noise,
    tone_to_linear,
    tukey_lambda,
    tukey_variance,
    undo_gains,
)
from foveal.data.sensor_noise.color import multiply_matrix
from foveal.errors import ArgumentError


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("tone", TONES)
def test_tones_are_inverse(tone: str) -> None:
    x = torch.linspace(0.001, 1, 999, dtype=torch.float64)
    assert (linear_to_tone(tone_to_linear(x, tone), tone) - x).abs().max() < 1e-6


def test_tones_by_hand() -> None:
    half = torch.tensor(0.5, dtype=torch.float64)
    assert tone_to_linear(half, "gamma").item() == pytest.approx(0.5**2.2)
    assert tone_to_linear(half, "filmic").item() == pytest.approx(0.5**2.2)  # smoothstep(.5) = .5
    y = torch.tensor(0.3, dtype=torch.float64)
    assert tone_to_linear(3 * y**2 - 2 * y**3, "filmic").item() == pytest.approx(0.3**2.2)
    with pytest.raises(ArgumentError, match="tone is 'log'"):
        tone_to_linear(half, "log")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda w: sum(w) > 0.01))
def test_rows_of_the_camera_matrix_sum_to_one_and_white_stays_white(weights: list[float]) -> None:
    """Public code divides by the row sums without keepdims, which scales the columns."""
    matrix = camera_matrix(torch.tensor(weights))
    assert torch.allclose(matrix.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-12)
    white = torch.full((1, 3, 1, 1), 0.6, dtype=torch.float64)
    assert torch.allclose(multiply_matrix(white, matrix[None]), white)
    red = torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64)[None, :, None, None]
    assert torch.allclose(multiply_matrix(red, matrix[None])[0, :, 0, 0], 0.5 * matrix[:, 0])


def test_camera_matrix_of_one_camera_by_hand() -> None:
    xyz = torch.tensor(
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]]
    ).double()
    rgb = torch.tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
         [0.0193339, 0.1191920, 0.9503041]]
    ).double()  # fmt: skip
    wanted = torch.stack([row / row.sum() for row in xyz @ rgb])
    assert torch.allclose(camera_matrix(torch.tensor([1.0, 0, 0, 0])), wanted, atol=1e-6)
    for bad in ([0.0] * 4, [-1.0, 1, 1, 1], [math.nan] * 4):
        with pytest.raises(ArgumentError, match="camera_matrix: weights"):
            camera_matrix(torch.tensor(bad))


def test_gains_are_undone_and_highlights_stay_white() -> None:
    gains = torch.tensor([[2.0, 1.0, 1.6]])
    grey = torch.full((1, 3, 1, 1), 0.4)
    assert torch.allclose(undo_gains(grey, gains)[0, :, 0, 0], torch.tensor([0.2, 0.4, 0.25]))
    white = torch.ones(1, 3, 1, 1)
    assert torch.allclose(undo_gains(white, gains), white)
    between = undo_gains(torch.full((1, 3, 1, 1), 0.95), gains)[0, 0, 0, 0]
    assert between.item() == pytest.approx(0.95 * (0.25 + 0.75 * 0.5))
    darker = undo_gains(white, torch.tensor([[0.5, 0.5, 0.5]]))
    assert torch.allclose(darker, 2 * white)  # a factor above 1 is never softened


def test_brooks_line_is_in_natural_logarithms() -> None:
    """Public code also has it in decimal ones: read noise about five times as large."""
    generator = _generator()
    draws = [brooks_noise(generator) for _ in range(4000)]
    shot = torch.tensor([d.shot[0] for d in draws]).double().log()
    rest = torch.tensor([d.read[0] for d in draws]).double().log() - (2.18 * shot + 1.20)
    assert rest.mean().abs() < 0.02
    assert rest.std().item() == pytest.approx(0.26, abs=0.01)
    assert math.log(1e-4) <= shot.min() < math.log(1.2e-4)
    assert math.log(1.1e-2) < shot.max() <= math.log(1.2e-2)


def test_pmrid_by_hand() -> None:
    noise = pmrid_noise(1600)
    gain = 5.995267e-4 * 1600 + 8.68861e-3
    assert noise.shot[1] * 959 == pytest.approx(gain)
    variance = 7.11772e-7 * 1600**2 + 6.514934e-4 * 1600 + 0.11492713
    assert noise.read[2] * 959**2 == pytest.approx(variance)
    with pytest.raises(ArgumentError, match="iso is nan"):
        pmrid_noise(math.nan)


def test_sony_in_brooks_units() -> None:
    """At K = 1: 6.4e-5 and about 4.7e-8, by ELD's own Gaussian line."""
    generator = _generator()
    draws = [
        eld_noise(generator, camera="SonyA7S2", max_gain=6.01, tukey=False) for _ in range(4000)
    ]
    near = [d for d in draws if 0.9 < d.gain < 1.1]
    read = math.exp(sum(math.log(d.read_sigma) for d in near) / len(near)) ** 2 / WHITE_LEVEL**2
    assert near[0].gain / WHITE_LEVEL == pytest.approx(6.4e-5, rel=0.1)
    assert read == pytest.approx(4.7e-8, rel=0.1)
    assert all(0.094 <= d.gain <= 6.0101 for d in draws)
    with pytest.raises(ArgumentError, match="camera is 'Leica'"):
        eld_noise(generator, camera="Leica")


@pytest.mark.parametrize("shape", [-0.24, -0.1, 0.0, 0.14, 0.2, 1.0])
def test_tukey_variance_is_that_of_its_quantiles(shape: float) -> None:
    p = (torch.arange(4_000_000, dtype=torch.float64) + 0.5) / 4_000_000
    found = tukey_lambda(p, shape).square().mean().item()
    assert found == pytest.approx(tukey_variance(shape), rel=0.01)


def test_tukey_shapes() -> None:
    assert tukey_variance(1.0) == pytest.approx(1 / 3)  # uniform in [-1, 1]
    assert torch.isfinite(tukey_lambda(torch.tensor([0.0, 1.0]), -0.24)).all()
    for bad in (-0.5, 3.0, math.nan):
        with pytest.raises(ArgumentError, match="shape is"):
            tukey_variance(bad)


def test_lines_are_checked() -> None:
    assert NoiseLine.same(1e-4, 1e-7) == NoiseLine((1e-4,) * 3, (1e-7,) * 3)
    with pytest.raises(ArgumentError, match="NoiseLine: read is"):
        NoiseLine.same(1e-4, -1e-7)
    with pytest.raises(ArgumentError, match="NoiseLine: shot is"):
        NoiseLine.same(math.inf, 0)
