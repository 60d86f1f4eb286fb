"""One node at a time: really, or without memory to learn the shapes first."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from foveal.errors import ShapeError, UnsupportedError
from foveal.teachers.graph.image_ops import OPS
from foveal.teachers.graph.ir import MAX_ELEMENTS, Node

_FAILURES = (RuntimeError, ValueError, IndexError, TypeError, KeyError, ArithmeticError)


class _Limit(TorchDispatchMode):
    """Refuses every tensor, also those inside an op, that has too many elements."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(x, Tensor) and x.numel() > MAX_ELEMENTS:
                raise ValueError(
                    f"a tensor of shape {tuple(x.shape)} would have more than {MAX_ELEMENTS} "
                    "elements"
                )
        return out


@contextmanager
def checked() -> Generator[None]:
    """While this is open, sizes are checked; tensors of pictures are on "meta"."""
    with torch.no_grad(), _Limit():
        yield


def check_op(node: Node, source: str) -> None:
    """Refuse a node that the table has no entry for.

    Raises:
        UnsupportedError: names the op and the node.
    """
    if node.op not in OPS:
        raise UnsupportedError(
            f"GraphModule: node {node.name!r} of {source} has op {node.op!r}, must be one of "
            f"{', '.join(sorted(OPS))}; ask for outputs before it"
        )


def value_positions(node: Node) -> set[int]:
    """The arguments of a node that its op reads as numbers."""
    return {i if i >= 0 else len(node.inputs) + i for i in OPS[node.op].values}


def run_node(
    node: Node, tensor: Callable[[str], Tensor], numbers: Mapping[str, Any], source: str
) -> Sequence[Tensor]:
    """Run one node.

    Args:
        node: What to run; its op is in the table.
        tensor: Gives a tensor by name.
        numbers: Constants as Python numbers, by name.
        source: The file, for messages.

    Raises:
        ShapeError: the op cannot take these arguments.
        UnsupportedError: a shape depends on what the picture shows.
    """
    wanted = value_positions(node)
    args: list[Any] = []
    shapes: list[Any] = []
    for position, name in enumerate(node.inputs):
        if not name:
            args.append(None)
        elif position in wanted and name in numbers:
            args.append(numbers[name])
        elif position in wanted:
            x = tensor(name)
            if x.device.type != "cpu":
                raise UnsupportedError(
                    f"GraphModule: node {node.name!r} of {source} ({node.op}) takes its argument "
                    f"{position} from the picture, must be a constant or a shape; "
                    "ask for outputs before it"
                )
            args.append(x.tolist())
        else:
            args.append(tensor(name))
        shapes.append(tuple(args[-1].shape) if isinstance(args[-1], Tensor) else args[-1])
    devices = {x.device for x in args if isinstance(x, Tensor)}
    if len(devices) > 1:
        target = next(d for d in devices if d.type != "cpu")
        args = [x.to(target) if isinstance(x, Tensor) else x for x in args]
    try:
        out = OPS[node.op].run(args, node.attributes)
    except _FAILURES as error:
        raise ShapeError(
            f"GraphModule: node {node.name!r} of {source} ({node.op}) cannot take {shapes}: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}; "
            "check the size of the input"
        ) from error
    results = (out,) if isinstance(out, Tensor) else out
    if len(results) < len(node.outputs):
        raise ShapeError(
            f"GraphModule: node {node.name!r} of {source} ({node.op}) gives {len(results)} "
            f"tensors, must give {len(node.outputs)}; the file is damaged"
        )
    return results
