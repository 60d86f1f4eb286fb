"""What a frozen recogniser still sees in the dark, by each way to brighten, on the same noise."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.data.sensor_noise import TRIPLES, Shot, shoot
from foveal.errors import ArgumentError
from foveal.lowlight.ensemble import ENSEMBLE, reciprocal_curve
from foveal.stats import Interval, paired_bootstrap
from foveal.teachers import Detections
from foveal.teachers.protocol import box_overlap

Brighten: TypeAlias = Callable[[Tensor], Tensor]
Triple: TypeAlias = tuple[float, float, float]

OVERLAP = 0.5
THRESHOLD = 0.3
UNTOUCHED = "untouched"
BEST_FIXED = "best fixed reciprocal, chosen in hindsight"
CEILING = "any reciprocal right, picture by picture"


@runtime_checkable
class Namer(Protocol):
    """Names what a picture shows; every vision teacher does."""

    def preprocess(self, images: Tensor) -> Tensor:
        """Bring images (b, 3, height, width) into the form that it takes."""
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


@dataclass(frozen=True, slots=True)
class Seen:
    """What is left of the daylight answer under one darkness and one way to brighten.

    Attributes:
        triple: Exposure factor, shot and read noise.
        method: What brightened.
        agreement: Classes: share of pictures whose top class is that of the day. Boxes: share of
            the day's things that are found again.
        gain: Agreement less that of the untouched dark picture, with its interval.
        against_best: The same against the best fixed reciprocal curve, which is chosen on these
            very pictures: a hard bound for a single curve.
        false_things: Boxes without a twin in daylight, a picture; 0 for classes.
        num_items: Pictures times noise draws.
    """

    triple: Triple
    method: str
    agreement: float
    gain: Interval
    against_best: Interval
    false_things: float
    num_items: int

    def __str__(self) -> str:
        """Return one line of a table."""
        low, high = 100 * self.gain.low, 100 * self.gain.high
        return (
            f"k {self.triple[0]:<6} shot {self.triple[1]:<6} {self.method:<46} "
            f"{100 * self.agreement:5.1f} %  gain {100 * self.gain.mean:+5.1f} "
            f"({low:+.1f} to {high:+.1f})"
        )


def disjoint_crops(
    images: Iterable[Float[Tensor, "3 height width"]], size: int, *, most: int
) -> tuple[list[Float[Tensor, "3 size size"]], list[int]]:
    """Cut pictures into squares that do not overlap, in turns over the pictures.

    Args:
        images: sRGB in [0, 1]; taken one by one.
        size: Side of a crop, in pixels.
        most: Crops at most.

    Returns: The crops, and of which picture each is.

    Raises: ArgumentError: no crop fits.
    """
    grids: list[list[Tensor]] = []
    for image in images:
        rows, columns = (x // size for x in image.shape[1:])
        tops = [(image.shape[1] - rows * size) // 2 + i * size for i in range(rows)]
        lefts = [(image.shape[2] - columns * size) // 2 + i * size for i in range(columns)]
        cells = [image[:, y : y + size, x : x + size].clone() for y in tops for x in lefts]
        grids.append(cells[::2] + cells[1::2])  # neighbors last
    order = [(i, j) for j in range(max(map(len, grids), default=0)) for i in range(len(grids))]
    found = [(grids[i][j], i) for i, j in order if j < len(grids[i])][:most]
    if not found:
        raise ArgumentError(
            f"disjoint_crops: size is {size}, must be at most the shorter side of a picture; use "
            "smaller crops or larger pictures"
        )
    return [x for x, _ in found], [i for _, i in found]


def evaluate(
    teacher: Namer | Finder,
    pictures: Sequence[Float[Tensor, "3 height width"]],
    groups: Sequence[int],
    methods: Mapping[str, Brighten],
    *,
    triples: Sequence[Triple] = TRIPLES,
    draws: int = 5,
    seed: int = 0,
    on_picture: Callable[[Triple, int], None] | None = None,
) -> Iterator[list[Seen]]:
    """Yield, for one darkness after the other, what each method leaves of the daylight answer.

    Beside `methods` the untouched picture, the nine reciprocal curves of the ensemble (of which the
    best is named in hindsight) and their ceiling are judged. All see the same noise.

    Args:
        teacher: Frozen; with `detect`, things are counted, else top classes.
        pictures: sRGB in [0, 1], daylight; any size for detectors, else as the teacher wants it.
        groups: Which pictures belong together: they are resampled as one.
        methods: Ways to brighten, (1, 3, h, w) to the same.
        triples: Exposure factor, shot and read noise.
        draws: Noise draws a picture.
        seed: Of the noise.
        on_picture: Called with the darkness and the number of the picture that is done.

    Raises: ArgumentError: nothing to judge, or a detector finds nothing by daylight.
    Cost: pictures x draws x (methods + 10) passes a darkness.
    """
    if not pictures or len(pictures) != len(groups):
        raise ArgumentError(
            f"evaluate: pictures has {len(pictures)} and groups {len(groups)}, must be as many, "
            "and one at least"
        )
    if draws < 1:
        raise ArgumentError(f"evaluate: draws is {draws}, must be >= 1")
    judge = _judge_of(teacher)
    fixed = {f"reciprocal {a:.3g}": _reciprocal(a) for a in ENSEMBLE}
    ways: dict[str, Brighten] = {UNTOUCHED: lambda x: x, **fixed, **methods}
    with torch.no_grad():
        days = [judge.day(x) for x in pictures]
        if not any(judge.things(day) for day in days):
            raise ArgumentError(
                "evaluate: pictures show nothing that the detector finds by daylight, must show "
                "something it knows; use others"
            )
        for triple in triples:
            right: dict[str, list[float]] = {name: [] for name in ways}
            false = dict.fromkeys(ways, 0.0)
            weights: list[float] = []
            of: list[int] = []
            for i, (picture, day) in enumerate(zip(pictures, days, strict=True)):
                for draw in range(draws):
                    shot = Shot.of_triple(triple, seed=seed + 1_000_003 * draw + i)
                    dark = shoot(picture[None], [shot])
                    found = judge.night([way(dark) for way in ways.values()], day)
                    for name, (share, wrong) in zip(ways, found, strict=True):
                        right[name].append(share)
                        false[name] += wrong
                    weights.append(float(judge.things(day)))
                    of.append(groups[i])
                if on_picture is not None:
                    on_picture(triple, i)
            yield _table(triple, right, false, weights, of, list(fixed))


def _table(
    triple: Triple,
    right: dict[str, list[float]],
    false: dict[str, float],
    weights: list[float],
    groups: list[int],
    fixed: list[str],
) -> list[Seen]:
    """Sum up one darkness; pictures count by the number of things on them."""
    total = sum(weights)
    scale = [w * len(weights) / total for w in weights]  # the mean over items is that over things
    values = {name: [x * s for x, s in zip(v, scale, strict=True)] for name, v in right.items()}
    mean = {name: sum(v) / len(v) for name, v in values.items()}
    best = max(fixed, key=lambda name: mean[name])
    values[BEST_FIXED], false[BEST_FIXED] = values[best], false[best]
    columns = zip(*(values[name] for name in fixed), strict=True)
    values[CEILING], false[CEILING] = [max(column) for column in columns], 0.0
    rows: list[Seen] = []
    for name, found in values.items():
        gain = paired_bootstrap(found, values[UNTOUCHED], groups=groups)
        against = paired_bootstrap(found, values[best], groups=groups)
        share, wrong = sum(found) / len(found), false[name] / len(weights)
        rows.append(Seen(triple, name, share, gain, against, wrong, len(weights)))
    return rows


def _reciprocal(a: float) -> Brighten:
    return lambda x: reciprocal_curve(x, a)


def is_detector(teacher: Namer | Finder) -> TypeGuard[Finder]:
    """Return whether the teacher answers in boxes."""
    return isinstance(teacher, Finder)


@runtime_checkable
class _Judge(Protocol):
    """Compares answers; what a day's answer is, it knows itself."""

    def day(self, picture: Tensor) -> Any:
        """Return the answer to a daylight picture."""
        ...

    def things(self, day: Any) -> int:
        """Return how many things it names."""
        ...

    def night(self, pictures: list[Tensor], day: Any) -> list[tuple[float, float]]:
        """Return, for each picture, the share that is seen again, and how many are false."""
        ...


def _judge_of(teacher: Namer | Finder) -> _Judge:
    return _Boxes(teacher) if isinstance(teacher, Finder) else _Classes(teacher)


class _Classes:
    """The top class of the day, and whether it is that of the night."""

    def __init__(self, teacher: Namer) -> None:
        self._teacher = teacher

    def day(self, picture: Tensor) -> int:
        x = self._teacher.preprocess(picture[None])
        return int(self._teacher(x).flatten(1).argmax())

    def things(self, day: int) -> int:
        return 1

    def night(self, pictures: list[Tensor], day: int) -> list[tuple[float, float]]:
        x = self._teacher.preprocess(torch.cat(pictures))
        same = self._teacher(x).flatten(1).argmax(1) == day
        return [(float(x), 0.0) for x in same]


class _Boxes:
    """The boxes of the day, and which are found again."""

    def __init__(self, teacher: Finder) -> None:
        self._teacher = teacher

    def day(self, picture: Tensor) -> Detections:
        return self._teacher.detect(picture[None], threshold=THRESHOLD)[0]

    def things(self, day: Detections) -> int:
        return len(day)

    def night(self, pictures: list[Tensor], day: Detections) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        for night in self._teacher.detect(torch.cat(pictures), threshold=THRESHOLD):
            again = found_again(day, night)
            found.append((again / max(len(day), 1), float(len(night) - again)))
        return found


def found_again(day: Detections, night: Detections) -> int:
    """Return how many things of the day the night has: same class, overlap of half; one to one.

    The surest box of the night chooses first.
    """
    if not len(day) or not len(night):
        return 0
    overlap = box_overlap(night.boxes, day.boxes) * (night.labels[:, None] == day.labels[None])
    again = 0
    for row in overlap:
        best = int(row.argmax())
        if row[best] >= OVERLAP:
            again += 1
            overlap[:, best] = 0
    return again
