"""Quantized attention cell after cell in fp64, on given codes: the second accuracy gate."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.attention.layout import CELL, BlockLayout
from foveal.attention.prepare.api import Prepared
from foveal.attention.quantize.api import Codes


@dataclass(frozen=True)
class Emulation:
    """What the codes give in fp64.

    Attributes:
        out: Outputs.
        lse: Natural log-sum-exp of the scaled logits.
        slack: How far outputs may be off because fp32 logits differ in the last bits: a weight that
            lies on a rounding boundary may become either neighbor. Zero where none does.
    """

    out: Float[Tensor, "b h s e"]
    lse: Float[Tensor, "b h s"]
    slack: Float[Tensor, "b h s e"]


def quantized_reference(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    layout: BlockLayout,
    *,
    queries: Codes,
    query_means: Float[Tensor, "b h n d"] | None,
    prepared: Prepared,
    scale: float | None = None,
    pairs: bool = False,
) -> Emulation:
    """Run the online softmax of `quantized_attention` on these codes, one cell after the other.

    Args:
        q: Queries, read for the log-sum-exp only.
        k: Keys, read for the logits of the query means only.
        layout: Kept cells and token rule.
        queries: Codes of the queries.
        query_means: Mean query of each cell that was subtracted, or None.
        prepared: Codes of keys and values. Accumulation is exact whatever its precision says.
        scale: Logit factor, unitless. Default 1/sqrt(d).
        pairs: Take whole cells two at a time under one running maximum, as the Triton kernel does.

    Returns: Outputs, lse and slack, fp64. Rows that see no key are 0 and -inf.
    Cost: dense, in Python; for tests only.
    """
    b, h, s, d = q.shape
    g, t = k.shape[1], k.shape[2]
    scale = 1 / math.sqrt(d) if scale is None else scale
    q_codes, k_codes = queries.values.double(), prepared.keys.values.double()
    q_scales, k_scales = queries.token_scales().double(), prepared.keys.token_scales().double()
    v_codes = prepared.values.by_key().double()
    kept = layout.to_bool()
    out = torch.zeros(b, h, s, v_codes.shape[4], dtype=torch.float64)
    slack, lse = out.clone(), torch.full((b, h, s), -math.inf, dtype=torch.float64)
    for i in range(b):
        for j in range(h):
            head = j // (h // g)
            skip = math.inf if layout.skip_threshold is None else layout.skip_threshold[j]
            mean = torch.zeros(d, dtype=torch.float64)
            if prepared.key_mean is not None:
                mean = prepared.key_mean[i, head, 0].double()
            channel = prepared.values.scales[i, head].double()
            for n in range(kept.shape[2]):
                rows = torch.arange(n * CELL, min((n + 1) * CELL, s))
                top = torch.full((len(rows), 1), -math.inf, dtype=torch.float64)
                mass = torch.zeros(len(rows), 1, dtype=torch.float64)
                total = torch.zeros(len(rows), v_codes.shape[4], dtype=torch.float64)
                doubt = total.clone()
                cells = kept[i, j, n].nonzero()[:, 0].tolist()
                for step in _steps(layout, n, cells, pairs):
                    keys = torch.cat([torch.arange(m * CELL, min((m + 1) * CELL, t)) for m in step])
                    k_step, scale_step, v_step = (
                        torch.cat([x[i, head, m] for m in step])[: len(keys)]
                        for x in (k_codes, k_scales, v_codes)
                    )
                    logits = q_codes[i, j, n, : len(rows)] @ k_step.T
                    logits = logits * q_scales[i, j, n, : len(rows), None] * scale_step
                    size = logits.abs()
                    if query_means is not None:
                        centered = k[i, head, keys].double() - mean
                        middle = query_means[i, j, n].double()
                        logits = logits + centered @ middle
                        size = size + centered.abs() @ middle.abs()
                    logits, size = logits * scale / math.log(2), size * scale / math.log(2)
                    logits = logits.masked_fill(~layout.token_rule(rows, keys), -math.inf)
                    inner = cells[0] not in step and cells[-1] not in step
                    local = logits.max(1, keepdim=True).values * math.log(2)
                    if inner and bool((local <= top * math.log(2) - skip).all()):
                        continue
                    new = torch.maximum(top, logits.max(1, keepdim=True).values)
                    seen = new.isfinite()
                    shrink = torch.where(seen, torch.exp2(top - new), 0.0)
                    weights = torch.where(seen, torch.exp2(logits - new), 0.0)
                    error = 2.0**-21 * (size.max() + 10.0)  # of fp32 logits, absolute
                    rounded, low, high = (
                        _round(weights * torch.exp2(x * error), prepared.values.values.dtype)
                        for x in torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
                    )
                    mass = mass * shrink + weights.sum(1, keepdim=True)
                    total = total * shrink + rounded @ v_step
                    doubt = doubt * shrink + (high - low) @ v_step.abs()
                    top = new
                some = mass[:, 0] > 0
                at = rows[some]
                out[i, j, at] = total[some] / mass[some] * channel
                slack[i, j, at] = doubt[some] / mass[some] * channel
                lse[i, j, at] = (mass[some].log() + top[some] * math.log(2))[:, 0]
                if prepared.values.mean is not None:
                    out[i, j, at] += prepared.values.mean[i, head].double()
                lse[i, j, at] += scale * (q[i, j, at].double() @ mean)
    return Emulation(out, lse, slack)


def _steps(layout: BlockLayout, row: int, cells: list[int], pairs: bool) -> list[list[int]]:
    """Return which kept cells of a row share a running maximum."""
    inner = torch.arange(CELL)
    rows = torch.arange(row * CELL, min((row + 1) * CELL, layout.num_queries))
    whole = [m for m in cells if bool(layout.token_rule(rows, m * CELL + inner).all())]
    step = 2 if pairs else 1
    together = [whole[i : i + step] for i in range(0, len(whole), step)]
    return sorted(together + [[m] for m in cells if m not in whole])


def _round(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Round weights in [0, 1]: to e4m3 in units of 1/448, or to fp16 as they are."""
    if dtype == torch.float8_e4m3fn:
        return (weights * 448).to(dtype).double() / 448
    return weights.to(dtype).double()
