"""Sentences to facts: the forms of `to_text`, and what people and language models write."""

from collections.abc import Sequence

from foveal.errors import ArgumentError
from foveal.motion.posecodes.atoms import atom
from foveal.motion.posecodes.context import Context
from foveal.motion.posecodes.facts import All, AnyOf, Fact, Hold, Not, Order, Times, When
from foveal.motion.posecodes.subjects import vocabulary
from foveal.motion.posecodes.words import WHEN_WORDS, Reader
from foveal.motion.skeleton import Skeleton, humanoid

_COUNTS = {"twice": 2, "thrice": 3}


class _Parser:
    def __init__(self, context: Context) -> None:
        self.reader, self.context = context.reader, context

    def any_of(self) -> Fact:
        facts = [self.all_of()]
        while self.reader.take("or"):
            facts.append(self.all_of())
        return facts[0] if len(facts) == 1 else AnyOf(tuple(facts))

    def all_of(self) -> Fact:
        facts = [self.unary()]
        while self.reader.take("and", "while"):
            facts.append(self.unary())
        return facts[0] if len(facts) == 1 else All(tuple(facts))

    def unary(self) -> Fact:
        reader = self.reader
        if reader.take("not", "no"):
            return Not(self.unary())
        if reader.take("never"):
            return When("always", Not(self.unary()))
        start = reader.i
        if reader.take("for") and (hold := self.seconds()) is not None:
            reader.take(":", ",")
            return Hold(hold, self.unary())
        reader.i = start
        if count := self.count():
            low, high, alternating = count
            reader.take(":", ",")
            return Times(low, high, self.unary(), alternating)
        if when := reader.take(*WHEN_WORDS):
            reader.take(":", ",")
            return When(WHEN_WORDS[when], self.unary())
        if reader.take("in this order", "first"):
            reader.take(":", ",")
            return self.order()
        return self.trailing(self.primary())

    def primary(self) -> Fact:
        reader = self.reader
        for phrase in ("all of", "any of"):
            start = reader.i
            if reader.take(phrase) and reader.take("("):
                return self.listed(phrase)
            reader.i = start
        if reader.take("("):
            fact = self.any_of()
            reader.need(")")
            return fact
        return atom(self.context)

    def listed(self, phrase: str) -> Fact:
        facts = [self.any_of()]
        while self.reader.take(";", ","):
            facts.append(self.any_of())
        self.reader.need(")")
        if len(facts) == 1:
            return facts[0]
        return (All if phrase == "all of" else AnyOf)(tuple(facts))

    def order(self) -> Fact:
        facts = [self.any_of()]
        while True:
            start = self.reader.i
            self.reader.take(",", ";")
            if not self.reader.take("and then", "then"):
                self.reader.i = start
                break
            facts.append(self.any_of())
        if len(facts) < 2:
            raise self.reader.fail(["then", ", then"], "an order has at least two facts")
        return Order(tuple(facts))

    def seconds(self) -> float | None:
        found = self.reader.band("s")
        if found is None:
            return None
        if found[0] is None or found[1] is not None or found[0] <= 0:
            raise self.reader.fail(["at least N s"], "a hold is told by its least time")
        return found[0]

    def count(self) -> tuple[int, int | None, bool] | None:
        """Take "at least 3 times", "exactly 2 times", "twice", "2 to 4 times", if one is here."""
        reader = self.reader
        start = reader.i
        word = reader.take(*_COUNTS)
        exact = bool(word) or bool(reader.take("exactly"))
        if word:
            found: tuple[float | None, float | None] | None = (float(_COUNTS[word]), None)
        else:
            low_words = (reader.peek(), reader.peek(1))
            if not (exact or reader.is_number() or low_words[0] in ("at", "more", "up", "between")):
                return None
            try:
                found = reader.band("times")
            except ArgumentError:
                found = None
        if found is None:
            reader.i = start
            return None
        low, high = found
        whole = [int(value) for value in (low, high) if value is not None and value == int(value)]
        if len(whole) != sum(value is not None for value in found) or min(whole) < 0:
            raise reader.fail(["a whole number of times"])
        first = 0 if low is None else int(low)
        last = first if exact else (None if high is None else int(high))
        alternating = bool(
            reader.take("alternating left and right", "alternating sides", "alternating")
        )
        return first, last, alternating

    def trailing(self, fact: Fact) -> Fact:
        """Take what is said after an atom about when it holds."""
        reader = self.reader
        start = reader.i
        if reader.take("for") and (hold := self.seconds()) is not None:
            return self.trailing(Hold(hold, fact))
        reader.i = start
        if count := self.count():
            return self.trailing(Times(count[0], count[1], fact, count[2]))
        if when := reader.take(*WHEN_WORDS):
            return self.trailing(When(WHEN_WORDS[when], fact))
        return fact


def parse(text: str, *, skeleton: Skeleton | None = None, surfaces: Sequence[str] = ()) -> Fact:
    """Read a fact from a sentence.

    Case, articles, plurals, "cm", "deg" and synonyms such as "over" and "ahead of" do not matter;
    a word that is not known is an error and never a guess. "not", "always", "once", "at the end",
    "for at least 1 s" and "at least 3 times" bind to the next fact alone: put several in
    brackets. Lengths are for a figure of 1.7 m.

    Args:
        text: For example "left hand above head and left knee 80 to 100 degrees".
        skeleton: Whose names may be used; the usual figure if None.
        surfaces: Names of surfaces beyond floor, seat, bed, shelf, table, box, step N, stone N.

    Raises:
        ArgumentError: names the text, the place and what could stand there.
    """
    reader = Reader(text)
    known = vocabulary(humanoid() if skeleton is None else skeleton, tuple(surfaces))
    try:
        fact = _Parser(Context(reader, known)).any_of()
    except ArgumentError as error:
        if str(error).startswith("parse:"):
            raise
        raise ArgumentError(f"parse: text is {text!r}, must be possible: {error}") from error
    if reader.peek():
        raise reader.fail(["and", "or", "at the end", "always", "the end of the text"])
    return fact
