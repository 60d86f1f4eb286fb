"""`foveal train codec`: a feature codec for frozen networks, from a folder of pictures."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from foveal._core.files import check_folder, write_json
from foveal.cli.common import (
    Json,
    Options,
    emit,
    inputs,
    is_video,
    parse_options,
    path_argument,
    path_option,
    reporter,
)
from foveal.errors import ArgumentError

_TASKS = "tasks-"


@dataclass(frozen=True)
class TrainCodecOptions:
    """Options of `foveal train codec`.

    Args:
        networks: Names between commas: "efficientnet-lite0", "tasks-residual/NAME" of a task
            network, or NAME@module:attribute, which is called without arguments and returns an
            object with `encode`, `decode` and perhaps `preprocess`.
        scheme: "joint", "separate" or "conditional".
        prior: Kind of the prior.
        channels: Latent channels.
        hidden: Channels of the transforms.
        stride: Positions of the features per latent position.
        steps: Training steps.
        minutes: Most minutes; 0 for no limit.
        batch: Pictures a step.
        views: Random cuts of each picture, of at least 40 % of its area.
        held_out: Share of the pictures that judge.
        lowest: Bits that a unit of distortion may cost at quality 0.
        highest: The same at quality 63.
        seed: Of everything that is drawn.
        device: "cpu" or "cuda"; empty: CUDA if there is one.
    """

    networks: str = "efficientnet-lite0"
    scheme: str = "joint"
    prior: str = "codebook-global"
    channels: int = 64
    hidden: int = 96
    stride: int = 2
    steps: int = 20000
    minutes: float = 0.0
    batch: int = 32
    views: int = 8
    held_out: float = 0.1
    lowest: float = 2000.0
    highest: float = 200000.0
    seed: int = 0
    device: str = ""


def networks_of(text: str) -> dict[str, Any]:
    """Load frozen networks by the names that `-o networks=` takes.

    Raises:
        ArgumentError: a name is unknown or comes twice.
    """
    from foveal.cli.own_model import made
    from foveal.codec.config import Source
    from foveal.codec.sources import EfficientNetCut, network

    out: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        name, at, own = item.partition("@")
        if at:
            found = made(own, "-o networks")
            if not all(callable(getattr(found, part, None)) for part in ("encode", "decode")):
                raise ArgumentError(
                    f"-o networks: {own} gives {type(found).__name__}, must give an object with "
                    "encode and decode; add both methods"
                )
        elif item.startswith(_TASKS):
            name = item.partition("/")[2]
            found = network(Source(name or "task", 1, teacher=item))
        elif item == "efficientnet-lite0":
            name, found = "class", EfficientNetCut()
        else:
            raise ArgumentError(
                f"-o networks: {item!r} is unknown, must be efficientnet-lite0, "
                "tasks-residual/NAME or NAME@module:attribute; check the name"
            )
        if name in out:
            raise ArgumentError(f"-o networks: {name!r} comes twice, must come once; rename one")
        out[name] = found
    if not out:
        raise ArgumentError("-o networks: is empty, must name at least one network")
    return out


def views(files: list[Path], count: int, seed: int) -> Iterator[Any]:
    """Yield each picture as it is and cut at random, pictures in a random order."""
    import torch

    from foveal._core.media import read_image

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(files), generator=generator).tolist()
    for number in order:
        image = read_image(files[number])
        yield image
        height, width = image.shape[1:]
        for _ in range(count - 1):
            share, x, y, flip = torch.rand(4, generator=generator).tolist()
            side = (0.4 + 0.6 * share) ** 0.5
            rows, columns = max(1, round(height * side)), max(1, round(width * side))
            top, left = round(y * (height - rows)), round(x * (width - columns))
            cut = image[:, top : top + rows, left : left + columns]
            yield cut.flip(2) if flip < 0.5 else cut


def train(
    what: Annotated[str, typer.Argument(help='"codec".')],
    source: Annotated[Path, path_argument("Folder of pictures.")],
    target: Annotated[Path, path_argument("Model to write, .safetensors")],
    resume: Annotated[
        Path | None, path_option("--resume", "Checkpoint to keep and to go on from, .safetensors")
    ] = None,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Train a feature codec for frozen networks, without labels; the last pictures judge it."""
    if what != "codec":
        raise ArgumentError(f'train: what is {what!r}, must be "codec"')
    options = parse_options(TrainCodecOptions, option)
    for name, path in (("target", target), ("--resume", resume)):
        if path is not None and path.suffix != ".safetensors":
            raise ArgumentError(f"{name}: {path}, must end in .safetensors; choose another name")
    log = target.with_suffix(".log.json")
    if resume is not None:
        ours = [path.resolve() for path in (target, target.with_suffix(".json"), log)]
        if resume.resolve() in ours or resume.with_suffix(".json").resolve() in ours:
            raise ArgumentError(
                f"--resume: {resume} is where the model goes, must be another file; choose another "
                "name"
            )
        check_folder(resume.parent)
    if options.views < 1:
        raise ArgumentError(f"-o: views is {options.views}, must be >= 1; 1 takes whole pictures")
    files = [file for file in inputs(source) if not is_video(file)]
    if not files:
        raise ArgumentError(f"source: {source} holds no picture, must hold some; give a folder")
    check_folder(target.parent)
    import torch

    from foveal.codec import schemes
    from foveal.codec.fit import fit
    from foveal.codec.training import TrainOptions

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    done = fit(
        networks_of(options.networks),
        views(files, options.views, options.seed),
        scheme=options.scheme,  # type: ignore[arg-type]
        sizes=schemes.Sizes(
            channels=options.channels,
            stride=options.stride,
            hidden=options.hidden,
            head_hidden=options.hidden,
            prior=options.prior,
        ),
        options=TrainOptions(
            steps=options.steps,
            minutes=options.minutes,
            batch=options.batch,
            lowest=options.lowest,
            highest=options.highest,
            warm_up=0.0,
            alpha=0.02,
            seed=options.seed,
            precision="bf16" if device == "cuda" else "fp32",
        ),
        held_out=options.held_out,
        device=device,
        progress=reporter("training"),
        checkpoint=resume,
        target=target,
    )
    rows = [dataclasses.asdict(row) for row in done.rows]
    value = {
        "output": str(done.saved),
        "model_id": done.model.model_id.hex(),
        "steps": done.log.steps,
        "trained": done.log.trained,
        "seconds": round(done.log.seconds, 1),
        "pictures": len(files),
        "held_out_views": done.held_out,
        "rows": rows,
    }
    if resume is not None:
        value |= {"checkpoint": str(resume), "went_on_from": done.log.begin}
    if not done.problem:
        write_json(log, {**value, "losses": done.log.rows})
    lines = [f"{done.saved}: model {value['model_id']}, {done.log.steps} steps"]
    for row in done.rows:
        shares = ", ".join(f"{name} {1 - far:.1%}" for name, far in row.distance.items())
        lines.append(f"quality {row.quality}: {row.bytes:.0f} bytes a picture; kept: {shares}")
    if resume is not None:
        lines.append(_of_checkpoint(resume, done.log))
    emit(value, as_json, lines)
    if done.problem:
        raise ArgumentError(done.problem)


def _of_checkpoint(path: Path, log: Any) -> str:
    """Say in a line what became of the checkpoint."""
    if log.trained == 0:
        return (
            f"{path}: checkpoint of this very training, finished at step {log.steps}: 0 steps more"
        )
    start = f", went on from step {log.begin}" if log.begin else ""
    if log.not_kept:
        return f"{path}: checkpoint of an earlier step, the last cannot be written ({log.not_kept})"
    return f"{path}: checkpoint of step {log.steps}{start}; delete it if you like"
