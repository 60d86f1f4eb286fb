"""What a frozen recogniser still sees in the dark, by each way to brighten, on the same noise."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.data.sensor_noise import TRIPLES, Shot, shoot
from foveal.errors import ArgumentError
from foveal.lowlight.ensemble import ENSEMBLE, reciprocal_curve
from foveal.lowlight.outcomes import (
    BEST_FIXED,
    CEILING,
    FIXED,
    LUCKLESS,
    UNTOUCHED,
    Brighten,
    Outcomes,
    Seen,
    Triple,
)
from foveal.teachers import Detections
from foveal.teachers.protocol import box_overlap

__all__ = [
    "BEST_FIXED",
    "CEILING",
    "UNTOUCHED",
    "Brighten",
    "Finder",
    "Masker",
    "Namer",
    "Seen",
    "Triple",
    "disjoint_crops",
    "evaluate",
    "fixed_methods",
    "found_again",
    "in_the_dark",
    "is_detector",
    "judge_in_the_dark",
    "takes_whole_pictures",
]

RESERVED = frozenset({UNTOUCHED, BEST_FIXED, CEILING, LUCKLESS, *FIXED})
"""Names that no method of one's own may have."""

OVERLAP = 0.5
THRESHOLD = 0.3
_LEAST_MASK = 0.02  # of the pixels, or there is nothing to be found again
_MOST_PIXELS = {"cpu": 1 << 20}
_MOST_PIXELS_ELSEWHERE = 1 << 23


@runtime_checkable
class Namer(Protocol):
    """Names what a picture shows, or a clip; every vision teacher does."""

    def preprocess(self, images: Tensor) -> Tensor:
        """Bring images (b, 3, height, width), or clips (b, 3, t, ...), into the form it takes."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Return logits."""
        ...


@runtime_checkable
class Finder(Protocol):
    """Finds things in pictures of any size."""

    def detect(self, images: Tensor, *, threshold: float = 0.3) -> list[Detections]:
        """Return the things of each of the images (b, 3, height, width)."""
        ...


@runtime_checkable
class Masker(Protocol):
    """Marks the pixels of what it knows in pictures of any size."""

    def mask(self, images: Tensor) -> Tensor:
        """Return probabilities (b, 1, height, width) of the images (b, 3, height, width)."""
        ...


def disjoint_crops(
    images: Iterable[Float[Tensor, "3 height width"]], size: int, *, most: int
) -> tuple[list[Float[Tensor, "3 size size"]], list[int]]:
    """Cut pictures into squares that do not overlap, in turns over the pictures.

    Args:
        images: sRGB in [0, 1]; taken one by one.
        size: Side of a crop, in pixels.
        most: Crops at most.

    Returns: The crops, and of which picture each is.

    Raises: ArgumentError: no crop fits, or a number is below 1.
    Memory: one picture, and twice as many crops as are asked for.
    """
    if size < 1 or most < 1:
        raise ArgumentError(f"disjoint_crops: size is {size} and most {most}, must be >= 1")
    found: list[tuple[int, int, Tensor]] = []  # turn, picture, crop
    for i, image in enumerate(images):
        rows, columns = (x // size for x in image.shape[1:])
        tops = [(image.shape[1] - rows * size) // 2 + i * size for i in range(rows)]
        lefts = [(image.shape[2] - columns * size) // 2 + i * size for i in range(columns)]
        corners = [(y, x) for y in tops for x in lefts]
        corners = (corners[::2] + corners[1::2])[:most]  # neighbors last
        found += [
            (turn, i, image[:, y : y + size, x : x + size].clone())
            for turn, (y, x) in enumerate(corners)
        ]
        if len(found) >= 2 * most:
            found = sorted(found, key=lambda row: row[:2])[:most]
            if found[-1][0] == 0:
                break  # a crop of each of so many pictures: no later one comes before them
    found = sorted(found, key=lambda row: row[:2])[:most]
    if not found:
        raise ArgumentError(
            f"disjoint_crops: size is {size}, must be at most the shorter side of a picture; use "
            "smaller crops or larger pictures"
        )
    return [x for _, _, x in found], [i for _, i, _ in found]


def fixed_methods() -> dict[str, Brighten]:
    """Return what every judgement has: the untouched picture, and the nine reciprocal curves."""
    curves = dict(zip(FIXED, map(_reciprocal, ENSEMBLE), strict=True))
    return {UNTOUCHED: lambda x: x, **curves}


def evaluate(
    teacher: Namer | Finder | Masker,
    pictures: Sequence[Float[Tensor, "*frames 3 height width"]],
    groups: Sequence[int],
    methods: Mapping[str, Brighten],
    *,
    labels: Sequence[int] | None = None,
    triples: Sequence[Triple] = TRIPLES,
    draws: int = 5,
    seed: int = 0,
    on_picture: Callable[[Triple, int], None] | None = None,
) -> Iterator[list[Seen]]:
    """Yield, for one darkness after the other, what each method leaves of the daylight answer.

    Beside `methods` the untouched picture, the nine reciprocal curves of the ensemble (of which the
    best is named in hindsight) and their ceiling are judged. Arguments, errors and cost as
    `judge_in_the_dark`; a method that has one of their names is refused.
    """
    check_names("evaluate", methods)
    for outcomes in judge_in_the_dark(
        teacher,
        pictures,
        groups,
        {**fixed_methods(), **methods},
        labels=labels,
        triples=triples,
        draws=draws,
        seed=seed,
        on_picture=on_picture,
    ):
        yield outcomes.summarize()


def judge_in_the_dark(
    teacher: Namer | Finder | Masker,
    pictures: Sequence[Float[Tensor, "*frames 3 height width"]],
    groups: Sequence[int],
    methods: Mapping[str, Brighten],
    *,
    labels: Sequence[int] | None = None,
    triples: Sequence[Triple] = TRIPLES,
    draws: int = 5,
    seed: int = 0,
    on_picture: Callable[[Triple, int], None] | None = None,
) -> Iterator[Outcomes]:
    """Yield, for one darkness after the other, what each item shows of its daylight answer.

    Args:
        teacher: Frozen; with `detect`, things are counted, with `mask` masks that overlap by half
            of their union, else top classes.
        pictures: sRGB in [0, 1], daylight; any size for detectors, else as the teacher wants it.
            Each frame of a clip, (t, 3, h, w), has its own noise.
        groups: Which pictures belong together: they are resampled as one.
        methods: Ways to brighten, (b, 3, h, w) to the same, each picture by itself. All see the
            same noise. A clip is given as one picture of its frames below each other.
        labels: The true class of each picture, which is then asked for in place of the daylight
            answer. Not for detectors.
        triples: Exposure factor, shot and read noise.
        draws: Noise draws a picture.
        seed: Of the noise.
        on_picture: Called with the darkness and the number of the picture that is done.

    Raises: ArgumentError: nothing to judge, other labels, a detector finds nothing by daylight, or
        it is given clips or labels.
    Cost: pictures x draws x methods passes a darkness. Memory: items of one size are taken
    together, up to 1 megapixel on a CPU and 8 elsewhere, one item at least.
    """
    check_items("evaluate", pictures, groups, draws)
    if labels is not None and len(labels) != len(pictures):
        raise ArgumentError(
            f"evaluate: labels has {len(labels)}, must have {len(pictures)}, one a picture"
        )
    if is_detector(teacher) and (labels is not None or any(x.ndim == 4 for x in pictures)):
        raise ArgumentError(
            "evaluate: teacher is a detector, must name classes to be given clips or labels; pass "
            "single frames, and no labels"
        )
    judge = _judge_of(teacher)
    with torch.no_grad():
        days: Sequence[Any] = [judge.day(x) for x in pictures] if labels is None else labels
        things = [judge.things(day) for day in days]
        if not any(things):
            raise ArgumentError(
                "evaluate: pictures show nothing that the detector finds by daylight, must show "
                "something it knows; use others"
            )
        for triple in triples:
            again: dict[str, list[int]] = {name: [] for name in methods}
            false: dict[str, list[int]] = {name: [] for name in methods}
            for items, dark in in_the_dark(pictures, triple, draws=draws, seed=seed):
                for name, way in methods.items():
                    for same, wrong in judge.night(_lit(way, dark), [days[i] for i, _ in items]):
                        again[name].append(same)
                        false[name].append(wrong)
                for i, draw in items:
                    if on_picture is not None and draw == draws - 1:
                        on_picture(triple, i)
            yield Outcomes(triple, groups, things, draws, again, false)


def check_names(where: str, methods: Iterable[str]) -> None:
    """Refuse names that stand for what every judgement has.

    Raises: ArgumentError: one does.
    """
    for name in methods:
        if name in RESERVED:
            raise ArgumentError(
                f"{where}: a method is called {name!r}, which every judgement has already, must "
                "have another name"
            )


def check_items(where: str, pictures: Sequence[Any], groups: Sequence[int], draws: int) -> None:
    """Refuse what cannot be judged.

    Raises: ArgumentError: no picture, another number of groups, or no draw.
    """
    if not pictures or len(pictures) != len(groups):
        raise ArgumentError(
            f"{where}: pictures has {len(pictures)} and groups {len(groups)}, must be as many, "
            "and one at least"
        )
    if draws < 1:
        raise ArgumentError(f"{where}: draws is {draws}, must be >= 1")


def in_the_dark(
    pictures: Sequence[Float[Tensor, "*_ 3 _ _"]], triple: Triple, *, draws: int, seed: int
) -> Iterator[tuple[list[tuple[int, int]], Float[Tensor, "_ *_ 3 _ _"]]]:
    """Yield batches of dark pictures or clips, and the number of the picture and the draw of each.

    Draws of a picture follow each other; a batch has one size. The same seed gives the same noise.
    """
    waiting: list[tuple[int, int]] = []
    held: list[Tensor] = []
    for i in range(len(pictures)):
        picture = pictures[i]
        pixels = picture.numel() // 3
        most = max(1, _MOST_PIXELS.get(picture.device.type, _MOST_PIXELS_ELSEWHERE) // pixels)
        for draw in range(draws):
            if held and (held[0].shape != picture.shape or len(held) >= most):
                yield waiting, _shoot(held, waiting, triple, seed)
                waiting, held = [], []
            waiting.append((i, draw))
            held.append(picture)
    if held:
        yield waiting, _shoot(held, waiting, triple, seed)


def _shoot(
    pictures: list[Tensor], items: list[tuple[int, int]], triple: Triple, seed: int
) -> Tensor:
    shots = [Shot.of_triple(triple, seed=seed + 1_000_003 * draw + i) for i, draw in items]
    day = torch.stack(pictures)
    if day.ndim == 4:
        return shoot(day, shots)
    frames = day.shape[1]
    # Generators on the CPU take the low 32 bits of a seed: frames are not numbered above these.
    each = [replace(x, seed=x.seed + 100_000_007 * t) for x in shots for t in range(frames)]
    return shoot(day.flatten(0, 1), each).unflatten(0, (-1, frames))


def _lit(way: Brighten, dark: Tensor) -> Tensor:
    """Brighten pictures, or clips as pictures of their frames below each other."""
    if dark.ndim == 4:
        return way(dark)
    tall = dark.transpose(1, 2).flatten(2, 3)
    return way(tall).unflatten(2, dark.shape[1:2] + dark.shape[3:4]).transpose(1, 2)


def _reciprocal(a: float) -> Brighten:
    return lambda x: reciprocal_curve(x, a)


def is_detector(teacher: object) -> TypeGuard[Finder]:
    """Return whether the teacher answers in boxes."""
    return isinstance(teacher, Finder)


def takes_whole_pictures(teacher: object) -> bool:
    """Return whether the teacher takes pictures of any size: it answers in boxes or masks."""
    return isinstance(teacher, (Finder, Masker))


@runtime_checkable
class _Judge(Protocol):
    """Compares answers; what a day's answer is, it knows itself."""

    def day(self, picture: Tensor) -> Any:
        """Return the answer to a daylight picture."""
        ...

    def things(self, day: Any) -> int:
        """Return how many things it names."""
        ...

    def night(self, pictures: Tensor, days: Sequence[Any]) -> list[tuple[int, int]]:
        """Return, for each picture, how many of its day's things it shows, and how many others."""
        ...


def _judge_of(teacher: Namer | Finder | Masker) -> _Judge:
    if isinstance(teacher, Finder):
        return _Boxes(teacher)
    return _Masks(teacher) if isinstance(teacher, Masker) else _Classes(teacher)


class _Classes:
    """The top class of the day, and whether it is that of the night."""

    def __init__(self, teacher: Namer) -> None:
        self._teacher = teacher

    def day(self, picture: Tensor) -> int:
        return self._named(picture[None])[0]

    def things(self, day: int) -> int:
        return 1

    def night(self, pictures: Tensor, days: Sequence[int]) -> list[tuple[int, int]]:
        best = self._named(pictures)
        return [(int(x == day), 0) for x, day in zip(best, days, strict=True)]

    def _named(self, pictures: Tensor) -> list[int]:
        x = pictures.transpose(1, 2) if pictures.ndim == 5 else pictures
        logits = self._teacher(self._teacher.preprocess(x)).flatten(1)
        if bool(logits.isnan().any()):  # whose "best" class is always the same
            raise ArgumentError("evaluate: teacher answers with NaN, must give logits")
        return logits.argmax(1).tolist()


class _Boxes:
    """The boxes of the day, and which are found again."""

    def __init__(self, teacher: Finder) -> None:
        self._teacher = teacher

    def day(self, picture: Tensor) -> Detections:
        return self._teacher.detect(picture[None], threshold=THRESHOLD)[0]

    def things(self, day: Detections) -> int:
        return len(day)

    def night(self, pictures: Tensor, days: Sequence[Detections]) -> list[tuple[int, int]]:
        found = self._teacher.detect(pictures, threshold=THRESHOLD)
        same = [found_again(day, night) for day, night in zip(days, found, strict=True)]
        return [(n, len(night) - n) for n, night in zip(same, found, strict=True)]


class _Masks:
    """The mask of the day, if it marks anything, and whether that of the night is the same."""

    def __init__(self, teacher: Masker) -> None:
        self._teacher = teacher

    def day(self, picture: Tensor) -> Tensor:
        return self._teacher.mask(picture[None])[0] > 0.5

    def things(self, day: Tensor) -> int:
        return int(float(day.float().mean()) >= _LEAST_MASK)

    def night(self, pictures: Tensor, days: Sequence[Tensor]) -> list[tuple[int, int]]:
        day = torch.stack(list(days))
        night = self._teacher.mask(pictures) > 0.5
        both = (day & night).flatten(1).sum(1)
        same = (both >= OVERLAP * (day | night).flatten(1).sum(1)).tolist()
        found: list[tuple[int, int]] = []
        for same_as_day, was, now in zip(same, days, night, strict=True):
            again = int(same_as_day) * self.things(was)
            found.append((again, max(self.things(now) - again, 0)))
        return found


def found_again(day: Detections, night: Detections) -> int:
    """Return how many things of the day the night has: same class, overlap of half; one to one.

    The surest box of the night chooses first, in whatever order they come.
    """
    if not len(day) or not len(night):
        return 0
    overlap = box_overlap(night.boxes, day.boxes) * (night.labels[:, None] == day.labels[None])
    order = night.scores.argsort(descending=True, stable=True)
    overlap = overlap[order].cpu()  # a GPU would be waited for at each box
    again = 0
    for row in overlap:
        best = int(row.argmax())
        if row[best] >= OVERLAP:
            again += 1
            overlap[:, best] = 0
    return again
