"""Denoise before the curve against the curve alone, by darkness.

    python tools/prepare_photos.py PHOTOS
    python benchmarks/denoise.py --photos PHOTOS [--count 42] [--out FILE]

Photographs kept for evaluation, shorter side 320 px, darkened by the five fixed triples. Two
curves: reciprocal with a = 0.1, and the shipped one, predicted from the picture that it brightens.
PSNR is of the picture after the reciprocal curve, against the same curve on the picture that was
darkened without noise and rounding. Agreement is with EfficientNet-Lite0's own daylight answer.
Intervals are 95 %, paired over photographs, one noise draw each.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from photographs import environment, photographs
from torch import Tensor

from foveal.data.sensor_noise import TRIPLES, NoiseLine, Shot, linear_to_srgb, shoot, srgb_to_linear
from foveal.errors import UnsupportedError
from foveal.lowlight import ConcaveCurve
from foveal.lowlight.denoise import denoise
from foveal.stats import paired_bootstrap
from foveal.teachers import prepare
from foveal.teachers.efficientnet_lite import EfficientNetLite0

FILE = Path(__file__).parent / "results" / "denoise--cpu.json"
SOURCES = [
    *(f"src/foveal/lowlight/{name}.py" for name in ("denoise", "regimes", "concave_curve")),
    "src/foveal/data/sensor_noise",
]
VARIANTS = ("none", "anscombe", "k-sigma", "anscombe, true noise")
CURVES = ("reciprocal", "shipped")


def reciprocal(x: Tensor) -> Tensor:
    """The fixed curve."""
    return 1.1 * x / (x + 0.1)


def variant(dark: Tensor, name: str, triple: tuple[float, float, float]) -> Tensor:
    """One way to denoise; a picture whose noise cannot be estimated stays as it is."""
    if name == "none":
        return dark
    if name == "anscombe, true noise":
        return denoise(dark, NoiseLine.same(*triple[1:]))
    try:
        return denoise(dark, transform="k-sigma" if name == "k-sigma" else "anscombe")
    except UnsupportedError:
        return dark


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=42)
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = photographs(arguments.photos, "test", arguments.count)
    model, shipped = EfficientNetLite0.load(), ConcaveCurve.load()
    found: dict[Any, list[float]] = {}
    spent, pixels = dict.fromkeys(VARIANTS, 0.0), 0
    with torch.inference_mode():
        days = [int(model(prepare(image)[None]).argmax()) for image in images]
        for triple in TRIPLES:
            for index, (image, day) in enumerate(zip(images, days, strict=True)):
                dark = shoot(image[None], [Shot.of_triple(triple, seed=index)])[0]
                clean = reciprocal(linear_to_srgb(srgb_to_linear(image) * triple[0]))
                pixels += image[0].numel()
                views: list[Tensor] = []
                for name in VARIANTS:
                    start = time.process_time()
                    out = variant(dark, name, triple)
                    spent[name] += time.process_time() - start
                    bright = reciprocal(out)
                    error = float((bright - clean).square().mean())
                    psnr = -10 * float(torch.tensor(error).log10())
                    found.setdefault((triple, name, "psnr"), []).append(psnr)
                    views += [prepare(bright), prepare(shipped(out[None])[0])]
                same = (model(torch.stack(views)).argmax(-1) == day).float().tolist()
                for name, pair in zip(
                    VARIANTS, zip(same[::2], same[1::2], strict=True), strict=True
                ):
                    for curve, value in zip(CURVES, pair, strict=True):
                        found.setdefault((triple, name, curve), []).append(value)
    rows = []
    for triple in TRIPLES:
        for name in VARIANTS:
            row: dict[str, Any] = {"triple": triple, "denoise": name}
            for measure in ("psnr", *CURVES):
                values, base = (found[triple, n, measure] for n in (name, "none"))
                gain = paired_bootstrap(values, base)
                row[measure] = {
                    "mean": sum(values) / len(values),
                    "gain": {"mean": gain.mean, "low": gain.low, "high": gain.high},
                }
            rows.append(row)
    suite = {
        "suite": "denoise",
        **environment(*SOURCES),
        "photographs": len(images),
        "seconds_a_megapixel": {k: 1e6 * v / pixels for k, v in spent.items() if k != "none"},
        "timing": "CPU seconds of the process, the estimate included",
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(suite, indent=1) + "\n")


if __name__ == "__main__":
    main()
