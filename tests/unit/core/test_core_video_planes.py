"""Videos as planes of integers: the same pixels as `read_video`, and nobody else's memory."""

import contextlib
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from foveal._core import video_planes
from foveal._core.video import VideoWriter, read_video
from foveal._core.video_planes import camera_address, read_planes
from foveal.errors import MediaError, UnsupportedError


def _clip(path, size=(32, 48), frames=4, **settings) -> None:
    with VideoWriter(path, fps=Fraction(10), crf=8, **settings) as writer:
        for k in range(frames):
            generator = torch.Generator().manual_seed(k)
            small = torch.rand(1, 3, 4, 5, generator=generator)
            writer.write(torch.nn.functional.interpolate(small, size, mode="bilinear")[0])


def _raw(path, codec: str, pix_fmt: str, arrays: list[np.ndarray], fmt: str, **about) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = arrays[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for name, value in about.items():
            setattr(stream.codec_context, name, value)
        for array in arrays:
            for packet in stream.encode(av.VideoFrame.from_ndarray(array, format=fmt)):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


@pytest.mark.parametrize("size", [(32, 48), (35, 51), (16, 200), (18, 50), (22, 34)])
def test_planes_are_the_pixels_of_read_video(tmp_path, size) -> None:
    _clip(tmp_path / "a.mp4", size)
    planes = list(read_planes(tmp_path / "a.mp4"))
    for one, frame in zip(planes, read_video(tmp_path / "a.mp4"), strict=True):
        assert one.bit_depth == 8
        assert one.array().shape == (3, *size)
        assert np.abs(one.array() / 255 - frame.numpy()).max() < 1e-6
    assert [p.time for p in planes] == [Fraction(k, 10) for k in range(4)]
    assert len(list(read_planes(tmp_path / "a.mp4", every=3))) == 2


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("bits", [8, 10])
def test_turned_frames_stand_upright(tmp_path, monkeypatch, turns, bits) -> None:
    _clip(tmp_path / "a.mkv", (18, 50), bit_depth=bits)
    plain = [(p.array(), p.thumbnail()) for p in read_planes(tmp_path / "a.mkv")]
    monkeypatch.setattr(video_planes, "_turns", lambda frame: turns)
    for one, (array, thumb) in zip(read_planes(tmp_path / "a.mkv"), plain, strict=True):
        assert one.bit_depth == bits
        assert np.array_equal(one.array(), np.rot90(array, turns, (1, 2)))
        assert torch.equal(one.thumbnail(), torch.rot90(thumb, turns, (1, 2)))


def test_thumbnails_are_means_of_areas(tmp_path) -> None:
    _clip(tmp_path / "a.mp4", (128, 192), frames=1)
    (one,) = read_planes(tmp_path / "a.mp4")
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(one.array() / 255.0)[None], (64, 64), mode="area"
    )[0]
    assert one.thumbnail().shape == (3, 64, 64)
    assert (one.thumbnail() - wanted).abs().max() < 0.08
    assert (one.thumbnail() - wanted).abs().mean() < 0.01


def test_channels_are_changed_in_their_order(tmp_path) -> None:
    _clip(tmp_path / "a.mp4", (21, 33), frames=1)
    (one,) = read_planes(tmp_path / "a.mp4")
    before = one.array()
    one.change(lambda samples, channel: samples // (channel + 1))
    assert np.array_equal(one.array(), before // np.array([1, 2, 3], np.uint8)[:, None, None])


@pytest.mark.parametrize("codec", ["libx264rgb", "qtrle"])
def test_frames_that_are_rgb_already_are_copied_first(tmp_path, codec) -> None:
    """In place, the change of one frame would show in those that are predicted from it."""
    rng = np.random.default_rng(0)
    still = rng.integers(0, 200, (32, 48, 3), np.uint8)
    _raw(tmp_path / "a.mov", codec, "rgb24", [still] * 6, "rgb24")
    wanted = [p.array() for p in read_planes(tmp_path / "a.mov")]
    frames = read_planes(tmp_path / "a.mov")
    for one, frame in zip(frames, wanted, strict=True):
        assert np.array_equal(one.array(), frame)
        one.change(lambda samples, channel: samples // 2)


def test_more_than_10_bits_and_alpha_are_named(tmp_path) -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (32, 48, 3), np.uint16)
    _raw(tmp_path / "a.mkv", "ffv1", "gbrp16le", [deep], "rgb48le")
    (one,) = read_planes(tmp_path / "a.mkv")
    assert (one.bit_depth, one.dropped) == (10, ("16 bit",))
    assert np.abs(one.array().astype(float) - np.moveaxis(deep, -1, 0) / 64).max() < 1.5
    rgba = rng.integers(0, 256, (32, 48, 4), np.uint8)
    _raw(tmp_path / "b.mkv", "ffv1", "yuva444p", [rgba], "rgba")
    (one,) = read_planes(tmp_path / "b.mkv")
    assert (one.bit_depth, one.dropped) == (8, ("alpha",))


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(tmp_path, transfer, name) -> None:
    still = np.full((32, 48, 3), 90, np.uint8)
    _raw(tmp_path / "a.mkv", "libx264", "yuv420p", [still], "rgb24", color_trc=transfer)
    with pytest.raises(UnsupportedError, match=rf"HDR \({name}\)"):
        list(read_planes(tmp_path / "a.mkv"))


def test_primaries_go_along(tmp_path) -> None:
    _clip(tmp_path / "a.mp4", primaries=9, transfer=14)
    first = next(read_planes(tmp_path / "a.mp4"))
    assert (first.primaries, first.transfer) == (9, 14)


def test_damaged_files_are_named(tmp_path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(MediaError, match=r"a\.mp4 is not a readable video"):
        list(read_planes(tmp_path / "a.mp4"))
    _clip(tmp_path / "b.mkv", (64, 96), frames=12)
    data = (tmp_path / "b.mkv").read_bytes()
    (tmp_path / "c.mkv").write_bytes(data[: len(data) // 3])
    frames = []
    with contextlib.suppress(MediaError):  # FFmpeg may take the end for the end
        frames += [p.time for p in read_planes(tmp_path / "c.mkv")]
    assert len(frames) < 12


def test_cameras_are_named_by_system() -> None:
    assert camera_address(2, "Linux", 30)[:2] == ("/dev/video2", "v4l2")
    assert camera_address(1, "Darwin", 24) == ("1:none", "avfoundation", {"framerate": "24"})
    with pytest.raises(UnsupportedError, match="on Windows"):
        camera_address(0, "Windows", 30)
