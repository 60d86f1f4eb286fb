"""The packaged codecs: they load, code well, are small, and are refused when damaged."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foveal import codec
from foveal._core.media import read_image
from foveal._core.weights import load_weights, packaged, save_weights
from foveal.codec import sources
from foveal.data import samples, taskworld
from foveal.errors import ArgumentError
from foveal.teachers import prepare

NAMES = ("efficientnet-lite0", "joint-4task")
MAX_BYTES = 5_000_000


@pytest.fixture(scope="module")
def scenes() -> torch.Tensor:
    """Pictures that no codec saw."""
    return taskworld.render([taskworld.sample(seed, "test") for seed in range(12)]).image


def features(model: codec.FeatureCodec, count: int) -> dict[str, torch.Tensor]:
    """Return noise of the size of a model's features."""
    generator = torch.Generator().manual_seed(0)
    out: dict[str, torch.Tensor] = {}
    for source in model.config.sources:
        scale = model.scale(source.name)
        x = torch.randn(count, *source.shape, generator=generator)
        out[source.name] = x * scale.std[:, None, None] + scale.mean[:, None, None]
    return out


@pytest.mark.parametrize("name", NAMES)
def test_they_load_and_code(name: str) -> None:
    model = codec.load(name)
    x = features(model, 2)
    stream = codec.encode(model, x)
    first, second = (codec.decode(model, stream.payload) for _ in range(2))
    assert list(first) == list(model.config.tasks)
    for task, value in first.items():
        assert value.shape == x[task].shape
        assert torch.isfinite(value).all()
        assert torch.equal(value, second[task])


def test_which_is_the_usual_one() -> None:
    assert codec.load().model_id == codec.load("efficientnet-lite0").model_id
    assert codec.load().config.tasks == ("class",)
    joint = codec.load("joint-4task")
    assert joint.config.tasks == ("scene", "segmentation", "normal", "reshading")
    assert [len(layer.tasks) for layer in joint.config.layers] == [4]
    assert all(source.teacher and source.sha256 for source in joint.config.sources)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_small(name: str) -> None:
    assert packaged(name, prefix="codec-").stat().st_size < MAX_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_they_can_be_trained_on(name: str) -> None:
    model = codec.load(name)
    assert {p.device.type for p in model.state_dict().values()} == {"cpu"}
    assert all(p.requires_grad for p in model.parameters())


def test_the_joint_codec_keeps_what_its_networks_say(scenes: torch.Tensor) -> None:
    model = codec.load("joint-4task")
    fine = codec.encode(model, scenes, quality=48, measure=True).receipt
    assert fine.spent / len(scenes) < 650
    losses = fine.details["task_loss"]
    assert losses["scene"] <= 1 / 12
    assert max(losses.values()) < 0.2
    coarse = codec.encode(model, scenes, target_bytes=300, measure=True).receipt
    assert coarse.spent / len(scenes) <= 300
    assert fine.loss is not None
    assert coarse.loss is not None
    assert fine.loss < coarse.loss < 0.2
    one = codec.encode(model, scenes, quality=48, tasks=["normal"], measure=True).receipt
    assert one.spent < 0.8 * fine.spent
    assert one.loss == pytest.approx(losses["normal"], abs=0.1)


@pytest.mark.assets
def test_the_codec_of_efficientnet_keeps_its_answer() -> None:
    """Twenty photographs that nothing here was trained on."""
    model = codec.load("efficientnet-lite0")
    names = [name for name in samples.catalogue() if name.startswith("photo-")]
    photos = torch.stack([prepare(read_image(path)) for path in samples.fetch(names)])
    for quality, most_bytes, most_loss in ((0, 200, 0.6), (16, 850, 0.2), (63, 7200, 0.05)):
        receipt = codec.encode(model, photos, quality=quality, measure=True).receipt
        assert receipt.spent / len(photos) < most_bytes
        assert receipt.loss is not None
        assert receipt.loss <= most_loss
    within = codec.encode(model, photos, target_bytes=500, measure=True)
    assert max(map(len, codec.split(within.payload))) <= 500
    assert within.receipt.loss is not None
    assert within.receipt.loss <= 0.3


def test_a_fresh_process_decodes_identical_integers() -> None:
    model = codec.load("joint-4task")
    payload = codec.encode(model, features(model, 2)).payload
    code = (
        "import json, sys; from foveal import codec; m = codec.load('joint-4task');"
        "y = codec.decode_symbols(m, bytes.fromhex(sys.argv[1]));"
        "sys.stdout.write(json.dumps({k: v.tolist() for k, v in y.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, payload.hex()], check=True, capture_output=True, timeout=60
    )
    wanted = codec.decode_symbols(model, payload)
    assert json.loads(done.stdout) == {k: v.tolist() for k, v in wanted.items()}


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    source = packaged("joint-4task", prefix="codec-")
    path = tmp_path / source.name
    data = bytearray(source.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    shutil.copy(source.with_suffix(".json"), path.with_suffix(".json"))
    with pytest.raises(ArgumentError, match="SHA-256"):
        codec.load(path)


def test_declared_sizes_take_no_memory_before_they_fit(tmp_path: Path) -> None:
    """A small file may declare a hundred times its size: the shapes are compared first."""
    config, tensors = load_weights(packaged("joint-4task", prefix="codec-"))
    for head in config["codec"]["heads"]:
        head["hidden"] = 1024
    save_weights(tmp_path / "m.safetensors", tensors, config)
    with pytest.raises(ArgumentError, match="do not fit"):
        codec.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", ["", "joint", "codec-joint-4task", "../weights/codec-joint-4task"])
def test_unknown_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"one of \['efficientnet-lite0', 'joint-4task'\] or a"):
        codec.load(name)


def test_networks_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = codec.load("joint-4task")
    monkeypatch.setattr(sources, "fingerprint", lambda teacher: ("", "0" * 64))
    with pytest.raises(ArgumentError, match="is 000000000000, must be .*Foveal version that wrote"):
        codec.encode(model, torch.rand(1, 3, 64, 64))
