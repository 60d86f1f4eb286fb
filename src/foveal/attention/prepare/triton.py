"""`prepare` on the GPU: one pass over K and V for their means and ranges, one for their codes."""

# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false
# Kernels are Triton's language, not Python's: their arguments are pointers and scalars.

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from foveal._core.gpu import has_fp8
from foveal.attention.precision import Sage
from foveal.attention.prepare.api import Prepared
from foveal.attention.quantize.api import quantize_values
from foveal.attention.quantize.triton import (
    quantize_tokens,
    quantize_values_tiled,
    with_unit_stride,
)

_TOKENS = 512
_ROWS = 32


@triton.jit
def stats_kernel(
    k_ptr, v_ptr, sums_ptr, high_ptr, low_ptr, k_b, k_g, k_t, v_b, v_g, v_t, g, t, num_parts,
    D: tl.constexpr, E: tl.constexpr, WIDTH: tl.constexpr, MEAN_K: tl.constexpr,
    ROWS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Sum, maximum and minimum per channel of some tokens of K or V (program 0 or 1 of axis 1).

    A maximum alone would drop a NaN: times zero, NaN and Inf show up in a sum of their own.
    """
    part = tl.program_id(0) % num_parts
    bg = (tl.program_id(0) // num_parts).to(tl.int64)
    which = tl.program_id(1)
    if MEAN_K or which == 1:
        channel = tl.arange(0, WIDTH)
        width = tl.where(which == 0, D, E)
        stride = tl.where(which == 0, k_t, v_t).to(tl.int64)
        base = k_ptr + bg // g * k_b + bg % g * k_g
        if which == 1:
            base = v_ptr + bg // g * v_b + bg % g * v_g
        total = tl.zeros((ROWS, WIDTH), tl.float32)
        bad = tl.zeros((ROWS, WIDTH), tl.float32)
        high = tl.full((ROWS, WIDTH), float("-inf"), tl.float32)
        low = tl.full((ROWS, WIDTH), float("inf"), tl.float32)
        for start in range(0, TOKENS, ROWS):
            token = part.to(tl.int64) * TOKENS + start + tl.arange(0, ROWS)
            there = (token[:, None] < t) & (channel[None, :] < width)
            place = base + token[:, None] * stride + channel[None, :]
            x = tl.load(place, mask=there, other=0.0).to(tl.float32)
            total += x
            bad += x * 0.0
            high = tl.maximum(high, tl.where(there, x, float("-inf")))
            low = tl.minimum(low, tl.where(there, x, float("inf")))
        out = (which * tl.num_programs(0).to(tl.int64) + bg * num_parts + part) * WIDTH + channel
        spoiled = tl.sum(bad, 0)
        tl.store(sums_ptr + out, tl.sum(total, 0) + spoiled)
        tl.store(high_ptr + out, tl.max(high, 0) + spoiled)
        tl.store(low_ptr + out, tl.min(low, 0) + spoiled)


@triton.jit
def finish_kernel(
    sums_ptr, high_ptr, low_ptr, k_mean_ptr, v_mean_ptr, v_scale_ptr, t, num_parts,
    D: tl.constexpr, E: tl.constexpr, WIDTH: tl.constexpr, MEAN_K: tl.constexpr,
    MEAN_V: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean key, mean value and scale of the values of one head, from the parts."""
    bg = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, WIDTH)
    heads = tl.num_programs(0)
    k_sum = tl.zeros((WIDTH,), tl.float32)
    v_sum = tl.zeros((WIDTH,), tl.float32)
    bad = tl.zeros((WIDTH,), tl.float32)
    high = tl.full((WIDTH,), float("-inf"), tl.float32)
    low = tl.full((WIDTH,), float("inf"), tl.float32)
    for start in range(0, num_parts, BLOCK):
        part = start + tl.arange(0, BLOCK)
        there = (part < num_parts)[:, None]
        v_at = ((heads + bg) * num_parts + part)[:, None] * WIDTH + channel[None, :]
        v_part = tl.load(sums_ptr + v_at, mask=there, other=0.0)
        v_sum += tl.sum(v_part, 0)
        bad += tl.sum(v_part * 0.0, 0)
        high = tl.maximum(
            high, tl.max(tl.load(high_ptr + v_at, mask=there, other=float("-inf")), 0)
        )
        low = tl.minimum(low, tl.min(tl.load(low_ptr + v_at, mask=there, other=float("inf")), 0))
        if MEAN_K:
            k_at = (bg * num_parts + part)[:, None] * WIDTH + channel[None, :]
            k_sum += tl.sum(tl.load(sums_ptr + k_at, mask=there, other=0.0), 0)
    count = tl.zeros((WIDTH,), tl.float32) + t
    if MEAN_K:
        tl.store(k_mean_ptr + bg * D + channel, tl.div_rn(k_sum, count), mask=channel < D)
    if MEAN_V:
        mean = tl.div_rn(v_sum, count)
        tl.store(v_mean_ptr + bg * E + channel, mean, mask=channel < E)
        high = high - mean
        low = low - mean
    amax = tl.maximum(tl.abs(high), tl.abs(low))
    limit = tl.zeros((WIDTH,), tl.float32) + 448.0
    scale = tl.maximum(tl.div_rn(amax, limit), 8.673617379884035e-19)  # 2^-60
    scale = tl.where(bad == bad, scale, float("nan"))
    tl.store(v_scale_ptr + bg * E + channel, scale, mask=channel < E)


def prepare_triton(
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    *,
    precision: Sage,
    k_mean: Float[Tensor, "b g 1 d"] | None = None,
) -> Prepared:
    """Quantize and summarize as `prepare` does.

    The mean key is summed in another order, so its last bits differ; with equal means the codes
    are equal.

    Args:
        k: Keys.
        v: Values.
        precision: Formats and smoothing.
        k_mean: Mean key to subtract instead of that of `k`.

    Memory: codes, and 1/512 of K and V.
    """
    b, g, t, d = k.shape
    e = v.shape[3]
    # Chips without fp8 read the codes of V as they are.
    tiled = precision.value_format == "fp8" and has_fp8(k.device)
    mean_k = precision.smooth_k and k_mean is None
    device = k.device
    v_mean, v_scale = None, torch.empty(b, g, 1, e, device=device, dtype=torch.float32)
    if tiled or mean_k:
        k, v = with_unit_stride(k), with_unit_stride(v)
        if k.dtype != v.dtype:  # `stats_kernel` reads both by one pointer.
            k, v = k.float(), v.float()
        width, parts = max(16, triton.next_power_of_2(max(d, e))), -(-t // _TOKENS)
        sums, high, low = torch.empty(3, 2, b * g, parts, width, device=device, dtype=torch.float32)
        if precision.smooth_v:
            v_mean = torch.empty(b, g, 1, e, device=device, dtype=torch.float32)
        if mean_k:
            k_mean = torch.empty(b, g, 1, d, device=device, dtype=torch.float32)
        with torch.cuda.device_of(k):
            stats_kernel[(parts * b * g, 2)](
                k, v, sums, high, low, *k.stride()[:3], *v.stride()[:3], g, t, parts,
                D=d, E=e, WIDTH=width, MEAN_K=mean_k, ROWS=_ROWS, TOKENS=_TOKENS,
            )  # fmt: skip
        with torch.cuda.device_of(k):
            finish_kernel[(b * g,)](
                sums, high, low, k_mean, v_mean, v_scale, t, parts,
                D=d, E=e, WIDTH=width, MEAN_K=mean_k, MEAN_V=precision.smooth_v, BLOCK=16,
            )  # fmt: skip
    keys, _, pooled, similar = quantize_tokens(
        k,
        "k",
        bits=precision.bits,
        granularity=precision.granularity,
        mean=k_mean,
        summary=True,
    )
    if tiled:
        values = quantize_values_tiled(v, scales=v_scale, mean=v_mean)
    else:
        values = quantize_values(v, format=precision.value_format, smooth=precision.smooth_v)
    if pooled is None or similar is None:
        raise RuntimeError("prepare_triton: the kernel gave no summary")
    return Prepared(precision, keys, values, k_mean, pooled, similar)
