"""BD-rate: values by hand, scipy as the oracle of the cubics, dips, saturation, refusals."""

import math

import numpy as np
import pytest

from foveal.errors import ArgumentError, ShapeError
from foveal.stats.bd_rate import Pchip, bd_rate, isotonic, monotone_curve

RATES = [100.0, 200.0, 400.0, 800.0, 1600.0]
SCORES = [0.2, 0.5, 0.7, 0.85, 0.9]


def test_isotonic_by_hand() -> None:
    assert isotonic([1, 3, 2, 4]).tolist() == [1, 2.5, 2.5, 4]
    assert isotonic([3, 2, 1]).tolist() == [2, 2, 2]
    assert isotonic([5, 1], [1, 3]).tolist() == [2, 2]
    assert isotonic([1, 2, 3]).tolist() == [1, 2, 3]


def test_isotonic_pools_back_over_several_blocks() -> None:
    # 4 | 5 -> 3 pools with 5 (4), with 4 (4), then 0 with all: mean 3
    assert isotonic([4, 5, 3, 0]).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("points", [2, 3, 4, 9])
def test_pchip_is_scipys(points: int) -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    generator = np.random.default_rng(points)
    for _ in range(20):
        x = np.sort(generator.uniform(size=points)) + np.arange(points) * 0.01
        y = generator.normal(size=points)
        ours, theirs = Pchip(x, y), interpolate.PchipInterpolator(x, y)
        for at in np.linspace(x[0], x[-1], 17):
            at = min(float(at), float(x[-1]))
            assert ours(at) == pytest.approx(float(theirs(at)), rel=1e-12, abs=1e-12)
        low, high = x[0] + 0.1 * (x[-1] - x[0]), x[0] + 0.8 * (x[-1] - x[0])
        assert ours.integral(low, high) == pytest.approx(
            float(theirs.integrate(low, high)), rel=1e-11, abs=1e-13
        )


def test_pchip_of_a_line_and_its_integral() -> None:
    line = Pchip(np.array([0.0, 1.0, 3.0]), np.array([1.0, 3.0, 7.0]))
    assert line(2.0) == pytest.approx(5)
    assert line.integral(0.5, 2.5) == pytest.approx(2 * (1 + 2 * 1.5))


def test_pchip_does_not_extrapolate() -> None:
    with pytest.raises(ArgumentError, match=r"at is 1.5, must be within 0.0..1.0"):
        Pchip(np.array([0.0, 1.0]), np.array([0.0, 1.0]))(1.5)
    with pytest.raises(ArgumentError, match="strictly ascending"):
        Pchip(np.array([0.0, 0.0]), np.array([0.0, 1.0]))


def test_half_the_rate_everywhere_is_minus_fifty_percent() -> None:
    found = bd_rate((RATES, SCORES), ([r / 2 for r in RATES], SCORES))
    assert found.percent == pytest.approx(-50)
    assert found.overlap == pytest.approx(1)
    assert found.reason == ""
    back = bd_rate(([r / 2 for r in RATES], SCORES), (RATES, SCORES))
    assert back.percent == pytest.approx(100)


def test_a_shift_of_lines_by_hand() -> None:
    # log2 rate = 10 s and 10 s + s: at scores 0..1 the mean gap is 0.5 in log2
    scores = [0.0, 0.25, 0.5, 0.75, 1.0]
    anchor = [2 ** (10 * s) for s in scores]
    test = [2 ** (11 * s) for s in scores]
    found = bd_rate((anchor, scores), (test, scores))
    assert found.percent == pytest.approx(100 * (math.sqrt(2) - 1))


def test_a_dip_on_a_saturated_curve_changes_little() -> None:
    smooth = bd_rate((RATES, SCORES), ([0.5 * r for r in RATES], SCORES))
    dip = [*SCORES, 0.8999, 0.9]
    found = bd_rate((RATES, SCORES), ([0.5 * r for r in [*RATES, 3200.0, 6400.0]], dip))
    assert found.test_points == 5
    assert found.percent == pytest.approx(smooth.percent, abs=0.1)


def test_monotone_curve_sorts_pools_and_drops() -> None:
    logs, scores = monotone_curve([4.0, 1.0, 2.0, 8.0], [0.5, 0.1, 0.7, 0.6])
    # by rate 0.1, 0.7, 0.5, 0.6: the last three pool to 0.6, of which the cheapest is kept
    assert np.exp(logs) == pytest.approx([1, 2])
    assert scores == pytest.approx([0.1, 0.6])


def test_scores_of_equal_rates_are_pooled() -> None:
    logs, scores = monotone_curve([1.0, 2.0, 2.0], [0.1, 0.3, 0.5])
    assert np.exp(logs) == pytest.approx([1, 2])
    assert scores == pytest.approx([0.1, 0.4])


def test_too_little_overlap_gives_a_reason_and_no_figure() -> None:
    found = bd_rate((RATES, SCORES), (RATES, [s + 0.5 for s in SCORES]))
    assert found.percent is None
    # 0.7..0.9 of 0.2..1.4
    assert found.overlap == pytest.approx(0.2 / 1.2)
    assert found.reason == "scores overlap by 17 %, must by 50 %"


def test_scores_below_the_floor_do_not_count() -> None:
    scores = [0.0, 0.25, 0.5, 0.75, 1.0]
    anchor = ([2 ** (10 * s) for s in scores], scores)
    test = ([2 ** (11 * s) for s in (0.5, 0.75, 1.0, 1.25)], [0.5, 0.75, 1.0, 1.25])
    whole = bd_rate(anchor, test)
    assert whole.overlap == pytest.approx(0.5 / 1.25)
    assert whole.percent is None
    found = bd_rate(anchor, test, floor=0.6)
    assert (found.low, found.high) == (0.6, 1.0)
    assert found.overlap == pytest.approx(0.4 / 0.65)
    assert (found.anchor_points, found.test_points) == (3, 4)
    assert found.percent is None  # three points are left
    few = bd_rate(anchor, test, floor=0.6, least_points=3)
    # the mean gap in log2 is the mean score, 0.8
    assert few.percent == pytest.approx(100 * (2**0.8 - 1))
    above = bd_rate(anchor, test, floor=2.0)
    assert (above.percent, above.overlap) == (None, 0.0)


def test_no_overlap_at_all() -> None:
    found = bd_rate((RATES, SCORES), (RATES, [s + 2 for s in SCORES]))
    assert (found.percent, found.overlap) == (None, 0.0)


def test_too_few_points_give_a_reason() -> None:
    found = bd_rate((RATES, SCORES), (RATES[:3], SCORES[:3]))
    assert found.percent is None
    assert found.reason == "3 points are left of a curve, must be 4 at least"
    flat = bd_rate((RATES, SCORES), (RATES, [0.5] * 5))
    assert flat.test_points == 1


@pytest.mark.parametrize(
    ("rate", "score", "error", "message"),
    [
        ([1.0, 2.0], [0.1], ShapeError, "rate has shape"),
        ([], [], ShapeError, "not empty"),
        ([0.0, 1.0], [0.1, 0.2], ArgumentError, "a rate not positive"),
        ([1.0, 2.0], [0.1, float("nan")], ArgumentError, "not finite"),
    ],
)
def test_what_is_refused(
    rate: list[float], score: list[float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bd_rate((RATES, SCORES), (rate, score))


def test_isotonic_refuses() -> None:
    with pytest.raises(ShapeError, match="isotonic: values has shape"):
        isotonic([])
    with pytest.raises(ShapeError, match="weights"):
        isotonic([1, 2], [1])
