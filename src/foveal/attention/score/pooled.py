"""Means of 64-token cells, how alike the tokens of a cell are, and scores between the means.

Source: Zhang et al., "SpargeAttention: Accurate and Training-free Sparse Attention Accelerating Any
Model Inference", ICML 2025, arXiv:2502.18137. Written from the paper's formulas.
Differs: see `PooledCells.self_similarity`; ragged ends are pooled over the tokens that exist.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from foveal.attention.layout import CELL, num_cells
from foveal.errors import ArgumentError, ShapeError

_CHUNK_BYTES = 32 * 2**20
"""Most memory that one chunk of scores, or of tokens in fp32, may take."""


@dataclass(frozen=True, eq=False)
class PooledCells:
    """What one pass over the tokens of every 64-token cell found.

    Attributes:
        mean: Mean token, fp32.
        self_similarity: Mean cosine of all ordered pairs of tokens of the cell, a token with itself
            included, in [0, 1], fp32. Zero tokens have cosine 0 with all; a cell that holds NaN or
            infinity has NaN. It is computed as the squared norm of the mean unit token, so nothing
            of size 64 x 64 exists. Differs from the paper, which divides the Gram matrix of the
            tokens as they are by its largest entry; the released code normalizes as here.
    """

    mean: Float[Tensor, "b h n d"]
    self_similarity: Float[Tensor, "b h n"]


def mean_token(x: Float[Tensor, "b h s d"]) -> Float[Tensor, "b h 1 d"]:
    """Return the mean over the tokens, accumulated and returned in fp32."""
    return x.mean(2, keepdim=True, dtype=torch.float32)


def pool_cells(
    x: Float[Tensor, "b h s d"], *, shift: Float[Tensor, "b h 1 d"] | None = None
) -> PooledCells:
    """Pool every 64-token cell of `x`; the last one over the tokens that it has.

    Args:
        x: Queries or keys, any floating type.
        shift: Subtracted from every token before anything else, in fp32 (`mean_token` of the keys
            is the smoothing of SageAttention). `x` itself is left as it is.

    Raises: ShapeError: `x` is not four-dimensional or has no token.
    Memory: the results and about 150 MiB, at any length.
    """
    if x.ndim != 4 or min(x.shape) < 1:
        raise ShapeError(
            f"pool_cells: x has shape {tuple(x.shape)}, must be (b, h, s, d) with no empty axis; "
            "pass at least one token"
        )
    b, h, s, d = x.shape
    cells = max(1, _CHUNK_BYTES // (4 * b * h * CELL * d))
    means: list[Tensor] = []
    similar: list[Tensor] = []
    for start in range(0, s, cells * CELL):
        some = x[:, :, start : start + cells * CELL].float()
        if shift is not None:
            some = some - shift
        rows = some.shape[2]
        there = torch.full((num_cells(rows),), float(CELL), device=x.device, dtype=torch.float32)
        there[-1] = rows - (len(there) - 1) * CELL
        norm = torch.linalg.vector_norm(some, dim=3, keepdim=True)
        # A zero token divides by infinity: 0. One with NaN or infinity gives NaN.
        unit = some / norm.masked_fill(norm == 0, math.inf)
        unit = unit.masked_fill(~norm.isfinite(), math.nan)
        pad = (0, 0, 0, -rows % CELL)
        sums = [
            torch.nn.functional.pad(y, pad).unflatten(2, (-1, CELL)).sum(3) / there[:, None]
            for y in (some, unit)
        ]
        means.append(sums[0])
        similar.append(sums[1].square().sum(3).clamp_max(1.0))
    return PooledCells(torch.cat(means, 2), torch.cat(similar, 2))


def visible_cells(
    first: int, rows: int, *, num_queries: int, num_keys: int, device: torch.device
) -> Bool[Tensor, "n m"]:
    """Return which cells of keys hold a key that the bottom-right causal rule lets a row see.

    Args:
        first: First query cell.
        rows: Number of query cells.
        num_queries: Tokens on the query axis.
        num_keys: Tokens on the key axis.
        device: Where the result lives.
    """
    left = torch.arange(num_cells(num_keys), device=device) * CELL
    last = (torch.arange(1, rows + 1, device=device) + first) * CELL
    last = last.clamp_max(num_queries) - 1 + (num_keys - num_queries)
    return left <= last[:, None]


def iter_pooled_scores(
    q: PooledCells,
    k: PooledCells,
    *,
    num_queries: int,
    num_keys: int,
    causal: bool,
    scale: float,
) -> Iterator[tuple[int, Float[Tensor, "b h n m"]]]:
    """Yield (first query cell, scale * mean query . mean key) for chunks of query cells.

    Args:
        q: Pooled queries of `num_queries` tokens.
        k: Pooled keys of `num_keys` tokens; their heads divide those of `q` and are not repeated.
        num_queries: Tokens on the query axis.
        num_keys: Tokens on the key axis.
        causal: Cells without a visible pair get -inf. Bottom-right: a cell of keys is visible when
            its first key is at or before the last query of the row, at true offsets. A cell on
            the diagonal is pooled over all its keys, visible or not.
        scale: Logit factor, unitless: 1/sqrt of the width that the heads had before any padding.

    Raises: ArgumentError: the token counts do not match the cells.
    Memory: about 32 MiB a chunk, or one row of cells if that is more. No n x m buffer exists.
    """
    b, h, n, _ = q.mean.shape
    g, m = k.mean.shape[1:3]
    if (num_cells(num_queries), num_cells(num_keys)) != (n, m):
        raise ArgumentError(
            f"iter_pooled_scores: num_queries and num_keys are {num_queries} and {num_keys}, must "
            f"fill {n} and {m} cells of {CELL}; pass the counts that were pooled"
        )
    cells = max(1, _CHUNK_BYTES // (4 * b * h * m))
    for first in range(0, n, cells):
        some = q.mean[:, :, first : first + cells]
        rows = some.shape[2]
        grouped = some.unflatten(1, (g, h // g)).flatten(2, 3)
        scores = torch.matmul(grouped, k.mean.transpose(2, 3)).view(b, h, rows, m).mul_(scale)
        if causal:
            seen = visible_cells(
                first, rows, num_queries=num_queries, num_keys=num_keys, device=scores.device
            )
            scores.masked_fill_(~seen, -math.inf)
        yield first, scores
