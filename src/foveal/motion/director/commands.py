"""The keyframe schema: what a provider says, checked before anything moves.

Source: Zhang et al., "FreeMotion", ECCV 2024, arXiv:2406.10740 (keyframe spacing and the end of
the action are part of each keyframe). Differs: hinge angles and foot targets in one record, and
contacts are stated by the provider.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from foveal.errors import ArgumentError
from foveal.motion.skeleton import SIDES, Side, Skeleton

CONTACTS = ("left_foot", "right_foot")
MIN_DT, MAX_DT = 0.05, 5.0
Ease = Literal["smooth", "slow_start", "slow_end", "even"]
EASES: tuple[Ease, ...] = ("smooth", "slow_start", "slow_end", "even")
MIN_SPAN = 0.1


@dataclass(frozen=True)
class Timing:
    """When a part moves within an interval, and how its speed rises and falls.

    Args:
        start, end: Shares of the interval, 0 <= start and start + 0.1 <= end <= 1. The part rests
            before and after.
        ease: "smooth" is the minimum-jerk curve; "slow_start" and "slow_end" lean it to one side;
            "even" is a constant speed but for the first and last eighth.

    Raises:
        ArgumentError: shares out of range or in the wrong order, an unknown ease.
    """

    start: float = 0.0
    end: float = 1.0
    ease: Ease = "smooth"

    def __post_init__(self) -> None:
        """Check the values."""
        fits = self.start >= 0.0 and self.end <= 1.0 and self.end - self.start >= MIN_SPAN - 1e-9
        if not fits:
            raise ArgumentError(
                f"Timing: start, end is {self.start}, {self.end}, must be in [0, 1] with at least "
                f"{MIN_SPAN} between them; 0, 1 is the whole interval"
            )
        if self.ease not in EASES:
            raise ArgumentError(f"Timing: ease is {self.ease!r}, must be one of {EASES}; pick one")


@dataclass(frozen=True)
class FootTarget:
    """Where a foot is, relative to its rest place under the standing figure.

    Args:
        position: Shift (x forward, y left, z up) in the start frame, m.
        yaw: Turn to the left, rad.
        pitch: Toes up, rad (negative: on tiptoe).
    """

    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    pitch: float = 0.0


@dataclass(frozen=True)
class Keyframe:
    """One decided pose and how long it takes to reach it.

    Args:
        dt: Time from the previous keyframe, s, in [0.05, 5]; 0 for the first one only.
        description: The pose in words.
        angles: Hinge name to angle, rad; hinges not named are 0. Legs are better given as `feet`.
        pelvis: Shift of the pelvis (x, y, z) from standing, m.
        turn: Pelvis yaw to the left, rad; `tilt`: pelvis forward pitch, rad.
        tilt: See `turn`.
        feet: Targets of the feet; a foot without one follows its leg angles.
        contacts: Feet planted during the interval that ends at this keyframe.
        finished: Whether the action ends here.
        lean: Pelvis lean to the left, rad; after `turn` and `tilt`.
        timing: Part to when it moves within the interval that ends here; a part that is not named
            takes the whole interval.
        supports: What else bears on a surface during the interval: a seat's sitter is carried by
            its "pelvis", and its balance is not that of a standing figure.
        levels: Height of the surface under a contact, m; 0 where it is not named.
    """

    dt: float
    description: str = ""
    angles: Mapping[str, float] = field(default_factory=dict)
    pelvis: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: float = 0.0
    tilt: float = 0.0
    feet: Mapping[Side, FootTarget] = field(default_factory=dict)
    contacts: frozenset[str] = frozenset(CONTACTS)
    finished: bool = False
    lean: float = 0.0
    timing: Mapping[str, Timing] = field(default_factory=dict)
    supports: frozenset[str] = frozenset()
    levels: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the mappings."""
        object.__setattr__(self, "angles", MappingProxyType(dict(self.angles)))
        object.__setattr__(self, "feet", MappingProxyType(dict(self.feet)))
        object.__setattr__(self, "contacts", frozenset(self.contacts))
        object.__setattr__(self, "timing", MappingProxyType(dict(self.timing)))
        object.__setattr__(self, "supports", frozenset(self.supports))
        object.__setattr__(self, "levels", MappingProxyType(dict(self.levels)))

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, ready for JSON."""
        return {
            "dt": self.dt,
            "description": self.description,
            "angles": dict(self.angles),
            "pelvis": list(self.pelvis),
            "turn": self.turn,
            "tilt": self.tilt,
            "feet": {
                side: {"position": list(f.position), "yaw": f.yaw, "pitch": f.pitch}
                for side, f in self.feet.items()
            },
            "contacts": sorted(self.contacts),
            "finished": self.finished,
            "lean": self.lean,
            "timing": {
                part: {"start": t.start, "end": t.end, "ease": t.ease}
                for part, t in self.timing.items()
            },
            "supports": sorted(self.supports),
            "levels": dict(self.levels),
        }


def validate(keyframes: Sequence[Keyframe], skeleton: Skeleton) -> None:
    """Check keyframes against the schema and the joint limits.

    Raises:
        ArgumentError: no keyframe, a time or number out of range, an unknown hinge, foot or
            contact, an angle outside its hinge's limits; names the keyframe and the field.
    """
    if not keyframes:
        raise ArgumentError("validate: keyframes is empty, must hold at least one; add a pose")
    for i, key in enumerate(keyframes):
        where = f"validate: keyframes[{i}]"
        if i and not MIN_DT <= key.dt <= MAX_DT:
            raise ArgumentError(
                f"{where}.dt is {key.dt}, must be in [{MIN_DT}, {MAX_DT}] s; split long moves"
            )
        numbers = [key.dt, key.turn, key.tilt, key.lean, *key.pelvis]
        numbers += [*key.angles.values(), *key.levels.values()]
        for foot in key.feet.values():
            numbers += [*foot.position, foot.yaw, foot.pitch]
        if not all(math.isfinite(number) for number in numbers):
            raise ArgumentError(f"{where} has a number that is not finite; all must be")
        for side in key.feet:
            if side not in SIDES:
                raise ArgumentError(f"{where}.feet has {side!r}, must be one of {SIDES}; rename it")
        for contact in key.contacts:
            if contact not in CONTACTS:
                raise ArgumentError(
                    f"{where}.contacts has {contact!r}, must be among {CONTACTS}; rename it"
                )
        for name, angle in key.angles.items():
            hinge = skeleton.hinges[skeleton.hinge(name)]
            if not hinge.lower - 1e-9 <= angle <= hinge.upper + 1e-9:
                raise ArgumentError(
                    f"{where}.angles[{name!r}] is {angle:.3f}, must be in "
                    f"[{hinge.lower:.3f}, {hinge.upper:.3f}] rad; bend another joint as well"
                )
