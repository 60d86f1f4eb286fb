"""How fast and how exact each way to attend is on this machine, under the same masks."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal._core.gpu import triton_refusal
from foveal.attention.attend import attend
from foveal.attention.block_sparse.api import block_sparse_attention
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.evaluate.kernel_time import kernel_milliseconds
from foveal.attention.layout import BlockLayout
from foveal.attention.policy.xattention import XAttention
from foveal.attention.precision import Sage
from foveal.errors import ArgumentError, FovealError

_ROWS = 64
"""Queries whose outputs are compared with fp64."""

_TOPICS = 16

_TIMES = (5, 200)
"""Fewest and most repetitions."""


@dataclass(frozen=True)
class Case:
    """One problem: sizes and the token rule.

    Attributes:
        num_tokens: Queries and keys.
        causal: Whether the causal rule holds.
        num_heads: Query heads.
        num_kv_heads: Key heads.
        width: Width of a head.
    """

    num_tokens: int
    causal: bool = True
    num_heads: int = 32
    num_kv_heads: int = 8
    width: int = 128


@dataclass(frozen=True)
class Timing:
    """One way to attend, measured.

    Attributes:
        name: What ran.
        case: The problem.
        density: Kept fraction of the token pairs that the rule allows, in [0, 1].
        milliseconds: Median time of a call, with all preparation that a call needs.
        spread_milliseconds: Distance between the 20th and the 80th percentile.
        teraflops: 4 d per kept pair of tokens and head, by the median time: effective speed.
        error: Relative L2 error of 64 query rows of every head against fp64 over the same cells.
        kernel_milliseconds: Median time of our attention kernel alone, on a CUDA device.
        kernel_teraflops: Effective speed by that time.
        note: Why there is no time, in words; empty otherwise.
    """

    name: str
    case: Case
    density: float
    milliseconds: float | None
    spread_milliseconds: float | None
    teraflops: float | None
    error: float | None
    kernel_milliseconds: float | None = None
    kernel_teraflops: float | None = None
    note: str = ""

    def __str__(self) -> str:
        """Return one line of a table."""
        rule = "causal" if self.case.causal else "full"
        head = f"{self.case.num_tokens:>7} {rule:<6} {self.name:<64}"
        if self.milliseconds is None:
            return f"{head} {self.note}"
        speed = " " * 15 if self.teraflops is None else f"{self.teraflops:7.1f} TFLOP/s"
        error = "" if self.error is None else f"  error {self.error:.4f}"
        kernel = self.kernel_teraflops
        alone = "" if kernel is None else f"  kernel {kernel:.1f} TFLOP/s"
        return (
            f"{head} density {self.density:.3f} {self.milliseconds:9.3f} ms {speed}{error}{alone}"
        )


def measure_speed(
    cases: list[Case],
    *,
    densities: tuple[float, ...] = (0.05, 0.1, 0.25),
    device: torch.device | str = "cuda",
    dtype: torch.dtype = torch.bfloat16,
    budget_seconds: float = 0.3,
    seed: int = 0,
) -> Iterator[Timing]:
    """Yield timings of torch SDPA, FlexAttention, SageAttention 1 and Foveal on random tensors.

    Inputs are normal, K with mean 2, as real keys have a mean. Layouts of a given density are
    random cells beside the first column and the diagonal, so every way has the same work. Where
    XAttention chooses the cells, each 64 tokens have one of 16 topics, and queries look for theirs.

    Args:
        cases: Problems.
        densities: Densities of the random layouts, in (0, 1).
        device: Where to run.
        dtype: Type of q, k and v.
        budget_seconds: Time spent on one measurement, after one warming call.
        seed: Seed of inputs and layouts.

    Raises: ArgumentError: a case, a density or the budget is out of range, or `device` is not here.
    Cost: a dense fp64 attention of 64 queries a row, and the budget.
    """
    for case in cases:
        if min(case.num_tokens, case.num_heads, case.num_kv_heads, case.width) < 1:
            raise ArgumentError(
                f"measure_speed: cases has {case}, must have sizes >= 1; mend that case"
            )
        if case.num_heads % case.num_kv_heads:
            raise ArgumentError(
                f"measure_speed: cases has {case}, num_kv_heads must divide num_heads; mend that "
                "case"
            )
    if not all(0 < x < 1 for x in densities):
        raise ArgumentError(
            f"measure_speed: densities is {densities}, must be in (0, 1); dense is timed anyway"
        )
    if not 0 <= budget_seconds < math.inf:
        raise ArgumentError(
            f"measure_speed: budget_seconds is {budget_seconds}, must be finite and >= 0; 0.3 does"
        )
    check_device(device)
    for case in cases:
        generator = torch.Generator(device=device).manual_seed(seed)

        def normal(heads: int, mean: float, case: Case = case, g: Any = generator) -> Tensor:
            shape = (1, heads, case.num_tokens, case.width)
            return (torch.randn(shape, device=device, generator=g) + mean).to(dtype)

        q = normal(case.num_heads, 0.0)
        k, v = normal(case.num_kv_heads, 2.0), normal(case.num_kv_heads, 0.0)
        rows = torch.randperm(case.num_tokens, device=device, generator=generator)[:_ROWS]
        bench = _Bench(case, q, k, v, rows, budget_seconds)
        yield from bench.dense()
        for density in densities:
            yield from bench.sparse(density, generator)
        yield from bench.chosen(generator)


def check_device(device: torch.device | str) -> torch.device:
    """Return the device of that name.

    Raises: ArgumentError: there is none here, or it does not compute.
    """
    try:
        torch.zeros(1, device=device).item()
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).strip().splitlines()
        raise ArgumentError(
            f"measure_speed: device is {str(device)!r}, must be one that runs here "
            f"({why[0] if why else type(error).__name__}); try cpu"
        ) from error


class _Bench:
    def __init__(
        self, case: Case, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, budget: float
    ) -> None:
        self._case, self._budget, self._rows = case, budget, rows
        self._q, self._k, self._v = q, k, v
        self._full = BlockLayout.dense(q, k, causal=case.causal)
        self._triton = triton_refusal(q) is None
        self._exact = self._rows_in_fp64(self._full)

    def dense(self) -> Iterator[Timing]:
        q, k, v, causal = self._q, self._k, self._v, self._case.causal
        for name, backend in _sdpa_backends(q.device):
            yield self._time(f"torch SDPA, {name}", self._full, _sdpa(q, k, v, causal, backend))
        sage = _sage_attention_1(q, k, v, causal)
        yield self._time("sageattention 1.0.6", self._full, sage)
        if self._triton:
            yield self._time("foveal, exact", self._full, self._attend(self._full, None))
        for precision in self._precisions():
            yield self._time(_name(precision), self._full, self._attend(self._full, precision))

    def sparse(self, density: float, generator: torch.Generator) -> Iterator[Timing]:
        layout = self._random(density, generator)
        self._exact = self._rows_in_fp64(layout)
        yield self._time("torch FlexAttention, same cells", layout, self._flex(layout))
        yield self._time("foveal, exact", layout, self._attend(layout, None))
        for precision in self._precisions()[:2]:
            yield self._time(_name(precision), layout, self._attend(layout, precision))

    def chosen(self, generator: torch.Generator) -> Iterator[Timing]:
        """Time whole calls of `attend`, the choice of cells included, on what XAttention keeps."""
        case, causal = self._case, self._case.causal
        topics = torch.randn(
            _TOPICS, case.width, device=self._q.device, generator=generator, dtype=torch.float32
        )
        cells = torch.randint(
            _TOPICS, (self._full.shape[3],), device=topics.device, generator=generator
        )
        mine = topics[cells].repeat_interleave(64, 0)[: case.num_tokens].to(self._q.dtype)
        self._q, self._k = self._q + mine, self._k + mine
        q, k = self._q, self._k
        for stride in (8, 16):
            policy = XAttention(stride=stride)
            layout = policy.layout(q, k, causal=causal)
            self._exact = self._rows_in_fp64(layout)
            words = f"XAttention(stride={stride}, threshold={policy.threshold})"
            choose = self._choosing(policy)
            yield self._time(f"foveal, only the choice of {words}", layout, choose, counts=False)
            for precision in (None, *self._precisions()[:1]):
                name = f"{_name(precision) if precision else 'foveal, exact'}, with {words}"
                yield self._time(name, layout, self._whole(policy, precision))

    # --- what is timed ------------------------------------------------------------------------

    def _precisions(self) -> tuple[Sage, ...]:
        if not self._triton:
            return ()
        modes = Sage("int8-fp8"), Sage("int8-fp8", granularity="warp")
        return (*modes, Sage("int8-fp16"), Sage("int4-fp8"))

    def _attend(self, layout: BlockLayout, precision: Sage | None) -> Callable[[], Tensor]:
        q, k, v = self._q, self._k, self._v
        impl = "triton" if self._triton else "auto"
        if precision is None:
            return lambda: block_sparse_attention(q, k, v, layout, impl=impl)
        return lambda: quantized_attention(q, k, v, layout, precision=precision)

    def _whole(self, policy: XAttention, precision: Sage | None) -> Callable[[], Tensor]:
        q, k, v, causal = self._q, self._k, self._v, self._case.causal
        return lambda: attend(q, k, v, policy=policy, precision=precision, causal=causal)

    def _choosing(self, policy: XAttention) -> Callable[[], Tensor]:
        q, k, causal = self._q, self._k, self._case.causal
        return lambda: policy.layout(q, k, causal=causal).bits

    def _flex(self, layout: BlockLayout) -> Callable[[], Tensor]:
        q, k, v = self._q, self._k, self._v
        return lambda: block_sparse_attention(q, k, v, layout, impl="flex")

    # --- tools ----------------------------------------------------------------------------------

    def _random(self, density: float, generator: torch.Generator) -> BlockLayout:
        case, q = self._case, self._q
        n = self._full.shape[2]
        kept = torch.rand(1, case.num_heads, n, n, device=q.device, generator=generator) < density
        kept[..., 0] = True
        kept |= torch.eye(n, dtype=torch.bool, device=q.device)
        s = case.num_tokens
        return BlockLayout.from_bool(kept, num_queries=s, num_keys=s, causal=case.causal)

    def _rows_in_fp64(self, layout: BlockLayout) -> Tensor:
        outs: list[Tensor] = []
        case, rows = self._case, self._rows
        keys = torch.arange(case.num_tokens, device=rows.device)
        rule = layout.token_rule(rows, keys)
        group = case.num_heads // case.num_kv_heads
        for head in range(case.num_heads):
            cells = layout.to_bool()[0, head] if head == 0 or not layout.complete else None
            seen = rule
            if cells is not None and not layout.complete:
                seen = rule & cells[rows // 64][:, keys // 64]
            k, v = self._k[0, head // group].double(), self._v[0, head // group].double()
            logits = self._q[0, head, rows].double() @ k.T / math.sqrt(case.width)
            outs.append(torch.softmax(logits.masked_fill(~seen, -math.inf), -1) @ v)
        return torch.stack(outs)

    def _time(
        self,
        name: str,
        layout: BlockLayout,
        fn: Callable[[], Tensor] | str,
        *,
        counts: bool = True,
    ) -> Timing:
        density = layout.density
        ours = name.startswith("foveal") and self._q.is_cuda
        if isinstance(fn, str):
            return Timing(name, self._case, density, None, None, None, None, note=fn)
        try:
            out = fn()
            error = None
            if counts:
                got = out[0][:, self._rows].double()
                error = float((got - self._exact).norm() / self._exact.norm())
            median, spread = _clock(fn, self._q.device, self._budget)
            kernel = kernel_milliseconds(fn) if counts and ours else None
        except (RuntimeError, FovealError, NotImplementedError, ValueError) as problem:
            words = str(problem).strip().splitlines()
            note = f"{type(problem).__name__}: {words[0][:160] if words else ''}"
            return Timing(name, self._case, density, None, None, None, None, note=note)
        case = self._case
        pairs = (
            case.num_tokens**2 if not case.causal else case.num_tokens * (case.num_tokens + 1) / 2
        )
        flops = 4 * case.width * case.num_heads * pairs * density
        speed = flops / median / 1e9 if counts else None
        alone = None if kernel is None else flops / kernel / 1e9
        return Timing(name, case, density, median, spread, speed, error, kernel, alone)


def _name(precision: Sage) -> str:
    return f"foveal, Sage({precision.mode}, {precision.granularity})"


def _clock(fn: Callable[[], Any], device: torch.device, budget: float) -> tuple[float, float]:
    """Return the median time of a call and the distance of its 20th and 80th percentile, in ms."""
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < _TIMES[0] or (
        len(times) < _TIMES[1] and time.perf_counter() - start < budget
    ):
        if device.type == "cuda":
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            fn()
            after.record()
            torch.cuda.synchronize(device)
            times.append(before.elapsed_time(after))
        else:
            clock = time.perf_counter()
            fn()
            times.append((time.perf_counter() - clock) * 1e3)
    parts = statistics.quantiles(times, n=5)
    return statistics.median(times), parts[3] - parts[0]


def _sdpa_backends(device: torch.device) -> list[tuple[str, Any]]:
    from torch.nn.attention import SDPBackend

    if device.type != "cuda":
        return [("default", None)]
    return [("flash", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)]


def _sdpa(q: Tensor, k: Tensor, v: Tensor, causal: bool, backend: Any) -> Callable[[], Tensor]:
    from torch.nn.attention import sdpa_kernel

    grouped = q.shape[1] != k.shape[1]

    def run() -> Tensor:
        if backend is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)

    return run


def _sage_attention_1(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Callable[[], Tensor] | str:
    if not q.is_cuda:
        return "runs on CUDA devices only"
    try:
        from sageattention import sageattn  # pyright: ignore[reportMissingImports]
    except ImportError:
        return "not installed; run pip install sageattention==1.0.6"
    group = q.shape[1] // k.shape[1]

    def run() -> Tensor:
        wide = (x.repeat_interleave(group, 1) if group > 1 else x for x in (k, v))
        return sageattn(q, *wide, is_causal=causal)

    return run
