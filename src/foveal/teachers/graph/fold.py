"""What is done once, at loading: weights in torch's order, constants computed, norms folded."""

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
    return _fold_norms(tuple(kept), known, wanted)


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


def _fold_norms(
    nodes: tuple[Node, ...], known: dict[str, Tensor], wanted: set[str]
) -> tuple[tuple[Node, ...], dict[str, Tensor]]:
    """Put a normalisation with stored statistics into the convolution before it."""
    uses = Counter(x for node in nodes for x in node.inputs)
    makers = {node.outputs[0]: i for i, node in enumerate(nodes) if node.op == "conv"}
    out: list[Node | None] = list(nodes)
    for i, node in enumerate(nodes):
        read = list(node.inputs)
        if node.op != "batch_norm" or any(x not in known for x in read[1:]) or len(read) != 5:
            continue
        at = makers.get(read[0])
        conv = None if at is None else out[at]
        if conv is None or at is None or conv.attributes.get("activations"):
            continue
        given = list(conv.inputs)
        if uses[read[0]] != 1 or read[0] in wanted or len(given) > 3:
            continue
        if any(x not in known for x in given[1:]):
            continue
        scale, shift, mean, variance = (known[x].double() for x in read[1:])
        weight = known[given[1]]
        factor = scale * torch.rsqrt(variance + node.attributes["epsilon"])
        if factor.shape != weight.shape[:1] or mean.shape != shift.shape:
            continue
        bias = known[given[2]].double() if len(given) > 2 else torch.zeros(())
        names = (f"{node.outputs[0]}|weight", f"{node.outputs[0]}|bias")
        known[names[0]] = (weight.double() * factor.reshape(-1, 1, 1, 1)).to(weight.dtype)
        known[names[1]] = ((bias - mean) * factor + shift).to(weight.dtype)
        out[at] = None
        out[i] = replace(conv, inputs=(given[0], *names), outputs=node.outputs)
    return tuple(node for node in out if node is not None), known
