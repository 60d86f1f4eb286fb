"""Writing ONNX files: the few messages of its protocol buffers that a graph needs.

Field numbers and codes are those of the published schema, onnx.proto3 (IR version 8).
"""

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 8
OPSET = 17
FLOAT, INT64 = 1, 7
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_FLOAT_ATTRIBUTE, _INT_ATTRIBUTE, _TEXT_ATTRIBUTE, _INTS_ATTRIBUTE = 1, 2, 3, 7


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _bytes(number: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _float(number: int, value: float) -> bytes:
    return _varint(number << 3 | _FIXED32) + struct.pack("<f", value)


def _tensor(name: str, value: NDArray[Any]) -> bytes:
    kind = FLOAT if value.dtype == np.float32 else INT64
    dims = b"".join(_int(1, n) for n in value.shape)
    data = value.astype("<f4" if kind == FLOAT else "<i8").tobytes()
    return dims + _int(2, kind) + _bytes(8, name) + _bytes(9, data)


def _attribute(name: str, value: int | float | str | list[int]) -> bytes:
    head = _bytes(1, name)
    if isinstance(value, list):
        return head + b"".join(_int(8, v) for v in value) + _int(20, _INTS_ATTRIBUTE)
    if isinstance(value, str):
        return head + _bytes(4, value) + _int(20, _TEXT_ATTRIBUTE)
    if isinstance(value, float):
        return head + _float(2, value) + _int(20, _FLOAT_ATTRIBUTE)
    return head + _int(3, value) + _int(20, _INT_ATTRIBUTE)


def _value(name: str, shape: tuple[int | str, ...]) -> bytes:
    dims = b"".join(_bytes(1, _bytes(2, n) if isinstance(n, str) else _int(1, n)) for n in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _int(1, FLOAT) + _bytes(2, dims)))


@dataclass
class Graph:
    """A graph that is built node by node; every method returns the name of what it adds."""

    name: str
    _nodes: list[bytes] = field(default_factory=list[bytes])
    _constants: list[bytes] = field(default_factory=list[bytes])
    _inputs: list[bytes] = field(default_factory=list[bytes])
    _outputs: list[bytes] = field(default_factory=list[bytes])

    def input(self, name: str, shape: tuple[int | str, ...]) -> str:
        """Add an fp32 input; an axis may be a name."""
        self._inputs.append(_value(name, shape))
        return name

    def output(self, name: str, shape: tuple[int | str, ...]) -> None:
        """Make the value `name` an fp32 output."""
        self._outputs.append(_value(name, shape))

    def constant(self, value: NDArray[Any] | float | int | list[int], name: str = "") -> str:
        """Add a constant: int64 of integers, else fp32."""
        name = name or f"constant_{len(self._constants)}"
        array: NDArray[Any] = np.asarray(value)
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        self._constants.append(_tensor(name, array.astype(kind)))
        return name

    def node(
        self, op: str, *inputs: str, name: str = "", **attributes: int | float | str | list[int]
    ) -> str:
        """Add an operation with one output."""
        name = name or f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(
            b"".join(_bytes(1, x) for x in inputs)
            + _bytes(2, name)
            + _bytes(3, name)
            + _bytes(4, op)
            + b"".join(_bytes(5, _attribute(k, v)) for k, v in attributes.items())
        )
        return name

    def encode(self, *, producer: str, version: str, about: dict[str, str]) -> bytes:
        """Return the file's bytes; `about` becomes its metadata."""
        graph = (
            b"".join(_bytes(1, x) for x in self._nodes)
            + _bytes(2, self.name)
            + b"".join(_bytes(5, x) for x in self._constants)
            + b"".join(_bytes(11, x) for x in self._inputs)
            + b"".join(_bytes(12, x) for x in self._outputs)
        )
        return (
            _int(1, IR_VERSION)
            + _bytes(2, producer)
            + _bytes(3, version)
            + _bytes(7, graph)
            + _bytes(8, _bytes(1, "") + _int(2, OPSET))
            + b"".join(_bytes(14, _bytes(1, k) + _bytes(2, v)) for k, v in about.items())
        )
