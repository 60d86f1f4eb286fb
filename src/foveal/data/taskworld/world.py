"""What a scene is made of: frozen descriptions in plain numbers, and the dice that draw them.

World axes: x right, y ahead, z up, meters; the ground is z = 0.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from foveal.errors import ArgumentError

VERSION = "taskworld-1"
"""The frozen world. Any change of what a seed shows is another version."""
SPLITS = ("train", "val", "test", "shift")
"""Disjoint by construction; "shift" holds the layouts that no other split has."""
SCENES = (
    "bedroom", "office", "kitchen", "corridor", "warehouse", "street", "plaza", "underpass",
)  # fmt: skip
"""What `Labels.scene_class` counts."""
CLASSES = (
    "ground", "wall", "ceiling", "sky", "opening", "furniture", "storage", "post", "plant",
    "vehicle", "person", "item",
)  # fmt: skip
"""What `Labels.segmentation` counts. Openings are windows and doors, posts pillars and lamps."""
MAX_COUNT = 16
"""Most countable objects of a scene."""
MAX_SOLIDS = 48
"""Most solids of a scene."""
BOX, CYLINDER, CAPSULE = 0, 1, 2
"""Kinds of solids. A capsule of half length 0 is a ball."""

_T = TypeVar("_T")


class Solid(NamedTuple):
    """A box turned about the vertical, or a cylinder or capsule about an axis.

    Args:
        kind: `BOX`, `CYLINDER` or `CAPSULE`.
        center: m.
        yaw: Turn about z, rad. A lying round solid points along (cos yaw, sin yaw).
        lying: Whether the axis of a round solid is level and not upright.
        half: Half the sides of a box; radius, radius and half the length of a round solid (of a
            capsule: between the centers of its ends), m.
        label: Of `CLASSES`.
        thing: Number of the countable object that it is part of; -1 is none.
        material: Number among the materials of the scene.
        casts: Whether it casts a shadow.
    """

    kind: int
    center: tuple[float, float, float]
    yaw: float
    lying: bool
    half: tuple[float, float, float]
    label: int
    thing: int
    material: int
    casts: bool


class Material(NamedTuple):
    """A procedural texture on the surface coordinates (u, v) of a solid, in meters.

    Rows of cells with gaps between them, and fractal noise over all. Colors are linear albedo.

    Args:
        first, second: The two colors that cells and noise mix.
        gap: Color of the gaps.
        cell: Width and height of a cell, m.
        shift: How far odd rows are shifted, in cells; negative: every row by its own hash.
        joint: Width of the gaps, m.
        tone: How much cells differ in brightness.
        parity: How much cells alternate between the colors.
        glyph: How much of a cell is covered by marks like letters.
        window: Whether cells are windows in a wall: they are labeled "opening".
        noise: Waves of the coarsest noise along u and v, 1/m.
        blend: How much the noise mixes the colors.
        sharp: How hard it does; 1 is soft.
        grain: How much the noise changes the brightness.
        glow: Light that it sends out, times its color.
        seed: Of the hashes, in [0, 65536).
    """

    first: tuple[float, float, float]
    second: tuple[float, float, float]
    gap: tuple[float, float, float]
    cell: tuple[float, float]
    shift: float
    joint: float
    tone: float
    parity: float
    glyph: float
    window: bool
    noise: tuple[float, float]
    blend: float
    sharp: float
    grain: float
    glow: float
    seed: int


class Camera(NamedTuple):
    """A pinhole camera of a square picture; yaw 0 looks along y, pitch > 0 down; rad."""

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float
    fov: float


class Light(NamedTuple):
    """One lamp at a place (m) or a sun in a direction, what comes from everywhere, and fog.

    Args:
        place: Of the lamp, or direction to the sun.
        sun: Which of both.
        color, ambient: Linear light.
        fog: Share lost a meter.
        key: Mean brightness that the exposure aims at.
    """

    place: tuple[float, float, float]
    sun: bool
    color: tuple[float, float, float]
    ambient: tuple[float, float, float]
    fog: float
    key: float


@dataclass(frozen=True)
class Scene:
    """A still scene; `sample` draws one, and one made by hand is drawn as well.

    Args:
        version: Of the world, `VERSION`.
        split: Of `SPLITS`.
        seed: That it was drawn with.
        scene_class: Of `SCENES`.
        layout: Which of its class, from 0 on; the last one is only in "shift".
        camera: Where it is seen from.
        light: What lights it.
        solids: What is in it.
        materials: What it is painted with.
        sky: Which of the materials rays see that meet nothing.
    """

    version: str
    split: str
    seed: int
    scene_class: int
    layout: int
    camera: Camera
    light: Light
    solids: tuple[Solid, ...]
    materials: tuple[Material, ...]
    sky: int

    def __post_init__(self) -> None:
        """Check what would be drawn wrongly and in silence."""
        if not self.solids:
            raise ArgumentError("Scene: solids is empty, must hold one at least; add a ground")
        count = len(self.materials)
        if not 0 <= self.sky < count:
            raise ArgumentError(f"Scene: sky is {self.sky}, must be one of {count} materials")
        for name, part in (("camera", self.camera), ("light", self.light)):
            if not _finite(part):
                raise ArgumentError(f"Scene: {name} has NaN or infinity, must be finite")
        if not 0 < self.camera.fov < math.pi:
            raise ArgumentError(f"Scene: camera.fov is {self.camera.fov}, must be in (0, pi)")
        for i, solid in enumerate(self.solids):
            if not _finite((*solid.center, solid.yaw, *solid.half)):
                raise ArgumentError(f"Scene: solids[{i}] has NaN or infinity, must be finite")
            if min(solid.half[:2]) <= 0 or solid.half[2] < (solid.kind != CAPSULE) * 1e-9:
                raise ArgumentError(
                    f"Scene: solids[{i}].half is {solid.half}, must be > 0 (0 is allowed for the "
                    "length of a capsule: a ball)"
                )
            for name, value, low, end in (
                ("kind", solid.kind, 0, 3), ("label", solid.label, 0, len(CLASSES)),
                ("thing", solid.thing, -1, MAX_COUNT), ("material", solid.material, 0, count),
            ):  # fmt: skip
                if not low <= value < end:
                    raise ArgumentError(
                        f"Scene: solids[{i}].{name} is {value}, must be from {low} to {end - 1}"
                    )
        for i, material in enumerate(self.materials):
            if not _finite(material):
                raise ArgumentError(f"Scene: materials[{i}] has NaN or infinity, must be finite")
            if min(material.cell) <= 0:
                raise ArgumentError(
                    f"Scene: materials[{i}].cell is {material.cell}, must be > 0; "
                    "(1, 1) without a joint shows no cells"
                )


def _finite(x: object) -> bool:
    if isinstance(x, tuple):
        return all(map(_finite, x))
    return not isinstance(x, float) or math.isfinite(x)


class Dice:
    """Random numbers from the raw bits of Philox, whose stream NumPy keeps for good."""

    def __init__(self, *key: str | int) -> None:
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        words = [int.from_bytes(digest[i : i + 8], "little") for i in (0, 8)]
        self._bits = np.random.Philox(key=np.array(words, np.uint64))
        self._raw: list[int] = []

    def unit(self) -> float:
        """Draw from [0, 1)."""
        if not self._raw:
            self._raw = self._bits.random_raw(256).tolist()[::-1]
        return (self._raw.pop() >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """Draw evenly from [low, high)."""
        return low + (high - low) * self.unit()

    def scale(self, low: float, high: float) -> float:
        """Draw from [low, high), small values as often as large ones in the square root."""
        return self.between(math.sqrt(low), math.sqrt(high)) ** 2

    def count(self, low: int, high: int) -> int:
        """Draw a whole number from low to high, both included."""
        return low + int((high - low + 1) * self.unit())

    def chance(self, share: float) -> bool:
        """Say yes that often."""
        return self.unit() < share

    def pick(self, items: Sequence[_T]) -> _T:
        """Draw one of the items."""
        return items[int(len(items) * self.unit())]

    def order(self, count: int) -> list[int]:
        """Shuffle 0 to count - 1."""
        rest = list(range(count))
        return [rest.pop(int(len(rest) * self.unit())) for _ in range(count)]

    def sign(self) -> int:
        """Draw -1 or 1."""
        return 1 if self.chance(0.5) else -1
