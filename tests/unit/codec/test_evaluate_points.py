"""Points, fronts, bytes at equal retention and their intervals, by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from foveal.codec.evaluate.curves import Resamples, reach, rising
from foveal.codec.evaluate.points import Point, Scale, check_rule, combined, front, halves, same
from foveal.codec.evaluate.track import TrackTask
from foveal.errors import ArgumentError, ShapeError
from foveal.stats.bd_rate import isotonic


def task(name: str, *, higher: bool = True) -> TrackTask:
    """A task whose score is the mean of the only sum."""
    return TrackTask(
        name,
        lambda x: x,
        lambda answer, items: answer,
        {"mean": lambda t: float(t[0] / t[1])},
        higher,
        np.ones((1, 2)),
        "hand",
    )


def rows(values: Sequence[float]) -> np.ndarray:
    return np.stack([np.asarray(values, float), np.ones(len(values))], 1)


def scale(n: int = 4, groups: tuple[int, ...] = ()) -> Scale:
    """Accuracy "a" from chance 0.5 to 1; error "e" from chance 2 to 1."""
    return Scale(
        {"a": task("a"), "e": task("e", higher=False)},
        {"a": rows([0.5] * n), "e": rows([2.0] * n)},
        {"a": rows([1.0] * n), "e": rows([1.0] * n)},
        groups or tuple(range(n)),
    )


def point(size: float, a: float, e: float, n: int = 4, **settings: float) -> Point:
    payload = np.full(n, int(size) - 3)
    ones = np.ones(n, np.int64)
    sums = {"a": rows([a] * n), "e": rows([e] * n)}
    return Point("c", settings or {"q": size}, payload, ones, 2 * ones, sums)


def test_retention_of_scores_and_errors() -> None:
    s, p = scale(), point(100, 0.8, 1.3)
    assert s.retention(p, "a")[0] == pytest.approx(0.6)
    assert s.retention(p, "e")[0] == pytest.approx(0.7)
    assert combined(s, p)[0] == pytest.approx(0.65)
    assert combined(s, p, rule="worst")[0] == pytest.approx(0.6)
    assert combined(s, p, ["e"])[0] == pytest.approx(0.7)
    assert p.bytes.tolist() == [100] * 4


def test_retention_of_weighted_images() -> None:
    s = scale()
    base = point(100, 0.0, 0.0)
    p = Point("c", {}, base.payload, base.side, base.container, {"a": rows([1, 1, 0.5, 0.5])})
    weights = np.array([[1.0, 1, 1, 1], [2, 2, 0, 0], [0, 0, 3, 1]])
    assert s.retention(p, "a", weights).tolist() == pytest.approx([0.5, 1.0, 0.0])


def test_a_network_that_knows_nothing_has_no_retention() -> None:
    s = scale()
    blind = Scale(s.tasks, s.full, s.full, s.groups)
    assert math.isnan(blind.retention(point(9, 0.9, 1.0), "a")[0])
    worse = Scale(s.tasks, s.full, s.chance, s.groups)  # below chance
    assert math.isnan(worse.retention(point(9, 0.9, 1.0), "a")[0])
    assert blind.known() == {}
    assert s.known() == {"a": 0.5, "e": 1.0}


def test_front_is_paretos() -> None:
    s = scale()
    good = [point(10, 0.6, 1.8), point(20, 0.8, 1.4), point(40, 1.0, 1.0)]
    bad = [point(15, 0.6, 1.8), point(30, 0.7, 1.5), point(50, 1.0, 1.0)]
    assert front(s, [*bad, *good]) == good
    assert front(s, [point(20, 0.7, 1.4), good[1]]) == [good[1]]


def test_a_front_goes_on_beyond_its_best_point() -> None:
    s = scale()
    best = [point(10, 0.6, 1.8), point(20, 0.9, 1.2)]
    behind = [point(23, 0.9, 1.2), point(25, 0.9, 1.2), point(29, 0.9, 1.2), point(31, 0.9, 1.21)]
    worse = [point(60, 0.7, 1.6)]
    every = [*worse, *behind, *best]
    assert front(s, every) == best
    # 25 is the first with a fifth more than 20, then 31 of 25; 60 has lost too much
    assert front(s, every, beyond=0.02) == [*best, behind[1], behind[3]]
    assert front(s, every, beyond=0.001) == [*best, behind[1]]
    assert front(s, [], beyond=0.02) == []


def test_chosen_on_one_split_and_judged_on_another() -> None:
    chosen = [point(10, 0.6, 1.8), point(40, 1.0, 1.0)]
    judged = [point(10, 0.7, 1.6, 6), point(20, 0.9, 1.1, 6), point(40, 0.9, 1.2, 6)]
    assert same(judged, chosen) == [judged[0], judged[2]]
    with pytest.raises(ArgumentError, match="same: points lack"):
        same(judged[:2], chosen)


def test_halves_keep_groups_together() -> None:
    assert halves([7, 7, 3, 3, 9, 7]) == ([0, 1, 4, 5], [2, 3])
    assert halves([0, 1, 2]) == ([0, 2], [1])


def test_take() -> None:
    base = point(100, 0.0, 0.0)
    p = Point("c", {}, np.arange(4), base.side, base.container, {"a": rows([1, 2, 3, 4])})
    part = p.take([3, 1])
    assert part.payload.tolist() == [3, 1]
    assert part.sums["a"][:, 0].tolist() == [4, 2]
    assert scale(4, (5, 6, 7, 8)).take([3, 1]).groups == (8, 6)


def at(sizes: list[float], kept: list[float], wanted: float) -> float:
    return float(reach(*rising(np.array([sizes]), np.array([kept])), wanted)[0])


def test_reach_interpolates_log_bytes_and_never_extrapolates() -> None:
    sizes, kept = [100.0, 400.0], [0.5, 0.9]
    assert at(sizes, kept, 0.7) == pytest.approx(200)
    assert at(sizes, kept, 0.9) == pytest.approx(400)
    assert at(sizes, kept, 0.91) == math.inf
    assert at(sizes, kept, 0.2) == pytest.approx(100)
    assert at([70.0], [0.5], 0.5) == pytest.approx(70)


def test_reach_pools_a_dip() -> None:
    sizes, kept = [400.0, 100.0, 200.0], [0.9, 0.6, 0.4]
    # 0.6, 0.4 pool to 0.5 at 100 and 200; 0.7 is half way from 200 to 400
    assert at(sizes, kept, 0.7) == pytest.approx(200 * math.sqrt(2))
    assert at(sizes, kept, 0.5) == pytest.approx(100)


def test_reach_of_nan_is_nowhere() -> None:
    assert at([1.0, 2.0], [0.5, math.nan], 0.1) == math.inf


def test_rising_curves_are_those_of_pooled_neighbors() -> None:
    dice = np.random.default_rng(0)
    sizes, kept = dice.uniform(1, 9, (50, 12)), dice.uniform(size=(50, 12))
    logs, risen = rising(sizes, kept)
    for i in range(50):
        order = np.argsort(sizes[i])
        assert logs[i] == pytest.approx(np.log(sizes[i][order]))
        assert risen[i] == pytest.approx(isotonic(kept[i][order]))


def test_bytes_at_and_the_ratio_of_two_curves() -> None:
    draws = Resamples(scale(), num=20)
    ours = [point(100, 0.75, 1.5), point(400, 0.95, 1.1)]
    theirs = [point(1000, 0.75, 1.5), point(4000, 0.95, 1.1)]
    found = draws.bytes_at(ours, 0.7)
    assert found.value == pytest.approx(200)
    assert (found.low, found.high) == (pytest.approx(200), pytest.approx(200))
    assert (found.reached, found.num_groups, found.anecdote) == (1.0, 4, True)
    ratio = draws.ratio(ours, theirs, 0.7)
    assert ratio.value == pytest.approx(10)
    assert ratio.low == pytest.approx(10)
    none = draws.bytes_at(ours, 0.95)
    assert (none.value, none.low, none.high, none.reached) == (None, None, None, 0.0)


def test_an_interval_is_that_of_resampled_images() -> None:
    n = 400
    generator = np.random.default_rng(3)
    sizes = generator.integers(50, 150, n)
    zeros = np.zeros(n, np.int64)
    sums = {"a": rows([1.0] * n), "e": rows([1.0] * n)}
    p = Point("c", {}, sizes, zeros, zeros, sums)
    found = Resamples(scale(n), num=2000).bytes_at([p], 0.9)
    error = sizes.std() / math.sqrt(n)
    assert found.value == pytest.approx(sizes.mean())
    assert not found.anecdote
    assert found.low == pytest.approx(sizes.mean() - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(sizes.mean() + 1.96 * error, abs=0.3 * error)


def test_groups_are_resampled_as_one() -> None:
    draws = Resamples(scale(6, (0, 0, 0, 1, 1, 1)), num=50)
    assert draws.weights[0].tolist() == [1] * 6
    seen = {tuple(row) for row in draws.weights[1:].tolist()}
    assert seen == {(2, 2, 2, 0, 0, 0), (1, 1, 1, 1, 1, 1), (0, 0, 0, 2, 2, 2)}


def test_nothing_sent_counts_as_a_byte() -> None:
    zeros, sums = np.zeros(4, np.int64), {"a": rows([0.75] * 4), "e": rows([1.5] * 4)}
    draws = Resamples(scale(), num=3)
    nothing = Point("n", {}, zeros, zeros, zeros, sums)
    assert draws.bytes_at([nothing], 0.4).value == pytest.approx(1)
    assert draws.bytes_at([nothing, point(256, 1.0, 1.0)], 0.75).value == pytest.approx(16)


def test_pairing_makes_the_ratio_of_proportional_bytes_exact() -> None:
    n = 30
    sizes = np.random.default_rng(0).integers(100, 900, n)
    zeros, sums = np.zeros(n, np.int64), {"a": rows([1.0] * n), "e": rows([1.0] * n)}
    a, b = (Point("c", {"k": k}, k * sizes, zeros, zeros, sums) for k in (1, 3))
    found = Resamples(scale(n), num=100).ratio([a], [b], 0.9)
    assert (found.low, found.value, found.high) == pytest.approx((3, 3, 3))


def test_an_anchor_that_is_sometimes_reached_leaves_the_interval_open() -> None:
    n = 2
    s = scale(n)
    zeros = np.zeros(n, np.int64)
    ours = Point("c", {}, zeros + 10, zeros, zeros, {"a": rows([1, 1])})
    theirs = Point("d", {}, zeros + 50, zeros, zeros, {"a": rows([1, 0.9])})
    found = Resamples(s, num=200).ratio([ours], [theirs], 0.9, ["a"])
    # retentions 1, 0.9 or 0.8 in a quarter, a half and a quarter of the resamples
    assert found.value == pytest.approx(5)
    assert found.low == pytest.approx(5)
    assert found.high is None
    assert found.reached == pytest.approx(0.75, abs=0.1)
    back = Resamples(s, num=200).ratio([theirs], [ours], 0.9, ["a"])
    assert (back.low, back.high) == (0.0, pytest.approx(0.2))


def test_bd_rate_with_an_interval() -> None:
    draws = Resamples(scale(), num=5)
    levels = [(0.55, 1.9), (0.7, 1.6), (0.85, 1.3), (0.95, 1.1), (1.0, 1.0)]
    ours = [point(100 * 2**i, a, e) for i, (a, e) in enumerate(levels)]
    theirs = [point(200 * 2**i, a, e) for i, (a, e) in enumerate(levels)]
    found, interval = draws.bd_rate(ours, theirs)
    assert found.percent == pytest.approx(-50)
    assert interval.low == pytest.approx(-50)
    few, open_interval = draws.bd_rate(ours[:3], theirs)
    assert few.percent is None
    assert few.reason == "2 points are left of a curve, must be 4 at least"
    assert (open_interval.value, open_interval.reached) == (None, 0.0)


def test_what_is_refused() -> None:
    s, p = scale(), point(9, 1, 1)
    with pytest.raises(ArgumentError, match="task is 'x', must be one of"):
        s.retention(p, "x")
    with pytest.raises(ArgumentError, match="rule is 'median', must be 'mean' or 'worst'"):
        check_rule("median")
    with pytest.raises(ShapeError, match="point has 5 images, must have the 4"):
        s.retention(point(9, 1, 1, 5), "a")
    with pytest.raises(ShapeError, match="Point: payload has 4"):
        Point("c", {}, p.payload, p.side[:2], p.container, p.sums)
    with pytest.raises(ArgumentError, match="Resamples: num is 0"):
        Resamples(s, num=0)
    with pytest.raises(ArgumentError, match="points is empty"):
        Resamples(s, num=1).curve([])
