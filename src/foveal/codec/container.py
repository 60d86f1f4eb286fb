"""The .fvl container: which model, which layers, how coded, and a checksum.

Layout (version 2), all integers little-endian:

    2 bytes   magic "FV"
    1 byte    version in the high 4 bits, flags in the low 4
    4 bytes   model id
    varint    layers: bit i is set if layer i of the model is there; 0 is allowed
    [flag 2]  varint number of images n, at least 1; without the flag there is one
    [flag 4]  2 varints, rows and columns of the features; without it they are the model's own
    [flag 8]  varint number of control bytes per image r, at least 1; without it r is 1
    n * r     control bytes, image by image: qualities, and what else the model defines
    varints   length in bytes of each stream but the very last, image by image, layer by layer
    ...       the streams in the same order; the last one takes what is left
    2 or 4    CRC-16 (polynomial 0x1021, start 0) or [flag 1] in files over 4 KiB CRC-32

An image of one layer costs 11 bytes beside its stream. A layer can be taken out without decoding
anything. A varint has 7 bits a byte, lowest first, the high bit set on all but the last byte, and
no needless last zero byte.
"""

import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from foveal.errors import ArgumentError, BitstreamError

MAGIC = b"FV"
VERSION = 2
FLAG_CRC32, FLAG_IMAGES, FLAG_SIZE, FLAG_CONTROLS = 1, 2, 4, 8
LONG_FILE_BYTES = 4096
MAX_VARINT_BYTES = 5
MAX_LAYERS = 28
MAX_CONTROLS = 1024
MAX_SIDE = 1 << 14
_FIXED_BYTES = 7


@dataclass(frozen=True, slots=True)
class Container:
    """What a payload holds, before any entropy decoding.

    Args:
        model_id: 4 bytes that name the model.
        layers: Indices of the layers that are there, ascending.
        streams: Per image one stream per layer.
        controls: Per image the same number of control bytes.
        size: Rows and columns of the features; None for the model's own.
    """

    model_id: bytes
    layers: tuple[int, ...]
    streams: tuple[tuple[bytes, ...], ...]
    controls: tuple[bytes, ...]
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check that it can be written."""
        images = len(self.streams)
        if len(self.model_id) != 4 or images == 0 or len(self.controls) != images:
            raise ArgumentError(
                f"Container: model_id has {len(self.model_id)} bytes, streams {images} and "
                f"controls {len(self.controls)} images, must be 4 and one number of images, at "
                "least 1; finalise the model and give an image"
            )
        ascending = all(a < b for a, b in zip(self.layers, self.layers[1:], strict=False))
        if not ascending or any(not 0 <= i < MAX_LAYERS for i in self.layers):
            raise ArgumentError(
                f"Container: layers is {self.layers}, must be ascending within "
                f"0..{MAX_LAYERS - 1}; sort them"
            )
        if any(len(row) != len(self.layers) for row in self.streams):
            raise ArgumentError(
                f"Container: streams has rows of {sorted({len(r) for r in self.streams})}, must "
                f"have one stream for each of the {len(self.layers)} layers"
            )
        widths = {len(row) for row in self.controls}
        if len(widths) != 1 or not 1 <= min(widths) <= MAX_CONTROLS:
            raise ArgumentError(
                f"Container: controls has rows of {sorted(widths)} bytes, must have one width in "
                f"1..{MAX_CONTROLS}"
            )
        if self.size is not None and not all(1 <= side <= MAX_SIDE for side in self.size):
            raise ArgumentError(
                f"Container: size is {self.size}, must be within 1..{MAX_SIDE} along both sides"
            )

    def keep(self, layers: Sequence[int]) -> "Container":
        """Return it with only these of its layers.

        Raises:
            ArgumentError: one of them is not there.
        """
        missing = sorted(set(layers) - set(self.layers))
        if missing:
            raise ArgumentError(
                f"extract: layers {missing} are not in the payload, must be among "
                f"{list(self.layers)}; leave them out"
            )
        kept = [i for i, layer in enumerate(self.layers) if layer in layers]
        return replace(
            self,
            layers=tuple(self.layers[i] for i in kept),
            streams=tuple(tuple(row[i] for i in kept) for row in self.streams),
        )


@dataclass(frozen=True, slots=True)
class Sections:
    """Where the bytes of a payload go.

    Args:
        header: Magic, version, model id, layers, number of images and size.
        controls: Control bytes, with their number.
        index: The table of lengths.
        checksum: The checksum.
        streams: Everything else.
    """

    header: int
    controls: int
    index: int
    checksum: int
    streams: int


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


def pack(container: Container) -> bytes:
    """Return the payload of a container."""
    images, controls = len(container.streams), len(container.controls[0])
    flags = FLAG_IMAGES * (images > 1) | FLAG_CONTROLS * (controls > 1)
    flags |= FLAG_SIZE * (container.size is not None)
    rest = container.model_id + write_varint(sum(1 << i for i in container.layers))
    if flags & FLAG_IMAGES:
        rest += write_varint(images)
    if container.size is not None:
        rest += b"".join(map(write_varint, container.size))
    if flags & FLAG_CONTROLS:
        rest += write_varint(controls)
    rest += b"".join(container.controls)
    streams = [stream for row in container.streams for stream in row]
    rest += b"".join(write_varint(len(stream)) for stream in streams[:-1])
    rest += b"".join(streams)
    flags |= FLAG_CRC32 * (len(rest) > LONG_FILE_BYTES)
    body = MAGIC + bytes([VERSION << 4 | flags]) + rest
    return body + _checksum(body, flags)


def _as_bytes(payload: bytes | bytearray | memoryview) -> bytes:
    """Return the bytes of a payload; a stream or a path in its place is named."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise ArgumentError(
            f"unpack: payload is a {type(payload).__name__}, must be bytes; give stream.payload or "
            "what a file holds"
        )
    return bytes(payload)


def _start(payload: bytes) -> tuple[int, int]:
    """Check magic, version and checksum; return the flags and the end of the body."""
    if len(payload) < _FIXED_BYTES + 4 or payload[:2] != MAGIC:
        raise BitstreamError(
            f"unpack: payload has {len(payload)} bytes and starts with {payload[:2]!r}, must have "
            f"at least {_FIXED_BYTES + 4} and start with {MAGIC!r}; give a .fvl payload"
        )
    version, flags = payload[2] >> 4, payload[2] & 15
    if version != VERSION:
        raise BitstreamError(
            f"unpack: payload has version {version}, must be {VERSION}; use the Foveal version "
            "that wrote it"
        )
    end = len(payload) - (4 if flags & FLAG_CRC32 else 2)
    if _checksum(payload[:end], flags) != payload[end:]:
        raise BitstreamError("unpack: payload has a wrong checksum; it is damaged or cut off")
    return flags, end


def parse(payload: bytes, *, max_images: int = 1 << 16) -> tuple[Container, Sections]:
    """Parse and check a container; sizes are checked before anything is allocated.

    Args:
        payload: Any bytes.
        max_images: Most images to accept.

    Returns: What it holds, and where its bytes go.

    Raises:
        ArgumentError: it is no bytes at all.
        BitstreamError: the payload is not ours, of another version, damaged, or too large.
    """
    payload = _as_bytes(payload)
    flags, end = _start(payload)
    mask, position = read_varint(payload, _FIXED_BYTES, end)
    if mask >> MAX_LAYERS:
        raise BitstreamError(
            f"unpack: payload has layer {mask.bit_length() - 1}, must be below {MAX_LAYERS}; it is "
            "damaged"
        )
    layers = tuple(i for i in range(MAX_LAYERS) if mask >> i & 1)
    images, size, controls = 1, None, 1
    if flags & FLAG_IMAGES:
        images, position = read_varint(payload, position, end)
        if not 1 <= images <= min(max_images, end - position):
            raise BitstreamError(
                f"unpack: payload claims {images} images, must be within 1..{max_images} and fit "
                f"its {len(payload)} bytes; it is damaged, or raise max_images"
            )
    if flags & FLAG_SIZE:
        rows, position = read_varint(payload, position, end)
        columns, position = read_varint(payload, position, end)
        size = (rows, columns)
        if not all(1 <= side <= MAX_SIDE for side in size):
            raise BitstreamError(
                f"unpack: payload has size {size}, must be within 1..{MAX_SIDE}; it is damaged"
            )
    header = position
    if flags & FLAG_CONTROLS:
        controls, position = read_varint(payload, position, end)
    if not 1 <= controls <= MAX_CONTROLS or images * controls > end - position:
        raise BitstreamError(
            f"unpack: payload claims {controls} control bytes for each of {images} images, must "
            f"have 1..{MAX_CONTROLS} and fit its {len(payload)} bytes; it is damaged"
        )
    rows_of_controls = tuple(
        payload[position + i * controls : position + (i + 1) * controls] for i in range(images)
    )
    position += images * controls
    after_controls = position
    count = images * len(layers)
    if count - 1 > end - position:
        raise BitstreamError(
            f"unpack: payload claims {count} streams in {end - position} bytes; it is damaged"
        )
    lengths: list[int] = []
    for _ in range(count - 1):
        length, position = read_varint(payload, position, end)
        lengths.append(length)
    left = end - position - sum(lengths)
    if left < 0 or (count == 0 and left):
        raise BitstreamError(
            f"unpack: streams claim {sum(lengths)} bytes, must fit the {end - position} that are "
            "there; the payload is damaged"
        )
    sections = Sections(
        header,
        after_controls - header,
        position - after_controls,
        len(payload) - end,
        end - position,
    )
    streams: list[bytes] = []
    for length in [*lengths, left][:count]:
        streams.append(payload[position : position + length])
        position += length
    per = len(layers)
    table = tuple(tuple(streams[i * per : (i + 1) * per]) for i in range(images))
    return Container(payload[3:7], layers, table, rows_of_controls, size), sections


def unpack(payload: bytes, *, max_images: int = 1 << 16) -> Container:
    """Return what a payload holds; see `parse`."""
    return parse(payload, max_images=max_images)[0]
