"""What the rules of the grammar share: the text, the names, bands, and facts for several sides."""

from collections.abc import Callable

from foveal.motion.posecodes.facts import All, AnyOf, Fact, Within
from foveal.motion.posecodes.subjects import Subject, Vocabulary
from foveal.motion.posecodes.terms import WholeMeasure
from foveal.motion.posecodes.words import UNITS, Reader

Band = tuple[float | None, float | None]
BARE: Band = (0.0, None)
_OTHER = {"left": "right", "right": "left", "": ""}
_BAND_STARTS = ("at", "more", "less", "greater", "no", "between", "up", "over", "under", "within")
_BAND_WORDS = (*_BAND_STARTS, "least", "most", "than", "to", "and")
_RATIOS = {("times", "neutral"), ("x", "neutral"), ("times", "normal")}


def join(facts: list[Fact], joined: str) -> Fact:
    """Join facts by "all" or "any"; a single one stays as it is."""
    if len(facts) == 1:
        return facts[0]
    return (All if joined == "all" else AnyOf)(tuple(facts))


class Context:
    """A text that is being read, and the names that may stand in it."""

    def __init__(self, reader: Reader, known: Vocabulary) -> None:
        """Take a reader and the names; `bare` is set where a measure stands without its band."""
        self.reader, self.known, self.bare = reader, known, False

    def band(self, unit: str, default: Band | None = None, *, bare: str = "least") -> Band:
        """Take a band; where none is given, the default.

        Raises:
            ArgumentError: there is none and no default.
        """
        if self.bare:
            return BARE
        found = self.reader.band(unit, bare=bare)
        if found is not None:
            return found
        if default is None:
            raise self.reader.fail([f"at least N {unit}", f"at most N {unit}", f"N to M {unit}"])
        return default

    def size(self) -> Band | None:
        """Take a length that stands before a relation, as in "0.2 m above", if there is one."""
        reader = self.reader
        if self.bare or not (reader.is_number() or reader.peek() in _BAND_STARTS):
            return None
        start, k = reader.i, 0
        # a band of lengths: its words and numbers go on until its unit
        while reader.is_number(k) or reader.peek(k) in (*_BAND_WORDS, "-", "+"):
            k += 1
        if k == 0 or UNITS.get(reader.peek(k), ("", 0))[0] != "m":
            return None
        found = reader.band("m")
        if found is None:
            reader.i = start
        return found

    def against(self, measure: WholeMeasure, unit: str, *, bare: str = "least") -> Fact:
        """Take the band of a fact of the whole clip, perhaps against the neutral clip."""
        reader, start = self.reader, self.reader.i
        if (ratio := self._ratio()) is not None:
            return Within(measure, *ratio, "times")
        reader.i = start
        low, high = self.band(unit, bare=bare)
        if reader.take("more than neutral"):
            return Within(measure, low, high, "more")
        if reader.take("less than neutral"):
            low, high = (None if bound is None else -bound for bound in (high, low))
            return Within(measure, low, high, "more")
        return Within(measure, low, high)

    def _ratio(self) -> Band | None:
        k = 0
        while self.reader.is_number(k) or self.reader.peek(k) in (*_BAND_WORDS, "-", "+"):
            k += 1
        if (self.reader.peek(k), self.reader.peek(k + 1)) not in _RATIOS:
            return None
        found = self.reader.band("")
        self.reader.i += 2
        return found

    def is_point(self, subject: Subject) -> bool:
        """Whether every name of a subject is a point of the body."""
        return all(name in self.known.points for name in subject.names())

    def each(
        self, subject: Subject, make: Callable[[str], Fact], names: list[str] | None = None
    ) -> Fact:
        """Make a fact for each side of a subject."""
        return join([make(name) for name in names or subject.names()], subject.joined)

    def objects(self, side: str, *, paired: bool = False) -> tuple[list[str], bool]:
        """Take what a relation points at: names, and whether it is a surface.

        With `paired`, the plural means that of the same side: "hands above shoulders".

        Raises:
            ArgumentError: neither a point nor a surface stands here.
        """
        reader = self.reader
        if (surface := self.known.surface(reader)) is not None:
            return [surface], True
        other = reader.take("other", "opposite")
        found = self.known.subject(reader)
        if found is None:
            raise reader.fail([*sorted(self.known.points), *self.known.surfaces])
        word = "chest" if found.word == "trunk" else found.word
        if other or not found.sides or (paired and found.plural and side):
            # "left hand above shoulder" is the figure's left shoulder
            sides = (side,) if side else ("left", "right")
            found = Subject(word, tuple(_OTHER[s] for s in sides) if other else sides)
        names = found.names(word)
        if not set(names) <= self.known.points:
            raise reader.fail(sorted(self.known.points), f"{names[0]!r} is no point")
        return names, False

    def between(self, subject: Subject, make: Callable[[str, str, bool], Fact]) -> Fact:
        """Take the objects for each side of a subject and join the facts."""
        facts: list[Fact] = []
        start = self.reader.i
        for side, name in zip(subject.sides, subject.names(), strict=True):
            self.reader.i = start
            names, surface = self.objects(side, paired=subject.plural)
            facts += [make(name, other, surface) for other in names]
        return join(facts, subject.joined)
