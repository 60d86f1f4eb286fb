"""Damage payloads in every way, and check that a decoder refuses or decodes them, and nothing else.

    python tools/fuzz_codec.py --count 100000 --seed 0 --out benchmarks/results/codec-fuzz--cpu.json
    python tools/fuzz_codec.py --seed 0 --only 4711        one case again
    python tools/fuzz_codec.py --model many --count 3000   one model alone

Every case goes through `decode_symbols` and through an exported NumPy decoder. Both must refuse it
with a BitstreamError or give the same integers. Memory is what tracemalloc sees above the start of
a decode (NumPy's arrays included): of every eighth case, and of all whose sizes are made up; such
times include tracemalloc's own. The growth of resident memory over all cases is reported too; it
is no decode's, since it holds tracemalloc's records and the first decoder's result beside the
second's. "decoded" without a mended checksum are damages that undid themselves.
"""

import argparse
import binascii
import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_codec_models import Target, large_targets, many_target, small_targets

from foveal.codec.container import Container, pack, unpack, write_varint
from foveal.codec.stream import decode_symbols
from foveal.errors import BitstreamError

ROOT = Path(__file__).parents[1]
LIMIT_BYTES = 64 << 20
LIMIT_SECONDS = 60.0
LARGE_SHARE = 0.004
NUMBERS = (0, 1, 2, 3, 16, 17, 63, 64, 65, 127, 128, 255, 256, 300, 1024, 1025, 4096, 16384, 16385)
HUGE = (65535, 65536, 65537, 1 << 20, 1 << 28, (1 << 32) - 1, (1 << 35) - 1)


@dataclass
class Result:
    """What a decode did."""

    outcome: str
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    peak: dict[str, int] = field(default_factory=dict[str, int])
    message: str = ""


class Finding(AssertionError):
    """A case that is neither refused nor decoded alike."""


# Ways to damage a payload.


def mend(payload: bytes) -> bytes:
    """Return it with the checksum that its flags ask for."""
    if len(payload) < 7:
        return payload
    if payload[2] & 1:
        body = payload[:-4]
        return body + zlib.crc32(body).to_bytes(4, "little")
    body = payload[:-2]
    return body + binascii.crc_hqx(body, 0).to_bytes(2, "little")


def truncate(rng: random.Random, target: Target, payload: bytes) -> bytes:
    """Cut the end off."""
    return payload[: rng.randrange(len(payload))]


def flip(rng: random.Random, target: Target, payload: bytes) -> bytes:
    """Turn some bits over, behind the model's id in most cases."""
    out = bytearray(payload)
    start = 0 if rng.random() < 0.1 else 56
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        bit = rng.randrange(start, 8 * len(out))
        out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def splice(rng: random.Random, target: Target, payload: bytes) -> bytes:
    """Join two payloads of the model, or leave bytes out, or put some in."""
    other = rng.choice(target.payloads)
    i, j = rng.randrange(len(payload)), rng.randrange(len(other))
    middle = rng.randbytes(rng.choice((0, 0, 1, 2, 9)))
    return payload[:i] + middle + other[j:]


def noise(rng: random.Random, target: Target, payload: bytes) -> bytes:
    """Return random bytes, in most cases behind a true start."""
    start = rng.choice((b"", b"FV", target.headless(2, rng.randrange(16))))
    return start + rng.randbytes(rng.choice((0, 1, 4, 11, 40, 200)))


def number(rng: random.Random) -> int:
    """Return a number that is small, at an edge, or huge."""
    kind = rng.random()
    if kind < 0.5:
        return rng.randrange(70)
    return rng.choice(NUMBERS if kind < 0.85 else HUGE)


def hostile(rng: random.Random, target: Target, payload: bytes) -> bytes:
    """Write a container whose fields claim anything."""
    flags = rng.randrange(16)
    out = target.headless(2 if rng.random() < 0.97 else rng.randrange(16), flags)
    layers = len(target.model.config.layers)
    mask = rng.randrange(1 << layers) if rng.random() < 0.8 else number(rng)
    out += write_varint(mask)
    images = rng.choice((1, 2, 3, 15, 16, 17, 40, 300)) if rng.random() < 0.6 else number(rng)
    if flags & 2:
        out += write_varint(images)
    images = min(images if flags & 2 else 1, 2000)
    if flags & 4:
        out += write_varint(number(rng)) + write_varint(number(rng))
    first, pairs = int(target.model.config.conditional), len(target.model.pairs)
    width = rng.choice((1, 1 + first, pairs + first)) if rng.random() < 0.8 else number(rng)
    if flags & 8:
        out += write_varint(width)
    for _ in range(images * min(width if flags & 8 else 1, 40)):
        out += bytes([rng.choice((0, 1, 2, 20, 64)) if rng.random() < 0.97 else rng.randrange(256)])
    streams = images * mask.bit_count()
    lengths = [rng.choice((0, 0, 1, 5, 8, 30)) for _ in range(min(streams, 3000))]
    if rng.random() < 0.2 and lengths:
        lengths[rng.randrange(len(lengths))] = number(rng)
    out += b"".join(map(write_varint, lengths[:-1]))
    out += b"".join(rng.randbytes(min(n, 300)) for n in lengths)
    return mend(out + b"\0" * (4 if flags & 1 else 2))


def restream(rng: random.Random, target: Target, payload: bytes) -> bytes:
    """Change streams in a whole container: random, empty, damaged, exchanged."""
    box = unpack(payload)
    rows: list[tuple[bytes, ...]] = []
    for row in box.streams:
        streams = list(row)
        for i, stream in enumerate(streams):
            kind = rng.randrange(6)
            if kind == 0:
                streams[i] = rng.randbytes(rng.choice((1, 3, 6, 7, 8, 50)))
            elif kind == 1:
                streams[i] = b""
            elif kind == 2 and stream:
                changed = bytearray(stream)
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
                streams[i] = bytes(changed)
            elif kind == 3:
                streams[i] = streams[rng.randrange(len(streams))]
            elif kind == 4:
                streams[i] = stream[: rng.randrange(len(stream) + 1)]
        rows.append(tuple(streams))
    return pack(replace(box, streams=tuple(rows)))


def recontrol(rng: random.Random, target: Target, payload: bytes) -> bytes:
    """Change the control bytes, the size, or the model's id."""
    box = unpack(payload)
    kind = rng.randrange(4)
    if kind == 0:
        size = (1 + rng.randrange(40), 1 + rng.randrange(40))
        return pack(replace(box, size=size))
    if kind == 1:
        return pack(replace(box, model_id=rng.randbytes(4)))
    width = len(box.controls[0]) if kind == 2 else rng.randrange(1, 10)
    top = 66 if rng.random() < 0.9 else 256
    rows = tuple(bytes(rng.randrange(top) for _ in range(width)) for _ in box.controls)
    return pack(replace(box, controls=rows))


def relayer(rng: random.Random, target: Target, payload: bytes) -> bytes:
    """Leave layers out, or claim that streams belong to other layers."""
    box = unpack(payload)
    count = len(box.layers)
    if rng.random() < 0.5:
        return pack(box.keep([i for i in box.layers if rng.random() < 0.5]))
    most = len(target.model.config.layers) + (rng.random() < 0.2)
    layers = tuple(sorted(rng.sample(range(max(most, count)), count)))
    return pack(replace(box, layers=layers))


def repeat(rng: random.Random, target: Target, payload: bytes) -> bytes:
    """Repeat images so that they are decoded side by side, one of them damaged."""
    box = unpack(payload)
    times = max(1, rng.choice((3, 18, 18, 40)) // len(box.streams))
    streams, controls = list(box.streams) * times, list(box.controls) * times
    if box.layers:
        row = list(streams[-1])
        row[0] = rng.randbytes(len(row[0])) if rng.random() < 0.5 else row[0][:-1]
        streams[-1] = tuple(row)
    return pack(Container(box.model_id, box.layers, tuple(streams), tuple(controls), box.size))


WAYS: dict[str, Callable[[random.Random, Target, bytes], bytes]] = {
    "truncate": truncate,
    "flip": flip,
    "splice": splice,
    "noise": noise,
    "hostile": hostile,
    "restream": restream,
    "recontrol": recontrol,
    "relayer": relayer,
    "repeat": repeat,
}
SIZED = ("hostile", "recontrol")
MENDED = ("truncate", "flip", "splice", "noise")


class Fuzzer:
    """Makes cases by number and runs them.

    Args:
        folder: Where exported decoders go.
        seed: Seed of all cases.
        large: Whether models of packaged size take part.
        model: Name of the only model; empty: all.
    """

    def __init__(self, folder: Path, seed: int, *, large: bool, model: str = "") -> None:
        self.seed = seed
        self.small = [*small_targets(folder), many_target(folder)]
        self.large = large_targets(folder) if large else []
        if model:
            every = self.small + self.large
            self.small = [target for target in every if target.name == model]
            self.large = []
            if not self.small:
                names = [target.name for target in every]
                raise SystemExit(f"--model is {model!r}, must be one of {names}; check the name")

    def make(self, index: int) -> tuple[str, Target, bytes]:
        """Return how case `index` was damaged, its model, and its bytes."""
        rng = random.Random(f"{self.seed}/{index}")
        few = self.large and rng.random() < LARGE_SHARE
        target = rng.choice(self.large if few else self.small)
        way = rng.choices(list(WAYS), [1.0 if way != "repeat" else 0.2 for way in WAYS])[0]
        payload = WAYS[way](rng, target, rng.choice(target.payloads))
        if way in MENDED and rng.random() < 0.5:
            return f"{way}, checksum mended", target, mend(payload)
        return way, target, payload

    def run(self, target: Target, payload: bytes) -> Result:
        """Decode with both decoders.

        Raises:
            Finding: something else than a refusal or the same integers came out.
        """
        found: list[dict[str, np.ndarray] | None] = []
        result = Result("")
        both = {
            "foveal": lambda: decode_symbols(target.model, payload),
            "numpy": lambda: target.port.decode(payload),
        }
        for name, decode in both.items():
            if tracemalloc.is_tracing():
                tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            begin = time.perf_counter()
            try:
                found.append(decode())
            except (BitstreamError, target.port.BitstreamError) as error:
                found.append(None)
                result.message = str(error)
            except Exception as error:
                raise Finding(f"{name}: {error!r}") from error
            result.seconds[name] = time.perf_counter() - begin
            result.peak[name] = tracemalloc.get_traced_memory()[1] - before
        one, two = found
        result.outcome = "refused" if one is None else "decoded"
        if (one is None) != (two is None):
            raise Finding(f"one decoder refuses: {result.message}")
        if one is not None and two is not None:
            same = one.keys() == two.keys()
            if not same or any(not np.array_equal(one[key], two[key]) for key in one):
                raise Finding("the decoders differ")
            if target.sent(payload) != target.sent_by_port(payload):
                raise Finding("the decoders differ in the tasks that were sent")
        if max(result.peak.values()) > LIMIT_BYTES or max(result.seconds.values()) > LIMIT_SECONDS:
            raise Finding(f"took {result.seconds} s and {result.peak} bytes")
        return result


def commit() -> str:
    """Return the commit of the working tree, and whether it has changes."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run(
        [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
    )
    dirty = subprocess.run(
        [*git, "status", "--porcelain", "-uno", "--", "src/foveal/codec"],
        capture_output=True,
        text=True,
    )
    return found.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def main() -> None:
    """Run the cases and write what they did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one case to run")
    parser.add_argument("--model", default="", help="name of the only model to damage streams of")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    outcomes: dict[str, Counter[str]] = {}
    models: Counter[str] = Counter()
    longest: dict[str, dict[str, Any]] = {}
    highest: dict[str, dict[str, Any]] = {}
    findings: list[str] = []
    traced = 0
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder), args.seed, large=True, model=args.model)
        start_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for index in range(args.count) if args.only is None else [args.only]:
            way, target, payload = fuzzer.make(index)
            if index % 8 == 0 or way in SIZED:
                tracemalloc.start()
                traced += 1
            try:
                result = fuzzer.run(target, payload)
            except Finding as error:
                findings.append(
                    f"case {index}, {way}, {target.name}, {len(payload)} bytes: {error}"
                )
                sys.stderr.write(findings[-1] + "\n")
                continue
            finally:
                tracemalloc.stop()
            outcomes.setdefault(way, Counter())[result.outcome] += 1
            models[target.name] += 1
            where = {"case": index, "way": way, "model": target.name, "payload_bytes": len(payload)}
            for name in result.seconds:
                seconds, peak = result.seconds[name], result.peak[name]
                if seconds > longest.get(name, {"seconds": 0})["seconds"]:
                    longest[name] = {"seconds": round(seconds, 4), **where}
                if peak > highest.get(name, {"bytes": 0})["bytes"]:
                    highest[name] = {"bytes": peak, **where}
            if index % 10_000 == 9_999:
                sys.stderr.write(f"{index + 1} cases, {time.perf_counter() - begin:.0f} s\n")
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start_kib
    data = {
        "suite": "codec-fuzz",
        "commit": commit(),
        "machine": f"{platform.machine()} CPU, one thread, shared",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "seed": args.seed,
        "only_model": args.model,
        "count": sum(map(sum, (c.values() for c in outcomes.values()))) + len(findings),
        "outcomes": {way: dict(sorted(c.items())) for way, c in sorted(outcomes.items())},
        "models": dict(sorted(models.items())),
        "findings": findings,
        "limit_bytes": LIMIT_BYTES,
        "traced_cases": traced,
        "highest_memory": highest,
        "resident_growth_bytes": 1024 * grown_kib,
        "longest_time": longest,
        "seconds": round(time.perf_counter() - begin, 1),
    }
    text = json.dumps(data, indent=2) + "\n"
    sys.stdout.write(text)
    if args.out is not None:
        args.out.write_text(text)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
