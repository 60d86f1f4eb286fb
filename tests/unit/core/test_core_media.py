import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from foveal._core.media import read_image, read_picture, write_image
from foveal.errors import ArgumentError, FovealError, MediaError, ShapeError, UnsupportedError


def _gradient(height: int = 4, width: int = 6) -> torch.Tensor:
    return torch.linspace(0, 1, 3 * height * width).reshape(3, height, width)


def test_png_8_bit_round_trip(tmp_path) -> None:
    image = (_gradient() * 255).round() / 255
    write_image(tmp_path / "a.png", image)
    assert torch.equal(read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize("alpha", [False, True])
def test_png_16_bit_keeps_every_level(tmp_path, alpha: bool) -> None:
    image = (_gradient(5, 7) * 65535).round() / 65535
    mask = torch.linspace(0, 1, 35).reshape(1, 5, 7).mul(65535).round() / 65535 if alpha else None
    write_image(tmp_path / "a.png", image, alpha=mask, bit_depth=16)
    picture = read_picture(tmp_path / "a.png")
    assert picture.bit_depth == 16
    assert torch.allclose(picture.pixels, image, atol=1e-6)
    if mask is None:
        assert picture.alpha is None
    else:
        assert picture.alpha is not None
        assert torch.allclose(picture.alpha, mask, atol=1e-6)


def test_grey_16_bit(tmp_path) -> None:
    levels = np.array([[0, 1000], [30000, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "g.png")
    back = read_image(tmp_path / "g.png")
    assert back.shape == (3, 2, 2)
    assert torch.allclose(back[1], torch.from_numpy(levels.astype(np.float32)) / 65535)


def test_alpha_is_kept_and_colour_is_not_multiplied(tmp_path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 200, 51
    Image.fromarray(rgba).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.pixels[0, 0, 0].item() == pytest.approx(200 / 255)
    assert picture.alpha is not None
    assert picture.alpha.unique().tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation: int) -> None:
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)[..., None].repeat(3, 2) * 40
    image = Image.fromarray(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "o.png", exif=exif)
    from PIL import ImageOps

    with Image.open(tmp_path / "o.png") as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened))
    got = (read_image(tmp_path / "o.png") * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(got, wanted)
    deep = torch.from_numpy(stored.copy()).permute(2, 0, 1) / 255
    write_image(tmp_path / "d.png", deep, bit_depth=16)
    data = (tmp_path / "d.png").read_bytes()
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + block))
    (tmp_path / "d.png").write_bytes(data[:33] + chunk + data[33:])
    got = (read_image(tmp_path / "d.png") * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(got, wanted)


def test_icc_profile_is_converted(tmp_path) -> None:
    lab = ImageCms.createProfile("LAB")
    srgb = ImageCms.createProfile("sRGB")
    image = Image.new("RGB", (2, 2), (200, 30, 60))
    converted = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    assert converted is not None
    converted.save(tmp_path / "lab.tif", icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
    back = read_image(tmp_path / "lab.tif")[:, 0, 0] * 255
    assert (back - torch.tensor([200.0, 30, 60])).abs().max() < 4


def test_damaged_icc_profile_is_ignored(tmp_path) -> None:
    Image.new("RGB", (2, 2), (10, 20, 30)).save(tmp_path / "a.png", icc_profile=b"nonsense" * 20)
    assert (read_image(tmp_path / "a.png")[:, 0, 0] * 255).tolist() == pytest.approx([10, 20, 30])


def test_bad_files_raise_one_error(tmp_path) -> None:
    text = tmp_path / "text.png"
    text.write_text("hello")
    with pytest.raises(MediaError, match=r"text\.png is not a readable image"):
        read_image(text)
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        whole, "PNG"
    )
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.getvalue()[:2000])
    with pytest.raises(MediaError, match=r"cut\.png"):
        read_image(cut)


def test_huge_image_is_refused_before_it_is_decoded(tmp_path) -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(MediaError, match="bomb"):
        read_image(tmp_path / "bomb.png")


def test_every_prefix_of_a_png_is_an_error_or_an_image(tmp_path) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(buffer, "PNG")
    data, path = buffer.getvalue(), tmp_path / "p.png"
    outcomes = set()
    for length in range(1, len(data), 3):
        path.write_bytes(data[:length])
        try:
            read_image(path)
            outcomes.add("image")
        except FovealError:
            outcomes.add("error")
    assert "error" in outcomes


def test_write_image_checks_its_arguments(tmp_path) -> None:
    image = _gradient()
    with pytest.raises(ArgumentError, match="must end in one of"):
        write_image(tmp_path / "a.txt", image)
    with pytest.raises(ShapeError, match=r"\(1, 4, 6\)"):
        write_image(tmp_path / "a.png", image[:1])
    with pytest.raises(ArgumentError, match="NaN"):
        write_image(tmp_path / "a.png", image * float("nan"))
    with pytest.raises(ArgumentError, match="alpha"):
        write_image(tmp_path / "a.jpg", image, alpha=image[:1])
    with pytest.raises(ArgumentError, match="bit_depth is 16"):
        write_image(tmp_path / "a.jpg", image, bit_depth=16)
    assert not list(tmp_path.iterdir())


def test_16_bit_with_profile_is_refused(tmp_path) -> None:
    write_image(tmp_path / "a.png", _gradient(), bit_depth=16)
    data = (tmp_path / "a.png").read_bytes()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    body = b"iCCP" + b"x\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    with pytest.raises(UnsupportedError, match="ICC"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".avif", ".tiff"])
def test_several_frames_are_refused_and_not_dropped(tmp_path, suffix) -> None:
    frames = [Image.new("RGB", (16, 16), (k * 40, 0, 0)) for k in range(3)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedError, match="3 frames"):
        read_image(tmp_path / f"a{suffix}")


def test_16_bit_grey_with_alpha_keeps_every_level(tmp_path) -> None:
    levels = np.array([[[1000, 257 * 3 + 1], [30001, 65535]]], np.uint16)
    body = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 4, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )
    picture = read_picture(tmp_path / "a.png")
    assert picture.bit_depth == 16
    assert picture.alpha is not None
    assert (picture.pixels[2, 0] * 65535).round().tolist() == [1000, 30001]
    assert (picture.alpha[0, 0] * 65535).round().tolist() == [772, 65535]


@pytest.mark.parametrize(
    "pixels", [np.full((4, 4), 70000, np.int32), np.full((4, 4), 2.5, np.float32)]
)
def test_pixels_out_of_range_are_refused_and_not_clipped(tmp_path, pixels) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    with pytest.raises(UnsupportedError, match="must be within"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize(("suffix", "width"), [(".webp", 16384), (".jpg", 65501)])
def test_images_that_a_format_cannot_hold(tmp_path, capfd, suffix, width) -> None:
    with pytest.raises(UnsupportedError, match=rf"\{suffix} cannot hold {width} x 1"):
        write_image(tmp_path / f"a{suffix}", torch.zeros(3, 1, width))
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""


def _tiff(pixels: np.ndarray) -> bytes:
    """A little-endian, uncompressed TIFF of 16-bit samples, written by hand."""
    height, width, channels = pixels.shape
    data = pixels.astype("<u2").tobytes()
    at = 8 + 2 + 12 * 11 + 4
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, at), (259, 3, 1, 1)]
    tags += [(262, 3, 1, 2 if channels == 3 else 5), (273, 4, 1, at + 8), (274, 3, 1, 6)]
    tags += [(277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    head += b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
    return head + struct.pack("<4H", 16, 16, 16, 16) + data


def test_tiff_16_bit_keeps_every_level_and_stands_upright(tmp_path) -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (16, 24, 3)).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(_tiff(stored))
    picture = read_picture(tmp_path / "a.tif")
    assert picture.bit_depth == 16
    wanted = np.rot90(stored, -1)  # orientation 6: turned clockwise to stand upright
    assert np.array_equal((picture.pixels * 65535).round().permute(1, 2, 0).numpy(), wanted)


def test_deep_tiff_of_other_colours_is_refused_and_not_reduced(tmp_path) -> None:
    (tmp_path / "a.tif").write_bytes(_tiff(np.zeros((4, 4, 4), np.uint16)))
    with pytest.raises(UnsupportedError, match="CMYK with 16 bits"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".avif", ".tiff", ".webp", ".bmp", ".jpg"])
def test_damaged_files_raise_only_our_errors(tmp_path, suffix) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(random.integers(0, 255, (24, 20, 3), np.uint8)).save(path)
    data, outcomes = path.read_bytes(), set()
    for _ in range(250):
        bad = bytearray(data)
        for _ in range(4):
            bad[random.integers(min(len(bad), 200))] = random.integers(256)
        path.write_bytes(bad[: random.integers(len(bad) // 2, len(bad) + 1)])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read_image(path)
        except FovealError as error:
            outcomes.add(type(error))
    assert MediaError in outcomes
