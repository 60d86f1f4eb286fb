"""The one value that every stage returns beside its result: what it spent and what that cost."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from foveal.errors import ArgumentError

STAGES = ("lowlight", "codec", "attention", "motion")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a stage spent, what the full price would have been, and the measured loss.

    Args:
        stage: One of `STAGES`.
        unit: Unit of `spent` and `full`, for example "bytes".
        spent: Amount spent, in `unit`, >= 0.
        full: Amount that the full-price method spends, in `unit`, > 0.
        loss: Measured loss, or None if it was not measured. Never an estimate.
        loss_metric: What `loss` is, in words; empty exactly when `loss` is None.
        seconds: Wall time of the stage, >= 0.
        details: Anything else, JSON-serialisable; `details["estimated"]` names estimates.

    Raises:
        ArgumentError: a value is out of range, or `loss` and `loss_metric` disagree.
    """

    stage: str
    unit: str
    spent: float
    full: float
    loss: float | None
    loss_metric: str
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        if self.stage not in STAGES:
            raise ArgumentError(f"Receipt: stage is {self.stage!r}, must be one of {STAGES}")
        for name in ("spent", "full", "seconds"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ArgumentError(f"Receipt: {name} is {value}, must be finite and >= 0")
        if self.full == 0:
            raise ArgumentError("Receipt: full is 0, must be > 0")
        if self.loss is not None and not math.isfinite(self.loss):
            raise ArgumentError(f"Receipt: loss is {self.loss}, must be finite or None")
        if (self.loss is None) != (self.loss_metric == ""):
            raise ArgumentError(
                f"Receipt: loss is {self.loss} and loss_metric is {self.loss_metric!r}, "
                "must be both given or both absent"
            )

    @property
    def spent_fraction(self) -> float:
        """`spent / full`; below 1 when the stage saved something."""
        return self.spent / self.full

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, ready for JSON."""
        return {**asdict(self), "details": dict(self.details)}

    def __str__(self) -> str:
        """One line."""
        loss = "loss not measured" if self.loss is None else f"{self.loss_metric} {self.loss:.4g}"
        return (
            f"{self.stage}: {_amount(self.spent)} of {_amount(self.full)} {self.unit} "
            f"({percent(self.spent_fraction)}), {loss}, {self.seconds:.2f} s"
        )


def percent(fraction: float) -> str:
    """Write a fraction as a percentage with at least two significant digits."""
    return f"{100 * fraction:.1f} %" if fraction >= 0.1 else f"{100 * fraction:.2g} %"


def _amount(value: float) -> str:
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if suffix == 'k' else limit):.3g}{suffix}"
    return f"{value:.4g}"
