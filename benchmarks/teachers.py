"""What frozen recognisers still see in the dark, and what they cost, on one CPU thread.

    python benchmarks/teachers.py [--draws N] [--rows FILE] [--out FILE]

57 animal photographs of gcompris-qt-data at their own size, by daylight and darkened by the fixed
triples (exposure factor, shot, read), as they are and brightened back by the inverse factor. A
thing found by daylight (score >= 0.3) is kept if the dark picture has a box of its class that
overlaps it by half. Of EfficientNet-Lite0 the top class counts. `--rows` keeps what is done, so
that a run that was broken off goes on; what is there is written after each darkness.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from photographs import environment
from torch import Tensor

from foveal.data.photographs import evaluation_photographs
from foveal.data.sensor_noise import TRIPLES, Shot, linear_to_srgb, shoot, srgb_to_linear
from foveal.teachers import Detections, prepare
from foveal.teachers.centernet import CenterNet
from foveal.teachers.efficientnet_lite import EfficientNetLite0
from foveal.teachers.mtcnn import MTCNN
from foveal.teachers.nanodet import NanoDet
from foveal.teachers.person_mask import PersonMask
from foveal.teachers.pp_ocr import TextDetector, TextReader
from foveal.teachers.protocol import box_overlap

FILE = Path(__file__).parent / "results" / "teachers--cpu.json"
SOURCES = ["src/foveal/teachers", "src/foveal/data/sensor_noise", "benchmarks/teachers.py"]
PICTURES = {".svg", ".qml", ".js", ".ogg", ".json"}
THRESHOLD, OVERLAP = 0.3, 0.5


def animals() -> list[Tensor]:
    """The photographs of the evaluation split at their own size, as (1, 3, height, width)."""
    return [x[None] for x in evaluation_photographs(shorter_side=10**6)]


def kept(day: Detections, night: Detections) -> int:
    """Things of the day that the night still has; each box of the night serves once."""
    overlap = box_overlap(day.boxes, night.boxes)
    overlap = overlap * (day.labels[:, None] == night.labels[None])
    number = 0
    for row in range(len(day)):
        if not len(night):
            break
        best = int(overlap[row].argmax())
        if overlap[row, best] >= OVERLAP:
            number += 1
            overlap[:, best] = 0
    return number


def measure(
    photos: list[Tensor], draws: int, done: list[dict[str, Any]]
) -> Generator[list[dict[str, Any]]]:
    """Rows of one darkness after the other, one for each recogniser; what is done is left out."""
    detectors = {"CenterNet": CenterNet.load(), "NanoDet": NanoDet.load()}
    lite = EfficientNetLite0.load()

    def top(x: Tensor) -> int:
        with torch.no_grad():
            return int(lite(prepare(x)).argmax())

    days = {name: [model.detect(x)[0] for x in photos] for name, model in detectors.items()}
    tops = [top(x) for x in photos]
    cases = [(None, False), *[(t, bright) for t in TRIPLES for bright in (False, True)]]
    for triple, bright in cases:
        key = [list(triple) if triple else None, bright]
        if any([row["triple"], row["brightened"]] == key for row in done):
            continue
        rows: list[dict[str, Any]] = []
        counts = {name: [0, 0, 0, 0] for name in detectors}  # found, kept, same top, asked
        same = pictures = 0
        for draw in range(draws if triple else 1):
            for i, photo in enumerate(photos):
                x = photo
                if triple is not None:
                    x = shoot(photo, [Shot.of_triple(triple, seed=1000 * draw + i)])
                if bright and triple is not None:
                    x = linear_to_srgb((srgb_to_linear(x) / triple[0]).clamp(0, 1))
                pictures += 1
                same += top(x) == tops[i]
                for name, model in detectors.items():
                    day, night = days[name][i], model.detect(x, threshold=THRESHOLD)[0]
                    count = counts[name]
                    count[0] += len(night)
                    count[1] += kept(day, night)
                    if len(day):
                        count[3] += 1
                        count[2] += bool(len(night)) and night.classes[0] == day.classes[0]
        first = {"triple": key[0], "brightened": bright, "pictures": pictures}
        rows.append({**first, "teacher": "EfficientNetLite0", "same_top_fraction": same / pictures})
        for name, (found, still, equal, asked) in counts.items():
            there = sum(len(d) for d in days[name]) * (draws if triple else 1)
            row = {"teacher": name, "found": found, "found_by_day": there, "kept": still}
            rows.append({**first, **row, "same_top_fraction": equal / asked, "asked": asked})
        yield rows


def cost(photo: Tensor) -> list[dict[str, Any]]:
    """Seconds a picture of 576 x 768: the answer, and a gradient of the score map, 5 runs each."""
    lite = EfficientNetLite0.load()
    reader, text, mask = TextReader.load(), TextDetector.load(), PersonMask.load()
    line = photo[..., :48, :320]
    centernet, nanodet, mtcnn = CenterNet.load(), NanoDet.load(), MTCNN.load()
    cases: list[tuple[str, Any, Callable[[Tensor], Any], Tensor]] = [
        ("EfficientNetLite0", lite, lambda x: lite(prepare(x)), photo),
        ("CenterNet", centernet, centernet.detect, photo),
        ("NanoDet", nanodet, nanodet.detect, photo),
        ("MTCNN", mtcnn, mtcnn.detect, photo),
        ("TextDetector", text, text.detect, photo),
        ("TextReader", reader, reader.read, line),
        ("PersonMask", mask, mask.mask, photo),
    ]
    rows: list[dict[str, Any]] = []
    for name, model, answer, x in cases:
        times: list[float] = []
        backward: list[float] = []
        square = model.preprocess(x)
        for _ in range(6):
            start = time.perf_counter()
            with torch.no_grad():
                answer(x)
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
            model(square.clone().requires_grad_()).sum().backward()
            backward.append(time.perf_counter() - start)
        rows.append(
            {
                "teacher": name,
                "parameters": sum(
                    p.numel() for p in [*model.parameters(), *model.buffers()] if p.ndim
                ),
                "input": list(square.shape[2:]),
                "seconds": statistics.median(times[1:]),
                "gradient_seconds": statistics.median(backward[1:]),
                "spread": [min(times[1:]), max(times[1:])],
                "load": os.getloadavg()[0],
            }
        )
    return rows


def main() -> None:
    """Measure all and write it."""
    parser = argparse.ArgumentParser(description="Recognisers in the dark.")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("out/teachers-rows.json"))
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    torch.set_num_threads(1)
    photos = animals()
    sides = torch.tensor([p.shape[2:] for p in photos])
    kept_rows = given.rows.exists()
    state = json.loads(given.rows.read_text()) if kept_rows else {"cost": None, "rows": []}
    state["cost"] = state["cost"] or cost(photos[0][..., :576, :768])
    for rows in measure(photos, given.draws, state["rows"]):
        state["rows"] += rows
        result = {
            "photographs": f"{len(photos)} of gcompris-qt-data, {int(sides.min())} to "
            f"{int(sides.max())} px a side",
            "threshold": THRESHOLD,
            "overlap": OVERLAP,
            "draws": given.draws,
            **state,
            **environment(*SOURCES),
        }
        for path, content in ((given.rows, state), (given.out, result)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=1) + "\n")
        print(json.dumps(rows), flush=True)  # noqa: T201 (a script talks)


if __name__ == "__main__":
    main()
