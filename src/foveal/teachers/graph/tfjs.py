"""Reader of TensorFlow.js graph models: model.json and its shards of raw weights.

Source: the published layout of TFJS "graph-model" files: topology with base64 strings, a manifest
of weights that lie one after another in the shards, stored as they are, as float16, or quantised
to uint8 or uint16 with a scale and a least value.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal._core.files import read_input
from foveal.errors import ArgumentError, UnsupportedError
from foveal.teachers.graph.ir import MAX_ELEMENTS, MAX_FILE_BYTES, MAX_NODES, Graph, Node, count
from foveal.teachers.graph.tfjs_ops import Fields, translate

_MAX_JSON_BYTES = 64 << 20
_MAX_OUTPUTS = 1024
_MOST_SCALE = 1e12
_DTYPES = {"float32": np.float32, "int32": np.int32, "bool": np.bool_, "uint8": np.uint8}
_STORED = {"float16": np.float16, "uint8": np.uint8, "uint16": np.uint16}


def read_tfjs(model: str | Path, *, shards: Sequence[str | Path] | None = None) -> Graph:
    """Read a TFJS graph model.

    Args:
        model: The `model.json`.
        shards: Files that hold the weights, in the manifest's order; default: those that the
            manifest names, beside `model`.

    Raises:
        ArgumentError: a file is missing, damaged, truncated or larger than it may be.
        UnsupportedError: a type of weights that is not one of a picture network.
    """
    path = read_input(model, what="model")
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ArgumentError(
            f"read_tfjs: {path.name} has {path.stat().st_size} bytes, at most {_MAX_JSON_BYTES}"
        )
    try:
        data = json.loads(path.read_bytes())
        nodes = data["modelTopology"]["node"]
        groups = data["weightsManifest"]
        names = [str(name) for group in groups for name in group["paths"]]
        weights = [entry for group in groups for entry in group["weights"]]
        if len(nodes) > MAX_NODES or len(weights) > MAX_NODES:
            raise ArgumentError(
                f"read_tfjs: {path.name} has {len(nodes)} nodes, at most {MAX_NODES}"
            )
        files = _files(path, names, shards)
        constants = _weights(path, weights, files)
        return _graph(path, nodes, data.get("signature") or {}, constants)
    except (
        ValueError, KeyError, TypeError, AttributeError, RecursionError, ArithmeticError,
    ) as error:  # fmt: skip
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"read_tfjs: {path.name} is no TFJS graph model ({error!r}); get the file again"
        ) from error


def _files(path: Path, names: list[str], shards: Sequence[str | Path] | None) -> list[Path]:
    """The shards; a manifest may name files beside it and no others."""
    if shards is not None:
        if len(shards) != len(names):
            raise ArgumentError(
                f"read_tfjs: shards has {len(shards)} files, must have {len(names)}: {names[:4]}"
            )
        return [read_input(shard, what="weights") for shard in shards]
    for name in names:
        if Path(name).name != name or name in {"", ".", ".."}:
            raise ArgumentError(
                f"read_tfjs: {path.name} names the shard {name!r}, must be a plain file name; "
                "pass shards="
            )
    return [read_input(path.parent / name, what="weights") for name in names]


def _weights(path: Path, entries: list[Any], files: list[Path]) -> dict[str, Tensor]:
    """Check all sizes against the files, then read."""
    plan: list[tuple[str, tuple[int, ...], type, type, float, float, int]] = []
    total = elements = 0
    for entry in entries:
        name, shape, dtype = str(entry["name"]), tuple(entry["shape"]), entry["dtype"]
        where = f"read_tfjs: weight {name!r} of {path.name}"
        if dtype not in _DTYPES:
            raise UnsupportedError(f"{where} has dtype {dtype!r}, must be one of {sorted(_DTYPES)}")
        scale, least, stored = 1.0, 0.0, _DTYPES[dtype]
        if (quantized := entry.get("quantization")) is not None:
            if quantized["dtype"] not in _STORED:
                raise UnsupportedError(
                    f"{where} is stored as {quantized['dtype']!r}, must be one of {sorted(_STORED)}"
                )
            stored = _STORED[quantized["dtype"]]
            if stored is not np.float16:
                scale, least = float(quantized["scale"]), float(quantized["min"])
            if not (abs(scale) < _MOST_SCALE and abs(least) < _MOST_SCALE):
                raise ArgumentError(
                    f"{where} has scale {scale} and min {least}, must be within {_MOST_SCALE:g}"
                )
        elements += count(shape, where=where)
        size = count(shape, where=where) * np.dtype(stored).itemsize
        plan.append((name, shape, _DTYPES[dtype], stored, scale, least, size))
        total += size
    there = sum(file.stat().st_size for file in files)
    if elements > MAX_ELEMENTS:
        raise ArgumentError(
            f"read_tfjs: the weights of {path.name} are {elements} numbers, at most {MAX_ELEMENTS}"
        )
    if total != there or total > MAX_FILE_BYTES:
        raise ArgumentError(
            f"read_tfjs: the shards of {path.name} have {there} bytes, must have {total} "
            f"(and at most {MAX_FILE_BYTES}); a file is truncated or is another one"
        )
    raw = b"".join(file.read_bytes() for file in files)
    out: dict[str, Tensor] = {}
    at = 0
    for name, shape, dtype, stored, scale, least, size in plan:
        values = np.frombuffer(raw, stored, size // np.dtype(stored).itemsize, at)
        at += size
        if stored is not dtype and stored is not np.float16:
            values = values.astype(np.float64) * scale + least
        if dtype is np.int32:
            values = np.round(values).astype(np.int64)
        values = values.astype(np.float32 if dtype is np.float32 else values.dtype)
        if name in out:
            raise ArgumentError(f"read_tfjs: {path.name} has weight {name!r} twice")
        out[name] = torch.from_numpy(values.reshape(shape).copy())
    return out


def _name(reference: str) -> str:
    """The tensor of a reference: a:0 is a, and a:1 stays."""
    return reference.removesuffix(":0")


def _graph(
    path: Path, entries: list[Any], signature: dict[str, Any], constants: dict[str, Tensor]
) -> Graph:
    """Translate every node; what the table does not know keeps its name and its format."""
    references = Counter(
        x for entry in entries for x in map(str, entry.get("input", ())) if x[:1] != "^"
    )
    # What other nodes read decides how many results a node has.
    num_outputs: dict[str, int] = {}
    for reference in references:
        name, _, number = reference.rpartition(":")
        if name and number.isdigit() and len(number) < 5:
            num_outputs[name] = max(num_outputs.get(name, 1), int(number) + 1)
    nodes: list[Node] = []
    inputs: dict[str, tuple[int | None, ...]] = {}
    read = {_name(reference) for reference in references}
    for entry in entries:
        name, op = str(entry["name"]), str(entry["op"])
        fields = Fields(entry.get("attr") or {}, f"read_tfjs: node {name!r} ({op}) of {path.name}")
        if op == "Const":
            if name not in constants:
                raise ArgumentError(
                    f"read_tfjs: {path.name} has no weights for {name!r}; the manifest is damaged"
                )
            continue
        if op in {"Placeholder", "PlaceholderWithDefault"}:
            inputs[name] = fields.shape()
            continue
        wanted = num_outputs.get(name, 1)
        if wanted > _MAX_OUTPUTS:
            raise ArgumentError(
                f"read_tfjs: output {wanted - 1} of node {name!r} is read, at most {_MAX_OUTPUTS}"
            )
        given = tuple(_name(str(x)) for x in entry.get("input", ()) if str(x)[:1] != "^")
        kind, attributes = translate(op, fields)
        outputs = (name, *(f"{name}:{i}" for i in range(1, wanted)))
        nodes.append(Node(kind, name, given, outputs, attributes))
    declared = [_name(str(x["name"])) for x in (signature.get("outputs") or {}).values()]
    if not declared:
        declared = [node.name for node in nodes if read.isdisjoint(node.outputs)]
    return Graph(path.name, inputs, tuple(declared), tuple(nodes), constants)
