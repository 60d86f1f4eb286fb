"""Rules for where parts point, how joints bend, and how things move."""

from foveal.motion.posecodes.context import BARE, Context
from foveal.motion.posecodes.facts import Fact, Within
from foveal.motion.posecodes.points import UPRIGHT
from foveal.motion.posecodes.subjects import Subject
from foveal.motion.posecodes.terms import Aim, Hinge, Lean, Shift, Speed, Tilt, Travel, Turn
from foveal.motion.posecodes.words import (
    AWAY_WORDS,
    DIRECTION_WORDS,
    HEADING_WORDS,
    LEAN_WORDS,
    UNITS,
)  # fmt: skip

FACING_DEGREES, LEVEL_DEGREES, STRAIGHT_DEGREES = 45.0, 20.0, 20.0
"""What "facing", "vertical" and "straight" allow where no angle is given."""
MOTION_WORDS = (
    "moved", "travelled", "shifted", "raised", "lowered", "leaned", "turned", "twisted", "facing",
    "pointing", "horizontal", "vertical", "faster than", "slower than", "speed", "moving", "bent",
    "straight", "at least N degrees",
)  # fmt: skip
_LINES = ("vertical", "horizontal")


def shift(c: Context, subject: Subject) -> Fact | None:
    """Read "moved forward by", "shifted up by", "raised by", "lowered by"."""
    reader = c.reader
    if not c.is_point(subject):
        return None
    if word := reader.take("raised", "lowered", "lifted", "dropped"):
        direction = "up" if word in ("raised", "lifted") else "down"
        whole = False
    elif word := reader.take("moved", "moves", "travelled", "traveled", "travels", "shifted"):
        whole = word != "shifted"
        found = reader.take(*AWAY_WORDS)
        if found is None and not (reader.peek() == "by" or reader.is_number()):
            raise reader.fail([*AWAY_WORDS, "by"])
        direction = AWAY_WORDS[found] if found else "away"
    else:
        return None
    reader.take("by")
    if whole and not c.bare:
        return c.each(subject, lambda name: c.against(Travel(name, direction), "m"))
    low, high = c.band("m")
    return c.each(subject, lambda name: Within(Shift(name, direction), low, high))


def lean(c: Context, subject: Subject) -> Fact | None:
    """Read "leaned forward by", "turned left by" and "twisted left by"."""
    reader = c.reader
    if subject.word not in UPRIGHT:
        return None
    part = subject.word
    if reader.take(*LEAN_WORDS):
        direction = HEADING_WORDS[reader.need(*HEADING_WORDS)]
        reader.take("by")
        return Within(Lean(part, direction), *c.band("degrees"))
    if word := reader.take("turned", "turns", "rotated", "twisted", "twists"):
        side = HEADING_WORDS[reader.need("left", "to left", "right", "to right")]
        reader.take("by")
        against = "pelvis" if word.startswith("twist") else "start"
        part = "chest" if part == "trunk" else part
        return Within(Turn(part, side, against), *c.band("degrees"))
    return None


def _aim(c: Context, part: str, verb: str, word: str) -> Fact:
    reader = c.reader
    measure = Aim(part, verb, DIRECTION_WORDS[word])
    if c.bare:
        return Within(measure, *BARE)
    if reader.take("with error"):
        return Within(measure, *c.band("degrees"))
    if reader.peek() == "within":
        return Within(measure, *c.band("degrees"))
    return Within(measure, None, FACING_DEGREES)


def aim(c: Context, subject: Subject) -> Fact | None:
    """Read "palm down", "facing +x within 30 degrees", "pointing up", "horizontal"."""
    reader = c.reader
    names = subject.names()
    word = subject.word
    verb = reader.take("facing", "faces", "pointing", "points", "aimed", "aiming")
    if verb:
        kind = "facing" if verb.startswith("fac") else "pointing"
        if word == "trunk" and kind == "facing":
            names = ["chest"]
        if word == "head" and kind == "facing":
            names = ["face"]
        table = c.known.normals if kind == "facing" else c.known.lines
        if not set(names) <= set(table):
            raise reader.fail(table, f"{names[0]!r} has no direction for {verb!r}")
        direction = reader.need(*DIRECTION_WORDS)
        facts: list[Fact] = []
        start = reader.i
        for name in names:
            reader.i = start
            facts.append(_aim(c, name, kind, direction))
        made: dict[str, Fact] = dict(zip(names, facts, strict=True))
        return c.each(subject, lambda name: made[name], names)
    if word in ("palm", "sole") and (direction := reader.take(*DIRECTION_WORDS)):
        start = reader.i
        aims: dict[str, Fact] = {}
        for name in names:
            reader.i = start
            aims[name] = _aim(c, name, "facing", direction)
        return c.each(subject, lambda name: aims[name])
    return None


def level(c: Context, subject: Subject) -> Fact | None:
    """Read "within 20 degrees of vertical", "30 to 60 degrees from horizontal", "vertical"."""
    reader = c.reader
    names = subject.names()
    if not set(names) <= set(c.known.lines):
        return None
    if line := reader.take(*_LINES, "upright", "level"):
        line = {"upright": "vertical", "level": "horizontal"}.get(line, line)
        low, high = c.band("degrees", (None, LEVEL_DEGREES), bare="most")
        return c.each(subject, lambda name: Within(Tilt(name, line), low, high))
    size = BARE
    if not c.bare:
        ahead = [reader.peek(k) for k in range(10)]
        if not ({"vertical", "horizontal", "upright"} & set(ahead)):
            return None
        if not (reader.is_number() or reader.peek() in ("at", "more", "less", "within", "between")):
            return None
        size = c.band("degrees", bare="most")
    if not reader.take("of", "from", "off"):
        return None
    line = reader.take(*_LINES, "upright")
    if line is None:
        return None
    line = "vertical" if line == "upright" else line
    return c.each(subject, lambda name: Within(Tilt(name, line), *size))


def speed(c: Context, subject: Subject) -> Fact | None:
    """Read "faster than 3 m/s", "speed 1 to 2 m/s", "moving forward at least 3 m/s"."""
    reader = c.reader
    if not c.is_point(subject):
        return None
    direction = ""
    if reader.take("moving", "swinging"):
        direction = reader.take(*DIRECTION_WORDS) or ""
        if not direction and not reader.take("at") and reader.peek() not in ("faster", "slower"):
            raise reader.fail([*DIRECTION_WORDS, "faster than", "slower than"])
        direction = DIRECTION_WORDS.get(direction, "")
    elif reader.take("still"):
        return c.each(subject, lambda name: Within(Speed(name), None, 0.15))
    elif not reader.take("speed", "speed of") and reader.peek() not in ("faster", "slower"):
        return None
    if word := reader.take("faster than", "slower than"):
        value = reader.band("m/s")
        if value is None:
            raise reader.fail(["N m/s"])
        low, high = (value[0], None) if word == "faster than" else (None, value[0])
    else:
        if reader.peek(1) not in ("least", "most"):
            reader.take("at")
        low, high = c.band("m/s")
    against = ""
    if reader.take("against", "relative to"):
        names, surface = c.objects("")
        if surface or len(names) != 1:
            raise reader.fail(sorted(c.known.points), "a speed is against one point")
        against = names[0]
    return c.each(subject, lambda name: Within(Speed(name, direction, against), low, high))


def hinge(c: Context, subject: Subject) -> Fact | None:
    """Read "80 to 100 degrees", "bent by at least 80 degrees", "straight"."""
    reader = c.reader
    hinges = [c.known.hinge(name) for name in subject.names()]
    if None in hinges:
        if subject.word not in c.known.joints and UNITS.get(reader.peek(1), ("",))[0] == "degrees":
            own = sorted(h for h in c.known.hinges if f"{subject.word} " in f"{h} ")
            raise reader.fail([f"{h.split(' ', 1)[-1]} N degrees" for h in own] or ["above"])
        return None
    full = [name for name in hinges if name is not None]
    joint = subject.word in c.known.joints
    if joint and reader.take("straight", "extended", "stretched"):
        return c.each(subject, lambda name: Within(Hinge(name), None, STRAIGHT_DEGREES), full)
    bent = joint and reader.take("bent", "flexed")
    if not (reader.peek() == "at" and reader.peek(1) in ("least", "most")):
        reader.take("by", "to", "at")
    if not (c.bare or reader.is_number() or reader.peek() in ("at", "more", "less", "between",
            "over", "under", "up", "within", "greater")):  # fmt: skip
        if bent:
            raise reader.fail(["at least N degrees", "N to M degrees"])
        return None
    low, high = c.band("degrees", bare="about")
    return c.each(subject, lambda name: Within(Hinge(name), low, high), full)
