"""What a recogniser makes of pictures that are dark already, against their labels.

Items come from `data.layouts`. Nothing is darkened: each picture is shown as it is and brightened
by each method, and the answer is compared with the label.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foveal._core.media import read_image
from foveal._core.video import spread_frames
from foveal.data.layouts import Item
from foveal.errors import ArgumentError, UnsupportedError
from foveal.lowlight.average_precision import Matches, labelled, match_boxes
from foveal.lowlight.evaluate import THRESHOLD, Finder, Namer, found_again
from foveal.lowlight.outcomes import UNTOUCHED, Brighten, Outcomes, Triple
from foveal.teachers import Detections

AS_TAKEN: Triple = (1.0, 0.0, 0.0)
"""The darkness of pictures that nothing was done to."""

OTHER_NAMES = {"motorbike": "motorcycle", "people": "person", "table": "dining_table"}
"""ExDark's names where COCO has another."""

_LEAST_SCORE = 0.01
_CLIPS = {".mp4", ".avi", ".mkv", ".mov"}


@dataclass(frozen=True, slots=True)
class LabelledBoxes:
    """What became of labelled boxes.

    Attributes:
        outcomes: Boxes found again, and boxes that are none, at a score of 0.3 or more.
        matches: For each method and class, all detections, for average precision.
        left_out: Pictures without a labelled box. One whose boxes are of no class that the detector
            knows is not: what is found there counts against it.
    """

    outcomes: Outcomes
    matches: dict[str, dict[str, Matches]]
    left_out: int

    def precision(self, method: str) -> float:
        """Return the share of a method's boxes that are labelled; NaN if it has none."""
        right, wrong = sum(self.outcomes.again[method]), sum(self.outcomes.false[method])
        return right / (right + wrong) if right + wrong else float("nan")


def judge_classes(
    model: Namer,
    items: Sequence[Item],
    classes: Sequence[str],
    methods: Mapping[str, Brighten],
    *,
    device: torch.device,
    num_frames: int = 16,
    on_item: Callable[[int], None] | None = None,
) -> Outcomes:
    """Count right top classes of images or clips.

    Args:
        model: Classes in the order of `classes`. Clips are given as (1, 3, frames, height, width),
            each frame through its `preprocess`, and brightened by one curve.
        items: With the label of each.
        classes: Names of the model's outputs.
        methods: Ways to brighten, (b, 3, h, w) to the same.
        device: Of the model.
        num_frames: Spread over a clip; a shorter one repeats its last.
        on_item: Called with the number of the item that is done.

    Raises: ArgumentError: a label is not among the classes, or the model has another number of
        them or answers with NaN. MediaError: a file cannot be read.
    Cost: items x methods passes. Memory: one item, and what the model sees of it by each method.
    """
    _check("judge_classes", items)
    for item in items:
        if item.label not in classes:
            raise ArgumentError(
                f"judge_classes: label of {item.path.name} is {item.label!r}, must be one of "
                f"{', '.join(classes)}"
            )
    again: dict[str, list[int]] = {name: [] for name in methods}
    with torch.no_grad():
        for i, item in enumerate(items):
            if video := item.path.suffix.lower() in _CLIPS:
                frames = _frames(item, num_frames).to(device)
            else:
                frames = read_image(item.path).to(device)[None]
            tall = frames.transpose(0, 1).flatten(1, 2)[None]
            inputs: list[Tensor] = []
            for way in methods.values():
                bright = way(tall)[0].unflatten(1, (len(frames), -1)).transpose(0, 1)
                x = model.preprocess(bright.contiguous())
                inputs.append(x.transpose(0, 1)[None] if video else x)
            logits = model(torch.cat(inputs)).flatten(1)
            if logits.shape[1] != len(classes):
                raise ArgumentError(
                    f"judge_classes: model has {logits.shape[1]} outputs, must have the "
                    f"{len(classes)} classes {', '.join(classes)}, in this order"
                )
            if bool(logits.isnan().any()):
                raise ArgumentError(f"judge_classes: model answers {item.path.name} with NaN")
            for name, best in zip(methods, logits.argmax(1).tolist(), strict=True):
                again[name].append(int(classes[best] == item.label))
            if on_item is not None:
                on_item(i)
    false = {name: [0] * len(items) for name in methods}
    return Outcomes(AS_TAKEN, list(range(len(items))), [1] * len(items), 1, again, false)


def judge_boxes(
    detector: Finder,
    items: Sequence[Item],
    methods: Mapping[str, Brighten],
    *,
    device: torch.device,
    on_item: Callable[[int], None] | None = None,
) -> LabelledBoxes:
    """Compare a detector's boxes with those that are labelled, in pictures of any size.

    Classes are matched by name, without regard to case; see `OTHER_NAMES`. Boxes of classes that
    are not labelled anywhere do not count against the detector.

    Args:
        detector: Frozen.
        items: With boxes and their classes.
        methods: Ways to brighten, (b, 3, h, w) to the same; the untouched picture is added.
        device: Of the detector.
        on_item: Called with the number of the item that is done.

    Raises: UnsupportedError: the detector knows no class that is labelled. ArgumentError: no item
        has a box. MediaError: a file cannot be read.
    Cost: items x methods passes. Memory: one picture by one method, and all boxes.
    """
    _check("judge_boxes", items)
    methods = {UNTOUCHED: lambda x: x, **methods}
    kept = [item for item in items if item.boxes]
    if not kept:
        raise ArgumentError("judge_boxes: items have no boxes, must have some; check the labels")
    wanted = {_name(x) for item in kept for x in item.classes}
    truth: list[Detections] = []
    found: dict[str, list[Detections]] = {name: [] for name in methods}
    with torch.no_grad():
        for i, item in enumerate(kept):
            picture = read_image(item.path).to(device)[None]
            for name, way in methods.items():
                (here,) = detector.detect(way(picture), threshold=_LEAST_SCORE)
                found[name].append(_only(here, wanted))
            names = found[UNTOUCHED][-1].names
            known = [(b, c) for b, c in zip(item.boxes, map(_name, item.classes), strict=True)
                     if c in names]  # fmt: skip
            truth.append(labelled([b for b, _ in known], [c for _, c in known], names))
            if on_item is not None:
                on_item(i)
    names = truth[0].names
    if not wanted & set(names):
        raise UnsupportedError(
            f"judge_boxes: the detector knows none of {', '.join(sorted(wanted))}; it names "
            f"{', '.join(names[:8])}{' and more' * (len(names) > 8)}"
        )
    right: dict[str, list[int]] = {name: [] for name in methods}
    wrong: dict[str, list[int]] = {name: [] for name in methods}
    for name, boxes in found.items():
        for here, there in zip(boxes, truth, strict=True):
            sure = _above(here, THRESHOLD)
            right[name].append(found_again(there, sure))
            wrong[name].append(len(sure) - right[name][-1])
    things = [len(x) for x in truth]
    outcomes = Outcomes(AS_TAKEN, list(range(len(kept))), things, 1, right, wrong)
    matches = {name: match_boxes(boxes, truth) for name, boxes in found.items()}
    return LabelledBoxes(outcomes, matches, len(items) - len(kept))


def _check(where: str, items: Sequence[Item]) -> None:
    if not items:
        raise ArgumentError(f"{where}: items is empty, must hold one at least; check the layout")


def _frames(item: Item, count: int) -> Tensor:
    found = list(spread_frames(item.path, count))
    found += [found[-1]] * (count - len(found))
    return torch.stack(found)


def _name(text: str) -> str:
    plain = text.strip().lower().replace(" ", "_")
    return OTHER_NAMES.get(plain, plain)


def _only(found: Detections, wanted: set[str]) -> Detections:
    """Detections on the CPU, of the classes that are labelled somewhere, by plain names."""
    names = tuple(_name(x) for x in found.names)
    labels = found.labels.cpu()
    keep = torch.tensor([names[x] in wanted for x in labels.tolist()], dtype=torch.bool)
    return Detections(
        found.boxes.float().cpu()[keep], found.scores.float().cpu()[keep], labels[keep], names
    )


def _above(found: Detections, threshold: float) -> Detections:
    keep = found.scores >= threshold
    return Detections(found.boxes[keep], found.scores[keep], found.labels[keep], found.names)
