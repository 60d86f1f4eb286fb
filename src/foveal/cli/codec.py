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
    each_stream,
    features_of_files,
    finish,
    model_at_hand,
    names,
    naming,
    own_networks,
    read_payload,
    streams_in,
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
class InspectOptions:
    """Options of `foveal inspect`.

    Args:
        weights: Name of a packaged codec, or a file; empty: a packaged one, if one wrote it.
    """

    weights: str = ""


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

    Of a folder, files that cannot be read are left out and named at the end, with exit code 2.

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
    rows: list[dict[str, Any]] | None = [] if source.is_dir() else None
    features = features_of_files(model, files, options.every, list(wanted), networks, rows)
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
        "files": [{"input": str(source), "images": count}] if rows is None else rows,
    }
    lines = [
        f"{target}: {count} images, {len(stream.payload)} bytes for {', '.join(sent)}",
        str(stream.receipt),
    ]
    if latents > MAX_SYMBOLS:
        lines.append(f"{latents} latents: to decode all at once, give -o max_symbols={latents}")
    finish(value, as_json, lines)


def decode(
    source: Annotated[Path, path_argument("Stream, .fvl, or a folder of them.")],
    features: Annotated[
        Path | None,
        path_option("--features", "Write the features here, .safetensors; for a folder, a folder"),
    ] = None,
    pictures: Annotated[
        Path | None,
        path_option("--pictures", "Folder for answers that are maps, as .png; one below it a file"),
    ] = None,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Decode a stream and let the rest of each network answer: five best classes, or maps.

    Tasks that were not sent are named. Of a folder, streams that cannot be decoded are left out and
    named at the end, with exit code 2.

    Options of -o: weights=NAME or FILE; tasks=NAME,NAME; networks=NAME@module:attribute;
    max_symbols=N for more latents than usual.
    """
    options = parse_options(DecodeOptions, option)
    if options.max_symbols < 0:
        raise ArgumentError(f"-o: max_symbols is {options.max_symbols}, must be >= 0; 0 is usual")
    many = source.is_dir()
    files = streams_in(source) if many else [source]
    payload = b"" if many else read_payload(source)
    if features is not None and not many and features.suffix != ".safetensors":
        raise ArgumentError(f"--features: {features}, must end in .safetensors")
    for folder in (pictures, features if many else None):
        if folder is not None:
            check_folder(folder)
    from foveal import codec
    from foveal.codec.arguments import check_tasks
    from foveal.codec.decoding import MAX_SYMBOLS

    model = codec.load(options.weights)
    wanted = names(options.tasks)
    check_tasks(model, wanted, "decode")
    own = own_networks(model, options.networks)
    maps: list[bool] = []
    answered: dict[str, None] = {}

    def check_maps() -> None:
        if pictures is not None and not any(maps):
            raise ArgumentError(
                f"--pictures: {pictures} is given, but no answer of {list(answered)} is a map; "
                "leave it out"
            )

    def work(file: Path) -> tuple[dict[str, Any], list[str]]:
        data = read_payload(file) if many else payload
        inside = file.relative_to(source) if many else Path()
        with naming(file):
            most = options.max_symbols or MAX_SYMBOLS
            decoded = codec.decode(model, data, tasks=wanted, max_symbols=most)
            facts = codec.inspect(data, model)
        below = pictures
        if pictures is not None and many:
            below = pictures / inside.with_suffix("")
        rows = answers(model, decoded, answering(model, decoded, own), below)
        rows = rows or [{} for _ in range(facts["images"])]
        answered.update(dict.fromkeys(decoded))
        maps.append(any("picture" in said for row in rows for said in row.values()))
        if not many:
            check_maps()
        if features is not None:
            target = features / inside.with_suffix(".safetensors") if many else features
            _write_features(target, decoded)
        start = f"{file}: " if many else ""
        lines = [f"{start}image {i}: {line(row)}" for i, row in enumerate(rows)]
        if facts["not_sent"]:
            lines.append(f"{start}not sent: {', '.join(facts['not_sent'])}")
        more = {"tasks": list(decoded), "not_sent": facts["not_sent"]}
        return {"images": rows, **more}, lines

    if many:
        each_stream(files, work, as_json)
        check_maps()
        return
    value, lines = work(source)
    emit(value, as_json, lines)


def _write_features(target: Path, decoded: dict[str, Any]) -> None:
    from safetensors.torch import save

    with atomic_write(target) as temporary:
        temporary.write_bytes(save({k: v.contiguous().cpu() for k, v in decoded.items()}))


def inspect(
    source: Annotated[Path, path_argument("Stream, .fvl")],
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Say what a stream holds and where its bytes go, without decoding it.

    Layers have names, and tasks are listed, if a packaged codec wrote it or -o weights=FILE names
    the one that did; else layers have numbers.
    """
    options = parse_options(InspectOptions, option)
    from foveal import codec

    payload = read_payload(source)
    with naming(source):
        model = model_at_hand(options.weights, payload, source)
        facts = codec.inspect(payload, model)
    emit(facts, as_json, [f"{name}: {json.dumps(value)}" for name, value in facts.items()])


def extract(
    source: Annotated[Path, path_argument("Stream, .fvl, or a folder of them.")],
    target: Annotated[Path, path_argument("Smaller stream to write, .fvl; for a folder, a folder")],
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Keep only the layers that some tasks need; nothing is coded again.

    Of a folder, streams that cannot be cut are left out and named at the end, with exit code 2.

    Options of -o: weights=NAME or FILE, tasks=NAME,NAME.
    """
    options = parse_options(ExtractOptions, option)
    wanted = names(options.tasks)
    if wanted is None:
        raise ArgumentError("-o: tasks is empty, must name the tasks to keep; add -o tasks=NAME")
    many = source.is_dir()
    if not many and target.suffix != ".fvl":
        raise ArgumentError(f"target: {target}, must end in .fvl")
    files = streams_in(source) if many else [source]
    payload = b"" if many else read_payload(source)
    if target.exists() and target.samefile(source):
        raise ArgumentError(
            f"target: {target} is the input, which would lose layers, must be another; choose a "
            "new name"
        )
    if many and target.resolve().is_relative_to(source.resolve()):
        files = [f for f in files if not f.resolve().is_relative_to(target.resolve())]
    taken = {file.resolve() for file in files}
    check_folder(target if many else target.parent)
    from foveal import codec
    from foveal.codec.arguments import check_tasks

    model = codec.load(options.weights)
    check_tasks(model, wanted, "extract")

    def work(file: Path) -> tuple[dict[str, Any], list[str]]:
        data = read_payload(file) if many else payload
        out = target / file.relative_to(source) if many else target
        if out.resolve() in taken:
            raise ArgumentError(
                f"target: {out} is an input, must be another; choose a folder elsewhere"
            )
        with naming(file):
            smaller = codec.extract(model, data, tasks=wanted)
        write_bytes(out, smaller)
        value = {"output": str(out), "bytes": len(smaller), "before": len(data)}
        return value, [f"{out}: {len(smaller)} of {len(data)} bytes"]

    if many:
        each_stream(files, work, as_json)
        return
    value, lines = work(source)
    emit(value, as_json, lines)
