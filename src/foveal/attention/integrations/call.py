"""One attention call of an attached model: sparse by the plan, or dense and counted with why."""

import contextlib
import math
import threading
from collections.abc import Callable, Generator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveal.attention.attend import choose_cells
from foveal.attention.block_sparse.api import Impl, block_sparse_attention, choose_impl
from foveal.attention.block_sparse.dense import dense_attention
from foveal.attention.block_sparse.quantized import choose_quantized_impl, quantized_attention
from foveal.attention.integrations.loss import sample_rows, sampled_loss
from foveal.attention.integrations.site import Site
from foveal.attention.integrations.visible import Rule
from foveal.attention.layout import BlockLayout
from foveal.attention.policy.base import Policy

_local = threading.local()


def is_inside() -> bool:
    """Whether this thread is inside a call of ours, whose own torch calls are nobody's business."""
    return getattr(_local, "inside", False)


@contextlib.contextmanager
def inside() -> Generator[None]:
    """Mark this thread as being inside a call of ours."""
    before = is_inside()
    _local.inside = True
    try:
        yield
    finally:
        _local.inside = before


def prefill(
    site: Site,
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    *,
    causal: bool,
    scale: float | None,
    span: int | None = None,
    mask: Tensor | None = None,
    sink: Float[Tensor, " h"] | None = None,
) -> Float[Tensor, "b h s e"]:
    """Attend with several queries, by the plan of `site`.

    Args:
        site: Who calls.
        q: Queries.
        k: Keys.
        v: Values.
        causal: Bottom-right causal.
        scale: Logit factor; None is 1/sqrt(d).
        span: Sliding window in tokens. Only with `causal`.
        mask: bool or float with four axes that broadcast to (b, h, s, t). Only if not `causal`.
        sink: Logit per head that takes mass and has no value.
    """
    plan = site.plan
    if torch.is_autocast_enabled(q.device.type):
        q, k, v = _autocast(q, k, v)
        with torch.autocast(q.device.type, enabled=False):
            return prefill(
                site, q, k, v, causal=causal, scale=scale, span=span, mask=mask, sink=sink
            )
    s, t = q.shape[2], k.shape[2]
    span = span if causal and span is not None and span < t else None
    rule = Rule(s, t, causal, span)
    policy = plan.policy_of(site.number())
    reason = None
    if policy is None and plan.precision is None:
        reason = "no policy"
    elif t < plan.least_keys(q.device.type):
        reason = "fewer than min_tokens keys"
    if reason is not None:

        def compute() -> Tensor:
            return attend_to_all(q, k, v, rule, scale=scale, mask=mask, sink=sink)

        return dense(site, reason, q, rule, compute)
    return _sparse(site, policy, q, k, v, rule, scale=scale, mask=mask, sink=sink)


def dense(site: Site, reason: str, q: Tensor, rule: Rule, compute: Callable[[], Tensor]) -> Tensor:
    """Run `compute`, which attends to everything, and count it.

    Args:
        site: Who calls.
        reason: Why it goes dense.
        q: The queries, for their sizes.
        rule: Token rule, for the count of cells. One query is decoding and has none.
        compute: Does it.
    """
    site.reach()
    layer, ledger = site.number(), site.plan.ledger
    if ledger is None:
        with inside():
            return compute()
    ledger.calls += 1
    start = ledger.watch.mark(q.device)
    with inside():
        out = compute()
    ledger.watch.add("attend", start, ledger.watch.mark(q.device))
    if rule.num_queries > 1:
        measured = site.loses_nothing()
        ledger.count_dense(site.name, layer, q, rule, reason, impl="dense", loss=measured)
    else:
        ledger.dense[reason] += 1
    return out


def _sparse(
    site: Site,
    policy: Policy | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rule: Rule,
    *,
    scale: float | None,
    mask: Tensor | None,
    sink: Tensor | None,
) -> Tensor:
    site.reach()
    plan, ledger = site.plan, site.plan.ledger
    with inside():
        start = None if ledger is None else ledger.watch.mark(q.device)
        layout = choose_cells(q, k, policy, causal=rule.causal, scale=scale, attn_mask=mask)
        layout = layout.with_span(rule.span)
        middle = None if ledger is None else ledger.watch.mark(q.device)
        if plan.precision is not None:
            name = f"quantized ({choose_quantized_impl(q, v)})"
            out, lse = quantized_attention(
                q,
                k,
                v,
                layout,
                precision=plan.precision,
                scale=scale,
                attn_mask=mask,
                return_lse=True,
            )
            out = out if sink is None else _sunk(out, lse, sink)
        else:
            impl = choose_impl(layout, q, v, attn_mask=mask, return_lse=sink is not None)
            name = impl
            out = _attend(q, k, v, layout, impl, scale=scale, mask=mask, sink=sink)
        if ledger is None:
            return out
        end = ledger.watch.mark(q.device)
        ledger.calls += 1
        if name == "dense":
            why = "every cell kept"
            measured = site.loses_nothing()
            ledger.count_dense(site.name, site.layer, q, rule, why, impl=name, loss=measured)
        else:
            loss = None
            if plan.loss_rows:
                seed = plan.seed + ledger.calls
                rows = sample_rows(rule.num_queries, plan.loss_rows, seed, q.device)
                ledger.rows.add(len(rows))
                loss = sampled_loss(
                    q, k, v, out, rule, rows=rows, scale=scale, mask=mask, sink=sink
                )
            ledger.count_sparse(site.name, site.layer, layout, policy, impl=name, loss=loss)
        ledger.watch.add("select", start, middle)
        ledger.watch.add("attend", middle, end)
        ledger.watch.add("measure", end, ledger.watch.mark(q.device))
    return out


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: BlockLayout,
    impl: Impl,
    *,
    scale: float | None,
    mask: Tensor | None,
    sink: Tensor | None,
) -> Tensor:
    if sink is None:
        return block_sparse_attention(q, k, v, layout, scale=scale, attn_mask=mask, impl=impl)
    out, lse = block_sparse_attention(
        q, k, v, layout, scale=scale, attn_mask=mask, impl=impl, return_lse=True
    )
    return _sunk(out, lse, sink)


def _sunk(out: Tensor, lse: Tensor, sink: Tensor) -> Tensor:
    """Return what is left of `out` when a sink, a key without a value, takes its share."""
    share = torch.sigmoid(lse - sink.to(lse.dtype)[:, None])
    return out * share[..., None].to(out.dtype)


def attend_to_all(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t e"],
    rule: Rule,
    *,
    scale: float | None,
    mask: Tensor | None = None,
    sink: Float[Tensor, " h"] | None = None,
) -> Float[Tensor, "b h s e"]:
    """Attend to every key that the rule and the mask allow; arguments as `prefill`."""
    if sink is not None and rule.num_queries > 1:
        layout = BlockLayout.dense(q, k, causal=rule.causal, span=rule.span)
        return _attend(q, k, v, layout, "auto", scale=scale, mask=mask, sink=sink)
    if sink is not None:
        scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
        mask = _with_sink(mask, sink, q, k.shape[2])
        k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
    grouped = q.shape[1] != k.shape[1]
    if grouped and rule.num_queries == 1 and (mask is None or mask.shape[1] == 1):
        # The heads of a group ask the same keys, as if they were so many queries.
        packed = q.unflatten(1, (k.shape[1], -1)).squeeze(3)
        out = F.scaled_dot_product_attention(packed, k, v, attn_mask=mask, scale=scale)
        return out.flatten(1, 2).unsqueeze(2)
    if mask is not None or rule.num_queries == 1:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=scale, enable_gqa=grouped
        )
    return dense_attention(q, k, v, causal=rule.causal, scale=scale, span=rule.span)


def _with_sink(mask: Tensor | None, sink: Tensor, q: Tensor, num_keys: int) -> Tensor:
    """Return a float mask with one more column, the logit of the sink."""
    b, h = q.shape[:2]
    if mask is None:
        bias = q.new_zeros(1, 1, 1, 1)
    elif mask.dtype == torch.bool:
        bias = q.new_zeros(mask.shape).masked_fill(~mask, -math.inf)
    else:
        bias = mask.to(q.dtype)
    extra = sink.to(q.dtype)[:, None, None].expand(b, h, 1, 1)
    return torch.cat([bias.expand(b, h, 1, num_keys), extra], 3)


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in the dtype that autocast gives to torch's own attention."""
    dtype = torch.get_autocast_dtype(tensors[0].device.type)
    return tuple(x if x.dtype == torch.float64 else x.to(dtype) for x in tensors)
