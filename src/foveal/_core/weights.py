"""Weights: safetensors for the numbers, a JSON file beside it for everything else."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveal._core.files import atomic_write, read_input, write_json
from foveal.errors import ArgumentError

FORMAT_VERSION = 1
MAX_BYTES = 64 << 20
MAX_CONFIG_BYTES = 16 << 20


def packaged(name: str, *, prefix: str = "", family: str = "") -> Path:
    """Return the path of the weights that ship with Foveal under `prefix` and `name`.

    `family` is how names of the wanted kind begin; others are neither taken nor listed.

    Raises:
        ArgumentError: there are none of that name; the message lists those that exist.
    """
    folder = Path(__file__).parent.parent / "weights"
    known = sorted(
        p.stem.removeprefix(prefix) for p in folder.glob(f"{prefix}{family}*.safetensors")
    )
    if name not in known:
        raise ArgumentError(
            f"weights: name is {name!r}, must be one of {known} or a path that ends in .safetensors"
        )
    return folder / f"{prefix}{name}.safetensors"


def save_weights(path: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write `tensors` to `path` (.safetensors) and `config` to the JSON file beside it.

    The JSON holds the format version, the SHA-256 of the tensors' file and `config`. Both files are
    written before either takes the place of an old one, so that a full disk leaves the old pair.

    Raises:
        ArgumentError: `path` has another suffix, or cannot be written.
    """
    from safetensors.torch import save

    if path.suffix != ".safetensors":
        raise ArgumentError(
            f"weights: path is {path}, must end in .safetensors; choose another name"
        )
    data = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    about = {
        "format_version": FORMAT_VERSION,
        "sha256": hashlib.sha256(data).hexdigest(),
        "config": config,
    }
    with atomic_write(path) as first, atomic_write(path.with_suffix(".json")) as second:
        first.write_bytes(data)
        write_json(second, about)


def load_weights(
    path: Path, *, max_bytes: int | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `save_weights` wrote, after its size and SHA-256 were checked.

    Args:
        path: The .safetensors file.
        max_bytes: Largest file of tensors to read. Default: 64 MiB.

    Returns: the config and the tensors (fp16 is widened to fp32).

    Raises:
        ArgumentError: a file is missing, damaged, too large or of another format version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = read_input(path, what="weights")
    sidecar = read_input(path.with_suffix(".json"), what="weights config")
    limit = MAX_BYTES if max_bytes is None else max_bytes
    for file, most in ((path, limit), (sidecar, MAX_CONFIG_BYTES)):
        if file.stat().st_size > most:
            raise ArgumentError(
                f"weights: {file} has {file.stat().st_size} bytes, must have at most {most}; give "
                "the file that was meant"
            )
    try:
        meta = json.loads(sidecar.read_text())
        version, digest, config = meta["format_version"], meta["sha256"], dict(meta["config"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArgumentError(f"weights config: {sidecar} cannot be read ({error!r})") from error
    if version != FORMAT_VERSION:
        raise ArgumentError(
            f"weights config: {sidecar} has format_version {version}, must be {FORMAT_VERSION}; "
            "use the Foveal version that wrote it"
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ArgumentError(f"weights: {path} does not match its SHA-256; get the file again")
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ArgumentError(f"weights: {path} is not a safetensors file ({error})") from error
    return config, {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}
