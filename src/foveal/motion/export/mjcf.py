"""MJCF of a clip's figure with its keyframes, and the trajectory beside it as NumPy arrays."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from foveal._core.files import atomic_write
from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.body.mjcf import to_mjcf
from foveal.motion.clip import Clip
from foveal.motion.export.npz import clip_from_arrays, load_arrays, to_arrays
from foveal.motion.rotations import Array

SUFFIXES = (".mjcf", ".xml")
MAX_BYTES = 64 * 1024 * 1024
_FIGURE = (
    "format_version", "fps", "contacts", "keyframe_times", "title", "status", "actions",
    "skeleton",
)  # fmt: skip


def trajectory_path(path: str | Path) -> Path:
    """Where the trajectory of a document is: `walk.xml` has `walk.qpos.npz` beside it."""
    return Path(path).with_suffix(".qpos.npz")


def _joints(root: ET.Element) -> list[str]:
    """Names of the joints of a document in the order of qpos."""
    world = root.find("worldbody")
    tags = ("joint", "freejoint")
    return [e.get("name", "") for e in ([] if world is None else world.iter()) if e.tag in tags]


def positions_and_speeds(clip: Clip, hinges: list[str]) -> tuple[Array, Array]:
    """Return MuJoCo's qpos (frames, 7 + hinges) and qvel (frames, 6 + hinges).

    qpos is the pelvis, its rotation (w first) and the angles of `hinges`. qvel of a frame takes it
    to the next one, as `mj_differentiatePos` has it: velocity in the world, angular velocity in the
    pelvis, hinges; the last frame has that of the one before, and a single frame has none.
    """
    order = [clip.skeleton.hinge(name) for name in hinges]
    angles = clip.angles[:, order]
    qpos = np.concatenate([clip.root_positions, rot.normalize(clip.root_rotations), angles], axis=1)
    turns = rot.multiply(rot.conjugate(qpos[:-1, 3:7]), qpos[1:, 3:7])
    turns = np.where(turns[:, :1] < 0, -turns, turns)
    sine = np.linalg.norm(turns[:, 1:], axis=1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, turns[:, :1])
    turned = np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0) * turns[:, 1:]
    steps = [np.diff(qpos[:, :3], axis=0), turned, np.diff(angles, axis=0)]
    qvel = np.zeros((clip.num_frames, 6 + len(order)))
    qvel[:-1] = clip.fps * np.concatenate(steps, axis=1)
    if clip.num_frames > 1:
        qvel[-1] = qvel[-2]
    return qpos, qvel


def _numbers(values: Array) -> str:
    return " ".join(f"{float(v):.12g}" for v in values)


def to_files(clip: Clip) -> tuple[str, dict[str, Any]]:
    """Return the document and the arrays beside it.

    The document is `foveal.motion.body.to_mjcf`'s with a key for each keyframe of the clip, at the
    nearest frame, whose controls hold the pose. The arrays are `qpos`, `qvel`, `times` (s),
    `joints` (names in the order of qpos, the free one first) and what `Clip.load` needs.
    """
    root = ET.fromstring(to_mjcf(clip.skeleton))
    joints = _joints(root)
    qpos, qvel = positions_and_speeds(clip, joints[1:])
    keys = ET.SubElement(root, "keyframe")
    for number, time in enumerate(clip.keyframe_times):
        frame = int(np.clip(np.round(time * clip.fps), 0, clip.num_frames - 1))
        ET.SubElement(
            keys, "key", name=f"key_{number}", time=_numbers(np.array([time])),
            qpos=_numbers(qpos[frame]), ctrl=_numbers(clip.angles[frame]),
        )  # fmt: skip
    ET.indent(root)
    arrays = to_arrays(clip)
    return ET.tostring(root, encoding="unicode") + "\n", {
        **{name: arrays[name] for name in _FIGURE},
        "qpos": qpos,
        "qvel": qvel,
        "times": np.arange(clip.num_frames) / clip.fps,
        "joints": np.array(joints),
    }


def write_mjcf(clip: Clip, document: Path, trajectory: Path) -> None:
    """Write both files; `document` may be a temporary one."""
    text, arrays = to_files(clip)
    with atomic_write(trajectory) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    document.write_text(text, encoding="utf-8", newline="\n")


def read_mjcf_clip(path: str | Path) -> Clip:
    """Read a clip that `Clip.save` wrote as .xml or .mjcf with its trajectory beside it.

    The motion is that of `qpos`, which may have been changed, for one by a simulation.

    Raises:
        ArgumentError: a file is missing or not what `Clip.save` wrote, or the document's joints are
            not those of the trajectory.
    """
    path = Path(path)
    where = f"Clip.load: path is {str(path)!r}"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        joints = _joints(ET.fromstring(path.read_bytes()))
    except (OSError, ValueError, ET.ParseError, LookupError) as error:
        raise ArgumentError(
            f"{where}, must be MJCF that Clip.save wrote ({error}); check the path"
        ) from error
    beside = trajectory_path(path)
    if not beside.exists():
        raise ArgumentError(
            f"{where}, must have {beside.name!r} beside it; keep both files in one folder"
        )
    kind = "a trajectory that Clip.save wrote"
    name = f"Clip.load: {beside.name!r} beside {str(path)!r}"
    arrays = load_arrays(beside, name, kind)
    try:
        found = [str(joint) for joint in arrays["joints"]]
        if found != joints:
            raise ValueError(
                f"it has {len(found)} joints, the document has {len(joints)} or others"
            )
        clip = {key: arrays[key] for key in _FIGURE}
        qpos = np.asarray(arrays["qpos"], np.float64)
        if qpos.ndim != 2 or qpos.shape[1] != 6 + len(joints) or not np.isfinite(qpos).all():
            raise ValueError(f"qpos has shape {qpos.shape}, must be (frames, {6 + len(joints)})")
        clip |= {"root_positions": qpos[:, :3], "root_rotations": qpos[:, 3:7]}
        return clip_from_arrays(clip | {"angles": _by_hinge(clip, qpos[:, 7:], found[1:])})
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(f"{name}, must be {kind} ({error}); save the clip again") from error


def _by_hinge(clip: dict[str, np.ndarray], angles: Array, names: list[str]) -> Array:
    """Columns of qpos in the order of the figure's own hinges."""
    wanted = [str(hinge["name"]) for hinge in json.loads(str(clip["skeleton"]))["hinges"]]
    if sorted(wanted) != sorted(names):
        raise ValueError("the joints are not the hinges of the figure")
    return angles[:, [names.index(name) for name in wanted]]
