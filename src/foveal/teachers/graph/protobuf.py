"""Reader of protobuf's wire format, as little of it as ONNX files need.

A message is read into its fields: numbers (varints and fixed ones) and byte ranges, by field
number. Nothing is copied before it is asked for, and every length is checked against what is there.

Source: the public description of the encoding, protobuf.dev.
"""

import struct
from collections.abc import Iterator

from foveal.errors import ArgumentError

_MOST = 4_000_000  # fields of a message, numbers of a list


class Message:
    """The fields of one message.

    Args:
        data: Its bytes.
        where: How each error begins.
    """

    def __init__(self, data: memoryview, where: str) -> None:
        self.where = where
        self.fields: dict[int, list[int | memoryview]] = {}
        at, number = 0, 0
        while at < len(data):
            key, at = _varint(data, at, where)
            number += 1
            if number > _MOST or not key >> 3:
                raise ArgumentError(f"{where} has field {key >> 3} or too many; it is damaged")
            value, at = _value(data, at, key & 7, where)
            self.fields.setdefault(key >> 3, []).append(value)

    def messages(self, field: int) -> Iterator["Message"]:
        """Every message of a field."""
        for value in self.blobs(field):
            yield Message(value, self.where)

    def message(self, field: int) -> "Message":
        """The last message of a field; an empty one if it is not there."""
        found = self.blobs(field)
        return Message(found[-1] if found else memoryview(b""), self.where)

    def blobs(self, field: int) -> list[memoryview]:
        """Every byte range of a field."""
        found = self.fields.get(field, [])
        out = [value for value in found if isinstance(value, memoryview)]
        if len(out) != len(found):
            raise ArgumentError(f"{self.where} has a number as field {field}; it is damaged")
        return out

    def texts(self, field: int) -> list[str]:
        """Every text of a field; what is no UTF-8 becomes a question mark."""
        return [str(value, "utf-8", "replace") for value in self.blobs(field)]

    def text(self, field: int) -> str:
        """The last text of a field, or ""."""
        found = self.texts(field)
        return found[-1] if found else ""

    def integers(self, field: int) -> list[int]:
        """Every signed 64-bit integer of a field, one by one or packed."""
        out: list[int] = []
        for value in self.fields.get(field, []):
            if isinstance(value, int):
                out.append(value)
                continue
            at = 0
            while at < len(value):
                number, at = _varint(value, at, self.where)
                out.append(number)
                self._few(len(out))
        return [n - (1 << 64) if n >> 63 else n for n in out]

    def integer(self, field: int, default: int = 0) -> int:
        """The last integer of a field."""
        found = self.integers(field)
        return found[-1] if found else default

    def floats(self, field: int, width: int = 4) -> list[float]:
        """Every float (4 bytes) or double (8 bytes) of a field, one by one or packed."""
        kind = "f" if width == 4 else "d"
        out: list[float] = []
        for value in self.fields.get(field, []):
            raw = value.to_bytes(width, "little") if isinstance(value, int) else bytes(value)
            if len(raw) % width:
                raise ArgumentError(f"{self.where} has {len(raw)} bytes of floats; it is damaged")
            self._few(len(out) + len(raw) // width)
            out += struct.unpack(f"<{len(raw) // width}{kind}", raw)
        return out

    def _few(self, number: int) -> None:
        if number > _MOST:
            raise ArgumentError(
                f"{self.where} lists over {_MOST} numbers one by one; store them as raw data"
            )


def _varint(data: memoryview, at: int, where: str) -> tuple[int, int]:
    """A number of 7-bit groups, the lowest first, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ArgumentError(f"{where} ends inside a number; it is truncated")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & ((1 << 64) - 1), at
    raise ArgumentError(f"{where} has a number of more than 10 bytes; it is damaged")


def _value(data: memoryview, at: int, kind: int, where: str) -> tuple[int | memoryview, int]:
    if kind == 0:
        return _varint(data, at, where)
    if kind == 2:
        length, at = _varint(data, at, where)
    elif kind in {1, 5}:
        length = 8 if kind == 1 else 4
    else:
        raise ArgumentError(f"{where} has wire type {kind}, must be 0, 1, 2 or 5; it is damaged")
    if length > len(data) - at:
        raise ArgumentError(
            f"{where} has a field of {length} bytes where {len(data) - at} are left; "
            "it is truncated"
        )
    part = data[at : at + length]
    return (part if kind == 2 else int.from_bytes(part, "little")), at + length
