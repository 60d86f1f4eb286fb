"""Statistics that the stages and benchmarks share."""

from foveal.stats.bootstrap import Interval, paired_bootstrap

__all__ = ["Interval", "paired_bootstrap"]
