"""Where files go, and how they get there: a temporary name first, then a rename."""

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Generator
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
        raise _unwritable(path, error) from error
    return path


def check_folder(path: Path) -> Path:
    """Check that a folder can be written, or made, without making it.

    For the time before long work: if that fails, no empty folder is left behind.

    Raises:
        ArgumentError: it cannot be made or written.
    """
    try:
        there = next(p for p in (path, *path.absolute().parents) if p.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def _unwritable(path: Path, error: OSError) -> ArgumentError:
    return ArgumentError(
        f"output folder: {path} cannot be written ({error.strerror}); choose another folder"
    )


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Generator[Path]:
    """Yield a temporary path beside `path`; rename it on success, remove it on any error.

    The suffix is kept, since many writers choose the format by it. The file gets the permissions
    of the one that it replaces, or else those that the umask leaves.

    Raises:
        ArgumentError: the folder cannot be written, the disk is full, the name is too long, or
            `path` is there and is no plain file (a folder, a device).
    """
    path = Path(path)
    ensure_dir(path.parent)
    temporary: Path | None = None
    try:
        mode = path.stat().st_mode if path.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            raise ArgumentError(
                f"output file: {path} is a folder or a device, must be a plain file; "
                "choose another name"
            )
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".foveal-", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask() if mode is None else stat.S_IMODE(mode))
        temporary.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        raise ArgumentError(
            f"output file: {path} cannot be written ({error.strerror}); "
            "free some space or choose another name"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes through `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text through `atomic_write`; what UTF-8 cannot hold becomes a question mark."""
    write_bytes(path, text.encode(errors="replace"))


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, indented, through `atomic_write`. NaN is refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_input(path: str | Path, *, what: str = "input") -> Path:
    """Check that a file is there, is not empty and may be read.

    Raises:
        ArgumentError: it is missing, a folder, empty, or not ours to read.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise ArgumentError(f"{what}: {path} does not exist; check the name")
        if path.is_dir():
            raise ArgumentError(f"{what}: {path} is a folder, must be a file; name one in it")
        if path.stat().st_size == 0:
            raise ArgumentError(
                f"{what}: {path} is empty (0 bytes), must hold data; get the file again"
            )
        with path.open("rb"):
            return path
    except OSError as error:
        raise ArgumentError(
            f"{what}: {path} cannot be read ({error.strerror}); check its permissions"
        ) from error
