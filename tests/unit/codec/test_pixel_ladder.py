"""The ladder of pixel codecs: real files, ordered by bytes."""

import io

import pytest
import torch
from PIL import Image

from foveal import codec
from foveal.errors import ArgumentError, ShapeError, UnsupportedError


def test_real_files_are_reported() -> None:
    x = torch.linspace(0, 1, 3 * 48 * 64).reshape(3, 48, 64)
    rows = codec.pixel_baselines(
        x, lambda y: 1 - float((x - y).abs().mean()), formats=("jpeg", "webp"), qualities=(5, 60)
    )
    assert len(rows) == 2 * 2 * 5
    assert [r.bytes for r in rows] == sorted(r.bytes for r in rows)
    assert {r.size for r in rows} == {48, 36, 24, 18, 12}
    row = next(r for r in rows if (r.format, r.quality, r.size) == ("jpeg", 60, 48))
    buffer = io.BytesIO()
    pixels = (x * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(buffer, format="jpeg", quality=60, optimize=True)
    assert row.bytes == len(buffer.getvalue())
    best = codec.cheapest(rows, min_agreement=0.9)
    assert best is not None
    assert best.bytes == min(r.bytes for r in rows if r.agreement >= 0.9)
    assert codec.cheapest(rows, min_agreement=2.0) is None


def test_its_arguments_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(3, 16, 16)

    def agree(_: torch.Tensor) -> float:
        return 1.0

    with pytest.raises(ShapeError, match="image has shape"):
        codec.pixel_baselines(x[None], agree)
    with pytest.raises(ArgumentError, match="image is"):
        codec.pixel_baselines((x * 255).byte(), agree)
    with pytest.raises(ArgumentError, match="formats"):
        codec.pixel_baselines(x, agree, formats=("gif",))
    with pytest.raises(ArgumentError, match="qualities"):
        codec.pixel_baselines(x, agree, qualities=(101,))
    with pytest.raises(ArgumentError, match="sizes"):
        codec.pixel_baselines(x, agree, sizes=(17,))
    monkeypatch.setattr("PIL.features.check", lambda _: False)
    with pytest.raises(UnsupportedError, match="avif"):
        codec.pixel_baselines(x, agree, formats=("avif",))
