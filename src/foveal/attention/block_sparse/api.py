"""Exact attention over the cells that a layout keeps."""

import math
from typing import Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor

from foveal._core.gpu import check_triton, triton_refusal
from foveal.attention.autocast import without_autocast
from foveal.attention.block_sparse.checks import check_attn_mask, check_layout, check_qkv
from foveal.attention.block_sparse.dense import dense_attention
from foveal.attention.block_sparse.flex import flex_attention_cells
from foveal.attention.block_sparse.ops import block_sparse, block_sparse_gpu
from foveal.attention.layout import BlockLayout
from foveal.attention.reference import block_sparse_reference
from foveal.errors import ArgumentError, UnsupportedError

Impl = Literal["auto", "reference", "dense", "cpu", "flex", "triton"]


def choose_impl(
    layout: BlockLayout,
    q: Tensor,
    v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    return_lse: bool = False,
) -> Impl:
    """Return what `impl="auto"` runs.

    "dense" where every cell is kept and neither a lse nor a mask is wanted; otherwise "triton"
    where its kernels can run (CUDA, 16 or 32 bits), and "cpu" elsewhere. On a GPU a layout counts
    as dense only if it is known to be `complete`: a look at the bits would wait for the device.
    While `torch.compile` traces, never "dense": which cells are kept is not known then.
    """
    sparse = "cpu" if triton_refusal(q) or triton_refusal(v) else "triton"
    if torch.compiler.is_compiling() or return_lse or attn_mask is not None:
        return sparse
    if layout.skip_threshold is not None:
        return sparse
    if sparse == "triton":
        # torch has no bottom-right rule and no window: our kernel has both.
        square = layout.span is None and (
            not layout.causal or layout.num_queries == layout.num_keys
        )
        return "dense" if layout.complete and square else "triton"
    return "dense" if layout.is_full else "cpu"


@overload
def block_sparse_attention(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    impl: Impl = "auto",
    return_lse: Literal[False] = False,
) -> Float[Tensor, "b h s e"]: ...


@overload
def block_sparse_attention(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    impl: Impl = "auto",
    return_lse: Literal[True],
) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]: ...


@overload
def block_sparse_attention(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    impl: Impl = "auto",
    return_lse: bool,
) -> Float[Tensor, "b h s e"] | tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]: ...


@without_autocast
def block_sparse_attention(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    impl: Impl = "auto",
    return_lse: bool = False,
) -> Float[Tensor, "b h s e"] | tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]:
    """Attend to the cells that `layout` keeps, and to no others.

    o_i = softmax(scale * q_i K_S(i)^T) V_S(i), with S(i) the keys of the cells kept for row i that
    the layout's token rule allows.

    Args:
        q: Queries, fp16, bf16, fp32 or fp64. h must be a multiple of g.
        k: Keys, dtype and device of `q`; grouped heads stay grouped.
        v: Values, dtype and device of `q`.
        layout: Kept 64-token cells; 64 need not divide s and t.
        scale: Logit factor, unitless. Default 1/sqrt(d).
        attn_mask: bool (True: may be seen) or float (added to the scaled logits), four axes that
            broadcast to (b, h, s, t). It acts inside the kept cells, beside the layout's own rule.
        impl: "reference" (fp64 loops, slow), "cpu" (gathered cells and torch SDPA, any device),
            "triton" (a kernel for GPUs from compute capability 8.0 on, heads up to 256 wide, 16 or
            32 bits), "flex" (FlexAttention by torch.compile; wants a compiler on this machine,
            has neither lse nor mask), "dense" (torch SDPA, only if every cell is kept and neither
            a lse nor a mask nor skipping is wanted), "auto" (see `choose_impl`).
        return_lse: Also return the natural log-sum-exp of the scaled logits, fp32 (fp64 for fp64).

    Returns: Outputs in the dtype of `q`, or (outputs, lse). A row without any cell is 0, lse -inf.

    Raises:
        ShapeError: q, k, v or the layout disagree; names the argument.
        ArgumentError: `impl` is unknown, or dtypes or devices differ.
        UnsupportedError: `impl="triton"`, "dense" or "flex" with what it cannot do; a gradient
            through a skip threshold or by the mask.

    Accuracy: error against fp64 is at most twice that of the reference run in the dtype of `q`.
    Cost: proportional to the kept cells; "cpu" takes some 100 MiB of working memory at any length
        beside the padded inputs. A mask or a skip threshold makes it about half as fast.
        "triton" takes 2 bytes per cell, kept or not, and never waits for the device.
    Gradients: by q, k and v, the cells held fixed; with "cpu", "dense" and "triton" (whose backward
        is plain torch).
    """
    fn = "block_sparse_attention"
    check_qkv(fn, q, k, v)
    check_layout(fn, layout, q, k)
    if attn_mask is not None:
        check_attn_mask(fn, attn_mask, q, k)
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    if impl == "auto":
        impl = choose_impl(layout, q, v, attn_mask=attn_mask, return_lse=return_lse)
    elif impl == "triton":
        check_triton(fn, q=q, v=v)
    elif impl == "dense" and not (
        layout.is_full and layout.skip_threshold is None and attn_mask is None and not return_lse
    ):
        raise UnsupportedError(
            f'{fn}: impl is "dense", must be another one when cells are left out, or with a mask, '
            'a skip threshold or return_lse; use impl="auto"'
        )
    elif impl == "flex" and (attn_mask is not None or return_lse or v.shape[3] != q.shape[3]):
        raise UnsupportedError(
            f'{fn}: impl is "flex", must be another one with attn_mask, with return_lse or '
            'with values of another width than the keys; use impl="cpu"'
        )
    causal, span = layout.causal, layout.span
    if impl == "reference":
        out, sums = block_sparse_reference(q, k, v, layout, scale=scale, attn_mask=attn_mask)
        out, lse = out.to(q.dtype), sums if q.dtype == torch.float64 else sums.float()
    elif impl == "dense":
        out, lse = dense_attention(q, k, v, causal=causal, scale=scale, span=span), None
    elif impl == "cpu":
        skip = None if layout.skip_threshold is None else list(layout.skip_threshold)
        out, lse = block_sparse(q, k, v, layout.bits, attn_mask, causal, span, skip, scale)
    elif impl == "triton":
        skip = None if layout.skip_threshold is None else list(layout.skip_threshold)
        out, lse = block_sparse_gpu(
            q, k, v, layout.bits, attn_mask, causal, span, skip, scale, layout.complete
        )
    elif impl == "flex":
        out, lse = flex_attention_cells(q, k, v, layout, scale=scale), None
    else:
        raise ArgumentError(
            f'{fn}: impl is {impl!r}, must be "auto", "reference", "dense", "cpu", "flex" or '
            '"triton"; pick one'
        )
    return (out, lse) if return_lse and lse is not None else out
