"""Exposure and noise of sensors: daylight pictures taken again in the dark.

dark = shoot(images, [draw_shot(seed) for seed in range(len(images))])     # and the records
dark = shoot(images, [Shot.of_triple(t, seed=0) for t in TRIPLES])         # fixed darkness
"""

from foveal.data.sensor_noise.color import (
    TONES,
    camera_matrix,
    linear_to_srgb,
    linear_to_tone,
    srgb_to_linear,
    tone_to_linear,
    undo_gains,
)
from foveal.data.sensor_noise.draw import SOURCES, draw_shot
from foveal.data.sensor_noise.exposure import Exposure, darken, sample_exposure
from foveal.data.sensor_noise.models import (
    CAMERAS,
    PHONE_LEVEL,
    TRIPLES,
    WHITE_LEVEL,
    CameraDraw,
    NoiseLine,
    brooks_noise,
    eld_noise,
    pmrid_noise,
    tukey_variance,
)
from foveal.data.sensor_noise.profiles import Profile, Profiles, camera_profiles, read_profiles
from foveal.data.sensor_noise.sensor import capture, demosaic, mosaic, tukey_lambda
from foveal.data.sensor_noise.shot import Shot, jpeg, shoot

__all__ = [
    "CAMERAS",
    "PHONE_LEVEL",
    "SOURCES",
    "TONES",
    "TRIPLES",
    "WHITE_LEVEL",
    "CameraDraw",
    "Exposure",
    "NoiseLine",
    "Profile",
    "Profiles",
    "Shot",
    "brooks_noise",
    "camera_matrix",
    "camera_profiles",
    "capture",
    "darken",
    "demosaic",
    "draw_shot",
    "eld_noise",
    "jpeg",
    "linear_to_srgb",
    "linear_to_tone",
    "mosaic",
    "pmrid_noise",
    "read_profiles",
    "sample_exposure",
    "shoot",
    "srgb_to_linear",
    "tone_to_linear",
    "tukey_lambda",
    "tukey_variance",
    "undo_gains",
]
