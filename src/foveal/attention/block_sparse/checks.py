"""What every implementation asks of its arguments; imports none of them."""

import torch
from torch import Tensor

from foveal.attention.layout import BlockLayout, check_sizes
from foveal.errors import ArgumentError, ShapeError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_qkv(fn: str, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise ShapeError or ArgumentError unless q, k and v fit each other."""
    check_sizes(fn, q, k)
    if v.ndim != 4 or v.shape[:3] != k.shape[:3]:
        raise ShapeError(
            f"{fn}: v has shape {tuple(v.shape)}, must be {tuple(k.shape[:3])} + (e,); "
            "pass the values of the same keys"
        )
    for name, x in (("k", k), ("v", v)):
        if x.dtype != q.dtype or x.device != q.device:
            raise ArgumentError(
                f"{fn}: {name} is {x.dtype} on {x.device}, must be {q.dtype} on {q.device} as q; "
                "convert it"
            )
    if q.dtype not in _FLOATS:
        raise ArgumentError(
            f"{fn}: q is {q.dtype}, must be float16, bfloat16, float32 or float64; convert q, k, v"
        )


def check_layout(fn: str, layout: BlockLayout, q: Tensor, k: Tensor) -> None:
    """Raise unless `layout` is for the heads and tokens of q and k, and on their device."""
    b, h, s, _ = q.shape
    t = k.shape[2]
    if (*layout.shape[:2], layout.num_queries, layout.num_keys) != (b, h, s, t):
        raise ShapeError(
            f"{fn}: layout is {layout.shape[0]} x {layout.shape[1]} heads over "
            f"{layout.num_queries} x {layout.num_keys} tokens, must be {b} x {h} heads over {s} x "
            f"{t} tokens; build it for these q and k (a mask by mask.expand(b, h, -1, -1))"
        )
    if layout.bits.device != q.device:
        raise ArgumentError(
            f"{fn}: layout is on {layout.bits.device}, must be on {q.device} as q; build it from "
            "tensors there"
        )


def check_attn_mask(fn: str, mask: Tensor, q: Tensor, k: Tensor) -> None:
    """Raise unless `mask` is bool or floating and broadcasts to (b, h, s, t)."""
    wanted = (*q.shape[:3], k.shape[2])
    # Not `m in (1, w)`: while torch.compile traces, sizes are symbols, which `in` does not find.
    fits = mask.ndim == 4 and all(m == 1 or m == w for m, w in zip(mask.shape, wanted, strict=True))
    if not fits:
        raise ShapeError(
            f"{fn}: attn_mask has shape {tuple(mask.shape)}, must broadcast to {wanted} with four "
            "axes; add the missing ones"
        )
    if not (mask.dtype == torch.bool or mask.is_floating_point()) or mask.device != q.device:
        raise ArgumentError(
            f"{fn}: attn_mask is {mask.dtype} on {mask.device}, must be torch.bool (True: may be "
            f"seen) or floating on {q.device}; convert it"
        )
