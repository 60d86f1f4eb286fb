"""Counts item by item, and the figures made of them, by hand."""

import pytest
import torch

from foveal.errors import ArgumentError
from foveal.lowlight import ConcaveCurve, baselines
from foveal.lowlight.evaluate import (
    fixed_methods,
    in_the_dark,
    judge_in_the_dark,
)
from foveal.lowlight.outcomes import (
    BEST_FIXED,
    CEILING,
    FIXED,
    LUCKLESS,
    UNTOUCHED,
    Outcomes,
    fingerprint,
)

TRIPLE = (0.02, 1e-3, 1e-6)


def outcomes(**again: list[int]) -> Outcomes:
    """Three pictures with 4, 0 and 1 things, two draws."""
    again = {"untouched": [1, 1, 0, 0, 0, 0], **again}
    false = {name: [0, 2, 1, 0, 0, 0] for name in again}
    return Outcomes(TRIPLE, [0, 1, 1], [4, 0, 1], 2, again, false)


def test_things_are_the_items() -> None:
    found = outcomes(curve=[4, 2, 0, 0, 1, 1])
    assert found.num_items == 6
    assert found.agreement("untouched") == pytest.approx(2 / 10)
    assert found.agreement("curve") == pytest.approx(8 / 10)
    gain = found.difference("curve", (1, UNTOUCHED))
    assert gain.mean == pytest.approx(6 / 10)
    # a resample holds the first group only (3 + 1 of 8), the second only (2 of 2), or both
    assert (gain.low, gain.high) == (pytest.approx(4 / 8), pytest.approx(1))
    assert gain.num_groups == 2
    assert found.difference("curve", (1, "curve")).high == 0
    # half of the way from the dark to daylight is 0.6
    assert found.difference("curve", (0.5, UNTOUCHED), (0.5, None)).mean == pytest.approx(0.2)
    row = found.summarize()[1]
    assert (row.method, row.agreement) == ("curve", pytest.approx(0.8))
    assert row.false_things == pytest.approx(3 / 6)


def test_bounds_are_made_of_the_fixed_curves() -> None:
    fixed = {FIXED[2]: [2, 2, 0, 0, 0, 0], FIXED[5]: [0, 1, 0, 0, 1, 1]}
    found = outcomes(**fixed, curve=[1, 1, 0, 0, 1, 1])
    assert found.best_fixed() == FIXED[2]
    assert found.counts(BEST_FIXED) == fixed[FIXED[2]]
    assert found.counts(CEILING) == [2, 2, 0, 0, 1, 1]
    assert found.agreement(CEILING) == pytest.approx(0.6)
    rows = {row.method: row for row in found.summarize()}
    assert rows["curve"].against_best.mean == pytest.approx(0)
    assert rows[BEST_FIXED].false_things == pytest.approx(3 / 6)
    assert rows[CEILING].false_things == 0
    with pytest.raises(ArgumentError, match="'magic', must be one of"):
        found.counts("magic")
    with pytest.raises(ArgumentError, match="no reciprocal curve"):
        outcomes().counts(CEILING)


def test_luck_with_the_noise_is_no_choice() -> None:
    # the first picture has a best curve; the last has a lucky one on each draw
    fixed = {
        FIXED[2]: [0, 0, 0, 0, 0, 1],
        FIXED[5]: [2, 3, 0, 0, 1, 0],
        FIXED[7]: [4, 0, 0, 0, 0, 0],
    }
    found = outcomes(**fixed)
    assert found.counts(CEILING) == [4, 3, 0, 0, 1, 1]
    assert found.counts(LUCKLESS) == [2, 0, 0, 0, 0, 0]
    assert LUCKLESS in {row.method for row in found.summarize()}
    single = Outcomes(
        TRIPLE, [0], [1], 1, {FIXED[0]: [1], UNTOUCHED: [0]}, {FIXED[0]: [0], UNTOUCHED: [0]}
    )
    assert LUCKLESS not in {row.method for row in single.summarize()}
    with pytest.raises(ArgumentError, match="draws is 1, must be 2"):
        single.counts(LUCKLESS)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ArgumentError, match="'curve' shows more again than there is"):
        outcomes(curve=[4, 2, 0, 0, 1, 2])
    with pytest.raises(ArgumentError, match="things has 8000000 at 1 draws"):
        Outcomes(TRIPLE, range(8), [10**6] * 8, 1)


def test_json_gives_the_same_and_hostile_rows_are_named() -> None:
    found = outcomes(curve=[4, 2, 0, 0, 1, 1])
    row = found.to_json()
    assert row["again"]["curve"] == "4 2 0 0 1 1"
    groups, things = found.groups, found.things
    assert Outcomes.from_json(row, groups, things, 2) == found
    for broken in (
        {**row, "triple": [1, 2]},
        {**row, "again": {"curve": "4 2 x"}},
        {**row, "again": {"curve": "4 -2 0 0 1 1"}},
        {**row, "again": {"curve": "4 99999999 0 0 1 1"}},
        {**row, "again": "4"},
        {**row, "again": {"curve": 4}},
        {"triple": [1, 2, 3]},
    ):
        with pytest.raises(ArgumentError, match="not of this form"):
            Outcomes.from_json(broken, groups, things, 2)
    with pytest.raises(ArgumentError, match="'untouched' has 6 and 6 counts, must have 9"):
        Outcomes.from_json(row, groups, things, 3)
    with pytest.raises(ArgumentError, match="things has 0"):
        Outcomes.from_json(row, [], [], 2)


def test_a_method_is_added_to_the_same_items_only() -> None:
    found, other = outcomes(a=[1, 1, 0, 0, 1, 1]), outcomes(b=[0] * 6)
    found.merge(other)
    assert list(found.again) == ["untouched", "a", "b"]
    found.difference("a", (1, "b"))
    with pytest.raises(ArgumentError, match="of other pictures or draws"):
        found.merge(Outcomes(TRIPLE, [0, 1, 2], [4, 0, 1], 2))


class Mean:
    """Names the brightness of a picture in eight steps."""

    size = 16

    def preprocess(self, images):
        return images

    def __call__(self, x):
        level = (x.mean((1, 2, 3)) * 8).long().clamp(0, 7)
        return torch.nn.functional.one_hot(level, 8).float()


def test_items_are_batched_by_size_within_the_memory(monkeypatch) -> None:
    monkeypatch.setattr("foveal.lowlight.evaluate._MOST_PIXELS", {"cpu": 3 * 16 * 16})
    pictures = [torch.rand(3, 16, 16) for _ in range(3)] + [torch.rand(3, 20, 40)]
    batches = list(in_the_dark(pictures, TRIPLE, draws=2, seed=3))
    items = [items for items, _ in batches]
    assert items == [
        [(0, 0), (0, 1), (1, 0)],
        [(1, 1), (2, 0), (2, 1)],
        [(3, 0)],  # larger than the bound: one by one
        [(3, 1)],
    ]
    monkeypatch.undo()
    whole = [x for _, dark in in_the_dark(pictures, TRIPLE, draws=2, seed=3) for x in dark]
    parts = [x for _, dark in batches for x in dark]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    assert not torch.equal(whole[0], whole[1])  # draws differ
    other = next(in_the_dark(pictures, TRIPLE, draws=2, seed=4))[1][0]
    assert not torch.equal(whole[0], other)


def test_one_method_alone_gives_what_it_gives_among_others() -> None:
    pictures = [torch.full((3, 16, 16), 0.1 + 0.1 * i) for i in range(8)]
    gamma = baselines.Gamma(0.4)
    arguments = {"triples": [TRIPLE], "draws": 3}
    every = {**fixed_methods(), "gamma": gamma}
    (whole,) = judge_in_the_dark(Mean(), pictures, list(range(8)), every, **arguments)
    (alone,) = judge_in_the_dark(Mean(), pictures, list(range(8)), {"gamma": gamma}, **arguments)
    assert alone.again["gamma"] == whole.again["gamma"]
    assert len(set(map(tuple, whole.again.values()))) > 3
    without = {k: v for k, v in whole.again.items() if k != "gamma"}
    again = {k: whole.false[k] for k in without}
    part = Outcomes(TRIPLE, whole.groups, whole.things, 3, without, again)
    part.merge(alone)
    assert part == whole


def test_methods_are_told_apart() -> None:
    torch.manual_seed(1)
    one, two = ConcaveCurve(), ConcaveCurve()
    coupled = ConcaveCurve(coupled=True)
    coupled.load_state_dict(one.state_dict())
    methods = [one, two, coupled, baselines.Gamma(0.4), baselines.Gamma(0.5), baselines.Lime()]
    assert len({fingerprint(x) for x in methods}) == len(methods)
    assert fingerprint(baselines.Gamma(0.4)) == fingerprint(baselines.Gamma(0.4))
