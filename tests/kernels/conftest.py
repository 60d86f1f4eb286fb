"""Triton's interpreter, mended in two places; the kernels themselves run unchanged."""

import os
from typing import Any

import numpy as np
import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def mend_interpreter() -> None:
    """Make Triton 3.6's interpreter work with NumPy 2.4, and round to e4m3 as the hardware does.

    NumPy 2.4 no longer turns an array of one number into a scalar, which bounds of loops need. The
    interpreter's own cast from fp32 to e4m3 does not carry into the exponent.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    patch, convert = interpreter._patch_lang_tensor, interpreter._convert_float

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    def converted(data: Any, source: Any, target: Any, rounding: Any) -> Any:
        if source == tl.float32 and target == tl.float8e4nv:
            exact = torch.from_numpy(np.ascontiguousarray(data).view(np.float32))
            return exact.to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        return convert(data, source, target, rounding)

    interpreter._patch_lang_tensor = patched
    interpreter._convert_float = converted


if INTERPRETED:
    mend_interpreter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip kernels where Triton would want a GPU for them."""
    if not INTERPRETED:
        for item in items:
            if "tests/kernels" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason="runs with TRITON_INTERPRET=1"))
