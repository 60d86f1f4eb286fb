"""The value of every measure on a figure: an array over frames, or one number of the clip."""

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.posecodes.figure import Figure
from foveal.motion.posecodes.gait import gait
from foveal.motion.posecodes.points import POINTS, UPRIGHT
from foveal.motion.posecodes.terms import (
    Aim,
    Clearance,
    Distance,
    FrameMeasure,
    Gait,
    Gap,
    Height,
    Hinge,
    Keys,
    Lean,
    Shift,
    Speed,
    Statistic,
    Tilt,
    Travel,
    Turn,
    WholeMeasure,
)
from foveal.motion.rotations import Array

_TOWARDS = {
    "above": "up", "below": "down", "in front of": "forward", "behind": "back",
    "left of": "left", "right of": "right",
}  # fmt: skip


def _along(vectors: Array, directions: Array) -> Array:
    return np.sum(vectors * directions, axis=-1)


def _angle(vectors: Array, directions: Array) -> Array:
    return np.degrees(np.arccos(np.clip(_along(vectors, directions), -1.0, 1.0)))


def _lean(figure: Figure, part: str, direction: str) -> Array:
    up = rot.rotate(rot.conjugate(figure.heading), figure.axis(part, "pointing"))
    column = 0 if direction in ("forward", "back") else 1
    sign = 1.0 if direction in ("forward", "left") else -1.0
    return sign * np.degrees(np.arctan2(up[:, column], up[:, 2]))


def _turn(figure: Figure, measure: Turn) -> Array:
    yaw = figure.yaw(measure.part)
    if measure.against == "pelvis":
        # rest and pelvis agree; whole turns between them are not twist
        turned = (yaw - figure.yaw("pelvis") + np.pi) % (2.0 * np.pi) - np.pi
    else:
        turned = yaw - yaw[0]
    return np.degrees(turned) * (1.0 if measure.direction == "left" else -1.0)


def _distance(figure: Figure, point: str, other: str) -> Array:
    if other in POINTS or other.replace(" ", "_") in figure.skeleton.names:
        return np.linalg.norm(figure.point(point) - figure.point(other), axis=-1)
    return figure.gap(figure.point(point), other)


def _shift(figure: Figure, point: str, direction: str) -> Array:
    moved = figure.point(point) - figure.point(point)[:1]
    if direction == "away":
        return np.linalg.norm(moved[:, :2], axis=-1)
    return _along(moved, figure.direction(direction, start=True))


def frame_values(figure: Figure, measure: FrameMeasure) -> Array:
    """Evaluate a measure in every frame, in its unit and in the figure's own size.

    Raises:
        ArgumentError: the body or scene lacks something that the measure names.
    """
    match measure:
        case Gap(point, relation, other):
            towards = figure.direction(_TOWARDS[relation])
            return _along(figure.point(point) - figure.point(other), towards)
        case Distance(point, other):
            return _distance(figure, point, other)
        case Hinge(name):
            return np.degrees(figure.clip.angles[:, figure.skeleton.hinge(name)])
        case Tilt(part, line):
            up = figure.axis(part, "pointing")[:, 2]
            if line == "horizontal":
                return np.degrees(np.arcsin(np.clip(np.abs(up), 0.0, 1.0)))
            up = up if part in UPRIGHT else np.abs(up)
            return np.degrees(np.arccos(np.clip(up, -1.0, 1.0)))
        case Lean(part, direction):
            return _lean(figure, part, direction)
        case Turn():
            return _turn(figure, measure)
        case Aim(part, verb, direction):
            if part == "pelvis" and verb == "facing" and direction not in ("up", "down"):
                # lying down, the heading is still where the standing figure would face
                facing = rot.rotate(figure.heading, np.array([1.0, 0.0, 0.0]))
                return _angle(facing, figure.direction(direction, start=True))
            axis = figure.axis(part, "facing" if verb == "facing" else "pointing")
            return _angle(axis, figure.direction(direction))
        case Height(point, surface):
            return figure.point(point)[:, 2] - figure.top(surface)
        case Shift(point, direction):
            return _shift(figure, point, direction)
        case Clearance(part, surface):
            points = figure.low_points(part)
            return figure.gap(points, surface, top=True).min(axis=1)
        case Speed(point, direction, against):
            velocity = figure.velocity(point)
            if against:
                velocity = velocity - figure.velocity(against)
            if not direction:
                return np.linalg.norm(velocity, axis=-1)
            return _along(velocity, figure.direction(direction))


def key_error(figure: Figure, keys: Clip | None) -> tuple[float, int]:
    """Return the largest distance of a body from the key poses, m, and its frame.

    Raises:
        ArgumentError: no key poses, another body, or a key after the end of the clip.
    """
    if keys is None:
        raise ArgumentError(
            "evaluate: keys is None, must be a clip of the user's key poses to judge 'keys kept'; "
            "pass one frame a key with keyframe_times"
        )
    if keys.skeleton.names != figure.skeleton.names or len(keys.keyframe_times) != keys.num_frames:
        raise ArgumentError(
            f"evaluate: keys has {keys.num_frames} frames and {len(keys.keyframe_times)} "
            "keyframe_times, must have one time a frame and the bodies of the clip; rebuild it"
        )
    if float(keys.keyframe_times.max()) > figure.clip.seconds + 1.0 / figure.clip.fps:
        raise ArgumentError(
            f"evaluate: keys ends at {float(keys.keyframe_times.max()):.2f} s, must end within the "
            f"clip of {figure.clip.seconds:.2f} s; lengthen the clip"
        )
    at = np.clip(np.round(keys.keyframe_times * figure.clip.fps), 0, figure.frames - 1).astype(int)
    error = np.linalg.norm(figure.clip.positions[at] - keys.positions, axis=-1).max(axis=1)
    worst = int(error.argmax())
    return float(error[worst]), int(at[worst])


def whole_value(figure: Figure, measure: WholeMeasure, keys: Clip | None) -> tuple[float, int]:
    """Evaluate a measure of the whole clip, and the frame that decides it.

    Raises:
        ArgumentError: the body, scene or keys lack something that the measure names.
    """
    last = figure.frames - 1
    match measure:
        case Travel(point, direction):
            return float(_shift(figure, point, direction)[-1]), last
        case Gait(name):
            return gait(figure, name), last
        case Keys():
            return key_error(figure, keys)
        case Statistic(kind, inner):
            values = frame_values(figure, inner)
            if kind == "mean":
                return float(values.mean()), last
            high, low = int(values.argmax()), int(values.argmin())
            if kind == "range":
                return float(values[high] - values[low]), high
            frame = high if kind == "largest" else low
            return float(values[frame]), frame
