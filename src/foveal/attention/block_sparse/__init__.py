"""Exact attention over kept cells."""

from foveal.attention.block_sparse.api import Impl, block_sparse_attention

__all__ = ["Impl", "block_sparse_attention"]
