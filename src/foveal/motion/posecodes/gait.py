"""The numbers of a walk, from geometry alone; styles are told by them against a neutral walk.

Which numbers carry a style is after Roether et al., "Critical features for the perception of
emotion from gait", Journal of Vision 9(6), 2009. Differs: our own definitions and units.
"""

from dataclasses import dataclass

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.contacts import runs
from foveal.motion.posecodes.figure import Figure
from foveal.motion.posecodes.terms import GAITS
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES

_LIFTED = 0.02  # m at 1.7 m height: a sole above this over the lowest support swings


@dataclass(frozen=True)
class _Swing:
    start: int
    end: int
    length: float
    lift: float
    drop: float


def _swings(figure: Figure, side: str) -> list[_Swing]:
    """Whole swings of a foot: one that is cut by the first or last frame is left out."""
    clear = figure.low_points(f"{side} foot")[..., 2].min(axis=1)
    clear = clear - figure.support if _grounded(figure) else clear - clear.min()
    ankle = figure.point(f"{side} ankle")
    falling = -figure.velocity(f"{side} ankle")[:, 2]
    out: list[_Swing] = []
    for start, end, up in runs(clear > _LIFTED * figure.scale):
        if up and start > 0 and end < figure.frames:
            step = ankle[end, :2] - ankle[start - 1, :2]
            out.append(
                _Swing(
                    start,
                    end,
                    float(np.linalg.norm(step)),
                    float(clear[start:end].max()),
                    float(falling[start : end + 1].max()),
                )
            )
    return out


def _grounded(figure: Figure) -> bool:
    """Whether some sole is near the lowest level of the clip in every frame: no flight."""
    low = figure.support
    return bool((low - low.min()).max() < 3.0 * _LIFTED * figure.scale)


def _local(figure: Figure, name: str) -> Array:
    """Positions against the pelvis, in the figure's heading."""
    away = figure.point(name) - figure.point("pelvis")
    return rot.rotate(rot.conjugate(figure.heading), away)


def _relative_spread(values: Array) -> float:
    mean = float(np.mean(values)) if len(values) else 0.0
    return float(np.std(values)) / mean if mean > 0 and len(values) > 1 else 0.0


def _swing_number(figure: Figure, name: str) -> float:
    sides = [_swings(figure, side) for side in SIDES]
    both = sorted([swing for side in sides for swing in side], key=lambda swing: swing.start)
    if name == "cadence":
        return len(both) / max(figure.clip.seconds, 1.0 / figure.clip.fps)
    if not both:
        return 0.0
    lengths = np.array([swing.length for swing in both])
    if name == "stride":
        return float(lengths.mean())
    if name == "foot lift":
        return float(np.mean([swing.lift for swing in both]))
    if name == "footfall":
        return float(np.mean([swing.drop for swing in both]))
    if name == "irregularity":
        spans = np.array([swing.end - swing.start for swing in both], np.float64)
        # lengths of the first and last swings differ in any walk from standing to standing
        inner = lengths[1:-1] if len(lengths) > 3 else lengths
        return max(_relative_spread(inner), _relative_spread(spans))
    if not all(sides):
        return 1.0
    out = 0.0
    for kind in ("length", "span"):
        left, right = (
            float(np.mean([s.length if kind == "length" else s.end - s.start for s in side]))
            for side in sides
        )
        out = max(out, abs(left - right) / max(left + right, 1e-9))
    return out


def gait(figure: Figure, name: str) -> float:
    """Return one number of a walk.

    Args:
        figure: The walk.
        name: "speed" (pelvis, net, m/s), "stride" (mean length of a foot's swing, m), "cadence"
            (swings a second), "bounce" (pelvis up and down, peak to peak of a sine of the same
            spread, m), "sway" (the same sideways, about the straight line of travel), "step
            width" (ankles, sideways, m), "foot lift" (mean highest clearance of a swing, m),
            "arm swing" (range of the wrists forward and back, mean of both, m), "asymmetry"
            (difference of left and right swings over their sum), "irregularity" (spread of swings
            over their mean), "footfall" (fastest fall of the ankle in a swing, m/s) or "hand
            spread" (hands sideways from the hips, m).

    Raises:
        ArgumentError: no such number.
    """
    pelvis, seconds = figure.point("pelvis"), max(figure.clip.seconds, 1.0 / figure.clip.fps)
    sine = 2.0 * 2.0**0.5
    if name in ("stride", "cadence", "foot lift", "asymmetry", "irregularity", "footfall"):
        return _swing_number(figure, name)
    if name == "speed":
        return float(np.linalg.norm(pelvis[-1, :2] - pelvis[0, :2])) / seconds
    if name == "bounce":
        return sine * float(pelvis[:, 2].std())
    if name == "sway":
        line = pelvis[-1, :2] - pelvis[0, :2]
        length = float(np.linalg.norm(line))
        along = line / length if length > 1e-6 else figure.direction("forward")[0, :2]
        away = pelvis[:, :2] - pelvis[0, :2]
        return sine * float((away[:, 1] * along[0] - away[:, 0] * along[1]).std())
    if name == "step width":
        apart = _local(figure, "left ankle") - _local(figure, "right ankle")
        return float(np.abs(apart[:, 1]).mean())
    if name == "arm swing":
        return float(np.mean([np.ptp(_local(figure, f"{s} wrist")[:, 0]) for s in SIDES]))
    if name == "hand spread":
        gaps = [
            np.abs(_local(figure, f"{s} hand")[:, 1] - _local(figure, f"{s} hip")[:, 1])
            for s in SIDES
        ]
        return float(np.mean(gaps))
    raise ArgumentError(f"gait: name is {name!r}, must be one of {', '.join(GAITS)}; pick one")
