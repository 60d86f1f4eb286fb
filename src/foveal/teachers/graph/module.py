"""A `Graph` as a torch module: frozen, differentiable in its inputs."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.graph.fold import fold
from foveal.teachers.graph.ir import Graph, Node, sort
from foveal.teachers.graph.run import check_op, checked, run_node, value_positions


class GraphModule(nn.Module):
    """Runs a graph that `read_tfjs` or `read_onnx` made.

    Its weights are buffers: nothing is trainable, `to()` moves them. Norms with stored statistics
    are folded into the convolutions before them. Before an input of a new shape is run, the shapes
    of all tensors are worked out without memory.

    Args:
        graph: The network.
        outputs: Tensors that can be asked for; default: those that the file declares.

    Raises:
        ArgumentError: a tensor is missing, or the graph has a cycle.
        UnsupportedError: a needed node has an unknown op; names both.
    """

    def __init__(self, graph: Graph, *, outputs: Sequence[str] | None = None) -> None:
        """Check the graph and compute what needs no input."""
        super().__init__()
        self.source = graph.source
        self.outputs = tuple(graph.outputs if outputs is None else outputs)
        if not self.outputs:
            raise ArgumentError(f"GraphModule: {graph.source} has no outputs, must have one")
        self.inputs = dict(graph.inputs)
        nodes = sort(graph, self.outputs)
        for node in nodes:
            check_op(node, graph.source)
        self._nodes, constants = fold(nodes, graph.constants, set(self.outputs), graph.source)
        self._numbers: dict[str, Any] = {}
        self._whole: dict[str, Tensor] = {}
        self._buffer_of: dict[str, str] = {}
        self._keep(constants)
        self._plans: dict[tuple[str, ...], tuple[tuple[Node, tuple[str, ...]], ...]] = {}
        self._known_shapes: set[tuple[Any, ...]] = set()

    def _keep(self, constants: dict[str, Tensor]) -> None:
        """Numbers for arguments read as numbers, buffers for the rest; integers stay on the CPU."""
        wanted = set(self.outputs)
        for node in self._nodes:
            read = value_positions(node)
            for position, name in enumerate(node.inputs):
                if position in read and name in constants:
                    self._numbers[name] = constants[name].tolist()
                else:
                    wanted.add(name)
        for name in sorted(wanted & set(constants)):
            if constants[name].is_floating_point():
                self._buffer_of[name] = f"constant_{len(self._buffer_of)}"
                self.register_buffer(self._buffer_of[name], constants[name])
            else:
                self._whole[name] = constants[name]

    def _constant(self, name: str) -> Tensor:
        if name in self._whole:
            return self._whole[name]
        return self.get_buffer(self._buffer_of[name])

    def _plan(self, outputs: tuple[str, ...]) -> tuple[tuple[Node, tuple[str, ...]], ...]:
        """Nodes that `outputs` need, each with the tensors that nobody reads after it."""
        if outputs not in self._plans:
            alive = set(outputs)
            steps: list[tuple[Node, tuple[str, ...]]] = []
            for node in reversed(self._nodes):
                if alive.isdisjoint(node.outputs):
                    continue
                names = {*node.inputs, *node.outputs}
                steps.append((node, tuple(names - alive - set(outputs))))
                alive |= names
            self._plans[outputs] = tuple(reversed(steps))
        return self._plans[outputs]

    def forward(self, *inputs: Tensor, outputs: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return the wanted tensors by name.

        Args:
            inputs: One tensor for each of `self.inputs`, in that order. The first side may be any
                number where the file has 1: a batch.
            outputs: Names out of `self.outputs`; default: all.

        Raises:
            ShapeError: an input has another shape, or a node cannot run at that size.
            ArgumentError: an output that was not asked for when the module was made.
        """
        wanted = self.outputs if outputs is None else tuple(outputs)
        if not set(wanted) <= set(self.outputs):
            raise ArgumentError(
                f"GraphModule: outputs is {list(wanted)}, must be of {list(self.outputs)}"
            )
        self._check(inputs)
        key = (wanted, *(tuple(x.shape) for x in inputs))
        if key not in self._known_shapes:
            with checked():
                self._run([x.detach().to("meta") for x in inputs], wanted, meta=True)
            self._known_shapes.add(key)
        return self._run(inputs, wanted)

    def _run(
        self, inputs: Sequence[Tensor], wanted: tuple[str, ...], *, meta: bool = False
    ) -> dict[str, Tensor]:
        values = dict(zip(self.inputs, inputs, strict=True))

        def tensor(name: str) -> Tensor:
            if name in values:
                return values[name]
            found = self._constant(name)
            return found.to("meta") if meta and found.is_floating_point() else found

        for node, finished in self._plan(wanted):
            out = run_node(node, tensor, self._numbers, self.source)
            values |= dict(zip(node.outputs, out, strict=False))
            for name in finished:
                values.pop(name, None)
        return {name: tensor(name) for name in wanted}

    def _check(self, inputs: Sequence[Tensor]) -> None:
        if len(inputs) != len(self.inputs):
            raise ShapeError(
                f"GraphModule: inputs has {len(inputs)} tensors, must have {len(self.inputs)}: "
                f"{list(self.inputs)}"
            )
        for x, (name, shape) in zip(inputs, self.inputs.items(), strict=True):
            fits = len(shape) == x.ndim and all(
                want is None or n == want or (i == 0 and want == 1)
                for i, (n, want) in enumerate(zip(x.shape, shape, strict=True))
            )
            if not fits or 0 in x.shape or not x.is_floating_point():
                want = tuple("any" if n is None else n for n in shape)
                raise ShapeError(
                    f"GraphModule: input {name!r} has shape {tuple(x.shape)} and type {x.dtype}, "
                    f"must have shape {want} and a floating-point type"
                )
