"""Pixel codecs as anchors: what an image costs as a file, and what is left of it.

An image is made smaller (Lanczos), coded without EXIF and ICC, decoded, and made as large as it was
(bicubic): below about 1 kB, fewer pixels beat a lower quality. Settings are those that spend time
for bytes, one for each codec: JPEG optimized, sequential or progressive, whichever is smaller; WebP
method 6; AVIF (libaom) speed 6, speed 4 saves 1 to 3 % for five times the time; JPEG XL effort 9,
without its container; x265 one still frame, preset slower. All but JPEG XL code 4:2:0.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

import numpy as np
import PIL
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, features

from foveal.errors import ArgumentError, MissingExtraError, ShapeError, UnsupportedError

CODECS = ("jpeg", "webp", "avif", "jxl", "x265")
SCALES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.125)
QUALITIES: dict[str, tuple[float, ...]] = {
    "jpeg": (1, 4, 8, 13, 20, 28, 38, 50, 62, 75, 85, 92),
    "webp": (0, 3, 8, 15, 24, 34, 44, 54, 64, 75, 85, 92),
    "avif": (0, 6, 12, 20, 28, 36, 44, 52, 60, 70, 80, 90),
    "jxl": (25, 18, 13, 10, 7.5, 5.5, 4, 3, 2.2, 1.6, 1, 0.6),
    "x265": (51, 48, 45, 42, 39, 36, 33, 30, 27, 24, 20, 15),
}
"""Of the sweep, from few bytes to many: distances of JPEG XL, CRFs of x265, else qualities."""
RANGES = {"jpeg": (0, 95), "webp": (0, 100), "avif": (0, 100), "jxl": (0.01, 25), "x265": (0, 51)}
SETTINGS = {
    "jpeg": "optimize, 4:2:0, sequential or progressive",
    "webp": "method 6",
    "avif": "speed 6, 4:2:0",
    "jxl": "effort 9, no container",
    "x265": "preset slower, 4:2:0, one frame",
}
_LEAST_SIDE = 16  # of a frame that x265 takes
_SLICES = range(32)  # NAL units of HEVC below this hold slices, the others parameters


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to code an image.

    Args:
        codec: One of `CODECS`.
        quality: What `QUALITIES` counts.
        scale: Side of the coded image, of that of the image.
    """

    codec: str
    quality: float
    scale: float

    def __post_init__(self) -> None:
        """Check the values."""
        if self.codec not in CODECS:
            raise ArgumentError(f"Rung: codec is {self.codec!r}, must be one of {CODECS}")
        low, high = RANGES[self.codec]
        if not low <= self.quality <= high:
            raise ArgumentError(
                f"Rung: quality of {self.codec} is {self.quality}, must be within {low}..{high}"
            )
        if not 0 < self.scale <= 1:
            raise ArgumentError(f"Rung: scale is {self.scale}, must be in (0, 1]")

    @property
    def key(self) -> str:
        """A name that no other rung has."""
        return f"{self.codec}-q{self.quality:g}-s{self.scale:g}"


@dataclass(frozen=True, slots=True)
class PixelFile:
    """An image that was coded.

    Args:
        file_bytes: Size of the file.
        payload_bytes: Of it, what is neither container nor signature nor parameter set, and of JPEG
            no quantization table: what would have to be sent if all else was agreed on.
        decoded: The decoded image at its full size.
    """

    file_bytes: int
    payload_bytes: int
    decoded: UInt8[ndarray, "h w 3"]


def grid(
    codecs: Sequence[str] = CODECS,
    *,
    scales: Sequence[float] = SCALES,
    qualities: dict[str, tuple[float, ...]] | None = None,
) -> list[Rung]:
    """Return the rungs of the sweep: every quality at every scale.

    Raises: ArgumentError: a codec, scale or quality that there is not.
    """
    for codec in codecs:
        if codec not in CODECS:
            raise ArgumentError(f"grid: codecs has {codec!r}, must be among {CODECS}")
    every = QUALITIES | (qualities or {})
    return [Rung(c, q, s) for c in codecs for s in scales for q in every[c]]


def why_missing(codec: str) -> str | None:
    """Return why this machine cannot write a codec, or None if it can."""
    if codec not in CODECS:
        raise ArgumentError(f"why_missing: codec is {codec!r}, must be one of {CODECS}")
    if codec in ("webp", "avif") and not features.check(codec):
        return "this Pillow cannot write it; install a Pillow wheel with it"
    if codec == "jxl" and find_spec("imagecodecs") is None:
        return "imagecodecs is missing; pip install foveal[anchors]"
    if codec == "x265":
        if find_spec("av") is None:
            return "PyAV is missing; pip install foveal[anchors]"
        import av

        if "libx265" not in av.codecs_available:
            return "this PyAV has no libx265; install a PyAV wheel"
    return None


def versions() -> dict[str, str]:
    """Return the versions of the libraries that code, of those that are here."""
    found = {"pillow": str(PIL.__version__)}
    for name in ("jpg", "libjpeg_turbo", "webp", "avif"):
        version = features.version(name)
        if version:
            found[name] = version
    if find_spec("imagecodecs") is not None:
        import imagecodecs

        found["imagecodecs"] = str(imagecodecs.__version__)
    if find_spec("av") is not None:
        import av

        found["av"] = str(av.__version__)
    return found


def encode_pixels(image: ndarray, codec: str, quality: float, scale: float = 1.0) -> PixelFile:
    """Code an image, and decode it again.

    Args:
        image: sRGB, uint8 [h, w, 3].
        codec: One of `CODECS`.
        quality: 0 to 95 of JPEG, to 100 of WebP and AVIF; the distance of JPEG XL, up to 25; the
            CRF of x265, up to 51.
        scale: Side of the coded image, of that of `image`.

    Raises:
        ArgumentError: no such codec, quality or scale, or `image` is not of 8 bits.
        ShapeError: `image` is not [h, w, 3].
        MissingExtraError, UnsupportedError: the codec is not here.
    """
    rung = Rung(codec, quality, scale)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ShapeError(f"encode_pixels: image has shape {image.shape}, must be (h, w, 3)")
    if image.dtype != np.uint8:
        raise ArgumentError(
            f"encode_pixels: image is {image.dtype}, must be uint8; scale to 0..255 and round"
        )
    reason = why_missing(codec)
    if reason is not None:
        error = MissingExtraError if "foveal[" in reason else UnsupportedError
        raise error(f"encode_pixels: codec is {codec!r}, which cannot run: {reason}")
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(np.ascontiguousarray(image))
    if size != (width, height):
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    data, payload, back = _CODERS[rung.codec](picture, rung.quality)
    if back.size != (width, height):
        back = back.resize((width, height), Image.Resampling.BICUBIC)
    return PixelFile(data, payload, np.array(back))


def _read(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")


def _written(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def _jpeg(picture: Image.Image, quality: float) -> tuple[int, int, Image.Image]:
    data = min(
        (
            _written(picture, "JPEG", quality=round(quality), optimize=True, progressive=way)
            for way in (False, True)
        ),
        key=len,
    )
    return len(data), jpeg_payload(data), _read(data)


def jpeg_payload(data: bytes) -> int:
    """Return the bytes of a JPEG file beside its signature, APP, comment and DQT segments."""
    counted, at = 0, 2
    while at < len(data):
        marker = data[at + 1]
        if marker == 0xD9:  # end of image
            break
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:  # a scan: its data end at the next marker that is no restart
            end = at + length
            while data[end] != 0xFF or data[end + 1] == 0 or 0xD0 <= data[end + 1] <= 0xD7:
                end += 1
            length = end - at
        if not (0xE0 <= marker <= 0xEF or marker in (0xFE, 0xDB)):
            counted += length
        at += length
    return counted


def _webp(picture: Image.Image, quality: float) -> tuple[int, int, Image.Image]:
    data = _written(picture, "WEBP", quality=round(quality), method=6, exact=False)
    payload, at = 0, 12
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        payload += length * (data[at : at + 4] in (b"VP8 ", b"VP8L"))
        at += 8 + length + length % 2
    return len(data), payload, _read(data)


def _avif(picture: Image.Image, quality: float) -> tuple[int, int, Image.Image]:
    data = _written(
        picture, "AVIF", quality=round(quality), speed=6, subsampling="4:2:0", max_threads=1
    )
    payload, at = 0, 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        payload += (length - 8) * (data[at + 4 : at + 8] == b"mdat")
        at += length
    return len(data), payload, _read(data)


def _jxl(picture: Image.Image, quality: float) -> tuple[int, int, Image.Image]:
    import imagecodecs

    data = bytes(
        imagecodecs.jpegxl_encode(
            np.asarray(picture), distance=quality, effort=9, usecontainer=False, numthreads=1
        )
    )
    back = np.asarray(imagecodecs.jpegxl_decode(data, numthreads=1))
    return len(data), len(data) - 2, Image.fromarray(back)


def _x265(picture: Image.Image, quality: float) -> tuple[int, int, Image.Image]:
    import av

    pixels = np.asarray(picture)
    height, width = pixels.shape[:2]
    rows, columns = (max(_LEAST_SIDE, side + side % 2) for side in (height, width))
    padded = np.pad(pixels, ((0, rows - height), (0, columns - width), (0, 0)), "edge")
    frame = av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(format="yuv420p")
    data = write_hevc(frame, quality)
    back = read_hevc(data).to_ndarray(format="rgb24")
    return len(data), hevc_payload(data), Image.fromarray(back[:height, :width])


def write_hevc(frame: Any, crf: float, *, options: str = "") -> bytes:
    """Return the stream (annex B, with its parameter sets) of one intra frame by x265.

    Args:
        frame: An `av.VideoFrame` of even sides from 16 pixels on.
        crf: 0 to 51.
        options: More of x265's options, each after a colon.
    """
    import av

    encoder: Any = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height = frame.width, frame.height
    encoder.pix_fmt = frame.format.name
    encoder.time_base = Fraction(1, 25)
    encoder.options = {
        "preset": "slower",
        "crf": f"{crf:g}",
        "x265-params": "log-level=none:info=0:pools=none:frame-threads=1:keyint=1" + options,
    }
    frame.pts = 0
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def read_hevc(data: bytes) -> Any:
    """Return the one `av.VideoFrame` of a stream."""
    import av

    decoder: Any = av.CodecContext.create("hevc", "r")
    decoder.thread_count = 1
    return [*decoder.decode(av.Packet(data)), *decoder.decode(None)][0]


def hevc_payload(data: bytes) -> int:
    """Return the bytes of an annex B stream that hold slices, start codes with them."""
    starts = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\0\0\1"]
    ends = [*starts[1:], len(data)]
    return sum(
        end - start
        for start, end in zip(starts, ends, strict=True)
        if data[start + 3] >> 1 & 63 in _SLICES
    )


_CODERS: dict[str, Callable[[Image.Image, float], tuple[int, int, Image.Image]]] = {
    "jpeg": _jpeg,
    "webp": _webp,
    "avif": _avif,
    "jxl": _jxl,
    "x265": _x265,
}
