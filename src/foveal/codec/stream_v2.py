"""Decoding with a `FeatureCodec`, and what a payload holds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveal._core.weights import packaged
from foveal.codec.arguments import check_tasks, wanted_layers
from foveal.codec.container_v2 import Container, pack, parse, unpack
from foveal.codec.encoding import CODE_AT_ONCE, Stream, encode
from foveal.codec.integer_model import Ints
from foveal.codec.model import FeatureCodec
from foveal.codec.rates import gains
from foveal.errors import BitstreamError

MAX_SYMBOLS = 1 << 22
"""Most latents of one payload unless told otherwise; each takes 8 bytes to decode."""
IMAGE_PART = 16
"""One image of another size than the model's may have this part of them in a layer."""


def load(
    name_or_path: str | Path = "efficientnet-lite0", *, device: str | torch.device = "cpu"
) -> FeatureCodec:
    """Load a codec with its integer tables.

    Args:
        name_or_path: Name of a packaged codec, or the path of a `.safetensors` file.
        device: Device of the transforms. Symbols are always computed in integers on the CPU.

    Returns: The model, in evaluation mode.

    Raises:
        ArgumentError: there is no such codec, or the file is damaged.
    """
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = packaged(str(name_or_path), prefix="codec-")
    return FeatureCodec.load(path).to(device)


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
    container = _open(model, payload, max_symbols)
    return model.integers.decode(container)


def _open(model: FeatureCodec, payload: bytes, max_symbols: int) -> Container:
    integers = model.integers
    container = unpack(payload)
    if container.model_id != model.model_id:
        raise BitstreamError(
            f"decode: payload is of model {container.model_id.hex()}, must be "
            f"{model.model_id.hex()}; load the codec that wrote it"
        )
    symbols = integers.elements(container.size) * len(container.streams)
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
        tasks: Tasks to decode. Default: all whose layers are there.
        max_symbols: Most latents to accept.

    Returns: Features of each task, fp32, on the model's device. The integers behind them are
    exact; the synthesis adds the rounding of the device's convolutions.

    Raises:
        ArgumentError: the model is not finalised, or has no such task.
        BitstreamError: the payload is damaged, too large, of another model, or lacks a layer that
            a wanted task needs.
    """
    container = _open(model, payload, max_symbols)
    latents = model.integers.decode(container)
    heads = [head for head in model.config.heads if set(head.layers) <= set(latents)]
    if tasks is None:
        wanted = tuple(head.name for head in heads)
    else:
        wanted = check_tasks(model, tasks, "decode")
        lacking = [task for task in wanted if task not in {head.name for head in heads}]
        if lacking:
            raise BitstreamError(
                f"decode: payload has layers {sorted(latents)}, which do not suffice for "
                f"{lacking}; send those tasks or name others"
            )
    all_gains = model.integers.log_gains(model.integers.controls(container.controls)[1])
    values: dict[str, Tensor] = {}
    for number, layer in enumerate(model.config.layers):
        if layer.name in latents:
            factor = gains(all_gains[number])[..., None, None]
            value = torch.from_numpy(latents[layer.name] / factor)
            values[layer.name] = value.to(model.device, torch.float32)
    out: dict[str, list[Tensor]] = {task: [] for task in wanted}
    for i in range(0, len(container.streams), CODE_AT_ONCE):
        part = {name: value[i : i + CODE_AT_ONCE] for name, value in values.items()}
        for task in wanted:
            out[task].append(model.synthesise(task, part, container.size))
    return {task: torch.cat(parts) for task, parts in out.items()}


def extract(model: FeatureCodec, payload: bytes, *, tasks: Sequence[str]) -> bytes:
    """Return a smaller payload with only the layers that some tasks need; nothing is coded again.

    Layers that these were coded given stay too.

    Raises:
        ArgumentError: the model has no such task, or the payload lacks one of its layers.
        BitstreamError: the payload is damaged or of another model.
    """
    container = _open(model, payload, 1 << 62)
    wanted = wanted_layers(model, check_tasks(model, tasks, "extract"))
    numbers = [model.config.layers.index(layer) for layer in wanted]
    return pack(container.keep(model.integers.with_parents(container, numbers)))


def split(payload: bytes) -> list[bytes]:
    """Return a payload of its own for each image of a payload; nothing is coded again.

    Raises:
        BitstreamError: the payload is damaged.
    """
    whole = unpack(payload)
    return [
        pack(replace(whole, streams=(streams,), controls=(controls,)))
        for streams, controls in zip(whole.streams, whole.controls, strict=True)
    ]


def inspect(payload: bytes, model: FeatureCodec | None = None) -> dict[str, Any]:
    """Return what a payload holds and where its bytes go, without decoding it.

    Args:
        payload: Any bytes.
        model: Gives names to the layers.

    Returns: `model_id` (hex), `images`, `size`, `layers` (numbers, or names with a model),
    `total_bytes`, bytes of `header`, `controls`, `index`, `checksum` and `streams`,
    `layer_bytes` (per layer, all images) and `image_bytes` (per image, streams alone).

    Raises:
        BitstreamError: the payload is damaged.
    """
    container, sections = parse(payload)
    names: list[Any] = list(container.layers)
    if model is not None and container.model_id == model.model_id:
        names = [model.config.layers[i].name for i in container.layers]
    return {
        "model_id": container.model_id.hex(),
        "images": len(container.streams),
        "size": list(container.size) if container.size else None,
        "layers": names,
        "total_bytes": len(payload),
        "header_bytes": sections.header,
        "control_bytes": sections.controls,
        "index_bytes": sections.index,
        "checksum_bytes": sections.checksum,
        "stream_bytes": sections.streams,
        "layer_bytes": [
            sum(len(row[i]) for row in container.streams) for i in range(len(container.layers))
        ],
        "image_bytes": [sum(map(len, row)) for row in container.streams],
    }


__all__ = ["Stream", "decode", "decode_symbols", "encode", "extract", "inspect", "load", "split"]
