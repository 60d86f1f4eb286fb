"""Plan from the hand-written action library: no model, no network, deterministic."""

import math
import re
from dataclasses import dataclass, replace

from foveal.errors import ArgumentError, ProviderError
from foveal.motion.director.commands import FootTarget, Keyframe
from foveal.motion.director.library import ACTIONS
from foveal.motion.skeleton import Side

# Words that carry no action; anything else unknown is an error, never a guess.
_FILLER = frozenset(
    """
    a an the and then after that with your his her their one both to at from of on in up
    down it forward forwards ahead side sideways hand hands arm arms leg legs foot feet
    person figure character please now slowly quickly deeply in-place place once few steps
    some glass water cup tea coffee into air head over above body trunk hips is who someone
    body's out
    """.split()  # noqa: SIM905 - a list would take a page
)
_TIMES = {"twice": 2, "thrice": 3}
_SYNONYMS = {word: name for name, action in ACTIONS.items() for word in action.synonyms}


@dataclass(frozen=True)
class Plan:
    """What a provider decided: keyframes, and the library actions they are meant to show."""

    keyframes: tuple[Keyframe, ...]
    actions: tuple[tuple[str, Side], ...] = ()
    provider: str = "scripted"


def stem(word: str) -> str | None:
    """Find the action of a word, allowing -s, -es, -ing, -ed and a doubled consonant."""
    candidates = [word]
    for suffix in ("s", "es", "ing", "ed", "d"):
        if word.endswith(suffix):
            base = word[: -len(suffix)]
            candidates += [base, base + "e"]
            if len(base) > 2 and base[-1] == base[-2]:
                candidates.append(base[:-1])
    return next((_SYNONYMS[c] for c in candidates if c in _SYNONYMS), None)


def parse(instruction: str) -> list[tuple[str, Side]]:
    """Read the actions of an English instruction, in order, with the side of each.

    Clauses are split at commas, full stops, "and" and "then"; "left" and "right" belong to their
    clause; "twice" and "thrice" repeat it.

    Raises:
        ArgumentError: the instruction is empty or not text.
        ProviderError: it has a word that is no known action; lists the known ones.
    """
    if not isinstance(instruction, str) or not instruction.strip():
        raise ArgumentError(
            f"Scripted.plan: instruction is {instruction!r}, must be words; say for example 'wave'"
        )
    found: list[tuple[str, Side]] = []
    known = ", ".join(ACTIONS)
    for clause in re.split(r"[,.;!]|\band\b|\bthen\b", instruction.lower()):
        words = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", clause)
        actions: list[str] = []
        side: Side | None = None
        times = 1
        for word in words:
            if word in ("left", "right"):
                side = "left" if word == "left" else "right"
            elif word in _TIMES:
                times = _TIMES[word]
            elif word in _FILLER:
                continue
            elif (name := stem(word)) is not None:
                actions.append(name)
            else:
                raise ProviderError(
                    f"Scripted.plan: instruction has the unknown word {word!r}, must be made of "
                    f"the actions {known}; rephrase it or pass another provider"
                )
        # "take two steps walking" and the like name one action twice
        actions = [a for i, a in enumerate(actions) if a not in actions[:i]]
        asked: list[tuple[str, Side]] = [(a, side or ACTIONS[a].default_side) for a in actions]
        found += asked * times
    if not found:
        raise ProviderError(
            f"Scripted.plan: instruction is {instruction!r}, must name one of the actions {known}; "
            "rephrase it or pass another provider"
        )
    return found


class Scripted:
    """Keyframes from the action library; needs no model."""

    def plan(self, instruction: str) -> Plan:
        """Join the library's keyframes for the actions of an instruction.

        Args:
            instruction: English, for example "bow and then wave with the left hand".

        Raises:
            ArgumentError: empty instruction.
            ProviderError: a word that is no known action.
        """
        actions = parse(instruction)
        keys = [replace(ACTIONS["stand"].make("left")[0], dt=0.0)]
        forward = 0.0
        for name, side in actions:
            for key in ACTIONS[name].make(side):
                keys.append(_moved(key, forward))
            forward = keys[-1].feet["left"].position[0]
        keys[-1] = replace(keys[-1], finished=True)
        return Plan(tuple(keys), tuple(actions))


def _moved(key: Keyframe, forward: float) -> Keyframe:
    if math.isclose(forward, 0.0):
        return key
    x, y, z = key.pelvis
    feet: dict[Side, FootTarget] = {
        side: replace(foot, position=(foot.position[0] + forward, *foot.position[1:]))
        for side, foot in key.feet.items()
    }
    return replace(key, pelvis=(x + forward, y, z), feet=feet)
