"""Exact attention over kept cells with plain torch operations: gather the kept keys, then SDPA.

No compiler is needed. Written for CPUs; runs on any device. Works below autograd (see `ops`).
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.attention.block_sparse.rows import CutCells, RowBatch, iter_rows, to_cells
from foveal.attention.layout import CELL, BlockLayout, num_cells, per_head_tensor

_GATHER_BYTES = 4 * 2**20
"""Most memory that one batch of gathered keys and values may take; more falls out of the cache."""


class _Gather:
    """Key and value cells of successive batches, in two buffers that are used again.

    Fresh memory of that size costs a page fault per 4 kB, which is more than the copy.
    """

    def __init__(self, cells_k: Tensor, cells_v: Tensor) -> None:
        self._cells = (cells_k, cells_v)
        per_cell = sum(x[0].numel() for x in self._cells) * cells_k.element_size()
        self.num_cells = max(1, _GATHER_BYTES // per_cell)
        self._buffers = [x.new_empty((0, *x.shape[1:])) for x in self._cells]

    def __call__(self, batch: RowBatch) -> tuple[Tensor, Tensor]:
        """Return (r, 64 c, d) keys and (r, 64 c, e) values; valid until the next call."""
        index = batch.keys.reshape(-1)
        found: list[Tensor] = []
        for i, cells in enumerate(self._cells):
            if len(self._buffers[i]) < len(index):
                size = max(len(index), min(self.num_cells, len(cells) * 8))
                self._buffers[i] = cells.new_empty((size, *cells.shape[1:]))
            out = self._buffers[i][: len(index)]
            torch.index_select(cells, 0, index, out=out)
            found.append(out.view(len(batch.rows), batch.num_cells * CELL, -1))
        return found[0], found[1]


def block_sparse_cpu(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    scale: float,
    attn_mask: Tensor | None = None,
) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]:
    """Attend to the kept cells; see `block_sparse_attention` for the contract.

    (head, query cell) rows with the same number of kept cells are batched. Cells that the token
    rule cuts come last in each row, so one small mask serves a whole batch. Grouped key heads are
    gathered through an index and never repeated as a whole.

    Returns: Outputs in the dtype of `q`, and the log-sum-exp, fp32 (fp64 for fp64 inputs).
    Memory: q, k and v padded to whole cells, 4 MiB of gathered cells, and about 100 MiB of
        indices at any length; with a mask or a skip threshold some 30 MiB of logits.
    """
    b, h, s, d = q.shape
    g, width = k.shape[1], v.shape[3]
    n = num_cells(s)
    rows_q, cells_k, cells_v = to_cells(q), to_cells(k), to_cells(v)
    cut = CutCells.of(layout)
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    out = q.new_zeros(b * h * n, CELL, width)
    lse = torch.full((b * h * n, CELL), -math.inf, dtype=exact, device=q.device)
    gather = _Gather(cells_k, cells_v)
    general = attn_mask is not None or layout.skip_threshold is not None
    fused = q.device.type == "cpu" and d == width
    for batch in _sized(iter_rows(layout, g, cut), gather.num_cells):
        queries = rows_q.index_select(0, batch.rows)
        if general:
            batch = ascending(batch)
            keys, values = gather(batch)
            bias = cell_bias(batch, layout, cut, attn_mask)
            skip = _skip_of(batch, layout)
            past = batch.rows[:, None] % n * CELL + torch.arange(CELL, device=q.device) >= s
            found = _attend_general(queries, keys, values, bias, skip, past, scale)
        else:
            keys, values = gather(batch)
            mask = _cut_mask(batch, cut, q.dtype)
            attend = _attend_fused if fused else _attend_plain
            found = attend(queries, keys, values, mask, scale)
        out.index_copy_(0, batch.rows, found[0])
        lse.index_copy_(0, batch.rows, found[1])
    return (
        out.view(b, h, n * CELL, width)[:, :, :s],
        lse.view(b, h, n * CELL)[:, :, :s].contiguous(),
    )


def _sized(batches: Iterator[RowBatch], num_cells: int) -> Iterator[RowBatch]:
    for batch in batches:
        yield from batch.split(max(1, num_cells // batch.num_cells))


def _cut_mask(batch: RowBatch, cut: CutCells, dtype: torch.dtype) -> Tensor | None:
    """Return what to add to the logits of every row of a batch: 0 or -inf, (64, 64 c)."""
    if not batch.cut:
        return None
    mask = torch.zeros(CELL, batch.num_cells * CELL, dtype=dtype, device=batch.rows.device)
    ends = mask.unflatten(1, (-1, CELL))[:, batch.num_cells - len(batch.cut) :]
    for i, kind in enumerate(batch.cut):
        ends[:, i].masked_fill_(~cut.masks[kind], -math.inf)
    return mask


def _attend_fused(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Torch's fused CPU attention, which gives the log-sum-exp too."""
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q[:, None], k[:, None], v[:, None], attn_mask=mask, scale=scale
    )
    out, lse = out[:, 0], lse[:, 0]
    if (
        mask is not None and k.shape[1] <= 4 * CELL
    ):  # A blind query has cut cells alone: four kinds.
        blind = mask.isinf().all(1)
        out = out.masked_fill(blind[None, :, None], 0.0)
        lse = lse.masked_fill(blind[None, :], -math.inf)
    return out, lse


def _attend_plain(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """The same on any device and for values of another width than the keys."""
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    logits = torch.bmm(q, k.transpose(1, 2)).to(exact).mul_(scale)
    if mask is not None:
        logits += mask
    lse = torch.logsumexp(logits, -1)
    weights = torch.exp(logits - lse.masked_fill(lse.isneginf(), 0.0)[..., None])
    return torch.bmm(weights.to(v.dtype), v), lse


# --- a mask of the user's, and SpargeAttn's second stage -----------------------------------------


def ascending(batch: RowBatch) -> RowBatch:
    """Return the batch with all cells of a row in ascending order; the cut ones lose their end."""
    return RowBatch(batch.rows, batch.keys.sort(dim=1).values, batch.cut)


def cell_bias(
    batch: RowBatch, layout: BlockLayout, cut: CutCells, attn_mask: Tensor | None
) -> Float[Tensor, "r 64 keys"] | None:
    """Return what to add to the logits of each row: the token rule and the user's mask.

    Args:
        batch: Rows whose `keys` may stand in any order.
        layout: The layout that they come from.
        cut: Its cut cells.
        attn_mask: bool or float, broadcastable to (b, h, s, t), or None.

    Returns: fp32 (fp64 for an fp64 mask), or None where nothing is hidden.
    """
    if not batch.cut and attn_mask is None:
        return None
    b, h, n, m = layout.shape
    cells = batch.keys % m
    row = batch.rows % n
    hidden = ~cut.table()[cut.kind[row[:, None], cells].long()]
    hidden = hidden.permute(0, 2, 1, 3).flatten(2)
    dtype = torch.float32
    if attn_mask is None:
        return torch.zeros(hidden.shape, device=hidden.device, dtype=torch.float32).masked_fill_(
            hidden, -math.inf
        )
    inner = torch.arange(CELL, device=row.device)
    s, t = layout.num_queries, layout.num_keys
    query = (row[:, None] * CELL + inner).clamp_max(s - 1)[:, :, None]
    key = (cells[:, :, None] * CELL + inner).flatten(1)[:, None]
    hidden = hidden | (key >= t)
    head = (batch.rows // n)[:, None, None]
    values = attn_mask.expand(b, h, s, t)[head // h, head % h, query, key.clamp_max(t - 1)]
    if values.dtype == torch.bool:
        hidden = hidden | ~values
        values = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    else:
        values = values.to(torch.float64 if values.dtype == torch.float64 else dtype)
    return values.masked_fill(hidden, -math.inf)


def _skip_of(batch: RowBatch, layout: BlockLayout) -> Float[Tensor, " r"] | None:
    if layout.skip_threshold is None:
        return None
    _, h, n, _ = layout.shape
    per_head = per_head_tensor(layout.skip_threshold, batch.rows.device)
    return per_head[(batch.rows // n) % h]


def _attend_general(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    skip: Tensor | None,
    past: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Attend with one bias per row and the second stage; the cells must ascend.

    `past` (r, 64) marks the queries beyond the last token, which have no say in skipping.
    """
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    logits = torch.bmm(q, k.transpose(1, 2)).to(exact).mul_(scale)
    if bias is not None:
        logits += bias
    if skip is not None:
        cells = logits.unflatten(2, (-1, CELL))
        local = cells.amax(3)
        running = torch.cat([local[..., :1], local[..., :-1]], 2).cummax(2).values
        below = local <= running - skip[:, None, None]
        below |= past[..., None]
        below[..., 0] = below[..., -1] = False
        cells.masked_fill_(below.all(1)[:, None, :, None], -math.inf)
    lse = torch.logsumexp(logits, -1)
    # Not exp(logits - lse): beside a mask of -3e38 the number of keys is lost in lse.
    weights = torch.softmax(logits, -1).masked_fill_(lse.isneginf()[..., None], 0.0)
    return torch.bmm(weights.to(v.dtype), v), lse
