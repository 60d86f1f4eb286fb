"""The shipped curve weights: they load, brighten, are small and are refused when damaged."""

import shutil
from pathlib import Path

import pytest
import torch

from foveal._core.weights import packaged
from foveal.errors import ArgumentError
from foveal.lowlight import baselines, enhance_video
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


FOLDER = packaged(NAME).parent
CURVES = sorted(x.stem for x in FOLDER.glob("sacc-*.safetensors"))


@pytest.mark.parametrize("name", CURVES)
def test_every_shipped_curve_brightens_and_has_a_card(name: str) -> None:
    curve = ConcaveCurve.load(name)
    dark = 0.1 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    bright = curve(dark)
    assert (bright >= dark - 1e-6).all()
    assert bright.mean() > 1.5 * dark.mean()
    steps = curve.predict(dark).diff(dim=2)
    assert (steps >= -1e-6).all()
    assert (steps.diff(dim=2) <= 1e-6).all()  # concave
    card = Path(__file__).parents[3] / "docs/models/curves.md"
    assert f"`{name}`" in card.read_text()


def test_shipped_weights_are_small() -> None:
    sizes = [x.stat().st_size for x in FOLDER.glob("*.safetensors")]
    assert max(sizes) < MAX_BYTES
    assert sum(sizes) < 25_000_000


@pytest.mark.parametrize(("name", "count"), [("zero-dce", 79_416), ("sci", 258)])
def test_shipped_enhancers_brighten(name: str, count: int) -> None:
    model = baselines.make(name)
    assert sum(x.numel() for x in model.parameters()) == count
    dark = 0.1 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert model(dark).mean() > 1.5 * dark.mean()


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
