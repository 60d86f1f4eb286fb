"""What an English instruction asks for: actions, styles, sides, ways, numbers. No guesses."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from foveal.errors import ArgumentError, ProviderError
from foveal.motion.director.library.careful import ACTIONS
from foveal.motion.director.library.table import MOTIONS, STYLE_WORDS, Asked
from foveal.motion.skeleton import Side

# Words that carry no action; anything else unknown is an error, never a guess.
FILLER = frozenset(
    """
    a an the and then after that with your his her their one both to at from of on in up
    down it forward forwards ahead side sideways hand hands arm arms leg legs foot feet
    person figure character please now slowly quickly deeply in-place place once few steps
    some glass water cup tea coffee into air head over above body trunk hips is who someone
    body's out step like for times onto low high take takes taking
    """.split()  # noqa: SIM905 - a list would take a page
)
_TIMES = {"twice": 2, "thrice": 3}
_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "twelve": 12,
}  # fmt: skip
_ENDINGS = ("s", "es", "ing", "ed", "d")
_WALKS = {"walk", *(f"{style} walk" for style in set(STYLE_WORDS.values()))}
_STEPPERS = {*_WALKS, "run", "side step", "backward walk", "hop"}
MOST = 24
"""How many repetitions or steps may be asked for."""


def _bases(word: str) -> list[str]:
    """Return what a word may be without -s, -es, -ing, -ed and a doubled consonant."""
    out = [word]
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 1:
            base = word[: -len(ending)]
            out += [base, base + "e"]
            if len(base) > 2 and base[-1] == base[-2]:
                out.append(base[:-1])
            if ending == "ing" and base.endswith("y"):
                out.append(base[:-1] + "ie")
    return out


_SKIP = frozenset({"a", "an", "the", "some", "his", "her", "their", "your", "my"})
_PHRASES: dict[tuple[str, ...], str] = {
    **{(word,): name for name, action in ACTIONS.items() for word in action.synonyms},
    **{
        tuple(w for w in phrase.split() if w not in _SKIP): name
        for name, motion in MOTIONS.items()
        for phrase in motion.phrases
    },
}
_LONGEST = max(len(phrase) for phrase in _PHRASES)


def stem(word: str) -> str | None:
    """Find the action of a word, allowing -s, -es, -ing, -ed and a doubled consonant."""
    return next((_PHRASES[(c,)] for c in _bases(word) if (c,) in _PHRASES), None)


def known() -> str:
    """Name all actions and styles."""
    names = dict.fromkeys([*ACTIONS, *MOTIONS])
    styles = sorted({word for word in STYLE_WORDS if word not in STYLE_WORDS.values()})
    return f"{', '.join(names)}; styles of a walk: {', '.join(styles)}"


@dataclass
class _Clause:
    names: list[str] = field(default_factory=list)
    side: Side | None = None
    way: Side | None = None
    style: str | None = None
    times: int = 1
    number: int = 0
    degrees: float = 0.0
    unknown: list[str] = field(default_factory=list)


def _phrase(words: list[str], at: int) -> tuple[str, int] | None:
    """Return the action of the longest phrase that starts at a word, and how long it is.

    Articles within a phrase do not count, and the first word may have an ending.
    """
    best: tuple[str, int] | None = None
    for first in _bases(words[at]):
        spoken, end = [first], at + 1
        while True:
            if (name := _PHRASES.get(tuple(spoken))) and (best is None or end - at > best[1]):
                best = name, end - at
            while end < len(words) and words[end] in _SKIP:
                end += 1
            if end >= len(words) or len(spoken) >= _LONGEST:
                break
            spoken.append(words[end])
            end += 1
    return best


def _read(words: list[str]) -> _Clause:
    out = _Clause()
    i = 0
    while i < len(words):
        word = words[i]
        if word in ("left", "right", "leftward", "leftwards", "rightward", "rightwards"):
            side: Side = "left" if word.startswith("left") else "right"
            before = words[max(0, i - 2) : i]
            if word in ("left", "right") and before != ["to", "the"]:
                out.side = side
            else:
                out.way = side
        elif word in _TIMES:
            out.times = _TIMES[word]
        elif found := _phrase(words, i):
            out.names.append(found[0])
            i += found[1]
            continue
        elif word.isdigit() or word in _NUMBERS:
            value = int(word) if word.isdigit() else _NUMBERS[word]
            unit = words[i + 1] if i + 1 < len(words) else ""
            if unit in ("degrees", "degree"):
                out.degrees = float(value)
                i += 1
            elif unit == "times":
                out.times = value
                i += 1
            elif unit in ("steps", "step", "hops", "paces"):
                out.number = value
                i += 1
            elif word.isdigit():
                out.unknown.append(word)
        elif word in STYLE_WORDS:
            out.style = STYLE_WORDS[word]
        elif word not in FILLER:
            out.unknown.append(word)
        i += 1
    nouns = {noun for name in out.names if name in MOTIONS for noun in MOTIONS[name].nouns}
    if "around" in words and "turn in place" in out.names and not out.degrees:
        out.degrees = 180.0
    if out.style and any(name in _WALKS for name in out.names):
        nouns |= {"man", "woman", "person"}
    out.unknown = [word for word in out.unknown if word not in nouns]
    if out.degrees:
        out.names = ["turn in place" if name == "turn" else name for name in out.names]
    if out.number and not out.names:
        out.names = ["walk"]
    if out.names == ["hop"] and not out.number:
        out.number, out.times = (out.times if out.times > 1 else 0), 1
    return out


def _asked(name: str, clause: _Clause) -> Asked:
    usual: Side = MOTIONS[name].default_side if name in MOTIONS else ACTIONS[name].default_side
    side = clause.side or clause.way or usual
    out = Asked(name, side)
    if name in _WALKS and clause.way:
        out = replace(
            out, side=clause.side or usual, heading=90.0 if clause.way == "left" else -90.0
        )
    if name in _STEPPERS and clause.number:
        out = replace(out, steps=clause.number)
    if name == "turn in place" and clause.degrees:
        out = replace(out, degrees=clause.degrees)
    return out


def parse(instruction: str, scene: Collection[str] = ()) -> list[Asked]:
    """Read what an English instruction asks for, in order.

    Clauses are split at commas, full stops, "and" and "then"; "left" and "right" belong to their
    clause, "to the left" turns the way of a walk; "twice", "three times" repeat, "six steps" counts
    steps; a word of style goes with the walk of its clause.

    Args:
        instruction: For example "walk proudly to the left, then bow".
        scene: Names of surfaces: "sit" means the seat if there is one.

    Raises:
        ArgumentError: the instruction is empty or not text.
        ProviderError: it has a word that is no known action, a style without a walk, or a number
            out of range; lists the known ones.
    """
    if not isinstance(instruction, str) or not instruction.strip():
        raise ArgumentError(
            f"Scripted.plan: instruction is {instruction!r}, must be words; say for example 'wave'"
        )
    found: list[Asked] = []
    for part in re.split(r"[,.;!]|\band\b|\bthen\b", instruction.lower()):
        words = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", part)
        clause = _read(words)
        if clause.unknown:
            raise ProviderError(
                f"Scripted.plan: instruction has the unknown word {clause.unknown[0]!r}, must be "
                f"made of the actions {known()}; rephrase it or pass another provider"
            )
        # "take two steps walking" and the like name one action twice
        names = list(dict.fromkeys(clause.names))
        if "seat" in scene:
            names = ["sit on chair" if name == "sit" else name for name in names]
        if clause.style:
            if "walk" not in names and not any(name in _WALKS for name in names):
                raise ProviderError(
                    f"Scripted.plan: instruction has the style {clause.style!r} in {part.strip()!r}"
                    ", must go with a walk; say for example 'walk proudly'"
                )
            names = [f"{clause.style} walk" if name == "walk" else name for name in names]
        for count in (clause.times, clause.number or 1):
            if not 1 <= count <= MOST:
                raise ProviderError(
                    f"Scripted.plan: instruction asks for {count} times or steps, must be in "
                    f"[1, {MOST}]; split it"
                )
        found += [_asked(name, clause) for name in names] * clause.times
    if not found:
        raise ProviderError(
            f"Scripted.plan: instruction is {instruction!r}, must name one of the actions "
            f"{known()}; rephrase it or pass another provider"
        )
    return found
