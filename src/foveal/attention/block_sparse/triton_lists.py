"""Kept cells as index lists on the GPU, for the Triton kernels."""

# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false
# Kernels are Triton's language, not Python's: their arguments are pointers and scalars.

import torch
import triton
import triton.language as tl
from jaxtyping import Int
from torch import Tensor

from foveal.attention.layout import BlockLayout

_MAX_CELLS = 2**15
"""From here on cell numbers do not fit 16 bits."""


@triton.jit
def lists_kernel(
    bits,
    lists,
    info,
    n,
    m,
    num_bytes,
    s,
    t,
    span,
    CAUSAL: tl.constexpr,
    HAS_SPAN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the ascending kept cells of one (head, query cell) row and where they are cut."""
    row = tl.program_id(0).to(tl.int64)
    top = (row % n).to(tl.int32) * 64 + (t - s)
    bottom = tl.minimum((row % n).to(tl.int32) * 64 + 63, s - 1) + (t - s)
    count = 0
    num_left = 0
    num_right = 0
    for start in range(0, m, BLOCK):
        cell = start + tl.arange(0, BLOCK)
        byte = tl.load(bits + row * num_bytes + cell // 8, mask=cell < m, other=0).to(tl.int32)
        kept = (byte >> (cell % 8)) & 1
        place = count + tl.cumsum(kept, 0) - kept
        tl.store(lists + row * m + place, cell.to(lists.dtype.element_ty), mask=kept > 0)
        right = cell * 64 + 63 >= t
        if CAUSAL:
            right = right | (cell * 64 + 63 > top)
        if HAS_SPAN:
            left = cell * 64 <= bottom - span
            right = right & (left == 0)
            num_left += tl.sum(kept & left.to(tl.int32), 0)
        count += tl.sum(kept, 0)
        num_right += tl.sum(kept & right.to(tl.int32), 0)
    tl.store(info + row * 3, num_left)
    tl.store(info + row * 3 + 1, count - num_right)
    tl.store(info + row * 3 + 2, count)


@triton.jit
def dense_row(row, s, t, m, span, CAUSAL: tl.constexpr, HAS_SPAN: tl.constexpr):
    """Return (first, num_left, end, count) of a row that keeps all its cells; see `cell_lists`."""
    top = row * 64 + (t - s)
    bottom = tl.minimum(row * 64 + 63, s - 1) + (t - s)
    last = m - 1
    whole = t // 64
    if CAUSAL:
        last = tl.where(bottom < 0, -1, tl.minimum(last, tl.maximum(bottom, 0) // 64))
        whole = tl.minimum(whole, tl.maximum(top + 1, 0) // 64)
    first = 0
    num_left = 0
    if HAS_SPAN:
        first = tl.maximum(top - span + 1, 0) // 64
        num_left = tl.where(bottom < span, 0, tl.maximum(bottom - span, 0) // 64 - first + 1)
    count = tl.maximum(last - first + 1, 0)
    num_left = tl.minimum(tl.maximum(num_left, 0), count)
    end = tl.minimum(tl.maximum(whole - first, num_left), count)
    return first, num_left, end, count


@triton.jit
def hidden(x, cell, row, s, t, span, CAUSAL: tl.constexpr, HAS_SPAN: tl.constexpr):
    """Return logits of one cell with -inf where the token rule hides a key from a query."""
    keys = cell * 64 + tl.arange(0, 64)
    queries = row * 64 + tl.arange(0, 64)
    positions = queries + (t - s)
    seen = (keys < t)[None, :] & (queries < s)[:, None]
    if CAUSAL:
        seen = seen & (keys[None, :] <= positions[:, None])
    if HAS_SPAN:
        seen = seen & (keys[None, :] > positions[:, None] - span)
    return tl.where(seen, x, float("-inf"))


@triton.jit
def masked(x, mask_row, cell, row, s, t, mask_t, MASK: tl.constexpr):
    """Apply the caller's mask to base-2 logits of one cell. MASK: 0 none, 1 boolean, 2 added."""
    if MASK:
        keys = cell * 64 + tl.arange(0, 64)
        there = (keys < t)[None, :] & (row * 64 + tl.arange(0, 64) < s)[:, None]
        place = mask_row + keys.to(tl.int64)[None, :] * mask_t
        extra = tl.load(place, mask=there, other=0)
        if MASK == 1:
            x = tl.where(extra != 0, x, float("-inf"))
        else:
            # The lowest finite number must not become -inf in base 2.
            bias = extra.to(tl.float32)
            low = tl.maximum(bias * 1.4426950408889634, -3.4028234e38)
            x += tl.where(bias == float("-inf"), bias, low)
    return x


def value_block(width: int) -> int:
    """Return the block width that holds a value of this width.

    At least 64: of narrower blocks of 16-bit values Hopper's matrix units read shared memory out of
    bounds with heads wider than 128 or loops that are not pipelined (Triton 3.6).
    """
    return max(64, int(triton.next_power_of_2(width)))


def mask_arguments(mask: Tensor | None, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return (0 none, 1 boolean or 2 added, strides) of a mask that broadcasts to `shape`."""
    if mask is None:
        return 0, (0, 0, 0, 0)
    return 1 if mask.dtype == torch.bool else 2, mask.expand(shape).stride()


def cell_lists(
    layout: BlockLayout,
) -> tuple[Int[Tensor, "b h n m"], Int[Tensor, "b h n 3"]]:
    """Return the kept key cells of every row, ascending, and where whole cells start and end.

    Args:
        layout: Cells on a CUDA device.

    Returns: Cells, int16 (int32 past two million keys), of which a row's first `count` are valid,
        and int32 (num_left, end, count): cells [0, num_left) are cut by the window,
        [num_left, end) are whole, and [end, count) are cut by the causal rule or the end of the
        keys.
    Memory: 2 bytes (4 past two million keys) per cell, kept or not. Nothing waits for the device.
    """
    b, h, n, m = layout.shape
    dtype = torch.int16 if m < _MAX_CELLS else torch.int32
    lists = torch.empty(b, h, n, m, dtype=dtype, device=layout.bits.device)
    info = torch.empty(b, h, n, 3, dtype=torch.int32, device=layout.bits.device)
    bits = layout.bits.contiguous()
    block = min(1024, max(16, triton.next_power_of_2(m)))
    with torch.cuda.device_of(bits):
        lists_kernel[(b * h * n,)](
            bits,
            lists,
            info,
            n,
            m,
            bits.shape[3],
            layout.num_queries,
            layout.num_keys,
            layout.span or 0,
            CAUSAL=layout.causal,
            HAS_SPAN=layout.span is not None,
            BLOCK=block,
            num_warps=1 if block <= 256 else 4,
        )
    return lists, info
