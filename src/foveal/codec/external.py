"""Tasks that a stream was not made for: a head of their own, the stream as it is.

Source: features that "also serve tasks unseen in training" are a claim of Yang et al.,
arXiv:2110.09241, and Hu et al., arXiv:2106.08512; how the head is trained is ours.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from foveal.codec.config import Head, Source
from foveal.codec.model import FeatureCodec
from foveal.codec.model_file import stream_hash
from foveal.codec.sources import features_of, fingerprint, placed
from foveal.codec.training import ANSWER, Objective, TrainLog, TrainOptions, train
from foveal.errors import ArgumentError, ShapeError

AT_ONCE = 64


@runtime_checkable
class Network(Protocol):
    """A frozen network that is cut in two."""

    def encode(self, images: Tensor) -> Tensor:
        """Return the features at the cut."""
        ...

    def decode(self, features: Tensor) -> Tensor:
        """Return the answer, differentiable."""
        ...


def check_network(where: str, found: object) -> None:
    """Raise ArgumentError unless `found` is a network that is cut in two."""
    if not isinstance(found, Network):
        raise ArgumentError(
            f"{where} is a {type(found).__name__}, must have methods encode and decode; wrap it"
        )


def answer_distance(got: Tensor, wanted: Tensor) -> Float[Tensor, "b"]:
    """Return how far answers are from each other, per image.

    Logits [b, k]: the Kullback-Leibler divergence in nats. Maps: the mean absolute difference.
    """
    if got.ndim == 2:
        gap = functional.kl_div(
            got.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="none"
        )
        return gap.sum(1)
    return (got - wanted).abs().flatten(1).mean(1)


@torch.no_grad()
def _in_parts(function: Callable[[Tensor], Tensor], x: Tensor, device: torch.device) -> Tensor:
    return torch.cat([function(part.to(device)) for part in x.split(AT_ONCE)])


def add_task(
    model: FeatureCodec,
    name: str,
    teacher: Network,
    images: Float[Tensor, "n 3 height width"],
    *,
    features: Mapping[str, Tensor] | None = None,
    distance: Callable[[Tensor, Tensor], Float[Tensor, "b"]] = answer_distance,
    layers: tuple[str, ...] | None = None,
    hidden: int = 96,
    blocks: int = 1,
    options: TrainOptions | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    checkpoint: str | Path | None = None,
) -> TrainLog:
    """Train a head for a task that the stream was not made for; nothing else changes.

    The head reads decoded latents at all qualities and learns, without labels, that the rest of
    `teacher` answers as it does to its own features. Streams that were written before are read with
    the new task too: the model's id stays.

    Args:
        model: A finalised codec; gets the head.
        name: The task's name.
        teacher: The frozen network, on any device; moved to the model's.
        images: sRGB in [0, 1], some thousand of them.
        features: Features of the model's own sources for these images. Default: worked out by the
            networks that the model names.
        distance: (answer, wanted answer) -> distance of each image.
        layers: Layers that the head reads. Default: all.
        hidden: Channels of the head.
        blocks: Residual blocks of the head.
        options: Settings. Default: 4000 steps of 32 images, all tasks of the stream on.
        progress: Called with steps done and in all.
        checkpoint: File to write now and then and to go on from.

    Returns: The log of the training.

    Raises:
        ArgumentError: the model has the task already, or is not finalised, or there are no images;
            or the training fails, which leaves the model as it was.
        ShapeError: `features` are of another number of images.
    """
    identity = model.model_id
    if name in model.config.tasks or name in model.config.source_map:
        raise ArgumentError(
            f"add_task: name is {name!r}, must be none of {list(model.config.tasks)}; choose "
            "another"
        )
    if images.ndim != 4 or len(images) == 0:
        raise ArgumentError(
            f"add_task: images has shape {tuple(images.shape)}, must be (n, 3, height, width) with "
            "n at least 1; add images"
        )
    check_network("add_task: teacher", teacher)
    device = model.device
    placed(teacher, device, freeze=True)
    wanted = _in_parts(teacher.encode, images, device)
    own = features_of(model, images) if features is None else dict(features)
    counts = {key: len(value) for key, value in own.items()}
    if set(counts.values()) != {len(images)}:
        raise ShapeError(
            f"add_task: features have batches of {counts}, must have {len(images)} like images; "
            "work them out from the same images"
        )
    source = source_of(name, wanted, teacher)
    head = Head(
        name,
        layers or tuple(layer.name for layer in model.config.layers),
        hidden=hidden,
        blocks=blocks,
        external=True,
    )
    before = model.config
    model.extend(source, head, wanted)
    try:
        log = _train_head(
            model,
            name,
            teacher,
            wanted,
            own,
            distance,
            options or TrainOptions(steps=4000, batch=32, subsets=0.0, warm_up=0.0, alpha=0.05),
            progress,
            checkpoint,
        )
    except BaseException:  # a head that is half trained must not stay, nor block the next try
        model.config = before
        del model.scales[name], model.heads[name]
        raise
    if stream_hash(model, model.integers) != identity:
        raise ArgumentError("add_task: the stream changed, must stay; report this")
    return log


def _train_head(
    model: FeatureCodec,
    name: str,
    teacher: Network,
    wanted: Tensor,
    own: Mapping[str, Tensor],
    distance: Callable[[Tensor, Tensor], Float[Tensor, "b"]],
    options: TrainOptions,
    progress: Callable[[int, int | None], None] | None,
    checkpoint: str | Path | None,
) -> TrainLog:
    """Train the head of `name`, which the model has already."""
    device = model.device
    data = {k: v.to(device, torch.float32) for k, v in own.items()} | {name: wanted.float()}
    data[f"{ANSWER}{name}"] = _in_parts(teacher.decode, wanted, device)
    mean = wanted.mean(0, keepdim=True).expand_as(wanted[:AT_ONCE])
    with torch.no_grad():
        far = distance(teacher.decode(mean), data[f"{ANSWER}{name}"][:AT_ONCE])
    objective = Objective(teacher.decode, distance, unit=max(float(far.mean()), 1e-6))

    def batches(count: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(wanted), (count,), generator=generator).to(device)
        return {key: value[index] for key, value in data.items()}

    log = train(
        model,
        batches,
        {name: objective},
        options,
        tasks=(name,),
        trainable=lambda key: key.startswith(f"heads.{name}."),
        progress=progress,
        checkpoint=checkpoint,
    )
    with torch.no_grad():
        for value in model.heads[name].parameters():
            value.copy_(value.half().to(value.dtype))
    return log


def source_of(name: str, features: Tensor, teacher: Any) -> Source:
    """Return the source of features [n, c, h, w], [n, c] or [n, length, c]."""
    positive = bool((features >= 0).all())
    known, sha256 = fingerprint(teacher)
    if features.ndim == 2:
        return Source(name, features.shape[1], "vector", 1, 1, positive, known, sha256)
    if features.ndim == 3:
        length, width = features.shape[1:]
        return Source(name, width, "tokens", length, 1, positive, known, sha256)
    _, channels, rows, columns = features.shape
    return Source(name, channels, "map", rows, columns, positive, known, sha256)
