"""Baselines by name."""

import inspect
from collections.abc import Callable

from foveal.errors import ArgumentError
from foveal.lowlight.baselines.bounds import LinearOracle
from foveal.lowlight.baselines.curves import (
    Gamma,
    GrayWorld,
    Identity,
    Log,
    RandomCurve,
    Reciprocal,
    TargetGamma,
)
from foveal.lowlight.baselines.fusion import ExposureFusion
from foveal.lowlight.baselines.histograms import Clahe, HistogramEqualization
from foveal.lowlight.baselines.lime import Lime
from foveal.lowlight.baselines.protocol import Baseline
from foveal.lowlight.baselines.sci import SCI
from foveal.lowlight.baselines.zero_dce import ZeroDCE

BASELINES: dict[str, Callable[..., Baseline]] = {
    "identity": Identity,
    "gamma": Gamma,
    "target-gamma": TargetGamma,
    "log": Log,
    "reciprocal": Reciprocal,
    "histogram": HistogramEqualization,
    "clahe": Clahe,
    "gray-world": GrayWorld,
    "lime": Lime,
    "fusion": ExposureFusion,
    "random-curve": RandomCurve,
    "zero-dce": ZeroDCE.load,
    "sci": SCI.load,
    "linear-oracle": LinearOracle,
}
"""What makes each baseline; "linear-oracle" is a bound and wants `k`."""


def make(name: str, **options: object) -> Baseline:
    """Make a baseline.

    Args:
        name: Of `BASELINES`.
        options: Its settings; `source` for the weights of the learned ones.

    Raises:
        ArgumentError: no such baseline, setting or weights; or a setting is missing or bad.

    Example: >>> make("gamma", gamma=0.5)(images)
    """
    factory = BASELINES.get(name)
    if factory is None:
        raise ArgumentError(f"make: name is {name!r}, must be one of {sorted(BASELINES)}")
    known = inspect.signature(factory).parameters
    for option in options:
        if option not in known:
            raise ArgumentError(
                f"make: {name} has no option {option!r}, must be one of {sorted(known)}"
            )
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise ArgumentError(f"make: {name} wants {option}=, and has no default for it")
    return factory(**options)
