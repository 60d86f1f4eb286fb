"""`foveal encode | decode | inspect | extract`: what networks see, in a few hundred bytes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from foveal._core.files import atomic_write, check_folder, write_bytes
from foveal.cli.answers import answers, line
from foveal.cli.common import (
    Json,
    Options,
    check_every,
    emit,
    inputs,
    parse_options,
    path_argument,
    path_option,
)
from foveal.cli.streams import (
    answering,
    features_of_files,
    names,
    naming,
    own_networks,
    read_payload,
)
from foveal.errors import ArgumentError

_UNSET = -1


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `foveal encode`.

    Args:
        weights: Name of a packaged codec, or a file.
        tasks: Between commas; empty: all.
        quality: 0 to 63; -1: the codec's usual one.
        target_bytes: Instead of a quality, at most so many bytes for each picture; 0: no target.
        order: Of a conditional codec: "best" finds one for each picture; empty: its own.
        every: For a video, each how-many-th frame is coded.
        networks: Of a codec for networks of one's own, as in `foveal train codec`; empty: those
            that the codec names.
    """

    weights: str = "efficientnet-lite0"
    networks: str = ""
    tasks: str = ""
    quality: int = _UNSET
    target_bytes: float = 0.0
    order: str = ""
    every: int = 1


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `foveal decode`.

    Args:
        weights: Name of a packaged codec, or a file.
        tasks: Between commas; empty: all that are there.
        networks: As in `foveal encode`; without one a task has features and no answer.
        max_symbols: Most latents to accept, each of which takes 8 bytes; 0: the usual limit.
    """

    weights: str = "efficientnet-lite0"
    networks: str = ""
    tasks: str = ""
    max_symbols: int = 0


@dataclass(frozen=True)
class ExtractOptions:
    """Options of `foveal extract`.

    Args:
        weights: Name of a packaged codec, or a file.
        tasks: Those to keep, between commas.
    """

    weights: str = "efficientnet-lite0"
    tasks: str = ""


def encode(
    source: Annotated[Path, path_argument("Image, folder or video.")],
    target: Annotated[Path, path_argument("Stream to write, .fvl")],
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Code what frozen networks see in pictures or frames.

    Options of -o: weights=efficientnet-lite0, joint-4task or a FILE of foveal train codec;
    networks=NAME@module:attribute if it is for your own; tasks=NAME,NAME, quality=0..63 or
    target_bytes=N, order=best, every=1.
    """
    options = parse_options(EncodeOptions, option)
    if target.suffix != ".fvl":
        raise ArgumentError(f"target: {target}, must end in .fvl")
    files = inputs(source, target=target)
    check_every(option, options.every, files)
    check_folder(target.parent)
    from foveal import codec
    from foveal.codec.decoding import MAX_SYMBOLS, latents_of
    from foveal.codec.encoding import check_asked

    model = codec.load(options.weights)
    order: Literal["best"] | list[str] | None = (
        "best" if options.order == "best" else names(options.order)
    )
    quality = None if options.quality == _UNSET else options.quality
    limit = options.target_bytes if options.target_bytes != 0 else None
    wanted = check_asked(model, names(options.tasks), quality, limit, order)
    networks = own_networks(model, options.networks)
    features = features_of_files(model, files, options.every, list(wanted), networks)
    judges = answering(model, wanted, networks)
    stream = codec.encode(
        model,
        features,
        tasks=wanted,
        quality=quality,
        target_bytes=limit,
        order=order,
        head={task: part.decode for task, part in judges.items()},
    )
    write_bytes(target, stream.payload)
    sent: list[str] = stream.receipt.details["tasks"]
    count: int = stream.receipt.details["images"]
    latents = latents_of(model, stream.payload)
    value: dict[str, Any] = {
        "output": str(target),
        "images": count,
        "latents": latents,
        "bytes": len(stream.payload),
        "tasks": sent,
        "image_bytes": [len(one) for one in codec.split(stream.payload)],
        "qualities": [list(q) for q in stream.qualities],
        "receipt": stream.receipt.to_dict(),
    }
    lines = [
        f"{target}: {count} images, {len(stream.payload)} bytes for {', '.join(sent)}",
        str(stream.receipt),
    ]
    if latents > MAX_SYMBOLS:
        lines.append(f"{latents} latents: to decode all at once, give -o max_symbols={latents}")
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

    Options of -o: weights=NAME or FILE; tasks=NAME,NAME; networks=NAME@module:attribute;
    max_symbols=N for more latents than usual.
    """
    options = parse_options(DecodeOptions, option)
    if options.max_symbols < 0:
        raise ArgumentError(f"-o: max_symbols is {options.max_symbols}, must be >= 0; 0 is usual")
    payload = read_payload(source)
    if features is not None and features.suffix != ".safetensors":
        raise ArgumentError(f"--features: {features}, must end in .safetensors")
    if pictures is not None:
        check_folder(pictures)
    from foveal import codec
    from foveal.codec.decoding import MAX_SYMBOLS

    model = codec.load(options.weights)
    with naming(source):
        most = options.max_symbols or MAX_SYMBOLS
        decoded = codec.decode(model, payload, tasks=names(options.tasks), max_symbols=most)
    networks = answering(model, decoded, own_networks(model, options.networks))
    rows = answers(model, decoded, networks, pictures)
    if pictures is not None and not any("picture" in said for row in rows for said in row.values()):
        raise ArgumentError(
            f"--pictures: {pictures} is given, but no answer of {list(decoded)} is a map; leave it "
            "out"
        )
    if features is not None:
        from safetensors.torch import save

        with atomic_write(features) as temporary:
            temporary.write_bytes(save({k: v.contiguous().cpu() for k, v in decoded.items()}))
    lines = [f"image {i}: {line(row)}" for i, row in enumerate(rows)]
    emit({"images": rows, "tasks": list(decoded)}, as_json, lines)


def inspect(
    source: Annotated[Path, path_argument("Stream, .fvl")],
    as_json: Json = False,
) -> None:
    """Say what a stream holds and where its bytes go, without decoding it."""
    from foveal import codec

    payload = read_payload(source)
    with naming(source):
        facts = codec.inspect(payload)
    emit(facts, as_json, [f"{name}: {json.dumps(value)}" for name, value in facts.items()])


def extract(
    source: Annotated[Path, path_argument("Stream, .fvl")],
    target: Annotated[Path, path_argument("Smaller stream to write, .fvl")],
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Keep only the layers that some tasks need; nothing is coded again.

    Options of -o: weights=NAME or FILE, tasks=NAME,NAME.
    """
    options = parse_options(ExtractOptions, option)
    wanted = names(options.tasks)
    if wanted is None:
        raise ArgumentError("-o: tasks is empty, must name the tasks to keep; add -o tasks=NAME")
    if target.suffix != ".fvl":
        raise ArgumentError(f"target: {target}, must end in .fvl")
    payload = read_payload(source)
    if target.exists() and target.samefile(source):
        raise ArgumentError(
            f"target: {target} is the input, which would lose layers, must be another; choose a "
            "new name"
        )
    check_folder(target.parent)
    from foveal import codec

    model = codec.load(options.weights)
    with naming(source):
        smaller = codec.extract(model, payload, tasks=wanted)
    write_bytes(target, smaller)
    value = {"output": str(target), "bytes": len(smaller), "before": len(payload)}
    emit(value, as_json, [f"{target}: {len(smaller)} of {len(payload)} bytes"])
