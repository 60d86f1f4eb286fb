"""Scores of contact by hand: sliding, sinking, floating, plans; arguments and short clips."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError, MissingExtraError
from foveal.motion import posecodes
from foveal.motion.metrics import contact

RATES = (30.0, 60.0, 120.0)


def _figure(times, fps, shift=(0.0, 0.0, 0.0), turns=None, contacts=True, keyframes=(), **hinges):
    """The standing figure at times of a motion: its pelvis moved and turned, hinges by name."""
    body = motion.humanoid()
    count = len(times)
    angles = np.zeros((count, len(body.hinges)))
    for name, values in hinges.items():
        angles[:, body.hinge(name)] = values
    still = np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
    return motion.Clip(
        body,
        fps,
        body.rest_positions[0] + np.stack([np.zeros(count) + s for s in shift], axis=1),
        still if turns is None else turns,
        angles,
        np.full((count, 2), contacts) if isinstance(contacts, bool) else contacts,
        np.array(keyframes, float),
    )


def _times(seconds, fps):
    return np.arange(round(seconds * fps) + 1) / fps


@pytest.mark.parametrize("fps", RATES)
def test_sliding_is_told_in_speed_and_in_share(fps):
    times = _times(1.0, fps)
    scores = motion.score(_figure(times, fps, (0.3 * times, 0, 0)))
    assert scores["foot_skate"] == pytest.approx(0.3)
    assert scores["skate_fraction"] == 1.0
    slow = motion.score(_figure(times, fps, (0.15 * times, 0, 0)))
    assert slow["foot_skate"] == pytest.approx(0.15)
    assert slow["skate_fraction"] == 0.0
    quarter = motion.score(_figure(times, fps, (0.5 * np.minimum(times, 0.25), 0, 0)))
    assert quarter["skate_fraction"] == pytest.approx(0.25, abs=1 / fps)
    assert quarter["foot_skate"] == pytest.approx(0.125, abs=0.5 / fps)


def test_sliding_is_that_of_planted_feet():
    times = _times(1.0, 60.0)
    free = motion.score(_figure(times, 60.0, (0.3 * times, 0, 0), contacts=False))
    assert free["skate_fraction"] is None
    assert free["foot_skate"] == 0.0
    one = np.zeros((61, 2), bool)
    one[:, 0] = True
    assert motion.score(_figure(times, 60.0, contacts=one))["skate_fraction"] == 0.0
    up = _figure(times, 60.0, (0, 0, 0.4 * times))
    assert motion.score(up)["foot_skate"] == 0.0


def test_a_small_figure_slides_at_a_smaller_speed():
    times = _times(1.0, 60.0)
    clip = _figure(times, 60.0, (0.15 * times, 0, 0))
    small = motion.humanoid(height=0.85)
    assert contact.skate_fraction(clip) == 0.0
    assert contact.skate_fraction(replace(clip, skeleton=small)) == 1.0


def test_depth_is_the_worst_and_the_mean():
    times = _times(1.0, 60.0)[:-1]
    sunk = np.where(times < 0.25, -0.2, 0.0)
    scores = motion.score(_figure(times, 60.0, (0, 0, sunk)))
    assert scores["ground_penetration"] == pytest.approx(0.2)
    assert scores["penetration_mean"] == pytest.approx(0.05)
    above = motion.score(_figure(times, 60.0, (0, 0, 0.3)))
    assert above["ground_penetration"] == above["penetration_mean"] == 0.0
    low = motion.score(_figure(times, 60.0), scene={"floor": {"height": 0.03}})
    assert low["ground_penetration"] == pytest.approx(0.03)


def test_depth_is_that_of_the_skin_and_not_of_bones():
    back = np.tile([np.sqrt(0.5), 0.0, -np.sqrt(0.5), 0.0], (7, 1))
    lying = _figure(np.arange(7) / 60.0, 60.0, (0, 0, 0.05 - 0.93), back)
    # the chest is a capsule of 0.112 m around its bone, which lies 0.05 m above the floor
    assert motion.score(lying)["ground_penetration"] == pytest.approx(0.112 - 0.05)


def test_depth_in_a_box_is_the_way_to_the_nearest_face():
    clip = _figure(_times(0.2, 60.0), 60.0)

    def deep(low, high):
        return motion.score(clip, scene={"box": {"box": [low, high]}})["ground_penetration"]

    assert deep([-1, -1, -1], [1, 1, 0.06]) == pytest.approx(0.06)  # the soles are at 0
    assert deep([-1, -1, -0.01], [1, 1, 0.06]) == pytest.approx(0.01)  # out at the bottom
    # the outer points of the left sole are at y = 0.09 + 0.032, the side of the box at 0.12
    assert deep([-1, 0.12, -1], [1, 1, 0.06]) == pytest.approx(0.002)
    assert deep([-1, -1, -1], [1, -0.12, 0.06]) == pytest.approx(0.002)
    assert deep([-1, 0.13, -1], [1, 1, 0.06]) == 0.0
    seat = motion.score(clip, scene={"seat": {"height": 0.45}})
    assert seat["ground_penetration"] == 0.0  # no solid: a height and no more


def test_a_claimed_contact_in_the_air_floats():
    times = _times(1.0, 60.0)
    scores = motion.score(_figure(times, 60.0, (0, 0, 0.1 * times)))
    assert scores["contact_float"] == pytest.approx(0.05)
    assert scores["contact_float_max"] == pytest.approx(0.1)
    assert motion.score(_figure(times, 60.0))["contact_float_max"] == pytest.approx(0.0, abs=1e-9)
    free = motion.score(_figure(times, 60.0, (0, 0, 0.1 * times), contacts=False))
    assert free["contact_float"] is free["contact_float_max"] is None
    stage = motion.score(
        _figure(times, 60.0, (0, 0, 0.1)), scene={"box": {"box": [[-1, -1, 0], [1, 1, 0.1]]}}
    )
    assert stage["contact_float"] == pytest.approx(0.0, abs=1e-9)
    aside = motion.score(
        _figure(times, 60.0, (0, 0, 0.1)), scene={"box": {"box": [[1, 1, 0], [2, 2, 0.1]]}}
    )
    assert aside["contact_float"] == pytest.approx(0.1)


def test_contacts_are_counted_frame_by_frame():
    times = _times(1.0, 60.0)[:-1]
    up = np.where((times > 0.164) & (times < 0.497), 0.1, 0.0)  # frames 10 to 29
    found = ~(up > 0)
    assert found.sum() == 40
    clip = _figure(times, 60.0, (0, 0, up))
    scores = motion.score(clip)
    wanted = {"accuracy": 40 / 60, "precision": 1.0, "recall": 40 / 60}
    assert scores["contacts"] == {"left foot": wanted, "right foot": wanted}
    assert scores["contact_accuracy"] == pytest.approx(40 / 60)
    plan = np.zeros((60, 2), bool)
    plan[:20, 0] = True
    scores = motion.score(clip, contacts=plan)
    assert scores["contacts"]["left foot"] == {
        "accuracy": (10 + 10) / 60, "precision": 10 / 40, "recall": 10 / 20
    }  # fmt: skip
    assert scores["contacts"]["right foot"] == {
        "accuracy": 20 / 60, "precision": 0.0, "recall": None
    }  # fmt: skip
    assert scores["contact_accuracy"] == pytest.approx(20 / 60)
    high = motion.score(_figure(times, 60.0, (0, 0, 1.0)))
    assert high["contacts"]["left foot"] == {"accuracy": 0.0, "precision": None, "recall": 0.0}


@pytest.mark.parametrize("fps", RATES)
def test_what_passes_over_the_ground_does_not_touch_it(fps):
    times = _times(1.0, fps)
    low = (0, 0, 0.01)
    assert motion.score(_figure(times, fps, low))["contact_accuracy"] == 1.0
    assert motion.score(_figure(times, fps, (0, 0, 0.03)))["contact_accuracy"] == 0.0
    assert motion.score(_figure(times, fps, (0.4 * times, 0, 0.01)))["contact_accuracy"] == 1.0
    assert motion.score(_figure(times, fps, (0.6 * times, 0, 0.01)))["contact_accuracy"] == 0.0


def test_other_parts_touch_surfaces_of_the_scene():
    clip = _figure(_times(0.2, 60.0), 60.0)
    plan = {"pelvis": np.ones(13, bool), "left_hand": np.zeros(13, bool)}
    under = 0.93 - 0.09  # of the pelvis
    seat = {"box": [[-0.3, -0.3, 0.0], [0.3, 0.3, under - 0.01]]}
    scores = motion.score(clip, contacts=plan, scene={"seat": seat})
    assert scores["contacts"]["pelvis"]["recall"] == 1.0
    assert scores["contact_float"] == pytest.approx(0.01)
    assert set(scores["contacts"]) == {"pelvis", "left hand"}
    bare = motion.score(clip, contacts=plan)
    assert bare["contacts"]["pelvis"]["recall"] == 0.0
    assert bare["contact_float"] == pytest.approx(under)


def test_facts_are_counted_and_told():
    clip = _figure(_times(0.5, 60.0), 60.0)
    facts = ["left foot on floor", "left hand above head", posecodes.parse("right foot on floor")]
    scores = motion.score(clip, facts=facts)
    assert list(scores["facts"].values()) == [True, False, True]
    assert scores["predicate_pass_rate"] == pytest.approx(2 / 3)
    results = posecodes.check(clip, "wave")
    scores = motion.score(clip, action="wave")
    assert scores["predicate_pass_rate"] == np.mean([r.truth for r in results]) < 1.0
    waving = motion.generate("wave", track="kinematic")
    assert motion.score(waving, action="wave")["predicate_pass_rate"] == 1.0
    _, side = waving.actions[0]
    other = "left" if side == "right" else "right"
    assert motion.score(waving, action="wave", side=other)["predicate_pass_rate"] < 1.0


def test_what_was_not_asked_for_is_left_out():
    clip = _figure(_times(0.5, 60.0), 60.0)
    scores = motion.score(clip)
    assert scores["tracking_error"] is None
    absent = ("facts", "predicate_pass_rate", "timing_error", "loop_pose_gap", "tracking_success")
    assert not set(absent) & set(scores)
    more = motion.score(clip, reference=clip, facts=["loops"], cyclic=True)
    assert {"facts", "predicate_pass_rate", "loop_pose_gap", "tracking_success"} <= set(more)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_short_clips_have_what_can_be_told_of_them(count):
    clip = _figure(np.arange(count) / 30.0, 30.0)
    scores = motion.score(clip, reference=clip, cyclic=True, facts=["left foot on floor"])
    assert (scores["jerk"] is None) == (scores["jerk_p95"] is None) == (count < 4)
    assert (scores["residual"] is None) == (scores["zmp_margin"] is None) == (count < 3)
    assert (scores["loop_pose_gap"] is None) == (count < 2)
    assert (scores["loop_velocity_gap"] is None) == (count < 3)
    assert (scores["skate_fraction"] is None) == (count < 2)
    assert scores["com_margin"] > 0.04
    assert scores["contact_accuracy"] == 1.0
    assert scores["tracking_success"] is True
    assert scores["tracking_lag"] is scores["tracking_jerk_ratio"] is None
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


@pytest.mark.parametrize("name", ["clip", "reference", "neutral", "keys"])
@pytest.mark.parametrize("field", ["root_positions", "root_rotations", "angles"])
def test_numbers_that_are_not_finite_are_refused(name, field):
    clip = _figure(_times(0.2, 60.0), 60.0)
    values = getattr(clip, field).copy()
    values[3, 1] = np.nan
    bad = {name: replace(clip, **{field: values})}
    text = f"score: {name} has numbers that are not finite, the first in frame 3, must have none"
    with pytest.raises(ArgumentError, match=text):
        motion.score(**({"clip": clip, "action": "walk"} | bad))


def test_a_clip_without_a_frame_rate_is_refused():
    clip = _figure(_times(0.2, 60.0), 60.0)
    for fps in (0.0, -30.0, np.inf):
        with pytest.raises(ArgumentError, match=f"clip has fps {fps}, must be > 0; give frames"):
            motion.score(replace(clip, fps=fps))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"action": "walk", "facts": ["loops"]}, "action is 'walk' with facts, must be one of"),
        ({"facts": "loops"}, "facts is 'loops', must be a list of at least one; leave it out"),
        ({"facts": []}, r"facts is \[\], must be a list of at least one"),
        ({"side": "left"}, "side is 'left' without action, must be None; name the action"),
        ({"contacts": np.ones((3, 2))}, r"contacts has shape \(3, 2\), must be \(13, 2\) for the"),
        (
            {"contacts": {"pelvis": np.ones(5)}},
            r"contacts\['pelvis'\] has shape \(5,\), must be \(13,\); give a flag a frame",
        ),
        ({"contacts": {"tail": np.ones(13)}}, "name is 'tail', must be one of head, crown"),
        ({"action": "fly"}, "action is 'fly', must be one of warm up"),
    ],
    ids=["both", "sentence", "none", "side", "frames", "flags", "part", "action"],
)
def test_arguments_that_make_no_sense_are_refused(arguments, text):
    with pytest.raises(ArgumentError, match=text):
        motion.score(_figure(_times(0.2, 60.0), 60.0), **arguments)


def test_a_neutral_clip_without_facts_is_refused():
    clip = _figure(_times(0.2, 60.0), 60.0)
    with pytest.raises(ArgumentError, match="neutral is a clip without action or facts"):
        motion.score(clip, neutral=clip)


@pytest.mark.parametrize("module", ["mujoco", "scipy.optimize"])
def test_forces_need_an_extra_and_nothing_else_does(module, monkeypatch):
    clip = _figure(_times(0.2, 60.0), 60.0)
    monkeypatch.setitem(sys.modules, module, None)
    scores = motion.score(clip)
    assert scores["residual"] is scores["residual_p95"] is scores["zmp_distance"] is None
    assert scores["com_margin"] > 0.04
    with pytest.raises(MissingExtraError, match=f"{module} is not installed"):
        motion.score(clip, forces=True)


def test_forces_can_be_left_out():
    clip = _figure(_times(0.2, 60.0), 60.0)
    assert motion.score(clip)["residual"] is not None
    without = motion.score(clip, forces=False)
    assert without["residual"] is without["residual_force"] is without["zmp_margin"] is None
    assert without["com_margin"] == motion.score(clip)["com_margin"]
