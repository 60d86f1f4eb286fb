"""Bjontegaard's difference of rates on curves that need not be smooth, and when not to give one.

Curves of a recogniser's score against bytes have dips and saturate: cubics through them give any
figure at all. Here a curve is first made monotone (pool adjacent violators), points that add
nothing are dropped, and log rate is interpolated by shape-preserving cubics over the scores that
both curves have. Where these are few, no figure is given, and the reason instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from foveal.errors import ArgumentError, ShapeError

LEAST_OVERLAP = 0.5
LEAST_POINTS = 4


@dataclass(frozen=True, slots=True)
class BDRate:
    """Difference of rates at equal score.

    Args:
        percent: Mean difference of the test's rate from the anchor's; below 0 the test needs less.
            None where no figure is given.
        overlap: Scores that both curves have, as a share of those that either has.
        low, high: These scores.
        anchor_points, test_points: Points that are left of each curve.
        reason: Why there is no figure; empty if there is.
    """

    percent: float | None
    overlap: float
    low: float
    high: float
    anchor_points: int
    test_points: int
    reason: str = ""


def isotonic(
    values: Sequence[float] | Float[ndarray, "n"],
    weights: Sequence[float] | Float[ndarray, "n"] | None = None,
) -> Float[ndarray, "n"]:
    """Return the nearest values (weighted squares) that never fall: neighbors that do are pooled.

    Args:
        values: In order.
        weights: Positive. Default: all the same.

    Raises: ShapeError: no values, or not as many weights.

    Source: Ayer et al., "An Empirical Distribution Function for Sampling with Incomplete
    Information", Annals of Mathematical Statistics 1955.
    """
    y = np.asarray(values, dtype=np.float64)
    w = np.ones_like(y) if weights is None else np.asarray(weights, dtype=np.float64)
    if y.ndim != 1 or y.size == 0 or w.shape != y.shape:
        raise ShapeError(
            f"isotonic: values has shape {y.shape} and weights {w.shape}, must be equal, 1-D and "
            "not empty"
        )
    blocks: list[tuple[float, float, int]] = []  # mean, weight, count
    for value, weight in zip(y.tolist(), w.tolist(), strict=True):
        mean, total, count = value, weight, 1
        while blocks and blocks[-1][0] >= mean:
            last, heavy, number = blocks.pop()
            mean = (last * heavy + mean * total) / (heavy + total)
            total, count = heavy + total, count + number
        blocks.append((mean, total, count))
    return np.repeat([m for m, _, _ in blocks], [c for _, _, c in blocks])


class Pchip:
    """Cubic pieces through points that rise or fall nowhere but where the points do.

    Args:
        x: Strictly ascending, two at least.
        y: As many.

    Raises: ArgumentError: x does not ascend, or the lengths do not fit.

    Source: Fritsch and Butland, "A Method for Constructing Local Monotone Piecewise Cubic
    Interpolants", SIAM J. Sci. Stat. Comput. 1984; slopes at both ends from three points.
    """

    def __init__(self, x: Float[ndarray, "n"], y: Float[ndarray, "n"]) -> None:
        """Find the slopes."""
        if x.ndim != 1 or x.shape != y.shape or len(x) < 2 or not bool((np.diff(x) > 0).all()):
            raise ArgumentError(
                f"Pchip: x has shape {x.shape} and y {y.shape}, must be as many, two at least, x "
                "strictly ascending"
            )
        self.x, self.y = x.astype(np.float64), y.astype(np.float64)
        self.slopes = _slopes(np.diff(self.x), np.diff(self.y) / np.diff(self.x))

    def __call__(self, at: float) -> float:
        """Return the value at a place within the points."""
        i, t = self._find(at)
        c = self._coefficients(i)
        return float(((c[3] * t + c[2]) * t + c[1]) * t + c[0])

    def integral(self, low: float, high: float) -> float:
        """Return the exact integral between two places within the points."""
        return self._area(high) - self._area(low)

    def _find(self, at: float) -> tuple[int, float]:
        if not self.x[0] <= at <= self.x[-1]:
            raise ArgumentError(
                f"Pchip: at is {at}, must be within {self.x[0]}..{self.x[-1]}; nothing is "
                "extrapolated"
            )
        i = min(int(np.searchsorted(self.x, at, side="right")) - 1, len(self.x) - 2)
        return i, at - float(self.x[i])

    def _coefficients(self, i: int) -> tuple[float, float, float, float]:
        h = float(self.x[i + 1] - self.x[i])
        d0, d1 = float(self.slopes[i]), float(self.slopes[i + 1])
        delta = float(self.y[i + 1] - self.y[i]) / h
        return (
            float(self.y[i]),
            d0,
            (3 * delta - 2 * d0 - d1) / h,
            (d0 + d1 - 2 * delta) / h**2,
        )

    def _area(self, at: float) -> float:
        """Integral from the first point on."""
        last, t = self._find(at)
        c = self._coefficients(last)
        part = (((c[3] / 4 * t + c[2] / 3) * t + c[1] / 2) * t + c[0]) * t
        h, y, d = np.diff(self.x[: last + 1]), self.y[: last + 1], self.slopes[: last + 1]
        return part + float((h * (y[1:] + y[:-1]) / 2 + h**2 * (d[:-1] - d[1:]) / 12).sum())


def _slopes(h: Float[ndarray, "m"], delta: Float[ndarray, "m"]) -> Float[ndarray, "n"]:
    if len(h) == 1:
        return np.repeat(delta, 2)
    before, after = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    same = delta[:-1] * delta[1:] > 0
    left, right = np.where(same, delta[:-1], 1.0), np.where(same, delta[1:], 1.0)
    inner = np.where(same, (before + after) / (before / left + after / right), 0.0)
    ends = (_end(h[0], h[1], delta[0], delta[1]), _end(h[-1], h[-2], delta[-1], delta[-2]))
    return np.concatenate([[ends[0]], inner, [ends[1]]])


def _end(h0: float, h1: float, d0: float, d1: float) -> float:
    """Slope at an end from its own piece and the next."""
    slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
    if slope * d0 <= 0:
        return 0.0
    return 3 * d0 if d0 * d1 < 0 and abs(slope) > 3 * abs(d0) else slope


def monotone_curve(
    rate: Sequence[float] | Float[ndarray, "n"],
    score: Sequence[float] | Float[ndarray, "n"],
    *,
    least_gain: float = 1e-3,
) -> tuple[Float[ndarray, "m"], Float[ndarray, "m"]]:
    """Return log rates and scores of a curve, both strictly ascending.

    Args:
        rate: Positive.
        score: More is better.
        least_gain: A point must be better than the one kept before it by this share of the curve's
            range, or it counts as saturated and is dropped.

    Raises:
        ShapeError: not as many rates as scores, or none.
        ArgumentError: a rate is not positive, or a number not finite.
    """
    r, s = np.asarray(rate, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if r.ndim != 1 or r.shape != s.shape or r.size == 0:
        raise ShapeError(
            f"bd_rate: rate has shape {r.shape} and score {s.shape}, must be equal, 1-D and not "
            "empty"
        )
    if not bool((np.isfinite(r) & np.isfinite(s) & (r > 0)).all()):
        raise ArgumentError(
            "bd_rate: rate or score is not finite or a rate not positive, must be; leave such "
            "points out"
        )
    order = np.lexsort((-s, r))
    logs, risen = np.log(r[order]), isotonic(s[order])
    span = float(risen[-1] - risen[0])
    kept = [0]
    for i in range(1, len(risen)):
        gain = float(risen[i] - risen[kept[-1]])
        if gain > 0 and gain >= least_gain * span and logs[i] > logs[kept[-1]]:
            kept.append(i)
    return logs[kept], risen[kept]


def bd_rate(
    anchor: tuple[Sequence[float] | ndarray, Sequence[float] | ndarray],
    test: tuple[Sequence[float] | ndarray, Sequence[float] | ndarray],
    *,
    floor: float = -np.inf,
    least_overlap: float = LEAST_OVERLAP,
    least_points: int = LEAST_POINTS,
) -> BDRate:
    """Return how many percent more a test needs than an anchor, on average at equal score.

    Args:
        anchor: Rates and scores of what is compared with; more score is better.
        test: Those of what is judged.
        floor: Scores below it do not count, neither as overlap nor in the mean.
        least_overlap: Least share of all scores that both must have.
        least_points: Least points of each curve after what dips or saturates is taken out.

    Raises: ShapeError, ArgumentError: as `monotone_curve`.

    Source: Bjontegaard, VCEG-M33, 2001, with log rate interpolated by score.
    """
    a, b = monotone_curve(*anchor), monotone_curve(*test)
    low, high = max(a[1][0], b[1][0], floor), min(a[1][-1], b[1][-1])
    union = max(a[1][-1], b[1][-1]) - max(min(a[1][0], b[1][0]), floor)
    overlap = max(0.0, float(high - low)) / float(union) if union > 0 else 0.0
    # Of the points below the floor, the last one still carries the curve up to it.
    counts = tuple(int((s >= floor).sum()) + int(s[0] < floor) for _, s in (a, b))
    reason = ""
    if min(counts) < least_points:
        reason = f"{min(counts)} points are left of a curve, must be {least_points} at least"
    elif overlap < least_overlap:
        reason = f"scores overlap by {100 * overlap:.0f} %, must by {100 * least_overlap:.0f} %"
    if reason:
        return BDRate(None, overlap, float(low), float(high), counts[0], counts[1], reason)
    areas = [Pchip(s, r).integral(float(low), float(high)) for r, s in (a, b)]
    gap = (areas[1] - areas[0]) / float(high - low)
    percent = 100 * float(np.expm1(gap))
    return BDRate(percent, overlap, float(low), float(high), counts[0], counts[1])
