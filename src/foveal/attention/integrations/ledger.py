"""The books of an attached model: what was computed, kept as small tensors on the device.

Nothing here reads a number from the device before somebody asks for it, so that a forward pass
neither waits nor breaks the capture of a CUDA graph; a replayed graph adds to the same tensors.
"""

import functools
from collections import Counter
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from foveal.attention.integrations.stopwatch import Stopwatch
from foveal.attention.integrations.visible import Rule, count, kept, pairs_per_cell
from foveal.attention.layout import BlockLayout, num_cells
from foveal.attention.policy.base import Policy
from foveal.errors import ArgumentError

# Columns of `_Record.sums`.
_KEPT, _FULL, _PREFILLS, _DENSITY, _LOSSES, _LOSS = range(6)


@dataclass(frozen=True)
class Totals:
    """What one layer computed, read from the device.

    Attributes:
        layer: Index that the policy was asked for.
        kept: Cells computed.
        full: Cells that dense attention computes.
        density: Kept fraction of token pairs, mean over prefills.
        prefills: How many.
        loss: Mean measured loss, or None.
        scoring: Cost of choosing cells, in block products.
    """

    layer: int
    kept: float
    full: float
    density: float
    prefills: int
    loss: float | None
    scoring: float


@dataclass
class _Record:
    layer: int
    sums: Tensor
    newest: BlockLayout | tuple[int, int, Rule]
    scored: Counter[tuple[Policy, int, int, Rule]] = field(
        default_factory=Counter[tuple[Policy, int, int, Rule]]
    )


@dataclass
class Ledger:
    """What an attached model computed, by name of the module.

    Attributes:
        dense: Calls that went dense, by reason.
        rows: How many query rows the measurements of a loss looked at.
        impls: Prefills by implementation.
        calls: Calls of any kind.
        watch: Seconds by "select", "attend" and "measure".
        device: Device type of the newest call.
    """

    dense: Counter[str] = field(default_factory=Counter[str])
    rows: set[int] = field(default_factory=set[int])
    impls: Counter[str] = field(default_factory=Counter[str])
    calls: int = 0
    watch: Stopwatch = field(default_factory=Stopwatch)
    device: str = "cpu"
    _records: dict[str, _Record] = field(default_factory=dict[str, _Record])

    def count_dense(
        self, name: str, layer: int, q: Tensor, rule: Rule, reason: str, *, impl: str, loss: bool
    ) -> None:
        """Count a prefill in which every visible cell was computed, in full precision.

        Args:
            name: Of the module.
            layer: Index of its layer.
            q: Its queries (b, h, s, d).
            rule: Token rule.
            reason: Why it went dense.
            impl: What ran.
            loss: Whether losses are measured; this one is 0.
        """
        self.dense[reason] += 1
        self.impls[impl] += 1
        b, h = q.shape[:2]
        record = self._record(name, layer, q.device, (b, h, rule))
        record.sums[: _FULL + 1].add_(b * h * count(rule)[0])
        record.sums[_PREFILLS : _LOSSES + loss].add_(1)

    def count_sparse(
        self,
        name: str,
        layer: int,
        layout: BlockLayout,
        policy: Policy | None,
        *,
        impl: str,
        loss: Tensor | None,
    ) -> None:
        """Count a prefill that computed the cells of `layout`, chosen by `policy`.

        Other arguments as `count_dense`; `loss` is the measured one, or None.
        """
        self.impls[impl] += 1
        record = self._record(name, layer, layout.bits.device, layout)
        b, h = layout.shape[:2]
        rule = Rule(layout.num_queries, layout.num_keys, layout.causal, layout.span)
        cells, pairs = kept(layout, _pairs(rule, layout.bits.device))
        full_cells, full_pairs = count(rule)
        record.sums[_KEPT].add_(cells)
        record.sums[_FULL].add_(b * h * full_cells)
        record.sums[_PREFILLS].add_(1)
        record.sums[_DENSITY].add_(pairs / (b * h * full_pairs) if full_pairs else 1.0)
        if loss is not None:
            record.sums[_LOSSES].add_(1)
            record.sums[_LOSS].add_(loss)
        if policy is not None:
            record.scored[policy, b, h, replace(rule, span=None)] += 1

    def _record(
        self,
        name: str,
        layer: int,
        device: torch.device,
        newest: BlockLayout | tuple[int, int, Rule],
    ) -> _Record:
        self.device = device.type
        record = self._records.get(name)
        if record is None:
            # fp64 counts exactly up to 2^53; not every device has it.
            dtype = torch.float32 if device.type == "mps" else torch.float64
            with torch.inference_mode(False):  # so that it can be added to in any mode
                record = _Record(layer, torch.zeros(6, dtype=dtype, device=device), newest)
            self._records[name] = record
        elif record.sums.device != device:
            record.sums = record.sums.to(device)
        record.newest = newest
        return record

    def totals(self) -> dict[str, Totals]:
        """Return what every module computed, by name; waits for the device."""
        found: dict[str, Totals] = {}
        for name, record in self._records.items():
            sums: list[float] = record.sums.tolist()
            prefills = int(sums[_PREFILLS])
            found[name] = Totals(
                layer=record.layer,
                kept=sums[_KEPT],
                full=sums[_FULL],
                density=sums[_DENSITY] / max(1, prefills),
                prefills=prefills,
                loss=sums[_LOSS] / sums[_LOSSES] if sums[_LOSSES] else None,
                scoring=_scoring(record),
            )
        return found

    def newest(self, layer: int | str) -> BlockLayout:
        """Return the cells kept in the newest prefill of a layer, by index or module name.

        Raises: ArgumentError: that layer was not reached, or the index stands for several modules.
        """
        names = [n for n, x in self._records.items() if layer in (n, x.layer)]
        if len(names) != 1:
            known = sorted({x.layer for x in self._records.values()})
            several = f"stands for {names}" if names else f"must be one of {known}"
            raise ArgumentError(
                f"Handle.layouts: layer is {layer!r}, {several}; "
                + ("pass one of these names" if names else "run a prefill first")
            )
        found = self._records[names[0]].newest
        if isinstance(found, BlockLayout):
            return found
        b, h, rule = found
        some = torch.empty(b, h, rule.num_queries, 1)
        keys = torch.empty(b, h, rule.num_keys, 1)
        return BlockLayout.dense(some, keys, causal=rule.causal, span=rule.span)


@functools.lru_cache(maxsize=4)
def _kept_pairs(rule: Rule, device: torch.device) -> Tensor:
    return pairs_per_cell(rule, device)


def _pairs(rule: Rule, device: torch.device) -> Tensor:
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return pairs_per_cell(rule, device)  # its memory belongs to the graph
    return _kept_pairs(rule, device)


def _scoring(record: _Record) -> float:
    total = 0.0
    for (policy, b, h, rule), times in record.scored.items():
        size = (b, h, num_cells(rule.num_queries), -(-num_cells(rule.num_keys) // 8))
        nothing = torch.zeros(1, 1, 1, 1, dtype=torch.uint8, device=record.sums.device)
        layout = BlockLayout(nothing.expand(size), rule.num_queries, rule.num_keys, rule.causal)
        total += times * policy.scoring_cost(layout)
    return total
