import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from foveal._core.video import (
    VideoWriter,
    probe_video,
    read_timed_video,
    read_video,
    spread_frames,
)
from foveal.errors import ArgumentError, MediaError, ShapeError, UnsupportedError

COLOUR = torch.tensor([0.8, 0.3, 0.1])


def _frame(height: int = 32, width: int = 48) -> torch.Tensor:
    return COLOUR[:, None, None].expand(3, height, width)


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_round_trip_keeps_size_rate_and_colour(tmp_path, size) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, fps=Fraction(30000, 1001), crf=1) as writer:
        for _ in range(5):
            writer.write(_frame(*size))
    info = probe_video(path)
    assert (info.height, info.width) == size
    assert info.fps == Fraction(30000, 1001)
    frames = list(read_video(path))
    assert len(frames) == 5
    assert (frames[2][:, 10, 10] - COLOUR).abs().max() < 0.02


def _yuv_file(path, matrix: int, full_range: bool, height: int = 64) -> None:
    """Write one colour by our own YUV arithmetic, so that the reader is checked from outside."""
    kr, kb = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]
    r, g, b = COLOUR.tolist()
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    if full_range:
        code = (y * 255, cb * 255 + 128, cr * 255 + 128)
    else:
        code = (16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv444p"
        stream.options = {"crf": "0"}
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full_range else 1
        for _ in range(3):
            planes = np.stack([np.full((height, 64), round(c), np.uint8) for c in code])
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
            frame.colorspace, frame.color_range = matrix, 2 if full_range else 1
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("full_range", [False, True])
def test_matrix_and_range_are_those_of_the_stream(tmp_path, matrix, full_range) -> None:
    path = tmp_path / "m.mkv"
    _yuv_file(path, matrix, full_range)
    got = next(read_video(path))[:, 20, 20]
    assert (got - COLOUR).abs().max() < 0.012


def test_audio_is_kept(tmp_path) -> None:
    source = tmp_path / "sound.mp4"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=44100)
        for _ in range(10):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        for index in range(20):
            samples = np.sin(np.arange(1024) / 9).astype(np.float32)[None].repeat(2, 0)
            sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            sound.sample_rate, sound.pts = 44100, index * 1024
            container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())
    assert probe_video(source).has_audio
    target = tmp_path / "out.mp4"
    with VideoWriter(target, fps=Fraction(10), audio_from=source) as writer:
        for frame in read_video(source):
            writer.write(frame)
    with av.open(str(target)) as container:
        assert sum(p.size for p in container.demux(audio=0)) > 1000
    assert len(list(read_video(target))) == 10


def test_start_every_and_max_frames(tmp_path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, fps=Fraction(10), crf=1) as writer:
        for k in range(10):
            writer.write(torch.full((3, 32, 32), k / 10))
    levels = [f.mean().item() for f in read_video(path, start=1, every=3, max_frames=2)]
    assert levels == pytest.approx([0.1, 0.4], abs=0.01)
    with pytest.raises(ArgumentError, match="every is 0"):
        next(read_video(path, every=0))


def test_spread_frames_reach_the_end(tmp_path) -> None:
    with VideoWriter(tmp_path / "v.mp4", fps=Fraction(25), crf=1) as writer:
        for i in range(23):
            writer.write(torch.full((3, 32, 32), 0.04 * i))

    def shown(count: int) -> list[int]:
        return [round(float(x.mean()) / 0.04) for x in spread_frames(tmp_path / "v.mp4", count)]

    assert shown(23) == list(range(23))
    assert shown(30) == list(range(23))
    assert shown(1) == [0]
    assert shown(12) == [i * 23 // 12 for i in range(12)]  # every = 1, and yet not the first half
    assert shown(4) == [0, 5, 10, 15]


def test_nothing_is_left_when_the_writer_fails(tmp_path) -> None:
    with pytest.raises(KeyError), VideoWriter(tmp_path / "a.mp4", fps=Fraction(5)) as writer:
        writer.write(_frame())
        raise KeyError("x")
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(ShapeError, match="as the first"),
        VideoWriter(tmp_path / "a.mp4", fps=Fraction(5)) as writer,
    ):
        writer.write(_frame())
        writer.write(_frame(16, 16))
    assert not list(tmp_path.iterdir())


def test_text_named_mp4_and_truncated_video(tmp_path) -> None:
    text = tmp_path / "a.mp4"
    text.write_text("this is no video")
    with pytest.raises(MediaError, match="not a readable video"):
        probe_video(text)
    whole = tmp_path / "b.mkv"
    _yuv_file(whole, 1, False)
    cut = tmp_path / "c.mkv"
    cut.write_bytes(whole.read_bytes()[:400])
    with pytest.raises(MediaError):
        list(read_video(cut))


def _with_sound(path, codec: str, num_frames: int = 10) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        audio = container.add_stream(codec, rate=48000)
        resampler = av.AudioResampler(format=audio.format.name, layout="stereo", rate=48000)
        for _ in range(num_frames):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        for index in range(45):
            samples = np.sin(np.arange(1024) / 9).astype(np.float32)[None].repeat(2, 0)
            sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            sound.sample_rate, sound.pts = 48000, index * 1024
            for part in resampler.resample(sound):
                container.mux(audio.encode(part))
        container.mux(video.encode())
        container.mux(audio.encode())


@pytest.mark.parametrize("codec", ["pcm_s16le", "wavpack"])
def test_audio_that_the_format_cannot_hold(tmp_path, codec) -> None:
    source = tmp_path / "sound.mkv"
    _with_sound(source, codec)
    with (
        pytest.raises(UnsupportedError, match=rf"\.mp4 cannot hold the audio \({codec}\)"),
        VideoWriter(tmp_path / "out.mp4", fps=Fraction(10), audio_from=source) as writer,
    ):
        writer.write(_frame())
    assert list(tmp_path.iterdir()) == [source]
    with VideoWriter(tmp_path / "out.mkv", fps=Fraction(10), audio_from=source) as writer:
        writer.write(_frame())
    assert probe_video(tmp_path / "out.mkv").has_audio


def test_audio_is_interleaved(tmp_path) -> None:
    _with_sound(tmp_path / "sound.mp4", "aac")
    target = tmp_path / "out.mkv"
    with VideoWriter(target, fps=Fraction(10), audio_from=tmp_path / "sound.mp4") as writer:
        for _ in range(10):
            writer.write(_frame())
    with av.open(str(target)) as container:
        kinds = [p.stream.type for p in container.demux() if p.dts is not None]
    assert kinds.count("audio") > 40
    assert "video" in kinds[len(kinds) // 2 :], "the audio must not lie behind the video"


def test_times_of_frames_are_kept(tmp_path) -> None:
    """A phone's video has no constant rate: the sound stays with the picture."""
    times = [Fraction(k, 30) for k in range(15)] + [
        Fraction(1, 2) + Fraction(k, 8) for k in range(9)
    ]
    first, second = tmp_path / "a.mp4", tmp_path / "b.mkv"
    with VideoWriter(first, fps=Fraction(24)) as writer:
        for time in times:
            writer.write(_frame(), time=time)
    with VideoWriter(second, fps=probe_video(first).fps) as writer:
        for frame, time in read_timed_video(first):
            writer.write(frame, time=time)
    got = [time for _, time in read_timed_video(second)]
    assert [float(t or 0) for t in got] == pytest.approx([float(t) for t in times], abs=0.003)
    estimated = probe_video(second).num_frames
    assert estimated is not None
    assert abs(estimated - len(times)) <= 5


def test_times_never_go_back(tmp_path) -> None:
    path = tmp_path / "a.mkv"
    with VideoWriter(path, fps=Fraction(10)) as writer:
        for time in (Fraction(3), Fraction(3), Fraction(2)):
            writer.write(_frame(), time=time)
    times = [time for _, time in read_timed_video(path) if time is not None]
    assert len(times) == 3
    assert times == sorted(times)


_QUARTERS = {  # the matrix of a track header, as phones write it: clockwise turn of the display
    90: (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30),
    180: (-(1 << 16), 0, 0, 0, -(1 << 16), 0, 0, 0, 1 << 30),
    270: (0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 0, 1 << 30),
}


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_phone_video_stands_upright(tmp_path, degrees) -> None:
    path = tmp_path / "phone.mp4"
    stored = torch.zeros(3, 32, 64)
    stored[:, :16, :32] = 1  # white in the upper left corner
    with VideoWriter(path, fps=Fraction(10), crf=1) as writer:
        for _ in range(3):
            writer.write(stored)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", *_QUARTERS[degrees])
    path.write_bytes(data)
    info = probe_video(path)
    frame = next(read_video(path))
    assert frame.shape == (3, info.height, info.width)
    assert (info.height > info.width) == (degrees != 180)
    wanted = torch.rot90(stored, -degrees // 90, (1, 2))
    assert (frame - wanted).abs().mean() < 0.02


def test_frames_that_the_encoder_cannot_take(tmp_path) -> None:
    with (
        pytest.raises(MediaError, match="cannot hold 20000 x 2 frames"),
        VideoWriter(tmp_path / "a.mkv", fps=Fraction(5)) as writer,
    ):
        writer.write(_frame(2, 20000))
    assert not list(tmp_path.iterdir())


def test_audio_packets_that_cannot_be_written(tmp_path, monkeypatch) -> None:
    from foveal._core import video

    def refuse(self: object, target: object, *, until: object) -> None:
        raise av.error.ArgumentError(22, "Invalid argument")

    _with_sound(tmp_path / "sound.mkv", "aac")
    with (
        pytest.raises(MediaError, match="with the audio of"),
        VideoWriter(tmp_path / "a.mkv", fps=Fraction(5), audio_from=tmp_path / "sound.mkv") as w,
    ):
        w._begin(32, 48)
        monkeypatch.setattr(video._Audio, "copy", refuse)
        w.write(_frame())
    assert [p.name for p in tmp_path.iterdir()] == ["sound.mkv"]


def test_a_title_that_is_no_utf8(tmp_path) -> None:
    """Old cameras and converters write Latin-1."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Stra#e"
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv444p"
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(picture))
        container.mux(stream.encode())
    data = path.read_bytes()
    assert b"Stra#e" in data
    path.write_bytes(data.replace(b"Stra#e", b"Stra\xdfe"))
    assert probe_video(path).width == 16
    with VideoWriter(tmp_path / "b.mkv", fps=Fraction(10), audio_from=path) as writer:
        for frame in read_video(path):
            writer.write(frame)
    assert len(list(read_video(tmp_path / "b.mkv"))) == 1


def test_max_frames_of_nothing_is_refused(tmp_path) -> None:
    with pytest.raises(ArgumentError, match="max_frames is 0"):
        next(read_video(tmp_path / "a.mp4", max_frames=0))
