"""The .fvl container: which model, how many streams, how long each, and a checksum.

Layout (version 1), all integers little-endian:

    2 bytes   magic "FV"
    1 byte    version in the high 4 bits, flags in the low 4; flag 1: the checksum is CRC-32
    4 bytes   model id
    varint    number of streams n, at least 1
    n varints length of each stream in bytes
    ...       the streams, one after the other
    2 or 4    CRC-16 (polynomial 0x1021, start 0) or, in files over 4 KiB, CRC-32 of all before

One stream of 128 to 16383 bytes costs 12 bytes. The model id fixes the shape of the features, so
that no shape is sent. A varint has 7 bits a byte, lowest first, the high bit set on all but the
last byte, and no needless last zero byte.
"""

import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from foveal.errors import ArgumentError, BitstreamError

MAGIC = b"FV"
VERSION = 1
FLAG_CRC32 = 1
LONG_FILE_BYTES = 4096
MAX_VARINT_BYTES = 5
_FIXED_BYTES = 7


@dataclass(frozen=True, slots=True)
class Container:
    """A parsed container.

    Args:
        model_id: 4 bytes that name the model.
        streams: The entropy-coded streams, one per image.
        header_bytes: Bytes of magic, version, model id and number of streams.
        index_bytes: Bytes of the table of lengths.
        checksum_bytes: Bytes of the checksum.
    """

    model_id: bytes
    streams: tuple[bytes, ...]
    header_bytes: int
    index_bytes: int
    checksum_bytes: int


def write_varint(value: int) -> bytes:
    """Return the varint of a non-negative integer."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Read a varint of up to 5 bytes before `end`; return it and the position behind it.

    Raises:
        BitstreamError: it is cut off, too long, or ends with a needless zero byte.
    """
    value = 0
    for i in range(MAX_VARINT_BYTES):
        if position + i >= end:
            raise BitstreamError("container: varint is cut off, must end before the data does")
        byte = data[position + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if byte == 0 and i:
                raise BitstreamError("container: varint is padded, must have no last zero byte")
            return value, position + i + 1
    raise BitstreamError(f"container: varint is longer than {MAX_VARINT_BYTES} bytes")


def _checksum(body: bytes, flags: int) -> bytes:
    if flags & FLAG_CRC32:
        return zlib.crc32(body).to_bytes(4, "little")
    return binascii.crc_hqx(body, 0).to_bytes(2, "little")


def pack(model_id: bytes, streams: Sequence[bytes]) -> bytes:
    """Return a container of `streams`.

    Raises:
        ArgumentError: the model id has not 4 bytes, or there is no stream.
    """
    if len(model_id) != 4 or not streams:
        raise ArgumentError(
            f"pack: model_id has {len(model_id)} bytes and streams {len(streams)} items, must be 4 "
            "and at least 1; finalise the model and give a stream"
        )
    rest = model_id + write_varint(len(streams)) + b"".join(write_varint(len(s)) for s in streams)
    rest += b"".join(streams)
    flags = FLAG_CRC32 if len(rest) > LONG_FILE_BYTES else 0
    body = MAGIC + bytes([VERSION << 4 | flags]) + rest
    return body + _checksum(body, flags)


def unpack(payload: bytes, *, max_streams: int = 1 << 16) -> Container:
    """Parse and check a container; sizes are checked before anything is allocated.

    Args:
        payload: Any bytes.
        max_streams: Most streams to accept.

    Raises:
        BitstreamError: the payload is not ours, of another version, damaged, or has too many
            streams.
    """
    if len(payload) < _FIXED_BYTES + 4 or payload[:2] != MAGIC:
        raise BitstreamError(
            f"unpack: payload has {len(payload)} bytes and starts with {payload[:2]!r}, must have "
            f"at least {_FIXED_BYTES + 4} and start with {MAGIC!r}; give a .fvl payload"
        )
    version, flags = payload[2] >> 4, payload[2] & 15
    if version != VERSION or flags & ~FLAG_CRC32:
        raise BitstreamError(
            f"unpack: payload has version {version} and flags {flags}, must be {VERSION} and 0 or "
            "1; use the Foveal version that wrote it"
        )
    checksum_bytes = 4 if flags & FLAG_CRC32 else 2
    end = len(payload) - checksum_bytes
    if _checksum(payload[:end], flags) != payload[end:]:
        raise BitstreamError("unpack: payload has a wrong checksum; it is damaged or cut off")
    count, position = read_varint(payload, _FIXED_BYTES, end)
    if not 1 <= count <= min(max_streams, end - position):
        raise BitstreamError(
            f"unpack: payload claims {count} streams, must be within 1..{max_streams} and fit its "
            f"{len(payload)} bytes; it is damaged, or raise max_streams"
        )
    header_bytes = position
    lengths: list[int] = []
    for _ in range(count):
        length, position = read_varint(payload, position, end)
        lengths.append(length)
    if sum(lengths) != end - position:
        raise BitstreamError(
            f"unpack: streams claim {sum(lengths)} bytes, must be the {end - position} that are "
            "there; the payload is damaged"
        )
    index_bytes = position - header_bytes
    streams: list[bytes] = []
    for length in lengths:
        streams.append(payload[position : position + length])
        position += length
    return Container(payload[3:7], tuple(streams), header_bytes, index_bytes, checksum_bytes)
