"""Kernels on a GPU, or by Triton's interpreter, mended in five places, with TRITON_INTERPRET=1.

The kernels themselves run unchanged. Memory that they are to write is filled beforehand with what
they must not leave there.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore_glob = [] if importlib.util.find_spec("triton") else ["test_*"]


def _floats(data: Any) -> Any:
    """Return bf16 bits as fp32 numbers."""
    return (data.astype(np.uint32) << 16).view(np.float32)


def mend_interpreter() -> None:
    """Make Triton 3.6's interpreter work with NumPy 2.4, and its small formats work at all.

    NumPy 2.4 no longer turns an array of one number into a scalar, which bounds of loops need. The
    interpreter's own casts from fp32 to e4m3 and bf16 do not round as the hardware does, it
    multiplies the bits of bf16 operands, and its maximum of two numbers keeps a NaN, which that of
    the hardware drops.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    patch, convert = interpreter._patch_lang_tensor, interpreter._convert_float
    builder = interpreter.InterpreterBuilder
    dot = builder.create_dot

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    def converted(data: Any, source: Any, target: Any, rounding: Any) -> Any:
        rounded = {tl.float8e4nv: torch.float8_e4m3fn, tl.bfloat16: torch.bfloat16}.get(target)
        if source == tl.float32 and rounded is not None:
            exact = torch.from_numpy(np.ascontiguousarray(data).view(np.float32))
            bits = torch.uint8 if target == tl.float8e4nv else torch.uint16
            return exact.to(rounded).view(bits).numpy()
        if source == tl.bfloat16 and target == tl.float32:
            return _floats(data).view(np.uint32)
        return convert(data, source, target, rounding)

    def multiplied(self: Any, a: Any, b: Any, d: Any, *options: Any) -> Any:
        if a.dtype == tl.bfloat16:
            a, b = (interpreter.TensorHandle(_floats(x.data), tl.float32) for x in (a, b))
        return dot(self, a, b, d, *options)

    interpreter._patch_lang_tensor = patched
    interpreter._convert_float = converted
    builder.create_dot = multiplied
    builder.create_maxnumf = lambda self, a, b: self.binary_op(a, b, np.fmax)
    builder.create_minnumf = lambda self, a, b: self.binary_op(a, b, np.fmin)


if INTERPRETED and not collect_ignore_glob:
    mend_interpreter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here: kernels want a GPU or the interpreter, compiling wants no such."""
    for item in items:
        if "tests/kernels" not in item.path.as_posix():
            continue
        if item.path.name == "test_kernels_compile.py":
            if INTERPRETED:
                item.add_marker(pytest.mark.skip(reason="compiles: runs without TRITON_INTERPRET"))
        elif not INTERPRETED and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device or TRITON_INTERPRET=1"))
        elif INTERPRETED:
            # NumPy says where a GPU is silent: inf - inf, NaN to an integer.
            item.add_marker(pytest.mark.filterwarnings("ignore::RuntimeWarning"))
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="too large for the interpreter"))


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill what `torch.empty` returns with NaN, and with -1 where it holds integers."""
    empty: Callable[..., Tensor] = torch.empty

    def poisoned(*size: Any, **options: Any) -> Tensor:
        found = empty(*size, **options)
        if found.numel() and found.is_contiguous():
            found.view(-1).view(torch.uint8).fill_(255)
        return found

    monkeypatch.setattr(torch, "empty", poisoned)
