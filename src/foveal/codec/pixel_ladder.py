"""What a pixel codec needs for the same answer: a ladder of formats, qualities and sizes."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from foveal.errors import ArgumentError, ShapeError, UnsupportedError

FORMATS = ("webp", "avif", "jpeg")


@dataclass(frozen=True, slots=True)
class PixelRow:
    """One rung of the ladder.

    Args:
        format: "webp", "avif" or "jpeg".
        quality: Pillow's quality.
        size: Length of the coded image's shorter side, in pixels.
        bytes: Size of the whole file, in bytes.
        agreement: What `head_agreement_fn` returned for the decoded image.
    """

    format: str
    quality: int
    size: int
    bytes: int
    agreement: float


def pixel_baselines(
    image: Float[Tensor, "3 height width"],
    head_agreement_fn: Callable[[Tensor], float],
    *,
    formats: Sequence[str] = FORMATS,
    qualities: Sequence[int] = (1, 5, 10, 20, 30, 45, 60, 75, 90),
    sizes: Sequence[int] | None = None,
) -> list[PixelRow]:
    """Code an image at every format, quality and size, and ask for the agreement of each.

    Reduced sizes matter: below about 1 kB, fewer pixels beat a lower quality. A decoded image is
    brought back to the full size (bicubic) before it is judged. For a data set, average the rows
    of equal format, quality and size over its images, then choose.

    Args:
        image: sRGB in [0, 1].
        head_agreement_fn: Decoded image (shape and device of `image`) -> agreement, larger is
            better, for example 1.0 if the top-1 class is that of the original and else 0.0.
        formats: Any of "webp", "avif", "jpeg".
        qualities: Pillow qualities, 0 to 100.
        sizes: Shorter sides in pixels, not above the image's. Default: 1, 3/4, 1/2, 3/8 and 1/4.

    Returns: One row per rung, by ascending bytes.

    Raises:
        ArgumentError: a format, quality or size is not allowed, or the image is not finite.
        ShapeError: `image` is not [3, height, width].
        UnsupportedError: this Pillow cannot write a format.
    """
    from PIL import Image, features

    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ShapeError(
            f"pixel_baselines: image has shape {tuple(image.shape)}, must be (3, height, width); "
            "give one image at a time"
        )
    if not image.dtype.is_floating_point or not bool(torch.isfinite(image).all()):
        raise ArgumentError(
            f"pixel_baselines: image is {image.dtype} or has NaN, must be finite floating-point "
            "in [0, 1]; divide by 255"
        )
    for name in formats:
        if name not in FORMATS:
            raise ArgumentError(f"pixel_baselines: formats has {name!r}, must be among {FORMATS}")
        if name != "jpeg" and not features.check(name):
            raise UnsupportedError(
                f"pixel_baselines: formats has {name!r}, which this Pillow cannot write; "
                "leave it out or install a Pillow wheel with it"
            )
    if any(not 0 <= q <= 100 for q in qualities):
        raise ArgumentError(f"pixel_baselines: qualities is {qualities}, must be within 0..100")
    height, width = image.shape[1:]
    short = min(height, width)
    wanted = sizes or [short, short * 3 // 4, short // 2, short * 3 // 8, short // 4]
    if any(not 1 <= s <= short for s in wanted):
        raise ArgumentError(f"pixel_baselines: sizes is {wanted}, must be within 1..{short}")

    levels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    original = Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())
    rows: list[PixelRow] = []
    for size in dict.fromkeys(wanted):
        shape = (max(1, round(width * size / short)), max(1, round(height * size / short)))
        small = (
            original
            if shape == (width, height)
            else original.resize(shape, Image.Resampling.LANCZOS)
        )
        for name in formats:
            for quality in qualities:
                buffer = io.BytesIO()
                extra = {"method": 6} if name == "webp" else {}
                extra |= {"optimize": True} if name == "jpeg" else {}
                small.save(buffer, format=name, quality=quality, **extra)
                buffer.seek(0)
                with Image.open(buffer) as coded:
                    back = coded.convert("RGB")
                if back.size != (width, height):
                    back = back.resize((width, height), Image.Resampling.BICUBIC)
                pixels = torch.from_numpy(np.asarray(back).copy()).permute(2, 0, 1)
                decoded = pixels.to(image.device, image.dtype) / 255
                agreement = float(head_agreement_fn(decoded))
                rows.append(PixelRow(name, quality, size, buffer.getbuffer().nbytes, agreement))
    return sorted(rows, key=lambda row: row.bytes)


def cheapest(rows: Sequence[PixelRow], *, min_agreement: float) -> PixelRow | None:
    """Return the row with the fewest bytes and at least `min_agreement`, or None."""
    good = [row for row in rows if row.agreement >= min_agreement]
    return min(good, key=lambda row: row.bytes, default=None)
