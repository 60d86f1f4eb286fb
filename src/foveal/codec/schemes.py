"""How tasks share a stream: each by itself, all together, or one after the other.

- `separate`: one layer per task. Any subset can be sent; the cost is the sum.
- `joint`: one layer made from the features of all tasks, read by one head each.
- `conditional`: one layer per task, each of which may be coded given those before it.

A task that was unknown when the stream was trained gets a head of its own by `add_task`; the
stream stays as it is.

Source: the three uses of Yang et al., arXiv:2110.09241, and Hu et al., arXiv:2106.08512 (separate,
joint, unseen tasks); the layers are our reconstruction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from foveal.codec.config import CodecConfig, Head, Layer, Source
from foveal.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the transforms and the prior of every layer.

    Args:
        channels: Latent channels of a layer.
        stride: Positions of the features per latent position.
        hidden: Channels of the analysis transform.
        head_hidden: Channels of the synthesis transforms.
        blocks: Residual blocks.
        fine_blocks: Residual blocks of the synthesis transforms at the features' size.
        linear: Transforms add a linear part, which starts as principal components: where training
            features are few, or much of them is to be kept.
        groups: Parts that the latent channels of `joint` are coded in, each given those before it.
        prior: Kind of the prior.
        side: Hyper-latents, or indices of the VQ prior.
        codewords: Codewords.
        hyper_hidden: Channels of the hyper-transforms.
    """

    channels: int = 64
    stride: int = 2
    hidden: int = 96
    head_hidden: int = 96
    blocks: int = 1
    prior: str = "codebook-global"
    side: int = 16
    codewords: int = 16
    hyper_hidden: int = 64
    fine_blocks: int = 0
    groups: int = 1
    linear: bool = False

    def __post_init__(self) -> None:
        """Check that groups have channels."""
        if not 1 <= self.groups <= self.channels:
            raise ArgumentError(
                f"Sizes: groups is {self.groups}, must be 1..{self.channels}, the channels; lower "
                "it"
            )


def _layer(
    name: str,
    inputs: tuple[str, ...],
    sizes: Sizes,
    parents: tuple[str, ...] = (),
) -> Layer:
    return Layer(
        name,
        inputs,
        tasks=inputs,
        channels=sizes.channels,
        stride=sizes.stride,
        hidden=sizes.hidden,
        blocks=sizes.blocks,
        prior=sizes.prior,
        side=sizes.side,
        codewords=sizes.codewords,
        hyper_hidden=sizes.hyper_hidden,
        parents=parents,
        linear=sizes.linear,
    )


def _head(name: str, layers: tuple[str, ...], sizes: Sizes, optional: tuple[str, ...] = ()) -> Head:
    return Head(
        name,
        layers,
        optional=optional,
        hidden=sizes.head_hidden,
        blocks=sizes.blocks,
        fine_blocks=sizes.fine_blocks,
        linear=sizes.linear,
    )


def joint(sources: Sequence[Source], sizes: Sizes | None = None) -> CodecConfig:
    """Return the sizes of a codec with one stream for all tasks.

    With several groups of channels, each is a layer that is coded given those before it, as the
    slices of Minnen and Singh ("Channel-wise autoregressive entropy models for learned image
    compression", ICIP 2020), by the contexts of conditional layers, in integers.
    """
    s = sizes or Sizes()
    names = tuple(source.name for source in sources)
    if s.groups == 1:
        parts: tuple[str, ...] = ("joint",)
        layers: tuple[Layer, ...] = (_layer("joint", names, s),)
    else:
        parts = tuple(f"joint-{i}" for i in range(s.groups))
        ends = [s.channels * i // s.groups for i in range(s.groups + 1)]
        own = [
            replace(s, channels=b - a, groups=1, side=-(-s.side // s.groups))
            for a, b in pairwise(ends)
        ]
        layers = tuple(_layer(parts[i], names, own[i], parts[:i]) for i in range(s.groups))
    heads = tuple(_head(n, parts, s) for n in names)
    return CodecConfig(tuple(sources), layers, heads)


def separate(sources: Sequence[Source], sizes: Sizes | None = None) -> CodecConfig:
    """Return the sizes of a codec with a layer for each task."""
    s = sizes or Sizes()
    names = [source.name for source in sources]
    layers = tuple(_layer(name, (name,), s) for name in names)
    heads = tuple(_head(n, (n,), s) for n in names)
    return CodecConfig(tuple(sources), layers, heads)


def conditional(sources: Sequence[Source], sizes: Sizes | None = None) -> CodecConfig:
    """Return the sizes of a codec with a layer per task, each of which sees those before it.

    The order is free: `taxonomy.learn_order` finds one for all images, `encode(order="best")` one
    for each. Heads read every layer that is there.
    """
    s = sizes or Sizes()
    names = [source.name for source in sources]

    def others(name: str) -> tuple[str, ...]:
        return tuple(n for n in names if n != name)

    layers = tuple(_layer(name, (name,), s, parents=others(name)) for name in names)
    heads = tuple(_head(n, (n,), s, others(n)) for n in names)
    return CodecConfig(tuple(sources), layers, heads)
