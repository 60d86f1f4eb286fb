"""`foveal export`: the curve for other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from foveal._core.files import check_folder
from foveal.cli.common import (
    Json,
    Options,
    emit,
    inputs,
    is_video,
    parse_options,
    path_argument,
    path_option,
    refuse_option,
)
from foveal.cli.enhance import check_look, check_strength
from foveal.errors import ArgumentError

_SUFFIXES = (".onnx", ".cube", ".py")


@dataclass(frozen=True)
class ExportOptions:
    """Options of `foveal export`."""

    strength: float = 1.0
    weights: str = "sacc-efficientnet-lite0"
    look: str = "machine"


def export(
    target: Annotated[Path, path_argument("NAME.onnx, NAME.py (NumPy) or NAME.cube.")],
    of: Annotated[
        Path | None, path_option("--of", "Image or video whose curve a .cube holds.")
    ] = None,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Write the curve network as ONNX or NumPy, or the curve of one image or clip as a .cube table.

    Options of -o: weights=NAME or FILE; strength=1 and look=machine|human, not for .py.
    """
    options = parse_options(ExportOptions, option)
    check_strength(options.strength)
    check_look(options.look)
    suffix = target.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ArgumentError(
            f"target: {target} ends in {target.suffix!r}, must end in one of {list(_SUFFIXES)}; "
            "choose another name"
        )
    if (of is None) == (suffix == ".cube"):
        raise ArgumentError(
            f"--of: is {of} for {target}, must name an image or a video for a .cube, which holds "
            "one curve, and be left out for others, which predict it"
        )
    if suffix == ".py":
        for name in ("strength", "look"):
            refuse_option(option, name, "must be given where the file is used")
    check_folder(target.parent)
    from foveal import lowlight

    model = lowlight.ConcaveCurve.load(options.weights)
    look: dict[str, Any] = {"strength": options.strength, "look": options.look}
    written = [target]
    if of is not None:
        if of.is_dir():
            raise ArgumentError(f"--of: {of} is a folder, must be one image or video; name one")
        (file,) = inputs(of)
        curve_of = lowlight.video_curve if is_video(file) else lowlight.image_curve
        lowlight.export_cube(curve_of(file, model, **look), target, title=file.name)
    elif suffix == ".onnx":
        lowlight.export_onnx(model, target, **look)
    else:
        lowlight.export_numpy(model, target)
        written.append(target.with_suffix(".npz"))
    rows = [{"output": str(p), "bytes": p.stat().st_size} for p in written]
    emit({"files": rows}, as_json, [f"{r['output']}: {r['bytes']} bytes" for r in rows])
