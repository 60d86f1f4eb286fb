"""Write streams on one device and decode them on others: how many integers differ.

    PYTHONPATH=src:tools python tools/codec_devices.py write --model MODEL --features FOLDER \
        --count 10000 --out streams.npz
    PYTHONPATH=src:tools python tools/codec_devices.py check --model MODEL --streams streams.npz \
        --out devices.json

`write` encodes features by transforms in fp32, TF32 and bf16 in turn, at qualities that change from
batch to batch, and keeps each payload with the SHA-256 of the integers that the encoder put in,
before anything was decoded. `check` decodes all of them, one by one and in batches of at least 100,
with 1 and 2 threads, on every device that there is, and counts those whose integers differ. The
integers never meet a float, so both counts must be 0. From 100 images on they are decoded side by
side ("vectorised"), unless the model is so large that fewer fit at once.
"""

import argparse
import hashlib
import json
import platform
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from task_features import read
from torch import Tensor

from foveal.codec.arguments import asking_tasks, check_features, needed_sources, wanted_layers
from foveal.codec.container import pack, unpack
from foveal.codec.decoding import CODE_AT_ONCE
from foveal.codec.encoding import Coder
from foveal.codec.integer_model import DECODE_LANES_FROM
from foveal.codec.model import FeatureCodec
from foveal.codec.rates import Wish
from foveal.codec.stream import decode, decode_symbols, split

PRECISIONS = ("fp32", "tf32", "bf16")
AT_ONCE = 125
LEAST = 100
Integers = dict[str, np.ndarray]


def digest(latents: Integers) -> list[str]:
    """Return one SHA-256 for each image of integers."""
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


def coded(model: FeatureCodec, features: dict[str, Tensor], quality: int) -> tuple[bytes, Integers]:
    """Return the payload that `encode` writes, and the integers that it put in."""
    tasks = model.config.tasks
    checked, size = check_features(model, features, needed_sources(model, tasks))
    coder = Coder(model, checked, wanted_layers(model, tasks), size)
    wish = Wish.of(asking_tasks(model, tasks), quality)
    count = len(next(iter(checked.values())))
    names = [layer.name for layer in model.config.layers]
    streams: list[list[bytes]] = []
    parts: dict[str, list[np.ndarray]] = {names[number]: [] for number in coder.numbers}
    for start in range(0, count, CODE_AT_ONCE):
        rows = slice(start, min(start + CODE_AT_ONCE, count))
        block = np.array([wish.qualities] * (rows.stop - start), dtype=np.int64)
        columns, latents, _ = coder.layers(rows, block)
        streams += [[columns[n][i] for n in coder.numbers] for i in range(len(block))]
        for number, value in latents.items():
            parts[names[number]].append(value)
    payload = coder.pack(streams, [wish] * count, [0] * count)
    return payload, {name: np.concatenate(values) for name, values in parts.items()}


def joined(payloads: list[bytes]) -> list[tuple[list[int], bytes]]:
    """Return payloads of at least `LEAST` images, of those that fit together, and who is in them.

    They fit if layers, size and the number of control bytes are the same; fewer than that many
    are left out.
    """
    alike: dict[Any, list[int]] = {}
    boxes = [unpack(payload) for payload in payloads]
    for i, box in enumerate(boxes):
        alike.setdefault((box.model_id, box.layers, box.size, len(box.controls[0])), []).append(i)
    out: list[tuple[list[int], bytes]] = []
    for members in alike.values():
        for part in np.array_split(members, max(1, len(members) // AT_ONCE)):
            if len(part) >= LEAST:
                some = [boxes[i] for i in part]
                streams = tuple(row for box in some for row in box.streams)
                controls = tuple(row for box in some for row in box.controls)
                whole = replace(some[0], streams=streams, controls=controls)
                out.append((part.tolist(), pack(whole)))
    return out


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
        rows = torch.arange(start, min(start + AT_ONCE, args.count), device=device) % total
        with run_in(precision, device):
            part = {name: value[rows] for name, value in features.items()}
            payload, integers = coded(model, part, (7 * number) % 64)
        payloads += split(payload)
        digests += digest(integers)
        made += [precision] * len(rows)
    sizes = np.array([len(p) for p in payloads])
    np.savez_compressed(
        args.out,
        data=np.frombuffer(b"".join(payloads), dtype=np.uint8),
        sizes=sizes,
        digests=np.array(digests),
        precisions=np.array(made),
        about=np.array(
            json.dumps(
                {
                    "device": name_of(device),
                    "torch": torch.__version__,
                    "digests": "of the encoder's integers",
                }
            )
        ),
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
    digests: list[str] = held["digests"].tolist()
    batches = joined(payloads)
    rows: list[dict[str, Any]] = []
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for device in devices:
        model = FeatureCodec.load(args.model).to(device)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            begin, wrong = time.perf_counter(), 0
            for payload, wanted in zip(payloads, digests, strict=True):
                wrong += digest(decode_symbols(model, payload)) != [wanted]
            spent = time.perf_counter() - begin
            begin, wrong_in_batch = time.perf_counter(), 0
            for members, payload in batches:
                found = digest(decode_symbols(model, payload, max_symbols=1 << 40))
                wrong_in_batch += sum(digests[i] != d for i, d in zip(members, found, strict=True))
            spent_in_batch = time.perf_counter() - begin
            in_batch = sum(len(members) for members, _ in batches)
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
                    "batches": len(batches),
                    "streams_in_batches": in_batch,
                    "mismatches_in_batches": wrong_in_batch,
                    "ms_per_stream_in_batches": 1e3 * spent_in_batch / max(1, in_batch),
                }
            )
    integers = FeatureCodec.load(args.model).integers
    counts = {p: int((held["precisions"] == p).sum()) for p in PRECISIONS}
    result = {
        "commit": args.commit,
        "model_id": FeatureCodec.load(args.model).model_id.hex(),
        "written_on": json.loads(str(held["about"])),
        "precisions": counts,
        "mean_bytes": float(held["sizes"].mean()),
        "least_batch": min((len(members) for members, _ in batches), default=0),
        "vectorised": any(
            min(len(members), integers.at_once(unpack(p).size)) >= DECODE_LANES_FROM
            for members, p in batches
        ),
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
