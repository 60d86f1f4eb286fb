"""Measures of a clip, each in its unit; nothing learned and no reference motions needed."""

from foveal.motion.metrics.contact import foot_skate, ground_penetration
from foveal.motion.metrics.scoring import Score, score
from foveal.motion.metrics.smoothness import limit_violation, mean_jerk
from foveal.motion.metrics.tracking import tracking_error

__all__ = [
    "Score",
    "foot_skate",
    "ground_penetration",
    "limit_violation",
    "mean_jerk",
    "score",
    "tracking_error",
]
