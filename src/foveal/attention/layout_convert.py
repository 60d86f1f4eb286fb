"""`BlockLayout` from and to the forms that others use: token masks, BlockMask, index lists."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from foveal.attention.layout import CELL, BlockLayout, num_cells
from foveal.errors import ArgumentError, ShapeError, UnsupportedError


def from_mask(mask: Bool[Tensor, "b h s t"], *, causal: bool = False) -> BlockLayout:
    """Keep every cell in which `mask` allows at least one token pair.

    A layout knows whole cells and a causal rule only: pass `mask` to the attention as well when it
    cuts through cells in another way.

    Args:
        mask: True where query i may see key j. b and h may be 1 and are kept so; attention wants
            them as in the queries, so `mask.expand(b, h, -1, -1)` first.
        causal: Put the bottom-right causal rule into the layout too.

    Raises: ShapeError: `mask` is not boolean with four axes, or has an empty one.
    """
    if mask.ndim != 4 or mask.dtype != torch.bool or 0 in mask.shape:
        raise ShapeError(
            f"BlockLayout.from_mask: mask is {mask.dtype} of shape {tuple(mask.shape)}, must be "
            "torch.bool of shape (b, h, s, t); compare with 0 or add the missing axes"
        )
    s, t = mask.shape[2:]

    def chunks() -> Iterator[Tensor]:
        for first in range(0, s, CELL):
            keys = mask[:, :, first : first + CELL].any(2, keepdim=True)
            keys = torch.nn.functional.pad(keys, (0, -t % CELL))
            yield keys.unflatten(3, (-1, CELL)).any(4)

    return BlockLayout.from_chunks(chunks(), num_queries=s, num_keys=t, causal=causal)


def _index_dense(counts: Tensor, indices: Tensor, columns: int) -> Bool[Tensor, "b h r c"]:
    """Turn FlexAttention's (counts, indices) into one boolean per block."""
    kept = torch.zeros(*counts.shape, columns, dtype=torch.bool, device=counts.device)
    listed = torch.arange(indices.shape[-1], device=counts.device) < counts[..., None]
    index = torch.where(listed, indices.long(), 0).clamp(0, columns - 1)
    return kept.scatter_reduce(3, index, listed, "amax", include_self=True)


def from_block_mask(mask: Any, *, causal: bool = False) -> BlockLayout:
    """Keep the cells that a FlexAttention `BlockMask` lists, partial and full ones.

    Its `mask_mod` does not come along: the token rule is causal or none, as the argument says.

    Args:
        mask: `torch.nn.attention.flex_attention.BlockMask` with block sizes that 64 divides.
        causal: Whether `mask_mod` is the bottom-right causal rule.

    Raises: UnsupportedError: a block size that is no multiple of 64.
    """
    rows, columns = mask.BLOCK_SIZE
    if rows % CELL or columns % CELL:
        raise UnsupportedError(
            f"BlockLayout.from_block_mask: BLOCK_SIZE is {mask.BLOCK_SIZE}, must be multiples of "
            f"{CELL}; create the mask with BLOCK_SIZE={CELL}"
        )
    s, t = mask.seq_lengths
    blocks = -(-t // columns)
    kept = _index_dense(mask.kv_num_blocks, mask.kv_indices, blocks)
    if mask.full_kv_num_blocks is not None:
        kept = kept | _index_dense(mask.full_kv_num_blocks, mask.full_kv_indices, blocks)
    kept = kept.repeat_interleave(rows // CELL, 2).repeat_interleave(columns // CELL, 3)
    kept = kept[:, :, : num_cells(s), : num_cells(t)]
    return BlockLayout.from_bool(kept, num_queries=s, num_keys=t, causal=causal)


def _mask_mod(layout: BlockLayout) -> Callable[..., Tensor]:
    """Return the layout as FlexAttention's rule for one token pair, cells included.

    Compiled FlexAttention asks it in partial blocks only; the eager one ignores the lists.
    """
    shift, span, bits, causal = (
        layout.num_keys - layout.num_queries,
        layout.span,
        layout.bits,
        layout.causal,
    )

    def rule(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        cell = key // CELL
        allowed = (bits[b, h, query // CELL, cell // 8] >> (cell % 8)) & 1 == 1
        if causal:
            allowed = allowed & (key <= query + shift)
        if span is not None:
            allowed = allowed & (key > query + shift - span)
        return allowed

    return rule


def to_block_mask(layout: BlockLayout) -> Any:
    """Return the same cells and token rule as FlexAttention's `BlockMask` of 64 x 64 blocks.

    Raises: UnsupportedError: the layout has a skip threshold, which FlexAttention cannot express.
    Memory: FlexAttention's own lists, 2 * 4 * b * h * n * m bytes.
    """
    from torch.nn.attention.flex_attention import BlockMask

    if layout.skip_threshold is not None:
        raise UnsupportedError(
            "BlockLayout.to_block_mask: skip_threshold is set, must be None; FlexAttention has no "
            "second stage, use dataclasses.replace(layout, skip_threshold=None)"
        )
    lists = to_lists(layout)
    partial = lists.partial & lists.listed
    full = lists.listed & ~lists.partial
    columns = num_cells(layout.num_keys)
    counts, indices = _compact(lists.indices, partial, columns)
    full_counts, full_indices = _compact(lists.indices, full, columns)
    return BlockMask.from_kv_blocks(
        counts,
        indices,
        full_counts,
        full_indices,
        BLOCK_SIZE=CELL,
        mask_mod=_mask_mod(layout),
        seq_lengths=(layout.num_queries, layout.num_keys),
    )


def _compact(indices: Tensor, wanted: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Move the wanted entries of each row to its front, in order; pad to one per column."""
    order = torch.argsort(~wanted, dim=3, stable=True)
    listed = torch.nn.functional.pad(indices.gather(3, order), (0, columns - indices.shape[3]))
    return wanted.sum(3, dtype=torch.int32), listed.to(torch.int32)


@dataclass(frozen=True, eq=False)
class TileLists:
    """Which key tiles each query tile visits, in ascending order.

    Attributes:
        counts: int32 (b, h, r): tiles listed in each row.
        indices: int32 (b, h, r, c): key tiles, ascending; the `counts` first of a row are valid
            and the rest repeat the last tile, so that loading them is harmless.
        partial: bool (b, h, r, c): the tile is not wholly attended, because the token rule, the
            end of the keys, or (in tiles above 64) a cell that is not kept cuts through it.
        tile_queries: Tokens of a query tile.
        tile_keys: Tokens of a key tile.
    """

    counts: Int[Tensor, "b h r"]
    indices: Int[Tensor, "b h r c"]
    partial: Bool[Tensor, "b h r c"]
    tile_queries: int
    tile_keys: int

    @property
    def listed(self) -> Bool[Tensor, "b h r c"]:
        """Return which entries of `indices` are valid."""
        steps = torch.arange(self.indices.shape[3], device=self.counts.device)
        return steps < self.counts[..., None]


def _resize(kept: Tensor, rows: int, columns: int, tile: tuple[int, int], whole: bool) -> Tensor:
    """Cells to tiles: a tile takes any (or all, if `whole`) of its cells, or a part of one."""
    up = [max(1, size // CELL) for size in tile]
    pad = (0, -kept.shape[3] % up[1], 0, -kept.shape[2] % up[0])
    kept = torch.nn.functional.pad(kept, pad, value=whole)
    kept = kept.unflatten(3, (-1, up[1])).unflatten(2, (-1, up[0]))
    kept = kept.all(5).all(3) if whole else kept.any(5).any(3)
    down = [max(1, CELL // size) for size in tile]
    kept = kept.repeat_interleave(down[0], 2).repeat_interleave(down[1], 3)
    return kept[:, :, :rows, :columns]


def to_lists(layout: BlockLayout, *, tile_queries: int = CELL, tile_keys: int = CELL) -> TileLists:
    """Return, for every tile of queries, the ascending list of key tiles that it visits.

    Args:
        layout: Cells and token rule.
        tile_queries: Tokens of a query tile: a multiple or a divisor (at least 16) of 64.
        tile_keys: Tokens of a key tile, likewise.

    Raises: ArgumentError: a tile size that fits 64 in neither way.
    Memory: 5 bytes per listed tile of the longest row, times all rows. Kernels build lists call
        by call and keep the bits.
    """
    for name, size in (("tile_queries", tile_queries), ("tile_keys", tile_keys)):
        whole: object = size
        if not isinstance(whole, int) or size < 16 or (size % CELL and CELL % size):
            raise ArgumentError(
                f"BlockLayout.to_lists: {name} is {size}, must be 16, 32 or a multiple of {CELL}; "
                f"use {CELL}"
            )
    s, t = layout.num_queries, layout.num_keys
    rows, columns = -(-s // tile_queries), -(-t // tile_keys)
    tile = (tile_queries, tile_keys)
    device = layout.bits.device
    cells = layout.to_bool()
    kept = _resize(cells, rows, columns, tile, whole=False)
    whole = _resize(cells, rows, columns, tile, whole=True)
    # Positions of the first and last real token of each tile decide what the rule leaves of it.
    top = torch.arange(rows, device=device)[:, None] * tile_queries + (t - s)
    bottom = (top + tile_queries - 1).clamp_max(t - 1)
    left = torch.arange(columns, device=device)[None, :] * tile_keys
    right = left + tile_keys - 1
    some = (left < t).expand(rows, columns)
    cut = (right >= t).expand(rows, columns)
    if layout.causal:
        some = some & (left <= bottom)
        cut = cut | (right > top)
        if layout.span is not None:
            some = some & (right > top - layout.span)
            cut = cut | (left <= bottom - layout.span)
    kept = kept & some
    partial = kept & (cut | ~whole)
    counts = kept.sum(3, dtype=torch.int32)
    width = max(1, int(counts.max()))
    order = torch.argsort(~kept, dim=3, stable=True)[..., :width]
    last = order.gather(3, (counts.long() - 1).clamp_min(0)[..., None])
    listed = torch.arange(width, device=device) < counts[..., None]
    order = torch.where(listed, order, last)
    return TileLists(
        counts, order.to(torch.int32), partial.gather(3, order), tile_queries, tile_keys
    )
