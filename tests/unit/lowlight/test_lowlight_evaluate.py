"""What a recogniser still sees, by hand."""

import pytest
import torch

from foveal.errors import ArgumentError
from foveal.lowlight import reciprocal_curve
from foveal.lowlight.evaluate import (
    BEST_FIXED,
    CEILING,
    UNTOUCHED,
    disjoint_crops,
    evaluate,
    found_again,
    judge_in_the_dark,
)
from foveal.teachers import Detections

TRIPLE = (0.02, 1e-6, 1e-9)


class Levels:
    """Names the brightness of a picture, in steps: right only when brightened as by day."""

    size = 16
    activation = "softmax"

    def preprocess(self, images):
        return images

    def __call__(self, x):
        level = (x.mean((1, 2, 3)) * 8).long().clamp(0, 7)
        return torch.nn.functional.one_hot(level, 8).float()


class Bright(Levels):
    """Finds one box on each picture that is bright enough, two on a very bright one."""

    def detect(self, images, *, threshold=0.3):
        found = []
        for x in images:
            n = int(x.mean() > 0.2) + int(x.mean() > 0.9)
            boxes = torch.tensor([[0.0, 0, 8, 8], [50, 50, 60, 60]])[:n]
            found.append(
                Detections(boxes, torch.ones(n), torch.zeros(n, dtype=torch.long), ("thing",))
            )
        return found


def back(x: torch.Tensor) -> torch.Tensor:
    """Undo the exposure, in linear light."""
    from foveal.data.sensor_noise import linear_to_srgb, srgb_to_linear

    return linear_to_srgb((srgb_to_linear(x) / TRIPLE[0]).clamp(0, 1))


def days(n: int) -> list[torch.Tensor]:
    return [torch.full((3, 16, 16), 0.3 + 0.5 * i / n) for i in range(n)]


def run(teacher, pictures, **options):
    options = {"triples": [TRIPLE], "draws": 2, **options}
    groups = list(range(len(pictures)))
    (table,) = evaluate(teacher, pictures, groups, {"back": back}, **options)
    return {row.method: row for row in table}


def test_agreement_gain_and_bounds() -> None:
    seen: list[int] = []
    rows = run(Levels(), days(12), on_picture=lambda triple, i: seen.append(i))
    assert rows[UNTOUCHED].agreement == 0
    assert rows["back"].agreement == 1
    assert rows["back"].gain.mean == 1
    assert rows["back"].num_items == 24
    assert rows["back"].gain.anecdote
    assert seen == list(range(12))
    fixed = {k: v.agreement for k, v in rows.items() if k.startswith("reciprocal")}
    assert len(fixed) == 9
    assert rows[BEST_FIXED].agreement == max(fixed.values())
    assert rows[CEILING].agreement >= rows[BEST_FIXED].agreement
    assert rows[BEST_FIXED].against_best.mean == 0
    assert rows["back"].against_best.mean == pytest.approx(1 - max(fixed.values()))
    assert "back" in str(rows["back"])
    assert str(rows["back"]).count("\n") == 0


def test_the_same_seed_gives_the_same_noise() -> None:
    noisy = (0.02, 1e-2, 1e-4)
    one, two = (run(Levels(), days(6), triples=[noisy]) for _ in range(2))
    assert {k: v.agreement for k, v in one.items()} == {k: v.agreement for k, v in two.items()}


def test_things_are_counted_not_pictures() -> None:
    """Daylight: one thing on each of three pictures, two on the fourth."""
    pictures = [*days(3), torch.full((3, 16, 16), 0.95)]

    def weak(x):
        return reciprocal_curve(x, 0.05)

    (table,) = evaluate(
        Bright(), pictures, [0, 1, 2, 3], {"back": back, "weak": weak}, triples=[TRIPLE], draws=1
    )
    rows = {row.method: row for row in table}
    assert rows[UNTOUCHED].agreement == 0
    assert rows["back"].agreement == pytest.approx(1.0)
    assert rows["back"].false_things == 0
    assert rows["weak"].agreement == pytest.approx(4 / 5)


def test_things_are_found_again_once_and_by_class() -> None:
    def boxes(rows, labels):
        return Detections(
            torch.tensor(rows, dtype=torch.float32).view(-1, 4),
            torch.ones(len(rows)),
            torch.tensor(labels, dtype=torch.long),
            ("a", "b"),
        )

    day = boxes([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1])
    assert found_again(day, boxes([[0, 0, 10, 9], [20, 20, 30, 30]], [0, 1])) == 2
    assert found_again(day, boxes([[0, 0, 10, 9], [0, 0, 10, 10]], [0, 0])) == 1
    assert found_again(day, boxes([[0, 0, 10, 10]], [1])) == 0
    assert found_again(day, boxes([[0, 0, 10, 4]], [0])) == 0
    assert found_again(day, boxes([], [])) == 0
    assert found_again(boxes([], []), day) == 0
    # the first box fits both things, and the right one better, which is the only one for the second
    pair = boxes([[0, 0, 10, 10], [4, 0, 14, 10]], [0, 0])
    rows = boxes([[2.5, 0, 12.5, 10], [4, 0, 14, 10]], [0, 0])
    for scores, count in (([0.9, 0.4], 1), ([0.4, 0.9], 2)):
        rows = Detections(rows.boxes, torch.tensor(scores), rows.labels, rows.names)
        assert found_again(pair, rows) == count


def test_crops_do_not_overlap_and_take_turns() -> None:
    images = [torch.arange(3 * 40 * 70.0).view(3, 40, 70) + 10_000 * i for i in range(2)]
    crops, groups = disjoint_crops(images, 20, most=100)
    assert len(crops) == 2 * 2 * 3
    assert groups[:4] == [0, 1, 0, 1]
    values = torch.cat([x.flatten() for x in crops])
    assert len(values.unique()) == len(values)
    few, of = disjoint_crops(images, 20, most=3)
    assert (len(few), of) == (3, [0, 1, 0])
    with pytest.raises(ArgumentError, match="size is 41"):
        disjoint_crops(images, 41, most=3)
    with pytest.raises(ArgumentError, match="size is 0 and most 3"):
        disjoint_crops(images, 0, most=3)


def test_crops_are_held_no_more_than_asked_for_and_pictures_read_no_further() -> None:
    read: list[int] = []

    def pictures(count: int):
        for i in range(count):
            read.append(i)
            side = 10 if i < 3 else 40  # the first ones are too small
            yield torch.full((3, side, 70), float(i))

    crops, of = disjoint_crops(pictures(100), 20, most=4)
    assert of == [3, 4, 5, 6]
    assert [float(x.mean()) for x in crops] == [3, 4, 5, 6]
    assert len(read) < 12
    crops, of = disjoint_crops(pictures(6), 20, most=8)
    assert of == [3, 4, 5, 3, 4, 5, 3, 4]


@pytest.mark.parametrize(
    ("pictures", "options", "words"),
    [
        ([], {}, "pictures has 0"),
        (days(2), {"draws": 0}, "draws is 0"),
    ],
    ids=["none", "draws"],
)
def test_bad_arguments_are_named(pictures, options, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        run(Levels(), pictures, **options)


def test_pictures_without_things_are_refused() -> None:
    with pytest.raises(ArgumentError, match="nothing that the detector finds"):
        run(Bright(), [torch.zeros(3, 16, 16)])


class Marker:
    """Marks the left half of a bright picture, all of a very bright one, nothing of a dark one."""

    def mask(self, images):
        found = torch.zeros(len(images), 1, *images.shape[2:])
        for mask, x in zip(found, images, strict=True):
            width = x.shape[2] if x.mean() > 0.7 else x.shape[2] // 2
            mask[..., : width if x.mean() > 0.2 else 0] = 1
        return found


def test_masks_are_the_same_when_they_overlap_by_half_of_their_union() -> None:
    pictures = [torch.full((3, 16, 16), v) for v in (0.5, 0.9, 0.05)]  # the last shows nothing

    def to(level: float):
        return lambda x: torch.full_like(x, level)

    groups = [0, 1, 2]
    (found,) = judge_in_the_dark(
        Marker(), pictures, groups, {"half": to(0.5), "all": to(0.9), "none": to(0.0)},
        triples=[TRIPLE], draws=1,
    )  # fmt: skip
    assert list(found.things) == [1, 1, 0]
    assert found.again == {"half": [1, 1, 0], "all": [1, 1, 0], "none": [0, 0, 0]}
    assert found.false == {"half": [0, 0, 1], "all": [0, 0, 1], "none": [0, 0, 0]}

    class Quarter(Marker):
        def mask(self, images):
            return super().mask(images) * (torch.arange(images.shape[3]) < 4)

    class Day(Marker):
        def __init__(self) -> None:
            self.first = 3

        def mask(self, images):
            self.first -= 1
            return (Marker() if self.first >= 0 else Quarter()).mask(images)

    (found,) = judge_in_the_dark(
        Day(), pictures, groups, {"half": to(0.5), "all": to(0.9)}, triples=[TRIPLE], draws=1
    )
    assert found.again == {"half": [1, 0, 0], "all": [1, 0, 0]}  # 4 of 8 columns, 4 of 16


def test_nothing_may_take_the_name_or_the_place_of_an_answer() -> None:
    with pytest.raises(ArgumentError, match="called 'untouched'"):
        next(evaluate(Levels(), days(2), [0, 1], {UNTOUCHED: back}, triples=[TRIPLE]))

    class Broken(Levels):
        def __call__(self, x):
            return super().__call__(x) * float("nan")

    with pytest.raises(ArgumentError, match="answers with NaN"):
        run(Broken(), days(2))
