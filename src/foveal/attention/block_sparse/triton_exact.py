"""Attention over kept cells in fp16, bf16 or fp32 as a Triton kernel."""

# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false
# Kernels are Triton's language, not Python's: their arguments are pointers and scalars.

import math

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from foveal.attention.block_sparse.triton_lists import (
    cell_lists,
    dense_row,
    hidden,
    mask_arguments,
    masked,
    value_block,
)
from foveal.attention.layout import BlockLayout, num_cells, per_head_tensor
from foveal.attention.quantize.triton import with_unit_stride

STAGES = 3
"""Depth of the software pipeline over whole cells. On an H100 at 32k tokens and width 128 in bf16:
478 TFLOP/s with 3, 442 with 2; at width 64 the cells go in pairs, and 2 are best."""


@triton.jit
def _load_cell(base, cell, stride, num_tokens, D, BD: tl.constexpr, WHOLE: tl.constexpr):
    """Load 64 tokens of one head, (64, BD); zeros past the end unless WHOLE."""
    token = cell.to(tl.int64) * 64 + tl.arange(0, 64)
    channel = tl.arange(0, BD)
    place = base + token[:, None] * stride + channel[None, :]
    if WHOLE and BD == D:
        return tl.load(place)
    elif WHOLE:
        return tl.load(place, mask=channel[None, :] < D, other=0.0)
    else:
        there = (token[:, None] < num_tokens) & (channel[None, :] < D)
        return tl.load(place, mask=there, other=0.0)


@triton.jit
def exact_kernel(
    q_ptr, k_ptr, v_ptr, mask_ptr, out_ptr, lse_ptr, list_ptr, info_ptr, skip_ptr,
    q_b, q_h, q_s, k_b, k_g, k_t, v_b, v_g, v_t, mask_b, mask_h, mask_s, mask_t,
    out_b, out_h, out_s, s, t, h, g, n, m, factor, span,
    D: tl.constexpr, E: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr,
    CAUSAL: tl.constexpr, HAS_SPAN: tl.constexpr, LISTED: tl.constexpr, MASK: tl.constexpr,
    SKIP: tl.constexpr, PAIRS: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """One cell of 64 queries of one head, over its kept key cells in ascending order.

    MASK: 0 none, 1 boolean, 2 added to the logits. With a mask every cell is masked.
    """
    # Not the batch on an axis of its own: only the first axis may be longer than 65535.
    row = n - 1 - tl.program_id(0) % n  # The longest rows first, where causal.
    batch = tl.program_id(0) // n
    head = tl.program_id(1)
    bh = (batch * h + head).to(tl.int64)
    kv = (head // (h // g)).to(tl.int64)
    index = tl.arange(0, 64)
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
    q_base = q_ptr + batch.to(tl.int64) * q_b + head.to(tl.int64) * q_h
    # Triton takes a stride of 1 for a constant, which has no `.to`.
    q = _load_cell(q_base, row, q_s + tl.zeros((), tl.int64), s, D, BD, False)
    k_base = k_ptr + batch.to(tl.int64) * k_b + kv * k_g
    v_base = v_ptr + batch.to(tl.int64) * v_b + kv * v_g
    k_step = k_t + tl.zeros((), tl.int64)
    v_step = v_t + tl.zeros((), tl.int64)
    if SKIP:
        skip = tl.load(skip_ptr + head)
    mask_row = mask_ptr
    if MASK:
        mask_row = mask_ptr + batch.to(tl.int64) * mask_b + head.to(tl.int64) * mask_h
        mask_row = mask_row + queries.to(tl.int64)[:, None] * mask_s

    highest = tl.full((64,), float("-inf"), tl.float32)
    mass = tl.zeros((64,), tl.float32)
    acc = tl.zeros((64, BE), tl.float32)

    for part in tl.static_range(3):
        # 0: cells cut by the window; 1: whole cells; 2: those cut by the diagonal or the end.
        start = 0
        stop = num_left
        if part == 1:
            start = num_left
            stop = end
        if part == 2:
            start = end
            stop = count
        if part == 1 and PAIRS:
            for i in tl.range(start, stop, 2, num_stages=STAGES):
                # Two at a time; the last may stand alone, and meets itself with weight 0.
                b_there = i + 1 < stop
                if LISTED:
                    a = tl.load(cells + i).to(tl.int32)
                    b = tl.load(cells + tl.where(b_there, i + 1, i)).to(tl.int32)
                else:
                    a = first + i
                    b = tl.where(b_there, a + 1, a)
                off = tl.where(b_there, 0.0, float("inf"))
                ka = _load_cell(k_base, a, k_step, t, D, BD, True)
                kb = _load_cell(k_base, b, k_step, t, D, BD, True)
                xa = tl.dot(q, tl.trans(ka), input_precision=PRECISION)
                xb = tl.dot(q, tl.trans(kb), input_precision=PRECISION)
                new = tl.maximum(tl.max(xa, 1) * factor, tl.max(xb, 1) * factor - off)
                new = tl.maximum(highest, new)
                pa = tl.exp2(xa * factor - new[:, None])
                pb = tl.exp2(xb * factor - (new + off)[:, None])
                shrink = tl.exp2(highest - new)
                highest = new
                mass = mass * shrink + tl.sum(pa + pb, 1)
                va = _load_cell(v_base, a, v_step, t, E, BE, True)
                vb = _load_cell(v_base, b, v_step, t, E, BE, True)
                acc = acc * shrink[:, None]
                acc = tl.dot(pa.to(va.dtype), va, acc, input_precision=PRECISION)
                acc = tl.dot(pb.to(vb.dtype), vb, acc, input_precision=PRECISION)
        elif part > 0 or HAS_SPAN:
            for i in tl.range(start, stop, num_stages=STAGES):
                a = tl.load(cells + i).to(tl.int32) if LISTED else first + i
                ka = _load_cell(k_base, a, k_step, t, D, BD, part == 1)
                va = _load_cell(v_base, a, v_step, t, E, BE, part == 1)
                xa = tl.dot(q, tl.trans(ka), input_precision=PRECISION) * factor
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
                    pa = tl.exp2(xa - finite[:, None])
                    shrink = tl.exp2(highest - finite)
                    highest = new
                    mass = mass * shrink + tl.sum(pa, 1)
                    acc = tl.dot(
                        pa.to(va.dtype), va, acc * shrink[:, None], input_precision=PRECISION
                    )

    wide = tl.arange(0, BE)
    blind = mass == 0
    acc = tl.where(blind[:, None], 0.0, acc / tl.where(blind, 1.0, mass)[:, None])
    place = out_ptr + batch.to(tl.int64) * out_b + head.to(tl.int64) * out_h
    place = place + queries.to(tl.int64)[:, None] * out_s + wide[None, :]
    there = (queries < s)[:, None] & (wide < E)[None, :]
    tl.store(place, acc.to(out_ptr.dtype.element_ty), mask=there)
    lse = (tl.log2(tl.where(blind, 1.0, mass)) + highest) * 0.6931471805599453
    lse = tl.where(blind, float("-inf"), lse)
    tl.store(lse_ptr + bh * s + queries, lse, mask=queries < s)


def block_sparse_triton(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    scale: float,
    attn_mask: Tensor | None = None,
    dense: bool = False,
) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]:
    """Attend to the kept cells on the GPU; see `block_sparse_attention` for the contract.

    Args:
        q: Queries, fp16, bf16 or fp32 (by three tf32 products).
        k: Keys.
        v: Values.
        layout: Kept cells and token rule.
        scale: Logit factor, unitless.
        attn_mask: bool or floating, broadcasts to (b, h, s, t).
        dense: The layout keeps every cell that its rule allows: no lists are built.

    Returns: Outputs in the dtype of `q`, and the log-sum-exp, fp32.
    Memory: outputs, lse and lists: 2 bytes per cell, kept or not.
    """
    if scale < 0:  # The largest logit is to be that of the largest product.
        q, scale = -q, -scale
    b, h, s, d = q.shape
    g, t, e = k.shape[1], k.shape[2], v.shape[3]
    q, k, v = (with_unit_stride(x) for x in (q, k, v))
    out = torch.empty(b, s, h, e, dtype=q.dtype, device=q.device).transpose(1, 2)
    lse = torch.empty(b, h, s, device=q.device, dtype=torch.float32)
    lists, info = (None, None) if dense else cell_lists(layout)
    kind, strides = mask_arguments(attn_mask, (b, h, s, t))
    skip = None
    if layout.skip_threshold is not None:
        skip = per_head_tensor(layout.skip_threshold, q.device) * math.log2(math.e)
    n, m = num_cells(s), num_cells(t)
    width = max(d, e)
    pairs = width <= 64 and kind == 0 and skip is None
    stages = 1 if q.dtype == torch.float32 or width > 128 else 2 if width <= 64 else STAGES
    with torch.cuda.device_of(q):
        exact_kernel[(n * b, h)](
            q, k, v, attn_mask, out, lse, lists, info, skip,
            *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *strides, *out.stride()[:3],
            s, t, h, g, n, m, scale * math.log2(math.e), layout.span or 0,
            D=d, E=e, BD=max(16, triton.next_power_of_2(d)), BE=value_block(e),
            CAUSAL=layout.causal, HAS_SPAN=layout.span is not None, LISTED=not dense, MASK=kind,
            SKIP=skip is not None, PAIRS=pairs,
            PRECISION="tf32x3" if q.dtype == torch.float32 else "tf32",
            STAGES=stages, num_warps=4,
        )  # fmt: skip
    return out, lse
