"""Golden payloads and the port guide's vectors: the same bytes, read by two decoders."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveal.codec import numpy_template as port
from foveal.codec.container import read_varint, unpack
from foveal.codec.entropy.rans import RansDecoder
from foveal.codec.entropy.tables import FrequencyTables
from foveal.codec.model import FeatureCodec
from foveal.codec.numpy_decoder import export_numpy_decoder
from foveal.codec.stream import decode_symbols, inspect
from foveal.errors import BitstreamError

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "codec"
VECTORS: dict[str, Any] = json.loads((GOLDEN / "vectors.json").read_text())


def module(path: Path, name: str):
    """Import a script from its path."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    out = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(out)
    return out


make_golden = module(GOLDEN / "make_golden.py", "make_golden2")
codec_vectors = module(ROOT / "tools" / "codec_vectors.py", "codec_vectors")


def stored(name: str) -> dict[str, Any]:
    """Return a golden model's payloads and integers."""
    return json.loads((GOLDEN / f"{name}-golden.json").read_text())


# Golden models.


@pytest.mark.parametrize("name", make_golden.NAMES)
def test_stored_models_make_the_same_payloads(name: str) -> None:
    model = FeatureCodec.load(GOLDEN / f"{name}.safetensors")
    found = [make_golden.describe(*item) for item in make_golden.payloads(model)]
    assert {"model_id": model.model_id.hex(), "payloads": found} == stored(name)


@pytest.mark.parametrize("name", make_golden.NAMES)
def test_formulas_make_the_same_models(name: str, tmp_path: Path) -> None:
    model = make_golden.formula_model(make_golden.config_of(name))
    model.save(tmp_path / "model.safetensors")
    wanted = (GOLDEN / f"{name}.safetensors").read_bytes()
    assert (tmp_path / "model.safetensors").read_bytes() == wanted


@pytest.mark.parametrize("name", make_golden.NAMES)
def test_both_decoders_read_golden_payloads(name: str, tmp_path: Path) -> None:
    model = FeatureCodec.load(GOLDEN / f"{name}.safetensors")
    export_numpy_decoder(model, tmp_path / "decoder.py", tasks=())
    decoder = module(tmp_path / "decoder.py", "decoder")
    for item in stored(name)["payloads"]:
        payload = bytes.fromhex(item["payload"])
        for found in (decode_symbols(model, payload), decoder.decode(payload)):
            assert sorted(found) == sorted(item["latents"])
            for key, wanted in item["latents"].items():
                assert list(found[key].shape) == wanted["shape"]
                assert found[key].ravel().tolist() == wanted["values"]


def test_golden_payloads_skip_escape_and_silence() -> None:
    model = FeatureCodec.load(GOLDEN / "factorized.safetensors")
    item = stored("factorized")["payloads"][1]
    values = np.array(item["latents"]["edges"]["values"]).reshape(item["latents"]["edges"]["shape"])
    assert not values[0].any()  # its quality is off
    assert (np.abs(values[1:]) > 700).any()
    assert (values[1:] == 0).any()
    assert inspect(bytes.fromhex(item["payload"]), model)["layer_bytes"][0] > 0


# Vectors.


def test_vectors_are_made_again() -> None:
    assert json.loads(json.dumps(codec_vectors.vectors())) == VECTORS


def test_varints() -> None:
    by_hand = {0: "00", 127: "7f", 128: "8001", 300: "ac02", 16384: "808001"}
    found = {item["value"]: item["bytes"] for item in VECTORS["varints"]["good"]}
    assert by_hand.items() <= found.items()
    for value, text in found.items():
        data = bytes.fromhex(text)
        assert port.read_varint(data, 0, len(data)) == (value, len(data))
    for text in VECTORS["varints"]["bad"]:
        data = bytes.fromhex(text)
        with pytest.raises(port.BitstreamError, match="varint"):
            port.read_varint(data, 0, len(data))
        with pytest.raises(BitstreamError, match="varint"):
            read_varint(data, 0, len(data))


def crc(data: bytes, polynomial: int, width: int, start: int, reflected: bool) -> int:
    """Return a checksum bit by bit."""
    state, top = start, 1 << (width - 1)
    for byte in data:
        bits = range(8) if reflected else range(7, -1, -1)
        for i in bits:
            high = bool(state & top) != bool(byte >> i & 1)
            state = (state << 1) & ((1 << width) - 1)
            state ^= polynomial if high else 0
    return state


def test_checksums() -> None:
    for item in VECTORS["checksums"]:
        data = bytes.fromhex(item["bytes"])
        assert item["crc16"] == crc(data, 0x1021, 16, 0, reflected=False)
        plain = crc(data, 0x04C11DB7, 32, (1 << 32) - 1, reflected=True)
        mirrored = int(f"{plain:032b}"[::-1], 2)
        assert item["crc32"] == mirrored ^ ((1 << 32) - 1)
    assert VECTORS["checksums"][2]["crc16"] == 0x31C3
    assert VECTORS["checksums"][2]["crc32"] == 0xCBF43926


def test_streams() -> None:
    part = VECTORS["rans"]
    rows = [table["frequencies"] for table in part["tables"]]
    sizes, lows = np.array([len(r) for r in rows]), np.array([t["low"] for t in part["tables"]])
    flat = np.array([x for row in rows for x in row])
    tables, lists = FrequencyTables(flat, sizes, lows), port.split_tables(flat, sizes, lows)
    found = {tuple(item["symbols"]): item["stream"] for item in part["good"]}
    assert found[()] == ""
    # One of four equally likely symbols, 16384 to 32767: from state 0 it is the start of its slots.
    assert found[(0,)] == "8000"
    for item in part["good"]:
        reader = port.Rans(bytes.fromhex(item["stream"]))
        assert reader.read(lists, item["indices"]) == item["symbols"]
        reader.close()
    for item in part["bad"]:
        stream, indices = bytes.fromhex(item["stream"]), item["indices"]
        with pytest.raises(port.BitstreamError, match="rans"):
            one = port.Rans(stream)
            one.read(lists, indices)
            one.close()
        with pytest.raises(BitstreamError, match="rans"):
            two = RansDecoder(stream)
            two.decode(tables, np.array(indices, np.int64))
            two.close()


def test_escapes() -> None:
    by_hand = {4: [1], 5: [0, 1, 1], -1: [0, 1, 0], -2: [0, 0, 1, 0, 0]}
    found = {item["entry"]: item["bits"] for item in VECTORS["escapes"]}
    assert by_hand.items() <= found.items()
    for entry, bits in found.items():
        state = 0
        for bit in reversed(bits):  # a fair bit doubles the state, in rANS of 16 bits
            quotient, rest = divmod(state, 1 << 15)
            state = (quotient << 16) + (bit << 15) + rest
        reader = port.Rans(state.to_bytes((state.bit_length() + 7) // 8, "big"))
        assert reader.read_escape(4) == entry
        reader.close()


def test_containers() -> None:
    flags = {bytes.fromhex(item["payload"])[2] & 15 for item in VECTORS["containers"]}
    assert {1, 2 | 4, 8, 0} <= flags
    for item in VECTORS["containers"]:
        payload = bytes.fromhex(item["payload"])
        for box in (port.parse(payload, item["model_id"]), unpack(payload)):
            assert list(box.layers) == item["layers"]
            assert box.size == (None if item["size"] is None else tuple(item["size"]))
            assert [row.hex() for row in box.controls] == item["controls"]
            assert [[s.hex() for s in row] for row in box.streams] == item["streams"]


def test_controls() -> None:
    forms = VECTORS["controls"]
    for item in forms["good"] + forms["bad"]:
        pairs, row = item["pairs"], bytes.fromhex(item["bytes"])
        layers = [port.Layer({"tasks": pairs}, {}, [], [])]
        model = port.Model({"conditional": False}, layers, [(0,)], {})
        box = port.Container([], None, [row], [[]])
        if "qualities" in item:
            assert port.read_controls(model, box) == [(0, [item["qualities"]])]
            continue
        with pytest.raises(port.BitstreamError, match="decode: "):
            port.read_controls(model, box)
    by_hand = {(i["pairs"], i["bytes"]): i["qualities"] for i in forms["good"]}
    assert by_hand[3, "2905"] == [40, -1, 40]
    assert by_hand[9, "030101"] == [2, *[-1] * 7, 2]
    assert by_hand[2, "29"] == [40, 40]


def as_layer(item: dict[str, Any], prefix: str = "prior.") -> port.Layer:
    """Return a layer of the second decoder from a vector."""
    arrays = {prefix + k: np.array(v, dtype=np.int64) for k, v in item["arrays"].items()}
    for key, value in arrays.items():
        if value.ndim == 4 and ".weight" in key:
            arrays[key] = port.taps(value)
    spec = {
        "kind": item["kind"],
        "channels": item["channels"],
        "side": item["side_size"],
        "codewords": item["codewords"],
        "prior_stride": item["stride"],
    }
    return port.Layer(spec, arrays, [], [])


@pytest.mark.parametrize("number", range(len(VECTORS["levels"])))
def test_levels(number: int) -> None:
    item = VECTORS["levels"][number]
    rows, columns = item["size"]
    side = np.array(item["side"], dtype=np.int64)
    found = port.prior_levels(as_layer(item), side, rows, columns)
    wanted = np.array(item["levels"])
    assert np.array_equal(np.broadcast_to(found, wanted.shape), wanted)
    indices = np.clip(port.round_shift(found, 8), 0, 63)
    assert np.array_equal(
        np.broadcast_to(indices, wanted.shape), np.array(item["indices_without_extra"])
    )
    assert len(np.unique(wanted)) >= 3


def test_levels_by_hand() -> None:
    item = next(i for i in VECTORS["levels"] if i["kind"] == "codebook-global")
    a, z = item["arrays"], item["side"]
    mixed = [
        (sum(w * s for w, s in zip(row, z, strict=True)) + bias + 64) >> 7
        for row, bias in zip(a["mix"], a["mix_bias"], strict=True)
    ]
    weights = [min(max(x, -127), 127) for x in mixed]
    total = a["base"][1][2][0] + sum(
        w * word[1][2][0] for w, word in zip(weights, a["codebook"], strict=True)
    )
    assert item["levels"][1][2][0] == (total + 64) >> 7


def test_context() -> None:
    item = VECTORS["context"]
    arrays = {f"context.{k}": np.array(v, dtype=np.int64) for k, v in item["arrays"].items()}
    for key in ("context.weight0", "context.weight1"):
        arrays[key] = port.taps(arrays[key])
    gains = {"log_gains": np.zeros((1, 1, 3), np.int64), "gain": np.array([[item["gain"]]])}
    child = port.Layer({"channels": 3, "parents": [0, 1]}, arrays | gains, [], [])
    first = {"reciprocal": np.array([[item["reciprocal"]]])}
    parents = [port.Layer({"channels": 2}, first, [], []), port.Layer({"channels": 1}, {}, [], [])]
    model = port.Model({}, [*parents, child], [], {})
    known = {0: np.array(item["latents"], dtype=np.int64)}
    levels, centers = port.surroundings(model, 2, known, [[0], [0], [0]])
    assert levels.tolist() == item["levels"]
    assert centers.tolist() == item["centers"]
    quarter = item["latents"][0][0][0] * 64  # a reciprocal of 65536 is 1
    assert item["values"][0][0][0] == quarter


def test_a_whole_model_in_plain_data() -> None:
    item = VECTORS["model"]
    layer = item["layers"][0]
    parts = {k: [t[k] for t in layer["tables"]] for k in ("low", "frequencies")}
    assert [len(parts["low"]), {sum(f) for f in parts["frequencies"]}] == [64, {65536}]
    gains = port.Layer({"channels": 5}, {"log_gains": np.array(layer["log_gains"])}, [], [])
    wanted = item["log_gains"]
    found = [port.log_gain(gains, qualities).tolist() for qualities in wanted["qualities"]]
    assert found == wanted["values"]
    assert item["model_id"] == stored("codebook-local")["model_id"]
    assert item["more"] == sorted(f"{name}-golden.json" for name in make_golden.NAMES)


def test_the_port_guide_names_every_vector_and_its_examples_hold() -> None:
    text = (ROOT / "docs" / "formats" / "port.md").read_text()
    for key in VECTORS.keys() - {"format"}:
        assert f"| `{key}` |" in text
    assert port.round_shift(np.array([-3]), 1).tolist() == [-1]
    assert "rs(-3, 1) is -1" in text
    small = VECTORS["rans"]["good"][3]
    assert (small["symbols"], small["indices"], small["stream"]) == ([0], [1], "8000")
    five = next(item for item in VECTORS["escapes"] if item["entry"] == 5)
    assert five["bits"] == [0, 1, 1]


def test_the_plain_data_decode_the_payloads() -> None:
    """`model` in the vectors is all that a decoder needs."""
    item = VECTORS["model"]
    layers: list[port.Layer] = []
    for part in item["layers"]:
        arrays = {f"prior.{k}": np.array(v, dtype=np.int64) for k, v in part["arrays"].items()}
        arrays["log_gains"] = np.array(part["log_gains"])
        tables = [
            [
                (np.cumsum([0, *t["frequencies"][:-1]]).tolist(), t["frequencies"], t["low"], last)
                for t in part[key]
                for last in [len(t["frequencies"]) - 1]
            ]
            for key in ("tables", "side_tables")
        ]
        spec = part | {"side": part["side_size"], "parents": [], "tasks": len(part["log_gains"])}
        layers.append(port.Layer(spec, arrays, *tables))
    model = port.Model({"conditional": False}, layers, [tuple(range(len(layers)))], {})
    for stored_payload in item["payloads"]:
        container = port.parse(bytes.fromhex(stored_payload["payload"]), item["model_id"])
        images = list(port.decode_images(model, container))
        for number, part in enumerate(item["layers"]):
            if number in container.layers:
                wanted = stored_payload["latents"][part["name"]]
                found = np.stack([known[number] for known in images])
                assert list(found.shape) == wanted["shape"]
                assert found.ravel().tolist() == wanted["values"]
    assert sum(len(p["latents"]) for p in item["payloads"]) >= 3
