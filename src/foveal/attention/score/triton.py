"""Antidiagonal scores, their softmax mass per cell and the choice of cells as Triton kernels.

Source: Xu et al., "XAttention: Block Sparse Attention with Antidiagonal Scoring", ICML 2025,
arXiv:2503.16428. Written from the paper's formulas, as `score.api` states them. The choice needs no
sort: a bisection over the bits of the masses finds the least one that is kept.
"""

# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false
# Kernels are Triton's language, not Python's: their arguments are pointers and scalars.

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from foveal._core.gpu import is_hopper
from foveal.attention.layout import CELL, num_cells

_SCRATCH_BYTES = 256 * 2**20
"""Most memory for masses that are not yet normalized; longer inputs take several launches."""


def _tiles(q: Tensor) -> tuple[int, int, int, int]:
    """Return strided queries and keys of a tile, warps, and depth of the software pipeline.

    On an H100 at 128k tokens, stride 16 and width 128: 263 TFLOP/s with tiles of 128 x 128, 222
    with 64 x 128. Other chips have less shared memory.
    """
    if q.dtype == torch.float32:
        return 64, 64, 4, 1
    if q.shape[3] > 128:
        return 64, 64, 4, 2
    return (128, 128, 8, 3) if is_hopper(q.device) else (64, 128, 4, 2)


@triton.jit
def mass_kernel(
    q_ptr, k_ptr, scratch_ptr, tops_ptr, mass_ptr,
    q_b, q_h, q_s, k_b, k_g, k_t, h, g, s, t, first, num_rows, num_columns, cells, m, factor,
    D: tl.constexpr, BD: tl.constexpr, STRIDE: tl.constexpr, CAUSAL: tl.constexpr,
    ALTERNATE: tl.constexpr, RAGGED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Attention mass per cell of ROWS strided queries, from query group `first` on.

    Each tile of keys leaves its sums per cell under the maximum so far; a second pass over those
    brings them under the last maximum, so that no score is computed twice.
    """
    PER: tl.constexpr = 64 // STRIDE
    WIDTH: tl.constexpr = COLUMNS // PER
    blocks = tl.cdiv(num_rows, ROWS)
    block = tl.program_id(0) % blocks
    batch = tl.program_id(0) // blocks
    head = tl.program_id(1)
    bh = (batch * h + head).to(tl.int64)
    local = block * ROWS + tl.arange(0, ROWS)
    row = first + local
    channel = tl.arange(0, BD)
    inside = channel < D
    q_base = q_ptr + batch.to(tl.int64) * q_b + head.to(tl.int64) * q_h + channel[None, :]
    k_base = k_ptr + batch.to(tl.int64) * k_b + (head // (h // g)).to(tl.int64) * k_g
    k_base = k_base + channel[None, :]
    odd = row * 0
    if ALTERNATE:
        # Parity of the group by its position on the axis of the keys, made positive first.
        odd = (row * STRIDE + (t - s) + 2 * STRIDE * (s // STRIDE + 1)) // STRIDE % 2
    last = tl.minimum(row * STRIDE + STRIDE - 1, s - 1) + (t - s)
    stop = num_columns
    if CAUSAL:
        end = tl.max(tl.where(local < num_rows, last, -1), 0)
        stop = tl.where(end < 0, 0, tl.minimum(num_columns, tl.maximum(end, 0) // STRIDE + 1))
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    # Where this program keeps what is not yet normalized.
    slot = (bh * blocks + block) * ROWS + tl.arange(0, ROWS)
    tiles = tl.cdiv(num_columns, COLUMNS)
    scratch = scratch_ptr + slot[:, None] * (tiles * WIDTH) + tl.arange(0, WIDTH)[None, :]
    acc = tl.zeros((ROWS, COLUMNS), tl.float32)
    # One loop over tiles and steps, so that the next tile is under way while one is summed up.
    for i in tl.range(0, tl.cdiv(stop, COLUMNS) * STRIDE, num_stages=STAGES):
        tile = i // STRIDE
        step = i % STRIDE
        column = tile * COLUMNS + tl.arange(0, COLUMNS)
        shift = STRIDE - 1 - step
        if ALTERNATE:
            shift = tl.where(odd == 1, (2 * STRIDE - 2 - step) % STRIDE, shift)
        query = row * STRIDE + shift
        key = column * STRIDE + step
        there_q = (query < s) & (local < num_rows)
        q = tl.load(
            q_base + query.to(tl.int64)[:, None] * q_s,
            mask=there_q[:, None] & inside[None, :],
            other=0.0,
        )
        k = tl.load(
            k_base + key.to(tl.int64)[:, None] * k_t,
            mask=(key < t)[:, None] & inside[None, :],
            other=0.0,
        )
        acc = tl.dot(q, tl.trans(k), acc, input_precision=PRECISION)
        if step == STRIDE - 1:
            if RAGGED:
                of_row = tl.minimum(STRIDE, s - row * STRIDE)[:, None]
                of_column = tl.minimum(STRIDE, t - column * STRIDE)[None, :]
                pairs = of_row + of_column - STRIDE
                if ALTERNATE:
                    other = tl.minimum(of_column, STRIDE - 1) - (STRIDE - 1 - of_row)
                    other = tl.where(of_row == STRIDE, of_column, other)
                    pairs = tl.where(odd[:, None] == 1, other, pairs)
                x = acc * factor / tl.maximum(pairs, 1).to(tl.float32)
                x = tl.where(pairs > 0, x, float("-inf"))
            else:
                x = acc * (factor / STRIDE)
            acc = tl.zeros((ROWS, COLUMNS), tl.float32)
            seen = (column < num_columns)[None, :] & (local < num_rows)[:, None]
            if CAUSAL:
                seen = seen & (column[None, :] * STRIDE <= last[:, None])
            x = tl.where(seen, x, float("-inf"))
            new = tl.maximum(top, tl.max(x, 1))
            finite = tl.where(new == float("-inf"), 0.0, new)
            p = tl.exp2(x - finite[:, None])
            shrink = tl.exp2(top - finite)
            total = total * shrink + tl.sum(p, 1)
            top = new
            tl.store(scratch + tile * WIDTH, tl.sum(tl.reshape(p, (ROWS, WIDTH, PER)), 2))
            tl.store(tops_ptr + slot * tiles + tile, finite)
    tl.debug_barrier()
    final = tl.where(top == float("-inf"), 0.0, top)
    share = tl.where(total == 0.0, 0.0, 1.0 / tl.where(total == 0.0, 1.0, total))
    cell_row = block * (ROWS // PER) + tl.arange(0, ROWS // PER)
    for tile in range(0, tl.cdiv(stop, COLUMNS)):
        then = tl.load(tops_ptr + slot * tiles + tile)
        weight = tl.exp2(then - final) * share
        part = tl.load(scratch + tile * WIDTH) * weight[:, None]
        part = tl.sum(tl.reshape(part, (ROWS // PER, PER, WIDTH)), 1)
        cell = tile * WIDTH + tl.arange(0, WIDTH)
        place = mass_ptr + (bh * cells + cell_row)[:, None] * m + cell[None, :]
        tl.store(place, part, mask=(cell_row < cells)[:, None] & (cell < m)[None, :])


def iter_block_mass_triton(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    *,
    stride: int,
    causal: bool,
    alternate: bool,
    scale: float,
) -> Iterator[tuple[int, Float[Tensor, "b h n m"]]]:
    """Yield (first query cell, mass per cell) as `iter_block_mass` does.

    Products are taken in the dtype of `q`, sums in fp32.

    Memory: 256 MiB of scratch, and one chunk of masses.
    """
    b, h, s, d = q.shape
    g, t = k.shape[1:3]
    q, k = (x if x.stride(-1) == 1 else x.contiguous() for x in (q.detach(), k.detach()))
    per, n, m = CELL // stride, num_cells(s), num_cells(t)
    size, columns, warps, stages = _tiles(q)
    tiles = -(-t // (stride * columns))
    per_block = 4 * b * h * size * (tiles * columns // per + tiles)
    blocks = max(1, _SCRATCH_BYTES // per_block)
    step = blocks * size // per  # cells of a chunk
    for first in range(0, n, step):
        cells = min(step, n - first)
        rows = -(-(min(s, (first + cells) * CELL) - first * CELL) // stride)
        slots = b * h * -(-rows // size) * size
        scratch = torch.empty(slots, tiles * columns // per, device=q.device, dtype=torch.float32)
        tops = torch.empty(slots, tiles, device=q.device, dtype=torch.float32)
        mass = torch.zeros(b, h, cells, m, device=q.device, dtype=torch.float32)
        with torch.cuda.device_of(q):
            mass_kernel[(slots // size // h, h)](
                q, k, scratch, tops, mass, *q.stride()[:3], *k.stride()[:3], h, g, s, t,
                first * per, rows, -(-t // stride), cells, m, scale * 1.4426950408889634,
                D=d, BD=max(16, triton.next_power_of_2(d)), STRIDE=stride, CAUSAL=causal,
                ALTERNATE=alternate, RAGGED=bool(s % stride or t % stride), ROWS=size,
                COLUMNS=columns, PRECISION="tf32x3" if q.dtype == torch.float32 else "tf32",
                STAGES=stages, num_warps=warps,
            )  # fmt: skip
        yield first, mass


@triton.jit
def select_kernel(
    mass_ptr, forced_ptr, threshold_ptr, bits_ptr, h, rows, first, n, m, num_bytes, s, t,
    CAUSAL: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Keep the forced cells of one row and the heaviest others, as bits."""
    row = tl.program_id(0) % rows
    bh = (tl.program_id(0) // rows).to(tl.int64)
    cell = tl.arange(0, WIDTH)
    inside = cell < m
    mass = tl.load(mass_ptr + (bh * rows + row) * m + cell, mask=inside, other=0.0)
    forced = tl.load(forced_ptr + (first + row) * m + cell, mask=inside, other=0) != 0
    threshold = tl.load(threshold_ptr + bh % h)
    total = tl.sum(mass, 0)
    held = tl.sum(tl.where(forced, mass, 0.0), 0)
    needed = total * threshold
    free = tl.where(forced, 0.0, mass)
    ranks = free.to(tl.int32, bitcast=True)  # Of numbers >= 0, the bits order as the numbers do.
    low = 0
    high = 0x7F800000
    for _ in range(31):
        middle = low + (high - low) // 2
        above = held + tl.sum(tl.where(ranks > middle, free, 0.0), 0)
        enough = above < needed
        high = tl.where(enough, middle, high)
        low = tl.where(enough, low, tl.minimum(middle + 1, high))
    above = held + tl.sum(tl.where(ranks > high, free, 0.0), 0)
    tied = ranks == high
    earlier = tl.cumsum(tied.to(tl.int32), 0) - tied.to(tl.int32)
    value = high.to(tl.float32, bitcast=True)
    fits = above + earlier.to(tl.float32) * value < needed
    kept = (free > 0.0) & ((ranks > high) | (tied & fits))
    # A row without a forced cell keeps its heaviest.
    alone = tl.sum(forced.to(tl.int32), 0) == 0
    heaviest = tl.max(tl.where(inside, ranks, -1), 0)
    best = tl.min(tl.where(inside & (ranks == heaviest), cell, WIDTH), 0)
    kept = kept | forced | (alone & (cell == best))
    # Heads that keep everything, and rows whose sum is NaN or Inf.
    kept = (kept | (cell * 0 + threshold >= 1.0) | (cell * 0 + (total - total) != 0.0)) & inside
    if CAUSAL:
        bottom = tl.minimum((first + row) * 64 + 63, s - 1) + (t - s)
        kept = kept & (cell * 64 <= bottom)
    place = tl.arange(0, 8)[None, :]
    packed = tl.sum(tl.reshape(kept.to(tl.int32), (WIDTH // 8, 8)) << place, 1)
    byte = tl.arange(0, WIDTH // 8)
    out = bits_ptr + (bh * n + first + row) * num_bytes + byte
    tl.store(out, packed.to(tl.uint8), mask=byte < num_bytes)


def select_cells(
    chunks: Iterator[tuple[int, Float[Tensor, "b h n m"]]],
    forced: Bool[Tensor, "n m"],
    threshold: Float[Tensor, " h"],
    *,
    batch: int,
    num_queries: int,
    num_keys: int,
    causal: bool,
) -> UInt8[Tensor, "b h n bytes"]:
    """Return as bits the forced cells and the heaviest others until a share of the mass is held.

    Of the cells that are not forced, one is kept as long as the forced ones and the heavier ones
    hold less than `threshold` of the row's mass. Heads with a threshold of 1 keep everything, and
    so do rows whose mass is not finite. Equal masses are kept from left to right.

    Args:
        chunks: First query cell and masses, as `iter_block_mass_triton` yields them.
        forced: Cells that are kept whatever their mass.
        threshold: Share of the mass, per query head.
        batch: b.
        num_queries: s, in tokens.
        num_keys: t, in tokens.
        causal: Clear the cells above the bottom-right diagonal.
    """
    n, m = forced.shape
    h = len(threshold)
    bits = torch.empty(batch, h, n, -(-m // 8), dtype=torch.uint8, device=forced.device)
    width = max(16, triton.next_power_of_2(m))
    forced = forced.contiguous().view(torch.uint8)
    for first, mass in chunks:
        rows = mass.shape[2]
        with torch.cuda.device_of(mass):
            select_kernel[(rows * batch * h,)](
                mass, forced, threshold, bits, h, rows, first, n, m, bits.shape[3], num_queries,
                num_keys, CAUSAL=causal, WIDTH=width, num_warps=1 if width <= 512 else 4,
            )  # fmt: skip
    return bits
