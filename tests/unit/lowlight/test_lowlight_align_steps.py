"""Parts of a training: scenes kept whole, the rate, an early end, who sees what, where it runs."""

import itertools
import math

import pytest
import torch
from torch import nn

from foveal import lowlight
from foveal.errors import ArgumentError
from foveal.lowlight.alignment_state import Schedule
from foveal.lowlight.alignment_tasks import PretextTask
from foveal.lowlight.frozen import Taps, choose_layers, device_of

SCHEDULE = Schedule(40, 4, 0.5, 3, 10, seed=0)


def test_scenes_are_not_parted() -> None:
    groups = [i // 5 for i in range(100)]  # twenty scenes of five frames
    train, kept = SCHEDULE.split(range(100), groups)
    assert sorted(train + kept) == list(range(100))
    assert {groups[i] for i in train}.isdisjoint(groups[i] for i in kept)
    assert len(kept) == 10  # two scenes: an eighth, rounded down
    some = [i for i in range(100) if i % 2]  # those that are trusted
    train, kept = SCHEDULE.split(some, groups)
    assert sorted(train + kept) == some
    assert {groups[i] for i in train}.isdisjoint(groups[i] for i in kept)


def test_a_lone_scene_or_picture_is_both() -> None:
    train, kept = SCHEDULE.split(range(16), [7] * 16)
    assert (len(train), len(kept)) == (14, 2)
    assert SCHEDULE.split([3]) == ([3], [3])


def test_the_rate_falls_by_half_a_cosine() -> None:
    rates = [SCHEDULE.rate(step) for step in range(41)]
    assert rates[0] == pytest.approx(0.5)
    assert rates[20] == pytest.approx(0.5 * 0.505)
    assert rates[40] == pytest.approx(0.005)
    assert all(a > b for a, b in itertools.pairwise(rates))


class Mean(nn.Module):
    """Two classes by the mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = 30 * (x.flatten(1).mean(1) - 0.4)
        return torch.stack([-score, score], 1)


def test_stop_iteration_gives_the_best_so_far_and_other_errors_go_through() -> None:
    dark = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.1
    seen: list[int] = []

    def stop(step: lowlight.AlignmentStep) -> None:
        if step.stage == "curve":
            seen.append(step.step)
            if step.step == 7:
                raise StopIteration

    options = {"dark": dark, "size": 32, "num_steps": 50, "check_every": 5}
    stopped = lowlight.align(Mean(), on_step=stop, **options)
    assert seen == list(range(1, 8))
    shown: list[dict[str, torch.Tensor]] = []

    def fail(step: lowlight.AlignmentStep) -> None:
        if step.stage == "curve":
            shown.append({})
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        lowlight.align(Mean(), on_step=fail, **options)
    assert len(shown) == 1
    full = lowlight.align(Mean(), **options)
    assert not torch.equal(stopped.fc.bias, full.fc.bias)


def test_groups_are_one_a_picture() -> None:
    with pytest.raises(ArgumentError, match="groups has 3 numbers, must be one for each of 4"):
        lowlight.align(Mean(), dark=torch.rand(4, 3, 32, 32) * 0.1, groups=[0, 0, 1])


class Net(nn.Module):
    """Remembers how bright the pictures were that it saw."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.light: list[float] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.light.append(float(x.detach().mean()))
        return self.conv(x).mean((2, 3))


def test_the_head_learns_by_day_alone_and_then_stands_still(monkeypatch) -> None:
    monkeypatch.setattr("foveal.lowlight.alignment_tasks._LEARNED", math.inf)
    heads: list[nn.Module] = []
    learn = PretextTask.learn_head

    def spy(self: PretextTask, *arguments: object) -> None:
        learn(self, *arguments)
        heads.append(self.head)
        heads.append(nn.ParameterList(p.detach().clone() for p in self.head.parameters()))

    monkeypatch.setattr(PretextTask, "learn_head", spy)
    net = Net()
    day = 0.6 + 0.4 * torch.rand(9, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    marks: dict[str, int] = {}

    def note(step: lowlight.AlignmentStep) -> None:
        if step.stage == "head":
            marks["head"] = len(net.light)
        else:
            marks.setdefault("curve", len(net.light))

    lowlight.align(
        net, dark=day * 0.02, normal=day, method="pretext", size=48, num_steps=4, head_steps=5,
        start=None, batch_size=2, on_step=note,
    )  # fmt: skip
    assert min(net.light[: marks["head"]]) > 0.4  # up to a fifth darker by the cells' jitter
    assert max(net.light[marks["head"] :]) < 0.2
    for now, then in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        assert torch.equal(now, then)
        assert now.grad is None or not now.requires_grad


def test_a_model_is_where_its_first_weight_is() -> None:
    assert device_of(nn.Identity()) == "cpu"
    model = nn.Module()
    model.register_buffer("weights", torch.zeros(1, device="meta"))
    assert device_of(model) == "meta"
    assert device_of(nn.Linear(2, 2, device="meta")) == "meta"


class Pyramid(nn.Module):
    """One convolution at three sizes, the largest first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [self.conv(nn.functional.avg_pool2d(x, k)) for k in (2, 4, 8)]
        return torch.stack([m.mean() for m in maps])


def test_of_a_module_that_runs_often_the_largest_map_is_heard() -> None:
    model, x = Pyramid(), torch.rand(1, 3, 64, 64)
    assert choose_layers(model, lambda: model(x)) == ["conv"]
    with Taps(model, ["conv"]).open() as found:
        model(x)
    assert found["conv"].shape == (1, 4, 32, 32)
