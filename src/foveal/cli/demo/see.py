"""See: a street video and photographs, darkened by sensor physics, brightened by SACC's curve."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal import lowlight
from foveal._core.files import write_json
from foveal._core.video import VideoWriter, probe_video, read_video
from foveal.data import samples
from foveal.data.sensor_noise import darken, sample_exposure
from foveal.receipt import Receipt
from foveal.stats import paired_bootstrap
from foveal.teachers import prepare
from foveal.teachers.efficientnet_lite import EfficientNetLite0

CAMERA = "SonyA7S2"
CLIP_FACTOR = 0.02
PHOTO_FACTORS = (0.005, 0.05)
FIRST_FRAME, NUM_FRAMES, SHOWN_FRAME = 150, 75, 30
"""One shot of the clip: a street behind a fence."""


@dataclass(frozen=True, slots=True)
class See:
    """What the page needs."""

    receipt: Receipt
    before: Any
    after: Any
    photos: list[tuple[Any, Any]]
    curve: Tensor
    agreement: dict[str, float]
    interval: dict[str, float]
    num_draws: int


def to_array(image: Tensor) -> Any:
    """Return uint8 (height, width, 3)."""
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def photo_names() -> list[str]:
    """Names of the held-out photographs: none was used to train anything that ships."""
    return [name for name in samples.catalogue() if name.startswith("photo-")]


def load_photos() -> list[Tensor]:
    """Return the held-out photographs, upright sRGB in [0, 1]."""
    return [lowlight.read_image(path) for path in samples.fetch(photo_names())]


def see(out: Path, *, seed: int, draws: int) -> See:
    """Darken, enhance, judge; write the two videos and the figures of every draw."""
    start = time.perf_counter()
    model = lowlight.ConcaveCurve.load()
    teacher = EfficientNetLite0.load()
    dark_path, bright_path = out / "bikes-dark.mp4", out / "bikes-enhanced.mp4"
    source = samples.path("video-bikes")
    exposure = sample_exposure(
        torch.Generator().manual_seed(seed),
        camera=CAMERA,
        factor=(CLIP_FACTOR, CLIP_FACTOR),
        max_gain=1.0,
    )
    noise = torch.Generator().manual_seed(seed)
    with VideoWriter(dark_path, fps=probe_video(source).fps, crf=14) as writer:
        for frame in read_video(source, start=FIRST_FRAME, max_frames=NUM_FRAMES):
            writer.write(darken(frame[None], exposure, noise)[0])
    video = lowlight.enhance_video(dark_path, bright_path, model)
    before, after = (
        next(read_video(path, start=SHOWN_FRAME, max_frames=1)) for path in (dark_path, bright_path)
    )
    agreement, interval, rows, pairs = _judge(model, teacher, seed=seed, draws=draws)
    write_json(out / "agreement.json", {"rows": rows, "mean": agreement, "interval": interval})
    receipt = replace(
        video.receipt,
        loss=1 - agreement["concave curve"],
        loss_metric="top-1 disagreement with daylight (held-out photographs)",
        seconds=time.perf_counter() - start,
        details={
            **video.receipt.details,
            "agreement": agreement,
            "gain_over_dark": interval,
            "num_photographs": len(photo_names()),
            "num_draws": len(rows),
            "exposure_factors": PHOTO_FACTORS,
            "clip": {
                "camera": CAMERA,
                "factor": CLIP_FACTOR,
                "first_frame": FIRST_FRAME,
                "frames": video.num_frames,
            },
            "seed": seed,
            "anecdote": "20 photographs: fewer than 100",
        },
    )
    return See(
        receipt,
        to_array(before),
        to_array(after),
        pairs,
        video.curve,
        agreement,
        interval,
        len(rows),
    )


@torch.no_grad()
def _judge(
    model: lowlight.ConcaveCurve, teacher: EfficientNetLite0, *, seed: int, draws: int
) -> tuple[dict[str, float], dict[str, float], list[dict[str, Any]], list[tuple[Any, Any]]]:
    """Agreement with the recogniser's own daylight answer, draw by draw."""
    cpu = torch.Generator().manual_seed(seed + 1)
    noise = torch.Generator().manual_seed(seed + 2)
    hits: dict[str, list[float]] = {"dark": [], "concave curve": []}
    fixed: dict[str, list[float]] = {f"fixed curve, a={a:.3g}": [] for a in lowlight.ENSEMBLE[2::2]}
    rows: list[dict[str, Any]] = []
    groups: list[int] = []
    pairs: list[tuple[Any, Any]] = []
    for index, photo in enumerate(load_photos()):
        day = prepare(photo)[None]
        answer = teacher(day).argmax(-1)
        exposures = [sample_exposure(cpu, factor=PHOTO_FACTORS) for _ in range(draws)]
        dark = torch.cat([darken(day, exposure, noise) for exposure in exposures])
        bright = model(dark)
        variants = {"dark": dark, "concave curve": bright}
        variants |= {
            name: lowlight.reciprocal_curve(dark, a)
            for name, a in zip(fixed, lowlight.ENSEMBLE[2::2], strict=True)
        }
        found = {
            name: (teacher(x).argmax(-1) == answer).float().tolist() for name, x in variants.items()
        }
        for name, values in found.items():
            (hits if name in hits else fixed)[name] += values
        groups += [index] * draws
        rows += [
            {
                "photograph": index,
                "factor": e.factor,
                "gain": e.gain,
                **{name: values[k] for name, values in found.items()},
            }
            for k, e in enumerate(exposures)
        ]
        if len(pairs) < 4:
            pairs.append((to_array(dark[0]), to_array(bright[0])))
    every = hits | fixed
    agreement = {name: float(np.mean(values)) for name, values in every.items()}
    interval = paired_bootstrap(hits["concave curve"], hits["dark"], groups=groups, seed=seed)
    return (
        agreement,
        {"mean": interval.mean, "low": interval.low, "high": interval.high},
        rows,
        pairs,
    )
