"""The op table: arithmetic, activations, shapes. Layers of images are in `image_ops`.

A function takes the node's arguments and attributes. An argument is a tensor, None where an
optional one was left out, or, at the positions in `values`, plain Python numbers in (nested) lists.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ArgumentError
from foveal.teachers.graph.ir import count

Args = Sequence[Any]
Attributes = Mapping[str, Any]
Function = Callable[[Args, Attributes], Tensor | tuple[Tensor, ...]]
Kind = TypeVar("Kind", bound=Function)


@dataclass(frozen=True, slots=True)
class Op:
    """A function and the positions of the arguments that it wants as numbers."""

    run: Function
    values: tuple[int, ...] = ()


OPS: dict[str, Op] = {}
_FAR = (1 << 31) - 1  # no axis is as long


def op(name: str, *values: int) -> Callable[[Kind], Kind]:
    """Put a function into the table."""

    def add(function: Kind) -> Kind:
        OPS[name] = Op(function, values)
        return function

    return add


def _binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    OPS[name] = Op(lambda x, a: function(x[0], x[1]))


def _unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    OPS[name] = Op(lambda x, a: function(x[0]))


def _axis(axis: int, num_axes: int) -> int:
    """An axis counted from the start."""
    if not -num_axes <= axis < num_axes:
        raise ArgumentError(f"axis is {axis}, must be in [{-num_axes}, {num_axes})")
    return axis % num_axes


def _divide(x: Tensor, y: Tensor) -> Tensor:
    whole = not x.is_floating_point()
    return torch.div(x, y, rounding_mode="trunc" if whole else None)


_binary("add", torch.add)
_binary("sub", torch.sub)
_binary("mul", torch.mul)
_binary("div", _divide)
_binary("floor_div", torch.floor_divide)
_binary("floor_mod", torch.remainder)
_binary("pow", torch.pow)
_binary("maximum", torch.maximum)
_binary("minimum", torch.minimum)
_binary("equal", torch.eq)
_binary("matmul", torch.matmul)
_unary("identity", lambda x: x)
_unary("relu", F.relu)
_unary("relu6", F.relu6)
_unary("sigmoid", torch.sigmoid)
_unary("tanh", torch.tanh)
_unary("elu", F.elu)
_unary("exp", torch.exp)
_unary("neg", torch.neg)
_unary("sqrt", torch.sqrt)
_unary("rsqrt", torch.rsqrt)
_unary("hard_swish", F.hardswish)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def activate(x: Tensor, a: Attributes, slope: Tensor | None = None) -> Tensor:
    """What a file has fused behind a layer: the names in "activations"."""
    for name in a.get("activations", ()):
        if name == "prelu" and slope is not None:
            x = torch.where(x > 0, x, x * slope)
        elif name == "leaky_relu":
            x = F.leaky_relu(x, a["alpha"])
        else:
            x = _ACTIVATIONS[name](x)
    return x


@op("leaky_relu")
def leaky_relu(x: Args, a: Attributes) -> Tensor:
    """Return x where x > 0, else alpha x."""
    return F.leaky_relu(x[0], a["alpha"])


@op("prelu")
def prelu(x: Args, a: Attributes) -> Tensor:
    """Return x where x > 0, else slope x; the slopes broadcast."""
    return torch.where(x[0] > 0, x[0], x[0] * x[1])


@op("hard_sigmoid")
def hard_sigmoid(x: Args, a: Attributes) -> Tensor:
    """Return alpha x + beta, held in [0, 1]."""
    return (a["alpha"] * x[0] + a["beta"]).clamp(0, 1)


@op("clip", 1, 2)
def clip(x: Args, a: Attributes) -> Tensor:
    """Hold x between two numbers; either may be left out."""
    low, high = (x[i] if len(x) > i else None for i in (1, 2))
    return x[0] if low is None and high is None else torch.clamp(x[0], low, high)


@op("softmax")
def softmax(x: Args, a: Attributes) -> Tensor:
    """Softmax over one axis, or ("flat") over all from that axis on."""
    axis = a["axis"]
    if not a.get("flat"):
        return torch.softmax(x[0], axis)
    axis = _axis(axis, x[0].ndim)
    return torch.softmax(x[0].flatten(axis), -1).reshape(x[0].shape)


@op("bias_add")
def bias_add(x: Args, a: Attributes) -> Tensor:
    """Add a bias to each channel."""
    if a["layout"] == "nhwc":
        return x[0] + x[1]
    return x[0] + x[1].reshape(-1, *[1] * (x[0].ndim - 2))


@op("add_n")
def add_n(x: Args, a: Attributes) -> Tensor:
    """Sum of all arguments, of one shape."""
    total = x[0]
    for term in x[1:]:
        total = total + term
    return total


@op("gemm")
def gemm(x: Args, a: Attributes) -> Tensor:
    """Return alpha A B + beta C, with A and B transposed if told, then fused activations."""
    left = x[0].T if a["transpose_a"] else x[0]
    right = x[1].T if a["transpose_b"] else x[1]
    out = a["alpha"] * (left @ right)
    if len(x) > 2 and x[2] is not None:
        out = out + a["beta"] * x[2]
    return activate(out, a, x[-1])


def _axes(x: Tensor, value: Any) -> list[int]:
    axes = list(range(x.ndim)) if value is None else value
    return axes if isinstance(axes, list) else [axes]


def _reduction(name: str, function: Callable[..., Tensor]) -> None:
    def run(x: Args, a: Attributes) -> Tensor:
        axes = _axes(x[0], x[1] if len(x) > 1 else None)
        axes = list(range(x[0].ndim)) if not axes and a.get("empty_is_all") else axes
        return function(x[0], dim=axes, keepdim=a["keep"]) if axes else x[0]

    OPS[name] = Op(run, (1,))


_reduction("reduce_mean", torch.mean)
_reduction("reduce_sum", torch.sum)
_reduction("reduce_max", torch.amax)
_reduction("reduce_min", torch.amin)


@op("reshape", 1)
def reshape(x: Args, a: Attributes) -> Tensor:
    """New shape; with "zero_copies" a 0 keeps the side that was there."""
    shape = list(x[1])
    if a.get("zero_copies"):
        shape = [x[0].shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return x[0].reshape(shape)


@op("flatten")
def flatten(x: Args, a: Attributes) -> Tensor:
    """Two axes: all before `axis`, and the rest."""
    axis = a["axis"] if a["axis"] == x[0].ndim else _axis(a["axis"], x[0].ndim)
    rows = 1
    for side in x[0].shape[:axis]:
        rows *= side
    return x[0].reshape(rows, -1)


@op("transpose", 1)
def transpose(x: Args, a: Attributes) -> Tensor:
    """Axes in another order; reversed if none is given."""
    order = x[1] if len(x) > 1 and x[1] is not None else list(range(x[0].ndim))[::-1]
    return x[0].permute(order)


@op("squeeze", 1)
def squeeze(x: Args, a: Attributes) -> Tensor:
    """Drop axes of length 1; all of them if none is named."""
    if len(x) < 2 or x[1] is None:
        return x[0].squeeze()
    axes = sorted({_axis(axis, x[0].ndim) for axis in _axes(x[0], x[1])})
    wrong = [axis for axis in axes if x[0].shape[axis] != 1]
    if wrong:
        raise ArgumentError(f"axis {wrong[0]} has {x[0].shape[wrong[0]]} elements, must have 1")
    return x[0].squeeze(tuple(axes))


@op("squeeze_axes")
def squeeze_axes(x: Args, a: Attributes) -> Tensor:
    """Drop the axes that an attribute names."""
    return squeeze([x[0], a["axes"] or None], a)


@op("expand_dims", 1)
def expand_dims(x: Args, a: Attributes) -> Tensor:
    """Add axes of length 1 at the given places of the result."""
    axes = x[1] if isinstance(x[1], list) else [x[1]]
    out = x[0]
    for axis in sorted(_axis(axis, x[0].ndim + len(axes)) for axis in axes):
        out = out.unsqueeze(axis)
    return out


@op("concat")
def concat(x: Args, a: Attributes) -> Tensor:
    """Join along `axis`."""
    return torch.cat(list(x), a["axis"])


@op("concat_last", -1)
def concat_last(x: Args, a: Attributes) -> Tensor:
    """Join along the axis that the last argument names."""
    return torch.cat(list(x[:-1]), x[-1])


@op("pack")
def pack(x: Args, a: Attributes) -> Tensor:
    """Stack along a new axis."""
    return torch.stack(list(x), a["axis"])


@op("unpack")
def unpack(x: Args, a: Attributes) -> tuple[Tensor, ...]:
    """Take apart along an axis."""
    return x[0].unbind(a["axis"])


@op("split", 1)
def split(x: Args, a: Attributes) -> tuple[Tensor, ...]:
    """Cut along `axis` into parts of the given sizes, or into `parts` equal ones."""
    axis = a["axis"]
    sizes = x[1] if len(x) > 1 and x[1] is not None else a.get("sizes")
    if sizes is None:
        if x[0].shape[axis] % a["parts"]:
            raise ArgumentError(f"axis {axis} has {x[0].shape[axis]}, must divide by {a['parts']}")
        return x[0].split(x[0].shape[axis] // a["parts"], axis)
    if sizes.count(-1) == 1:
        rest = x[0].shape[axis] - sum(n for n in sizes if n != -1)
        sizes = [rest if n == -1 else n for n in sizes]
    return x[0].split(sizes, axis)


@op("split_axis_first", 0)
def split_axis_first(x: Args, a: Attributes) -> tuple[Tensor, ...]:
    """TensorFlow's Split: (axis, x) and the number of equal parts."""
    return split([x[1], None], {"axis": x[0], "parts": a["parts"]})


@op("split_sizes", 1, 2)
def split_sizes(x: Args, a: Attributes) -> tuple[Tensor, ...]:
    """TensorFlow's SplitV: (x, sizes, axis)."""
    return split([x[0], x[1]], {"axis": x[2]})


@op("gather", 2)
def gather(x: Args, a: Attributes) -> Tensor:
    """Rows of x along an axis, by number; negative numbers count from the end."""
    axis = x[2] if len(x) > 2 and x[2] is not None else a.get("axis", 0)
    axis = _axis(axis, x[0].ndim)
    if a.get("batch_axes", 0):
        raise ArgumentError(f"batch_dims is {a['batch_axes']}, must be 0")
    index = x[1].long()
    index = torch.where(index < 0, index + x[0].shape[axis], index)
    out = x[0].index_select(axis, index.reshape(-1))
    return out.reshape(x[0].shape[:axis] + index.shape + x[0].shape[axis + 1 :])


@op("strided_slice", 1, 2, 3)
def strided_slice(x: Args, a: Attributes) -> Tensor:
    """TensorFlow's StridedSlice without ellipsis and new axes; strides above 0."""
    begin, end, step = x[1], x[2], x[3] if len(x) > 3 and x[3] is not None else [1] * len(x[1])
    if a.get("ellipsis_mask") or a.get("new_axis_mask") or min(step, default=1) < 1:
        raise ArgumentError("ellipsis, new axis and strides below 1 are not supported")
    out, axis = x[0], 0
    for i, (first, last, stride) in enumerate(zip(begin, end, step, strict=True)):
        if a.get("shrink_axis_mask", 0) >> i & 1:
            out = out.select(axis, first)
            continue
        low = None if a.get("begin_mask", 0) >> i & 1 else first
        high = None if a.get("end_mask", 0) >> i & 1 else last
        out = out[(slice(None),) * axis + (slice(low, high, stride),)]
        axis += 1
    return out


@op("slice", 1, 2, 3, 4)
def slice_axes(x: Args, a: Attributes) -> Tensor:
    """ONNX's Slice: (x, starts, ends, axes, steps); steps above 0."""
    axes = x[3] if len(x) > 3 and x[3] is not None else list(range(len(x[1])))
    steps = x[4] if len(x) > 4 and x[4] is not None else [1] * len(axes)
    out = x[0]
    for first, last, axis, step in zip(x[1], x[2], axes, steps, strict=True):
        if step < 1:
            raise ArgumentError(f"step is {step}, must be >= 1")
        first, last, step = (max(-_FAR, min(_FAR, n)) for n in (first, last, step))
        out = out[(slice(None),) * _axis(axis, out.ndim) + (slice(first, last, step),)]
    return out


@op("shape")
def shape_of(x: Args, a: Attributes) -> Tensor:
    """Sides of x. They stay on the CPU: shapes are made of them."""
    return torch.tensor(list(x[0].shape), dtype=torch.int64)


@op("cast")
def cast(x: Args, a: Attributes) -> Tensor:
    """Another type; what is floating-point already keeps the type of the module."""
    kind = a["to"]
    if kind.is_floating_point:
        return x[0] if x[0].is_floating_point() else x[0].to(torch.float32)
    return x[0].to(kind)


@op("top_k", 1)
def top_k(x: Args, a: Attributes) -> tuple[Tensor, ...]:
    """The k largest of the last axis and their places."""
    values, places = torch.topk(x[0], x[1], dim=-1)
    return values, places


@op("sparse_to_dense", 0, 1, 2, 3)
def sparse_to_dense(x: Args, a: Attributes) -> Tensor:
    """A filled list with some numbers put in: (places, sides, values, filling)."""
    places, sides, values, filling = x
    if len(sides) != 1:
        raise ArgumentError(f"the result has {len(sides)} axes, must have 1")
    count(sides, where="the result")
    out = torch.full(sides, filling)
    for i, place in enumerate(places):
        out[place] = values[i] if isinstance(values, list) else values
    return out
