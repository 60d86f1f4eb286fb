"""`foveal enhance`: brighten images, folders, videos or a camera for a recogniser."""

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from foveal._core.files import check_folder
from foveal._core.formats import IMAGE_SUFFIXES, WRITTEN_VIDEO_SUFFIXES, written_video_suffix
from foveal.cli.common import (
    Json,
    Options,
    emit,
    end_with,
    failure,
    inputs,
    is_video,
    parse_options,
    path_argument,
    refuse_option,
    reporter,
)
from foveal.errors import ArgumentError, FovealError

_LOOKS = ("machine", "human")
_CURVES = ("clip", "stream")
_GATES = ("off", "auto")
_SOURCE = "Images, videos, folders, 'quoted/*.patterns', or the number of a camera."
_TARGET = "Output file; a folder for a folder, a pattern or several sources."


@dataclass(frozen=True)
class SaccOptions:
    """Options of `-m sacc`."""

    strength: float = 1.0
    weights: str = "sacc-efficientnet-lite0"
    look: str = "machine"
    gate: str = "off"
    denoise: bool = False
    curve: str = "clip"
    half_life_s: float = 0.5
    preset: str = "superfast"
    seconds: float = 0.0


def enhance(
    source: Annotated[list[Path], path_argument(_SOURCE)],
    target: Annotated[Path, path_argument(_TARGET)],
    method: Annotated[str, typer.Option("-m", "--method", help="sacc")] = "sacc",
    option: Options = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write again what is there (else a folder resumes).")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview", help="Write one frame, before and after, to TARGET (an image): no more."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Brighten dark images, videos and cameras by SACC's concave curve.

    Options of -o: strength=1 (0..1), weights=NAME or FILE, look=machine|human; for images
    gate=auto (a well-lit one stays as it is; says when noise is the limit), denoise=true (before
    the curve, 2 s a megapixel); for videos
    curve=clip|stream, half_life_s=0.5, preset=superfast; for cameras seconds=0 (until Ctrl-C).
    """
    if method != "sacc":
        raise ArgumentError(f"-m: method is {method!r}, must be 'sacc'")
    options = parse_options(SaccOptions, option)
    _check_options(options)
    if preview and (dry_run or overwrite):
        raise ArgumentError(
            "--preview: is given with --dry-run or --overwrite, must be alone; leave them out"
        )
    if (camera := _camera(source)) is not None:
        _camera_only(option, overwrite, dry_run)
        _from_camera(camera, target, options, preview, as_json)
        return
    refuse_option(option, "seconds", "must be for a camera")
    sources, many = _expand(source)
    if preview:
        _preview(sources, target, option, options, as_json)
        return
    if overwrite and not many:
        raise ArgumentError(
            "--overwrite: is given with one file, must be with a folder; leave it out, one file is "
            "always written"
        )
    pairs = _pairs(sources, target, many)
    _refuse_idle(option, options, [file for file, _ in pairs])
    if dry_run:
        _plan(pairs, many and not overwrite, as_json)
        return
    from foveal.lowlight import ConcaveCurve

    model = ConcaveCurve.load(options.weights)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    failed = 0
    files = reporter("files")
    for index, (file, out) in enumerate(pairs, 1):
        row: dict[str, Any] = {"input": str(file), "output": str(out)}
        rows.append(row)
        if many and out.exists() and not overwrite:
            row["skipped"] = True
            lines.append(f"{out}: is there already, skipped (--overwrite writes it again)")
            continue
        try:
            more = enhance_file(file, out, model, options)
        except (FovealError, OSError) as error:
            if not many:
                raise
            failed += 1
            row["error"], line = failure(file, error)
            lines.append(line)
            continue
        row |= {**more, "receipt": more["receipt"].to_dict()}
        note = f" (dropped, as {out.suffix} cannot hold it: {', '.join(more['dropped'])})"
        why = f" ({more['verdict']})" if "verdict" in more else ""
        if more.get("denoised") is False and more.get("regime") != "well-lit":
            why += " (not denoised: its noise cannot be estimated)"
        lines.append(f"{out}: {more['receipt']}{why}{note if more['dropped'] else ''}")
        if many:
            files(index, len(pairs))
    emit({"files": rows, "failed": failed}, as_json, lines)
    end_with(failed, len(pairs))


def enhance_file(file: Path, out: Path, model: Any, options: SaccOptions) -> dict[str, Any]:
    """Enhance one file.

    Returns: "dropped" (what the target's format made us drop), "receipt", of gated images "regime"
    and "verdict", and of videos "frames" and "cuts".
    """
    from foveal import lowlight

    look: dict[str, Any] = {"strength": options.strength, "look": options.look}
    if not is_video(file):
        done = lowlight.enhance_file(
            file, out, model, gate=options.gate == "auto", denoise=options.denoise, **look
        )
        found: dict[str, Any] = {"dropped": list(done.dropped), "receipt": done.receipt}
        if options.denoise:
            found["denoised"] = done.denoised
        if done.verdict is not None:
            found["regime"], found["verdict"] = done.verdict.regime, str(done.verdict)
        return found
    video = lowlight.enhance_video(
        file,
        out,
        model,
        curve=options.curve,
        half_life_s=options.half_life_s,
        preset=options.preset,
        on_frame=reporter(file.name),
        **look,
    )
    return _of_video(video)


def _of_video(video: Any) -> dict[str, Any]:
    return {
        "dropped": list(video.dropped),
        "frames": video.num_frames,
        "cuts": list(video.cuts),
        "receipt": video.receipt,
    }


def check_strength(strength: float) -> None:
    """Refuse a wrong strength once, before the first file.

    Raises:
        ArgumentError: it is not in [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ArgumentError(f"-o: strength is {strength}, must be in [0, 1]; 1 is usual")


def check_look(look: str) -> None:
    """Refuse an unknown look.

    Raises:
        ArgumentError: there is no such look.
    """
    if look not in _LOOKS:
        raise ArgumentError(f"-o: look is {look!r}, must be one of {list(_LOOKS)}")


def _check_options(options: SaccOptions) -> None:
    check_strength(options.strength)
    check_look(options.look)
    if options.curve not in _CURVES:
        raise ArgumentError(f"-o: curve is {options.curve!r}, must be one of {list(_CURVES)}")
    if options.gate not in _GATES:
        raise ArgumentError(f"-o: gate is {options.gate!r}, must be one of {list(_GATES)}")
    if not 0 <= options.half_life_s < float("inf"):
        raise ArgumentError(f"-o: half_life_s is {options.half_life_s}, must be >= 0 and finite")
    if not 0 <= options.seconds < float("inf"):
        raise ArgumentError(f"-o: seconds is {options.seconds}, must be >= 0; 0 is until Ctrl-C")


def _refuse_idle(option: list[str] | None, options: SaccOptions, files: list[Path]) -> None:
    """Refuse options of videos where there is none, and of images where there is a video."""
    if any(map(is_video, files)):
        for name in ("gate", "denoise"):
            refuse_option(option, name, "must be for images; the input has a video")
    if not any(map(is_video, files)):
        for name in ("curve", "half_life_s", "preset"):
            refuse_option(option, name, "must be for videos, of which the input has none")
    elif options.curve == "clip":
        refuse_option(option, "half_life_s", "must be with curve=stream")


def _camera(sources: list[Path]) -> int | None:
    """Return the number of the camera, if that is meant: digits that are no file's name."""
    text = str(sources[0])
    if len(sources) == 1 and text.isascii() and text.isdigit() and not sources[0].exists():
        return int(text)
    return None


def _camera_only(option: list[str] | None, overwrite: bool, dry_run: bool) -> None:
    refuse_option(option, "curve", "must be for files; a camera has a smoothed curve")
    for name in ("gate", "denoise"):
        refuse_option(option, name, "must be for images")
    if overwrite or dry_run:
        raise ArgumentError(
            "--overwrite, --dry-run: are given with a camera, must be for files; leave them out"
        )


def _from_camera(
    index: int, target: Path, options: SaccOptions, preview: bool, as_json: bool
) -> None:
    from foveal import lowlight

    model = lowlight.ConcaveCurve.load(options.weights)
    look: dict[str, Any] = {"strength": options.strength, "look": options.look}
    if preview:
        receipt = lowlight.preview(index, target, model, **look)
        emit(
            {"preview": str(target), "receipt": receipt.to_dict()}, as_json, [f"{target}: written"]
        )
        return
    done = lowlight.enhance_camera(
        index,
        target,
        model,
        half_life_s=options.half_life_s,
        seconds=options.seconds or None,
        preset=options.preset,
        on_frame=reporter(f"camera {index}"),
        **look,
    )
    more = _of_video(done)
    row = {"input": index, "output": str(target), **more, "receipt": done.receipt.to_dict()}
    emit(
        {"files": [row], "failed": 0},
        as_json,
        [f"{target}: {done.num_frames} frames, {done.receipt}"],
    )


def _expand(sources: list[Path]) -> tuple[list[Path], bool]:
    """Return the sources with patterns filled in, and whether there may be several files."""
    found: list[Path] = []
    many = len(sources) > 1
    for path in sources:
        if path.exists() or not glob.has_magic(str(path)):
            found.append(path)
            many = many or path.is_dir()
            continue
        many = True
        matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207 (a pattern may be absolute)
        if not matches:
            raise ArgumentError(f"input: {path} matches nothing; check the pattern")
        found += matches
    return found, many


def _pairs(sources: list[Path], target: Path, many: bool) -> list[tuple[Path, Path]]:
    """Return input and output of every file, after a look at what would go wrong."""
    found = [(source, file) for source in sources for file in inputs(source, target=target)]
    if not many:
        source = sources[0]
        if target.is_dir():
            raise ArgumentError(
                f"target: {target} is a folder, must be a file for a file input; add a name"
            )
        known = WRITTEN_VIDEO_SUFFIXES if is_video(source) else sorted(IMAGE_SUFFIXES)
        if target.suffix.lower() not in known:
            raise ArgumentError(
                f"target: {target} ends in {target.suffix!r}, must end in one of {list(known)} for "
                f"{source}; choose another name"
            )
        check_folder(target.parent)
        return [(source, target)]
    check_folder(target)
    pairs: dict[Path, Path] = {}
    for source, file in found:
        out = target / (file.relative_to(source) if source.is_dir() else file.name)
        out = out.with_suffix(written_video_suffix(file.suffix)) if is_video(file) else out
        if pairs.get(out, file) != file:
            raise ArgumentError(
                f"input: {pairs[out]} and {file} would both become {out}; rename one of them"
            )
        if out.exists() and out.samefile(file):
            raise ArgumentError(f"target: {out} is the input, must be another; choose a new folder")
        pairs[out] = file
    return [(file, out) for out, file in pairs.items()]


def _plan(pairs: list[tuple[Path, Path]], resumes: bool, as_json: bool) -> None:
    """Say what would be done; a file that cannot be read is named as it would be."""
    from foveal._core.photo import read_photo
    from foveal._core.video import probe_video

    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    failed = 0
    for file, out in pairs:
        row: dict[str, Any] = {"input": str(file), "output": str(out)}
        rows.append(row)
        if resumes and out.exists():
            row["skipped"] = True
            lines.append(f"{out}: is there already, would be skipped")
            continue
        try:
            if is_video(file):
                info = probe_video(file)
                row |= {"width": info.width, "height": info.height, "frames": info.num_frames}
                what = f"video, {info.width} x {info.height}, {info.num_frames or '?'} frames"
            else:
                photo = read_photo(file)
                height, width = photo.samples.shape[1:]
                row |= {"width": width, "height": height, "bit_depth": photo.bit_depth}
                what = f"image, {width} x {height}, {photo.bit_depth} bit"
        except (FovealError, OSError) as error:
            failed += 1
            row["error"], line = failure(file, error)
            lines.append(line)
            continue
        lines.append(f"{out}: would be made from {file} ({what})")
    emit({"files": rows, "failed": failed, "dry_run": True}, as_json, lines)
    end_with(failed, len(pairs))


def _preview(
    sources: list[Path],
    target: Path,
    option: list[str] | None,
    options: SaccOptions,
    as_json: bool,
) -> None:
    files = [file for source in sources for file in inputs(source, target=target)]
    for name in ("curve", "half_life_s", "preset"):
        refuse_option(option, name, "must be for the whole video, not for a preview")
    for name in ("gate", "denoise"):
        refuse_option(option, name, "must be for files that are written, not for a preview")
    if target.suffix.lower() not in IMAGE_SUFFIXES:
        raise ArgumentError(
            f"target: {target} ends in {target.suffix!r}, must end in one of "
            f"{sorted(IMAGE_SUFFIXES)} for a preview; choose another name"
        )
    check_folder(target.parent)
    from foveal import lowlight

    model = lowlight.ConcaveCurve.load(options.weights)
    receipt = lowlight.preview(
        files[0], target, model, strength=options.strength, look=options.look
    )
    emit(
        {"preview": str(target), "input": str(files[0]), "receipt": receipt.to_dict()},
        as_json,
        [f"{target}: {files[0]} before and after; {len(files)} in all"],
    )
