"""Write streams on one device and decode them on others: how many integers differ.

    PYTHONPATH=src:tools python tools/codec_devices.py write --model MODEL --features FOLDER \
        --count 10000 --out streams.npz
    PYTHONPATH=src:tools python tools/codec_devices.py check --model MODEL --streams streams.npz \
        --out devices.json

`write` encodes features by transforms in fp32, TF32 and bf16 in turn, at qualities that change from
image to image, and keeps each payload with the SHA-256 of the integers that the encoder put in.
`check` decodes all of them with 1 and 2 threads, on every device that there is, and counts those
whose integers differ. The integers never meet a float, so the count must be 0.
"""

import argparse
import hashlib
import json
import platform
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from task_features import read
from torch import Tensor

from foveal.codec.encoding import encode
from foveal.codec.model import FeatureCodec
from foveal.codec.stream import decode, decode_symbols, split

PRECISIONS = ("fp32", "tf32", "bf16")
AT_ONCE = 50


def digest(latents: dict[str, np.ndarray]) -> list[str]:
    """Return one SHA-256 for each image of decoded integers."""
    names = sorted(latents)
    rows: list[str] = []
    for i in range(len(latents[names[0]])):
        whole = hashlib.sha256()
        for name in names:
            whole.update(np.ascontiguousarray(latents[name][i], dtype="<i4").tobytes())
        rows.append(whole.hexdigest())
    return rows


def run_in(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Set how transforms are computed."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def write(args: argparse.Namespace) -> None:
    """Encode, in all precisions."""
    device = torch.device(args.device)
    model = FeatureCodec.load(args.model).to(device)
    tensors = read(args.features, args.split, device)
    inputs = {name for layer in model.config.layers for name in layer.inputs}
    prefix = "" if args.split == "train" else "features/"
    features: dict[str, Tensor] = {name: tensors[prefix + name].float() for name in inputs}
    total = len(next(iter(features.values())))
    payloads: list[bytes] = []
    digests: list[str] = []
    made: list[str] = []
    for number, start in enumerate(range(0, args.count, AT_ONCE)):
        precision = PRECISIONS[number % len(PRECISIONS)]
        rows = torch.arange(start, start + AT_ONCE, device=device) % total
        with run_in(precision, device):
            part = {name: value[rows] for name, value in features.items()}
            stream = encode(model, part, quality=(7 * number) % 64)
        payloads += split(stream.payload)
        digests += digest(decode_symbols(model, stream.payload))
        made += [precision] * AT_ONCE
    sizes = np.array([len(p) for p in payloads])
    np.savez_compressed(
        args.out,
        data=np.frombuffer(b"".join(payloads), dtype=np.uint8),
        sizes=sizes,
        digests=np.array(digests),
        precisions=np.array(made),
        about=np.array(json.dumps({"device": name_of(device), "torch": torch.__version__})),
    )


def name_of(device: torch.device) -> str:
    """Return what a device is."""
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU ({platform.machine()})"
    )


def check(args: argparse.Namespace) -> None:
    """Decode everything, and count what differs."""
    held = np.load(args.streams, allow_pickle=False)
    stops = np.cumsum(held["sizes"])
    data = held["data"].tobytes()
    payloads = [
        data[b - n : b] for b, n in zip(stops.tolist(), held["sizes"].tolist(), strict=True)
    ]
    rows: list[dict[str, Any]] = []
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for device in devices:
        model = FeatureCodec.load(args.model).to(device)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            begin, wrong = time.perf_counter(), 0
            for payload, wanted in zip(payloads, held["digests"].tolist(), strict=True):
                wrong += digest(decode_symbols(model, payload)) != [wanted]
            spent = time.perf_counter() - begin
            decode(model, payloads[0])
            rows.append(
                {
                    "device": name_of(torch.device(device)),
                    "threads": threads,
                    "torch": torch.__version__,
                    "numpy": np.__version__,
                    "streams": len(payloads),
                    "mismatches": wrong,
                    "ms_per_stream": 1e3 * spent / len(payloads),
                }
            )
    counts = {p: int((held["precisions"] == p).sum()) for p in PRECISIONS}
    result = {
        "commit": args.commit,
        "model_id": FeatureCodec.load(args.model).model_id.hex(),
        "written_on": json.loads(str(held["about"])),
        "precisions": counts,
        "mean_bytes": float(held["sizes"].mean()),
        "decoded": rows,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["write", "check"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--features", type=Path, help="folder of task_features.py")
    parser.add_argument("--split", default="train")
    parser.add_argument("--streams", type=Path)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--commit", default="")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    {"write": write, "check": check}[args.what](args)


if __name__ == "__main__":
    main()
