"""Write the golden files of the codec's format: small models, integers and their payloads.

Run as `python tests/golden/codec/make_golden.py`; changed bytes need a line in the changelog.
Weights and integers are formulas, so that nothing depends on a random generator or on training.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveal.codec.config import CodecConfig, Source
from foveal.codec.container import Container, pack
from foveal.codec.integer_model import Ints
from foveal.codec.model import FeatureCodec
from foveal.codec.prior.config import KINDS
from foveal.codec.schemes import Sizes, conditional, joint, separate

HERE = Path(__file__).parent
SOURCES = (
    Source("edges", 2, height=6, width=7, nonnegative=True),
    Source("depth", 3, height=6, width=7),
    Source("scene", 2, height=6, width=7),
)
SIZES = Sizes(
    channels=5, stride=2, hidden=4, head_hidden=4, blocks=1, side=2, codewords=3, hyper_hidden=3
)
Payload = tuple[bytes, dict[str, Ints]]


def config_of(name: str) -> CodecConfig:
    """Return the configuration of a golden model: a kind of prior, or "conditional"."""
    if name == "conditional":
        sizes = dataclasses.replace(SIZES, prior="codebook-local")
        config = conditional(SOURCES, sizes)
        layers = tuple(dataclasses.replace(x, context_hidden=4) for x in config.layers)
        return dataclasses.replace(config, layers=layers, order=("scene", "edges", "depth"))
    scheme = separate if name == "factorized" else joint
    return scheme(SOURCES[:2], dataclasses.replace(SIZES, prior=name))


NAMES = (*KINDS, "conditional")


def formula_model(config: CodecConfig) -> FeatureCodec:
    """Return a finalised model whose weights are sines."""
    model = FeatureCodec(config)
    with torch.no_grad():
        for i, (name, value) in enumerate(sorted(model.named_parameters())):
            wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + i)
            wave = wave.reshape(value.shape).to(value.dtype)
            kind = name.rsplit(".", 1)[1]
            if kind == "base":
                value.add_(2 * wave)  # some latents are skipped
            elif kind in ("log_gain", "log_scale", "location"):
                value.add_(0.1 * wave)
            else:
                value.copy_(0.3 * wave)
        for i, (name, value) in enumerate(sorted(model.named_buffers())):
            if name.startswith("scales."):
                value.add_(0.25 * (i + 1))
    return model.finalise()


def side_symbols(images: int, count: int, low: int, high: int) -> Ints:
    """Return side symbols by formula, within their range."""
    values = np.arange(images * count, dtype=np.int64).reshape(images, count) * 5 % 7 - 3
    return np.clip(values, low, high)


def latents(images: int, count: int, shift: int) -> Ints:
    """Return small integers by formula, with outliers that need escapes."""
    values = ((np.arange(images * count, dtype=np.int64) + shift) * 37 % 11 - 5) // 2
    values[7::31] = 4000 - shift
    values[20::53] = -777
    return values.reshape(images, count)


def make_payload(
    model: FeatureCodec, controls: list[bytes], size: tuple[int, int] | None, layers: list[int]
) -> Payload:
    """Code formulas; return the payload and the integers that it decodes to."""
    integers, images = model.integers, len(controls)
    orders, qualities = integers.controls(controls)
    rows: list[dict[int, bytes]] = []
    out: dict[int, Ints] = {}
    for image in range(images):
        known: dict[int, Ints] = {}
        streams: dict[int, bytes] = {}
        own = qualities[image : image + 1]
        for number in integers.orders[int(orders[image])]:
            if number not in layers:
                continue
            layer = integers.layers[number]
            shape = layer.shape(size)
            extra, centers = integers.surroundings(number, known, own, size)
            count = layer.prior.side_layout(*shape[1:]).size
            side = side_symbols(image + 1, count, *layer.prior.side_range)[-1:]
            indices = layer.indices(side, extra, shape)
            y = np.where(indices > 0, latents(1, indices.size, image + number), 0)
            streams[number] = layer.encode(side, y, indices, shape)[0]
            known[number] = y.reshape(1, *shape) + centers
        rows.append(streams)
        for number, value in known.items():
            out[number] = np.concatenate([out[number], value]) if number in out else value
    table = tuple(tuple(row[number] for number in layers) for row in rows)
    payload = pack(Container(model.model_id, tuple(layers), table, tuple(controls), size))
    return payload, {integers.layers[number].name: out[number] for number in layers}


def payloads(model: FeatureCodec) -> list[Payload]:
    """Return the payloads of a golden model: one quality, many, some off, fewer layers, a size."""
    integers = model.integers
    layers = list(range(len(integers.layers)))
    first = [bytes([i]) if integers.conditional else b"" for i in (0, 1, 0)]
    pairs = [bytes((7 * i + 20 * j) % 65 for j in range(integers.pairs)) for i in range(3)]
    found = [
        make_payload(model, [first[0] + b"\x29"], None, layers),
        make_payload(model, [a + b for a, b in zip(first, pairs, strict=True)], None, layers),
        make_payload(model, [first[0] + b"\x40"], None, layers[1:]),
    ]
    if integers.pairs >= 3:
        found.append(make_payload(model, [first[1] + b"\x29\x05"], None, layers))
    if integers.layers[0].prior.config.any_size:
        found.append(make_payload(model, [first[0] + b"\x10"], (9, 5), layers))
    return found


def describe(payload: bytes, values: Mapping[str, Ints]) -> dict[str, Any]:
    """Return a payload and its integers as plain data."""
    return {
        "payload": payload.hex(),
        "latents": {
            k: {"shape": list(v.shape), "values": v.ravel().tolist()} for k, v in values.items()
        },
    }


def main(folder: Path = HERE) -> None:
    """Write the files beside this script."""
    for name in NAMES:
        model = formula_model(config_of(name))
        model.save(folder / f"{name}.safetensors")
        found = [describe(*item) for item in payloads(model)]
        data = {"model_id": model.model_id.hex(), "payloads": found}
        (folder / f"{name}-golden.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
