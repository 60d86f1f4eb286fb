"""Left and right exchanged: in facts, in clips and in scenes."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import numpy as np

from foveal.motion.clip import Clip
from foveal.motion.posecodes.facts import Fact, Within
from foveal.motion.posecodes.points import Surface, read_scene
from foveal.motion.posecodes.terms import Hinge, Statistic
from foveal.motion.skeleton import Skeleton

_SWAP = {"left": "right", "right": "left", "+y": "-y", "-y": "+y"}


def mirror_name(name: str) -> str:
    """Exchange the side in a name: "left hand", "left_knee_flexion", "left of", "+y"."""
    for mark in (" ", "_"):
        first, gap, rest = name.partition(mark)
        if first in _SWAP:
            return _SWAP[first] + gap + rest
    return name


def _mirrored(value: Any) -> Any:
    if isinstance(value, str):
        return mirror_name(value)
    if isinstance(value, tuple):
        return tuple(_mirrored(item) for item in cast("tuple[Any, ...]", value))
    if is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, Within) and (flipped := _flipped(value)) is not None:
            return flipped
        changes = {field.name: _mirrored(getattr(value, field.name)) for field in fields(value)}
        return replace(value, **changes)
    return value


def _flipped(fact: Within) -> Within | None:
    """Mirror a fact about a lean or turn hinge of the trunk: its angle changes sign."""
    measure = fact.measure
    inner = measure.measure if isinstance(measure, Statistic) else measure
    if not isinstance(inner, Hinge) or inner.name.startswith(("left_", "right_")):
        return None
    if not inner.name.endswith(("_lean", "_turn")) or fact.neutral == "times":
        return None
    if isinstance(measure, Statistic):
        if measure.kind == "range":
            return fact
        kind = {"largest": "smallest", "smallest": "largest"}.get(measure.kind, measure.kind)
        measure = Statistic(kind, inner)
    low, high = (None if bound is None else -bound for bound in (fact.high, fact.low))
    return Within(measure, low, high, fact.neutral)


def mirror(fact: Fact) -> Fact:
    """Return the fact with left and right exchanged; twice is the fact itself."""
    return cast("Fact", _mirrored(fact))


def _hinge_map(skeleton: Skeleton) -> tuple[list[int], np.ndarray]:
    columns, signs = [], []
    for hinge in skeleton.hinges:
        other = skeleton.hinges[skeleton.hinge(mirror_name(hinge.name))]
        columns.append(skeleton.hinge(other.name))
        # an axis is an axial vector: its mirror image keeps y and loses the signs of x and z
        image = np.array(other.axis) * np.array([-1.0, 1.0, -1.0])
        signs.append(1.0 if float(image @ np.array(hinge.axis)) > 0 else -1.0)
    return columns, np.array(signs)


def mirror_clip(clip: Clip) -> Clip:
    """Return the clip seen in a mirror on the plane y = 0, left and right exchanged."""
    columns, signs = _hinge_map(clip.skeleton)
    sides = {"left": "right", "right": "left"}
    return replace(
        clip,
        root_positions=clip.root_positions * np.array([1.0, -1.0, 1.0]),
        root_rotations=clip.root_rotations * np.array([1.0, -1.0, 1.0, -1.0]),
        angles=clip.angles[:, columns] * signs,
        contacts=clip.contacts[:, ::-1],
        actions=tuple((name, cast("Any", sides[side])) for name, side in clip.actions),
        reference=None if clip.reference is None else mirror_clip(clip.reference),
    )


def mirror_scene(scene: Mapping[str, object]) -> dict[str, Surface]:
    """Return the surfaces of a scene mirrored on the plane y = 0, as are their names."""
    out: dict[str, Surface] = {}
    for name, surface in read_scene(scene).items():
        if surface.low is None or surface.high is None:
            out[mirror_name(name)] = surface
            continue
        (x0, y0), (x1, y1) = surface.low, surface.high
        out[mirror_name(name)] = replace(surface, low=(x0, -y1), high=(x1, -y0))
    return out
