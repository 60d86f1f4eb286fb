"""Coding with a `FeatureCodec`, and what a payload holds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foveal._core.weights import packaged
from foveal.codec.arguments import check_device, check_tasks, wanted_layers
from foveal.codec.container import pack, parse, unpack
from foveal.codec.decoding import (
    MAX_SYMBOLS,
    decode,
    decode_symbols,
    open_payload,
    tasks_sent,
)
from foveal.codec.encoding import Stream, encode
from foveal.codec.model import FeatureCodec
from foveal.codec.rates import Wish, control_bytes


def load(
    name_or_path: str | Path = "efficientnet-lite0", *, device: str | torch.device = "cpu"
) -> FeatureCodec:
    """Load a codec with its integer tables.

    Args:
        name_or_path: Name of a packaged codec, or the path of a `.safetensors` file.
        device: Device of the transforms. Symbols are always computed in integers on the CPU.

    Returns: The model, in evaluation mode.

    Raises:
        ArgumentError: there is no such codec or device, or the file is damaged.
    """
    place = check_device("load", device)
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = packaged(str(name_or_path), prefix="codec-")
    return FeatureCodec.load(path).to(place)


def extract(model: FeatureCodec, payload: bytes, *, tasks: Sequence[str]) -> bytes:
    """Return a smaller payload with only the layers that some tasks need; nothing is coded again.

    Layers that these were coded given stay too; qualities of what is dropped go.

    Raises:
        ArgumentError: the model has no such task, or the payload lacks one of its layers.
        BitstreamError: the payload is damaged or of another model.
    """
    container = open_payload(model, payload, 1 << 62)
    wanted = wanted_layers(model, check_tasks(model, tasks, "extract"))
    numbers = [model.config.layers.index(layer) for layer in wanted]
    kept = model.integers.with_parents(container, numbers)
    orders, qualities = model.integers.controls(container.controls)
    sent = [i in kept for i, layer in enumerate(model.config.layers) for _ in layer.tasks]
    rows = control_bytes([Wish(tuple(row)) for row in qualities.tolist()], sent)
    first = [bytes([i]) if model.integers.conditional else b"" for i in orders.tolist()]
    controls = tuple(a + b for a, b in zip(first, rows, strict=True))
    return pack(replace(container.keep(kept), controls=controls))


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
        model: Gives names to the layers, if the payload is of this model.

    Returns: `model_id` (hex), `images`, `size`, `layers` (numbers, or names with a model),
    `total_bytes`, bytes of `header`, `controls`, `index`, `checksum` and `streams`,
    `layer_bytes` (per layer, all images) and `image_bytes` (per image, streams alone). With a
    model also `tasks`, those sent with every image, and `not_sent`, the others.

    Raises:
        BitstreamError: the payload is damaged.
    """
    container, sections = parse(payload)
    names: list[Any] = list(container.layers)
    more: dict[str, Any] = {}
    if model is not None and container.model_id == model.model_id:
        known = [layer.name for layer in model.config.layers]
        names = [known[i] if i < len(known) else i for i in container.layers]
        sent = tasks_sent(model, container)
        rest = [task for task in model.config.tasks if task not in sent]
        more = {"tasks": list(sent), "not_sent": rest}
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
        **more,
    }


__all__ = [
    "MAX_SYMBOLS",
    "Stream",
    "decode",
    "decode_symbols",
    "encode",
    "extract",
    "inspect",
    "load",
    "split",
]
