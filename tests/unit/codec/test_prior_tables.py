"""Tables from counted symbols and from probabilities."""

import numpy as np
import pytest

from foveal.codec.entropy import RansDecoder, encode_symbols, laplace_tables
from foveal.codec.entropy.tables import categorical_tables, count_symbols, counted_tables
from foveal.errors import ArgumentError

START = laplace_tables([0.3, 2.0, 9.0])


def test_counts_by_hand() -> None:
    tables = laplace_tables([0.05, 0.05])  # symbols -1, 0, 1 and the escape
    symbols = np.array([[0, 1, -1], [0, 2, -50]])
    indices = np.array([[0, 0, 0], [1, 1, 1]])
    counts = count_symbols(tables, symbols, indices)
    assert tables.sizes.tolist() == [4, 4]
    assert counts.tolist() == [1, 1, 1, 0, 0, 1, 0, 2]


def test_frequencies_by_hand() -> None:
    tables = categorical_tables(np.array([[0.5, 0.5]]))
    counts = np.array([192, 0, 0])
    freqs = counted_tables(counts, tables, strength=64.0).frequencies
    # (192 + 32) / 256 and 32 / 256 of 65536; the escape's 1 comes from the largest.
    assert freqs.tolist() == [57343, 8192, 1]


def test_no_counts_change_nothing() -> None:
    out = counted_tables(np.zeros_like(START.frequencies), START)
    assert np.array_equal(out.frequencies, START.frequencies)
    assert np.array_equal(out.lows, START.lows)


def test_counted_tables_pay_for_zeros_and_tails() -> None:
    rng = np.random.default_rng(1)
    indices = rng.integers(0, 3, 60_000)
    scale = np.array([0.3, 2.0, 9.0])[indices]
    heavy = rng.standard_t(1.5, 60_000) * scale
    symbols = np.rint(np.where(rng.random(60_000) < 0.4, 0, heavy)).astype(np.int64)
    symbols = symbols.clip(-(1 << 20), 1 << 20)
    half = len(symbols) // 2
    tables = counted_tables(count_symbols(START, symbols[:half], indices[:half]), START)
    test, places = symbols[half:], indices[half:]
    assert tables.ideal_bits(test, places) < 0.9 * START.ideal_bits(test, places)
    stream = encode_symbols([(tables, test[:2000], places[:2000])])
    assert np.array_equal(RansDecoder(stream).decode(tables, places[:2000]), test[:2000])


def test_few_symbols_do_not_spoil_a_table() -> None:
    rng = np.random.default_rng(2)
    indices = np.ones(5000, dtype=np.int64)
    symbols = np.rint(rng.laplace(0, 2.0, 5000)).astype(np.int64)
    few = counted_tables(count_symbols(START, symbols[:20], indices[:20]), START)
    assert few.ideal_bits(symbols, indices) < 1.03 * START.ideal_bits(symbols, indices)


@pytest.mark.parametrize(
    ("counts", "strength", "name"),
    [
        (START.frequencies[1:], 64.0, "counts"),
        (-START.frequencies, 64.0, "counts"),
        (START.frequencies, 0.0, "strength"),
        (START.frequencies, float("nan"), "strength"),
    ],
    ids=["short", "negative", "zero", "nan"],
)
def test_bad_counts_are_named(counts: np.ndarray, strength: float, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"counted_tables: {name}"):
        counted_tables(counts, START, strength=strength)


def test_bad_symbols_to_count_are_named() -> None:
    one = np.zeros(3, dtype=np.int64)
    with pytest.raises(ArgumentError, match=r"indices has shape \(2,\)"):
        count_symbols(START, one, one[:2])
    with pytest.raises(ArgumentError, match=r"0\.\.3, must be within 0\.\.2"):
        count_symbols(START, one, np.array([0, 3, 1]))
    assert count_symbols(START, one[:0], one[:0]).sum() == 0


def test_probabilities_become_frequencies() -> None:
    tables = categorical_tables(np.array([[1.0, 3.0], [0.0, 1.0]]))
    assert tables.frequencies.tolist() == [16384, 49151, 1, 1, 65534, 1]
    assert tables.lows.tolist() == [0, 0]


@pytest.mark.parametrize(
    "rows", [[], [[]], [[-0.1, 1.1]], [[0.0, 0.0]], [[float("inf"), 1.0]], [0.5, 0.5]]
)
def test_bad_probabilities_are_named(rows: list[float]) -> None:
    with pytest.raises(ArgumentError, match="categorical_tables: probabilities"):
        categorical_tables(np.array(rows))
