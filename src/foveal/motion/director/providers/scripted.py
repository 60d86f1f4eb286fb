"""Plan from the hand-written action library: no model, no network, deterministic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foveal.motion.director.commands import Keyframe
from foveal.motion.director.library import ACTIONS, MOTIONS, Asked
from foveal.motion.director.library.keys import Place, moved
from foveal.motion.director.library.scenes import DEFAULTS
from foveal.motion.director.library.table import Ends, recover
from foveal.motion.director.providers.grammar import parse, stem
from foveal.motion.director.scene_facts import Scene, load_scene
from foveal.motion.skeleton import Side


@dataclass(frozen=True)
class Plan:
    """What a provider decided.

    Attributes:
        keyframes: The keyframes.
        actions: Library actions that they are meant to show.
        provider: Who decided.
        scene: Surfaces that they count on, for the physics tracker; None is the floor alone.
    """

    keyframes: tuple[Keyframe, ...]
    actions: tuple[tuple[str, Side], ...] = ()
    provider: str = "scripted"
    scene: Scene | None = None


class Scripted:
    """Keyframes from the action library; needs no model.

    Args:
        careful: Take the slow, balanced form of actions that have one (`ACTIONS`), which the
            physics tracker can follow; else the natural one.
        scene: Surfaces for what is done on things, by name, or an MJCF file; see `load_scene`.
            Without one, such an action is done on the thing of `library.scenes.DEFAULTS`.

    Raises:
        ArgumentError: the scene cannot be read.
    """

    def __init__(
        self,
        *,
        careful: bool = False,
        scene: Mapping[str, object] | str | Path | None = None,
    ) -> None:
        """Read the scene."""
        self._careful = careful
        self._scene: Scene | None = None if scene is None else load_scene(scene)

    def plan(self, instruction: str) -> Plan:
        """Join the library's keyframes for the actions of an instruction.

        Args:
            instruction: English, for example "walk proudly to the left, then bow".

        Raises:
            ArgumentError: empty instruction.
            ProviderError: a word that is no known action, or a scene without what an action needs.
        """
        asked = parse(instruction, self._scene or ())
        scenes = [self._scene_of(one.name) for one in asked]
        place = Place(z=_ground(scenes[0]))
        keys = [moved(replace(ACTIONS["stand"].make("left")[0], dt=0.0), place)]
        ends: Ends = "standing"
        for number, (one, scene) in enumerate(zip(asked, scenes, strict=True)):
            if ends != "standing":
                keys += recover(ends, keys[-1], scenes[number - 1])
                place = place.after(keys[-1])
            made, ends = self._make(one, scene, place)
            keys += made
            if ends == "standing":
                place = place.after(keys[-1])
        keys[-1] = replace(keys[-1], finished=True)
        actions: tuple[tuple[str, Side], ...] = tuple((one.name, one.side) for one in asked)
        return Plan(tuple(keys), actions, scene=_all_of(scenes))

    def _make(self, one: Asked, scene: Scene, place: Place) -> tuple[list[Keyframe], Ends]:
        natural = MOTIONS.get(one.name)
        if natural is None or (self._careful and one.name in ACTIONS and not one.heading):
            return [moved(k, place) for k in ACTIONS[one.name].make(one.side)], "standing"
        if natural.on is not None:
            return natural.on(scene, place, one.side), natural.ends
        return [moved(key, place) for key in natural.make(one)], natural.ends

    def _scene_of(self, name: str) -> Scene:
        if self._scene is None:
            return load_scene(DEFAULTS.get(name))
        return self._scene


def _all_of(scenes: Sequence[Scene]) -> Scene:
    """Return every surface of some scenes; those that share a name but are not alike are kept."""
    out: Scene = {"floor": scenes[0]["floor"]}
    for scene in scenes:
        for name, surface in scene.items():
            if surface not in out.values():
                out[name if name not in out else f"{name} {len(out)}"] = surface
    return out


def _ground(scene: Scene) -> float:
    """Height of what is under the origin and low enough to stand on, m."""
    out = scene["floor"].height
    for surface in scene.values():
        if surface.low is None or surface.high is None or surface.height > 0.25:
            continue
        if all(a < 0.0 < b for a, b in zip(surface.low, surface.high, strict=True)):
            out = max(out, surface.height)
    return out


__all__ = ["Plan", "Scripted", "parse", "stem"]
