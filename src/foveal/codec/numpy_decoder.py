"""Write a decoder of one model as one Python file that needs NumPy alone."""

import base64
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveal._core.files import atomic_write
from foveal.codec.arguments import check_tasks, pairs_read
from foveal.codec.config import Head, Layer
from foveal.codec.model import FeatureCodec
from foveal.codec.model_file import file_tensors
from foveal.errors import ArgumentError

HERE = Path(__file__).parent
MARK = "# ---- exported from here ----\n"
EMPTY = 'ARCHIVE = ""\n'
COLUMNS = 96


def export_numpy_decoder(
    model: FeatureCodec, path: str | Path, *, tasks: Sequence[str] | None = None
) -> None:
    """Write one .py file that decodes payloads of `model` with NumPy and the standard library.

    The file has `decode(payload)`, which gives the integers of `decode_symbols`, exactly;
    `features(payload)`, which agrees with `decode` to the rounding of fp32 products (1e-5 of the
    largest feature); its own `BitstreamError`; and a command line. It holds the model as text, no
    pickle.

    Args:
        model: A finalised codec.
        path: Where to write; must end in .py, so that it can be imported.
        tasks: Heads to put in. Default: all. `()` gives a small file that decodes integers alone.

    Raises:
        ArgumentError: the model is not finalised or has no such task, or `path` ends otherwise.
    """
    if Path(path).suffix != ".py":
        raise ArgumentError(
            f"export_numpy_decoder: path is {str(path)!r}, must end in .py; choose another name"
        )
    _ = model.integers
    wanted = () if tasks is not None and len(tasks) == 0 else check_tasks(model, tasks, "export")
    text = (HERE / "numpy_template.py").read_text()
    second = (HERE / "numpy_features.py").read_text().split(MARK)[1]
    text = text.replace("import math\n", "import math\nimport sys\n").replace(
        "import pairwise, permutations\n",
        "import pairwise, permutations\nfrom pathlib import Path\n",
    )
    packed = base64.b85encode(_archive(model, wanted)).decode()
    lines = "".join(f"{packed[i : i + COLUMNS]}\n" for i in range(0, len(packed), COLUMNS))
    whole = text.replace(EMPTY, f'ARCHIVE = """\n{lines}"""\n') + "\n" + second
    with atomic_write(Path(path)) as temporary:
        temporary.write_text(whole)


def _archive(model: FeatureCodec, tasks: tuple[str, ...]) -> bytes:
    """Return the model as a compressed line of JSON with the arrays behind it."""
    heads = [head for head in model.config.heads if head.name in tasks]
    tensors: dict[str, Tensor] = {}
    for name, value in sorted(file_tensors(model, model.integers).items()):
        parts = name.split(".")
        if parts[0] == "int" or (parts[1] in ("heads", "scales") and parts[2] in tasks):
            tensors[name] = value
    integers = model.integers
    spec = {
        "model_id": model.model_id.hex(),
        "conditional": integers.conditional,
        "order": list(integers.orders[0]),
        "layers": [_layer(model, number) for number in range(len(integers.layers))],
        "heads": [_head(model, head) for head in heads],
        "arrays": [[k, _dtype(v), list(v.shape)] for k, v in tensors.items()],
    }
    data = b"".join(v.contiguous().numpy().tobytes() for v in tensors.values())
    head = json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()
    return zlib.compress(head + b"\n" + data, 9)


def _dtype(value: Tensor) -> str:
    names = {torch.int16: "<i2", torch.int32: "<i4", torch.int64: "<i8", torch.float16: "<f2"}
    return names[value.dtype]


def _layer(model: FeatureCodec, number: int) -> dict[str, Any]:
    part = model.integers.layers[number]
    prior = part.prior.config
    return {
        "name": part.name,
        "channels": part.channels,
        "stride": part.stride,
        "inputs": list(part.inputs),
        "tasks": len(part.log_gains),
        "parents": list(part.parents),
        "kind": prior.kind,
        "side": prior.side,
        "codewords": prior.codewords,
        "prior_stride": prior.stride,
        "tied": None if prior.any_size else [prior.height, prior.width],
        "most_positions": prior.most_positions,
        "width": part.width,
    }


def _head(model: FeatureCodec, head: Head) -> dict[str, Any]:
    source = model.config.source_map[head.name]
    layers: list[Layer] = list(model.config.layers)
    names = [layer.name for layer in layers]
    stride = layers[names.index(head.layers[0])].stride
    return {
        "name": head.name,
        "layers": [names.index(name) for name in head.layers],
        "optional": [names.index(name) for name in head.optional],
        "pairs": pairs_read(model, head),
        "blocks": head.blocks,
        "fine_blocks": head.fine_blocks,
        "linear": head.linear,
        "kind": source.kind,
        "height": source.height,
        "width": source.width,
        "nonnegative": source.nonnegative,
        "up": [stride if source.height > 1 else 1, stride if source.width > 1 else 1],
    }
