"""SpargeAttention: judge cells by their means where the mean stands for the cell."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from foveal.attention.autocast import without_autocast
from foveal.attention.layout import CELL, BlockLayout, check_sizes, num_cells, per_head_tensor
from foveal.attention.policy.base import Policy, check_count
from foveal.attention.score.pooled import (
    iter_pooled_scores,
    mean_token,
    pool_cells,
    visible_cells,
)
from foveal.errors import ArgumentError

PerHead = float | int | tuple[float | int, ...]
"""One value for all query heads, or one per query head."""


@dataclass(frozen=True)
class Sparge(Policy):
    """Keep the heaviest cells of the attention between cell means, and all that means hide.

    Queries and keys are pooled to one mean per 64-token cell. A row of cells keeps the largest
    probabilities of softmax(scale * mean query . mean key). A mean says nothing about a cell whose
    tokens differ: such a cell of keys leaves the softmax and is kept in every row, and such a
    cell of queries keeps its whole row. Exactly one of `threshold` and `top_k` must be given.

    Args:
        threshold: Probability in [0, 1] that the kept cells of a row must reach; one for all query
            heads or a tuple of one per query head. 1 keeps everything; 0 keeps the largest.
        top_k: Fraction in (0, 1] of the cells *that the row may see*, rounded up; one or a tuple.
        similarity: A cell is judged by its mean when the mean cosine of its pairs of tokens is
            above this, in [-1, 1]; one or a tuple. That mean is never negative, so a negative
            value, as the default of the released code, switches the test off; 1 keeps everything.
            Smoothed keys of SmolLM2 have 0.28 to 0.47, by layer; the paper's video model has 0.48.
        skip_threshold: Second stage, nats, at least 0; one, a tuple (with math.inf for a head that
            never skips), or None. A kernel skips a kept cell when in all its 64 rows the largest
            logit is at most the running maximum less this; a skipped key weighs at most
            exp(-skip_threshold) of the heaviest. The logits must still be computed: only the
            product with V is saved.
        include_crossing: Keep the cell that reaches `threshold`. False is the released code.
            Only with `threshold`.
        keep_sink: Always keep the cell of the first keys.
        smooth_k: Subtract the mean key before the similarity test. It shifts a row's scores by one
            constant, so it changes the test and nothing else.
        num_whole_first: Leading tokens (text, first frame) whose rows and columns stay whole.
        num_whole_last: Trailing tokens whose rows and columns stay whole.
        num_dense_layers: First layers of a model that keep everything, through `for_layer`.
        num_dense_steps: First steps of a diffusion that keep everything, through `for_step`.
        dense_below: Keys below which everything is kept and nothing skipped.

    Raises: ArgumentError: a value is out of range, both or neither of `threshold` and `top_k` are
        given, or `include_crossing` is False with `top_k`.
    Source: Zhang et al., "SpargeAttention: Accurate and Training-free Sparse Attention Accelerating
        Any Model Inference", ICML 2025, arXiv:2502.18137. Differs: 64 x 64 cells on any device;
        the diagonal cells are always kept when causal, so that no row is empty; `scale` counts;
        `top_k` is of the visible cells; ragged cells are pooled over their tokens; the set
        reaches the threshold; `keep_sink` by default. `docs/attention/sparge.md` has the list.
    """

    threshold: PerHead | None = None
    top_k: PerHead | None = None
    similarity: PerHead = -0.1
    skip_threshold: PerHead | None = None
    include_crossing: bool = True
    keep_sink: bool = True
    smooth_k: bool = True
    num_whole_first: int = 0
    num_whole_last: int = 0
    num_dense_layers: int = 0
    num_dense_steps: int = 0
    dense_below: int = 1024

    def __post_init__(self) -> None:
        """Check the values."""
        if (self.threshold is None) == (self.top_k is None):
            raise ArgumentError(
                f"Sparge: threshold is {self.threshold} and top_k is {self.top_k}, must be exactly "
                "one of them; pass threshold=0.95 or top_k=0.5"
            )
        if self.top_k is not None and not self.include_crossing:
            raise ArgumentError(
                "Sparge: include_crossing is False with top_k, must be True; only a threshold is "
                "crossed"
            )
        _check("threshold", self.threshold, lambda x: 0 <= x <= 1, "lie in [0, 1]; use 0.95")
        _check("top_k", self.top_k, lambda x: 0 < x <= 1, "lie in (0, 1]; use 0.5")
        _check("similarity", self.similarity, lambda x: -1 <= x <= 1, "lie in [-1, 1]; use -0.1")
        _check(
            "skip_threshold",
            self.skip_threshold,
            lambda x: x >= 0,
            "be >= 0, in nats; use 10.0, or None for never",
        )
        for name in (
            "num_whole_first",
            "num_whole_last",
            "num_dense_layers",
            "num_dense_steps",
            "dense_below",
        ):
            check_count("Sparge", name, getattr(self, name))

    def for_layer(self, layer: int) -> Policy:
        """Return this policy, or the one that keeps everything in the first layers."""
        return self._dense() if layer < self.num_dense_layers else self

    def for_step(self, step: int) -> Policy:
        """Return this policy, or the one that keeps everything in the first diffusion steps.

        Args:
            step: Denoising step, counted from 0 (the noisiest).

        Raises: ArgumentError: `step` is negative.
        """
        if step < 0:
            raise ArgumentError(f"Sparge.for_step: step is {step}, must be >= 0; count from 0")
        return self._dense() if step < self.num_dense_steps else self

    def _dense(self) -> "Sparge":
        return replace(self, threshold=1.0, top_k=None, skip_threshold=None)

    def scoring_cost(self, layout: BlockLayout) -> float:
        """Return the cost of pooling and of the scores between means; 0 if dense.

        Per pooled cell 3 passes over 64 tokens where a product has 64 * 64, that is 3/64; per
        visible cell one dot product, 1/4096. Grouped keys cost less than is counted. Sorting is
        not counted. The second stage costs nothing here: it saves less than it might, since the
        logits of a skipped cell are computed.
        """
        if self._keeps_all(layout.num_keys):
            return 0.0
        b, h, n, m = layout.shape
        return b * h * (n + m) * 3 / CELL + layout.num_full / CELL**2

    def _keeps_all(self, num_keys: int) -> bool:
        wanted = self.threshold if self.top_k is None else self.top_k
        values = wanted if isinstance(wanted, tuple) else (wanted,)
        return num_keys < self.dense_below or all(x is not None and x >= 1 for x in values)

    @without_autocast
    def layout(
        self,
        q: Float[Tensor, "b h s d"],
        k: Float[Tensor, "b g t d"],
        *,
        causal: bool = True,
        scale: float | None = None,
    ) -> BlockLayout:
        """Return the kept cells; see `Policy.layout`.

        Raises: ArgumentError: a tuple does not have one value per query head.
        Memory: 1/64 of q and k in fp32, about 300 MiB for chunks, and one bit per cell.
        """
        check_sizes("Sparge.layout", q, k)
        h, s = q.shape[1:3]
        t = k.shape[2]
        skip = None if t < self.dense_below else self._skips(h)
        if self._keeps_all(t):
            for name in ("threshold", "top_k", "similarity"):
                _per_head(name, getattr(self, name) or 0.0, h)
            full = BlockLayout.dense(q, k, causal=causal)
            return full if skip is None else replace(full, skip_threshold=skip)
        chunks = self._choose(q, k, causal, scale)
        return BlockLayout.from_chunks(
            chunks, num_queries=s, num_keys=t, causal=causal, skip_threshold=skip
        )

    def _skips(self, h: int) -> tuple[float, ...] | None:
        if self.skip_threshold is None:
            return None
        return tuple(_per_head("skip_threshold", self.skip_threshold, h))

    def _choose(
        self, q: Tensor, k: Tensor, causal: bool, scale: float | None
    ) -> Iterator[Bool[Tensor, "b h n m"]]:
        """Yield the kept cells of successive chunks of query cells."""
        h, s, d = q.shape[1:]
        g, t = k.shape[1:3]
        alike = per_head_tensor(_per_head("similarity", self.similarity, h), q.device)
        queries = pool_cells(q)
        keys = pool_cells(k, shift=mean_token(k) if self.smooth_k else None)
        row_alike = queries.self_similarity > alike[:, None]
        column_alike = keys.self_similarity.repeat_interleave(h // g, 1) > alike[:, None]
        scores = iter_pooled_scores(
            queries,
            keys,
            num_queries=s,
            num_keys=t,
            causal=causal,
            scale=1 / math.sqrt(d) if scale is None else scale,
        )
        for first, some in scores:
            rows, m = some.shape[2:]
            visible = torch.ones(rows, m, dtype=torch.bool, device=q.device)
            if causal:
                visible = visible_cells(first, rows, num_queries=s, num_keys=t, device=q.device)
            judged = column_alike[:, :, None] & visible
            chosen = self._heaviest(some.masked_fill(~judged, -math.inf), visible.sum(-1))
            # A row whose scores overflow says nothing and is kept whole.
            broken = ((some.isnan() | (some == math.inf)) & judged).any(-1)
            whole = ~row_alike[:, :, first : first + rows] | broken
            forced = self._forced(first, rows, s, t, causal, q.device)
            yield chosen | ~column_alike[:, :, None] | whole[..., None] | forced

    def _heaviest(
        self, scores: Float[Tensor, "b h n m"], num_visible: Int[Tensor, " n"]
    ) -> Bool[Tensor, "b h n m"]:
        """Choose at least one cell by falling score, of equals the earlier.

        Cells of score -inf may be among them: they are kept anyway, or not visible.
        """
        h, m = scores.shape[1], scores.shape[3]
        ranked, order = scores.sort(dim=-1, descending=True, stable=True)
        wanted = self.threshold if self.top_k is None else self.top_k
        name = "threshold" if self.top_k is None else "top_k"
        fraction = per_head_tensor(_per_head(name, wanted or 0.0, h), scores.device, torch.float64)
        if self.top_k is not None:
            count = (fraction[:, None] * num_visible - 1e-9).ceil()
            take = torch.arange(m, device=scores.device) < count[..., None]
            take = take.expand(scores.shape).clone()
        else:
            weights = ranked.softmax(-1).nan_to_num(0.0)
            mass = weights.cumsum(-1)
            needed = mass[..., -1:] * fraction[:, None, None].float()
            take = mass - weights < needed if self.include_crossing else mass <= needed
        take[..., 0] = True
        chosen = torch.zeros_like(take).scatter_(-1, order, take)
        return chosen | (fraction >= 1)[:, None, None]

    def _forced(
        self, first: int, rows: int, s: int, t: int, causal: bool, device: torch.device
    ) -> Bool[Tensor, "n m"]:
        """Return the cells that are kept whatever they hold; the layout clears the invisible."""
        left = torch.arange(num_cells(t), device=device)[None, :] * CELL
        # Key position of the first and last query of each row; ends are aligned when s != t.
        low = (torch.arange(rows, device=device)[:, None] + first) * CELL + (t - s)
        high = (low + CELL).clamp_max(t) - 1
        forced = torch.zeros(rows, left.shape[1], dtype=torch.bool, device=device)
        if self.num_whole_first:
            forced = forced | (left < self.num_whole_first) | (low < self.num_whole_first)
        if self.num_whole_last:
            stop = t - self.num_whole_last
            forced = forced | (left + CELL > stop) | (high >= stop)
        if self.keep_sink:
            forced = forced | (left == 0)
        if causal:
            forced = forced | ((left + CELL > low) & (left <= high))
        return forced


def _check(name: str, value: object, good: Callable[[float], bool], rule: str) -> None:
    """Raise ArgumentError unless `value` is None, a good number, or a tuple of good numbers."""
    values: tuple[object, ...] = value if isinstance(value, tuple) else (value,)
    if value is None:
        return
    numbers = [x for x in values if isinstance(x, int | float) and not isinstance(x, bool)]
    if not values or len(numbers) != len(values) or not all(good(x) for x in numbers):
        raise ArgumentError(f"Sparge: {name} is {value}, must {rule}")


def _per_head(name: str, value: PerHead, h: int) -> list[float]:
    if not isinstance(value, tuple):
        return [float(value)] * h
    if len(value) != h:
        raise ArgumentError(
            f"Sparge.layout: {name} has {len(value)} values, must have one per query head, {h}; "
            f"pass a float or {h} values"
        )
    return [float(x) for x in value]
