"""Attention keeps its own types under `torch.autocast`."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def without_autocast(fn: Callable[P, R]) -> Callable[P, R]:
    """Let `fn` compute in the types of its arguments, also where autocast is on.

    Autocast would round every matrix product to 16 bits: integer codes would not be exact, scores
    and sums not fp32.
    """

    @wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        values: tuple[object, ...] = (*args, *kwargs.values())
        kinds = [x.device.type for x in values if isinstance(x, Tensor) and not x.is_meta]
        if not kinds or not torch.is_autocast_enabled(kinds[0]):
            return fn(*args, **kwargs)
        with torch.autocast(kinds[0], enabled=False):
            return fn(*args, **kwargs)

    return run
