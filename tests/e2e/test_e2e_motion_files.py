"""`foveal move` to each kind of file, and to another skeleton."""

import sys

import numpy as np
import pytest

from foveal import motion
from foveal.cli import main
from foveal.errors import ArgumentError
from foveal.motion.export.mp4 import render_frames
from foveal.motion.retarget import read_bvh


@pytest.fixture
def move(monkeypatch, capsys):
    def run(target, *options: str) -> tuple[int, str]:
        chosen = [w for o in ("track=kinematic", "fps=10", *options) for w in ("-o", o)]
        monkeypatch.setattr(sys, "argv", ["foveal", "move", "wave", str(target), *chosen])
        with pytest.raises(SystemExit) as info:
            main()
        return int(info.value.code or 0), " ".join("".join(capsys.readouterr()).split())

    return run


@pytest.mark.parametrize("suffix", [".bvh", ".glb", ".npz", ".xml", ".mjcf", ".mp4", ".html"])
def test_every_suffix_is_written(move, tmp_path, suffix) -> None:
    if suffix == ".mp4":
        pytest.importorskip("av")
    code, said = move(tmp_path / f"wave{suffix}")
    assert code == 0, said
    beside = {"wave.qpos.npz"} if suffix in (".xml", ".mjcf") else set()
    assert {path.name for path in tmp_path.iterdir()} == {f"wave{suffix}"} | beside
    if suffix in (".npz", ".xml", ".mjcf"):
        assert motion.Clip.load(tmp_path / f"wave{suffix}").title == "wave"


def test_another_skeleton_is_moved(move, tmp_path) -> None:
    code, said = move(tmp_path / "mixamo.bvh", "retarget=mixamo")
    assert code == 0, said
    moved = read_bvh(tmp_path / "mixamo.bvh")
    assert moved.rig.names[0] == "mixamorig:Hips"
    assert moved.fps == 10
    code, said = move(tmp_path / "again.bvh", f"retarget={tmp_path / 'mixamo.bvh'}")
    assert code == 0, said
    again = read_bvh(tmp_path / "again.bvh")
    np.testing.assert_allclose(again.positions, moved.positions, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("a.xml", "retarget=mixamo", "must end in one of ('.bvh', '.glb', '.npz') with retarget"),
        ("a.bvh", "retarget=unity", "to is 'unity', must be 'mixamo'"),
        ("a.bvh", "retarget=none.bvh", "path is 'none.bvh', must be a BVH file"),
    ],
)
def test_what_does_not_fit_is_said_before_the_work(
    move, tmp_path, monkeypatch, name, option, words
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(motion, "generate", None)  # it would fail otherwise
    code, said = move(tmp_path / name, option)
    assert code == 2
    assert words in said
    assert list(tmp_path.iterdir()) == []


def test_renderers_and_sizes_of_the_wrong_kind_are_named() -> None:
    clip = motion.generate("stand", track="kinematic", fps=10)
    with pytest.raises(ArgumentError, match="renderer is 'opengl', must be one of .'auto'"):
        render_frames(clip, renderer="opengl")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"render_frames: size is \(160.5, 120\), must be wid"):
        render_frames(clip, size=(160.5, 120))  # type: ignore[arg-type]
