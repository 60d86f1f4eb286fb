"""The transforms of a codec as ONNX: what is before and behind the integers.

A layer's analysis goes from features to latents before any gain, a head from decoded latents
divided by their gains to features. What is between them is integers: `export_numpy_decoder`.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal._core.files import write_bytes
from foveal._core.onnx_writer import Graph
from foveal.codec.config import Head, Layer, Source
from foveal.codec.model import FeatureCodec
from foveal.codec.transforms import SLOPE
from foveal.errors import ArgumentError


def export_onnx(model: FeatureCodec, folder: str | Path) -> list[Path]:
    """Write `analysis-LAYER.onnx` and `head-TASK.onnx` for every layer and head of a codec.

    Inputs are named after sources and layers, with a free batch axis; an optional layer that is
    not there is given as zeros. fp32, opset 17.

    Args:
        model: A finalised codec.
        folder: Where to write; made if it is missing.

    Returns: The files.

    Raises:
        ArgumentError: the model is not finalised, or `folder` is a file.
    """
    identity = model.model_id.hex()
    out = Path(folder)
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"export_onnx: folder is {str(out)!r}, a file, must be a folder")
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for layer in model.config.layers:
        graph = _analysis(model, layer)
        written.append(_write(out / f"analysis-{layer.name}.onnx", graph, identity))
    for head in model.config.heads:
        written.append(_write(out / f"head-{head.name}.onnx", _synthesis(model, head), identity))
    return written


def _write(path: Path, graph: Graph, identity: str) -> Path:
    about = {"model_id": identity}
    write_bytes(path, graph.encode(producer="foveal", version=version("foveal"), about=about))
    return path


def _array(value: Tensor) -> NDArray[np.float32]:
    return value.detach().float().cpu().numpy()


def _conv(graph: Graph, module: nn.Conv2d, x: str) -> str:
    bias = module.bias
    inputs = [x, graph.constant(_array(module.weight))]
    if bias is not None:
        inputs.append(graph.constant(_array(bias)))
    rows, columns = int(module.padding[0]), int(module.padding[1])
    return graph.node(
        "Conv",
        *inputs,
        kernel_shape=[int(k) for k in module.kernel_size],
        pads=[rows, columns, rows, columns],
        strides=[int(s) for s in module.stride],
    )


def _leaky(graph: Graph, x: str) -> str:
    return graph.node("LeakyRelu", x, alpha=SLOPE)


def _residual(graph: Graph, block: Any, x: str) -> str:
    hidden = _conv(graph, block.first, _leaky(graph, x))
    return graph.node("Add", x, _conv(graph, block.second, _leaky(graph, hidden)))


def _shape(source: Source) -> tuple[int | str, ...]:
    return ("batch", *source.shape)


def _scale(model: FeatureCodec, source: Source) -> tuple[NDArray[Any], NDArray[Any]]:
    scale: Any = model.scales[source.name]
    return _array(scale.mean)[:, None, None], _array(scale.std)[:, None, None]


def _as_map(graph: Graph, source: Source, x: str) -> str:
    if source.kind == "map":
        return x
    if source.kind == "tokens":
        x = graph.node("Transpose", x, perm=[0, 2, 1])
    size = [0, source.channels, source.height, source.width]
    return graph.node("Reshape", x, graph.constant(size))


def _analysis(model: FeatureCodec, layer: Layer) -> Graph:
    graph = Graph(f"analysis of {layer.name}")
    sources = model.config.source_map
    parts: list[str] = []
    for name in layer.inputs:
        source = sources[name]
        mean, std = _scale(model, source)
        x = _as_map(graph, source, graph.input(name, _shape(source)))
        x = graph.node("Sub", x, graph.constant(mean))
        parts.append(graph.node("Div", x, graph.constant(std)))
    x = inputs = graph.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    part: Any = model.layers[layer.name]
    for module in part.analysis.parts:
        x = (
            _conv(graph, module, x)
            if isinstance(module, nn.Conv2d)
            else _residual(graph, module, x)
        )
    if part.analysis.linear is not None:
        x = graph.node("Add", x, _conv(graph, part.analysis.linear, _padded(graph, inputs, part)))
    rows, columns = layer.latent_size(*model.config.size_of(layer))
    y = graph.node("Identity", x, name="latents")
    graph.output(y, ("batch", layer.channels, rows, columns))
    return graph


def _synthesis(model: FeatureCodec, head: Head) -> Graph:
    graph = Graph(f"head of {head.name}")
    layers = {layer.name: layer for layer in model.config.layers}
    source = model.config.source_map[head.name]
    parts: list[str] = []
    for name in head.layers + head.optional:
        layer = layers[name]
        size = layer.latent_size(*model.config.size_of(layer))
        parts.append(graph.input(name, ("batch", layer.channels, *size)))
    x = latents = graph.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    module: Any = model.heads[head.name]
    x = _conv(graph, module.first, x)
    for block in module.blocks:
        x = _residual(graph, block, x)
    x = _conv(graph, module.spread, _leaky(graph, x))
    x = _spread(graph, module.up, x, source, module.refine.in_channels)
    x = graph.node("Add", x, _conv(graph, module.refine, _leaky(graph, x)))
    for block in module.fine:
        x = _residual(graph, block, x)
    x = _conv(graph, module.last, _leaky(graph, x))
    if module.linear is not None:
        wide = _conv(graph, module.linear, latents)
        x = graph.node("Add", x, _spread(graph, module.up, wide, source, source.channels))
    mean, std = _scale(model, source)
    x = graph.node("Add", graph.node("Mul", x, graph.constant(std)), graph.constant(mean))
    x = graph.node("Relu", x) if source.nonnegative else x
    if source.kind == "vector":
        x = graph.node("Reshape", x, graph.constant([0, source.channels]))
    elif source.kind == "tokens":
        flat = graph.constant([0, source.channels, source.height * source.width])
        x = graph.node("Transpose", graph.node("Reshape", x, flat), perm=[0, 2, 1])
    y = graph.node("Identity", x, name="features")
    graph.output(y, _shape(source))
    return graph


def _padded(graph: Graph, x: str, part: Any) -> str:
    """Repeat the last row and column until the cells of a linear analysis are full."""
    rows, columns = (-side % cell for side, cell in zip(part.size, part.analysis.cell, strict=True))
    if not rows and not columns:
        return x
    pads = graph.constant([0, 0, 0, 0, 0, 0, rows, columns])
    return graph.node("Pad", x, pads, mode="edge")


def _spread(graph: Graph, up: tuple[int, int], x: str, source: Source, inner: int) -> str:
    """Put channels beside each other, and cut what is beyond the features' size."""
    if up == (1, 1):
        return x
    rows, columns = -(-source.height // up[0]), -(-source.width // up[1])
    # batch and channels go into one axis, since 0 in a shape copies an axis of the input
    x = graph.node("Reshape", x, graph.constant([-1, up[0], up[1], rows, columns]))
    x = graph.node("Transpose", x, perm=[0, 3, 1, 4, 2])
    x = graph.node("Reshape", x, graph.constant([-1, inner, rows * up[0], columns * up[1]]))
    if (rows * up[0], columns * up[1]) == (source.height, source.width):
        return x
    cut = [[0, 0], [source.height, source.width], [2, 3]]
    return graph.node("Slice", x, *(graph.constant(value) for value in cut))
