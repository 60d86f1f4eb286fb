"""Arms in our own terms: where a palm is, where the elbow points, what the palm faces."""

import math
from dataclasses import dataclass

import numpy as np

from foveal.motion import rotations as rot
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Side, Skeleton, humanoid

Vector = tuple[float, float, float]
_X, _Y, _Z = np.eye(3)
_SWIVELS = (0, 10, -10, 20, -20, 30, -30, 45, -45, 60, -60, 80, -80, 100, -100, 130, -130, 160, 180)
_PALM = 0.044  # m from the wrist to the middle of the palm


@dataclass(frozen=True)
class Hand:
    """A place for a palm, m for a figure of 1.7 m.

    Args:
        at: The middle of the palm, from the joint of the chest in its frame, y outward on either
            side; or in the start frame of the action with `world`, y to the figure's left.
        elbow: Where the elbow points, in the same frame; None is down and out.
        palm: What the palm faces, in the same frame; None leaves the wrist straight.
        world: Whether these are in the start frame.
        wrist: Flexion of the wrist, degrees.
    """

    at: Vector
    elbow: Vector | None = None
    palm: Vector | None = None
    world: bool = False
    wrist: float = 0.0


def chest_pose(
    pelvis: Vector, turn: float, tilt: float, lean: float, angles: dict[str, float]
) -> tuple[Array, Array]:
    """Return place (3,) and rotation (4,) of the chest, from a keyframe's numbers, rad and m."""
    body = humanoid()
    values = np.zeros((1, len(body.hinges)))
    for name, value in angles.items():
        values[0, body.hinge(name)] = value
    root = rot.multiply(
        rot.from_axis_angle(_Z, np.array([turn])),
        rot.multiply(
            rot.from_axis_angle(_Y, np.array([tilt])), rot.from_axis_angle(-_X, np.array([lean]))
        ),
    )
    at = body.offsets[:1] + np.array([pelvis])
    places, world = body.forward(at, body.local_rotations(root, values))
    return places[0, body.body("chest")], world[0, body.body("chest")]


def reach(side: Side, hand: Hand, chest: tuple[Array, Array]) -> dict[str, float]:
    """Find the hinge angles of an arm, rad, that bring the palm to its place.

    In closed form: the elbow by the law of cosines, the shoulder from where elbow and palm are. An
    elbow that the limits forbid swings about the line from shoulder to palm until they allow it;
    a place out of reach gets the straight arm towards it.
    """
    body, sign = humanoid(), 1.0 if side == "left" else -1.0
    target, hint = np.array(hand.at), np.array(hand.elbow or (-0.35, 0.45, -1.0))
    outward = np.array([1.0, sign, 1.0])
    if hand.world:
        back = rot.conjugate(chest[1])
        target = rot.rotate(back, target - chest[0])
        hint = rot.rotate(back, hint) if hand.elbow else outward * hint
    else:
        target, hint = outward * target, outward * hint
    clavicle, offset = (
        body.offsets[body.body(f"{side}_{name}")] for name in ("clavicle", "upper_arm")
    )
    gap = target - clavicle - offset
    up = float(gap[2] / max(np.linalg.norm(gap), 1e-6))
    elevation = math.radians(28.0) * min(max((up + 0.1) / 1.1, 0.0), 1.0)
    protraction = math.radians(18.0) * min(max((gap[0] - 0.35) / 0.2, 0.0), 1.0)
    girdle = rot.multiply(
        rot.from_axis_angle(_X, np.array(sign * elevation)),
        rot.from_axis_angle(_Z, np.array(-sign * protraction)),
    )
    # what follows is in the frame of the clavicle
    v = rot.rotate(rot.conjugate(girdle), target - clavicle) - offset
    hint = rot.rotate(rot.conjugate(girdle), hint)
    upper = float(np.linalg.norm(body.offsets[body.body(f"{side}_forearm")]))
    lower = float(np.linalg.norm(body.offsets[body.body(f"{side}_hand")])) + _PALM
    far = float(np.clip(np.linalg.norm(v), 0.13, 0.9985 * (upper + lower)))
    along = v / max(float(np.linalg.norm(v)), 1e-9)
    inner = math.acos(
        float(np.clip((upper**2 + lower**2 - far**2) / (2 * upper * lower), -1.0, 1.0))
    )
    near = math.acos(float(np.clip((upper**2 + far**2 - lower**2) / (2 * upper * far), -1.0, 1.0)))
    aside = hint - along * float(hint @ along)
    if np.linalg.norm(aside) < 1e-6:
        aside = np.cross(along, _Y)
    aside /= np.linalg.norm(aside)
    bent = math.pi - inner
    elbow = rot.from_axis_angle(_Y, np.array(-bent))
    least, shoulder = math.inf, np.zeros(3)
    for swivel in _SWIVELS:
        out = rot.rotate(rot.from_axis_angle(along, np.array(math.radians(swivel))), aside)
        bone = math.cos(near) * along + math.sin(near) * out
        fore = (far * along - upper * bone) / lower
        angles, excess = _shoulder(body, side, bone, fore, out)
        cost = excess + 1e-4 * abs(swivel)
        if cost < least - 1e-9:
            least, shoulder = cost, angles
        if excess < 1e-6:
            break
    out_angles = {
        f"{side}_clavicle_elevation": elevation,
        f"{side}_clavicle_protraction": protraction,
        f"{side}_shoulder_flexion": float(shoulder[0]),
        f"{side}_shoulder_abduction": float(shoulder[1]),
        f"{side}_shoulder_rotation": float(shoulder[2]),
        f"{side}_elbow_flexion": bent,
        f"{side}_wrist_flexion": math.radians(hand.wrist),
    }
    if hand.palm is not None:
        facing = np.array(hand.palm)
        facing = rot.rotate(rot.conjugate(chest[1]), facing) if hand.world else outward * facing
        arm = rot.multiply(girdle, rot.multiply(_turn(sign, shoulder), elbow))
        local = rot.rotate(rot.conjugate(arm), facing)
        out_angles[f"{side}_wrist_rotation"] = math.atan2(float(local[0]), -sign * float(local[1]))
    for name, value in out_angles.items():
        hinge = body.hinges[body.hinge(name)]
        out_angles[name] = min(max(value, hinge.lower), hinge.upper)
    return out_angles


def _turn(sign: float, shoulder: Array) -> Array:
    flexion, abduction, rotation = shoulder
    return rot.multiply(
        rot.from_axis_angle(_Y, np.array(-flexion)),
        rot.multiply(
            rot.from_axis_angle(_X, np.array(sign * abduction)),
            rot.from_axis_angle(_Z, np.array(sign * rotation)),
        ),
    )


def _shoulder(
    body: Skeleton, side: Side, bone: Array, fore: Array, out: Array
) -> tuple[Array, float]:
    """Return flexion, abduction and rotation of a shoulder, and by how much they pass limits."""
    sign = 1.0 if side == "left" else -1.0
    front = fore - bone * float(fore @ bone)
    if np.linalg.norm(front) < 1e-4:
        front = -out + bone * float(out @ bone)
    z = -bone
    x = front / np.linalg.norm(front)
    matrix = np.stack([x, np.cross(z, x), z], axis=1)
    first = rot.euler_from_matrix(matrix, "yxz") * np.array([-1.0, sign, sign])
    other = np.array([first[0] + math.pi, math.pi - first[1], first[2] + math.pi])
    low, high = np.array([
        (hinge.lower, hinge.upper)
        for name in ("flexion", "abduction", "rotation")
        for hinge in [body.hinges[body.hinge(f"{side}_shoulder_{name}")]]
    ]).T  # fmt: skip
    best, least = first, math.inf
    for angles in (first, other):
        angles = (angles + math.pi) % (2 * math.pi) - math.pi
        for shift in (0.0, 2 * math.pi):
            tried = angles.copy()
            tried[:2] = np.where(angles[:2] < low[:2], angles[:2] + shift, angles[:2])
            excess = float(np.sum(np.maximum(low - tried, 0) + np.maximum(tried - high, 0)))
            if excess < least - 1e-9:
                best, least = tried, excess
    return best, least
