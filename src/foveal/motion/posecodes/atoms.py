"""One sentence about one measure: "left hand in front of chest by 0.2 m"."""

from foveal.motion.posecodes.context import Context
from foveal.motion.posecodes.facts import Fact, Loops, Not, Within
from foveal.motion.posecodes.motions import MOTION_WORDS, aim, hinge, lean, level, shift, speed
from foveal.motion.posecodes.places import PLACE_WORDS, contact, distance, height, relation
from foveal.motion.posecodes.subjects import Subject
from foveal.motion.posecodes.terms import GAITS, STATISTICS, FrameMeasure, Gait, Keys, Statistic

_RULES = (relation, level, distance, contact, height, shift, lean, aim, speed, hinge)


def atom(c: Context) -> Fact:
    """Take one fact that is neither compound nor about when.

    Raises:
        ArgumentError: something that is not known stands here.
    """
    reader = c.reader
    if reader.take("loops", "loop"):
        return Loops()
    if reader.take("keys kept"):
        reader.take("to")
        return c.against(Keys(), "m", bare="most")
    if reader.take("gait"):
        measure = Gait(reader.need(*GAITS))
        return c.against(measure, measure.unit)
    if kind := reader.take(*STATISTICS, "on average", "average"):
        kind = "mean" if kind.endswith("average") else kind
        reader.take("of")
        reader.need("(")
        statistic = Statistic(kind, _measure(c))
        return c.against(statistic, statistic.unit)
    if reader.peek() in ("facing", "faces"):
        return _predicate(c, Subject("pelvis", ("",)))
    subject = c.known.subject(reader)
    if subject is None:
        raise reader.fail([*sorted(c.known.names), "facing", "gait", "loops", "not", "always", "("])
    if not subject.sides:
        wanted = ["left", "right", "both", "either"]
        raise reader.fail(wanted, f"{subject.word!r} needs one of them before it")
    return _predicate(c, subject)


def _predicate(c: Context, subject: Subject) -> Fact:
    if c.reader.peek() == "not" and not c.bare:
        if len(subject.sides) > 1:
            raise c.reader.fail([*PLACE_WORDS], "for a pair, say not (...) of all of it")
        c.reader.i += 1
        return Not(_predicate(c, subject))
    start = c.reader.i
    for rule in _RULES:
        fact = rule(c, subject)
        if fact is not None:
            return fact
        c.reader.i = start
    raise c.reader.fail([*PLACE_WORDS, *MOTION_WORDS])


def _measure(c: Context) -> FrameMeasure:
    """Take a measure without its band, up to the closing bracket."""
    outer, c.bare = c.bare, True
    fact = atom(c)
    c.bare = outer
    c.reader.need(")")
    if isinstance(fact, Within) and isinstance(fact.measure, FrameMeasure):
        return fact.measure
    raise c.reader.fail(["one point or part, on one side"], "a statistic is of one measure")
