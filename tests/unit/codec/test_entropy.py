"""Tables and rANS: sums, sizes against the ideal and against constriction, both coders equal."""

import math

import numpy as np
import pytest

from foveal.codec.entropy import (
    FrequencyTables,
    LaneDecoder,
    RansDecoder,
    encode_lanes,
    encode_symbols,
    laplace_tables,
)
from foveal.codec.entropy.rans import finish
from foveal.errors import ArgumentError, BitstreamError

SCALES = 0.05 * (20 / 0.05) ** (np.arange(64) / 63)


def draw(tables: FrequencyTables, indices: np.ndarray, seed: int) -> np.ndarray:
    """Draw symbols from the tables themselves (escapes become an outlier)."""
    slots = np.random.default_rng(seed).integers(0, 1 << 16, indices.shape)
    entry = tables.find(indices, slots) - tables.offsets[indices]
    return tables.lows[indices] + entry


def test_tables_sum_to_two_to_the_sixteen() -> None:
    tables = laplace_tables(SCALES, np.linspace(-3, 3, 64))
    for starts, freqs, _, escape in tables.lists:
        assert sum(freqs) == 1 << 16
        assert min(freqs) >= 1
        assert len(freqs) == escape + 1
        assert starts == [sum(freqs[:i]) for i in range(len(freqs))]


def test_table_values_by_hand() -> None:
    tables = laplace_tables([1.0])
    _, freqs, low, escape = tables.lists[0]
    zero = 1 - math.exp(-0.5)
    one = 0.5 * (math.exp(-0.5) - math.exp(-1.5))
    assert low == -12
    assert escape == 25
    assert freqs[12] == pytest.approx(zero * 65536, abs=12)  # takes the rounding of the others
    assert freqs[13] == freqs[11] == round(one * 65536)


@pytest.mark.parametrize("scales", [[], [0.0], [-1.0], [float("nan")], [[1.0]]])
def test_bad_scales_are_named(scales: list[float]) -> None:
    with pytest.raises(ArgumentError, match="scales"):
        laplace_tables(scales)


def test_bad_tables_are_refused() -> None:
    one = np.array([1], dtype=np.int64)
    with pytest.raises(ArgumentError, match="sum"):
        FrequencyTables(np.array([5, 6], dtype=np.int64), one * 2, one)
    with pytest.raises(ArgumentError, match="sizes"):
        FrequencyTables(np.array([1 << 16], dtype=np.int64), one, one)


def test_large_input_is_within_a_tenth_of_a_percent_of_the_ideal() -> None:
    tables = laplace_tables(SCALES)
    indices = np.random.default_rng(1).integers(0, 64, 40_000)
    symbols = draw(tables, indices, 2)
    stream = encode_symbols([(tables, symbols, indices)])
    ideal = tables.ideal_bits(symbols, indices) / 8
    assert ideal <= len(stream) + 1e-6
    assert len(stream) < 1.001 * ideal + 3
    decoder = RansDecoder(stream)
    assert np.array_equal(decoder.decode(tables, indices), symbols)
    decoder.close()


def test_small_streams_cost_at_most_three_bytes_over_the_ideal() -> None:
    tables = laplace_tables(SCALES)
    for n in (0, 1, 2, 5, 30, 300):
        indices = np.random.default_rng(n).integers(0, 64, n)
        symbols = draw(tables, indices, n)
        stream = encode_symbols([(tables, symbols, indices)])
        assert len(stream) <= tables.ideal_bits(symbols, indices) / 8 + 3


def test_not_larger_than_constriction() -> None:
    constriction = pytest.importorskip("constriction")
    tables = laplace_tables(SCALES)
    indices = np.sort(np.random.default_rng(3).integers(0, 64, 20_000))
    symbols = draw(tables, indices, 4)
    ours = encode_symbols([(tables, symbols, indices)])
    theirs = constriction.stream.stack.AnsCoder()
    for index in range(63, -1, -1):
        here = symbols[indices == index] - tables.lows[index]
        freqs = np.array(tables.lists[index][1]) / 65536
        model = constriction.stream.model.Categorical(freqs, perfect=False)
        theirs.encode_reverse(here.astype(np.int32), model)
    escapes = np.count_nonzero(symbols - tables.lows[indices] == tables.sizes[indices] - 1)
    assert abs(len(ours) - theirs.num_bits() / 8) < 0.001 * len(ours) + 8 + escapes


def test_lanes_write_and_read_the_scalar_bytes() -> None:
    tables = laplace_tables(SCALES)
    rng = np.random.default_rng(5)
    indices = rng.integers(0, 64, (20, 300))
    symbols = draw(tables, indices, 6)
    symbols[3, 7], symbols[4, 7], symbols[9, 299] = 100_000, -128, -(1 << 21)
    symbols[0] = 0
    lanes = encode_lanes([(tables, symbols, indices)])
    assert lanes == [
        encode_symbols([(tables, s, i)]) for s, i in zip(symbols, indices, strict=True)
    ]
    decoder = LaneDecoder(lanes)
    assert np.array_equal(decoder.decode(tables, indices), symbols)
    decoder.close()


def test_left_over_bytes_are_noticed() -> None:
    tables = laplace_tables(SCALES)
    indices = np.full(200, 50)
    stream = encode_symbols([(tables, draw(tables, indices, 7), indices)])
    for kind in (RansDecoder(stream), LaneDecoder([stream])):
        shape = (1, 100) if isinstance(kind, LaneDecoder) else (100,)
        kind.decode(tables, np.full(shape, 50))
        with pytest.raises(BitstreamError, match="must end"):
            kind.close()


def test_information_left_in_a_state_without_words_is_noticed() -> None:
    """A stream of few symbols is its state alone: no word tells that something is left."""
    tables = laplace_tables(SCALES)
    indices = np.full(3, 50)
    stream = encode_symbols([(tables, np.array([5, -7, 9]), indices)])
    assert 0 < len(stream) <= 6
    one = RansDecoder(stream)
    one.decode(tables, indices[:2])
    with pytest.raises(BitstreamError, match=r"ends with state [1-9]\d* and 0 words left"):
        one.close()
    lanes = LaneDecoder([b"", stream])
    lanes.decode(tables, np.array([[0, 0], [50, 50]]), skip=True)
    with pytest.raises(BitstreamError, match=r"streams \[1\] end with information left"):
        lanes.close()


def test_an_escape_ends_after_24_zeros() -> None:
    """Else a hostile stream could ask for numbers of any size."""
    tables = laplace_tables([1.0])
    starts, freqs, _, escape = tables.lists[0]
    half = 1 << 15
    for zeros in (24, 25, 40):
        steps = [(starts[escape], freqs[escape])] + [(0, half)] * zeros + [(half, half)]
        steps += [(0, half)] * zeros
        state, words = 0, list[int]()
        for start, freq in reversed(steps):
            if state >= freq << 32:
                words.append(state & 0xFFFF)
                state >>= 16
            state = (state // freq << 16) + start + state % freq
        stream = finish(state, np.array(words, dtype=np.uint16))
        one, lanes = RansDecoder(stream), LaneDecoder([stream])
        index = np.zeros((1, 1), dtype=np.int64)
        for decoder, shape in ((one, (1,)), (lanes, (1, 1))):
            if zeros == 24:
                found = decoder.decode(tables, index.reshape(shape))
                assert found.item() == tables.lows[0] - (1 << 24) // 2
                decoder.close()
            else:
                with pytest.raises(BitstreamError, match="more than 24 bits, must have fewer"):
                    decoder.decode(tables, index.reshape(shape))


def test_arguments_are_named() -> None:
    tables = laplace_tables([1.0])
    zeros = np.zeros(3, dtype=np.int64)
    with pytest.raises(ArgumentError, match="indices has shape"):
        encode_symbols([(tables, zeros, zeros[:2])])
    with pytest.raises(ArgumentError, match="indices is within"):
        encode_symbols([(tables, zeros, zeros + 1)])
    with pytest.raises(ArgumentError, match="symbols is within"):
        encode_symbols([(tables, zeros + (1 << 22), zeros)])
    with pytest.raises(ArgumentError, match="dtypes"):
        encode_symbols([(tables, zeros.astype(float), zeros)])
    with pytest.raises(ArgumentError, match="layers has shapes"):
        encode_lanes([(tables, zeros, zeros)])
    with pytest.raises(ArgumentError, match="indices has shape"):
        LaneDecoder([b""]).decode(tables, zeros)
