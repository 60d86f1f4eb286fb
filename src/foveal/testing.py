"""The two accuracy gates of Foveal, for its own tests and for those of its users."""

import math

import torch
from torch import Tensor

from foveal.errors import ArgumentError

REFERENCE_FACTOR = 2.0
"""How much worse than the same-dtype reference a fast path may be."""

_ACCUMULATION = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Return ||value - truth|| / ||truth|| in fp64; NaN anywhere gives infinity."""
    if value.shape != truth.shape:
        raise ArgumentError(
            f"relative_error: value has shape {tuple(value.shape)}, must be {tuple(truth.shape)}"
        )
    a, b = value.detach().double(), truth.detach().double().to(value.device)
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        return float("inf")
    scale = b.norm().item()
    difference = (a - b).norm().item()
    return difference if scale == 0 else difference / scale


def _check_truth(where: str, truth: Tensor) -> None:
    if truth.dtype != torch.float64:
        raise ArgumentError(f"{where} is {truth.dtype}, must be torch.float64; compute it in fp64")


def assert_as_accurate(
    fast: Tensor, reference: Tensor, truth: Tensor, *, floor: float | None = None
) -> None:
    """First gate: the fast path's error is at most twice that of the same-dtype reference.

    Two errors are compared: that of the whole tensor, and the largest of a row (last axis), in
    units of the largest row of the truth, so that a few wrong rows cannot hide in many right ones.
    The second may be four times that of the reference, for it is the extreme of few numbers.

    Args:
        fast: Output of the fast path.
        reference: Output of the plain implementation in the same dtype.
        truth: Output of the plain implementation in fp64.
        floor: Error that is always allowed, relative. Default: the machine epsilon of `fast`, one
            rounding of the result.

    Raises:
        ArgumentError: a shape disagrees, or `truth` is not fp64.
        AssertionError: the budget is exceeded (the message holds both errors), or the reference
            or the truth is not finite.
    """
    _check_truth("assert_as_accurate: truth", truth)
    if floor is None:
        floor = torch.finfo(fast.dtype).eps if fast.is_floating_point() else 0.0
    error = relative_error(fast, truth)
    budget = max(floor, REFERENCE_FACTOR * relative_error(reference, truth))
    if not math.isfinite(budget):
        raise AssertionError("the reference or the truth holds NaN or infinity: nothing is proved")
    if not error <= budget:
        raise AssertionError(f"relative error {error:.3g} is over the budget {budget:.3g}")
    row = _largest_row_error(fast, truth)
    row_budget = max(4 * floor, 2 * REFERENCE_FACTOR * _largest_row_error(reference, truth))
    if not row <= row_budget:
        raise AssertionError(f"error {row:.3g} of one row is over the budget {row_budget:.3g}")


def _largest_row_error(value: Tensor, truth: Tensor) -> float:
    wanted = truth.detach().double()
    difference = value.detach().double().to(wanted.device) - wanted
    if not wanted.numel():
        return 0.0
    if wanted.ndim < 2:
        difference, wanted = difference.reshape(-1, 1), wanted.reshape(-1, 1)
    largest = wanted.norm(dim=-1).max().item()
    error = difference.norm(dim=-1).max().item()
    return error if largest == 0 else error / largest


def assert_on_same_codes(
    fast: Tensor,
    emulation: Tensor,
    *,
    codes: Tensor | None = None,
    wanted: Tensor | None = None,
    accumulation: torch.dtype = torch.float32,
) -> None:
    """Second gate, for quantised paths: equal codes, and fp64 emulation of those very codes.

    The first gate alone lets a lost bit pass, since the quantisation error hides it.

    Args:
        fast: Output of the kernel.
        emulation: fp64 result computed from the same codes.
        codes: Integer codes of the kernel, compared exactly with `wanted` if given.
        wanted: Codes of the reference quantiser.
        accumulation: dtype in which the kernel accumulates; sets the tolerance.

    Raises:
        ArgumentError: `emulation` is not fp64, or `codes` comes without `wanted`.
        AssertionError: codes differ, or the error is above accumulation level.
    """
    if (codes is None) != (wanted is None):
        raise ArgumentError("assert_on_same_codes: codes and wanted must be given together")
    if accumulation not in _ACCUMULATION:
        raise ArgumentError(
            f"assert_on_same_codes: accumulation is {accumulation}, must be one of "
            f"{sorted(map(str, _ACCUMULATION))}"
        )
    _check_truth("assert_on_same_codes: emulation", emulation)
    if codes is not None and wanted is not None:
        if (codes.shape, codes.dtype) != (wanted.shape, wanted.dtype):
            raise AssertionError(
                f"codes are {codes.dtype} {tuple(codes.shape)}, must be {wanted.dtype} "
                f"{tuple(wanted.shape)}"
            )
        if not torch.equal(codes, wanted):
            count = int((codes != wanted).sum())
            raise AssertionError(f"{count} of {codes.numel()} codes differ")
    error = relative_error(fast, emulation)
    if not error <= _ACCUMULATION[accumulation]:
        raise AssertionError(
            f"relative error {error:.3g} on the same codes is over {_ACCUMULATION[accumulation]}"
        )
