"""Reader of ONNX files. It needs no other package; field numbers are those of onnx.proto."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal._core.files import read_input
from foveal.errors import ArgumentError, UnsupportedError
from foveal.teachers.graph.ir import MAX_ELEMENTS, MAX_FILE_BYTES, MAX_NODES, Graph, Node, count
from foveal.teachers.graph.onnx_ops import translate
from foveal.teachers.graph.protobuf import Message

_MIN_OPSET, _MAX_OPSET = 9, 24
# data_type: how raw_data stores it, and the field that holds it otherwise
_TYPES: dict[int, tuple[str, int]] = {
    1: ("<f4", 4), 2: ("u1", 5), 3: ("i1", 5), 6: ("<i4", 5), 7: ("<i8", 7), 9: ("?", 5),
    10: ("<f2", 5), 11: ("<f8", 10),
}  # fmt: skip
_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 4, 6, 7, 8


def read_onnx(model: str | Path) -> Graph:
    """Read an ONNX file with its weights inside.

    Args:
        model: The `.onnx`, opset 9 to 24 of the standard operators.

    Raises:
        ArgumentError: the file is missing, damaged, truncated or larger than it may be.
        UnsupportedError: weights in other files, another set of operators, types of no picture
            network.
    """
    path = read_input(model, what="model")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ArgumentError(
            f"read_onnx: {path.name} has {path.stat().st_size} bytes, at most {MAX_FILE_BYTES}"
        )
    proto = Message(memoryview(path.read_bytes()), f"read_onnx: {path.name}")
    try:
        return _graph(path, proto)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"read_onnx: {path.name} is damaged ({error!r}); get the file again"
        ) from error


def _graph(path: Path, proto: Message) -> Graph:
    graph = proto.message(7)
    if not graph.blobs(1) and not graph.blobs(12):
        raise ArgumentError(f"read_onnx: {path.name} holds no graph; get the file again")
    versions = {entry.text(1) or "ai.onnx": entry.integer(2) for entry in proto.messages(8)}
    opset = versions.get("ai.onnx", 0)
    if not _MIN_OPSET <= opset <= _MAX_OPSET:
        raise UnsupportedError(
            f"read_onnx: {path.name} has opset {opset}, must be in [{_MIN_OPSET}, {_MAX_OPSET}]; "
            "convert it"
        )
    if len(graph.blobs(1)) > MAX_NODES:
        raise ArgumentError(
            f"read_onnx: {path.name} has {len(graph.blobs(1))} nodes, at most {MAX_NODES}"
        )
    if graph.blobs(15):
        raise UnsupportedError(f"read_onnx: {path.name} has sparse weights, must be dense ones")
    constants: dict[str, Tensor] = {}
    elements = 0
    for entry in graph.messages(5):
        where = f"read_onnx: tensor {entry.text(8)!r} of {path.name}"
        constants[entry.text(8)] = _tensor(entry, where)
        elements += constants[entry.text(8)].numel()
        if elements > MAX_ELEMENTS:
            raise ArgumentError(f"{where} makes more than {MAX_ELEMENTS} numbers in all")
    nodes = [
        node
        for i, entry in enumerate(graph.messages(1))
        if (node := _node(entry, i, path.name, constants, opset)) is not None
    ]
    inputs = {
        entry.text(1): _shape(entry, path.name)
        for entry in graph.messages(11)
        if entry.text(1) not in constants
    }
    outputs = tuple(entry.text(1) for entry in graph.messages(12))
    metadata = {entry.text(1): entry.text(2) for entry in proto.messages(14)}
    return Graph(path.name, inputs, outputs, tuple(nodes), constants, metadata)


def _node(
    entry: Message, index: int, source: str, constants: dict[str, Tensor], opset: int
) -> Node | None:
    """A node in the words of the op table; None for a constant, which goes to the others."""
    inputs, outputs, op, domain = entry.texts(1), entry.texts(2), entry.text(4), entry.text(7)
    name = entry.text(3) or (outputs[0] if outputs else f"#{index}")
    where = f"read_onnx: node {name!r} ({op}) of {source}"
    if not outputs or not outputs[0]:
        raise ArgumentError(f"{where} has no output, must have one; the file is damaged")
    attributes = {x.text(1): _attribute(x, where) for x in entry.messages(5)}
    standard = domain in {"", "ai.onnx"}
    if op == "Constant" and standard:
        if outputs[0] in constants:
            raise ArgumentError(f"{where} is there twice; the file is damaged")
        constants[outputs[0]] = _constant(attributes, where)
        return None
    made = tuple(x or f"{name}|{k}" for k, x in enumerate(outputs))
    if not standard:
        return Node(f"onnx:{domain}.{op}", name, tuple(inputs), made)
    return translate(op, Node("", name, tuple(inputs), made), attributes, constants, opset, where)


def _shape(entry: Message, source: str) -> tuple[int | None, ...]:
    """Declared sides; None where one may vary."""
    kind = entry.message(2).message(1)
    if not kind.blobs(2):
        raise UnsupportedError(
            f"read_onnx: input {entry.text(1)!r} of {source} is no tensor with a shape, must be one"
        )
    sides = [side.integer(1) for side in kind.message(2).messages(1)]
    return tuple(side if side > 0 else None for side in sides)


def _tensor(entry: Message, where: str) -> Tensor:
    """Check the declared size against the bytes that are there, then read."""
    kind = entry.integer(2)
    if entry.blobs(13) or entry.integer(14):
        raise UnsupportedError(f"{where} lies in another file, must be inside; save it as one file")
    if kind not in _TYPES:
        raise UnsupportedError(f"{where} has data type {kind}, must be one of {sorted(_TYPES)}")
    stored, field = _TYPES[kind]
    shape = entry.integers(1)
    elements = count(shape, where=where)
    raw = entry.blobs(9)
    if raw:
        there = len(raw[-1]) / np.dtype(stored).itemsize
    else:
        there = sum(1 if isinstance(x, int) else len(x) for x in entry.fields.get(field, []))
        there = elements if elements <= there else there  # packed: the exact number comes below
    if there != elements:
        raise ArgumentError(
            f"{where} has {there:g} numbers, must have {elements}; the file is truncated"
        )
    if raw:
        values = np.frombuffer(raw[-1], stored)
    elif field in {4, 10}:
        values = np.array(entry.floats(field, 4 if field == 4 else 8))
    elif kind == 10:  # 16-bit floats are stored as integers of the same bits
        values = np.array(entry.integers(5), np.int64).astype(np.uint16).view(np.float16)
    else:
        values = np.array(entry.integers(field), np.int64)
    if values.size != elements:
        raise ArgumentError(
            f"{where} has {values.size} numbers, must have {elements}; the file is truncated"
        )
    target = np.float32 if stored in {"<f4", "<f2", "<f8"} else bool if kind == 9 else np.int64
    return torch.from_numpy(values.astype(target).reshape(shape))


def _attribute(entry: Message, where: str) -> Any:
    """A plain Python value, or a tensor; None for what no picture network needs (subgraphs)."""
    kind, name = entry.integer(20), entry.text(1)
    if kind == _INT:
        return entry.integer(3)
    if kind == _STRING:
        return entry.text(4)
    if kind == _TENSOR:
        return _tensor(entry.message(5), where)
    if kind in {_FLOAT, _FLOATS}:
        numbers = entry.floats(2 if kind == _FLOAT else 7)
        if not all(math.isfinite(x) for x in numbers):
            raise ArgumentError(f"{where} has {name} {numbers[:4]}, must be finite")
        return numbers if kind == _FLOATS else (numbers or [0.0])[-1]
    if kind in {_INTS, _STRINGS}:
        return entry.integers(8) if kind == _INTS else entry.texts(9)
    return None


def _constant(attributes: dict[str, Any], where: str) -> Tensor:
    value = attributes.get("value")
    if isinstance(value, Tensor):
        return value
    for name, kind in (("value_float", torch.float32), ("value_int", torch.int64)):
        for key in (name, f"{name}s"):
            if key in attributes:
                return torch.tensor(attributes[key], dtype=kind)
    raise UnsupportedError(f"{where} holds {sorted(attributes)}, must hold numbers")
