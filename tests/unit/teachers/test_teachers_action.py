"""The action recogniser: shapes, gradients, files, and what it tells apart."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import foveal
from foveal import motion
from foveal.data.figure_looks import draw_looks
from foveal.data.figures import Cameras, Solids, render
from foveal.errors import ArgumentError, ShapeError
from foveal.motion.shapes import world_shapes
from foveal.teachers.action import ActionNet

NAMES = ("left", "right")


def small(**options) -> ActionNet:
    torch.manual_seed(0)
    return ActionNet(NAMES, **{"size": 32, "frames": 8, "widths": (4, 6, 8, 10), **options})


def moving(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright bar that moves to the left or to the right over noise; no frame tells which."""
    label = torch.randint(2, (count,), generator=generator)
    start = torch.randint(32, (count,), generator=generator)
    clips = 0.3 * torch.rand(count, 3, 8, 32, 32, generator=generator)
    for i in range(count):
        for t in range(8):
            step = 3 * t * (1 if label[i] else -1)
            at = (torch.arange(6) + int(start[i]) + step) % 32
            clips[i, :, t, :, at] += 0.6
    return clips, label


def test_answers_features_and_size() -> None:
    net = ActionNet([f"a{i}" for i in range(14)]).eval()
    assert 300_000 < sum(p.numel() for p in net.parameters()) < 1_000_000
    assert (net.size, net.frames, net.activation) == (80, 16, "softmax")
    x = torch.rand(1, 3, 16, 80, 80)
    with torch.no_grad():
        assert net(x).shape == (1, 14)
        grids = [tuple(net.features(x, p).shape[2:]) for p in net.points]
    assert grids == [(16, 40, 40), (16, 20, 20), (8, 10, 10), (4, 10, 10)]


def test_it_learns_what_only_motion_tells() -> None:
    net, g = small(), torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(25):
        x, y = moving(12, g)
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    x, y = moving(64, g)
    with torch.no_grad():
        right = (net(x).argmax(1) == y).float().mean()
        still = x[:, :, :1].expand_as(x)
        guessed = (net(still).argmax(1) == y).float().mean()
        backward = (net(x.flip(2)).argmax(1) == y).float().mean()
    assert right > 0.9
    assert guessed < 0.75
    assert backward < 0.1


def test_gradients_reach_the_pixels_of_every_frame() -> None:
    net = small().eval().requires_grad_(False)
    x = torch.rand(1, 3, 8, 32, 32, requires_grad=True)
    net(x)[0, 0].backward()
    assert x.grad is not None
    assert bool((x.grad.abs().sum((0, 1, 3, 4)) > 0).all())


def test_clips_of_other_sizes_come_in() -> None:
    net = small()
    clip = torch.rand(2, 3, 8, 32, 32)
    assert net.preprocess(clip) is not None
    torch.testing.assert_close(net.preprocess(clip), clip)
    wide = torch.cat([torch.zeros(2, 3, 8, 32, 7), clip, torch.zeros(2, 3, 8, 32, 7)], -1)
    torch.testing.assert_close(net.preprocess(wide), clip)
    big = torch.nn.functional.interpolate(clip, (8, 64, 64), mode="nearest")
    torch.testing.assert_close(net.preprocess(big).mean(), clip.mean(), atol=0.01, rtol=0)
    numbered = torch.arange(24.0)[None, None, :, None, None].expand(1, 3, 24, 32, 32) / 24
    assert (net.preprocess(numbered)[0, 0, :, 0, 0] * 24).tolist() == pytest.approx(
        [1, 4, 7, 10, 13, 16, 19, 22]
    )
    short = numbered[:, :, :4]
    assert (net.preprocess(short)[0, 0, :, 0, 0] * 24).tolist() == pytest.approx(
        [0, 0, 1, 1, 2, 2, 3, 3]
    )


def test_files_bring_it_back(tmp_path) -> None:
    net = small()
    net.stem[1].running_mean.add_(0.5)
    net.save(tmp_path / "a.safetensors")
    again = ActionNet.load(tmp_path / "a.safetensors")
    assert again.names == NAMES
    assert (again.size, again.frames) == (32, 8)
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    x = torch.rand(2, 3, 8, 32, 32)
    torch.testing.assert_close(again(x), net.eval()(x))
    sidecar = tmp_path / "a.json"
    text = json.loads(sidecar.read_text())
    for key, value in (
        ("widths", [4, 6, 8, 12]), ("widths", [4, 6, 8, 10**9]), ("widths", 4),
        ("names", ["one"]), ("names", "ab"), ("names", [["a"], ["b"]]), ("names", 2),
        ("size", "large"), ("size", 32.0), ("size", 10**9), ("frames", True), ("frames", 10**9),
        ("model", "FlowNet"),
    ):  # fmt: skip
        changed = {**text, "config": {**text["config"], key: value}}
        sidecar.write_text(json.dumps(changed))
        with pytest.raises(ArgumentError, match=r"ActionNet.*(is|holds)"):
            ActionNet.load(tmp_path / "a.safetensors")
    del text["config"]["names"]
    sidecar.write_text(json.dumps(text))
    with pytest.raises(ArgumentError, match="not of this network"):
        ActionNet.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"names": ("one",)}, "names is"),
        ({"names": ("one", "one")}, "names is"),
        ({"size": 8}, "size is 8"),
        ({"frames": 2}, "frames 2"),
        ({"widths": (4, 4, 4)}, "widths is"),
    ],
)
def test_bad_arguments_are_named(options, words) -> None:
    names = options.pop("names", NAMES)
    with pytest.raises(ArgumentError, match=words):
        ActionNet(names, **options)


@pytest.mark.parametrize(
    ("level", "words"),
    [(math.nan, "from nan"), (255.0, "divide 8 bit by 255"), (-0.5, "from -0.5")],
)
def test_bad_values_are_named(level, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        small().preprocess(torch.full((1, 3, 8, 32, 32), level))


def test_double_precision_comes_in() -> None:
    net, clip = small().eval(), torch.rand(1, 3, 8, 40, 32, dtype=torch.float64)
    answer = net(net.preprocess(clip))
    torch.testing.assert_close(answer, net(net.preprocess(clip.float())), atol=1e-5, rtol=0)


def test_unknown_points_and_small_clips_are_named() -> None:
    net = small()
    with pytest.raises(ArgumentError, match="point is 'neck'"):
        net.features(torch.rand(1, 3, 8, 32, 32), "neck")
    with pytest.raises(ShapeError, match="must have 4 frames"):
        net(torch.rand(1, 3, 3, 32, 32))


def test_wrong_shapes_and_types_are_named() -> None:
    net = small()
    with pytest.raises(ShapeError, match="frames come after the channels"):
        net(torch.rand(1, 8, 3, 32, 32))
    with pytest.raises(ShapeError, match="must be"):
        net.preprocess(torch.rand(1, 3, 32, 32))
    with pytest.raises(ArgumentError, match="divide by 255"):
        net(torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8))


def front_view(net: ActionNet, name: str) -> torch.Tensor:
    """The scripted action as it is in the library, plain before a plain room: (1, 3, t, s, s)."""
    clip = motion.generate(name, track="kinematic", fps=15)
    shapes = world_shapes(clip)
    span, count = 27, net.frames  # 1.8 s around the middle
    start = max(0, (clip.num_frames - span) // 2)
    at = np.linspace(start, min(start + span, clip.num_frames - 1), count).round().astype(int)
    centers = torch.tensor(shapes.centers[at], dtype=torch.float32)
    centers[..., :2] -= centers[:, :1, :2].mean(0)
    solids = Solids(
        centers[None],
        torch.tensor(shapes.turns[at], dtype=torch.float32)[None],
        torch.tensor(shapes.sizes, dtype=torch.float32)[None],
        shapes.is_box,
    )
    one = torch.ones(1)
    camera = Cameras(0.3 * one, 0.15 * one, 2.8 * one, 0.75 * one, torch.tensor([[0, 0, 0.9]]))
    g = torch.Generator().manual_seed(1)
    looks = draw_looks([0] * len(shapes.is_box), 1, g, azimuth=camera.azimuth)
    colors = torch.tensor([0.5, 0.06, 0.04])[None, :, None, None].expand(1, 3, 2, 3)
    looks = replace(looks, pattern=torch.zeros_like(looks.pattern), colors=colors)
    return render(solids, camera, looks, height=net.size, width=net.size).transpose(1, 2)


@pytest.mark.skipif(
    not (Path(foveal.__file__).parent / "weights" / "action.safetensors").exists(),
    reason="the weights are not packaged yet",
)
def test_packaged_weights_name_the_library() -> None:
    net = ActionNet.load()
    assert set(net.names) == set(motion.ACTIONS)
    clips = {name: front_view(net, name) for name in net.names}
    with torch.no_grad():
        answers = {name: net.names[int(net(x).argmax())] for name, x in clips.items()}
        still = [
            net.names[int(net(x[:, :, 8:9].expand_as(x)).argmax())] == name
            for name, x in clips.items()
        ]
    wrong = {a: b for a, b in answers.items() if a != b}
    assert len(wrong) <= 3, wrong
    assert sum(still) <= 9
    torch.manual_seed(0)
    grainy = {name: (x + 0.03 * torch.randn_like(x)).clamp(0, 1) for name, x in clips.items()}
    with torch.no_grad():
        kept = sum(net.names[int(net(x).argmax())] == name for name, x in grainy.items())
    assert kept >= 9, "a recogniser that no grain is allowed to has nothing to see in the dark"
