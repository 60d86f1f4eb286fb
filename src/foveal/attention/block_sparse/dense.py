"""Dense attention under the same token rules, by torch SDPA."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import BlockLayout

_QUERIES_AT_ONCE = 1024


def dense_attention(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    *,
    causal: bool,
    scale: float | None,
    span: int | None = None,
) -> Float[Tensor, "b h s e"]:
    """Attend to all keys that the bottom-right causal rule and a window of `span` tokens allow.

    torch SDPA; when its own causal flag does not apply (s != t, or a window), blocks of 1024
    queries with an explicit mask, so memory grows with t and not with s * t.
    """
    s, t = q.shape[2], k.shape[2]
    grouped = False
    if q.shape[1] != k.shape[1]:  # While torch.compile traces, this is a symbol; SDPA wants a bool.
        grouped = True
    if causal and scale is not None and scale <= 0:
        # torch hides keys before it scales the logits, and -inf * scale would be inf or NaN.
        q, scale = (-q, -scale) if scale < 0 else (q * 0, 1.0)
    if s == 1 and span is None:  # The last query sees every key.
        causal = False
    if not causal or (s == t and (span is None or span >= t)):
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=causal, scale=scale, enable_gqa=grouped
        )
    rule = BlockLayout(q.new_zeros(1, dtype=torch.uint8), s, t, causal, span)
    keys = torch.arange(t, device=q.device)
    parts: list[Tensor] = []
    for start in range(0, s, _QUERIES_AT_ONCE):
        some = q[:, :, start : start + _QUERIES_AT_ONCE]
        rows = torch.arange(start, start + some.shape[2], device=q.device)
        mask = rule.token_rule(rows, keys)
        out = F.scaled_dot_product_attention(
            some, k, v, attn_mask=mask, scale=scale, enable_gqa=grouped
        )
        if causal and s > t:  # The first s - t queries see nothing, and torch gives NaN.
            out = out.masked_fill(~mask.any(1)[:, None], 0.0)
        parts.append(out)
    return torch.cat(parts, dim=2)
