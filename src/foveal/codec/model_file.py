"""What a model file holds, and what of it gives a stream its meaning."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.codec.config import CodecConfig, Layer
from foveal.codec.context import IntegerContext
from foveal.codec.entropy.tables import FrequencyTables
from foveal.codec.integer_model import IntegerLayer, IntegerModel
from foveal.codec.network import Network
from foveal.codec.prior.base import LEVELS, integer_prior_from_tensors
from foveal.codec.rates import QUALITIES
from foveal.errors import ArgumentError


def file_tensors(network: Network, integers: IntegerModel) -> dict[str, Tensor]:
    """Return the tensors of a model's file: fp16 weights and integers."""
    tensors = {f"net.{k}": v.detach().half().cpu() for k, v in network.state_dict().items()}
    for layer in integers.layers:
        start = f"int.{layer.name}"
        arrays: dict[str, NDArray[Any]] = {"log_gains": layer.log_gains}
        for key in ("frequencies", "sizes", "lows"):
            arrays[key] = getattr(layer.tables, key).astype(np.int32)
        if layer.context is not None:
            arrays |= {f"context.{key}": value for key, value in layer.context.arrays.items()}
        if layer.gain is not None and layer.reciprocal is not None:
            arrays |= {"gain": layer.gain, "reciprocal": layer.reciprocal}
        for key, value in layer.prior.to_tensors().items():
            tensors[f"{start}.prior.{key}"] = value.contiguous().cpu()
        for key, value in arrays.items():
            tensors[f"{start}.{key}"] = torch.from_numpy(np.ascontiguousarray(value))
    return tensors


def stream_hash(network: Network, integers: IntegerModel) -> bytes:
    """Return 4 bytes of the SHA-256 of what latents depend on: all but the heads."""
    inputs = set(network.inputs)
    config = network.config.to_dict()
    config["sources"] = [s for s in config["sources"] if s["name"] in inputs]
    del config["heads"]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, value in sorted(file_tensors(network, integers).items()):
        parts = name.split(".")
        if parts[1] == "heads" or (parts[1] == "scales" and parts[2] not in inputs):
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.digest()[:4]


def read_integers(config: CodecConfig, tensors: Mapping[str, Tensor]) -> IntegerModel:
    """Read the integer path from a file's tensors, which may be untrusted.

    Raises:
        ArgumentError: a tensor is missing or does not fit.
    """
    names = [layer.name for layer in config.layers]
    layers = tuple(_read_layer(layer, config, tensors) for layer in config.layers)
    return IntegerModel(layers, tuple(names.index(name) for name in config.order))


def _read_layer(layer: Layer, config: CodecConfig, tensors: Mapping[str, Tensor]) -> IntegerLayer:
    start = f"int.{layer.name}."
    own = {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}

    def get(name: str, dtype: torch.dtype) -> NDArray[Any]:
        value = own.get(name)
        if value is None or value.dtype != dtype:
            raise ArgumentError(
                f"FeatureCodec.load: {start}{name} is "
                f"{'missing' if value is None else value.dtype}, must be {dtype}; write the file "
                "again"
            )
        return value.numpy()

    size = config.size_of(layer)
    prior = integer_prior_from_tensors(
        layer.prior_config(*size),
        {k[6:]: v for k, v in own.items() if k.startswith("prior.")},
    )
    tables = FrequencyTables(
        *(get(name, torch.int32).astype(np.int64) for name in ("frequencies", "sizes", "lows"))
    )
    table = get("log_gains", torch.int16)
    wanted = (len(layer.tasks), QUALITIES, layer.channels)
    if table.shape != wanted or len(tables) != LEVELS:
        raise ArgumentError(
            f"FeatureCodec.load: layer {layer.name} has {len(tables)} tables and log_gains of "
            f"shape {table.shape}, must have {LEVELS} and {wanted}; write the file again"
        )
    gain = reciprocal = context = None
    channels = {x.name: x.channels for x in config.layers}
    names = list(channels)
    if config.conditional:
        gain, reciprocal = get("gain", torch.int64), get("reciprocal", torch.int64)
        for value in (gain, reciprocal):
            if value.shape != wanted or int(value.min()) < 0 or int(value.max()) >= 1 << 31:
                raise ArgumentError(
                    f"FeatureCodec.load: gain or reciprocal of layer {layer.name} has shape "
                    f"{value.shape}, must have {wanted} and 31-bit numbers; write the file again"
                )
    if layer.parents:
        arrays = {k[8:]: v.numpy() for k, v in own.items() if k.startswith("context.")}
        context = IntegerContext(tuple(channels[name] for name in layer.parents), arrays)
        if context.outputs != layer.channels:
            raise ArgumentError(
                f"FeatureCodec.load: context of layer {layer.name} is for {context.outputs} "
                f"channels, must be for {layer.channels}; write the file again"
            )
    return IntegerLayer(
        layer.name,
        prior,
        tables,
        table,
        layer.channels,
        layer.stride,
        size,
        tuple(names.index(parent) for parent in layer.parents),
        context,
        gain,
        reciprocal,
    )
