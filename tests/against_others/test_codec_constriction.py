"""The rANS coder beside constriction's: the same tables and symbols, the same rate."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from foveal.codec.entropy.rans import RansDecoder, encode_symbols
from foveal.codec.entropy.tables import PRECISION, FrequencyTables, laplace_tables

constriction: Any = pytest.importorskip("constriction")

SCALES = 0.05 * (20 / 0.05) ** (np.arange(64) / 63)
TABLES = laplace_tables(SCALES)


def models(tables: FrequencyTables) -> list[Any]:
    """Return constriction's models of the same frequencies: dyadic, so that they are exact."""
    categorical = constriction.stream.model.Categorical
    out: list[Any] = []
    for _, freqs, _, _ in tables.lists:
        out.append(categorical(np.array(freqs, dtype=np.float64) / (1 << PRECISION), perfect=False))
    return out


def draw(tables: FrequencyTables, indices: np.ndarray, seed: int) -> np.ndarray:
    """Draw symbols from the tables; none of them escapes."""
    slots = np.random.default_rng(seed).integers(0, 1 << PRECISION, indices.shape)
    entry = tables.find(indices, slots) - tables.offsets[indices]
    return tables.lows[indices] + np.minimum(entry, tables.sizes[indices] - 2)


def code(tables: FrequencyTables, symbols: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return constriction's words for symbols, and check that it reads them back."""
    each = models(tables)
    entries = (symbols - tables.lows[indices]).astype(np.int32)
    coder = constriction.stream.stack.AnsCoder()
    for entry, index in zip(entries[::-1].tolist(), indices[::-1].tolist(), strict=True):
        coder.encode_reverse(np.array([entry], dtype=np.int32), each[index])
    words = coder.get_compressed()
    reader = constriction.stream.stack.AnsCoder(words)
    found = [reader.decode(each[index]) for index in indices.tolist()]
    assert found == entries.tolist()
    return words


def least(tables: FrequencyTables, symbols: Sequence[int], indices: Sequence[int]) -> float:
    """Return the information of symbols in bytes, from the frequencies alone."""
    bits = 0.0
    for symbol, index in zip(symbols, indices, strict=True):
        _, freqs, low, _ = tables.lists[index]
        bits += PRECISION - math.log2(freqs[symbol - low])
    return bits / 8


@pytest.mark.parametrize("which", ["low", "high", "mixed"])
def test_rate_of_long_streams(which: str) -> None:
    count = 6000
    rng = np.random.default_rng(3)
    first, last = {"low": (1, 20), "high": (40, 64), "mixed": (0, 64)}[which]
    indices = rng.integers(first, last, count)
    symbols = draw(TABLES, indices, 4)
    ours = encode_symbols([(TABLES, symbols, indices)])
    theirs = 4 * len(code(TABLES, symbols, indices))
    ideal = least(TABLES, symbols.tolist(), indices.tolist())
    assert abs(len(ours) - theirs) <= 0.001 * theirs + 8
    assert ideal <= len(ours) <= 1.001 * ideal + 3
    assert theirs <= 1.001 * ideal + 8
    reader = RansDecoder(ours)
    assert np.array_equal(reader.decode(TABLES, indices), symbols)
    reader.close()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_short_streams_are_not_longer(count: int) -> None:
    indices = np.random.default_rng(count).integers(0, 64, count)
    symbols = draw(TABLES, indices, count + 1)
    ours = encode_symbols([(TABLES, symbols, indices)])
    assert len(ours) <= 4 * len(code(TABLES, symbols, indices))
    assert len(ours) >= least(TABLES, symbols.tolist(), indices.tolist()) - 2


def test_frequencies_are_the_same_to_the_bit() -> None:
    """One symbol of frequency f costs constriction log2(2**16 / f) bits, many times over."""
    table = FrequencyTables(
        np.array([1 << 15, 1 << 14, 1 << 13, 1 << 13]), np.array([4]), np.array([0])
    )
    for symbol, bits in ((0, 1), (1, 2), (2, 3)):
        count, indices = 4096, np.zeros(4096, dtype=np.int64)
        symbols = np.full(count, symbol)
        symbols[-1] = 2  # coded first: both states start at 0, which the first entry leaves at 0
        words = code(table, symbols, indices)
        ours = encode_symbols([(table, symbols, indices)])
        assert abs(4 * len(words) - count * bits / 8) <= 8
        assert abs(len(ours) - count * bits / 8) <= 3
