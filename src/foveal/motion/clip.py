"""A motion clip: frames of joint rotations with contacts, keyframes and a receipt."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Side, Skeleton
from foveal.receipt import Receipt

FORMATS = (".bvh", ".glb", ".npz", ".xml", ".mjcf", ".mp4")


def _freeze(values: Any, dtype: Any = np.float64) -> np.ndarray:
    out = np.array(values, dtype)
    out.setflags(write=False)
    return out


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of a figure in motion. Arrays are read-only; z is up, metres, quaternions w first.

    Attributes:
        skeleton: The figure.
        fps: Frames a second.
        root_positions: Pelvis in the world (frames, 3), m.
        root_rotations: Pelvis in the world (frames, 4).
        angles: Hinge angles (frames, hinges), rad, in the order of `skeleton.hinges`.
        contacts: Planned foot contacts (frames, 2), left and right.
        keyframe_times: Times of the decided keyframes (keyframes,), s.
        title: What was asked for.
        actions: The (action, side) pairs that the motion is meant to show.
        status: "kinematic", "tracked" (it did not fall, no more), or "fell at t=... s".
        receipt: What was spent, or None.
        reference: The kinematic clip that a simulated one followed, or None.
    """

    skeleton: Skeleton
    fps: float
    root_positions: Array
    root_rotations: Array
    angles: Array
    contacts: np.ndarray
    keyframe_times: Array
    title: str = ""
    actions: tuple[tuple[str, Side], ...] = ()
    status: str = "kinematic"
    receipt: Receipt | None = None
    reference: "Clip | None" = None
    rotations: Array = field(init=False)
    positions: Array = field(init=False)
    world_rotations: Array = field(init=False)

    def __post_init__(self) -> None:
        """Freeze the arrays and run the forward kinematics once."""
        count = len(self.root_positions)
        wanted = {
            "root_positions": (count, 3),
            "root_rotations": (count, 4),
            "angles": (count, len(self.skeleton.hinges)),
            "contacts": (count, 2),
        }
        for name, shape in wanted.items():
            value = _freeze(getattr(self, name), bool if name == "contacts" else np.float64)
            if value.shape != shape or count == 0:
                raise ArgumentError(
                    f"Clip: {name} has shape {value.shape}, must be {shape} with at least one "
                    "frame; check the frame counts"
                )
            object.__setattr__(self, name, value)
        object.__setattr__(self, "keyframe_times", _freeze(self.keyframe_times))
        local = self.skeleton.local_rotations(self.root_rotations, self.angles)
        positions, world = self.skeleton.forward(self.root_positions, local)
        for name, value in (
            ("rotations", local),
            ("positions", positions),
            ("world_rotations", world),
        ):
            object.__setattr__(self, name, _freeze(value))

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.root_positions)

    @property
    def seconds(self) -> float:
        """Time from the first frame to the last, s."""
        return (self.num_frames - 1) / self.fps

    def save(self, path: str | Path) -> Path:
        """Write the clip; the suffix chooses the format.

        Args:
            path: Ends in .bvh (centimetres, y up, T-pose), .glb (metres, y up), .npz (arrays
                and the figure, which `load` reads), .xml or .mjcf (MJCF, with the trajectory
                beside it as .qpos.npz; `load` reads both) or .mp4 (a picture for each frame).

        Raises:
            ArgumentError: another suffix, or the folder cannot be written.
            MissingExtraError: .mp4 without PyAV.
            UnsupportedError: .mp4 with a PyAV that has no H.264 encoder.
        """
        from foveal._core.files import atomic_write

        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in FORMATS:
            raise ArgumentError(
                f"Clip.save: path is {str(path)!r}, must end in one of {FORMATS}; rename it"
            )
        with atomic_write(path) as temporary:
            if suffix == ".bvh":
                from foveal.motion.export.bvh import to_bvh

                temporary.write_text(to_bvh(self), encoding="ascii", newline="\n")
            elif suffix == ".glb":
                from foveal.motion.export.glb import to_glb

                temporary.write_bytes(to_glb(self))
            elif suffix == ".mp4":
                from foveal.motion.export.mp4 import write_mp4

                write_mp4(self, temporary)
            elif suffix in (".xml", ".mjcf"):
                from foveal.motion.export.mjcf import trajectory_path, write_mjcf

                write_mjcf(self, temporary, trajectory_path(path))
            else:
                from foveal.motion.export.npz import to_arrays

                arrays: dict[str, Any] = dict(to_arrays(self))
                with temporary.open("wb") as file:
                    np.savez_compressed(file, **arrays)
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Clip":
        """Read a clip that `save` wrote as .npz or MJCF, with the figure that it was made for.

        The receipt and the reference are not in the file.

        Raises:
            ArgumentError: no such file, not a clip, one saved before files held their figure, or
                MJCF without its trajectory.
        """
        from foveal.motion.export.npz import read_npz

        if Path(path).suffix.lower() in (".xml", ".mjcf"):
            from foveal.motion.export.mjcf import read_mjcf_clip

            return read_mjcf_clip(path)
        return read_npz(path)

    def to_player(self) -> dict[str, Any]:
        """Describe the clip as plain data for `foveal.web.player.player_html`.

        Returns: fps, title, status, keyframe times, contacts, the solids ("shapes": body, kind,
        centre, quaternion w first, half sizes; a capsule's axis is its local z) and, for each
        track ("motion", and "reference" if there is one), positions and rotations of every body
        in every frame as nested lists.
        """
        tracks = {"motion": _track(self)}
        if self.reference is not None:
            tracks["reference"] = _track(self.reference)
        return {
            "title": self.title,
            "status": self.status,
            "fps": self.fps,
            "keyframes": [round(float(t), 3) for t in self.keyframe_times],
            "contacts": self.contacts.astype(int).tolist(),
            "bodies": list(self.skeleton.names),
            "shapes": [_shape(shape) for shape in self.skeleton.shapes],
            "tracks": tracks,
        }


def _track(clip: Clip) -> dict[str, Any]:
    return {
        "positions": np.round(clip.positions, 3).tolist(),
        "rotations": np.round(clip.world_rotations, 4).tolist(),
    }


def capsule_frame(start: tuple[float, ...], end: tuple[float, ...]) -> tuple[Array, float]:
    """Return the rotation that takes z to the axis of a capsule, and its half length."""
    axis = np.array(end) - np.array(start)
    length = float(np.linalg.norm(axis))
    axis = axis / length if length > 0 else np.array([0.0, 0.0, 1.0])
    cross = np.cross([0.0, 0.0, 1.0], axis)
    q = np.array([1.0 + axis[2], *cross])
    if np.linalg.norm(q) < 1e-9:
        q = np.array([0.0, 1.0, 0.0, 0.0])
    return rot.normalize(q), 0.5 * length


def _shape(shape: Any) -> dict[str, Any]:
    center = [round(float(v), 4) for v in shape.center]
    if shape.kind == "box":
        turn = [round(float(v), 5) for v in shape.turn]
        size = [round(float(v), 4) for v in shape.end]
    else:
        q, half = capsule_frame(shape.start, shape.end)
        turn = [round(float(v), 5) for v in q]
        size = [round(float(shape.radius), 4), round(half, 4)]
    return {
        "body": shape.body, "kind": shape.kind, "center": center, "rotation": turn, "size": size,
    }  # fmt: skip
