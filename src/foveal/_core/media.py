"""Reading and writing images. Pixels are sRGB in [0, 1], float32, (3, height, width)."""

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from foveal._core.deep_images import encode_png, encode_tiff
from foveal._core.files import atomic_write, read_input
from foveal._core.formats import ALPHA_SUFFIXES, DEEP_SUFFIXES, IMAGE_SUFFIXES
from foveal._core.lazy import require
from foveal.errors import ArgumentError, MediaError, ShapeError, UnsupportedError

MAX_PIXELS = 178_000_000
"""A little under the number from which Pillow refuses a file."""


MAX_JPEG_SIDE = 65500  # beyond it the encoder prints a line of its own and breaks off

_BITS_PER_SAMPLE, _EXTRA_SAMPLES = 258, 338  # TIFF tags
_NOT_MULTIPLIED = (2,)  # of the extra samples: opacity by which the colours are not multiplied

DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, RuntimeError, LookupError, EOFError,
    ArithmeticError, struct.error,
)  # fmt: skip
"""What Pillow's readers raise on damaged files, beside its own `UnidentifiedImageError`."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it was stored.

    Args:
        pixels: sRGB in [0, 1], upright, not premultiplied.
        alpha: Opacity in [0, 1], or None.
        bit_depth: 8 or 16, of the file.
    """

    pixels: Float[Tensor, "3 height width"]
    alpha: Float[Tensor, "1 height width"] | None
    bit_depth: int


def read_image(path: str | Path) -> Float[Tensor, "3 height width"]:
    """Read an image as sRGB in [0, 1]; transparent parts keep their colour.

    EXIF orientation is applied, an embedded ICC profile is converted to sRGB, and 16-bit files
    keep their precision.

    Raises:
        ArgumentError: the file is missing, a folder or empty.
        MediaError: it is not an image, is truncated, or is larger than 178 megapixels.
        UnsupportedError: it has several frames, a kind of pixel that is not read, or over 8 bits
            and an ICC profile.
    """
    return read_picture(path).pixels


def read_picture(path: str | Path) -> Picture:
    """Read an image with its alpha channel and bit depth; see `read_image`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on damaged tags: what matters becomes an error
        return _read_picture(read_input(path, what="image"))


def check_opened(path: Path, opened: Any) -> None:
    """Refuse an image that was opened and not read yet: too many pixels, several frames.

    Raises:
        MediaError: it has more than 178 megapixels.
        UnsupportedError: it is an animation.
    """
    if opened.width * opened.height > MAX_PIXELS:
        raise MediaError(
            f"image: {path} has {opened.width} x {opened.height} pixels, must be at most "
            f"{MAX_PIXELS}; make it smaller"
        )
    count = getattr(opened, "n_frames", 1)
    if count > 1 and opened.format != "MPO":  # a phone's JPEG with its preview
        raise UnsupportedError(
            f"image: {path} has {count} frames, must have one; make it a video or save one frame"
        )


def _read_picture(path: Path) -> Picture:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            check_opened(path, opened)
            if is_deep_png(path) or is_deep_tiff(path, opened):
                return _read_deep(path, opened)
            opened.load()
            profile = opened.info.get("icc_profile")
            image: Any = ImageOps.exif_transpose(opened)
    except (MediaError, UnsupportedError):
        raise
    except DAMAGED as error:
        raise MediaError(
            f"image: {path} is not a readable image, it is damaged or of another kind ({error})"
        ) from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"image: {path} is too large ({error})") from error
    if image.mode == "I" and not 0 <= image.getextrema()[0] <= image.getextrema()[1] <= 65535:
        raise UnsupportedError(
            f"image: {path} has 32-bit pixels from {image.getextrema()[0]} to "
            f"{image.getextrema()[1]}, must be within 0..65535; save it with 16 bits"
        )
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        _refuse_profile(path, profile)
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        grey = torch.from_numpy(np.asarray(image).astype(np.float32) / 65535).clamp(0, 1)
        return Picture(grey.expand(3, -1, -1).contiguous(), None, 16)
    if image.mode == "F":
        grey = torch.from_numpy(np.asarray(image).copy())
        if not torch.isfinite(grey).all():
            raise MediaError(f"image: {path} holds NaN or infinity; mend the file")
        if grey.min() < 0 or grey.max() > 1:
            raise UnsupportedError(
                f"image: {path} has floating-point pixels from {grey.min():.3g} to "
                f"{grey.max():.3g}, must be within 0..1; scale it"
            )
        return Picture(grey.expand(3, -1, -1).contiguous(), None, 16)
    alpha, is_grey = None, image.mode in ("1", "L", "LA", "La")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = torch.from_numpy(np.array(image.getchannel("A"))).float()[None] / 255
    if is_grey:  # what a profile of grey is for
        image = image.convert("L")
    image = to_srgb(image, profile).convert("RGB")
    return Picture(_to_tensor(np.array(image), 255), alpha, 8)


def _refuse_profile(path: Path, profile: bytes | None) -> None:
    if profile:
        raise UnsupportedError(
            f"image: {path} has over 8 bits and an ICC profile, which cannot be converted without "
            "loss here; save it as sRGB first"
        )


def _to_tensor(array: Any, top: int) -> Tensor:
    return torch.from_numpy(array).permute(2, 0, 1).float().div(top).contiguous()


def to_srgb(image: Any, profile: bytes | None) -> Any:
    """Convert by the embedded ICC profile; a damaged profile is ignored, as viewers do."""
    from PIL import ImageCms

    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode not in ("RGB", "CMYK", "L"):
            image = image.convert("RGB")
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError):
        return image


def is_deep_png(path: Path) -> bool:
    """Whether `path` is a 16-bit PNG with colour or alpha, which Pillow would reduce to 8 bit."""
    with path.open("rb") as handle:
        head = handle.read(26)
    deep = head[24:25] == b"\x10" and head[25:26] in (b"\2", b"\4", b"\6")
    return head[:8] == b"\x89PNG\r\n\x1a\n" and deep


def is_deep_tiff(path: Path, opened: Any) -> bool:
    """Whether `path` is a 16-bit colour TIFF, which Pillow would reduce to 8 bit; others raise."""
    tags = getattr(opened, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (8,))
    if max(bits) <= 8 or opened.mode not in ("RGB", "RGBA", "RGBX", "CMYK"):
        return False
    plain = opened.mode == "RGBA" and tuple(tags.get(_EXTRA_SAMPLES, ())) == _NOT_MULTIPLIED
    if not (opened.mode == "RGB" or plain) or set(bits) != {16}:
        raise UnsupportedError(
            f"image: {path} is a TIFF of {opened.mode} with {max(bits)} bits, must be RGB (with "
            "alpha that is not premultiplied) with 16, or any with 8; save it as a 16-bit PNG"
        )
    return True


def _read_deep(path: Path, opened: Any) -> Picture:
    av = require("av", "video", "reading a 16-bit image")
    from PIL import ExifTags

    _refuse_profile(path, opened.info.get("icc_profile"))
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            array = frame.to_ndarray(format="rgba64le")
    except (av.error.FFmpegError, StopIteration) as error:
        raise MediaError(f"image: {path} is not a readable 16-bit image ({error})") from error
    array = np.asarray(array).astype(np.int32)
    orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    array = np.ascontiguousarray(orient(array, orientation))
    pixels = _to_tensor(array, 65535)
    has_alpha = "A" in opened.getbands() or "transparency" in opened.info
    return Picture(pixels[:3].contiguous(), pixels[3:].contiguous() if has_alpha else None, 16)


def orient(array: Any, orientation: int) -> Any:
    """Turn (height, width, ...) upright by EXIF's number."""
    turns = {
        2: (0, True),
        3: (2, False),
        4: (2, True),
        5: (3, True),
        6: (3, False),
        7: (1, True),
        8: (1, False),
    }
    quarter, mirror = turns.get(orientation, (0, False))
    array = np.rot90(array, quarter)
    return array[:, ::-1] if mirror else array


def write_image(
    path: str | Path,
    image: Float[Tensor, "3 height width"],
    *,
    alpha: Float[Tensor, "1 height width"] | None = None,
    bit_depth: int = 8,
    quality: int = 95,
) -> None:
    """Write sRGB pixels; the suffix chooses the format. Nothing is left behind on failure.

    Args:
        path: Target, with one of `IMAGE_SUFFIXES`.
        image: In [0, 1]; values outside are clipped.
        alpha: Opacity in [0, 1]; PNG, TIFF, WebP and AVIF only.
        bit_depth: 8, or 16 for PNG and TIFF.
        quality: Of the lossy formats, 0 to 100.

    Raises:
        ArgumentError: the suffix, bit depth or folder is not allowed, or a pixel is NaN.
        ShapeError: a shape is wrong.
        UnsupportedError: the format cannot hold so large an image.
    """
    from PIL import Image

    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ArgumentError(
            f"write_image: path is {path}, must end in one of {sorted(IMAGE_SUFFIXES)}"
        )
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ShapeError(f"write_image: image has shape {tuple(image.shape)}, must be (3, h, w)")
    if not torch.isfinite(image).all():
        raise ArgumentError("write_image: image holds NaN or infinity, must be finite")
    if alpha is not None and suffix not in ALPHA_SUFFIXES:
        raise ArgumentError(f"write_image: alpha cannot be stored in {suffix}; write a .png")
    if bit_depth not in (8, 16) or (bit_depth == 16 and suffix not in DEEP_SUFFIXES):
        raise ArgumentError(
            f"write_image: bit_depth is {bit_depth} for {suffix}, must be 8, or 16 for one of "
            f"{sorted(DEEP_SUFFIXES)}"
        )
    planes = image if alpha is None else torch.cat([image, alpha.to(image)])
    top = 255 if bit_depth == 8 else 65535
    array = (planes.detach().float().clamp(0, 1) * top).round().permute(1, 2, 0).cpu().numpy()
    with atomic_write(path) as temporary:
        if bit_depth == 16:
            encode_deep = encode_png if suffix == ".png" else encode_tiff
            temporary.write_bytes(encode_deep(array.astype(np.uint16)))
            return
        pillow = Image.fromarray(array.astype(np.uint8))
        extra: dict[str, Any] = (
            {"quality": quality} if suffix in (".jpg", ".jpeg", ".webp", ".avif") else {}
        )
        try:
            if suffix in (".jpg", ".jpeg") and max(pillow.size) > MAX_JPEG_SIDE:
                raise ValueError(f"at most {MAX_JPEG_SIDE} pixels a side")
            pillow.save(temporary, **extra)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise UnsupportedError(
                f"write_image: {suffix} cannot hold {pillow.width} x {pillow.height} pixels "
                f"({error}); write a .png"
            ) from error
