"""Designer and Animator in turn, until the action is there: `direct`.

Whatever stands in the way, there is an end: keyframes, questions, adjustments and refusals are
counted. What was made before a model failed is kept and marked; only if nothing was made is it an
error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from foveal.errors import ArgumentError, ProviderError
from foveal.motion.director.animator import Realized, Stage, animate
from foveal.motion.director.apply import apply
from foveal.motion.director.chat.request import ChatModel, Json, Request
from foveal.motion.director.commands import CONTACTS, MAX_DT, MIN_DT, Keyframe
from foveal.motion.director.commands_pose import Camera, PelvisWithSupport, read_command
from foveal.motion.director.constraints import Constraints, fit_seconds
from foveal.motion.director.cycle import close, repeat
from foveal.motion.director.designer import Moment, designer_request, fast_request
from foveal.motion.director.direction import (
    MODES,
    NOT_SHOWN,
    Cost,
    Direction,
    Mode,
    contact_plan,
    key_times,
)
from foveal.motion.director.parts import hinges_of, part_of_bodies
from foveal.motion.director.pose import Pose, from_keyframe, moved, standing, to_keyframe
from foveal.motion.director.scene_facts import Scene
from foveal.motion.director.settle import measure, settle
from foveal.motion.director.target import Target, contradictions, read_target
from foveal.motion.skeleton import Skeleton

FEET = frozenset(CONTACTS)
_FASTEST = 12.0  # rad/s; quick arms of people reach about this
_PEAK = 1.875  # of a minimum-jerk move, against its mean speed
_LOOPS = 3  # the same keyframe this often in a row is a loop
_REFUSALS = 2
Judge = Callable[[tuple[Keyframe, ...]], tuple[str, ...]]
"""Says what a plan that claims to be finished fails; an empty tuple if nothing."""


@dataclass(frozen=True)
class Limits:
    """Where directing ends, if the model does not end it.

    Args:
        keyframes: Most keyframes that are designed, in [1, 64].
        exchanges: Most questions to the Animator for one keyframe, in [1, 32].
        picture_size: Side of the pictures in pixels, even, in [256, 2048].

    Raises:
        ArgumentError: a number out of range.
    """

    keyframes: int = 16
    exchanges: int = 8
    picture_size: int = 768

    def __post_init__(self) -> None:
        """Check the numbers."""
        ranges = {"keyframes": (1, 64), "exchanges": (1, 32), "picture_size": (256, 2048)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high or (name == "picture_size" and value % 2):
                raise ArgumentError(
                    f"Limits: {name} is {value}, must be in [{low}, {high}]"
                    f"{' and even' if name == 'picture_size' else ''}; leave it out for what suits"
                )


@dataclass(eq=False)
class _Run:
    """A direction in the making."""

    stage: Stage
    model: ChatModel
    constraints: Constraints
    keys: list[Keyframe]
    poses: list[Pose]
    bearing: list[frozenset[str]]  # what is planted at each keyframe
    marks: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    transcript: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    history: list[str] = field(default_factory=list[str])
    remarks: list[str] = field(default_factory=list[str])
    kept: list[int] = field(default_factory=list[int])
    cost: Cost = field(default_factory=Cost)
    designer_turn: int = 0
    animator_turn: int = 0
    cyclic: bool = False
    cycle_start: int | None = None

    @property
    def planted(self) -> frozenset[str]:
        return self.bearing[-1]

    @property
    def time(self) -> float:
        return key_times(self.keys)[-1]

    def ask(self, request: Request) -> Json:
        """Ask the model, and book what it took."""
        reply = self.model.complete(request)
        used, cost = reply.usage, self.cost
        mine = 0 if reply.replayed else 1
        self.cost = Cost(
            cost.calls + mine * used.calls,
            cost.tokens_in + mine * used.tokens_in,
            cost.tokens_out + mine * used.tokens_out,
            cost.seconds + mine * used.seconds,
            cost.replayed + (1 - mine),
            cost.estimated or used.estimated,
        )
        self.transcript.append(
            {
                "role": request.role,
                "turn": request.turn,
                "keyframe": len(self.keys),
                "answer": reply.value,
                "model": used.model,
                "replayed": reply.replayed,
                "drift": reply.drift if reply.drift is None or np.isfinite(reply.drift) else None,
                "warnings": list(reply.warnings),
            }
        )
        return reply.value

    def moment(self, left: int) -> Moment:
        return Moment(
            self.poses[-1], self.time, self.planted, tuple(self.history), tuple(self.remarks), left
        )

    def add(self, target: Target, realized: Realized) -> None:
        """Append a keyframe as it came out."""
        dt, sped = self.unhurried(target, realized.pose)
        pose = self.on_path(realized.pose, target, self.time + dt)
        base = Keyframe(
            dt,
            target.description,
            contacts=target.contacts & self.planted & FEET,
            supports=target.contacts - realized.loose - FEET,
            timing=dict(target.timing),
            levels=realized.levels,
            finished=target.finished,
        )
        self.keys.append(to_keyframe(pose, self.stage.skeleton, base))
        self.poses.append(pose)
        self.bearing.append(target.contacts - realized.loose)
        number = len(self.keys) - 1
        self.marks += [f"keyframe {number}: {why}" for why in realized.why]
        if sped:
            self.notes.append(f"keyframe {number}: {sped}")
        unmet = f" NOT REACHED: {'; '.join(realized.why)}." if realized.why else ""
        self.history.append(f"{number}. t = {self.time:.2f} s: {target.description}{unmet}")
        if target.cyclic:
            self.cyclic = True
        if target.starts_cycle and self.cycle_start is None:
            self.cycle_start = number

    def unhurried(self, target: Target, pose: Pose) -> tuple[float, str]:
        """Return a time in which no hinge is faster than a person's, and a note if it is longer."""
        skeleton = self.stage.skeleton
        gone = np.abs(pose.angles - self.poses[-1].angles)
        needed = 0.0
        for part in sorted(set(part_of_bodies(skeleton))):
            columns = hinges_of(skeleton, part)
            timing = target.timing.get(part)
            share = 1.0 if timing is None else timing.end - timing.start
            most = float(gone[columns].max(initial=0.0))
            needed = max(needed, _PEAK * most / (_FASTEST * share))
        dt = min(max(needed, target.dt), MAX_DT)
        own = self.constraints.next_key(self.time)
        if own is not None:  # the user's next keyframe keeps its time
            dt = min(dt, max(target.dt, own[0] - self.time - 0.05))
        if dt <= target.dt:
            return target.dt, ""
        return dt, f"dt raised from {target.dt:.2f} to {dt:.2f} s, as no joint turns that fast"

    def on_path(self, pose: Pose, target: Target, time: float) -> Pose:
        """Bring the pelvis onto the user's path, as far as what is planted allows."""
        spot = self.constraints.on_path(time)
        if spot is None:
            return pose
        goal = (spot[0], spot[1], float(pose.root[2]))
        held = sorted(target.contacts & self.planted)
        fresh = not target.contacts - self.planted
        if not held:
            return moved(pose, np.array(goal) - pose.root)
        planted = sorted(target.contacts) if fresh else held
        return apply(self.stage.skeleton, pose, PelvisWithSupport(goal), planted).pose

    def hold(self, dt: float) -> None:
        """Append the last pose again."""
        last = replace(self.keys[-1], dt=dt, timing={}, contacts=self.planted & FEET)
        self.keys[-1] = replace(self.keys[-1], finished=False)
        self.keys.append(last)
        self.poses.append(self.poses[-1])
        self.bearing.append(self.planted)

    def keep(self, time: float, key: Keyframe) -> None:
        """Append a keyframe of the user's, as it is."""
        while time - self.time > MAX_DT:
            self.hold(MAX_DT)
        own = replace(key, dt=time - self.time, finished=False)
        self.keys.append(own)
        self.poses.append(from_keyframe(own, self.stage.skeleton))
        self.bearing.append(own.contacts | own.supports)
        number = len(self.keys) - 1
        self.kept.append(number)
        self.history.append(
            f"{number}. t = {time:.2f} s: {key.description or 'a pose of the user'} (fixed)"
        )


def direct(
    instruction: str,
    model: ChatModel,
    *,
    skeleton: Skeleton,
    mode: Mode = "faithful",
    scene: Scene,
    constraints: Constraints | None = None,
    limits: Limits | None = None,
    judge: Judge | None = None,
) -> Direction:
    """Let a model design and animate the keyframes of a motion.

    Args:
        instruction: What the figure shall do, in any language.
        model: Who answers.
        skeleton: The figure.
        mode: "faithful": a question a keyframe to the Designer, and up to eight to the Animator
            who sees what came of each; "fast": one question for all keyframes with their commands.
        scene: Surfaces, as `load_scene` returns them.
        constraints: What the user fixes.
        limits: Where it ends if the model does not end it.
        judge: Says what a plan that claims to be finished fails; it is asked for at most twice.

    Returns: The direction; `complete` is false and `marks` say why if something is missing.

    Raises:
        ArgumentError: an unknown mode, a user's keyframe that is not valid.
        ProviderError: the model failed before there was a first keyframe.
        MissingExtraError: mink or MuJoCo is not installed.
    """
    if mode not in MODES:
        raise ArgumentError(f"direct: mode is {mode!r}, must be one of {MODES}; pick one")
    limits = Limits() if limits is None else limits
    constraints = Constraints() if constraints is None else constraints
    constraints.check(skeleton)
    start = standing(skeleton)
    at = constraints.on_path(0.0)
    if at is not None:
        start = moved(start, np.array([*at, start.root[2]]) - start.root)
    floor = scene["floor"].height
    start = moved(start, np.array([0.0, 0.0, floor]))
    stage = Stage(instruction, skeleton, scene, start, limits.picture_size, limits.exchanges)
    levels: dict[str, float] = dict.fromkeys(FEET, floor)
    first = to_keyframe(start, skeleton, Keyframe(0.0, "stands upright", levels=levels))
    run = _Run(stage, model, constraints, [first], [start], [FEET])
    run.history.append("0. t = 0.00 s: stands upright, arms at the sides")
    if mode == "fast":
        _fast(run, limits)
    else:
        _faithful(run, limits, judge)
    return _finish(run, mode, judge)


def _faithful(run: _Run, limits: Limits, judge: Judge | None) -> None:
    refused, words = 0, list[str]()
    for number in range(limits.keyframes):
        if (target := _designed(run, limits.keyframes - number)) is None:
            return
        if _pinned_by_user(run, target):
            continue
        words.append(target.description)
        if len(words) >= _LOOPS and len(set(words[-_LOOPS:])) == 1 and not target.finished:
            run.marks.append(f"the designer gave the same keyframe {_LOOPS} times; it was stopped")
            return
        held = run.planted & target.contacts
        realized = animate(
            run.stage, target, run.poses[-1], held=held, ask=run.ask, first_turn=run.animator_turn
        )
        run.animator_turn += realized.exchanges
        run.add(target, realized)
        run.remarks = list(target.remarks)
        if any("could not be asked" in why for why in realized.why):
            return
        if not target.finished:
            continue
        failing = judge(tuple(run.keys)) if judge is not None and not run.cyclic else ()
        if not failing or refused >= _REFUSALS:
            return
        refused += 1
        run.remarks += [f"not finished: the motion must still show: {fact}" for fact in failing]
    if not run.keys[-1].finished:
        run.marks.append(f"the designer was not finished after {limits.keyframes} keyframes")


def _designed(run: _Run, left: int) -> Target | None:
    """Ask for the next keyframe, once more if the answer contradicts itself; None if it failed."""
    scene = run.stage.scene
    answer: Json = {}
    for attempt in range(2):
        request = designer_request(run.stage, run.moment(left), run.constraints, run.designer_turn)
        try:
            answer = run.ask(request)
        except ProviderError as error:
            if len(run.keys) == 1:
                raise
            run.marks.append(f"the designer could not be asked: {error}")
            return None
        run.designer_turn += 1
        wrong = contradictions(answer)
        if not wrong:
            break
        if attempt == 0:
            run.remarks += [f"your last answer contradicts itself: {w}" for w in wrong]
    target = read_target(answer, run.stage.skeleton, tuple(scene))
    run.notes += [f"keyframe {len(run.keys)}: {remark}" for remark in target.remarks]
    return target


def _pinned_by_user(run: _Run, target: Target) -> bool:
    """Put in the user's keyframe if the target would reach or pass its time."""
    own = run.constraints.next_key(run.time)
    if own is None or run.time + target.dt < own[0] - 0.05:
        return False
    run.keep(*own)
    run.remarks = [
        "the keyframe that you designed would have come at or after a fixed pose; the fixed pose "
        "stands instead, go on from it"
    ]
    return True


def _fast(run: _Run, limits: Limits) -> None:
    stage = run.stage
    answer = run.ask(fast_request(stage, run.moment(limits.keyframes), run.constraints))
    raw = answer["keyframes"][: limits.keyframes]
    if len(answer["keyframes"]) > len(raw):
        run.marks.append(f"only the first {limits.keyframes} keyframes were used")
    for number, entry in enumerate(raw):
        entry = entry | {"cyclic": answer.get("cyclic", False), "finished": number == len(raw) - 1}
        target = read_target(entry, stage.skeleton, tuple(stage.scene))
        run.notes += [f"keyframe {len(run.keys)}: {remark}" for remark in target.remarks]
        if _pinned_by_user(run, target):
            continue
        held = run.planted & target.contacts
        pose, why = run.poses[-1], list[str]()
        for command in (read_command(c) for c in entry["commands"]):
            if isinstance(command, Camera):
                continue
            outcome = apply(stage.skeleton, pose, command, sorted(held))
            pose = outcome.pose
            if outcome.refused or outcome.left > 0.05:
                why.append(outcome.note)
        settled = settle(stage.skeleton, pose, stage.scene, planted=target.contacts, held=held)
        found = measure(stage.skeleton, stage.start, settled.pose, target.facts, stage.scene)
        why += [*settled.notes, *(f"fact fails: {m.sentence}" for m in found if not m.truth)]
        run.add(
            target,
            Realized(settled.pose, settled.levels, tuple(found), tuple(why), 0, settled.loose),
        )


def _finish(run: _Run, mode: Mode, judge: Judge | None) -> Direction:
    while (own := run.constraints.next_key(run.time)) is not None:
        run.keep(*own)
    if len(run.keys) == 1:
        raise ProviderError(
            f"direct: {run.stage.instruction[:80]!r} has no keyframe but the start, must have one "
            f"({'; '.join(run.marks) or 'the model gave none'}); use a stronger model"
        )
    end = run.constraints.seconds
    if end is not None and run.kept[-1:] == [len(run.keys) - 1]:
        while end - run.time > MIN_DT:  # what follows a kept last pose is that pose
            run.hold(min(end - run.time, MAX_DT))
    keys = fit_seconds(run.keys, end, run.kept)
    poses, bearing, loop = tuple(run.poses), tuple(run.bearing), None
    skeleton = run.stage.skeleton
    ended = run.keys[-1].finished
    first = run.cycle_start or 0
    if run.cyclic and ended and first < len(keys) - 1:
        closed = repeat(
            close(keys, poses, bearing, first, skeleton), run.constraints.cycles, skeleton
        )
        keys, poses, bearing, loop = closed.keyframes, closed.poses, closed.bearing, closed.loop
        run.notes.append("the cycle was closed" + (" by a keyframe" if closed.added else ""))
        keys = fit_seconds(keys, run.constraints.seconds, run.kept)
    wanted = run.constraints.seconds
    if wanted is not None and abs(key_times(keys)[-1] - wanted) > 1e-6:
        run.marks.append(f"it takes {key_times(keys)[-1]:.2f} s and not {wanted:.2f} s")
    failing = judge(keys) if judge is not None else ()
    run.marks += [f"{NOT_SHOWN} {fact}" for fact in failing]
    return Direction(
        run.stage.instruction,
        mode,
        keys,
        contact_plan(keys, poses, bearing, skeleton),
        not run.marks,
        tuple(run.marks),
        tuple(run.notes),
        tuple(run.transcript),
        run.cost,
        loop,
        tuple(run.kept),
    )
