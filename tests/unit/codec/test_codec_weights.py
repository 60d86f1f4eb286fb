"""The shipped codec weights: they load, code, are small and are refused when damaged."""

import shutil
from pathlib import Path

import pytest
import torch

from foveal import codec
from foveal._core.weights import load_weights, packaged, save_weights
from foveal.errors import ArgumentError

NAME = "codec-efficientnet-lite0"
MAX_BYTES = 5_000_000


def test_shipped_codec_loads_and_codes() -> None:
    model = codec.load("efficientnet-lite0")
    features = torch.randn(2, *model.feature_shape, generator=torch.Generator().manual_seed(0))
    features = features * model.std[:, None, None] + model.mean[:, None, None]
    stream = codec.encode(model, features)
    first, second = (codec.decode(model, stream.payload) for _ in range(2))
    assert first.shape == features.shape
    assert torch.isfinite(first).all()
    assert torch.equal(first, second)


def test_shipped_codec_is_small() -> None:
    assert packaged(NAME).stat().st_size < MAX_BYTES


def test_damaged_codec_is_refused(tmp_path: Path) -> None:
    source = packaged(NAME)
    path = tmp_path / source.name
    data = bytearray(source.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    shutil.copy(source.with_suffix(".json"), path.with_suffix(".json"))
    with pytest.raises(ArgumentError, match="SHA-256"):
        codec.load(path)


def test_declared_sizes_take_no_memory_before_they_fit(tmp_path: Path) -> None:
    """A small file may declare a codebook of 275 GB: the shapes are compared first."""
    config, tensors = load_weights(packaged(NAME))
    config |= {"in_size": 256, "latent_channels": 1024, "codewords": 4096}
    save_weights(tmp_path / "m.safetensors", tensors, config)
    with pytest.raises(ArgumentError, match="do not fit"):
        codec.load(tmp_path / "m.safetensors")


def test_a_loaded_codec_can_be_trained_on() -> None:
    model = codec.load("efficientnet-lite0")
    assert {p.device.type for p in model.state_dict().values()} == {"cpu"}
    assert all(p.requires_grad for p in model.parameters())
