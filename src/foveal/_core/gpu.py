"""Whether Triton kernels can run on a tensor, and on which numbers the chip computes."""

import importlib.util
import os
from functools import cache

import torch
from torch import Tensor

from foveal.errors import UnsupportedError

OLDEST = (8, 0)
"""Least compute capability that Triton's matrix products want."""

MAX_WIDTH = 256
"""Widest head that the kernels take."""

_FP8 = (8, 9)
_HOPPER = (9, 0)


def interpreted() -> bool:
    """Return whether Triton's interpreter stands for a GPU (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


@cache
def _capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


@cache
def _shared_memory(index: int) -> int:
    return torch.cuda.get_device_properties(index).shared_memory_per_block_optin


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if str(device) == "cuda" else device.index


def _capability_of(device: torch.device) -> tuple[int, int]:
    return _capability(_index(device))


def _fp32_bytes(width: int) -> int:
    """Return what the exact kernel holds in fp32: queries, keys, values and weights of a cell."""
    return 1024 * (1 << (width - 1).bit_length())


def triton_refusal(x: Tensor) -> str | None:
    """Say in words why Triton kernels cannot run on `x`; None if they can.

    Only the device, the type and the last axis count; the numbers are not read.
    """
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"it is {x.dtype}, and the kernels take float16, bfloat16 and float32"
    if x.shape[-1] > MAX_WIDTH:
        return f"its width is {x.shape[-1]}, and the kernels take at most {MAX_WIDTH}"
    if interpreted():
        return None if _installed() else "triton is not installed"
    if not x.is_cuda:
        return f"it is on {x.device}, and the kernels run on CUDA devices"
    if not _installed():
        return "triton is not installed; run pip install triton"
    if _capability_of(x.device) < OLDEST:
        return "the GPU is older than compute capability 8.0"
    if x.dtype == torch.float32 and _shared_memory(_index(x.device)) < _fp32_bytes(x.shape[-1]):
        return f"float32 of width {x.shape[-1]} does not fit this GPU's shared memory"
    return None


def check_triton(fn: str, **tensors: Tensor) -> None:
    """Raise UnsupportedError, naming the tensor, unless Triton kernels can run on all of them."""
    for name, x in tensors.items():
        why = triton_refusal(x)
        if why is not None:
            raise UnsupportedError(
                f'{fn}: impl is "triton", must be another one for this {name}: {why}; use '
                'impl="auto"'
            )


def has_fp8(device: torch.device) -> bool:
    """Return whether the device multiplies fp8 E4M3 (compute capability 8.9 and up)."""
    if interpreted():
        return True
    return device.type == "cuda" and _capability_of(device) >= _FP8


def is_hopper(device: torch.device) -> bool:
    """Return whether the device is an H100, an H200 or alike."""
    return device.type == "cuda" and not interpreted() and _capability_of(device) == _HOPPER


def rounds_once(device: torch.device) -> bool:
    """Return whether the device casts fp32 to fp8 in one rounding (Hopper and newer)."""
    return device.type == "cuda" and not interpreted() and _capability_of(device) >= _HOPPER
