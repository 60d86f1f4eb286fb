"""A clip as NumPy arrays with its whole figure, and back."""

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion.clip import Clip
from foveal.motion.skeleton import SIDES, Hinge, Shape, Side, Skeleton, Vector

VERSION = 2
_UNREADABLE = (
    OSError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_FRAMES = ("root_positions", "root_rotations", "angles", "contacts", "keyframe_times")


def skeleton_to_dict(skeleton: Skeleton) -> dict[str, Any]:
    """Describe a figure as plain data, ready for JSON."""
    return {
        "names": list(skeleton.names),
        "parents": list(skeleton.parents),
        "offsets": skeleton.offsets.tolist(),
        "hinges": [dataclasses.asdict(hinge) for hinge in skeleton.hinges],
        "shapes": [dataclasses.asdict(shape) for shape in skeleton.shapes],
        "masses": skeleton.masses.tolist(),
        "centers": skeleton.centers.tolist(),
        "soles": {side: [list(point) for point in skeleton.soles[side]] for side in SIDES},
        "sole_radius": skeleton.sole_radius,
        "height": skeleton.height,
        "mass": skeleton.mass,
    }


def _vector(values: Any) -> Vector:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _numbers(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    out = np.array(values, np.float64)
    if out.shape != shape or not np.isfinite(out).all():
        raise ValueError(f"{name} has shape {out.shape}, must be {shape} and finite")
    return out


def skeleton_from_dict(data: dict[str, Any]) -> Skeleton:
    """Build a figure from `skeleton_to_dict`'s data.

    Raises:
        KeyError, TypeError, ValueError: the data is not what `skeleton_to_dict` makes.
    """
    names = tuple(str(name) for name in data["names"])
    count = len(names)
    parents = tuple(int(parent) for parent in data["parents"])
    if len(set(names)) != count or len(parents) != count or not count:
        raise ValueError("names and parents differ in number, or a name is there twice")
    if parents[0] != -1 or any(not 0 <= p < i for i, p in enumerate(parents) if i):
        raise ValueError("parents must come before their children")

    def body(value: Any) -> int:
        if not 0 <= int(value) < count:
            raise ValueError(f"body {value} is not one of {count}")
        return int(value)

    hinges: list[Hinge] = []
    for row in data["hinges"]:
        numbers = [float(row[k]) for k in ("lower", "upper", "stiffness", "torque_limit")]
        hinges.append(Hinge(str(row["name"]), body(row["body"]), _vector(row["axis"]), *numbers))
    shapes: list[Shape] = []
    for row in data["shapes"]:
        if row["kind"] not in ("capsule", "box"):
            raise ValueError(f"shape {row['kind']!r} is no capsule and no box")
        w, x, y, z = (float(v) for v in row["turn"])
        ends = _vector(row["start"]), _vector(row["end"])
        shapes.append(
            Shape(body(row["body"]), row["kind"], *ends, float(row["radius"]), (w, x, y, z))
        )
    soles: dict[Side, tuple[tuple[int, Vector], ...]] = {
        side: tuple((body(i), _vector(at)) for i, at in data["soles"][side]) for side in SIDES
    }
    return Skeleton(
        names=names,
        parents=parents,
        offsets=_numbers(data["offsets"], (count, 3), "offsets"),
        hinges=tuple(hinges),
        shapes=tuple(shapes),
        masses=_numbers(data["masses"], (count,), "masses"),
        centers=_numbers(data["centers"], (count, 3), "centers"),
        soles=soles,
        sole_radius=float(data["sole_radius"]),
        height=float(data["height"]),
        mass=float(data["mass"]),
    )


def to_arrays(clip: Clip) -> dict[str, np.ndarray]:
    """Return a clip as arrays: the frames, what follows from them, and the figure as JSON text."""
    arrays = {name: getattr(clip, name) for name in (*_FRAMES, "rotations", "positions")}
    texts = {
        "title": clip.title,
        "status": clip.status,
        "actions": json.dumps([list(action) for action in clip.actions]),
        "skeleton": json.dumps(skeleton_to_dict(clip.skeleton), separators=(",", ":")),
    }
    return arrays | {
        "format_version": np.array(VERSION),
        "fps": np.array(float(clip.fps)),
        "names": np.array(clip.skeleton.names),
        "hinges": np.array(clip.skeleton.hinge_names),
        **{name: np.array(text) for name, text in texts.items()},
    }


def load_arrays(path: Path, where: str, kind: str) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file.

    Args:
        path: The file.
        where: How errors begin.
        kind: What it must be, for errors.
    """
    try:
        # numpy leaves a broken file open that it opened itself
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        raise ArgumentError(f"{where}, must be {kind} ({error}); check the path") from error


def clip_from_arrays(arrays: dict[str, np.ndarray]) -> Clip:
    """Build a clip from `to_arrays`' data.

    Raises:
        KeyError, TypeError, ValueError: the data is not what `to_arrays` makes.
    """
    version = int(arrays["format_version"])
    if version != VERSION:
        raise ValueError(f"its format_version is {version}, not {VERSION}")
    actions: list[tuple[str, Side]] = []
    for name, side in json.loads(str(arrays["actions"])):
        if side not in SIDES:
            raise ValueError(f"the side {side!r} is not one of {SIDES}")
        actions.append((str(name), side))
    return Clip(
        skeleton_from_dict(json.loads(str(arrays["skeleton"]))),
        float(arrays["fps"]),
        *(arrays[name] for name in _FRAMES),
        title=str(arrays["title"]),
        actions=tuple(actions),
        status=str(arrays["status"]),
    )


def read_npz(path: str | Path) -> Clip:
    """Read a clip that `Clip.save` wrote as .npz; it has its own figure, whatever ours is now.

    Raises:
        ArgumentError: no such file, not a clip, or one saved before files held their figure.
    """
    path = Path(path)
    where = f"Clip.load: path is {str(path)!r}"
    kind = "an .npz file that Clip.save wrote"
    arrays = load_arrays(path, where, kind)
    if "skeleton" not in arrays and {"names", "hinges", "angles"} <= set(arrays):
        raise ArgumentError(
            f"{where} of {len(arrays['names'])} bodies, must hold its skeleton; it was saved "
            "before files did, so make the clip again from its instruction"
        )
    try:
        return clip_from_arrays(arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(f"{where}, must be {kind} ({error}); save the clip again") from error
