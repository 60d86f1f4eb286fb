"""Unions and intersections of policies."""

from dataclasses import dataclass

from torch import Tensor

from foveal.attention.layout import BlockLayout
from foveal.attention.policy.base import Policy


@dataclass(frozen=True)
class Either(Policy):
    """Keep the cells that `first` or `second` keeps. Written `first | second`."""

    first: Policy
    second: Policy

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
