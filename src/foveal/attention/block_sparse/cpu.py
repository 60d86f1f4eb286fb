"""Exact attention over kept cells with plain torch operations: gather the kept keys, then SDPA."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import CELL, BlockLayout, num_cells

_GATHER_BYTES = 64 * 2**20
"""Most memory that one batch of gathered keys and values may take."""


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

    Memory: q, k and v padded to whole cells, an index per cell, and 64 MiB of gathered cells.
    """
    b, h, s, d = q.shape
    g, t, width = k.shape[1], k.shape[2], v.shape[3]
    n, m = num_cells(s), num_cells(t)
    rows_q = F.pad(q, (0, 0, 0, n * CELL - s)).reshape(b * h * n, CELL, d)
    cells_k = F.pad(k, (0, 0, 0, m * CELL - t)).reshape(b * g * m, CELL * d)
    cells_v = F.pad(v, (0, 0, 0, m * CELL - t)).reshape(b * g * m, CELL * width)
    kept = layout.to_bool()

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
    order_key = torch.where(kept, classes, len(masks) + 1).reshape(b * h * n, m)
    order = order_key.argsort(dim=1, stable=True)
    count = kept.sum(-1).reshape(-1)
    signature = torch.zeros_like(count)
    for i in range(len(masks)):
        signature += order_key.eq(i + 1).any(1).long() << i

    heads = torch.arange(b * h, device=q.device)
    key_head = (heads // h) * g + (heads % h) // (h // g)
    base = (key_head * m).repeat_interleave(n)

    out = q.new_zeros(b * h * n, CELL, width)
    lse = None
    if return_lse:
        lse = torch.full((b * h * n, CELL), -math.inf, dtype=torch.float32, device=q.device)
    group_key = (count << len(masks)) | signature
    sizes: dict[int, int] = {}
    ranked = group_key.argsort(stable=True)
    values, lengths = torch.unique_consecutive(group_key[ranked], return_counts=True)
    sizes.update(zip(values.tolist(), lengths.tolist(), strict=True))
    start = 0
    for key, size in sizes.items():
        rows_all = ranked[start : start + size]
        start += size
        cells = key >> len(masks)
        if cells == 0:
            continue
        cut = [masks[i] for i in range(len(masks)) if key >> i & 1]
        mask = None
        if cut:
            whole = cut[0].new_ones(CELL, (cells - len(cut)) * CELL)
            mask = torch.cat([whole, *cut], dim=1)
        per_row = cells * CELL * (d + width) * q.element_size()
        for rows in rows_all.split(max(1, _GATHER_BYTES // per_row)):
            index = (base[rows, None] + order[rows, :cells]).reshape(-1)
            keys = cells_k.index_select(0, index).view(len(rows), cells * CELL, d)
            vals = cells_v.index_select(0, index).view(len(rows), cells * CELL, width)
            if lse is None:
                some = _attend(rows_q[rows], keys, vals, mask, scale)
            else:
                some, lse[rows] = _attend_lse(rows_q[rows], keys, vals, mask, scale)
            out[rows] = some
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
