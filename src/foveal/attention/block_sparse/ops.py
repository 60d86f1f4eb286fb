"""Block-sparse attention as `torch.library` operators, for autograd and `torch.compile`.

Operators take tensors and plain numbers only, hence a layout in its parts.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveal.attention.autocast import without_autocast
from foveal.attention.block_sparse.backward import block_sparse_backward
from foveal.attention.block_sparse.cpu import block_sparse_cpu
from foveal.attention.layout import BlockLayout
from foveal.errors import UnsupportedError


def _layout(
    q: Tensor,
    k: Tensor,
    bits: Tensor,
    causal: bool,
    span: int | None,
    skip: Sequence[float] | None,
) -> BlockLayout:
    return BlockLayout(
        bits, q.shape[2], k.shape[2], causal, span, None if skip is None else tuple(skip)
    )


@torch.library.custom_op("foveal::block_sparse", mutates_args=())
def block_sparse(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bits: Tensor,
    attn_mask: Tensor | None,
    causal: bool,
    span: int | None,
    skip: Sequence[float] | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Return outputs and log-sum-exp; see `block_sparse_attention`."""
    layout = _layout(q, k, bits, causal, span, skip)
    out, lse = block_sparse_cpu(q, k, v, layout, scale=scale, attn_mask=attn_mask)
    return out.contiguous(), lse


@block_sparse.register_fake
def _block_sparse_fake(  # pyright: ignore[reportUnusedFunction] - registered
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bits: Tensor,
    attn_mask: Tensor | None,
    causal: bool,
    span: int | None,
    skip: Sequence[float] | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty((*q.shape[:3], v.shape[3])), q.new_empty(q.shape[:3], dtype=exact)


@torch.library.custom_op("foveal::block_sparse_triton", mutates_args=())
def block_sparse_gpu(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bits: Tensor,
    attn_mask: Tensor | None,
    causal: bool,
    span: int | None,
    skip: Sequence[float] | None,
    scale: float,
    complete: bool,
) -> tuple[Tensor, Tensor]:
    """Return outputs and log-sum-exp by the Triton kernel; see `block_sparse_attention`."""
    from foveal.attention.block_sparse.triton_exact import block_sparse_triton

    layout = _layout(q, k, bits, causal, span, skip)
    out, lse = block_sparse_triton(
        q, k, v, layout, scale=scale, attn_mask=attn_mask, dense=complete
    )
    return out, lse


@block_sparse_gpu.register_fake
def _block_sparse_gpu_fake(  # pyright: ignore[reportUnusedFunction] - registered
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bits: Tensor,
    attn_mask: Tensor | None,
    causal: bool,
    span: int | None,
    skip: Sequence[float] | None,
    scale: float,
    complete: bool,
) -> tuple[Tensor, Tensor]:
    b, h, s, _ = q.shape
    # Laid out token by token, as models want it next.
    out = q.new_empty((b, s, h, v.shape[3])).transpose(1, 2)
    return out, q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("foveal::block_sparse_backward", mutates_args=())
def block_sparse_grad(
    grad: Tensor,
    grad_lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    bits: Tensor,
    attn_mask: Tensor | None,
    causal: bool,
    span: int | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients by q, k and v; see `block_sparse_backward`.

    Raises: UnsupportedError: `bits` keeps nothing though some query saw a key, by which
        `foveal::attend` says that cells were skipped.
    """
    if not bits.any() and lse.isfinite().any():
        raise UnsupportedError(
            "attend: a gradient is wanted through a skip threshold, which has none; use a policy "
            "without skip_threshold"
        )
    layout = _layout(q, k, bits, causal, span, None)
    return without_autocast(block_sparse_backward)(
        grad, grad_lse, q, k, v, out, lse, layout, scale=scale, attn_mask=attn_mask
    )


@block_sparse_grad.register_fake
def _block_sparse_grad_fake(  # pyright: ignore[reportUnusedFunction] - registered
    grad: Tensor,
    grad_lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    bits: Tensor,
    attn_mask: Tensor | None,
    causal: bool,
    span: int | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    def like(x: Tensor) -> Tensor:
        return x.new_empty(x.shape)

    return like(q), like(k), like(v)


def save_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep what `gradients` needs: the inputs of `block_sparse`, its outputs."""
    q, k, v, bits, attn_mask, causal, span, skip, scale = inputs
    ctx.save_for_backward(q, k, v, bits, attn_mask, *output)
    ctx.rule = (causal, span, skip, scale)


def gradients(ctx: Any, grad: Tensor, grad_lse: Tensor) -> tuple[Any, ...]:
    """Return the gradients by q, k and v, and None for the six other inputs."""
    q, k, v, bits, attn_mask, out, lse = ctx.saved_tensors
    causal, span, skip, scale = ctx.rule
    if skip is not None:
        raise UnsupportedError(
            "block_sparse_attention: skip_threshold is set, must be None where gradients are "
            "wanted; the second stage has none"
        )
    if any(ctx.needs_input_grad[3:]):  # The mask is the only other tensor of floats.
        raise UnsupportedError(
            "block_sparse_attention: attn_mask requires a gradient, must not; detach it"
        )
    grads = block_sparse_grad(
        grad.contiguous(),
        grad_lse.contiguous(),
        q,
        k,
        v,
        out,
        lse,
        bits,
        attn_mask,
        causal,
        span,
        scale,
    )
    return (*grads, None, None, None, None, None, None)


block_sparse.register_autograd(gradients, setup_context=save_for_gradients)


def _save_for_gradients_gpu(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]
) -> None:
    save_for_gradients(ctx, inputs[:-1], output)


def _gradients_gpu(ctx: Any, grad: Tensor, grad_lse: Tensor) -> tuple[Any, ...]:
    return (*gradients(ctx, grad, grad_lse), None)


block_sparse_gpu.register_autograd(_gradients_gpu, setup_context=_save_for_gradients_gpu)
