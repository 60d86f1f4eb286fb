"""Unions and intersections of policies."""

from dataclasses import dataclass

from torch import Tensor

from foveal.attention.layout import BlockLayout
from foveal.attention.policy.base import Policy
from foveal.errors import ArgumentError


def _check(sign: str, *policies: object) -> None:
    """Raise ArgumentError unless all are policies."""
    for policy in policies:
        if not isinstance(policy, Policy):
            raise ArgumentError(
                f"Policy {sign}: an operand is {policy!r}, must be a Policy; use Window()"
            )


@dataclass(frozen=True)
class Either(Policy):
    """Keep the cells that `first` or `second` keeps. Written `first | second`."""

    first: Policy
    second: Policy

    def __post_init__(self) -> None:
        """Check the operands."""
        _check("|", self.first, self.second)

    def layout(
        self, q: Tensor, k: Tensor, *, causal: bool = True, scale: float | None = None
    ) -> BlockLayout:
        """Return the union; see `Policy.layout`."""
        one = self.first.layout(q, k, causal=causal, scale=scale)
        return one | self.second.layout(q, k, causal=causal, scale=scale)

    def for_layer(self, layer: int) -> Policy:
        """Return the combination of both policies of that layer."""
        return Either(self.first.for_layer(layer), self.second.for_layer(layer))

    def for_step(self, step: int) -> Policy:
        """Return the combination of both policies of that step."""
        return Either(self.first.for_step(step), self.second.for_step(step))

    def scoring_cost(self, layout: BlockLayout) -> float:
        """Return the sum of both costs."""
        return self.first.scoring_cost(layout) + self.second.scoring_cost(layout)


@dataclass(frozen=True)
class Both(Policy):
    """Keep the cells that `first` and `second` keep. Written `first & second`."""

    first: Policy
    second: Policy

    def __post_init__(self) -> None:
        """Check the operands."""
        _check("&", self.first, self.second)

    def layout(
        self, q: Tensor, k: Tensor, *, causal: bool = True, scale: float | None = None
    ) -> BlockLayout:
        """Return the intersection; see `Policy.layout`."""
        one = self.first.layout(q, k, causal=causal, scale=scale)
        return one & self.second.layout(q, k, causal=causal, scale=scale)

    def for_layer(self, layer: int) -> Policy:
        """Return the combination of both policies of that layer."""
        return Both(self.first.for_layer(layer), self.second.for_layer(layer))

    def for_step(self, step: int) -> Policy:
        """Return the combination of both policies of that step."""
        return Both(self.first.for_step(step), self.second.for_step(step))

    def scoring_cost(self, layout: BlockLayout) -> float:
        """Return the sum of both costs."""
        return self.first.scoring_cost(layout) + self.second.scoring_cost(layout)
