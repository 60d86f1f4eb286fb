"""Cheap scores that say which cells of an attention matrix matter."""

from foveal.attention.score.api import antidiagonal_scores, block_mass, iter_block_mass

__all__ = ["antidiagonal_scores", "block_mass", "iter_block_mass"]
