"""`attend` with a policy as one `torch.library` operator, for `torch.compile(fullgraph=True)`.

Which cells are kept depends on the numbers, so that a compiler cannot look inside. Policies and
precisions travel as JSON text.
"""

import json
from typing import Any

import torch
from torch import Tensor

from foveal.attention.attend import attend, choose_cells
from foveal.attention.block_sparse.api import Impl, block_sparse_attention
from foveal.attention.block_sparse.ops import gradients, save_for_gradients
from foveal.attention.layout import num_cells
from foveal.attention.policy.base import Policy
from foveal.attention.precision import Sage
from foveal.errors import UnsupportedError


@torch.library.custom_op("foveal::attend", mutates_args=())
def attend_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None,
    policy: str,
    precision: str,
    causal: bool,
    scale: float,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, log-sum-exp, and the kept cells as bits, for the gradient.

    Bits are all 0 where cells were skipped, which only the numbers decide, and none at all where it
    is clear beforehand that no gradient exists.
    """
    chosen = Policy.from_json(policy) if policy else None
    numbers = Sage(**json.loads(precision)) if precision else None
    which: Impl = impl  # pyright: ignore[reportAssignmentType] - checked below
    if numbers is None and (attn_mask is None or attn_mask.ndim == 4):
        layout = choose_cells(q, k, chosen, causal=causal, scale=scale, attn_mask=attn_mask)
        out, lse = block_sparse_attention(
            q, k, v, layout, scale=scale, attn_mask=attn_mask, impl=which, return_lse=True
        )
        bits = layout.bits if layout.skip_threshold is None else torch.zeros_like(layout.bits)
        return out.contiguous(), lse, bits.contiguous()
    out, lse = attend(
        q,
        k,
        v,
        policy=chosen,
        precision=numbers,
        causal=causal,
        scale=scale,
        attn_mask=attn_mask,
        return_lse=True,
        impl=which,
    )
    return out.contiguous(), lse, torch.zeros(0, dtype=torch.uint8, device=q.device)


@attend_op.register_fake
def _attend_fake(  # pyright: ignore[reportUnusedFunction] - registered
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None,
    policy: str,
    precision: str,
    causal: bool,
    scale: float,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    n, m = num_cells(q.shape[2]), num_cells(k.shape[2])
    size = (*q.shape[:2], n, -(-m // 8))
    if precision or (attn_mask is not None and attn_mask.ndim == 2):
        size = (0,)
    return (
        q.new_empty((*q.shape[:3], v.shape[3])),
        q.new_empty(q.shape[:3], dtype=exact),
        q.new_empty(size, dtype=torch.uint8),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v, attn_mask, _policy, _precision, causal, scale, _impl = inputs
    out, lse, bits = output
    ctx.mark_non_differentiable(bits)
    save_for_gradients(ctx, (q, k, v, bits, attn_mask, causal, None, None, scale), (out, lse))


def _backward(ctx: Any, grad: Tensor, grad_lse: Tensor, _bits: Tensor) -> tuple[Any, ...]:
    if not ctx.saved_tensors[3].numel():
        raise UnsupportedError(
            "attend: a gradient is wanted through precision or padding in a compiled model, which "
            "has none; run it uncompiled without precision"
        )
    return gradients(ctx, grad, grad_lse)


attend_op.register_autograd(_backward, setup_context=_setup)


def compiled_attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    policy: Policy | None,
    precision: Sage | None,
    *,
    causal: bool,
    scale: float | None,
    attn_mask: Tensor | None,
    impl: str,
) -> tuple[Tensor, Tensor]:
    """Return outputs and log-sum-exp while `torch.compile` traces; see `attend`."""
    scale = q.shape[3] ** -0.5 if scale is None else scale
    found = attend_op(
        q,
        k,
        v,
        attn_mask,
        "" if policy is None else policy.text,
        "" if precision is None else precision.text,
        causal,
        scale,
        impl,
    )
    return found[0], found[1]
