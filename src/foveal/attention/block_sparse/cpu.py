"""Exact attention over kept cells with plain torch operations: gather the kept keys, then SDPA."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from foveal.attention.layout import CELL, BlockLayout, num_cells

_GATHER_BYTES = 16 * 2**20
"""Most memory that one batch of gathered keys and values may take; more falls out of the cache."""

_INDEX_BYTES = 32 * 2**20
"""Most memory that each integer per cell may take; longer inputs go by chunks of query cells."""


def _edge_cells(layout: BlockLayout, device: torch.device) -> list[tuple[int, Tensor]]:
    """Return (m - n, token mask) of the cells that the causal or window rule cuts through.

    The rule depends on positions only through key - query, so every query cell meets the same few
    masks. Masks are boolean, 64 x 64, and ignore the ragged end of the key axis.
    """
    shift = layout.num_keys - layout.num_queries
    if not layout.causal:
        return []
    inner = torch.arange(CELL, device=device)
    edges: list[int] = [shift // CELL, shift // CELL + 1]
    if layout.span is not None:
        left = (shift - layout.span) // CELL
        edges += [left, left + 1]
    found: list[tuple[int, Tensor]] = []
    for delta in sorted(set(edges)):
        distance = inner[:, None] + shift - (delta * CELL + inner[None, :])
        mask = distance >= 0
        if layout.span is not None:
            mask &= distance < layout.span
        if not bool(mask.all()) and bool(mask.any()):
            found.append((delta, mask))
    return found


@dataclass(frozen=True)
class _Batch:
    """Rows of cells with the same number of kept cells and the same cut ones, which come last."""

    rows: Int[Tensor, " r"]
    order: Int[Tensor, "r cells"]
    cells: int
    cut: list[int]


def _batches(
    kept: Bool[Tensor, "b h n m"], classes: Int[Tensor, "n m"], num_masks: int
) -> Iterator[_Batch]:
    """Sort the kept cells of each row by class, and yield rows that look alike together."""
    b, h, n, m = kept.shape
    key = torch.where(kept, classes, num_masks + 1).reshape(b * h * n, m)
    order = key.argsort(dim=1, stable=True)
    signature = torch.zeros(b * h * n, dtype=torch.long, device=kept.device)
    for i in range(num_masks):
        signature += key.eq(i + 1).any(1).long() << i
    alike = (kept.sum(-1).reshape(-1) << num_masks) | signature
    ranked = alike.argsort(stable=True)
    values, lengths = torch.unique_consecutive(alike[ranked], return_counts=True)
    start = 0
    for value, length in zip(values.tolist(), lengths.tolist(), strict=True):
        rows = ranked[start : start + length]
        start += length
        cells = value >> num_masks
        if cells:
            cut = [i for i in range(num_masks) if value >> i & 1]
            yield _Batch(rows, order[rows, :cells], cells, cut)


def block_sparse_cpu(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    scale: float,
    return_lse: bool = False,
) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"] | None]:
    """Attend to the kept cells; see `block_sparse_attention` for the contract.

    (head, query cell) rows with the same number of kept cells are batched. Cells that the token
    rule cuts come last in each row, so one small mask serves a whole batch. Grouped key heads are
    gathered through an index and never repeated as a whole. Written for CPUs; runs on any device.

    Memory: q, k and v padded to whole cells, 16 MiB of gathered cells, and about 100 MiB of
        indices at any length.
    """
    b, h, s, d = q.shape
    g, t, width = k.shape[1], k.shape[2], v.shape[3]
    n, m = num_cells(s), num_cells(t)
    rows_q = F.pad(q, (0, 0, 0, n * CELL - s)).reshape(b * h * n, CELL, d)
    cells_k = F.pad(k, (0, 0, 0, m * CELL - t)).reshape(b * g * m, CELL * d)
    cells_v = F.pad(v, (0, 0, 0, m * CELL - t)).reshape(b * g * m, CELL * width)

    # Class of a cell: 0 whole, 1.. cut by the rule; a row lists its whole cells, then the cut ones.
    masks: list[Tensor] = []
    classes = torch.zeros(n, m, dtype=torch.long, device=q.device)
    offset = torch.arange(m, device=q.device)[None, :] - torch.arange(n, device=q.device)[:, None]
    for delta, mask in _edge_cells(layout, q.device):
        masks.append(mask)
        classes[offset == delta] = len(masks)
    if t % CELL and not layout.causal:
        inside = torch.arange(CELL, device=q.device) < t % CELL
        masks.append(inside[None, :].expand(CELL, CELL))
        classes[:, m - 1] = len(masks)
    heads = torch.arange(b * h, device=q.device)
    key_head = (heads // h) * g + (heads % h) // (h // g)
    out = q.new_zeros(b * h * n, CELL, width)
    lse = None
    if return_lse:
        lse = torch.full((b * h * n, CELL), -math.inf, dtype=torch.float32, device=q.device)
    chunk = max(1, _INDEX_BYTES // (8 * b * h * m))
    for first in range(0, n, chunk):
        kept = layout.to_bool(slice(first, first + chunk))
        size = kept.shape[2]
        # Row of `rows_q` and first key cell of every (head, query cell) of this chunk.
        cells = torch.arange(first, first + size, device=q.device)
        where = (heads[:, None] * n + cells[None, :]).flatten()
        base = (key_head * m).repeat_interleave(size)
        for some in _batches(kept, classes[first : first + size], len(masks)):
            cut = [masks[i] for i in some.cut]
            mask = None
            if cut:
                whole = cut[0].new_ones(CELL, (some.cells - len(cut)) * CELL)
                mask = torch.cat([whole, *cut], dim=1)
            per_row = some.cells * CELL * (d + width) * q.element_size()
            step = max(1, _GATHER_BYTES // per_row)
            for i in range(0, len(some.rows), step):
                rows = some.rows[i : i + step]
                index = (base[rows, None] + some.order[i : i + step]).reshape(-1)
                keys = cells_k.index_select(0, index).view(len(rows), some.cells * CELL, d)
                vals = cells_v.index_select(0, index).view(len(rows), some.cells * CELL, width)
                rows = where[rows]
                if lse is None:
                    out[rows] = _attend(rows_q[rows], keys, vals, mask, scale)
                else:
                    out[rows], lse[rows] = _attend_lse(rows_q[rows], keys, vals, mask, scale)
    out = out.view(b, h, n * CELL, width)[:, :, :s]
    return out, None if lse is None else lse.view(b, h, n * CELL)[:, :, :s]


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    out = F.scaled_dot_product_attention(
        q[:, None], k[:, None], v[:, None], attn_mask=mask, scale=scale
    )[:, 0]
    if mask is not None:
        blind = ~mask.any(1)
        if bool(blind.any()):
            out = out.masked_fill(blind[None, :, None], 0.0)
    return out


def _attend_lse(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    logits = torch.bmm(q, k.transpose(1, 2)).float() * scale
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf)
    lse = torch.logsumexp(logits, -1)
    weights = torch.exp(logits - lse.masked_fill(lse.isinf(), 0.0)[..., None])
    return torch.bmm(weights.to(v.dtype), v), lse
