"""The sentence of a fact, in the one form that `parse` gives back as the same fact."""

from foveal.motion.posecodes.facts import (
    All,
    AnyOf,
    Fact,
    Hold,
    Loops,
    Not,
    Order,
    Times,
    When,
    Within,
)
from foveal.motion.posecodes.terms import (
    OFF,
    ON,
    Aim,
    Clearance,
    Distance,
    Gait,
    Gap,
    Height,
    Hinge,
    Keys,
    Lean,
    Measure,
    Shift,
    Speed,
    Statistic,
    Tilt,
    Travel,
    Turn,
)


def number(value: float) -> str:
    """Write a number so that it reads back as the same one."""
    return repr(float(value)).removesuffix(".0")


def band(low: float | None, high: float | None, unit: str) -> str:
    """Write a band, for example "at least 0.2 m" or "80 to 100 degrees"."""
    tail = f" {unit}" if unit else ""
    if low is None:
        return f"at most {number(high or 0.0)}{tail}"
    if high is None:
        return f"at least {number(low)}{tail}"
    return f"{number(low)} to {number(high)}{tail}"


def _spread(low: float | None, high: float | None, end: str) -> str:
    """Write a band of a distance or angle from something: "within 0.1 m of", "... from"."""
    unit, _, other = end.partition("|")
    if low is None:
        return f"within {number(high or 0.0)} {unit} of {other}"
    return f"{band(low, high, unit)} from {other}"


def noun(measure: Measure) -> str:
    """Write a measure without a band."""
    match measure:
        case Gap(point, relation, other):
            return f"{point} {relation} {other}"
        case Distance(point, other):
            return f"{point} from {other}"
        case Hinge(name):
            return name.replace("_", " ")
        case Tilt(part, line):
            return f"{part} from {line}"
        case Lean(part, direction):
            return f"{part} leaned {direction}"
        case Turn(part, direction, against):
            return f"{part} {'turned' if against == 'start' else 'twisted'} {direction}"
        case Aim(part, verb, direction):
            return f"{part} {verb} {direction}"
        case Height(point, surface):
            return f"{point} height over {surface}"
        case Shift(point, direction):
            return f"{point} shifted {direction}"
        case Travel(point, direction):
            return f"{point} moved {direction}"
        case Clearance(part, surface):
            return f"{part} clear of {surface}"
        case Speed(point, direction, against):
            tail = f" against {against}" if against else ""
            return f"{point} moving {direction}{tail}" if direction else f"{point} speed{tail}"
        case Gait(name):
            return f"gait {name}"
        case Keys():
            return "keys kept"
        case Statistic(kind, inner):
            return f"{kind} of ({noun(inner)})"


def _size(fact: Within) -> str:
    if fact.neutral == "times":
        return f"{band(fact.low, fact.high, '')} times neutral"
    size = band(fact.low, fact.high, fact.measure.unit)
    return f"{size} more than neutral" if fact.neutral else size


def _within(fact: Within) -> str:
    measure, low, high = fact.measure, fact.low, fact.high
    size = _size(fact)
    match measure:
        case Gap():
            return noun(measure) if (low, high) == (0, None) else f"{noun(measure)} by {size}"
        case Distance(point, other):
            return f"{point} {_spread(low, high, f'm|{other}')}"
        case Tilt(part, line):
            return f"{part} {_spread(low, high, f'degrees|{line}')}"
        case Aim():
            if low is None:
                return f"{noun(measure)} within {number(high or 0.0)} degrees"
            return f"{noun(measure)} with error {size}"
        case Height(point, surface):
            return f"{point} height {size} over {surface}"
        case Clearance(part, surface):
            if (low, high) in (ON, OFF):
                return f"{part} {'on' if (low, high) == ON else 'off'} {surface}"
            return f"{noun(measure)} by {size}"
        case Lean() | Turn() | Shift() | Travel():
            return f"{noun(measure)} by {size}"
        case Speed(_, _, against):
            head = noun(measure).removesuffix(f" against {against}")
            return f"{head} {size}" + (f" against {against}" if against else "")
        case Hinge() | Gait() | Keys() | Statistic():
            return f"{noun(measure)} {size}"


def _inner(fact: Fact) -> str:
    words = to_text(fact)
    return f"({words})" if isinstance(fact, Order) else words


def to_text(fact: Fact) -> str:
    """Write a fact as a sentence; `parse` of it is the same fact.

    Lengths are metres at a height of 1.7 m, angles degrees, times seconds.
    """
    match fact:
        case Within():
            return _within(fact)
        case Not(inner):
            return f"not {_inner(inner)}"
        case All(facts):
            return f"({' and '.join(_inner(f) for f in facts)})"
        case AnyOf(facts):
            return f"({' or '.join(_inner(f) for f in facts)})"
        case When(when, inner):
            return f"{when} {_inner(inner)}"
        case Hold(seconds, inner):
            return f"for at least {number(seconds)} s {_inner(inner)}"
        case Times(low, high, inner, alternating):
            count = f"at least {low}" if high is None else f"{low} to {high}"
            turns = " alternating left and right" if alternating else ""
            return f"{count} times{turns} {_inner(inner)}"
        case Order(facts):
            return "in this order: " + ", then ".join(_inner(f) for f in facts)
        case Loops():
            return "loops"
