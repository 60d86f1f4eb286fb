"""Files of 16-bit colour, which Pillow cannot write: PNG and TIFF, with or without alpha."""

import struct
import zlib
from typing import Any

_SHORT, _LONG, _BYTES = 3, 4, 7
_PNG_COLORS = {1: 0, 2: 4, 3: 2, 4: 6}


def encode_png(array: Any, *, icc: bytes | None = None, exif: bytes | None = None) -> bytes:
    """A PNG of (height, width, 1 to 4) integers up to 65535: one data chunk, filter 0.

    1 and 2 channels are grey, 2 and 4 have opacity. `exif` begins with its TIFF header.
    """
    height, width, channels = array.shape
    rows = array.astype(">u2").tobytes()
    stride = width * channels * 2
    body = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, _PNG_COLORS[channels], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"iCCP", b"ICC\0\0" + zlib.compress(icc)) if icc else b"")
        + (chunk(b"eXIf", exif) if exif else b"")
        + chunk(b"IDAT", zlib.compress(body, 6))
        + chunk(b"IEND", b"")
    )


def encode_tiff(array: Any, *, icc: bytes | None = None) -> bytes:
    """A TIFF of (height, width, 1, 3 or 4) integers up to 65535: one strip, deflated.

    The fourth channel is opacity that the colours are not multiplied by.
    """
    height, width, channels = array.shape
    strip = zlib.compress(array.astype("<u2").tobytes(), 6)
    lists = struct.pack("<8H", *[16] * 4, *[1] * 4)  # bits and kind (integer) of each sample
    at_bits, at_kinds, at_strip = (8, 16, 8 + len(lists)) if channels > 1 else (16, 1, 24)
    profile = b"" if icc is None else icc + b"\0" * (len(icc) % 2)
    at_profile = at_strip + len(strip) + len(strip) % 2
    at_tags = at_profile + len(profile)
    tags = [
        (256, _LONG, 1, width),
        (257, _LONG, 1, height),
        (258, _SHORT, channels, at_bits),
        (259, _SHORT, 1, 8),  # deflate
        (262, _SHORT, 1, 2 if channels > 1 else 1),  # RGB or grey
        (273, _LONG, 1, at_strip),
        (277, _SHORT, 1, channels),
        (278, _LONG, 1, height),
        (279, _LONG, 1, len(strip)),
        (284, _SHORT, 1, 1),  # samples of a pixel lie together
        *([(338, _SHORT, 1, 2)] if channels == 4 else []),  # opacity, not multiplied
        (339, _SHORT, channels, at_kinds),
        *([] if icc is None else [(34675, _BYTES, len(icc), at_profile)]),
    ]
    table = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (
        struct.pack("<2sHI", b"II", 42, at_tags)
        + lists
        + strip
        + b"\0" * (len(strip) % 2)
        + profile
        + struct.pack("<H", len(tags))
        + table
        + struct.pack("<I", 0)
    )
