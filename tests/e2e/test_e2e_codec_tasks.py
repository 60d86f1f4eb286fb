"""The codecs from the command line: train one, encode, look, cut, decode; and those packaged."""

import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from typer.testing import CliRunner

from foveal import codec
from foveal.cli.answers import picture_of
from foveal.cli.app import app
from foveal.cli.streams import features_of_files
from foveal.codec.sources import EfficientNetCut
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
    wanted = codec.decode(codec.load(folder / "mine.safetensors"), part.read_bytes())
    assert torch.equal(features["normal"], wanted["normal"])
    with pytest.raises(BitstreamError, match="do not suffice for"):
        foveal("decode", part, "-o", weights, "-o", "tasks=scene")


def test_pictures_of_answers_by_hand() -> None:
    normal = torch.tensor([-1.0, 0.0, 3.0])[:, None, None].expand(3, 2, 2)
    assert picture_of("normal", normal)[:, 0, 0].tolist() == [0.0, 0.5, 1.0]
    grey = picture_of("depth", torch.tensor([[[0.25, -1.0]]]))
    assert grey[:, 0].tolist() == [[0.25, 0.0]] * 3
    labels = torch.eye(4).reshape(4, 2, 2)
    colors = picture_of("segmentation", labels).flatten(1).T
    assert len({tuple(color) for color in colors.tolist()}) == 4
    assert bool(((colors >= 0) & (colors <= 1)).all())


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
    joint = ("-o", "weights=joint-4task")
    with pytest.raises(ArgumentError, match="quality is 3 and target_bytes 90"):
        foveal("encode", pictures, stream, *joint, "-o", "quality=3", "-o", "target_bytes=90")
    with pytest.raises(ArgumentError, match="which has no effect on a model whose layers have no"):
        foveal("encode", pictures, stream, *joint, "-o", "order=best")
    with pytest.raises(ArgumentError, match=r"tasks is \['class'\], must be .* \['scene', "):
        foveal("encode", pictures, stream, *joint, "-o", "tasks=class")
    with pytest.raises(ArgumentError, match="what is 'curve', must be \"codec\""):
        foveal("train", "curve", pictures, folder / "x.safetensors")
    with pytest.raises(ArgumentError, match="'nothing' is unknown"):
        foveal("train", "codec", pictures, folder / "x.safetensors", "-o", "networks=nothing")
    with pytest.raises(ArgumentError, match="must end in .safetensors"):
        foveal("train", "codec", pictures, folder / "x.bin")
    with pytest.raises(ArgumentError, match="tasks is empty"):
        foveal("extract", stream, folder / "y.fvl")


def test_what_is_asked_is_looked_at_before_any_picture(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a picture is read")

    monkeypatch.setattr("foveal.cli.streams.frames", read)
    words = ("encode", folder / "pictures", folder / "x.fvl", "-o", "weights=joint-4task")
    for option, message in (
        ("quality=64", r"quality is 64, must be an integer in 0\.\.63; clip it"),
        ("target_bytes=-1", "target_bytes is -1.0, must be positive"),
        ("order=scene", r"order is \['scene'\], which has no effect"),
        ("tasks=class", r"encode: tasks is \['class'\], must be"),
    ):
        with pytest.raises(ArgumentError, match=message):
            foveal(*words, "-o", option)
    assert not (folder / "x.fvl").exists()


def test_many_pictures_are_decoded_if_that_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one command writes, another must be able to read."""
    weights, stream = ("-o", f"weights={folder / 'mine.safetensors'}"), folder / "many.fvl"
    monkeypatch.setattr("foveal.codec.decoding.MAX_SYMBOLS", 5119)
    words = ["encode", str(folder / "pictures"), str(stream), *weights]
    said = RUN.invoke(app, words, catch_exceptions=False).stdout
    assert "5120 latents: to decode all at once, give -o max_symbols=5120" in said
    assert foveal(*words)["latents"] == 5120  # 5 pictures, 2 layers, 8 channels of 8 x 8
    with pytest.raises(BitstreamError, match="claims 5120 latents, .* or raise max_symbols"):
        foveal("decode", stream, *weights)
    assert len(foveal("decode", stream, *weights, "-o", "max_symbols=5120")["images"]) == 5
    with pytest.raises(ArgumentError, match="max_symbols is -1, must be >= 0"):
        foveal("decode", stream, *weights, "-o", "max_symbols=-1")


def test_an_input_is_not_cut_in_its_place(folder: Path) -> None:
    weights, stream = ("-o", f"weights={folder / 'mine.safetensors'}"), folder / "whole.fvl"
    foveal("encode", folder / "pictures", stream, *weights)
    before = stream.read_bytes()
    with pytest.raises(ArgumentError, match="whole.fvl is the input, which would lose layers"):
        foveal("extract", stream, stream, *weights, "-o", "tasks=scene")
    assert stream.read_bytes() == before


def test_a_training_goes_on_and_says_where_its_checkpoint_is(folder: Path, tmp_path: Path) -> None:
    options = "networks=tasks-residual/scene steps=2 batch=2 views=1 channels=4 hidden=8 device=cpu"
    sizes = [word for option in options.split() for word in ("-o", option)]
    words = ["train", "codec", folder / "pictures", tmp_path / "m.safetensors", *sizes]
    kept = tmp_path / "kept" / "c.safetensors"
    found = foveal(*words, "--resume", kept)
    assert (found["checkpoint"], found["went_on_from"], found["steps"]) == (str(kept), 0, 2)
    more = [str(word) for word in (*words, "-o", "steps=3", "--resume", kept)]
    said = RUN.invoke(app, more, catch_exceptions=False).stdout
    assert f"{kept}: checkpoint of step 3, went on from step 2; delete it if you like" in said
    model = (tmp_path / "m.safetensors").read_bytes()
    for name in ("m.safetensors", "m.log.safetensors"):
        with pytest.raises(ArgumentError, match=f"--resume: .*{name} is where the model goes"):
            foveal(*words, "--resume", tmp_path / name)
    assert (tmp_path / "m.safetensors").read_bytes() == model
    assert "checkpoint" not in foveal(*words)


@pytest.mark.assets
def test_the_packaged_codec_says_classes_and_what_is_lost(folder: Path) -> None:
    stream = folder / "class.fvl"
    made = foveal("encode", folder / "pictures", stream, "-o", "quality=10")
    assert (made["images"], made["tasks"], made["qualities"]) == (5, ["class"], [[10]] * 5)
    assert sum(made["image_bytes"]) >= made["bytes"] == stream.stat().st_size
    found = foveal("decode", stream)
    assert found["tasks"] == ["class"]
    for row in found["images"]:
        assert len(row["class"]["classes"]) == len(set(row["class"]["classes"])) == 5
        assert row["class"]["probabilities"] == sorted(row["class"]["probabilities"], reverse=True)
    fine = foveal("encode", folder / "pictures", folder / "fine.fvl", "-o", "quality=63")
    assert fine["bytes"] > made["bytes"]
    receipt = made["receipt"]
    assert receipt["loss_metric"].startswith("top-1 disagreement with the answer")
    model, features = codec.load(), features_of_files(codec.load(), sorted_pictures(folder), 1)
    head = EfficientNetCut().decode
    with torch.no_grad():
        wanted = head(features["class"]).argmax(1)
        got = head(codec.decode(model, stream.read_bytes())["class"]).argmax(1)
    assert receipt["loss"] == pytest.approx(float((wanted != got).double().mean()))
    assert [row["class"]["classes"][0] for row in found["images"]] == got.tolist()
    with pytest.raises(ArgumentError, match=r"--pictures: .* no answer of \['class'\] is a map"):
        foveal("decode", stream, "--pictures", folder / "none")
    assert not (folder / "none").exists()


def sorted_pictures(folder: Path) -> list[Path]:
    return sorted((folder / "pictures").iterdir())


def test_the_packaged_joint_codec_serves_tasks_one_by_one(folder: Path) -> None:
    weights, stream = ("-o", "weights=joint-4task"), folder / "joint.fvl"
    picture = sorted_pictures(folder)[0]
    asked = ("-o", "tasks=normal,segmentation", "-o", "target_bytes=300")
    made = foveal("encode", picture, stream, *weights, *asked)
    assert made["tasks"] == ["segmentation", "normal"]
    assert made["bytes"] == stream.stat().st_size <= 300
    assert set(made["receipt"]["details"]["task_loss"]) == {"segmentation", "normal"}
    found = foveal("decode", stream, *weights, "--pictures", folder / "maps")
    assert set(found["images"][0]) == {"segmentation", "normal"}
    assert found["not_sent"] == ["scene", "reshading"]
    assert len(list((folder / "maps").iterdir())) == 2
    foveal("encode", picture, stream, *weights)
    found = foveal("decode", stream, *weights)
    assert set(found["images"][0]) == {"scene", "segmentation", "normal", "reshading"}
    assert found["images"][0]["scene"]["names"][0].isalpha()


def test_frames_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long video no more frames are alive than go through the networks at once."""
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def frames(file: Path, every: int) -> Iterator[torch.Tensor]:
        nonlocal most
        for i in range(70):
            frame = torch.full((3, 40 + 2 * (i >= 50), 60), i / 100)
            alive.append(weakref.ref(frame))
            most = max(most, sum(one() is not None for one in alive))
            yield frame
            del frame

    monkeypatch.setattr("foveal.cli.streams.frames", frames)
    model = codec.load("joint-4task")
    found = features_of_files(model, [Path("long.mp4")], 1, ["normal"])
    assert {name: x.shape for name, x in found.items()} == dict.fromkeys(
        model.config.tasks, (70, 8, 16, 16)
    )
    assert most <= 18
    monkeypatch.setattr("foveal.codec.arguments.MAX_IMAGES", 69)
    with pytest.raises(ArgumentError, match="over 69 images or frames.*pass a larger -o every="):
        features_of_files(model, [Path("long.mp4")], 1)


NETWORK = """
import torch

class Planes:
    def preprocess(self, images):
        return torch.nn.functional.interpolate(images, size=(32, 32), mode="bilinear")

    def encode(self, images):
        return torch.nn.functional.avg_pool2d(images, 2)[:, :2]

    def decode(self, features):
        return features.mean((2, 3))
"""


def test_a_codec_for_a_network_of_ones_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planes_of_mine.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    own = ("-o", "networks=tint@planes_of_mine:Planes")
    options = ["steps=4", "batch=2", "views=1", "channels=4", "hidden=8", "device=cpu"]
    sizes = [word for option in options for word in ("-o", option)]
    foveal("train", "codec", folder / "pictures", "own.safetensors", *own, *sizes)
    weights = ("-o", "weights=own.safetensors")
    made = foveal("encode", folder / "pictures", "own.fvl", *weights, *own)
    assert made["tasks"] == ["tint"]
    assert made["receipt"]["loss"] in [k / 5 for k in range(6)]
    row = foveal("decode", "own.fvl", *weights, *own)["images"][4]
    assert sorted(row["tint"]["classes"]) == [0, 1]
    assert row["tint"]["names"] == [str(label) for label in row["tint"]["classes"]]
    assert foveal("decode", "own.fvl", *weights)["images"] == [{}] * 5
    for name, message in (
        ("planes_of_mine", "-o networks: model is 'planes_of_mine', must be module:attribute"),
        ("planes_of_mine:None_such", "-o networks: .* cannot be imported"),
        ("planes_of_mine:__name__", "-o networks: .* must be callable without arguments"),
    ):
        with pytest.raises(ArgumentError, match=message):
            foveal("decode", "own.fvl", *weights, "-o", f"networks=tint@{name}")
    with pytest.raises(ArgumentError, match="teacher is '', must be .*networks"):
        foveal("encode", folder / "pictures", "own.fvl", *weights)
    other = ("-o", "networks=other@planes_of_mine:Planes")
    for words in (("encode", folder / "pictures", "own.fvl"), ("decode", "own.fvl")):
        with pytest.raises(ArgumentError, match=r"has \['other'\], must have some of \['tint'\]"):
            foveal(*words, *weights, *other)
