"""Attention over kept cells and antidiagonal scores, as clear loops: the yardstick of the stage."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import CELL, BlockLayout, check_sizes


def block_sparse_reference(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]:
    """Attend to the kept cells, one query cell of one head at a time.

    Args:
        q: Queries.
        k: Keys; g divides h.
        v: Values.
        layout: Kept cells, token rule and skip thresholds.
        scale: Logit factor, unitless. Default 1/sqrt(d).
        attn_mask: bool (True: may be seen) or float (added to the scaled logits), broadcastable
            to (b, h, s, t).
        dtype: Type of every operation and of the results.

    Returns: Outputs and log-sum-exp of the scaled logits. Rows that see no key are 0 and -inf.
    Raises: ShapeError: q and k disagree.
    Cost: dense; for tests only.
    """
    check_sizes("block_sparse_reference", q, k)
    b, h, s, d = q.shape
    t = k.shape[2]
    group = h // k.shape[1]
    scale = 1 / math.sqrt(d) if scale is None else scale
    out = torch.zeros(b, h, s, v.shape[3], dtype=dtype, device=q.device)
    lse = torch.full((b, h, s), -math.inf, dtype=dtype, device=q.device)
    kept = layout.to_bool()
    for i_batch in range(b):
        for i_head in range(h):
            keys = k[i_batch, i_head // group].to(dtype)
            values = v[i_batch, i_head // group].to(dtype)
            skip = math.inf if layout.skip_threshold is None else layout.skip_threshold[i_head]
            for n in range(kept.shape[2]):
                rows = torch.arange(n * CELL, min((n + 1) * CELL, s), device=q.device)
                columns: list[Tensor] = []
                logits: list[Tensor] = []
                highest = torch.full((len(rows),), -math.inf, dtype=dtype, device=q.device)
                cells = kept[i_batch, i_head, n].nonzero()[:, 0].tolist()
                for m in cells:
                    some = torch.arange(m * CELL, min((m + 1) * CELL, t), device=q.device)
                    part = scale * (q[i_batch, i_head, rows].to(dtype) @ keys[some].T)
                    if attn_mask is not None:
                        mask = attn_mask.expand(b, h, s, t)[i_batch, i_head, rows][:, some]
                        if mask.dtype == torch.bool:
                            part = part.masked_fill(~mask, -math.inf)
                        else:
                            part = part + mask.to(dtype)
                    part = part.masked_fill(~layout.token_rule(rows, some), -math.inf)
                    local = part.amax(1)
                    inner = m not in (cells[0], cells[-1])
                    if inner and bool((local <= highest - skip).all()):
                        continue
                    highest = torch.maximum(highest, local)
                    columns.append(some)
                    logits.append(part)
                if not columns:
                    continue
                row = torch.cat(logits, 1)
                sums = torch.logsumexp(row, 1)
                seen = ~sums.isneginf()
                lse[i_batch, i_head, rows] = sums
                weights = torch.softmax(row[seen], 1)
                out[i_batch, i_head, rows[seen]] = weights @ values[torch.cat(columns)]
    return out, lse


def antidiagonal_reference(
    q: Float[Tensor, "s d"],
    k: Float[Tensor, "t d"],
    *,
    stride: int,
    alternate: bool = False,
) -> Float[Tensor, "i j"]:
    """Average the logits on the antidiagonal of every stride x stride tile, term by term, in fp64.

    G[i, j] = mean over m of q[i*S + o(i, m)] . k[j*S + m] over the pairs whose tokens both exist,
    with o = S-1-m, or (S-2-m) mod S when `alternate` and floor((i*S + t - s) / S) is odd. Not
    scaled by 1/sqrt(d).

    Source: Xu et al., "XAttention", ICML 2025, section 2.1, arXiv:2503.16428.
    """
    s, t = len(q), len(k)
    rows, columns = -(-s // stride), -(-t // stride)
    scores = torch.full((rows, columns), -math.inf, dtype=torch.float64)
    for i in range(rows):
        for j in range(columns):
            products: list[Tensor] = []
            for m in range(stride):
                odd = alternate and (i * stride + t - s) // stride % 2 == 1
                back = (stride - 2 - m) % stride if odd else stride - 1 - m
                if i * stride + back < s and j * stride + m < t:
                    products.append(q[i * stride + back].double() @ k[j * stride + m].double())
            if products:
                scores[i, j] = torch.stack(products).mean()
    return scores
