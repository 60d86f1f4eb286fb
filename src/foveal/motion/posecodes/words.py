"""What the parser knows: words, their synonyms, units, and the reading of tokens."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from foveal.errors import ArgumentError

_TOKEN = re.compile(
    r"[+-][xyz](?![a-z])|\d+\.?\d*(?:e[+-]?\d+)?|\.\d+|[a-z]+(?:/[a-z]+)?|°(?:/s)?|%|\S",
)
_SILENT = frozenset(
    "the a an his her its their is are be being must should figure character person own".split()  # noqa: SIM905
)

UNITS: dict[str, tuple[str, float]] = {  # to the unit of facts, by a divisor
    "m": ("m", 1), "meter": ("m", 1), "meters": ("m", 1), "metre": ("m", 1), "metres": ("m", 1),
    "cm": ("m", 100), "centimeters": ("m", 100), "centimetres": ("m", 100), "mm": ("m", 1000),
    "deg": ("degrees", 1), "degs": ("degrees", 1), "degree": ("degrees", 1),
    "degrees": ("degrees", 1), "°": ("degrees", 1),
    "m/s": ("m/s", 1), "cm/s": ("m/s", 100), "km/h": ("m/s", 3.6),
    "s": ("s", 1), "sec": ("s", 1), "secs": ("s", 1), "second": ("s", 1), "seconds": ("s", 1),
    "ms": ("s", 1000), "time": ("times", 1), "times": ("times", 1), "steps/s": ("steps/s", 1),
    "%": ("", 100),
}  # fmt: skip
RELATION_WORDS = {
    "above": "above", "over": "above", "higher than": "above",
    "below": "below", "under": "below", "beneath": "below", "underneath": "below",
    "lower than": "below", "in front of": "in front of", "ahead of": "in front of",
    "before": "in front of", "behind": "behind", "in back of": "behind",
    "left of": "left of", "to left of": "left of", "right of": "right of",
    "to right of": "right of",
}  # fmt: skip
HEADING_WORDS = {
    "forward": "forward", "forwards": "forward", "ahead": "forward", "front": "forward",
    "back": "back", "backward": "back", "backwards": "back",
    "left": "left", "to left": "left", "leftward": "left", "leftwards": "left",
    "right": "right", "to right": "right", "rightward": "right", "rightwards": "right",
}  # fmt: skip
DIRECTION_WORDS = HEADING_WORDS | {
    "up": "up", "upward": "up", "upwards": "up", "down": "down", "downward": "down",
    "downwards": "down", "+x": "+x", "-x": "-x", "+y": "+y", "-y": "-y", "+z": "+z", "-z": "-z",
}  # fmt: skip
AWAY_WORDS = DIRECTION_WORDS | {"away": "away"}
LEAN_WORDS = ("leaned", "leaning", "leans", "leant", "pitched", "pitches", "tilted", "tilts",
              "inclined", "bent", "bends", "bowed")  # fmt: skip
WHEN_WORDS = {
    "once": "once", "sometime": "once", "at some point": "once", "at some time": "once",
    "always": "always", "throughout": "always", "all time": "always", "at all times": "always",
    "at start": "at the start", "at first": "at the start", "initially": "at the start",
    "at beginning": "at the start", "at end": "at the end", "in end": "at the end",
    "finally": "at the end", "at last": "at the end",
}  # fmt: skip
POINT_WORDS = {
    "fist": "hand", "finger": "fingertips", "fingers": "fingertips", "toe": "toes",
    "top of head": "crown", "torso": "chest", "trunk": "chest", "root": "pelvis",
    "lips": "mouth", "ground": "floor", "chair": "seat", "stool": "seat", "mattress": "bed",
    "calf": "shin", "lower leg": "shin", "upper leg": "thigh", "lower arm": "forearm",
}  # fmt: skip
PART_WORDS = {"torso": "trunk", "body": "trunk", "spine": "trunk", "back": "trunk",
              "gaze": "face", "eyes": "face", "hips": "pelvis"}  # fmt: skip
PLURALS = {"feet": "foot", "calves": "shin"}


@dataclass(frozen=True)
class Token:
    """A word, number or sign of a text, with the place where it starts."""

    word: str
    start: int


def tokenize(text: str) -> list[Token]:
    """Split a text into tokens, without the words that carry no meaning.

    Raises:
        ArgumentError: the text is not text, or is empty.
    """
    if not isinstance(text, str) or not text.strip():
        raise ArgumentError(
            f"parse: text is {text!r}, must be a sentence; say for example 'left hand above head'"
        )
    lowered = text.lower().replace("–", "-").replace("−", "-").replace("’", "'")
    lowered = re.sub(r"'s\b", "  ", lowered)
    lowered = re.sub(r"(?<=[a-z])[-_](?=[a-z])", " ", lowered).rstrip(" .;,!\n\t")
    tokens = [Token(m.group(), m.start()) for m in _TOKEN.finditer(lowered)]
    return [t for t in tokens if t.word not in _SILENT]


class Reader:
    """Tokens with a place in them, and errors that name the text, the place and what fits."""

    def __init__(self, text: str) -> None:
        """Take a text."""
        self.text, self.tokens, self.i = text, tokenize(text), 0

    def peek(self, ahead: int = 0) -> str:
        """Return the word `ahead` tokens on, or "" at the end."""
        at = self.i + ahead
        return self.tokens[at].word if at < len(self.tokens) else ""

    def fail(self, wanted: Iterable[str], why: str = "") -> ArgumentError:
        """Make the error for the present place."""
        names = list(dict.fromkeys(wanted))
        word = self.peek()
        at = self.tokens[self.i].start + 1 if word else len(self.text) + 1
        place = f"at {word!r} (character {at})" if word else f"after its end (character {at})"
        near = difflib.get_close_matches(word, names, 1, 0.7) if word else []
        parts = {n: w for w in names for n in w.split()}
        if not near and word and (close := difflib.get_close_matches(word, list(parts), 1, 0.7)):
            near = [parts[close[0]]]
        near = [name for name in near if name != word]
        hint = f"; did you mean {near[0]!r}" if near else ""
        why = f"; {why}" if why else ""
        return ArgumentError(
            f"parse: text is {self.text!r}, must have one of {', '.join(names)} {place}{why}{hint}"
        )

    def take(self, *phrases: str) -> str | None:
        """Take the longest of some phrases, if one stands here."""
        for phrase in sorted(phrases, key=lambda p: -len(p.split())):
            words = [w for w in phrase.split() if w not in _SILENT]
            if [self.peek(k) for k in range(len(words))] == words:
                self.i += len(words)
                return phrase
        return None

    def need(self, *phrases: str) -> str:
        """Take one of some phrases.

        Raises:
            ArgumentError: none stands here.
        """
        found = self.take(*phrases)
        if found is None:
            raise self.fail(phrases)
        return found

    def is_number(self, ahead: int = 0) -> bool:
        """Whether a number stands there."""
        word = self.peek(ahead)
        if word in ("+", "-"):
            word = self.peek(ahead + 1)
        return bool(word) and (word[0].isdigit() or (word[0] == "." and word[1:].isdigit()))

    def number(self) -> float:
        """Take a number with its sign.

        Raises:
            ArgumentError: none stands here.
        """
        if not self.is_number():
            raise self.fail(["a number"])
        sign = -1.0 if self.take("-") else 1.0
        self.take("+")
        word = self.peek()
        self.i += 1
        return sign * float(word)

    def unit(self, wanted: str) -> float | None:
        """Take a unit of a kind if one stands here; returns its divisor."""
        found = UNITS.get(self.peek())
        if found is None or found[0] != wanted:
            return None
        self.i += 1
        return found[1]

    def band(self, unit: str, *, bare: str = "least") -> tuple[float | None, float | None] | None:
        """Take a band such as "at least 0.2 m", or nothing if none of this unit stands here.

        Args:
            unit: What it is in; "" for a plain number.
            bare: What a single number means: "least", "most", or "about" (10 degrees around it).

        Raises:
            ArgumentError: the band is begun and not finished, or its unit does not fit.
        """
        start = self.i
        kind = ""
        if self.take("at least", "more than", "greater than", "no less than", ">", "> ="):
            kind = "least"
        elif self.take("at most", "less than", "no more than", "up to", "<", "< ="):
            kind = "most"
        elif self.peek() in ("over", "under", "within") and self.is_number(1):
            kind = "least" if self.take("over", "under", "within") == "over" else "most"
        elif self.take("between"):
            kind = "between"
        elif not self.is_number():
            return None
        first = self.number()
        divisor = self.unit(unit)
        second: float | None = None
        words = ("and", "to") if kind == "between" else ("to", "-")
        if kind in ("", "between") and self.is_number(1) and self.take(*words):
            second = self.number()
            ends = self.unit(unit)
            divisor, ends = (divisor or ends), (ends or divisor)
            second = second / (ends or 1.0)
        if divisor is None:
            if unit:
                if UNITS.get(self.peek(), ("", 0))[0] in ("times", "s"):
                    self.i = start
                    return None
                names = [name for name, (to, _) in UNITS.items() if to == unit]
                raise self.fail(names, f"numbers here are in {unit}")
            divisor = 1.0
        first = first / divisor
        if kind == "between" and second is None:
            raise self.fail(["and"], "'between' has two numbers")
        if second is not None:
            return first, second
        kind = kind or bare
        if kind == "about":
            return first - 10.0, first + 10.0
        return (first, None) if kind == "least" else (None, first)
