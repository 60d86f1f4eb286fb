"""Strided antidiagonal scores and the attention mass that they predict per cell.

Source: Xu et al., "XAttention: Block Sparse Attention with Antidiagonal Scoring", ICML 2025,
arXiv:2503.16428. Written from the paper's formulas. Differs: an optional alternating residue, true
token offsets when s != t, ragged ends averaged over the pairs that exist.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import CELL, check_sizes, num_cells
from foveal.errors import ArgumentError

_CHUNK_BYTES = 32 * 2**20
"""Most memory that one chunk of strided scores may take."""


def _check_stride(fn: str, stride: int) -> None:
    if stride < 1 or CELL % stride:
        raise ArgumentError(
            f"{fn}: stride is {stride}, must be a power of two from 1 to {CELL}; use 8 or 16"
        )


def _group_queries(q: Tensor, stride: int, first: int, alternate: bool) -> Tensor:
    """Lay each group of `stride` queries along the feature axis in the order of the antidiagonal.

    (b, h, s, d) with s a multiple of `stride` becomes (b, h, s / stride, stride * d). `first` is
    the position of the first query on the axis of the keys: it says which groups are odd.
    """
    num_groups = q.shape[2] // stride
    step = torch.arange(stride, device=q.device)
    index = (stride - 1 - step).expand(num_groups, stride)
    if alternate:
        position = torch.arange(num_groups, device=q.device) * stride + first
        odd = position.div(stride, rounding_mode="floor") % 2 == 1
        index = torch.where(odd[:, None], (stride - 2 - step) % stride, index)
    tokens = torch.arange(num_groups, device=q.device)[:, None] * stride + index
    return q.index_select(2, tokens.flatten()).unflatten(2, (num_groups, stride)).flatten(3)


def _pad_groups(x: Tensor, stride: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, 0, 0, -x.shape[2] % stride))


def _scores(
    q: Tensor,
    keys: Tensor,
    stride: int,
    first: int,
    alternate: bool,
    num_keys: int,
    factor: float = 1.0,
) -> Tensor:
    """Mean logit per tile, times `factor`, for some groups of queries.

    `keys` is (b, g, j, stride * d), fp32; `first` is the position of the first query on the axis
    of the keys.
    """
    b, h, rows, _ = q.shape
    rows_q = _group_queries(_pad_groups(q.float(), stride), stride, first, alternate)
    g, columns = keys.shape[1:3]
    grouped = rows_q.unflatten(1, (g, h // g)).reshape(b * g, -1, rows_q.shape[3])
    nothing = grouped.new_zeros(1, 1, 1)
    ragged = rows % stride or num_keys % stride
    alpha = factor if ragged else factor / stride
    scores = torch.baddbmm(nothing, grouped, keys.flatten(0, 1).mT, beta=0, alpha=alpha)
    scores = scores.view(b, h, -1, columns)
    if ragged:
        there_q = torch.ones(1, 1, rows, 1, device=q.device, dtype=torch.float32)
        there_q = _group_queries(_pad_groups(there_q, stride), stride, first, alternate)
        there_k = torch.ones(1, 1, num_keys, 1, device=q.device, dtype=torch.float32)
        there_k = _pad_groups(there_k, stride).view(-1, stride)
        pairs = there_q[0, 0] @ there_k.T
        return (scores / pairs.clamp_min(1)).masked_fill(pairs == 0, -math.inf)
    return scores


def antidiagonal_scores(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    *,
    stride: int,
    alternate: bool = False,
) -> Float[Tensor, "b h i j"]:
    """Average the logits on the antidiagonal of every stride x stride tile, by one product.

    G[i, j] = mean over m of q[i*S + S-1-m] . k[j*S + m]. Each token takes part once. Because the
    sum is a dot product of S*d numbers, all of G is one matrix product with d*s*t/S multiply-adds.

    Args:
        q: Queries.
        k: Keys; grouped heads are not repeated.
        stride: S, a divisor of 64.
        alternate: On odd groups, pair key m with query (S-2-m) mod S instead. Without it an even
            stride samples odd query-key distances only and misses a slash at an even one. A group
            is odd by its position on the axis of the keys, bottom-right aligned, so the same query
            meets the same keys in a chunked prefill.

    Returns: Scores, fp32, not scaled by 1/sqrt(d); -inf where a ragged tile holds no such pair.
    Raises: ShapeError: q and k disagree. ArgumentError: `stride` does not divide 64.
    Memory: all of G, that is 4*b*h*s*t/S^2 bytes; `iter_block_mass` is bounded instead.
    """
    check_sizes("antidiagonal_scores", q, k)
    _check_stride("antidiagonal_scores", stride)
    keys = _pad_groups(k.float(), stride).unflatten(2, (-1, stride)).flatten(3)
    return _scores(q, keys, stride, k.shape[2] - q.shape[2], alternate, k.shape[2])


def iter_block_mass(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    *,
    stride: int,
    causal: bool = True,
    alternate: bool = False,
    scale: float | None = None,
    multiple: int = 1,
) -> Iterator[tuple[int, Float[Tensor, "b h n m"]]]:
    """Yield (first query cell, attention mass per cell) for successive chunks of query cells.

    Mass is the softmax over all visible strided keys of scale * G, summed inside each cell, so a
    row of cells sums to its number of strided rows.

    Args:
        q: Queries.
        k: Keys.
        stride: S, a divisor of 64.
        causal: Bottom-right causal on groups: a group of queries sees the groups of keys that
            start at or before its last query. Acausal pairs in the diagonal tiles do count.
        alternate: See `antidiagonal_scores`.
        scale: Logit factor, unitless. Default 1/sqrt(d).
        multiple: Chunks hold a multiple of this many cells (the last may hold fewer).

    Raises: ShapeError, ArgumentError: as `antidiagonal_scores`.
    Memory: about 64 MiB beside one fp32 copy of k, at any length; a chunk has `multiple` cells
        at least, so 4*b*h*multiple*64*t/S^2 bytes if that is more. No s x t buffer exists.
    """
    check_sizes("iter_block_mass", q, k)
    _check_stride("iter_block_mass", stride)
    b, h, s, d = q.shape
    t = k.shape[2]
    scale = 1 / math.sqrt(d) if scale is None else scale
    keys = _pad_groups(k.float(), stride).unflatten(2, (-1, stride)).flatten(3)
    per_cell = CELL // stride
    columns = keys.shape[2]
    cells = max(1, _CHUNK_BYTES // (4 * b * h * per_cell * max(columns, CELL * d // per_cell)))
    if causal:  # Chunks see keys up to their own last query: eight of them do 9/16 of the work.
        cells = min(cells, -(-num_cells(s) // 8))
    cells = max(multiple, cells // multiple * multiple)
    left = torch.arange(columns, device=q.device) * stride
    for first in range(0, num_cells(s), cells):
        some = q[:, :, first * CELL : (first + cells) * CELL]
        rows = -(-some.shape[2] // stride)
        last_query = torch.arange(1, rows + 1, device=q.device) * stride + first * CELL - 1
        last_query = last_query.clamp_max(s - 1)
        # Columns past the last visible one of this chunk are neither computed nor stored.
        stop = columns
        if causal:
            stop = max(1, min(columns, (int(last_query[-1]) + t - s) // stride + 1))
        num_seen = min(t, stop * stride)
        scores = _scores(
            some, keys[:, :, :stop], stride, first * CELL + t - s, alternate, num_seen, scale
        )
        if causal:
            # Only the last columns hold what some row of this chunk may not see.
            safe = max(0, min(stop, (int(last_query[0]) + t - s) // stride + 1))
            hidden = left[None, safe:stop] > last_query[:, None] + (t - s)
            scores[..., safe:].masked_fill_(hidden, -math.inf)
        weights = torch.softmax(scores, -1)
        if (causal and s > t) or some.shape[2] % stride or num_seen % stride:
            # Rows that see nothing; a NaN that comes from the inputs must stay one.
            weights.masked_fill_(scores.amax(-1, keepdim=True).isneginf(), 0.0)
        del scores
        pad = (0, -stop % per_cell, 0, -rows % per_cell)
        if any(pad):
            weights = torch.nn.functional.pad(weights, pad)
        mass = weights.unflatten(2, (-1, per_cell)).sum(3).unflatten(3, (-1, per_cell)).sum(4)
        yield first, torch.nn.functional.pad(mass, (0, num_cells(t) - mass.shape[3]))


def block_mass(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    *,
    stride: int,
    causal: bool = True,
    alternate: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "b h n m"]:
    """Return the attention mass per cell of all query cells at once; see `iter_block_mass`.

    Memory: 4*b*h*n*m bytes, n and m in cells.
    """
    chunks = iter_block_mass(q, k, stride=stride, causal=causal, alternate=alternate, scale=scale)
    return torch.cat([mass for _, mass in chunks], dim=2)
