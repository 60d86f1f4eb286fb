"""Average precision by hand, and dark pictures with labels by small models."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from foveal._core.video import VideoWriter
from foveal.data.layouts import Item
from foveal.errors import ArgumentError, ShapeError, UnsupportedError
from foveal.lowlight import baselines, write_image
from foveal.lowlight.average_precision import (
    Matches,
    difference,
    labelled,
    match_boxes,
    mean_average_precision,
)
from foveal.lowlight.evaluate import fixed_methods
from foveal.lowlight.evaluate_labels import judge_boxes, judge_classes
from foveal.lowlight.outcomes import UNTOUCHED
from foveal.teachers import Detections

CPU = torch.device("cpu")
NAMES = ("cat", "dog", "dining_table")


def boxes(*rows: tuple[float, float, float, float], scores=None, labels=None) -> Detections:
    n = len(rows)
    return Detections(
        torch.tensor(rows, dtype=torch.float32).view(-1, 4),
        torch.tensor(scores or [1.0] * n),
        torch.tensor(labels or [0] * n, dtype=torch.int64),
        NAMES,
    )


A, B, C = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (40.0, 0.0, 50.0, 10.0)


def test_average_precision_by_hand() -> None:
    """Right, wrong, right, right of four boxes: precision 1, 1/2, 2/3 and 3/4."""
    right = np.array([True, False, True, True])
    found = Matches(right, np.array([0, 0, 0, 1]), np.array([2, 2]))
    # best precision from there on: 1 for the first quarter, 3/4 for the next two
    assert found.average_precision() == pytest.approx((1 + 0.75 + 0.75) / 4)
    # without the second picture: 1, 1/2, 2/3 of two boxes
    assert found.average_precision(np.array([1.0, 0.0])) == pytest.approx((1 + 2 / 3) / 2)
    # the second picture twice: 4 of 6 boxes; 1, 2/2... weights 1 1 1 2
    expected = (1 * 1 + 1 * 0.8 + 2 * 0.8) / 6
    assert found.average_precision(np.array([1.0, 2.0])) == pytest.approx(expected)
    assert math.isnan(found.average_precision(np.zeros(2)))
    none = Matches(np.zeros(0, bool), np.zeros(0, int), np.array([2, 2]))
    assert none.average_precision() == 0


def test_boxes_are_matched_once_by_class_and_overlap() -> None:
    truth = [boxes(A, B), boxes(A, C, labels=[1, 0])]
    found = [
        boxes(A, A, B, scores=[0.9, 0.8, 0.7]),  # the second A finds its box taken
        boxes(A, (40, 0, 50, 4), C, scores=[0.95, 0.6, 0.5], labels=[0, 0, 0]),
    ]
    both = match_boxes(found, truth)
    assert list(both) == ["cat", "dog"]
    cat = both["cat"]
    # by score: wrong (a dog's box), right, taken, right, too little overlap, right
    assert cat.right.tolist() == [False, True, False, True, False, True]
    assert cat.picture.tolist() == [1, 0, 0, 0, 1, 1]
    assert cat.wanted.tolist() == [2, 1]
    assert cat.average_precision() == pytest.approx(0.5)
    assert both["dog"].average_precision() == 0
    assert mean_average_precision(both) == pytest.approx(0.25)
    loose = match_boxes(found, truth, overlap=0.3)
    assert loose["cat"].right.tolist() == [False, True, False, True, True, False]
    with pytest.raises(ShapeError, match="must have the 2 of truth"):
        match_boxes(found[:1], truth)
    with pytest.raises(ArgumentError, match="overlap is 0"):
        match_boxes(found, truth, overlap=0)
    other = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), ("x",))
    with pytest.raises(ArgumentError, match="other classes"):
        match_boxes([found[0], other], truth)
    with pytest.raises(ArgumentError, match="class is 'cow'"):
        labelled([A], ["cow"], NAMES)


def test_intervals_resample_pictures() -> None:
    truth = [boxes(A)] * 8
    all_right = match_boxes([boxes(A)] * 8, truth)
    half = match_boxes([boxes(A)] * 4 + [boxes()] * 4, truth)
    found = difference(all_right, half)
    assert found.mean == pytest.approx(0.5)
    assert 0 < found.low < 0.4
    assert 0.6 < found.high < 1
    assert (found.num_groups, found.anecdote) == (8, True)
    assert difference(half, half).high == 0
    for other in ({}, match_boxes([boxes(A)] * 7, truth[1:])):
        with pytest.raises(ArgumentError, match="of the same labelled pictures"):
            difference(all_right, other)
    # a class that no picture of a resample has does not count there
    rare = {**half, "dog": match_boxes([boxes()] * 8, [boxes(A)] + [boxes()] * 7)["cat"]}
    without_first = np.array([0.0] + [1.0] * 7)
    assert mean_average_precision(rare, without_first) == pytest.approx(3 / 7)
    assert mean_average_precision(rare) == pytest.approx(0.25)
    assert math.isfinite(difference(rare, all_right | {"dog": rare["dog"]}).low)


class Levels(torch.nn.Module):
    """Three classes by brightness."""

    def preprocess(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 4)

    def forward(self, x):
        return torch.nn.functional.one_hot((x.flatten(1).mean(1) * 3).long().clamp(0, 2), 3).float()


def test_images_and_clips_against_their_labels(tmp_path) -> None:
    write_image(tmp_path / "a.png", torch.full((3, 20, 30), 0.2))
    write_image(tmp_path / "b.png", torch.full((3, 24, 24), 0.5))
    with VideoWriter(tmp_path / "c.mp4", fps=Fraction(25), crf=5) as writer:
        for i in range(5):
            writer.write(torch.full((3, 32, 32), 0.1 * i))
    kinds = ("low", "mid", "high")
    images = [Item(tmp_path / "a.png", "low"), Item(tmp_path / "b.png", "high")]
    methods = {**fixed_methods(), "gamma": baselines.Gamma(0.5)}
    seen: list[int] = []
    found = judge_classes(Levels(), images, kinds, methods, device=CPU, on_item=seen.append)
    assert found.again[UNTOUCHED] == [1, 0]
    assert found.again["gamma"] == [0, 1]  # 0.45 is in the middle, 0.71 is high
    assert found.difference("gamma", (1, UNTOUCHED)).mean == 0
    assert seen == [0, 1]

    class Clips(Levels):
        def forward(self, x):
            assert x.shape[1:3] == (3, 8)  # five frames, the last one repeated
            return super().forward(x)

    clip = [Item(tmp_path / "c.mp4", "low")]
    arguments = {"device": CPU, "num_frames": 8}
    assert judge_classes(Clips(), clip, kinds, methods, **arguments).again[UNTOUCHED] == [1]
    with pytest.raises(ArgumentError, match="label of a.png is 'low'"):
        judge_classes(Levels(), images, ("mid", "high", "x"), methods, device=CPU)
    with pytest.raises(ArgumentError, match="model has 3 outputs, must have the 2"):
        judge_classes(Levels(), images, ("low", "high"), methods, device=CPU)

    class Broken(Levels):
        def forward(self, x):
            return super().forward(x) / 0

    with pytest.raises(ArgumentError, match="answers a.png with NaN"):
        judge_classes(Broken(), images, kinds, methods, device=CPU)
    with pytest.raises(ArgumentError, match="items is empty"):
        judge_classes(Levels(), [], kinds, methods, device=CPU)


class Corner:
    """Finds a dog in the left half of bright pictures, surely, and a table everywhere, hardly."""

    names = NAMES

    def detect(self, images, *, threshold=0.3):
        found = []
        for x in images:
            h, w = x.shape[1:]
            rows = torch.tensor([[0.0, 0, w / 2, h], [0, 0, w, h], [0, 0, w, h]])
            scores = torch.tensor([0.9, 0.4, 0.1])
            keep = torch.tensor([bool(x.mean() > 0.3), True, True]) & (scores >= threshold)
            labels = torch.tensor([1, 0, 2])
            found.append(Detections(rows[keep], scores[keep], labels[keep], self.names))
        return found


def test_boxes_against_their_labels(tmp_path) -> None:
    for name, level in (("a", 0.1), ("b", 0.5)):
        write_image(tmp_path / f"{name}.png", torch.full((3, 20, 40), level))
    left, whole = (0.0, 0.0, 20.0, 20.0), (0.0, 0.0, 40.0, 20.0)
    items = [
        Item(tmp_path / "a.png", "", (left, whole), ("Dog", "Table")),
        Item(tmp_path / "b.png", "", (left, left), ("Dog", "Boat")),
        Item(tmp_path / "none.png"),  # no box: not even read
    ]
    found = judge_boxes(Corner(), items, {"gamma": baselines.Gamma(0.4)}, device=CPU)
    assert found.left_out == 1
    assert list(found.outcomes.things) == [2, 1]  # nobody names boats
    # the dark dog is found after brightening; the table's score is under 0.3
    assert found.outcomes.again == {UNTOUCHED: [0, 1], "gamma": [1, 1]}
    assert found.outcomes.false == {UNTOUCHED: [0, 0], "gamma": [0, 0]}  # cats are labelled nowhere
    assert found.precision("gamma") == 1
    untouched, gamma = found.matches[UNTOUCHED], found.matches["gamma"]
    assert untouched["dog"].average_precision() == pytest.approx(0.5)
    assert gamma["dog"].average_precision() == 1
    assert gamma["dining_table"].average_precision() == 1  # by a score of 0.1
    # a picture of boats alone has no known box, and its dog is a wrong one
    boats = Item(tmp_path / "b.png", "", (left,), ("Boat",))
    more = judge_boxes(Corner(), [*items, boats], {}, device=CPU)
    assert more.left_out == 1
    assert list(more.outcomes.things) == [2, 1, 0]
    assert more.outcomes.false[UNTOUCHED] == [0, 0, 1]
    assert more.matches[UNTOUCHED]["dog"].average_precision() == pytest.approx(0.5)
    with pytest.raises(UnsupportedError, match="knows none of boat"):
        judge_boxes(Corner(), [Item(tmp_path / "b.png", "", (left,), ("Boat",))], {}, device=CPU)
    with pytest.raises(ArgumentError, match="items have no boxes"):
        judge_boxes(Corner(), items[2:], {}, device=CPU)
