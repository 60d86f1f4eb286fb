"""What the action recogniser learns from: motions that differ, splits that share nothing."""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.lowlight import ConcaveCurve
from foveal.teachers.action import ActionNet

TOOLS = str(Path(__file__).parents[3] / "tools")


@pytest.fixture(scope="module")
def tools():
    sys.path.insert(0, TOOLS)
    try:
        import action_clips
        import align_action
    finally:
        sys.path.remove(TOOLS)
    return action_clips, align_action


@pytest.fixture(scope="module")
def banks(tools):
    clips, _ = tools
    return {s: clips.bank(s, 2, "cpu", names=("wave", "squat")) for s in ("train", "val", "test")}


def drawn(tools, banks, split: str, *, seed: int = 0, photos=None):
    return tools[0].Clips(banks[split], split, size=24, frames=6, photos=photos, seed=seed)


def test_motions_repeat_by_seed_and_no_two_are_alike(tools, banks) -> None:
    again = tools[0].bank("val", 2, "cpu", names=("wave", "squat"))
    assert torch.equal(again.places, banks["val"].places)
    found = []
    for bank in banks.values():
        assert bank.label.tolist() == [0, 0, 1, 1]
        for first, length in zip(bank.first.tolist(), bank.length.tolist(), strict=True):
            found.append(bank.places[first : first + length])
        assert first + length == len(bank.places)
    for i, one in enumerate(found):
        for other in found[:i]:
            least = min(len(one), len(other))
            assert float((one[:least] - other[:least]).abs().max()) > 0.02


def test_what_waves_has_a_hand_up_and_what_squats_a_low_pelvis(tools, banks) -> None:
    from foveal import motion

    skeleton = motion.humanoid()
    bodies = [skeleton.names[shape.body] for shape in skeleton.shapes]
    hands = [bodies.index(f"{side}_hand") for side in ("left", "right")]
    height = banks["train"].places[..., 2]
    head, pelvis = height[:, bodies.index("head")], height[:, bodies.index("pelvis")]
    parts = height[:, hands].amax(1) > head, pelvis < 0.8 * pelvis[0]
    for label in range(2):
        for i in (2 * label, 2 * label + 1):
            some = slice(
                banks["train"].first[i], banks["train"].first[i] + banks["train"].length[i]
            )
            assert [bool(x[some].any()) for x in parts] == [label == 0, label == 1]


def test_bodies_stay_bodies_when_they_are_mirrored_and_resized(tools, banks) -> None:
    clips = drawn(tools, banks, "train")
    solids = clips.solids(torch.tensor([0, 1, 2, 3] * 8))
    torch.testing.assert_close(torch.linalg.det(solids.turns), torch.ones(solids.turns.shape[:3]))
    assert float(solids.centers[..., 2].min()) > -0.02
    middle = solids.centers[:, :, 0, :2].mean(1)
    torch.testing.assert_close(middle, torch.zeros_like(middle), atol=1e-5, rtol=0)
    assert len(torch.unique(solids.sizes[:, 0, 0])) == 32
    # A solid is mirrored with its axes: where y is turned round, so are they.
    bank = banks["train"]
    turned = bank.places[bank.first[0] : bank.first[0] + bank.length[0], :, 3:]
    turned = turned.unflatten(-1, (3, 3))
    flip = torch.tensor([1.0, -1, 1])
    kept = {False: 0, True: 0}
    for row in range(0, 32, 4):
        for mirrored in kept:
            wanted = turned * torch.outer(flip, flip) if mirrored else turned
            near = (solids.turns[row, 0] - wanted).abs().amax((1, 2, 3)).min()
            kept[mirrored] += int(near < 1e-5)
    assert sum(kept.values()) >= 8
    assert min(kept.values()) > 0


def test_test_cameras_stand_where_training_never_stood(tools, banks) -> None:
    found = {}
    for split in ("train", "val", "test"):
        cameras, looks = drawn(tools, banks, split).looks(200)
        found[split] = cameras.azimuth.abs().rad2deg()
        assert looks.backdrop is None
    for split in ("train", "val"):
        assert not bool(((found[split] > 35.1) & (found[split] < 59.9)).any())
    assert bool(((found["test"] > 34.9) & (found["test"] < 60.1)).all())
    assert not torch.equal(found["train"], found["val"])


def test_clips_repeat_by_seed(tools, banks) -> None:
    one, two, other = (drawn(tools, banks, "test", seed=s).batch(3) for s in (0, 0, 1))
    assert one[0].shape == (3, 6, 3, 24, 24)
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[0], other[0])
    assert float((one[0][:, 1:] - one[0][:, :-1]).abs().amax()) > 0.05


def test_photographs_are_read_or_missed_aloud(tools, tmp_path) -> None:
    read = tools[0].photographs
    assert read(None, 8, "cpu") is None
    with pytest.raises(SystemExit, match="holds no picture"):
        read(tmp_path / "none", 8, "cpu")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(SystemExit, match="holds no picture"):
        read(tmp_path, 8, "cpu")
    half = np.zeros((20, 40, 3), np.uint8)
    half[:, 10:30] = 200  # the middle square
    Image.fromarray(half).save(tmp_path / "a.png")
    found = read(tmp_path, 8, "cpu")
    assert found.shape == (1, 3, 8, 8)
    assert int(found.min()) > 150
    assert int(found[..., 1:-1].min()) == 200


def test_a_curve_of_another_run_is_not_taken_for_one_of_this(tools, tmp_path) -> None:
    align = tools[1]
    net = ActionNet(("a", "b"), size=16, frames=4, widths=(4, 4, 4, 4))
    args = argparse.Namespace(photos=None, steps=3, seed=0, clips=9, out=tmp_path)
    file = tmp_path / "action--ensemble.safetensors"
    assert not align.is_of_this_run(file, net, args)
    ConcaveCurve().save(file)
    assert not align.is_of_this_run(file, net, args)  # it was broken off before the log
    log = {"learned_by": align.learned_by(net, args)}
    file.with_suffix(".log.json").write_text(json.dumps(log))
    assert align.is_of_this_run(file, net, args)
    args.clips = 5  # of the judgement only
    assert align.is_of_this_run(file, net, args)
    args.steps = 4
    assert not align.is_of_this_run(file, net, args)
    args.steps = 3
    with torch.no_grad():
        net.head.bias.add_(math.pi)
    assert not align.is_of_this_run(file, net, args)
