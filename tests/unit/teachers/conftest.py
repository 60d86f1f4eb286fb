"""Writes small TFJS and ONNX models, as their published layouts want them."""

import base64
import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest


def attribute(value):
    """One attribute in protobuf's JSON."""
    if isinstance(value, bool):
        return {"b": value}
    if isinstance(value, int):
        return {"i": str(value)}
    if isinstance(value, float):
        return {"f": value}
    if isinstance(value, str) and value.startswith("DT_"):
        return {"type": value}
    if isinstance(value, str):
        return {"s": base64.b64encode(value.encode()).decode()}
    if value and isinstance(value[0], str):
        return {"list": {"s": [base64.b64encode(v.encode()).decode() for v in value]}}
    return {"list": {"i": [str(v) for v in value]} if value else {}}


def node(name, op, *inputs, **attributes):
    """One node."""
    return {
        "name": name,
        "op": op,
        "input": list(inputs),
        "attr": {k: attribute(v) for k, v in attributes.items()},
    }


def placeholder(shape, name="x"):
    """The input."""
    sides = [{"size": str(n)} for n in shape]
    return {"name": name, "op": "Placeholder", "attr": {"shape": {"shape": {"dim": sides}}}}


def write(folder, nodes, weights, outputs=None, quantization=None):
    """Write model.json and one shard; return the path of the first."""
    entries, raw, constants = [], b"", []
    for name, value in weights.items():
        value = np.asarray(value)
        kind = "int32" if value.dtype.kind == "i" else "float32"
        entry = {"name": name, "shape": list(value.shape), "dtype": kind}
        stored = value.astype(kind)
        how = (quantization or {}).get(name)
        if how == "float16":
            entry["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
            stored = value.astype(np.float16)
        elif how is not None:
            entry["quantization"] = {"dtype": how[0], "scale": how[1], "min": how[2]}
            stored = np.round((value - how[2]) / how[1]).astype(how[0])
        entries.append(entry)
        raw += stored.tobytes()
        constants.append({"name": name, "op": "Const"})
    model = {
        "format": "graph-model",
        "modelTopology": {"node": [*constants, *nodes]},
        "weightsManifest": [{"paths": ["model.bin"] if raw else [], "weights": entries}],
    }
    if outputs:
        model["signature"] = {"outputs": {n: {"name": f"{n}:0"} for n in outputs}}
    (folder / "model.bin").write_bytes(raw)
    (folder / "model.json").write_text(json.dumps(model))
    return folder / "model.json"


@pytest.fixture
def tfjs(tmp_path):
    """`node`, `placeholder` and `write(nodes, weights, ...)`, which returns the path."""

    def into_folder(*args, **kwargs):
        return write(tmp_path, *args, **kwargs)

    return SimpleNamespace(node=node, placeholder=placeholder, write=into_folder)


def varint(number):
    """Protobuf's number; negative ones in ten bytes."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number, value):
    """One field: an int, a float, text or bytes (messages)."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx_tensor(name, value):
    """A TensorProto with raw data."""
    value = np.asarray(value)
    value = value.astype(np.int64 if value.dtype.kind == "i" else np.float32)
    dims = b"".join(field(1, int(n)) for n in value.shape)
    kind = 7 if value.dtype.kind == "i" else 1
    return dims + field(2, kind) + field(8, name) + field(9, value.tobytes())


def onnx_attribute(name, value):
    """An AttributeProto."""
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, 2)
    if isinstance(value, float):
        return field(1, name) + field(2, value) + field(20, 1)
    if isinstance(value, str):
        return field(1, name) + field(4, value) + field(20, 3)
    return field(1, name) + b"".join(field(8, v) for v in value) + field(20, 7)


def onnx_node(op, inputs, outputs, domain="", **attributes):
    """A NodeProto."""
    body = b"".join(field(1, x) for x in inputs) + b"".join(field(2, x) for x in outputs)
    body += field(3, f"node {outputs[0]}") + field(4, op) + (field(7, domain) if domain else b"")
    return body + b"".join(field(5, onnx_attribute(k, v)) for k, v in attributes.items())


def onnx_value(name, shape):
    """A ValueInfoProto of floats; None is a side that may vary."""
    sides = b"".join(field(1, field(2, "n") if n is None else field(1, n)) for n in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, sides)))


def onnx_model(nodes, inputs, outputs, weights=None, opset=13, metadata=None):
    """A ModelProto."""
    graph = b"".join(field(1, x) for x in nodes) + field(2, "graph")
    graph += b"".join(field(5, onnx_tensor(k, v)) for k, v in (weights or {}).items())
    graph += b"".join(field(11, onnx_value(k, v)) for k, v in inputs.items())
    graph += b"".join(field(12, onnx_value(k, v)) for k, v in outputs.items())
    model = field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, opset))
    extra = (field(14, field(1, k) + field(2, v)) for k, v in (metadata or {}).items())
    return model + b"".join(extra)


@pytest.fixture
def onnx_files(tmp_path):
    """`node`, `field`, `tensor` and `write(nodes, inputs, outputs, ...)`, which returns a path."""

    def write(*args, **kwargs):
        path = tmp_path / "model.onnx"
        path.write_bytes(onnx_model(*args, **kwargs))
        return path

    return SimpleNamespace(node=onnx_node, field=field, tensor=onnx_tensor, write=write)
