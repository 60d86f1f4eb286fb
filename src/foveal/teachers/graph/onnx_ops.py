"""ONNX's operations in the words of the op table."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveal.errors import ArgumentError, UnsupportedError
from foveal.teachers.graph.ir import Node

_SAME_MEANING = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Max": "maximum",
    "Min": "minimum", "Equal": "equal", "MatMul": "matmul", "Identity": "identity",
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Exp": "exp", "Neg": "neg",
    "Sqrt": "sqrt", "PRelu": "prelu", "HardSwish": "hard_swish", "Clip": "clip", "Sum": "add_n",
    "Shape": "shape", "GlobalAveragePool": "global_avg_pool", "Slice": "slice",
}  # fmt: skip
_REDUCTIONS = {
    "ReduceMean": "reduce_mean", "ReduceSum": "reduce_sum", "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min",
}  # fmt: skip
_TYPES = {1: torch.float32, 6: torch.int64, 7: torch.int64, 9: torch.bool, 10: torch.float32,
          11: torch.float32}  # fmt: skip


def translate(
    op: str,
    node: Node,
    given: dict[str, Any],
    constants: dict[str, Tensor],
    opset: int,
    where: str,
) -> Node:
    """The node with the kind of the op table; unknown ones become "onnx:OP".

    Args:
        op: The name in the file.
        node: Its name, inputs and outputs.
        given: Its attributes.
        constants: Where numbers go that older opsets keep as attributes.
        opset: Version of the operators.
        where: How each message begins.
    """
    if op in _SAME_MEANING:
        names = {"Clip": ("min", "max"), "Slice": ("starts", "ends", "axes")}.get(op, ())
        node = _as_inputs(node, given, constants, names)
        if op in {"Max", "Min"} and len(node.inputs) != 2:
            raise UnsupportedError(f"{where} has {len(node.inputs)} inputs, must have 2")
        return replace(node, op=_SAME_MEANING[op])
    if op in _REDUCTIONS:
        node = _as_inputs(node, given, constants, ("axes",))
        attributes = {"keep": bool(given.get("keepdims", 1))}
        attributes["empty_is_all"] = not given.get("noop_with_empty_axes", 0)
        return replace(node, op=_REDUCTIONS[op], attributes=attributes)
    if op in {"Conv", "ConvTranspose"}:
        return _convolution(op, node, given, constants, where)
    if op in {"MaxPool", "AveragePool"}:
        return _pool(op, node, given, where)
    if op == "Resize":
        return replace(node, op="resize_onnx", attributes=_resize(given, where))
    if op in {"Squeeze", "Unsqueeze"}:
        node = _as_inputs(node, given, constants, ("axes",))
        return replace(node, op="squeeze" if op == "Squeeze" else "expand_dims")
    kind, attributes = _simple(op, given, opset, where)
    if op == "Transpose":
        node = _as_inputs(node, given, constants, ("perm",))
    if op == "Split":
        node = _as_inputs(node, given, constants, ("split",))
        attributes["parts"] = len(node.outputs)
    return replace(node, op=kind, attributes=attributes)


def _simple(op: str, given: dict[str, Any], opset: int, where: str) -> tuple[str, dict[str, Any]]:
    if op == "LeakyRelu":
        return "leaky_relu", {"alpha": given.get("alpha", 0.01)}
    if op == "HardSigmoid":
        return "hard_sigmoid", {"alpha": given.get("alpha", 0.2), "beta": given.get("beta", 0.5)}
    if op == "Softmax":
        flat = opset < 13
        return "softmax", {"axis": given.get("axis", 1 if flat else -1), "flat": flat}
    if op == "BatchNormalization":
        if given.get("training_mode", 0):
            raise UnsupportedError(f"{where} is in training, must be frozen")
        return "batch_norm", {"layout": "nchw", "epsilon": given.get("epsilon", 1e-5)}
    if op == "Gemm":
        names = {"transpose_a": "transA", "transpose_b": "transB"}
        flags = {name: bool(given.get(key, 0)) for name, key in names.items()}
        return "gemm", {"alpha": given.get("alpha", 1.0), "beta": given.get("beta", 1.0)} | flags
    if op == "Reshape":
        return "reshape", {"zero_copies": not given.get("allowzero", 0)}
    if op == "Flatten":
        return "flatten", {"axis": given.get("axis", 1)}
    if op == "Concat":
        return "concat", {"axis": given.get("axis", 0)}
    if op == "Gather":
        return "gather", {"axis": given.get("axis", 0)}
    if op == "Split":
        return "split", {"axis": given.get("axis", 0)}
    if op == "Cast":
        if given.get("to") not in _TYPES:
            raise UnsupportedError(
                f"{where} casts to type {given.get('to')}, must be one of {sorted(_TYPES)}"
            )
        return "cast", {"to": _TYPES[given["to"]]}
    if op == "Pad":
        if given.get("mode", "constant") != "constant":
            raise UnsupportedError(f"{where} has mode {given['mode']!r}, must be 'constant'")
        return "pad_flat", {}
    return ("transpose" if op == "Transpose" else f"onnx:{op}"), {}


def _as_inputs(
    node: Node, given: dict[str, Any], constants: dict[str, Tensor], names: tuple[str, ...]
) -> Node:
    """Numbers that stand in attributes become constant inputs, behind the first one."""
    inputs = list(node.inputs)
    for position, name in enumerate(names, 1):
        if given.get(name) is None:
            continue
        inputs += [""] * (position + 1 - len(inputs))
        inputs[position] = f"{node.outputs[0]}|{name}"
        constants[inputs[position]] = torch.tensor(given[name])
    return replace(node, inputs=tuple(inputs))


def _pair(given: dict[str, Any], name: str, where: str, least: int = 1) -> tuple[int, int]:
    numbers = given.get(name, [least, least])
    if len(numbers) != 2 or min(numbers) < least or max(numbers) > 1 << 16:
        raise UnsupportedError(f"{where} has {name} {numbers}, must be two numbers >= {least}")
    return numbers[0], numbers[1]


def _padding(given: dict[str, Any], where: str) -> str | tuple[int, int, int, int]:
    auto = given.get("auto_pad", "NOTSET")
    if auto in {"SAME_UPPER", "VALID"}:
        return "same" if auto == "SAME_UPPER" else "valid"
    pads = given.get("pads", [0, 0, 0, 0])
    if auto != "NOTSET" or len(pads) != 4 or not 0 <= min(pads) <= max(pads) < 1 << 16:
        raise UnsupportedError(f"{where} has auto_pad {auto!r}, pads {pads}; must be four >= 0")
    return pads[0], pads[1], pads[2], pads[3]


def _convolution(
    op: str, node: Node, given: dict[str, Any], constants: dict[str, Tensor], where: str
) -> Node:
    weight = constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if weight is not None and weight.ndim != 4:
        raise UnsupportedError(f"{where} has weights of {weight.ndim} sides, must have 4")
    attributes: dict[str, Any] = {
        "layout": "nchw",
        "strides": _pair(given, "strides", where),
        "dilations": _pair(given, "dilations", where),
        "padding": _padding(given, where),
        "groups": int(given.get("group", 1)),
    }
    if attributes["groups"] < 1:
        raise ArgumentError(f"{where} has group {attributes['groups']}, must be >= 1")
    if op == "Conv":
        return replace(node, op="conv", attributes=attributes)
    if attributes["padding"] == "same" or given.get("output_shape"):
        raise UnsupportedError(f"{where} has its output's shape set, must have pads")
    attributes["output_padding"] = _pair(given, "output_padding", where, 0)
    return replace(node, op="conv_transpose", attributes=attributes)


def _pool(op: str, node: Node, given: dict[str, Any], where: str) -> Node:
    if given.get("ceil_mode", 0) or max(given.get("dilations", [1])) > 1:
        raise UnsupportedError(f"{where} has ceil_mode or dilations, must have neither")
    if len(node.outputs) != 1:
        raise UnsupportedError(f"{where} gives places too, must give values only")
    attributes = {
        "layout": "nchw",
        "kernel": _pair(given, "kernel_shape", where),
        "strides": _pair(given, "strides", where),
        "dilations": (1, 1),
        "padding": _padding(given, where),
        "count_padding": bool(given.get("count_include_pad", 0)),
    }
    return replace(node, op="max_pool" if op == "MaxPool" else "avg_pool", attributes=attributes)


def _resize(given: dict[str, Any], where: str) -> dict[str, Any]:
    mode = given.get("coordinate_transformation_mode", "half_pixel")
    method = given.get("mode", "nearest")
    rounding = given.get("nearest_mode", "round_prefer_floor")
    names = {"half_pixel": "half_pixel", "pytorch_half_pixel": "half_pixel",
             "asymmetric": "asymmetric", "align_corners": "align_corners"}  # fmt: skip
    roundings = {
        "floor": "floor",
        "round_prefer_floor": "half_down",
        "round_prefer_ceil": "half_up",
    }
    if mode not in names or method not in {"nearest", "linear"} or given.get("antialias", 0):
        raise UnsupportedError(f"{where} has mode {method!r}, {mode!r}, must be nearest or linear")
    if rounding not in roundings:
        raise UnsupportedError(
            f"{where} has nearest_mode {rounding!r}, must be one of {list(roundings)}"
        )
    return {"coordinates": names[mode], "method": method, "rounding": roundings[rounding]}
