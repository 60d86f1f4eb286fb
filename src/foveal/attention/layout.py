"""Which 64-token cells of an attention matrix are kept: one bit per (batch, head, cell, cell)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from foveal.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from foveal.attention.layout_convert import TileLists

HeadGroup = Literal["query", "union"]

CELL = 64
"""Tokens per cell, on the query and on the key axis."""

_ROWS_AT_ONCE = 64


def num_cells(num_tokens: int) -> int:
    """Return how many 64-token cells cover `num_tokens` tokens; the last may be partly filled."""
    return -(-num_tokens // CELL)


def per_head_tensor(
    values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float32
) -> Float[Tensor, " h"]:
    """Return one number per head on a device; without a copy from the host if all are alike."""
    if len(set(values)) == 1:
        return torch.full((len(values),), values[0], dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype, device=device)


def _bit_weights(device: torch.device) -> Tensor:
    """Return 1, 2, 4, ..., 128, made on the device: a copy from the host would wait for it."""
    places = torch.arange(8, dtype=torch.uint8, device=device)
    return torch.ones_like(places) << places


def _pack(kept: Bool[Tensor, "*rows m"]) -> Tensor:
    m = kept.shape[-1]
    padded = torch.nn.functional.pad(kept.to(torch.uint8), (0, -m % 8))
    weights = _bit_weights(kept.device)
    return (padded.unflatten(-1, (-1, 8)) * weights).sum(-1, dtype=torch.uint8)


def _unpack(bits: Tensor, m: int) -> Bool[Tensor, "*rows m"]:
    weights = _bit_weights(bits.device)
    return (bits[..., None] & weights).ne(0).flatten(-2)[..., :m]


def check_sizes(fn: str, q: Tensor, k: Tensor) -> None:
    """Raise ShapeError unless `q` is (b, h, s, d) and `k` is (b, g, t, d) with g dividing h."""
    if q.ndim != 4:
        raise ShapeError(
            f"{fn}: q has shape {tuple(q.shape)}, must be (b, h, s, d); add the missing axes"
        )
    b, h, _, d = q.shape
    wanted = f"({b}, g, t, {d}) with g dividing h={h}"
    if k.ndim != 4 or k.shape[0] != b or k.shape[3] != d or k.shape[1] < 1 or h % k.shape[1]:
        raise ShapeError(
            f"{fn}: k has shape {tuple(k.shape)}, must be {wanted}; repeat or drop key heads"
        )
    if min(q.shape) < 1 or min(k.shape) < 1:
        raise ShapeError(
            f"{fn}: q has shape {tuple(q.shape)} and k has shape {tuple(k.shape)}, "
            "must have no empty axis; pass at least one token"
        )


def _check_span(causal: bool, span: int | None) -> None:
    if span is not None and (span < 1 or not causal):
        raise ArgumentError(
            f"BlockLayout: span is {span} with causal={causal}, must be None or at "
            "least 1 with causal=True; drop span"
        )


def check_skip_threshold(fn: str, value: tuple[float, ...], num_heads: int) -> None:
    """Raise ArgumentError unless `value` holds one number >= 0 (math.inf allowed) per head."""
    if len(value) != num_heads or not all(x >= 0 for x in value):
        raise ArgumentError(
            f"{fn}: skip_threshold is {value}, must hold one number >= 0 for each of the "
            f"{num_heads} query heads; use math.inf for a head that skips nothing"
        )


@dataclass(frozen=True, eq=False, repr=False)
class BlockLayout:
    """The kept cells of an attention matrix, and the token rule that holds inside them.

    A token pair (query i, key j) is attended when its cell is kept *and* the rule allows it. The
    rule is bottom-right causal when `causal` (query i sees keys j <= i + t - s), and a sliding
    window of `span` tokens when that is set (j > i + t - s - span). Cells that the rule empties
    are never kept. Build one with `dense`, `causal_like`, `from_bool` or `window`.

    Attributes:
        bits: uint8, (b, h, n, ceil(m / 8)); bit c of byte a says that key cell 8a + c is kept.
        num_queries: s, in tokens; 64 need not divide it.
        num_keys: t, in tokens; 64 need not divide it.
        causal: Whether the bottom-right causal rule holds.
        span: Width of the sliding window in tokens, or None. Only with `causal`.
        skip_threshold: SpargeAttn's second stage, one number per query head in nats, at least 0,
            or None. A kernel that works through the kept cells of a row from left to right skips
            one when no logit of its 64 queries comes closer than this to the largest seen so far
            (local maximum <= running maximum - threshold, for every query). It leaves out QK's
            softmax and PV, never QK. The last kept cell of a row is never skipped. math.inf in a
            head never skips.
        complete: It is known, without a look at the bits, that every cell that the rule allows is
            kept. False says nothing.

    Memory: b * h * n * m / 8 bytes (17 MB at 131072 tokens and 32 heads).
    """

    bits: Tensor
    num_queries: int
    num_keys: int
    causal: bool
    span: int | None = None
    skip_threshold: tuple[float, ...] | None = None
    complete: bool = False

    # --- constructors -----------------------------------------------------------------------

    @classmethod
    def from_bool(
        cls,
        kept: Bool[Tensor, "b h n m"],
        *,
        num_queries: int,
        num_keys: int,
        causal: bool = True,
        span: int | None = None,
        skip_threshold: tuple[float, ...] | None = None,
    ) -> "BlockLayout":
        """Build a layout from one boolean per cell; cells outside the token rule are cleared.

        Args:
            kept: True where the 64 x 64 cell (query cell n, key cell m) is kept.
            num_queries: Tokens on the query axis, n = ceil(num_queries / 64).
            num_keys: Tokens on the key axis, m = ceil(num_keys / 64).
            causal: Apply the bottom-right causal rule.
            span: Sliding window in tokens, or None.
            skip_threshold: See the attribute.

        Raises:
            ShapeError: `kept` does not have the number of cells that the token counts imply.
            ArgumentError: `span` is below 1 or given without `causal`, or `skip_threshold` is
                negative or not one number per head.
        """
        wanted = (num_cells(num_queries), num_cells(num_keys))
        if kept.ndim != 4 or tuple(kept.shape[2:]) != wanted or kept.dtype != torch.bool:
            raise ShapeError(
                f"BlockLayout.from_bool: kept is {kept.dtype} of shape {tuple(kept.shape)}, must "
                f"be torch.bool of shape (b, h, {wanted[0]}, {wanted[1]}); one entry per cell"
            )
        return cls.from_chunks(
            (kept[:, :, i : i + _ROWS_AT_ONCE] for i in range(0, wanted[0], _ROWS_AT_ONCE)),
            num_queries=num_queries,
            num_keys=num_keys,
            causal=causal,
            span=span,
            skip_threshold=skip_threshold,
        )

    @classmethod
    def from_chunks(
        cls,
        chunks: Iterable[Bool[Tensor, "b h n m"]],
        *,
        num_queries: int,
        num_keys: int,
        causal: bool = True,
        span: int | None = None,
        skip_threshold: tuple[float, ...] | None = None,
    ) -> "BlockLayout":
        """Build a layout as `from_bool` does, from successive chunks of query cells.

        Args:
            chunks: Booleans of some query cells and all key cells, from the first query cell on.
            num_queries: Tokens on the query axis.
            num_keys: Tokens on the key axis.
            causal: Apply the bottom-right causal rule.
            span: Sliding window in tokens, or None.
            skip_threshold: See the attribute.

        Raises:
            ShapeError: the chunks do not add up to ceil(num_queries / 64) query cells.
            ArgumentError: as `from_bool`.

        Memory: one chunk of booleans, and the bits.
        """
        _check_span(causal, span)
        parts: list[Tensor] = []
        first = 0
        for kept in chunks:
            bounds = cls(kept.new_zeros((1,)), num_queries, num_keys, causal, span)
            for i in range(0, kept.shape[2], _ROWS_AT_ONCE):
                some = kept[:, :, i : i + _ROWS_AT_ONCE]
                rows = slice(first + i, first + i + some.shape[2])
                parts.append(_pack(some & bounds._visible_cells(rows, kept.device)))
            first += kept.shape[2]
        if first != num_cells(num_queries):
            raise ShapeError(
                f"BlockLayout.from_chunks: chunks hold {first} query cells, must hold "
                f"{num_cells(num_queries)} for {num_queries} queries; pass all of them once"
            )
        bits = torch.cat(parts, dim=2)
        if skip_threshold is not None:
            check_skip_threshold("BlockLayout.from_chunks", skip_threshold, bits.shape[1])
        return cls(bits, num_queries, num_keys, causal, span, skip_threshold)

    @classmethod
    def dense(
        cls, q: Tensor, k: Tensor, *, causal: bool = False, span: int | None = None
    ) -> "BlockLayout":
        """Keep every cell that the token rule allows, for q (b, h, s, d) and k (b, g, t, d)."""
        check_sizes("BlockLayout.dense", q, k)
        b, h, s, _ = q.shape
        t = k.shape[2]
        _check_span(causal, span)
        rule = cls(torch.zeros(1, dtype=torch.uint8, device=q.device), s, t, causal, span)
        bits = _pack(rule._visible_cells(slice(0, num_cells(s)), q.device)).expand(b, h, -1, -1)
        bits = bits.contiguous()
        return cls(bits, s, t, causal, span, complete=True)

    @classmethod
    def causal_like(cls, q: Tensor, k: Tensor, *, span: int | None = None) -> "BlockLayout":
        """Keep every cell under the bottom-right diagonal of q (b, h, s, d) and k (b, g, t, d)."""
        return cls.dense(q, k, causal=True, span=span)

    @classmethod
    def window(
        cls, q: Tensor, k: Tensor, *, sink: int, window: int, causal: bool = True
    ) -> "BlockLayout":
        """Keep the cells that touch the first `sink` keys or the nearest `window` keys.

        Args:
            q: Queries (b, h, s, d) that the layout is for; only the shape and device count.
            k: Keys (b, g, t, d).
            sink: Leading key tokens that every query keeps, at least 0.
            window: Tokens on the causal side (on both sides without `causal`) of each query that
                are kept, at least 1. Whole cells are kept, so up to 63 more tokens stay.
            causal: Apply the bottom-right causal rule.

        Raises:
            ArgumentError: `sink` or `window` is too small.
        """
        check_sizes("BlockLayout.window", q, k)
        if sink < 0 or window < 1:
            raise ArgumentError(
                f"BlockLayout.window: sink is {sink} and window is {window}, must be at least 0 "
                "and at least 1; widen them"
            )
        b, h, s, _ = q.shape
        t = k.shape[2]
        n, m = num_cells(s), num_cells(t)
        first = torch.arange(n, device=q.device)[:, None] * CELL + (t - s)
        last = (first + CELL).clamp_max(t) - 1
        left = torch.arange(m, device=q.device)[None, :] * CELL
        near = (left + CELL > first - window + 1) & (left < last + (1 if causal else window))
        kept = (near | (left < sink)).expand(b, h, n, m)
        return cls.from_bool(kept, num_queries=s, num_keys=t, causal=causal)

    # --- reading ----------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(b, h, n, m): batch, query heads, query cells, key cells."""
        b, h, n, _ = self.bits.shape
        return b, h, n, num_cells(self.num_keys)

    def to_bool(self, rows: slice | None = None) -> Bool[Tensor, "b h n m"]:
        """Return one boolean per cell, of all query cells or of the slice `rows` of them."""
        bits = self.bits if rows is None else self.bits[:, :, rows]
        return _unpack(bits, num_cells(self.num_keys))

    @property
    def num_kept(self) -> int:
        """Kept cells, summed over batch, heads and query cells."""
        return sum(int(self.to_bool(rows).sum()) for rows in self._row_chunks())

    @property
    def num_full(self) -> int:
        """Cells that a dense attention under the same token rule would compute."""
        b, h, _, _ = self.shape
        visible = (self._visible_pairs(r, self.bits.device).gt(0).sum() for r in self._row_chunks())
        return b * h * sum(int(v) for v in visible)

    @property
    def is_full(self) -> bool:
        """Whether every cell that the token rule allows is kept, so that attention is dense."""
        return self.complete or self.num_kept == self.num_full

    @property
    def density(self) -> float:
        """Kept fraction of the token pairs that the token rule allows, in [0, 1]."""
        kept = full = 0
        b, h, _, _ = self.shape
        for rows in self._row_chunks():
            pairs = self._visible_pairs(rows, self.bits.device)
            kept += int((self.to_bool(rows) * pairs).sum())
            full += b * h * int(pairs.sum())
        return kept / full if full else 1.0

    def token_rule(
        self, queries: Int[Tensor, " r"], keys: Int[Tensor, " c"]
    ) -> Bool[Tensor, "r c"]:
        """Return which of the given token pairs the causal and window rule allows.

        Positions past the real tokens may be asked for: keys at `num_keys` and beyond are False.
        """
        limit = queries[:, None] + (self.num_keys - self.num_queries)
        allowed = (keys < self.num_keys)[None, :].expand(len(queries), -1)
        if self.causal:
            allowed = allowed & (keys[None, :] <= limit)
        if self.span is not None:
            allowed = allowed & (keys[None, :] > limit - self.span)
        return allowed

    # --- combining --------------------------------------------------------------------------

    def __or__(self, other: "BlockLayout") -> "BlockLayout":
        """Keep the cells that either layout keeps. Both must have the same sizes and rule.

        The larger skip threshold of each head holds, so that nothing kept by one is lost.
        """
        self._check_same(other, "|")
        skip = None
        if self.skip_threshold is not None and other.skip_threshold is not None:
            pairs = zip(self.skip_threshold, other.skip_threshold, strict=True)
            skip = tuple(max(a, b) for a, b in pairs)
        complete = self.complete or other.complete
        bits = self.bits | other.bits
        return replace(self, bits=bits, skip_threshold=skip, complete=complete)

    def __and__(self, other: "BlockLayout") -> "BlockLayout":
        """Keep the cells that both layouts keep. Both must have the same sizes and rule.

        The smaller skip threshold of each head holds.
        """
        self._check_same(other, "&")
        skip = self.skip_threshold if other.skip_threshold is None else other.skip_threshold
        if self.skip_threshold is not None and other.skip_threshold is not None:
            pairs = zip(self.skip_threshold, other.skip_threshold, strict=True)
            skip = tuple(min(a, b) for a, b in pairs)
        complete = self.complete and other.complete
        bits = self.bits & other.bits
        return replace(self, bits=bits, skip_threshold=skip, complete=complete)

    def with_span(self, span: int | None) -> "BlockLayout":
        """Return this layout under a sliding window of `span` tokens (None: as it is).

        Raises: ArgumentError: `span` is below 1, or the layout is not causal.
        """
        if span is None or (self.span is not None and span >= self.span):
            return self
        found = BlockLayout.from_chunks(
            (self.to_bool(rows) for rows in self._row_chunks()),
            num_queries=self.num_queries,
            num_keys=self.num_keys,
            causal=self.causal,
            span=span,
            skip_threshold=self.skip_threshold,
        )
        return replace(found, complete=self.complete)

    def group_heads(self, num_kv_heads: int, *, group: HeadGroup = "union") -> "BlockLayout":
        """Return a layout in which all query heads of one KV head keep the same cells.

        Kernels that load a key cell once for a whole group want this; it costs density.

        Args:
            num_kv_heads: g; must divide the number of query heads. Adjacent heads form a group.
            group: "query" returns the layout as it is (each query head its own cells), "union"
                gives every head of a group the cells that any of them keeps.

        Raises: ArgumentError: `num_kv_heads` does not divide the heads, or `group` is unknown.
        """
        b, h, n, _ = self.shape
        if num_kv_heads < 1 or h % num_kv_heads:
            raise ArgumentError(
                f"BlockLayout.group_heads: num_kv_heads is {num_kv_heads}, must divide the {h} "
                "query heads; pass the number of key heads"
            )
        if group not in ("query", "union"):
            raise ArgumentError(
                f'BlockLayout.group_heads: group is {group!r}, must be "query" or "union"; pick one'
            )
        size = h // num_kv_heads
        if group == "query" or size == 1:
            return self
        bits = self.bits.view(b, num_kv_heads, size, n, -1)
        union = bits[:, :, 0]
        for i in range(1, size):
            union = union | bits[:, :, i]
        skip = self.skip_threshold
        if skip is not None:
            skip = tuple(max(skip[i // size * size : i // size * size + size]) for i in range(h))
        return replace(self, bits=union.repeat_interleave(size, dim=1), skip_threshold=skip)

    def _check_same(self, other: "BlockLayout", sign: str) -> None:
        mine = (self.bits.shape, self.num_queries, self.num_keys, self.causal, self.span)
        theirs = (other.bits.shape, other.num_queries, other.num_keys, other.causal, other.span)
        if mine != theirs:
            raise ShapeError(
                f"BlockLayout {sign}: other is {other.shape} over {other.num_queries} x "
                f"{other.num_keys} tokens (causal={other.causal}, span={other.span}), must be "
                f"{self.shape} over {self.num_queries} x {self.num_keys} tokens "
                f"(causal={self.causal}, span={self.span}); build both for the same q and k"
            )

    # --- other forms (see layout_convert) -----------------------------------------------------

    @classmethod
    def from_mask(cls, mask: Bool[Tensor, "b h s t"], *, causal: bool = False) -> "BlockLayout":
        """Keep every cell in which the token mask allows a pair; see `layout_convert.from_mask`."""
        from foveal.attention.layout_convert import from_mask

        return from_mask(mask, causal=causal)

    @classmethod
    def from_block_mask(cls, mask: Any, *, causal: bool = False) -> "BlockLayout":
        """Keep the cells of a FlexAttention mask; see `layout_convert.from_block_mask`."""
        from foveal.attention.layout_convert import from_block_mask

        return from_block_mask(mask, causal=causal)

    def to_block_mask(self) -> Any:
        """Return FlexAttention's `BlockMask`; see `layout_convert.to_block_mask`."""
        from foveal.attention.layout_convert import to_block_mask

        return to_block_mask(self)

    def to_lists(self, *, tile_queries: int = CELL, tile_keys: int = CELL) -> "TileLists":
        """Return ascending lists of key tiles per query tile; see `layout_convert.to_lists`."""
        from foveal.attention.layout_convert import to_lists

        return to_lists(self, tile_queries=tile_queries, tile_keys=tile_keys)

    # --- internals --------------------------------------------------------------------------

    def _row_chunks(self) -> Iterator[slice]:
        for start in range(0, num_cells(self.num_queries), _ROWS_AT_ONCE):
            yield slice(start, min(start + _ROWS_AT_ONCE, num_cells(self.num_queries)))

    def _visible_cells(self, rows: slice, device: torch.device) -> Bool[Tensor, "n m"]:
        """Cells of some query cells in which the rule allows a pair."""
        first = torch.arange(rows.start, rows.stop, device=device)[:, None] * CELL
        last = (first + CELL - 1).clamp_max(self.num_queries - 1)
        shift = self.num_keys - self.num_queries
        left = torch.arange(num_cells(self.num_keys), device=device)[None] * CELL
        seen = left <= last + shift if self.causal else left >= first * 0
        if self.span is not None:
            right = (left + CELL - 1).clamp_max(self.num_keys - 1)
            seen = seen & (right > first + shift - self.span)
        return seen

    def _visible_pairs(self, rows: slice, device: torch.device) -> Int[Tensor, "n m"]:
        """Token pairs per cell that the rule allows, for some query cells."""
        queries = torch.arange(
            rows.start * CELL, min(rows.stop * CELL, self.num_queries), device=device
        )
        limit = queries + (self.num_keys - self.num_queries)
        stop = limit.add(1).clamp(0, self.num_keys) if self.causal else limit * 0 + self.num_keys
        start = limit * 0 if self.span is None else (limit - self.span + 1).clamp_min(0)
        left = torch.arange(num_cells(self.num_keys), device=device) * CELL
        overlap = torch.minimum(stop[:, None], left + CELL) - torch.maximum(start[:, None], left)
        overlap = torch.nn.functional.pad(overlap.clamp_min(0), (0, 0, 0, -len(queries) % CELL))
        return overlap.unflatten(0, (-1, CELL)).sum(1)

    def __repr__(self) -> str:
        """Return sizes, density and the pattern of the first head on at most 16 x 32 marks."""
        b, h, n, m = self.shape
        rule = "causal" if self.causal else "full"
        rule += f", span={self.span}" if self.span is not None else ""
        rule += ", skips" if self.skip_threshold is not None else ""
        head = (
            f"BlockLayout({b} x {h} heads, {self.num_queries} x {self.num_keys} tokens, {rule}, "
            f"density={self.density:.3f})"
        )
        picture = _unpack(self.bits[:1, :1], m).float()
        size = (min(n, 16), min(m, 32))
        shade = torch.nn.functional.adaptive_avg_pool2d(picture, size)[0, 0]
        lines = ["".join(" .:+#"[min(4, int(x * 4 + 0.999))] for x in row) for row in shade]
        return "\n".join([head, *lines])
