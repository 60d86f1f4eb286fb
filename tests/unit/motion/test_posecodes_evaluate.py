"""Values of pose facts by hand: truth, margins in their unit, and the frame that decides."""

import json
from dataclasses import replace

import numpy as np
import pytest

from foveal.errors import ArgumentError
from foveal.motion import Clip, humanoid
from foveal.motion import rotations as rot
from foveal.motion.posecodes import evaluate, mirror_clip, parse
from foveal.motion.posecodes.actions import action_facts, check, find_action, shows, table, to_dicts
from foveal.motion.posecodes.figure import Figure
from foveal.motion.posecodes.points import read_scene

BODY = humanoid()
FPS = 10.0


def posed(count=5, *, shift=None, turn=0.0, axis=(0, 0, 1), body=BODY, **degrees):
    """The standing figure; hinges in degrees, a number or one a frame."""
    angles = np.zeros((count, len(body.hinges)))
    for name, values in degrees.items():
        angles[:, body.hinge(name)] = np.radians(values)
    root = np.tile(body.offsets[0], (count, 1))
    if shift is not None:
        root = root + np.asarray(shift, float)
    turned = rot.from_axis_angle(axis, np.radians(np.broadcast_to(turn, count)))
    return Clip(body, FPS, root, turned, angles, np.ones((count, 2), bool), np.zeros(1))


def ask(text, clip, **given):
    return evaluate(parse(text, skeleton=clip.skeleton), clip, **given)


def along(count, **columns):
    out = np.zeros((count, 3))
    for name, values in columns.items():
        out[:, "xyz".index(name)] = values
    return out


@pytest.mark.parametrize(
    ("text", "margin", "unit"),
    [
        # by the table of the body: head .93 + .11 + .204 + .226 + .08, its middle .0325 above
        ("head height at least 1.5 m", 0.0825, "m"),
        # 0.93 + .11 + .204 + .15 - .024 - .275
        ("left elbow height 1.05 to 1.15 m", 0.045, "m"),
        ("left hand above head", -(1.5825 - 0.788), "m"),  # .263 to the wrist, .044 to the palm
        ("left hand left of right hand by 0.3 m", 0.06, "m"),  # arms 0.18 aside
        ("hands 0.1 to 0.3 m apart", -0.06, "m"),
        ("left knee at most 10 degrees", 10.0, "degrees"),
        ("left knee 80 to 100 degrees", -80.0, "degrees"),
        ("trunk within 20 degrees of vertical", 20.0, "degrees"),
        ("left thigh horizontal within 25 degrees", -65.0, "degrees"),
        ("left forearm pointing down within 30 degrees", 30.0, "degrees"),
        ("left palm facing right within 30 degrees", 30.0, "degrees"),
        ("left palm down", -45.0, "degrees"),
        ("right palm facing left within 30 degrees", 30.0, "degrees"),
        ("facing +x", 45.0, "degrees"),
        ("facing +y within 30 degrees", -60.0, "degrees"),
        ("face facing forward within 30 degrees", 30.0, "degrees"),
        ("left foot on floor", 0.03, "m"),
        ("left foot off floor", -0.03, "m"),
        ("pelvis clear of floor by at least 0.8 m", 0.04, "m"),  # its capsule reaches down 0.09
        ("left hand slower than 0.5 m/s", 0.5, "m/s"),
        ("left foot behind right foot", 0.0, "m"),
    ],
)
def test_the_standing_figure_by_hand(text, margin, unit):
    result = ask(text, posed())
    assert result.margin == pytest.approx(margin, abs=1e-6)
    assert result.unit == unit
    assert result.truth == (margin > 0)


def test_a_level_relation_holds_neither_way_round():
    for relation in ("behind", "in front of", "above", "below"):
        assert not ask(f"left foot {relation} right foot", posed()).truth
        assert ask(f"not left foot {relation} right foot", posed()).truth


@pytest.mark.parametrize(
    ("text", "clip", "margin"),
    [
        ("left elbow at least 80 degrees", posed(left_elbow_flexion=90), 10),
        ("left forearm pointing forward within 30 degrees", posed(left_elbow_flexion=90), 30),
        ("left arm pointing left within 10 degrees", posed(left_shoulder_abduction=90), 10),
        ("right arm pointing right within 10 degrees", posed(right_shoulder_abduction=90), 10),
        ("left thigh pointing forward within 10 degrees", posed(left_hip_flexion=90), 10),
        ("chest leaned forward by 20 degrees", posed(chest_bend=30), 10),
        ("chest leaned back by -40 to -20 degrees", posed(chest_bend=30), 10),
        ("chest leaned left by 20 degrees", posed(chest_lean=30), 10),
        ("chest leaned right by -40 to -20 degrees", posed(chest_lean=30), 10),
        ("chest twisted left by 20 degrees", posed(chest_turn=30), 10),
        ("chest twisted right by -40 to 0 degrees", posed(chest_turn=30), 10),
        ("chest turned left by 20 degrees", posed(chest_turn=[0, 10, 20, 30, 30]), 10),
        ("pelvis turned left by 300 degrees", posed(turn=[0, 90, 180, 270, 360]), 60),
        ("at the end facing back", posed(turn=[0, 60, 120, 180, 180]), 45),
        ("at the end facing -x", posed(turn=[0, 60, 120, 180, 180]), 45),
        ("trunk horizontal within 10 degrees", posed(turn=90, axis=(0, 1, 0)), 10),
        ("chest facing down within 10 degrees", posed(turn=90, axis=(0, 1, 0)), 10),
        ("facing +x within 10 degrees", posed(turn=90, axis=(0, 1, 0)), 10),
        ("trunk leaned forward by 80 degrees", posed(turn=90, axis=(0, 1, 0)), 10),
    ],
)
def test_turned_and_bent_figures_by_hand(text, clip, margin):
    assert ask(text, clip).margin == pytest.approx(margin, abs=1e-6)


def test_directions_are_the_figures_own_and_axes_the_worlds():
    turned = posed(turn=90, left_shoulder_flexion=90)  # it faces +y, its left is -x
    hand = Figure(turned).point("left hand")[0] - Figure(turned).point("left shoulder")[0]
    np.testing.assert_allclose(hand, (0, 0.275 + 0.263 + 0.044, 0), atol=1e-9)
    assert ask("left hand in front of left shoulder by 0.55 m", turned).truth
    assert ask("left arm pointing +y within 5 degrees", turned).truth
    assert ask("left arm pointing forward within 5 degrees", turned).truth
    walk = posed(shift=along(5, y=[0, 0.1, 0.2, 0.3, 0.4]), turn=90)
    assert ask("pelvis moved forward by 0.3 m", walk).margin == pytest.approx(0.1)
    assert ask("pelvis moved +y by 0.3 to 0.6 m", walk).margin == pytest.approx(0.1)
    assert ask("pelvis moved left by 0.3 m", walk).margin == pytest.approx(-0.3)
    assert ask("pelvis moving forward faster than 0.5 m/s", walk).margin == pytest.approx(0.5)
    assert ask("left hand speed at most 0.5 m/s against pelvis", walk).margin == pytest.approx(0.5)


DIP = along(9, z=[0, -0.1, -0.3, -0.1, 0, 0, 0, -0.2, 0])


@pytest.mark.parametrize(
    ("text", "margin", "unit", "frame"),
    [
        ("pelvis lowered by 0.2 m", 0.1, "m", 2),
        ("always pelvis lowered by at most 0.2 m", -0.1, "m", 2),
        ("at the end pelvis lowered by at least 0.2 m", -0.2, "m", 8),
        ("at the start pelvis lowered by at least 0.2 m", -0.2, "m", 0),
        ("pelvis moved down by 0.1 m", -0.1, "m", 8),
        ("not pelvis lowered by 0.05 m", 0.05, "m", 0),
        ("at least 2 times pelvis lowered by 0.15 m", 1, "times", 7),
        ("at least 4 times pelvis lowered by 0.15 m", -2, "times", 7),
        ("exactly 2 times pelvis lowered by 0.15 m", 1, "times", 7),
        ("exactly 1 times pelvis lowered by 0.15 m", -1, "times", 7),
        ("1 to 3 times pelvis lowered by 0.15 m", 2, "times", 7),
        ("for at least 0.2 s pelvis lowered by 0.05 m", 0.05, "m", 1),
        ("for at least 0.3 s pelvis lowered by 0.05 m", -0.05, "m", 0),
        ("for at least 2 s pelvis lowered by 0.05 m", -1.2, "s", 8),
        ("range of (pelvis height) at least 0.2 m", 0.1, "m", 0),
        ("mean of (pelvis shifted down) at least 0.1 m", 0.7 / 9 - 0.1, "m", 8),
        ("largest of (pelvis shifted down) at most 0.2 m", -0.1, "m", 2),
        ("smallest of (pelvis height) at least 0.5 m", 0.13, "m", 2),
        ("in this order: pelvis lowered by 0.25 m, then pelvis lowered by 0.15 m", 0.05, "m", 2),
        ("in this order: pelvis lowered by 0.12 m, then pelvis lowered by 0.25 m", -0.02, "m", 1),
        ("in this order: pelvis lowered by 0.25 m, then pelvis lowered by 0.25 m", -0.05, "m", 7),
    ],
)
def test_times_and_orders_by_hand(text, margin, unit, frame):
    result = ask(text, posed(9, shift=DIP))
    assert (result.margin, result.unit) == (pytest.approx(margin, abs=1e-6), unit)
    assert result.truth == (margin > 0)
    assert result.frame == frame
    assert result.time == pytest.approx(frame / FPS)


def test_breaks_shorter_than_a_twelfth_of_a_second_do_not_count():
    lowered = np.array([0.0, -0.3, 0.0, -0.3, 0.0])
    clip = posed(5, shift=along(5, z=lowered))
    assert ask("exactly 2 times pelvis lowered by 0.2 m", clip).truth
    assert ask("exactly 1 times pelvis lowered by 0.2 m", replace(clip, fps=20.0)).truth


def test_turns_between_left_and_right_are_counted():
    up = [0, 90, 0, 90, 0, 0, 0, 90, 0]
    other = [0, 0, 0, 0, 0, 90, 0, 0, 0]
    clip = posed(9, left_shoulder_flexion=up, right_shoulder_flexion=other)
    text = "times alternating left and right left arm pointing forward"
    assert ask(f"3 to 3 {text}", clip).truth  # left (twice), right, left
    assert ask(f"at least 4 {text}", clip).margin == -1
    assert ask(f"3 to 3 {text}", mirror_clip(clip)).truth
    assert ask("3 to 3 times left arm pointing forward", clip).truth


def test_and_or_compare_in_steps_and_tell_the_part_that_decides():
    clip = posed(left_knee_flexion=60)
    # 0.84 m are 8.4 steps, 20 degrees are 2 steps
    both = ask("left hand above head and left knee 80 to 100 degrees", clip)
    assert (both.truth, both.unit) == (False, "m")
    assert both.because == "left hand above head"
    either = ask("left hand above head or left knee 80 to 100 degrees", clip)
    assert (either.truth, either.unit) == (False, "degrees")
    assert either.margin == pytest.approx(-20)
    assert either.because == "left knee flexion 80 to 100 degrees"


def test_a_loop_closes_up_to_travel_and_turning():
    arm = [0, 30, 60, 30, 0]
    shift = along(5, x=[0, 0.2, 0.4, 0.6, 0.8])
    assert ask("loops", posed(shift=shift, left_elbow_flexion=arm)).truth
    assert ask("loops", posed(turn=[0, 20, 40, 60, 80], left_elbow_flexion=arm)).truth
    opened = ask("loops", posed(left_elbow_flexion=[0, 30, 60, 30, 20]))
    assert (opened.truth, opened.unit) == (False, "degrees")
    assert opened.margin == pytest.approx(-15)
    sunk = ask("loops", posed(shift=along(5, z=[0, 0, 0, 0, -0.1])))
    assert (sunk.truth, sunk.unit) == (False, "m")
    assert sunk.margin == pytest.approx(-0.07)


def test_surfaces_are_boxes_and_levels():
    clip = posed(shift=along(5, z=[0, 0, -0.2, -0.39, -0.39]))  # pelvis skin at 0.84 to 0.45
    seat = {"seat": {"box": [[-0.3, -0.3, 0.0], [0.3, 0.3, 0.45]]}}
    assert ask("at the end pelvis on seat", clip, scene=seat).margin == pytest.approx(0.03)
    assert ask("at the start pelvis clear of seat by 0.3 m", clip, scene=seat).truth
    aside = {"seat": {"box": [[0.3, -0.3, 0.0], [0.6, 0.3, 0.45]]}}
    result = ask("at the end pelvis on seat", clip, scene=aside)
    assert result.margin == pytest.approx(0.03 - 0.3)
    level = {"seat": {"height": 0.45}}
    assert ask("at the end pelvis on seat", clip, scene=level).truth
    shelf = {"shelf": {"box": [[-0.5, 0.1, 1.0], [0.5, 0.5, 1.1]]}}
    under = ask("at the start left hand within 0.3 m of shelf", clip, scene=shelf)
    assert under.margin == pytest.approx(0.3 - (1.0 - 0.788))
    assert ask("left hand at least 0.2 m below shelf", clip, scene=shelf).truth
    assert ask("always pelvis height 0.84 to 1 m over support", clip).margin == pytest.approx(0.07)


def test_a_neutral_clip_is_compared_at_the_size_of_the_figure():
    fast = posed(shift=along(5, x=[0, 0.3, 0.6, 0.9, 1.2]))
    small = posed(shift=along(5, x=[0, 0.1, 0.2, 0.3, 0.4]), body=humanoid(height=0.85))
    # a figure of half the size at 1 m/s is as one of 1.7 m at 2 m/s
    assert ask("gait speed at least 1 times neutral", fast, neutral=small).margin == pytest.approx(
        0.5
    )
    more = ask("pelvis moved forward by at least 0.3 m more than neutral", fast, neutral=small)
    assert more.margin == pytest.approx(1.2 - 0.8 - 0.3)
    lean = "mean of (chest leaned forward) at least 8 degrees more than neutral"
    assert ask(lean, posed(chest_bend=20), neutral=posed(chest_bend=5)).margin == pytest.approx(7)


def test_the_users_keys_are_kept_to_the_worst_body():
    clip = posed(shift=along(5, x=[0, 0.1, 0.2, 0.3, 0.4]))
    rows = [0, 2]
    keys = replace(
        clip, root_positions=clip.root_positions[rows] + [[0, 0, 0], [0.03, 0, 0]],
        root_rotations=clip.root_rotations[rows], angles=clip.angles[rows],
        contacts=clip.contacts[rows], keyframe_times=np.array([0.0, 0.2]),
    )  # fmt: skip
    result = ask("keys kept within 0.02 m", clip, keys=keys)
    assert (result.truth, result.frame) == (False, 2)
    assert result.margin == pytest.approx(-0.01)
    with pytest.raises(ArgumentError, match=r"keys ends at 9\.00 s, must end within the clip"):
        ask(
            "keys kept within 0.02 m", clip, keys=replace(keys, keyframe_times=np.array([0.0, 9.0]))
        )
    with pytest.raises(ArgumentError, match="keys has 2 frames and 1 keyframe_times"):
        ask("keys kept within 0.02 m", clip, keys=replace(keys, keyframe_times=np.zeros(1)))
    with pytest.raises(ArgumentError, match="keys is None, must be a clip"):
        ask("keys kept within 0.02 m", clip)


def test_a_clip_of_one_frame_can_be_judged():
    clip = posed(1)
    assert ask("left foot on floor and left hand slower than 1 m/s", clip).truth
    assert not ask("in this order: left foot on floor, then left foot on floor", clip).truth
    assert ask("loops", clip).truth
    assert not ask("for at least 0.1 s left foot on floor", clip).truth


def test_what_is_missing_is_named():
    clip = posed()
    with pytest.raises(ArgumentError, match="scene has no 'seat', must have it .* it has floor"):
        ask("pelvis on seat", clip)
    with pytest.raises(ArgumentError, match="neutral is None, must be a clip to judge 'gait"):
        ask("gait speed at least 1 times neutral", clip)
    with pytest.raises(ArgumentError, match="neutral has 0 for 'gait speed"):
        ask("gait speed at least 1 times neutral", clip, neutral=clip)
    broken = posed(shift=along(5, z=[0, 0, np.nan, 0, 0]))
    with pytest.raises(ArgumentError, match="not finite, the first in frame 2"):
        ask("left foot on floor", broken)
    armless = replace(
        BODY, names=tuple(n.replace("_hand", "_claw") for n in BODY.names)
    )  # another body, by its names
    clip = replace(clip, skeleton=armless)
    with pytest.raises(ArgumentError, match="name is 'left hand', must be one of .*left claw"):
        evaluate(parse("left hand above head"), clip)
    with pytest.raises(ArgumentError, match="'hand' .character 6"):
        parse("left hand above head", skeleton=armless)
    assert not ask("left claw above head", clip).truth


@pytest.mark.parametrize(
    "value",
    [3, {"height": "x"}, {"height": float("nan")}, {"box": [[0, 0, 0], [1, 1, -1]]}, {"box": 2},
     {"height": 1, "box": 2}, {}],
    ids=str,
)  # fmt: skip
def test_scenes_that_are_none_are_named(value):
    with pytest.raises(ArgumentError, match="read_scene: 'seat' is .*, must be {'height': h}"):
        read_scene({"seat": value})


def test_check_gives_a_result_a_fact_a_table_and_json():
    clip = posed(20)
    results = check(clip, "Wave")
    assert len(results) == len(find_action("wave").requirements)
    assert [r.truth for r in results].count(False) == 2
    assert not shows(clip, "wave")
    text = table(results)
    assert text.splitlines()[-1] == f"{len(results) - 2} of {len(results)} facts hold"
    assert text.count("FAILS  -2.00 times") == 2
    plain = json.loads(json.dumps(to_dicts(results), allow_nan=False))
    assert set(plain[0]) == {
        "fact", "truth", "margin", "unit", "frame", "time", "because", "why",
    }  # fmt: skip
    assert plain[-1]["why"].startswith("raising the arm")


def test_check_names_what_it_does_not_know_or_have():
    clip = posed()
    with pytest.raises(ArgumentError, match="action is 'waltz', must be one of warm up, walk"):
        check(clip, "waltz")
    with pytest.raises(ArgumentError, match="'sit on chair' without seat, must have seat"):
        check(clip, "sit on chair")
    with pytest.raises(ArgumentError, match="'old walk' without neutral, must have neutral"):
        shows(clip, "old walk")
    with pytest.raises(ArgumentError, match="'stairs' without step 2, must have step 1, step 2"):
        check(clip, "stairs", scene={"step 1": {"height": 0.1}, "step 3": {"height": 0.3}})


def test_a_side_that_is_none_is_named():
    with pytest.raises(ArgumentError, match="check: side is 'up', must be 'left', 'right' or None"):
        check(posed(), "wave", side="up")  # type: ignore[arg-type]


def test_other_names_of_actions_find_them():
    assert find_action("punch").name == "boxing"
    assert find_action("Sit_Down").name == "sit"
    names = [n for a in action_facts().values() for n in (a.name, *a.also)]
    assert len(names) == len(set(names))
    for action in action_facts().values():
        assert 3 <= len(action.requirements) - (7 if action.group == "style" else 0) <= 8
