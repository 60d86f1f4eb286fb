"""Sink and local window: the pattern that looks at no data."""

from dataclasses import dataclass

from torch import Tensor

from foveal.attention.layout import BlockLayout
from foveal.attention.policy.base import Policy, check_count


@dataclass(frozen=True)
class Window(Policy):
    """Keep the first tokens and the nearest ones, in whole 64-token cells.

    Args:
        sink: Leading key tokens that every query keeps, at least 0.
        window: Nearest tokens that every query keeps, at least 1.

    Raises: ArgumentError: a value is out of range.
    Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks",
        arXiv:2309.17453.
    """

    sink: int = 64
    window: int = 1024

    def __post_init__(self) -> None:
        """Check the values."""
        check_count("Window", "sink", self.sink)
        check_count("Window", "window", self.window, least=1)

    def layout(
        self, q: Tensor, k: Tensor, *, causal: bool = True, scale: float | None = None
    ) -> BlockLayout:
        """Return the kept cells; `scale` has no part in it. See `Policy.layout`."""
        return BlockLayout.window(q, k, sink=self.sink, window=self.window, causal=causal)
