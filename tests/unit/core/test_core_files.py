import json
import os

import pytest
import torch

from foveal._core import weights
from foveal._core.files import (
    atomic_write,
    check_folder,
    ensure_dir,
    read_input,
    write_bytes,
    write_json,
    write_text,
)
from foveal._core.lazy import require
from foveal._core.progress import track
from foveal.errors import ArgumentError, MediaError, MissingExtraError


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


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_for_terminals_only(capsys, monkeypatch, terminal) -> None:
    import sys

    from foveal.cli.common import reporter

    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    show = reporter("frames")
    for done in range(1, 4):
        show(done, 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("frames: 3 of 3" in err) == (err != "") == terminal


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


def test_names_of_packaged_codecs_are_those_that_load_takes() -> None:
    from foveal import codec

    known = r"must be one of \['efficientnet-lite0', 'joint-4task'\]"
    with pytest.raises(ArgumentError, match=known):
        codec.load("nothing")
    with pytest.raises(ArgumentError, match=r"must be one of"):
        codec.load("../weights/codec-efficientnet-lite0")


def test_errors_of_inputs_say_what_to_do(tmp_path) -> None:
    from foveal._core.video import probe_video

    (tmp_path / "a.mp4").touch()
    with pytest.raises(ArgumentError, match="must be a file; name one in it"):
        read_input(tmp_path)
    with pytest.raises(ArgumentError, match="must hold data; get the file again"):
        read_input(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(MediaError, match="check that it plays, or convert it"):
        probe_video(tmp_path / "a.mp4")


def test_check_folder_makes_nothing(tmp_path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="output folder"):
        check_folder(tmp_path / "file" / "a")


def test_only_plain_files_are_replaced(tmp_path) -> None:
    """`/dev/null` must stay a device, and a folder a folder."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(ArgumentError, match="plain file"):
            write_bytes(tmp_path / name, b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "pipe"]


def test_permissions_follow_the_old_file_or_the_umask(tmp_path) -> None:
    old = os.umask(0o077)
    try:
        write_bytes(tmp_path / "new", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    (tmp_path / "new").chmod(0o640)
    write_bytes(tmp_path / "new", b"y")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_long_names(tmp_path) -> None:
    write_bytes(tmp_path / ("a" * 250 + ".txt"), b"x")
    with pytest.raises(ArgumentError, match="too long"):
        write_bytes(tmp_path / ("a" * 300), b"x")
    with pytest.raises(ArgumentError, match="too long"):
        read_input(tmp_path / ("a" * 300))


def test_text_that_utf8_cannot_hold(tmp_path) -> None:
    write_text(tmp_path / "a.txt", "\u00e9t\u00e9 \udcff")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9t\xc3\xa9 ?"


@pytest.mark.parametrize("config", [None, [1], 3, "x"])
def test_weights_with_a_config_that_is_no_object(tmp_path, config) -> None:
    path = tmp_path / "w.safetensors"
    weights.save_weights(path, {"a": torch.zeros(1)}, {})
    sidecar = path.with_suffix(".json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"config": config}))
    with pytest.raises(ArgumentError, match="cannot be read"):
        weights.load_weights(path)


def test_weights_of_another_suffix_are_refused(tmp_path) -> None:
    """With .json the tensors would be overwritten by their own description."""
    for name in ("w.json", "w", "w.bin"):
        with pytest.raises(ArgumentError, match=rf"path is .*{name}, must end in .safetensors"):
            weights.save_weights(tmp_path / name, {"a": torch.zeros(1)}, {})
    assert not list(tmp_path.iterdir())


def test_old_weights_stay_whole_if_new_ones_cannot_be_described(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save_weights(path, {"a": torch.zeros(1)}, {"turn": 1})
    with pytest.raises(ValueError, match="JSON"):
        weights.save_weights(path, {"a": torch.ones(1)}, {"turn": float("nan")})
    config, tensors = weights.load_weights(path)
    assert (config, tensors["a"].item()) == ({"turn": 1}, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.json", "w.safetensors"]


def test_weights_larger_than_allowed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    weights.save_weights(path, {"a": torch.zeros(1000)}, {"long": "x" * 200})
    size = path.stat().st_size
    with pytest.raises(ArgumentError, match=f"w.safetensors has {size} bytes, must have at most 9"):
        weights.load_weights(path, max_bytes=999)
    assert weights.load_weights(path, max_bytes=size)[0]["long"] == "x" * 200
    monkeypatch.setattr(weights, "MAX_CONFIG_BYTES", 200)
    with pytest.raises(ArgumentError, match=r"w.json has \d+ bytes, must have at most 200"):
        weights.load_weights(path)
