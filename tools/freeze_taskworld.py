"""Compare the taskworld with photographs, and write down what it is: docs/taskworld.json, goldens.

    python tools/prepare_photos.py PHOTOS
    python tools/freeze_taskworld.py PHOTOS            measure, write docs/taskworld.json
    python tools/freeze_taskworld.py PHOTOS --golden   also tests/golden/taskworld: a new VERSION

Bits are those of whole WebP files (Pillow, quality 50, method 4) at 256 px. The slope is that of
the logarithm of the amplitude spectrum of the luma against that of the frequency, over the
frequencies from 4 to 96 waves a picture, under a Hann window.
"""

import argparse
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from foveal.data import taskworld

ROOT = Path(__file__).parent.parent
SIZE, SCENES, SEEDS, CLIPS, GOLDEN, SMALL = 256, 200, 64, 16, 8, 64


def bits(picture: NDArray[np.uint8]) -> float:
    """Bits a pixel of the WebP file."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "WEBP", quality=50, method=4)
    return 8 * out.tell() / (picture.shape[0] * picture.shape[1])


def slope(picture: NDArray[np.uint8]) -> float:
    """Exponent of the amplitude spectrum."""
    luma = picture.astype(float) @ (0.299, 0.587, 0.114) / 255
    side = len(luma)
    hann = np.hanning(side)
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2((luma - luma.mean()) * np.outer(hann, hann))))
    y, x = np.indices(luma.shape) - side // 2
    ring = np.hypot(x, y).round().astype(int)
    mean = np.bincount(ring.ravel(), spectrum.ravel()) / np.bincount(ring.ravel())
    waves = np.arange(4, 97)
    return float(np.polyfit(np.log(waves), np.log(mean[waves] + 1e-9), 1)[0])


def photographs(folder: Path) -> Iterable[NDArray[np.uint8]]:
    """The packaged photographs: the middle of each, its shorter side brought to 256 px."""
    for path in sorted(folder.glob("t*/*.jpg")):
        image = Image.open(path).convert("RGB")
        scale = SIZE / min(image.size)
        size = (max(SIZE, round(image.width * scale)), max(SIZE, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
        x, y = (image.width - SIZE) // 2, (image.height - SIZE) // 2
        yield np.asarray(image.crop((x, y, x + SIZE, y + SIZE)))


def drawn(split: str, count: int, size: int) -> Iterable[NDArray[np.uint8]]:
    """The first scenes of a split."""
    for first in range(0, count, 8):
        some = [taskworld.sample(i, split) for i in range(first, min(count, first + 8))]
        image = taskworld.render(some, size).image
        yield from (image * 255).round().byte().permute(0, 2, 3, 1).numpy()


def summary(pictures: Iterable[NDArray[np.uint8]]) -> dict[str, object]:
    """Quartiles of both measures."""
    rows = np.array([(bits(p), slope(p)) for p in pictures])
    parts = np.quantile(rows, (0.25, 0.5, 0.75), axis=0).T.round(3).tolist()
    return {"pictures": len(rows), "bits_per_pixel": parts[0], "spectrum_slope": parts[1]}


def freeze() -> None:
    """Write the goldens."""
    folder = ROOT / "tests" / "golden" / "taskworld"
    folder.mkdir(parents=True, exist_ok=True)
    prints = {s: taskworld.fingerprint(s, range(SEEDS)) for s in taskworld.SPLITS}
    clips = {s: taskworld.fingerprint_clips(s, range(CLIPS)) for s in taskworld.SPLITS}
    frozen = {
        "version": taskworld.VERSION, "seeds": SEEDS, "fingerprints": prints,
        "clips": CLIPS, "clip_fingerprints": clips,
    }  # fmt: skip
    (folder / "fingerprints.json").write_text(json.dumps(frozen, indent=2) + "\n")
    for split in ("val", "shift"):
        labels = taskworld.render([taskworld.sample(i, split) for i in range(GOLDEN)], SMALL)
        small = eight_bit(labels)
        np.savez_compressed(folder / f"{split}.npz", allow_pickle=False, **small)


def eight_bit(labels: taskworld.Labels) -> dict[str, NDArray[np.uint8]]:
    """Labels in 8 bits: what the goldens hold."""
    depth = taskworld.encode_depth(labels.depth) * labels.valid
    parts = {
        "image": labels.image, "normal": labels.normal / 2 + 0.5, "depth": depth,
        "reshading": labels.reshading, "occlusion_edge": labels.occlusion_edge,
        "texture_edge": labels.texture_edge, "curvature": labels.curvature / 10,
        "keypoints": labels.keypoints,
    }  # fmt: skip
    out = {k: (v.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy() for k, v in parts.items()}
    for name in ("segmentation", "scene_class", "object_count"):
        out[name] = getattr(labels, name).to(torch.uint8).cpu().numpy()
    return out


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--golden", action="store_true")
    options = parser.parse_args()
    photos = summary(photographs(options.photos))
    measured: dict[str, object] = {
        "version": taskworld.VERSION, "quality": 50, "method": 4, "size": SIZE,
        "quartiles": [0.25, 0.5, 0.75], "photographs": photos,
    }  # fmt: skip
    for split in ("val", "shift"):
        measured[split] = summary(drawn(split, SCENES, SIZE))
    text = json.dumps(measured, indent=2) + "\n"
    (ROOT / "docs" / "taskworld.json").write_text(text)
    sys.stdout.write(text)
    if options.golden:
        freeze()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
