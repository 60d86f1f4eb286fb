"""Photographs that ship inside public packages, unpacked in memory."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from foveal.data import samples
from foveal.errors import MediaError

_NO_PICTURES = {".svg", ".qml", ".js", ".ogg", ".json"}
_LEAST_SIDE = 320
_MENU = (512, 512)
_DEEPEST = 32
_MOST_BYTES = 64 << 20


def read_qt_resources(data: bytes) -> dict[str, bytes]:
    """Return the files of a Qt binary resource (.rcc), by path; zlib and stored entries.

    Raises: MediaError: it is none, or is damaged.
    """
    try:
        return _read_qt_resources(data)
    except (struct.error, zlib.error, IndexError, UnicodeDecodeError) as error:
        raise MediaError(f"read_qt_resources: data is damaged ({error}); get it again") from error


def _read_qt_resources(data: bytes) -> dict[str, bytes]:
    magic, version, tree, blobs, names = struct.unpack(">4siiii", data[:20])
    if magic != b"qres" or min(tree, blobs, names) < 0:
        raise MediaError("read_qt_resources: data is no Qt resource file, must begin with 'qres'")
    size = 22 if version >= 2 else 14
    out: dict[str, bytes] = {}

    def name_of(offset: int) -> str:
        at = names + offset
        (length,) = struct.unpack(">H", data[at : at + 2])
        return data[at + 6 : at + 6 + 2 * length].decode("utf-16-be")

    def walk(node: int, prefix: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise MediaError("read_qt_resources: folders lie deeper than 32, or in a ring")
        at = tree + node * size
        name, flags = struct.unpack(">IH", data[at : at + 6])
        path = f"{prefix}/{name_of(name)}" if node else ""
        if flags & 2:
            count, first = struct.unpack(">II", data[at + 6 : at + 14])
            if count > len(data) // size:
                raise MediaError(f"read_qt_resources: a folder has {count} files, more than fit")
            for child in range(first, first + count):
                walk(child, path, depth + 1)
            return
        (offset,) = struct.unpack(">I", data[at + 10 : at + 14])
        start = blobs + offset
        (length,) = struct.unpack(">I", data[start : start + 4])
        blob = data[start + 4 : start + 4 + length]
        if flags & 4:
            return  # zstd: not used by the photographs
        if flags & 1:
            unpack = zlib.decompressobj()
            blob = unpack.decompress(blob[4:], _MOST_BYTES)
            if not unpack.eof:
                raise MediaError(f"read_qt_resources: {path} is cut off or larger than 64 MiB")
        out[path] = blob

    walk(0, "", 0)
    return out


def evaluation_photographs(*, shorter_side: int) -> Iterator[Float[Tensor, "3 height width"]]:
    """Yield the photographs that nothing is trained on: animals of gcompris-qt-data.

    Args:
        shorter_side: Larger ones are made smaller to this, in pixels.

    Raises: MediaError: a package cannot be fetched.
    """
    seen: set[bytes] = set()
    for name, sample in samples.catalogue().items():
        if not (name.startswith("gcompris") and "evaluation" in sample.use):
            continue
        for path, blob in sorted(read_qt_resources(samples.path(name).read_bytes()).items()):
            if Path(path).suffix in _NO_PICTURES:
                continue
            try:
                image = Image.open(io.BytesIO(blob)).convert("RGB")
            except OSError:
                continue
            small = image.resize((64, 64)).tobytes()
            if min(image.size) < _LEAST_SIDE or image.size == _MENU or small in seen:
                continue
            seen.add(small)
            scale = min(1.0, shorter_side / min(image.size))
            size = (round(image.width * scale), round(image.height * scale))
            image = image.resize(size, Image.Resampling.LANCZOS)
            yield torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
