"""Put sparse attention into a transformers model for the length of a `with` block."""

# pyright: reportPrivateUsage=false
# transformers has no public way to take an attention out of its registries again.

import contextlib
import copy
import math
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from foveal._core.lazy import require
from foveal.attention.attend import check_precision
from foveal.attention.block_sparse.api import block_sparse_attention, choose_impl
from foveal.attention.block_sparse.dense import dense_attention
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.layout import BlockLayout
from foveal.attention.policy.base import Policy
from foveal.attention.precision import Sage
from foveal.errors import ArgumentError, UnsupportedError
from foveal.receipt import Receipt

NAME = "foveal"
"""The name under which attention is registered with transformers while attached."""

_SAMPLED_ROWS = 64
_REFUSED = ("softcap", "s_aux", "sinks", "position_bias", "head_mask", "cu_seq_lens_q")


@dataclass
class _LayerRecord:
    kept: int = 0
    full: int = 0
    scoring: float = 0.0
    densities: list[float] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    layout: BlockLayout | None = None


class Handle:
    """What an attached model computed so far. Made by `attach`; readable during and after it."""

    def __init__(self, policy: Policy | None, precision: Sage | None, seed: int) -> None:
        """Start with nothing counted."""
        self._policy = policy
        self._precision = precision
        self._seed = seed
        self._layers: dict[int, _LayerRecord] = {}
        self._dense: Counter[str] = Counter()
        self._impls: Counter[str] = Counter()
        self._device = torch.device("cpu")
        self._seconds = {"select": 0.0, "attend": 0.0, "measure": 0.0}
        self._calls = 0

    @property
    def receipt(self) -> Receipt:
        """Block products spent and full, and the measured loss, over all prefills so far.

        A block product is QK or PV of one 64 x 64 cell of one head. Decoding steps (one query) are
        dense and not in `spent` and `full`. `details` holds the density per layer, the cost of
        choosing cells in the same unit, the calls that went dense by reason, seconds, and under
        "impl" how many prefills each implementation ran: "cpu" is plain torch on any device (see
        "device"), "dense" is torch SDPA, "quantized" emulates the formats of `precision`.

        Raises: ArgumentError: no prefill ran.
        """
        kept = sum(layer.kept for layer in self._layers.values())
        full = sum(layer.full for layer in self._layers.values())
        if not full:
            raise ArgumentError(
                "Handle.receipt: no prefill was counted, must be at least one; run the model on "
                "more than one token first"
            )
        layers = sorted(self._layers.items())
        losses = {str(i): float(torch.stack(x.losses).mean()) for i, x in layers if x.losses}
        loss = sum(losses.values()) / len(losses) if losses else None
        means = {str(i): sum(x.densities) / len(x.densities) for i, x in layers if x.densities}
        return Receipt(
            stage="attention",
            unit="block products",
            spent=2.0 * kept,
            full=2.0 * full,
            loss=loss,
            loss_metric=""
            if loss is None
            else f"relative L2 error of {_SAMPLED_ROWS} sampled query rows",
            seconds=self._seconds["select"] + self._seconds["attend"],
            details={
                "policy": repr(self._policy),
                "precision": repr(self._precision),
                "impl": dict(self._impls),
                "device": str(self._device),
                "density_per_layer": means,
                "loss_per_layer": losses,
                "scoring_block_products": sum(x.scoring for _, x in layers),
                "dense_calls": dict(self._dense),
                "calls": self._calls,
                "select_seconds": self._seconds["select"],
                "attend_seconds": self._seconds["attend"],
                "measure_seconds": self._seconds["measure"],
            },
        )

    @property
    def density(self) -> float:
        """Kept fraction of token pairs, averaged over layers and prefills, in [0, 1]."""
        values = [x for layer in self._layers.values() for x in layer.densities]
        return sum(values) / len(values) if values else 1.0

    def layouts(self, layer: int, *, head: int = 0) -> Bool[Tensor, "n m"]:
        """Return the cells kept in the newest prefill of one layer and query head.

        Args:
            layer: Index of the layer.
            head: Index of the query head of the first sequence.

        Raises: ArgumentError: that layer was not reached, or has no such head.
        """
        record = self._layers.get(layer)
        if record is None or record.layout is None:
            raise ArgumentError(
                f"Handle.layouts: layer is {layer}, must be one of {sorted(self._layers)}; run a "
                "prefill first"
            )
        if not 0 <= head < record.layout.shape[1]:
            raise ArgumentError(
                f"Handle.layouts: head is {head}, must be in [0, {record.layout.shape[1]}); "
                "pick another"
            )
        return record.layout.to_bool()[0, head]

    # --- called by the model ------------------------------------------------------------------

    def _forward(
        self,
        module: nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        sliding_window: int | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        self._calls += 1
        for name in _REFUSED:
            if kwargs.get(name) is not None:
                raise UnsupportedError(
                    f"attach: {type(module).__name__} passes {name}, which must be absent; this "
                    "model is not supported, run it without attach"
                )
        if dropout:
            raise UnsupportedError(
                f"attach: attention dropout is {dropout}, must be 0; call model.eval() first"
            )
        if kwargs.get("output_attentions"):
            raise UnsupportedError(
                "attach: output_attentions is True, must be False; sparse attention has no full map"
            )
        causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
        s, t = q.shape[2], k.shape[2]
        if s == 1 or (mask is not None and mask.ndim == 4):
            self._dense["decode" if s == 1 else "4-D mask"] += 1
            out = self._timed_dense(q, k, v, mask, causal and s > 1 and mask is None, scaling)
        elif mask is None:
            out = self._prefill(module, q, k, v, causal, scaling, sliding_window)
        else:
            # Ours, from `_mask`: (b, t), 0 for padding, else 1 + window (0: none).
            span = int(mask.max()) - 1 or sliding_window
            out = q.new_zeros(*q.shape[:3], v.shape[3])
            for i, real in enumerate(mask.ne(0)):
                found = real.nonzero()[:, 0]
                if not len(found):
                    continue
                run = (slice(i, i + 1), slice(None), slice(int(found[0]), int(found[-1]) + 1))
                if s != t:
                    run = (slice(i, i + 1), slice(None), slice(None))
                out[run] = self._prefill(module, q[run], k[run], v[run], causal, scaling, span)
        return out.transpose(1, 2).contiguous(), None

    def _timed_dense(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
        scale: float | None,
    ) -> Tensor:
        start = _clock(q.device)
        if mask is None:
            out = dense_attention(q, k, v, causal=causal, scale=scale)
        else:
            grouped = q.shape[1] != k.shape[1]
            out = nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask[..., : k.shape[2]], scale=scale, enable_gqa=grouped
            )
        self._seconds["attend"] += _clock(q.device) - start
        return out

    def _prefill(
        self,
        module: nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        causal: bool,
        scale: float | None,
        span: int | None,
    ) -> Tensor:
        span = span if causal and span is not None and span < k.shape[2] else None
        index = int(getattr(module, "layer_idx", 0) or 0)
        start = _clock(q.device)
        policy = None if self._policy is None else self._policy.for_layer(index)
        if policy is None:
            layout = BlockLayout.dense(q, k, causal=causal, span=span)
        else:
            layout = policy.layout(q, k, causal=causal, scale=scale)
            layout = layout.with_span(span)
        middle = _clock(q.device)
        if self._precision is None:
            impl = choose_impl(layout)
            out = block_sparse_attention(q, k, v, layout, scale=scale, impl=impl)
        else:
            impl = "quantized"
            out = quantized_attention(q, k, v, layout, precision=self._precision, scale=scale)
        end = _clock(q.device)
        self._impls[impl] += 1
        self._device = q.device
        layer = self._layers.setdefault(index, _LayerRecord())
        layer.layout = layout
        kept, full = layout.num_kept, layout.num_full
        layer.kept += kept
        layer.full += full
        layer.densities.append(layout.density)
        if policy is not None:
            layer.scoring += policy.scoring_cost(layout)
        if kept == full and self._precision is None:
            self._dense["every cell kept" if self._policy else "no policy"] += 1
            layer.losses.append(torch.zeros((), device=q.device))
        else:
            layer.losses.append(self._loss(q, k, v, out, layout, scale))
        self._seconds["select"] += middle - start
        self._seconds["attend"] += end - middle
        self._seconds["measure"] += _clock(q.device) - end
        return out

    def _loss(
        self,
        q: Float[Tensor, "b h s d"],
        k: Float[Tensor, "b g t d"],
        v: Float[Tensor, "b g t e"],
        out: Float[Tensor, "b h s e"],
        rule: BlockLayout,
        scale: float | None,
    ) -> Float[Tensor, ""]:
        """Relative L2 error of sampled rows against exact attention, mean over batch and heads."""
        with torch.no_grad():
            random = torch.Generator().manual_seed(self._seed + self._calls)
            rows = torch.randperm(q.shape[2], generator=random)[:_SAMPLED_ROWS].to(q.device)
            seen = rule.token_rule(rows, torch.arange(k.shape[2], device=q.device))
            scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
            group = q.shape[1] // k.shape[1]
            errors: list[Tensor] = []
            for head in range(q.shape[1]):
                keys, values = k[:, head // group].float(), v[:, head // group].float()
                logits = q[:, head, rows].float() @ keys.transpose(1, 2) * scale
                weights = torch.softmax(logits.masked_fill(~seen, -math.inf), -1).nan_to_num(0.0)
                exact = weights @ values
                difference = (out[:, head, rows].float() - exact).flatten(1).norm(dim=1)
                size = exact.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
                errors.append(difference / size)
            return torch.stack(errors).mean()


def _clock(device: torch.device) -> float:
    """Return seconds, after the work queued on a CUDA device is done."""
    if device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Any = None,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    device: torch.device | str = "cpu",
    **kwargs: Any,
) -> Tensor | None:
    """Describe a mask without building it: None, or (b, t) with 0 for padding, else 1 + window.

    One query, a preallocated cache or padding with holes get the exact 4-D mask of SDPA.
    """
    from transformers.masking_utils import sdpa_mask

    def exact() -> Tensor | None:
        return sdpa_mask(
            batch_size=batch_size,
            q_length=q_length,
            kv_length=kv_length,
            q_offset=int(q_offset),
            kv_offset=kv_offset,
            mask_function=mask_function,
            attention_mask=attention_mask,
            local_size=local_size,
            device=device,
            **{**kwargs, "allow_is_causal_skip": False},
        )

    if q_length == 1 or int(q_offset) + q_length != kv_offset + kv_length:
        return exact()
    # The rule must be causal, causal with a window, or none; look at 64 rows of it.
    rows = torch.linspace(0, q_length - 1, min(64, q_length), device=device).long() + q_offset
    columns = torch.arange(kv_length, device=device) + kv_offset
    batch = torch.arange(batch_size, device=device)[:, None, None]
    head = torch.zeros((), dtype=torch.long, device=device)
    try:
        rule = mask_function(batch, head, rows[None, :, None], columns[None, None, :])
    except (RuntimeError, IndexError, TypeError):
        rule = torch.zeros((), dtype=torch.bool, device=device)
    distance = rows[:, None] - columns[None, :]
    windows = {None, local_size}
    plain = [(distance >= 0) & ((distance < w) if w else True) for w in windows]
    spans = [w for w, p in zip(windows, plain, strict=True) if bool((rule == p).all())]
    everything = bool(torch.as_tensor(rule).all()) and q_length == kv_length
    if not spans and not everything:
        raise UnsupportedError(
            "attach: the model asks for a mask that is neither causal, a sliding window nor full "
            "(packed sequences, prefixes, chunks); run one sequence at a time, or without attach"
        )
    span = None if None in spans or not spans else spans[0]
    padding = None
    if attention_mask is not None:
        padding = attention_mask[:, kv_offset : kv_offset + kv_length].bool()
        padding = None if bool(padding.all()) else padding
    if padding is None and span is None:
        return None
    if padding is not None:
        jumps = padding.int().diff(dim=1).abs().sum(1)
        ends = padding[:, 0] | padding[:, -1]
        if q_length != kv_length or not bool(((jumps == 0) | ((jumps == 1) & ends)).all()):
            return exact()
    real = torch.ones(batch_size, kv_length, device=device) if padding is None else padding
    return real.to(torch.int32) * (1 + (span or 0))


@contextlib.contextmanager
def attach(
    model: nn.Module, *, policy: Policy | None, precision: Sage | None = None, seed: int = 0
) -> Generator[Handle, None, None]:
    """Run a transformers model with sparse prefill attention inside the `with` block.

    Prefill (several queries) computes the cells that `policy` keeps; decoding (one query) is
    dense. Sliding-window layers keep their window exactly. A padded batch is exact: each sequence
    runs on its real tokens. Padding with holes, preallocated caches and 4-D masks run dense with
    their exact mask; `handle.receipt.details["dense_calls"]` counts them. Configs are copied while
    attached and put back, also after an exception.

    Args:
        model: A transformers model whose attention goes through `AttentionInterface`.
        policy: Chooses the cells, per layer and call. None runs dense, counted and timed.
        precision: `Sage(...)` quantizes prefills, for inference only; None computes in the dtype of
            the model. Calls that go dense with a 4-D mask, and decoding, are not quantized.
        seed: Seed of the query rows on which the loss is measured.

    Yields: A handle with `.receipt`, `.density` and `.layouts(layer)`.

    Raises:
        UnsupportedError: not such a model; a mask, softcap, sinks, dropout or attention output
            that we do not do; another `attach` is active; or the model never reached us.
        MissingExtraError: transformers is not installed.

    Cost: the loss measurement adds 64 query rows per layer and head to a prefill.
    """
    check_precision("attach", precision)
    require("transformers", "llm", "attach")
    from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
    from transformers.masking_utils import AttentionMaskInterface

    if not isinstance(model, PreTrainedModel) or not model._can_set_attn_implementation():
        raise UnsupportedError(
            f"attach: model is a {type(model).__name__}, must be a transformers model that uses "
            "AttentionInterface; call attend(q, k, v, policy=...) inside your own attention"
        )
    if NAME in AttentionInterface._global_mapping:
        raise UnsupportedError(
            "attach: another attach is active, must be the only one; leave its with block first"
        )
    handle = Handle(policy, precision, seed)
    copies: dict[int, Any] = {}
    originals: list[tuple[nn.Module, str, Any]] = []
    try:
        AttentionInterface.register(NAME, handle._forward)
        AttentionMaskInterface.register(NAME, _mask)
        for module in model.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, PreTrainedConfig):
                    originals.append((module, name, value))
                    setattr(module, name, copy.deepcopy(value, copies))
        model.set_attn_implementation(NAME)
        yield handle
    finally:
        for module, name, value in originals:
            setattr(module, name, value)
        AttentionInterface._global_mapping.pop(NAME, None)
        AttentionMaskInterface._global_mapping.pop(NAME, None)
    if not handle._calls:
        raise UnsupportedError(
            f"attach: {type(model).__name__} never called our attention, must do so at least once; "
            "run the model inside the with block, and compile it only after attaching"
        )
