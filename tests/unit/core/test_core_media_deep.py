"""16-bit TIFFs that are written, and ICC profiles of grey and of deep images."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from foveal._core.media import read_image, read_picture, write_image
from foveal.errors import UnsupportedError


@pytest.mark.parametrize("suffix", [".tif", ".tiff"])
@pytest.mark.parametrize("size", [(1, 1), (5, 7)])
@pytest.mark.parametrize("alpha", [False, True])
def test_tiff_16_bit_keeps_every_level(tmp_path, suffix: str, size, alpha: bool) -> None:
    planes = torch.randint(0, 65536, (4, *size)) / 65535
    mask = planes[3:] if alpha else None
    write_image(tmp_path / f"a{suffix}", planes[:3], alpha=mask, bit_depth=16)
    back = read_picture(tmp_path / f"a{suffix}")
    assert back.bit_depth == 16
    assert torch.equal(back.pixels, planes[:3])
    assert (back.alpha is None) == (mask is None)
    assert mask is None or torch.equal(back.alpha, mask)
    with Image.open(tmp_path / f"a{suffix}") as other:  # another reader agrees, with 8 bits
        wanted = (planes[: 4 if alpha else 3] * 65535).round().long().permute(1, 2, 0) >> 8
        assert np.array_equal(np.asarray(other), wanted.numpy())


def test_tiff_8_bit_keeps_alpha(tmp_path) -> None:
    mask = torch.tensor([[[0.0, 0.2], [0.4, 1.0]]])
    write_image(tmp_path / "a.tif", torch.rand(3, 2, 2), alpha=mask)
    back = read_picture(tmp_path / "a.tif")
    assert (back.bit_depth, back.alpha is None) == (8, False)
    assert torch.equal(back.alpha, mask)


def test_multiplied_alpha_of_16_bits_is_refused(tmp_path) -> None:
    write_image(tmp_path / "a.tif", torch.rand(3, 2, 2), alpha=torch.rand(1, 2, 2), bit_depth=16)
    data = (tmp_path / "a.tif").read_bytes()
    tag = struct.pack("<HHI", 338, 3, 1)
    assert data.count(tag) == 1
    (tmp_path / "a.tif").write_bytes(data.replace(tag + b"\2", tag + b"\1"))
    with pytest.raises(UnsupportedError, match="not premultiplied"):
        read_picture(tmp_path / "a.tif")


def _linear_grey() -> bytes:
    """An ICC profile by hand: grey, whose value is proportional to the light."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    table = struct.pack(">I", 2)
    table += b"wtpt" + struct.pack(">II", 156, len(white))
    table += b"kTRC" + struct.pack(">II", 156 + len(white), len(curve))
    body = table + white + curve
    head = struct.pack(">I", 128 + len(body)) + b"lcms" + bytes.fromhex("02400000")
    head += b"mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28) + white[8:] + bytes(48)
    assert len(head) == 128
    return head + body


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_profile_of_grey_is_converted(tmp_path, mode: str) -> None:
    value = 128 if mode == "L" else (128, 77)
    Image.new(mode, (2, 2), value).save(tmp_path / "a.png", icc_profile=_linear_grey())
    back = read_picture(tmp_path / "a.png")
    wanted = 1.055 * (128 / 255) ** (1 / 2.4) - 0.055
    assert back.pixels.flatten().tolist() == pytest.approx([wanted] * 12, abs=1.5 / 255)
    assert mode == "L" or back.alpha.unique().tolist() == pytest.approx([77 / 255])


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_a_profile_of_deep_grey_is_refused_and_not_ignored(tmp_path, kind: type) -> None:
    image = Image.fromarray(np.ones((2, 2), kind))
    image.save(tmp_path / "plain.tif")
    assert read_image(tmp_path / "plain.tif").shape == (3, 2, 2)
    image.save(tmp_path / "a.tif", icc_profile=_linear_grey())
    with pytest.raises(UnsupportedError, match="ICC profile"):
        read_image(tmp_path / "a.tif")
