"""The Keyframe Animator: bend the figure, look, bend again, until it is the pose described.

Source: Zhang et al., "FreeMotion", ECCV 2024, arXiv:2406.10740 (six commands, feedback of render
and coordinates after each answer, at most five adjustments a part). Differs: several commands an
answer, undo, a stop on oscillation, the best pose so far is kept, and pose facts measure "done".
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from foveal.errors import ProviderError
from foveal.motion.director.apply import Outcome, apply
from foveal.motion.director.chat.request import Json, Message, Request
from foveal.motion.director.commands_pose import (
    Camera,
    Command,
    command_schema,
    part_of,
    read_command,
)
from foveal.motion.director.parts import PARTS
from foveal.motion.director.picture import contact_sheet, table
from foveal.motion.director.pose import POINTS, Pose, directions, part_of_point, points
from foveal.motion.director.prompts import ANIMATOR, WORLD, fill_in
from foveal.motion.director.scene_facts import Scene, arm_length, describe
from foveal.motion.director.settle import Measured, Settled, measure, penalty, settle
from foveal.motion.director.target import Target
from foveal.motion.legs import leg_length
from foveal.motion.skeleton import Skeleton

ADJUSTMENTS = 5
COMMANDS, LOOKS, LIES = 6, 3, 2
_SAME, _MOVED = 0.015, 0.03  # m; a part is back where it was, and had left it
Ask = Callable[[Request], Json]


def animator_schema() -> Json:
    """Return the JSON schema of the Animator's answer."""
    return {
        "type": "object",
        "properties": {
            "thought": {
                "type": "string", "maxLength": 600, "description": "What is wrong, in a sentence.",
            },
            "undo": {
                "type": "integer", "minimum": 0, "maximum": COMMANDS,
                "description": "How many of your last commands to take back first.",
            },
            "commands": {
                "type": "array", "items": command_schema(), "maxItems": COMMANDS,
                "description": "Carried out in order; may be empty.",
                "examples": [[
                    {
                        "command": "end_effector_move", "effector": "left hand",
                        "target": [0.3, 0.2, 1.1],
                    },
                ]],
            },
            "done": {
                "type": "array", "items": {"type": "string", "enum": list(PARTS)},
                "maxItems": len(PARTS), "description": "Parts that are right after the commands.",
            },
        },
        "required": ["commands", "done"],
        "additionalProperties": False,
    }  # fmt: skip


def world_prompt(skeleton: Skeleton) -> str:
    """Return what both agents must know of the world and the figure."""
    return fill_in(
        WORLD,
        height=f"{skeleton.height:.2f}",
        arm=f"{arm_length(skeleton, 'left'):.2f}",
        leg=f"{leg_length(skeleton, 'left'):.2f}",
    )


@dataclass(frozen=True, eq=False)
class Stage:
    """What a keyframe is made on.

    Attributes:
        instruction: Of the user.
        skeleton: The figure.
        scene: Its surfaces.
        start: The pose that the motion starts in; facts such as "lowered" are against it.
        picture_size: Side of the pictures, in pixels.
        max_exchanges: Most questions to the Animator for one keyframe.
    """

    instruction: str
    skeleton: Skeleton
    scene: Scene
    start: Pose
    picture_size: int = 768
    max_exchanges: int = 8


@dataclass(frozen=True, eq=False)
class Realized:
    """A keyframe as it came out.

    Attributes:
        pose: The best pose that was met.
        levels: Height of the surface under each planted part, m.
        measured: The facts in it.
        why: Why it is not the pose that was asked for; empty if it is.
        exchanges: Questions that were asked.
        loose: Parts that were to be planted and have nothing under them.
    """

    pose: Pose
    levels: dict[str, float]
    measured: tuple[Measured, ...]
    why: tuple[str, ...]
    exchanges: int
    loose: frozenset[str] = frozenset()


@dataclass(eq=False)
class _Work:
    """A keyframe in the making."""

    stage: Stage
    target: Target
    held: frozenset[str]
    pose: Pose
    past: list[Pose] = field(default_factory=list[Pose])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    closed: dict[str, str] = field(default_factory=dict[str, str])
    done: set[str] = field(default_factory=set[str])
    camera: Camera | None = None
    looks: int = 0
    notes: list[str] = field(default_factory=list[str])
    best: tuple[tuple[int, float], Pose] | None = None

    def settled(self, pose: Pose | None = None) -> Settled:
        return settle(
            self.stage.skeleton,
            self.pose if pose is None else pose,
            self.stage.scene,
            planted=self.target.contacts,
            held=self.held,
        )

    def measured(self) -> list[Measured]:
        pose = self.settled().pose
        stage = self.stage
        return measure(stage.skeleton, stage.start, pose, self.target.facts, stage.scene)

    def keep_best(self) -> None:
        """Remember this pose if it is at least as good as the best one."""
        score = penalty(self.measured())
        if self.best is None or score <= self.best[0]:
            self.best = (score, self.pose)

    def undo(self, count: int) -> None:
        for _ in range(min(count, len(self.past))):
            self.pose = self.past.pop()
        if count:
            self.notes.append(f"undo: {count} taken back")

    def run(self, command: Command) -> Outcome:
        """Carry out one command, within the limits of its part."""
        part = part_of(command)
        if isinstance(command, Camera):
            self.looks += 1
            if self.looks > LOOKS:
                return Outcome(self.pose, "refused: you have looked often enough", refused=True)
            self.camera = command
        elif part in self.closed:
            return Outcome(self.pose, f"refused: {part} {self.closed[part]}", refused=True)
        else:
            self.counts[part] = self.counts.get(part, 0) + 1
        outcome = apply(self.stage.skeleton, self.pose, command, sorted(self.held))
        if part and not outcome.refused:
            self.past.append(self.pose)
            self.pose = outcome.pose
            self.keep_best()
            if self._swings(part):
                self.closed[part] = "swings back and forth; the best pose so far is kept"
        if part and self.counts[part] >= ADJUSTMENTS and part not in self.closed:
            self.closed[part] = f"has had its {ADJUSTMENTS} adjustments"
        return outcome

    def _swings(self, part: str) -> bool:
        """Whether a part is back where it was two or more of its own moves ago."""
        skeleton = self.stage.skeleton
        names = [n for n in POINTS if part_of_point(skeleton, n) == part]
        trail = [points(skeleton, p, names) for p in (*self.past, self.pose)]
        away = [max(float(np.linalg.norm(t[n] - trail[-1][n])) for n in names) for t in trail]
        returns = [i for i, gap in enumerate(away[:-1]) if gap < _SAME]
        twice = any(max(away[i:]) > _MOVED for i in returns)
        return twice and self.counts[part] >= 3

    def open(self) -> list[str]:
        """Parts that were described, and are neither done nor closed."""
        return [p for p in self.target.parts if p not in self.done and p not in self.closed]


def animate(
    stage: Stage, target: Target, pose: Pose, *, held: Collection[str], ask: Ask, first_turn: int
) -> Realized:
    """Bring the figure into a pose that is described.

    Args:
        stage: The figure and its scene.
        target: What is wished for.
        pose: The pose to start from.
        held: Planted parts that must stay where they are.
        ask: Puts a request to the model and returns the object.
        first_turn: Number of the first question within the Animator's.

    Returns: The best pose that was met; `why` says what is missing, also if the model failed.
    """
    work = _Work(stage, target, frozenset(held), pose)
    work.keep_best()
    why: list[str] = []
    lies, idle, exchanges = 0, 0, 0
    while exchanges < stage.max_exchanges:
        try:
            answer = ask(_request(work, first_turn + exchanges))
        except ProviderError as error:
            why.append(f"the animator could not be asked: {error}")
            break
        exchanges += 1
        acted = _carry_out(work, answer)
        if not work.open():
            failing = [m for m in work.measured() if not m.truth]
            if not failing:
                break
            lies += 1
            work.done.clear()
            work.notes.append("not done: " + "; ".join(m.line()[2:] for m in failing))
            if lies >= LIES and not acted:
                break
            if not [p for p in target.parts if p not in work.closed]:
                break
        idle = 0 if acted or not work.open() else idle + 1
        if idle >= LIES:
            why.append("the animator gave no command and was not done")
            break
    else:
        if work.open():
            why.append(f"{', '.join(work.open())} not done after {exchanges} exchanges")
    return _result(work, why, exchanges)


def _carry_out(work: _Work, answer: Json) -> bool:
    """Undo, run the commands, note what is done; return whether anything moved."""
    work.notes, work.camera = [], None
    work.undo(int(answer.get("undo", 0)))
    acted = bool(answer.get("undo", 0))
    for raw in answer["commands"]:
        outcome = work.run(read_command(raw))
        acted = acted or not outcome.refused
        subject = next((str(raw[k]) for k in ("joint", "effector", "bone") if k in raw), "")
        work.notes.append(f"{raw['command']} {subject}: {outcome.note}".replace(" :", ":"))
    work.done = set(answer["done"])
    for part, reason in work.closed.items():
        if f"{part} {reason}" not in work.notes:
            work.notes.append(f"{part} {reason}")
    return acted


def _result(work: _Work, why: list[str], exchanges: int) -> Realized:
    stage = work.stage
    if work.best is not None and penalty(work.measured()) > work.best[0]:
        work.pose = work.best[1]
    settled = work.settled()
    measured = measure(stage.skeleton, stage.start, settled.pose, work.target.facts, stage.scene)
    why = [*why, *settled.notes]
    why += [f"fact fails: {m.sentence}" for m in measured if not m.truth]
    why += [f"{p} {reason}" for p, reason in work.closed.items() if "swings" in reason]
    return Realized(
        settled.pose, settled.levels, tuple(measured), tuple(why), exchanges, settled.loose
    )


def _request(work: _Work, turn: int) -> Request:
    stage, target = work.stage, work.target
    shown = points(stage.skeleton, work.pose)
    described = [f"- {part}: {text}" for part, text in target.parts.items()]
    used = [f"{p} {n} of {ADJUSTMENTS}" for p, n in work.counts.items()]
    sections: Sequence[tuple[str, str]] = (
        ("The motion", stage.instruction),
        ("The pose to make", target.description + "\n" + "\n".join(described)),
        ("Facts that must hold in it, as measured now", _facts(work)),
        ("What came of your last answer", "\n".join(f"- {note}" for note in work.notes)),
        ("Adjustments used", ", ".join(used)),
        ("The figure now: points [x, y, z]", table(shown)),
        ("Directions", directions(stage.skeleton, work.pose)),
        (
            "The scene and the figure in it",
            describe(stage.skeleton, work.pose, stage.scene, sorted(work.held), shown),
        ),
        ("To be planted at the end of this keyframe", _plan(work)),
    )
    text = "\n\n".join(f"## {title}\n{body}" for title, body in sections if body)
    picture = contact_sheet(
        stage.skeleton, work.pose, stage.scene, sorted(work.held), camera=work.camera,
        size=stage.picture_size,
    )  # fmt: skip
    return Request(
        stage.instruction,
        "animator",
        turn,
        ANIMATOR,
        fill_in(ANIMATOR, world=world_prompt(stage.skeleton), adjustments=str(ADJUSTMENTS)),
        (Message(text, (picture,)),),
        animator_schema(),
        state=work.pose.state,
    )


def _facts(work: _Work) -> str:
    return "\n".join(m.line() for m in work.measured()) or "(none were given)"


def _plan(work: _Work) -> str:
    fresh = sorted(work.target.contacts - work.held)
    names = ", ".join(sorted(work.target.contacts)) or "nothing: the figure is in the air"
    words = f"{names}."
    if fresh:
        words += (
            f" {', '.join(fresh)} may still be moved; bring it over its place, within "
            "0.1 m of the surface, and it is put down for you."
        )
    return words
