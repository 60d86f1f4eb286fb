"""One frame, before and after, to look at before a long run."""

import itertools
import time
from pathlib import Path

import numpy as np
import torch

from foveal._core.formats import VIDEO_SUFFIXES
from foveal._core.media import write_image
from foveal._core.photo import read_photo
from foveal._core.video import probe_video
from foveal._core.video_planes import read_camera, read_planes
from foveal.lowlight.concave_curve import ConcaveCurve, apply_curve
from foveal.lowlight.curve_family import couple, finish
from foveal.lowlight.enhance import curve_receipt
from foveal.lowlight.video import CLIP_FRAMES, predict_clip_curve
from foveal.receipt import Receipt


@torch.no_grad()
def preview(
    source: str | Path | int,
    target: str | Path,
    model: ConcaveCurve,
    *,
    strength: float = 1.0,
    look: str = "machine",
) -> Receipt:
    """Write one frame beside itself brightened, as the whole would be, to an image.

    Args:
        source: An image; a video, of which the middle frame is shown under the curve of the clip;
            or the number of a camera.
        target: The image to write; its left half is the frame as it is.
        model: The curve network.
        strength: As in `enhance`.
        look: As in `enhance`.
    """
    finish(torch.zeros(1, 3, 2), strength=strength, look=look)  # refuses wrong settings
    start = time.perf_counter()
    grey = False
    if isinstance(source, int):
        first = next(read_camera(source))
        before = torch.from_numpy(first.array().astype(np.float32))
        before = before / ((1 << first.bit_depth) - 1)
        curve = model.predict(first.thumbnail()[None])
    elif Path(source).suffix.lower() in VIDEO_SUFFIXES:
        count = probe_video(source).num_frames or 1
        every = max(1, count // CLIP_FRAMES)
        few = list(itertools.islice(read_planes(source, every=every), CLIP_FRAMES))
        curve = predict_clip_curve((p.thumbnail() for p in few), model)
        middle = few[len(few) // 2]
        before = torch.from_numpy(middle.array().astype(np.float32))
        before = before / ((1 << middle.bit_depth) - 1)
    else:
        photo = read_photo(source)
        before, grey = photo.srgb(), len(photo.samples) == 1
        curve = model.predict(before[None])
    curve = finish(couple(curve) if grey else curve, strength=strength, look=look)
    after = apply_curve(before[None], curve, mode=model.mode)[0]
    write_image(target, torch.cat([before, after], dim=2))
    return curve_receipt(
        height=before.shape[1],
        width=before.shape[2],
        seconds=time.perf_counter() - start,
        loss=None,
        metric="",
    )
