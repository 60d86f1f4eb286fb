"""The world is frozen: seeds, splits, held-out layouts, goldens, targets, errors."""

import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from foveal.data import taskworld
from foveal.data.taskworld.scenes import LAYOUTS
from foveal.data.taskworld.world import CLASSES, MAX_COUNT, MAX_SOLIDS, SCENES, SPLITS, Dice
from foveal.errors import ArgumentError, UnsupportedError

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "taskworld"
DRIFT = 0.01
"""Share of pixels that may differ by more than 3 of 255: devices differ at edges."""

CHECKED = pytest.mark.skipif(
    hasattr(taskworld.fingerprint, "__wrapped__"), reason="slow under a type checker of every call"
)


def freezer():
    """The tool that made the goldens."""
    spec = importlib.util.spec_from_file_location("freeze", ROOT / "tools" / "freeze_taskworld.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@CHECKED
def test_the_world_is_that_of_its_version():
    """If this fails, the world has changed: that is another VERSION, with goldens of its own."""
    golden = json.loads((GOLDEN / "fingerprints.json").read_text())
    assert taskworld.VERSION == golden["version"] == "taskworld-1"
    found = {s: taskworld.fingerprint(s, range(golden["seeds"])) for s in SPLITS}
    assert found == golden["fingerprints"]


def differences(split: str, device: str) -> dict[str, float]:
    with np.load(GOLDEN / f"{split}.npz") as stored:
        golden = {name: stored[name] for name in stored.files}
    scenes = [taskworld.sample(i, split) for i in range(len(golden["scene_class"]))]
    found = freezer().eight_bit(taskworld.render(scenes, golden["depth"].shape[-1], device))
    assert set(found) == set(golden)
    apart = {n: np.abs(found[n].astype(int) - golden[n].astype(int)) for n in golden}
    exact = ("segmentation", "scene_class", "object_count")
    return {n: float((a > (0 if n in exact else 3)).mean()) for n, a in apart.items()}


@pytest.mark.parametrize("split", ["val", "shift"])
def test_renders_are_those_of_the_version(split):
    drift = differences(split, "cpu")
    assert drift["scene_class"] == 0
    assert drift["object_count"] <= 1 / 8  # a thing at the threshold
    del drift["object_count"]
    assert max(drift.values()) <= DRIFT, drift


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("split", ["val", "shift"])
def test_a_gpu_draws_the_same_world(split):
    drift = differences(split, "cuda")
    assert drift["scene_class"] == 0
    assert drift["object_count"] <= 1 / 8
    del drift["object_count"]
    assert max(drift.values()) <= DRIFT, drift


def test_dice_by_hand():
    """Philox 4x64 with the first half of SHA-256 of the key: whoever has both can draw a scene."""
    dice = Dice("taskworld-1", "train", 0)
    assert dice.unit() == pytest.approx(Dice("taskworld-1", "train", 0).unit(), abs=0)
    draws = [Dice("a", i).unit() for i in range(400)]
    assert len(set(draws)) == 400
    assert np.mean(draws) == pytest.approx(0.5, abs=0.06)
    counts = Counter(dice.count(2, 4) for _ in range(600))
    assert set(counts) == {2, 3, 4}
    assert min(counts.values()) > 140
    assert sorted(dice.order(7)) == list(range(7))
    assert {dice.sign() for _ in range(40)} == {-1, 1}
    assert all(1 <= dice.scale(1, 9) < 9 for _ in range(50))


def test_seeds_repeat_and_differ():
    one = taskworld.sample(5, "train")
    assert one == taskworld.sample(5, "train")
    assert one != taskworld.sample(6, "train")
    assert taskworld.fingerprint("val", [3, 4]) == taskworld.fingerprint("val", range(3, 5))
    assert taskworld.fingerprint("val", [3]) != taskworld.fingerprint("val", [4])


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[taskworld.Scene]]:
    return {split: [taskworld.sample(i, split) for i in range(70)] for split in SPLITS}


def test_splits_share_no_scene(drawn):
    seen: dict[tuple, str] = {}
    for split in SPLITS:
        for scene in drawn[split]:
            assert seen.setdefault((scene.camera, scene.solids), split) == split
    assert len(seen) == 70 * len(SPLITS)


def test_held_out_layouts_are_in_no_other_split(drawn):
    layouts = {split: {(s.scene_class, s.layout) for s in drawn[split]} for split in SPLITS}
    kinds = {name: LAYOUTS[name][0] for name in SCENES}
    assert set(LAYOUTS) == set(SCENES)
    assert min(kinds.values()) >= 4
    assert layouts["shift"] == {(i, kinds[n] - 1) for i, n in enumerate(SCENES)}
    others = layouts["train"] | layouts["val"] | layouts["test"]
    assert others == {(i, k) for i, n in enumerate(SCENES) for k in range(kinds[n] - 1)}


def test_scenes_are_whole_and_not_too_large(drawn):
    for scene in drawn["train"] + drawn["shift"]:
        assert 8 <= len(scene.solids) <= MAX_SOLIDS
        things = {s.thing for s in scene.solids} - {-1}
        assert things == set(range(len(things)))
        assert 1 <= len(things) <= MAX_COUNT
        camera = scene.camera
        assert 1.0 <= camera.position[2] <= 2.2
        assert 50 <= np.degrees(camera.fov) <= 75
        assert abs(camera.roll) <= 0.05
        assert abs(camera.pitch) <= 0.3


def test_tasks_are_not_trivial():
    """No class of scene, count or segment is most of the world; pictures are not dark or flat."""
    scenes = [taskworld.sample(i, "val") for i in range(96)]
    labels = taskworld.render(scenes, 32)
    counts = torch.bincount(labels.object_count, minlength=MAX_COUNT + 1)
    assert int(counts.max()) < 40
    assert int((counts > 0).sum()) >= 7
    share = torch.bincount(labels.segmentation.flatten(), minlength=len(CLASSES)).float()
    share = share / share.sum()
    assert float(share.max()) < 0.4
    assert float(share.min()) > 0.002
    assert int(torch.bincount(labels.scene_class, minlength=len(SCENES)).min()) >= 4
    means = labels.image.mean((1, 2, 3))
    assert float(means.min()) > 0.2
    assert float(means.max()) < 0.8
    assert float(labels.image.std((2, 3)).mean(1).min()) > 0.05


def test_the_statistics_are_those_of_photographs():
    measured = json.loads((ROOT / "docs" / "taskworld.json").read_text())
    assert measured["version"] == taskworld.VERSION
    for split in ("val", "shift"):
        ratio = measured[split]["bits_per_pixel"][1] / measured["photographs"]["bits_per_pixel"][1]
        assert 0.8 <= ratio <= 1.2
    tool = freezer()
    found = np.median([tool.bits(p) for p in tool.drawn("val", 16, 256)])
    low, _, high = measured["val"]["bits_per_pixel"]
    assert low < found < high


def test_the_page_prints_what_was_measured():
    measured = json.loads((ROOT / "docs" / "taskworld.json").read_text())
    page = (ROOT / "docs" / "taskworld.md").read_text()
    for name in ("photographs", "val", "shift"):
        row = measured[name]
        low, mid, high = row["bits_per_pixel"]
        a, b, c = row["spectrum_slope"]
        bits = f"| {row['pictures']} | {mid:.3f} ({low:.3f} to {high:.3f}) |"
        assert f"{bits} {b:.3f} ({a:.3f} to {c:.3f}) |" in page, name


def test_bits_and_slopes_by_hand():
    tool = freezer()
    flat = np.full((256, 256, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (256, 256, 3)).astype(np.uint8)
    assert tool.bits(flat) < 0.05
    assert tool.bits(noise) > 2
    assert tool.slope(noise) == pytest.approx(0, abs=0.05)
    y, x = np.indices((256, 256))
    wave = np.hypot(np.minimum(x, 256 - x), np.minimum(y, 256 - y))
    wave[0, 0] = 1
    pink = np.fft.ifft2(np.fft.fft2(rng.normal(size=(256, 256))) / wave).real
    pink = np.clip(128 + 40 * pink / pink.std(), 0, 255).astype(np.uint8)
    assert tool.slope(np.repeat(pink[..., None], 3, 2)) == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize("seed", [-1, True, 2**63], ids=repr)
def test_bad_seeds_are_named(seed):
    with pytest.raises(ArgumentError, match=re.escape(f"sample: seed is {seed!r}, must be")):
        taskworld.sample(seed)


@pytest.mark.parametrize("size", [0, -16, 16, 33, 40, 65, 1040, 10**9, True], ids=repr)
def test_bad_sizes_are_named(size):
    scene = taskworld.sample(0)
    text = f"render: size is {size!r}, must be a multiple of 16 from 32 to 1024"
    with pytest.raises(ArgumentError, match=re.escape(text)):
        taskworld.render([scene], size)


def test_other_bad_input_is_named():
    scene = taskworld.sample(0)
    with pytest.raises(ArgumentError, match="sample: split is 'Train', must be one of train, val"):
        taskworld.sample(0, "Train")
    with pytest.raises(ArgumentError, match="fingerprint: seeds is empty"):
        taskworld.fingerprint("val", [])
    with pytest.raises(ArgumentError, match="render: scenes is empty, must hold a scene"):
        taskworld.render([])
    with pytest.raises(UnsupportedError, match="render: device is 'moon', must be one that torch"):
        taskworld.render([scene], 32, "moon")
