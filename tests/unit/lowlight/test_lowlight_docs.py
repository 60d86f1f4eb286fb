"""The ten lines of docs/lowlight/align.md run."""

import re
import sys
import types
from pathlib import Path

import torch
from torch import nn

from foveal import lowlight

PAGE = Path(__file__).parents[3] / "docs" / "lowlight" / "align.md"


def test_ten_lines_adapt_a_model(tmp_path, monkeypatch) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len([line for line in snippet.splitlines() if line]) <= 11
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        lowlight.write_image(Path("night") / f"{i}.jpg", torch.rand(3, 40, 50) * 0.1)

    def small(weights: str) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 8, stride=8), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 28 * 28, 2)
        )

    models = types.ModuleType("torchvision.models")
    models.resnet18 = small
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    # Two steps are enough here.
    call = lowlight.align
    monkeypatch.setattr(
        lowlight, "align", lambda *a, **k: call(*a, num_steps=2, confidence=0.0, **k)
    )
    functional = types.ModuleType("torchvision.transforms.functional")
    functional.normalize = lambda x, mean, std: (
        (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    )
    monkeypatch.setitem(sys.modules, "torchvision.transforms", types.ModuleType("transforms"))
    monkeypatch.setitem(sys.modules, "torchvision.transforms.functional", functional)
    scope = {}
    exec(compile(snippet, "align.md", "exec"), scope)
    assert scope["bright"].shape == (3, 40, 50)
    again = lowlight.ConcaveCurve.load("mine.safetensors")
    assert torch.equal(again.fc.weight, scope["curve"].fc.weight)
