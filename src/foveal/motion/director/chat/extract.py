"""Find the JSON object in what a chat model wrote, whatever it wrote around it.

In this order: the whole text, a fenced block, the first balanced object. Linear in the length of
the text, also for hostile ones. Nothing is repaired: an object with a mistake is named, so that the
model can be asked again.
"""

import json
import math
import re
from typing import Any

Json = dict[str, Any]
_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_FENCE = re.compile(r"^[ \t]*```[ \t]*(?:\w+[ \t]*)?\r?\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_START = re.compile(r'\{\s*["}]')
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[{}]', re.DOTALL)


class NoObjectError(ValueError):
    """There is no JSON object to be had; `broken` says whether one was meant."""

    def __init__(self, text: str, *, broken: bool) -> None:
        super().__init__(text)
        self.broken = broken


def read_object(text: str) -> Json:
    """Return the first JSON object of a text.

    Args:
        text: The answer: pure JSON, or JSON in a fenced block or among other words. A leading
            `<think>` block is passed over. Line breaks inside strings are let through.

    Raises:
        NoObjectError: there is none, it is cut off, it has a mistake, a key twice, NaN or infinity,
            or half a character.
    """
    text = _THOUGHT.sub("", text.removeprefix("\ufeff"))
    for part in (text, *(fenced[1] for fenced in _FENCE.finditer(text))):
        try:
            value = _decode(part)
        except ValueError:
            continue
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, dict):
            return value
        if isinstance(value, list):
            raise NoObjectError(f"it is a list of {len(value)}, not one object", broken=True)
    return _first_balanced(text)


def _first_balanced(text: str) -> Json:
    problem: str | None = None
    at = 0
    while (start := _START.search(text, at)) is not None:
        end = _close(text, start.start())
        if end is None:
            raise NoObjectError(problem or "the JSON object is cut off", broken=True)
        try:
            # an object by its first character
            return _decode(text[start.start() : end])
        except ValueError as error:
            problem, at = problem or f"the JSON object has a mistake ({error})", end
    raise NoObjectError(problem or "there is no JSON object in it", broken=problem is not None)


def _close(text: str, start: int) -> int | None:
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] in "{}":
            depth += 1 if token[0] == "{" else -1
            if depth == 0:
                return token.end()
    return None


def _decode(text: str) -> Any:
    """Decode strict JSON but for line breaks in strings; every failure is a ValueError."""
    try:
        value = _DECODER.decode(text)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("half of a character, a lone surrogate") from None
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> Json:
    out: Json = {}
    for name, value in pairs:
        if name in out:
            raise ValueError(f"the key {name[:80]!r} is there twice")
        out[name] = value
    return out


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:80]} is too large")
    return number


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_finite, parse_constant=_constant, strict=False
)
