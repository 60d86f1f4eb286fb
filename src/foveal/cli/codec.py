"""`foveal encode | decode | inspect`: features of a frozen recogniser in a few hundred bytes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from foveal._core.files import atomic_write, check_folder, write_bytes
from foveal.cli.codec_tasks import (
    TaskDecodeOptions,
    TaskEncodeOptions,
    decode_file,
    encode_files,
    is_tasks_codec,
)
from foveal.cli.common import (
    Json,
    Options,
    check_every,
    emit,
    inputs,
    parse_options,
    path_argument,
    path_option,
    refuse_option,
    reporter,
)
from foveal.cli.streams import frames, naming, read_payload
from foveal.errors import ArgumentError

_BATCH = 16


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


def encode(
    source: Annotated[Path, path_argument("Image, folder or video.")],
    target: Annotated[Path, path_argument("Stream to write, .fvl")],
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Code what frozen networks see, one stream an image or frame.

    The packaged codec is that of EfficientNet-Lite0. Options of -o: weights=NAME or FILE, every=1;
    for a codec of several tasks (foveal train codec) tasks=NAME,NAME, quality=0..63 or
    target_bytes=N, order=best.
    """
    options = parse_options(TaskEncodeOptions, option)
    if target.suffix != ".fvl":
        raise ArgumentError(f"target: {target}, must end in .fvl")
    files = inputs(source, target=target)
    check_every(option, options.every, files)
    check_folder(target.parent)
    if is_tasks_codec(options.weights):
        value, lines = encode_files(files, target, options)
        emit(value, as_json, lines)
        return
    for name in ("tasks", "quality", "target_bytes", "order"):
        refuse_option(option, name, f"which the codec {options.weights} has not")
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
    pictures: Annotated[
        Path | None, path_option("--pictures", "Folder for answers that are maps, as .png")
    ] = None,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Decode a stream and let the rest of each network answer: five best classes, or maps.

    Options of -o: weights=NAME or FILE; for a codec of several tasks tasks=NAME,NAME.
    """
    options = parse_options(TaskDecodeOptions, option)
    payload = read_payload(source)
    if features is not None and features.suffix != ".safetensors":
        raise ArgumentError(f"--features: {features}, must end in .safetensors")
    if is_tasks_codec(options.weights):
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
        with naming(source):
            value, lines = decode_file(payload, options, features, pictures)
        emit(value, as_json, lines)
        return
    refuse_option(option, "tasks", f"which the codec {options.weights} has not")
    if pictures is not None:
        raise ArgumentError(
            f"--pictures: {pictures} is given, but the codec {options.weights} has no map; leave "
            "it out"
        )
    import torch

    from foveal import codec
    from foveal.teachers.efficientnet_lite import EfficientNetLite0

    model = codec.load(options.weights)
    with naming(source):
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
    from foveal.codec.stream import inspect as inspect_tasks

    payload = read_payload(source)
    second = payload[:2] == b"FV" and payload[2:3] >= b"\x20"
    with naming(source):
        facts = inspect_tasks(payload) if second else codec.inspect(payload)
    emit(facts, as_json, [f"{name}: {json.dumps(value)}" for name, value in facts.items()])
