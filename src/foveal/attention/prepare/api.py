"""Codes, scales and per-cell summaries of keys and values, made in one pass over each."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from foveal._core.gpu import check_triton, triton_refusal
from foveal.attention.layout import CELL
from foveal.attention.precision import Sage, check_choice
from foveal.attention.quantize.api import (
    Codes,
    ValueCodes,
    check_key_mean,
    quantize_keys,
    quantize_values,
    split_cells,
)
from foveal.errors import ArgumentError, ShapeError


@dataclass(frozen=True, eq=False)
class Prepared:
    """Keys and values as selection and the quantized kernels read them.

    Attributes:
        precision: The precision that they were made for.
        keys: Codes and scales of K, after smoothing if `precision.smooth_k`.
        values: Codes, scales and mean of V.
        key_mean: Mean key that was subtracted, fp32, or None. Pass it as `prepare(k_mean=...)`
            for the other chunks of a sequence, whose codes are consistent only then.
        pooled_keys: Mean key of each cell, smoothed as `keys`, fp32.
        self_similarity: Per key cell, the mean cosine similarity of all pairs of its (smoothed)
            keys, each with itself included, in [0, 1]; NaN where a key is NaN or Inf.
    """

    precision: Sage
    keys: Codes
    values: ValueCodes
    key_mean: Float[Tensor, "b g 1 d"] | None
    pooled_keys: Float[Tensor, "b g m d"]
    self_similarity: Float[Tensor, "b g m"]


def prepare(
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    *,
    precision: Sage,
    k_mean: Float[Tensor, "b g 1 d"] | None = None,
    impl: Literal["auto", "cpu", "triton"] = "auto",
) -> Prepared:
    """Quantize keys and values and summarize each 64-token cell of keys.

    The mean cosine similarity of all n^2 pairs in a cell is |mean of the n unit keys|^2, so no Gram
    matrix is built. A zero key has similarity 0 with every key, itself included.

    Args:
        k: Keys of any floating dtype and any strides.
        v: Values of the same keys; their width may differ.
        precision: Formats and smoothing.
        k_mean: Mean key to subtract instead of that of `k`, for chunked prefill and caches. Only
            with `precision.smooth_k`.
        impl: "cpu" (plain torch, any device), "triton" (GPUs), "auto" ("triton" where it can run).
            Codes are equal for equal means; the mean key differs in its last bits.

    Returns: What selection and kernels read.

    Raises:
        ShapeError: `k`, `v` or `k_mean` disagree.
        ArgumentError: `k` or `v` is not floating point, tensors lie on several devices, or
            `k_mean` is given without `smooth_k`.
        UnsupportedError: `impl="triton"` cannot run on these.

    Memory: with "cpu" three fp32 copies of `k`, two of `v`, while it runs; codes take a quarter of
        one each. "triton" reads K and V twice and needs 1 % of them beside the codes.
    Source: Zhang et al., "SageAttention2", arXiv:2411.10958; similarity: Zhang et al.,
        "SpargeAttn", ICML 2025, arXiv:2502.18137. Differs: tokens that do not exist count nowhere,
        in the mean, the scales, the pooled keys or the similarity.
    """
    if k.ndim != 4 or v.ndim != 4 or v.shape[:3] != k.shape[:3]:
        raise ShapeError(
            f"prepare: k has shape {tuple(k.shape)} and v has shape {tuple(v.shape)}, must be "
            "(b, g, t, d) and (b, g, t, e); pass the values of the same keys"
        )
    check_key_mean("prepare", "k_mean", k_mean, k)
    if k_mean is not None and not precision.smooth_k:
        raise ArgumentError(
            "prepare: k_mean is given with smooth_k=False, must be None there; drop one of them"
        )
    for name, x in (("v", v), ("k_mean", k_mean)):
        if x is not None and x.device != k.device:
            raise ArgumentError(
                f"prepare: {name} is on {x.device}, must be on {k.device} as k; move it"
            )
    if k_mean is not None:
        k_mean = k_mean.detach().float()
    check_choice("prepare", "impl", impl, ("auto", "cpu", "triton"))
    if impl == "triton":
        check_triton("prepare", k=k, v=v)
    if impl != "cpu" and not (triton_refusal(k) or triton_refusal(v)) and min(k.shape) > 0:
        from foveal.attention.prepare.triton import prepare_triton

        return prepare_triton(k, v, precision=precision, k_mean=k_mean)
    if precision.smooth_k and k_mean is None:
        k_mean = k.detach().mean(2, keepdim=True, dtype=torch.float32)
    keys = quantize_keys(k, bits=precision.bits, granularity=precision.granularity, mean=k_mean)
    values = quantize_values(v, format=precision.value_format, smooth=precision.smooth_v)
    pooled, similarity = _summarize(k, k_mean)
    return Prepared(precision, keys, values, k_mean, pooled, similarity)


def _summarize(k: Tensor, k_mean: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return mean key and self-similarity of each cell of keys that exist."""
    t = k.shape[2]
    x = k.detach().float()
    x = x if k_mean is None else x - k_mean
    length = x.norm(dim=3, keepdim=True)
    unit = x / length.masked_fill(length == 0, 1.0)
    cells = split_cells(x)
    left = torch.arange(cells.shape[2], device=k.device) * CELL
    count = (t - left).clamp_max(CELL)[:, None]
    similarity = (split_cells(unit).sum(3) / count).square().sum(-1)
    return cells.sum(3) / count, similarity
