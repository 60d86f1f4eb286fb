"""Rows of cells, batched so that plain torch operations can work on many of them at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from foveal.attention.layout import CELL, BlockLayout, num_cells

_INDEX_BYTES = 32 * 2**20
"""Most memory that each integer per cell may take; longer inputs go by chunks of query cells."""


def to_cells(x: Tensor) -> Tensor:
    """Lay (b, h, s, d) out as (b * h * n, 64, d), zeros past the last token.

    Returns: Contiguous rows, for callers view what they gather of them; `x` itself, no copy, if it
        is contiguous and 64 divides s.
    """
    s, d = x.shape[2:]
    return F.pad(x, (0, 0, 0, -s % CELL)).reshape(-1, CELL, d).contiguous()


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
class CutCells:
    """How the token rule and the end of the keys cut cells.

    Attributes:
        masks: Boolean 64 x 64 masks of the kinds of cut cells.
        kind: (n, m): 0 for a whole cell, else 1 + index into `masks`.
    """

    masks: list[Bool[Tensor, "64 64"]]
    kind: Int[Tensor, "n m"]

    @classmethod
    def of(cls, layout: BlockLayout) -> "CutCells":
        """Find the cut cells of a layout."""
        n, m = num_cells(layout.num_queries), num_cells(layout.num_keys)
        device = layout.bits.device
        masks: list[Tensor] = []
        kind = torch.zeros(n, m, dtype=torch.int16, device=device)
        offset = torch.arange(m, device=device)[None, :] - torch.arange(n, device=device)[:, None]
        for delta, mask in _edge_cells(layout, device):
            masks.append(mask)
            kind[offset == delta] = len(masks)
        if layout.num_keys % CELL and not layout.causal:
            inside = torch.arange(CELL, device=device) < layout.num_keys % CELL
            masks.append(inside[None, :].expand(CELL, CELL))
            kind[:, m - 1] = len(masks)
        return cls(masks, kind)

    def table(self) -> Bool[Tensor, "kinds 64 64"]:
        """Return all masks, with the whole cell first, to be indexed by `kind`."""
        whole = torch.ones(CELL, CELL, dtype=torch.bool, device=self.kind.device)
        return torch.stack([whole, *self.masks])


@dataclass(frozen=True)
class RowBatch:
    """(head, query cell) rows with equally many kept cells, cut in the same way.

    Attributes:
        rows: Index of each row into `to_cells(q)`.
        keys: Index of each kept cell into `to_cells(k)`, ascending but for the cut ones, which
            stand last in the order of `cut`.
        cut: Kinds of the last cells, as indices into `CutCells.masks`.
        num_cells: c, kept cells of each row.
    """

    rows: Int[Tensor, " r"]
    keys: Int[Tensor, "r c"]
    cut: tuple[int, ...] = field(default=())

    @property
    def num_cells(self) -> int:
        """Return c, the number of kept cells of each row."""
        return self.keys.shape[1]

    def split(self, num_rows: int) -> Iterator["RowBatch"]:
        """Yield pieces of at most `num_rows` rows."""
        for i in range(0, len(self.rows), num_rows):
            yield RowBatch(self.rows[i : i + num_rows], self.keys[i : i + num_rows], self.cut)


def iter_rows(layout: BlockLayout, num_kv_heads: int, cut: CutCells) -> Iterator[RowBatch]:
    """Yield batches that together hold every row of `layout` with a kept cell once.

    Args:
        layout: Cells of all query heads.
        num_kv_heads: g; adjacent query heads share the cells of one KV head.
        cut: The cut cells of `layout`.

    Memory: a few integers per cell of a chunk of query cells, 32 MiB each at any length.
    """
    b, h, n, m = layout.shape
    device = layout.bits.device
    heads = torch.arange(b * h, device=device)
    kv_head = (heads // h) * num_kv_heads + (heads % h) // (h // num_kv_heads)
    chunk = max(1, _INDEX_BYTES // (8 * b * h * m))
    num_kinds = len(cut.masks)
    for first in range(0, n, chunk):
        kept = layout.to_bool(slice(first, first + chunk)).reshape(b * h, -1, m)
        size = kept.shape[1]
        kind = cut.kind[first : first + size]
        # A row lists its whole cells, then the cut ones, then those left out.
        key = torch.where(kept, kind, num_kinds + 1).reshape(-1, m)
        order = key.argsort(dim=1, stable=True)
        signature = torch.zeros(len(key), dtype=torch.long, device=device)
        for i in range(num_kinds):
            signature += key.eq(i + 1).any(1).long() << i
        alike = (kept.sum(-1).reshape(-1) << num_kinds) | signature
        ranked = alike.argsort(stable=True)
        cells = torch.arange(first, first + size, device=device)
        where = (heads[:, None] * n + cells[None, :]).flatten()[ranked]
        base = (kv_head * m).repeat_interleave(size)[ranked]
        order = order[ranked]
        values, lengths = torch.unique_consecutive(alike[ranked], return_counts=True)
        start = 0
        for value, length in zip(values.tolist(), lengths.tolist(), strict=True):
            stop = start + length
            count = value >> num_kinds
            if count:
                keys = order[start:stop, :count] + base[start:stop, None]
                kinds = tuple(i for i in range(num_kinds) if value >> i & 1)
                yield RowBatch(where[start:stop], keys, kinds)
            start = stop
