"""Clips: judged in the dark with one curve and new noise a frame, and aligned to by a 3-D net."""

import copy

import pytest
import torch

from foveal import lowlight
from foveal.data.sensor_noise import Shot, shoot
from foveal.errors import ArgumentError
from foveal.lowlight.evaluate import UNTOUCHED, evaluate, in_the_dark, judge_in_the_dark
from foveal.teachers import Detections
from foveal.teachers.action import ActionNet

TRIPLE = (0.02, 1e-6, 1e-9)
DARK = (0.01, 1e-4, 1e-6)


class Direction:
    """Names whether a clip gets brighter (1) or darker (0): nothing that one frame tells."""

    def preprocess(self, images):
        assert images.ndim == 5
        assert images.shape[1:3] == (3, 4)  # channels first, then frames
        return images

    def __call__(self, x):
        means = x.mean((1, 3, 4))
        rise = means[:, -1] - means[:, 0] - 0.1
        return torch.stack([-rise, rise], 1)


def ramps(n: int) -> list[torch.Tensor]:
    level = torch.linspace(0.3, 0.7, 4)[:, None, None, None].expand(4, 3, 16, 12)
    return [level.flip(0) if i % 2 else level for i in range(n)]


def back(x: torch.Tensor) -> torch.Tensor:
    from foveal.data.sensor_noise import linear_to_srgb, srgb_to_linear

    return linear_to_srgb((srgb_to_linear(x) / TRIPLE[0]).clamp(0, 1))


def test_clips_are_judged_whole() -> None:
    seen: list[tuple[int, ...]] = []

    def spy(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape[1:]))
        return back(x)

    def own(x: torch.Tensor) -> torch.Tensor:
        """What a curve for every frame of its own would do: no frame stays darker than another."""
        return x / x.mean((1, 2, 3), keepdim=True) * 0.5

    (table,) = evaluate(
        Direction(), ramps(6), list(range(6)), {"back": spy, "own": own}, triples=[TRIPLE], draws=2
    )
    rows = {row.method: row for row in table}
    assert set(seen) == {(3, 4 * 16, 12)}  # frames below each other
    assert rows[UNTOUCHED].agreement == 0.5  # whatever is dark gets no brighter
    assert rows["back"].agreement == 1
    assert rows["own"].agreement == 1  # a clip is brightened as one
    assert rows["back"].num_items == 12


def test_each_frame_has_its_own_noise_and_a_seed_repeats_it() -> None:
    clip = torch.full((3, 3, 24, 24), 0.5)

    def dark(seed: int = 0) -> torch.Tensor:
        ((items, found),) = in_the_dark([clip, clip], DARK, draws=2, seed=seed)
        assert items == [(0, 0), (0, 1), (1, 0), (1, 1)]
        return found

    found = dark()
    assert found.shape == (4, 3, 3, 24, 24)
    frames = found.flatten(0, 1)
    for i in range(12):
        for j in range(i):
            assert not torch.equal(frames[i], frames[j])
    assert torch.equal(found, dark())
    assert not torch.equal(found, dark(seed=7))
    ((_, pictures),) = in_the_dark([clip[0], clip[0]], DARK, draws=2, seed=0)
    torch.testing.assert_close(found[:, 0], pictures)  # as a single picture


def test_true_labels_take_the_place_of_the_daylight_answer() -> None:
    clips, groups = ramps(4), list(range(4))

    def judged(labels):
        found = judge_in_the_dark(
            Direction(), clips, groups, {"back": back}, triples=[TRIPLE], draws=1, labels=labels
        )
        return next(found).again["back"]

    assert judged(None) == [1, 1, 1, 1]
    assert judged([1, 0, 1, 0]) == [1, 1, 1, 1]
    assert judged([1, 1, 1, 1]) == [1, 0, 1, 0]
    with pytest.raises(ArgumentError, match="labels has 3"):
        judged([0, 0, 0])


def test_detectors_see_no_clips() -> None:
    class Finds(Direction):
        def detect(self, images, *, threshold=0.3):
            none = torch.zeros(0, dtype=torch.long)
            return [Detections(torch.zeros(0, 4), torch.zeros(0), none, ("a",))] * len(images)

    for pictures, labels in ((ramps(1), None), ([torch.rand(3, 8, 8)], [0])):
        with pytest.raises(ArgumentError, match="must name classes"):
            next(evaluate(Finds(), pictures, [0], {}, labels=labels))


def bars(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A bar that moves to the left (0) or to the right (1) before a picture with an up."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (count,), generator=g)
    start = torch.randint(32, (count,), generator=g).tolist()
    bumps = torch.rand(count, 3, 5, 5, generator=g)
    wall = torch.nn.functional.interpolate(bumps, (32, 32), mode="bilinear")
    slope = torch.linspace(0.5, 0, 32)[:, None]
    clips = (0.5 * slope + 0.2 * wall)[:, None].repeat(1, 6, 1, 1, 1)
    for i in range(count):
        for t in range(6):
            at = (torch.arange(6) + start[i] + 4 * t * (1 if label[i] else -1)) % 32
            clips[i, t, :, 4:28, at] += 0.3
    return clips, label


@pytest.fixture(scope="module")
def net() -> ActionNet:
    torch.manual_seed(0)
    net = ActionNet(("left", "right"), size=32, frames=6, widths=(6, 8, 10, 12))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(30):
        x, y = bars(12, step)
        loss = torch.nn.functional.cross_entropy(net(x.transpose(1, 2)), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


def night(clips: torch.Tensor, seed: int) -> torch.Tensor:
    frames = clips.flatten(0, 1)
    shots = [Shot.of_triple(DARK, seed=seed + i) for i in range(len(frames))]
    return shoot(frames, shots).unflatten(0, clips.shape[:2])


def right(net: ActionNet, clips: torch.Tensor, label: torch.Tensor) -> float:
    with torch.no_grad():
        return float((net(clips.transpose(1, 2)).argmax(1) == label).float().mean())


def align(net: ActionNet, method: str, **options):
    """Align on other clips; return the curve and the steps."""
    before = copy.deepcopy(net.state_dict())
    steps: list[lowlight.AlignmentStep] = []
    curve = lowlight.align(
        net,
        dark=night(bars(32, 200)[0], 9000),
        normal=bars(32, 300)[0],
        method=method,
        num_steps=40,
        learning_rate=3e-3,
        check_every=10,
        on_step=steps.append,
        **options,
    )
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    return curve, [s.loss for s in steps if s.stage == "curve"], steps


def test_the_pretext_lets_a_recogniser_of_clips_see_motion_again(net) -> None:
    day, label = bars(64, 100)
    assert right(net, day, label) > 0.95
    dark = night(day, 5)
    curve, _, _ = align(net, "pretext", head_steps=80)
    with torch.no_grad():
        tall = dark.transpose(1, 2).flatten(2, 3)
        lit = curve(tall).unflatten(2, (6, 32)).transpose(1, 2)
    assert curve.predict_clip(dark[0]).shape == (1, 3, 256)
    assert right(net, dark, label) < 0.6
    assert right(net, lit, label) > 0.65


def test_the_ensemble_asks_about_clips(net) -> None:
    curve, losses, steps = align(net, "ensemble", confidence=0.0, start=2.0)
    assert [s.step for s in steps if s.stage == "labels"] == [8, 16, 24, 32]
    assert sum(losses[-5:]) < sum(losses[:5])
    dark = night(bars(4, 7)[0], 77)
    with torch.no_grad():
        assert float(curve(dark[0]).mean()) > 2 * float(dark[0].mean())
