"""Print how long an exported NumPy decoder takes for one image: integers, and features.

    python tools/time_codec_decoder.py [MODEL.safetensors] [--bytes 300]

Without a model file it takes an untrained one of the size of packaged ones: four tasks of 8x16x16
features, 64 channels of 8x8 latents in one layer, all of which are coded. Median of many runs, one
thread; set OMP_NUM_THREADS=1.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveal.codec.config import Source
from foveal.codec.encoding import encode
from foveal.codec.model import FeatureCodec
from foveal.codec.numpy_decoder import export_numpy_decoder
from foveal.codec.prior.config import KINDS
from foveal.codec.schemes import Sizes, joint
from foveal.codec.stream import decode_symbols


def random_model(prior: str) -> FeatureCodec:
    """Return an untrained model of the size of packaged ones."""
    torch.manual_seed(0)
    names = ("edges", "depth", "normal", "scene")
    sources = tuple(Source(name, 8, height=16, width=16, nonnegative=True) for name in names)
    model = FeatureCodec(joint(sources, Sizes(prior=prior)))
    x = features_of(model, 64)
    model.start(x)
    return model.finalise(x)


def features_of(model: FeatureCodec, count: int) -> dict[str, torch.Tensor]:
    """Return random features."""
    return {s.name: torch.randn(count, *s.shape).relu() for s in model.config.sources}


def median(run: Callable[[], object], repeats: int = 101) -> tuple[float, float]:
    """Return the median and the least of many runs, in milliseconds."""
    times: list[float] = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begin))
    return round(statistics.median(times), 2), round(min(times), 2)


def measure(model: FeatureCodec, target: float) -> dict[str, Any]:
    """Export, check and time the decoder of one model."""
    image = features_of(model, 1)
    stream = encode(model, image, target_bytes=target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoder.py"
        export_numpy_decoder(model, path)
        size = path.stat().st_size
        spec = importlib.util.spec_from_file_location("exported_decoder", path)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"time_codec_decoder: {path} cannot be imported")
        decoder = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(decoder)
    begin = time.perf_counter()
    decoder.load()
    loaded = time.perf_counter() - begin
    payload, first = stream.payload, model.config.tasks[0]
    latents = decode_symbols(model, payload)
    if any(not np.array_equal(value, decoder.decode(payload)[k]) for k, value in latents.items()):
        raise RuntimeError("time_codec_decoder: the decoders differ")
    integers = median(lambda: decoder.decode(payload))
    one = median(lambda: decoder.features(payload, [first]))
    every = median(lambda: decoder.features(payload))
    return {
        "prior": model.integers.layers[0].prior.kind,
        "payload_bytes": len(payload),
        "latents": sum(value.size for value in latents.values()),
        "not_zero": sum(int((value != 0).sum()) for value in latents.values()),
        "decoder_file_bytes": size,
        "load_ms": round(1e3 * loaded, 1),
        "integers_ms": {"median": integers[0], "least": integers[1]},
        "one_task_ms": {"median": one[0], "least": one[1]},
        f"{len(model.config.tasks)}_tasks_ms": {"median": every[0], "least": every[1]},
    }


def main() -> None:
    """Print the times as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--bytes", type=float, default=300.0, help="target of one image's file")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.model is not None:
        rows = [measure(FeatureCodec.load(args.model), args.bytes)]
    else:
        rows = [measure(random_model(prior), args.bytes) for prior in KINDS]
    text = json.dumps(
        {
            "suite": "codec-numpy-decoder",
            "machine": f"{platform.machine()} CPU, {os.environ.get('OMP_NUM_THREADS', '?')} thread",
            "load": round(os.getloadavg()[0], 2),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "rows": rows,
        },
        indent=2,
    )
    sys.stdout.write(text + "\n")
    if args.out is not None:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
