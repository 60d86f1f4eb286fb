"""A small world to train codecs in: two sources of common causes, and objectives for both."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveal.codec.config import CodecConfig, Source
from foveal.codec.model import FeatureCodec
from foveal.codec.schemes import Sizes, conditional, joint, separate
from foveal.codec.training import Objective, TrainLog, TrainOptions, train

SOURCES = (
    Source("a", 3, height=4, width=4, nonnegative=True),
    Source("b", 2, height=4, width=4),
)
SIZES = Sizes(4, 2, 8, 8, 0, "codebook-global", side=2, codewords=3, hyper_hidden=4)
SCHEMES: dict[str, Callable[..., CodecConfig]] = {
    "separate": separate,
    "joint": joint,
    "conditional": conditional,
}
SHORT = TrainOptions(steps=40, batch=8, lr=5e-3, ema=0.9, lowest=50.0, highest=5000.0)
MIX = torch.tensor([[2.0, 1.0], [-1.0, 2.0], [0.5, -1.5], [1.0, 1.0], [-2.0, 0.5]])
Features = dict[str, Tensor]


def draw(count: int, generator: torch.Generator) -> Features:
    """Return smooth features of two causes, which both sources share."""
    causes = torch.randn(count, 2, 2, 2, generator=generator)
    causes = torch.nn.functional.interpolate(causes, size=(4, 4), mode="bilinear")
    x = torch.einsum("cn,bnhw->bchw", MIX, causes)
    return {"a": x[:, :3].relu(), "b": x[:, 3:]}


def seeded(seed: int, count: int = 128) -> Features:
    """Return features of a seed."""
    return draw(count, torch.Generator().manual_seed(seed))


def make(scheme: str = "separate", prior: str = "codebook-global", seed: int = 1) -> FeatureCodec:
    """Return a started, untrained codec."""
    torch.manual_seed(seed)
    model = FeatureCodec(SCHEMES[scheme](SOURCES, replace(SIZES, prior=prior)))
    model.start(seeded(0))
    return model


def means() -> dict[str, Objective]:
    """Return objectives whose answer is the mean of each channel."""

    def answer(x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))

    def distance(got: Tensor, wanted: Tensor) -> Tensor:
        return (got - wanted).square().sum(1)

    return {task: Objective(answer, distance, unit=0.5, weight=2.0) for task in ("a", "b")}


def run(model: FeatureCodec, options: TrainOptions = SHORT, **more: Any) -> TrainLog:
    """Train in this world."""
    return train(model, draw, means(), options, **more)


def weights(model: FeatureCodec) -> Features:
    """Return copies of the parameters."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def same(a: Features, b: Features) -> bool:
    """Tell whether all tensors are equal."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
