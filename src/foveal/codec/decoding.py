"""Decoding with a `FeatureCodec`."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from foveal.codec.arguments import check_tasks, pairs_read
from foveal.codec.container import Container, unpack
from foveal.codec.integer_model import Ints
from foveal.codec.model import FeatureCodec
from foveal.codec.rates import gains
from foveal.errors import BitstreamError

CODE_AT_ONCE = 64
MAX_SYMBOLS = 1 << 22
"""Most latents of one payload unless told otherwise; each takes 8 bytes to decode."""
IMAGE_PART = 16
"""One image of another size than the model's may have this part of them in a layer."""


def decode_symbols(
    model: FeatureCodec, payload: bytes, *, max_symbols: int = MAX_SYMBOLS
) -> dict[str, Ints]:
    """Decode the integers of a payload; the same on every device and version.

    Args:
        model: The codec that wrote the payload, or one with other heads.
        payload: Any bytes.
        max_symbols: Most latents to accept (each takes memory even where its stream is empty).

    Returns: Rounded latents of each layer that is there, int64 [images, channels, rows, columns].

    Raises:
        ArgumentError: the model is not finalised.
        BitstreamError: the payload is damaged, too large, or of another model (names both ids).
    """
    container = open_payload(model, payload, max_symbols)
    return model.integers.decode(container)


def latents_of(model: FeatureCodec, payload: bytes) -> int:
    """Return how many latents a payload of the model has: the least `max_symbols` to decode it."""
    return _latents(model, open_payload(model, payload, 1 << 62))


def _latents(model: FeatureCodec, container: Container) -> int:
    shapes = [model.integers.layers[i].shape(container.size) for i in container.layers]
    return sum(a * b * c for a, b, c in shapes) * len(container.streams)


def open_payload(model: FeatureCodec, payload: bytes, max_symbols: int) -> Container:
    """Parse a payload and check that it is of a model and of bearable size.

    Raises:
        BitstreamError: it is not.
    """
    integers = model.integers
    container = unpack(payload)
    if container.model_id != model.model_id:
        raise BitstreamError(
            f"decode: payload is of model {container.model_id.hex()}, must be "
            f"{model.model_id.hex()}; load the codec that wrote it"
        )
    if container.layers and container.layers[-1] >= len(integers.layers):
        raise BitstreamError(
            f"decode: payload has layer {container.layers[-1]}, must be below "
            f"{len(integers.layers)}; it is damaged"
        )
    present = [integers.layers[i] for i in container.layers]
    for layer in present if container.size else ():
        if any(a == 1 != b for a, b in zip(layer.inputs, container.size or (), strict=True)):
            raise BitstreamError(
                f"decode: payload has features of size {container.size}, must have length 1 where "
                f"the model's {layer.inputs} has; it is damaged"
            )
    symbols = _latents(model, container)
    if symbols > max_symbols:
        raise BitstreamError(
            f"decode: payload claims {symbols} latents, must be at most {max_symbols}; it is "
            "damaged, or raise max_symbols"
        )
    for layer in integers.layers if container.size else ():
        _, rows, columns = layer.shape(container.size)
        values = layer.width * rows * columns
        if values > max_symbols // IMAGE_PART:
            raise BitstreamError(
                f"decode: payload has features of size {container.size}, {values} values of a "
                f"layer, must be at most {max_symbols // IMAGE_PART}; it is damaged, or raise "
                "max_symbols"
            )
    return container


def tasks_sent(model: FeatureCodec, container: Container) -> tuple[str, ...]:
    """Return the tasks that a container of the model has in all its images.

    Their layers are there, and the control bytes switch them on: see `arguments.pairs_read`.

    Raises:
        BitstreamError: a control byte is out of range.
    """
    names = [layer.name for layer in model.config.layers]
    there = {names[i] for i in container.layers if i < len(names)}
    on = model.integers.controls(container.controls)[1] >= 0
    return tuple(
        head.name
        for head in model.config.heads
        if set(head.layers) <= there
        and all(bool(on[:, pairs].any(axis=1).all()) for pairs in pairs_read(model, head))
    )


@torch.no_grad()
def decode(
    model: FeatureCodec,
    payload: bytes,
    *,
    tasks: Sequence[str] | None = None,
    max_symbols: int = MAX_SYMBOLS,
) -> dict[str, Tensor]:
    """Decode features from a payload.

    Args:
        model: The codec that wrote the payload, or one with more heads.
        payload: Any bytes.
        tasks: Tasks to decode. Default: all that were sent with every image.
        max_symbols: Most latents to accept.

    Returns: Features of each task, fp32, on the model's device. The integers behind them are
    exact; the synthesis adds the rounding of the device's convolutions.

    Raises:
        ArgumentError: the model is not finalised, or has no such task.
        BitstreamError: the payload is damaged, too large, of another model, or lacks a wanted
            task: one of its layers is not there, or the task is off in an image.
    """
    container = open_payload(model, payload, max_symbols)
    names = [layer.name for layer in model.config.layers]
    there = {name for number, name in enumerate(names) if number in container.layers}
    heads = [head for head in model.config.heads if set(head.layers) <= there]
    sent = tasks_sent(model, container)
    wanted = sent if tasks is None else check_tasks(model, tasks, "decode")
    lacking = [task for task in wanted if task not in {head.name for head in heads}]
    if lacking:
        raise BitstreamError(
            f"decode: payload has layers {sorted(there)}, which do not suffice for "
            f"{lacking}; send those tasks or name others"
        )
    off = [task for task in wanted if task not in sent]
    if off:
        raise BitstreamError(
            f"decode: tasks is {list(wanted)}, but {off} were not sent with every image, must be "
            f"some of {list(sent)}; send those tasks or name others"
        )
    read = {n for h in heads if h.name in wanted for n in h.layers + h.optional if n in there}
    numbers = [names.index(name) for name in names if name in read]
    container = container.keep(model.integers.with_parents(container, numbers))
    latents = model.integers.decode(container)
    qualities = model.integers.controls(container.controls)[1]
    out: dict[str, list[Tensor]] = {task: [] for task in wanted}
    for i in range(0, len(container.streams), CODE_AT_ONCE):
        part: dict[str, Tensor] = {}
        log_gains = model.integers.log_gains(qualities[i : i + CODE_AT_ONCE])
        for number in numbers:
            factor = gains(log_gains[number])[..., None, None]
            value = (latents[names[number]][i : i + CODE_AT_ONCE] / factor).astype(np.float32)
            part[names[number]] = torch.from_numpy(value).to(model.device)
        for task in wanted:
            out[task].append(model.synthesise(task, part, container.size))
    return {task: torch.cat(parts) for task, parts in out.items()}
