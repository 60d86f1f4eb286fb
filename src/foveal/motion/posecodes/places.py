"""Rules for where things are: relations, distances, heights and contacts."""

from foveal.motion.posecodes.context import BARE, Band, Context
from foveal.motion.posecodes.facts import Fact, Within
from foveal.motion.posecodes.subjects import Subject
from foveal.motion.posecodes.terms import OFF, ON, Clearance, Distance, Gap, Height
from foveal.motion.posecodes.words import RELATION_WORDS

AT_METERS, NEAR_METERS = 0.12, 0.3
"""What "at" and "touching", and what "near" means: a palm and a half; a forearm."""
_CLOSE = {
    "at": AT_METERS, "near": NEAR_METERS, "close to": NEAR_METERS, "next to": NEAR_METERS,
}  # fmt: skip
PLACE_WORDS = (
    *RELATION_WORDS, *_CLOSE, "within", "apart", "from", "on", "off", "touching", "clear of",
    "height", "in air",
)  # fmt: skip


def relation(c: Context, subject: Subject) -> Fact | None:
    """Read "above", "in front of" and the like, with the length before or after."""
    reader = c.reader
    if not c.is_point(subject):
        return None
    size = c.size()
    word = reader.take(*RELATION_WORDS)
    if word is None:
        return None
    towards, start = RELATION_WORDS[word], reader.i
    if size is None and not c.bare:
        c.objects(subject.sides[0], paired=subject.plural)
        size = c.band("m") if reader.take("by") else BARE
    end = reader.i
    low, high = size or BARE

    def make(name: str, other: str, surface: bool) -> Fact:
        if surface and towards == "below":
            least, most = (None if bound is None else -bound for bound in (high, low))
            return Within(Height(name, other), least, most)
        if surface and towards != "above":
            raise reader.fail(["above", "below", "on", "off", "within"], "a surface is level")
        return Within(Height(name, other) if surface else Gap(name, towards, other), low, high)

    reader.i = start
    fact = c.between(subject, make)
    reader.i = max(reader.i, end)
    return fact


def distance(c: Context, subject: Subject) -> Fact | None:
    """Read "at", "near", "within 0.1 m of", "at least 0.3 m from" and "0.1 to 0.3 m apart"."""
    reader = c.reader
    if not c.is_point(subject):
        return None
    size: Band | None = None
    if reader.peek() == "at" and (reader.is_number(1) or reader.peek(1) in ("least", "most")):
        word = None
    else:
        word = reader.take(*_CLOSE)
    if word is not None:
        size = (None, _CLOSE[word])
    elif not c.bare and reader.take("apart by"):
        return _apart(c, subject, c.band("m"))
    elif not c.bare:
        size = c.size()
        if size is None:
            return None
        if reader.take("apart", "from each other", "of each other"):
            return _apart(c, subject, size)
        if not reader.take("from", "of", "away from"):
            return None
    elif not reader.take("from"):
        return None
    low, high = size or BARE
    return c.between(subject, lambda name, other, _: Within(Distance(name, other), low, high))


def _apart(c: Context, subject: Subject, size: Band) -> Fact:
    if subject.sides != ("left", "right") or subject.joined != "all":
        raise c.reader.fail(["from"], "only a pair such as 'hands' is apart")
    left, right = subject.names()
    return Within(Distance(left, right), *size)


def contact(c: Context, subject: Subject) -> Fact | None:
    """Read "on floor", "off floor by 0.1 m", "clear of seat by ...", "touching table"."""
    reader = c.reader
    if reader.take("in air", "airborne"):
        return c.each(subject, lambda part: Within(Clearance(part, "floor"), *OFF))
    word = reader.take(
        "off of", "off", "clear of", "planted on", "on top of", "on", "touching", "touches"
    )
    if word is None:
        return None
    surface = c.known.surface(reader)
    if surface is None:
        if word.startswith(("touch", "on")) and c.known.has_subject(reader):
            return c.between(
                subject, lambda name, other, _: Within(Distance(name, other), None, AT_METERS)
            )
        raise reader.fail(c.known.surfaces)
    low, high = OFF if word.startswith("off") else ON
    if word == "clear of":
        if not c.bare:
            reader.need("by")
        low, high = c.band("m")
    elif word.startswith("off") and reader.take("by"):
        low, high = c.band("m")
    return c.each(subject, lambda part: Within(Clearance(part, surface), low, high))


def height(c: Context, subject: Subject) -> Fact | None:
    """Read "height at least 1 m over floor" and "at least 1 m high"."""
    reader = c.reader
    if not c.is_point(subject):
        return None
    if reader.take("height"):
        size = c.band("m")
    else:
        found = c.size()
        if found is None or not reader.take("high"):
            return None
        size = found
    surface: str | None = "floor"
    if reader.take("over", "above"):
        surface = c.known.surface(reader)
        if surface is None:
            raise reader.fail(c.known.surfaces)
    over = surface
    return c.each(subject, lambda name: Within(Height(name, over), *size))
