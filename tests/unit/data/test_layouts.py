"""Layouts of data sets that users bring, made by hand."""

import struct

import pytest
import torch

from foveal.data.layouts import Item, arid, codan, dark_face, exdark, read_flow, vbof
from foveal.errors import ArgumentError


def touch(path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_codan(tmp_path) -> None:
    for name in ("test_night/Cat/b.jpg", "test_night/Car/a.JPG", "train/Cat/c.jpg"):
        touch(tmp_path / name)
    touch(tmp_path / "test_night/Cat/notes.txt")
    touch(tmp_path / "test_night/Cat/._b.jpg")  # as archives of some systems hold
    found = codan(tmp_path, "test_night")
    assert [(x.path.name, x.label) for x in found] == [("a.JPG", "Car"), ("b.jpg", "Cat")]
    with pytest.raises(ArgumentError, match="split is 'night'"):
        codan(tmp_path, "night")
    with pytest.raises(ArgumentError, match="val is no folder"):
        codan(tmp_path, "val")
    (tmp_path / "val").mkdir()
    with pytest.raises(ArgumentError, match="holds no class folder"):
        codan(tmp_path, "val")


BBGT = "% bbGt version=3\nDog 10 20 30 40 0 0 0 0 0 0 0\nPeople 1 2 3 4 0 0 0 0 0 0 0\n"


@pytest.mark.parametrize("below", ["", "ExDark"])
def test_exdark(tmp_path, below) -> None:
    for name in ("Dog/2015_1.jpg", "Dog/2015_2.png", "Boat/2015_3.jpg"):
        touch(tmp_path / below / name)
    touch(tmp_path / "ExDark_Annno/Dog/2015_1.jpg.txt", BBGT)
    touch(
        tmp_path / "imageclasslist.txt",
        "Name | Class | Light | In/Out | Train/Val/Test\n"
        "2015_1.JPG 9 1 1 3\n2015_2.png 9 2 1 1\n2015_3.jpg 2 2 2 3\n",
    )
    every = exdark(tmp_path)
    assert [x.path.name for x in every] == ["2015_3.jpg", "2015_1.jpg", "2015_2.png"]
    found = {x.path.name: x for x in exdark(tmp_path, "test")}
    assert found.keys() == {"2015_1.jpg", "2015_3.jpg"}
    assert found["2015_1.jpg"].boxes == ((10, 20, 40, 60), (1, 2, 4, 6))
    assert found["2015_1.jpg"].classes == ("Dog", "People")
    assert found["2015_3.jpg"] == Item(tmp_path / below / "Boat/2015_3.jpg", "Boat")
    with pytest.raises(ArgumentError, match="split is 'dark'"):
        exdark(tmp_path, "dark")
    touch(tmp_path / "ExDark_Annno/Dog/2015_1.jpg.txt", "Dog 10 twenty 30 40\n")
    with pytest.raises(ArgumentError, match="line 1 of .*four numbers"):
        exdark(tmp_path)
    touch(tmp_path / "ExDark_Annno/Dog/2015_1.jpg.txt", "Dog 10 20 -30 40\n")
    with pytest.raises(ArgumentError, match="a box in pixels"):
        exdark(tmp_path)
    touch(tmp_path / "imageclasslist.txt", "2015_1.JPG 9 1\n")
    with pytest.raises(ArgumentError, match="a name and four numbers"):
        exdark(tmp_path, "test")
    (tmp_path / "imageclasslist.txt").unlink()
    with pytest.raises(ArgumentError, match="cannot be read"):
        exdark(tmp_path, "test")


def test_dark_face(tmp_path) -> None:
    for name in ("10", "2", "3"):
        touch(tmp_path / f"image/{name}.png")
    touch(tmp_path / "label/2.txt", "2\n1 2 3 4\n5 6 70 80\n")
    touch(tmp_path / "label/10.txt", "0\n")
    found = dark_face(tmp_path)
    assert [x.path.stem for x in found] == ["2", "10"]  # 3 has no label
    assert found[0].boxes == ((1, 2, 3, 4), (5, 6, 70, 80))
    assert (found[0].classes, found[1].boxes) == (("face", "face"), ())
    for text, words in (("", "must begin with"), ("2\n1 2 3 4\n", "says 2 faces and has 1")):
        touch(tmp_path / "label/10.txt", text)
        with pytest.raises(ArgumentError, match=words):
            dark_face(tmp_path)


def test_arid(tmp_path) -> None:
    for name in ("Jump/Jump_1.mp4", "Run/Run_1.mp4", "Run/Run_2.mp4"):
        touch(tmp_path / "data" / name)
    assert [x.label for x in arid(tmp_path / "data")] == ["Jump", "Run", "Run"]
    touch(tmp_path / "test.txt", "0 5 Run/Run_2.mp4\n\n1 1 Jump/Jump_1.mp4\n")
    found = arid(tmp_path / "data", tmp_path / "test.txt")
    assert [(x.path.name, x.label) for x in found] == [("Run_2.mp4", "Run"), ("Jump_1.mp4", "Jump")]
    for line in ("0 5 Run/Run_9.mp4", "0 5 ../test.txt", f"0 5 {tmp_path}/test.txt"):
        touch(tmp_path / "bad.txt", line)
        with pytest.raises(ArgumentError, match="line 1 of"):
            arid(tmp_path / "data", tmp_path / "bad.txt")


def flo(width: int, height: int, *values: float) -> bytes:
    return b"PIEH" + struct.pack(f"<2i{len(values)}f", width, height, *values)


@pytest.mark.parametrize("below", ["", "VBOF_data"])
def test_vbof(tmp_path, below) -> None:
    for name in ("12030405", "12030409", "21010205"):
        for part in ("img1.jpg", "img2.jpg", "flow.flo"):
            touch(tmp_path / below / f"{name}_{part}")
    touch(tmp_path / below / "readme.jpg")
    found = vbof(tmp_path)
    assert [(x.camera, x.exposure) for x in found] == [("12", 5), ("12", 9), ("21", 5)]
    assert found[1].second.name == "12030409_img2.jpg"
    assert [x.flow.name for x in vbof(tmp_path, 9)] == ["12030409_flow.flo"]
    with pytest.raises(ArgumentError, match="exposure is 0"):
        vbof(tmp_path, 0)
    with pytest.raises(ArgumentError, match="holds no pair"):
        vbof(tmp_path, 1)
    (tmp_path / below / "21010205_flow.flo").unlink()
    with pytest.raises(ArgumentError, match=r"21010205_flow.flo is missing"):
        vbof(tmp_path)
    with pytest.raises(ArgumentError, match="nowhere is no folder"):
        vbof(tmp_path / "nowhere")


def test_flow_is_read_and_hostile_files_are_named(tmp_path) -> None:
    good = flo(3, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2e9, 12)
    (tmp_path / "a.flo").write_bytes(good)
    flow = read_flow(tmp_path / "a.flo")
    assert flow.shape == (2, 2, 3)
    assert flow[:, 0].tolist() == [[1, 3, 5], [2, 4, 6]]
    assert flow[:, 1, 0].tolist() == [7, 8]
    assert torch.isnan(flow[:, 1, 2]).all()
    for bad in (
        b"",
        b"PIEH",
        good[:-1],
        good + b"x",
        b"HEIP" + good[4:],
        flo(-3, -2, *range(12)),
        flo(2**30, 2**30),
        flo(0, 5),
    ):
        (tmp_path / "a.flo").write_bytes(bad)
        with pytest.raises(ArgumentError, match=r"a\.flo has"):
            read_flow(tmp_path / "a.flo")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_flow(tmp_path / "b.flo")
