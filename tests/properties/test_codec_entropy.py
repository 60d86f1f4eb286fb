"""rANS one stream at a time and in lanes: any bytes and any integers are the same to both."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.codec.entropy import (
    LaneDecoder,
    RansDecoder,
    encode_lanes,
    encode_symbols,
    laplace_tables,
)
from foveal.errors import BitstreamError

TABLES = laplace_tables([0.05, 0.5, 3.0, 20.0])
FUZZ = settings(deadline=None, max_examples=80)


@FUZZ
@given(st.binary(max_size=80), st.lists(st.integers(0, 3), max_size=60))
def test_both_decoders_agree_on_any_bytes(stream: bytes, table: list[int]) -> None:
    indices = np.array(table, dtype=np.int64)
    found: list[object] = []
    for kind in (RansDecoder, LaneDecoder):
        try:
            if kind is RansDecoder:
                one = RansDecoder(stream)
                out = one.decode(TABLES, indices)
            else:
                one = LaneDecoder([stream])
                out = one.decode(TABLES, indices[None])[0]
            one.close()
            found.append(out.tolist())
        except BitstreamError:
            found.append("refused")
    assert found[0] == found[1]


@FUZZ
@given(st.lists(st.tuples(st.integers(-(1 << 21), 1 << 21), st.integers(0, 3)), max_size=60))
def test_any_integers_survive(pairs: list[tuple[int, int]]) -> None:
    symbols = np.array([p[0] for p in pairs], dtype=np.int64)
    indices = np.array([p[1] for p in pairs], dtype=np.int64)
    stream = encode_symbols([(TABLES, symbols, indices)])
    decoder = RansDecoder(stream)
    assert np.array_equal(decoder.decode(TABLES, indices), symbols)
    decoder.close()
    assert encode_lanes([(TABLES, symbols[None], indices[None])]) == [stream]
