"""The container: overhead, sections, and refusal of everything else."""

import pytest

from foveal.codec.container import pack, read_varint, unpack, write_varint
from foveal.errors import ArgumentError, BitstreamError


def test_one_stream_costs_twelve_bytes() -> None:
    payload = pack(b"abcd", [b"x" * 250])
    assert len(payload) == 262
    box = unpack(payload)
    assert box.model_id == b"abcd"
    assert box.streams == (b"x" * 250,)
    assert (box.header_bytes, box.index_bytes, box.checksum_bytes) == (8, 2, 2)


def test_many_streams_and_a_longer_checksum() -> None:
    streams = [bytes([i]) * i for i in range(200)]
    payload = pack(b"abcd", streams)
    assert list(unpack(payload).streams) == streams
    assert unpack(payload).checksum_bytes == 4


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, (1 << 35) - 1])
def test_varint(value: int) -> None:
    data = write_varint(value)
    assert read_varint(data, 0, len(data)) == (value, len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\xff" * 6])
def test_bad_varint(data: bytes) -> None:
    with pytest.raises(BitstreamError, match="varint"):
        read_varint(data, 0, len(data))


def test_every_truncation_and_single_bit_flip_is_refused() -> None:
    payload = pack(b"abcd", [b"hello", b"world"])
    for cut in range(len(payload)):
        with pytest.raises(BitstreamError):
            unpack(payload[:cut])
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            unpack(bytes(damaged))


def test_too_many_streams() -> None:
    with pytest.raises(BitstreamError, match="max_streams"):
        unpack(pack(b"abcd", [b""] * 10), max_streams=9)


def test_pack_needs_an_id_and_a_stream() -> None:
    for model_id, streams in ((b"abc", [b""]), (b"abcd", [])):
        with pytest.raises(ArgumentError, match="pack"):
            pack(model_id, streams)
