"""Read any MJCF humanoid of hinges into a `Skeleton`; MuJoCo does the parsing."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from foveal._core.lazy import require
from foveal.errors import ArgumentError, UnsupportedError
from foveal.motion import rotations as rot
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES, Hinge, Shape, Side, Skeleton, Vector, centers_of

_SHARE = 1e-3  # of the mass of a body that each of its further joints takes
_LEVEL = 0.02  # of the height: what is this near to the lowest of a foot touches the floor
_SPRING = 4.0  # stiffness of a servo in place of a motor, in its torque a radian
_TORQUE = 1.0  # N m a kilogram of the figure, for a hinge without an actuator


def _vector(values: Array) -> Vector:
    x, y, z = (float(v) for v in values)
    return x, y, z


@dataclass
class _Tree:
    """Bodies as they are collected, in the world at rest."""

    names: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    origins: list[Array] = field(default_factory=list)
    masses: list[float] = field(default_factory=list)
    hinges: list[Hinge] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    soles: list[tuple[int, Vector, float]] = field(default_factory=list)

    def add(self, name: str, parent: int, origin: Array, mass: float) -> int:
        self.names.append(name)
        self.parents.append(parent)
        self.origins.append(np.array(origin))
        self.masses.append(mass)
        return len(self.names) - 1


def read_mjcf(
    source: str | Path, *, names: Mapping[str, str] | None = None, strength: float = 1.0
) -> Skeleton:
    """Read the figure of an MJCF document.

    It stands as the document has it at rest, facing +x, and is put on the floor. Body frames become
    parallel to the world's, with the origin in the joint; a body with hinges at several places
    becomes several bodies, "foot_1" before "foot". Solids are capsules, balls and boxes, cylinders
    and ellipsoids as the capsules nearest to them; meshes are left out. A body keeps its mass, and
    its centre of mass is that of its solids. Motors become servos.

    Args:
        source: The document, or the path of a file. It may hold other bodies without a free joint.
        names: Names of its bodies to ours, where they differ. "left_foot" and "right_foot" must be
            there afterwards, "left_thigh" and "right_thigh" for inverse kinematics, and others for
            what speaks of them, such as "chest", "head" and "left_hand".
        strength: Factor of all torques.

    Raises:
        ArgumentError: the document is no MJCF, has no figure or several, no feet, `names` has a
            body that is not there, or `strength` is not positive.
        UnsupportedError: a ball or slide joint.
        MissingExtraError: MuJoCo is not installed.
    """
    mujoco: Any = require("mujoco", "motion", "reading MJCF")
    if not 0.0 < strength < np.inf:
        raise ArgumentError(f"read_mjcf: strength is {strength}, must be > 0; 1 leaves torques")
    try:
        if isinstance(source, str) and source.lstrip().startswith("<"):
            model = mujoco.MjModel.from_xml_string(source)
        else:
            model = mujoco.MjModel.from_xml_path(str(source))
    except ValueError as error:
        shown = str(source) if len(str(source)) < 80 else f"{str(source)[:77]}..."
        raise ArgumentError(
            f"read_mjcf: source is {shown!r}, must be MJCF that MuJoCo reads "
            f"({' '.join(str(error).split())}); mend it"
        ) from error
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    root = _find_root(mujoco, model)
    tree = _collect(mujoco, model, data, root, dict(names or {}))
    for side in SIDES:
        if f"{side}_foot" not in tree.names:
            raise ArgumentError(
                f"read_mjcf: source has the bodies {', '.join(tree.names)}, must have "
                f"'{side}_foot'; pass names={{'its foot': '{side}_foot'}}"
            )
    return _finish(mujoco, model, tree, strength)


def _find_root(mujoco: Any, model: Any) -> int:
    free = int(mujoco.mjtJoint.mjJNT_FREE)
    found = [int(b) for b, k in zip(model.jnt_bodyid, model.jnt_type, strict=True) if k == free]
    found = found or sorted({int(model.body_rootid[b]) for b in model.jnt_bodyid})
    if len(found) != 1 or found[0] == 0:
        raise ArgumentError(
            f"read_mjcf: source has {len(found)} figures, must have one; give it one free joint"
        )
    return found[0]


def _collect(mujoco: Any, model: Any, data: Any, root: int, names: Mapping[str, str]) -> _Tree:
    tree = _Tree()
    where: dict[int, int] = {}
    own = [b for b in range(1, model.nbody) if int(model.body_rootid[b]) == root]
    known = {model.body(b).name for b in own}
    if unknown := [name for name in names if name not in known]:
        raise ArgumentError(
            f"read_mjcf: names has {unknown[0]!r}, must be among {', '.join(sorted(known))}; "
            "names are of the document's bodies to ours"
        )
    kinds = mujoco.mjtJoint
    for b in own:
        name = names.get(model.body(b).name, model.body(b).name) or f"body_{b}"
        parent = where.get(int(model.body_parentid[b]), -1)
        mass, at = float(model.body_mass[b]), np.array(data.xpos[b])
        groups: list[tuple[Array, list[int]]] = []
        for j in range(int(model.body_jntadr[b]), int(model.body_jntadr[b] + model.body_jntnum[b])):
            if model.jnt_type[j] == kinds.mjJNT_FREE:
                continue
            if model.jnt_type[j] != kinds.mjJNT_HINGE:
                raise UnsupportedError(
                    f"read_mjcf: joint {model.joint(j).name!r} is no hinge, must be one; write a "
                    "ball joint as three hinges"
                )
            anchor = np.array(data.xanchor[j])
            if groups and np.allclose(groups[-1][0], anchor, atol=1e-9):
                groups[-1][1].append(j)
            else:
                groups.append((anchor, [j]))
        groups = groups or [(at, [])]
        for number, (anchor, joints) in enumerate(groups, 1):
            last = number == len(groups)
            share = 1.0 - _SHARE * (len(groups) - 1) if last else _SHARE
            parent = tree.add(name if last else f"{name}_{number}", parent, anchor, share * mass)
            for j in joints:
                tree.hinges.append(_hinge(model, data, j, parent))
        where[b] = parent
    for g in range(model.ngeom):
        if int(model.geom_bodyid[g]) in where:
            _add_geom(mujoco, model, data, g, where[int(model.geom_bodyid[g])], tree)
    return tree


def _hinge(model: Any, data: Any, j: int, body: int) -> Hinge:
    low, high = (-np.pi, np.pi) if not model.jnt_limited[j] else model.jnt_range[j]
    zero = float(model.qpos0[model.jnt_qposadr[j]])
    name = model.joint(j).name or f"hinge_{j}"
    axis = _vector(np.array(data.xaxis[j]))
    return Hinge(name, body, axis, float(low) - zero, float(high) - zero, 0.0, 0.0)


def _add_geom(mujoco: Any, model: Any, data: Any, g: int, body: int, tree: _Tree) -> None:
    kinds = mujoco.mjtGeom
    kind, size = model.geom_type[g], [float(v) for v in model.geom_size[g]]
    matrix = np.array(data.geom_xmat[g]).reshape(3, 3)
    at = np.array(data.geom_xpos[g]) - tree.origins[body]
    half, radius, column = 0.0, size[0], 2
    if kind == kinds.mjGEOM_BOX:
        w, x, y, z = (float(v) for v in rot.from_matrix(matrix))
        sides = _vector(np.array(size))
        tree.shapes.append(Shape(body, "box", _vector(at), sides, turn=(w, x, y, z)))
        return
    if kind == kinds.mjGEOM_CAPSULE:
        half = size[1]
    elif kind == kinds.mjGEOM_CYLINDER:
        half = max(size[1] - size[0], 0.0)
    elif kind == kinds.mjGEOM_ELLIPSOID:
        column = int(np.argmax(size))
        radius = 0.5 * (sum(size) - size[column])
        half = size[column] - radius
    elif kind != kinds.mjGEOM_SPHERE:
        return
    if "_sole_" in model.geom(g).name:
        tree.soles.append((body, _vector(at), radius))
        return
    along = half * matrix[:, column]
    ends = _vector(at - along), _vector(at + along)
    tree.shapes.append(Shape(body, "capsule", *ends, radius))


def _actuation(mujoco: Any, model: Any, name: str, fallback: float) -> tuple[float, float]:
    """Stiffness (N m/rad) and largest torque (N m) of a hinge."""
    for a in range(model.nu):
        joint = int(model.actuator_trnid[a, 0])
        if model.actuator_trntype[a] != mujoco.mjtTrn.mjTRN_JOINT or joint < 0:
            continue
        if (model.joint(joint).name or f"hinge_{joint}") != name:
            continue
        gear, gain = abs(float(model.actuator_gear[a, 0])), abs(float(model.actuator_gainprm[a, 0]))
        limited = bool(model.actuator_forcelimited[a])
        most = gear * float(np.abs(model.actuator_forcerange[a]).max()) if limited else np.inf
        if float(model.actuator_biasprm[a, 1]) != 0.0:  # a servo
            stiffness = gear * gear * gain
            return stiffness, min(most, stiffness)
        ctrl = np.abs(model.actuator_ctrlrange[a]).max() if model.actuator_ctrllimited[a] else 1.0
        torque = min(most, gear * gain * float(ctrl))
        return _SPRING * torque, torque
    return _SPRING * fallback, fallback


def _finish(mujoco: Any, model: Any, tree: _Tree, strength: float) -> Skeleton:
    tops = [float((tree.origins[s.body] + s.corners)[:, 2].max()) + s.radius for s in tree.shapes]
    lows = [float((tree.origins[s.body] + s.corners)[:, 2].min()) - s.radius for s in tree.shapes]
    soles, radius = _soles(tree, _LEVEL * (max(tops, default=0.0) - min(lows, default=0.0)))
    floor = min(tree.origins[b][2] + z - radius for side in SIDES for b, (_, _, z) in soles[side])
    height = max(tops, default=floor) - floor
    offsets = np.array([
        at - tree.origins[parent] if parent >= 0 else (0.0, 0.0, at[2] - floor)
        for at, parent in zip(tree.origins, tree.parents, strict=True)
    ])  # fmt: skip
    mass = float(sum(tree.masses))
    hinges: list[Hinge] = []
    for hinge in tree.hinges:
        stiffness, torque = _actuation(mujoco, model, hinge.name, _TORQUE * mass)
        hinges.append(
            Hinge(
                hinge.name, hinge.body, hinge.axis, hinge.lower, hinge.upper,
                strength * stiffness, strength * torque,
            )
        )  # fmt: skip
    return Skeleton(
        names=tuple(tree.names),
        parents=tuple(tree.parents),
        offsets=offsets,
        hinges=tuple(hinges),
        shapes=tuple(sorted(tree.shapes, key=lambda shape: shape.body)),
        masses=np.array(tree.masses),
        centers=centers_of(tree.shapes, len(tree.names)),
        soles=soles,
        sole_radius=radius,
        height=height,
        mass=mass,
    )


def _rounded(shape: Shape) -> Shape:
    """Return a box as one whose corners are balls, a quarter as wide as its thinnest side."""
    if shape.kind == "capsule":
        return shape
    radius = 0.5 * min(shape.end)
    x, y, z = shape.end
    return replace(shape, end=(x - radius, y - radius, z - radius), radius=radius)


def _soles(tree: _Tree, level: float) -> tuple[dict[Side, tuple[tuple[int, Vector], ...]], float]:
    """Contact balls: those that the document names, or what is lowest of each foot."""
    found: dict[Side, list[tuple[int, Vector, float]]] = {}
    for side in SIDES:
        feet = [i for i, n in enumerate(tree.names) if n in (f"{side}_foot", f"{side}_toes")]
        balls = [sole for sole in tree.soles if sole[0] in feet]
        if not balls:
            balls = [
                (shape.body, _vector(corner), shape.radius)
                for shape in map(_rounded, tree.shapes)
                if shape.body in feet
                for corner in shape.corners
            ]
            depths = [tree.origins[b][2] + at[2] - r for b, at, r in balls]
            balls = [ball for ball, z in zip(balls, depths, strict=True) if z < min(depths) + level]
        if not balls:
            raise ArgumentError(
                f"read_mjcf: the body '{side}_foot' has no capsule, ball or box, must have one to "
                "stand on; add one"
            )
        found[side] = balls
    radius = min(r for balls in found.values() for _, _, r in balls)
    out: dict[Side, tuple[tuple[int, Vector], ...]] = {
        side: tuple((b, (x, y, z - r + radius)) for b, (x, y, z), r in balls)
        for side, balls in found.items()
    }
    return out, radius
