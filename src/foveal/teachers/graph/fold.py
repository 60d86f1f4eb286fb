"""What is done once, at loading: weights in torch's order, constants, norms and biases folded."""

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from foveal.errors import ArgumentError, UnsupportedError
from foveal.teachers.graph.ir import Node
from foveal.teachers.graph.run import checked, run_node, value_positions

_WEIGHTS = {"conv": 1, "conv_transpose": 1, "conv_transpose_sized": 1}
_ORDERS = {"hwio": (3, 2, 0, 1), "hwoi": (3, 2, 0, 1), "hwcm": (2, 3, 0, 1)}


def fold(
    nodes: tuple[Node, ...], constants: dict[str, Tensor], wanted: set[str], source: str
) -> tuple[tuple[Node, ...], dict[str, Tensor]]:
    """Return nodes and constants with all that can be computed before an input is known.

    Args:
        nodes: In an order that can run, with known ops.
        constants: By name.
        wanted: Tensors that must stay as they are.
        source: The file, for messages.
    """
    known = dict(constants)
    kept: list[Node] = []
    for node in nodes:
        node = _reorder(node, known, source)
        if not node.inputs or any(x and x not in known for x in node.inputs):
            kept.append(node)
            continue
        read = value_positions(node)
        numbers = {x: known[x].tolist() for i, x in enumerate(node.inputs) if i in read and x}
        with checked():
            empty = {x: known[x].to("meta") for x in node.inputs if x}
            run_node(node, empty.__getitem__, numbers, source)
        with torch.no_grad():
            out = run_node(node, known.__getitem__, numbers, source)
        known |= {name: x.clone() for name, x in zip(node.outputs, out, strict=False)}
    return _absorb(tuple(kept), known, wanted)


def _reorder(node: Node, known: dict[str, Tensor], source: str) -> Node:
    """Weights of convolutions as torch has them: (out, in / groups, h, w)."""
    position = _WEIGHTS.get(node.op)
    order = node.attributes.get("weight_order")
    if position is None or order is None:
        return node
    name = node.inputs[position] if len(node.inputs) > position else ""
    if name not in known:
        raise UnsupportedError(
            f"GraphModule: node {node.name!r} of {source} ({node.op}) has weights that are no "
            "constant, must have constant ones"
        )
    weight = known[name]
    if weight.ndim != 4:
        raise ArgumentError(
            f"GraphModule: node {node.name!r} of {source} has weights of shape "
            f"{tuple(weight.shape)}, must have 4 sides; the file is damaged"
        )
    attributes = {k: v for k, v in node.attributes.items() if k != "weight_order"}
    new = f"{name}|{order}"
    moved = weight.permute(_ORDERS[order])
    if order == "hwcm":
        attributes["groups"] = weight.shape[2]
        moved = moved.reshape(-1, 1, *weight.shape[:2])
    known[new] = moved.contiguous()
    inputs = tuple(new if i == position else x for i, x in enumerate(node.inputs))
    return replace(node, inputs=inputs, attributes=attributes)


def _absorb(
    nodes: tuple[Node, ...], known: dict[str, Tensor], wanted: set[str]
) -> tuple[tuple[Node, ...], dict[str, Tensor]]:
    """Put biases and norms with stored statistics into the convolutions before them."""
    uses = Counter(x for node in nodes for x in node.inputs)
    makers: dict[str, int] = {}
    out: list[Node | None] = list(nodes)
    for i, node in enumerate(nodes):
        if node.op in {"conv", "conv_transpose"}:
            makers[node.outputs[0]] = i
            continue
        if node.op not in {"add", "bias_add", "batch_norm"}:
            continue
        data = next((x for x in node.inputs if x in makers), "")
        conv = out[makers[data]] if data else None
        if conv is None or uses[data] != 1 or data in wanted:
            continue
        rest = [known[x] for x in node.inputs if x != data and x in known]
        new = _merged(node, conv, rest, known)
        if new is None:
            continue
        names = (f"{node.outputs[0]}|weight", f"{node.outputs[0]}|bias")
        known |= dict(zip(names, new, strict=True))
        out[makers[data]] = None
        out[i] = replace(conv, inputs=(conv.inputs[0], *names), outputs=node.outputs)
        makers[node.outputs[0]] = i
    return tuple(node for node in out if node is not None), known


def _merged(
    node: Node, conv: Node, rest: list[Tensor], known: dict[str, Tensor]
) -> tuple[Tensor, Tensor] | None:
    """Weights and bias of a convolution with the node behind it; None if that cannot be."""
    given = list(conv.inputs)[1:]
    if conv.attributes.get("activations") or len(given) > 2 or any(x not in known for x in given):
        return None
    weight = known[given[0]]
    turned = conv.op == "conv_transpose"
    if weight.ndim != 4 or (turned and conv.attributes["groups"] != 1):
        return None
    sides = (1, -1, 1, 1) if turned else (-1, 1, 1, 1)
    num_outputs = weight.shape[1 if turned else 0]
    bias = known[given[1]].double() if len(given) > 1 else torch.zeros(num_outputs).double()
    if node.op == "batch_norm":
        if len(rest) != 4 or any(x.shape != (num_outputs,) for x in rest):
            return None
        scale, shift, mean, variance = (x.double() for x in rest)
        factor = scale * torch.rsqrt(variance + node.attributes["epsilon"])
        moved = (bias - mean) * factor + shift
        return (weight.double() * factor.reshape(sides)).to(weight.dtype), moved.to(weight.dtype)
    last = conv.attributes["layout"] == "nhwc"
    if len(rest) != 1 or len(node.inputs) != 2:
        return None
    shape = tuple(rest[0].shape)
    flat = node.op == "bias_add" and shape == (num_outputs,)
    full = (1, 1, 1, num_outputs) if last else (1, num_outputs, 1, 1)
    if not flat and not (len(shape) <= 4 and (1,) * (4 - len(shape)) + shape == full):
        return None
    return weight, (bias + rest[0].double().flatten()).to(weight.dtype)
