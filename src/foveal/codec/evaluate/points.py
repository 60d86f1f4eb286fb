"""Points of bytes and answers, their front, and bytes at equal retention.

Retention of a task is (score - chance) / (uncompressed - chance): 1 is all that the frozen network
knows, 0 what an answer that is the same for every image gets. Sums that add up over images are
kept, so that scores of resampled images are exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64
from numpy import ndarray

from foveal.codec.evaluate.track import Sums, Track, TrackTask
from foveal.errors import ArgumentError, ShapeError

Rule = Literal["mean", "worst"]
_STEP = 1.2


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """What one way to code costs for each image, and what is left.

    Args:
        label: The codec.
        settings: Of that codec.
        payload: Bytes of each image that hold what was coded.
        side: Bytes of each image that hold side information, such as hyper-latents.
        container: The other bytes of each image's file.
        sums: Sums [n, k] of each task.
    """

    label: str
    settings: Mapping[str, Any]
    payload: Int64[ndarray, "_"]
    side: Int64[ndarray, "_"]
    container: Int64[ndarray, "_"]
    sums: Mapping[str, Sums]

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        n = len(self.payload)
        lengths = {len(self.side), len(self.container), *(len(x) for x in self.sums.values())}
        if n == 0 or lengths != {n}:
            raise ShapeError(
                f"Point: payload has {n} images and the others {sorted(lengths)}, must be as many"
            )

    @property
    def bytes(self) -> Int64[ndarray, "n"]:
        """Size of each image's file."""
        return self.payload + self.side + self.container

    @property
    def key(self) -> tuple[str, str]:
        """Codec and settings, equal for the same ones on other images."""
        return self.label, repr(sorted(self.settings.items()))

    def take(self, items: Sequence[int]) -> "Point":
        """Return the same of some of the images."""
        index = np.asarray(items, dtype=np.int64)
        return replace(
            self,
            payload=self.payload[index],
            side=self.side[index],
            container=self.container[index],
            sums={name: x[index] for name, x in self.sums.items()},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What 0 and 1 mean on a track, and which images are resampled together.

    Args:
        tasks: Tasks by name.
        chance: Sums of constant answers, by task.
        full: Sums of the answers to the uncompressed images, by task.
        groups: Group of each image.
    """

    tasks: Mapping[str, TrackTask]
    chance: Mapping[str, Sums]
    full: Mapping[str, Sums]
    groups: tuple[int, ...]

    @classmethod
    def of(cls, track: Track, full: Mapping[str, Sums]) -> "Scale":
        """Return that of a track; `full` is what `uncompressed` returned for it."""
        chance = {name: task.chance for name, task in track.tasks.items()}
        return cls(track.tasks, chance, full, track.group_of)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.groups)

    def take(self, items: Sequence[int]) -> "Scale":
        """Return the same of some of the images."""
        index = np.asarray(items, dtype=np.int64)
        return Scale(
            self.tasks,
            {name: x[index] for name, x in self.chance.items()},
            {name: x[index] for name, x in self.full.items()},
            tuple(self.groups[i] for i in items),
        )

    def known(self, *, least: float = 0.0) -> dict[str, float]:
        """Return the distance between uncompressed and chance scores of tasks that have one."""
        out: dict[str, float] = {}
        for name, task in self.tasks.items():
            gap = task.score(self.full[name].sum(0)) - task.score(self.chance[name].sum(0))
            gap = gap if task.higher_is_better else -gap
            if gap > least:
                out[name] = gap
        return out

    def scores(
        self, task: str, sums: Sums, weights: Float[ndarray, "b n"] | None = None
    ) -> Float[ndarray, "b"]:
        """Return the score of sums of images, for each row of weights of the images."""
        if task not in self.tasks:
            raise ArgumentError(f"retention: task is {task!r}, must be one of {list(self.tasks)}")
        ones = np.ones((1, len(self))) if weights is None else weights
        if len(sums) != ones.shape[1]:
            raise ShapeError(
                f"retention: point has {len(sums)} images, must have the {ones.shape[1]} of the "
                "scale; take the same"
            )
        totals, found = ones @ sums, self.tasks[task]
        if found.scores is not None:
            return found.scores(totals)
        return np.array([found.score(total) for total in totals])

    def ends(
        self, task: str, weights: Float[ndarray, "b n"] | None = None
    ) -> tuple[Float[ndarray, "b"], Float[ndarray, "b"]]:
        """Return the score of chance, and the way from it to the uncompressed one.

        NaN where the network knows no more than chance.
        """
        chance = self.scores(task, self.chance[task], weights)
        span = self.scores(task, self.full[task], weights) - chance
        more = span > 0 if self.tasks[task].higher_is_better else span < 0
        return chance, np.where(more, span, np.nan)

    def retention(
        self, point: Point, task: str, weights: Float[ndarray, "b n"] | None = None
    ) -> Float[ndarray, "b"]:
        """Return the retention of a task, for each row of weights of the images; see `ends`."""
        got = self.scores(task, point.sums.get(task, np.empty((0, 1))), weights)
        chance, span = self.ends(task, weights)
        return (got - chance) / span


def check_rule(rule: str) -> None:
    """Refuse what is no rule."""
    if rule not in ("mean", "worst"):
        raise ArgumentError(f"points: rule is {rule!r}, must be 'mean' or 'worst'")


def combined(
    scale: Scale,
    point: Point,
    tasks: Sequence[str] | None = None,
    rule: Rule = "mean",
    weights: Float[ndarray, "b n"] | None = None,
) -> Float[ndarray, "b"]:
    """Return the mean retention over tasks, or that of the worst, for each row of weights."""
    check_rule(rule)
    names = list(scale.tasks if tasks is None else tasks)
    each = np.stack([scale.retention(point, name, weights) for name in names])
    return each.mean(0) if rule == "mean" else each.min(0)


def front(
    scale: Scale,
    points: Sequence[Point],
    tasks: Sequence[str] | None = None,
    rule: Rule = "mean",
    *,
    beyond: float | None = None,
) -> list[Point]:
    """Return the Pareto front: points of which no other has fewer bytes and no less retention.

    It is no convex hull: what lies between two points would need two ways to code in one data set.

    Args:
        scale: Of the images of the points.
        points: In any order.
        tasks: Tasks that count. Default: all.
        rule: Their mean, or the worst.
        beyond: Go on behind the best point, in steps of a fifth more bytes, with points that keep
            as much but for this: where few images choose, the best of them is no end for others.
            Default: end there.

    Returns: By ascending mean bytes; retention strictly ascending up to the best point.
    """
    rows = sorted(
        ((float(p.bytes.mean()), -float(combined(scale, p, tasks, rule)[0]), i))
        for i, p in enumerate(points)
    )
    best, out = -np.inf, list[Point]()
    for _, negative, i in rows:
        if -negative > best:
            best = -negative
            out.append(points[i])
    if beyond is None or not out:
        return out
    size = float(out[-1].bytes.mean())
    for mean, negative, i in rows:
        if mean >= _STEP * size and -negative >= best - beyond:
            size = mean
            out.append(points[i])
    return out


def same(points: Sequence[Point], chosen: Sequence[Point]) -> list[Point]:
    """Return the points that have codec and settings of chosen ones, which other images chose.

    Raises: ArgumentError: one is missing.
    """
    found = {p.key: p for p in points}
    missing = [p.key for p in chosen if p.key not in found]
    if missing:
        raise ArgumentError(
            f"same: points lack {missing[0]}, must have every chosen one; measure it first"
        )
    return [found[p.key] for p in chosen]


def halves(groups: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the images of every other group, to choose by, and of the others, to judge by."""
    order = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    first = [i for i, g in enumerate(groups) if order[g] % 2 == 0]
    return first, [i for i, g in enumerate(groups) if order[g] % 2]
