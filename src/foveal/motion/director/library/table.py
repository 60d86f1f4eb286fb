"""The table of natural actions: what makes each, what it is called, how it ends."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from foveal.motion.director.commands import Keyframe
from foveal.motion.director.library import daily, ground, scenes, sport
from foveal.motion.director.library.keys import Place, mirrored, moved
from foveal.motion.director.library.walks import BACK, STYLES, go, run, side_step, turn
from foveal.motion.posecodes.points import Surface
from foveal.motion.skeleton import Side

Ends = Literal["standing", "seated", "lying", "on all fours"]


@dataclass(frozen=True)
class Asked:
    """What an instruction asks of one action.

    Args:
        name: Of the table, or of `ACTIONS`.
        side: Which side acts or goes first.
        heading: How far the way turns to the left, degrees; of walks.
        steps: How many steps, or 0 for what is usual; of walks.
        degrees: Of a turn on the spot, or 0 for what is usual.
    """

    name: str
    side: Side = "right"
    heading: float = 0.0
    steps: int = 0
    degrees: float = 0.0


Make = Callable[[Asked], list[Keyframe]]
OnScene = Callable[[Mapping[str, Surface], Place, Side], list[Keyframe]]


@dataclass(frozen=True)
class Motion:
    """One natural action.

    Args:
        make: Makes it from standing, in its own start frame, the right side acting.
        phrases: What it is called; words may have endings.
        nouns: Words that name things in its sentence and mean nothing else there.
        ends: How it ends.
        on: Makes it on the surfaces of a scene, in the world.
        default_side: The side if none is said.
    """

    make: Make
    phrases: tuple[str, ...]
    nouns: tuple[str, ...] = ()
    ends: Ends = "standing"
    on: OnScene | None = None
    default_side: Side = "right"


def _plain(make: Callable[[], list[Keyframe]]) -> Make:
    def made(asked: Asked) -> list[Keyframe]:
        keys = make()
        return [mirrored(key) for key in keys] if asked.side == "left" else keys

    return made


def _walk(style: str) -> Make:
    def made(asked: Asked) -> list[Keyframe]:
        steps = max(2, asked.steps or 8)
        return go(STYLES[style], steps, first=asked.side, heading=asked.heading)

    return made


def _run(asked: Asked) -> list[Keyframe]:
    return run(asked.steps or 8, first=asked.side)


def _turn(asked: Asked) -> list[Keyframe]:
    degrees = asked.degrees or 90.0
    return turn(degrees if asked.side == "left" else -degrees)


def _side_step(asked: Asked) -> list[Keyframe]:
    return side_step(asked.steps or 2, side=asked.side)


def _back(asked: Asked) -> list[Keyframe]:
    return go(BACK, max(2, asked.steps or 6), first=asked.side)


def _hop(asked: Asked) -> list[Keyframe]:
    return _plain(lambda: ground.hop(asked.steps or 3))(asked)


def _none(asked: Asked) -> list[Keyframe]:
    """Only on a scene."""
    del asked
    return []


MOTIONS: dict[str, Motion] = {
    "warm up": Motion(_plain(daily.warm_up), ("warm up", "warmup", "limber up")),
    "walk": Motion(_walk("neutral"), ("walk", "stroll", "go")),
    "run": Motion(_run, ("run", "jog", "sprint")),
    "drink": Motion(
        _plain(daily.drink), ("drink", "sip"), ("glass", "water", "cup", "tea", "coffee", "bottle")
    ),
    "lift dumbbell": Motion(
        _plain(daily.lift_dumbbell), ("lift dumbbell", "curl dumbbell", "curl", "lift weight"),
        ("dumbbell", "dumbbells", "weight", "weights"),
    ),
    "sit": Motion(_plain(daily.sit), ("sit down", "sit"), ("chair", "seat", "stool"), "seated"),
    "eat": Motion(_plain(daily.eat), ("eat",), ("meal", "food", "soup", "apple", "dinner")),
    "turn steering wheel": Motion(
        _plain(daily.steer), ("turn steering wheel", "turn wheel", "steer", "drive"),
        ("wheel", "steering", "car"),
    ),
    "phone": Motion(
        _plain(daily.phone), ("make call", "phone", "telephone", "call"),
        ("call", "phone", "someone", "telephone"),
    ),
    "boxing": Motion(_plain(daily.boxing), ("boxing", "shadow boxing", "shadow box")),
    "throw": Motion(_plain(daily.throw), ("throw", "pitch"), ("ball", "stone")),
    "handball throw": Motion(
        _plain(sport.handball), ("handball throw", "throw handball", "handball"), ("ball",)
    ),
    "jump shot": Motion(
        _plain(sport.jump_shot), ("jump shot", "basketball shot", "basketball jump shot"),
        ("ball", "shoot", "basketball"),
    ),
    "front kick": Motion(
        _plain(sport.front_kick), ("front kick", "taekwondo kick", "taekwondo front kick")
    ),
    "tennis serve": Motion(
        _plain(sport.serve), ("tennis serve", "serve"), ("tennis", "ball", "racket")
    ),
    "forehand": Motion(
        _plain(sport.forehand), ("tennis forehand", "forehand"), ("tennis", "ball", "racket",
                                                                  "stroke"),
    ),
    **{
        f"{style} walk": Motion(_walk(style), (f"{style} walk",))
        for style in STYLES if style != "neutral"
    },
    "sit on chair": Motion(
        _none, ("sit on chair", "sit down on chair", "take seat"), ("chair", "seat"), "seated",
        scenes.sit_on,
    ),
    "lie on bed": Motion(
        _none, ("lie on bed", "lie down on bed", "lie down", "lie"), ("bed",), "lying",
        scenes.lie_on,
    ),
    "reach shelf": Motion(
        _none, ("reach shelf", "reach for shelf", "reach"), ("shelf",), on=scenes.reach_shelf
    ),
    "stepping stones": Motion(
        _none, ("stepping stones", "stepping stone", "cross stones", "cross stepping stones"),
        ("stones", "river"), on=scenes.stones,
    ),
    "step up 12 cm": Motion(
        _none, ("step up 12 cm", "step up 12 cm box", "step onto low box"), ("box",),
        on=scenes.step_up,
    ),
    "step up 30 cm": Motion(
        _none, ("step up 30 cm", "step up 30 cm box", "step up", "step onto box", "climb box",
                "climb onto box", "step onto high box"), ("box",), on=scenes.step_up,
    ),
    "stairs": Motion(
        _none, ("climb stairs", "climb up stairs", "walk up stairs", "go up stairs", "stairs"),
        ("stairs", "steps"), on=scenes.stairs,
    ),
    "crawl": Motion(_plain(ground.crawl), ("crawl",), ends="on all fours"),
    "turn in place": Motion(
        _turn, ("turn in place", "turn on spot", "turn around", "turn round"), default_side="left"
    ),
    "side step": Motion(
        _side_step, ("side step", "sidestep", "step sideways", "step aside", "step to side")
    ),
    "backward walk": Motion(
        _back, ("backward walk", "walk backward", "walk backwards", "go backward", "go backwards",
                "step backward", "step backwards", "walk back"),
    ),
    "hop": Motion(_hop, ("hop",)),
    "pick up from floor": Motion(
        _plain(ground.pick_up), ("pick up from floor", "pick up from ground", "pick up"),
        ("ball", "coin", "box", "something", "it", "floor", "ground"),
    ),
    "balance on one leg": Motion(
        _plain(ground.balance), ("balance on one leg", "stand on one leg", "balance")
    ),
}  # fmt: skip
"""Natural actions by the names of the fact list (`posecodes/actions.toml`)."""

STYLE_WORDS: dict[str, str] = {
    "happy": "happy", "happily": "happy", "joyfully": "happy", "cheerfully": "happy",
    "proud": "proud", "proudly": "proud", "angry": "angry", "angrily": "angry",
    "furiously": "angry", "childlike": "childlike", "childishly": "childlike",
    "child": "childlike", "depressed": "depressed", "sad": "depressed", "sadly": "depressed",
    "drunk": "drunk", "drunken": "drunk", "drunkenly": "drunk", "old": "old", "elderly": "old",
    "heavy": "heavy", "heavily": "heavy",
}  # fmt: skip
"""Words of style, which go with a walk."""


def recover(ends: Ends, last: Keyframe, scene: Mapping[str, Surface]) -> list[Keyframe]:
    """Return the way back to standing after an action that does not end so."""
    if ends == "on all fours":
        c, s = math.cos(last.turn), math.sin(last.turn)
        place = Place(
            last.pelvis[0] - ground.KNEES * c, last.pelvis[1] - ground.KNEES * s, 0.0, last.turn
        )
        return [moved(key, place) for key in ground.get_up()]
    place = Place().after(last)
    if ends == "seated":
        seat = scene.get("seat")
        if seat is not None and seat.low is not None:
            return scenes.rise_from(scene, place)
        return [moved(key, place) for key in daily.rise()]
    return scenes.out_of_bed(scene, last)


def scene_names() -> tuple[str, ...]:
    """Names of the actions that need a scene."""
    return tuple(name for name, motion in MOTIONS.items() if motion.on is not None)


__all__ = [
    "MOTIONS", "STYLE_WORDS", "Asked", "Motion", "recover", "scene_names",
]  # fmt: skip
