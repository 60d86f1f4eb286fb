"""From an instruction and a chat model to a plan that `generate` can fill and track."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion.clip import Clip
from foveal.motion.director.chat.request import ChatModel
from foveal.motion.director.commands import Keyframe
from foveal.motion.director.constraints import Constraints, path_error
from foveal.motion.director.direction import NOT_SHOWN, Direction, Mode
from foveal.motion.director.loop import Limits, direct
from foveal.motion.director.providers.scripted import Plan, stem
from foveal.motion.director.scene_facts import Scene, load_scene
from foveal.motion.inbetween import fill, resolve
from foveal.motion.posecodes import check, find_action, to_dicts
from foveal.motion.skeleton import Side, Skeleton, humanoid
from foveal.motion.track.kinematic import track_kinematic

_FPS = 30.0
_LONGEST = 5  # words of an action's name


def known_action(instruction: str, scene: Scene) -> tuple[str, Side | None] | None:
    """Return the one action of the fact list that an English instruction names, and its side.

    None if it names none or several, or if the scene lacks what the action needs. Words that name
    things of the scene are no actions.
    """
    words = "".join(c if c.isalnum() else " " for c in instruction.lower()).split()
    found: list[tuple[str, int, int]] = []
    for length in range(min(_LONGEST, len(words)), 0, -1):
        for i in range(len(words) - length + 1):
            if any(i < end and start < i + length for _, start, end in found):
                continue
            phrase = " ".join(words[i : i + length])
            if phrase in scene:  # a thing there, such as a box, and nothing that is done
                continue
            for name in dict.fromkeys([phrase, stem(phrase) or phrase]):
                try:
                    found.append((find_action(name).name, i, i + length))
                except ArgumentError:
                    continue
                break
    names = {name for name, _, _ in found}
    if "sit" in names and "seat" in scene:
        names = (names - {"sit"}) | {"sit on chair"}
    if len(names) != 1:
        return None
    action = find_action(names.pop())
    if any(need not in scene for need in action.needs):
        return None
    sides: list[Side] = [side for side in ("left", "right") if side in words]
    return action.name, sides[0] if action.sided and len(sides) == 1 else None


def preview(keyframes: tuple[Keyframe, ...], skeleton: Skeleton) -> Clip:
    """Fill and clean keyframes, without physics, to see what they would show."""
    poses = resolve(keyframes, skeleton)
    frames = fill(poses, skeleton, fps=_FPS, method="smooth", keyframes=keyframes)
    frames, contacts = track_kinematic(skeleton, keyframes, frames, fps=_FPS)
    return Clip(
        skeleton,
        _FPS,
        frames.root_positions,
        frames.root_rotations,
        frames.angles,
        np.asarray(contacts),
        poses.times,
    )


def failing_facts(
    instruction: str, keyframes: tuple[Keyframe, ...], scene: Scene, skeleton: Skeleton
) -> tuple[str, ...]:
    """Return the facts of the instruction's action that keyframes do not show; () if unknown."""
    action = known_action(instruction, scene)
    if action is None:
        return ()
    results = check(preview(keyframes, skeleton), action[0], side=action[1], scene=scene)
    return tuple(result.fact for result in results if not result.truth)


def plan_with_model(
    instruction: str,
    model: ChatModel,
    *,
    mode: Mode = "faithful",
    scene: Mapping[str, object] | str | Path | None = None,
    constraints: Constraints | None = None,
    limits: Limits | None = None,
    skeleton: Skeleton | None = None,
) -> tuple[Plan, Direction]:
    """Let a chat model decide the keyframes of an instruction.

    Args:
        instruction: In any language.
        model: An endpoint, a person, a recording or a function.
        mode: "faithful" or "fast"; see `direct`.
        scene: Surfaces; see `load_scene`.
        constraints: What the user fixes.
        limits: Where it ends if the model does not end it.
        skeleton: The figure; None is `humanoid()`.

    Returns: The plan, and the direction that it is of.

    Raises:
        ArgumentError: the scene or a constraint is not valid, or the mode is unknown.
        ProviderError: the model failed before there was a first keyframe.
        MissingExtraError: mink or MuJoCo is not installed.
    """
    surfaces = load_scene(scene)
    body = humanoid() if skeleton is None else skeleton

    def judge(keyframes: tuple[Keyframe, ...]) -> tuple[str, ...]:
        return failing_facts(instruction, keyframes, surfaces, body)

    direction = direct(
        instruction,
        model,
        skeleton=body,
        mode=mode,
        scene=surfaces,
        constraints=constraints,
        limits=limits,
        judge=judge,
    )
    keys = direction.keyframes
    plan = Plan((replace(keys[0], dt=0.0), *keys[1:]), (), f"{type(model).__name__} ({mode})")
    return plan, direction


def whole_motion(
    direction: Direction,
    clip: Clip,
    scene: Mapping[str, object] | str | Path | None,
    constraints: Constraints | None,
) -> dict[str, object]:
    """Return what a receipt says of a directed clip, as plain data.

    Returns: `complete` and `marks` (also what the clip itself fails), `direction`, `facts` of the
    action if it is known, and `path_error_m` at the keyframes if a path was given.
    """
    surfaces = load_scene(scene)
    marks = [mark for mark in direction.marks if not mark.startswith(NOT_SHOWN)]
    out: dict[str, object] = {"direction": direction.to_dict()}
    action = known_action(direction.instruction, surfaces)
    if action is not None:
        results = check(clip, action[0], side=action[1], scene=surfaces)
        out |= {"action": action[0], "facts": to_dicts(results)}
        marks += [f"{NOT_SHOWN} {result.fact}" for result in results if not result.truth]
    if constraints is not None and constraints.path:
        frames = np.clip(np.rint(clip.keyframe_times * clip.fps), 0, clip.num_frames - 1)
        roots = clip.root_positions[frames.astype(int)]
        out["path_error_m"] = path_error(tuple(clip.keyframe_times), roots, constraints)
    return out | {"complete": not marks, "marks": marks}
