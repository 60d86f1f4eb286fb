"""The op table: convolutions, pooling, resizing, padding.

Attribute "layout" is "nchw" or "nhwc"; "padding" is "same" (TensorFlow's: the odd pixel goes to
the end), "valid" or (top, left, bottom, right). Weights are already in torch's order, see `fold`.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ArgumentError
from foveal.teachers.graph.ops import OPS, Args, Attributes, activate, op

__all__ = ["OPS", "same_padding"]


def _to_nchw(x: Tensor, a: Attributes) -> Tensor:
    if x.ndim != 4:
        raise ArgumentError(f"x has {x.ndim} axes, must have 4")
    return x.permute(0, 3, 1, 2) if a["layout"] == "nhwc" else x


def _from_nchw(x: Tensor, a: Attributes) -> Tensor:
    return x.permute(0, 2, 3, 1) if a["layout"] == "nhwc" else x


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's "SAME" along one axis: pixels before and after; the odd one goes after."""
    extent = (kernel - 1) * dilation + 1
    total = max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def _borders(x: Tensor, kernel: tuple[int, int], a: Attributes) -> tuple[int, int, int, int]:
    """Padding as (top, left, bottom, right)."""
    padding = a["padding"]
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        top, bottom = same_padding(x.shape[2], kernel[0], a["strides"][0], a["dilations"][0])
        left, right = same_padding(x.shape[3], kernel[1], a["strides"][1], a["dilations"][1])
        return top, left, bottom, right
    top, left, bottom, right = padding
    return top, left, bottom, right


@op("conv")
def conv(x: Args, a: Attributes) -> Tensor:
    """Convolution, then a bias and activations where the file has fused them.

    Arguments: x, weights (out, in / groups, h, w), then bias, then slopes of a fused PReLU.
    """
    y = _to_nchw(x[0], a)
    weight = x[1]
    if weight.ndim != 4 or y.shape[1] != weight.shape[1] * a["groups"]:
        raise ArgumentError(
            f"x has {y.shape[1]} channels, must have {weight.shape[1] * a['groups']}"
        )
    top, left, bottom, right = _borders(y, (weight.shape[2], weight.shape[3]), a)
    if (top, left) != (bottom, right):
        y, top, left = F.pad(y, (left, right, top, bottom)), 0, 0
    bias = x[2] if len(x) > 2 else None
    y = F.conv2d(y, weight, bias, a["strides"], (top, left), a["dilations"], a["groups"])
    slope = None
    if "prelu" in a.get("activations", ()):
        slope = x[-1].reshape(1, -1, 1, 1) if a["layout"] == "nhwc" else x[-1]
    return _from_nchw(activate(y, a, slope), a)


def _transposed(x: Args, a: Attributes, sides: tuple[int, int] | None) -> Tensor:
    y, weight = _to_nchw(x[0], a), x[1]
    if weight.ndim != 4 or y.shape[1] != weight.shape[0]:
        raise ArgumentError(f"x has {y.shape[1]} channels, must have {weight.shape[0]}")
    full = F.conv_transpose2d(
        y, weight, None, a["strides"], groups=a["groups"], dilation=a["dilations"]
    )
    kernel = (weight.shape[2], weight.shape[3])
    if sides is None:
        top, left, bottom, right = (0, 0, 0, 0) if a["padding"] == "valid" else a["padding"]
        extra = a.get("output_padding", (0, 0))
        sides = (full.shape[2] - top - bottom + extra[0], full.shape[3] - left - right + extra[1])
    elif a["padding"] == "same":
        top, left = (
            same_padding(sides[i], kernel[i], a["strides"][i], a["dilations"][i])[0] for i in (0, 1)
        )
    else:
        top = left = 0
    # Cropping at the start and up to the wanted sides; what is missing at the end is zero.
    full = F.pad(
        full, (-left, sides[1] + left - full.shape[3], -top, sides[0] + top - full.shape[2])
    )
    bias = x[2] if len(x) > 2 else None
    return _from_nchw(full if bias is None else full + bias.reshape(-1, 1, 1), a)


@op("conv_transpose")
def conv_transpose(x: Args, a: Attributes) -> Tensor:
    """ONNX's ConvTranspose: x, weights (in, out / groups, h, w), bias."""
    return _transposed(x, a, None)


@op("conv_transpose_sized", 0)
def conv_transpose_sized(x: Args, a: Attributes) -> Tensor:
    """TensorFlow's Conv2DBackpropInput: (sides of the result, weights, x)."""
    sides = x[0]
    if len(sides) != 4:
        raise ArgumentError(f"the result's shape is {sides}, must have 4 sides")
    height, width = sides[1:3] if a["layout"] == "nhwc" else sides[2:4]
    return _transposed([x[2], x[1]], a, (height, width))


@op("batch_norm")
def batch_norm(x: Args, a: Attributes) -> Tensor:
    """Normalisation by stored statistics: (x, scale, shift, mean, variance)."""
    factor = x[1] * torch.rsqrt(x[4] + a["epsilon"])
    shift = x[2] - x[3] * factor
    sides = [-1] if a["layout"] == "nhwc" else [-1, *[1] * (x[0].ndim - 2)]
    return x[0] * factor.reshape(sides) + shift.reshape(sides)


@op("max_pool")
def max_pool(x: Args, a: Attributes) -> Tensor:
    """Largest value of each window; padding never wins."""
    y = _to_nchw(x[0], a)
    top, left, bottom, right = _borders(y, a["kernel"], a)
    if top or left or bottom or right:
        y = F.pad(y, (left, right, top, bottom), value=-math.inf)
    return _from_nchw(F.max_pool2d(y, a["kernel"], a["strides"]), a)


@op("avg_pool")
def avg_pool(x: Args, a: Attributes) -> Tensor:
    """Mean of each window; padding is not counted unless "count_padding"."""
    y = _to_nchw(x[0], a)
    top, left, bottom, right = _borders(y, a["kernel"], a)
    if not (top or left or bottom or right):
        return _from_nchw(F.avg_pool2d(y, a["kernel"], a["strides"]), a)
    border = (left, right, top, bottom)
    out = F.avg_pool2d(F.pad(y, border), a["kernel"], a["strides"])
    if not a.get("count_padding"):
        ones = F.pad(torch.ones_like(y[:1, :1]), border)
        out = out / F.avg_pool2d(ones, a["kernel"], a["strides"])
    return _from_nchw(out, a)


@op("global_avg_pool")
def global_avg_pool(x: Args, a: Attributes) -> Tensor:
    """Mean over all axes after the channels, which stay with length 1."""
    return x[0].mean(tuple(range(2, x[0].ndim)), keepdim=True)


@op("pad", 1, 2)
def pad(x: Args, a: Attributes) -> Tensor:
    """Add a constant around: (x, [[before, after] of each axis], value)."""
    borders = x[1]
    if len(borders) != x[0].ndim:
        raise ArgumentError(f"paddings has {len(borders)} rows, must have {x[0].ndim}")
    value = x[2] if len(x) > 2 and x[2] is not None else 0.0
    return F.pad(x[0], [n for pair in reversed(borders) for n in pair], value=value)


@op("pad_flat", 1, 2)
def pad_flat(x: Args, a: Attributes) -> Tensor:
    """ONNX's Pad: all the numbers before, then all after."""
    half = len(x[1]) // 2
    pairs = [list(pair) for pair in zip(x[1][:half], x[1][half:], strict=True)]
    return pad([x[0], pairs, *x[2:]], a)


def _half_down(at: Tensor) -> Tensor:
    return torch.ceil(at - 0.5)


def _half_up(at: Tensor) -> Tensor:
    return torch.floor(at + 0.5)


_ROUNDINGS = {"floor": torch.floor, "half_down": _half_down, "half_up": _half_up}


def _places(old: int, new: int, scale: float, mode: str, like: Tensor) -> Tensor:
    """Where each new pixel lies among the old ones, in fp64."""
    at = torch.arange(new, dtype=torch.float64, device=like.device)
    if mode == "align_corners":
        return at * ((old - 1) / (new - 1) if new > 1 else 0.0)
    if mode == "half_pixel":
        return (at + 0.5) / scale - 0.5
    return at / scale


def _linear(x: Tensor, axis: int, new: int, scale: float, mode: str) -> Tensor:
    old = x.shape[axis]
    at = _places(old, new, scale, mode, x).clamp(0, old - 1)
    low = at.floor().long()
    high = (low + 1).clamp_max(old - 1)
    part = (at - low).to(x.dtype).reshape([-1, *[1] * (x.ndim - 1 - axis)])
    below, above = x.index_select(axis, low), x.index_select(axis, high)
    return below + part * (above - below)


def _resize(y: Tensor, sides: list[int], scales: list[float], a: Attributes) -> Tensor:
    if min(*sides, *y.shape) < 1:
        raise ArgumentError(f"sides are {list(y.shape)} and {sides}, must be >= 1")
    mode = a["coordinates"]
    if a["method"] == "linear":
        if mode != "asymmetric" and all(
            s == n / o for s, n, o in zip(scales, sides, y.shape[2:], strict=True)
        ):
            corners = mode == "align_corners"
            return F.interpolate(y, sides, mode="bilinear", align_corners=corners)
        for i in (0, 1):
            y = _linear(y, 2 + i, sides[i], scales[i], mode)
        return y
    for i in (0, 1):
        at = _places(y.shape[2 + i], sides[i], scales[i], mode, y)
        at = _ROUNDINGS[a["rounding"]](at)
        y = y.index_select(2 + i, at.long().clamp(0, y.shape[2 + i] - 1))
    return y


@op("resize", 1)
def resize(x: Args, a: Attributes) -> Tensor:
    """TensorFlow's resize: (x, [height, width])."""
    y = _to_nchw(x[0], a)
    height, width = x[1]
    scales = [height / max(1, y.shape[2]), width / max(1, y.shape[3])]
    return _from_nchw(_resize(y, [height, width], scales, a), a)


@op("resize_onnx", 1, 2, 3)
def resize_onnx(x: Args, a: Attributes) -> Tensor:
    """ONNX's Resize: (x, region, factors, sides); of factors and sides one is given."""
    factors, sides = (x[i] if len(x) > i and x[i] else None for i in (2, 3))
    given: list[Any] = factors or sides or []
    if len(given) != 4 or x[0].ndim != 4:
        raise ArgumentError(f"scales or sizes are {given}, must be four numbers for (b, c, h, w)")
    old = list(x[0].shape)
    if sides is None:
        sides = [math.floor(n * f) for n, f in zip(old, given, strict=True)]
        scales = [float(f) for f in given[2:]]
    else:
        scales = [n / max(1, o) for n, o in zip(sides[2:], old[2:], strict=True)]
    if sides[:2] != old[:2]:
        raise ArgumentError(f"sizes are {sides}, must keep batch and channels {old[:2]}")
    return _resize(x[0], sides[2:], scales, a)
