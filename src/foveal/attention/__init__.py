"""Attention that computes only the cells that matter, and says what that cost.

`attend` and `attend_varlen` work on tensors, `attach` on models. A policy
(`XAttention`, `Sparge`, `Spans`, `Window`, `a | b`, `a & b`) chooses cells and returns a
`BlockLayout`; a precision (`Sage`) says with which numbers those are computed.
"""

from foveal.attention.attach import Handle, attach
from foveal.attention.attend import attend, attend_varlen
from foveal.attention.block_sparse import block_sparse_attention
from foveal.attention.integrations.transformers import register
from foveal.attention.layout import BlockLayout
from foveal.attention.order import TokenOrder, hilbert_order
from foveal.attention.policy import Policy, Spans, Sparge, Window, XAttention
from foveal.attention.precision import Sage

__all__ = [
    "BlockLayout",
    "Handle",
    "Policy",
    "Sage",
    "Spans",
    "Sparge",
    "TokenOrder",
    "Window",
    "XAttention",
    "attach",
    "attend",
    "attend_varlen",
    "block_sparse_attention",
    "hilbert_order",
    "register",
]
