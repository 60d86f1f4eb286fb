"""Any bytes: a valid decode or a BitstreamError, never anything else, never a hang."""

from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal import codec
from foveal.codec.container import pack, unpack
from foveal.codec.entropy import (
    LaneDecoder,
    RansDecoder,
    encode_lanes,
    encode_symbols,
    laplace_tables,
)
from foveal.errors import BitstreamError

GOLDEN = Path(__file__).parents[1] / "golden" / "codec"
MODEL = codec.load(GOLDEN / "tiny.safetensors")
PAYLOAD = (GOLDEN / "tiny.fvl").read_bytes()
TABLES = laplace_tables([0.05, 0.5, 3.0, 20.0])
FUZZ = settings(deadline=None, max_examples=80)


def survive(payload: bytes) -> None:
    try:
        y = codec.decode_symbols(MODEL, payload, max_images=64)
    except BitstreamError:
        return
    assert y.shape[1:] == MODEL.latent_shape


@FUZZ
@given(st.binary(max_size=400))
def test_random_payload(data: bytes) -> None:
    survive(data)
    survive(b"FV\x10" + MODEL.model_id + data)


@FUZZ
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=20))
def test_random_streams_in_a_valid_container(streams: list[bytes]) -> None:
    survive(pack(MODEL.model_id, streams))


@FUZZ
@given(st.integers(0, 8 * len(PAYLOAD) - 1), st.integers(0, len(PAYLOAD)))
def test_bit_flips_and_truncations(bit: int, cut: int) -> None:
    damaged = bytearray(PAYLOAD)
    damaged[bit // 8] ^= 1 << bit % 8
    survive(bytes(damaged))
    survive(PAYLOAD[:cut])
    survive(bytes(damaged[:cut]) + PAYLOAD[cut // 2 :])


@FUZZ
@given(st.integers(0, 2), st.data())
def test_damage_under_a_good_checksum(which: int, data: st.DataObject) -> None:
    streams = [bytearray(s) for s in unpack(PAYLOAD).streams]
    if streams[which]:
        bit = data.draw(st.integers(0, 8 * len(streams[which]) - 1))
        streams[which][bit // 8] ^= 1 << bit % 8
    survive(pack(MODEL.model_id, [bytes(s) for s in streams]))


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


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 18), st.floats(0, 300), st.integers(0, 1 << 20))
def test_any_features_round_trip(batch: int, amplitude: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = amplitude * torch.randn((batch, *MODEL.feature_shape), generator=generator)
    payload = codec.encode(MODEL, x).payload
    y = codec.decode_symbols(MODEL, payload).reshape(batch, -1)
    assert np.array_equal(y, MODEL.symbols(x)[1])
