"""Gradients of block-sparse attention, by the same gathered cells as the forward pass."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.attention.block_sparse.cpu import cell_bias
from foveal.attention.block_sparse.rows import CutCells, iter_rows, to_cells
from foveal.attention.layout import CELL, BlockLayout

_LOGIT_BYTES = 16 * 2**20


def block_sparse_backward(
    grad: Float[Tensor, "b h s e"],
    grad_lse: Float[Tensor, "b h s"],
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    out: Float[Tensor, "b h s e"],
    lse: Float[Tensor, "b h s"],
    layout: BlockLayout,
    *,
    scale: float,
    attn_mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients by q, k and v.

    With P = exp(scale * q k^T - lse): dv = P^T do, dS = P * (do v^T - rowsum(do * o) + dlse),
    dq = scale * dS k, dk = scale * dS^T q. Sums run in fp32 (fp64 for fp64 inputs). The cells are
    held fixed: the gradient of the selection is zero almost everywhere.

    Source: Dao et al., "FlashAttention", NeurIPS 2022, appendix B.2, arXiv:2205.14135.
    """
    b, h, s, d = q.shape
    g, t, width = k.shape[1], k.shape[2], v.shape[3]
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    rows_q, cells_k, cells_v = (to_cells(x).to(exact) for x in (q, k, v))
    rows_grad = to_cells(grad).to(exact)
    delta = (grad.to(exact) * out.to(exact)).sum(-1, keepdim=True) - grad_lse.to(exact)[..., None]
    rows_delta = to_cells(delta)
    rows_lse = to_cells(lse.to(exact).masked_fill(lse.isneginf(), math.inf)[..., None])
    added = attn_mask is not None and attn_mask.dtype != torch.bool
    grad_q = torch.zeros_like(rows_q)
    grad_k, grad_v = torch.zeros_like(cells_k), torch.zeros_like(cells_v)
    cut = CutCells.of(layout)
    for some in iter_rows(layout, g, cut):
        size = max(1, _LOGIT_BYTES // (some.num_cells * CELL * CELL * rows_q.element_size()))
        for batch in some.split(size):
            index = batch.keys.reshape(-1)
            queries, do = rows_q[batch.rows], rows_grad[batch.rows]
            keys = cells_k[index].view(len(batch.rows), -1, d)
            values = cells_v[index].view(len(batch.rows), -1, width)
            logits = torch.bmm(queries, keys.transpose(1, 2)).mul_(scale)
            bias = cell_bias(batch, layout, cut, attn_mask)
            if bias is not None:
                logits += bias
            if added:
                # Not exp(logits - lse): beside a mask of -3e38 the number of keys is lost in lse.
                weights = torch.softmax(logits, -1)
                weights.masked_fill_(rows_lse[batch.rows].isposinf(), 0.0)
            else:
                weights = logits.sub_(rows_lse[batch.rows]).exp_()
            by_value = torch.bmm(weights.transpose(1, 2), do)
            grad_v.index_add_(0, index, by_value.view(-1, CELL, width))
            by_logit = torch.bmm(do, values.transpose(1, 2))
            by_logit = by_logit.sub_(rows_delta[batch.rows]).mul_(weights).mul_(scale)
            grad_q[batch.rows] = torch.bmm(by_logit, keys)
            by_key = torch.bmm(by_logit.transpose(1, 2), queries)
            grad_k.index_add_(0, index, by_key.view(-1, CELL, d))

    def tokens(x: Tensor, heads: int, length: int) -> Tensor:
        return x.view(b, heads, -1, x.shape[2])[:, :, :length].to(q.dtype).contiguous()

    return tokens(grad_q, h, s), tokens(grad_k, g, t), tokens(grad_v, g, t)
