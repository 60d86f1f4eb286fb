"""The figure as a tree of bodies: hinges, limits, masses, shapes and forward kinematics.

One table (`foveal.motion.anatomy`) drives everything: the physics model (`foveal.motion.body`), the
NumPy kinematics here, the exporters and the player. World axes: x forward, y the figure's left, z
up; metres, kilograms, radians. In the zero pose all body frames are parallel to the world's and
the figure stands; our own has its arms hanging. Left and right hinges have mirrored axes, so equal
values on both sides make a symmetric pose.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import anatomy
from foveal.motion import rotations as rot
from foveal.motion.anatomy import HAND_SHAPES, HandShape
from foveal.motion.rotations import Array

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Hinge:
    """One rotational degree of freedom; `axis` is in the body frame, limits in rad."""

    name: str
    body: int
    axis: tuple[float, float, float]
    lower: float
    upper: float
    stiffness: float
    torque_limit: float


@dataclass(frozen=True)
class Shape:
    """A capsule (`start`, `end`, `radius`) or a box (`start` = centre, `end` = half extents).

    A capsule with equal ends is a ball. `turn` is the rotation of a box in its body, w first.
    """

    body: int
    kind: Literal["capsule", "box"]
    start: Vector
    end: Vector
    radius: float = 0.0
    turn: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)

    @property
    def center(self) -> Array:
        """Centre in the body frame, m."""
        start, end = np.array(self.start), np.array(self.end)
        return start if self.kind == "box" else 0.5 * (start + end)

    @property
    def corners(self) -> Array:
        """Points (n, 3) in the body frame; the solid is the hull of balls of `radius` on them."""
        if self.kind == "capsule":
            return np.array([self.start, self.end])
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
        return np.array(self.start) + rot.rotate(self.turn, signs * np.array(self.end))

    @property
    def volume(self) -> float:
        """Volume, m^3."""
        if self.kind == "box":
            return 8.0 * math.prod(self.end)
        length = math.dist(self.start, self.end)
        return math.pi * self.radius**2 * (length + 4.0 / 3.0 * self.radius)


def centers_of(shapes: Sequence[Shape], count: int) -> Array:
    """Centres of mass (bodies, 3) of evenly dense solids; the origin of a body without any."""
    out, volumes = np.zeros((count, 3)), np.zeros(count)
    for shape in shapes:
        out[shape.body] += shape.volume * shape.center
        volumes[shape.body] += shape.volume
    return out / np.maximum(volumes, 1e-12)[:, None]


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A tree of bodies with hinges; body 0 is the free root.

    Attributes:
        names: Body names, parents before children.
        parents: Parent index of each body, -1 for the root.
        offsets: Rest offset from the parent (bodies, 3), m; that of the root is its rest position.
        hinges: Degrees of freedom in the order of every `angles` array.
        shapes: Solids; those of a body share its mass by their volumes.
        masses: Body masses (bodies,), kg.
        centers: Centres of mass in the body frames (bodies, 3), m.
        soles: For each side, the contact points ((body, local position), ...), of our figure four
            on the foot and two on the toes; `sole_radius` is the radius of their spheres.
        height, mass: What the figure was scaled to, m and kg.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Array
    hinges: tuple[Hinge, ...]
    shapes: tuple[Shape, ...]
    masses: Array
    centers: Array
    soles: dict[Side, tuple[tuple[int, tuple[float, float, float]], ...]]
    sole_radius: float
    height: float
    mass: float

    @classmethod
    def from_mjcf(
        cls, source: str | Path, *, names: Mapping[str, str] | None = None, strength: float = 1.0
    ) -> "Skeleton":
        """Read a figure from an MJCF document or file; see `foveal.motion.body.read_mjcf`.

        Args:
            source: The document, or the path of a file.
            names: Names of its bodies to ours, where they differ.
            strength: Factor of all torques.

        Raises:
            ArgumentError: no MJCF, not one figure, no feet, or an unknown name.
            UnsupportedError: a ball or slide joint.
            MissingExtraError: MuJoCo is not installed.
        """
        from foveal.motion.body import read_mjcf

        return read_mjcf(source, names=names, strength=strength)

    @property
    def num_bodies(self) -> int:
        """Number of bodies, the root included."""
        return len(self.names)

    @property
    def rest_positions(self) -> Array:
        """Where the bodies of the zero pose are (bodies, 3), m."""
        out = self.offsets.copy()
        for i in range(1, self.num_bodies):
            out[i] += out[self.parents[i]]
        return out

    @property
    def hinge_names(self) -> tuple[str, ...]:
        """Hinge names in the order of `angles`."""
        return tuple(hinge.name for hinge in self.hinges)

    @property
    def limits(self) -> Array:
        """Lower and upper limits (hinges, 2), rad."""
        return np.array([[hinge.lower, hinge.upper] for hinge in self.hinges])

    def body(self, name: str) -> int:
        """Return the index of a body."""
        return self.names.index(name)

    def hinge(self, name: str) -> int:
        """Return the index of a hinge.

        Raises:
            ArgumentError: there is no such hinge.
        """
        if name not in self.hinge_names:
            raise ArgumentError(
                f"Skeleton.hinge: name is {name!r}, must be one of {', '.join(self.hinge_names)}; "
                "mind left_ and right_"
            )
        return self.hinge_names.index(name)

    def local_rotations(self, root_rotations: Array, angles: Array) -> Array:
        """Turn hinge angles into rotations relative to the parent.

        Args:
            root_rotations: (frames, 4), w first.
            angles: (frames, hinges), rad.

        Returns: (frames, bodies, 4), w first; body 0 is the root in the world.
        """
        out = np.zeros((len(angles), self.num_bodies, 4))
        out[..., 0] = 1.0
        out[:, 0] = root_rotations
        for i, hinge in enumerate(self.hinges):
            turn = rot.from_axis_angle(hinge.axis, angles[:, i])
            out[:, hinge.body] = rot.multiply(out[:, hinge.body], turn)
        return out

    def forward(self, root_positions: Array, rotations: Array) -> tuple[Array, Array]:
        """Forward kinematics.

        Args:
            root_positions: (frames, 3), m.
            rotations: Rotations relative to the parent (frames, bodies, 4), w first.

        Returns: World positions (frames, bodies, 3) and rotations (frames, bodies, 4).
        """
        positions = np.empty((len(rotations), self.num_bodies, 3))
        world = np.empty_like(rotations)
        positions[:, 0], world[:, 0] = root_positions, rotations[:, 0]
        for i in range(1, self.num_bodies):
            p = self.parents[i]
            positions[:, i] = positions[:, p] + rot.rotate(world[:, p], self.offsets[i])
            world[:, i] = rot.multiply(world[:, p], rotations[:, i])
        return positions, world

    def center_of_mass(self, positions: Array, world: Array) -> Array:
        """Centre of mass (frames, 3) of world poses (frames, bodies, 3 and 4)."""
        where = positions + rot.rotate(world, self.centers)
        return np.einsum("fbi,b->fi", where, self.masses) / self.masses.sum()

    def sole_points(self, positions: Array, world: Array, side: Side) -> Array:
        """Lowest points of the contact spheres of a foot (frames, points, 3), toes last."""
        points = [
            positions[:, body] + rot.rotate(world[:, body], np.array(local))
            for body, local in self.soles[side]
        ]
        return np.stack(points, axis=1) - np.array([0.0, 0.0, self.sole_radius])


def _flipped(vector: Vector) -> Vector:
    return vector[0], -vector[1], vector[2]


def _rows() -> list[tuple[Side | None, anatomy.Row]]:
    """Bodies depth first, as MuJoCo numbers them: both arms hang on the chest, then the legs."""
    out: list[tuple[Side | None, anatomy.Row]] = [(None, row) for row in anatomy.TRUNK]
    for limb in (anatomy.ARM, anatomy.LEG):
        own = {row.name for row in limb}
        for side in SIDES:
            for name, parent, offset, share in limb:
                at = offset if side == "left" else _flipped(offset)
                above = f"{side}_{parent}" if parent in own else parent
                out.append((side, anatomy.Row(f"{side}_{name}", above, at, share)))
    return out


def _hinges(body: int, side: Side | None, part: str, strength: float) -> list[Hinge]:
    out: list[Hinge] = []
    for name, axis, lower, upper, stiffness, torque in anatomy.HINGES.get(part, ()):
        vector = np.zeros(3)
        vector["xyz".index(axis[1])] = 1.0 if axis[0] == "+" else -1.0
        if side == "right" and axis[1] != "y":
            vector = -vector
        full = name if side is None else f"{side}_{name}"
        ends = math.radians(lower), math.radians(upper)
        turn = float(vector[0]), float(vector[1]), float(vector[2])
        out.append(Hinge(full, body, turn, *ends, stiffness * strength, torque * strength))
    return out


def _shapes(body: int, side: Side | None, part: str, k: float, hand: HandShape) -> list[Shape]:
    def scaled(vector: Vector) -> Vector:
        x, y, z = _flipped(vector) if side == "right" else vector
        return k * x, k * y, k * z

    out: list[Shape] = []
    if part in anatomy.BOXES:
        center, (x, y, z) = anatomy.BOXES[part]
        out.append(Shape(body, "box", scaled(center), (k * x, k * y, k * z)))
    capsules = anatomy.CAPSULES | anatomy.hand_capsules(hand)
    for start, end, radius in capsules.get(part, ()):
        out.append(Shape(body, "capsule", scaled(start), scaled(end), k * radius))
    return out


@lru_cache(maxsize=8)
def humanoid(
    *, height: float = 1.7, mass: float = 70.0, hand_shape: HandShape = "open"
) -> Skeleton:
    """Build the figure: 23 bodies, 42 hinges, human proportions, mass shares and joint limits.

    Args:
        height: Standing height, m, in [0.5, 2.5].
        mass: Total mass, kg, in [10, 250].
        hand_shape: How both hands are held, once and for all: "open", "fist", "point" or "grip".

    Raises:
        ArgumentError: a size is outside its range, or the shape of the hand is unknown.

    Source: layout after the character of Zhang et al., FreeMotion, arXiv:2406.10740 (20 bodies).
    Differs: our own numbers (see `foveal.motion.anatomy`), three hinges in place of each ball
    joint, two at the ankles and clavicles, hands with fingers.
    """
    for name, value, low, high in (("height", height, 0.5, 2.5), ("mass", mass, 10.0, 250.0)):
        if not low <= value <= high:
            raise ArgumentError(
                f"humanoid: {name} is {value}, must be in [{low}, {high}]; use SI units"
            )
    if hand_shape not in HAND_SHAPES:
        raise ArgumentError(
            f"humanoid: hand_shape is {hand_shape!r}, must be one of {HAND_SHAPES}; pick one"
        )
    k = height / anatomy.STATURE
    rows = _rows()
    names = [row.name for _, row in rows]
    hinges: list[Hinge] = []
    shapes: list[Shape] = []
    for i, (side, row) in enumerate(rows):
        part = row.name if side is None else row.name.removeprefix(f"{side}_")
        hinges += _hinges(i, side, part, mass / anatomy.STRENGTH_MASS * k)
        shapes += _shapes(i, side, part, k, hand_shape)
    shares = np.array([row.share for _, row in rows])
    soles: dict[Side, tuple[tuple[int, Vector], ...]] = {
        side: tuple(
            (names.index(f"{side}_{body}"), (k * x, k * y, k * z))
            for body, at in anatomy.SOLES
            for x, y, z in (at if side == "left" else _flipped(at),)
        )
        for side in SIDES
    }
    return Skeleton(
        names=tuple(names),
        parents=tuple(names.index(row.parent) if row.parent else -1 for _, row in rows),
        offsets=k * np.array([row.offset for _, row in rows]),
        hinges=tuple(hinges),
        shapes=tuple(shapes),
        masses=mass * shares / shares.sum(),
        centers=centers_of(shapes, len(rows)),
        soles=soles,
        sole_radius=anatomy.SOLE_RADIUS * k,
        height=height,
        mass=mass,
    )
