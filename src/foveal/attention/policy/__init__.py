"""Policies: which cells to keep."""

from foveal.attention.policy.base import Policy
from foveal.attention.policy.combine import Both, Either
from foveal.attention.policy.spans import Spans
from foveal.attention.policy.sparge import Sparge
from foveal.attention.policy.window import Window
from foveal.attention.policy.xattention import XAttention

__all__ = ["Both", "Either", "Policy", "Spans", "Sparge", "Window", "XAttention"]
