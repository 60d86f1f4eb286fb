"""What each way to brighten came to, item by item, and the figures that are made of it.

Counts of every picture and noise draw are kept, so that any two methods can be compared in pairs
afterwards, and a method can be judged later without the others being judged again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from foveal.errors import ArgumentError
from foveal.lowlight.ensemble import ENSEMBLE
from foveal.stats import Interval, paired_bootstrap

Brighten: TypeAlias = Callable[[Tensor], Tensor]
Triple: TypeAlias = tuple[float, float, float]

UNTOUCHED = "untouched"
BEST_FIXED = "best fixed reciprocal, chosen in hindsight"
CEILING = "any reciprocal right, picture by picture"
LUCKLESS = "each picture's best reciprocal, chosen on its other draws"
FIXED = tuple(f"reciprocal {a:.3g}" for a in ENSEMBLE)
"""Names of the nine reciprocal curves."""

_SKY = 1_000_000  # counts of a hostile file stay sums of integers
_MOST_THINGS = 1 << 22  # times draws: each is an item of the bootstrap


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
        false_things: Boxes without a twin in daylight, a picture; 0 for classes, and for bounds
            that take another curve for each picture, where they are not counted.
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


@dataclass(slots=True)
class Outcomes:
    """Counts under one darkness. An item is a picture and a draw; draws of a picture are neighbors.

    Attributes:
        triple: Exposure factor, shot and read noise.
        groups: Of each picture; pictures of a group are resampled together.
        things: What each picture shows by daylight: 1 class, or its number of boxes.
        draws: Noise draws a picture.
        again: For each method, how many of these things each item still shows.
        false: For each method, how many boxes without a twin in daylight each item has.
    """

    triple: Triple
    groups: Sequence[int]
    things: Sequence[int]
    draws: int
    again: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    false: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def __post_init__(self) -> None:
        """Check that all counts are of the same items."""
        count = len(self.groups) * self.draws
        if len(self.things) != len(self.groups) or not count or not any(self.things):
            raise ArgumentError(
                f"Outcomes: things has {len(self.things)} and groups {len(self.groups)} pictures, "
                "must be as many, one at least, and show something"
            )
        if self.draws * sum(self.things) > _MOST_THINGS:
            raise ArgumentError(
                f"Outcomes: things has {sum(self.things)} at {self.draws} draws, must be at most "
                f"{_MOST_THINGS} in all; judge fewer pictures"
            )
        wanted = [n for n in self.things for _ in range(self.draws)]
        for name in (*self.again, *self.false):
            found = [len(self.again.get(name, ())), len(self.false.get(name, ()))]
            if found != [count, count]:
                raise ArgumentError(
                    f"Outcomes: {name!r} has {found[0]} and {found[1]} counts, must have {count}, "
                    "one for each picture and draw"
                )
            if any(x > n for x, n in zip(self.again[name], wanted, strict=True)):
                raise ArgumentError(
                    f"Outcomes: {name!r} shows more again than there is by daylight, must not"
                )

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of what was judged."""
        return tuple(self.again)

    @property
    def num_items(self) -> int:
        """Pictures times draws."""
        return len(self.groups) * self.draws

    def best_fixed(self) -> str:
        """Return which fixed reciprocal curve is best on these very items."""
        known = [name for name in FIXED if name in self.again]
        if not known:
            raise ArgumentError("Outcomes.best_fixed: no reciprocal curve was judged, must be")
        return max(known, key=lambda name: sum(self.again[name]))

    def counts(self, method: str) -> list[int]:
        """Return things seen again, item by item; of the two bounds too.

        Raises: ArgumentError: the method was not judged.
        """
        if method == BEST_FIXED:
            return self.again[self.best_fixed()]
        if method == CEILING:
            self.best_fixed()
            columns = (self.again[name] for name in FIXED if name in self.again)
            return [max(column) for column in zip(*columns, strict=True)]
        if method == LUCKLESS:
            self.best_fixed()
            return self._luckless()
        if method not in self.again:
            raise ArgumentError(
                f"Outcomes: method is {method!r}, must be one of {sorted(self.again)}"
            )
        return self.again[method]

    def _luckless(self) -> list[int]:
        """For each item the curve that is best on the picture's other draws, else over all.

        What `CEILING` gains over it is luck with the noise, which no curve can have on purpose.

        Raises: ArgumentError: there is one draw only.
        """
        if self.draws < 2:
            raise ArgumentError(
                f"Outcomes: draws is {self.draws}, must be 2 or more for {LUCKLESS!r}"
            )
        known = sorted(
            (name for name in FIXED if name in self.again), key=lambda x: -sum(self.again[x])
        )
        found: list[int] = []
        for i in range(self.num_items):
            first = i - i % self.draws
            all_of = {x: sum(self.again[x][first : first + self.draws]) for x in known}
            best = max(known, key=lambda x: all_of[x] - self.again[x][i])  # the first of equals
            found.append(self.again[best][i])
        return found

    def agreement(self, method: str) -> float:
        """Return the share of the things that are seen again."""
        return sum(self.counts(method)) / (self.draws * sum(self.things))

    def difference(self, method: str, *others: tuple[float, str | None]) -> Interval:
        """Return agreement less a weighted sum of others', paired item by item.

        Args:
            method: The one.
            others: Weight and method; None is daylight itself, whose agreement is 1.
        """
        values = [float(x) for x in self.counts(method)]
        wanted = [n for n in self.things for _ in range(self.draws)]
        for weight, name in others:
            counts = wanted if name is None else self.counts(name)
            values = [x - weight * y for x, y in zip(values, counts, strict=True)]
        # each thing is an item, so that a resample divides by the things that are in it
        of = [g for g in self.groups for _ in range(self.draws)]
        spread = [x / n for x, n in zip(values, wanted, strict=True) for _ in range(n) if n]
        groups = [g for g, n in zip(of, wanted, strict=True) for _ in range(n)]
        return paired_bootstrap(spread, [0.0] * len(spread), groups=groups)

    def merge(self, other: "Outcomes") -> None:
        """Take over the methods of another judgement of the same items.

        Raises: ArgumentError: the items are others.
        """
        mine = (self.triple, list(self.groups), list(self.things), self.draws)
        if mine != (other.triple, list(other.groups), list(other.things), other.draws):
            raise ArgumentError(
                f"Outcomes.merge: other is of other pictures or draws at {other.triple}, must be "
                "of the same items; judge it again"
            )
        self.again.update(other.again)
        self.false.update(other.false)

    def summarize(self) -> list[Seen]:
        """Return a row a method, the bounds last; `LUCKLESS` wants two draws."""
        bounds = [BEST_FIXED, *([LUCKLESS] if self.draws > 1 else []), CEILING]
        bounds = bounds if any(x in self.again for x in FIXED) else []
        best = BEST_FIXED if bounds else UNTOUCHED
        rows: list[Seen] = []
        for name in (*self.again, *bounds):
            wrong = self.false.get(self.best_fixed() if name == BEST_FIXED else name, [0])
            rows.append(
                Seen(
                    self.triple,
                    name,
                    self.agreement(name),
                    self.difference(name, (1, UNTOUCHED)),
                    self.difference(name, (1, best)),
                    sum(wrong) / self.num_items,
                    self.num_items,
                )
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; counts are numbers between spaces."""
        return {
            "triple": list(self.triple),
            "again": {name: _text(x) for name, x in self.again.items()},
            "false": {name: _text(x) for name, x in self.false.items() if any(x)},
        }

    @classmethod
    def from_json(
        cls, row: Mapping[str, Any], groups: Sequence[int], things: Sequence[int], draws: int
    ) -> "Outcomes":
        """Read what `to_json` wrote.

        Raises: ArgumentError: it is not of that form.
        """
        try:
            k, shot, read = (float(x) for x in row["triple"])
            again = {str(name): numbers(x) for name, x in row["again"].items()}
            false = {str(name): numbers(x) for name, x in row["false"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArgumentError(
                f"Outcomes.from_json: row is not of this form ({error!r}); judge again"
            ) from error
        false = {name: false.get(name, [0] * len(x)) for name, x in again.items()}
        return cls((k, shot, read), groups, things, draws, again, false)


def _text(counts: Sequence[int]) -> str:
    return " ".join(map(str, counts))


def numbers(text: str) -> list[int]:
    """Read counts between spaces.

    Raises: ValueError: there is something else, or a number out of range.
    """
    found = [int(x) for x in text.split()]
    if any(not 0 <= x < _SKY for x in found):
        raise ValueError(f"a count is not in 0 to {_SKY}")
    return found


def fingerprint(method: Any) -> str:
    """Return what tells one method from another of the same name: weights and settings."""
    digest = hashlib.sha256()
    _mark(digest, method)
    return digest.hexdigest()[:16]


def _mark(digest: Any, value: Any) -> None:
    digest.update(type(value).__qualname__.encode())
    if isinstance(value, nn.Module):
        for name, tensor in sorted(value.state_dict().items()):
            digest.update(name.encode())
            if isinstance(tensor, Tensor):
                held = tensor.detach().cpu().contiguous().flatten()
                digest.update(repr((tensor.shape, tensor.dtype)).encode())
                digest.update(held.view(torch.uint8).numpy().tobytes())
        config = getattr(value, "config", None)
        digest.update(repr(config() if callable(config) else "").encode())
    elif is_dataclass(value):
        for part in fields(value):
            _mark(digest, getattr(value, part.name))
    elif isinstance(value, (int, float, str, tuple)):
        digest.update(repr(value).encode())
