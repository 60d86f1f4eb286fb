"""Attention over kept cells with integer logits and fp8 or fp16 products, emulated exactly.

Source: Zhang et al., "SageAttention2", ICML 2025, arXiv:2411.10958. Written from the paper's
formulas. Differs: block-sparse, bottom-right causal, ragged ends, grouped heads by index, Q
smoothing per 64-token cell with its logits computed tile by tile.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args, overload

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from foveal._core.gpu import check_triton, triton_refusal
from foveal.attention.autocast import without_autocast
from foveal.attention.block_sparse.checks import check_attn_mask, check_layout, check_qkv
from foveal.attention.block_sparse.cpu import cell_bias
from foveal.attention.block_sparse.rows import CutCells, RowBatch, iter_rows, to_cells
from foveal.attention.layout import CELL, BlockLayout, per_head_tensor
from foveal.attention.precision import Sage, check_choice
from foveal.attention.prepare.api import Prepared, prepare
from foveal.attention.quantize.api import E4M3_MAX, quantize_queries
from foveal.errors import ArgumentError, ShapeError, UnsupportedError

QuantizedImpl: TypeAlias = Literal["auto", "cpu", "triton"]

_GATHER_BYTES = 16 * 2**20
"""Most memory that the gathered cells and logits of one step may take."""

_MAX_WIDTH = 1024
"""Up to here a sum of products of codes stays below 2^24 and is exact in fp32: 1024 * 127^2."""

_SHORT_BITS = 13
"""Fraction bits that the short accumulator keeps."""

_SHORT_KEYS = 32
"""Keys that one fp8 matrix instruction sums."""


def choose_quantized_impl(q: Tensor, v: Tensor) -> Literal["cpu", "triton"]:
    """Return what `impl="auto"` runs: "triton" where its kernel can, otherwise "cpu"."""
    return "cpu" if triton_refusal(q) or triton_refusal(v) else "triton"


@dataclass(frozen=True)
class _Inputs:
    """Everything that the tiles read; rows are cells, and all scales are per token."""

    q: Tensor  # int8 (b*h*n, 64, d)
    q_scale: Tensor  # fp32 (b*h*n, 64, 1), times scale * log2(e)
    q_mean: Tensor | None  # fp32 (b*h*n, 1, d), times scale * log2(e)
    k: Tensor  # int8 (b*g*m, 64, d)
    k_scale: Tensor  # fp32 (b*g*m, 64)
    k_plain: Tensor | None  # (b*g*m, 64, d), dtype of the caller; only with q_mean
    k_mean: Tensor | None  # fp32 (b*g, d); only with q_mean
    v: Tensor  # fp8 or fp16 as integers of that size (b*g*m, 64, e)
    v_dtype: torch.dtype
    masks: Tensor  # bool (kinds, 64, 64), by kind of cell
    offset: float  # log2 of the largest weight
    bias: Callable[[Tensor, Tensor], Tensor | None] | None = None  # of (rows, keys), natural units


@dataclass(frozen=True)
class _Rows:
    """Rows with equally many kept cells."""

    rows: Int[Tensor, " r"]  # of _Inputs.q
    keys: Int[Tensor, "r c"]  # cells of _Inputs.k, ascending
    key_head: Int[Tensor, " r"]  # of b*g
    kind: Int[Tensor, "r c"]  # of the cells, 0 for a whole one
    skip: Float[Tensor, " r"] | None  # second stage, in base 2
    past: Bool[Tensor, "r 64"]  # queries beyond the last token


@dataclass
class _State:
    """The online softmax of some rows, in base 2."""

    top: Tensor  # running maximum (r, 64, 1)
    mass: Tensor  # sum of unrounded weights (r, 64, 1)
    out: Tensor  # sum of rounded weights times codes of values (r, 64, e)


@overload
def quantized_attention(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    precision: Sage,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    prepared: Prepared | None = None,
    impl: QuantizedImpl = "auto",
    return_lse: Literal[False] = False,
) -> Float[Tensor, "b h s e"]: ...


@overload
def quantized_attention(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    precision: Sage,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    prepared: Prepared | None = None,
    impl: QuantizedImpl = "auto",
    return_lse: Literal[True],
) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]: ...


@overload
def quantized_attention(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    precision: Sage,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    prepared: Prepared | None = None,
    impl: QuantizedImpl = "auto",
    return_lse: bool,
) -> Float[Tensor, "b h s e"] | tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]: ...


@without_autocast
def quantized_attention(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    layout: BlockLayout,
    *,
    precision: Sage,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    prepared: Prepared | None = None,
    impl: QuantizedImpl = "auto",
    return_lse: bool = False,
) -> Float[Tensor, "b h s e"] | tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]:
    """Attend to the cells that `layout` keeps, with the numbers of `precision`.

    With codes Q8, K8, V8 and scales a, c, w (per token or channel), for each row, over its kept
    cells j in ascending order:

        S = (Q8 K8^T) a c scale log2(e) + q_mean (K - k_mean)^T scale log2(e)
        M_j = max(M_{j-1}, max S_j),  P_j = 2^(S_j - M_j + offset),  r_j = 2^(M_{j-1} - M_j)
        l_j = r_j l_{j-1} + sum P_j,  O_j = r_j O_{j-1} + round(P_j) V8_j
        out = w O / l + v_mean,  lse = ln 2 (log2 l - offset + M) + scale q k_mean

    offset is log2(448) for fp8, whose largest weight is then the largest e4m3 number, and 0 for
    fp16. l sums unrounded weights. Terms of a smoothing that is off are left out. Cells that the
    layout's `skip_threshold` lets a kernel skip, judged on these logits, are skipped.

    Args:
        q: Queries, fp16, bf16, fp32 or fp64.
        k: Keys, dtype and device of `q`; g divides h, grouped heads stay grouped.
        v: Values.
        layout: Kept cells and token rule.
        precision: Formats, groups, smoothing and accumulation.
        scale: Logit factor, unitless. Default 1/sqrt(d).
        attn_mask: bool (True: may be seen) or float (added to the scaled logits in fp32), four
            axes that broadcast to (b, h, s, t). Keys that it hides still count in the mean key and
            in the scales of K and V.
        prepared: `prepare(k, v, precision=precision)` if it exists already; K and V codes are
            made here otherwise.
        impl: "cpu" (emulated in fp32, any device), "triton" (a kernel for GPUs from compute
            capability 8.0 on, heads up to 256 wide), "auto" ("triton" where it can run).
        return_lse: Also return the natural log-sum-exp of the scaled logits, fp32.

    Returns: Outputs in the dtype of `q`, or (outputs, lse). A row without any key is 0, lse -inf.

    Raises:
        ShapeError: q, k, v, the layout, the mask or `prepared` disagree; names the argument.
        ArgumentError: dtypes or devices differ, or `prepared` is for another precision.
        UnsupportedError: a gradient is wanted, d is over 1024, or `impl="triton"` cannot run on
            these.

    Accuracy: that of an fp64 evaluation on the same codes, up to fp32 sums and to weights that
        lie on a rounding boundary. A NaN or Inf in K or V reaches its own key head only, there
        every row (through the mean and the channel scales).
        "triton" takes whole cells two at a time under one running maximum M, unless cells are
        skipped, and sums products with fp8 in the chip's own accumulator over these two cells.
    Cost: "cpu" is emulated in fp32, so slower than full precision: on one CPU core and 2048 tokens
        it takes 2 to 4 times as long as dense fp32 attention with fp16 values, 4 to 6 times with
        fp8 (`benchmarks/precision.py`).
    Memory: fp32 copies of q, k and v while they are quantized, and 16 MiB per step.
    """
    fn = "quantized_attention"
    _check(fn, q, k, v, layout, attn_mask)
    check_choice(fn, "impl", impl, get_args(QuantizedImpl))
    if impl == "triton":
        check_triton(fn, q=q, v=v)
    elif impl == "auto":
        impl = choose_quantized_impl(q, v)
    if prepared is None:
        prepared = prepare(k, v, precision=precision, impl=impl)
    _check_prepared(fn, k, v, precision, prepared)
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    if impl == "triton":
        from foveal.attention.block_sparse.triton_sage import sage_triton

        out, lse = sage_triton(
            q,
            k,
            layout,
            precision=precision,
            scale=scale,
            prepared=prepared,
            attn_mask=attn_mask,
            dense=layout.complete,
        )
    else:
        out, lse = _emulated(q, k, layout, precision, scale, attn_mask, prepared)
    if not return_lse:
        return out
    if prepared.key_mean is not None:
        b, h, _, d = q.shape
        mean = prepared.key_mean.flatten(0, 1)[_key_heads(b, h, k.shape[1], q.device)]
        shift = torch.matmul(q.float(), mean.view(b, h, d, 1))[..., 0] * scale
        lse = (lse + shift).masked_fill(lse.isneginf(), -math.inf)
    return out, lse


def _emulated(
    q: Tensor,
    k: Tensor,
    layout: BlockLayout,
    precision: Sage,
    scale: float,
    attn_mask: Tensor | None,
    prepared: Prepared,
) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]:
    """Return outputs in the dtype of `q` and the lse of the smoothed logits."""
    b, h, s, _ = q.shape
    cut = CutCells.of(layout)
    inputs = _inputs(q, k, cut, precision, scale, prepared)
    if attn_mask is not None:

        def bias(rows: Tensor, keys: Tensor) -> Tensor | None:
            return cell_bias(RowBatch(rows, keys), layout, cut, attn_mask)

        inputs = replace(inputs, bias=bias)
    out, lse = _all_rows(inputs, layout, cut, k.shape[1], precision.accumulate == "single")

    n = out.shape[0] // (b * h)
    blind = lse.isneginf()
    out = out.view(b, h, n * CELL, -1)[:, :, :s]
    heads = _key_heads(b, h, k.shape[1], q.device)
    values = prepared.values
    out = out * values.scales.flatten(0, 1)[heads].view(b, h, 1, -1)
    if values.mean is not None:
        out = out + values.mean.flatten(0, 1)[heads].view(b, h, 1, -1)
    blind = blind.view(b, h, n * CELL)[:, :, :s]
    out = out.masked_fill(blind[..., None], 0.0).to(q.dtype)
    return out, lse.view(b, h, n * CELL)[:, :, :s]


def _check(
    fn: str, q: Tensor, k: Tensor, v: Tensor, layout: BlockLayout, attn_mask: Tensor | None
) -> None:
    check_qkv(fn, q, k, v)
    check_layout(fn, layout, q, k)
    named = {"q": q, "k": k, "v": v}
    if attn_mask is not None:
        check_attn_mask(fn, attn_mask, q, k)
        named["attn_mask"] = attn_mask
    wanting = [name for name, x in named.items() if x.requires_grad]
    if torch.is_grad_enabled() and wanting:
        name = wanting[0]
        raise UnsupportedError(
            f"{fn}: {name} requires a gradient, must not: rounding has none; use precision=None, "
            "or torch.no_grad()"
        )
    if q.shape[3] > _MAX_WIDTH:
        raise UnsupportedError(
            f"{fn}: q has width {q.shape[3]}, must be at most {_MAX_WIDTH}, where integer sums are "
            "exact in fp32; use precision=None"
        )


def _check_prepared(fn: str, k: Tensor, v: Tensor, precision: Sage, prepared: Prepared) -> None:
    if prepared.precision != precision:
        raise ArgumentError(
            f"{fn}: prepared is for {prepared.precision}, must be for {precision}; "
            "call prepare(k, v, precision=precision)"
        )
    parts = (
        prepared.keys.values, prepared.keys.scales, prepared.key_mean, prepared.values.values,
        prepared.values.scales, prepared.values.mean,
    )  # fmt: skip
    elsewhere = [x.device for x in parts if x is not None and x.device != k.device]
    if elsewhere:
        raise ArgumentError(
            f"{fn}: prepared holds tensors on {elsewhere[0]}, must be on {k.device} as k; move all "
            "of them, or prepare k and v there"
        )
    found = (*prepared.keys.values.shape[:2], prepared.keys.num_tokens, prepared.values.num_tokens)
    widths = (prepared.keys.values.shape[4], prepared.values.width)
    if found != (*k.shape[:3], v.shape[2]) or widths != (k.shape[3], v.shape[3]):
        raise ShapeError(
            f"{fn}: prepared is for {found[0]} x {found[1]} key heads, {found[2]} tokens and "
            f"widths {widths}, must be for k {tuple(k.shape)} and v {tuple(v.shape)}; prepare these"
        )


def _key_heads(b: int, h: int, g: int, device: torch.device) -> Int[Tensor, " heads"]:
    """Return the row of (b*g) that each row of (b*h) reads."""
    heads = torch.arange(b * h, device=device)
    return heads // h * g + heads % h // (h // g)


def _inputs(
    q: Tensor, k: Tensor, cut: CutCells, precision: Sage, scale: float, prepared: Prepared
) -> _Inputs:
    """Quantize the queries and lay everything out as rows of cells."""
    factor = scale * math.log2(math.e)
    keys, key_mean, values = prepared.keys, prepared.key_mean, prepared.values.by_key()
    codes, mean = quantize_queries(
        q, bits=precision.bits, granularity=precision.granularity, smooth=precision.smooths_q
    )
    smooth = mean is not None
    return _Inputs(
        q=codes.values.flatten(0, 2),
        q_scale=codes.token_scales().flatten(0, 2)[..., None] * factor,
        q_mean=mean.flatten(0, 2)[:, None] * factor if mean is not None else None,
        k=keys.values.flatten(0, 2),
        k_scale=keys.token_scales().flatten(0, 2),
        k_plain=to_cells(k.detach()) if smooth else None,
        k_mean=key_mean.flatten(0, 2) if smooth and key_mean is not None else None,
        v=values.view(torch.uint8 if values.element_size() == 1 else torch.int16).flatten(0, 2),
        v_dtype=values.dtype,
        masks=cut.table(),
        offset=math.log2(E4M3_MAX) if precision.value_format == "fp8" else 0.0,
    )


def _all_rows(
    inputs: _Inputs, layout: BlockLayout, cut: CutCells, g: int, short: bool
) -> tuple[Float[Tensor, "rows 64 e"], Float[Tensor, "rows 64"]]:
    """Run every (head, query cell) row; those with the same number of kept cells together.

    Returns: Outputs in units of the channel scales, and the lse of the smoothed logits.
    """
    b, h, n, m = layout.shape
    device = inputs.q.device
    out = torch.zeros(b * h * n, CELL, inputs.v.shape[2], device=device, dtype=torch.float32)
    lse = torch.full((b * h * n, CELL), -math.inf, device=device, dtype=torch.float32)
    skip = None
    if layout.skip_threshold is not None:
        skip = per_head_tensor(layout.skip_threshold, device) * math.log2(math.e)
    inner = torch.arange(CELL, device=device)
    for batch in iter_rows(layout, g, cut):
        per_row = batch.num_cells * _bytes_per_cell(inputs, short)
        for some in batch.split(max(1, _GATHER_BYTES // per_row)):
            keys = some.keys.sort(dim=1).values
            cell = (some.rows % n)[:, None]
            rows = _Rows(
                rows=some.rows,
                keys=keys,
                key_head=keys[:, 0] // m,
                kind=cut.kind[cell, keys % m].long(),
                skip=None if skip is None else skip[some.rows // n % h],
                past=cell * CELL + inner >= layout.num_queries,
            )
            out[some.rows], lse[some.rows] = _run(inputs, rows, short)
    return out, lse


def _bytes_per_cell(inputs: _Inputs, short: bool) -> int:
    d, e = inputs.k.shape[2], inputs.v.shape[2]
    keys = d if inputs.q_mean is None else 2 * d
    tiles = 2 if inputs.bias is None else 6
    return 4 * CELL * (keys + e * (1 + (2 * _SHORT_KEYS if short else 0)) + tiles * CELL)


def _run(inputs: _Inputs, rows: _Rows, short: bool) -> tuple[Tensor, Tensor]:
    """Online softmax of some rows over their kept cells, in ascending order."""
    r, c = rows.keys.shape
    device = rows.keys.device
    state = _State(
        top=torch.full((r, CELL, 1), -math.inf, device=device, dtype=torch.float32),
        mass=torch.zeros(r, CELL, 1, device=device, dtype=torch.float32),
        out=torch.zeros(r, CELL, inputs.v.shape[2], device=device, dtype=torch.float32),
    )
    step = max(1, _GATHER_BYTES // (r * _bytes_per_cell(inputs, short)))
    for i in range(0, c, step):
        some = slice(i, i + step)
        logits = _logits(inputs, rows, some)
        if rows.skip is not None:
            ends = [x - i for x in (0, c - 1) if i <= x < i + logits.shape[2]]
            _skip(logits, state.top, rows.skip, rows.past, ends)
        values = inputs.v[rows.keys[:, some]].view(inputs.v_dtype)
        _accumulate(state, logits, values, inputs.offset, short)
    blind = state.mass == 0
    lse = (state.mass.log2() - inputs.offset + state.top) * math.log(2)
    return state.out / state.mass.masked_fill(blind, 1.0), lse[..., 0]


def _logits(inputs: _Inputs, rows: _Rows, some: slice) -> Float[Tensor, "r 64 c 64"]:
    """Return base-2 logits of some cells of rows; -inf where token rule or mask hides a key."""
    index, kind = rows.keys[:, some], rows.kind[:, some]
    r, c = index.shape
    d = inputs.k.shape[2]
    keys = inputs.k[index].view(r, c * CELL, d).float()
    logits = torch.bmm(inputs.q[rows.rows].float(), keys.transpose(1, 2))
    logits.mul_(inputs.q_scale[rows.rows]).mul_(inputs.k_scale[index].view(r, 1, c * CELL))
    if inputs.q_mean is not None and inputs.k_plain is not None:
        plain = inputs.k_plain[index].view(r, c * CELL, d).float()
        if inputs.k_mean is not None:
            plain = plain - inputs.k_mean[rows.key_head][:, None]
        logits += torch.bmm(inputs.q_mean[rows.rows], plain.transpose(1, 2))
    logits = logits.view(r, CELL, c, CELL)
    i, j = kind.nonzero(as_tuple=True)
    if len(i):
        logits[i, :, j] = logits[i, :, j].masked_fill(~inputs.masks[kind[i, j]], -math.inf)
    bias = None if inputs.bias is None else inputs.bias(rows.rows, index)
    if bias is not None:
        # The lowest finite number must not become -inf in base 2.
        natural = bias.float()
        scaled = (natural * math.log2(math.e)).clamp_min_(torch.finfo(torch.float32).min)
        scaled = torch.where(natural.isneginf(), natural, scaled)
        logits += scaled.view(r, CELL, c, CELL)
    return logits


def _skip(logits: Tensor, top: Tensor, skip: Tensor, past: Tensor, ends: list[int]) -> None:
    """Hide the cells that no query needs: all their logits lie `skip` below the running maximum.

    The first and the last cell of a row, at `ends`, stay. Skipped cells cannot raise the maximum.
    """
    local = logits.amax(-1)
    before = torch.cat([top, local[..., :-1]], dim=2).cummax(-1).values
    below = (local <= before - skip[:, None, None]) | past[..., None]
    below[..., ends] = False
    logits.masked_fill_(below.all(1)[:, None, :, None], -math.inf)


def _accumulate(state: _State, logits: Tensor, v: Tensor, offset: float, short: bool) -> None:
    """Add some cells to the online softmax.

    The running maximum after each cell is a cumulative maximum, so all cells of the step are
    rounded at once, each under its own maximum, and brought to the last one afterwards.
    """
    r, _, c, _ = logits.shape
    tops = torch.maximum(logits.amax(-1).cummax(-1).values, state.top)
    finite = tops.masked_fill(tops.isneginf(), 0.0)
    weights = torch.exp2(logits.sub_(finite[..., None]).add_(offset))
    last = finite[..., -1:]
    shrink = torch.exp2(tops - last)
    before = torch.exp2(state.top - last)
    state.mass = state.mass * before + (weights.sum(-1) * shrink).sum(-1, keepdim=True)
    rounded = weights.to(v.dtype).float()
    if short:
        state.out = _short_sum(state, rounded, v.float(), finite)
    else:
        values = v.view(r, c * CELL, -1).float()
        rounded = rounded.mul_(shrink[..., None]).view(r, CELL, c * CELL)
        state.out = state.out * before + torch.bmm(rounded, values)
    state.top = tops[..., -1:]


def _short_sum(state: _State, weights: Tensor, v: Tensor, tops: Tensor) -> Tensor:
    """Sum as one accumulator of 13 fraction bits does, 32 keys at a time.

    In each step the accumulator and the 32 products are aligned to the largest exponent among them,
    and bits below 2^-13 of it are cut off, as measured on Hopper by the authors of DeepSeek-V3
    (arXiv:2412.19437, section 3.3.2).
    """
    out, top = state.out, state.top
    for cell in range(weights.shape[2]):
        out = out * torch.exp2(top - tops[:, :, cell : cell + 1])
        top = tops[:, :, cell : cell + 1]
        for i in range(0, CELL, _SHORT_KEYS):
            some = slice(i, i + _SHORT_KEYS)
            products = weights[:, :, cell, some, None] * v[:, None, cell, some]
            terms = torch.cat([out[:, :, None], products], dim=2)
            _, exponent = torch.frexp(terms.abs().amax(2, keepdim=True))
            unit = torch.ldexp(torch.ones_like(out)[:, :, None], exponent - 1 - _SHORT_BITS)
            out = ((terms / unit).trunc_() * unit).sum(2)
    return out
