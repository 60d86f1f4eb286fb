"""Mixture of Attention Spans: a sink and a window per KV head, each growing with the length."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from foveal._core.files import read_input, write_json
from foveal.attention.layout import CELL, BlockLayout, check_sizes, num_cells
from foveal.attention.policy.base import Policy, check_count
from foveal.errors import ArgumentError, UnsupportedError

MAX_FILE_BYTES = 4 << 20
"""Largest file of rules that is read; one of 128 layers with 128 heads has under 1 MiB."""

_LONGEST = 2**40
"""Tokens; no rule and no length may be above."""

Rules = tuple[float | int, ...] | tuple[tuple[float | int, ...], ...]
"""One number per KV head, for all layers alike; or one such tuple per layer."""


@dataclass(frozen=True)
class Spans(Policy):
    """Give every KV head a span of its own: span(N) = alpha + beta * N tokens, sink included.

    The span is clipped to [0, N], is at least 128 tokens, and is rounded up to whole 64-token
    cells. Of its span, a head spends `sink` tokens on the first keys and the rest on a window: the
    span/64 - sink/64 cells up to and including the diagonal one (one more where t - s is no
    multiple of 64). A query so sees its window or up to 63 keys less, and the last row of cells
    holds exactly the span, as the cache of a decoder would. All query heads of a KV head share its
    span. No data are looked at.

    Args:
        alphas: Base of the spans, in tokens; may be negative. One number per KV head, or one tuple
            of them per layer, of which `for_layer` picks one.
        betas: Growth of the spans per token of N, unitless; shaped as `alphas`.
        num_tokens: N, in tokens: prompt and reserve for the answer, fixed before the first chunk.
            With None N is the number of keys of each call, right only for a prompt read at once.
        sink: First tokens that every query keeps, a multiple of 64. The least span is 64 more
            than this where that is above 128.

    Raises: ArgumentError: a value is no finite number or out of range, or the shapes differ.
    Source: Fu et al., "Mixture of Attention Spans: Optimizing LLM Inference Efficiency with
        Heterogeneous Sliding-Window Lengths", COLM 2025, arXiv:2406.14909, eq. 2. Differs: any
        number of rules per layer; grouped heads; bottom-right when s != t.
    """

    alphas: Rules
    betas: Rules
    num_tokens: int | None = None
    sink: int = CELL

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("alphas", "betas"):
            _check_rules(name, getattr(self, name))
        if _shape(self.alphas) != _shape(self.betas):
            raise ArgumentError(
                f"Spans: betas has shape {_shape(self.betas)}, must have "
                f"{_shape(self.alphas)} like alphas; give both one number per KV head"
            )
        if self.num_tokens is not None:
            check_count("Spans", "num_tokens", self.num_tokens, least=1)
        if self.num_tokens is not None and self.num_tokens > _LONGEST:
            raise ArgumentError(
                f"Spans: num_tokens is {self.num_tokens}, must be at most 2^40; pass the length "
                "of prompt and answer, or None"
            )
        check_count("Spans", "sink", self.sink)
        if self.sink % CELL:
            raise ArgumentError(
                f"Spans: sink is {self.sink}, must be a multiple of {CELL} and >= 0; use {CELL}"
            )

    @property
    def num_layers(self) -> int | None:
        """Number of layers that have rules of their own, or None when all are alike."""
        return len(self.alphas) if isinstance(self.alphas[0], tuple) else None

    def for_layer(self, layer: int) -> "Spans":
        """Return the rules of one layer, counted from 0.

        Raises: ArgumentError: there is no such layer.
        """
        if self.num_layers is None:
            return self
        if not 0 <= layer < self.num_layers:
            raise ArgumentError(
                f"Spans.for_layer: layer is {layer}, must be from 0 to {self.num_layers - 1}; "
                "the rules are of another model"
            )
        alphas, betas = self.alphas[layer], self.betas[layer]
        return replace(self, alphas=cast("Rules", alphas), betas=cast("Rules", betas))

    def spans(self, num_keys: int) -> tuple[int, ...]:
        """Return the span of every KV head of one layer, in tokens, sink included.

        Args:
            num_keys: N where `num_tokens` is None; else it has no part in it.

        Raises: ArgumentError: the rules differ by layer and `for_layer` has not picked one.
        """
        if self.num_layers is not None:
            raise ArgumentError(
                f"Spans: alphas holds rules of {self.num_layers} layers, must hold those of one "
                "here; pass for_layer(i)"
            )
        n = num_keys if self.num_tokens is None else self.num_tokens
        least = max(2 * CELL, self.sink + CELL)
        rules = zip(cast("list[float]", self.alphas), cast("list[float]", self.betas), strict=True)
        tokens = [max(least, min(alpha + beta * n, n)) for alpha, beta in rules]
        return tuple(CELL * math.ceil(x / CELL - 1e-9) for x in tokens)

    def layout(
        self, q: Tensor, k: Tensor, *, causal: bool = True, scale: float | None = None
    ) -> BlockLayout:
        """Return the kept cells; `scale` has no part in it. See `Policy.layout`.

        Raises:
            ArgumentError: the number of rules is not that of the heads of `k`.
            UnsupportedError: `causal` is False; a span looks back.
        """
        check_sizes("Spans.layout", q, k)
        if not causal:
            raise UnsupportedError(
                "Spans.layout: causal is False, must be True; a span looks back only, use Window"
            )
        (b, h, s, _), (g, t) = q.shape, k.shape[1:3]
        spans = self.spans(t)
        if len(spans) != g:
            raise ArgumentError(
                f"Spans.layout: alphas has {len(spans)} values, must have one per head of k, {g}; "
                "take the rules of this model"
            )
        bands = torch.tensor(spans, device=q.device).sub(self.sink).div(CELL).long()
        bands = bands.repeat_interleave(h // g)[:, None, None]
        columns = torch.arange(num_cells(t), device=q.device)

        def chunk(first: int) -> Tensor:
            rows = torch.arange(first, min(first + CELL, num_cells(s)), device=q.device)
            low = (rows * CELL + t - s).div(CELL, rounding_mode="floor")[:, None]
            kept = (columns > low - bands) | (columns * CELL < self.sink)
            return kept.expand(b, -1, -1, -1)

        chunks = (chunk(first) for first in range(0, num_cells(s), CELL))
        return BlockLayout.from_chunks(chunks, num_queries=s, num_keys=t)

    def kv_density(self, num_keys: int) -> float:
        """Return the KV density: cells of the last row, over the cells of `num_keys` keys.

        This is the memory of a decoder's cache, and what the paper calls density. It is the mean
        over the KV heads (and layers), in [0, 1], for a prompt of `num_keys` tokens.
        """
        m = num_cells(self._checked("kv_density", num_keys))
        spans = [x for layer in self._layers() for x in layer.spans(num_keys)]
        return sum(min(x // CELL, m) for x in spans) / (m * len(spans))

    def area_density(self, num_keys: int) -> float:
        """Return the kept fraction of the causal token pairs of `num_keys` tokens.

        This is the work of a prompt, and what `BlockLayout.density` is. Early rows see few keys and
        keep them all, so it is up to about twice `kv_density`. Mean over KV heads (and layers).
        """
        self._checked("area_density", num_keys)
        spans = [x for layer in self._layers() for x in layer.spans(num_keys)]
        distinct = sorted(set(spans))
        one = replace(
            self, alphas=tuple(map(float, distinct)), betas=(0.0,) * len(distinct), num_tokens=None
        )
        x = torch.empty(1).expand(1, len(distinct), num_keys, 1)
        kept = one.layout(x, x)
        shares = {
            span: replace(kept, bits=kept.bits[:, i : i + 1]).density
            for i, span in enumerate(distinct)
        }
        return sum(shares[x] for x in spans) / len(spans)

    def _layers(self) -> "list[Spans]":
        return [self.for_layer(i) for i in range(self.num_layers or 1)]

    def _checked(self, name: str, num_keys: int) -> int:
        if not 1 <= num_keys <= _LONGEST:
            raise ArgumentError(f"Spans.{name}: num_keys is {num_keys}, must be >= 1; pass tokens")
        return num_keys

    @classmethod
    def load(cls, path: str | Path, *, num_tokens: int | None = None, sink: int = CELL) -> "Spans":
        """Read `{"alphas": [[...], ...], "betas": [[...], ...]}`: per layer, a rule per head.

        Args:
            path: A file of at most 4 MiB; it is checked, not trusted.
            num_tokens: See `Spans`.
            sink: See `Spans`.

        Raises: ArgumentError: the file is missing, too large, no JSON, or holds anything but equal
            numbers of finite numbers per layer. Says where.
        """
        path = read_input(path, what="Spans.load")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ArgumentError(
                f"Spans.load: {path} has {size} bytes, must have at most {MAX_FILE_BYTES}; "
                "it is no file of rules"
            )
        try:
            found: Any = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ArgumentError(
                f"Spans.load: {path} is no JSON ({type(error).__name__}); make it anew"
            ) from error
        if not isinstance(found, dict) or set(cast("dict[str, Any]", found)) != {"alphas", "betas"}:
            raise ArgumentError(
                f"Spans.load: {path} must hold an object with alphas and betas, no more; "
                "see docs/attention/moa.md"
            )
        rules = {name: _read_rules(path, name, found[name]) for name in ("alphas", "betas")}
        for name, value in rules.items():
            _check_rules(name, value)
        return cls(rules["alphas"], rules["betas"], num_tokens=num_tokens, sink=sink)

    def save(self, path: str | Path) -> None:
        """Write the rules as `load` reads them; `num_tokens` and `sink` are not part of it.

        Raises: ArgumentError: the rules are the same for all layers, however many; or `path`
            cannot be written.
        """
        if self.num_layers is None:
            raise ArgumentError(
                "Spans.save: alphas holds one rule per head for all layers, must hold one tuple "
                "per layer; repeat it: (alphas,) * num_layers"
            )
        write_json(path, {"alphas": self.alphas, "betas": self.betas})


def _check_rules(name: str, value: object) -> None:
    """Raise ArgumentError unless `value` is a tuple of numbers, or of equally long ones of them."""
    rule = "must be a tuple of one finite number per KV head, or one such tuple per layer"
    if not isinstance(value, tuple) or not value:
        raise ArgumentError(f"Spans: {name} is {value!r:.60}, {rule}; pass (0.0, 512.0)")
    entries = cast("tuple[object, ...]", value)
    layers = entries if isinstance(entries[0], tuple) else (entries,)
    for i, layer in enumerate(layers):
        where = f"{name}[{i}]" if layers is entries else name
        if not isinstance(layer, tuple) or not layer:
            raise ArgumentError(f"Spans: {where} is {layer!r:.60}, {rule}; one kind only")
        numbers = cast("tuple[object, ...]", layer)
        if len(numbers) != len(cast("tuple[object, ...]", layers[0])):
            raise ArgumentError(
                f"Spans: {where} has {len(numbers)} heads, must have as many as {name}[0]; "
                "every layer needs every head"
            )
        for j, x in enumerate(numbers):
            good = isinstance(x, int | float) and not isinstance(x, bool)
            if not good or not abs(cast("float", x)) <= _LONGEST:
                raise ArgumentError(f"Spans: {where}[{j}] is {x!r:.40}, {rule}; mend that one")


def _shape(rules: Rules) -> tuple[int, ...]:
    first = rules[0]
    return (len(rules), len(first)) if isinstance(first, tuple) else (len(rules),)


def _read_rules(path: Path, name: str, value: Any) -> tuple[tuple[Any, ...], ...]:
    layers = cast("list[Any]", value)
    if not isinstance(value, list) or not all(isinstance(layer, list) for layer in layers):
        raise ArgumentError(
            f"Spans.load: {name} in {path} is {value!r:.60}, must be a list of one list per "
            "layer; wrap the rules of a single layer once more"
        )
    return tuple(tuple(layer) for layer in layers)
