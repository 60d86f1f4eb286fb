"""Block mass of the antidiagonal scores, as clear loops in fp64."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import CELL, check_sizes, num_cells
from foveal.attention.reference import antidiagonal_reference


def block_mass_reference(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    *,
    stride: int,
    causal: bool = True,
    alternate: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "b h n m"]:
    """Sum, per 64 x 64 cell, the softmax over strided keys of the antidiagonal scores.

    A strided row sees the strided columns that hold a key visible to any of its queries.

    Returns: Mass per cell, fp64; a row of cells sums to its number of strided rows.
    Cost: every pair of tokens, in Python; for tests only.
    """
    check_sizes("block_mass_reference", q, k)
    b, h, s, d = q.shape
    t = k.shape[2]
    scale = 1 / math.sqrt(d) if scale is None else scale
    mass = torch.zeros(b, h, num_cells(s), num_cells(t), dtype=torch.float64)
    for i_batch in range(b):
        for i_head in range(h):
            keys = k[i_batch, i_head // (h // k.shape[1])]
            scores = scale * antidiagonal_reference(
                q[i_batch, i_head], keys, stride=stride, alternate=alternate
            )
            for i in range(scores.shape[0]):
                last_query = min((i + 1) * stride, s) - 1
                seen = [
                    j
                    for j in range(scores.shape[1])
                    if (not causal or j * stride <= last_query + t - s) and scores[i, j] > -math.inf
                ]
                if not seen:
                    continue
                for j, weight in zip(seen, torch.softmax(scores[i, seen], 0), strict=True):
                    mass[i_batch, i_head, i * stride // CELL, j * stride // CELL] += weight
    return mass
