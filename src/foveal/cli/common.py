"""What the verbs share: options, output, and the list of input files."""

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from foveal._core.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from foveal._core.progress import is_quiet
from foveal.errors import ArgumentError

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Options = Annotated[
    list[str] | None, typer.Option("-o", "--option", help="name=value, checked by the method.")
]
T = TypeVar("T")


def _path(text: str | Path) -> Path:
    """Refuse the empty path, which `Path` takes for the current folder."""
    if text == "":
        raise typer.BadParameter("it is empty, must be a path; for the current folder give '.'")
    return Path(text)


def path_argument(text: str) -> Any:
    """Return a positional path that may not be empty."""
    return typer.Argument(help=text, parser=_path)


def path_option(name: str, text: str) -> Any:
    """Return a path option that may not be empty."""
    return typer.Option(name, help=text, parser=_path)


def parse_options(cls: type[T], options: list[str] | None) -> T:
    """Fill a method's dataclass from `name=value` strings.

    Raises:
        ArgumentError: an unknown name, or a value of the wrong type.
    """
    if not is_dataclass(cls):
        raise ArgumentError(f"parse_options: cls is {cls}, must be a dataclass")
    known: dict[str, Any] = {f.name: f.type for f in fields(cls)}
    values: dict[str, Any] = {}
    for option in options or []:
        name, sign, text = option.partition("=")
        if not sign or name not in known:
            raise ArgumentError(
                f"-o: option is {option!r}, must be name=value with name among {sorted(known)}"
            )
        kind = known[name]
        try:
            values[name] = {"true": True, "false": False}[text] if kind is bool else kind(text)
        except (ValueError, KeyError) as error:
            raise ArgumentError(f"-o: {name} is {text!r}, must be {kind.__name__}") from error
    return cls(**values)


def refuse_option(options: list[str] | None, name: str, why: str) -> None:
    """Refuse an option that was given and can have no effect.

    Raises:
        ArgumentError: `name` is among `options`; the message ends in `why`.
    """
    if any(option.partition("=")[0] == name for option in options or []):
        raise ArgumentError(f"-o: {name} is given, {why}; leave it out")


def check_every(options: list[str] | None, every: int, files: list[Path]) -> None:
    """Check the number of the frames that are taken, which photographs have not.

    Raises:
        ArgumentError: it is below 1, or given where there is no video.
    """
    if every < 1:
        raise ArgumentError(f"-o: every is {every}, must be >= 1; 1 takes every frame")
    if not any(map(is_video, files)):
        refuse_option(options, "every", "must be for videos, of which the input has none")


def inputs(path: Path, *, target: Path | None = None) -> list[Path]:
    """Return the image and video files of a path: itself, or what a folder holds.

    Args:
        path: A file or a folder.
        target: Where the output goes. A folder inside `path` is left out, so that a second run
            does not take the output of the first for input.

    Raises:
        ArgumentError: nothing is there, the suffix is unknown, or `target` is the input itself.
    """
    if not path.exists():
        raise ArgumentError(f"input: {path} does not exist; check the name")
    if target is not None and target.exists() and path.samefile(target):
        raise ArgumentError(f"target: {target} is the input, must be another; choose a new name")
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    if path.is_dir():
        out = None if target is None else target.resolve()
        if out is not None and not out.is_relative_to(path.resolve()):
            out = None
        files = sorted(
            p
            for p in path.rglob("*")
            if p.suffix.lower() in known
            and not p.name.startswith(".foveal-")
            and p.is_file()
            and (out is None or not p.resolve().is_relative_to(out))
        )
        if not files:
            raise ArgumentError(f"input: folder {path} holds no image and no video")
        return files
    if path.suffix.lower() not in known:
        raise ArgumentError(
            f"input: {path} ends in {path.suffix!r}, must end in one of {sorted(known)}"
        )
    return [path]


def is_video(path: Path) -> bool:
    """Tell a video from an image by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def emit(value: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    """Print `value` as JSON, or `lines`."""
    typer.echo(json.dumps(value, indent=1) if as_json else "\n".join(lines))


def failure(file: Path, error: Exception) -> tuple[str, str]:
    """Return what went wrong with one file of a folder: the message, and the line to print."""
    message = " ".join(str(error).split())
    return message, f"{file}: failed: {message}"


def end_with(failed: int, total: int) -> None:
    """End with exit code 2 and a line that counts, if files failed.

    Raises:
        typer.Exit: some failed.
    """
    if failed:
        typer.echo(
            f"foveal: {failed} of {total} files failed, the others are done; see above", err=True
        )
        raise typer.Exit(2)


def reporter(name: str) -> Callable[[int, int | None], None]:
    """Return a callback that redraws one line of progress on a terminal, and is silent else."""
    if is_quiet():
        return lambda done, total: None

    def show(done: int, total: int | None) -> None:
        end = "\n" if total is not None and done >= total else ""
        typer.echo(
            f"\r{name}: {done}" + (f" of {total}" if total else "") + end, nl=False, err=True
        )

    return show
