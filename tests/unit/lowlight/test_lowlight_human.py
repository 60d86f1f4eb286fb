"""How pictures look in the dark, and what the gate says, by hand."""

import dataclasses

import pytest
import torch

from foveal.errors import ArgumentError
from foveal.lowlight import auto, baselines, judge, metrics
from foveal.lowlight.evaluate import in_the_dark
from foveal.lowlight.evaluate_gate import (
    AutoGate,
    DenoiseFirst,
    Denoiser,
    Gate,
    count_regimes,
)
from foveal.lowlight.evaluate_human import MEASURES, MOST_DB, Looks, look_in_the_dark
from foveal.lowlight.outcomes import UNTOUCHED, fingerprint

TRIPLE = (0.02, 1e-4, 1e-7)


def untouched(x: torch.Tensor) -> torch.Tensor:
    return x


def photos(n: int, side: int = 24) -> list[torch.Tensor]:
    return [torch.rand(3, side // 8, side // 8).repeat_interleave(8, 1).repeat_interleave(8, 2)
            for _ in range(n)]  # fmt: skip


def test_measures_are_those_of_each_picture_on_the_same_noise() -> None:
    pictures, gamma = photos(3), baselines.Gamma(0.3)
    methods = {UNTOUCHED: untouched, "gamma": gamma}
    (looks,) = look_in_the_dark(pictures, [0, 1, 1], methods, triples=[TRIPLE], draws=2, seed=5)
    assert list(looks.sizes) == [1, 2]
    ((items, dark),) = in_the_dark(pictures, TRIPLE, draws=2, seed=5)
    day = torch.stack([pictures[i] for i, _ in items])
    found = metrics.human_metrics(gamma(dark), day)
    plain = metrics.human_metrics(dark, day)
    rows = {row.method: row for row in looks.summarize()}
    assert tuple(rows["gamma"].means) == MEASURES
    for name in MEASURES:
        assert rows["gamma"].means[name] == pytest.approx(float(found[name].mean()), rel=1e-5)
        gain = float((found[name] - plain[name]).mean())
        assert rows["gamma"].gains[name].mean == pytest.approx(gain, rel=1e-4, abs=1e-6)
    assert looks.values["gamma"]["psnr"][0] == pytest.approx(float(found["psnr"][:2].mean()))
    assert rows["gamma"].gains["psnr"].num_groups == 2
    assert rows["gamma"].num_items == 6
    assert "mean-aligned" in str(rows["gamma"])


def test_equal_pictures_have_a_finite_ratio() -> None:
    pictures = photos(2)

    def oracle(x: torch.Tensor) -> torch.Tensor:
        return torch.stack(pictures)

    methods = {UNTOUCHED: untouched, "oracle": oracle}
    (looks,) = look_in_the_dark(pictures, [0, 1], methods, triples=[TRIPLE], draws=1)
    assert looks.values["oracle"]["psnr"] == [MOST_DB, MOST_DB]


def test_looks_are_kept_as_json_and_merged() -> None:
    pictures, gamma = photos(3), baselines.Gamma(0.3)
    arguments = {"triples": [TRIPLE], "draws": 1}
    (whole,) = look_in_the_dark(
        pictures, [0, 1, 1], {UNTOUCHED: untouched, "gamma": gamma}, **arguments
    )
    (part,) = look_in_the_dark(pictures, [0, 1, 1], {UNTOUCHED: untouched}, **arguments)
    (alone,) = look_in_the_dark(pictures, [0, 1, 1], {"gamma": gamma}, **arguments)
    part.merge(alone)
    assert part == whole
    row = whole.to_json()
    again = Looks.from_json(row, whole.sizes, 1)
    assert again.to_json() == row
    assert again.methods == (UNTOUCHED, "gamma")
    with pytest.raises(ArgumentError, match="other pictures or draws"):
        whole.merge(dataclasses.replace(alone, draws=2))
    with pytest.raises(ArgumentError, match="'gamma' has no 'beauty'"):
        whole.difference("gamma", UNTOUCHED, "beauty")
    with pytest.raises(ArgumentError, match="of 3 groups each"):
        Looks.from_json(row, [1, 1, 1], 1)
    for broken in (
        {**row, "values": {"gamma": {"psnr": "1 x"}}},
        {**row, "values": {"gamma": ["psnr"]}},
        {"triple": row["triple"]},
        {**row, "values": {"gamma": {"psnr": "nan 1"}}},
    ):
        with pytest.raises(ArgumentError, match="judge again"):
            Looks.from_json(broken, whole.sizes, 1)
    with pytest.raises(ArgumentError, match="pictures has 0"):
        next(look_in_the_dark([], [], {}))


def test_the_gate_in_batches_is_that_of_single_pictures() -> None:
    smooth = torch.linspace(0.2, 0.9, 64).expand(3, 64, 64)
    # enough light, little light, and much noise; the last by another triple
    ((_, lit),) = in_the_dark([smooth], (1.0, 1e-6, 1e-9), draws=1, seed=0)
    ((_, dim),) = in_the_dark([smooth], (0.01, 1e-6, 1e-9), draws=1, seed=0)
    ((_, noisy),) = in_the_dark([smooth], (0.02, 2e-2, 1e-3), draws=1, seed=0)
    batch = torch.cat([lit, dim, noisy])
    regimes = [judge(x).regime for x in batch]
    assert regimes == ["well-lit", "light-limited", "noise-limited"]
    gamma, denoiser = baselines.Gamma(0.4), Denoiser()
    found = AutoGate(gamma, denoiser, Gate())(batch)

    def clean(x: torch.Tensor) -> torch.Tensor:
        return denoiser(x[None])[0]

    single = [auto(x, lambda y: gamma(y[None])[0], denoise=clean).image for x in batch]
    assert torch.equal(found, torch.stack(single))
    assert torch.equal(found[0], batch[0])
    assert torch.equal(DenoiseFirst(gamma, denoiser)(batch)[2], found[2])
    assert not torch.equal(found[2], gamma(batch)[2])


def test_a_batch_is_denoised_once_for_several_curves(monkeypatch) -> None:
    calls: list[int] = []

    def count(image: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return image / 2

    monkeypatch.setattr("foveal.lowlight.evaluate_gate.denoise", count)
    denoiser, batch = Denoiser(), torch.rand(3, 3, 16, 16)
    for gamma in (0.3, 0.5):
        bright = DenoiseFirst(baselines.Gamma(gamma), denoiser)(batch)
        assert torch.equal(bright, baselines.Gamma(gamma)(batch / 2))
    assert len(calls) == 3
    denoiser(batch.clone())
    assert len(calls) == 6


def test_pictures_without_an_estimate_stay_as_they_are() -> None:
    black = torch.zeros(1, 3, 16, 16)
    assert torch.equal(Denoiser()(black), black)


def test_regimes_are_counted() -> None:
    smooth = torch.linspace(0.2, 0.9, 64).expand(3, 64, 64)
    found = count_regimes([smooth, smooth], (0.01, 1e-6, 1e-9))
    assert found == {"well-lit": 0, "light-limited": 2, "noise-limited": 0}
    assert count_regimes([smooth], (0.02, 2e-2, 1e-3))["noise-limited"] == 1


def test_wrapped_curves_have_marks_of_their_own_that_stay() -> None:
    def wrapped(gamma: float) -> DenoiseFirst:
        return DenoiseFirst(baselines.Gamma(gamma), Denoiser())

    assert fingerprint(wrapped(0.4)) == fingerprint(wrapped(0.4))
    assert fingerprint(wrapped(0.4)) != fingerprint(wrapped(0.5))
    assert fingerprint(wrapped(0.4)) != fingerprint(baselines.Gamma(0.4))
