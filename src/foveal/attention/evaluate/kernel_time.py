"""How long the attention kernel alone runs, without what is done before it."""

import statistics
from collections.abc import Callable
from typing import Any

import torch

KERNELS = ("sage_kernel", "exact_kernel")
"""Our attention kernels, as the device names them."""


def kernel_milliseconds(
    fn: Callable[[], Any], *, repeats: int = 12, kernels: tuple[str, ...] = KERNELS
) -> float | None:
    """Return the median time on the device of one kernel of `fn`, as the profiler saw it.

    Args:
        fn: Calls exactly one of the kernels, on a CUDA device, and has run before.
        repeats: Calls.
        kernels: Names of which one is looked for; a part of the name is enough.

    Returns: ms, or None where none of them ran or the device cannot be profiled.
    """
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(repeats):
            fn()
        torch.cuda.synchronize()
    times = [
        event.device_time / 1e3  # microseconds
        for event in seen.events() or ()
        if any(name in event.name for name in kernels)
    ]
    return statistics.median(times) if times else None
