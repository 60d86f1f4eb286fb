"""Quantized attention over kept cells as a Triton kernel.

Source: Zhang et al., "SageAttention2", ICML 2025, arXiv:2411.10958, and "SpargeAttn", ICML 2025,
arXiv:2502.18137 (second stage). Written from the papers' formulas. Differs: two whole cells are
taken at a time under one running maximum; that is taken on the integer products of each thread,
which has one scale per key cell; V lies transposed in the order in which matrix units want it.
"""

# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false
# Kernels are Triton's language, not Python's: their arguments are pointers and scalars.

import math

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from foveal._core.gpu import has_fp8, is_hopper
from foveal.attention.block_sparse.triton_lists import (
    cell_lists,
    dense_row,
    hidden,
    mask_arguments,
    masked,
    value_block,
)
from foveal.attention.layout import BlockLayout, num_cells, per_head_tensor
from foveal.attention.precision import Sage
from foveal.attention.prepare.api import Prepared
from foveal.attention.quantize.triton import quantize_tokens, to_e4m3, with_unit_stride

STAGES = 2
"""Depth of the software pipeline over pairs of cells."""


MAX_REGISTERS = 168
"""Per thread on Hopper, so that three programs of 128 threads share a multiprocessor. Measured on
an H100 at 32k tokens and width 128: 820 TFLOP/s with it, 733 without."""


@triton.jit
def _operand_order(p):
    """Reorder weights (64, 8, 4, 2) of 64 keys as `values_kernel` orders those of V, (64, 64).

    In an accumulator a thread owns keys 2c, 2c + 1, 2c + 8, 2c + 9 of each 16; as an 8-bit operand
    it owns four neighbors. With this order no weight changes its thread.
    """
    x = tl.reshape(p, (64, 4, 2, 4, 2))
    return tl.reshape(tl.permute(x, (0, 1, 3, 2, 4)), (64, 64))


@triton.jit
def _lane_max(products):
    """Return the largest integer of each row and thread, (64, 4), as a float."""
    return tl.max(tl.max(products, 3), 1).to(tl.float32)


@triton.jit
def _factors(q_scale, scale_ptr, cell, K_GROUPS: tl.constexpr):
    """Return what turns the integers of each row and thread into logits, (64, 4)."""
    thread = tl.arange(0, 4)
    if K_GROUPS == 1:
        return (q_scale * tl.load(scale_ptr + cell))[:, None] + tl.zeros((1, 4), tl.float32)
    else:
        return q_scale[:, None] * tl.load(scale_ptr + cell * 4 + thread)[None, :]


@triton.jit
def _round_weights(p, FP8: tl.constexpr, EMULATED: tl.constexpr):
    """Round weights to the format of V, and put them into the order of its keys."""
    if FP8 and not EMULATED:
        return _operand_order(p).to(tl.float8e4nv)
    elif FP8:
        return to_e4m3(tl.reshape(p, (64, 64))).to(tl.float16)
    else:
        return tl.reshape(p, (64, 64)).to(tl.float16)


@triton.jit
def _times_values(p, v_ptr, cell, acc, E, BE: tl.constexpr, TILED: tl.constexpr):
    """Return p V of one cell, added to `acc`."""
    token = tl.arange(0, 64)
    channel = tl.arange(0, BE)
    base = v_ptr + cell.to(tl.int64) * 64 * E
    if TILED:
        place = base + channel[:, None] * 64 + token[None, :]
        v = tl.load(place) if BE == E else tl.load(place, mask=channel[:, None] < E, other=0.0)
        return tl.dot(p, tl.trans(v), acc)
    else:
        place = base + token[:, None] * E + channel[None, :]
        v = tl.load(place) if BE == E else tl.load(place, mask=channel[None, :] < E, other=0.0)
        return tl.dot(p, v, acc)


@triton.jit
def _load_keys(k_ptr, cell, D, BD: tl.constexpr):
    token = tl.arange(0, 64)
    channel = tl.arange(0, BD)
    place = k_ptr + cell.to(tl.int64) * 64 * D + token[:, None] * D + channel[None, :]
    if BD == D:
        return tl.load(place)
    else:
        return tl.load(place, mask=channel[None, :] < D, other=0)


@triton.jit
def _mean_logits(q_mean, plain_ptr, k_mean, cell, t, stride, D, BD: tl.constexpr):
    """Return the logits of a cell's mean query and the 64 smoothed keys of another."""
    token = cell.to(tl.int64) * 64 + tl.arange(0, 64)
    channel = tl.arange(0, BD)
    there = (token[:, None] < t) & (channel[None, :] < D)
    k = tl.load(plain_ptr + token[:, None] * stride + channel[None, :], mask=there, other=0.0)
    return tl.sum((k.to(tl.float32) - k_mean[None, :]) * q_mean[None, :], 1)


@triton.jit
def _logits(
    products, q_scale, scale_ptr, q_mean, plain, k_mean, cell, t, plain_t, D, BD: tl.constexpr,
    K_GROUPS: tl.constexpr, SMOOTH_Q: tl.constexpr,
):  # fmt: skip
    """Return base-2 logits of integer products with the keys of one cell."""
    x = products.to(tl.float32) * q_scale[:, None]
    if K_GROUPS == 1:
        x = x * tl.load(scale_ptr + cell)
    else:
        x = x * tl.load(scale_ptr + cell * K_GROUPS + tl.arange(0, 64) % 8 // 2)[None, :]
    if SMOOTH_Q:
        x += _mean_logits(q_mean, plain, k_mean, cell, t, plain_t, D, BD)[None, :]
    return x


@triton.jit
def _accumulate(
    pa, pb, shrink, v_base, a, b, acc, E, BE: tl.constexpr, FP8: tl.constexpr,
    EMULATED: tl.constexpr, TWO_LEVEL: tl.constexpr, PAIR: tl.constexpr,
):  # fmt: skip
    """Shrink the outputs and add the weights of one or two cells times their values."""
    TILED: tl.constexpr = FP8 and not EMULATED
    if TWO_LEVEL:
        fresh = tl.zeros((64, BE), tl.float32)
        fresh = _times_values(pa, v_base, a, fresh, E, BE, TILED)
        if PAIR:
            fresh = _times_values(pb, v_base, b, fresh, E, BE, TILED)
        return acc * shrink[:, None] + fresh
    else:
        acc = acc * shrink[:, None]
        acc = _times_values(pa, v_base, a, acc, E, BE, TILED)
        if PAIR:
            acc = _times_values(pb, v_base, b, acc, E, BE, TILED)
        return acc


@triton.jit
def sage_kernel(
    q_ptr, q_scale_ptr, q_mean_ptr, k_ptr, k_scale_ptr, k_plain_ptr, k_mean_ptr, v_ptr,
    v_scale_ptr, v_mean_ptr, mask_ptr, out_ptr, lse_ptr, list_ptr, info_ptr, skip_ptr,
    plain_b, plain_g, plain_t, mask_b, mask_h, mask_s, mask_t, out_b, out_h, out_s,
    s, t, h, g, n, m, factor, span,
    D: tl.constexpr, E: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr,
    Q_GROUPS: tl.constexpr, K_GROUPS: tl.constexpr,
    CAUSAL: tl.constexpr, HAS_SPAN: tl.constexpr, LISTED: tl.constexpr,
    SMOOTH_Q: tl.constexpr, CENTERED: tl.constexpr, V_MEAN: tl.constexpr, MASK: tl.constexpr,
    SKIP: tl.constexpr,
    FP8: tl.constexpr, EMULATED: tl.constexpr, TWO_LEVEL: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """One cell of 64 queries of one head, over its kept key cells in ascending order."""
    # Not the batch on an axis of its own: only the first axis may be longer than 65535.
    row = n - 1 - tl.program_id(0) % n  # The longest rows first, where causal.
    batch = tl.program_id(0) // n
    head = tl.program_id(1)
    bh = (batch * h + head).to(tl.int64)
    bg = (batch * g + head // (h // g)).to(tl.int64)
    index = tl.arange(0, 64)
    channel = tl.arange(0, BD)
    queries = row * 64 + index

    if LISTED:
        first = 0
        cells = list_ptr + (bh * n + row) * m
        num_left = 0
        if HAS_SPAN:
            num_left = tl.load(info_ptr + (bh * n + row) * 3)
        end = tl.load(info_ptr + (bh * n + row) * 3 + 1)
        count = tl.load(info_ptr + (bh * n + row) * 3 + 2)
    else:
        first, num_left, end, count = dense_row(row, s, t, m, span, CAUSAL, HAS_SPAN)
        cells = list_ptr

    q_base = q_ptr + (bh * n + row) * 64 * D
    if BD == D:
        q = tl.load(q_base + index[:, None] * D + channel[None, :])
    else:
        q = tl.load(
            q_base + index[:, None] * D + channel[None, :], mask=channel[None, :] < D, other=0
        )
    if Q_GROUPS == 1:
        group = index * 0
    elif Q_GROUPS == 4:
        group = index // 16
    else:
        group = index // 16 * 8 + index % 8
    q_scale = tl.load(q_scale_ptr + (bh * n + row) * Q_GROUPS + group) * factor
    q_mean = q_scale
    k_mean = q_scale
    plain = k_plain_ptr
    if SMOOTH_Q:
        q_mean = tl.load(q_mean_ptr + (bh * n + row) * D + channel, mask=channel < D, other=0.0)
        q_mean = q_mean * factor
        if CENTERED:
            k_mean = tl.load(k_mean_ptr + bg * D + channel, mask=channel < D, other=0.0)
        else:
            k_mean = tl.zeros((BD,), tl.float32)
        plain += batch.to(tl.int64) * plain_b + (head // (h // g)).to(tl.int64) * plain_g
    if SKIP:
        skip = tl.load(skip_ptr + head)
    mask_row = mask_ptr
    if MASK:
        mask_row = mask_ptr + batch.to(tl.int64) * mask_b + head.to(tl.int64) * mask_h
        mask_row = mask_row + queries.to(tl.int64)[:, None] * mask_s
    k_base = k_ptr + bg * m * 64 * D
    v_base = v_ptr + bg * m * 64 * E
    scales = k_scale_ptr + bg * m * K_GROUPS
    offset: tl.constexpr = 8.807354922057604 if FP8 else 0.0  # log2(448)

    highest = tl.full((64,), float("-inf"), tl.float32)
    mass = tl.zeros((64, 4), tl.float32)  # One sum for each thread of a row.
    acc = tl.zeros((64, BE), tl.float32)

    TWO: tl.constexpr = not SKIP and MASK == 0
    paired = end
    if TWO:
        paired = num_left + (end - num_left) // 2 * 2
    for part in tl.static_range(3):
        # 0: cells cut by the window; 1: whole cells, two at a time; 2: the last of these if it is
        # left over, and those cut by the diagonal or the end.
        start = 0
        stop = num_left
        if part == 1:
            start = num_left
            stop = paired
        if part == 2:
            start = paired
            stop = count
        if part == 1 and TWO:
            for i in tl.range(start, stop, 2, num_stages=STAGES):
                if LISTED:
                    a = tl.load(cells + i).to(tl.int32)
                    b = tl.load(cells + i + 1).to(tl.int32)
                else:
                    a = first + i
                    b = a + 1
                sa = tl.dot(q, tl.trans(_load_keys(k_base, a, D, BD)))
                sb = tl.dot(q, tl.trans(_load_keys(k_base, b, D, BD)))
                if not SMOOTH_Q:
                    # Scales are positive, so the largest logit is that of the largest integer.
                    sa = tl.reshape(sa, (64, 8, 4, 2))
                    sb = tl.reshape(sb, (64, 8, 4, 2))
                    fa = _factors(q_scale, scales, a, K_GROUPS)
                    fb = _factors(q_scale, scales, b, K_GROUPS)
                    tops = tl.maximum(_lane_max(sa) * fa, _lane_max(sb) * fb)
                    new = tl.maximum(highest, tl.max(tops, 1))
                    less = (new - offset)[:, None, None, None]
                    pa = tl.exp2(sa.to(tl.float32) * fa[:, None, :, None] - less)
                    pb = tl.exp2(sb.to(tl.float32) * fb[:, None, :, None] - less)
                else:
                    xa = _logits(sa, q_scale, scales, q_mean, plain, k_mean, a, t, plain_t, D, BD,
                                 K_GROUPS, SMOOTH_Q)  # fmt: skip
                    xb = _logits(sb, q_scale, scales, q_mean, plain, k_mean, b, t, plain_t, D, BD,
                                 K_GROUPS, SMOOTH_Q)  # fmt: skip
                    new = tl.maximum(highest, tl.maximum(tl.max(xa, 1), tl.max(xb, 1)))
                    less = new - offset
                    pa = tl.reshape(tl.exp2(xa - less[:, None]), (64, 8, 4, 2))
                    pb = tl.reshape(tl.exp2(xb - less[:, None]), (64, 8, 4, 2))
                shrink = tl.exp2(highest - new)
                highest = new
                mass = mass * shrink[:, None] + tl.sum(tl.sum(pa + pb, 3), 1)
                pa = _round_weights(pa, FP8, EMULATED)
                pb = _round_weights(pb, FP8, EMULATED)
                acc = _accumulate(pa, pb, shrink, v_base, a, b, acc, E, BE, FP8, EMULATED,
                                  TWO_LEVEL, True)  # fmt: skip
        elif part > 0 or HAS_SPAN:
            for i in tl.range(start, stop, num_stages=STAGES):
                a = tl.load(cells + i).to(tl.int32) if LISTED else first + i
                sa = tl.dot(q, tl.trans(_load_keys(k_base, a, D, BD)))
                xa = _logits(sa, q_scale, scales, q_mean, plain, k_mean, a, t, plain_t, D, BD,
                             K_GROUPS, SMOOTH_Q)  # fmt: skip
                if part != 1:
                    xa = hidden(xa, a, row, s, t, span, CAUSAL, HAS_SPAN)
                xa = masked(xa, mask_row, a, row, s, t, mask_t, MASK)
                local = tl.max(xa, 1)
                needed = 1
                if SKIP:
                    close = tl.where((local > highest - skip) & (queries < s), 1, 0)
                    ends = tl.where((i == 0) | (i == count - 1), 1, 0)
                    needed = tl.maximum(tl.max(close, 0), ends)
                if needed > 0:
                    new = tl.maximum(highest, local)
                    finite = tl.where(new == float("-inf"), 0.0, new)
                    pa = tl.exp2(xa - (finite - offset)[:, None])
                    shrink = tl.exp2(highest - finite)
                    highest = new
                    pa = tl.reshape(pa, (64, 8, 4, 2))
                    mass = mass * shrink[:, None] + tl.sum(tl.sum(pa, 3), 1)
                    pa = _round_weights(pa, FP8, EMULATED)
                    acc = _accumulate(pa, pa, shrink, v_base, a, a, acc, E, BE, FP8, EMULATED,
                                      TWO_LEVEL, False)  # fmt: skip

    wide = tl.arange(0, BE)
    mass = tl.sum(mass, 1)
    blind = mass == 0
    acc = acc / tl.where(blind, 1.0, mass)[:, None]
    acc = acc * tl.load(v_scale_ptr + bg * E + wide, mask=wide < E, other=0.0)[None, :]
    if V_MEAN:
        acc += tl.load(v_mean_ptr + bg * E + wide, mask=wide < E, other=0.0)[None, :]
    acc = tl.where(blind[:, None], 0.0, acc)
    place = out_ptr + batch.to(tl.int64) * out_b + head.to(tl.int64) * out_h
    place = place + queries.to(tl.int64)[:, None] * out_s + wide[None, :]
    tl.store(
        place, acc.to(out_ptr.dtype.element_ty), mask=(queries < s)[:, None] & (wide < E)[None, :]
    )
    lse = (tl.log2(tl.where(blind, 1.0, mass)) - offset + highest) * 0.6931471805599453
    lse = tl.where(blind, float("-inf"), lse)
    tl.store(lse_ptr + bh * s + queries, lse, mask=queries < s)


def sage_triton(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    layout: BlockLayout,
    *,
    precision: Sage,
    scale: float,
    prepared: Prepared,
    attn_mask: Tensor | None = None,
    dense: bool = False,
) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]:
    """Run `quantized_attention` on the GPU; see there for the contract.

    Whole cells are taken two at a time under one running maximum, unless some may be skipped or a
    mask is given. fp8 products are summed in the accumulator of the matrix unit over these cells,
    and with "two-level" no further.

    Args:
        q: Queries.
        k: Keys, read only for the logits of the query means.
        layout: Kept cells and token rule.
        precision: Formats; "single" adds up in the accumulator of the matrix unit.
        scale: Logit factor, unitless.
        prepared: Codes of keys and values.
        attn_mask: bool or floating, broadcasts to (b, h, s, t).
        dense: The layout keeps every cell that its rule allows: no lists are built.

    Returns: Outputs in the dtype of `q`, and the lse of the smoothed logits, fp32.
    """
    if scale < 0:  # The largest logit is to be that of the largest product.
        q, scale = -q, -scale
    b, h, s, d = q.shape
    g, t = k.shape[1:3]
    m, e = num_cells(t), prepared.values.width
    codes, mean, _, _ = quantize_tokens(
        q, "q", bits=precision.bits, granularity=precision.granularity, smooth=precision.smooths_q
    )
    fp8 = precision.value_format == "fp8"
    # Codes may have been made on another chip, or on the CPU.
    tiled = prepared.values.tiled and has_fp8(q.device)
    values = prepared.values.values if tiled else prepared.values.by_key().to(torch.float16)
    # The kernel goes by these strides; codes made of a view may have its.
    keys, key_scales, key_mean, values, value_scales, value_mean = (
        None if x is None else x.contiguous()
        for x in (
            prepared.keys.values, prepared.keys.scales, prepared.key_mean, values,
            prepared.values.scales, prepared.values.mean,
        )
    )  # fmt: skip
    plain = with_unit_stride(k)
    out = torch.empty(b, s, h, e, dtype=q.dtype, device=q.device).transpose(1, 2)
    lse = torch.empty(b, h, s, device=q.device, dtype=torch.float32)
    lists, info = (None, None) if dense else cell_lists(layout)
    skip = None
    if layout.skip_threshold is not None:
        skip = per_head_tensor(layout.skip_threshold, q.device) * math.log2(math.e)
    kind, strides = mask_arguments(attn_mask, (b, h, s, t))
    # More work a tile would not fit 168 registers.
    small = fp8 and mean is None and kind == 0 and max(d, e) <= 128
    n = num_cells(s)
    k_groups = prepared.keys.scales.shape[3]
    with torch.cuda.device_of(q):
        sage_kernel[(n * b, h)](
            codes.values, codes.scales, mean, keys, key_scales, plain, key_mean, values,
            value_scales, value_mean, attn_mask, out, lse, lists, info, skip,
            *plain.stride()[:3], *strides, *out.stride()[:3], s, t, h, g, n, m,
            scale * math.log2(math.e), layout.span or 0,
            D=d, E=e, BD=max(32, triton.next_power_of_2(d)), BE=value_block(e),
            Q_GROUPS=codes.scales.shape[3], K_GROUPS=k_groups,
            CAUSAL=layout.causal, HAS_SPAN=layout.span is not None, LISTED=not dense,
            SMOOTH_Q=mean is not None, CENTERED=prepared.key_mean is not None,
            V_MEAN=prepared.values.mean is not None, MASK=kind, SKIP=skip is not None,
            FP8=fp8, EMULATED=fp8 and not tiled,
            TWO_LEVEL=fp8 and precision.accumulate == "two-level",
            STAGES=STAGES if max(d, e) <= 128 and (fp8 or mean is None) else 1,
            num_warps=4,
            maxnreg=MAX_REGISTERS if small and is_hopper(q.device) else None,
        )  # fmt: skip
    return out, lse
