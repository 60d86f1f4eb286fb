"""Draw docs/images/codec_answers.webp and codec_curves.svg.

    python tools/draw_codec.py [--scenes 4] [--out docs/images]

Answers: a scene a row; the picture, then segmentation, normals and reshading, each from full
features and from files of the bytes that the caption says. Curves: what of the mean retention of
four tasks is lost, against bytes, of benchmarks/results/codec-tasks--h200.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from draw_taskworld import sheet
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from foveal import codec
from foveal.cli.answers import picture_of
from foveal.codec.sources import network
from foveal.data import taskworld
from foveal.web.page import line_plot

ROOT = Path(__file__).parent.parent
TASKS = ("segmentation", "normal", "reshading")
BUDGETS = (400, 160)
SIDE = 128
LINES = {
    "joint-global": ("joint", "#0b7285"),
    "separate-global": ("separate", "#c92a2a"),
    "random-global": ("analysis never trained", "#868e96"),
}
STYLE = "<style>text{font:12px sans-serif;fill:#555}.grid{stroke:#ddd}</style>"


def tile(picture: Tensor) -> NDArray[np.uint8]:
    """Return a picture [3, h, w] in [0, 1] as a tile."""
    array = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    small = Image.fromarray(array).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small)


@torch.no_grad()
def answers(scenes: int) -> Image.Image:
    """Draw pictures and answers; scenes are the first of validation of different classes."""
    found: dict[int, taskworld.Scene] = {}
    seed = 0
    while len(found) < scenes:
        scene = taskworld.sample(seed, "val")
        found.setdefault(scene.scene_class, scene)
        seed += 1
    images = taskworld.render([found[i] for i in sorted(found)], 256).image
    model = codec.load("joint-4task")
    networks: dict[str, Any] = {t: network(model.config.source_map[t]) for t in TASKS}
    features = codec.features_of(model, images)
    shown = [{t: features[t] for t in TASKS}]
    for budget in BUDGETS:
        parts: list[dict[str, Tensor]] = []
        for i in range(len(images)):
            one = {name: x[i : i + 1] for name, x in features.items()}
            stream = codec.encode(model, one, target_bytes=budget)
            parts.append(codec.decode(model, stream.payload))
        shown.append({t: torch.cat([part[t] for part in parts]) for t in TASKS})
    rows: list[list[NDArray[np.uint8]]] = []
    for i in range(len(images)):
        row = [tile(images[i])]
        for task in TASKS:
            for kept in shown:
                answer = networks[task].decode(kept[task][i : i + 1])[0]
                row.append(tile(picture_of(task, answer)))
        rows.append(row)
    return sheet(rows)


def curves() -> str:
    """Draw lost retention against bytes."""
    study = json.loads((ROOT / "benchmarks/results/codec-tasks--h200.json").read_text())
    series: list[tuple[str, str, list[tuple[float, float]]]] = []
    for item in study["codecs"]:
        if item["name"] in LINES:
            points = [(p["bytes"], 100 * max(0.0, 1 - p["mean"])) for p in item["points"]]
            series.append((*LINES[item["name"]], points))
    svg = line_plot(
        series, x_label="bytes of a picture's file", y_label="mean retention lost, %", log_x=True
    ).partition("<p class")[0]
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        ">", ">" + STYLE, 1
    )


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    answers(options.scenes).save(options.out / "codec_answers.webp", quality=82, method=6)
    (options.out / "codec_curves.svg").write_text(curves() + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
