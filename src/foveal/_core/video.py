"""Reading and writing videos a frame at a time, with the right range, matrix and rotation."""

import contextlib
from collections.abc import Iterator
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
from foveal._core.lazy import require
from foveal.errors import ArgumentError, MediaError, ShapeError

_BT709, _BT470BG, _SMPTE170M, _BT2020 = 1, 5, 6, 9
_SWS_MATRIX = {_BT709: 1, _BT470BG: 5, _SMPTE170M: 5, 7: 7, _BT2020: 9, 10: 9}
_HD_HEIGHT = 720


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video says of itself. Sizes are of upright frames, in pixels."""

    width: int
    height: int
    fps: Fraction
    num_frames: int | None
    rotation_degrees: int
    has_audio: bool


def _open(path: str | Path) -> tuple[Any, Any]:
    av = require("av", "video", "reading a video")
    path = read_input(path, what="video")
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"video: {path} is not a readable video ({error})") from error
    if not container.streams.video:
        container.close()
        raise MediaError(f"video: {path} holds no video stream")
    return av, container


def probe_video(path: str | Path) -> VideoInfo:
    """Read the facts of a video from its first frame.

    Raises:
        ArgumentError: the file is missing or empty.
        MediaError: it is not a video, or no frame can be decoded.
        MissingExtraError: PyAV is not installed.
    """
    av, container = _open(path)
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
        return VideoInfo(
            width=width,
            height=height,
            fps=Fraction(stream.average_rate or stream.guessed_rate or 25),
            num_frames=stream.frames or None,
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
    if every < 1 or start < 0:
        raise ArgumentError(
            f"read_video: every is {every} and start is {start}, must be >= 1 and >= 0"
        )
    av, container = _open(path)
    count = 0
    with container:
        try:
            for index, frame in enumerate(container.decode(video=0)):
                if index < start or (index - start) % every:
                    continue
                yield _to_tensor(frame)
                count += 1
                if max_frames is not None and count >= max_frames:
                    return
        except av.error.FFmpegError as error:
            raise MediaError(
                f"video: {path} breaks off after {count} frames ({error}); the file is damaged"
            ) from error
    if count == 0:
        raise MediaError(f"video: {path} holds no frame")


def _to_tensor(frame: Any) -> Tensor:
    matrix = int(frame.colorspace)
    if matrix not in _SWS_MATRIX:
        matrix = _BT709 if frame.height >= _HD_HEIGHT else _SMPTE170M
    rgb = frame.reformat(
        format="rgb24", src_colorspace=_SWS_MATRIX[matrix], dst_colorspace=_SWS_MATRIX[matrix]
    ).to_ndarray()
    turns = (int(frame.rotation) % 360) // 90
    rgb = np.ascontiguousarray(np.rot90(rgb, turns))
    return torch.from_numpy(rgb).permute(2, 0, 1).float().div(255)


class VideoWriter(contextlib.AbstractContextManager["VideoWriter"]):
    """Write H.264 frame by frame, BT.709 limited range; the audio of another file is copied.

    The file appears under its name only when everything was written.

    Args:
        path: Target, `.mp4`, `.mkv` or `.mov`.
        fps: Frames a second.
        audio_from: File whose first audio stream is kept, or None.
        crf: x264's constant rate factor, 0 (lossless) to 51.

    Raises:
        ArgumentError: the suffix or folder is not allowed.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: Fraction,
        audio_from: str | Path | None = None,
        crf: int = 20,
    ) -> None:
        """Remember the settings; the file is opened with the first frame."""
        self.path = Path(path)
        if self.path.suffix.lower() not in (".mp4", ".mkv", ".mov"):
            raise ArgumentError(f"VideoWriter: path is {path}, must end in .mp4, .mkv or .mov")
        self._av = require("av", "video", "writing a video")
        self._fps, self._audio_from, self._crf = fps, audio_from, crf
        self._stack = contextlib.ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None

    def write(self, frame: Float[Tensor, "3 height width"]) -> None:
        """Append one frame, sRGB in [0, 1]; all frames have the size of the first."""
        height, width = int(frame.shape[1]), int(frame.shape[2])
        if self._size is None:
            self._begin(height, width)
        if self._size != (height, width):
            raise ShapeError(
                f"VideoWriter.write: frame has shape {tuple(frame.shape)}, must be "
                f"(3, {self._size}) as the first"
            )
        array = (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        picture = self._av.VideoFrame.from_ndarray(array, format="rgb24")
        picture = picture.reformat(
            format=self._stream.pix_fmt, src_colorspace=1, dst_colorspace=1, dst_color_range=1
        )
        picture.colorspace, picture.color_range = 1, 1
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def _begin(self, height: int, width: int) -> None:
        self._size = (height, width)
        temporary = self._stack.enter_context(atomic_write(self.path))
        self._container = self._stack.enter_context(self._av.open(str(temporary), "w"))
        stream = self._container.add_stream("libx264", rate=self._fps)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if width % 2 == 0 and height % 2 == 0 else "yuv444p"
        stream.options = {"crf": str(self._crf), "preset": "veryfast"}
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1
        self._stream = stream
        self._audio: Any = None
        if self._audio_from is not None:
            source = self._stack.enter_context(self._av.open(str(self._audio_from)))
            if source.streams.audio:
                template = source.streams.audio[0]
                self._audio = (source, template, self._container.add_stream_from_template(template))

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
            self._stack.__exit__(kind, value, trace)
            return
        with self._stack:
            for packet in self._stream.encode():
                self._container.mux(packet)
            if self._audio is not None:
                source, template, target = self._audio
                for packet in source.demux(template):
                    if packet.dts is not None:
                        packet.stream = target
                        self._container.mux(packet)
