"""Masks of transformers models, described instead of built."""

from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

_ATTRIBUTE = "_foveal_rule"
"""Attribute of our masks that holds their description on the host."""


@dataclass(frozen=True)
class MaskRule:
    """A mask in numbers.

    Attributes:
        span: Sliding window in tokens, or None.
        real: First real key and the one past the last of each sequence, or None without padding.
        stop: Keys that exist; a preallocated cache has more room. None: all.
    """

    span: int | None = None
    real: tuple[tuple[int, int], ...] | None = None
    stop: int | None = None

    def encode(self, batch: int, num_keys: int, device: torch.device | str) -> Tensor | None:
        """Return None for the plain rule, or (b, t): -1 no key yet, 0 padding, else 1 + window.

        Models may cut or move it; then the numbers are read from it again.
        """
        if self == MaskRule():
            return None
        values = torch.full((batch, num_keys), 1 + (self.span or 0), dtype=torch.int32)
        for i, (first, last) in enumerate(self.real or ()):
            values[i, :first] = 0
            values[i, last:] = 0
        if self.stop is not None:
            values[:, self.stop :] = -1
        mask = values.to(device)
        setattr(mask, _ATTRIBUTE, self)
        return mask

    @staticmethod
    def of(mask: Tensor) -> "MaskRule":
        """Return the rule that `encode` wrote."""
        found = getattr(mask, _ATTRIBUTE, None)
        if isinstance(found, MaskRule):
            return found
        values = mask.cpu()
        stop = int(values.ge(0).any(0).sum())
        span = max(1, int(values.max())) - 1
        real = _runs(values[:, :stop].gt(0))
        plain = real is not None and all(x == (0, stop) for x in real)
        return MaskRule(
            span or None, None if plain else real, stop if stop < len(mask[0]) else None
        )


def _runs(real: Tensor) -> tuple[tuple[int, int], ...] | None:
    """Return where each row of real tokens starts and stops; None if one has holes."""
    found: list[tuple[int, int]] = []
    for row in real.cpu():
        places = row.nonzero()[:, 0]
        first, last = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
        if last - first != len(places):
            return None
        found.append((first, last))
    return tuple(found)


@torch.compiler.disable
def foveal_mask(
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
    """Describe a mask without building it, in the form of `MaskRule.encode`.

    One query, padding with holes and rules that are neither causal, a sliding window nor full get
    the exact 4-D mask of torch SDPA, and so does everything with data in it while a CUDA graph is
    captured.
    """
    from transformers.masking_utils import (
        bidirectional_mask_function,
        causal_mask_function,
        sdpa_mask,
    )

    def exact() -> Tensor | None:
        if q_length > 1:
            kwargs.update(allow_is_causal_skip=False, allow_is_bidirectional_skip=False)
        return sdpa_mask(
            batch_size=batch_size,
            q_length=q_length,
            kv_length=kv_length,
            q_offset=q_offset,  # pyright: ignore[reportArgumentType] - a tensor for static caches
            kv_offset=kv_offset,
            mask_function=mask_function,
            attention_mask=attention_mask,
            local_size=local_size,
            device=device,
            **kwargs,
        )

    capturing = torch.device(device).type == "cuda" and torch.cuda.is_current_stream_capturing()
    static = isinstance(q_offset, Tensor)
    if q_length == 1 or (capturing and (static or attention_mask is not None)):
        return exact()
    stop, span = int(q_offset) + q_length - kv_offset, None
    if mask_function is bidirectional_mask_function:
        stop = kv_length  # of another sequence, perhaps
    elif mask_function is not causal_mask_function:
        known = _is_pure(mask_function) and stop <= kv_length
        rows = torch.arange(q_length) + int(q_offset)
        columns = torch.arange(kv_length) + kv_offset
        spans = _spans(mask_function, rows, columns, local_size) if known else ()
        if not spans:
            return exact()
        span = spans[0]
    if stop > kv_length:
        return exact()
    real = None
    if attention_mask is not None:
        padding = attention_mask[:, kv_offset : kv_offset + stop].bool()
        if padding.shape[1] < stop:
            return exact()
        if not bool(padding.all()):
            real = _runs(padding.expand(batch_size, -1))
            if real is None:
                return exact()
    rule = MaskRule(span, real, stop if stop < kv_length else None)
    if capturing and rule != MaskRule():
        return exact()
    return rule.encode(batch_size, kv_length, device)


def _spans(rule: Any, rows: Tensor, columns: Tensor, window: int | None) -> tuple[int | None, ...]:
    """Return the window that makes `rule`, None for a causal one, or nothing if none does.

    Looks at 64 rows, on the CPU.
    """
    some = rows[spread(len(rows))]
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.long)
    found = rule(zero, zero, some[None, None, :, None], columns[None, None, None, :])
    distance = some[:, None] - columns[None, :]
    return tuple(
        span
        for span in (None, window)
        if bool((((distance >= 0) & ((distance < span) if span else True)) == found).all())
    )


def _is_pure(rule: Any) -> bool:
    """Whether a mask rule holds nothing but numbers and rules of transformers itself."""
    if rule is None or isinstance(rule, bool | int | float):
        return True
    if isinstance(rule, tuple | list):
        return all(_is_pure(x) for x in rule)
    if not isinstance(rule, FunctionType) or rule.__module__ != "transformers.masking_utils":
        return False
    return all(_is_pure(cell.cell_contents) for cell in rule.__closure__ or ())


def spread(count: int) -> Int[Tensor, " rows"]:
    """Return at most 64 indices below `count`, evenly spread, the first and the last among them."""
    return torch.linspace(0, count - 1, min(64, count), dtype=torch.float64).long()
