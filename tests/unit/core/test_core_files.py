import json
import os

import pytest
import torch

from foveal._core import weights
from foveal._core.files import atomic_write, ensure_dir, read_input, write_json
from foveal._core.lazy import require
from foveal._core.progress import track
from foveal.errors import ArgumentError, MissingExtraError


def test_atomic_write_leaves_the_old_file_on_error(tmp_path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyError), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise KeyError("x")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_write_renames_on_success(tmp_path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with atomic_write(target) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_full_disk_is_one_clear_error(tmp_path) -> None:
    target = tmp_path / "a.bin"
    with pytest.raises(ArgumentError, match="No space left"), atomic_write(target):
        raise OSError(28, os.strerror(28))
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_output_folder(tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArgumentError, match="output folder"):
        ensure_dir(tmp_path / "file" / "sub")


def test_json_refuses_nan(tmp_path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["missing", "folder", "empty"])
def test_read_input_names_the_file(tmp_path, kind: str) -> None:
    path = tmp_path / "x.bin"
    if kind == "folder":
        path.mkdir()
    if kind == "empty":
        path.touch()
    with pytest.raises(ArgumentError, match="x.bin"):
        read_input(path)


def test_require_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"foveal\[motion\]"):
        require("no_such_module_at_all", "motion", "tracking")


def test_track_yields_everything() -> None:
    assert list(track(iter([1, 2, 3]), "x")) == [1, 2, 3]


def test_weights_round_trip_and_damage(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {"a": torch.randn(3, 2), "h": torch.randn(4).half()}
    weights.save_weights(path, tensors, {"model": "X"})
    config, back = weights.load_weights(path)
    assert config == {"model": "X"}
    assert torch.equal(back["a"], tensors["a"])
    assert back["h"].dtype == torch.float32

    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArgumentError, match="SHA-256"):
        weights.load_weights(path)


def test_weights_of_another_version(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save_weights(path, {"a": torch.zeros(1)}, {})
    sidecar = path.with_suffix(".json")
    meta = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(meta | {"format_version": 99}))
    with pytest.raises(ArgumentError, match="format_version 99"):
        weights.load_weights(path)
    sidecar.write_text("{")
    with pytest.raises(ArgumentError, match="cannot be read"):
        weights.load_weights(path)


def test_unknown_packaged_weights_list_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match="must be one of"):
        weights.packaged("nothing")
