"""How many cells and token pairs a token rule allows, on the host or as tensors on a device."""

import functools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import CELL, BlockLayout, num_cells

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Rule:
    """The token rule of a layout: sizes, bottom-right causal or not, and a sliding window."""

    num_queries: int
    num_keys: int
    causal: bool
    span: int | None = None


@functools.lru_cache(maxsize=256)
def count(rule: Rule) -> tuple[int, int]:
    """Return the visible cells and token pairs of one head, without a tensor.

    Keys that one query sees are an interval, and so are those of 64 neighboring queries.
    """
    s, t = rule.num_queries, rule.num_keys
    cells = pairs = 0
    for first in range(0, s, CELL):
        last = min(first + CELL, s) - 1
        stop, start = _interval(rule, last)[1], _interval(rule, first)[0]
        cells += max(0, num_cells(stop) - start // CELL)
    if not rule.causal:
        return cells, s * t
    # Query i sees min(i + 1 + t - s, t) keys, at most `span` of them, at least none.
    widest = min(t, rule.span or t)
    seen = max(0, min(s, t))  # queries with at least one key
    smallest = t - seen + 1
    flat = max(0, t - max(widest, smallest) + 1)  # queries that see `widest` keys
    rising = seen - flat
    pairs = rising * (2 * smallest + rising - 1) // 2 + flat * widest
    return cells, pairs


def _interval(rule: Rule, query: int) -> tuple[int, int]:
    if not rule.causal:
        return 0, rule.num_keys
    limit = query + rule.num_keys - rule.num_queries
    start = 0 if rule.span is None else max(0, limit - rule.span + 1)
    return start, max(0, min(limit + 1, rule.num_keys))


def pairs_per_cell(rule: Rule, device: torch.device) -> Float[Tensor, "n m"]:
    """Return the visible token pairs of every cell, at most 4096, in fp32."""
    s, t = rule.num_queries, rule.num_keys
    left = torch.arange(num_cells(t), device=device) * CELL
    rows: list[Tensor] = []
    for first in range(0, s, _ROWS_AT_ONCE * CELL):
        queries = torch.arange(first, min(first + _ROWS_AT_ONCE * CELL, s), device=device)
        limit = queries + (t - s)
        stop = limit.add(1).clamp(0, t) if rule.causal else torch.full_like(limit, t)
        start = limit * 0 if rule.span is None else (limit - rule.span + 1).clamp_min(0)
        overlap = torch.minimum(stop[:, None], left + CELL)
        overlap = (overlap - torch.maximum(start[:, None], left)).clamp_min_(0)
        overlap = torch.nn.functional.pad(overlap, (0, 0, 0, -len(queries) % CELL))
        rows.append(overlap.unflatten(0, (-1, CELL)).sum(1).float())
    return torch.cat(rows)


def kept(
    layout: BlockLayout, pairs: Float[Tensor, "n m"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the kept cells and token pairs over all heads, as fp64 scalars on the device."""
    n, m = pairs.shape
    shifts = torch.arange(8, dtype=torch.uint8, device=pairs.device)
    cells: list[Tensor] = []
    tokens: list[Tensor] = []
    for first in range(0, n, _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        # A graph may be captured here, so that no number comes from the host.
        some = ((layout.bits[:, :, rows, :, None] >> shifts) & 1).flatten(-2)[..., :m]
        cells.append(some.sum(dtype=torch.float64))
        tokens.append((some * pairs[rows]).sum(dtype=torch.float64))
    return torch.stack(cells).sum(), torch.stack(tokens).sum()
