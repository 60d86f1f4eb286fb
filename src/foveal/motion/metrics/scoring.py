"""Measures of a clip, each in its unit; nothing learned and no reference motions."""

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.predicates import check_predicates
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES

Score = dict[str, float | int | str | dict[str, bool] | list[str] | None]


def foot_skate(clip: Clip) -> float:
    """Mean horizontal speed of planted feet, m/s; 0 if no foot is ever planted.

    A foot counts between two frames that are both planned contacts; its speed is that of the
    slowest sole point, so that rolling over the toes is not sliding.
    """
    speeds: list[Array] = []
    for column, side in enumerate(SIDES):
        points = clip.skeleton.sole_points(clip.positions, clip.world_rotations, side)[..., :2]
        planted = clip.contacts[1:, column] & clip.contacts[:-1, column]
        speed = np.linalg.norm(np.diff(points, axis=0), axis=-1).min(axis=1) * clip.fps
        speeds.append(speed[planted])
    joined = np.concatenate(speeds)
    return float(joined.mean()) if len(joined) else 0.0


def mean_jerk(clip: Clip) -> float:
    """Mean over bodies and frames of the norm of the third position difference, m/s^3."""
    if clip.num_frames < 4:
        return 0.0
    jerk = np.diff(clip.positions, n=3, axis=0) * clip.fps**3
    return float(np.linalg.norm(jerk, axis=-1).mean())


def ground_penetration(clip: Clip) -> float:
    """Largest depth of a solid's surface or sole below the floor, m."""
    lowest, bare = np.inf, set[int]()
    for side in SIDES:
        points = clip.skeleton.sole_points(clip.positions, clip.world_rotations, side)
        lowest = min(lowest, float(points[..., 2].min(initial=np.inf)))
        bare |= {body for body, _ in clip.skeleton.soles[side]}
    for shape in clip.skeleton.shapes:
        if shape.body in bare:  # the soles stand for these
            continue
        for corner in shape.corners:
            point = clip.positions[:, shape.body] + rot.rotate(
                clip.world_rotations[:, shape.body], corner
            )
            lowest = min(lowest, float(point[:, 2].min()) - shape.radius)
    return max(0.0, -lowest)


def tracking_error(clip: Clip) -> float | None:
    """Mean distance of body origins to those of the reference, m; None without a reference."""
    if clip.reference is None:
        return None
    count = min(clip.num_frames, clip.reference.num_frames)
    gap = clip.positions[:count] - clip.reference.positions[:count]
    return float(np.linalg.norm(gap, axis=-1).mean())


def limit_violation(clip: Clip) -> float:
    """Largest excess of a hinge over its limits, rad."""
    low, high = clip.skeleton.limits.T
    excess = np.maximum(low - clip.angles, clip.angles - high)
    return float(max(0.0, excess.max()))


def score(clip: Clip) -> Score:
    """Measure a clip.

    Returns: `foot_skate` m/s, `jerk` m/s^3, `ground_penetration` m, `tracking_error` m or None,
    `limit_violation` rad, `predicates` (a truth value for each asked action that the library
    knows), `predicate_failures` (how many are false), `unchecked_actions` (names that the library
    does not know), `status` and `seconds`. A status of "tracked" says only that the figure did
    not fall; whether it did what was asked is in `predicates`.
    """
    from foveal.motion.director.library import ACTIONS

    predicates = check_predicates(clip)
    return {
        "status": clip.status,
        "seconds": clip.seconds,
        "foot_skate": foot_skate(clip),
        "jerk": mean_jerk(clip),
        "ground_penetration": ground_penetration(clip),
        "tracking_error": tracking_error(clip),
        "limit_violation": limit_violation(clip),
        "predicates": predicates,
        "predicate_failures": sum(not passed for passed in predicates.values()),
        "unchecked_actions": [name for name, _ in clip.actions if name not in ACTIONS],
    }
