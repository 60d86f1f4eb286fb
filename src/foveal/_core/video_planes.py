"""Videos and cameras as planes of integers, 8 or 10 bit, without a detour through floats."""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from foveal._core.lazy import require
from foveal._core.video import open_video, swscale_matrix
from foveal.errors import MediaError, UnsupportedError

_SMPTE_2084, _ARIB_STD_B67 = 16, 18
_UNSAID = (0, 2)
_THUMBNAIL = 64
_SWSCALE_STEP = 16
"""FFmpeg 8.1's way from 4:2:0 to planes leaves columns beyond the last multiple unwritten."""
_PLANES = (1, 2, 0)  # FFmpeg stores green, blue, red


@dataclass(frozen=True, slots=True)
class Planes:
    """One upright frame as RGB planes.

    Args:
        picture: PyAV's frame, of format gbrp or gbrp10le; nobody else refers to its memory.
        bit_depth: 8 or 10.
        time: Seconds since the start, or None where the file does not say.
        decoded: PyAV's frame as it came, for `thumbnail`.
        primaries, transfer: As the stream says, by ITU-T H.273; BT.709 where it is silent.
        dropped: What of the stream is not in the planes, in words.
    """

    picture: Any
    bit_depth: int
    time: Fraction | None
    decoded: Any
    primaries: int
    transfer: int
    dropped: tuple[str, ...]

    def change(self, replace: Callable[[NDArray[Any], int], NDArray[Any]]) -> None:
        """Replace the samples of every channel: `replace(samples, channel)`, as many and alike."""
        for plane, channel in zip(self.picture.planes, _PLANES, strict=True):
            samples = np.frombuffer(plane, np.uint8 if self.bit_depth == 8 else np.uint16)
            plane.update(replace(samples, channel))

    def thumbnail(self) -> Float[Tensor, "3 height width"]:
        """Return the frame as decoded, upright, in [0, 1], area-averaged to at most 64 x 64."""
        frame, matrix = self.decoded, swscale_matrix(self.decoded)
        small = frame.reformat(
            width=min(_THUMBNAIL, frame.width), height=min(_THUMBNAIL, frame.height),
            format="rgb48le", interpolation="AREA",
            src_colorspace=matrix, dst_colorspace=matrix,
        )  # fmt: skip
        pixels = torch.from_numpy(small.to_ndarray().astype(np.float32) / 65535).permute(2, 0, 1)
        return torch.rot90(pixels, _turns(frame), (1, 2)).contiguous()

    def array(self) -> NDArray[Any]:
        """Return a copy, (3, height, width) in the order red, green, blue."""
        out: list[Any] = [None] * 3
        for plane, channel in zip(self.picture.planes, _PLANES, strict=True):
            out[channel] = _samples(plane, self.bit_depth).copy()
        return np.stack(out)


def read_planes(path: str | Path, *, every: int = 1) -> Iterator[Planes]:
    """Yield the upright frames of a video file, matrix and range as in `read_video`.

    Raises:
        ArgumentError: the file is missing or empty.
        MediaError: it is damaged, holds no frame, or its frames change their size.
        UnsupportedError: it is coded for HDR (PQ or HLG).
    """
    _, container = open_video(path)
    with container:
        yield from _frames(container, f"video: {path}", every)


def read_camera(index: int, *, fps: int = 30) -> Iterator[Planes]:
    """Yield the frames of a camera until it goes away or the caller stops.

    Args:
        index: 0 is the first: /dev/video0 on Linux, AVFoundation's 0 on macOS. Not on Windows,
            where DirectShow wants a name.
        fps: Frames a second to ask for, where the system wants to be asked.

    Raises:
        UnsupportedError: cameras are not read on this system.
        MediaError: there is no such camera, or it may not be used.
    """
    av = require("av", "video", "reading a camera")
    name, kind, options = camera_address(index, platform.system(), fps)
    try:
        container = av.open(name, format=kind, options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"camera: {index} cannot be opened ({error}), must be connected, free and allowed to "
            "be used; try another number"
        ) from error
    with container:
        yield from _frames(container, f"camera: {index}", 1)


def camera_address(index: int, system: str, fps: int) -> tuple[str, str, dict[str, str]]:
    """Return what FFmpeg opens for a camera: the name, the format and its options.

    Raises:
        UnsupportedError: not on this system.
    """
    if system == "Linux":
        return f"/dev/video{index}", "v4l2", {}
    if system == "Darwin":
        return f"{index}:none", "avfoundation", {"framerate": str(fps)}
    raise UnsupportedError(
        f"camera: {index} is on {system}, must be on Linux or macOS; record a file and enhance it"
    )


def _frames(container: Any, name: str, every: int) -> Iterator[Planes]:
    av = require("av", "video", "reading a video")
    if not container.streams.video:
        raise MediaError(f"{name} holds no video stream, must have one; choose another")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    begin = Fraction(container.start_time or 0, av.time_base)
    count, size = 0, None
    try:
        for frame in container.decode(stream):
            size = size or (frame.width, frame.height)
            if size != (frame.width, frame.height):
                raise MediaError(
                    f"{name} changes from {size[0]} x {size[1]} to {frame.width} x "
                    f"{frame.height} pixels at frame {count}, must keep its size; scale it first "
                    f"(ffmpeg -i IN -vf scale={size[0]}:{size[1]} OUT)"
                )
            if count % every == 0:
                time = None if frame.pts is None else frame.pts * frame.time_base - begin
                yield _planes(av, frame, name, time)
            count += 1
    except av.error.FFmpegError as error:
        raise MediaError(
            f"{name} breaks off after {count} frames ({error}); the file is damaged"
        ) from error
    if count == 0:
        raise MediaError(f"{name} holds no frame")


def _planes(av: Any, frame: Any, name: str, time: Fraction | None) -> Planes:
    transfer = int(frame.color_trc)
    if transfer in (_SMPTE_2084, _ARIB_STD_B67):
        raise UnsupportedError(
            f"{name} is coded for HDR ({'PQ' if transfer == _SMPTE_2084 else 'HLG'}), must be "
            "standard dynamic range; tone-map it first"
        )
    bits = max(c.bits for c in frame.format.components)
    depth = 8 if bits <= 8 else 10
    matrix = swscale_matrix(frame)
    colors = {"src_colorspace": matrix, "dst_colorspace": matrix}
    if depth == 8 and frame.width % _SWSCALE_STEP and not frame.format.is_rgb:
        picture = frame.reformat(format="rgb24", **colors).reformat(format="gbrp")
    else:
        picture = frame.reformat(format="gbrp" if depth == 8 else "gbrp10le", **colors)
    turns = _turns(frame)
    if turns or picture is frame:  # the decoder may still refer to its own frame
        picture = _turned(av, picture, depth, turns)
    primaries = int(frame.color_primaries)
    has_alpha = len(frame.format.components) in (2, 4)
    return Planes(
        picture=picture,
        bit_depth=depth,
        time=time,
        decoded=frame,
        primaries=1 if primaries in _UNSAID else primaries,
        transfer=1 if transfer in _UNSAID else transfer,
        dropped=("alpha",) * has_alpha + (f"{bits} bit",) * (bits > 10),
    )


def _turns(frame: Any) -> int:
    return (int(frame.rotation) % 360) // 90


def _samples(plane: Any, depth: int) -> NDArray[Any]:
    """Return a view of the visible samples of a plane, (height, width)."""
    kind: Any = np.uint8 if depth == 8 else np.uint16
    rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
    return rows[:, : plane.width]


def _turned(av: Any, picture: Any, depth: int, turns: int) -> Any:
    """Return a copy of a frame, turned by quarters against the clock."""
    width, height = picture.width, picture.height
    if turns % 2:
        width, height = height, width
    out = av.VideoFrame(width, height, picture.format.name)
    for source, target in zip(picture.planes, out.planes, strict=True):
        samples = np.rot90(_samples(source, depth), turns)
        padded = np.zeros((height, target.line_size // samples.itemsize), samples.dtype)
        padded[:, :width] = samples
        target.update(padded)
    return out
