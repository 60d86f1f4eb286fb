"""Codes, scales and summaries of queries, keys and values by Triton kernels.

The codes are those of `quantize.api`, bit for bit, for equal means.
"""

# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false
# Kernels are Triton's language, not Python's: their arguments are pointers and scalars.

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from foveal._core.gpu import rounds_once
from foveal.attention.layout import CELL, num_cells
from foveal.attention.precision import Granularity
from foveal.attention.quantize.api import Codes, Side, ValueCodes, group_of_token


@triton.jit
def _round_even(x):
    """Round |x| < 2^22 to the nearest integer, ties to even."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def to_e4m3(x):
    """Round numbers in [0, 448] to the nearest e4m3, ties to even, without hardware for it."""
    bits = x.to(tl.int32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) << 20
    small = (x + 24576.0) - 24576.0  # 2^-9 * 1.5 * 2^23: steps of 2^-9
    return tl.where(x < 0.015625, small, normal.to(tl.float32, bitcast=True))


@triton.jit
def codes_kernel(
    x_ptr, mean_ptr, codes_ptr, scales_ptr, pooled_ptr, similar_ptr,
    stride_b, stride_h, stride_s,
    h, s, n,
    D: tl.constexpr, BD: tl.constexpr, LARGEST: tl.constexpr, GROUPING: tl.constexpr,
    MEAN: tl.constexpr, SUMMARY: tl.constexpr,
):  # fmt: skip
    """Quantize one cell of 64 tokens. MEAN: 0 none, 1 one per head, 2 that of the cell."""
    cell = tl.program_id(0) % n
    bh = (tl.program_id(0) // n).to(tl.int64)
    index = tl.arange(0, 64)
    channel = tl.arange(0, BD)
    token = cell * 64 + index
    there = (token[:, None] < s) & (channel[None, :] < D)
    base = x_ptr + bh // h * stride_b + bh % h * stride_h
    place = base + token.to(tl.int64)[:, None] * stride_s + channel[None, :]
    x = tl.load(place, mask=there, other=0.0).to(tl.float32)
    count = tl.minimum(s - cell * 64, 64).to(tl.float32)
    row = bh * n + cell
    if MEAN == 1:
        mean = tl.load(mean_ptr + bh * D + channel, mask=channel < D, other=0.0)
        x = tl.where(there, x - mean[None, :], 0.0)
    if MEAN == 2:
        mean = tl.div_rn(tl.sum(x, 0), tl.zeros((BD,), tl.float32) + count)
        tl.store(mean_ptr + row * D + channel, mean, mask=channel < D)
        x = tl.where(there, x - mean[None, :], 0.0)
    # A NaN or Inf makes its group's scale NaN; maxima alone would drop a NaN.
    amax = tl.max(tl.abs(x), 1)
    bad = tl.sum(x * 0.0, 1)
    if GROUPING == 0:  # the whole cell
        amax = tl.zeros((64,), tl.float32) + tl.max(amax, 0)
        bad = tl.zeros((64,), tl.float32) + tl.sum(bad, 0)
        group = index * 0
    elif GROUPING == 1:  # 16 neighbors
        wide = tl.zeros((4, 16), tl.float32)
        amax = tl.reshape(wide + tl.max(tl.reshape(amax, (4, 16)), 1)[:, None], (64,))
        bad = tl.reshape(wide + tl.sum(tl.reshape(bad, (4, 16)), 1)[:, None], (64,))
        group = index // 16
    elif GROUPING == 2:  # equal n mod 8 in 16 neighbors
        pair = tl.zeros((4, 2, 8), tl.float32)
        amax = tl.reshape(pair + tl.max(tl.reshape(amax, (4, 2, 8)), 1)[:, None, :], (64,))
        bad = tl.reshape(pair + tl.sum(tl.reshape(bad, (4, 2, 8)), 1)[:, None, :], (64,))
        group = index // 16 * 8 + index % 8
    else:  # equal floor((n mod 8) / 2)
        all_rows = tl.zeros((8, 4, 2), tl.float32)
        amax = tl.max(tl.max(tl.reshape(amax, (8, 4, 2)), 2), 0)
        amax = tl.reshape(all_rows + amax[None, :, None], (64,))
        bad = tl.sum(tl.sum(tl.reshape(bad, (8, 4, 2)), 2), 0)
        bad = tl.reshape(all_rows + bad[None, :, None], (64,))
        group = index % 8 // 2
    limit = tl.zeros((64,), tl.float32) + LARGEST
    scale = tl.maximum(tl.div_rn(amax, limit), 8.673617379884035e-19) + bad  # 2^-60
    scale = tl.where(bad == bad, scale, float("nan"))
    groups: tl.constexpr = 1 if GROUPING == 0 else 4 if GROUPING != 2 else 32
    tl.store(scales_ptr + row * groups + group, scale)
    y = tl.div_rn(x, tl.zeros((64, BD), tl.float32) + scale[:, None])
    y = tl.where(y == y, y, 0.0)
    y = _round_even(tl.minimum(tl.maximum(y, -LARGEST), LARGEST))
    out = codes_ptr + row * 64 * D + index[:, None] * D + channel[None, :]
    tl.store(out, y.to(tl.int8), mask=channel[None, :] < D)
    if SUMMARY:
        length = tl.sqrt_rn(tl.sum(x * x, 1))
        unit = x / tl.where(length == 0.0, 1.0, length)[:, None]
        unit_mean = tl.sum(unit, 0) / count
        tl.store(similar_ptr + row, tl.sum(unit_mean * unit_mean, 0))
        tl.store(pooled_ptr + row * D + channel, tl.sum(x, 0) / count, mask=channel < D)


# As a constant, t = 1 is compiled wrongly for fp16 and bf16: what is past the end becomes E.
@triton.jit(do_not_specialize=("t",))
def values_kernel(
    v_ptr, scale_ptr, mean_ptr, out_ptr, stride_b, stride_g, stride_t, g, t, m,
    E: tl.constexpr, BE: tl.constexpr, MEAN: tl.constexpr, ROUND: tl.constexpr,
):  # fmt: skip
    """Round one cell of values to e4m3 and lay it out channel by channel.

    ROUND: Round before the cast, which on compute capability 8.9 goes through a truncated fp16.
    """
    cell = tl.program_id(0) % m
    bg = (tl.program_id(0) // m).to(tl.int64)
    place = tl.arange(0, 64)
    # Place 4c + 2b + e of each 16 holds key 8b + 2c + e: see `triton_sage._operand_order`.
    key = place // 16 * 16 + place % 4 // 2 * 8 + place % 16 // 4 * 2 + place % 2
    token = cell.to(tl.int64) * 64 + key
    channel = tl.arange(0, BE)
    there = (token[:, None] < t) & (channel[None, :] < E)
    base = v_ptr + bg // g * stride_b + bg % g * stride_g
    x = tl.load(base + token[:, None] * stride_t + channel[None, :], mask=there, other=0.0)
    x = x.to(tl.float32)
    if MEAN:
        mean = tl.load(mean_ptr + bg * E + channel, mask=channel < E, other=0.0)
        x = tl.where(there, x - mean[None, :], 0.0)
    scale = tl.load(scale_ptr + bg * E + channel, mask=channel < E, other=1.0)
    y = tl.div_rn(x, tl.zeros((64, BE), tl.float32) + scale[None, :])
    y = tl.where(y == y, y, 0.0)
    y = tl.minimum(tl.maximum(y, -448.0), 448.0)
    if ROUND:
        y = tl.where(y < 0.0, -to_e4m3(-y), to_e4m3(y))
    y = tl.trans(y).to(tl.float8e4nv)
    out = out_ptr + (bg * m + cell) * 64 * E + channel[:, None] * 64 + place[None, :]
    tl.store(out, y, mask=channel[:, None] < E)


def with_unit_stride(x: Tensor) -> Tensor:
    """Return `x`, copied if its last axis is not laid out densely."""
    x = x.detach()
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


_GROUPING = {("q", "warp"): 1, ("q", "thread"): 2, ("k", "thread"): 3}


def quantize_tokens(
    x: Float[Tensor, "b h s d"],
    side: Side,
    *,
    bits: int,
    granularity: Granularity,
    mean: Float[Tensor, "b h 1 d"] | None = None,
    smooth: bool = False,
    summary: bool = False,
) -> tuple[Codes, Tensor | None, Tensor | None, Tensor | None]:
    """Quantize queries or keys as `quantize_queries` and `quantize_keys` do, in one pass.

    Returns: (codes, mean per cell if `smooth`, pooled tokens and self-similarity per cell if
        `summary`).
    """
    b, h, s, d = x.shape
    x = with_unit_stride(x)
    n = num_cells(s)
    grouping = _GROUPING.get((side, granularity), 0)
    groups = group_of_token(side, granularity, device=x.device)
    num_groups = {0: 1, 1: 4, 2: 32, 3: 4}[grouping]
    codes = torch.empty(b, h, n, CELL, d, dtype=torch.int8, device=x.device)
    scales = torch.empty(b, h, n, num_groups, device=x.device, dtype=torch.float32)
    if smooth:
        mean = torch.empty(b, h, n, d, device=x.device, dtype=torch.float32)
    elif mean is not None:
        mean = mean.detach().float().contiguous()
    pooled = torch.empty(b, h, n, d, device=x.device, dtype=torch.float32) if summary else None
    similar = torch.empty(b, h, n, device=x.device, dtype=torch.float32) if summary else None
    with torch.cuda.device_of(x):
        codes_kernel[(n * b * h,)](
            x, mean, codes, scales, pooled, similar, *x.stride()[:3], h, s, n,
            D=d, BD=max(16, triton.next_power_of_2(d)), LARGEST=float(2 ** (bits - 1) - 1),
            GROUPING=grouping, MEAN=2 if smooth else 0 if mean is None else 1, SUMMARY=summary,
        )  # fmt: skip
    return Codes(codes, scales, groups, s), mean if smooth else None, pooled, similar


def quantize_values_tiled(
    v: Float[Tensor, "b g t e"],
    *,
    scales: Float[Tensor, "b g 1 e"],
    mean: Float[Tensor, "b g 1 e"] | None,
) -> ValueCodes:
    """Round values to e4m3 with these scales; the codes come tiled, see `ValueCodes`."""
    b, g, t, e = v.shape
    m = num_cells(t)
    v = with_unit_stride(v)
    codes = torch.empty(b, g, m, e, CELL, dtype=torch.float8_e4m3fn, device=v.device)
    with torch.cuda.device_of(v):
        values_kernel[(m * b * g,)](
            v, scales, mean, codes, *v.stride()[:3], g, t, m,
            E=e, BE=max(16, triton.next_power_of_2(e)), MEAN=mean is not None,
            ROUND=not rounds_once(v.device),
        )  # fmt: skip
    return ValueCodes(codes, scales, mean, t, tiled=True)
