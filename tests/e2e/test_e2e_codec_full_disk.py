"""Training a codec from the command line where the disk is full at the end."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from foveal.cli.app import app
from foveal.codec.model import FeatureCodec
from foveal.errors import ArgumentError

pytestmark = pytest.mark.e2e


def test_the_command_line_says_where_the_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: Any
) -> None:
    (tmp_path / "in").mkdir()
    for i in range(8):
        pixels = (torch.rand(16, 16, 3) * 255).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "in" / f"{i}.png")
    (tmp_path / "planes_of_training.py").write_text(
        "import torch\n\nclass Planes:\n"
        "    def preprocess(self, images):\n        return images[:, :, :16, :16]\n"
        "    def encode(self, images):\n        return images[:, :2]\n"
        "    def decode(self, features):\n        return features.mean((2, 3))\n"
    )
    full_disk.only_other(tmp_path / "else")
    monkeypatch.chdir(tmp_path)
    options = "networks=tint@planes_of_training:Planes steps=2 batch=2 views=1 channels=4 hidden=4"
    words = ["train", "codec", "in", "full/m.safetensors"]
    words += [w for option in f"{options} device=cpu".split() for w in ("-o", option)]
    kept = ["--resume", "kept/c.safetensors"]
    full_disk.fill_after_training(tmp_path / "full")
    failed = CliRunner().invoke(app, [*words, *kept, "--json"])
    assert isinstance(failed.exception, ArgumentError)
    found = json.loads(failed.stdout)
    assert f"the trained model is in {found['output']}: move it" in str(failed.exception)
    assert FeatureCodec.load(found["output"]).model_id.hex() == found["model_id"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    again = CliRunner().invoke(app, [*words, *kept], catch_exceptions=False).stdout
    assert "c.safetensors: checkpoint of this very training, finished at step 2: 0 steps" in again
    assert (
        FeatureCodec.load(tmp_path / "full" / "m.safetensors").model_id.hex() == found["model_id"]
    )
