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

from foveal.codec.evaluate.points import Point, Rule, Scale, combined
from foveal.errors import ArgumentError
from foveal.stats.bd_rate import BDRate, bd_rate, isotonic
from foveal.stats.bootstrap import ANECDOTE_BELOW

RESAMPLES = 1000
_ROUNDING = 1e-9


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


def reach(
    sizes: Float[ndarray, "m"], retention: Float[ndarray, "m"], wanted: float
) -> float | None:
    """Return the bytes at which a curve reaches a retention, or None if it does not.

    Args:
        sizes: Mean bytes of each point.
        retention: Of each point.
        wanted: Retention to reach. At or below that of the smallest point, its bytes are returned.
    """
    order = np.lexsort((-retention, sizes))
    logs, risen = np.log(sizes[order]), isotonic(retention[order])
    if not np.isfinite(risen).all() or wanted > risen[-1] + _ROUNDING:
        return None
    wanted = min(wanted, float(risen[-1]))
    i = int(np.searchsorted(risen, wanted, side="left"))
    if i == 0:
        return float(np.exp(logs[0]))
    part = (wanted - risen[i - 1]) / (risen[i] - risen[i - 1])
    return float(np.exp(logs[i - 1] + part * (logs[i] - logs[i - 1])))


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
        self._kept: dict[tuple[int, tuple[str, ...], str], ndarray] = {}
        self._points: list[Point] = []  # so that no id comes twice

    def retention(
        self, point: Point, tasks: Sequence[str] | None = None, rule: Rule = "mean"
    ) -> Float[ndarray, "b"]:
        """Return the retention of a point in every resample; the first is of all images."""
        names = tuple(self.scale.tasks if tasks is None else tasks)
        key = (id(point.sums), names, rule)
        if key not in self._kept:
            self._points.append(point)
            self._kept[key] = combined(self.scale, point, names, rule, self.weights)
        return self._kept[key]

    def mean_bytes(self, point: Point) -> Float[ndarray, "b"]:
        """Return the mean bytes of a file in every resample."""
        return self.weights @ point.bytes / self.weights.sum(1)

    def curve(
        self, points: Sequence[Point], tasks: Sequence[str] | None = None, rule: Rule = "mean"
    ) -> tuple[Float[ndarray, "b m"], Float[ndarray, "b m"]]:
        """Return bytes and retention of every point in every resample.

        Raises: ArgumentError: no point.
        """
        if not points:
            raise ArgumentError("Resamples: points is empty, must hold one at least")
        sizes = np.stack([self.mean_bytes(p) for p in points], 1)
        return sizes, np.stack([self.retention(p, tasks, rule) for p in points], 1)

    def reached(
        self,
        points: Sequence[Point],
        wanted: float,
        tasks: Sequence[str] | None = None,
        rule: Rule = "mean",
    ) -> Float[ndarray, "b"]:
        """Return the bytes at a retention in every resample; infinite where it is not reached."""
        sizes, retention = self.curve(points, tasks, rule)
        found = [reach(b, r, wanted) for b, r in zip(sizes, retention, strict=True)]
        return np.array([np.inf if x is None else x for x in found])

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
        """Return the BD-rate of points against an anchor, and its interval."""
        curves = [self.curve(p, tasks, rule) for p in (anchor, points)]
        rows: list[float] = []
        first: BDRate | None = None
        for row in range(len(self.weights)):
            a, b = ((sizes[row], kept[row]) for sizes, kept in curves)
            if not (np.isfinite(a[1]).all() and np.isfinite(b[1]).all()):
                rows.append(np.nan)
                continue
            found = bd_rate(a, b)
            first = found if row == 0 else first
            rows.append(np.nan if found.percent is None else found.percent)
            if row == 0 and found.percent is None:
                rows += [np.nan] * (len(self.weights) - 1)
                break
        none = BDRate(None, 0.0, 0.0, 0.0, 0, 0, "the network knows no more than chance")
        return first or none, self.figure(np.array(rows))
