"""Unpack the training and evaluation photographs of the samples into OUT/train and OUT/test.

Run: python tools/prepare_photos.py OUT
Shorter side 320 px, JPEG quality 95. The split is by source, so nothing leaks. The photographs
stay on this machine: they are other people's works and are not part of Foveal.
"""

import io
import struct
import sys
import zlib
from pathlib import Path

from PIL import Image

from foveal.data import samples


def read_qt_resources(data: bytes) -> dict[str, bytes]:
    """Files of a Qt binary resource (.rcc), by path; zlib and stored entries."""
    magic, version, tree, blobs, names = struct.unpack(">4siiii", data[:20])
    if magic != b"qres":
        raise ValueError("not a Qt resource file")
    size = 22 if version >= 2 else 14
    out: dict[str, bytes] = {}

    def name_of(offset: int) -> str:
        at = names + offset
        (length,) = struct.unpack(">H", data[at : at + 2])
        return data[at + 6 : at + 6 + 2 * length].decode("utf-16-be")

    def walk(node: int, prefix: str) -> None:
        at = tree + node * size
        name, flags = struct.unpack(">IH", data[at : at + 6])
        path = f"{prefix}/{name_of(name)}" if node else ""
        if flags & 2:
            count, first = struct.unpack(">II", data[at + 6 : at + 14])
            for child in range(first, first + count):
                walk(child, path)
            return
        (offset,) = struct.unpack(">I", data[at + 10 : at + 14])
        start = blobs + offset
        (length,) = struct.unpack(">I", data[start : start + 4])
        blob = data[start + 4 : start + 4 + length]
        if flags & 4:
            return  # zstd: not used by the photographs
        out[path] = zlib.decompress(blob[4:]) if flags & 1 else blob

    walk(0, "")
    return out


def main() -> None:
    """Write the two folders."""
    out = Path(sys.argv[1])
    counts = {"train": 0, "test": 0}
    for name, sample in samples.catalogue().items():
        if not name.startswith(("gcompris", "wallpaper")):
            continue
        split = "test" if "evaluation" in sample.use else "train"
        data = samples.path(name).read_bytes()
        files = {name: data} if name.startswith("wallpaper") else read_qt_resources(data)
        for index, (path, blob) in enumerate(sorted(files.items())):
            if Path(path).suffix in {".svg", ".qml", ".js", ".ogg", ".json"}:
                continue
            try:
                image = Image.open(io.BytesIO(blob)).convert("RGB")
            except OSError:
                continue
            if min(image.size) < 320 or image.size[0] == image.size[1] == 512:
                continue
            scale = 320 / min(image.size)
            image = image.resize(
                (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
            )
            target = out / split / f"{name}-{index:03d}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            image.save(target, quality=95)
            counts[split] += 1
    sys.stdout.write(f"{counts}\n")


if __name__ == "__main__":
    main()
