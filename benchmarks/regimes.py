"""Noise estimates from single pictures, and what the gate says, against a recogniser's answers.

    python tools/prepare_photos.py PHOTOS
    python benchmarks/regimes.py --photos PHOTOS [--rows FILE] [--out FILE]

Photographs with a shorter side of 320 px are darkened by (exposure factor, shot, read), without and
with a Bayer mosaic or JPEG. Thresholds are chosen on photographs of the training sources and judged
on those kept for evaluation (other sources). What a picture needs is defined by the agreement of
EfficientNet-Lite0 with its own daylight answer, by darkness, over the photographs of the split:

- noise-limited: neither untouched nor the best of three reciprocal curves keeps half of what the
  brightest and cleanest pictures of the grid keep;
- well-lit: else, if untouched keeps at least 0.9 of what the better of untouched and curve keeps;
- light-limited: the rest.

`--rows` keeps what was measured picture by picture, so that thresholds can be chosen again;
`--again` makes the estimates anew and keeps the recogniser's answers.
"""

import argparse
import dataclasses
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from photographs import environment, photographs
from torch import Tensor

from foveal.data.sensor_noise import TRIPLES, Shot, shoot
from foveal.lowlight.regimes import estimate_noise, linear_luminance, sort_regime
from foveal.stats import paired_bootstrap
from foveal.teachers import prepare
from foveal.teachers.efficientnet_lite import EfficientNetLite0

FILE = Path(__file__).parent / "results" / "regimes--cpu.json"
FACTORS = (1.0, 0.2, 0.05, 0.02, 0.01, 0.005, 0.0025)
NOISES = ((1e-4, 1e-7), (4e-4, 4e-7), (1e-3, 1e-6), (4e-3, 2e-5))
GRID = tuple((k, *n) for k in FACTORS for n in NOISES)
CURVES = (0.03, 0.1, 0.3)
LABELS = ("well-lit", "light-limited", "noise-limited")


def facts(dark: Tensor) -> dict[str, Any]:
    """What is kept of an estimate."""
    e = estimate_noise(dark)
    return {
        "problem": e.problem,
        "light": e.light,
        "snr": e.snr,
        "num_levels": e.num_levels,
        "correlated": e.correlated,
        "shot": e.noise.shot[1] if e.noise else None,
        "read": e.noise.read[1] if e.noise else None,
    }


def again(images: list[Tensor], rows: list[dict[str, Any]]) -> None:
    """Make the estimates of rows anew."""
    for row in rows:
        triple = tuple(row["triple"])
        seed = 1000 * row["photo"] + GRID.index(triple)
        shot = Shot.of_triple(triple, seed=seed)
        row |= facts(shoot(images[row["photo"]][None], [shot])[0])


def measure(images: list[Tensor], model: EfficientNetLite0) -> list[dict[str, Any]]:
    """One row for each photograph and darkness."""
    rows = []
    for index, image in enumerate(images):
        day = model(prepare(image)[None]).argmax(-1)
        light = float(linear_luminance(image).mean())
        for condition, triple in enumerate(GRID):
            seed = 1000 * index + condition
            dark = shoot(image[None], [Shot.of_triple(triple, seed=seed)])
            small = prepare(dark)
            views = [small, *((1 + a) * small / (small + a) for a in CURVES)]
            same = (model(torch.cat(views)).argmax(-1) == day).tolist()
            row = {"photo": index, "triple": triple, "true_light": light * triple[0], "same": same}
            rows.append(row | facts(dark[0]))
    return rows


def stored(images: list[Tensor], **how: Any) -> list[dict[str, Any]]:
    """Rows of the five fixed darkness levels through a mosaic or JPEG: estimates only."""
    rows = []
    for (index, image), triple in itertools.product(enumerate(images), TRIPLES):
        shot = dataclasses.replace(Shot.of_triple(triple, seed=index), **how)
        light = float(linear_luminance(image).mean()) * triple[0]
        row = {"photo": index, "triple": triple, "true_light": light}
        rows.append(row | facts(shoot(image[None], [shot])[0]))
    return rows


def truth(rows: list[dict[str, Any]]) -> dict[tuple[float, ...], dict[str, Any]]:
    """What each darkness needs, by the recogniser."""
    found: dict[tuple[float, ...], dict[str, Any]] = {}
    most = 0.0
    for triple in GRID:  # the brightest and cleanest comes first
        same = torch.tensor([r["same"] for r in rows if tuple(r["triple"]) == triple]).double()
        untouched, *curves = same.mean(0).tolist()
        best = max(curves)
        most = most or untouched
        if max(best, untouched) < most / 2:
            label = "noise-limited"
        else:
            label = "well-lit" if untouched >= 0.9 * best else "light-limited"
        found[triple] = {"untouched": untouched, "best_curve": best, "needs": label}
    return found


def errors(rows: list[dict[str, Any]], triples: Any) -> list[dict[str, Any]]:
    """Ratios of estimates to the truth: 10, 50 and 90 % of the photographs."""
    out = []
    for triple in triples:
        chosen = [r for r in rows if tuple(r["triple"]) == triple]
        good = [r for r in chosen if not r["problem"]]
        _, shot, read = triple

        def spread(values: list[float]) -> list[float] | None:
            if not values:
                return None
            return torch.tensor(values).quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()

        deviations = [
            math.sqrt((r["shot"] * r["true_light"] + r["read"]) / (shot * r["true_light"] + read))
            for r in good
        ]
        out.append(
            {
                "triple": triple,
                "photographs": len(chosen),
                "no_estimate": len(chosen) - len(good),
                "called_correlated": sum(r["correlated"] for r in good),
                "shot": spread([r["shot"] / shot for r in good]),
                "read": spread([r["read"] / read for r in good]),
                "deviation_at_mean_light": spread(deviations),
            }
        )
    return out


def score(rows: list[dict[str, Any]], needs: dict[Any, Any], light: float, snr: float) -> Any:
    """Confusion counts (need by verdict), and the mean of the needs' rates of right verdicts."""
    table = {need: dict.fromkeys(LABELS, 0) for need in LABELS}
    for r in rows:
        verdict = sort_regime(r["light"], r["snr"], light_threshold=light, snr_threshold=snr)
        table[needs[tuple(r["triple"])]["needs"]][verdict] += 1
    rates = [t[n] / sum(t.values()) for n, t in table.items() if sum(t.values())]
    return table, sum(rates) / len(rates)


def policies(rows: list[dict[str, Any]], light: float, snr: float) -> dict[str, Any]:
    """Agreement over the whole grid: untouched, with the middle curve, and by the gate."""
    middle = 1 + CURVES.index(0.1)
    found: dict[str, list[float]] = {"untouched": [], "curve": [], "gate": []}
    for r in rows:
        verdict = sort_regime(r["light"], r["snr"], light_threshold=light, snr_threshold=snr)
        found["untouched"].append(r["same"][0])
        found["curve"].append(r["same"][middle])
        found["gate"].append(r["same"][0 if verdict == "well-lit" else middle])
    groups = [r["photo"] for r in rows]
    out: dict[str, Any] = {name: sum(v) / len(v) for name, v in found.items()}
    for other in ("untouched", "curve"):
        gain = paired_bootstrap(found["gate"], found[other], groups=groups)
        out[f"gate - {other}"] = {"mean": gain.mean, "low": gain.low, "high": gain.high}
    return out


def main() -> None:
    """Measure, choose, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    if arguments.rows and arguments.rows.exists():
        rows = json.loads(arguments.rows.read_text())
    else:
        model = EfficientNetLite0.load()
        with torch.inference_mode():
            for split in ("train", "test"):
                images = photographs(arguments.photos, split, arguments.count)
                start = time.perf_counter()
                rows[split] = measure(images, model)
                rows[f"{split}_seconds"] = time.perf_counter() - start
                if arguments.rows:
                    arguments.rows.write_text(json.dumps(rows))
    if arguments.again or "test_jpeg" not in rows:
        for split in ("train", "test") if arguments.again else ():
            again(photographs(arguments.photos, split, arguments.count), rows[split])
        images = photographs(arguments.photos, "test", arguments.count)
        rows["test_mosaic"] = stored(images, mosaic=True)
        rows["test_jpeg"] = stored(images, jpeg_quality=90)
        if arguments.rows:
            arguments.rows.write_text(json.dumps(rows))
    needs = {split: truth(rows[split]) for split in ("train", "test")}
    lights = [10 ** (-3.5 + 0.05 * i) for i in range(51)]
    snrs = [2 ** (-1 + 0.1 * i) for i in range(61)]
    light, snr = max(
        itertools.product(lights, snrs), key=lambda x: score(rows["train"], needs["train"], *x)[1]
    )
    suite = {
        "suite": "regimes",
        **environment("src/foveal/lowlight/regimes.py", "src/foveal/data/sensor_noise"),
        "photographs": {s: len({r["photo"] for r in rows[s]}) for s in ("train", "test")},
        "chosen": {"light": light, "snr": snr},
        "needs": {s: [{"triple": t, **n} for t, n in needs[s].items()] for s in ("train", "test")},
        "verdicts": {},
        "estimates": errors(rows["test"], GRID),
        "estimates_mosaic": errors(rows["test_mosaic"], TRIPLES),
        "estimates_jpeg_90": errors(rows["test_jpeg"], TRIPLES),
    }
    for split in ("train", "test"):
        table, rate = score(rows[split], needs[split], light, snr)
        triples = {}
        for triple in GRID:
            found = [
                sort_regime(r["light"], r["snr"], light_threshold=light, snr_threshold=snr)
                for r in rows[split]
                if tuple(r["triple"]) == triple
            ]
            triples[str(triple)] = {name: found.count(name) for name in LABELS}
        suite["verdicts"][split] = {
            "needs_by_verdict": table,
            "mean_right": rate,
            "by_triple": triples,
            "agreement": policies(rows[split], light, snr),
        }
    arguments.out.write_text(json.dumps(suite, indent=1) + "\n")


if __name__ == "__main__":
    main()
