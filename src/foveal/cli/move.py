"""`foveal move`: an instruction becomes a motion file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from foveal._core.files import check_folder, write_text
from foveal.cli.common import (
    Json,
    Options,
    emit,
    parse_options,
    path_argument,
    refuse_option,
    reporter,
)
from foveal.errors import ArgumentError

_SUFFIXES = (".bvh", ".glb", ".npz", ".xml", ".mjcf", ".mp4", ".html")


@dataclass(frozen=True)
class MoveOptions:
    """Options of `foveal move`."""

    track: str = "mpc"
    seed: int = 0
    fps: float = 30.0


def move(
    instruction: Annotated[str, typer.Argument(help='For example "bow and then wave".')],
    target: Annotated[Path, path_argument(f"Output file: {', '.join(_SUFFIXES)}")],
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Make a figure do what an instruction says; -o track=kinematic is immediate, mpc physical."""
    options = parse_options(MoveOptions, option)
    if options.track not in ("mpc", "kinematic"):
        raise ArgumentError(f"-o: track is {options.track!r}, must be 'mpc' or 'kinematic'")
    if options.track == "kinematic":
        refuse_option(option, "seed", "must be for track=mpc: kinematic draws nothing")
    if target.suffix not in _SUFFIXES:
        raise ArgumentError(f"target: {target}, must end in one of {_SUFFIXES}")
    check_folder(target.parent)
    from foveal import motion
    from foveal.web.page import page
    from foveal.web.player import player_html

    show = reporter("percent")
    track: Any = options.track
    clip = motion.generate(
        instruction,
        track=track,
        seed=options.seed,
        fps=options.fps,
        progress=lambda fraction: show(round(100 * fraction), 100),
    )
    if target.suffix == ".html":
        write_text(target, page(clip.title, player_html(clip.to_player())))
    else:
        clip.save(target)
    scores: dict[str, Any] = dict(motion.score(clip))
    value = {
        "output": str(target),
        "status": clip.status,
        "score": scores,
        "receipt": clip.receipt.to_dict() if clip.receipt else None,
    }
    emit(value, as_json, [f"{target}: {clip.status}", str(clip.receipt)])
