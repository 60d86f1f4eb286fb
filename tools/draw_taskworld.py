"""Draw docs/images/taskworld.webp, a scene a row with its labels, and taskworld_clip.webp.

    python tools/draw_taskworld.py [--split val] [--size 160] [--clip 1] [--out docs/images]

Columns: picture, segmentation, normals, depth, reshading, occlusion edges, texture edges,
curvature, keypoints, things. In the clip: picture, flow (hue is its direction), and where the next
frame shows the same.
"""

import argparse
import colorsys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from foveal.data import taskworld

ROOT = Path(__file__).parent.parent
GAP = 3
COLORS = np.array(
    [
        (120, 112, 104), (206, 188, 160), (232, 232, 240), (120, 182, 250), (250, 240, 120),
        (182, 92, 42), (232, 146, 62), (88, 88, 96), (42, 150, 62), (220, 42, 46), (240, 120, 200),
        (92, 62, 222),
    ], np.uint8,
)  # fmt: skip
THINGS = np.array(
    [(0, 0, 0)] + [
        [int(255 * c) for c in colorsys.hsv_to_rgb(i * 0.618 % 1, 0.7, 0.95)]
        for i in range(taskworld.MAX_COUNT)
    ], np.uint8,
)  # fmt: skip


def grey(x: Tensor) -> NDArray[np.uint8]:
    """Maps as pictures."""
    return (x[..., None].expand(*x.shape, 3).clamp(0, 1) * 255).round().byte().numpy()


def color(x: Tensor) -> NDArray[np.uint8]:
    """Channels last, 8 bits."""
    return (x.movedim(-3, -1).clamp(0, 1) * 255).round().byte().numpy()


def columns(labels: taskworld.Labels) -> list[NDArray[np.uint8]]:
    """All maps of a batch as pictures."""
    return [
        color(labels.image), COLORS[labels.segmentation.numpy()], color(labels.normal / 2 + 0.5),
        grey(taskworld.encode_depth(labels.depth) * labels.valid), grey(labels.reshading),
        grey(labels.occlusion_edge), grey(labels.texture_edge), grey(labels.curvature.mean(1) / 6),
        grey(labels.keypoints), THINGS[labels.object_id.numpy() + 1],
    ]  # fmt: skip


def wheel(flow: Tensor) -> NDArray[np.uint8]:
    """Flow as hue and saturation."""
    x, y = flow.numpy()
    size = np.hypot(x, y)
    hue = (np.arctan2(y, x) / (2 * np.pi)) % 1
    strength = np.clip(size / max(1e-3, np.quantile(size, 0.99)), 0, 1)
    hsv = np.stack([hue, strength, np.ones_like(hue)], -1)
    return np.asarray(Image.fromarray((hsv * 255).astype(np.uint8), "HSV").convert("RGB"))


def sheet(rows: list[list[NDArray[np.uint8]]]) -> Image.Image:
    """Tiles on white."""
    side, count = rows[0][0].shape[0], len(rows[0])
    out = np.full((len(rows) * (side + GAP), count * (side + GAP), 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            y, x = i * (side + GAP), j * (side + GAP)
            out[y : y + side, x : x + side] = tile
    return Image.fromarray(out[:-GAP, :-GAP])


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", default="val", choices=taskworld.SPLITS)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--clip", type=int, default=1, help="seed of the clip, of train")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[int, taskworld.Scene] = {}
    seed = 0
    while len(found) < len(taskworld.SCENES):
        scene = taskworld.sample(seed, options.split)
        found.setdefault(scene.scene_class, scene)
        seed += 1
    parts = columns(taskworld.render([found[i] for i in sorted(found)], options.size))
    rows = [[part[i] for part in parts] for i in range(len(found))]
    sheet(rows).save(options.out / "taskworld.webp", quality=78, method=6)
    clip = taskworld.sample_clip(options.clip, "train", 31)
    frames = list(taskworld.render_clip(clip, options.size))[::5]
    tiles = [
        [color(f.labels.image[0]) for f in frames], [wheel(f.flow) for f in frames],
        [grey(f.visible.float()) for f in frames],
    ]  # fmt: skip
    sheet(tiles).save(options.out / "taskworld_clip.webp", quality=78, method=6)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
