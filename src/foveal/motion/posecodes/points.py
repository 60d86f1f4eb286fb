"""Names of points, parts and surfaces, and where they are on a body, by the names of its bodies."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES, Skeleton

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Anchor:
    """A point of a body: from its joint or its middle, offset at 1.7 m height."""

    body: str
    at: Literal["joint", "solid"] = "solid"
    offset: Vector = (0.0, 0.0, 0.0)


_CENTRAL = {
    "head": Anchor("head"),
    "crown": Anchor("head", offset=(0.0, 0.0, 0.1175)),
    "mouth": Anchor("head", offset=(0.085, 0.0, -0.05)),
    "chin": Anchor("head", offset=(0.06, 0.0, -0.1)),
    "neck": Anchor("neck", "joint"),
    "chest": Anchor("chest"),
    "waist": Anchor("spine", "joint"),
    "pelvis": Anchor("pelvis", "joint"),
}
_SIDED = {  # offsets of the left side; {} is the side
    "hand": Anchor("{}_hand"),
    "wrist": Anchor("{}_hand", "joint"),
    "fingertips": Anchor("{}_fingers", "joint", (0.0, 0.0, -0.0975)),
    "elbow": Anchor("{}_forearm", "joint"),
    "shoulder": Anchor("{}_upper_arm", "joint"),
    "upper arm": Anchor("{}_upper_arm"),
    "forearm": Anchor("{}_forearm"),
    "hip": Anchor("{}_thigh", "joint"),
    "thigh": Anchor("{}_thigh"),
    "knee": Anchor("{}_shin", "joint"),
    "shin": Anchor("{}_shin"),
    "ankle": Anchor("{}_foot", "joint"),
    "foot": Anchor("{}_foot"),
    "heel": Anchor("{}_foot", "joint", (-0.055, 0.0, -0.055)),
    "toes": Anchor("{}_toes"),
    "ear": Anchor("head", offset=(-0.015, 0.085, -0.005)),
}


def _both(table: Mapping[str, Anchor]) -> dict[str, Anchor]:
    out: dict[str, Anchor] = {}
    for side in SIDES:
        for name, anchor in table.items():
            x, y, z = anchor.offset
            offset = (x, y if side == "left" else -y, z)
            out[f"{side} {name}"] = Anchor(anchor.body.format(side), anchor.at, offset)
    return out


POINTS: dict[str, Anchor] = _CENTRAL | _both(_SIDED)
"""Points by name; the middle of any other body is a point too, by its name with spaces."""


def _lines(side: str) -> dict[str, tuple[str, str] | tuple[str, Vector]]:
    return {
        f"{side} upper arm": (f"{side} shoulder", f"{side} elbow"),
        f"{side} forearm": (f"{side} elbow", f"{side} wrist"),
        f"{side} arm": (f"{side} shoulder", f"{side} wrist"),
        f"{side} hand": (f"{side} wrist", f"{side} fingertips"),
        f"{side} thigh": (f"{side} hip", f"{side} knee"),
        f"{side} shin": (f"{side} knee", f"{side} ankle"),
        f"{side} leg": (f"{side} hip", f"{side} ankle"),
        f"{side} foot": (f"{side} foot", (1.0, 0.0, 0.0)),
    }


# the vertical of upright parts, as an axis of a body or a line from joint to joint
_LINES: dict[str, tuple[str, str] | tuple[str, Vector]] = {
    "trunk": ("pelvis", "neck"),
    "chest": ("chest", (0.0, 0.0, 1.0)),
    "pelvis": ("pelvis", (0.0, 0.0, 1.0)),
    "head": ("head", (0.0, 0.0, 1.0)),
    **_lines("left"),
    **_lines("right"),
}
_NORMALS: dict[str, tuple[str, Vector]] = {
    "chest": ("chest", (1.0, 0.0, 0.0)),
    "pelvis": ("pelvis", (1.0, 0.0, 0.0)),
    "face": ("head", (1.0, 0.0, 0.0)),
    # with hanging arms the palms face the thighs
    "left palm": ("left hand", (0.0, -1.0, 0.0)),
    "right palm": ("right hand", (0.0, 1.0, 0.0)),
    "left sole": ("left foot", (0.0, 0.0, -1.0)),
    "right sole": ("right foot", (0.0, 0.0, -1.0)),
}
UPRIGHT = ("trunk", "chest", "pelvis", "head")
"""Parts that lean and turn; their vertical is up, that of limbs is up or down."""
LINES = tuple(_LINES)
"""Parts that point somewhere."""
NORMALS = tuple(_NORMALS)
"""Parts that face somewhere."""


@lru_cache(maxsize=16)
def point_names(skeleton: Skeleton) -> tuple[str, ...]:
    """Names of all points that a skeleton has."""
    own = [name for name, anchor in POINTS.items() if anchor.body in skeleton.names]
    more = [name.replace("_", " ") for name in skeleton.names]
    return tuple(dict.fromkeys([*own, *more]))


def part_names(skeleton: Skeleton, verb: Literal["facing", "pointing"]) -> tuple[str, ...]:
    """Names of the parts of a skeleton that face or point somewhere."""
    has = point_names(skeleton)
    table = _NORMALS if verb == "facing" else _LINES
    return tuple(
        name
        for name, (start, end) in table.items()
        if start in has and (not isinstance(end, str) or end in has)
    )


def find_point(skeleton: Skeleton, name: str) -> tuple[int, Array]:
    """Return the body of a point and its place in the body's frame, m.

    Raises:
        ArgumentError: the skeleton has no such point; lists what it has.
    """
    anchor = POINTS.get(name, Anchor(name.replace(" ", "_")))
    if anchor.body not in skeleton.names:
        raise ArgumentError(
            f"find_point: name is {name!r}, must be one of {', '.join(point_names(skeleton))}; "
            f"the body {anchor.body!r} is not in this skeleton"
        )
    body = skeleton.names.index(anchor.body)
    local = np.array(anchor.offset) * skeleton.height / 1.7
    if anchor.at == "solid":
        local = local + middle(skeleton, body)
    return body, local


def middle(skeleton: Skeleton, body: int) -> Array:
    """Return the middle (3,) of a body in its frame: of its box, or else its centre of mass."""
    boxes = [s for s in skeleton.shapes if s.body == body and s.kind == "box"]
    return boxes[0].center if boxes else skeleton.centers[body]


def find_axis(
    name: str, verb: Literal["facing", "pointing"]
) -> tuple[str, str] | tuple[str, Vector]:
    """Return a part's axis: two points, or a point and an axis in the frame of its body.

    Raises:
        ArgumentError: no such part for that verb.
    """
    table = _NORMALS if verb == "facing" else _LINES
    if name not in table:
        raise ArgumentError(
            f"find_axis: name is {name!r}, must be one of {', '.join(table)} for {verb!r}; "
            "name another part"
        )
    return table[name]


@dataclass(frozen=True)
class Surface:
    """A level surface of the scene.

    Args:
        height: Height of its top, m.
        low, high: Corners (x, y) of its rectangle, m, or None where it has no end.
        bottom: Height of the underside, m; -inf for what stands on nothing.
    """

    height: float
    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None
    bottom: float = -np.inf


Scene = Mapping[str, Surface]
FLOOR = Surface(0.0)
SURFACES = ("floor", "seat", "bed", "shelf", "table", "box", "support")
"""Names that the parser knows without a scene, with "step N" and "stone N"; "support" is the
height of the lower sole in each frame."""


def read_scene(values: Mapping[str, object]) -> dict[str, Surface]:
    """Read surfaces from plain data.

    Args:
        values: Name to {"height": h}, or to {"box": [[x, y, z], [x, y, z]]} with the lower and
            the upper corner, m.

    Raises:
        ArgumentError: a surface is neither, or a number is not finite, or corners are swapped.
    """
    out: dict[str, Surface] = {"floor": FLOOR}
    for name, value in values.items():
        if isinstance(value, Surface):
            out[name] = value
            continue
        given = dict(value) if isinstance(value, Mapping) else {}
        try:
            if set(given) == {"height"}:
                numbers = np.array([float(given["height"])])
                made = Surface(float(numbers[0]))
            elif set(given) == {"box"}:
                numbers = np.array(given["box"], np.float64)
                (x0, y0, z0), (x1, y1, z1) = numbers.tolist()
                made = Surface(z1, (x0, y0), (x1, y1), z0)
                if not (x0 < x1 and y0 < y1 and z0 < z1):
                    raise ValueError("corners")
            else:
                raise ValueError("keys")
            if not np.isfinite(numbers).all():
                raise ValueError("numbers")
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                f"read_scene: {name!r} is {value!r}, must be {{'height': h}} or "
                "{'box': [[x, y, z], [x, y, z]]} with the lower corner first; give metres"
            ) from error
        out[name] = made
    return out
