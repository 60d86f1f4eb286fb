"""The file of a cassette: its first line, and appending to it without ever leaving half a line."""

import contextlib
import json
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from foveal.errors import BitstreamError, UnsupportedError
from foveal.motion.director.chat.request import plain

FORMAT, VERSION = "foveal-chat-cassette", 1
HEADER = json.dumps({"format": FORMAT, "version": VERSION}).encode() + b"\n"


def check_header(line: bytes, name: str) -> None:
    """Check the first line of a file.

    Raises:
        BitstreamError: it is not that of a cassette; shows its start.
        UnsupportedError: it is of another version.
    """
    try:
        header: Any = json.loads(line.decode())
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise BitstreamError(
            f"Cassette: {name} starts with {plain(line[:400].decode(errors='replace'), 80)!r}, "
            f"must start with the format {FORMAT!r}; name a file that Foveal has recorded"
        )
    if header.get("version") != VERSION:
        raise UnsupportedError(
            f"Cassette: {name} is of version {header.get('version')!r}, must be {VERSION}; update "
            "foveal, or record anew"
        )


@contextlib.contextmanager
def _locked(path: Path) -> Generator[int]:
    """Open for appending, and keep other writers out where the system can."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o666)
    try:
        try:
            import fcntl
        except ImportError:  # Windows: appending is whole there, only two writers at once are not
            pass
        else:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def append_line(path: Path, line: bytes, is_whole: Callable[[bytes], bool]) -> None:
    """Append one line: all of it reaches the disk, or nothing.

    The first line of the format is written before the first entry. A line that was cut off when
    somebody recorded before is removed.

    Args:
        path: The file; made if it is not there.
        line: One entry, with its line break.
        is_whole: Whether a last line without a line break is an entry all the same.

    Raises:
        OSError: the file cannot be written.
        BitstreamError: it is no cassette.
        UnsupportedError: it is of another version.
    """
    with _locked(path) as handle:
        _append(handle, line, path.name, is_whole)


def _append(handle: int, line: bytes, name: str, is_whole: Callable[[bytes], bool]) -> None:
    size = os.lseek(handle, 0, os.SEEK_END)
    kept, mend = size, b""
    if size:
        os.lseek(handle, 0, os.SEEK_SET)
        with os.fdopen(os.dup(handle), "rb") as file:
            first = file.readline(1000)
            file.seek(-1, os.SEEK_END)
            whole_lines = file.read() == b"\n"
            file.seek(0)
            data = b"" if whole_lines else file.read()
        if data and len(data) < len(HEADER) and HEADER.startswith(data):
            kept = 0
        else:
            check_header(first.rstrip(b"\n"), name)
            start = data.rfind(b"\n") + 1
            if data and start and not is_whole(data[start:]):
                kept = start
            elif data:
                mend = b"\n"
    if kept < size:
        os.ftruncate(handle, kept)
    whole = (HEADER if kept == 0 else mend) + line
    written = 0
    try:
        written = os.write(handle, whole)
        os.fsync(handle)
    finally:
        if written < len(whole):
            os.ftruncate(handle, kept)
    if written < len(whole):
        raise OSError(0, "only a part was written")
