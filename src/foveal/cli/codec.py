"""`foveal encode | decode | inspect`: features of a frozen recogniser in a few hundred bytes."""

import contextlib
import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from foveal._core.files import atomic_write, check_folder, read_input, write_bytes
from foveal.cli.common import (
    Json,
    Options,
    check_every,
    emit,
    inputs,
    is_video,
    parse_options,
    path_argument,
    path_option,
    reporter,
)
from foveal.errors import ArgumentError, BitstreamError

_BATCH = 16
_MAX_STREAM_BYTES = 256 << 20


@dataclass(frozen=True)
class DecodeOptions:
    """The codec's weights."""

    weights: str = "efficientnet-lite0"


@dataclass(frozen=True)
class EncodeOptions:
    """The codec's weights, and for a video each how-many-th frame is coded."""

    weights: str = "efficientnet-lite0"
    every: int = 1


def frames(file: Path, every: int) -> Iterator[Any]:
    """Yield the images of a file, one at a time."""
    from foveal._core.media import read_image
    from foveal._core.video import read_video

    if is_video(file):
        yield from read_video(file, every=every)
    else:
        yield read_image(file)


def features_of(files: list[Path], teacher: Any, every: int) -> Iterator[Any]:
    """Yield the stride-16 features of every image or frame, in batches."""
    import torch

    from foveal.codec.stream import MAX_IMAGES
    from foveal.teachers import prepare

    batch: list[Any] = []
    show, count = reporter("features"), 0
    for file in files:
        for frame in frames(file, every):
            if count == MAX_IMAGES:
                raise ArgumentError(
                    f"input: has over {MAX_IMAGES} images or frames, which is the most that one "
                    "stream holds; split it or pass a larger -o every="
                )
            batch.append(prepare(frame))
            count += 1
            show(count, None)
            if len(batch) == _BATCH:
                with torch.no_grad():
                    yield teacher.features(torch.stack(batch))
                batch = []
    if batch:
        with torch.no_grad():
            yield teacher.features(torch.stack(batch))


@contextlib.contextmanager
def _naming(source: Path) -> Generator[None]:
    """Put the file's name before what is wrong with its bytes."""
    try:
        yield
    except BitstreamError as error:
        raise BitstreamError(f"stream: {source} cannot be decoded: {error}") from error


def _payload(source: Path) -> bytes:
    path = read_input(source, what="stream")
    if path.stat().st_size > _MAX_STREAM_BYTES:
        raise BitstreamError(
            f"stream: {source} has {path.stat().st_size} bytes, must have at most "
            f"{_MAX_STREAM_BYTES}; it is no .fvl"
        )
    return path.read_bytes()


def encode(
    source: Annotated[Path, path_argument("Image, folder or video.")],
    target: Annotated[Path, path_argument("Stream to write, .fvl")],
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Code what EfficientNet-Lite0 sees, one stream an image or frame."""
    options = parse_options(EncodeOptions, option)
    if target.suffix != ".fvl":
        raise ArgumentError(f"target: {target}, must end in .fvl")
    files = inputs(source, target=target)
    check_every(option, options.every, files)
    check_folder(target.parent)
    import torch

    from foveal import codec
    from foveal.teachers.efficientnet_lite import EfficientNetLite0

    model = codec.load(options.weights)
    teacher = EfficientNetLite0.load()
    features = torch.cat(list(features_of(files, teacher, options.every)))
    stream = codec.encode(model, features, head=teacher.head)
    write_bytes(target, stream.payload)
    value = {
        "output": str(target),
        "images": len(features),
        "bytes": len(stream.payload),
        "receipt": stream.receipt.to_dict(),
    }
    lines = [f"{target}: {len(features)} images, {len(stream.payload)} bytes", str(stream.receipt)]
    emit(value, as_json, lines)


def decode(
    source: Annotated[Path, path_argument("Stream, .fvl")],
    features: Annotated[
        Path | None, path_option("--features", "Write the features here, .safetensors")
    ] = None,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Decode a stream and let the rest of the recogniser answer: five best classes an image."""
    options = parse_options(DecodeOptions, option)
    payload = _payload(source)
    if features is not None and features.suffix != ".safetensors":
        raise ArgumentError(f"--features: {features}, must end in .safetensors")
    import torch

    from foveal import codec
    from foveal.teachers.efficientnet_lite import EfficientNetLite0

    model = codec.load(options.weights)
    with _naming(source):
        decoded = codec.decode(model, payload)
    teacher = EfficientNetLite0.load()
    with torch.no_grad():
        scores = torch.cat([teacher.head(part).softmax(-1) for part in decoded.split(_BATCH)])
    best = scores.topk(5)
    rows = [
        {"classes": c.tolist(), "probabilities": [round(x, 6) for x in p.tolist()]}
        for c, p in zip(best.indices, best.values, strict=True)
    ]
    if features is not None:
        from safetensors.torch import save

        with atomic_write(features) as temporary:
            temporary.write_bytes(save({"features": decoded.contiguous()}))
    lines = [
        f"image {i}: ImageNet class {row['classes'][0]} ({row['probabilities'][0]:.1%})"
        for i, row in enumerate(rows)
    ]
    emit({"images": rows}, as_json, lines)


def inspect(
    source: Annotated[Path, path_argument("Stream, .fvl")],
    as_json: Json = False,
) -> None:
    """Say what a stream holds and where its bytes go, without decoding it."""
    from foveal import codec

    payload = _payload(source)
    with _naming(source):
        facts = codec.inspect(payload)
    emit(facts, as_json, [f"{name}: {json.dumps(value)}" for name, value in facts.items()])
