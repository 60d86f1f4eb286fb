"""Scores of the tasks by hand; that they add up; what a constant answer scores."""

import math

import pytest
import torch
from torch.nn import functional as F

from foveal.data.taskworld import TASKS, decode_depth
from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.task_scores import (
    HIGHER_IS_BETTER,
    MEASURES,
    PRESENT,
    THRESHOLDS,
    best_constant,
    chance,
    retention,
    score,
    scores,
    sums,
)


def logits_of(classes: list[int], count: int) -> torch.Tensor:
    return F.one_hot(torch.tensor(classes), count).float()


def segmentation_of(rows: list[list[int]]) -> torch.Tensor:
    return F.one_hot(torch.tensor([rows]), TASKS["segmentation"].channels).movedim(-1, 1).float()


def maps(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)[None, None]


def examples(task: str, count: int, seed: int):
    """Random answers and labels."""
    known, generator = TASKS[task], torch.Generator().manual_seed(seed)
    if known.kind == "class":
        target = torch.randint(known.channels, (count,), generator=generator)
        return torch.randn(count, known.channels, generator=generator), target, None
    answer = torch.rand(count, known.channels, 8, 8, generator=generator)
    mask = torch.rand(count, 8, 8, generator=generator) < 0.8
    if known.kind == "segmentation":
        target = torch.randint(known.channels, (count, 8, 8), generator=generator)
        return answer, target, mask
    target = torch.rand(count, known.channels, 8, 8, generator=generator)
    if task == "normal":
        answer, target = F.normalize(answer - 0.5, dim=1), F.normalize(target - 0.5, dim=1)
    return answer, target, mask


def test_every_task_has_measures() -> None:
    assert list(MEASURES) == list(TASKS)
    assert list(HIGHER_IS_BETTER) == list(TASKS)
    better = {t for t, higher in HIGHER_IS_BETTER.items() if higher}
    assert set(TASKS) - better == {"normal", "depth", "reshading", "curvature", "object_count"}


def test_classes_by_hand() -> None:
    k = TASKS["scene"].channels
    kept = sums("scene", logits_of([0, 1, 2, 2], k), torch.tensor([0, 1, 2, 3]))
    assert kept.tolist() == [[1, 1], [1, 1], [1, 1], [0, 1]]
    assert kept.dtype == torch.float64
    assert score("scene", kept) == 0.75
    k = TASKS["object_count"].channels
    kept = sums("object_count", logits_of([0, 5, 2], k), torch.tensor([3, 5, 1]))
    assert scores("object_count", kept) == pytest.approx({"top1": 1 / 3, "mae": 4 / 3})


def test_a_segmentation_by_hand() -> None:
    """Class 0: 1 of 2; class 1: 2 of 3; classes that are nowhere do not count."""
    answer, target = segmentation_of([[0, 1], [1, 1]]), torch.tensor([[[0, 0], [1, 1]]])
    kept = sums("segmentation", answer, target)
    found = scores("segmentation", kept)
    assert found == pytest.approx({"miou": (1 / 2 + 2 / 3) / 2, "pixels": 0.75})
    mask = torch.tensor([[[True, False], [True, True]]])
    assert scores("segmentation", sums("segmentation", answer, target, mask))["miou"] == 1
    both = torch.cat([kept, sums("segmentation", segmentation_of([[0, 0], [1, 1]]), target)])
    wanted = (3 / 4 + 4 / 5) / 2  # of added pixels, not the mean of both images
    assert score("segmentation", both) == pytest.approx(wanted)


def test_normals_by_hand() -> None:
    def tilted(degrees: float) -> torch.Tensor:
        turn = math.radians(degrees)
        return torch.tensor([math.sin(turn), 0, -math.cos(turn)])

    answer = torch.stack([tilted(11), tilted(0), tilted(31)], -1).view(1, 3, 1, 3)
    target = torch.stack([tilted(0), tilted(0.01), tilted(0)], -1).view(1, 3, 1, 3)
    kept = sums("normal", answer, target)
    found = scores("normal", kept)
    assert found["angle"] == pytest.approx((11 + 0.01 + 31) / 3, abs=1e-4)
    assert found["within_11_25"] == pytest.approx(2 / 3)
    mask = torch.tensor([[[True, False, False]]])
    assert score("normal", sums("normal", answer, target, mask)) == pytest.approx(11, abs=1e-4)
    assert score("normal", sums("normal", -target, target)) == pytest.approx(180)


def test_depth_is_compared_in_decode_depth() -> None:
    answer, target = maps([0.5, 0.4, 0.2]), maps([0.5, 0.2, 0.4])
    near, far = float(decode_depth(torch.tensor(0.2))), float(decode_depth(torch.tensor(0.4)))
    assert 0 < near < far
    found = scores("depth", sums("depth", answer, target))
    wanted = (0 + (far - near) / near + (far - near) / far) / 3
    assert found["abs_rel"] == pytest.approx(wanted, rel=1e-5)
    assert far / near > 1.25
    assert found["delta1"] == pytest.approx(1 / 3)


def test_answers_of_depth_that_no_label_has_are_the_nearest_or_farthest() -> None:
    target = maps([0.5])
    found = [sums("depth", maps([x]), target)[0, 0] for x in (-7.0, 0.0, 1.0, 80.0)]
    assert found[0] == found[1]
    assert found[2] == found[3]


@pytest.mark.parametrize("task", ["reshading", "curvature"])
def test_maps_by_hand(task) -> None:
    channels = TASKS[task].channels
    answer = torch.full((2, channels, 2, 2), 0.5)
    target = torch.full((2, channels, 2, 2), 0.25)
    target[1] = 1.0
    mask = torch.ones(2, 2, 2, dtype=torch.bool)
    mask[1, 0] = False
    kept = sums(task, answer, target, mask)
    assert score(task, kept, "l1") == pytest.approx((4 * 0.25 + 2 * 0.5) / 6)


def test_curved_and_flat_places_count_alike() -> None:
    answer = torch.full((1, 2, 1, 4), 0.5)
    target = torch.zeros(1, 2, 1, 4)
    target[0, 0, 0, 3] = 0.7
    kept = sums("curvature", answer, target, torch.ones(1, 1, 4, dtype=torch.bool))
    assert score("curvature", kept) == pytest.approx((0.5 + (0.2 + 0.5) / 2) / 2)


@pytest.mark.parametrize("task", list(PRESENT))
def test_edges_by_hand(task) -> None:
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2] = 1.0

    def f1(*columns: int, value: float = 0.6, mask: torch.Tensor | None = None) -> float:
        answer = torch.zeros(1, 1, 8, 8)
        answer[..., list(columns)] = value
        return score(task, sums(task, answer, target, mask))

    assert f1(2) == 1
    assert f1(3) == 1
    assert f1(4) == 0
    assert f1() == 0
    assert f1(3, 6) == pytest.approx(2 * 0.5 / 1.5)
    half = torch.zeros(1, 1, 8, 8)
    half[..., :4, 2] = 0.6
    # 4 of 4 are right; rows 0 to 4 are found
    assert score(task, sums(task, half, target)) == pytest.approx(2 * (5 / 8) / (1 + 5 / 8))
    seen = torch.ones(1, 8, 8, dtype=torch.bool)
    seen[..., 6] = False
    assert f1(3, 6, mask=seen) == 1


def test_the_threshold_is_the_best_for_all_images_together() -> None:
    """One image answers 0.9 on the edge and 0.3 beside it, the other 0.3 on the edge."""
    target, answer = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    target[..., 2] = 1.0
    answer[0, ..., 2], answer[0, ..., 5], answer[1, ..., 2] = 0.9, 0.3, 0.3
    kept = sums("occlusion_edge", answer, target)
    assert kept.shape == (2, 3 * len(THRESHOLDS) + 1)
    assert score("occlusion_edge", kept[:1]) == 1
    assert score("occlusion_edge", kept[1:]) == 1
    low, high = 2 * (2 / 3) / (2 / 3 + 1), 2 * 0.5 / 1.5
    assert score("occlusion_edge", kept) == pytest.approx(max(low, high))


@pytest.mark.parametrize("task", list(TASKS))
def test_sums_add_up_over_images_and_batches(task) -> None:
    answer, target, mask = examples(task, 6, seed=0)

    def part(rows: list[int]) -> torch.Tensor:
        return sums(task, answer[rows], target[rows], None if mask is None else mask[rows])

    whole = part([0, 1, 2, 3, 4, 5])
    assert torch.equal(whole, torch.cat([part([0, 1]), part([2]), part([3, 4, 5])]))
    drawn = [5, 0, 0, 3, 2, 5, 5]
    for measure in MEASURES[task]:
        again = score(task, part(drawn), measure.name)
        assert score(task, whole[drawn], measure.name) == pytest.approx(again, abs=1e-12)
        counts = torch.bincount(torch.tensor(drawn), minlength=6).double()
        assert score(task, (counts @ whole)[None], measure.name) == pytest.approx(again, abs=1e-9)


@pytest.mark.parametrize("task", list(TASKS))
def test_the_labels_themselves_are_the_best_answer(task) -> None:
    known = TASKS[task]
    _, target, mask = examples(task, 4, seed=1)
    answer = target
    if known.kind != "dense":
        answer = F.one_hot(target, known.channels).movedim(-1, 1).float()
    found = scores(task, sums(task, answer, target, mask))
    best = {m.name: float(m.higher_is_better) for m in MEASURES[task]}
    assert found == pytest.approx(best, abs=1e-4)


def test_the_best_constant_of_classes_is_the_most_frequent() -> None:
    target = torch.tensor([4, 1, 4, 2])
    assert best_constant("scene", target).argmax() == 4
    assert chance("scene", target) == 0.5
    other = torch.tensor([4, 1, 1, 1])
    assert chance("scene", other, answer=best_constant("scene", target)) == 0.25
    counts = torch.tensor([2, 2, 5])
    assert chance("object_count", counts) == pytest.approx(1.0)
    assert chance("object_count", counts, measure="top1") == pytest.approx(2 / 3)
    assert chance("object_count", counts, measure="mae") == 1


def test_the_best_constant_of_a_segmentation_is_of_each_pixel() -> None:
    target = torch.tensor([[[0, 1]], [[0, 1]], [[2, 0]]])
    answer = best_constant("segmentation", target)
    assert answer.argmax(1).tolist() == [[[0, 1]]]
    mask = torch.tensor([[[True, True]], [[False, False]], [[True, False]]])
    target = torch.tensor([[[2, 1]], [[0, 1]], [[2, 0]]])
    mask[0, 0, 1] = False  # the second pixel counts nowhere: it gets what all pixels have most
    assert best_constant("segmentation", target, mask).argmax(1).tolist() == [[[2, 2]]]


def test_the_best_constant_of_maps_is_the_median_of_each_pixel() -> None:
    target = torch.tensor([0.1, 0.2, 0.9, 0.5]).view(4, 1, 1, 1).repeat(1, 1, 1, 2)
    target[:, :, :, 1] += 0.05
    mask = torch.tensor([True, True, True, False]).view(4, 1, 1).repeat(1, 1, 2)
    torch.testing.assert_close(
        best_constant("reshading", target, mask), torch.tensor([0.2, 0.25]).view(1, 1, 1, 2)
    )
    wanted = (0.1 + 0 + 0.7) / 3
    assert chance("reshading", target, mask) == pytest.approx(wanted, rel=1e-5)
    mask[..., 1] = False  # nowhere: the median of all that counts
    assert best_constant("reshading", target, mask).flatten().tolist() == pytest.approx([0.2, 0.2])


def test_the_best_constant_normal_is_the_mean_direction() -> None:
    target = torch.tensor([[0.6, 0, -0.8], [-0.6, 0, -0.8]]).view(2, 3, 1, 1).repeat(1, 1, 1, 2)
    mask = torch.tensor([[[True, False]], [[True, False]]])
    wanted = torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    torch.testing.assert_close(best_constant("normal", target, mask), wanted)
    angle = math.degrees(math.acos(0.8))
    assert chance("normal", target, mask) == pytest.approx(angle, abs=1e-3)


def test_the_best_constant_edges_are_where_they_are_most_often() -> None:
    target = torch.zeros(4, 1, 16, 16)
    target[..., 3] = 1.0  # in every image
    for i in range(4):
        target[i, ..., 8 + 2 * i] = 1.0  # each in one image
    answer = best_constant("occlusion_edge", target)
    assert answer.shape == (1, 1, 16, 16)
    assert bool((answer[..., 3] == 1).all())
    found = chance("occlusion_edge", target)
    only = torch.zeros(1, 1, 16, 16)
    only[..., 3] = 1.0
    assert found >= chance("occlusion_edge", target, answer=only)
    assert found >= chance("occlusion_edge", target, answer=torch.ones(1, 1, 16, 16))
    assert chance("occlusion_edge", target, answer=only) == pytest.approx(2 * 0.5 / 1.5)


@pytest.mark.parametrize("task", list(TASKS))
def test_chance_is_between_nothing_and_the_labels(task) -> None:
    _, target, mask = examples(task, 8, seed=2)
    for measure in MEASURES[task]:
        found = chance(task, target, mask, measure=measure.name)
        assert found >= 0
        assert found < 1 if measure.higher_is_better else found > 0


def test_retention_by_hand() -> None:
    assert retention(0.7, 0.2, 0.8) == pytest.approx(5 / 6)
    assert retention(12.0, 30.0, 10.0) == pytest.approx(0.9)  # an error
    assert retention(0.2, 0.2, 0.8) == 0
    assert retention(0.1, 0.2, 0.8) < 0
    with pytest.raises(ArgumentError, match="uncompressed is 0.2, must differ from chance"):
        retention(0.3, 0.2, 0.2)
    with pytest.raises(ArgumentError, match="score is nan, must be finite"):
        retention(math.nan, 0.2, 0.8)


def test_what_does_not_fit_is_named() -> None:
    answer, target, mask = examples("depth", 2, seed=0)
    kept = sums("depth", answer, target, mask)
    with pytest.raises(ArgumentError, match=r"sums: task is 'colour', must be one of"):
        sums("colour", answer, target)
    with pytest.raises(ArgumentError, match="prediction of depth holds NaN or infinity"):
        sums("depth", torch.full_like(answer, torch.nan), target)
    with pytest.raises(ShapeError, match=r"target has shape \(2, 8, 8\), must be \(2, 1, 8, 8\)"):
        sums("depth", answer, target[:, 0])
    with pytest.raises(
        ShapeError, match=r"mask has shape \(1, 8, 8\), must be \(2, 8, 8\) or None"
    ):
        sums("depth", answer, target, mask[:1])
    with pytest.raises(
        ArgumentError, match=r"measure is 'f1', must be one of \['abs_rel', 'delta1'"
    ):
        score("depth", kept, "f1")
    with pytest.raises(ShapeError, match=r"kept has shape \(2, 2\), must be \(n, 3\) for depth"):
        score("depth", kept[:, :2])
    with pytest.raises(ShapeError, match=r"kept has shape \(0, 3\)"):
        score("depth", kept[:0])
    with pytest.raises(ArgumentError, match="kept of depth counts no pixel"):
        score("depth", sums("depth", answer, target, torch.zeros_like(mask)))
    with pytest.raises(ArgumentError, match="kept of segmentation counts no pixel"):
        score("segmentation", torch.zeros(1, TASKS["segmentation"].channels ** 2))
    with pytest.raises(ArgumentError, match="scores: task is 'colour'"):
        scores("colour", kept)
    with pytest.raises(
        ShapeError, match=r"best_constant: target has shape \(2, 8, 8\), must be \(n"
    ):
        best_constant("depth", target[:, 0])
    with pytest.raises(ShapeError, match=r"target has shape \(0,\), must be \(n,\) for scene"):
        best_constant("scene", torch.zeros(0, dtype=torch.long))
    with pytest.raises(ArgumentError, match="mask of depth has no pixel"):
        best_constant("depth", target, torch.zeros_like(mask))
