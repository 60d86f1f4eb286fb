"""Writes small TFJS graph models, as their published layout wants them."""

import base64
import json
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
