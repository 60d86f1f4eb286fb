"""`foveal encode | decode | inspect | extract` for codecs of several tasks (format 2)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from foveal._core.files import atomic_write, check_folder, write_bytes
from foveal.cli.common import Json, Options, emit, parse_options, path_argument, reporter
from foveal.cli.streams import frames, naming, read_payload
from foveal.errors import ArgumentError

_AT_ONCE = 16


@dataclass(frozen=True)
class TaskEncodeOptions:
    """Options of `foveal encode`.

    Args:
        weights: Name of a packaged codec, or a file.
        tasks: Between commas; empty: all.
        quality: 0 to 63; -1: the codec's usual one.
        target_bytes: Instead of a quality, at most so many bytes for each picture; 0: no target.
        order: Of a conditional codec: "best" finds one for each picture; empty: its own.
        every: For a video, each how-many-th frame is coded.
    """

    weights: str = "efficientnet-lite0"
    tasks: str = ""
    quality: int = -1
    target_bytes: float = 0.0
    order: str = ""
    every: int = 1


@dataclass(frozen=True)
class TaskDecodeOptions:
    """Options of `foveal decode`.

    Args:
        weights: Name of a packaged codec, or a file.
        tasks: Between commas; empty: all that are there.
    """

    weights: str = "efficientnet-lite0"
    tasks: str = ""


@dataclass(frozen=True)
class ExtractOptions:
    """Options of `foveal extract`: the codec, and the tasks to keep between commas."""

    weights: str = "efficientnet-lite0"
    tasks: str = ""


def is_tasks_codec(weights: str) -> bool:
    """Tell whether weights are those of a codec of this file."""
    import json

    path = Path(weights)
    if path.suffix != ".safetensors":
        return False
    try:
        config = json.loads(path.with_suffix(".json").read_text())["config"]
        return config["format"] == "foveal-codec-2"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def names(text: str) -> list[str] | None:
    """Return the names between commas; None if there are none."""
    return [name.strip() for name in text.split(",") if name.strip()] or None


def encode_files(
    files: list[Path], target: Path, options: TaskEncodeOptions
) -> tuple[dict[str, Any], list[str]]:
    """Code pictures or frames into one payload; return the JSON value and the lines."""
    import torch

    from foveal.codec.arguments import MAX_IMAGES
    from foveal.codec.encoding import encode
    from foveal.codec.sources import features_of
    from foveal.codec.stream import load, split

    model = load(options.weights)
    wanted = names(options.tasks)
    show, count = reporter("features"), 0
    parts: dict[str, list[torch.Tensor]] = {}
    for file in files:
        for frame in frames(file, options.every):
            if count == MAX_IMAGES:
                raise ArgumentError(
                    f"input: has over {MAX_IMAGES} images or frames, which is the most that one "
                    "stream holds; split it or pass a larger -o every="
                )
            for name, value in features_of(model, frame[None]).items():
                parts.setdefault(name, []).append(value.cpu())
            count += 1
            show(count, None)
    features = {name: torch.cat(values) for name, values in parts.items()}
    stream = encode(
        model,
        features,
        tasks=wanted,
        quality=options.quality if options.quality >= 0 else None,
        target_bytes=options.target_bytes if options.target_bytes > 0 else None,
        order=("best" if options.order == "best" else names(options.order)),
    )
    write_bytes(target, stream.payload)
    sizes = [len(one) for one in split(stream.payload)]
    sent: list[str] = stream.receipt.details["tasks"]
    value = {
        "output": str(target),
        "images": count,
        "bytes": len(stream.payload),
        "tasks": sent,
        "image_bytes": sizes,
        "qualities": [list(q) for q in stream.qualities],
        "receipt": stream.receipt.to_dict(),
    }
    lines = [f"{target}: {count} images, {len(stream.payload)} bytes for {', '.join(sent)}"]
    return value, [*lines, str(stream.receipt)]


def decode_file(
    payload: bytes, options: TaskDecodeOptions, features: Path | None, pictures: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """Decode a payload and let the rest of each network answer; return JSON value and lines."""
    import torch

    from foveal.codec.sources import network
    from foveal.codec.stream import decode, load

    model = load(options.weights)
    decoded = decode(model, payload, tasks=names(options.tasks))
    count = len(next(iter(decoded.values()))) if decoded else 0
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for task, value in decoded.items():
        source = model.config.source_map[task]
        if not source.teacher:
            continue
        part = network(source)
        for start in range(0, count, _AT_ONCE):
            with torch.no_grad():
                answers = part.decode(value[start : start + _AT_ONCE])
            for i, answer in enumerate(answers, start):
                rows[i][task] = _said(task, answer, pictures, i)
    if features is not None:
        from safetensors.torch import save

        with atomic_write(features) as temporary:
            temporary.write_bytes(save({k: v.contiguous() for k, v in decoded.items()}))
    lines = [
        f"image {i}: " + "; ".join(f"{task} {_short(said)}" for task, said in row.items())
        for i, row in enumerate(rows)
    ]
    return {"images": rows, "tasks": list(decoded)}, lines


def _said(task: str, answer: Any, pictures: Path | None, number: int) -> dict[str, Any]:
    """Return what a network says of one image; maps become a picture."""
    if answer.ndim == 1:
        best = answer.softmax(-1).topk(min(5, len(answer)))
        labels = best.indices.tolist()
        return {
            "classes": labels,
            "names": [_name(task, label) for label in labels],
            "probabilities": [round(p, 6) for p in best.values.tolist()],
        }
    said: dict[str, Any] = {"shape": list(answer.shape)}
    if pictures is not None:
        from foveal._core.media import write_image

        path = pictures / f"{number:04d}-{task}.png"
        write_image(path, picture_of(task, answer))
        said["picture"] = str(path)
    return said


def _name(task: str, label: int) -> str:
    from foveal.data import taskworld

    return taskworld.SCENES[label] if task == "scene" else str(label)


def _short(said: dict[str, Any]) -> str:
    if "classes" in said:
        return f"{said['names'][0]} ({said['probabilities'][0]:.1%})"
    return said.get("picture") or "x".join(map(str, said["shape"]))


def picture_of(task: str, answer: Any) -> Any:
    """Return an answer that is a map as a picture [3, h, w] in [0, 1].

    Classes get a color each, three channels are mapped from [-1, 1], others are grey.
    """
    import torch

    if task == "segmentation":
        label = answer.argmax(0)
        turns = torch.arange(len(answer), dtype=torch.float32) * 2.399963
        palette = 0.5 + 0.45 * torch.stack([torch.cos(turns + k) for k in (0.0, 2.1, 4.2)])
        return palette[:, label.cpu()]
    if len(answer) == 3:
        return ((answer + 1) / 2).clamp(0, 1).cpu()
    return answer[:1].clamp(0, 1).expand(3, -1, -1).cpu()


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
    if not is_tasks_codec(options.weights):
        raise ArgumentError(
            f"-o: weights is {options.weights!r}, must be the file of a codec of several tasks; "
            "train one with foveal train codec"
        )
    payload = read_payload(source)
    check_folder(target.parent)
    from foveal.codec.stream import extract as cut
    from foveal.codec.stream import load

    model = load(options.weights)
    with naming(source):
        smaller = cut(model, payload, tasks=wanted)
    write_bytes(target, smaller)
    value = {"output": str(target), "bytes": len(smaller), "before": len(payload)}
    emit(value, as_json, [f"{target}: {len(smaller)} of {len(payload)} bytes"])
