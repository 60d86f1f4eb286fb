"""The graph that both readers make: nodes of one op vocabulary, constants, inputs, outputs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from foveal.errors import ArgumentError

MAX_NODES = 20_000
MAX_FILE_BYTES = 1 << 30
MAX_ELEMENTS = 1 << 28
"""Elements that one tensor may have: 1 GiB in fp32."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation.

    Args:
        op: A kind of the op table, such as "conv"; a kind that has no entry is kept with the
            format before it ("tfjs:NonMaxSuppressionV5") and refused when it is needed.
        name: The name in the file, for messages.
        inputs: Names of tensors; "" is an optional input that was left out.
        outputs: Names of the tensors made, at least one.
        attributes: Settings, by the names that the op's function reads.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Graph:
    """A network as data.

    Args:
        source: Where it came from, for messages.
        inputs: Shape by name; None is a side that may vary.
        outputs: Names of the tensors that the file declares as results.
        nodes: Operations in any order; `sort` brings them into one that can run.
        constants: Tensors by name; floating point ones are fp32.
        metadata: Text that the file carries, by key.
    """

    source: str
    inputs: dict[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict[str, str])


def count(shape: Iterable[Any], *, where: str) -> int:
    """Number of elements of a declared shape, before anything is allocated.

    Raises:
        ArgumentError: a side is negative or no integer, or there are too many elements.
    """
    sides = list(shape)
    if len(sides) > 8 or any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in sides):
        raise ArgumentError(
            f"{where} has shape {sides[:9]}, must be at most 8 sides >= 0; the file is damaged"
        )
    total = math.prod(sides)
    if total > MAX_ELEMENTS:
        raise ArgumentError(f"{where} has shape {sides}, must have at most {MAX_ELEMENTS} elements")
    return total


def sort(graph: Graph, wanted: Sequence[str]) -> tuple[Node, ...]:
    """The nodes that `wanted` needs, each after those that it reads.

    Raises:
        ArgumentError: a tensor is made by nobody or by two, or the nodes form a cycle.
    """
    if len(graph.nodes) > MAX_NODES:
        raise ArgumentError(
            f"graph: {graph.source} has {len(graph.nodes)} nodes, must have at most {MAX_NODES}"
        )
    maker: dict[str, Node] = {}
    for node in graph.nodes:
        for name in node.outputs:
            if name in maker or name in graph.constants or name in graph.inputs:
                raise ArgumentError(
                    f"graph: {graph.source} makes tensor {name!r} twice; the file is damaged"
                )
            maker[name] = node
    done: set[str] = set()
    order: list[Node] = []
    path: set[str] = set()
    for name in wanted:
        stack = [(name, False)]
        while stack:
            tensor, leaving = stack.pop()
            node = maker.get(tensor)
            if node is None:
                if tensor not in graph.constants and tensor not in graph.inputs:
                    raise ArgumentError(
                        f"graph: {graph.source} has no tensor {tensor!r}, "
                        "which must be an input, a constant or made by a node"
                    )
                continue
            key = node.outputs[0]
            if key in done:
                continue
            if leaving:
                path.discard(key)
                done.add(key)
                order.append(node)
                continue
            if key in path:
                raise ArgumentError(
                    f"graph: {graph.source} has a cycle through node {node.name!r}; "
                    "the file is damaged"
                )
            path.add(key)
            stack.append((tensor, True))
            stack += [(x, False) for x in node.inputs if x and x not in done]
    return tuple(order)
