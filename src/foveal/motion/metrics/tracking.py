"""A clip against the clip that it should follow, and against the times that were wished."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.metrics.smoothness import mean_jerk
from foveal.motion.rotations import Array

FALL_HEIGHT, FALL_TILT = 0.3, 0.9
"""A figure has fallen where its root is so far (m, at 1.7 m) from its wanted height or its chest is
tilted by so much (rad) against the reference."""
LOCAL_ERROR, JERK_RATIO, LAG_S = 0.1, 2.0, 0.25
"""Success asks for at most so much; the error in m at 1.7 m."""
SEARCH_S = 0.5
"""How far a lag or a keyframe is looked for in time, s."""
_STILL = 0.01  # m at 1.7 m; a motion that a lag changes by less has no lag
_SAME = 0.005  # m; poses as near as that to the nearest one are as near
_JERKY = 1e-3  # m/s^3; a reference below it has no jerk to compare with


def _check(name: str, clip: Clip, other: Clip) -> None:
    if other.skeleton.names != clip.skeleton.names:
        raise ArgumentError(
            f"score: {name} has the bodies {', '.join(other.skeleton.names)}, must have those of "
            "the clip; compare clips of the same figure"
        )


def tracking_error(clip: Clip) -> float | None:
    """Mean distance of body origins to those of the reference, m; None without a reference."""
    if clip.reference is None:
        return None
    return world_error(clip, clip.reference)


def _at(values: Array, fps: float, times: Array) -> Array:
    """Values (frames, ...) at times, s, by straight lines; ends held."""
    where = np.clip(times * fps, 0.0, len(values) - 1)
    i = np.minimum(where.astype(int), max(len(values) - 2, 0))
    share = (where - i).reshape(-1, *([1] * (values.ndim - 1)))
    return values[i] * (1 - share) + values[np.minimum(i + 1, len(values) - 1)] * share


def _common(clip: Clip, reference: Clip) -> Array:
    """Times of the clip's frames that the reference has too, s."""
    times = np.arange(clip.num_frames) / clip.fps
    return times[times <= reference.seconds + 1e-9]


def world_error(clip: Clip, reference: Clip) -> float:
    """Mean distance of body origins in the world, m, over the time that both have."""
    times = _common(clip, reference)
    gap = clip.positions[: len(times)] - _at(reference.positions, reference.fps, times)
    return float(np.linalg.norm(gap, axis=-1).mean())


def _local(clip: Clip) -> Array:
    return clip.positions - clip.positions[:, :1]


@dataclass(frozen=True)
class Tracking:
    """How well a clip follows a reference; see `track_score`."""

    fell: bool
    local_error: float
    jerk_ratio: float | None
    lag: float | None
    success: bool


def fall_time(clip: Clip, reference: Clip) -> float | None:
    """First time at which the figure has fallen, s, or None.

    Fallen: the root is 0.3 m (at 1.7 m) off the height of the reference's, or the chest's vertical
    is 0.9 rad off.
    """
    times = _common(clip, reference)
    root = _at(reference.positions[:, 0, 2], reference.fps, times)
    chest = clip.skeleton.body(
        "chest" if "chest" in clip.skeleton.names else clip.skeleton.names[0]
    )
    up, wanted = (
        rot.rotate(c.world_rotations[:, chest], [0.0, 0.0, 1.0]) for c in (clip, reference)
    )
    cosine = (up[: len(times)] * _at(wanted, reference.fps, times)).sum(axis=1)
    low = np.abs(clip.positions[: len(times), 0, 2] - root)
    fallen = (low > FALL_HEIGHT * clip.skeleton.height / 1.7) | (cosine < np.cos(FALL_TILT))
    return float(times[fallen.argmax()]) if fallen.any() else None


def lag(clip: Clip, reference: Clip) -> float | None:
    """Time by which the clip is behind its reference, s, in [-0.5, 0.5]; negative if ahead.

    The shift with the least mean distance of body origins, seen from the root, by a parabola
    between tried shifts of a frame. None where the motion is too small to tell (a shift changes
    less than 1 cm at 1.7 m) or shorter than 0.2 s.
    """
    times = _common(clip, reference)
    own, other = _local(clip), _local(reference)
    reach = min(SEARCH_S, 0.5 * float(times[-1]))
    steps = int(np.floor(reach * clip.fps + 1e-9))
    if times[-1] < 0.2 or steps < 1:
        return None
    shifts = np.arange(-steps, steps + 1) / clip.fps
    errors = np.empty(len(shifts))
    for i, shift in enumerate(shifts):
        inside = (times - shift >= -1e-9) & (times - shift <= reference.seconds + 1e-9)
        gap = own[: len(times)][inside] - _at(other, reference.fps, times[inside] - shift)
        errors[i] = np.sqrt((gap**2).sum(axis=-1).mean())
    best = int(errors.argmin())
    if np.ptp(errors) < _STILL * clip.skeleton.height / 1.7:
        return None
    if 0 < best < len(shifts) - 1:
        before, at, after = errors[best - 1 : best + 2] ** 2
        bend = before - 2.0 * at + after
        if bend > 0:
            return float(shifts[best] + 0.5 * (before - after) / bend / clip.fps)
    return float(shifts[best])


def track_score(clip: Clip, reference: Clip) -> Tracking:
    """Judge how a clip follows a reference, over the time that both have.

    Returns: `fell` (`fall_time`); `local_error`, the mean distance of body origins seen from the
    root, m; `jerk_ratio`, mean jerk over that of the reference (None if that has none or a clip is
    too short); `lag` in s (`lag`); `success`: it did not fall, is not more than 0.1 s shorter than
    the reference, the error is at most 0.1 m (at 1.7 m), the jerk ratio at most 2, the lag at most
    0.25 s either way; what is None is not asked for.

    Raises:
        ArgumentError: the clips are not of the same figure.
    """
    _check("reference", clip, reference)
    times = _common(clip, reference)
    gap = _local(clip)[: len(times)] - _at(_local(reference), reference.fps, times)
    error = float(np.linalg.norm(gap, axis=-1)[:, 1:].mean())
    own, other = mean_jerk(clip), mean_jerk(reference)
    ratio = own / other if own is not None and other is not None and other > _JERKY else None
    behind, fell = lag(clip, reference), fall_time(clip, reference) is not None
    success = (
        not fell
        and clip.seconds >= reference.seconds - 0.1
        and error <= LOCAL_ERROR * clip.skeleton.height / 1.7
        and (ratio is None or ratio <= JERK_RATIO)
        and (behind is None or abs(behind) <= LAG_S)
    )
    return Tracking(fell, error, ratio, behind, success)


def keyframe_delays(clip: Clip, wished: Sequence[float] | Array | None, keys: Clip | None) -> Array:
    """How much later than wished each keyframe is (keyframes,), s; negative if earlier.

    With `keys` it is measured: the moment within 0.5 s of the wished one at which body origins,
    seen from the root, are nearest to those of the key; of moments as near (to 5 mm) the one
    nearest to the wish. It is exact to half a frame. Without, the clip's own
    `keyframe_times` count.

    Raises:
        ArgumentError: nothing is wished, a time is not finite or outside the clip, or the
            numbers of keyframes differ.
    """
    times = np.asarray(keys.keyframe_times if wished is None and keys is not None else wished)
    times = np.atleast_1d(times.astype(np.float64))
    if times.ndim != 1 or len(times) == 0 or not np.isfinite(times).all():
        raise ArgumentError(
            f"score: keyframe_times is {wished!r}, must be finite times in s, at least one; leave "
            "it out to measure no timing"
        )
    count = len(clip.keyframe_times) if keys is None else keys.num_frames
    if len(times) != count:
        owner = "the clip" if keys is None else "keys"
        raise ArgumentError(
            f"score: keyframe_times has {len(times)} times, must have {count} as {owner} has; give "
            "a time for each keyframe"
        )
    if keys is None:
        return clip.keyframe_times - times
    if times.min() < 0 or times.max() > clip.seconds + 0.5 / clip.fps:
        raise ArgumentError(
            f"score: keyframe_times is {times.tolist()}, must be in [0, {clip.seconds:.3f}]; give "
            "times within the clip"
        )
    _check("keys", clip, keys)
    own, poses, at = _local(clip), _local(keys), np.arange(clip.num_frames) / clip.fps
    out = np.empty(len(times))
    for i, time in enumerate(times):
        near = np.flatnonzero(np.abs(at - time) <= SEARCH_S + 1e-9)
        gap = np.linalg.norm(own[near] - poses[i], axis=-1).mean(axis=1)
        same = near[gap <= gap.min() + _SAME]
        delays = at[same] - time
        out[i] = delays[np.abs(delays).argmin()]
    return out
