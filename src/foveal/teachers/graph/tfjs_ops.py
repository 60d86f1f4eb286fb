"""TensorFlow's operations in the words of the op table."""

import base64
from typing import Any

import torch

from foveal.errors import ArgumentError, UnsupportedError

_SAME_MEANING = {
    "Add": "add", "AddV2": "add", "AddN": "add_n", "BiasAdd": "bias_add", "Sub": "sub",
    "Mul": "mul", "RealDiv": "div", "Div": "div", "FloorDiv": "floor_div", "FloorMod": "floor_mod",
    "Pow": "pow", "Maximum": "maximum", "Minimum": "minimum", "Equal": "equal",
    "Identity": "identity", "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid",
    "Tanh": "tanh", "Elu": "elu", "Exp": "exp", "Neg": "neg", "Sqrt": "sqrt", "Rsqrt": "rsqrt",
    "Prelu": "prelu", "Reshape": "reshape", "Transpose": "transpose", "ExpandDims": "expand_dims",
    "ConcatV2": "concat_last", "SplitV": "split_sizes", "TopKV2": "top_k", "Pad": "pad",
    "PadV2": "pad", "SparseToDense": "sparse_to_dense", "Shape": "shape", "BatchMatMulV2": "matmul",
    "ClipByValue": "clip",
}  # fmt: skip
_REDUCTIONS = {"Mean": "reduce_mean", "Sum": "reduce_sum", "Max": "reduce_max", "Min": "reduce_min"}
_ACTIVATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Elu": "elu", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "Prelu": "prelu", "LeakyRelu": "leaky_relu",
}  # fmt: skip
_CONVOLUTIONS = {
    "Conv2D": "hwio", "_FusedConv2D": "hwio", "FusedConv2D": "hwio",
    "DepthwiseConv2dNative": "hwcm", "FusedDepthwiseConv2dNative": "hwcm",
    "Conv2DBackpropInput": "hwoi",
}  # fmt: skip
_TYPES = {
    "DT_FLOAT": torch.float32, "DT_HALF": torch.float32, "DT_DOUBLE": torch.float32,
    "DT_INT32": torch.int64, "DT_INT64": torch.int64, "DT_BOOL": torch.bool,
}  # fmt: skip


class Fields:
    """The attributes of a node, decoded; `where` begins each message."""

    def __init__(self, attributes: dict[str, Any], where: str) -> None:
        self.attributes = attributes
        self.where = where

    def get(self, name: str, kind: str, default: Any = None) -> Any:
        """One value; `kind` is TensorFlow's letter: i, f, b, s, type, or shape."""
        field = self.attributes.get(name)
        if not isinstance(field, dict) or kind not in field:
            return default
        return self._decode(kind, field[kind])

    def items(self, name: str, kind: str) -> list[Any]:
        """A list of values."""
        field = self.attributes.get(name) or {}
        return [self._decode(kind, x) for x in (field.get("list") or {}).get(kind) or []]

    def _decode(self, kind: str, value: Any) -> Any:
        if kind == "s":
            return base64.b64decode(value).decode("ascii", "replace")
        if kind == "i":
            if abs(number := int(value)) >= 1 << 31:
                raise ArgumentError(f"{self.where} has the number {number}, must fit 32 bits")
            return number
        return float(value) if kind == "f" else value

    def shape(self) -> tuple[int | None, ...]:
        """The declared shape of a placeholder; None where a side may vary."""
        field = self.attributes.get("shape") or {}
        shape = field.get("shape") or {}
        if shape.get("unknownRank") or "dim" not in shape:
            raise UnsupportedError(f"{self.where} has no shape, must have one")
        sides = [int(side.get("size", -1)) for side in shape["dim"]]
        return tuple(None if side < 0 else side for side in sides)


def translate(op: str, fields: Fields) -> tuple[str, dict[str, Any]]:
    """The kind of the op table and its attributes; unknown ones become "tfjs:OP"."""
    layout = fields.get("data_format", "s", "NHWC").lower()
    if op in _SAME_MEANING:
        return _SAME_MEANING[op], {"layout": layout}
    if op in _REDUCTIONS:
        return _REDUCTIONS[op], {"keep": bool(fields.get("keep_dims", "b", False))}
    if op in _CONVOLUTIONS:
        return _convolution(op, fields, layout)
    if op in {"MaxPool", "AvgPool"}:
        kernel, strides = _window(fields, "ksize", layout), _window(fields, "strides", layout)
        attributes = {"layout": layout, "kernel": kernel, "strides": strides, "dilations": (1, 1)}
        kind = "max_pool" if op == "MaxPool" else "avg_pool"
        return kind, attributes | {"padding": _padding(fields, layout)}
    if op in {"ResizeBilinear", "ResizeNearestNeighbor"}:
        corners = fields.get("align_corners", "b", False)
        centers = fields.get("half_pixel_centers", "b", False)
        mode = "align_corners" if corners else "half_pixel" if centers else "asymmetric"
        rounding = "floor" if mode == "asymmetric" else "half_up"
        method = "linear" if op == "ResizeBilinear" else "nearest"
        attributes = {"coordinates": mode, "rounding": rounding, "method": method}
        return "resize", attributes | {"layout": "nhwc"}
    if op in {"MatMul", "_FusedMatMul"}:
        return "gemm", {
            "alpha": 1.0,
            "beta": 1.0,
            "transpose_a": fields.get("transpose_a", "b", False),
            "transpose_b": fields.get("transpose_b", "b", False),
            "activations": _fused(fields),
        }
    if op == "StridedSlice":
        names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
        return "strided_slice", {name: fields.get(name, "i", 0) for name in names}
    simple = _with_attributes(op, fields, layout)
    return simple if simple is not None else (f"tfjs:{op}", {})


def _with_attributes(op: str, fields: Fields, layout: str) -> tuple[str, dict[str, Any]] | None:
    if op == "LeakyRelu":
        return "leaky_relu", {"alpha": fields.get("alpha", "f", 0.2)}
    if op == "Softmax":
        return "softmax", {"axis": -1}
    if op == "Cast":
        to = fields.get("DstT", "type")
        if to not in _TYPES:
            raise UnsupportedError(f"{fields.where} casts to {to}, must be one of {list(_TYPES)}")
        return "cast", {"to": _TYPES[to]}
    if op == "GatherV2":
        return "gather", {"batch_axes": fields.get("batch_dims", "i", 0)}
    if op == "Split":
        return "split_axis_first", {"parts": fields.get("num_split", "i", 1)}
    if op == "Squeeze":
        return "squeeze_axes", {"axes": fields.items("squeeze_dims", "i")}
    if op in {"Pack", "Unpack"}:
        return op.lower(), {"axis": fields.get("axis", "i", 0)}
    if op in {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}:
        if fields.get("is_training", "b", False):
            raise UnsupportedError(f"{fields.where} is in training, must be frozen")
        return "batch_norm", {"layout": layout, "epsilon": fields.get("epsilon", "f", 1e-4)}
    return None


def _fused(fields: Fields) -> list[str]:
    names = [name for name in fields.items("fused_ops", "s") if name != "BiasAdd"]
    if unknown := [name for name in names if name not in _ACTIVATIONS]:
        raise UnsupportedError(
            f"{fields.where} has {unknown[0]!r} fused, must be one of {sorted(_ACTIVATIONS)}"
        )
    return [_ACTIVATIONS[name] for name in names]


def _window(fields: Fields, name: str, layout: str) -> tuple[int, int]:
    """The two numbers of an attribute that count along height and width."""
    numbers = fields.items(name, "i") or [1, 1, 1, 1]
    rows = slice(1, 3) if layout == "nhwc" else slice(2, 4)
    picked = numbers[rows]
    if len(numbers) != 4 or min(picked) < 1 or max(picked) > 1 << 16:
        raise ArgumentError(f"{fields.where} has {name} {numbers}, must be four numbers >= 1")
    return picked[0], picked[1]


def _padding(fields: Fields, layout: str) -> str | tuple[int, int, int, int]:
    name = fields.get("padding", "s", "VALID")
    if name in {"SAME", "VALID"}:
        return name.lower()
    numbers = fields.items("explicit_paddings", "i")
    if name != "EXPLICIT" or len(numbers) != 8 or not 0 <= min(numbers) <= max(numbers) < 1 << 16:
        raise ArgumentError(f"{fields.where} has padding {name!r} {numbers}, must be SAME or VALID")
    first = 2 if layout == "nhwc" else 4
    top, bottom, left, right = numbers[first : first + 4]
    return top, left, bottom, right


def _convolution(op: str, fields: Fields, layout: str) -> tuple[str, dict[str, Any]]:
    attributes = {
        "layout": layout,
        "weight_order": _CONVOLUTIONS[op],
        "strides": _window(fields, "strides", layout),
        "dilations": _window(fields, "dilations", layout),
        "padding": _padding(fields, layout),
        "groups": 1,
        "activations": _fused(fields),
        "alpha": fields.get("leakyrelu_alpha", "f", 0.2),
    }
    if op != "Conv2DBackpropInput":
        return "conv", attributes
    if isinstance(attributes["padding"], tuple):
        raise UnsupportedError(f"{fields.where} has explicit padding, must be SAME or VALID")
    return "conv_transpose_sized", attributes
