"""Attention that computes only the cells that matter, and says what that cost.

`attend` works on tensors, `attach` on a transformers model. A policy (`XAttention`, `Window`,
`a | b`, `a & b`) chooses cells and returns a `BlockLayout`; exact attention runs over those.
"""

from foveal.attention.attach import Handle, attach
from foveal.attention.attend import attend
from foveal.attention.block_sparse import block_sparse_attention
from foveal.attention.layout import BlockLayout
from foveal.attention.policy import Policy, Window, XAttention

__all__ = [
    "BlockLayout",
    "Handle",
    "Policy",
    "Window",
    "XAttention",
    "attach",
    "attend",
    "block_sparse_attention",
]
