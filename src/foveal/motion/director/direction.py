"""What directing gives: keyframes, the contact plan, the transcript, marks and what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from foveal.errors import ArgumentError
from foveal.motion.director.commands import Keyframe
from foveal.motion.director.pose import CONTACT_POINTS, Pose, points
from foveal.motion.skeleton import Skeleton

Mode = Literal["faithful", "fast"]
MODES: tuple[Mode, ...] = ("faithful", "fast")
NOT_SHOWN = "the motion does not show:"
"""How marks begin that name a fact of the action."""
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Contact:
    """A part that bears on a surface for a while, where, and from when to when.

    Args:
        part: One of `pose.CONTACT_POINTS`.
        start, end: From and to, s.
        position: Where its point is at the start, m.
        level: Height of the surface, m.
    """

    part: str
    start: float
    end: float
    position: Vector
    level: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What a direction took.

    Args:
        calls: Calls to the model that gave an answer, re-asks included; replayed ones took none. A
            `Budget` also counts those that failed.
        tokens_in, tokens_out: Tokens read and written.
        seconds: Time spent waiting for answers, s.
        replayed: Answers that came from a recording.
        estimated: Whether tokens were estimated.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    replayed: int = 0
    estimated: bool = False


@dataclass(frozen=True, eq=False)
class Direction:
    """A directed motion.

    Attributes:
        instruction: What was asked for.
        mode: "faithful" or "fast".
        keyframes: The keyframes, the standing start first; times are sums of their `dt`.
        contacts: The contact plan.
        complete: Whether nothing is missing; `marks` say what is.
        marks: Why it is not complete, in words.
        notes: What was changed on the way, such as a time that was too short, in words.
        transcript: Every question's role and turn with its answer, in order, as plain data.
        cost: What it took.
        loop: First and last keyframe of the cycle, or None.
        kept: Numbers of the keyframes that are the user's own.
        levels: Heights of surfaces by name, m.
    """

    instruction: str
    mode: Mode
    keyframes: tuple[Keyframe, ...]
    contacts: tuple[Contact, ...]
    complete: bool
    marks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    transcript: tuple[Mapping[str, Any], ...] = ()
    cost: Cost = field(default_factory=Cost)
    loop: tuple[int, int] | None = None
    kept: tuple[int, ...] = ()

    @property
    def times(self) -> tuple[float, ...]:
        """Time of every keyframe, s."""
        return key_times(self.keyframes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return {
            "instruction": self.instruction,
            "mode": self.mode,
            "complete": self.complete,
            "marks": list(self.marks),
            "notes": list(self.notes),
            "keyframes": [key.to_dict() for key in self.keyframes],
            "contacts": [dict(contact.__dict__) for contact in self.contacts],
            "loop": None if self.loop is None else list(self.loop),
            "kept": list(self.kept),
            "cost": dict(self.cost.__dict__),
            "transcript": [dict(entry) for entry in self.transcript],
        }


def key_times(keyframes: Sequence[Keyframe]) -> tuple[float, ...]:
    """Return the time of every keyframe, s; the first is at 0."""
    out: list[float] = []
    for i, key in enumerate(keyframes):
        out.append(out[-1] + key.dt if i else 0.0)
    return tuple(out)


def contact_plan(
    keyframes: Sequence[Keyframe],
    poses: Sequence[Pose],
    bearing: Sequence[frozenset[str]],
    skeleton: Skeleton,
) -> tuple[Contact, ...]:
    """Join the contacts of keyframes into intervals.

    A part lands at the first keyframe at which it bears weight, and stays planted up to the last of
    a row of them; one that bears weight at a single keyframe has a contact of length 0.

    Args:
        keyframes: The plan; the first is at time 0.
        poses: Their poses.
        bearing: What bears weight at each keyframe.
        skeleton: The figure.

    Raises:
        ArgumentError: the numbers of keyframes, poses and `bearing` differ.
    """
    for name, given in (("poses", poses), ("bearing", bearing)):
        if len(given) != len(keyframes):
            raise ArgumentError(
                f"contact_plan: {name} has {len(given)}, must have {len(keyframes)} as keyframes"
            )
    times = key_times(keyframes)
    out: list[Contact] = []
    for part, point in CONTACT_POINTS.items():
        first: int | None = None
        for i in range(len(keyframes) + 1):
            planted = i < len(keyframes) and part in bearing[i]
            if planted and first is None:
                first = i
            elif not planted and first is not None:
                at = points(skeleton, poses[first], [point])[point]
                level = float(keyframes[first].levels.get(part, 0.0))
                place = (float(at[0]), float(at[1]), float(at[2]))
                out.append(Contact(part, times[first], times[i - 1], place, level))
                first = None
    return tuple(sorted(out, key=lambda c: (c.start, c.part)))
