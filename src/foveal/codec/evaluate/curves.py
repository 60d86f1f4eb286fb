"""Bytes at equal retention, and intervals over images.

A curve is a list of points that something else chose (a front on other images, or a list of
qualities). Its retention is made monotone in bytes (pool adjacent violators), and between two
points the logarithm of the bytes is interpolated. Nothing is extrapolated: what a curve does not
reach has no bytes. Intervals resample groups of images; all curves see the same resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from foveal.codec.evaluate.points import Point, Rule, Scale, check_rule
from foveal.errors import ArgumentError
from foveal.stats.bd_rate import BDRate, bd_rate
from foveal.stats.bootstrap import ANECDOTE_BELOW

RESAMPLES = 1000
FLOOR = 0.5
"""Retention below which nobody would use a codec: BD-rates leave it out."""
_ROUNDING = 1e-9
_BD_RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its interval.

    Args:
        value: Of all images; None if it is not reached.
        low, high: Percentile interval; None where it is open, since too many resamples do not
            reach it.
        reached: Share of the resamples that do.
        num_groups: Independent items.
        anecdote: Whether these are below 100.
    """

    value: float | None
    low: float | None
    high: float | None
    reached: float
    num_groups: int
    anecdote: bool


def rising(
    sizes: Float[ndarray, "b m"], retention: Float[ndarray, "b m"]
) -> tuple[Float[ndarray, "b m"], Float[ndarray, "b m"]]:
    """Return log bytes, ascending, and monotone retention of many curves.

    As `isotonic`, for all rows at once: the largest over starts before a point of the smallest
    over ends behind it of the mean from start to end.
    """
    order = np.lexsort((-retention, sizes), axis=1)
    logs = np.log(np.take_along_axis(sizes, order, 1))
    values = np.take_along_axis(retention, order, 1)
    b, m = values.shape
    total = np.concatenate([np.zeros((b, 1)), np.cumsum(values, 1)], 1)
    best = np.full((b, m), -np.inf)
    for start in range(m):
        counts = np.arange(1, m - start + 1)
        means = (total[:, start + 1 :] - total[:, start : start + 1]) / counts
        least = np.minimum.accumulate(means[:, ::-1], 1)[:, ::-1]
        best[:, start:] = np.maximum(best[:, start:], least)
    return logs, np.where(np.isfinite(values).all(1, keepdims=True), best, np.nan)


def reach(
    logs: Float[ndarray, "b m"], risen: Float[ndarray, "b m"], wanted: float
) -> Float[ndarray, "b"]:
    """Return the bytes at which curves reach a retention; infinite where they do not.

    Args:
        logs: Log bytes, ascending.
        risen: Retention, which never falls, or NaN.
        wanted: Retention to reach. At or below that of the smallest point, its bytes are returned.
    """
    last = risen[:, -1]
    there = last >= wanted - _ROUNDING
    level = np.where(there, np.minimum(wanted, last), -np.inf)[:, None]
    after = (risen < level).sum(1).clip(0, risen.shape[1] - 1)
    before = (after - 1).clip(0)
    rows = np.arange(len(risen))
    low, high = risen[rows, before], risen[rows, after]
    rise = np.where(high > low, high - low, 1.0)
    part = np.where(after > 0, (level[:, 0] - low) / rise, 0.0)
    part = np.where(there, part, 0.0)
    found = logs[rows, before] + part * (logs[rows, after] - logs[rows, before])
    return np.where(there, np.exp(found), np.inf)


class Resamples:
    """The same resampled images for every curve of a track.

    Args:
        scale: Of the images that are judged.
        num: Resamples.
        seed: Of the draws.
        confidence: Coverage of the intervals, in (0, 1).
    """

    def __init__(
        self, scale: Scale, *, num: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
    ) -> None:
        """Draw the weights."""
        if num < 1 or not 0 < confidence < 1:
            raise ArgumentError(
                f"Resamples: num is {num} and confidence {confidence}, must be at least 1 and in "
                "(0, 1)"
            )
        self.scale, self.confidence = scale, confidence
        _, index = np.unique(np.asarray(scale.groups), return_inverse=True)
        self.num_groups = int(index.max()) + 1
        draws = np.random.default_rng(seed).integers(self.num_groups, size=(num, self.num_groups))
        counts = np.stack([np.bincount(row, minlength=self.num_groups) for row in draws])
        ones = np.ones((1, len(scale)))
        self.weights: Float[ndarray, "b n"] = np.concatenate([ones, counts[:, index]])
        """The first row is all images once."""
        self._ends: dict[str, tuple[ndarray, ndarray]] = {}
        self._kept: dict[tuple[int, str], ndarray] = {}
        self._points: list[Point] = []  # so that no id comes twice

    def retention(
        self, point: Point, tasks: Sequence[str] | None = None, rule: Rule = "mean"
    ) -> Float[ndarray, "b"]:
        """Return the retention of a point in every resample; the first is of all images."""
        check_rule(rule)
        each = [self._of_task(point, t) for t in (self.scale.tasks if tasks is None else tasks)]
        return np.mean(each, 0) if rule == "mean" else np.min(each, 0)

    def _of_task(self, point: Point, task: str) -> Float[ndarray, "b"]:
        key = (id(point.sums), task)
        if key not in self._kept:
            if task not in self._ends:
                self._ends[task] = self.scale.ends(task, self.weights)
            chance, span = self._ends[task]
            self._points.append(point)
            got = self.scale.scores(task, point.sums[task], self.weights)
            self._kept[key] = (got - chance) / span
        return self._kept[key]

    def mean_bytes(self, point: Point) -> Float[ndarray, "b"]:
        """Return the mean bytes of a file in every resample."""
        return self.weights @ point.bytes / self.weights.sum(1)

    def curve(
        self, points: Sequence[Point], tasks: Sequence[str] | None = None, rule: Rule = "mean"
    ) -> tuple[Float[ndarray, "b m"], Float[ndarray, "b m"]]:
        """Return bytes and retention of every point in every resample; no bytes count as one.

        Raises: ArgumentError: no point.
        """
        if not points:
            raise ArgumentError("Resamples: points is empty, must hold one at least")
        sizes = np.stack([self.mean_bytes(p) for p in points], 1)
        return np.maximum(sizes, 1.0), np.stack([self.retention(p, tasks, rule) for p in points], 1)

    def reached(
        self,
        points: Sequence[Point],
        wanted: float,
        tasks: Sequence[str] | None = None,
        rule: Rule = "mean",
    ) -> Float[ndarray, "b"]:
        """Return the bytes at a retention in every resample; infinite where it is not reached."""
        return reach(*rising(*self.curve(points, tasks, rule)), wanted)

    def figure(self, values: Float[ndarray, "b"]) -> Figure:
        """Return the interval of values, infinite or NaN where there is none, of every resample."""
        there = np.isfinite(values[1:])
        some = np.where(np.isnan(values[1:]), np.inf, values[1:])
        tail = (1 - self.confidence) / 2
        # Order statistics: to interpolate between a number and infinity gives nothing.
        low, high = np.quantile(some, [tail, 1 - tail], method="inverted_cdf")
        first = float(values[0])
        return Figure(
            first if np.isfinite(first) else None,
            float(low) if np.isfinite(low) else None,
            float(high) if np.isfinite(high) else None,
            float(there.mean()),
            self.num_groups,
            self.num_groups < ANECDOTE_BELOW,
        )

    def bytes_at(
        self,
        points: Sequence[Point],
        wanted: float,
        tasks: Sequence[str] | None = None,
        rule: Rule = "mean",
    ) -> Figure:
        """Return the mean bytes of a file at a retention, with its interval."""
        return self.figure(self.reached(points, wanted, tasks, rule))

    def ratio(
        self,
        points: Sequence[Point],
        anchor: Sequence[Point],
        wanted: float,
        tasks: Sequence[str] | None = None,
        rule: Rule = "mean",
    ) -> Figure:
        """Return how many times the bytes of points an anchor needs at equal retention.

        A resample that the anchor alone does not reach counts as infinitely many times, one that
        the points do not reach as none.
        """
        ours, theirs = (self.reached(p, wanted, tasks, rule) for p in (points, anchor))
        out = np.full(len(ours), np.nan)
        both = np.isfinite(ours) & np.isfinite(theirs)
        out[both] = theirs[both] / ours[both]
        out[np.isfinite(ours) & ~np.isfinite(theirs)] = np.inf
        none = ~np.isfinite(ours)
        first = out[0] if both[0] else np.nan
        low_open = np.where(none, 0.0, out)
        figure = self.figure(np.concatenate([[first], low_open[1:]]))
        return Figure(
            figure.value,
            figure.low,
            figure.high,
            float(both[1:].mean()),
            self.num_groups,
            figure.anecdote,
        )

    def bd_rate(
        self,
        points: Sequence[Point],
        anchor: Sequence[Point],
        tasks: Sequence[str] | None = None,
        rule: Rule = "mean",
    ) -> tuple[BDRate, Figure]:
        """Return the BD-rate of points against an anchor from `FLOOR` on, and its interval."""
        curves = [self.curve(p, tasks, rule) for p in (anchor, points)]
        rows: list[float] = []
        first: BDRate | None = None
        count = min(len(self.weights), 1 + _BD_RESAMPLES)
        for row in range(count):
            a, b = ((sizes[row], kept[row]) for sizes, kept in curves)
            if not (np.isfinite(a[1]).all() and np.isfinite(b[1]).all()):
                rows.append(np.nan)
                continue
            found = bd_rate(a, b, floor=FLOOR)
            first = found if row == 0 else first
            rows.append(np.nan if found.percent is None else found.percent)
            if row == 0 and found.percent is None:
                rows += [np.nan] * (count - 1)
                break
        none = BDRate(None, 0.0, 0.0, 0.0, 0, 0, "the network knows no more than chance")
        return first or none, self.figure(np.array(rows))
