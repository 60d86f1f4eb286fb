"""Images as they are stored, for work that gives back the same kind of file.

Unlike `read_image`, samples stay integers in the file's own colours: grey stays grey, 16 bits stay
16, and the ICC profile and EXIF go along.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from foveal._core.deep_images import encode_png, encode_tiff
from foveal._core.files import atomic_write, read_input
from foveal._core.formats import ALPHA_SUFFIXES, DEEP_SUFFIXES, IMAGE_SUFFIXES
from foveal._core.lazy import require
from foveal._core.media import (
    DAMAGED,
    MAX_JPEG_SIDE,
    check_opened,
    is_deep_png,
    is_deep_tiff,
    orient,
    to_srgb,
)
from foveal.errors import ArgumentError, MediaError, UnsupportedError

_QUALITY = 95
_LOSSY_SUFFIXES = frozenset({".jpg", ".jpeg", ".webp", ".avif"})
_TAGGED_SUFFIXES = IMAGE_SUFFIXES - {".bmp"}  # these hold EXIF and a profile
_ORIENTATION, _EXIF_IFD, _GPS_IFD = 274, 34665, 34853
_PIXEL_SIZE = (40962, 40963)
_PNG_GREY_WITH_ALPHA = b"\4"
_MAX_JPEG_EXIF = 65_000
_DESCRIPTIVE = frozenset(
    {269, 270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, _EXIF_IFD, _GPS_IFD}
    | {18246, 18249}
    | set(range(40091, 40096))
)
"""Tags of a TIFF that say what the picture is, and not how its file is laid out."""


@dataclass(frozen=True, slots=True)
class Photo:
    """An image in its own colours, upright.

    Args:
        samples: uint8 or uint16; one plane of grey, or red, green and blue.
        alpha: Opacity of the type of `samples`, or None. Colours are not multiplied by it.
        icc: Profile of the colours, or None for sRGB.
        exif: Begins with its TIFF header; without an orientation. Or None.
        dropped: What of the file is not here, in words.
    """

    samples: NDArray[Any]
    alpha: NDArray[Any] | None
    icc: bytes | None
    exif: bytes | None
    dropped: tuple[str, ...] = ()

    @property
    def bit_depth(self) -> int:
        """8 or 16."""
        return 8 * self.samples.itemsize

    def srgb(self) -> Float[Tensor, "3 height width"]:
        """Return it as sRGB in [0, 1]; by an 8-bit conversion if there is a profile."""
        if self.icc is not None:
            planes = np.moveaxis(np.asarray(_as_srgb(self)), -1, 0)
            return torch.from_numpy(planes.astype(np.float32) / 255)
        top = np.iinfo(self.samples.dtype).max
        planes = torch.from_numpy(self.samples.astype(np.float32) / top)
        return planes.expand(3, -1, -1).contiguous()


def read_photo(path: str | Path) -> Photo:
    """Read an image in its own colours.

    Raises: as `read_image`, but 16 bits with an ICC profile are read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on damaged tags: what matters becomes an error
        return _read(read_input(path, what="image"))


def _read(path: Path) -> Photo:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            check_opened(path, opened)
            icc = opened.info.get("icc_profile") or None
            if is_deep_png(path) or is_deep_tiff(path, opened):
                return _read_deep(path, opened, icc)
            opened.load()
            image: Any = ImageOps.exif_transpose(opened)
            exif = _exif(opened)  # afterwards, since it takes the orientation out
    except (MediaError, UnsupportedError):
        raise
    except DAMAGED as error:
        raise MediaError(
            f"image: {path} is not a readable image, it is damaged or of another kind ({error})"
        ) from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"image: {path} is too large ({error})") from error
    if image.mode.startswith("I") or image.mode == "F":
        return Photo(_deep_grey(path, image)[None], None, icc, exif)
    has_alpha = "A" in image.getbands() or "a" in image.getbands()
    has_alpha = has_alpha or "transparency" in image.info
    dropped: tuple[str, ...] = ()
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
        dropped = (image.mode,)
        image, icc = to_srgb(image, icc).convert("RGB"), None
    is_grey = image.mode in ("1", "L", "LA", "La")
    alpha = None
    if has_alpha:
        alpha = np.asarray(image.convert("RGBA").getchannel("A")).copy()
        image = image.convert("RGBA")
    array = np.asarray(image.convert("L" if is_grey else "RGB"))
    planes = array[None] if is_grey else np.moveaxis(array, -1, 0)
    return Photo(np.ascontiguousarray(planes), alpha, icc, exif, dropped)


def _deep_grey(path: Path, image: Any) -> NDArray[Any]:
    array: NDArray[Any] = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(array).all():
            raise MediaError(f"image: {path} holds NaN or infinity; mend the file")
        if array.min() < 0 or array.max() > 1:
            raise UnsupportedError(
                f"image: {path} has floating-point pixels from {array.min():.3g} to "
                f"{array.max():.3g}, must be within 0..1; scale it"
            )
        return np.rint(array * 65535).astype(np.uint16)
    if array.min() < 0 or array.max() > 65535:
        raise UnsupportedError(
            f"image: {path} has 32-bit pixels from {array.min()} to {array.max()}, must be within "
            "0..65535; save it with 16 bits"
        )
    return array.astype(np.uint16)


def _read_deep(path: Path, opened: Any, icc: bytes | None) -> Photo:
    av = require("av", "video", "reading a 16-bit image")
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            array = np.asarray(frame.to_ndarray(format="rgba64le")).astype(np.uint16)
    except (av.error.FFmpegError, StopIteration) as error:
        raise MediaError(f"image: {path} is not a readable 16-bit image ({error})") from error
    planes = np.moveaxis(orient(array, opened.getexif().get(_ORIENTATION, 1)), -1, 0)
    planes = np.ascontiguousarray(planes)
    has_alpha = "A" in opened.getbands() or "transparency" in opened.info
    with path.open("rb") as handle:  # Pillow gives colour for 16 bits of grey with alpha
        grey = opened.format == "PNG" and handle.read(26)[25:] == _PNG_GREY_WITH_ALPHA
    samples = planes[:1] if grey else planes[:3]
    return Photo(samples, planes[3] if has_alpha else None, icc, _exif(opened))


def _exif(image: Any) -> bytes | None:
    """Return the EXIF of an opened image that is to be turned upright, or None."""
    exif = image.getexif()
    turned = exif.pop(_ORIENTATION, 1) in (5, 6, 7, 8)
    if image.format == "TIFF":
        for tag in [t for t in exif if t not in _DESCRIPTIVE]:
            del exif[tag]
    if not len(exif):
        return None
    inner = exif.get_ifd(_EXIF_IFD)
    if turned and all(tag in inner for tag in _PIXEL_SIZE):
        inner[_PIXEL_SIZE[0]], inner[_PIXEL_SIZE[1]] = (inner[t] for t in reversed(_PIXEL_SIZE))
    try:
        data: bytes = exif.tobytes()
    except DAMAGED:  # tags that Pillow reads and cannot write
        return None
    return data.removeprefix(b"Exif\0\0")


def _to_8_bit(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.itemsize == 1:
        return samples
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _as_pillow(photo: Photo) -> Any:
    from PIL import Image

    planes = _to_8_bit(photo.samples)
    array = planes[0] if len(planes) == 1 else np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    return Image.fromarray(array)


def _as_srgb(photo: Photo) -> Any:
    return to_srgb(_as_pillow(photo), photo.icc).convert("RGB")


def write_photo(path: str | Path, photo: Photo) -> list[str]:
    """Write an image; the suffix chooses the format. Nothing is left behind on failure.

    Returns: what of it the format cannot hold, in words, after what `photo` itself names. Colours
    with a profile become sRGB where the format holds no profile.

    Raises:
        ArgumentError: the suffix or folder is not allowed.
        UnsupportedError: the format cannot hold so large an image.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ArgumentError(
            f"write_photo: path is {path}, must end in one of {sorted(IMAGE_SUFFIXES)}"
        )
    dropped = list(photo.dropped)
    alpha = photo.alpha if suffix in ALPHA_SUFFIXES else None
    if photo.alpha is not None and alpha is None:
        dropped.append("alpha")
    deep = photo.bit_depth == 16 and suffix in DEEP_SUFFIXES
    if photo.bit_depth == 16 and not deep:
        dropped.append("16 bit")
    tagged = suffix in _TAGGED_SUFFIXES
    exif = photo.exif if tagged and not (deep and suffix != ".png") else None
    if exif is not None and suffix in (".jpg", ".jpeg") and len(exif) > _MAX_JPEG_EXIF:
        exif = None
    if photo.exif is not None and exif is None:
        dropped.append("EXIF")
    if photo.icc is not None and not tagged:
        dropped.append("ICC profile")
    with atomic_write(path) as temporary:
        if deep:
            temporary.write_bytes(_encode_deep(suffix, photo, exif))
            return dropped
        image = _as_pillow(photo) if tagged else _as_srgb(photo)
        if alpha is not None:
            from PIL import Image

            image.putalpha(Image.fromarray(_to_8_bit(alpha)))
        extra: dict[str, Any] = {"quality": _QUALITY} if suffix in _LOSSY_SUFFIXES else {}
        if exif is not None:
            extra["exif"] = b"Exif\0\0" + exif
        if photo.icc is not None and tagged:
            extra["icc_profile"] = photo.icc
        _save(image, temporary, suffix, extra)
    return dropped


def _save(image: Any, temporary: Path, suffix: str, extra: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    try:
        if suffix in (".jpg", ".jpeg") and max(image.size) > MAX_JPEG_SIDE:
            raise ValueError(f"at most {MAX_JPEG_SIDE} pixels a side")
        image.save(buffer, format=image_format(suffix), **extra)
    except (ValueError, OSError) as error:
        raise UnsupportedError(
            f"write_photo: {suffix} cannot hold {image.width} x {image.height} pixels "
            f"({error}); write a .png"
        ) from error
    temporary.write_bytes(buffer.getvalue())


def image_format(suffix: str) -> str:
    """Return what Pillow calls the format of a suffix."""
    known = {".jpg": "JPEG", ".tif": "TIFF"}
    return known.get(suffix, suffix[1:].upper())


def _encode_deep(suffix: str, photo: Photo, exif: bytes | None) -> bytes:
    planes = list(photo.samples)
    if photo.alpha is not None:
        if suffix != ".png" and len(planes) == 1:  # our TIFFs have opacity beside colours only
            planes *= 3
        planes.append(photo.alpha)
    array = np.stack(planes, axis=-1)
    if suffix == ".png":
        return encode_png(array, icc=photo.icc, exif=exif)
    return encode_tiff(array, icc=photo.icc)
