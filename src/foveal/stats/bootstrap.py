"""Bootstrap intervals of paired differences, resampling whole groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foveal.errors import ArgumentError

ANECDOTE_BELOW = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean and a percentile interval. `anecdote` is True below 100 independent groups."""

    mean: float
    low: float
    high: float
    num_groups: int
    anecdote: bool


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    *,
    groups: Sequence[int] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of mean(a - b) for paired values.

    Args:
        a: Values of one method.
        b: Values of the other, on the same items.
        groups: Item's group (several noise draws of one photograph belong together); groups
            are resampled as a whole. Default: every item is its own group.
        confidence: Coverage of the interval, in (0, 1).
        num_resamples: Bootstrap draws.
        seed: Of the draws.

    Raises:
        ArgumentError: lengths differ, nothing is given, or a value is not finite.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    if x.shape != y.shape or x.ndim != 1 or x.size == 0:
        raise ArgumentError(
            f"paired_bootstrap: a has {x.shape} and b {y.shape}, must be equal, 1-D and not empty"
        )
    difference = x - y
    if not np.isfinite(difference).all():
        raise ArgumentError("paired_bootstrap: a or b holds NaN or infinity, must be finite")
    if not 0 < confidence < 1:
        raise ArgumentError(f"paired_bootstrap: confidence is {confidence}, must be in (0, 1)")
    key = np.arange(x.size) if groups is None else np.asarray(groups)
    if key.shape != x.shape:
        raise ArgumentError(f"paired_bootstrap: groups has {key.shape}, must be {x.shape}")
    _, index = np.unique(key, return_inverse=True)
    count = int(index.max()) + 1
    sums = np.bincount(index, difference, count)
    sizes = np.bincount(index, minlength=count).astype(float)
    draws = np.random.default_rng(seed).integers(count, size=(num_resamples, count))
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(
        float(difference.mean()), float(low), float(high), count, count < ANECDOTE_BELOW
    )
