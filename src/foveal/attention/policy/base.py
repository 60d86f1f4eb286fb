"""What a policy is: queries and keys in, kept cells out."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import BlockLayout


class Policy(ABC):
    """Chooses which cells to keep. It sees queries and keys, never an attention kernel.

    Policies combine: `a | b` keeps what either keeps, `a & b` what both keep.
    """

    @abstractmethod
    def layout(
        self,
        q: Float[Tensor, "b h s d"],
        k: Float[Tensor, "b g t d"],
        *,
        causal: bool = True,
        scale: float | None = None,
    ) -> BlockLayout:
        """Return the kept cells for these queries and keys.

        Args:
            q: Queries.
            k: Keys; g divides h.
            causal: Bottom-right causal.
            scale: Logit factor, unitless. Default 1/sqrt(d).
        """

    def for_layer(self, layer: int) -> "Policy":
        """Return the policy of one layer, counted from 0. `attach` asks; by default all alike."""
        return self

    def scoring_cost(self, layout: BlockLayout) -> float:
        """Return what choosing `layout` cost, in block products; 0 where nothing was scored."""
        return 0.0

    def __or__(self, other: "Policy") -> "Policy":
        """Keep what either policy keeps."""
        from foveal.attention.policy.combine import Either

        return Either(self, other)

    def __and__(self, other: "Policy") -> "Policy":
        """Keep what both policies keep."""
        from foveal.attention.policy.combine import Both

        return Both(self, other)
