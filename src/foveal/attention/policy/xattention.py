"""XAttention: keep the cells that hold a given fraction of the predicted attention mass."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from foveal._core.gpu import triton_refusal
from foveal.attention.autocast import without_autocast
from foveal.attention.layout import CELL, BlockLayout, check_sizes, num_cells, per_head_tensor
from foveal.attention.policy.base import Policy, check_count
from foveal.attention.score.api import iter_block_mass
from foveal.errors import ArgumentError


@dataclass(frozen=True)
class XAttention(Policy):
    """Score tiles along their antidiagonals and keep the smallest set of cells reaching a mass.

    Per head and row of blocks: the diagonal block and the first block are kept, then others by
    falling mass until the kept mass, forced blocks included, reaches `threshold` of the row's
    total; the block that crosses is kept.

    Args:
        stride: S, a divisor of 64. Scoring costs 1/S of a block product per cell; larger strides
            are cheaper and coarser.
        threshold: Mass fraction in [0, 1], one for all query heads or a tuple of one per head.
            1 keeps everything (dense, exactly); 0 keeps the forced blocks. The paper uses 0.9;
            see Quality.
        block: Tokens per selected block, 64 or 128 (the paper's). 128 selects 2 x 2 cells at once.
        keep_sink: Always keep the block of the first keys.
        keep_diagonal: Always keep the blocks on the bottom-right diagonal. Only when causal.
        num_local_cells: 64-token cells just before the diagonal that are always kept. Only when
            causal.
        num_dense_last: Queries at the end (the prompt's own question) whose cells keep everything.
            In a chunked prefill that is the end of each chunk. Only when causal.
        num_dense_layers: First layers of a model that keep everything. `for_layer` tells them:
            `attach` asks it; `attend` and `layout` take no notice.
        num_dense_steps: First denoising steps that keep everything (the paper uses 5), likewise
            through `for_step`.
        alternate: Alternate the sampled residue, so that slashes at even distances are seen.
        dense_below: Keys below which everything is kept, since selecting costs more than it saves.

    A prefill in chunks that are multiples of `block` chooses the same cells as one in a single call
    (`num_dense_last` and `dense_below` aside, which look at one call).

    Raises: ArgumentError: a value is out of range.
    Quality: with SmolLM2-135M on 4096 tokens, the default raises perplexity by 1.0 % (KL 0.026
        nats, density 0.34) on the part of a text that settings were chosen on, and by 0.3 % and
        -0.3 % on two others. The paper's 0.9 costs 5.7 % at stride 4 and 10.8 % at stride 16
        (density 0.23). One text: an anecdote. `benchmarks/attention.py` measures it and
        `benchmarks/results/attention--cpu.json` holds the table.
    Source: Xu et al., "XAttention: Block Sparse Attention with Antidiagonal Scoring", ICML 2025,
        arXiv:2503.16428. Differs: 64-token blocks and threshold 0.95 at stride 4
        by default, `alternate`, `num_local_cells`, `num_dense_last`, `dense_below`; chunks use
        true token offsets; grouped key heads are not expanded; a row whose scores are not finite
        keeps everything, as exact attention would be no better defined there.
    """

    stride: int = 4
    threshold: float | tuple[float, ...] = 0.95
    block: int = 64
    keep_sink: bool = True
    keep_diagonal: bool = True
    num_local_cells: int = 0
    num_dense_last: int = 0
    num_dense_layers: int = 0
    num_dense_steps: int = 0
    alternate: bool = True
    dense_below: int = 1024

    def __post_init__(self) -> None:
        """Check the values."""
        check_count("XAttention", "stride", self.stride, least=1)
        if CELL % self.stride:
            raise ArgumentError(
                f"XAttention: stride is {self.stride}, must be a power of two from 1 to {CELL}; "
                "use 8 or 16"
            )
        values: tuple[object, ...] = (
            self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)
        )
        if not values or not all(isinstance(x, int | float) and 0 <= x <= 1 for x in values):
            raise ArgumentError(
                f"XAttention: threshold is {self.threshold!r}, must lie in [0, 1], one number or "
                "a tuple; use 0.95"
            )
        if self.block not in (CELL, 2 * CELL):
            raise ArgumentError(
                f"XAttention: block is {self.block}, must be {CELL} or {2 * CELL}; use {CELL}"
            )
        for name in (
            "num_local_cells",
            "num_dense_last",
            "num_dense_layers",
            "num_dense_steps",
            "dense_below",
        ):
            check_count("XAttention", name, getattr(self, name))

    def for_layer(self, layer: int) -> Policy:
        """Return this policy, or the one that keeps everything in the first layers."""
        return replace(self, threshold=1.0) if layer < self.num_dense_layers else self

    def for_step(self, step: int) -> Policy:
        """Return this policy, or the one that keeps everything in the first steps."""
        return replace(self, threshold=1.0) if step < self.num_dense_steps else self

    def scoring_cost(self, layout: BlockLayout) -> float:
        """Return the cost of scoring: 1/stride of one product per visible cell; 0 if dense."""
        return 0.0 if self._is_dense(layout.num_keys) else layout.num_full / self.stride

    def _is_dense(self, num_keys: int) -> bool:
        values = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)
        return num_keys < self.dense_below or all(x >= 1 for x in values)

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

        Raises: ArgumentError: `threshold` does not have one value per query head.
        Memory: that of `iter_block_mass`, and one bit per cell.
        """
        check_sizes("XAttention.layout", q, k)
        h, s = q.shape[1:3]
        t = k.shape[2]
        wanted = self._thresholds(h, q.device)
        if self._is_dense(t):
            return BlockLayout.dense(q, k, causal=causal)
        if self.block == CELL and q.dtype == k.dtype and triton_refusal(q) is None:
            return self._choose_on_gpu(q, k, wanted, causal, scale)
        chunks = self._choose(q, k, wanted, causal, scale)
        return BlockLayout.from_chunks(chunks, num_queries=s, num_keys=t, causal=causal)

    def _choose_on_gpu(
        self, q: Tensor, k: Tensor, wanted: Tensor, causal: bool, scale: float | None
    ) -> BlockLayout:
        """Return the same cells by kernels, but for masses that differ in their last bits."""
        from foveal.attention.score.triton import iter_block_mass_triton, select_cells

        s, t = q.shape[2], k.shape[2]
        chunks = iter_block_mass_triton(
            q,
            k,
            stride=self.stride,
            causal=causal,
            alternate=self.alternate,
            scale=q.shape[3] ** -0.5 if scale is None else scale,
        )
        bits = select_cells(
            chunks,
            self._forced(0, num_cells(s), num_cells(t), s, t, causal, q.device),
            wanted,
            batch=q.shape[0],
            num_queries=s,
            num_keys=t,
            causal=causal,
        )
        return BlockLayout(bits, s, t, causal)

    def _choose(
        self, q: Tensor, k: Tensor, wanted: Tensor, causal: bool, scale: float | None
    ) -> Iterator[Bool[Tensor, "b h n m"]]:
        """Yield the kept cells of successive chunks of query cells."""
        s, t = q.shape[2], k.shape[2]
        group = self.block // CELL
        chunks = iter_block_mass(
            q,
            k,
            stride=self.stride,
            causal=causal,
            alternate=self.alternate,
            scale=scale,
            multiple=group,
        )
        for first, mass in chunks:
            rows, columns = mass.shape[2:]
            forced = self._forced(first, rows, columns, s, t, causal, q.device)
            if group == 2:
                pad = (0, columns % 2, 0, rows % 2)
                mass = torch.nn.functional.pad(mass, pad)
                mass = mass.unflatten(3, (-1, 2)).sum(4).unflatten(2, (-1, 2)).sum(3)
                forced = torch.nn.functional.pad(forced, pad)
                forced = forced.unflatten(1, (-1, 2)).any(2).unflatten(0, (-1, 2)).any(1)
            chosen = _smallest_set(mass, forced, wanted)
            if group == 2:
                chosen = chosen.repeat_interleave(2, 2).repeat_interleave(2, 3)
            yield chosen[:, :, :rows, :columns]

    def _thresholds(self, h: int, device: torch.device) -> Float[Tensor, " h"]:
        if not isinstance(self.threshold, tuple):
            return torch.full((h,), float(self.threshold), device=device, dtype=torch.float32)
        if len(self.threshold) != h:
            raise ArgumentError(
                f"XAttention.layout: threshold has {len(self.threshold)} values, must have one "
                f"per query head, {h}; pass a float or {h} values"
            )
        return per_head_tensor(self.threshold, device)

    def _forced(
        self, first: int, n: int, m: int, s: int, t: int, causal: bool, device: torch.device
    ) -> Bool[Tensor, "n m"]:
        forced = torch.zeros(n, m, dtype=torch.bool, device=device)
        if self.keep_sink:
            forced[:, 0] = True
        queries = (torch.arange(n, device=device) + first) * CELL
        if causal and (self.keep_diagonal or self.num_local_cells):
            # With t - s no multiple of 64 the diagonal crosses two key cells.
            low = (queries + t - s).div(CELL, rounding_mode="floor")[:, None]
            last = (queries + CELL - 1).clamp_max(s - 1) + t - s
            high = last.div(CELL, rounding_mode="floor")[:, None]
            column = torch.arange(m, device=device)[None, :]
            if self.keep_diagonal:
                forced |= (column >= low) & (column <= high)
            forced |= (column >= low - self.num_local_cells) & (column < low)
        if causal and self.num_dense_last:
            forced |= (queries + CELL > s - self.num_dense_last)[:, None]
        return forced


def _smallest_set(
    mass: Float[Tensor, "b h n m"], forced: Bool[Tensor, "n m"], threshold: Float[Tensor, " h"]
) -> Bool[Tensor, "b h n m"]:
    """Keep forced blocks, then the heaviest others while the mass before them is too small.

    A row always keeps one block. Heads with a threshold of 1 or more keep all.
    """
    total = mass.sum(-1, keepdim=True)
    needed = total * threshold[:, None, None]
    ranked, order = mass.masked_fill(forced, 0.0).sort(-1, descending=True)
    before = (mass * forced).sum(-1, keepdim=True) + ranked.cumsum(-1) - ranked
    take = (before < needed) & (ranked > 0)
    none = ~forced.any(-1)
    take[..., 0] |= none
    chosen = torch.zeros_like(take).scatter_(-1, order, take) | forced
    return chosen | (threshold >= 1)[:, None, None] | ~total.isfinite()
