"""Sparge's choice of cells as clear loops in fp64, with the full Gram matrix of every cell."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from foveal.attention.layout import CELL, check_sizes, num_cells


def self_similarity_reference(tokens: Float[Tensor, "n d"]) -> float:
    """Average the cosines of all ordered pairs of tokens, in fp64. A zero token has cosine 0."""
    x = tokens.double()
    lengths = x.norm(dim=1)[:, None] * x.norm(dim=1)[None, :]
    cosines = torch.where(lengths > 0, (x @ x.T) / lengths, 0.0)
    return float(cosines.sum()) / len(tokens) ** 2


def sparge_reference(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    *,
    threshold: float | None = None,
    top_k: float | None = None,
    similarity: float = -1.0,
    include_crossing: bool = True,
    keep_sink: bool = False,
    smooth_k: bool = True,
    causal: bool = True,
    scale: float | None = None,
) -> Bool[Tensor, "b h n m"]:
    """Choose the cells that `Sparge` chooses, one query cell of one head after the other.

    Args:
        q: Queries.
        k: Keys; g divides h.
        threshold: Mass fraction of the row, or None.
        top_k: Fraction of the visible cells of the row, or None.
        similarity: Cells must be more alike than this to be judged by their mean.
        include_crossing: Whether the cell that reaches `threshold` is kept.
        keep_sink: Keep the first cell of keys.
        smooth_k: Subtract the mean key before the test of likeness.
        causal: Bottom-right causal.
        scale: Logit factor. Default 1/sqrt(d).

    Returns: True where a cell is kept; cells without a visible pair are False.
    Cost: every pair of tokens of a cell, in Python; for tests only.
    """
    check_sizes("sparge_reference", q, k)
    b, h, s, d = q.shape
    t = k.shape[2]
    scale = 1 / math.sqrt(d) if scale is None else scale
    kept = torch.zeros(b, h, num_cells(s), num_cells(t), dtype=torch.bool)
    for i_batch in range(b):
        for i_head in range(h):
            queries = q[i_batch, i_head].double()
            keys = k[i_batch, i_head // (h // k.shape[1])].double()
            if smooth_k:
                keys = keys - keys.mean(0)
            key_cells = keys.split(CELL)
            alike = [self_similarity_reference(cell) > similarity for cell in key_cells]
            for n, cell in enumerate(queries.split(CELL)):
                first, last = n * CELL, n * CELL + len(cell) - 1
                seen = [m for m in range(len(key_cells)) if not causal or m * CELL <= last + t - s]
                row = kept[i_batch, i_head, n]
                if self_similarity_reference(cell) <= similarity:
                    row[seen] = True
                    continue
                judged = [m for m in seen if alike[m]]
                row[[m for m in seen if not alike[m]]] = True
                if keep_sink and seen:
                    row[0] = True
                for m in seen if causal else []:
                    row[m] |= (m + 1) * CELL > first + t - s
                if not judged:
                    continue
                logits = torch.stack(
                    [scale * (cell.mean(0) @ key_cells[m].mean(0)) for m in judged]
                )
                ranked = torch.softmax(logits, 0).sort(descending=True, stable=True)
                mass = 0.0
                for rank, (weight, i) in enumerate(zip(*ranked, strict=True)):
                    if threshold is not None:
                        before, mass = mass, mass + float(weight)
                        wanted = before < threshold if include_crossing else mass <= threshold
                    else:
                        wanted = top_k is not None and rank < math.ceil(top_k * len(seen) - 1e-9)
                    row[judged[int(i)]] |= wanted or rank == 0
    return kept
