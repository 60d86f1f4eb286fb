"""What recognisers that run through `GraphModule` share."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from foveal.errors import ArgumentError
from foveal.teachers.graph import Graph, GraphModule
from foveal.teachers.placement import Preprocessing, check_images
from foveal.teachers.protocol import Activation


class GraphTeacher(nn.Module):
    """A frozen network out of a file, images (b, 3, size, size) in.

    A subclass names its preprocessing, the tensors at its points, and those that it reads. Each
    point is also a submodule, `at.<point>`, so that forward hooks can read what the network holds.
    """

    activation: Activation = "sigmoid"
    points: tuple[str, ...] = ()
    fixed: ClassVar[Preprocessing]
    tensors: ClassVar[dict[str, str]]  # point -> name in the file; the first is the default
    heads: ClassVar[tuple[str, ...]]
    channels_last: ClassVar[bool]

    def __init__(self, graph: Graph) -> None:
        """Check the graph and keep its weights as buffers."""
        super().__init__()
        self.points = tuple(self.tensors)
        self.graph = GraphModule(graph, outputs=(*self.tensors.values(), *self.heads))
        self.at = nn.ModuleDict({point: nn.Identity() for point in self.points})
        self.eval()

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures come into the square, and their normalisation (done inside)."""
        return self.fixed

    @property
    def size(self) -> int:
        """Side of the square, in pixels."""
        return self.fixed.size

    def train(self, mode: bool = True) -> "GraphTeacher":
        """Stay in evaluation mode."""
        return super().train(False)

    def preprocess(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 rows columns"]:
        """Bring images of any size into the square."""
        return self.preprocessing.place(images)[0]

    def features(
        self, x: Float[Tensor, "b 3 rows columns"], point: str | None = None
    ) -> Float[Tensor, "b channels *grid"]:
        """Return the features at one of `points`; default: the first.

        Raises:
            ArgumentError: no such point.
            ShapeError: `x` is not (b, 3, size, size).
        """
        name = self.tensors[find_point(type(self).__name__, self.points, point)]
        return self.run(x, name)[0]

    def run(self, x: Float[Tensor, "b 3 size size"], *names: str) -> list[Tensor]:
        """Tensors of the graph by name, as (b, channels, height, width)."""
        check_images(type(self).__name__, x, size=self.size)
        y = self.preprocessing.normalize(x)
        heard = {p: self.tensors[p] for p, module in self.at.items() if module._forward_hooks}
        wanted = tuple(dict.fromkeys((*names, *heard.values())))
        out = self.graph(y.permute(0, 2, 3, 1) if self.channels_last else y, outputs=wanted)
        if self.channels_last:
            out = {name: tensor.permute(0, 3, 1, 2) for name, tensor in out.items()}
        for point, name in heard.items():
            self.at[point](out[name])
        return [out[name] for name in names]


def find_point(where: str, points: tuple[str, ...], point: str | None) -> str:
    """`point`, or the first of `points`.

    Raises:
        ArgumentError: it is not one of them.
    """
    if point is None:
        return points[0]
    if point not in points:
        raise ArgumentError(f"{where}.features: point is {point!r}, must be one of {list(points)}")
    return point
