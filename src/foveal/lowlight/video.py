"""Enhance a video or a camera: decoded, looked up and encoded as planes of integers."""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from foveal._core.formats import WRITTEN_VIDEO_SUFFIXES
from foveal._core.video import VideoWriter, probe_video, spread
from foveal._core.video_planes import Planes, read_camera, read_planes
from foveal.errors import ArgumentError
from foveal.lowlight.concave_curve import ConcaveCurve
from foveal.lowlight.curve_family import CurveStream, finish
from foveal.lowlight.enhance import curve_receipt
from foveal.lowlight.lookup import lookup_table, translate
from foveal.receipt import Receipt

CLIP_FRAMES = 16
CURVES = ("clip", "stream")
_CAMERA_FPS = 30


def predict_clip_curve(
    frames: Iterator[Tensor], model: ConcaveCurve
) -> Float[Tensor, "1 3 levels"]:
    """Return the one curve of a clip; only thumbnails of the frames are kept in memory."""
    small = [
        F.interpolate(f[None], (64, 64), mode="area") if min(f.shape[1:]) > 64 else f[None]
        for f in frames
    ]
    with torch.no_grad():
        return model.predict_clip(torch.cat(small))


def video_curve(
    source: str | Path, model: ConcaveCurve, *, strength: float = 1.0, look: str = "machine"
) -> Float[Tensor, "3 levels"]:
    """Return the one curve that `enhance_video` would apply to a video, from 16 spread frames."""
    every, chosen = spread(probe_video(source).num_frames, CLIP_FRAMES)
    planes = itertools.islice(read_planes(source, every=every), max(chosen) + 1)
    few = (frame for i, frame in enumerate(planes) if i in chosen)
    curve = predict_clip_curve((p.thumbnail() for p in few), model)
    return finish(curve, strength=strength, look=look)[0]


@dataclass(frozen=True, slots=True)
class EnhancedVideo:
    """An enhanced video file, its curve (of the last frame, if smoothed), and the receipt.

    `cuts` are the frames at which smoothing started anew; `dropped` is what was not kept, in words.
    """

    path: Path
    curve: Float[Tensor, "3 levels"]
    num_frames: int
    receipt: Receipt
    cuts: tuple[int, ...] = ()
    dropped: tuple[str, ...] = ()


def enhance_video(
    source: str | Path,
    target: str | Path,
    model: ConcaveCurve,
    *,
    strength: float = 1.0,
    look: str = "machine",
    curve: str = "clip",
    half_life_s: float = 0.5,
    preset: str = "superfast",
    on_frame: Callable[[int, int | None], None] | None = None,
) -> EnhancedVideo:
    """Enhance a video with one curve for the whole clip, so that nothing flickers.

    Args:
        source: Any video that FFmpeg reads. 10 bits are kept; deeper ones become 10.
        target: `.mp4`, `.mkv` or `.mov`; the times of frames are kept, the first audio stream and
            the metadata are copied. A video with an odd side is written as yuv444p, which some
            players cannot show; crop it to even sides first if it must play everywhere.
        model: The curve network.
        strength: As in `enhance`.
        look: As in `enhance`.
        curve: "clip": one curve, from 16 spread frames. "stream": a smoothed curve a frame, anew
            at cuts; see `CurveStream`.
        half_life_s: Of the smoothing, s.
        preset: x264's; "superfast" is faster than real time at 1080p on two cores.
        on_frame: Called with the number of frames done and the total, if it is known.

    Raises: as `enhance`; `UnsupportedError` for HDR and for audio that `target` cannot hold (`.mkv`
        can); `MediaError` for a video that is damaged or changes its size, which leaves no file.

    Cost: with "clip" the video is decoded twice; memory holds one frame.
    """
    _check("enhance_video", target, strength, look, curve)
    start = time.perf_counter()
    info = probe_video(source)
    stream = None
    if curve == "clip":
        fixed = video_curve(source, model)[None]
    else:
        stream = CurveStream(model, half_life=half_life_s * float(info.fps))
        fixed = None
    run = _Run(model, stream, fixed, strength, look)  # the strength and look are put on there
    frames = read_planes(source)
    first = next(frames)
    with VideoWriter(
        target,
        fps=info.fps,
        audio_from=source,
        preset=preset,
        bit_depth=first.bit_depth,
        primaries=first.primaries,
        transfer=first.transfer,
    ) as writer:
        for planes in itertools.chain([first], frames):
            run.write(writer, planes, planes.time)
            if on_frame is not None:
                on_frame(run.count, info.num_frames)
    return run.done(Path(target), start, info.height, info.width, first.dropped)


def enhance_camera(
    index: int,
    target: str | Path,
    model: ConcaveCurve,
    *,
    strength: float = 1.0,
    look: str = "machine",
    half_life_s: float = 0.5,
    seconds: float | None = None,
    preset: str = "ultrafast",
    on_frame: Callable[[int, int | None], None] | None = None,
) -> EnhancedVideo:
    """Record a camera, brightened by a smoothed curve a frame, until `seconds` or Ctrl-C.

    Args:
        index: 0 is the first camera.
        target: As in `enhance_video`; without sound.
        model: The curve network.
        strength: As in `enhance`.
        look: As in `enhance`.
        half_life_s: As in `enhance_video`.
        seconds: How long, by the camera's clock; None: until a KeyboardInterrupt, which ends the
            file properly.
        preset: x264's.
        on_frame: As in `enhance_video`.

    Raises: as `enhance_video`; `MediaError`: there is no such camera.
    """
    _check("enhance_camera", target, strength, look, "stream")
    if seconds is not None and not seconds > 0:
        raise ArgumentError(f"enhance_camera: seconds is {seconds}, must be > 0 or None")
    start = time.perf_counter()
    frames = read_camera(index, fps=_CAMERA_FPS)
    first = next(frames)
    run = _Run(model, CurveStream(model, half_life=half_life_s * _CAMERA_FPS), None, strength, look)
    begin = first.time or Fraction(0)
    with VideoWriter(
        target, fps=Fraction(_CAMERA_FPS), preset=preset, bit_depth=first.bit_depth
    ) as writer:
        try:
            for planes in itertools.chain([first], frames):
                at = None if planes.time is None else planes.time - begin
                if seconds is not None and (at or Fraction(run.count, _CAMERA_FPS)) >= seconds:
                    break
                run.write(writer, planes, at)
                if on_frame is not None:
                    on_frame(run.count, None)
        except KeyboardInterrupt:
            if run.count == 0:
                raise
    picture = first.picture
    return run.done(Path(target), start, picture.height, picture.width, first.dropped)


class _Run:
    """What is known while frames go by: the curve of each, and how many there were."""

    def __init__(
        self,
        model: ConcaveCurve,
        stream: CurveStream | None,
        fixed: Tensor | None,
        strength: float,
        look: str,
    ) -> None:
        """Keep the settings; `stream` or `fixed` gives the curves."""
        self.count = 0
        self._model, self._stream, self._strength, self._look = model, stream, strength, look
        self._curve = None if fixed is None else finish(fixed, strength=strength, look=look)
        self._tables: dict[int, NDArray[Any]] = {}
        # the network is so small that threads of torch waiting for each other cost ten times more
        self._alone = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))

    def write(self, writer: VideoWriter, planes: Planes, at: Fraction | None) -> None:
        """Look a frame up and append it."""
        if self._stream is not None:
            predicted = self._alone.submit(self._stream.update, planes.thumbnail()).result()
            self._curve = finish(predicted, strength=self._strength, look=self._look)
            self._tables.clear()
        if self._curve is None:
            raise ArgumentError("enhance_video: stream and fixed are None, must have one of them")
        if planes.bit_depth not in self._tables:
            self._tables[planes.bit_depth] = lookup_table(
                self._curve[0], bit_depth=planes.bit_depth, mode=self._model.mode
            )
        tables = self._tables[planes.bit_depth]
        planes.change(lambda samples, channel: translate(samples, tables[channel]))
        writer.write_picture(planes.picture, time=at)
        self.count += 1

    def done(
        self, path: Path, start: float, height: int, width: int, dropped: tuple[str, ...]
    ) -> EnhancedVideo:
        """Return the result, with its receipt."""
        if self._curve is None:
            raise ArgumentError("enhance_video: there was no frame, must be at least one")
        per_frame = self._stream is not None
        receipt = curve_receipt(
            height=height,
            width=width,
            seconds=time.perf_counter() - start,
            loss=None,
            metric="",
            frames_per_curve=1 if per_frame else self.count,
        )
        cuts = () if self._stream is None else tuple(self._stream.cuts)
        return EnhancedVideo(path, self._curve[0], self.count, receipt, cuts, dropped)


def _check(where: str, target: str | Path, strength: float, look: str, curve: str) -> None:
    if curve not in CURVES:
        raise ArgumentError(f"{where}: curve is {curve!r}, must be one of {CURVES}")
    finish(torch.zeros(1, 3, 2), strength=strength, look=look)  # refuses wrong settings
    if Path(target).suffix.lower() not in WRITTEN_VIDEO_SUFFIXES:
        raise ArgumentError(
            f"{where}: target is {target}, must end in one of {WRITTEN_VIDEO_SUFFIXES}; "
            "choose another name"
        )
