"""Enhance an image file: samples stay integers, and what the file says goes along."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from foveal._core.photo import Photo, read_photo, write_photo
from foveal.errors import UnsupportedError
from foveal.lowlight.concave_curve import ConcaveCurve, apply_curve
from foveal.lowlight.curve_family import couple, finish
from foveal.lowlight.denoise import denoise as remove_noise
from foveal.lowlight.enhance import curve_receipt
from foveal.lowlight.lookup import lookup_table, translate
from foveal.lowlight.regimes import Verdict, judge
from foveal.receipt import Receipt


@dataclass(frozen=True, slots=True)
class EnhancedFile:
    """An enhanced image file, its curve, the receipt, and what was not kept, in words.

    `verdict` says what limits the picture, where that was asked; `denoised` whether its noise was
    taken off (which the receipt's multiply-adds do not count).
    """

    path: Path
    curve: Float[Tensor, "3 levels"]
    receipt: Receipt
    dropped: tuple[str, ...]
    verdict: Verdict | None = None
    denoised: bool = False


def enhance_file(
    source: str | Path,
    target: str | Path,
    model: ConcaveCurve,
    *,
    strength: float = 1.0,
    look: str = "machine",
    gate: bool = False,
    denoise: bool = False,
) -> EnhancedFile:
    """Enhance an image file; bit depth, alpha, greyness, ICC profile and EXIF are kept.

    The curve is predicted from sRGB and applied to the file's own samples, whose profile stays with
    them. Grey gets one curve. The picture is stored upright.

    Args:
        source: PNG, JPEG, WebP, AVIF, BMP or TIFF.
        target: Of the same formats; what it cannot hold is named in the result's `dropped`.
        model: The curve network.
        strength: As in `enhance`.
        look: As in `enhance`.
        gate: Judge the picture first (`judge`): a well-lit one gets the identity, and is not
            denoised. One that is limited by noise gets the curve; the verdict says so.
        denoise: Take the noise off before the curve, about 2 s a megapixel on a core. A picture
            whose noise cannot be estimated gets the curve alone; `denoised` says so.

    Raises: as `read_image` and `enhance`.
    """
    start = time.perf_counter()
    photo = read_photo(source)
    verdict = judge(photo.srgb()) if gate else None
    well_lit = verdict is not None and verdict.regime == "well-lit"
    strength = 0.0 if well_lit else strength
    clean = _clean_planes(photo) if denoise and not well_lit else None
    curve = photo_curve(photo, model, strength=strength, look=look)
    if clean is None:
        samples = apply_to_photo(photo, curve, model)
    else:
        samples = _to_samples(apply_curve(clean[None], curve[None], mode=model.mode)[0], photo)
    bright = replace(photo, samples=samples)
    dropped = write_photo(target, bright)
    receipt = curve_receipt(
        height=photo.samples.shape[1],
        width=photo.samples.shape[2],
        seconds=time.perf_counter() - start,
        loss=None,
        metric="",
    )
    return EnhancedFile(
        Path(target), curve, receipt, tuple(dropped), verdict, denoised=clean is not None
    )


def image_curve(
    source: str | Path, model: ConcaveCurve, *, strength: float = 1.0, look: str = "machine"
) -> Float[Tensor, "3 levels"]:
    """Return the curve that `enhance_file` would apply to an image file."""
    return photo_curve(read_photo(source), model, strength=strength, look=look)


def photo_curve(
    photo: Photo, model: ConcaveCurve, *, strength: float = 1.0, look: str = "machine"
) -> Float[Tensor, "3 levels"]:
    """Return the curve of an image file that was read; one for all channels if it is grey."""
    with torch.no_grad():
        curve = model.predict(photo.srgb()[None])
    if len(photo.samples) == 1:
        curve = couple(curve)
    return finish(curve, strength=strength, look=look)[0]


def apply_to_photo(
    photo: Photo, curve: Float[Tensor, "3 levels"], model: ConcaveCurve
) -> NDArray[Any]:
    """Return the samples as the curve makes them."""
    tables = lookup_table(curve, bit_depth=photo.bit_depth, mode=model.mode)
    samples = photo.samples.copy()
    for channel in range(len(samples)):
        samples[channel] = translate(samples[channel], tables[channel])
    return samples


def _clean_planes(photo: Photo) -> Float[Tensor, "3 height width"] | None:
    """Return the samples in [0, 1] without their noise; None where it cannot be estimated."""
    top = np.iinfo(photo.samples.dtype).max
    planes = torch.from_numpy(photo.samples.astype(np.float32) / top)
    try:
        return remove_noise(planes.expand(3, -1, -1).contiguous()).clamp(0, 1)
    except UnsupportedError:
        return None


def _to_samples(planes: Float[Tensor, "3 height width"], photo: Photo) -> NDArray[Any]:
    levels = (planes[: len(photo.samples)] * np.iinfo(photo.samples.dtype).max).round()
    return levels.numpy().astype(photo.samples.dtype)
