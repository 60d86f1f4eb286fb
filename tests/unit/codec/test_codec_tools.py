"""Scripts refuse at once what would be lost hours later, and measure what they say they do."""

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from foveal.codec.encoding import encode
from foveal.codec.model import FeatureCodec

TOOLS = Path(__file__).parents[3] / "tools"
GOLDEN = Path(__file__).parents[2] / "golden" / "codec"


@pytest.fixture
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module(request.param)


@pytest.mark.parametrize(
    ("out", "log", "message"),
    [
        ("m.safetensors", "m.json", "--log is .*m.json, which belongs to the model"),
        ("m.safetensors", "./m.safetensors", "which belongs to the model, must be another"),
        ("m.bin", "log.json", "--out is .*m.bin, must end in .safetensors"),
        ("m.safetensors", "none/log.json", "none is no folder, must be one; make it first"),
        ("none/m.safetensors", "log.json", "none is no folder"),
    ],
)
@pytest.mark.parametrize("tool", ["train_codec"], indirect=True)
def test_paths_are_looked_at_before_training(
    tool: ModuleType,
    out: str,
    log: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--photos", str(tmp_path), "--out", str(tmp_path / out), "--log", str(tmp_path / log)]
    monkeypatch.setattr("sys.argv", ["train_codec.py", *words])
    with pytest.raises(SystemExit) as ended:
        tool.main()
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert tool.wrong_paths(tmp_path / out, tmp_path / log) in text
    assert re.search(message, text)


@pytest.mark.parametrize("tool", ["train_codec"], indirect=True)
def test_good_paths_pass(tool: ModuleType, tmp_path: Path) -> None:
    assert tool.wrong_paths(tmp_path / "m.safetensors", tmp_path / "m.log.json") == ""


@pytest.mark.parametrize("tool", ["train_task_codecs"], indirect=True)
def test_jobs_with_unknown_words_are_refused(tool: ModuleType) -> None:
    job = tool.Job.of("joint:spatial:scene,normal:2:small:channels=8,frozen=analysis,lr=0.001")
    assert job.tasks == ("scene", "normal")
    assert job.options == {"channels": "8", "frozen": "analysis", "lr": "0.001"}
    with pytest.raises(SystemExit, match=r"options \['width'\], must have"):
        tool.Job.of("joint:spatial:scene:2:small:width=8")
    with pytest.raises(SystemExit, match="scheme 'both'"):
        tool.Job.of("both:spatial:scene:2")


@pytest.mark.parametrize("name", ["factorized", "conditional"])
@pytest.mark.parametrize("tool", ["codec_devices"], indirect=True)
def test_streams_are_checked_against_the_encoders_integers(
    tool: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one and in batches of over 100, where decoders go another way."""
    path = GOLDEN / f"{name}.safetensors"
    model = FeatureCodec.load(path)
    x = {s.name: torch.randn(90, *s.shape) for s in model.config.sources}
    save_file(x, tmp_path / "train.safetensors")

    def run(*words: str | Path) -> dict[str, Any]:
        out = tmp_path / "out.json"
        arguments = [*words, "--model", path, "--out", out if words[0] == "check" else streams]
        monkeypatch.setattr("sys.argv", ["codec_devices.py", *map(str, arguments)])
        tool.main()
        return json.loads(out.read_text()) if words[0] == "check" else {}

    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("a digest is of decoded integers")

    streams = tmp_path / "streams.npz"
    with monkeypatch.context() as inner:
        inner.setattr(tool, "decode_symbols", decoded)
        run("write", "--features", tmp_path, "--count", "260", "--device", "cpu")
    with np.load(streams) as held:
        kept = dict(held)
    assert kept["precisions"].tolist() == ["fp32"] * 125 + ["tf32"] * 125 + ["bf16"] * 10
    first = encode(model, {key: value[:1] for key, value in x.items()}, quality=0).payload
    assert kept["data"].tobytes().startswith(first)
    found = run("check", "--streams", streams)
    assert (found["least_batch"], found["vectorised"]) == (130, True)
    assert found["written_on"]["digests"] == "of the encoder's integers"
    for row in found["decoded"]:
        assert (row["streams"], row["mismatches"]) == (260, 0)
        assert (row["batches"], row["streams_in_batches"], row["mismatches_in_batches"]) == (
            2,
            260,
            0,
        )
    kept["digests"][[3, 200]] = kept["digests"][[200, 3]]
    np.savez(streams, **kept)
    for row in run("check", "--streams", streams)["decoded"]:
        assert (row["mismatches"], row["mismatches_in_batches"]) == (2, 2)


@pytest.mark.parametrize("tool", ["codec_devices"], indirect=True)
def test_a_vectorised_decoder_that_errs_is_found(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foveal.codec.entropy.vectorised import LaneDecoder

    path = GOLDEN / "factorized.safetensors"
    model = FeatureCodec.load(path)
    x = {s.name: torch.randn(101, *s.shape) for s in model.config.sources}
    payload, integers = tool.coded(model, x, 50)
    assert payload == encode(model, x, quality=50).payload
    wanted = tool.digest(integers)
    ((members, whole),) = tool.joined(tool.split(payload))
    assert (members, whole) == (list(range(101)), payload)
    assert tool.joined(tool.split(payload)[:99]) == []
    assert tool.digest(tool.decode_symbols(model, payload)) == wanted
    right = LaneDecoder.decode
    monkeypatch.setattr(LaneDecoder, "decode", lambda *a, **k: right(*a, **k) + 1)
    assert tool.digest(tool.decode_symbols(model, payload)) != wanted
