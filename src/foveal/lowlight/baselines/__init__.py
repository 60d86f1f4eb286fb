"""Enhancers to compare with, written from their papers, and bounds that know the answer.

bright = baselines.make("clahe", limit=0.02)(images)
model = baselines.train_zero_dce(pictures, device="cuda"); model.save("zero-dce.safetensors")
"""

from foveal.lowlight.baselines.bounds import BestCurve, LinearOracle, best_reciprocal
from foveal.lowlight.baselines.curves import (
    Gamma,
    GrayWorld,
    Identity,
    Log,
    RandomCurve,
    Reciprocal,
    TargetGamma,
    reciprocal_grid,
)
from foveal.lowlight.baselines.fusion import ExposureFusion, fuse
from foveal.lowlight.baselines.histograms import Clahe, HistogramEqualization
from foveal.lowlight.baselines.lime import Lime, guided_filter
from foveal.lowlight.baselines.network import TrainingStep
from foveal.lowlight.baselines.protocol import Baseline
from foveal.lowlight.baselines.registry import BASELINES, make
from foveal.lowlight.baselines.sci import SCI, train_sci
from foveal.lowlight.baselines.zero_dce import ZeroDCE, train_zero_dce

__all__ = [
    "BASELINES",
    "SCI",
    "Baseline",
    "BestCurve",
    "Clahe",
    "ExposureFusion",
    "Gamma",
    "GrayWorld",
    "HistogramEqualization",
    "Identity",
    "Lime",
    "LinearOracle",
    "Log",
    "RandomCurve",
    "Reciprocal",
    "TargetGamma",
    "TrainingStep",
    "ZeroDCE",
    "best_reciprocal",
    "fuse",
    "guided_filter",
    "make",
    "reciprocal_grid",
    "train_sci",
    "train_zero_dce",
]
