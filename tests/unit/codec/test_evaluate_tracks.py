"""Tracks: right answers by hand with small recognisers, drawn words, squares, disparities."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.codec.evaluate import reality_tracks, taskworld_track, tracks
from foveal.codec.evaluate.reality_boxes import (
    boxes_task,
    f1,
    mask_task,
    matches,
    mean_overlap,
)
from foveal.codec.evaluate.reality_tracks import (
    class_task,
    disparity,
    draw_lines,
    edit_distance,
    squares,
    stereo_track,
)
from foveal.codec.evaluate.track import features_of, judge, judge_features, uncompressed
from foveal.data.taskworld import TASKS
from foveal.errors import ArgumentError, MissingExtraError
from foveal.teachers import Detections, task_scores
from foveal.teachers.task_network import TaskBank, TaskNetwork


def levels(*values: int) -> list[np.ndarray]:
    """One flat image of 4 x 4 for each gray level."""
    return [np.full((4, 4, 3), v, np.uint8) for v in values]


# Classes.


def of_brightness(x: Tensor) -> Tensor:
    """Logits of eight steps of brightness."""
    return -(torch.arange(8) / 8 + 1 / 16 - x.mean((1, 2, 3))[:, None]).abs()


def brightness() -> SimpleNamespace:
    class Teacher(SimpleNamespace):
        def __call__(self, x: Tensor) -> Tensor:
            return of_brightness(x)

    return Teacher(features=lambda x: x.mean((1, 2, 3), keepdim=True), head=of_brightness)


def test_classes_agree_with_those_of_the_uncompressed_image() -> None:
    images = levels(20, 60, 60, 250)
    task = class_task(brightness(), images, name="step", device="cpu")
    x = torch.stack([torch.full((3, 4, 4), v / 255) for v in (20, 60, 90, 250)])
    sums = task.sums(task.answer(x), range(4))
    # classes 0, 1, 2, 7 against 0, 1, 1, 7; 1 is still among the five nearest of the third
    assert sums.tolist() == [[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 1, 1]]
    total = sums.sum(0).numpy()
    assert task.score(total) == 0.75
    assert task.measures["top5"](total) == 1.0
    assert task.classes == 8
    # the most frequent class is right for two of four images
    assert task.chance[:, 0].tolist() == [0, 1, 1, 0]
    assert task.sums(task.answer(x[2:3]), [0]).tolist() == [[0, 1, 1]]


def test_squares_are_the_whole_then_tiles_in_turn() -> None:
    wide = torch.linspace(0, 1, 16).expand(3, 8, 16).contiguous()
    small = torch.full((3, 4, 4), 0.5)
    found, of = squares([wide, small], 4, 100)
    assert of == [0, 1, *[0] * 8]
    assert all(x.shape == (4, 4, 3) for x in found)
    assert np.unique(found[1]).tolist() == [128]
    assert found[2].tolist() == (wide[:, :4, :4] * 255).round().permute(1, 2, 0).byte().tolist()
    assert squares([wide, small], 4, 3)[1] == [0, 1, 0]


# Words.


def test_edit_distance_by_hand() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3
    assert edit_distance("abc", "") == 3
    assert edit_distance("abc", "abc") == 0
    assert edit_distance("ab", "ba") == 2


def test_lines_are_drawn_from_the_seed() -> None:
    images, texts = draw_lines(6, 3)
    again, same = draw_lines(6, 3)
    other, different = draw_lines(6, 4)
    assert texts == same
    assert all(np.array_equal(a, b) for a, b in zip(images, again, strict=True))
    assert texts != different
    assert not np.array_equal(images[0], other[0])
    for image, text in zip(images, texts, strict=True):
        assert image.shape == (48, 320, 3)
        assert image.dtype == np.uint8
        assert 5 <= len(text) <= 16
        assert float(image.std()) > 5  # something is written


def test_words_count_characters_without_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    from foveal.teachers.pp_ocr import TextReader

    texts = draw_lines(3, 0)[1]

    class Reader(SimpleNamespace):
        def to(self, device: str) -> "Reader":
            return self

    def read(x: Tensor) -> list[tuple[str, float]]:
        return [(" " + texts[0].replace(" ", "  "), 1.0), ("x" + texts[1], 1.0), ("", 0.0)]

    monkeypatch.setattr(TextReader, "load", lambda: Reader(read=read))
    track = reality_tracks.words_track(images=3, seed=0)
    task = track.tasks["words"]
    lengths = [len(t.replace(" ", "")) for t in texts]
    sums = judge(track, track.batch(range(3), "cpu"), range(3))["words"]
    assert sums.tolist() == [[0, lengths[0]], [1, lengths[1]], [lengths[2], lengths[2]]]
    assert task.score(task.chance.sum(0)) == 1.0
    assert not task.higher_is_better


# Boxes and masks.


def found(*boxes: tuple[float, float, float, float, float, int]) -> Detections:
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 6)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].long(), ("a", "b"))


def test_boxes_match_one_to_one_by_class_and_overlap() -> None:
    wanted = found((0, 0, 10, 10, 1, 0), (20, 0, 30, 10, 1, 0), (50, 0, 60, 10, 1, 1))
    assert matches(wanted, wanted) == 3
    assert matches(found((0, 0, 10, 10, 0.9, 0), (1, 0, 10, 10, 0.8, 0)), wanted) == 1
    assert matches(found((50, 0, 60, 10, 0.9, 0)), wanted) == 0  # another class
    assert matches(found((4, 0, 14, 10, 0.9, 0)), wanted) == 0  # 6 of 14
    assert matches(found((3, 0, 13, 10, 0.9, 0)), wanted) == 1  # 7 of 13
    assert matches(found(), wanted) == matches(wanted, found()) == 0


def test_f1_of_boxes_by_hand() -> None:
    assert f1(np.array([2.0, 3.0, 5.0])) == 0.5


class Spots:
    """Finds one box in bright images, two in very bright ones."""

    def detect(self, images: Tensor, *, threshold: float) -> list[Detections]:
        assert threshold == 0.3
        out: list[Detections] = []
        for value in images.mean((1, 2, 3)).tolist():
            rows = [(0, 0, 2, 2, 0.9, 0), (2, 2, 4, 4, 0.8, 1)][: int(value > 0.3) + (value > 0.6)]
            out.append(found(*rows))
        return out


def test_boxes_are_judged_by_those_of_the_uncompressed_image() -> None:
    task = boxes_task(Spots(), levels(10, 100, 200), name="spots", device="cpu")
    x = torch.stack([torch.full((3, 4, 4), v) for v in (0.0, 0.9, 0.4)])
    sums = task.sums(task.answer(x), range(3))
    assert sums.tolist() == [[0, 0, 0], [1, 2, 1], [1, 1, 2]]
    assert task.score(sums.sum(0).numpy()) == pytest.approx(4 / 6)
    assert task.score(task.chance.sum(0)) == 0.0
    with pytest.raises(ArgumentError, match="images show nothing that spots finds"):
        boxes_task(Spots(), levels(10), name="spots", device="cpu")


class Bright:
    """Marks bright pixels."""

    def mask(self, images: Tensor) -> Tensor:
        return images.mean(1, keepdim=True)


def test_masks_are_judged_by_those_of_the_uncompressed_image() -> None:
    image = levels(0)[0]
    image[0] = 255  # 4 of 16
    task = mask_task(Bright(), [image], name="bright", device="cpu")
    x = torch.zeros(1, 3, 4, 4)
    x[..., :2, :] = 1  # 8, of which 4 are right
    sums = task.sums(task.answer(x), [0])
    assert sums.tolist() == [[4, 0, 4, 8]]
    assert task.score(sums[0].numpy()) == pytest.approx((4 / 8 + 8 / 12) / 2)
    assert task.chance.tolist() == [[0, 4, 0, 12]]  # nothing is marked
    assert mean_overlap(task.chance[0]) == pytest.approx(12 / 16 / 2)


# Two views.


def test_disparity_of_a_shifted_picture() -> None:
    picture = torch.rand(1, 3, 20, 60, generator=torch.Generator().manual_seed(0))
    left = torch.roll(picture, 7, dims=-1)
    got = disparity(left, picture, 12)
    assert (got[0, 5:-5, 15:-5] == 7).all()


def test_stereo_has_measured_depth_and_a_bad_constant() -> None:
    pytest.importorskip("skimage")
    track = stereo_track(images=1)
    assert (len(track), track.images[0].shape) == (1, (200, 741, 3))
    task = track.tasks["stereo"]
    full = uncompressed(track)["stereo"].sum(0)
    assert task.score(full) < 0.5 < task.score(task.chance.sum(0))
    with pytest.raises(ArgumentError, match="stereo_track: images is 0"):
        stereo_track(images=0)


def test_stereo_without_scikit_image_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reality_tracks, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install scikit-image"):
        stereo_track()


# Drawn.


def test_taskworld_has_exact_labels_and_cut_networks() -> None:
    torch.manual_seed(0)
    bank = TaskBank([TaskNetwork(t).freeze() for t in ("scene", "depth")])
    constants = taskworld_track.constant_answers(bank.tasks, images=2)
    track = taskworld_track.taskworld_track(bank, images=2, first_seed=5, constants=constants)
    assert track.name == "taskworld-test"
    assert not track.reality
    assert track.seeds == (5, 6)
    assert track.tasks["scene"].classes == 8
    assert not track.tasks["depth"].higher_is_better
    features = {name: features_of(track, name) for name in track.tasks}
    assert features["depth"].shape == (2, 8, 16, 16)
    whole, cut = uncompressed(track), judge_features(track, features)
    for name, sums in whole.items():
        assert np.allclose(sums, cut[name], rtol=1e-5)
    again = taskworld_track.taskworld_track(bank, images=2, first_seed=5, constants=constants)
    assert again.fingerprint() == track.fingerprint()
    assert np.array_equal(again.images[1], track.images[1])


def test_a_perfect_answer_scores_best_on_drawn_images() -> None:
    bank = TaskBank([TaskNetwork("depth").freeze()])
    constants = taskworld_track.constant_answers(["depth"], images=2)
    track = taskworld_track.taskworld_track(bank, images=1, constants=constants)
    _, labels = taskworld_track.draw("test", [0], ["depth"], "cpu")
    task = track.tasks["depth"]
    assert task.score(task.sums(labels["depth"][0], [0])[0].numpy()) == pytest.approx(0, abs=1e-6)
    assert task.score(task.chance[0]) > 0.05


@pytest.mark.parametrize("task", list(TASKS))
def test_scores_of_many_resamples_are_those_of_each(task: str) -> None:
    dice = np.random.default_rng(len(task))
    kind, channels = TASKS[task].kind, TASKS[task].channels
    if kind == "segmentation":
        totals = dice.integers(0, 9, (5, channels, channels)).astype(float)
        totals[:, 3], totals[:, :, 3] = 0, 0  # a class that nobody has
        totals = totals.reshape(5, -1)
    elif task in task_scores.PRESENT:
        totals = dice.integers(0, 9, (5, 3 * len(task_scores.THRESHOLDS) + 1)).astype(float)
    elif kind == "class":
        totals = dice.uniform(1, 9, (5, 3 if task == "object_count" else 2))
    else:
        width = {"normal": 3, "depth": 3, "curvature": 4}.get(task, 2)
        totals = dice.uniform(1, 9, (5, width))
    each = [task_scores.score(task, torch.from_numpy(row)[None]) for row in totals]
    assert taskworld_track.scores(task, totals) == pytest.approx(each)


def test_a_drawn_track_is_chosen_for_by_another_split() -> None:
    bundle = tracks.make("taskworld-shift", images=2, choosing=1, training=1, tasks=("scene",))
    assert bundle.judge.name == "taskworld-shift"
    assert bundle.choose is not None
    assert (bundle.choose.name, len(bundle.choose), len(bundle.judge)) == ("taskworld-val", 1, 2)
    assert bundle.fitted == "1 drawn images, split train"
    assert bundle.training is not None
    features = bundle.training()
    assert {name: tuple(x.shape) for name, x in features.items()} == {"scene": (1, 8, 16, 16)}
    cut = bundle.judge.tasks["scene"].cut
    assert cut is not None
    assert cut.teacher == "tasks-residual/scene"
    assert len(cut.sha256) == 64


def test_names_begin_with_reality() -> None:
    assert tracks.NAMES[: len(tracks.REALITY)] == tracks.REALITY
    with pytest.raises(ArgumentError, match="track is 'x', must be one of efficientnet-lite0"):
        tracks.make("x")
    with pytest.raises(ArgumentError, match="images, choosing, training are 0, 200, 2000"):
        tracks.make("words", images=0)
    with pytest.raises(ArgumentError, match="arch is 'other', must be one of"):
        tracks.make("taskworld", images=1, arch="other")
    bank = TaskBank([TaskNetwork("depth").freeze()])
    with pytest.raises(ArgumentError, match="split is 'x', must be one of"):
        taskworld_track.taskworld_track(bank, split="x")
    with pytest.raises(ArgumentError, match="images is 0, must be at least 1"):
        taskworld_track.taskworld_track(bank, images=0)


@pytest.mark.assets
def test_words_are_read_from_uncompressed_lines() -> None:
    bundle = tracks.make("words", images=6)
    track = bundle.judge
    assert bundle.choose is None
    assert track.tasks["words"].score(uncompressed(track)["words"].sum(0)) < 0.1
