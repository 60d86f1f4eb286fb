"""Any tree of free joints at rest, and a motion of it: what retargeting writes.

Positions are in the rig's own unit and axes. A motion is stored as rotations in the world relative
to rest, so that it does not depend on how the joints' own axes lie at rest.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.rotations import Array

ROTATIONS = ("Zrotation", "Xrotation", "Yrotation")
POSITIONS = ("Xposition", "Yposition", "Zposition")
FORMATS = (".bvh", ".glb", ".npz")


@dataclass(frozen=True, eq=False)
class Rig:
    """A tree of joints.

    Attributes:
        names: Names, parents before children; joint 0 is the root.
        parents: Parent of each joint, -1 for the root.
        positions: Where the joints are at rest (joints, 3), in `unit`.
        channels: BVH channels of each joint, in the order of the file.
        ends: Joints with an end site, and where that is at rest (3,).
        unit: Metres in one of its units, for example 0.01.
        axes: Rotations of the joints' own axes at rest in the world (joints, 4), which .glb needs;
            by default none.
        pose: Rotations in the world relative to rest (joints, 4) of the pose that stands as a
            figure does, if rest does not.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    positions: Array
    channels: tuple[tuple[str, ...], ...]
    ends: tuple[tuple[int, Array], ...] = ()
    unit: float = 0.01
    axes: Array | None = None
    pose: Array | None = None

    @property
    def num_joints(self) -> int:
        """Number of joints, the root included."""
        return len(self.names)

    @property
    def offsets(self) -> Array:
        """Positions relative to the parent at rest (joints, 3); the root's own position."""
        parents = np.array(self.parents)
        out = self.positions.copy()
        out[1:] -= self.positions[parents[1:]]
        return out

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Children of each joint."""
        out: list[list[int]] = [[] for _ in self.names]
        for i, parent in enumerate(self.parents):
            if parent >= 0:
                out[parent].append(i)
        return tuple(tuple(row) for row in out)

    def ends_of(self, joint: int) -> list[Array]:
        """End sites of a joint at rest, each (3,)."""
        return [place for i, place in self.ends if i == joint]

    def below(self, joint: int) -> list[int]:
        """The joint and all that hang on it."""
        out = [joint]
        for i in out:
            out += self.children[i]
        return out

    def place(self, roots: Array, turns: Array) -> Array:
        """Positions (frames, joints, 3) from those of the root and rotations relative to rest."""
        out = np.empty((*turns.shape[:2], 3))
        out[:, 0] = roots
        offsets = self.offsets
        for i in range(1, self.num_joints):
            p = self.parents[i]
            out[:, i] = out[:, p] + rot.rotate(turns[:, p], offsets[i])
        return out

    def posed(self) -> tuple[Array, Array, list[Array]]:
        """Positions (joints, 3), turns (joints, 4) and end sites of the pose of reference."""
        turns = np.tile([1.0, 0.0, 0.0, 0.0], (self.num_joints, 1))
        turns = turns if self.pose is None else self.pose
        where = self.place(self.positions[None, 0], turns[None])[0]
        tips = [where[i] + rot.rotate(turns[i], at - self.positions[i]) for i, at in self.ends]
        return where, turns, tips


@dataclass(frozen=True, eq=False)
class RigMotion:
    """Frames of a rig.

    Attributes:
        rig: What moves.
        fps: Frames a second.
        roots: Positions of the root joint (frames, 3), in the rig's unit.
        turns: Rotations of the joints in the world relative to rest (frames, joints, 4), w first.
        title: What it is of.
        contacts: Planted feet (frames, 2), left and right.
    """

    rig: Rig
    fps: float
    roots: Array
    turns: Array
    title: str = ""
    contacts: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), bool))

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ArgumentError: arrays do not fit the rig or each other.
        """
        count = len(self.roots)
        contacts = self.contacts if len(self.contacts) else np.zeros((count, 2), bool)
        object.__setattr__(self, "contacts", contacts)
        wanted = {
            "roots": (count, 3),
            "turns": (count, self.rig.num_joints, 4),
            "contacts": (count, 2),
        }
        for name, shape in wanted.items():
            if np.shape(getattr(self, name)) != shape or not count:
                raise ArgumentError(
                    f"RigMotion: {name} has shape {np.shape(getattr(self, name))}, must be {shape} "
                    "with at least one frame; check the frame counts"
                )

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.roots)

    @cached_property
    def positions(self) -> Array:
        """Positions of the joints (frames, joints, 3), in the rig's unit."""
        return self.rig.place(self.roots, self.turns)

    def local(self, *, own_axes: bool = False) -> Array:
        """Rotations relative to the parent (frames, joints, 4).

        Args:
            own_axes: In the joints' own axes, as .glb has them; else as .bvh, zero at rest.
        """
        world = self.turns
        if own_axes and self.rig.axes is not None:
            world = rot.multiply(world, self.rig.axes)
        out = np.array(world)
        parents = np.array(self.rig.parents[1:], int)
        out[:, 1:] = rot.multiply(rot.conjugate(world[:, parents]), world[:, 1:])
        return out

    def save(self, path: str | Path) -> Path:
        """Write the motion; the suffix chooses the format.

        Args:
            path: Ends in .bvh (the rig's own channels, unit and axes), .glb (metres, y up, a bone
                of the skin for each joint) or .npz (names, parents, rest, positions, rotations).

        Raises:
            ArgumentError: another suffix, or the folder cannot be written.
        """
        from foveal._core.files import atomic_write

        path = Path(path)
        if path.suffix.lower() not in FORMATS:
            raise ArgumentError(
                f"RigMotion.save: path is {str(path)!r}, must end in one of {FORMATS}; rename it"
            )
        with atomic_write(path) as temporary:
            if path.suffix.lower() == ".bvh":
                from foveal.motion.retarget.bvh_write import rig_to_bvh

                temporary.write_text(rig_to_bvh(self), encoding="utf-8", newline="\n")
            elif path.suffix.lower() == ".glb":
                from foveal.motion.retarget.glb import rig_to_glb

                temporary.write_bytes(rig_to_glb(self))
            else:
                with temporary.open("wb") as file:
                    np.savez_compressed(
                        file, names=np.array(self.rig.names), parents=np.array(self.rig.parents),
                        rest=self.rig.positions, positions=self.positions, rotations=self.local(),
                        roots=self.roots, contacts=self.contacts, fps=np.array(float(self.fps)),
                        unit=np.array(self.rig.unit), title=np.array(self.title),
                    )  # fmt: skip
        return path

    def rest_at(self, frame: int) -> Rig:
        """Return the rig with a frame as its pose of reference, for files whose rest is no stand.

        Raises:
            ArgumentError: there is no such frame.
        """
        if not 0 <= frame < self.num_frames:
            raise ArgumentError(
                f"rest_at: frame is {frame}, must be in [0, {self.num_frames - 1}]; pick one"
            )
        return replace(self.rig, pose=np.array(self.turns[frame]))
