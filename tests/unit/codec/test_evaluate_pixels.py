"""Pixel codecs as anchors: real bytes, what of them is payload, odd sizes, refusals."""

import io

import numpy as np
import pytest
from PIL import Image

from foveal.codec.evaluate import pixel_anchors
from foveal.codec.evaluate.pixel_anchors import (
    CODECS,
    QUALITIES,
    SCALES,
    Rung,
    encode_pixels,
    grid,
    hevc_payload,
    jpeg_payload,
    why_missing,
)
from foveal.errors import ArgumentError, MissingExtraError, ShapeError

HERE = [codec for codec in CODECS if why_missing(codec) is None]


def picture(height: int = 37, width: int = 53) -> np.ndarray:
    """A smooth picture of two waves."""
    y, x = np.mgrid[:height, :width]
    wave = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], 2)
    return (127.5 + 100 * wave).round().astype(np.uint8)


@pytest.mark.parametrize("codec", HERE)
def test_a_finer_quality_costs_more_and_is_nearer(codec: str) -> None:
    image = picture()
    coarse, fine = (encode_pixels(image, codec, QUALITIES[codec][i]) for i in (1, -2))
    assert coarse.file_bytes < fine.file_bytes
    gaps = [float(np.abs(f.decoded.astype(float) - image).mean()) for f in (coarse, fine)]
    assert gaps[1] < 4 < gaps[0]
    assert fine.decoded.shape == image.shape
    assert fine.decoded.dtype == np.uint8


@pytest.mark.parametrize("codec", HERE)
def test_payload_is_less_than_the_file_by_its_container(codec: str) -> None:
    file = encode_pixels(picture(), codec, QUALITIES[codec][4])
    overhead = file.file_bytes - file.payload_bytes
    expected = {"jpeg": (160, 160), "webp": (20, 21), "avif": (200, 400), "jxl": (2, 2)}
    low, high = expected.get(codec, (60, 120))
    assert low <= overhead <= high


@pytest.mark.parametrize("codec", HERE)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 31)])
def test_odd_and_tiny_sizes_at_an_eighth(codec: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    file = encode_pixels(image, codec, QUALITIES[codec][-1], 0.125)
    assert file.decoded.shape == image.shape
    assert 0 < file.payload_bytes < file.file_bytes


@pytest.mark.parametrize("codec", HERE)
def test_a_smaller_scale_costs_less(codec: str) -> None:
    image = picture(128, 128)
    bytes_of = [encode_pixels(image, codec, QUALITIES[codec][5], s).file_bytes for s in SCALES]
    assert bytes_of[0] > bytes_of[2] > bytes_of[5]


def test_jpeg_payload_counts_frame_tables_and_scans_by_hand() -> None:
    frame = b"\xff\xc0\x00\x05abc"
    tables = b"\xff\xdb\x00\x04xy"
    huffman = b"\xff\xc4\x00\x03h"
    scan = b"\xff\xda\x00\x03s" + b"\x12\xff\x00\x34\xff\xd0\x56"
    data = b"\xff\xd8" + b"\xff\xe0\x00\x04JF" + tables + frame + huffman + scan + b"\xff\xd9"
    assert jpeg_payload(data) == len(frame) + len(huffman) + len(scan)


def test_jpeg_payload_of_a_progressive_file_leaves_out_the_same_tables() -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "JPEG", quality=50, progressive=True)
    assert len(buffer.getvalue()) - jpeg_payload(buffer.getvalue()) == 160


def test_hevc_payload_counts_slices_by_hand() -> None:
    parameters = b"\0\0\1" + bytes([32 << 1, 1, 7]) + b"\0\0\1" + bytes([33 << 1, 1, 7, 7])
    slices = b"\0\0\1" + bytes([20 << 1, 1, 9, 9, 9])
    assert hevc_payload(parameters + slices) == len(slices)
    assert hevc_payload(parameters) == 0


def test_grid_has_every_quality_at_every_scale_once() -> None:
    rungs = grid()
    assert len(rungs) == len(set(rungs)) == len({r.key for r in rungs}) == 5 * 6 * 12
    assert grid(["webp"], scales=[0.5], qualities={"webp": (3, 7)}) == [
        Rung("webp", 3, 0.5),
        Rung("webp", 7, 0.5),
    ]


@pytest.mark.parametrize(
    ("codec", "quality", "scale", "message"),
    [
        ("gif", 5, 1.0, "Rung: codec is 'gif', must be one of"),
        ("jpeg", 96, 1.0, r"Rung: quality of jpeg is 96, must be within 0\.\.95"),
        ("x265", 52, 1.0, r"Rung: quality of x265 is 52, must be within 0\.\.51"),
        ("webp", float("nan"), 1.0, "Rung: quality of webp is nan"),
        ("webp", 5, 0.0, r"Rung: scale is 0.0, must be in \(0, 1\]"),
        ("webp", 5, 1.5, "Rung: scale is 1.5"),
    ],
)
def test_what_is_refused(codec: str, quality: float, scale: float, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        encode_pixels(picture(), codec, quality, scale)


def test_what_is_no_image() -> None:
    with pytest.raises(ShapeError, match=r"image has shape \(4, 4\), must be \(h, w, 3\)"):
        encode_pixels(np.zeros((4, 4), np.uint8), "jpeg", 5)
    with pytest.raises(ArgumentError, match="image is float64, must be uint8"):
        encode_pixels(np.zeros((4, 4, 3)), "jpeg", 5)
    with pytest.raises(ArgumentError, match="grid: codecs has 'gif'"):
        grid(["gif"])


def test_a_missing_codec_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_anchors, "find_spec", lambda name: None)
    assert "imagecodecs is missing; pip install foveal[anchors]" in str(why_missing("jxl"))
    assert "PyAV is missing" in str(why_missing("x265"))
    with pytest.raises(MissingExtraError, match=r"codec is 'jxl', which cannot run: imagecodecs"):
        encode_pixels(picture(), "jxl", 5)
    assert why_missing("jpeg") is None
