"""Time the concave curve at 1080p: every path, and decode-curve-encode of a clip.

    python benchmarks/lowlight_speed.py [--seconds 3] [--runs 15]

Each row has its time, its agreement with the exact curve and the load of the machine. The clip is
made here: a drifting pattern at a tenth of the range with noise, H.264, 1920 x 1080, 25 frames/s.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from motion import _commit, _device

from foveal import lowlight
from foveal._core.video import VideoWriter
from foveal.lowlight.lookup import translate
from foveal.lowlight.numpy_curve import NumpyCurve

RESULTS = Path(__file__).with_name("results") / "lowlight_speed--cpu.json"
HEIGHT, WIDTH, FPS = 1080, 1920, 25
PACKAGES = ("foveal", "torch", "numpy", "pillow", "av")


def timed(work: Callable[[], Any], runs: int) -> dict[str, Any]:
    """Median and quartiles of the time of a call, its processor time, and the load."""
    work()
    times: list[float] = []
    spent: list[float] = []
    for _ in range(runs):
        start, before = time.perf_counter(), time.process_time()
        work()
        spent.append(1e3 * (time.process_time() - before))
        times.append(1e3 * (time.perf_counter() - start))
    low, _, high = statistics.quantiles(times, n=4)
    return {
        "cpu_ms": statistics.median(spent),
        "ms": {"median": statistics.median(times), "low": low, "high": high},
        "load": os.getloadavg()[0],
    }


def frames(runs: int) -> list[dict[str, Any]]:
    """The curve on one frame in memory."""
    model = lowlight.ConcaveCurve.load()
    image = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 0.3
    curve = model.predict(image)[0]
    exact = lowlight.apply_curve(image.double(), curve.double()[None])[0].numpy()
    rows: list[dict[str, Any]] = []
    for bits in (8, 10, 16):
        top = (1 << bits) - 1
        planes = (image[0].numpy() * top).round().astype(np.uint8 if bits == 8 else np.uint16)
        pixels = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
        tables = lowlight.lookup_table(curve, bit_depth=bits)
        one = lowlight.lookup_table(lowlight.couple(curve[None])[0], bit_depth=bits)
        at = torch.from_numpy(planes.astype(np.float64) / top)[None]
        wanted = lowlight.apply_curve(at, curve.double()[None])[0].numpy() * top

        def three(p: Any = planes, t: Any = tables) -> list[Any]:
            return [translate(p[c], t[c]) for c in range(3)]

        paths: dict[str, Callable[[], Any]] = {
            "three planes, as videos are": three,
            "planar array": lambda p=planes, t=tables: lowlight.apply_table(p, t),
            "interleaved array": lambda p=pixels, t=tables: lowlight.apply_table(p, t),
            "interleaved array, one curve": lambda p=pixels, t=one: lowlight.apply_table(p, t),
        }
        error = float(np.abs(np.stack(three()) - wanted).max())
        rows += [
            {"path": name, "bits": bits, "error_levels": error, **timed(work, runs)}
            for name, work in paths.items()
        ]
    with torch.no_grad():
        error = float(np.abs(lowlight.apply_curve(image, curve[None])[0].numpy() - exact).max())
        work = timed(lambda: lowlight.apply_curve(image, curve[None]), max(3, runs // 4))
        rows.append({"path": "torch, floating point", "bits": 32, "error_levels": error, **work})
        small = image[..., :64, :64].contiguous()
        rows.append(
            {
                "path": "network alone, torch, of a 64 x 64 thumbnail",
                "bits": 32,
                "error_levels": 0.0,
                **timed(lambda: model.predict(small), runs),
            }
        )
        twin = NumpyCurve({k: v.numpy() for k, v in model.state_dict().items()}, model.thumbnail)
        array = small[0].permute(1, 2, 0).numpy()
        error = float(np.abs(twin.predict(array) - model.predict(small)[0].numpy()).max())
        rows.append(
            {
                "path": "network alone, NumPy, of a 64 x 64 thumbnail",
                "bits": 32,
                "error_levels": error,
                **timed(lambda: twin.predict(array), runs),
            }
        )
    return rows


def clip(path: Path, seconds: float) -> None:
    """Write the dark clip."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 68, 120, generator=generator)
    field = torch.nn.functional.interpolate(coarse, (HEIGHT + 400, WIDTH + 400), mode="bicubic")
    with VideoWriter(path, fps=Fraction(FPS)) as writer:
        for k in range(round(seconds * FPS)):
            part = field[0, :, 2 * k : 2 * k + HEIGHT, 2 * k : 2 * k + WIDTH].clamp(0, 1) * 0.15
            noise = torch.randn(1, HEIGHT, WIDTH, generator=generator) * (2 / 255)
            writer.write(part + noise)


def videos(seconds: float) -> list[dict[str, Any]]:
    """Decode, curve and encode, with the first pass that chooses the curve."""
    model = lowlight.ConcaveCurve.load()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "dark.mp4", Path(folder) / "bright.mp4"
        clip(source, seconds)
        for curve, preset in (
            ("clip", "superfast"),
            ("stream", "superfast"),
            ("clip", "ultrafast"),
            ("clip", "veryfast"),
        ):
            before, start = os.times(), time.perf_counter()
            done = lowlight.enhance_video(source, target, model, curve=curve, preset=preset)
            wall, after = time.perf_counter() - start, os.times()
            spent = after.user + after.system - before.user - before.system
            rows.append(
                {
                    "curve": curve,
                    "preset": preset,
                    "frames": done.num_frames,
                    "frames_per_s": done.num_frames / wall,
                    "cpu_ms_per_frame": 1e3 * spent / done.num_frames,
                    "bytes": target.stat().st_size,
                    "load": os.getloadavg()[0],
                }
            )
    return rows


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4, help="of the clip")
    parser.add_argument("--runs", type=int, default=25)
    options = parser.parse_args()
    document = {
        "suite": "lowlight_speed",
        "device": _device(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
        "frames": frames(options.runs),
        "videos": videos(options.seconds),
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document["videos"]))  # noqa: T201 - a script's result


if __name__ == "__main__":
    main()
