"""A codec of one's own from the command line: train, encode, look, cut, decode."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from typer.testing import CliRunner

from foveal.cli.app import app
from foveal.errors import ArgumentError, BitstreamError

pytestmark = pytest.mark.e2e
RUN = CliRunner()


def foveal(*words: str | Path) -> dict:
    done = RUN.invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("codec")
    generator = torch.Generator().manual_seed(0)
    (here / "pictures").mkdir()
    for i in range(5):
        coarse = torch.rand(1, 3, 5, 5, generator=generator)
        picture = functional.interpolate(coarse, size=(60 + i, 70), mode="bicubic").clamp(0, 1)
        pixels = (picture[0] * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(here / "pictures" / f"{i}.png")
    options = "networks=tasks-residual/scene,tasks-residual/normal scheme=separate steps=6 batch=2"
    options += " views=2 channels=8 hidden=16 held_out=0.2 device=cpu"
    words = [word for option in options.split() for word in ("-o", option)]
    found = foveal("train", "codec", here / "pictures", here / "mine.safetensors", *words)
    assert found["pictures"] == 5
    assert found["held_out_views"] == 2
    assert found["steps"] == 6
    assert [row["quality"] for row in found["rows"]] == [0, 16, 32, 48, 63]
    log = json.loads((here / "mine.log.json").read_text())
    assert log["losses"][-1]["step"] == 6
    return here


def test_encode_inspect_extract_decode(folder: Path) -> None:
    weights = f"weights={folder / 'mine.safetensors'}"
    stream, part = folder / "all.fvl", folder / "part.fvl"
    made = foveal("encode", folder / "pictures", stream, "-o", weights, "-o", "quality=50")
    assert made["images"] == 5
    assert made["tasks"] == ["scene", "normal"]
    assert made["bytes"] == stream.stat().st_size
    facts = foveal("inspect", stream)
    assert facts["images"] == 5
    assert facts["layers"] == [0, 1]
    assert sum(facts["layer_bytes"]) == facts["stream_bytes"]

    cut = foveal("extract", stream, part, "-o", weights, "-o", "tasks=normal")
    assert cut["bytes"] == part.stat().st_size < cut["before"] == stream.stat().st_size
    assert foveal("inspect", part)["layers"] == [1]

    whole = foveal("decode", stream, "-o", weights, "--pictures", folder / "pictures_of")
    assert set(whole["images"][0]) == {"scene", "normal"}
    assert sum(whole["images"][0]["scene"]["probabilities"]) <= 1.00001
    with Image.open(whole["images"][3]["normal"]["picture"]) as picture:
        assert picture.size == (128, 128)
    found = foveal("decode", part, "-o", weights, "--features", folder / "f.safetensors")
    assert set(found["images"][0]) == {"normal"}
    features = load_file(folder / "f.safetensors")
    assert features["normal"].shape == (5, 8, 16, 16)
    with pytest.raises(BitstreamError, match="do not suffice for"):
        foveal("decode", part, "-o", weights, "-o", "tasks=scene")


def test_a_target_is_kept_by_each_picture(folder: Path) -> None:
    weights = f"weights={folder / 'mine.safetensors'}"
    stream = folder / "small.fvl"
    asked = ("-o", "target_bytes=60", "-o", "tasks=scene")
    made = foveal("encode", folder / "pictures", stream, "-o", weights, *asked)
    assert made["tasks"] == ["scene"]
    assert max(made["image_bytes"]) <= 60
    with pytest.raises(ArgumentError, match="target_bytes is 5, must be at least"):
        foveal("encode", folder / "pictures", stream, "-o", weights, "-o", "target_bytes=5")


def test_what_has_no_effect_is_refused(folder: Path) -> None:
    pictures, stream = folder / "pictures", folder / "x.fvl"
    with pytest.raises(ArgumentError, match="quality is given, which the codec"):
        foveal("encode", pictures, stream, "-o", "quality=3")
    with pytest.raises(ArgumentError, match="what is 'curve', must be \"codec\""):
        foveal("train", "curve", pictures, folder / "x.safetensors")
    with pytest.raises(ArgumentError, match="'nothing' is unknown"):
        foveal("train", "codec", pictures, folder / "x.safetensors", "-o", "networks=nothing")
    with pytest.raises(ArgumentError, match="must end in .safetensors"):
        foveal("train", "codec", pictures, folder / "x.bin")
    with pytest.raises(ArgumentError, match="tasks is empty"):
        foveal("extract", stream, folder / "y.fvl")
