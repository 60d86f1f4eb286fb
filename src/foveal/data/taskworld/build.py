"""A half-built scene: solids are put into it in the axes of the thing that they belong to."""

import math
from dataclasses import dataclass, field

from foveal.data.taskworld.world import (
    BOX,
    CAPSULE,
    CLASSES,
    CYLINDER,
    MAX_COUNT,
    MAX_SOLIDS,
    Dice,
    Material,
    Solid,
)  # fmt: skip

Place = tuple[float, float, float]
"""Where a thing stands, and how it is turned: x, y, yaw."""
HERE: Place = (0.0, 0.0, 0.0)


@dataclass
class Build:
    """Solids and materials so far; what would be too many is left out as a whole thing.

    `movers` are the things that a clip may move: number, speed along the heading (m/s), heading.
    """

    dice: Dice
    solids: list[Solid] = field(default_factory=list[Solid])
    materials: list[Material] = field(default_factory=list[Material])
    things: int = 0
    movers: list[tuple[int, float, float]] = field(default_factory=list[tuple[int, float, float]])
    taken: list[tuple[float, float, float]] = field(
        default_factory=list[tuple[float, float, float]]
    )
    mirrored: bool = False

    def paint(self, material: Material) -> int:
        """Add a material; return its number."""
        self.materials.append(material)
        return len(self.materials) - 1

    def begin(self, solids: int, at: Place, room: float = 0.0) -> int:
        """Start a thing of that many solids and that radius (m); -1 says that it has no place."""
        if len(self.solids) + solids > MAX_SOLIDS or self.things >= MAX_COUNT:
            return -1
        if room > 0:
            for x, y, r in self.taken:
                if math.hypot(at[0] - x, at[1] - y) < room + r:
                    return -1
            self.taken.append((at[0], at[1], room))
        self.things += 1
        return self.things - 1

    def keep(self, x: float, y: float, radius: float) -> None:
        """Keep things that ask for room out of a disk."""
        self.taken.append((x, y, radius))

    def _add(
        self, kind: int, middle: tuple[float, float, float], half: tuple[float, float, float],
        label: str, material: int, thing: int, at: Place, turn: float, lying: bool, casts: bool,
    ) -> None:  # fmt: skip
        if len(self.solids) >= MAX_SOLIDS:
            return
        c, s = math.cos(at[2]), math.sin(at[2])
        x = at[0] + c * middle[0] - s * middle[1]
        y = at[1] + s * middle[0] + c * middle[1]
        self.solids.append(
            Solid(
                kind, (round(x, 4), round(y, 4), round(middle[2], 4)), round(at[2] + turn, 5),
                lying, (round(half[0], 4), round(half[1], 4), round(half[2], 4)),
                CLASSES.index(label),
                thing, material, casts,
            )
        )  # fmt: skip

    def box(
        self, middle: tuple[float, float, float], half: tuple[float, float, float], label: str,
        material: int, thing: int = -1, at: Place = HERE, *, turn: float = 0.0, casts: bool = True,
    ) -> None:  # fmt: skip
        """A box, given by its middle and half its sides."""
        self._add(BOX, middle, half, label, material, thing, at, turn, False, casts)

    def cylinder(
        self, middle: tuple[float, float, float], radius: float, half: float, label: str,
        material: int, thing: int = -1, at: Place = HERE, *, turn: float = 0.0,
        lying: bool = False, casts: bool = True,
    ) -> None:  # fmt: skip
        """A cylinder, upright or lying along `turn`."""
        size = (radius, radius, half)
        self._add(CYLINDER, middle, size, label, material, thing, at, turn, lying, casts)

    def capsule(
        self, middle: tuple[float, float, float], radius: float, half: float, label: str,
        material: int, thing: int = -1, at: Place = HERE, *, turn: float = 0.0,
        lying: bool = False, casts: bool = True,
    ) -> None:  # fmt: skip
        """A capsule; a ball where `half` is 0."""
        size = (radius, radius, half)
        self._add(CAPSULE, middle, size, label, material, thing, at, turn, lying, casts)
