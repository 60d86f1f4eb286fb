"""Write the test vectors of the codec's port guide as one JSON file.

    python tools/codec_vectors.py [--golden FOLDER] [--out FILE]

Bytes are hexadecimal. Everything is a formula or comes from the golden model, so that the file is
the same wherever it is made.
"""

import argparse
import binascii
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from foveal.codec.container import Container, pack, write_varint
from foveal.codec.context import IntegerContext, to_centers, to_values
from foveal.codec.entropy.rans import encode_symbols, escape_operations
from foveal.codec.entropy.tables import FrequencyTables, escape_code
from foveal.codec.integer_model import IntegerLayer
from foveal.codec.model import FeatureCodec
from foveal.codec.prior.base import index_of
from foveal.codec.prior.config import KINDS, PriorConfig
from foveal.codec.prior.integers import DTYPES
from foveal.codec.prior.reference import levels_reference
from foveal.codec.rates import log_gains, read_controls

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "codec"
MODEL = "codebook-local"


def wave(shape: tuple[int, ...], top: int, phase: int = 0) -> np.ndarray:
    """Return integers within +-top by formula."""
    count = int(np.prod(shape))
    values = (np.arange(1, count + 1, dtype=np.int64) * 2654435761 + 104729 * phase) % (
        2 * top + 1
    ) - top
    return values.reshape(shape)


def varints() -> dict[str, Any]:
    """Numbers and their bytes, and bytes that are refused."""
    values = (0, 1, 127, 128, 300, 16383, 16384, (1 << 28) - 1, (1 << 35) - 1)
    return {
        "good": [{"value": v, "bytes": write_varint(v).hex()} for v in values],
        "bad": ["", "80", "8000", "ff00", "ffffffffffff", "808080808001"],
    }


def checksums() -> list[dict[str, Any]]:
    """Bytes with both checksums."""
    texts = (b"", b"\0", b"123456789", bytes(range(256)))
    return [
        {"bytes": t.hex(), "crc16": binascii.crc_hqx(t, 0), "crc32": zlib.crc32(t)} for t in texts
    ]


def plain_tables(tables: FrequencyTables) -> list[dict[str, Any]]:
    """Return tables as plain data: low and frequencies, the last of which escapes."""
    return [{"low": low, "frequencies": freqs} for _, freqs, low, _ in tables.lists]


def small_tables() -> FrequencyTables:
    """Three tables: one nearly certain, one fair, one of an odd shape."""
    rows = [[1, 65534, 1], [16384, 16384, 16384, 16383, 1], [7, 30000, 35000, 500, 29]]
    sizes = np.array([len(row) for row in rows])
    return FrequencyTables(np.array([x for row in rows for x in row]), sizes, np.array([0, -2, -1]))


def streams() -> dict[str, Any]:
    """Symbols with their table indices and streams, and streams that are refused."""
    tables = small_tables()
    rows: list[tuple[list[int], list[int]]] = [
        ([], []),
        ([1], [0]),
        ([1] * 30, [0] * 30),
        ([0], [1]),
        ([-2, -1, 0, 1], [1] * 4),
        ([2, -2, 300], [1, 2, 0]),
        ([(1 << 21), -(1 << 21)], [1, 2]),
        ([i * 5 % 4 - 1 for i in range(40)], [i % 3 for i in range(40)]),
    ]
    good: list[dict[str, Any]] = []
    for symbols, indices in rows:
        layer = (tables, np.array(symbols, np.int64), np.array(indices, np.int64))
        good.append(
            {"indices": indices, "symbols": symbols, "stream": encode_symbols([layer]).hex()}
        )
    bad = [
        {"indices": [], "stream": "01", "why": "state is left"},
        {"indices": [0], "stream": "00", "why": "zero byte in front"},
        {"indices": [0], "stream": "0102030405060708", "why": "words are left"},
        {"indices": [1], "stream": "ffff", "why": "the escape does not end"},
    ]
    return {"tables": plain_tables(tables), "good": good, "bad": bad}


def escapes() -> list[dict[str, Any]]:
    """Entries outside a table of 4 entries and an escape, with codes and bits in order."""
    out: list[dict[str, Any]] = []
    for entry in (4, 5, 6, 100, -1, -2, -77):
        bits = [int(start > 0) for start, _ in escape_operations(entry, 4)]
        out.append({"entry": entry, "escape": 4, "code": escape_code(entry, 4), "bits": bits})
    return out


def containers() -> list[dict[str, Any]]:
    """Containers with every flag."""
    name = bytes.fromhex("01020304")
    boxes = [
        Container(name, (), ((),), (b"\x29",)),
        Container(name, (0,), ((b"\x80\x00",),), (b"\x29",)),
        Container(name, (0, 2, 9), ((b"ab", b"", b"cde"),), (b"\x00\x29\x40",)),
        Container(name, (1,), ((b"a",), (b"",), (b"xyz",)), (b"\x01", b"\x02", b"\x03"), (300, 5)),
        Container(name, (27,), ((bytes(i % 251 for i in range(5000)),),), (b"\x40",)),
    ]
    return [
        {
            "payload": pack(box).hex(),
            "model_id": box.model_id.hex(),
            "layers": list(box.layers),
            "size": None if box.size is None else list(box.size),
            "controls": [row.hex() for row in box.controls],
            "streams": [[stream.hex() for stream in row] for row in box.streams],
        }
        for box in boxes
    ]


def controls() -> dict[str, Any]:
    """Quality bytes of every form with what they say, and some that must be refused."""
    rows = [
        (1, "29"), (2, "2900"), (2, "29"), (3, "290040"), (3, "2905"), (4, "4009"), (8, "01ff"),
        (9, "030101"), (9, "000000"), (9, "010203040506070809"),
    ]  # fmt: skip
    good: list[dict[str, Any]] = []
    for pairs, text in rows:
        found = read_controls([bytes.fromhex(text)], pairs)
        if found is None:
            raise ValueError(f"controls: {text} is no row of {pairs} pairs")
        good.append({"pairs": pairs, "bytes": text, "qualities": found[0].tolist()})
    bad = [
        {"pairs": 2, "bytes": "290000", "why": "no form has three bytes"},
        {"pairs": 3, "bytes": "2908", "why": "the mask has a fourth bit"},
        {"pairs": 9, "bytes": "290002", "why": "the mask has a tenth bit"},
        {"pairs": 3, "bytes": "4107", "why": "quality 64"},
    ]
    return {"good": good, "bad": bad}


def prior_arrays(config: PriorConfig) -> dict[str, np.ndarray]:
    """Return arrays of a prior by formula."""
    from foveal.codec.prior.base import make_prior

    prior = make_prior(config).export()
    tops = {"codebook": 3000, "mix": 2000, "mix_bias": 40000, "bias2": 10_000_000}
    tops["base"] = 9000 if config.kind == "factorized" else 600_000
    shifts = {"spatial": [15, 13, 11]}.get(config.kind, [7, 10])
    out: dict[str, np.ndarray] = {}
    for i, (name, (dtype, shape)) in enumerate(prior.layout(config).items()):
        top = tops.get(name, 2000 if name.startswith("weight") else 30000)
        values = np.array(shifts) if name == "shifts" else wave(shape, top, i)
        if name in ("base", "bias2"):
            values += top  # most levels are above 0
        out[name] = values.astype(DTYPES[dtype][0])
    return out


def levels() -> list[dict[str, Any]]:
    """Levels of every kind of prior from side symbols, at two sizes where any is allowed."""
    from foveal.codec.prior.base import make_prior

    out: list[dict[str, Any]] = []
    for kind in KINDS:
        for stride, size in ((4, (3, 2)), (4, (5, 9)), (2, (5, 3))):
            config = PriorConfig(kind, 3, 3, 2, side=2, codewords=3, hidden=2, stride=stride)
            if (not config.any_size and size != (3, 2)) or (kind == "spatial" and stride == 2):
                continue
            empty = make_prior(config).export()
            prior = type(empty)(config, prior_arrays(config), empty.side_tables)
            low, high = prior.side_range
            count = prior.side_layout(*size).size
            side = np.clip(wave((1, count), 9, stride), low, high)
            found = levels_reference(prior, side, *size)
            if not np.array_equal(found, prior.levels(side, *size)):
                raise RuntimeError(f"codec_vectors: levels of {kind} differ from the reference")
            out.append(
                {
                    "kind": kind,
                    "channels": 3,
                    "side_size": 2,
                    "codewords": 3,
                    "hidden": 2,
                    "stride": stride,
                    "size": list(size),
                    "arrays": {k: v.tolist() for k, v in prior.arrays.items()},
                    "side": side[0].tolist(),
                    "levels": found[0].tolist(),
                    "indices_without_extra": index_of(found[0]).tolist(),
                }
            )
    return out


def contexts() -> dict[str, Any]:
    """Levels and centers that a context network makes of two parents, one of which is missing."""
    arrays = {
        "weight0": wave((2, 5, 3, 3), 900, 1).astype(np.int16),
        "bias0": wave((2,), 90000, 2).astype(np.int32),
        "weight1": wave((6, 2, 1, 1), 3000, 3).astype(np.int16),
        "bias1": wave((6,), 90000, 4).astype(np.int32),
        "shifts": np.array([12, 11], np.int32),
    }
    latents = wave((1, 2, 2, 3), 20, 5)
    reciprocal = np.array([[65536, 30000]])
    gain = np.array([[1024, 2048, 300]])
    values = to_values(latents, reciprocal)
    found, centers = IntegerContext((2, 1), arrays)([values, None], (2, 3))
    return {
        "parents": [2, 1],
        "there": [True, False],
        "arrays": {k: v.tolist() for k, v in arrays.items()},
        "latents": latents[0].tolist(),
        "reciprocal": reciprocal[0].tolist(),
        "values": values[0].tolist(),
        "levels": found[0].tolist(),
        "centers_64": centers[0].tolist(),
        "gain": gain[0].tolist(),
        "centers": to_centers(centers, gain)[0].tolist(),
    }


def plain_layer(layer: IntegerLayer) -> dict[str, Any]:
    """Return a layer's integers as plain data."""
    prior = layer.prior.config
    return {
        "name": layer.name,
        "kind": prior.kind,
        "channels": layer.channels,
        "stride": layer.stride,
        "inputs": list(layer.inputs),
        "side_size": prior.side,
        "codewords": prior.codewords,
        "hidden": prior.hidden,
        "prior_stride": prior.stride,
        "arrays": {k: v.tolist() for k, v in layer.prior.arrays.items()},
        "side_tables": plain_tables(layer.prior.side_tables),
        "tables": plain_tables(layer.tables),
        "log_gains": layer.log_gains.tolist(),
    }


def payloads(golden: Path) -> dict[str, Any]:
    """Return a whole model and its payloads; the other golden models have files of their own."""
    model = FeatureCodec.load(golden / f"{MODEL}.safetensors")
    layer = model.integers.layers[0]
    wanted = np.array([[-1, -1], [-1, 0], [63, 0], [20, 20]])
    data = json.loads((golden / f"{MODEL}-golden.json").read_text())
    return {
        "model_id": model.model_id.hex(),
        "layers": [plain_layer(layer)],
        "log_gains": {
            "qualities": wanted.tolist(),
            "values": log_gains(layer.log_gains, wanted).tolist(),
        },
        "payloads": data["payloads"],
        "more": sorted(p.name for p in golden.glob("*-golden.json")),
    }


def vectors(golden: Path = GOLDEN) -> dict[str, Any]:
    """Return all vectors."""
    return {
        "format": "fvl 2",
        "varints": varints(),
        "checksums": checksums(),
        "rans": streams(),
        "escapes": escapes(),
        "containers": containers(),
        "levels": levels(),
        "context": contexts(),
        "controls": controls(),
        "model": payloads(golden),
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="folder of the golden models")
    parser.add_argument("--out", type=Path, help="default: vectors.json in that folder")
    args = parser.parse_args()
    text = json.dumps(vectors(args.golden), separators=(",", ":")) + "\n"
    (args.out or args.golden / "vectors.json").write_text(text)


if __name__ == "__main__":
    main()
