"""Networks out of files can be listened to like any module."""

import torch

from foveal.lowlight.frozen import Taps, choose_layers
from foveal.teachers.graph import read_tfjs
from foveal.teachers.graph_teacher import GraphTeacher
from foveal.teachers.placement import Preprocessing


class Tiny(GraphTeacher):
    """A graph of two convolutions."""

    fixed = Preprocessing(64, "stretch", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    tensors = {"early": "first"}  # noqa: RUF012
    heads = ("second",)
    channels_last = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(x, "second")[0]


def test_points_of_a_graph_are_heard_by_hooks_with_gradients(tfjs) -> None:
    random = torch.Generator().manual_seed(0)
    weights = {
        "w1": torch.randn(3, 3, 3, 6, generator=random).numpy(),
        "w2": torch.randn(3, 3, 6, 5, generator=random).numpy(),
    }
    steps = {"strides": [1, 4, 4, 1], "padding": "SAME", "data_format": "NHWC"}
    nodes = [
        tfjs.placeholder([1, 64, 64, 3]),
        tfjs.node("first", "Conv2D", "x", "w1", **steps),
        tfjs.node("second", "Conv2D", "first", "w2", **{**steps, "strides": [1, 1, 1, 1]}),
    ]
    model = Tiny(read_tfjs(tfjs.write(nodes, weights, outputs=["second"])))
    x = torch.rand(2, 3, 64, 64, generator=random).requires_grad_()
    silent = model(x)
    assert choose_layers(model, lambda: model(x)) == ["at.early"]
    with Taps(model, ["at.early"]).open() as found:
        heard = model(x)
    assert torch.equal(silent, heard)
    assert torch.equal(found["at.early"], model.features(x, "early"))
    found["at.early"].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
