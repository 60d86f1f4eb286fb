"""Where a fitted model goes: tried before the training, and never lost after it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from foveal.codec import saving, schemes
from foveal.codec.fit import Fit, fit
from foveal.codec.model import FeatureCodec
from foveal.codec.training import TrainOptions
from foveal.errors import ArgumentError

SIZES = schemes.Sizes(4, 2, 4, 4, 0, "factorized")
OPTIONS = TrainOptions(steps=3, batch=4, warm_up=0.0)


class Planes:
    """Two planes of a picture; the answer is their means."""

    def encode(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, 2)[:, :2]

    def decode(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


def pictures() -> list[Tensor]:
    return list(torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1)))


def fitted(target: Path | None, seen: list[int] | None = None, steps: int = 3) -> Fit:
    return fit(
        {"tint": Planes()},
        pictures(),
        sizes=SIZES,
        options=replace(OPTIONS, steps=steps),
        target=target,
        progress=None if seen is None else lambda step, _: seen.append(step),
    )


def test_the_place_is_tried_and_the_training_is_the_same(tmp_path: Path) -> None:
    target = tmp_path / "new" / "m.safetensors"
    done, plain = fitted(target), fitted(None)
    assert (done.saved, done.problem, plain.saved) == (target, "", None)
    assert sorted(p.name for p in target.parent.iterdir()) == ["m.json", "m.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["new"]
    assert FeatureCodec.load(target).model_id == done.model.model_id == plain.model.model_id


def test_a_place_that_cannot_be_written_ends_it_at_once(tmp_path: Path, full_disk: Any) -> None:
    steps: list[int] = []
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(ArgumentError, match=r"folder\.safetensors, a folder or a device, must be"):
        fitted(tmp_path / "folder.safetensors", steps)
    with pytest.raises(ArgumentError, match=r"target is .*m\.bin, must end in \.safetensors"):
        fitted(tmp_path / "m.bin", steps)
    with pytest.raises(ArgumentError, match=r"which cannot be written \(.*File name too long"):
        fitted(tmp_path / f"{'m' * 300}.safetensors", steps)
    (tmp_path / "old.safetensors").write_bytes(b"something dear")
    full_disk.fill(tmp_path)
    message = (
        rf"fit: target is .*old.*, which cannot be written \(.*{full_disk.error}\), "
        "must be writable before"
    )
    with pytest.raises(ArgumentError, match=message):
        fitted(tmp_path / "old.safetensors", steps)
    assert steps == []
    assert (tmp_path / "old.safetensors").read_bytes() == b"something dear"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.safetensors", "old.safetensors"]


def test_a_disk_that_is_full_at_the_end(tmp_path: Path, full_disk: Any) -> None:
    full_disk.only_other(tmp_path / "else")
    target = tmp_path / "full" / "m.safetensors"
    full_disk.fill_after_training(target.parent)
    done = fitted(target)
    assert done.saved is not None
    assert done.saved.is_relative_to(tmp_path / "else")
    assert FeatureCodec.load(done.saved).model_id == done.model.model_id
    assert f"{target} cannot be written any more" in done.problem
    assert full_disk.error in done.problem
    assert done.problem.endswith(f"the trained model is in {done.saved}: move it and its .json")
    assert not target.exists()


def test_no_place_at_all_leaves_the_model_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: Any
) -> None:
    full_disk.only_other(tmp_path / "else")
    model = fitted(None).model
    full_disk.fill(tmp_path)
    saved, problem = saving.save_somewhere(model, tmp_path / "m.safetensors")
    assert saved is None
    assert problem.endswith("nor can any other place; the trained model is in memory alone")
    assert list((tmp_path / "else").iterdir()) == []
    monkeypatch.undo()
    assert saving.save_somewhere(model, tmp_path / "m.safetensors")[1] == ""
