"""What facts measure, as data: distances, angles, heights, speeds, and numbers of a whole clip."""

from dataclasses import dataclass
from typing import ClassVar

RELATIONS = ("above", "below", "in front of", "behind", "left of", "right of")
HEADINGS = ("forward", "back", "left", "right")
AXES = ("+x", "-x", "+y", "-y", "+z", "-z")
DIRECTIONS = (*HEADINGS, "up", "down", *AXES)
GAITS = (
    "speed", "stride", "cadence", "bounce", "sway", "step width", "foot lift", "arm swing",
    "asymmetry", "irregularity", "footfall", "hand spread",
)  # fmt: skip
STATISTICS = ("mean", "range", "largest", "smallest")
STEPS = {"m": 0.1, "degrees": 10.0, "m/s": 0.5, "s": 0.25, "times": 1.0, "": 0.2, "steps/s": 0.25}
"""What counts as one step of each unit where margins of different units are compared."""

ON = (-0.06, 0.03)
"""Clearance of a part that is on a surface, m: a cushion may give by 6 cm."""
OFF = (0.03, None)


@dataclass(frozen=True)
class Gap:
    """How far `point` lies from `other` towards `relation`, m."""

    point: str
    relation: str
    other: str
    unit: ClassVar[str] = "m"


@dataclass(frozen=True)
class Distance:
    """Distance between two points, or from a point to a surface's box, m."""

    point: str
    other: str
    unit: ClassVar[str] = "m"


@dataclass(frozen=True)
class Hinge:
    """Angle of a hinge, degrees; 0 is the standing pose (a straight knee)."""

    name: str
    unit: ClassVar[str] = "degrees"


@dataclass(frozen=True)
class Tilt:
    """Angle between a part and the "vertical" or the "horizontal", degrees."""

    part: str
    line: str
    unit: ClassVar[str] = "degrees"


@dataclass(frozen=True)
class Lean:
    """How far a part leans from upright towards a heading, degrees; negative the other way."""

    part: str
    direction: str
    unit: ClassVar[str] = "degrees"


@dataclass(frozen=True)
class Turn:
    """Yaw of a part to the left or right, against the "start" or the "pelvis", degrees."""

    part: str
    direction: str
    against: str = "start"
    unit: ClassVar[str] = "degrees"


@dataclass(frozen=True)
class Aim:
    """Angle between where a part is "facing" or "pointing" and a direction, degrees."""

    part: str
    verb: str
    direction: str
    unit: ClassVar[str] = "degrees"


@dataclass(frozen=True)
class Height:
    """Height of a point over the top of a surface, or over the lower sole ("support"), m."""

    point: str
    surface: str = "floor"
    unit: ClassVar[str] = "m"


@dataclass(frozen=True)
class Shift:
    """Shift of a point since the start; "away" is the horizontal distance, m."""

    point: str
    direction: str
    unit: ClassVar[str] = "m"


@dataclass(frozen=True)
class Travel:
    """Shift of a point from the first frame to the last, a fact of the whole clip, m."""

    point: str
    direction: str
    unit: ClassVar[str] = "m"


@dataclass(frozen=True)
class Clearance:
    """Distance of the skin of a part from the top of a surface, m; negative inside."""

    part: str
    surface: str = "floor"
    unit: ClassVar[str] = "m"


@dataclass(frozen=True)
class Speed:
    """Speed of a point, or its velocity towards a direction, in the world or against a point."""

    point: str
    direction: str = ""
    against: str = ""
    unit: ClassVar[str] = "m/s"


@dataclass(frozen=True)
class Gait:
    """One number of a walk, of the whole clip; see `gait.py`."""

    name: str

    @property
    def unit(self) -> str:
        """Unit of the number."""
        if self.name in ("speed", "footfall"):
            return "m/s"
        if self.name in ("asymmetry", "irregularity"):
            return ""
        return "steps/s" if self.name == "cadence" else "m"


@dataclass(frozen=True)
class Keys:
    """Largest distance of any body from the user's key poses at their times, m."""

    unit: ClassVar[str] = "m"


FrameMeasure = (
    Gap | Distance | Hinge | Tilt | Lean | Turn | Aim | Height | Shift | Clearance | Speed
)


@dataclass(frozen=True)
class Statistic:
    """The "mean", "range", "largest" or "smallest" of a measure over the clip."""

    kind: str
    measure: FrameMeasure

    @property
    def unit(self) -> str:
        """Unit of the measure."""
        return self.measure.unit


WholeMeasure = Travel | Gait | Keys | Statistic
Measure = FrameMeasure | WholeMeasure
