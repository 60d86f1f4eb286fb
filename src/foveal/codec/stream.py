"""Encoding and decoding features with a `FeatureCodec`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from foveal._core.weights import packaged
from foveal.codec.container import pack, unpack
from foveal.codec.entropy.rans import RansDecoder, encode_symbols
from foveal.codec.entropy.vectorised import LaneDecoder, encode_lanes
from foveal.codec.feature_codec import FeatureCodec
from foveal.errors import ArgumentError, BitstreamError
from foveal.receipt import Receipt

LANES_FROM = 16
LANES_MOST = 256
MAX_IMAGES = 4096
"""Most images of one payload; each costs the decoder memory even where its stream is empty."""


@dataclass(frozen=True, slots=True)
class Stream:
    """An encoded batch of features.

    Args:
        payload: The container's bytes.
        receipt: Bytes spent, the full price, and the measured loss if there is one.
    """

    payload: bytes
    receipt: Receipt


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


def encode(
    model: FeatureCodec,
    features: Float[Tensor, "b c h w"],
    *,
    head: Callable[[Tensor], Tensor] | None = None,
    pixel_bytes: float | None = None,
) -> Stream:
    """Code features into one payload, one stream per image.

    Args:
        model: A loaded or finalised codec.
        features: Finite features of the layer that the codec was trained for.
        head: The rest of the recogniser, features -> logits. If given, the payload is decoded
            and the loss measured; otherwise the receipt has no loss.
        pixel_bytes: Bytes of the whole batch with the best pixel codec at equal retention, as
            measured with `pixel_baselines`. Default: `full` is the raw features' size.

    Returns: Payload and receipt. `details["full_is"]` says which full price was used,
    `details["y_bits"]` and `details["z_bits"]` are the information of the two layers (estimated,
    since one stream holds both).

    Raises:
        ArgumentError: the model is not finalised, or features are not finite floating-point or
            more than `MAX_IMAGES`.
        ShapeError: the features have another shape than the model's.
    """
    if pixel_bytes is not None and not pixel_bytes > 0:
        raise ArgumentError(
            f"encode: pixel_bytes is {pixel_bytes}, must be positive; leave it out if not measured"
        )
    if len(features) > MAX_IMAGES:
        raise ArgumentError(
            f"encode: features has {len(features)} images, must have at most {MAX_IMAGES}; split it"
        )
    prior = model.integer_prior
    begin = time.perf_counter()
    z, y = model.symbols(features)
    z_index = np.broadcast_to(np.arange(prior.hyper), z.shape)
    y_index = prior.indices(z)
    layers = [(prior.z_tables, z, z_index), (prior.y_tables, y, y_index)]
    if len(z) >= LANES_FROM:
        streams = encode_lanes(layers)
    else:
        streams = [encode_symbols([(t, s[i], n[i]) for t, s, n in layers]) for i in range(len(z))]
    payload = pack(model.model_id, streams)
    seconds = time.perf_counter() - begin

    raw = features.numel() * features.element_size()
    details: dict[str, Any] = {
        "images": len(z),
        "full_is": "raw features" if pixel_bytes is None else "best pixel codec",
        "raw_feature_bytes": raw,
        "coder": "lanes" if len(z) >= LANES_FROM else "scalar",
        "overhead_bytes": len(payload) - sum(map(len, streams)),
        "z_bits": prior.z_tables.ideal_bits(z, z_index),
        "y_bits": prior.y_tables.ideal_bits(y, y_index),
        "estimated": ["z_bits", "y_bits"],
    }
    loss, metric = None, ""
    if head is not None:
        with torch.no_grad():
            wanted = head(features).argmax(dim=1)
            got = head(decode(model, payload).to(features)).argmax(dim=1)
        loss = float((wanted != got).double().mean())
        metric = "top-1 disagreement with the prediction from uncompressed features"
    return Stream(
        payload,
        Receipt(
            stage="codec",
            unit="bytes",
            spent=len(payload),
            full=raw if pixel_bytes is None else pixel_bytes,
            loss=loss,
            loss_metric=metric,
            seconds=seconds,
            details=details,
        ),
    )


def _read(model: FeatureCodec, streams: list[bytes]) -> NDArray[np.int64]:
    prior = model.integer_prior
    z_index = np.broadcast_to(np.arange(prior.hyper), (len(streams), prior.hyper))
    if len(streams) >= LANES_FROM:
        lanes = LaneDecoder(streams)
        y = lanes.decode(prior.y_tables, prior.indices(lanes.decode(prior.z_tables, z_index)))
        lanes.close()
        return y
    rows: list[NDArray[np.int64]] = []
    for stream in streams:
        one = RansDecoder(stream)
        z = one.decode(prior.z_tables, z_index[0])
        rows.append(one.decode(prior.y_tables, prior.indices(z[None])[0]))
        one.close()
    return np.stack(rows)


def decode_symbols(
    model: FeatureCodec, payload: bytes, *, max_images: int = MAX_IMAGES
) -> NDArray[np.int64]:
    """Decode the integers of a payload; the same on every device and version.

    Args:
        model: The codec that wrote the payload.
        payload: Any bytes.
        max_images: Most images to accept (each costs memory even where its stream is empty).

    Returns: Rounded latents, int64 [images, channels, height, width].

    Raises:
        ArgumentError: the model is not finalised.
        BitstreamError: the payload is damaged, too large, or of another model.
    """
    container = unpack(payload, max_streams=max_images)
    if container.model_id != model.model_id:
        raise BitstreamError(
            f"decode: payload is of model {container.model_id.hex()}, must be "
            f"{model.model_id.hex()}; load the codec that wrote it"
        )
    parts = [
        _read(model, list(container.streams[i : i + LANES_MOST]))
        for i in range(0, len(container.streams), LANES_MOST)
    ]
    return np.concatenate(parts).reshape(-1, *model.latent_shape)


@torch.no_grad()
def decode(
    model: FeatureCodec, payload: bytes, *, max_images: int = MAX_IMAGES
) -> Float[Tensor, "b c h w"]:
    """Decode features from a payload.

    Args:
        model: The codec that wrote the payload.
        payload: Any bytes.
        max_images: Most images to accept.

    Returns: Features, fp32, on the model's device. The integers behind them are exact; the
    synthesis network adds the rounding of the device's fp32 convolutions.

    Raises:
        ArgumentError: the model is not finalised.
        BitstreamError: the payload is damaged, too large, or of another model.
    """
    y = decode_symbols(model, payload, max_images=max_images)
    limit = LANES_MOST
    parts = [
        model.synthesise(torch.from_numpy(y[i : i + limit]).to(model.mean.device, model.mean.dtype))
        for i in range(0, len(y), limit)
    ]
    return torch.cat(parts)


def inspect(payload: bytes) -> dict[str, Any]:
    """Return the sizes of a payload's sections, without a model.

    Returns: `model_id` (hex), `images`, `total_bytes`, `header_bytes`, `index_bytes`,
    `checksum_bytes` and `stream_bytes` (a list with one entry per image).

    Raises:
        BitstreamError: the payload is damaged.
    """
    container = unpack(payload)
    return {
        "model_id": container.model_id.hex(),
        "images": len(container.streams),
        "total_bytes": len(payload),
        "header_bytes": container.header_bytes,
        "index_bytes": container.index_bytes,
        "checksum_bytes": container.checksum_bytes,
        "stream_bytes": [len(stream) for stream in container.streams],
    }
