"""Images in their own colours: what a file says goes along, or is named as dropped."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms

from foveal._core.media import read_picture, write_image
from foveal._core.photo import read_photo, write_photo
from foveal.errors import ArgumentError, MediaError, UnsupportedError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _array(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _exif(**more: object) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Owl"
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 0.5
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 7
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageHeight] = 5
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    return exif


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tif"])
def test_exif_and_profile_go_along_and_the_picture_is_upright(tmp_path, suffix) -> None:
    source = tmp_path / "a.png"
    Image.fromarray(_array(5, 7, 3)).save(source, exif=_exif(), icc_profile=SRGB)
    photo = read_photo(source)
    assert photo.samples.shape == (3, 7, 5)
    target = tmp_path / f"b{suffix}"
    assert write_photo(target, photo) == []
    with Image.open(target) as back:
        found = back.getexif()
        assert back.size == (5, 7)
        assert back.info["icc_profile"] == SRGB
        assert found[ExifTags.Base.Make] == "Owl"
        assert ExifTags.Base.Orientation not in found
        inner = found.get_ifd(ExifTags.IFD.Exif)
        assert float(inner[ExifTags.Base.ExposureTime]) == 0.5
        assert (inner[ExifTags.Base.ExifImageWidth], inner[ExifTags.Base.ExifImageHeight]) == (5, 7)
        assert found.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    if suffix in (".png", ".tif"):
        expected = np.rot90(_array(5, 7, 3), 3)
        assert np.array_equal(np.moveaxis(read_photo(target).samples, 0, -1), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_kind_of_pixels_is_kept(tmp_path, mode, suffix) -> None:
    channels = 4 if mode in ("LA", "RGBA") else 3
    Image.fromarray(_array(6, 9, channels)).convert(mode).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert len(photo.samples) == (1 if mode in ("1", "L", "LA") else 3)
    assert (photo.alpha is not None) == (mode in ("LA", "RGBA"))
    assert write_photo(tmp_path / f"b{suffix}", photo) == []
    back = read_photo(tmp_path / f"b{suffix}")
    assert np.array_equal(back.samples, photo.samples)
    assert (back.alpha is None) == (photo.alpha is None)
    if photo.alpha is not None:
        assert np.array_equal(back.alpha, photo.alpha)
    assert torch.equal(photo.srgb(), read_picture(tmp_path / "a.png").pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("channels", "alpha"), [(1, False), (1, True), (3, False), (3, True)])
def test_16_bits_with_a_profile(tmp_path, suffix, channels, alpha) -> None:
    rng = np.random.default_rng(1)
    samples = rng.integers(0, 65536, (channels, 4, 5), np.uint16)
    opacity = rng.integers(0, 65536, (4, 5), np.uint16) if alpha else None
    Image.fromarray(_array(2, 2, 3)).save(tmp_path / "s.png")
    photo = replace(read_photo(tmp_path / "s.png"), samples=samples, alpha=opacity, icc=SRGB)
    target = tmp_path / f"a{suffix}"
    assert write_photo(target, photo) == []
    back = read_photo(target)
    assert back.bit_depth == 16
    assert back.icc == SRGB
    wanted = np.broadcast_to(samples, back.samples.shape)  # grey TIFFs with alpha become RGB
    assert np.array_equal(back.samples, wanted)
    assert len(back.samples) == channels or (suffix == ".tif" and alpha)
    if alpha:
        assert np.array_equal(back.alpha, opacity)
    # the profile is sRGB itself, so its conversion changes nothing but the bits
    top = torch.from_numpy(samples.astype(np.float32) / 65535).expand(3, -1, -1)
    assert (back.srgb() - top).abs().max() < 2 / 255
    assert (replace(back, icc=None).srgb() - top).abs().max() < 1e-6


def test_exif_of_a_16_bit_png(tmp_path) -> None:
    Image.fromarray(_array(5, 7, 3)).save(tmp_path / "s.png", exif=_exif())
    photo = read_photo(tmp_path / "s.png")
    deep = replace(photo, samples=photo.samples.astype(np.uint16) * 257)
    assert write_photo(tmp_path / "a.png", deep) == []
    assert write_photo(tmp_path / "a.tif", deep) == ["EXIF"]
    with Image.open(tmp_path / "a.png") as back:
        assert back.getexif()[ExifTags.Base.Make] == "Owl"
    again = read_photo(tmp_path / "a.png")
    assert again.exif == photo.exif
    assert write_photo(tmp_path / "b.jpg", again) == ["16 bit"]
    with Image.open(tmp_path / "b.jpg") as narrow:
        assert abs(np.asarray(narrow).astype(int).mean() - photo.samples.mean()) < 2


def test_a_wide_profile_is_kept_and_converted_only_for_srgb(tmp_path) -> None:
    """The linear profile: 50 % of the light is 188 of sRGB."""
    linear = _linear_rgb()
    Image.new("RGB", (4, 4), (128, 128, 128)).save(tmp_path / "a.png", icc_profile=linear)
    photo = read_photo(tmp_path / "a.png")
    assert (photo.samples == 128).all()
    assert (photo.srgb() * 255).mean().item() == pytest.approx(188, abs=1.5)
    assert write_photo(tmp_path / "b.bmp", photo) == ["ICC profile"]
    assert read_photo(tmp_path / "b.bmp").samples.mean() == pytest.approx(188, abs=1.5)


def _linear_rgb() -> bytes:
    """Rewrite the curves of Pillow's sRGB profile to a gamma of 1."""
    data = bytearray(SRGB)
    count = int.from_bytes(data[128:132], "big")
    for i in range(count):
        at = 132 + 12 * i
        if bytes(data[at : at + 4]) in (b"rTRC", b"gTRC", b"bTRC"):
            offset = int.from_bytes(data[at + 4 : at + 8], "big")
            data[offset : offset + 12] = b"curv" + bytes(8)  # no entry: the identity
    return bytes(data)


def test_cmyk_becomes_srgb_and_says_so(tmp_path) -> None:
    Image.new("CMYK", (4, 4), (0, 0, 0, 128)).save(tmp_path / "a.jpg")
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.dropped == ("CMYK",)
    assert write_photo(tmp_path / "b.png", photo) == ["CMYK"]
    assert len(photo.samples) == 3


def test_float_grey(tmp_path) -> None:
    values = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    Image.fromarray(values).save(tmp_path / "a.tif")
    photo = read_photo(tmp_path / "a.tif")
    assert photo.bit_depth == 16
    assert np.abs(photo.samples[0] / 65535 - values).max() < 1e-5
    for bad, kind in ((np.nan, MediaError), (3.0, UnsupportedError)):
        values[1, 1] = bad
        Image.fromarray(values).save(tmp_path / "bad.tif")
        with pytest.raises(kind, match=r"bad\.tif"):
            read_photo(tmp_path / "bad.tif")


def test_what_is_no_image_is_named(tmp_path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(_array(64, 64, 3)).save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:3000])
    (tmp_path / "text.png").write_text("no")
    for name in ("cut.png", "text.png"):
        with pytest.raises(MediaError, match=name):
            read_photo(tmp_path / name)
    frames = [Image.new("RGB", (8, 8), (k, 0, 0)) for k in (0, 90)]
    frames[0].save(tmp_path / "m.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedError, match="2 frames"):
        read_photo(tmp_path / "m.webp")


def test_targets_are_checked(tmp_path) -> None:
    write_image(tmp_path / "a.png", torch.rand(3, 2, 2))
    photo = read_photo(tmp_path / "a.png")
    with pytest.raises(ArgumentError, match="must end in one of"):
        write_photo(tmp_path / "a.xyz", photo)
    with pytest.raises(UnsupportedError, match="cannot hold"):
        write_photo(tmp_path / "a.jpg", replace(photo, samples=np.zeros((3, 1, 65600), np.uint8)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
