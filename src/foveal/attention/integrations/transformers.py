"""The seam to transformers: the registered attention "foveal".

transformers hands a registered attention grouped keys and values, the layer's window and whatever
the registered mask function returned; see `masks`.
"""

# pyright: reportPrivateUsage=false
# transformers has no public way to take an attention out of its registries again.

import contextlib
import copy
import inspect
import math
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from foveal._core.lazy import require
from foveal.attention.integrations.call import attend_to_all, dense, prefill
from foveal.attention.integrations.copies import SITE, guard, release
from foveal.attention.integrations.masks import MaskRule, foveal_mask
from foveal.attention.integrations.site import Order, Plan, Site
from foveal.attention.integrations.visible import Rule
from foveal.attention.policy.xattention import XAttention
from foveal.errors import UnsupportedError

NAME = "foveal"
"""The name under which attention is registered with transformers."""

_REFUSED = (
    "softcap",
    "sinks",
    "head_mask",
    "cu_seq_lens_q",
    "block_table",
    "indices",
    "block_indices",
)

_PLAIN = MaskRule()

_default = Plan(XAttention())
"""What runs where `attn_implementation="foveal"` is set and nothing is attached."""

_lock = threading.Lock()
_users = 0


# --- attention -----------------------------------------------------------------------------------


@torch.compiler.disable
def foveal_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend for a transformers module, by the plan that it is attached to."""
    kind, site = type(module).__name__, vars(module).get(SITE)
    if not isinstance(site, Site):
        site = Site(_default, "", kind, layer=int(getattr(module, "layer_idx", 0) or 0))
    for name in _REFUSED:
        if kwargs.get(name) is not None:
            raise UnsupportedError(
                f"attach: {kind} passes {name}, which must be absent; this model is not "
                "supported, run it without attach"
            )
    if kwargs.get("output_attentions"):
        raise UnsupportedError(
            f"attach: {kind} is asked for output_attentions, must not be; sparse attention has no "
            "full map, run it without attach"
        )
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    sink = None if s_aux is None else s_aux.flatten()
    described, exact = _PLAIN, attention_mask
    if attention_mask is not None and attention_mask.ndim == 2:
        # As with torch SDPA, the mask says what may be seen, whatever the layer calls its window.
        described, exact = MaskRule.of(attention_mask), None
        key, value = key[:, :, : described.stop], value[:, :, : described.stop]
    elif attention_mask is not None and attention_mask.ndim != 4:
        raise UnsupportedError(
            f"attach: {kind} passes a mask of shape {tuple(attention_mask.shape)}, must have 2 or "
            "4 axes; run it without attach"
        )
    call = _Call(site, query, key, value, causal, scaling, sink)
    if query.shape[2] == 1:
        out = call.exact("decode", described, exact, bias=position_bias, dropout=dropout)
    elif dropout:
        out = call.exact("dropout", described, exact, bias=position_bias, dropout=dropout)
    elif position_bias is not None:
        out = call.exact("position bias", described, exact, bias=position_bias)
    elif exact is not None:
        out = call.exact("4-D mask", described, exact)
    else:
        out = call.sparse(described)
    return out.transpose(1, 2).contiguous(), None


@dataclass(frozen=True)
class _Call:
    """One call of an attention module: (b, h, s, d), (b, g, t, d), (b, g, t, e)."""

    site: Site
    q: Tensor
    k: Tensor
    v: Tensor
    causal: bool
    scale: float | None
    sink: Tensor | None

    def sparse(self, described: MaskRule) -> Tensor:
        """Attend by the plan, each padded sequence alone on its real tokens."""
        q, k, v = self.q, self.k, self.v
        s, t = q.shape[2], k.shape[2]
        if described.real is None:
            return self._prefill(q, k, v, described.span)
        self.site.reach()
        out = q.new_zeros(*q.shape[:3], v.shape[3])
        for i, (first, last) in enumerate(described.real):
            if first == last:
                continue
            # Causal queries are the last s positions. Others as many as keys sit beside them, or
            # are those of another sequence, which nobody says: then none may be left out.
            low, high = 0, s
            if self.causal or s == t:
                low, high = max(0, first - (t - s)), max(0, last - (t - s))
            one = slice(i, i + 1)
            keys, values = k[one, :, first:last], v[one, :, first:last]
            if low < high:
                found = self._prefill(q[one, :, low:high], keys, values, described.span)
                out[one, :, low:high] = found.to(out.dtype)
            for beside in () if self.causal else (slice(0, low), slice(high, s)):
                some = q[one, :, beside]
                if some.shape[2]:
                    out[one, :, beside] = self._beside(some, keys, values).to(out.dtype)
        return out

    def _beside(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rule = Rule(q.shape[2], k.shape[2], causal=False)

        def compute() -> Tensor:
            return attend_to_all(q, k, v, rule, scale=self.scale, sink=self.sink)

        return dense(self.site, "queries beside padded keys", q, rule, compute)

    def _prefill(self, q: Tensor, k: Tensor, v: Tensor, span: int | None) -> Tensor:
        return prefill(
            self.site, q, k, v, causal=self.causal, scale=self.scale, span=span, sink=self.sink
        )

    def exact(
        self,
        reason: str,
        described: MaskRule,
        mask: Tensor | None,
        *,
        bias: Tensor | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Attend to everything that the mask allows, and count why."""
        q, k, v = self.q, self.k, self.v
        s, t = q.shape[2], k.shape[2]
        causal = self.causal and s > 1
        span = described.span if causal and (described.span or t) < t else None
        rule = Rule(s, t, causal, span)
        if mask is not None:
            mask = mask[..., :t]
        elif described.real is not None or bias is not None or (dropout and rule.span):
            mask = _explicit(rule, described.real, q.device)
        elif dropout and causal and s != t:
            mask = _explicit(rule, None, q.device)
        if bias is not None and mask is not None:
            bias = bias[..., :t]
            whole = mask.dtype == torch.bool
            mask = torch.where(mask, bias, -math.inf) if whole else mask + bias
        inner = rule if mask is None else Rule(s, t, causal=False)

        def compute() -> Tensor:
            if not dropout:
                return attend_to_all(q, k, v, inner, scale=self.scale, mask=mask, sink=self.sink)
            if self.sink is not None:
                raise UnsupportedError(
                    f"attach: {self.site.kind} has attention sinks and dropout {dropout}, must "
                    "have one of them; call model.eval()"
                )
            return nn.functional.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=inner.causal,
                scale=self.scale,
                enable_gqa=q.shape[1] != k.shape[1],
            )

        return dense(self.site, reason, q, rule, compute)


def _explicit(rule: Rule, real: tuple[tuple[int, int], ...] | None, device: torch.device) -> Tensor:
    """Return the boolean mask (b or 1, 1, s, t) of a rule and of padding."""
    keys = torch.arange(rule.num_keys, device=device)
    limit = torch.arange(rule.num_queries, device=device)[:, None] + rule.num_keys
    limit = limit - rule.num_queries
    mask = keys <= limit if rule.causal else torch.ones_like(keys <= limit)
    if rule.span is not None:
        mask = mask & (keys > limit - rule.span)
    if real is None:
        return mask[None, None]
    found = torch.tensor(real, device=device)
    inside = (keys >= found[:, :1]) & (keys < found[:, 1:])
    return mask & inside[:, None, None, :]


# --- switching on and off ------------------------------------------------------------------------


def is_ours(model: nn.Module) -> bool:
    """Whether a model looks its attention up in transformers' registry."""
    if not any(x.__module__.startswith("transformers.") for x in type(model).__mro__):
        return False  # so that transformers is not imported for nothing
    from transformers import PreTrainedModel

    return isinstance(model, PreTrainedModel) and model._can_set_attn_implementation()


def _check_declared(model: nn.Module) -> None:
    """Refuse a model without SDPA support, unless for a sink or a softcap, which a call shows."""
    if getattr(model, "_supports_sdpa", True):
        return
    source = inspect.getsource(sys.modules[type(model).__module__])
    if "s_aux=" not in source and "softcap=" not in source:
        raise UnsupportedError(
            f"attach: {type(model).__name__} declares no SDPA support, must have it, since its own "
            "attention may do more than softmax; pass modules= if it calls "
            "F.scaled_dot_product_attention, or run it without attach"
        )


def register() -> None:
    """Make `attn_implementation="foveal"` known to transformers for good.

    A model that was loaded with it and is not attached runs `XAttention()` on prompts of 1024 keys
    and more, dense attention otherwise, and keeps no receipt. `attach` registers by itself.

    Raises: MissingExtraError: transformers is not installed.

    Example: >>> foveal.attention.register()
        >>> model = AutoModelForCausalLM.from_pretrained(path, attn_implementation="foveal")
    """
    require("transformers", "llm", "register")
    _enter()


def _enter() -> None:
    global _users
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    with _lock:
        _users += 1
        AttentionInterface.register(NAME, foveal_attention)
        AttentionMaskInterface.register(NAME, foveal_mask)


def _leave() -> None:
    global _users
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    with _lock:
        _users -= 1
        if not _users:
            AttentionInterface._global_mapping.pop(NAME, None)
            AttentionMaskInterface._global_mapping.pop(NAME, None)


@contextlib.contextmanager
def attached(model: nn.Module, plan: Plan, prefix: str = "") -> Generator[list[Site]]:
    """Switch a transformers model to our attention, on copies of its configs.

    Args:
        model: Of which `is_ours` holds.
        plan: What to run.
        prefix: Path of the model, put before the names of its modules.

    Yields: The sites, one for every module: which of them are attentions shows when they call.

    Raises: UnsupportedError: the model declares no SDPA support, for a reason that we do not know.
    """
    from transformers import PreTrainedConfig, PreTrainedModel

    _check_declared(model)
    copies: dict[int, Any] = {}
    held: list[tuple[nn.Module, Site]] = []
    order = Order()
    _enter()
    try:
        with _lock:
            for path, module in model.named_modules():
                layer = getattr(module, "layer_idx", None)
                name = ".".join(x for x in (prefix, path) if x)
                outer = vars(module).get(SITE)
                site = Site(
                    plan,
                    name or type(module).__name__,
                    type(module).__name__,
                    layer if isinstance(layer, int) else -1,
                    order,
                    outer if isinstance(outer, Site) else None,
                    {k: x for k, x in vars(module).items() if isinstance(x, PreTrainedConfig)},
                )
                held.append((module, site))
                vars(module)[SITE] = site
                guard(module)
                for key, value in site.before.items():
                    setattr(module, key, copy.deepcopy(value, copies))
            cast("PreTrainedModel", model).set_attn_implementation(NAME)  # see is_ours
        yield [site for _, site in held]
    finally:
        with _lock:
            for module, site in held:
                _take_out(module, site)
                release(module)
        _leave()


def _take_out(module: nn.Module, site: Site) -> None:
    """Put the configs of a module back; where a newer `attach` holds it, let that one do so."""
    newest: Site | None = vars(module).get(SITE)
    if newest is site:
        for key, value in site.before.items():
            setattr(module, key, value)
        vars(module)[SITE] = site.outer
        if site.outer is None:
            del vars(module)[SITE]
    while newest is not None and newest.outer is not site:
        newest = newest.outer
    if newest is not None:
        newest.outer, newest.before = site.outer, site.before
