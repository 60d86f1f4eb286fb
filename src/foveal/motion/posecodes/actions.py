"""The facts of every action of the list, and the check of a clip against them."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

from foveal.errors import ArgumentError
from foveal.motion.clip import Clip
from foveal.motion.posecodes.evaluate import Result, judge
from foveal.motion.posecodes.facts import Fact
from foveal.motion.posecodes.figure import Figure
from foveal.motion.posecodes.mirror import mirror
from foveal.motion.posecodes.parse import parse
from foveal.motion.posecodes.points import read_scene
from foveal.motion.skeleton import Side


@dataclass(frozen=True)
class Requirement:
    """A fact that an action asks for, and why its threshold is what it is ("" if plain)."""

    fact: Fact
    why: str = ""


@dataclass(frozen=True)
class ActionFacts:
    """What must hold if a clip shows an action.

    Attributes:
        name: The action.
        group: "humanact12", "sport", "style", "scene", "in-between" or "other".
        requirements: Its facts, for the right side where it has one.
        sided: Whether it can be done on either side.
        needs: Surfaces of the scene, "neutral" and "keys", without which it cannot be judged.
        also: Other names.
    """

    name: str
    group: str
    requirements: tuple[Requirement, ...]
    sided: bool = False
    needs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @cached_property
    def _sides(self) -> dict[str, tuple[Fact, ...]]:
        own = tuple(requirement.fact for requirement in self.requirements)
        return {"right": own, "left": tuple(mirror(fact) for fact in own)}

    def facts(self, side: Side = "right") -> tuple[Fact, ...]:
        """Return the facts for a side."""
        return self._sides[side]


@lru_cache(maxsize=1)
def action_facts() -> dict[str, ActionFacts]:
    """Read the facts of all actions from the data file."""
    text = files("foveal.motion.posecodes").joinpath("actions.toml").read_text("utf-8")
    out: dict[str, ActionFacts] = {}
    for name, entry in tomllib.loads(text).items():
        own = tuple(Requirement(parse(f["is"]), f.get("why", "")) for f in entry["facts"])
        base = out[entry["extends"]].requirements if "extends" in entry else ()
        out[name] = ActionFacts(
            name,
            entry["group"],
            (*base, *own),
            entry.get("sided", False),
            tuple(entry.get("needs", ())),
            tuple(entry.get("also", ())),
        )
    return out


def find_action(name: str) -> ActionFacts:
    """Return the facts of an action by its name or another name.

    Raises:
        ArgumentError: there is no such action; lists all.
    """
    known = action_facts()
    wanted = " ".join(str(name).lower().replace("_", " ").split())
    for action in known.values():
        if wanted == action.name or wanted in action.also:
            return action
    raise ArgumentError(
        f"check: action is {name!r}, must be one of {', '.join(known)}; or judge your own facts "
        "with evaluate"
    )


def check(
    clip: Clip,
    action: str,
    *,
    side: Side | None = None,
    scene: Mapping[str, object] | None = None,
    neutral: Clip | None = None,
    keys: Clip | None = None,
) -> list[Result]:
    """Judge a clip by every fact of an action.

    Args:
        clip: The clip, of this action alone.
        action: For example "wave"; see `action_facts`.
        side: "left" or "right", or None for the one that fits better.
        scene: Surfaces by name: {"seat": {"height": 0.45}} or {"box": {"box": [[x, y, z], ...]}}.
        neutral: The neutral walk, for styles.
        keys: The user's key poses, for in-betweens: a frame a key, times in `keyframe_times`.

    Returns: A result a fact, in the order of the data; the clip shows the action if all are true.

    Raises:
        ArgumentError: unknown action or side, or something that the action needs is missing.
    """
    judged = _Judged(clip, find_action(action), scene, neutral, keys)
    best: list[Result] = []
    for one in judged.sides(side):
        results = [judged.result(i, one) for i in range(len(judged.action.requirements))]
        if not best or _rank(results) > _rank(best):
            best = results
    return best


def shows(
    clip: Clip,
    action: str,
    *,
    side: Side | None = None,
    scene: Mapping[str, object] | None = None,
    neutral: Clip | None = None,
    keys: Clip | None = None,
) -> bool:
    """Return whether every fact of an action holds; as `check`, but it stops at the first failure.

    Raises:
        ArgumentError: as `check` does.
    """
    judged = _Judged(clip, find_action(action), scene, neutral, keys)
    count = len(judged.action.requirements)
    return any(all(judged.result(i, one).truth for i in range(count)) for one in judged.sides(side))


class _Judged:
    """A clip and what it is judged with, checked."""

    def __init__(
        self,
        clip: Clip,
        action: ActionFacts,
        scene: Mapping[str, object] | None,
        neutral: Clip | None,
        keys: Clip | None,
    ) -> None:
        surfaces = read_scene(scene or {})
        have = {*surfaces, *(["neutral"] if neutral else []), *(["keys"] if keys else [])}
        if missing := [need for need in action.needs if need not in have]:
            raise ArgumentError(
                f"check: action is {action.name!r} without {', '.join(missing)}, must have "
                f"{', '.join(action.needs)}; pass surfaces in scene, clips as neutral and keys"
            )
        self.action, self.keys = action, keys
        self.figure = Figure(clip, surfaces)
        self.neutral = None if neutral is None else Figure(neutral, surfaces)

    def sides(self, side: Side | None) -> tuple[Side, ...]:
        if side not in (None, "left", "right"):
            raise ArgumentError(
                f"check: side is {side!r}, must be 'left', 'right' or None; pick one"
            )
        if side is not None:
            return (side,)
        return ("right", "left") if self.action.sided else ("right",)

    def result(self, index: int, side: Side) -> Result:
        requirement = self.action.requirements[index]
        fact = self.action.facts(side)[index]
        return replace(judge(fact, self.figure, self.neutral, self.keys), why=requirement.why)


def _rank(results: Sequence[Result]) -> tuple[int, float]:
    true = [result.truth for result in results]
    return sum(true), -sum(abs(r.margin) for r in results if not r.truth)


def table(results: Sequence[Result]) -> str:
    """Write results as a table: truth, margin with its unit, time, fact, and what decides it."""
    rows = [["", "margin", "at", "fact"]]
    for result in results:
        told = result.fact
        if result.because != result.fact and not result.truth:
            told += f"  <- {result.because}"
        margin = f"{result.margin:+.2f} {result.unit}".rstrip()
        rows.append(["ok" if result.truth else "FAILS", margin, f"{result.time:.2f} s", told])
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        + f"  {row[3]}"
        for row in rows
    ]
    passed = sum(result.truth for result in results)
    return "\n".join([*lines, f"{passed} of {len(results)} facts hold"])


def to_dicts(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return results as plain dicts, ready for JSON."""
    return [result.to_dict() for result in results]
