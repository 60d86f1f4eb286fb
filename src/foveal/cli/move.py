"""`foveal move`: an instruction becomes a motion file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from foveal._core.files import check_folder, write_text
from foveal._core.lazy import require
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
_RIG_SUFFIXES = (".bvh", ".glb", ".npz")


@dataclass(frozen=True)
class MoveOptions:
    """Options of `foveal move`."""

    track: str = "mpc"
    seed: int = 0
    fps: float = 30.0
    retarget: str = ""


def move(
    instruction: Annotated[str, typer.Argument(help='For example "bow and then wave".')],
    target: Annotated[Path, path_argument(f"Output file: {', '.join(_SUFFIXES)}")],
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Make a figure do what an instruction says; -o track=kinematic is immediate, mpc physical.

    -o retarget=mixamo, or a .bvh file of your own, moves that skeleton instead.
    """
    options = parse_options(MoveOptions, option)
    if options.track not in ("mpc", "kinematic"):
        raise ArgumentError(f"-o: track is {options.track!r}, must be 'mpc' or 'kinematic'")
    if options.track == "kinematic":
        refuse_option(option, "seed", "must be for track=mpc: kinematic draws nothing")
    if target.suffix not in _SUFFIXES:
        raise ArgumentError(f"target: {target}, must end in one of {_SUFFIXES}")
    if options.retarget and target.suffix not in _RIG_SUFFIXES:
        raise ArgumentError(f"target: {target}, must end in one of {_RIG_SUFFIXES} with retarget")
    check_folder(target.parent)
    if target.suffix == ".mp4":
        require("av", "video", "writing a clip as .mp4")
    from foveal import motion
    from foveal.motion.retarget import transfer
    from foveal.web.page import page
    from foveal.web.player import player_html

    if options.retarget:  # what does not fit is named before the work
        transfer.find_rig(options.retarget, motion.humanoid())
    show = reporter("percent")
    track: Any = options.track
    clip = motion.generate(
        instruction,
        track=track,
        seed=options.seed,
        fps=options.fps,
        progress=lambda fraction: show(round(100 * fraction), 100),
    )
    if options.retarget:
        transfer.retarget(clip, options.retarget).save(target)
    elif target.suffix == ".html":
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
