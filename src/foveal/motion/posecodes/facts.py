"""Pose facts as data: what is measured, the band it must lie in, and when.

A fact is judged frame by frame; a fact about the whole clip is the same in every frame. Lengths
and speeds are for a figure of 1.7 m and scale with its height. Left and right are the figure's
own; forward, back, left and right are those of its heading, x, y and z those of the world.

Source: the idea of posecodes, facts computed from joints, is that of Delmas et al., "PoseScript",
ECCV 2022, arXiv:2210.11795. Differs: facts over time with signed margins (as in signal temporal
logic, Donze and Maler, FORMATS 2010), written as sentences, for any body with our names.
"""

import math
from dataclasses import dataclass

from foveal.errors import ArgumentError
from foveal.motion.posecodes.terms import Measure, WholeMeasure


@dataclass(frozen=True)
class Within:
    """A measure lies in a band.

    Args:
        measure: What is measured.
        low, high: The band in the measure's unit, at least one of them.
        neutral: "" for the value itself, "times" for its ratio to that of the neutral clip,
            "more" for its difference; the last two only for facts of the whole clip.
    """

    measure: Measure
    low: float | None = None
    high: float | None = None
    neutral: str = ""

    def __post_init__(self) -> None:
        """Check the band."""
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        if not bounds or not all(math.isfinite(bound) for bound in bounds):
            raise ArgumentError(
                f"Within: low and high are {self.low} and {self.high}, must be finite numbers, one "
                "of them may be None; say at least or at most"
            )
        if len(bounds) == 2 and bounds[0] > bounds[1]:
            raise ArgumentError(
                f"Within: low is {self.low}, must be at most high, {self.high}; swap them"
            )
        if self.neutral not in ("", "times", "more"):
            raise ArgumentError(
                f"Within: neutral is {self.neutral!r}, must be '', 'times' or 'more'; pick one"
            )
        if self.neutral and not isinstance(self.measure, WholeMeasure):
            raise ArgumentError(
                f"Within: neutral is {self.neutral!r} for a {type(self.measure).__name__}, must be "
                "'' where each frame is judged; take the mean of it"
            )

    @property
    def unit(self) -> str:
        """Unit of the band and of margins."""
        return "" if self.neutral == "times" else self.measure.unit


@dataclass(frozen=True)
class Not:
    """The fact does not hold."""

    fact: "Fact"


@dataclass(frozen=True)
class All:
    """Every fact holds, in the same frame."""

    facts: "tuple[Fact, ...]"

    def __post_init__(self) -> None:
        """Check the number of facts."""
        _several("All", self.facts)


@dataclass(frozen=True)
class AnyOf:
    """At least one fact holds."""

    facts: "tuple[Fact, ...]"

    def __post_init__(self) -> None:
        """Check the number of facts."""
        _several("AnyOf", self.facts)


@dataclass(frozen=True)
class When:
    """The fact holds "once" (in some frame), "always", "at the start" or "at the end"."""

    when: str
    fact: "Fact"


@dataclass(frozen=True)
class Hold:
    """The fact holds without a break for `seconds` (seconds of the clip, which do not scale)."""

    seconds: float
    fact: "Fact"


@dataclass(frozen=True)
class Times:
    """The fact comes true `low` to `high` times, breaks under 0.08 s left out.

    With `alternating`, turns between the fact and its mirrored form are counted: left, right,
    left is 3.
    """

    low: int
    high: int | None
    fact: "Fact"
    alternating: bool = False


@dataclass(frozen=True)
class Order:
    """Each fact holds in some frame after one in which the fact before it holds."""

    facts: "tuple[Fact, ...]"

    def __post_init__(self) -> None:
        """Check the number of facts."""
        _several("Order", self.facts)


@dataclass(frozen=True)
class Loops:
    """The last pose equals the first, travel and turning aside: 3 cm and 5 degrees."""


Fact = Within | Not | All | AnyOf | When | Hold | Times | Order | Loops


def _several(name: str, facts: "tuple[Fact, ...]") -> None:
    if len(facts) < 2:
        raise ArgumentError(
            f"{name}: facts has {len(facts)} facts, must have at least two; pass the fact itself"
        )
