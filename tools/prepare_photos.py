"""Unpack the photographs of the samples into OUT/train, OUT/test and OUT/stamps (cut-outs).

Run: python tools/prepare_photos.py OUT
Shorter side at most 576 px for training and 320 px for evaluation. The split is by
source, so nothing leaks. The photographs stay on this machine: they are other
people's works and are not part of Foveal.
"""

import hashlib
import io
import sys
from pathlib import Path

from PIL import Image

from foveal.data import samples
from foveal.data.photographs import read_qt_resources

SHORT = {"train": 576, "test": 320}
STAMP = 256
QUALITY = 88


def shrink(image: Image.Image, short: int) -> Image.Image:
    """The image with its shorter side at most `short` pixels."""
    scale = min(1.0, short / min(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def main() -> None:
    """Write the three folders."""
    out = Path(sys.argv[1])
    counts = {"train": 0, "test": 0, "stamps": 0}
    seen: set[str] = set()

    def write(image: Image.Image, split: str, name: str) -> None:
        digest = hashlib.sha256(image.resize((64, 64)).tobytes()).hexdigest()
        if digest in seen:
            return
        seen.add(digest)
        target = out / split / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if split == "stamps":
            image.save(target.with_suffix(".webp"), quality=85)
        else:
            image.save(target.with_suffix(".jpg"), quality=95 if split == "test" else QUALITY)
        counts[split] += 1

    rows = samples.catalogue().items()
    wanted = [(name, sample) for name, sample in rows if sample.use.startswith("photograph")]
    samples.fetch(name for name, _ in wanted)  # each package once
    for name, sample in sorted(wanted, key=lambda row: "evaluation" not in row[1].use):
        data = samples.path(name).read_bytes()
        files = read_qt_resources(data) if sample.inside.endswith(".rcc") else {name: data}
        split = "test" if "evaluation" in sample.use else "train"
        for index, (path, blob) in enumerate(sorted(files.items())):
            if Path(path).suffix in {".svg", ".qml", ".js", ".ogg", ".json"}:
                continue
            try:
                image = Image.open(io.BytesIO(blob))
                image.load()
            except OSError:
                continue
            if "cut-outs" in sample.use:
                image = image.convert("RGBA")
                image.thumbnail((STAMP, STAMP), Image.Resampling.LANCZOS)
                write(image, "stamps", name)
                continue
            image = image.convert("RGB")
            if min(image.size) < (320 if split == "test" else 220):
                continue
            if image.size[0] == image.size[1] == 512 and name.startswith("gcompris"):
                continue  # menu pictures
            write(shrink(image, SHORT[split]), split, f"{name}-{index:03d}")
    sys.stdout.write(f"{counts}\n")


if __name__ == "__main__":
    main()
