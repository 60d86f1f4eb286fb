"""`foveal doctor`: what is installed, what will run, and what will not, and why."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from typing import Any

from foveal import __version__
from foveal._core.files import cache_dir
from foveal.cli.common import Json, emit

_EXTRAS = {
    "llm": ("transformers", "gguf", "accelerate"),
    "video": ("av",),
    "motion": ("mujoco", "scipy"),
}
_BASE = ("torch", "numpy", "safetensors", "jaxtyping", "pillow", "rich", "typer")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def examine() -> dict[str, Any]:
    """Return versions, devices, extras, caches and fast paths as plain data."""
    import torch

    from foveal._core.gpu import triton_refusal

    cache = cache_dir()
    size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) if cache.exists() else 0
    device = "cuda" if torch.cuda.is_available() else "cpu"
    refusal = triton_refusal(torch.zeros(1, dtype=torch.bfloat16, device=device))
    extras = {extra: {p: _version(p) for p in packages} for extra, packages in _EXTRAS.items()}
    return {
        "foveal": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {p: _version(p) for p in _BASE},
        "devices": {
            "cpu": {"cores": os.cpu_count(), "threads": torch.get_num_threads()},
            "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "extras": extras,
        "cache": {"path": str(cache), "bytes": size},
        "fast_paths": {
            "block-sparse attention, cpu": "runs",
            "block-sparse attention, triton": "runs" if refusal is None else f"no: {refusal}",
            "physics tracking (mpc)": _needs("mujoco", "motion"),
            "video": _needs("av", "video"),
            "language models": _needs("transformers", "llm"),
        },
    }


def _needs(module: str, extra: str) -> str:
    if importlib.util.find_spec(module) is not None:
        return "runs"
    return f"missing: pip install 'foveal[{extra}]'"


def doctor(as_json: Json = False) -> None:
    """Say which versions, devices, extras and caches there are, and which fast paths will run."""
    facts = examine()
    lines = [
        f"foveal {facts['foveal']}, Python {facts['python']}, {facts['platform']}",
        f"interpreter: {sys.executable}",
    ]
    lines += [f"{name} {version}" for name, version in facts["packages"].items()]
    cpu = facts["devices"]["cpu"]
    lines.append(f"cpu: {cpu['cores']} cores, {cpu['threads']} threads")
    lines.append(f"cuda: {', '.join(facts['devices']['cuda']) or 'none'}")
    for extra, packages in facts["extras"].items():
        state = ", ".join(f"{p} {v or 'missing'}" for p, v in packages.items())
        lines.append(f"extra {extra}: {state}")
    lines.append(f"cache: {facts['cache']['path']}, {facts['cache']['bytes'] / 1e6:.1f} MB")
    lines += [f"{name}: {state}" for name, state in facts["fast_paths"].items()]
    emit(facts, as_json, lines)
