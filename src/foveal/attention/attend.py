"""`attend`: attention on tensors, dense or by policy, exact or quantized."""

import itertools
import math
from typing import Literal, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from foveal.attention.autocast import without_autocast
from foveal.attention.block_sparse.api import Impl, block_sparse_attention
from foveal.attention.block_sparse.checks import check_attn_mask, check_qkv
from foveal.attention.block_sparse.dense import dense_attention
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.layout import CELL, BlockLayout
from foveal.attention.layout_convert import from_mask
from foveal.attention.policy.base import Policy
from foveal.attention.precision import Sage
from foveal.errors import ArgumentError, ShapeError, UnsupportedError


def check_precision(fn: str, precision: object) -> None:
    """Raise ArgumentError unless `precision` is None or a `Sage`."""
    if precision is not None and not isinstance(precision, Sage):
        raise ArgumentError(
            f'{fn}: precision is {precision!r}, must be None or a Sage; use Sage("int8-fp8")'
        )


def _check_settings(fn: str, policy: object, precision: object, scale: object) -> None:
    """Raise ArgumentError unless each is None or of its kind."""
    check_precision(fn, precision)
    if policy is not None and not isinstance(policy, Policy):
        raise ArgumentError(f"{fn}: policy is {policy!r}, must be None or a Policy; use Window()")
    if scale is None or torch.compiler.is_compiling():  # A traced number has no value.
        return
    if not isinstance(scale, int | float) or not math.isfinite(scale):
        raise ArgumentError(
            f"{fn}: scale is {scale!r}, must be None or a finite number; use 1 / math.sqrt(d)"
        )


@overload
def attend(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    *,
    policy: Policy | None = None,
    precision: Sage | None = None,
    causal: bool = True,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    return_lse: Literal[False] = False,
    impl: Impl = "auto",
) -> Float[Tensor, "b h s e"]: ...


@overload
def attend(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    *,
    policy: Policy | None = None,
    precision: Sage | None = None,
    causal: bool = True,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    return_lse: Literal[True],
    impl: Impl = "auto",
) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]: ...


@without_autocast
def attend(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    *,
    policy: Policy | None = None,
    precision: Sage | None = None,
    causal: bool = True,
    scale: float | None = None,
    attn_mask: Tensor | None = None,
    return_lse: bool = False,
    impl: Impl = "auto",
) -> Float[Tensor, "b h s e"] | tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s"]]:
    """Attend, computing only the cells that `policy` keeps, with the numbers of `precision`.

    Args:
        q: Queries, fp16, bf16, fp32 or fp64.
        k: Keys, dtype and device of `q`; g divides h, grouped heads stay grouped.
        v: Values.
        policy: Chooses the cells; None attends to everything.
        precision: `Sage(...)` quantizes; None computes in the dtype of `q`. Autocast
            has no say in either.
        causal: Bottom-right causal: query i sees keys j <= i + t - s.
        scale: Logit factor, unitless. Default 1/sqrt(d).
        attn_mask: None; padding of the keys, bool (b, t), True for real tokens; or bool (True: may
            be seen) or float (added to the logits), four axes that broadcast to (b, h, s, t).
            With padding on the left, right or both sides each sequence runs alone on its real
            tokens, so that its first cell starts at its first token; when `causal`, queries in the
            padding give 0. With any other mask, cells are chosen without it; cells that it empties
            (by False, -inf or the least number of its type) are dropped, and a query cell keeps
            everything if the choice would leave one of its queries nothing to see.
        return_lse: Also return the natural log-sum-exp of the scaled logits over the kept keys.
        impl: See `block_sparse_attention`; with `precision` "auto", "cpu" or "triton".

    Returns: Outputs, dtype of `q`; or (outputs, lse), lse in fp32 (fp64 for fp64). Queries that see
        no key are 0, lse -inf.

    Raises:
        ShapeError: q, k, v or the mask disagree; names the argument.
        ArgumentError: dtypes or devices differ, or the policy does not fit the heads.
        UnsupportedError: `impl` cannot run this; a gradient through `precision`, a skip threshold
            or by the mask.

    Example: >>> attend(q, k, v, policy=XAttention(stride=8, threshold=0.98))
    """
    fn = "attend"
    _check_settings(fn, policy, precision, scale)
    check_qkv(fn, q, k, v)
    if attn_mask is not None and attn_mask.ndim == 2:
        _check_padding(fn, attn_mask, k)
    elif attn_mask is not None:
        check_attn_mask(fn, attn_mask, q, k)
    plain = policy is None and precision is None and attn_mask is None
    plain = plain and not return_lse and impl == "auto"
    # A loop over queries or cells would be compiled anew for every length.
    looped = not plain or (causal and not (q.shape[2] == 1 or q.shape[2] == k.shape[2]))
    if (torch.compiler.is_compiling() and looped) or (q.is_meta and not plain):
        from foveal.attention.ops import compiled_attend

        out, lse = compiled_attend(
            q, k, v, policy, precision, causal=causal, scale=scale, attn_mask=attn_mask, impl=impl
        )
        return (out, lse) if return_lse else out
    if attn_mask is not None and attn_mask.ndim == 2:
        out, lse = _padded(q, k, v, policy, precision, causal, scale, attn_mask, impl)
        return (out, lse) if return_lse else out
    if plain:
        return dense_attention(q, k, v, causal=causal, scale=scale)
    layout = choose_cells(q, k, policy, causal=causal, scale=scale, attn_mask=attn_mask)
    if precision is None:
        return block_sparse_attention(
            q, k, v, layout, scale=scale, attn_mask=attn_mask, impl=impl, return_lse=return_lse
        )
    return _quantized(q, k, v, layout, precision, scale, attn_mask, impl, return_lse)


def choose_cells(
    q: Tensor,
    k: Tensor,
    policy: Policy | None,
    *,
    causal: bool,
    scale: float | None,
    attn_mask: Tensor | None = None,
) -> BlockLayout:
    """Return the cells that `policy` keeps (None: all), cut to what a mask hides; see `attend`."""
    if policy is None:
        layout = BlockLayout.dense(q, k, causal=causal)
    else:
        layout = policy.layout(q, k, causal=causal, scale=scale)
    if attn_mask is None:
        return layout
    if attn_mask.dtype != torch.bool:
        attn_mask = ~(attn_mask <= torch.finfo(attn_mask.dtype).min)
        if policy is None or bool(attn_mask.all()):
            return layout
    b, h, s, _ = q.shape
    mask = attn_mask.expand(-1, -1, s, k.shape[2])
    seen = from_mask(mask, causal=causal)
    if policy is None:
        cells = seen.to_bool().expand(b, h, -1, -1)
    else:
        cells = _never_blind(layout, mask, seen)
    return BlockLayout.from_bool(
        cells,
        num_queries=s,
        num_keys=k.shape[2],
        causal=causal,
        span=layout.span,
        skip_threshold=layout.skip_threshold,
    )


def _never_blind(layout: BlockLayout, mask: Tensor, seen: BlockLayout) -> Tensor:
    """Kept cells that the mask leaves something of, or all of them in rows that would go blind."""
    s, t = layout.num_queries, layout.num_keys
    kept = layout.to_bool() & seen.to_bool()
    keys = torch.arange(t, device=mask.device)
    for n in range(kept.shape[2]):
        rows = torch.arange(n * CELL, min((n + 1) * CELL, s), device=mask.device)
        allowed = mask[:, :, rows] & layout.token_rule(rows, keys)
        cells = torch.nn.functional.pad(allowed, (0, -t % CELL)).unflatten(3, (-1, CELL)).any(4)
        blind = cells.any(3) & ~(cells & kept[:, :, n, None]).any(3)
        kept[:, :, n] |= blind.any(2)[..., None] & seen.to_bool(slice(n, n + 1))[:, :, 0]
    return kept


def _quantized(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: BlockLayout,
    precision: Sage,
    scale: float | None,
    attn_mask: Tensor | None,
    impl: Impl,
    return_lse: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    if impl not in ("auto", "cpu", "triton"):
        raise UnsupportedError(
            f'attend: impl is {impl!r} with precision, must be "auto", "cpu" or "triton"; '
            'use "auto"'
        )
    found = quantized_attention(
        q,
        k,
        v,
        layout,
        precision=precision,
        scale=scale,
        attn_mask=attn_mask,
        return_lse=return_lse,
        impl=impl,
    )
    if isinstance(found, Tensor) or q.dtype != torch.float64:
        return found
    return found[0], found[1].double()


# --- several sequences ---------------------------------------------------------------------------


def _check_padding(fn: str, mask: Tensor, k: Tensor) -> None:
    wanted = (k.shape[0], k.shape[2])
    if mask.dtype != torch.bool or tuple(mask.shape) != wanted or mask.device != k.device:
        raise ShapeError(
            f"{fn}: attn_mask is {mask.dtype} of shape {tuple(mask.shape)} on {mask.device}, must "
            f"be torch.bool of shape {wanted} on {k.device}, True for real tokens; convert it"
        )


def _zeros(q: Tensor, width: int) -> Tensor:
    """Return the outputs of queries that see nothing. Their gradient by `q` is 0, not missing."""
    return q[..., :0].sum(-1, keepdim=True).expand(*q.shape[:-1], width)


def _padded(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    policy: Policy | None,
    precision: Sage | None,
    causal: bool,
    scale: float | None,
    real: Tensor,
    impl: Impl,
) -> tuple[Tensor, Tensor]:
    """Run each sequence alone on its real tokens."""
    s, t = q.shape[2], k.shape[2]
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    outs: list[Tensor] = []
    sums: list[Tensor] = []
    for i in range(len(real)):
        found = real[i].nonzero()[:, 0]
        start, stop = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)
        one = slice(i, i + 1)
        # Queries are the last s positions; those in the padding see nothing when causal.
        low, high = (max(0, start - (t - s)), max(0, stop - (t - s))) if causal else (0, s)
        out = _zeros(q[one], v.shape[3])
        lse = torch.full((1, q.shape[1], s), -math.inf, dtype=exact, device=q.device)
        if stop > start and high > low:
            holes = real[one, None, None, start:stop]
            some = attend(
                q[one, :, low:high],
                k[one, :, start:stop],
                v[one, :, start:stop],
                policy=policy,
                precision=precision,
                causal=causal,
                scale=scale,
                attn_mask=None if stop - start == len(found) else holes,
                return_lse=True,
                impl=impl,
            )
            pad = (low, s - high)
            out = torch.nn.functional.pad(some[0], (0, 0, *pad))
            lse = torch.nn.functional.pad(some[1], pad, value=-math.inf)
        outs.append(out)
        sums.append(lse)
    return torch.cat(outs), torch.cat(sums)


def attend_varlen(
    q: Float[Tensor, "total_s h d"],
    k: Float[Tensor, "total_t g d"],
    v: Float[Tensor, "total_t g e"],
    *,
    cu_seqlens_q: Int[Tensor, " n"],
    cu_seqlens_k: Int[Tensor, " n"],
    policy: Policy | None = None,
    precision: Sage | None = None,
    causal: bool = True,
    scale: float | None = None,
    impl: Impl = "auto",
) -> Float[Tensor, "total_s h e"]:
    """Attend within each of several sequences laid end to end, as `attend` does on one.

    Args:
        q: Queries of all sequences.
        k: Keys of all sequences.
        v: Values of all sequences.
        cu_seqlens_q: Where each sequence starts in `q`, and the end: 0, ..., total_s, rising.
        cu_seqlens_k: The same of `k`. A sequence may be empty; queries without keys give 0.
        policy: See `attend`; it sees each sequence alone.
        precision: See `attend`. The mean key is that of each sequence.
        causal: Bottom-right causal within each sequence.
        scale: Logit factor, unitless. Default 1/sqrt(d).
        impl: See `attend`.

    Raises: ShapeError, ArgumentError: the offsets do not fit; otherwise as `attend`.
    Cost: one call of `attend` a sequence.
    """
    fn = "attend_varlen"
    _check_settings(fn, policy, precision, scale)
    starts: list[list[int]] = []
    for name, x, cu in (("cu_seqlens_q", q, cu_seqlens_q), ("cu_seqlens_k", k, cu_seqlens_k)):
        if x.ndim != 3 or cu.ndim != 1 or cu.is_floating_point() or len(cu) < 1:
            raise ShapeError(
                f"{fn}: {name[-1]} has shape {tuple(x.shape)} and {name} is {cu.dtype} of shape "
                f"{tuple(cu.shape)}, must be (tokens, heads, width) and integers (n,); reshape them"
            )
        values: list[int] = cu.tolist()
        rising = all(a <= b for a, b in itertools.pairwise(values))
        if not rising or values[0] != 0 or values[-1] != len(x):
            raise ArgumentError(
                f"{fn}: {name} is {values[:8]}, must rise from 0 to {len(x)}; use the sums of the "
                "lengths"
            )
        starts.append(values)
    if len(starts[0]) != len(starts[1]):
        raise ShapeError(
            f"{fn}: cu_seqlens_q has {len(starts[0])} entries and cu_seqlens_k {len(starts[1])}, "
            "must have equally many; pass both of the same sequences"
        )
    if v.ndim != 3 or v.shape[:2] != k.shape[:2]:
        raise ShapeError(
            f"{fn}: v has shape {tuple(v.shape)}, must be {tuple(k.shape[:2])} + (e,); "
            "pass the values of the same keys"
        )
    parts: list[Tensor] = []
    for i in range(len(starts[0]) - 1):
        rows = slice(starts[0][i], starts[0][i + 1])
        columns = slice(starts[1][i], starts[1][i + 1])
        if rows.start == rows.stop or columns.start == columns.stop:
            parts.append(_zeros(q[rows], v.shape[2]))
            continue
        out = attend(
            *(x.transpose(0, 1)[None] for x in (q[rows], k[columns], v[columns])),
            policy=policy,
            precision=precision,
            causal=causal,
            scale=scale,
            impl=impl,
        )
        parts.append(out[0].transpose(0, 1))
    return torch.cat(parts) if parts else _zeros(q, v.shape[2])
