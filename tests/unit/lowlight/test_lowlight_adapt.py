"""SACC+: a copy of the model learns from its own trusted answers."""

import copy

import pytest
import torch
from torch import nn

from foveal import lowlight
from foveal.errors import ArgumentError


class Net(nn.Module):
    """Tells stripes from plain pictures by the differences of neighbors, which noise adds to."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        energy = x.diff(dim=-1).square().mean((1, 2, 3))[:, None]
        score = self.norm(energy * 400 - 4)
        return torch.cat([-score, score], 1)


def stripes(n: int, seed: int = 0) -> torch.Tensor:
    """Dark pictures, every other with stripes."""
    random = torch.Generator().manual_seed(seed)
    light = 0.05 + 0.05 * torch.rand(n, 1, 1, 1, generator=random)
    wave = 1 + 0.6 * (torch.arange(24) % 2 * 2 - 1) * (torch.arange(n) % 2)[:, None, None, None]
    return (light * wave).expand(n, 3, 24, 24).contiguous()


def test_a_copy_learns_to_see_through_noise_and_the_model_stays() -> None:
    model, curve = Net().train(), lowlight.ConcaveCurve()
    before = copy.deepcopy(model.state_dict())
    steps: list[lowlight.AlignmentStep] = []
    student = lowlight.adapt(
        model,
        curve,
        dark=stripes(32),
        size=24,
        num_steps=80,
        learning_rate=0.1,
        confidence=0.55,
        noise=0.1,
        on_step=steps.append,
    )
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training
    assert student.training
    assert all(p.grad is None and p.requires_grad for p in student.parameters())
    moved = student.state_dict()
    assert not torch.equal(moved["norm.bias"], before["norm.bias"])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(moved[f"norm.{name}"], before[f"norm.{name}"])
    assert {s.stage for s in steps} == {"model"}
    assert all(0 < s.right <= 1 for s in steps)
    clean = curve(stripes(64, seed=5))
    answer = model.eval()(clean).argmax(1)
    assert 0 < answer.float().mean() < 1
    noisy = clean + 0.1 * torch.randn(64, 1, 24, 24)
    own, new = model(noisy).argmax(1), student.eval()(noisy).argmax(1)
    assert (own == answer).float().mean() < 0.7
    assert (new == answer).float().mean() > 0.95


def test_the_same_seed_gives_the_same_copy() -> None:
    def run(seed: int) -> torch.Tensor:
        model = Net()
        student = lowlight.adapt(
            model, lowlight.ConcaveCurve(), dark=stripes(8), size=24, num_steps=3, seed=seed,
            confidence=0.0, learning_rate=1e-2, batch_size=4,
        )  # fmt: skip
        return student.norm.weight.detach()

    torch.manual_seed(0)
    curve_seeded = run(1)
    torch.manual_seed(0)
    assert torch.equal(curve_seeded, run(1))
    torch.manual_seed(0)
    assert not torch.equal(curve_seeded, run(2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"confidence": 2.0}, "adapt: confidence is 2"),
        ({"confidence": 1.0}, "which no answer reached"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"noise": -1.0}, "noise is -1"),
        ({"dark": torch.full((2, 3, 9, 9), float("nan"))}, "adapt: dark holds"),
        ({"norm": False}, "only_norms is True"),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x),
)
def test_bad_arguments_are_named(change, words) -> None:
    model = Net(norm=change.pop("norm", True))
    options = {"dark": stripes(4), "size": 24, "num_steps": 2, **change}
    with pytest.raises(ArgumentError, match=words):
        lowlight.adapt(model, lowlight.ConcaveCurve(), **options)
    assert model.training
