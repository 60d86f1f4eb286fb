import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from skimage import color, measure
from skimage import metrics as theirs

from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight import metrics
from foveal.lowlight.metrics import Retention
from foveal.teachers import Detections

PAIR_MEASURES = (
    metrics.psnr,
    metrics.ssim,
    metrics.align_mean,
    metrics.color_difference,
    metrics.lightness_order_error,
    metrics.clipped_fraction,
    metrics.human_metrics,
)

# Sharma, Wu and Dalal 2005, table 1: L* a* b* twice, and the difference
SHARMA = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


def _pair(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(*shape, generator=generator, dtype=torch.float64)
    noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return a, (a + 0.1 * noise).clamp(0, 1)


def _theirs(x: torch.Tensor) -> np.ndarray:
    return x.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(11, 11), (24, 37)])
def test_psnr_and_ssim_are_scikit_images(size: tuple[int, int]) -> None:
    a, b = _pair(3, 3, *size)
    for i in range(3):
        wanted = theirs.peak_signal_noise_ratio(_theirs(b[i]), _theirs(a[i]), data_range=1)
        assert metrics.psnr(a, b)[i].item() == pytest.approx(wanted, abs=1e-9)
        wanted = theirs.structural_similarity(
            _theirs(a[i]), _theirs(b[i]), gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, channel_axis=2, data_range=1,
        )  # fmt: skip
        assert metrics.ssim(a, b)[i].item() == pytest.approx(wanted, abs=1e-9)
        assert metrics.ssim(a.float(), b.float())[i].item() == pytest.approx(wanted, abs=1e-5)


def test_psnr_by_hand() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = a.clone()
    b[1] = 0.1
    assert metrics.psnr(a, b).tolist() == [math.inf, pytest.approx(20, abs=1e-5)]


def test_a_gain_costs_psnr_and_nothing_after_alignment() -> None:
    _, reference = _pair(2, 3, 20, 20)
    reference = reference * 0.8
    found = metrics.human_metrics(
        reference * torch.tensor([0.2, 0.5])[:, None, None, None], reference
    )
    assert (found["psnr"] < 13).all()
    assert (found["psnr_mean_aligned"] > 100).all()
    assert torch.allclose(found["ssim_mean_aligned"], torch.ones(2, dtype=torch.float64))
    assert (found["ssim"] < 0.9).all()
    aligned = metrics.align_mean(torch.zeros_like(reference), reference)
    assert not aligned.any()


def test_ciede2000_gives_the_published_table() -> None:
    rows = torch.tensor([[float(v) for v in r.split()] for r in SHARMA.strip().splitlines()])
    rows = rows.double()
    rows = (rows * 1e4).round() / 1e4
    assert rows.shape == (34, 7)
    first, second, wanted = rows[:, :3].T, rows[:, 3:6].T, rows[:, 6]
    assert (metrics.ciede2000(first, second) - wanted).abs().max() < 5.1e-5
    assert (metrics.ciede2000(second, first) - wanted).abs().max() < 5.1e-5
    assert not metrics.ciede2000(first, first).any()


def test_lab_and_color_difference_are_scikit_images() -> None:
    a, b = _pair(2, 3, 9, 13)
    a[0, :, 0, 0] = 0
    for i in range(2):
        lab = color.rgb2lab(_theirs(a[i]))
        assert np.abs(_theirs(metrics.srgb_to_lab(a)[i]) - lab).max() < 1e-3
        wanted = color.deltaE_ciede2000(lab, color.rgb2lab(_theirs(b[i]))).mean()
        assert metrics.color_difference(a, b)[i].item() == pytest.approx(wanted, abs=1e-3)


def test_order_error_by_its_definition() -> None:
    a, b = _pair(1, 3, 6, 7)
    light, other = (x[0].amax(0).flatten().tolist() for x in (a, b))
    flips = sum(
        (light[p] >= light[q]) != (other[p] >= other[q]) for p in range(42) for q in range(42)
    )
    assert metrics.lightness_order_error(a, b).item() == pytest.approx(flips / 42**2)
    # two values that change places: of four pairs two are turned over
    x = torch.tensor([0.2, 0.8]).expand(1, 3, 1, 2)
    assert metrics.lightness_order_error(x, x.flip(3)).item() == 0.5


def test_order_error_compares_about_fifty_pixels_a_side_in_blocks() -> None:
    a, b = _pair(3, 3, 130, 210)
    small = metrics.lightness_order_error(a[..., ::2, ::2], b[..., ::2, ::2])
    assert torch.equal(metrics.lightness_order_error(a, b), small)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 4.0), st.integers(0, 100))
def test_a_monotone_curve_keeps_the_order(gamma: float, seed: int) -> None:
    a, _ = _pair(1, 3, 5, 6, seed=seed)
    assert metrics.lightness_order_error(a**gamma, a).item() == 0
    assert metrics.lightness_order_error(1 - a, 1 - a**gamma).item() == 0


def test_clipped_fraction_by_hand() -> None:
    image = torch.zeros(1, 3, 2, 2)
    image[0, 1, 0, 0] = 1
    image[0, :, 1, 1] = 254.6 / 255
    image[0, :, 0, 1] = 254 / 255
    assert metrics.clipped_fraction(image).item() == 0.5
    reference = torch.zeros_like(image)
    reference[0, 2, 0, 0] = 1
    assert metrics.clipped_fraction(image, reference).item() == 0.25


def test_entropy_is_scikit_images() -> None:
    a, _ = _pair(2, 3, 20, 30)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    for i in range(2):
        grey = ((a[i] * weights[:, None, None]).sum(0) * 255).round().byte()
        wanted = measure.shannon_entropy(grey.numpy())
        assert metrics.entropy(a)[i].item() == pytest.approx(wanted, abs=1e-5)
    assert metrics.entropy(torch.full((1, 3, 4, 4), 0.3)).item() == 0
    grey = torch.arange(256).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    assert metrics.entropy(grey).item() == pytest.approx(8)


@pytest.mark.parametrize("measured", PAIR_MEASURES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_numbers_are_measured_in_fp32(measured, dtype: torch.dtype) -> None:
    a, b = (x.to(dtype) for x in _pair(2, 3, 12, 12))
    found, wanted = measured(a, b), measured(a.float(), b.float())
    if isinstance(found, dict):
        assert all(torch.equal(found[k], wanted[k]) for k in wanted)
    else:
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("measured", PAIR_MEASURES)
def test_bad_pictures_are_named(measured) -> None:
    good = torch.rand(1, 3, 12, 12)
    with pytest.raises(ArgumentError, match=r"image has values from nan"):
        measured(torch.full_like(good, math.nan), good)
    with pytest.raises(ArgumentError, match=r"reference has values from .* divide 8 bit by 255"):
        measured(good, good * 255)


@pytest.mark.parametrize("shape", [(1, 1, 12, 12), (1, 4, 12, 12), (3, 12, 12), (0, 3, 12, 12)])
def test_metrics_wrong_shapes_and_types(shape: tuple[int, ...]) -> None:
    for measured in PAIR_MEASURES:
        with pytest.raises(ShapeError, match=r"image has shape .*must be \(b, 3, height, width\)"):
            measured(torch.zeros(shape), torch.zeros(shape))
        good = torch.rand(1, 3, 12, 12)
        with pytest.raises(ShapeError, match=r"image has shape .*, must be that of reference"):
            measured(good, good[..., :-1])
        with pytest.raises(ArgumentError, match=r"image is torch.uint8"):
            measured((good * 255).byte(), good)
    with pytest.raises(ShapeError, match="entropy: image has shape"):
        metrics.entropy(torch.zeros(shape))
    with pytest.raises(ShapeError, match="11 x 11 pixels or more"):
        metrics.ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))
    with pytest.raises(ShapeError, match=r"ciede2000: lab has shape \(4, 2\)"):
        metrics.ciede2000(torch.zeros(4, 2), torch.zeros(4, 2))


def test_agreement_by_hand() -> None:
    day = torch.tensor([[1.0, 2, 0], [3, 2, 0]])
    night = torch.tensor([[0.0, 9, 1], [1, 2, 0]])
    assert metrics.agreement(night, day).tolist() == [1, 0]
    day = torch.eye(3)[None]
    night = day.clone()
    night[0, :, 0] = torch.tensor([0.0, 0, 5])
    assert metrics.agreement(night, day).item() == pytest.approx(2 / 3)


def test_divergence_is_scipys() -> None:
    generator = torch.Generator().manual_seed(0)
    day, night = (torch.randn(4, 5, 6, generator=generator) for _ in range(2))
    found = metrics.divergence(night, day)
    p, q = day.double().softmax(1).numpy(), night.double().softmax(1).numpy()
    assert found.numpy() == pytest.approx(stats.entropy(p, q, axis=1).mean(1), abs=1e-5)
    assert not metrics.divergence(day, day).any()


def test_feature_cosine_by_hand() -> None:
    f = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    d = torch.tensor([[4.0, 3.0], [-2.0, 0.0], [1.0, 1.0]])
    assert metrics.feature_cosine(f, d).tolist() == pytest.approx([24 / 25, -1, 0])
    grid = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
    day = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert metrics.feature_cosine(grid, day).item() == pytest.approx((1 + 0.5**0.5) / 2)


def _boxes(*rows: tuple[float, ...]) -> Detections:
    table = torch.tensor(rows).view(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long(), ("cat", "dog"))


def test_retention_by_hand() -> None:
    day = _boxes((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 1), (50, 0, 60, 10, 0.5, 0))
    night = _boxes(
        (0, 0, 10, 9, 0.9, 0),  # overlap 0.9
        (0, 0, 10, 10, 0.4, 0),  # its place is taken
        (20, 0, 30, 10, 0.7, 0),  # another class
        (50, 0, 60, 4.9, 0.6, 0),  # overlap 0.49
    )
    nothing = _boxes()
    results = metrics.detector_retention([night, nothing, day], [day, day, nothing])
    assert results == [Retention(3, 1, 3), Retention(3, 0, 0), Retention(0, 0, 3)]
    assert results[0].recall == pytest.approx(1 / 3)
    assert results[0].precision == 0.25
    assert math.isnan(results[2].recall)
    assert math.isnan(results[1].precision)
    assert sum(results, Retention(0, 0, 0)) == Retention(6, 1, 6)
    assert metrics.detector_retention([night], [day], overlap=0.49)[0].recovered == 2
    assert metrics.detector_retention([day], [day]) == [Retention(3, 3, 0)]


def test_the_surest_chooses_first_and_takes_its_best() -> None:
    day = _boxes((0, 0, 10, 10, 0.9, 0), (0, 2, 10, 12, 0.8, 0))
    night = _boxes((0, 1.5, 10, 11.5, 0.3, 0), (0, 2, 10, 12, 0.9, 0))
    # the unsure one comes first in the list: were it to choose first, it would take the second box
    assert metrics.detector_retention([night], [day], overlap=0.7) == [Retention(2, 2, 0)]
    assert metrics.detector_retention([night], [day], overlap=0.8) == [Retention(2, 1, 1)]


def test_calibration_error_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    labels = torch.tensor([0, 1, 0, 1])
    # bins of ten: .9: two, accuracy .5; .6: one, 1; .8: one, 1
    wanted = (2 * 0.4 + 0.4 + 0.2) / 4
    found = metrics.expected_calibration_error(p.double().log(), labels, num_bins=20)
    assert found == pytest.approx(wanted, abs=1e-6)
    one = metrics.expected_calibration_error(p.log(), labels, num_bins=1)
    assert one == pytest.approx(abs(0.75 - 0.8), abs=1e-6)


def test_a_calibrated_recogniser_has_little_error() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert metrics.expected_calibration_error(logits, labels) < 0.015
    assert metrics.expected_calibration_error(4 * logits, labels) > 0.1


def test_bad_answers_are_named() -> None:
    good = torch.zeros(2, 3)
    for measured in (metrics.agreement, metrics.divergence, metrics.feature_cosine):
        with pytest.raises(ArgumentError, match="daylight has NaN"):
            measured(good, torch.full_like(good, math.nan))
    labels = torch.tensor([0, 3])
    with pytest.raises(ArgumentError, match=r"labels has values from 0 to 3, must be in \[0, 2\]"):
        metrics.expected_calibration_error(good, labels)
    with pytest.raises(ArgumentError, match="num_bins is 0"):
        metrics.expected_calibration_error(good, labels - labels, num_bins=0)
    with pytest.raises(ArgumentError, match="logits has NaN"):
        metrics.expected_calibration_error(good * math.nan, labels - labels)
    day = _boxes((0, 0, 10, 10, 0.9, 0))
    with pytest.raises(ShapeError, match="found has 0 pictures, must have the 1"):
        metrics.detector_retention([], [day])
    with pytest.raises(ArgumentError, match="overlap is 0"):
        metrics.detector_retention([day], [day], overlap=0)
    other = Detections(day.boxes, day.scores, day.labels, ("cat",))
    with pytest.raises(ArgumentError, match="must be of one detector"):
        metrics.detector_retention([other], [day])


def test_no_warning_on_equal_pictures() -> None:
    a = torch.zeros(1, 3, 12, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.human_metrics(a, a)
    assert found["ssim"].item() == pytest.approx(1)
    assert found["ciede2000"].item() == 0


def test_answers_wrong_shapes() -> None:
    for measured in (metrics.agreement, metrics.divergence, metrics.feature_cosine):
        name = "features" if measured is metrics.feature_cosine else "logits"
        with pytest.raises(ShapeError, match=rf"{name} has shape \(2, 3\), must be that of day"):
            measured(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ShapeError, match=r"logits has shape \(2, 3\) and labels \(3,\)"):
        metrics.expected_calibration_error(torch.zeros(2, 3), torch.zeros(3).long())
