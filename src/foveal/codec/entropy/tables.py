"""Integer frequency tables: built once at export, stored in the model file, never recomputed.

A table covers the integers `low .. low + size - 2` and one escape symbol (its last entry). Every
entry has a frequency of at least 1 and a table sums to exactly 2**16, so that any integer can be
coded and a decoder needs no floating-point arithmetic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from foveal.errors import ArgumentError

PRECISION = 16
TOTAL = 1 << PRECISION
MAX_RADIUS = 127


@dataclass(frozen=True)
class FrequencyTables:
    """A set of static integer tables, one beside the other.

    Args:
        frequencies: int64 vector, all tables one after the other, each ending with its escape.
        sizes: int64 vector, entries per table including the escape (at least 2).
        lows: int64 vector, the value of the first entry of each table.

    Raises:
        ArgumentError: a sum, a size or a frequency is not what the format allows.
    """

    frequencies: NDArray[np.int64]
    sizes: NDArray[np.int64]
    lows: NDArray[np.int64]
    _offsets: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the tables, which may come from an untrusted file."""
        freq, sizes, lows = self.frequencies, self.sizes, self.lows
        if sizes.ndim != 1 or lows.shape != sizes.shape or freq.ndim != 1 or sizes.size == 0:
            raise ArgumentError(
                f"FrequencyTables: frequencies, sizes, lows have shapes {freq.shape}, "
                f"{sizes.shape}, {lows.shape}, must be vectors with one size and low per table; "
                "export the model again"
            )
        if int(sizes.min()) < 2 or int(sizes.max()) > TOTAL or int(sizes.sum()) != freq.size:
            raise ArgumentError(
                f"FrequencyTables: sizes sum to {int(sizes.sum())} with minimum "
                f"{int(sizes.min())}, must sum to {freq.size} with minimum 2; "
                "export the model again"
            )
        if int(np.abs(lows).max()) > 1 << 20:
            raise ArgumentError(
                "FrequencyTables: lows is beyond 2**20, must be within; export the model again"
            )
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        sums = np.add.reduceat(freq, offsets[:-1])
        if int(freq.min()) < 1 or bool((sums != TOTAL).any()):
            raise ArgumentError(
                f"FrequencyTables: frequencies has minimum {int(freq.min())} and sums "
                f"{sorted(set(sums.tolist()))[:4]}, must be at least 1 and sum to {TOTAL}; "
                "export the model again"
            )
        object.__setattr__(self, "_offsets", offsets)

    def __len__(self) -> int:
        """Return the number of tables."""
        return int(self.sizes.size)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Exclusive cumulative frequency of every entry, flat like `frequencies`."""
        flat = np.cumsum(self.frequencies) - self.frequencies
        return flat - np.repeat(flat[self._offsets[:-1]], self.sizes)

    @cached_property
    def lists(self) -> list[tuple[list[int], list[int], int, int]]:
        """Per table `(starts, frequencies, low, escape index)` as Python integers."""
        out: list[tuple[list[int], list[int], int, int]] = []
        for t in range(len(self)):
            part = slice(int(self._offsets[t]), int(self._offsets[t + 1]))
            starts: list[int] = self.starts[part].tolist()
            freqs: list[int] = self.frequencies[part].tolist()
            out.append((starts, freqs, int(self.lows[t]), len(freqs) - 1))
        return out

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        tables = np.repeat(np.arange(len(self), dtype=np.int64), self.sizes)
        return (tables << PRECISION) + self.starts

    def find(self, indices: NDArray[np.int64], slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where in the flat vectors the entries lie whose slots of 0..2**16 - 1 are given.

        It searches, since a look-up of every slot would take megabytes for each layer of a model.
        """
        keys = (indices << PRECISION) + slots
        return np.searchsorted(self._keys, keys, side="right").astype(np.int64) - 1

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Position of the first entry of each table in the flat vectors."""
        return self._offsets[:-1]

    def ideal_bits(self, symbols: NDArray[np.int64], indices: NDArray[np.int64]) -> float:
        """Return the information of `symbols` under these tables in bits (escape bits included)."""
        entry = symbols - self.lows[indices]
        escape = self.sizes[indices] - 1
        outside = (entry < 0) | (entry >= escape)
        flat = self.offsets[indices] + np.where(outside, escape, entry)
        bits = float(np.sum(PRECISION - np.log2(self.frequencies[flat])))
        for e, n in zip(entry[outside].tolist(), escape[outside].tolist(), strict=True):
            bits += 2 * escape_code(e, n).bit_length() - 1
        return bits


def escape_code(entry: int, escape: int) -> int:
    """Map an entry below 0 or from `escape` on to a positive integer (Exp-Golomb argument)."""
    return 2 * (entry - escape) + 1 if entry >= escape else -2 * entry


def escape_entry(code: int, escape: int) -> int:
    """Undo `escape_code`."""
    return escape + code // 2 if code & 1 else -(code // 2)


def _quantise(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round probabilities to frequencies of at least 1 that sum to 2**16."""
    freq = np.maximum(1, np.rint(probability / probability.sum() * TOTAL)).astype(np.int64)
    excess = int(freq.sum()) - TOTAL
    while excess != 0:
        # Moves the difference onto the largest entry, where it costs the fewest bits.
        top = int(np.argmax(freq))
        step = min(excess, int(freq[top]) // 2) if excess > 0 else excess
        freq[top] -= step
        excess -= step
    return freq


def laplace_tables(
    scales: Sequence[float] | NDArray[np.float64],
    locations: Sequence[float] | NDArray[np.float64] | None = None,
) -> FrequencyTables:
    """Build tables of discretised Laplace densities, in fp64, at export time only.

    P(k) is the mass of [k - 1/2, k + 1/2] under Laplace(location, scale); the escape takes the mass
    outside the table's support, which reaches to the 2**-17 tail or `MAX_RADIUS`.

    Args:
        scales: Laplace scales b > 0, in quantisation steps, one per table.
        locations: Medians in quantisation steps. Default 0.

    Returns: One table per scale.

    Raises:
        ArgumentError: `scales` is empty, not finite or not positive; `locations` does not fit.
    """
    b = np.asarray(scales, dtype=np.float64)
    mu = np.zeros_like(b) if locations is None else np.asarray(locations, dtype=np.float64)
    if b.ndim != 1 or b.size == 0 or not np.isfinite(b).all() or float(b.min()) <= 0:
        raise ArgumentError(
            f"laplace_tables: scales has shape {b.shape}, must be a vector of positive finite "
            "numbers; clip the scales first"
        )
    if mu.shape != b.shape or not np.isfinite(mu).all():
        raise ArgumentError(
            f"laplace_tables: locations has shape {mu.shape}, must be finite and of shape "
            f"{b.shape}; give one location per scale"
        )

    def cdf(x: NDArray[np.float64], m: float, s: float) -> NDArray[np.float64]:
        tail = 0.5 * np.exp(-np.abs(x - m) / s)
        return np.where(x < m, tail, 1.0 - tail)

    freqs: list[NDArray[np.int64]] = []
    lows: list[int] = []
    for m, s in zip(mu.tolist(), b.tolist(), strict=True):
        radius = min(MAX_RADIUS, max(1, int(np.ceil(s * np.log(float(TOTAL))))))
        low = int(np.rint(m)) - radius
        edges = np.arange(low, low + 2 * radius + 2, dtype=np.float64) - 0.5
        mass = np.diff(cdf(edges, m, s))
        freqs.append(_quantise(np.append(mass, max(1.0 - float(mass.sum()), 0.0))))
        lows.append(low)
    sizes = np.array([f.size for f in freqs], dtype=np.int64)
    return FrequencyTables(np.concatenate(freqs), sizes, np.array(lows, dtype=np.int64))


def categorical_tables(probabilities: NDArray[np.float64]) -> FrequencyTables:
    """Build one table per row of `probabilities` for the symbols 0, 1, ..., at export time only.

    The escape gets the least frequency: valid symbols never need it.

    Raises:
        ArgumentError: `probabilities` is not [tables, 1..2**15] finite non-negative numbers with
            positive sums.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    fits = p.ndim == 2 and len(p) > 0 and 0 < p.shape[1] <= TOTAL // 2
    if not fits or not np.isfinite(p).all() or p.min() < 0 or p.sum(axis=1).min() <= 0:
        raise ArgumentError(
            f"categorical_tables: probabilities has shape {p.shape}, must be [tables, symbols] "
            "finite non-negative numbers with positive sums; check the training"
        )
    freqs = [_quantise(np.append(row / row.sum(), 0.0)) for row in p]
    sizes = np.full(len(p), p.shape[1] + 1, dtype=np.int64)
    return FrequencyTables(np.concatenate(freqs), sizes, np.zeros(len(p), dtype=np.int64))


def count_symbols(
    tables: FrequencyTables, symbols: NDArray[np.int64], indices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count how often each entry of `tables` codes one of `symbols`; add up over batches.

    Args:
        tables: The tables whose supports decide what is an escape.
        symbols: Integers of any shape.
        indices: The table of each symbol, of the same shape.

    Returns: Counts, flat like `tables.frequencies`.

    Raises:
        ArgumentError: shapes disagree, or an index has no table.
    """
    if symbols.shape != indices.shape:
        raise ArgumentError(
            f"count_symbols: indices has shape {indices.shape}, must be {symbols.shape} like "
            "symbols; give one table index per symbol"
        )
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < len(tables):
        raise ArgumentError(
            f"count_symbols: indices is within {int(indices.min())}..{int(indices.max())}, must "
            f"be within 0..{len(tables) - 1}; clip it to the number of tables"
        )
    entry = symbols - tables.lows[indices]
    escape = tables.sizes[indices] - 1
    flat = tables.offsets[indices] + np.where((entry < 0) | (entry >= escape), escape, entry)
    return np.bincount(flat.ravel(), minlength=tables.frequencies.size).astype(np.int64)


def counted_tables(
    counts: NDArray[np.int64], tables: FrequencyTables, *, strength: float = 64.0
) -> FrequencyTables:
    """Build tables of counted symbols, smoothed towards `tables`, at export time only.

    p = (counts + strength * q) / (sum of counts + strength), with q the frequencies of `tables`: a
    table without counts stays what it was, one with many follows them, zeros and tails included.

    Args:
        counts: Counts of training symbols, flat like `tables.frequencies`.
        tables: The tables to start from; supports stay theirs.
        strength: Weight of `tables`, in symbols per table.

    Raises:
        ArgumentError: `counts` does not fit or is negative, or `strength` is not positive.
    """
    if counts.shape != tables.frequencies.shape or (counts.size and int(counts.min()) < 0):
        raise ArgumentError(
            f"counted_tables: counts has shape {counts.shape}, must be "
            f"{tables.frequencies.shape} and not negative; take it from count_symbols"
        )
    if not (np.isfinite(strength) and strength > 0):
        raise ArgumentError(
            f"counted_tables: strength is {strength}, must be positive and finite; "
            "leave it at its default"
        )
    parts = zip(tables.offsets.tolist(), tables.sizes.tolist(), strict=True)
    weights = counts + strength / TOTAL * tables.frequencies
    freqs = [_quantise(weights[o : o + s]) for o, s in parts]
    return FrequencyTables(np.concatenate(freqs), tables.sizes.copy(), tables.lows.copy())
