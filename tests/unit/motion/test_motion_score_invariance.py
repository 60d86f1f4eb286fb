"""Scores do not depend on where in the world a motion is, on its frame rate, or on its sides."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from foveal import motion
from foveal.motion import rotations as rot
from foveal.motion.posecodes import mirror_clip

_WORLD = ("predicates", "predicate_failures")  # these ask where the world's x is


@lru_cache(maxsize=4)
def _noisy(name):
    """A motion that does everything badly: it slides, sinks, floats, leans and shakes."""
    clip = motion.generate(name, track="kinematic", fps=24)
    noise = np.random.default_rng(3)
    count = clip.num_frames
    path = 0.02 * np.cumsum(noise.standard_normal((count, 3)), axis=0) / np.sqrt(count)
    lean = 0.2 * noise.standard_normal((1, 3)) + 0.03 * noise.standard_normal((count, 3))
    turn = rot.normalize(np.concatenate([np.ones((count, 1)), lean], axis=1))
    bad = replace(
        clip,
        root_positions=clip.root_positions + path,
        root_rotations=rot.multiply(clip.root_rotations, turn),
        angles=clip.angles + 0.02 * noise.standard_normal(clip.angles.shape),
    )
    return bad, clip


def _placed(clip, yaw, shift):
    turn = rot.from_axis_angle([0.0, 0.0, 1.0], yaw)
    return replace(
        clip,
        root_positions=rot.rotate(turn, clip.root_positions) + shift,
        root_rotations=rot.multiply(turn, clip.root_rotations),
    )


def _numbers(scores):
    flat = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            flat |= {f"{name}, {key}": v for key, v in _numbers(value).items()}
        elif name not in _WORLD and not isinstance(value, str | list):
            flat[name] = value
    return flat


def _same(found, wanted, **tolerance):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if value is None:
            assert found[name] is None, name
        else:
            assert found[name] == pytest.approx(value, **tolerance), name


def _scores(clip, reference, **more):
    scores = motion.score(clip, reference=reference, cyclic=True, **more)
    return _numbers({k: v for k, v in scores.items() if k not in _WORLD})


@pytest.mark.parametrize("name", ["walk", "jump"])
@given(
    yaw=st.floats(-math.pi, math.pi), x=st.floats(-20, 20), y=st.floats(-20, 20),
    up=st.floats(-3, 3),
)  # fmt: skip
@settings(max_examples=8, deadline=None, phases=(Phase.explicit, Phase.generate))
def test_a_turned_and_moved_world_changes_nothing(name, yaw, x, y, up):
    bad, clip = _noisy(name)
    shift = np.array([x, y, up])
    wanted = _scores(bad, clip)
    assert wanted["residual"] > 0.01
    assert wanted["com_distance"] > 0.001
    assert wanted["ground_penetration"] > 0.001
    found = _scores(
        _placed(bad, yaw, shift), _placed(clip, yaw, shift), scene={"floor": {"height": up}}
    )
    _same(found, wanted, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["walk", "jump"])
def test_left_and_right_exchanged_change_names_alone(name):
    bad, clip = _noisy(name)
    wanted, found = _scores(bad, clip), _scores(mirror_clip(bad), mirror_clip(clip))
    swapped = {
        key.replace("left", "?").replace("right", "left").replace("?", "right"): value
        for key, value in found.items()
    }
    _same(swapped, wanted, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("fps", [30.0, 60.0, 120.0])
def test_the_same_smooth_motion_at_any_rate(fps):
    """Sways, sliding and half sunk, with a reference that is a tenth of a second ahead."""

    def at(rate, late):
        times = np.arange(round(2 * rate) + 1) / rate
        wave = np.sin(2 * np.pi * (times - late))
        body = motion.humanoid()
        angles = np.zeros((len(times), len(body.hinges)))
        angles[:, body.hinge("left_shoulder_flexion")] = 0.5 * wave
        angles[:, body.hinge("right_knee_flexion")] = 0.3 - 0.5 * wave
        root = body.rest_positions[0] + np.stack(
            [0.1 * times, 0.05 * wave, 0.03 * np.sin(np.pi * times)], axis=1
        )
        still = np.tile([1.0, 0.0, 0.0, 0.0], (len(times), 1))
        contacts = np.ones((len(times), 2), bool)
        return motion.Clip(body, rate, root, still, angles, contacts, np.zeros(0))

    wanted = _scores(at(240.0, 0.1), at(240.0, 0.0))
    found = _scores(at(fps, 0.1), at(fps, 0.0))
    assert wanted["tracking_lag"] == pytest.approx(0.1, abs=1e-3)
    assert 0.05 < wanted["skate_fraction"] < 0.95
    assert 0.05 < wanted["limit_fraction"] < 0.95
    assert wanted["residual"] > 0.05
    _same(found, wanted, rel=0.06, abs=1.5 / fps)
    for name in ("jerk", "jerk_p95", "foot_skate", "penetration_mean", "contact_float"):
        assert found[name] == pytest.approx(wanted[name], rel=0.05), name
