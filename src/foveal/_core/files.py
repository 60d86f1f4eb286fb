"""Where files go, and how they get there: a temporary name first, then a rename."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foveal.errors import ArgumentError


def cache_dir() -> Path:
    """Return the root of the user's cache: `$FOVEAL_CACHE`, or `$XDG_CACHE_HOME/foveal`."""
    if explicit := os.environ.get("FOVEAL_CACHE"):
        return Path(explicit).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "foveal"


def ensure_dir(path: Path) -> Path:
    """Make a folder (and its parents) and check that it can be written.

    Raises:
        ArgumentError: it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ArgumentError(
            f"output folder: {path} cannot be written ({error.strerror}); choose another folder"
        ) from error
    return path


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it on success, remove it on any error.

    The suffix is kept, since many writers choose the format by it.

    Raises:
        ArgumentError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    ensure_dir(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        raise ArgumentError(
            f"output file: {path} cannot be written ({error.strerror}); "
            "free some space or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes through `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text through `atomic_write`."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, indented, through `atomic_write`. NaN is refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_input(path: str | Path, *, what: str = "input") -> Path:
    """Check that a file is there and is not empty.

    Raises:
        ArgumentError: it is missing, a folder, or empty.
    """
    path = Path(path)
    if not path.exists():
        raise ArgumentError(f"{what}: {path} does not exist; check the name")
    if path.is_dir():
        raise ArgumentError(f"{what}: {path} is a folder, must be a file")
    if path.stat().st_size == 0:
        raise ArgumentError(f"{what}: {path} is empty (0 bytes)")
    return path
