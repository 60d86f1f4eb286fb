"""Enhance one image or a whole video, and say what it cost."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal._core.formats import WRITTEN_VIDEO_SUFFIXES
from foveal._core.video import VideoWriter, probe_video, read_timed_video, read_video
from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight.concave_curve import ConcaveCurve, apply_curve, num_multiply_adds
from foveal.receipt import Receipt

# SID's U-Net, 13.7 GFLOPs at 256 x 256 in the table of Retinexformer (Cai et al., ICCV 2023); one
# multiply-add is counted as two operations there.
_UNET_MULTIPLY_ADDS_PER_PIXEL = 13.7e9 / 2 / 256**2
_CLIP_FRAMES = 16


@dataclass(frozen=True, slots=True)
class Enhanced:
    """An enhanced image, the curve that made it, and the receipt."""

    image: Float[Tensor, "3 height width"]
    curve: Float[Tensor, "3 levels"]
    receipt: Receipt


def enhance(
    image: Float[Tensor, "3 height width"],
    model: ConcaveCurve,
    *,
    strength: float = 1.0,
    recogniser: Callable[[Tensor], Tensor] | None = None,
    daylight: Float[Tensor, "3 height width"] | None = None,
) -> Enhanced:
    """Brighten an image with its own concave curve.

    Args:
        image: sRGB in [0, 1], any size.
        model: The curve network.
        strength: 1 is the curve, 0 the identity; blends stay concave. In [0, 1].
        recogniser: Image batches to class logits; together with `daylight` it measures the loss.
        daylight: The same scene in daylight, if there is one.

    Raises:
        ArgumentError: NaN in the image, a strength out of range, or only one of `recogniser`
            and `daylight`.
        ShapeError: `image` is not (3, height, width).

    Cost: 9.5 M multiply-adds whatever the size, then one interpolation a pixel and channel.
    """
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ShapeError(
            f"enhance: image has shape {tuple(image.shape)}, must be (3, height, width)"
        )
    if not image.dtype.is_floating_point or not torch.isfinite(image).all():
        raise ArgumentError(
            f"enhance: image is {image.dtype} or holds NaN, must be finite floating-point in "
            "[0, 1]; divide 8-bit values by 255"
        )
    if (recogniser is None) != (daylight is None):
        raise ArgumentError(
            "enhance: recogniser and daylight must be given together, to measure the loss"
        )
    _check_strength("enhance", strength)
    start = time.perf_counter()
    with torch.no_grad():
        curve = blend(model.predict(image[None].float()), strength)
        out = apply_curve(image[None], curve.to(image.dtype))
    seconds = time.perf_counter() - start
    loss, metric = None, ""
    if recogniser is not None and daylight is not None:
        with torch.no_grad():
            same = recogniser(out).argmax(-1) == recogniser(daylight[None]).argmax(-1)
        loss, metric = float(not bool(same)), "top-1 disagreement with daylight"
    receipt = curve_receipt(
        height=image.shape[1], width=image.shape[2], seconds=seconds, loss=loss, metric=metric
    )
    return Enhanced(out[0], curve[0], receipt)


def curve_receipt(
    *,
    height: int,
    width: int,
    seconds: float,
    loss: float | None,
    metric: str,
    frames_per_curve: int = 1,
) -> Receipt:
    """Return the receipt of frames brightened by a predicted curve."""
    pixels = height * width
    return Receipt(
        stage="lowlight",
        unit="multiply-adds per frame",
        spent=num_multiply_adds() / frames_per_curve + 3 * pixels,
        full=_UNET_MULTIPLY_ADDS_PER_PIXEL * pixels,
        loss=loss,
        loss_metric=metric,
        seconds=seconds,
        details={
            "full_is": "SID U-Net at full resolution, 13.7 GFLOPs at 256 x 256 as published",
            "estimated": ["full"],
            "frames_per_curve": frames_per_curve,
        },
    )


def blend(curve: Float[Tensor, "b 3 levels"], strength: float) -> Float[Tensor, "b 3 levels"]:
    """Mix a curve with the identity: the result is concave and increasing again."""
    identity = torch.linspace(0, 1, curve.shape[-1], device=curve.device, dtype=curve.dtype)
    return identity + strength * (curve - identity)


def _check_strength(where: str, strength: float) -> None:
    if not 0 <= strength <= 1:
        raise ArgumentError(f"{where}: strength is {strength}, must be in [0, 1]")


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


@dataclass(frozen=True, slots=True)
class EnhancedVideo:
    """An enhanced video file, its one curve, and the receipt."""

    path: Path
    curve: Float[Tensor, "3 levels"]
    num_frames: int
    receipt: Receipt


def enhance_video(
    source: str | Path,
    target: str | Path,
    model: ConcaveCurve,
    *,
    strength: float = 1.0,
    on_frame: Callable[[int, int | None], None] | None = None,
) -> EnhancedVideo:
    """Enhance a video with one curve for the whole clip, so that nothing flickers.

    Args:
        source: Any video that FFmpeg reads.
        target: `.mp4`, `.mkv` or `.mov`; the times of frames are kept, the audio is copied. A video
            with an odd side is written as yuv444p, which some players cannot show; crop it to
            even sides first if it must play everywhere.
        model: The curve network.
        strength: As in `enhance`.
        on_frame: Called with the number of frames done and the total, if it is known.

    Raises: as `enhance`; `UnsupportedError` for audio that `target` cannot hold (`.mkv` can);
        `MediaError` for a damaged video, which leaves no file behind.

    Cost: the video is decoded twice (once for 16 spread frames); memory holds one frame.
    """
    _check_strength("enhance_video", strength)
    if Path(target).suffix.lower() not in WRITTEN_VIDEO_SUFFIXES:
        raise ArgumentError(
            f"enhance_video: target is {target}, must end in one of {WRITTEN_VIDEO_SUFFIXES}; "
            "choose another name"
        )
    start = time.perf_counter()
    info = probe_video(source)
    every = max(1, (info.num_frames or 1) // _CLIP_FRAMES)
    frames = read_video(source, every=every, max_frames=_CLIP_FRAMES)
    curve = blend(predict_clip_curve(frames, model), strength)
    count = 0
    with VideoWriter(target, fps=info.fps, audio_from=source) as writer:
        for frame, time_s in read_timed_video(source):
            writer.write(apply_curve(frame[None], curve)[0], time=time_s)
            count += 1
            if on_frame is not None:
                on_frame(count, info.num_frames)
    receipt = curve_receipt(
        height=info.height,
        width=info.width,
        seconds=time.perf_counter() - start,
        loss=None,
        metric="",
        frames_per_curve=count,
    )
    return EnhancedVideo(Path(target), curve[0], count, receipt)
