"""The shipped curve weights: they load, brighten, are small and are refused when damaged."""

import shutil
from pathlib import Path

import pytest
import torch

from foveal._core.weights import packaged
from foveal.errors import ArgumentError
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
