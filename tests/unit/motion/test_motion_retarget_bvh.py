"""BVH in: values by hand, any order of channels, and files that are broken."""

from dataclasses import replace

import numpy as np
import pytest

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.retarget import Rig, RigMotion, bvh_read, read_bvh, rig_to_bvh
from foveal.motion.retarget.rig import POSITIONS, ROTATIONS

GOOD = """\
HIERARCHY
ROOT hips
{
  OFFSET 0 100 0
  CHANNELS 6 Zrotation Xposition Yrotation Yposition Xrotation Zposition
  JOINT upper leg
  {
    OFFSET 10 -5 0
    CHANNELS 1 Xrotation
    JOINT toe
    {
      OFFSET 0 -80.5 1e1
      End Site
      {
        OFFSET 0 0 12
      }
    }
  }
  JOINT neck
  {
    offset 0 60 0
    Channels 2 yrotation zrotation
    End Site
    {
      OFFSET 0 20 0
    }
  }
}
MOTION
Frames: 2
Frame Time: .0333333
0 1 0 2 0 3 0 0 0
90 4 90 5 90 6 -30 45 90
"""


def _write(tmp_path, text):
    (tmp_path / "a.bvh").write_bytes(text.encode() if isinstance(text, str) else text)
    return tmp_path / "a.bvh"


def _turn(letters, degrees):
    out = np.array([1.0, 0, 0, 0])
    for letter, angle in zip(letters, degrees, strict=True):
        step = rot.from_axis_angle(np.eye(3)["xyz".index(letter)], np.array(np.radians(angle)))
        out = rot.multiply(out, step)
    return out


def test_values_are_where_the_channels_say(tmp_path):
    moved = read_bvh(_write(tmp_path, GOOD))
    rig = moved.rig
    assert rig.names == ("hips", "upper leg", "toe", "neck")
    assert rig.parents == (-1, 0, 1, 0)
    np.testing.assert_allclose(rig.positions, [(0, 100, 0), (10, 95, 0), (10, 14.5, 10),
                                               (0, 160, 0)])  # fmt: skip
    assert [i for i, _ in rig.ends] == [2, 3]
    np.testing.assert_allclose([at for _, at in rig.ends], [(10, 14.5, 22), (0, 180, 0)])
    assert rig.channels[1:] == (("Xrotation",), (), ("Yrotation", "Zrotation"))
    assert (moved.fps, rig.unit) == (30.0, 0.01)
    np.testing.assert_allclose(moved.roots, [(1, 2, 3), (4, 5, 6)])
    np.testing.assert_allclose(moved.turns[0], np.tile([1.0, 0, 0, 0], (4, 1)))
    root = _turn("zyx", (90, 90, 90))
    np.testing.assert_allclose(moved.turns[1, 0], root, atol=1e-12)
    np.testing.assert_allclose(moved.turns[1, 1], rot.multiply(root, _turn("x", [-30])), atol=1e-12)
    np.testing.assert_allclose(moved.turns[1, 2], moved.turns[1, 1])
    neck = rot.multiply(root, _turn("yz", (45, 90)))
    np.testing.assert_allclose(moved.turns[1, 3], neck, atol=1e-12)
    # z by 90 of y by 90 of x by 90: up goes to -x, then stays; forward goes to y, and so on
    np.testing.assert_allclose(moved.positions[1, 3] - moved.roots[1],
                               rot.to_matrix(root) @ (0, 60, 0), atol=1e-9)  # fmt: skip
    # by hand: x takes (0, 60, 0) to z, y takes that to x, z takes that to y
    np.testing.assert_allclose(moved.positions[1, 3] - moved.roots[1], (0, 60, 0), atol=1e-9)


def test_what_is_written_is_read_again(tmp_path):
    moved = read_bvh(_write(tmp_path, GOOD))
    text = rig_to_bvh(moved)
    again = read_bvh(_write(tmp_path, text))
    assert again.rig.channels == moved.rig.channels
    np.testing.assert_allclose(again.positions, moved.positions, atol=1e-4)
    np.testing.assert_allclose(np.abs((again.turns * moved.turns).sum(-1)), 1, atol=1e-9)
    assert "CHANNELS 0\n" in text
    assert rig_to_bvh(again) == text


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"])
def test_every_order_of_three_turns_survives(order, tmp_path):
    rng = np.random.default_rng(3)
    channels = tuple(f"{letter}rotation" for letter in order)
    rig = Rig(("a", "b"), (-1, 0), np.array([[0, 90.0, 0], [0, 10, 0]]),
              ((*channels, *POSITIONS), (*POSITIONS, *channels)))  # fmt: skip
    turns = rot.normalize(rng.normal(size=(20, 2, 4)))
    moved = RigMotion(rig, 25.0, rng.normal(size=(20, 3)), turns)
    again = read_bvh(moved.save(tmp_path / "b.bvh"))
    np.testing.assert_allclose(np.abs((again.turns * turns).sum(-1)), 1, atol=1e-9)
    np.testing.assert_allclose(again.positions, moved.positions, atol=1e-4)
    lines = (tmp_path / "b.bvh").read_text().splitlines()[-20:]
    angles = np.array([[float(v) for v in line.split()] for line in lines])
    np.testing.assert_allclose(angles[:, 6:9], np.tile([0, -80, 0], (20, 1)))  # its offset


def test_one_turn_goes_on_past_half_a_circle(tmp_path):
    rig = Rig(("a",), (-1,), np.zeros((1, 3)), (("Yrotation",),))
    angles = np.radians(np.arange(0, 720, 40.0))
    turns = rot.from_axis_angle([0.0, 1, 0], angles)[:, None]
    text = rig_to_bvh(RigMotion(rig, 10.0, np.zeros((18, 3)), turns))
    found = [float(line) for line in text.splitlines()[-18:]]
    assert found == pytest.approx(list(np.arange(0, 720, 40.0)))


def test_a_file_without_frames_is_its_rest(tmp_path):
    head = GOOD.split("Frames")[0]
    moved = read_bvh(_write(tmp_path, head + "Frames: 0\nFrame Time: 0.01\n"))
    np.testing.assert_allclose(moved.positions[0], moved.rig.positions)
    assert moved.num_frames == 1


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends_tabs_and_a_mark_of_order_are_no_matter(tmp_path, newline):
    text = "\ufeff" + GOOD.replace("  ", "\t").replace("\n", newline)
    np.testing.assert_array_equal(read_bvh(_write(tmp_path, text)).positions,
                                  read_bvh(_write(tmp_path, GOOD)).positions)  # fmt: skip


@pytest.mark.parametrize(("size", "unit"), [(0.01, 1.0), (1.0, 0.01), (10, 0.001), (0.4, 0.0254)])
def test_the_unit_is_the_one_in_which_it_is_as_tall_as_a_person(tmp_path, size, unit):
    moved = read_bvh(_write(tmp_path, GOOD))
    rig = replace(moved.rig, positions=size * moved.rig.positions,
                  ends=tuple((i, size * at) for i, at in moved.rig.ends))  # fmt: skip
    again = read_bvh(_write(tmp_path, rig_to_bvh(replace(moved, rig=rig))))
    assert again.rig.unit == unit


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("HIERARCHY\n", "", "line 1 is 'ROOT hips', must be 'HIERARCHY'; is it BVH?"),
        (
            "MOTION\n",
            "ROOT two\n{\nOFFSET 0 0 0\n}\nMOTION\n",
            "line 29 has a second root 'two', must be one tree; split the file",
        ),
        ("JOINT toe", "JOINT hips", "names a joint 'hips', must be a name that is there once"),
        ("JOINT toe", "JOINT", "line 10 names a joint '', must be a name"),
        ("JOINT toe\n    {", "JOINT toe", "line 11 is 'OFFSET 0 -80.5 1e1', must be '{'; open the"),
        ("    OFFSET 10 -5 0\n", "", "closes 'upper leg', which must have an OFFSET; add it"),
        ("OFFSET 10 -5 0", "OFFSET 10 -5", "line 8 is '10 -5', must be 3 numbers within 1e+09; m"),
        ("OFFSET 10 -5 0", "OFFSET 10 x 0", "line 8 is '10 x 0', must be 3 numbers"),
        ("OFFSET 10 -5 0", "OFFSET 1e10 -5 0", "line 8 is '1e10 -5 0', must be 3 numbers within"),
        ("OFFSET 10 -5 0", "OFFSET 10 nan 0", "line 8 is '10 nan 0', must be 3 numbers"),
        ("CHANNELS 1 Xr", "CHANNELS 2 Xr", "must be a count and as many channels, each once; ch"),
        ("CHANNELS 1 Xr", "CHANNELS 1 Wr", "line 9 is 'CHANNELS 1 Wrotation', must be a count"),
        ("2 yrotation zr", "2 yrotation yr", "must be a count and as many channels, each once"),
        ("Frames: 2", "Frames: two", "line 30 must be 'Frames: COUNT'; mend it"),
        ("Frame Time: .0333333", "Frame Time:", "line 31 must be 'Frame Time: SECONDS'; mend it"),
        (".0333333", "0", "line 31 has a frame time of 0.0 s, must be > 0"),
        (".0333333", "inf", "line 31 is 'inf', must be 1 numbers"),
        (
            "Frames: 2",
            "Frames: 3",
            "line 30 asks for 3 frames of 9 numbers, must be followed by 27 and not 18; the file",
        ),
        ("Frames: 2", "Frames: 999999999", "line 30 has 999999999 frames of 9 numbers, must be"),
        ("90 4 90", "90 four 90", "has a frame that is no number"),
        ("90 4 90", "90 inf 90", "has a number in its frames that is not within 1e+09; mend it"),
        ("}\nMOTION", "MOTION", "line 28 ends the joints early, must follow their last '}'; close"),
        ("}\nMOTION", "}\n}\nMOTION", "line 29 closes nothing; mend the braces"),
        ("ROOT hips", "JOINT hips", "line 2 has JOINT 'hips' in the wrong place, must be a JOINT"),
        ("ROOT hips", "{", "line 2 opens nothing, must follow a joint"),
        ("ROOT hips", "End Site", "line 2 has an end site outside a joint"),
        ("  CHANNELS 6", "  WEIGHT 1\n  CHANNELS 6", "line 5 is 'WEIGHT 1', must be of a joint"),
        (GOOD[GOOD.index("MOTION") :], "", "line 28 is the last, must be of 'MOTION'; the file is"),
        (GOOD[GOOD.index("Frames") :], "", "line 29 must be 'Frames: COUNT'"),
        (GOOD[GOOD.index("ROOT") : GOOD.index("MOTION")], "", "ends the joints early, must follow"),
    ],
)  # fmt: skip
def test_what_is_broken_is_named_by_its_line(tmp_path, old, new, words):
    assert GOOD.count(old) == 1
    path = _write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ArgumentError) as info:
        read_bvh(path)
    assert str(info.value).startswith(f"read_bvh: path is {str(path)!r}")
    assert words in str(info.value)


def test_what_is_no_text_or_too_large_is_refused(tmp_path, monkeypatch):
    for data in (b"", b"\0\1\2\3" * 50, b"\xff\xfe\0\0"):
        with pytest.raises(ArgumentError, match=r"must be (a BVH file, which is text|'HIERARCHY')"):
            read_bvh(_write(tmp_path, data))
    with pytest.raises(ArgumentError, match=r"must be a BVH file \(.*\); check the path"):
        read_bvh(tmp_path)
    many = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\n"
    many += "".join(f"JOINT a{i}\n{{\nOFFSET 0 1 0\n" for i in range(3000))
    with pytest.raises(ArgumentError, match=r"is joint 2049, must be at most 2048; take a smaller"):
        read_bvh(_write(tmp_path, many))
    monkeypatch.setattr(bvh_read, "MAX_BYTES", 100)
    with pytest.raises(ArgumentError, match="it is larger than 100 bytes"):
        read_bvh(_write(tmp_path, GOOD))


def test_a_chain_as_deep_as_allowed_is_read_and_written(tmp_path):
    count = bvh_read.MAX_JOINTS
    positions = np.zeros((count, 3))
    positions[:, 1] = np.arange(count)
    rig = Rig(tuple(f"j{i}" for i in range(count)), tuple(range(-1, count - 1)), positions,
              ((*POSITIONS, *ROTATIONS), *[ROTATIONS] * (count - 1)))  # fmt: skip
    turns = np.tile([1.0, 0, 0, 0], (1, count, 1))
    moved = read_bvh(RigMotion(rig, 30.0, positions[:1], turns).save(tmp_path / "deep.bvh"))
    np.testing.assert_allclose(moved.positions[0], positions, atol=1e-3)


def test_cut_files_end_in_our_errors(tmp_path):
    for size in range(0, len(GOOD) - 30, 7):
        with pytest.raises(ArgumentError, match="read_bvh: path is"):
            read_bvh(_write(tmp_path, GOOD[:size]))


def test_npz_of_a_motion_holds_what_it_says(tmp_path):
    moved = read_bvh(_write(tmp_path, GOOD))
    with np.load(moved.save(tmp_path / "a.npz")) as arrays:
        assert arrays["names"].tolist() == list(moved.rig.names)
        np.testing.assert_array_equal(arrays["positions"], moved.positions)
        np.testing.assert_allclose(arrays["rotations"][1, 1], _turn("x", [-30]), atol=1e-12)
        assert float(arrays["fps"]) == 30
        assert float(arrays["unit"]) == 0.01


def test_any_change_of_the_text_is_read_or_ends_in_our_errors(tmp_path):
    rng, read = np.random.default_rng(7), 0
    letters = list("0123456789 .-{}\nexJ\t")
    for _ in range(400):
        text = list(GOOD)
        for _ in range(int(rng.integers(1, 4))):
            i, size = int(rng.integers(len(text))), int(rng.integers(1, 20))
            if rng.random() < 0.6:
                text[i] = letters[int(rng.integers(len(letters)))]
            elif rng.random() < 0.5:
                del text[i : i + size]
            else:
                j = int(rng.integers(len(GOOD)))
                text[i:i] = GOOD[j : j + size]
        try:
            moved = read_bvh(_write(tmp_path, "".join(text)))
        except ArgumentError as error:
            assert str(error).startswith("read_bvh: path is")  # noqa: PT017
            continue
        read += 1
        assert np.isfinite(moved.positions).all()
        assert np.isfinite(moved.turns).all()
        assert len(rig_to_bvh(moved)) > 100
    assert 20 < read < 380
