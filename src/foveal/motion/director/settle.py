"""Put down what has newly been planted, and measure a pose by its facts."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.director.apply import pins_of
from foveal.motion.director.ik import Goal, Pin, solver
from foveal.motion.director.parts import hinges_of
from foveal.motion.director.pose import CONTACT_POINTS, Pose, part_of_point, place, points, to_clip
from foveal.motion.director.scene_facts import Scene, clearance
from foveal.motion.posecodes import Fact, evaluate
from foveal.motion.posecodes.facts import When
from foveal.motion.posecodes.terms import STEPS
from foveal.motion.skeleton import Skeleton

_FAR = 0.3  # m; a part that is farther from its surface is not put down
_DOWN = 0.02  # m; what is left above this is told
_PASSES = 4


@dataclass(frozen=True, eq=False)
class Settled:
    """A pose whose new contacts are put down.

    Attributes:
        pose: The pose.
        levels: Height of the surface under each planted part, m.
        notes: What could not be put down, in words.
        loose: Parts that are too far from a surface to be planted.
    """

    pose: Pose
    levels: dict[str, float]
    notes: tuple[str, ...]
    loose: frozenset[str] = frozenset()


def settle(
    skeleton: Skeleton, pose: Pose, scene: Scene, *, planted: Collection[str], held: Collection[str]
) -> Settled:
    """Put newly planted parts onto the surfaces under them.

    A foot is set down flat, with the turn about the vertical that it has; a hand or knee is
    lowered; a seat is met with the pelvis. What is held stays where it is.

    Args:
        skeleton: The figure.
        pose: The pose.
        scene: Its surfaces.
        planted: Parts that bear on something in this pose.
        held: Those of them that did so before.
    """
    notes: list[str] = []
    loose: set[str] = set()
    fresh = sorted(set(planted) - set(held), key=lambda part: part != "pelvis")
    for part in fresh:
        where, gap = clearance(skeleton, pose, part, scene)
        if abs(gap) > _FAR:
            notes.append(f"{part} is {gap:.2f} m above the {where}, too far to be planted")
            loose.add(part)
            continue
        for _ in range(_PASSES):
            pose = _lowered(skeleton, pose, part, gap, held)
            where, gap = clearance(skeleton, pose, part, scene)
            if abs(gap) < 1e-3 or not part.endswith("_foot"):
                break
        if abs(gap) > _DOWN:
            notes.append(f"{part} is still {gap:.2f} m above the {where}")
    levels: dict[str, float] = {}
    for part in planted:
        where, _ = clearance(skeleton, pose, part, scene)
        levels[part] = scene[where].height
    return Settled(pose, levels, tuple(notes), frozenset(loose))


def _lowered(skeleton: Skeleton, pose: Pose, part: str, gap: float, held: Collection[str]) -> Pose:
    drop = np.array([0.0, 0.0, -gap])
    pins = pins_of(skeleton, pose, sorted(held))
    limbs = sorted({part_of_point(skeleton, CONTACT_POINTS[p]) for p in held} - {"pelvis", "trunk"})
    if part in ("pelvis", "back", "head"):
        goal = Goal(pelvis=(pose.root + drop, pose.turn))
        hinges = hinges_of(skeleton, *limbs)
        return solver(skeleton).solve(pose, goal, hinges=hinges, pins=pins).pose
    point = CONTACT_POINTS[part]
    own = part_of_point(skeleton, point)
    at = points(skeleton, pose, [point])[point] + drop
    facing = {}
    if part.endswith("_foot"):
        forward = rot.rotate(place(skeleton, pose)[1][skeleton.body(part)], np.eye(3)[0])
        yaw = np.arctan2(forward[1], forward[0])
        facing[point] = rot.from_axis_angle(np.eye(3)[2], yaw)
    goal = Goal({point: at}, facing=facing)
    found = solver(skeleton).solve(pose, goal, hinges=hinges_of(skeleton, own))
    if found.worst < 1e-3 or not held:
        return found.pose
    # the limb alone cannot: the pelvis comes along as far as what is held allows
    down = Goal(pelvis=(pose.root + np.array([0.0, 0.0, -found.worst]), pose.turn))
    hinges = hinges_of(skeleton, own, *limbs)
    also = [*pins, Pin(point, at, facing.get(point))]
    return solver(skeleton).solve(found.pose, down, hinges=hinges, pins=also).pose


@dataclass(frozen=True)
class Measured:
    """A fact in a pose: its sentence, whether it holds, by how much, and the unit."""

    sentence: str
    truth: bool
    margin: float
    unit: str

    def line(self) -> str:
        """Return it as a line for a model."""
        if not np.isfinite(self.margin):
            return f"- {self.sentence}: FAILS, the figure or the scene has no such thing"
        told = f"{abs(self.margin):.{2 if self.unit == 'm' else 0}f} {self.unit}"
        how = f"holds, with {told} to spare" if self.truth else f"FAILS, by {told}"
        return f"- {self.sentence}: {how}"


def measure(
    skeleton: Skeleton, start: Pose, pose: Pose, facts: Mapping[str, Fact], scene: Scene
) -> list[Measured]:
    """Judge facts in a pose; what is against the start is against `start`.

    A fact that this figure or scene lacks the names for fails without end.
    """
    clip = to_clip(skeleton, [start, pose])
    out: list[Measured] = []
    for sentence, fact in facts.items():
        try:
            found = evaluate(When("at the end", fact), clip, scene=scene)
        except ArgumentError:
            out.append(Measured(sentence, False, -np.inf, ""))
            continue
        out.append(Measured(sentence, found.truth, found.margin, found.unit))
    return out


def penalty(measured: Collection[Measured]) -> tuple[int, float]:
    """Return how many facts fail, and by how much together in steps of their units."""
    failing = [m for m in measured if not m.truth]
    return len(failing), sum(-m.margin / STEPS.get(m.unit, 1.0) for m in failing)
