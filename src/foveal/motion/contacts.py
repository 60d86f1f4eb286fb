"""The contact plan: which foot is planted when, and as runs of frames."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from foveal.motion.director.commands import CONTACTS, Keyframe


def contact_plan(keyframes: Sequence[Keyframe], times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Spread the contacts of keyframes over frames.

    A keyframe's contacts hold during the interval that ends at it. At the instant between two
    intervals a foot counts as planted if it is in either.

    Args:
        keyframes: The plan; the first one is at time 0.
        times: Frame times (frames,), s.

    Returns: (frames, 2), left and right.
    """
    keys = np.cumsum([key.dt if i else 0.0 for i, key in enumerate(keyframes)])
    times = np.minimum(times, keys[-1])  # the last frame may be half a frame after the last key
    out = np.zeros((len(times), 2), bool)
    for i in range(1, len(keyframes)):
        inside = (times >= keys[i - 1] - 1e-9) & (times <= keys[i] + 1e-9)
        for foot, name in enumerate(CONTACTS):
            if name in keyframes[i].contacts:
                out[inside, foot] = True
    if len(keyframes) == 1:
        out[:] = [name in keyframes[0].contacts for name in CONTACTS]
    return out


def other_supports(
    keyframes: Sequence[Keyframe], times: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Spread over frames whether anything but the feet carries the figure, and the feet's ground.

    Args:
        keyframes: The plan; the first one is at time 0.
        times: Frame times (frames,), s.

    Returns: Whether a seat, hand or the like bears weight (frames,), and the height of the surface
    under the left and right foot (frames, 2), m.
    """
    keys = np.cumsum([key.dt if i else 0.0 for i, key in enumerate(keyframes)])
    at = np.clip(np.searchsorted(keys, times - 1e-9), min(1, len(keys) - 1), len(keys) - 1)
    carried = np.array([bool(key.supports) for key in keyframes])
    levels = np.array([[key.levels.get(name, 0.0) for name in CONTACTS] for key in keyframes])
    return carried[at], levels[at]


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int, bool]]:
    """Split a row of flags into (first frame, one past the last, flag)."""
    edges = [0, *(np.flatnonzero(np.diff(flags.astype(np.int8))) + 1), len(flags)]
    return [(int(a), int(b), bool(flags[a])) for a, b in pairwise(edges)]
