"""Truth, signed margin and place of a fact on a clip.

Every leaf gives a margin a frame; "and" takes the smaller one, "or" the larger, "not" the
negative, "always" the smallest and "once" the largest over frames. Margins of different units are
compared in steps (`STEPS`), and a result is told in the unit of the leaf that decides it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.contacts import runs
from foveal.motion.posecodes.facts import (
    All,
    AnyOf,
    Fact,
    Hold,
    Loops,
    Not,
    Order,
    Times,
    When,
    Within,
)
from foveal.motion.posecodes.figure import Figure
from foveal.motion.posecodes.measures import frame_values, whole_value
from foveal.motion.posecodes.mirror import mirror
from foveal.motion.posecodes.points import read_scene
from foveal.motion.posecodes.terms import STEPS, WholeMeasure
from foveal.motion.posecodes.text import to_text
from foveal.motion.rotations import Array

_ZERO = 1e-9  # steps; a margin this small is no margin, so that "behind" is false where level
_BREAK = 0.08  # s; shorter breaks do not count as one
LOOP_METERS, LOOP_DEGREES = 0.03, 5.0


@dataclass(frozen=True)
class Result:
    """What a fact came to on a clip.

    Attributes:
        fact: The fact as a sentence.
        truth: Whether it holds.
        margin: By how much it holds (positive) or fails (negative), in `unit`, at the figure's
            size; for a compound fact the margin of the part that decides.
        unit: Unit of the margin.
        frame, time: Where that part is decided; s.
        because: The part that decides, as a sentence.
        why: Why the fact is asked for, or "".
    """

    fact: str
    truth: bool
    margin: float
    unit: str
    frame: int
    time: float
    because: str
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, ready for JSON; a margin without end is None."""
        out = dict(self.__dict__)
        out["margin"] = self.margin if np.isfinite(self.margin) else None
        return out


@dataclass(frozen=True)
class _Track:
    """Margins in steps, the number of the deciding leaf and its frame, each (frames,)."""

    margin: Array
    leaf: Array
    frame: Array

    def at(self, index: Array) -> "_Track":
        return _Track(self.margin[index], self.leaf[index], self.frame[index])


class _Evaluator:
    def __init__(self, figure: Figure, neutral: Figure | None, keys: Clip | None) -> None:
        self.figure, self.neutral, self.keys = figure, neutral, keys
        self.leaves: list[tuple[str, str, float]] = []  # sentence, unit, size of a step

    def leaf(self, words: str, unit: str, margin: Array, frame: Array, *, whole: bool) -> _Track:
        """Make a track of margins in a unit."""
        size = STEPS[unit] * (self.figure.scale if unit in ("m", "m/s") else 1.0)
        self.leaves.append((words, unit, size))
        steps = np.asarray(margin, np.float64) / size
        steps = np.where(np.abs(steps) <= _ZERO, -2.0 * _ZERO, steps)
        leaf = np.full(len(steps), len(self.leaves) - 1)
        track = _Track(steps, leaf, np.asarray(frame, np.int64))
        return self.constant(track) if whole else track

    def constant(self, track: _Track, index: int = 0) -> _Track:
        return track.at(np.full(self.figure.frames, index))

    def choose(self, tracks: list[_Track], best: Callable[..., Any]) -> _Track:
        margins = np.stack([track.margin for track in tracks])
        pick = (best(margins, axis=0), np.arange(margins.shape[1]))
        return _Track(
            margins[pick],
            np.stack([track.leaf for track in tracks])[pick],
            np.stack([track.frame for track in tracks])[pick],
        )

    def run(self, fact: Fact) -> _Track:
        frames = np.arange(self.figure.frames)
        match fact:
            case Within():
                return self.within(fact)
            case Not(inner):
                track = self.run(inner)
                return _Track(-track.margin, track.leaf, track.frame)
            case All(facts):
                return self.choose([self.run(f) for f in facts], np.argmin)
            case AnyOf(facts):
                return self.choose([self.run(f) for f in facts], np.argmax)
            case When(when, inner):
                track = self.run(inner)
                index = {
                    "once": int(track.margin.argmax()),
                    "always": int(track.margin.argmin()),
                    "at the start": 0,
                    "at the end": len(frames) - 1,
                }[when]
                return self.constant(track, index)
            case Hold(seconds, inner):
                return self.hold(self.run(inner), seconds, to_text(fact))
            case Times():
                return self.times(fact)
            case Order(facts):
                return self.order([self.run(f) for f in facts])
            case Loops():
                return self.loops()

    def within(self, fact: Within) -> _Track:
        figure, measure = self.figure, fact.measure
        length = measure.unit in ("m", "m/s")
        scale = figure.scale if length and fact.neutral != "times" else 1.0
        frames = np.arange(figure.frames)
        if isinstance(measure, WholeMeasure):
            value, frame = whole_value(figure, measure, self.keys)
            if fact.neutral:
                value = self.against_neutral(fact, value)
            values, frames = np.array([value]), np.array([frame])
        else:
            values = frame_values(figure, measure)
        low = -np.inf if fact.low is None else fact.low * scale
        high = np.inf if fact.high is None else fact.high * scale
        margin = np.minimum(values - low, high - values)
        whole = isinstance(measure, WholeMeasure)
        return self.leaf(to_text(fact), fact.unit, margin, frames, whole=whole)

    def against_neutral(self, fact: Within, value: float) -> float:
        measure = fact.measure
        if self.neutral is None:
            raise ArgumentError(
                f"evaluate: neutral is None, must be a clip to judge {to_text(fact)!r}; pass the "
                "same action without its style"
            )
        base, _ = whole_value(self.neutral, cast(WholeMeasure, measure), self.keys)
        # both figures at the size of the clip's
        if measure.unit in ("m", "m/s"):
            base *= self.figure.scale / self.neutral.scale
        if fact.neutral == "more":
            return value - base
        if abs(base) < 1e-6:
            raise ArgumentError(
                f"evaluate: neutral has {base:.1g} for {to_text(fact)!r}, must not be 0; pass a "
                "clip that moves"
            )
        return value / base

    def hold(self, track: _Track, seconds: float, words: str) -> _Track:
        count = int(np.ceil(seconds * self.figure.clip.fps - 1e-6)) + 1
        if count > len(track.margin):
            short = np.array([self.figure.clip.seconds - seconds])
            return self.leaf(words, "s", short, np.array([len(track.margin) - 1]), whole=True)
        windows = np.lib.stride_tricks.sliding_window_view(track.margin, count)
        start = int(windows.min(axis=1).argmax())
        return self.constant(track, start + int(windows[start].argmin()))

    def events(self, fact: Fact) -> list[int]:
        true = self.run(fact).margin > 0
        merged = true.copy()
        for start, end, value in runs(true):
            inside = start > 0 and end < len(true)
            if not value and inside and (end - start) / self.figure.clip.fps < _BREAK:
                merged[start:end] = True
        return [start for start, _, value in runs(merged) if value]

    def times(self, fact: Times) -> _Track:
        marked = [(start, 0) for start in self.events(fact.fact)]
        if fact.alternating:
            other = [(start, 1) for start in self.events(mirror(fact.fact))]
            marked = sorted(marked + other)
            marked = [m for i, m in enumerate(marked) if i == 0 or m[1] != marked[i - 1][1]]
        count = len(marked)
        over = float(count - fact.low + (count >= fact.low))
        under = np.inf if fact.high is None else float(fact.high - count + (count <= fact.high))
        frame = marked[-1][0] if marked else 0
        return self.leaf(
            to_text(fact), "times", np.array([min(over, under)]), np.array([frame]), whole=True
        )

    def order(self, tracks: list[_Track]) -> _Track:
        best = tracks[0]
        for track in tracks[1:]:
            lead = np.maximum.accumulate(best.margin)
            first = np.flatnonzero(np.r_[True, lead[1:] > lead[:-1]])
            at = first[np.searchsorted(first, np.arange(len(lead)), side="right") - 1]
            before = best.at(np.r_[0, at[:-1]])
            # nothing comes before the first frame: it cannot be the later of two
            before.margin[0] = -np.inf
            if len(lead) == 1:
                before.margin[0] = -abs(best.margin[0])
            best = self.choose([before, track], np.argmin)
        return self.constant(best, int(best.margin.argmax()))

    def loops(self) -> _Track:
        clip, last = self.figure.clip, np.array([self.figure.frames - 1])
        flat = self.figure.heading[[0, -1]]
        back = rot.conjugate(flat)[:, None]
        root = clip.positions[[0, -1], :1] * np.array([1.0, 1.0, 0.0])
        placed = rot.rotate(back, clip.positions[[0, -1]] - root)
        apart = float(np.linalg.norm(placed[1] - placed[0], axis=-1).max())
        turned = rot.multiply(back, clip.world_rotations[[0, -1]])
        same = np.abs(np.sum(turned[0] * turned[1], axis=-1))
        angle = float(np.degrees(2.0 * np.arccos(np.clip(same, 0.0, 1.0))).max())
        room = LOOP_METERS * self.figure.scale - apart
        return self.choose(
            [
                self.leaf("loops, to 3 cm", "m", np.array([room]), last, whole=True),
                self.leaf(
                    "loops, to 5 degrees", "degrees", np.array([LOOP_DEGREES - angle]), last,
                    whole=True,
                ),
            ],
            np.argmin,
        )  # fmt: skip


def evaluate(
    fact: Fact,
    clip: Clip,
    *,
    scene: Mapping[str, object] | None = None,
    neutral: Clip | None = None,
    keys: Clip | None = None,
) -> Result:
    """Judge a fact on a clip.

    A fact that says nothing about when must hold in some frame, as with "once".

    Args:
        fact: The fact, for example `parse("left hand above head")`.
        clip: The clip.
        scene: Surfaces by name, as `read_scene` takes them; "floor" is at height 0 if not given.
        neutral: The clip that "neutral" stands for.
        keys: The user's key poses: one frame a key, with their times in `keyframe_times`.

    Raises:
        ArgumentError: the body, scene, neutral clip or keys lack what the fact names.
    """
    surfaces = read_scene(scene or {})
    base = None if neutral is None else Figure(neutral, surfaces)
    return judge(fact, Figure(clip, surfaces), base, keys)


def judge(fact: Fact, figure: Figure, neutral: Figure | None, keys: Clip | None) -> Result:
    """Judge a fact on a figure; several facts of one clip share what is computed."""
    evaluator = _Evaluator(figure, neutral, keys)
    track = evaluator.run(fact)
    i = int(track.margin.argmax())
    words, unit, size = evaluator.leaves[int(track.leaf[i])]
    steps, frame = float(track.margin[i]), int(track.frame[i])
    return Result(
        to_text(fact), steps > 0, steps * size, unit, frame, frame / figure.clip.fps, words
    )
