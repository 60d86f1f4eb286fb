"""Geometric facts that must hold if a clip shows what was asked: no model judges it.

Lengths are for a figure of 1.7 m and scale with its height. Each fact is looked for anywhere in
the clip, so a clip of several actions is checked for each of them. Forward and left are the
figure's own, as its pelvis faces in each frame, whichever way it went.
"""

from collections.abc import Callable

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.clip import Clip
from foveal.motion.posecodes.points import find_point
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES, Side


def _at(clip: Clip, name: str) -> Array:
    return clip.positions[:, clip.skeleton.body(name)]


def _point(clip: Clip, name: str) -> Array:
    body, local = find_point(clip.skeleton, name)
    return clip.positions[:, body] + rot.rotate(clip.world_rotations[:, body], local)


def _axis(clip: Clip, name: str, axis: int) -> Array:
    return rot.rotate(clip.world_rotations[:, clip.skeleton.body(name)], np.eye(3)[axis])


def _facing(clip: Clip) -> tuple[Array, Array]:
    """Forward and left of the pelvis in each frame, level and of unit length (frames, 3)."""
    ahead = _axis(clip, "pelvis", 0) * np.array([1.0, 1.0, 0.0])
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    return ahead, np.stack([-ahead[:, 1], ahead[:, 0], np.zeros(len(ahead))], axis=1)


def _along(vectors: Array, axes: Array) -> Array:
    return np.sum(vectors * axes, axis=1)


def _clearance(clip: Clip, side: Side) -> Array:
    points = clip.skeleton.sole_points(clip.positions, clip.world_rotations, side)
    return points[..., 2].min(axis=1)


def _height_scale(clip: Clip) -> float:
    return clip.skeleton.height / 1.7


def upright(clip: Clip, side: Side) -> bool:
    """The chest stays within 30 degrees of vertical at the end, the pelvis above 0.75 m."""
    del side
    return bool(
        _axis(clip, "chest", 2)[-1, 2] > np.cos(np.radians(30))
        and _at(clip, "pelvis")[-1, 2] > 0.75 * _height_scale(clip)
    )


def hand_above_head(clip: Clip, side: Side) -> bool:
    """The wrist of that side is above the head's centre, and moves sideways while it is."""
    head = _point(clip, "head")
    hand = _at(clip, f"{side}_hand")
    up = hand[:, 2] > head[:, 2]
    aside = _along(hand - head, _facing(clip)[1])
    return bool(up.any() and np.ptp(aside[up]) > 0.08 * _height_scale(clip))


def both_hands_above_head(clip: Clip, side: Side) -> bool:
    """Both wrists are above the head's centre at once."""
    del side
    head = _point(clip, "head")[:, 2]
    return bool(
        ((_at(clip, "left_hand")[:, 2] > head) & (_at(clip, "right_hand")[:, 2] > head)).any()
    )


def torso_pitched(clip: Clip, side: Side) -> bool:
    """The chest is pitched forward by more than 30 degrees."""
    del side
    up = _axis(clip, "chest", 2)
    ahead = _along(up, _facing(clip)[0])
    return bool(np.degrees(np.arctan2(ahead, up[:, 2])).max() > 30.0)


def pelvis_lowered(clip: Clip, side: Side) -> bool:
    """The pelvis sinks by at least 0.2 m, and is back up at the end."""
    del side
    z = _at(clip, "pelvis")[:, 2]
    return bool(
        z[0] - z.min() >= 0.2 * _height_scale(clip) and z[0] - z[-1] < 0.1 * _height_scale(clip)
    )


def both_feet_off_ground(clip: Clip, side: Side) -> bool:
    """Both soles are at least 3 cm above the floor at once."""
    del side
    clear = np.minimum(_clearance(clip, "left"), _clearance(clip, "right"))
    return bool(clear.max() > 0.03 * _height_scale(clip))


def moved_forward(clip: Clip, side: Side) -> bool:
    """The pelvis goes at least 0.4 m the way that it faces, and both feet were lifted."""
    del side
    went = _along(np.diff(_at(clip, "pelvis"), axis=0), _facing(clip)[0][1:]).sum()
    lifted = all(_clearance(clip, s).max() > 0.02 * _height_scale(clip) for s in SIDES)
    return bool(went > 0.4 * _height_scale(clip) and lifted)


def feet_lifted_in_turn(clip: Clip, side: Side) -> bool:
    """Each foot is lifted by 2 cm while the other one is down."""
    del side
    left, right = _clearance(clip, "left"), _clearance(clip, "right")
    high, low = 0.02 * _height_scale(clip), 0.01 * _height_scale(clip)
    return bool(((left > high) & (right < low)).any() and ((right > high) & (left < low)).any())


def foot_kicked(clip: Clip, side: Side) -> bool:
    """The foot of that side is 0.3 m in front of the other one and 0.12 m off the floor."""
    other: Side = "right" if side == "left" else "left"
    gap = _at(clip, f"{side}_foot") - _at(clip, f"{other}_foot")
    ahead = _along(gap, _facing(clip)[0])
    k = _height_scale(clip)
    return bool(((ahead > 0.3 * k) & (_clearance(clip, side) > 0.12 * k)).any())


def hands_punched(clip: Clip, side: Side) -> bool:
    """Each wrist is once 0.38 m ahead of the chest at shoulder height (within 0.25 m)."""
    del side
    k, chest = _height_scale(clip), _at(clip, "chest") + np.array([0.0, 0.0, 0.13])
    reached, forward = [], _facing(clip)[0]
    for s in SIDES:
        gap = _at(clip, f"{s}_hand") - chest
        far = _along(gap, forward) > 0.38 * k
        reached.append(bool((far & (np.abs(gap[:, 2]) < 0.25 * k)).any()))
    return all(reached)


def trunk_turned(clip: Clip, side: Side) -> bool:
    """The chest is turned to that side by more than 35 degrees against the start."""
    forward = _axis(clip, "chest", 0)
    yaw = np.degrees(np.unwrap(np.arctan2(forward[:, 1], forward[:, 0])))
    return bool(((yaw - yaw[0]) * (1.0 if side == "left" else -1.0)).max() > 35.0)


def trunk_leaned(clip: Clip, side: Side) -> bool:
    """The chest leans to that side by more than 20 degrees."""
    up = _axis(clip, "chest", 2)
    lean = np.degrees(np.arctan2(_along(up, _facing(clip)[1]), up[:, 2]))
    return bool((lean * (1.0 if side == "left" else -1.0)).max() > 20.0)


def hand_at_mouth(clip: Clip, side: Side) -> bool:
    """The palm of that side comes within 0.2 m of the mouth."""
    gap = np.linalg.norm(_point(clip, f"{side} hand") - _point(clip, "mouth"), axis=1)
    return bool(gap.min() < 0.2 * _height_scale(clip))


PREDICATES: dict[str, Callable[[Clip, Side], bool]] = {
    f.__name__: f
    for f in (
        upright, hand_above_head, both_hands_above_head, torso_pitched, pelvis_lowered,
        both_feet_off_ground, moved_forward, feet_lifted_in_turn, foot_kicked, hands_punched,
        trunk_turned, trunk_leaned, hand_at_mouth,
    )
}  # fmt: skip
"""Every predicate by name."""


def check_predicates(clip: Clip) -> dict[str, bool]:
    """Evaluate the predicate of every action of a clip, and that it ends upright if it should.

    An action that has none here cannot be checked and is left out; `posecodes.check` has facts.

    Returns: "action (side): predicate" to its truth.
    """
    from foveal.motion.director.library import ACTIONS, MOTIONS

    last = MOTIONS.get(clip.actions[-1][0]) if clip.actions else None
    standing = last is None or last.ends == "standing"
    out = {"ends upright": upright(clip, "left")} if standing else {}
    for name, side in clip.actions:
        if name in ACTIONS:
            predicate = ACTIONS[name].predicate
            out[f"{name} ({side}): {predicate}"] = PREDICATES[predicate](clip, side)
    return out
