"""The measures of the figure: joints, lengths, mass shares, ranges of motion, solids, soles, hands.

Lengths are for a stature of 1.7 m and scale with it; offsets and solids are those of the left side.

Sources:
    Masses and limb lengths: de Leva, "Adjustments to Zatsiorsky-Seluyanov's segment inertia
    parameters", J. Biomechanics 29(9), 1996, table 4, men (his stature is 1.741 m). Differs: head,
    trunk, hand and foot are cut into two or more bodies each, the trunk is shortened by 4 % so that
    the parts add up to the stature, and the ankle is 0.039 of the stature high, after Winter,
    "Biomechanics and Motor Control of Human Movement".
    Limits: AAOS, "Joint Motion: Method of Measuring and Recording", 1965; Boone and Azen, J. Bone
    Joint Surg. 61-A, 1979 (wrist, plantar flexion, inversion and eversion). Differs where daily
    life asks for more than their averages: hip flexion 130 and knee flexion 150 (Mulholland and
    Wyss, Int. J. Rehabil. Res. 24, 2001), loaded ankle flexion 40 (Hemmerich et al., J. Orthop.
    Res. 24, 2006). Spine and head by sums over their levels, White and Panjabi, "Clinical
    Biomechanics of the Spine" (turning is thoracic); clavicle after Neumann, "Kinesiology of the
    Musculoskeletal System".
"""

from itertools import pairwise
from typing import Literal, NamedTuple

HandShape = Literal["open", "fist", "point", "grip"]
HAND_SHAPES: tuple[HandShape, ...] = ("open", "fist", "point", "grip")
Point = tuple[float, float, float]
STATURE = 1.7  # m; what the lengths here are for
STRENGTH_MASS = 70.0  # kg; what the torques here are for


class Row(NamedTuple):
    """A body: name, parent, offset from the parent's joint (m), share of the mass (%)."""

    name: str
    parent: str
    offset: Point
    share: float


TRUNK = (
    Row("pelvis", "", (0.0, 0.0, 0.93), 11.17),
    Row("spine", "pelvis", (0.0, 0.0, 0.11), 16.33),  # joint at the navel
    Row("chest", "spine", (0.0, 0.0, 0.204), 14.76),  # at the lower end of the breastbone
    Row("neck", "chest", (0.0, 0.0, 0.226), 1.2),  # seventh cervical vertebra
    Row("head", "neck", (0.0, 0.0, 0.08), 5.74),
)
ARM = (
    Row("clavicle", "chest", (0.02, 0.025, 0.15), 0.6),
    Row("upper_arm", "clavicle", (-0.02, 0.155, -0.024), 2.71),
    Row("forearm", "upper_arm", (0.0, 0.0, -0.275), 1.62),
    Row("hand", "forearm", (0.0, 0.0, -0.263), 0.43),
    Row("fingers", "hand", (0.0, 0.0, -0.086), 0.18),
)
LEG = (
    Row("thigh", "pelvis", (0.0, 0.09, -0.022), 14.16),
    Row("shin", "thigh", (0.0, 0.0, -0.412), 4.33),
    Row("foot", "shin", (0.0, 0.0, -0.43), 1.13),
    Row("toes", "foot", (0.125, 0.0, -0.046), 0.24),
)


class Joint(NamedTuple):
    """A hinge: name, axis on the left, limits (degrees), stiffness (N m/rad), torque (N m)."""

    name: str
    axis: str
    lower: float
    upper: float
    stiffness: float
    torque: float


HINGES: dict[str, tuple[Joint, ...]] = {
    "spine": (
        Joint("spine_bend", "+y", -25, 50, 600, 250),
        Joint("spine_lean", "-x", -29, 29, 600, 250),
        Joint("spine_turn", "+z", -15, 15, 600, 250),
    ),
    "chest": (
        Joint("chest_bend", "+y", -25, 50, 500, 200),
        Joint("chest_lean", "-x", -30, 30, 500, 200),
        Joint("chest_turn", "+z", -40, 40, 500, 200),
    ),
    "neck": (
        Joint("neck_bend", "+y", -45, 45, 60, 30),
        Joint("neck_lean", "-x", -45, 45, 60, 30),
        Joint("neck_turn", "+z", -60, 60, 60, 30),
    ),
    "head": (Joint("head_bend", "+y", -22, 22, 40, 20),),
    "clavicle": (
        Joint("clavicle_elevation", "+x", -10, 45, 500, 150),
        Joint("clavicle_protraction", "-z", -25, 25, 500, 150),
    ),
    "upper_arm": (
        Joint("shoulder_flexion", "-y", -60, 180, 160, 90),
        Joint("shoulder_abduction", "+x", -45, 180, 160, 90),
        Joint("shoulder_rotation", "+z", -70, 90, 80, 50),
    ),
    "forearm": (Joint("elbow_flexion", "-y", 0, 150, 100, 60),),
    "hand": (
        Joint("wrist_rotation", "+z", -80, 80, 15, 10),
        Joint("wrist_flexion", "-x", -75, 76, 15, 10),
        Joint("wrist_deviation", "-y", -36, 22, 15, 10),
    ),
    "thigh": (
        Joint("hip_flexion", "-y", -30, 130, 700, 300),
        Joint("hip_abduction", "+x", -30, 45, 700, 250),
        Joint("hip_rotation", "+z", -45, 45, 300, 120),
    ),
    "shin": (Joint("knee_flexion", "+y", 0, 150, 700, 300),),
    "foot": (
        Joint("ankle_flexion", "-y", -56, 40, 600, 200),
        Joint("ankle_inversion", "-x", -21, 37, 400, 120),
    ),
    "toes": (Joint("toes_extension", "-y", -45, 70, 20, 12),),
}
"""Hinges of each body, the one next to the parent first. Flexion moves a limb forward (knee: back,
wrist: to the palm), bend is forward, abduction and rotation are outward, lean and turn are to the
left, deviation is to the thumb, elevation up, protraction forward, inversion lifts the inner edge
of the foot, extension lifts the toes."""

Capsule = tuple[Point, Point, float]
CAPSULES: dict[str, tuple[Capsule, ...]] = {
    "pelvis": (((0.0, -0.08, 0.0), (0.0, 0.08, 0.0), 0.09),),
    "spine": (
        ((0.0, -0.055, 0.055), (0.0, 0.055, 0.055), 0.095),
        ((0.0, -0.055, 0.15), (0.0, 0.055, 0.15), 0.1),
    ),
    "chest": (((0.0, -0.05, 0.105), (0.0, 0.05, 0.105), 0.112),),
    "neck": (((0.0, 0.0, 0.0), (0.01, 0.0, 0.07), 0.053),),
    "head": (((0.015, 0.0, 0.0), (0.015, 0.0, 0.065), 0.085),),
    "clavicle": (((-0.01, 0.02, -0.005), (-0.02, 0.135, -0.02), 0.04),),
    "upper_arm": (((0.0, 0.0, -0.02), (0.0, 0.0, -0.25), 0.045),),
    "forearm": (((0.0, 0.0, -0.02), (0.0, 0.0, -0.23), 0.037),),
    "thigh": (
        ((0.0, 0.0, -0.02), (0.0, 0.0, -0.2), 0.08),
        ((0.0, 0.0, -0.2), (0.0, 0.0, -0.385), 0.06),
    ),
    "shin": (
        ((0.0, 0.0, -0.03), (0.0, 0.0, -0.2), 0.052),
        ((0.0, 0.0, -0.2), (0.0, 0.0, -0.39), 0.04),
    ),
}
BOXES: dict[str, tuple[Point, Point]] = {  # centre and half sides
    "hand": ((0.0, 0.0, -0.044), (0.04, 0.014, 0.044)),
    "foot": ((0.0325, 0.0, -0.04), (0.0925, 0.045, 0.025)),
    "toes": ((0.0335, 0.0, -0.004), (0.0335, 0.043, 0.015)),
}

SOLE_RADIUS = 0.02
SOLES: tuple[tuple[str, Point], ...] = (  # centres of the contact spheres of a foot
    *(("foot", (x, y, -0.046)) for x in (-0.04, 0.11) for y in (0.032, -0.032)),
    *(("toes", (0.047, y, 0.0)) for y in (0.028, -0.028)),
)

_FINGER = 0.0095  # radius
_PALM = -1.0  # the left palm faces -y
# finger joints as (to the palm, down) from the knuckle
_STRAIGHT = ((0.0, 0.0), (0.0, -0.088))
_FOLDED = ((0.0, 0.0), (0.03, -0.012), (0.036, 0.03))
_CURLED = ((0.0, 0.0), (0.014, -0.038), (0.055, -0.04))
_THUMBS: dict[str, tuple[Point, Point]] = {
    "open": ((0.035, 0.0, -0.025), (0.07, -0.012, -0.075)),
    "fist": ((0.035, -0.012, -0.04), (0.015, -0.045, -0.078)),
    "point": ((0.035, -0.012, -0.04), (0.005, -0.045, -0.072)),
    "grip": ((0.035, -0.012, -0.03), (0.03, -0.055, -0.085)),
}


def hand_capsules(shape: HandShape) -> dict[str, tuple[Capsule, ...]]:
    """Return the capsules of a left hand: "hand" holds the thumb, "fingers" the other four."""
    fingers: list[Capsule] = []
    for number, x in enumerate((0.03, 0.0105, -0.0095, -0.029)):
        bent = {"open": _STRAIGHT, "fist": _FOLDED, "point": _FOLDED, "grip": _CURLED}[shape]
        if shape == "point" and number == 0:
            bent = _STRAIGHT
        short = 1.0 - 0.06 * abs(number - 1)  # the middle finger is the longest
        points = [(x, _PALM * short * y, short * z) for y, z in bent]
        fingers += [(a, b, _FINGER) for a, b in pairwise(points)]
    return {"hand": ((*_THUMBS[shape], 0.012),), "fingers": tuple(fingers)}
