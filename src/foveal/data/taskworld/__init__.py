"""Rooms and streets drawn from seeds, with exact labels for many tasks."""

from foveal.data.taskworld.labels import Labels, render
from foveal.data.taskworld.motion import Clip, Frame, fingerprint_clips, render_clip, sample_clip
from foveal.data.taskworld.scenes import fingerprint, sample
from foveal.data.taskworld.tasks import TASKS, Task, decode_depth, encode_depth, targets
from foveal.data.taskworld.world import (
    CLASSES,
    MAX_COUNT,
    MAX_SOLIDS,
    SCENES,
    SPLITS,
    VERSION,
    Scene,
)  # fmt: skip

__all__ = [
    "CLASSES", "MAX_COUNT", "MAX_SOLIDS", "SCENES", "SPLITS", "TASKS", "VERSION", "Clip", "Frame",
    "Labels", "Scene", "Task", "decode_depth", "encode_depth", "fingerprint",
    "fingerprint_clips", "render",
    "render_clip", "sample", "sample_clip", "targets",
]  # fmt: skip
