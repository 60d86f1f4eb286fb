"""What sparse or quantized attention gets wrong, measured on a few query rows."""

import math
import random

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.attention.integrations.visible import Rule

_GOLDEN = (math.sqrt(5) - 1) / 2


def sample_rows(num_queries: int, wanted: int, seed: int, device: torch.device) -> Tensor:
    """Return query indices spread evenly over the sequence, from a start that depends on `seed`.

    Multiples of the golden ratio fall on no grid, of 64-token cells neither. Made on the device.
    """
    if wanted >= num_queries:
        return torch.arange(num_queries, device=device)
    start = random.Random(seed).random()
    dtype = torch.float32 if device.type == "mps" else torch.float64
    steps = torch.arange(wanted, device=device, dtype=dtype) * _GOLDEN + start
    return (steps.frac() * num_queries).long().clamp_max(num_queries - 1)


@torch.no_grad()
def sampled_loss(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    out: Float[Tensor, "b h s e"],
    rule: Rule,
    *,
    rows: Tensor,
    scale: float | None,
    mask: Tensor | None = None,
    sink: Float[Tensor, " h"] | None = None,
) -> Float[Tensor, ""]:
    """Return the relative L2 error of some rows of `out`, mean over batch and heads.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        out: Outputs to judge.
        rule: Token rule of the exact attention.
        rows: Query indices.
        scale: Logit factor; None is 1/sqrt(d).
        mask: bool or float, broadcasts to (b, h, s, t).
        sink: Logit per head that takes mass and has no value.

    Memory: the logits of these rows for one head at a time, in fp32.
    """
    keys = torch.arange(rule.num_keys, device=q.device)
    limit = rows[:, None] + (rule.num_keys - rule.num_queries)
    seen = keys <= limit if rule.causal else torch.ones_like(keys <= limit)
    if rule.span is not None:
        seen &= keys > limit - rule.span
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    if mask is not None:
        mask = mask.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    group = q.shape[1] // k.shape[1]
    errors: list[Tensor] = []
    for head in range(q.shape[1]):
        logits = q[:, head, rows].float() @ k[:, head // group].float().transpose(1, 2) * scale
        logits = logits.masked_fill(~seen, -math.inf)
        if mask is not None:
            some = mask[:, head, rows]
            bias = some.dtype != torch.bool
            logits = logits + some.float() if bias else logits.masked_fill(~some, -math.inf)
        if sink is not None:
            extra = sink[head].float().expand(*logits.shape[:2], 1)
            weights = torch.softmax(torch.cat([logits, extra], 2), -1)[..., :-1]
        else:
            weights = torch.softmax(logits, -1).nan_to_num(0.0)
        exact = weights @ v[:, head // group].float()
        difference = (out[:, head, rows].float() - exact).flatten(1).norm(dim=1)
        size = exact.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        errors.append(difference / size)
    return torch.stack(errors).mean()
