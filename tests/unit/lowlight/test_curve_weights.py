"""The shipped curve weights: they load, brighten, are small and are refused when damaged."""

import shutil
from pathlib import Path

import pytest
import torch

from foveal._core.weights import packaged
from foveal.errors import ArgumentError
from foveal.lowlight import enhance_video
from foveal.lowlight.concave_curve import ConcaveCurve

NAME = "sacc-efficientnet-lite0"
MAX_BYTES = 5_000_000


def test_shipped_curve_loads_and_brightens() -> None:
    curve = ConcaveCurve.load()
    dark = 0.2 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    bright = curve(dark)
    assert bright.shape == dark.shape
    assert (bright >= dark - 1e-6).all()
    assert bright.mean() > 1.2 * dark.mean()
    assert bright.max() <= 1


def test_shipped_curve_is_small() -> None:
    assert packaged(NAME).stat().st_size < MAX_BYTES


def test_damaged_curve_is_refused(tmp_path: Path) -> None:
    source = packaged(NAME)
    path = tmp_path / source.name
    data = bytearray(source.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    shutil.copy(source.with_suffix(".json"), path.with_suffix(".json"))
    with pytest.raises(ArgumentError, match="SHA-256"):
        ConcaveCurve.load(path)


def test_unknown_curves_list_curves_only() -> None:
    with pytest.raises(ArgumentError, match=NAME) as info:
        ConcaveCurve.load("nothing")
    assert "codec" not in str(info.value)
    with pytest.raises(ArgumentError, match="must be one of"):
        ConcaveCurve.load("codec-efficientnet-lite0")


def test_a_video_named_as_an_image_names_the_target(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"target is .*o\.png, must end in"):
        enhance_video("never-read.mp4", tmp_path / "o.png", ConcaveCurve())
