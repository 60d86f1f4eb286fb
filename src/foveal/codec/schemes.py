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
from dataclasses import dataclass

from foveal.codec.config import CodecConfig, Head, Layer, Source


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
    )


def _head(name: str, layers: tuple[str, ...], sizes: Sizes, optional: tuple[str, ...] = ()) -> Head:
    return Head(
        name,
        layers,
        optional=optional,
        hidden=sizes.head_hidden,
        blocks=sizes.blocks,
        fine_blocks=sizes.fine_blocks,
    )


def joint(sources: Sequence[Source], sizes: Sizes | None = None) -> CodecConfig:
    """Return the sizes of a codec with one stream for all tasks."""
    s = sizes or Sizes()
    names = tuple(source.name for source in sources)
    heads = tuple(_head(n, ("joint",), s) for n in names)
    return CodecConfig(tuple(sources), (_layer("joint", names, s),), heads)


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
