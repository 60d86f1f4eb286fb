"""What the user fixes beforehand: own keyframes, a duration, a path of the pelvis, cycles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion.director.commands import MAX_DT, MIN_DT, Keyframe, validate
from foveal.motion.director.direction import key_times
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Skeleton

MAX_SECONDS, MAX_CYCLES = 120.0, 50


@dataclass(frozen=True)
class Constraints:
    """What a directed motion must keep.

    Args:
        keyframes: Pairs of a time, s, and the user's own keyframe there; its `dt` does not matter.
            Kept exactly: no model changes them.
        seconds: Length of the whole motion, s, or None.
        path: (time, x, y) of the pelvis, s and m, at least two; between them it goes straight. The
            pelvis of every keyframe is brought there as far as what is planted allows.
        cycles: How often a cyclic action is shown.

    Raises:
        ArgumentError: times that do not rise by at least 0.05 s, are negative or after the end, a
            number that is not finite or out of range.
    """

    keyframes: tuple[tuple[float, Keyframe], ...] = ()
    seconds: float | None = None
    path: tuple[tuple[float, float, float], ...] = ()
    cycles: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        end = self.seconds
        if end is not None and not (math.isfinite(end) and MIN_DT <= end <= MAX_SECONDS):
            raise ArgumentError(
                f"Constraints: seconds is {end}, must be in [{MIN_DT}, {MAX_SECONDS}]; split it"
            )
        if not 1 <= self.cycles <= MAX_CYCLES:
            raise ArgumentError(
                f"Constraints: cycles is {self.cycles}, must be in [1, {MAX_CYCLES}]; 1 is once"
            )
        if self.cycles > 1 and (end is not None or self.keyframes):
            raise ArgumentError(
                f"Constraints: cycles is {self.cycles}, must be 1 with seconds or keyframes; "
                "repeat the cycle by hand"
            )
        _check_times("keyframes", [time for time, _ in self.keyframes], end, 0.0)
        _check_times("path", [time for time, _, _ in self.path], end, -MIN_DT)
        if len(self.path) == 1 or not np.isfinite(np.array(self.path)).all():
            raise ArgumentError(
                f"Constraints: path is {self.path}, must hold at least two finite (time, x, y); "
                "leave it out for none"
            )

    def check(self, skeleton: Skeleton) -> None:
        """Check the user's keyframes against a figure.

        Raises:
            ArgumentError: a keyframe is not valid (see `commands.validate`).
        """
        if self.keyframes:
            validate([replace(key, dt=MIN_DT) for _, key in self.keyframes], skeleton)

    def on_path(self, time: float) -> tuple[float, float] | None:
        """Return where the pelvis must be at a time, m, or None without a path."""
        if not self.path:
            return None
        t, x, y = np.array(self.path).T
        return float(np.interp(time, t, x)), float(np.interp(time, t, y))

    def next_key(self, time: float) -> tuple[float, Keyframe] | None:
        """Return the first of the user's keyframes after a time."""
        return next(((t, key) for t, key in self.keyframes if t > time + 1e-9), None)

    def words(self) -> str:
        """Return the constraints in words for a model; empty if there are none."""
        lines: list[str] = []
        if self.seconds is not None:
            lines.append(f"- The whole motion takes {self.seconds:.2f} s.")
        for time, key in self.keyframes:
            what = key.description or "a pose of the user's"
            lines.append(f"- At t = {time:.2f} s the pose is fixed: {what}.")
        lines += [
            f"- At t = {time:.2f} s the pelvis is at x = {x:.2f}, y = {y:.2f}."
            for time, x, y in self.path
        ]
        return "\n".join(lines)


def _check_times(name: str, times: Sequence[float], end: float | None, before: float) -> None:
    for time in times:
        last = MAX_SECONDS if end is None else end
        if not (math.isfinite(time) and time >= before + MIN_DT - 1e-9 and time <= last + 1e-9):
            raise ArgumentError(
                f"Constraints: {name} has the time {time}, must rise by at least {MIN_DT} s from "
                f"{max(before, 0.0)} and be at most {last} s; sort them, or move it"
            )
        before = time


def fit_seconds(
    keyframes: Sequence[Keyframe], seconds: float | None, kept: Sequence[int]
) -> tuple[Keyframe, ...]:
    """Stretch the intervals after the last kept keyframe so that the motion takes `seconds`.

    Times up to the last kept keyframe stay. Without one, all intervals are stretched alike.

    Args:
        keyframes: The plan.
        seconds: Wanted length, s, or None to leave it.
        kept: Numbers of the keyframes whose times are fixed.

    Returns: The plan; its length is `seconds` unless an interval would leave [0.05, 5] s.
    """
    out = list(keyframes)
    if seconds is None or len(out) < 2:
        return tuple(out)
    first = max(kept, default=0)
    times = key_times(out)
    rest, wanted = times[-1] - times[first], seconds - times[first]
    if first == len(out) - 1 or wanted <= 0 or rest <= 0:
        return tuple(out)
    for i in range(first + 1, len(out)):
        dt = float(np.clip(out[i].dt * wanted / rest, MIN_DT, MAX_DT))
        out[i] = replace(out[i], dt=dt)
    return tuple(out)


def path_error(times: Sequence[float], roots: Array, constraints: Constraints) -> float:
    """Return the largest horizontal distance of the pelvis from its path, m; 0 without one."""
    worst = 0.0
    for time, root in zip(times, roots, strict=True):
        spot = constraints.on_path(time)
        if spot is not None:
            worst = max(worst, math.dist(spot, (float(root[0]), float(root[1]))))
    return worst
