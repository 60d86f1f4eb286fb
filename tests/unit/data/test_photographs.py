"""Qt resource files: what is written by hand is read; what is damaged is refused."""

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.data.photographs import evaluation_photographs, read_qt_resources
from foveal.errors import MediaError


def name(text: str) -> bytes:
    return struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")


def resource() -> bytes:
    """A root with a folder "a" of one stored and one compressed file."""
    names, offsets = b"", []
    for text in ("a", "one.txt", "two.txt"):
        offsets.append(len(names))
        names += name(text)
    packed = struct.pack(">I", 3) + zlib.compress(b"two")
    blobs = struct.pack(">I", 3) + b"one" + struct.pack(">I", len(packed)) + packed
    node = struct.Struct(">IHII8x")
    tree = node.pack(0, 2, 1, 1)
    tree += node.pack(offsets[0], 2, 2, 2)
    file = struct.Struct(">IHHHI8x")
    tree += file.pack(offsets[1], 0, 0, 0, 0)
    tree += file.pack(offsets[2], 1, 0, 0, 7)
    start = 20
    head = struct.pack(
        ">4siiii", b"qres", 2, start, start + len(tree), start + len(tree) + len(blobs)
    )
    return head + tree + blobs + names


def test_files_are_found_by_path() -> None:
    assert read_qt_resources(resource()) == {"/a/one.txt": b"one", "/a/two.txt": b"two"}


@given(st.integers(0, len(resource()) - 1), st.integers(0, 255))
def test_damage_is_an_error_of_ours(at: int, byte: int) -> None:
    data = bytearray(resource())
    data[at] = byte
    with contextlib.suppress(MediaError):
        read_qt_resources(bytes(data))


@pytest.mark.parametrize("length", [0, 10, 19, 60, 100])
def test_truncated_files_are_refused(length: int) -> None:
    with pytest.raises(MediaError, match="read_qt_resources"):
        read_qt_resources(resource()[:length])


@pytest.mark.assets
def test_the_evaluation_photographs() -> None:
    found = list(evaluation_photographs(shorter_side=64))
    assert len(found) == 57
    assert all(min(x.shape[1:]) == 64 for x in found)
    assert all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in found)
