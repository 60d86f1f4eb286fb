"""Any fact on any motion: a mirror and the size of the figure change nothing about it."""

import importlib.util
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from foveal.errors import ArgumentError
from foveal.motion import Clip, humanoid
from foveal.motion import rotations as rot
from foveal.motion.posecodes import evaluate, mirror, mirror_clip, mirror_scene, parse
from foveal.motion.posecodes.facts import Not

_spec = importlib.util.spec_from_file_location(
    "posecodes_text", Path(__file__).with_name("test_posecodes_text.py")
)
assert _spec is not None
assert _spec.loader is not None
TEXT = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(TEXT)

# a run-time type checker looks at random items of the tuples that strategies make
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

SCENE = {
    "seat": {"box": [[-0.4, -0.1, 0.0], [0.2, 0.5, 0.45]]},
    "step 2": {"box": [[0.1, -0.5, 0.0], [0.8, 0.2, 0.3]]},
}
seeds = st.integers(0, 9)


@cache
def moving(seed, height=1.7):
    """A figure that flails about: smooth, wide, without a symmetry."""
    body, count = humanoid(height=height), 24
    random = np.random.default_rng(seed)
    time = np.arange(count)[:, None] / count
    low, high = body.limits.T
    phase = 2 * np.pi * (time * random.uniform(0.5, 3, len(low)) + random.uniform(size=len(low)))
    angles = low + (high - low) * (0.5 + 0.45 * np.sin(phase))
    root = body.offsets[0] + height / 1.7 * np.array([0.6, 0.3, -0.15]) * np.sin(
        2 * np.pi * time * random.uniform(0.3, 1.5, 3)
    )
    turned = rot.from_axis_angle(
        rot.normalize(random.normal(size=3)), 1.2 * np.sin(2 * np.pi * time[:, 0]) + 0.3 * seed
    )
    return Clip(body, 20.0, root, turned, angles, np.ones((count, 2), bool), np.zeros(1))


def keys(clip):
    first = replace(
        clip, root_positions=clip.root_positions[:1] + 0.01 * clip.skeleton.height / 1.7,
        root_rotations=clip.root_rotations[:1], angles=clip.angles[:1],
        contacts=clip.contacts[:1],
    )  # fmt: skip
    return replace(first, keyframe_times=np.zeros(1))


def judged(fact, clip, neutral, scene):
    try:
        return evaluate(fact, clip, scene=scene, neutral=neutral, keys=keys(clip))
    except ArgumentError as error:
        if "must not be 0" in str(error):  # a neutral clip without a step has no ratio
            reject()
        raise


@settings(deadline=None, max_examples=60)
@given(TEXT.facts, seeds)
def test_a_mirrored_fact_on_a_mirrored_clip_is_the_same(fact, seed):
    clip, neutral = moving(seed), moving(10)
    ours = judged(fact, clip, neutral, SCENE)
    theirs = evaluate(
        mirror(fact), mirror_clip(clip), scene=mirror_scene(SCENE), neutral=mirror_clip(neutral),
        keys=replace(mirror_clip(keys(clip)), keyframe_times=np.zeros(1)),
    )  # fmt: skip
    if abs(ours.margin) > 1e-6:
        assert theirs.truth == ours.truth
    assert theirs.margin == pytest.approx(ours.margin, rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(TEXT.facts, seeds, st.sampled_from([0.8, 1.25, 2.45]))
def test_the_size_of_the_figure_leaves_truth_and_scales_margins(fact, seed, height):
    size = height / 1.7
    ours = judged(fact, moving(seed), moving(10), SCENE)
    scene = {n: {"box": (size * np.array(s["box"])).tolist()} for n, s in SCENE.items()}
    theirs = judged(fact, moving(seed, height), moving(10, height), scene)
    scale = size if ours.unit in ("m", "m/s") else 1.0
    if abs(ours.margin) > 1e-6:
        assert theirs.truth == ours.truth
    assert theirs.margin == pytest.approx(scale * ours.margin, rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(TEXT.bands(TEXT.whole_measures, ["", "times"]), seeds)
def test_not_is_the_opposite_of_what_is_told_of_the_whole_clip(fact, seed):
    ours = judged(fact, moving(seed), moving(10), SCENE)
    theirs = judged(Not(fact), moving(seed), moving(10), SCENE)
    assert theirs.truth is not ours.truth
    assert theirs.margin == pytest.approx(-ours.margin)


@settings(deadline=None, max_examples=40)
@given(TEXT.bands(TEXT.frame_measures, [""]), seeds)
def test_always_is_once_not_and_margins_are_told_in_the_measures_unit(fact, seed):
    clip = moving(seed)
    results = {}
    for text in ("always", "never", "once"):
        told = parse(f"{text} {TEXT.to_text(fact)}")
        results[text] = judged(told, clip, None, SCENE)
        assert results[text].unit == fact.unit
    assert results["never"].truth is not results["once"].truth
    assert results["once"].margin >= results["always"].margin
    assert judged(fact, clip, None, SCENE).margin == results["once"].margin


def test_a_clip_mirrored_twice_is_the_clip_itself():
    clip = moving(3)
    again = mirror_clip(mirror_clip(clip))
    np.testing.assert_array_equal(again.angles, clip.angles)
    np.testing.assert_allclose(again.positions, clip.positions, atol=1e-12)
    once = mirror_clip(clip)
    left, right = (clip.skeleton.body(f"{side}_hand") for side in ("left", "right"))
    np.testing.assert_allclose(
        once.positions[:, left], clip.positions[:, right] * [1, -1, 1], atol=1e-12
    )
