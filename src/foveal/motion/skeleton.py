"""The humanoid: bodies, hinges, limits, masses, shapes and forward kinematics.

One table drives everything: the physics model (`foveal.motion.body`), the NumPy kinematics here,
the exporters and the player. World axes: x forward, y the figure's left, z up; metres, kilograms,
radians. In the zero pose the figure stands with its arms hanging. Left and right hinges have
mirrored axes, so equal values on both sides make a symmetric pose.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.rotations import Array

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")

_DEG = np.pi / 180.0
# name, parent, offset from the parent (m at 1.7 m height), mass share (%), de Leva-like
_TRUNK = [
    ("pelvis", "", (0.0, 0.0, 0.93), 11.2),
    ("spine", "pelvis", (0.0, 0.0, 0.10), 12.4),
    ("chest", "spine", (0.0, 0.0, 0.14), 20.0),
    ("neck", "chest", (0.0, 0.0, 0.25), 1.2),
    ("head", "neck", (0.0, 0.0, 0.09), 5.7),
]
_LIMBS = [
    ("upper_arm", "chest", (0.0, 0.18, 0.20), 2.7),
    ("forearm", "upper_arm", (0.0, 0.0, -0.29), 1.6),
    ("hand", "forearm", (0.0, 0.0, -0.25), 0.6),
    ("thigh", "pelvis", (0.0, 0.09, -0.03), 14.2),
    ("shin", "thigh", (0.0, 0.0, -0.41), 4.3),
    ("foot", "shin", (0.0, 0.0, -0.405), 1.15),
    ("toes", "foot", (0.13, 0.0, -0.06), 0.25),
]
# suffix, axis of the left side, lower and upper limit (deg), stiffness (N m/rad), torque (N m)
_SPINE = [("bend", "+y", -25, 50), ("lean", "-x", -30, 30), ("turn", "+z", -35, 35)]
_HINGES: dict[str, list[tuple[str, str, float, float, float, float]]] = {
    "spine": [(f"spine_{n}", a, lo, hi, 600, 250) for n, a, lo, hi in _SPINE],
    "chest": [(f"chest_{n}", a, lo, hi, 500, 200) for n, a, lo, hi in _SPINE],
    "neck": [
        ("neck_bend", "+y", -40, 40, 60, 30),
        ("neck_lean", "-x", -35, 35, 60, 30),
        ("neck_turn", "+z", -60, 60, 60, 30),
    ],
    "head": [("head_bend", "+y", -30, 30, 40, 20)],
    "upper_arm": [
        ("shoulder_flexion", "-y", -60, 180, 160, 90),
        ("shoulder_abduction", "+x", -45, 120, 160, 90),
        ("shoulder_rotation", "+z", -90, 90, 80, 50),
    ],
    "forearm": [("elbow_flexion", "-y", 0, 150, 100, 60)],
    "hand": [("wrist_flexion", "-y", -70, 70, 15, 10), ("wrist_deviation", "+x", -30, 30, 15, 10)],
    "thigh": [
        ("hip_flexion", "-y", -35, 130, 700, 300),
        ("hip_abduction", "+x", -35, 60, 700, 250),
        ("hip_rotation", "+z", -60, 60, 300, 120),
    ],
    "shin": [("knee_flexion", "+y", 0, 150, 700, 300)],
    "foot": [
        ("ankle_flexion", "-y", -55, 45, 450, 180),
        ("ankle_inversion", "+x", -35, 35, 300, 100),
    ],
    "toes": [("toes_extension", "-y", -30, 60, 20, 12)],
}


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
    """A capsule (`start`, `end`, `radius`) or a box (`start` = centre, `end` = half extents)."""

    body: int
    kind: Literal["capsule", "box"]
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float = 0.0

    @property
    def center(self) -> Array:
        """Centre in the body frame, m."""
        start, end = np.array(self.start), np.array(self.end)
        return start if self.kind == "box" else 0.5 * (start + end)


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A tree of bodies with hinges; body 0 is the free root.

    Attributes:
        names: Body names, parents before children.
        parents: Parent index of each body, -1 for the root.
        offsets: Rest offset from the parent (bodies, 3), m; that of the root is its rest position.
        hinges: Degrees of freedom in the order of every `angles` array.
        shapes: One solid a body; it carries the mass.
        masses: Body masses (bodies,), kg.
        soles: For each side, the contact points ((body, local position), ...), four on the foot
            and two on the toes; `sole_radius` is the radius of their spheres.
        height, mass: What the figure was scaled to, m and kg.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Array
    hinges: tuple[Hinge, ...]
    shapes: tuple[Shape, ...]
    masses: Array
    soles: dict[Side, tuple[tuple[int, tuple[float, float, float]], ...]]
    sole_radius: float
    height: float
    mass: float

    @property
    def num_bodies(self) -> int:
        """Number of bodies, the root included."""
        return len(self.names)

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
        centers = np.array([shape.center for shape in self.shapes])
        where = positions + rot.rotate(world, centers)
        return np.einsum("fbi,b->fi", where, self.masses) / self.masses.sum()

    def sole_points(self, positions: Array, world: Array, side: Side) -> Array:
        """Lowest points of the contact spheres of a foot (frames, 6, 3), toes last."""
        points = [
            positions[:, body] + rot.rotate(world[:, body], np.array(local))
            for body, local in self.soles[side]
        ]
        return np.stack(points, axis=1) - np.array([0.0, 0.0, self.sole_radius])


def _shapes(k: float, index: dict[str, int]) -> list[Shape]:
    def capsule(body: str, a: tuple[float, ...], b: tuple[float, ...], r: float) -> Shape:
        start, end = (tuple(k * c for c in p) for p in (a, b))
        return Shape(index[body], "capsule", start, end, k * r)  # type: ignore[arg-type]

    def box(body: str, center: tuple[float, ...], half: tuple[float, ...]) -> Shape:
        c, h = (tuple(k * v for v in p) for p in (center, half))
        return Shape(index[body], "box", c, h)  # type: ignore[arg-type]

    out = [
        capsule("pelvis", (0, -0.07, 0), (0, 0.07, 0), 0.09),
        capsule("spine", (0, -0.05, 0.04), (0, 0.05, 0.04), 0.095),
        capsule("chest", (0, -0.085, 0.10), (0, 0.085, 0.10), 0.115),
        capsule("neck", (0, 0, 0.0), (0, 0, 0.07), 0.05),
        capsule("head", (0.015, 0, 0.06), (0.015, 0, 0.09), 0.10),
    ]
    for side in SIDES:
        out += [
            capsule(f"{side}_upper_arm", (0, 0, -0.02), (0, 0, -0.26), 0.045),
            capsule(f"{side}_forearm", (0, 0, -0.03), (0, 0, -0.23), 0.037),
            box(f"{side}_hand", (0, 0, -0.085), (0.04, 0.018, 0.085)),
            capsule(f"{side}_thigh", (0, 0, -0.04), (0, 0, -0.37), 0.07),
            capsule(f"{side}_shin", (0, 0, -0.03), (0, 0, -0.37), 0.05),
            box(f"{side}_foot", (0.04, 0, -0.055), (0.095, 0.045, 0.029)),
            box(f"{side}_toes", (0.035, 0, -0.005), (0.035, 0.043, 0.018)),
        ]
    return sorted(out, key=lambda shape: shape.body)


@lru_cache(maxsize=8)
def humanoid(*, height: float = 1.7, mass: float = 70.0) -> Skeleton:
    """Build the figure: 19 bodies, 36 hinges, human proportions and mass shares.

    Args:
        height: Standing height, m, in [0.5, 3].
        mass: Total mass, kg, in [5, 300].

    Raises:
        ArgumentError: a size is outside its range.

    Source: layout after the character of Zhang et al., FreeMotion, arXiv:2406.10740 (20 bodies).
    Differs: our own numbers, no clavicles, three hinges in place of each ball joint.
    """
    for name, value, low, high in (("height", height, 0.5, 3.0), ("mass", mass, 5.0, 300.0)):
        if not low <= value <= high:
            raise ArgumentError(
                f"humanoid: {name} is {value}, must be in [{low}, {high}]; use SI units"
            )
    k = height / 1.7
    rows = list(_TRUNK)
    # Depth first, as MuJoCo numbers bodies and joints: both arms hang on the chest, then the legs.
    for side, limb in ((s, limb) for limb in (_LIMBS[:3], _LIMBS[3:]) for s in SIDES):
        sign = 1.0 if side == "left" else -1.0
        for name, parent, (x, y, z), share in limb:
            own = any(parent == row[0] for row in _LIMBS)
            rows.append(
                (f"{side}_{name}", f"{side}_{parent}" if own else parent, (x, sign * y, z), share)
            )
    index = {row[0]: i for i, row in enumerate(rows)}
    hinges = []
    for i, row in enumerate(rows):
        side, _, part = row[0].partition("_")
        prefix = f"{side}_" if part else ""
        mirrored = side == "right"
        for name, axis, lower, upper, stiffness, torque in _HINGES.get(part or side, []):
            vector = np.zeros(3)
            vector["xyz".index(axis[1])] = 1.0 if axis[0] == "+" else -1.0
            if mirrored and axis[1] != "y":
                vector = -vector
            hinges.append(
                Hinge(
                    prefix + name,
                    i,
                    (float(vector[0]), float(vector[1]), float(vector[2])),
                    lower * _DEG,
                    upper * _DEG,
                    stiffness * mass / 70.0 * k,
                    torque * mass / 70.0 * k,
                )
            )
    shares = np.array([row[3] for row in rows])
    soles: dict[Side, tuple[tuple[int, tuple[float, float, float]], ...]] = {}
    for side in SIDES:
        foot, toes = index[f"{side}_foot"], index[f"{side}_toes"]
        at = [(foot, (x, y, -0.065)) for x in (-0.045, 0.115) for y in (0.032, -0.032)]
        at += [(toes, (0.055, y, -0.005)) for y in (0.028, -0.028)]
        soles[side] = tuple((body, (k * x, k * y, k * z)) for body, (x, y, z) in at)
    return Skeleton(
        names=tuple(row[0] for row in rows),
        parents=tuple(index.get(row[1], -1) for row in rows),
        offsets=k * np.array([row[2] for row in rows]),
        hinges=tuple(hinges),
        shapes=tuple(_shapes(k, index)),
        masses=mass * shares / shares.sum(),
        soles=soles,
        sole_radius=0.02 * k,
        height=height,
        mass=mass,
    )
