"""Reading and writing videos a frame at a time, with the right range, matrix and rotation."""

import contextlib
import io
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from foveal._core.files import atomic_write, read_input
from foveal._core.formats import WRITTEN_VIDEO_SUFFIXES
from foveal._core.lazy import require
from foveal.errors import ArgumentError, MediaError, ShapeError, UnsupportedError

_BT709, _BT470BG, _SMPTE170M, _BT2020 = 1, 5, 6, 9
_SWS_MATRIX = {_BT709: 1, _BT470BG: 5, _SMPTE170M: 5, 7: 7, _BT2020: 9, 10: 9}
_HD_HEIGHT = 720
_TICKS = 720_000
"""Of the clock of written videos, a second; frames of the usual rates last a whole number."""
_SNAP_SECONDS = Fraction(2, 1000)
_LOOK_AHEAD = "mbtree=1:rc-lookahead=10"
"""What "superfast" leaves out: on noisy frames it takes less time and a quarter of the bytes."""
_OF_THE_FORMAT = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""Metadata that the muxer writes for itself."""
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower")
"""Of x264."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video says of itself. Sizes are of upright frames, in pixels.

    `num_frames` is as stated, else estimated from the duration, else None.
    """

    width: int
    height: int
    fps: Fraction
    num_frames: int | None
    rotation_degrees: int
    has_audio: bool


def open_video(path: str | Path) -> tuple[Any, Any]:
    """Return the module `av` and the opened file, which the caller closes."""
    av = require("av", "video", "reading a video")
    path = read_input(path, what="video")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"video: {path} is not a readable video ({error}), must be one that FFmpeg reads; "
            "check that it plays, or convert it"
        ) from error
    if not container.streams.video:
        container.close()
        raise MediaError(f"video: {path} holds no video stream, must have one; choose another file")
    return av, container


def probe_video(path: str | Path) -> VideoInfo:
    """Read the facts of a video from its first frame.

    Raises:
        ArgumentError: the file is missing or empty.
        MediaError: it is not a video, or no frame can be decoded.
        MissingExtraError: PyAV is not installed.
    """
    av, container = open_video(path)
    with container:
        stream = container.streams.video[0]
        try:
            frame = next(container.decode(stream), None)
        except av.error.FFmpegError as error:
            raise MediaError(f"video: {path} cannot be decoded ({error})") from error
        if frame is None:
            raise MediaError(f"video: {path} holds no frame")
        rotation = int(frame.rotation) % 360
        width, height = frame.width, frame.height
        if rotation in (90, 270):
            width, height = height, width
        fps = Fraction(stream.average_rate or stream.guessed_rate or 25)
        seconds = Fraction(container.duration or 0, av.time_base)
        return VideoInfo(
            width=width,
            height=height,
            fps=fps,
            num_frames=stream.frames or round(seconds * fps) or None,
            rotation_degrees=rotation,
            has_audio=bool(container.streams.audio),
        )


def read_video(
    path: str | Path, *, start: int = 0, every: int = 1, max_frames: int | None = None
) -> Iterator[Float[Tensor, "3 height width"]]:
    """Yield upright frames as sRGB-coded values in [0, 1], one at a time.

    The matrix (601, 709, 2020) and range (limited, full) are those of the stream; where the
    stream is silent, 709 is taken from 720 lines on and 601 below, as players do. Transfer
    functions other than gamma (PQ, HLG) are not tone-mapped.

    Args:
        path: Any file that FFmpeg reads.
        start: Frames to leave out at the beginning.
        every: Yield each `every`-th frame from there on.
        max_frames: Stop after this many frames were yielded.

    Raises: as `probe_video`. A file that breaks off yields what could be decoded, then raises.
    """
    if every < 1 or start < 0 or (max_frames is not None and max_frames < 1):
        raise ArgumentError(
            f"read_video: every is {every}, start is {start} and max_frames is {max_frames}, "
            "must be >= 1, >= 0 and >= 1 or None"
        )
    for frame, _ in _decode(path, start=start, every=every, max_frames=max_frames):
        yield _to_tensor(frame)


def spread_frames(path: str | Path, count: int) -> Iterator[Float[Tensor, "3 height width"]]:
    """Yield as `read_video`, frames that are evenly spread over the whole video.

    Args:
        path: As in `read_video`.
        count: How many frames. A video that has fewer, or fewer than it says, yields fewer; of one
            that does not say how many it has, the first are taken.

    Raises: as `read_video`.
    """
    every, chosen = spread(probe_video(path).num_frames, count)
    for i, frame in enumerate(read_video(path, every=every, max_frames=max(chosen) + 1)):
        if i in chosen:
            yield frame


def spread(total: int | None, count: int) -> tuple[int, frozenset[int]]:
    """Return which one of so many frames to decode, and which of these are evenly spread.

    Args:
        total: Frames of the video; None, if it does not say so: its first are taken.
        count: How many are wanted.
    """
    total = max(total or count, count)
    every = total // count
    steps = -(-total // every)
    return every, frozenset(i * steps // count for i in range(count))


def read_timed_video(
    path: str | Path,
) -> Iterator[tuple[Float[Tensor, "3 height width"], Fraction | None]]:
    """Yield as `read_video`, each frame with its time in seconds since the file's start.

    The time is None where the file does not say.

    Raises: as `read_video`.
    """
    for frame, begin in _decode(path, start=0, every=1, max_frames=None):
        yield _to_tensor(frame), None if frame.pts is None else frame.pts * frame.time_base - begin


def _decode(
    path: str | Path, *, start: int, every: int, max_frames: int | None
) -> Iterator[tuple[Any, Fraction]]:
    """Yield decoded frames and the file's start time, in seconds."""
    av, container = open_video(path)
    count = 0
    with container:
        begin = Fraction(container.start_time or 0, av.time_base)
        try:
            for index, frame in enumerate(container.decode(video=0)):
                if index < start or (index - start) % every:
                    continue
                yield frame, begin
                count += 1
                if max_frames is not None and count >= max_frames:
                    return
        except av.error.FFmpegError as error:
            raise MediaError(
                f"video: {path} breaks off after {count} frames ({error}); the file is damaged"
            ) from error
    if count == 0:
        raise MediaError(f"video: {path} holds no frame")


def swscale_matrix(frame: Any) -> int:
    """Return the matrix of a frame of PyAV's as FFmpeg's scaler numbers it; a guess if unsaid."""
    matrix = int(frame.colorspace)
    if matrix not in _SWS_MATRIX:
        matrix = _BT709 if frame.height >= _HD_HEIGHT else _SMPTE170M
    return _SWS_MATRIX[matrix]


def _to_tensor(frame: Any) -> Tensor:
    matrix = swscale_matrix(frame)
    rgb = frame.reformat(format="rgb24", src_colorspace=matrix, dst_colorspace=matrix).to_ndarray()
    turns = (int(frame.rotation) % 360) // 90
    rgb = np.ascontiguousarray(np.rot90(rgb, turns))
    return torch.from_numpy(rgb).permute(2, 0, 1).float().div(255)


class VideoWriter(contextlib.AbstractContextManager["VideoWriter"]):
    """Write H.264 frame by frame, BT.709 limited range; the audio of another file is copied.

    Frames of even sides are written as yuv420p. Those with an odd side keep their size and are
    written as yuv444p, which not every player and hardly any hardware decoder takes.

    The file appears under its name only when everything was written. Frames follow each other at
    `fps`, unless `write` is told their times.

    Args:
        path: Target, `.mp4`, `.mkv` or `.mov`.
        fps: Frames a second.
        audio_from: File whose first audio stream is kept, and its metadata (title, date, place), or
            None.
        crf: x264's constant rate factor, 0 (lossless) to 51.
        preset: x264's preset; "superfast", with a short look ahead, takes 0.6 of the time of
            "veryfast" and a tenth more bytes.
        bit_depth: 8, or 10, which is High 10 and not played everywhere.
        primaries, transfer: What the file says of its colours, by the numbers of ITU-T H.273.

    Raises:
        ArgumentError: the suffix or folder is not allowed.
        UnsupportedError: the target's format cannot hold that audio (with the first frame).
        MediaError: the encoder cannot take such frames, or the audio is damaged (while writing).
        MissingExtraError: PyAV is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: Fraction,
        audio_from: str | Path | None = None,
        crf: int = 20,
        preset: str = "veryfast",
        bit_depth: int = 8,
        primaries: int = _BT709,
        transfer: int = _BT709,
    ) -> None:
        """Remember the settings; the file is opened with the first frame."""
        if preset not in PRESETS:
            raise ArgumentError(
                f"VideoWriter: preset is {preset!r}, must be one of {PRESETS}; slower ones, to the "
                "right, make smaller files"
            )
        if bit_depth not in (8, 10):
            raise ArgumentError(f"VideoWriter: bit_depth is {bit_depth}, must be 8 or 10")
        self.path = Path(path)
        if self.path.suffix.lower() not in WRITTEN_VIDEO_SUFFIXES:
            raise ArgumentError(
                f"VideoWriter: path is {path}, must end in one of {WRITTEN_VIDEO_SUFFIXES}; "
                "choose another name"
            )
        self._av = require("av", "video", "writing a video")
        self._fps, self._audio_from, self._crf = fps, audio_from, crf
        self._preset, self._bit_depth = preset, bit_depth
        self._primaries, self._transfer = primaries, transfer
        self._stack = contextlib.ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None
        self._count, self._tick = 0, -1
        self._audio: _Audio | None = None

    def write(
        self, frame: Float[Tensor, "3 height width"], *, time: Fraction | None = None
    ) -> None:
        """Append one frame.

        Args:
            frame: sRGB in [0, 1]; all frames have the size of the first.
            time: When it is shown, s, not before the frame before it. Times that are off the
                regular ones by up to 2 ms, as rounded ones of Matroska are, become regular.
                Default: the number of the frame divided by `fps`.
        """
        array = (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        self.write_picture(self._av.VideoFrame.from_ndarray(array, format="rgb24"), time=time)

    def write_picture(self, picture: Any, *, time: Fraction | None = None) -> None:
        """Append one frame of PyAV's, in an RGB format; see `write`."""
        height, width = int(picture.height), int(picture.width)
        if self._size is None:
            self._begin(height, width)
        if self._size != (height, width):
            raise ShapeError(
                f"VideoWriter.write: frame has shape {(3, height, width)}, must be "
                f"(3, {self._size}) as the first"
            )
        picture = picture.reformat(
            format=self._stream.pix_fmt, src_colorspace=1, dst_colorspace=1, dst_color_range=1
        )
        picture.colorspace, picture.color_range = 1, 1
        time = self._count / self._fps if time is None else time
        regular = round(time * self._fps) / self._fps
        time = regular if abs(time - regular) <= _SNAP_SECONDS else time
        self._tick = max(round(time * _TICKS), self._tick + 1)
        picture.pts, picture.time_base = self._tick, Fraction(1, _TICKS)
        self._count += 1
        with self._one_error():
            if self._audio is not None:
                self._audio.copy(self._container, until=time)
            for packet in self._stream.encode(picture):
                self._container.mux(packet)

    @contextlib.contextmanager
    def _one_error(self) -> Generator[None]:
        """Turn FFmpeg's errors into ours; those of the disk go on to `atomic_write`."""
        try:
            yield
        except self._av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            height, width = self._size or (0, 0)
            sound = "" if self._audio is None else f" with the audio of {self._audio_from}"
            raise MediaError(
                f"VideoWriter: {self.path} cannot hold {width} x {height} frames{sound} ({error}); "
                "choose another size, or mend the audio"
            ) from error

    def _begin(self, height: int, width: int) -> None:
        self._size = (height, width)
        temporary = self._stack.enter_context(atomic_write(self.path))
        self._container = self._stack.enter_context(self._av.open(str(temporary), "w"))
        stream = self._container.add_stream("libx264", rate=self._fps)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if width % 2 == 0 and height % 2 == 0 else "yuv444p"
        if self._bit_depth == 10:
            stream.pix_fmt += "10le"
        stream.options = {"crf": str(self._crf), "preset": self._preset}
        if self._preset == "superfast":
            stream.options |= {"x264-params": _LOOK_AHEAD}
        context = stream.codec_context
        context.colorspace = context.color_range = 1
        context.color_primaries, context.color_trc = self._primaries, self._transfer
        context.time_base = Fraction(1, _TICKS)
        self._stream = stream
        if self._audio_from is not None:
            source = self._av.open(str(self._audio_from), metadata_errors="replace")
            self._stack.enter_context(source)
            kept = {k: v for k, v in source.metadata.items() if k not in _OF_THE_FORMAT}
            self._container.metadata.update(kept)
            if source.streams.audio:
                self._check_audio()
                self._audio = _Audio(self._av, source, self._container)

    def _check_audio(self) -> None:
        """Try the audio's first packet in memory: some formats refuse only when they are closed."""
        suffix = self.path.suffix.lower()
        kind = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}[suffix]
        with self._av.open(str(self._audio_from), metadata_errors="replace") as source:
            context = source.streams.audio[0].codec_context
            if context is None:
                raise UnsupportedError(
                    f"VideoWriter: the audio of {self._audio_from} is of an unknown kind, must be "
                    "one that FFmpeg knows; remove it from the file"
                )
            codec = context.name
            try:
                with self._av.open(io.BytesIO(), "w", format=kind) as trial:
                    _Audio(self._av, source, trial).copy(trial, until=Fraction(0))
            except (self._av.error.FFmpegError, ValueError) as error:
                raise UnsupportedError(
                    f"VideoWriter: {suffix} cannot hold the audio ({codec}) of "
                    f"{self._audio_from}; write a .mkv"
                ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file, or remove it if the body raised."""
        if self._container is None:
            return
        if kind is not None:
            # closing a file that never began fails again: the first error says more
            with contextlib.suppress(self._av.error.FFmpegError):
                self._stack.__exit__(kind, value, trace)
            return
        with self._one_error(), self._stack:
            for packet in self._stream.encode():
                self._container.mux(packet)
            if self._audio is not None:
                self._audio.copy(self._container, until=None)


class _Audio:
    """The packets of a file's first audio stream, copied up to a time."""

    def __init__(self, av: Any, source: Any, target: Any) -> None:
        """Add a stream to `target`."""
        template = source.streams.audio[0]
        self._stream = target.add_stream_from_template(template)
        self._begin = Fraction(source.start_time or 0, av.time_base)
        self._packets = (p for p in source.demux(template) if p.dts is not None)
        self._next = next(self._packets, None)

    def copy(self, target: Any, *, until: Fraction | None) -> None:
        """Copy packets that begin up to `until` seconds after the file's start; None: all."""
        while self._next is not None:
            packet, shift = self._next, round(self._begin / self._next.time_base)
            if until is not None and (packet.dts - shift) * packet.time_base > until:
                return
            packet.dts -= shift
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.stream = self._stream
            target.mux(packet)
            self._next = next(self._packets, None)
