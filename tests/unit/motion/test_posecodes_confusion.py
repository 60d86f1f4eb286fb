"""Each motion shows its own action and no other; mirrored it shows the mirrored one."""

import importlib.util
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from foveal import motion
from foveal.motion.posecodes import evaluate, mirror_clip, mirror_scene
from foveal.motion.posecodes.actions import action_facts, check, shows

_spec = importlib.util.spec_from_file_location(
    "posecodes_motions", Path(__file__).with_name("test_posecodes_motions.py")
)
assert _spec is not None
assert _spec.loader is not None
MOTIONS = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(MOTIONS)
MAKERS, clip_of, given = MOTIONS.MAKERS, MOTIONS.clip_of, MOTIONS.given
make_clip, key, stand = MOTIONS.make_clip, MOTIONS.key, MOTIONS.stand
ALSO_SHOWS = {  # what is an action is also the more general one
    **{name: {"walk"} for name in MOTIONS.STYLES},
    "sit": {"sit on chair"},
    "sit on chair": {"sit"},
    "in-between half turn": {"turn in place"},
}
LIBRARY = {  # actions of the scripted provider: what they show of the list
    "wave": {"wave"}, "bow": {"bow"}, "squat": {"squat"}, "walk": {"walk"}, "jump": {"jump"},
    "punch": {"boxing"}, "drink": {"drink"}, "stand": set(), "stretch": set(), "step": set(),
    "kick": set(),  # its foot stays at 0.3 m: no front kick of the sport
    "crouch": set(), "turn": set(), "lean": set(),
}  # fmt: skip


@cache
def library_clip(name, side):
    return motion.generate(f"{name} {side}", track="kinematic")


def test_the_scripted_provider_is_covered():
    assert set(LIBRARY) == set(motion.ACTIONS)


@pytest.mark.parametrize(
    ("name", "side"),
    [*((name, "right") for name in LIBRARY), ("wave", "left"), ("drink", "left"), ("kick", "left")],
)
def test_a_scripted_clip_shows_its_own_action_alone(name, side):
    clip = library_clip(name, side)
    shown = {
        action
        for action in MAKERS
        if not action.startswith("in-between") and shows(clip, action, **given(action))
    }
    assert shown == LIBRARY[name]
    for action in shown:
        if action_facts()[action].sided:
            assert shows(clip, action, side=side)
            assert not shows(clip, action, side="left" if side == "right" else "right")


@pytest.mark.parametrize("name", list(MAKERS))
def test_a_motion_shows_its_action_and_no_other(name):
    clip = clip_of(name)
    shown = set()
    for action in MAKERS:
        wanted = given(action, name)
        if wanted["keys"] is not None and wanted["keys"].keyframe_times.max() > clip.seconds:
            continue  # keys after its end are an error, not a failure
        if shows(clip, action, **wanted):
            shown.add(action)
    assert shown == {name} | ALSO_SHOWS.get(name, set())


@pytest.mark.parametrize("name", [n for n in MAKERS if not n.startswith("in-between")])
def test_the_mirrored_motion_shows_the_mirrored_action(name):
    wanted = given(name)
    ours = check(clip_of(name), name, side="right", **wanted)
    wanted |= {
        "scene": mirror_scene(wanted["scene"]),
        "neutral": mirror_clip(wanted["neutral"]),
    }
    theirs = check(mirror_clip(clip_of(name)), name, side="left", **wanted)
    assert [r.truth for r in ours] == [r.truth for r in theirs]
    np.testing.assert_allclose([r.margin for r in ours], [r.margin for r in theirs], atol=1e-6)


@pytest.mark.parametrize("height", [0.9, 2.4])
@pytest.mark.parametrize("name", ["throw", "angry walk", "sit on chair", "boxing", "crawl"])
def test_the_size_of_the_figure_does_not_matter(name, height):
    def sized(clip):
        return replace(
            clip, skeleton=motion.humanoid(height=height),
            root_positions=clip.root_positions * height / 1.7,
        )  # fmt: skip

    wanted = given(name)
    ours = check(clip_of(name), name, side="right", **wanted)
    wanted["neutral"] = sized(wanted["neutral"])
    wanted["scene"] = {
        surface: {"box": (np.array(value["box"]) * height / 1.7).tolist()}
        for surface, value in wanted["scene"].items()
    }
    theirs = check(sized(clip_of(name)), name, side="right", **wanted)
    for our, their in zip(ours, theirs, strict=True):
        scale = height / 1.7 if our.unit in ("m", "m/s") else 1.0
        assert their.truth == our.truth
        assert their.margin == pytest.approx(our.margin * scale, abs=1e-6)


def _backwards(clip):
    return replace(
        clip, root_positions=clip.root_positions[::-1], root_rotations=clip.root_rotations[::-1],
        angles=clip.angles[::-1], contacts=clip.contacts[::-1],
    )  # fmt: skip


@cache
def _others():
    """Motions that break what no motion of the list breaks."""
    praying = {"left": (0.17, 0.03, 1.5), "right": (0.17, -0.03, 1.5), "start": (60, 0, 40, 120)}
    crossed = key(0.5, feet={"left": (0.15, -0.25, 0), "right": (0, 0, 0)})
    low = (-0.42, 0, -0.55)
    together = {"left": (0.1, 0.03, 1.9), "right": (0.1, -0.03, 1.9), "start": (150, 0, 0, 40)}
    return (
        make_clip([stand(), stand()]),
        make_clip([stand(), key(0.6, **praying), stand()]),
        make_clip([stand(), key(0.6, **together), stand()]),
        make_clip([stand(), crossed, stand()]),
        make_clip([stand(), key(0.8, pelvis=low), stand()]),
    )


@pytest.mark.parametrize("name", list(MAKERS))
def test_no_fact_of_an_action_holds_of_every_motion(name):
    wanted = given(name)
    if (keys := wanted["keys"]) is not None:
        wanted["keys"] = replace(keys, root_positions=keys.root_positions + 0.1)
    facts = action_facts()[name].facts()
    holds = set(facts)
    pool = (f(clip_of(n)) for f in (lambda clip: clip, _backwards) for n in MAKERS)
    for clip in (*_others(), *pool):
        if keys is not None and keys.keyframe_times.max() > clip.seconds:
            continue
        holds -= {fact for fact in holds if not evaluate(fact, clip, **wanted).truth}
        if not holds:
            break
    assert holds == set()
