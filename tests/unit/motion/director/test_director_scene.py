"""Scenes and what geometry says about a pose in them."""

import numpy as np
import pytest

from foveal.errors import ArgumentError
from foveal.motion.director.apply import apply
from foveal.motion.director.commands_pose import (
    EndEffectorMove,
    PelvisWithoutSupport,
    PelvisWithSupport,
)
from foveal.motion.director.pose import moved, points
from foveal.motion.director.scene_facts import (
    arm_length,
    balance,
    clearance,
    describe,
    load_scene,
    lowest,
    under,
)
from foveal.motion.director.settle import measure, penalty, settle
from foveal.motion.posecodes import parse

FEET = ["left_foot", "right_foot"]
SEAT = {"seat": {"box": [[-0.75, -0.3, 0.0], [-0.2, 0.3, 0.45]]}}
STEP = {"box": {"box": [[0.1, -0.4, 0.0], [0.6, 0.4, 0.3]]}}
MJCF = """<mujoco><worldbody>
<geom name="ground" type="plane" size="5 5 1" pos="0 0 0"/>
<geom name="low_table" type="box" pos="0.5 0 0.2" size="0.2 0.3 0.2"/>
</worldbody></mujoco>"""


def test_without_a_scene_there_is_the_floor() -> None:
    assert {name: s.height for name, s in load_scene(None).items()} == {"floor": 0.0}
    assert load_scene({"floor": {"height": 0.2}})["floor"].height == 0.2


def test_a_scene_without_a_floor_is_refused(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"load_scene: scene has no floor, must have one"):
        load_scene({"floor": None} | SEAT)
    path = tmp_path / "scene.xml"
    path.write_text(MJCF.replace('type="plane"', 'type="box"'))
    with pytest.raises(ArgumentError, match="has no floor"):
        load_scene(path)


def test_boxes_of_an_mjcf_file(tmp_path) -> None:
    path = tmp_path / "scene.xml"
    path.write_text(MJCF)
    scene = load_scene(str(path))
    assert sorted(scene) == ["floor", "low table"]
    table = scene["low table"]
    assert table.height == pytest.approx(0.4)
    assert table.low == pytest.approx((0.3, -0.3))
    assert table.high == pytest.approx((0.7, 0.3))
    assert table.bottom == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<mujoco>", "no element found"),
        ("<mujoco/>", "no worldbody"),
        (MJCF.replace('type="box"', 'type="box" euler="0 0 1"'), "turned"),
        (MJCF.replace('type="box"', 'type="sphere"'), "is a sphere"),
        (MJCF.replace('size="0.2 0.3 0.2"', ""), "zip"),
        ("<!DOCTYPE x>" + MJCF, "not read"),
    ],
    ids=["cut", "empty", "turned", "sphere", "sizeless", "doctype"],
)
def test_files_that_are_no_scene_are_named(tmp_path, text, why) -> None:
    path = tmp_path / "scene.xml"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=rf"scene is .*scene.xml', must be MJCF.*{why}"):
        load_scene(path)


def test_a_path_that_is_no_file_is_named() -> None:
    with pytest.raises(ArgumentError, match=r"scene is 'nowhere.xml', must be an MJCF file"):
        load_scene("nowhere.xml")


def test_the_surface_under_a_point() -> None:
    scene = load_scene(SEAT | {"shelf": {"height": 1.5}})
    assert under(scene, np.array([-0.5, 0.0, 0.9])) == ("seat", 0.45)
    assert under(scene, np.array([0.5, 0.0, 1.9])) == ("floor", 0.0)
    # a foot at the seat's leg is not on the seat
    assert under(scene, np.array([-0.5, 0.0, 0.0])) == ("floor", 0.0)


def test_clearance_and_penetration(skeleton, start) -> None:
    scene = load_scene(None)
    assert clearance(skeleton, start, "left_foot", scene)[1] == pytest.approx(0.0, abs=1e-3)
    up = moved(start, np.array([0.0, 0.0, 0.2]))
    assert clearance(skeleton, up, "right_foot", scene) == ("floor", pytest.approx(0.2, abs=1e-3))
    part, gap, surface = lowest(skeleton, moved(start, np.array([0.0, 0.0, -0.1])), scene)
    assert (part in FEET, surface) == (True, "floor")
    assert gap == pytest.approx(-0.1, abs=1e-3)


def test_balance_is_the_distance_to_the_edge_of_the_feet(skeleton, start) -> None:
    inside = balance(skeleton, start, FEET)
    assert 0.03 < inside < 0.15
    out = apply(
        skeleton, start, PelvisWithSupport(tuple(start.root - np.array([0.2, 0, 0.1]))), FEET
    )
    assert balance(skeleton, out.pose, FEET) < -0.02
    # over one foot only it is outside: the other leg's half of the body is beside it
    assert balance(skeleton, start, ["left_foot"]) < 0
    assert balance(skeleton, start, []) == -np.inf
    # moving all of it moves nothing of the balance
    far = moved(start, np.array([3.0, -2.0, 0.0]))
    assert balance(skeleton, far, FEET) == pytest.approx(inside)


def test_the_words_say_what_is_there(skeleton, start) -> None:
    shown = points(skeleton, start)
    text = describe(skeleton, start, load_scene(SEAT), FEET, shown)
    assert "- seat: top at z = 0.45, x from -0.75 to -0.20, y from -0.30 to 0.30" in text
    assert "its nearest edge is 0.20 m from the pelvis" in text
    assert "- left_foot: planted, on the floor" in text
    assert "inside the support area" in text
    text = describe(skeleton, moved(start, np.array([0, 0, 0.5])), load_scene(None), [], shown)
    assert "- left_foot: free, 0.50 m above the floor" in text
    assert "in the air" in text
    text = describe(skeleton, moved(start, np.array([0, 0, -0.2])), load_scene(None), FEET, shown)
    assert "0.20 m INSIDE the floor; lift it" in text
    table = {"table": {"box": [[0.2, -0.5, 0.0], [0.6, 0.5, 1.0]]}}
    assert "within reach of left and right hand" in describe(
        skeleton, start, load_scene(table), FEET, shown
    )


def test_the_length_of_an_arm_is_that_of_its_bones(skeleton, start) -> None:
    shoulder = points(skeleton, start)["left shoulder"]
    far = EndEffectorMove("left hand", tuple(shoulder + np.array([0, 5.0, 0])))
    shown = points(skeleton, apply(skeleton, start, far, FEET).pose)
    reach = np.linalg.norm(shown["left hand"] - shown["left shoulder"])
    assert arm_length(skeleton, "left") == pytest.approx(reach, abs=0.01)


def test_a_new_foot_is_set_down_flat_on_what_is_under_it(skeleton, start) -> None:
    scene = load_scene(STEP)
    ahead = apply(skeleton, start, EndEffectorMove("left foot", (0.3, 0.1, 0.36)), ["right_foot"])
    found = settle(skeleton, ahead.pose, scene, planted=FEET, held=["right_foot"])
    assert found.notes == ()
    assert clearance(skeleton, found.pose, "left_foot", scene) == (
        "box",
        pytest.approx(0, abs=2e-3),
    )
    assert found.levels == {"left_foot": pytest.approx(0.3), "right_foot": 0.0}
    before, after = points(skeleton, ahead.pose), points(skeleton, found.pose)
    assert np.linalg.norm(after["right foot"] - before["right foot"]) < 1e-3


def test_a_foot_in_the_air_is_not_claimed_to_be_planted(skeleton, start) -> None:
    up = apply(skeleton, start, EndEffectorMove("left foot", (0.3, 0.1, 0.5)), ["right_foot"])
    found = settle(skeleton, up.pose, load_scene(None), planted=FEET, held=["right_foot"])
    assert found.pose is up.pose
    assert "left_foot is" in found.notes[0]
    assert "too far to be planted" in found.notes[0]
    assert found.loose == {"left_foot"}


def test_a_sitter_is_let_down_onto_the_seat(skeleton, start) -> None:
    scene = load_scene(SEAT)
    low = apply(skeleton, start, PelvisWithSupport((-0.4, 0.0, 0.62)), FEET).pose
    found = settle(skeleton, low, scene, planted=[*FEET, "pelvis"], held=FEET)
    assert clearance(skeleton, found.pose, "pelvis", scene) == ("seat", pytest.approx(0, abs=5e-3))
    assert measure(skeleton, start, found.pose, {"on": parse("pelvis on seat")}, scene)[0].truth


def test_facts_are_measured_against_the_start(skeleton, start) -> None:
    low = apply(skeleton, start, PelvisWithSupport(tuple(start.root - np.array([0, 0, 0.2]))), FEET)
    facts = {s: parse(s) for s in ("pelvis lowered by 0.15 m", "pelvis lowered by 0.3 m")}
    good, bad = measure(skeleton, start, low.pose, facts, load_scene(None))
    assert (good.truth, bad.truth) == (True, False)
    gone = start.root[2] - low.pose.root[2]
    assert gone == pytest.approx(0.2, abs=5e-3)
    assert good.margin == pytest.approx(gone - 0.15, abs=1e-6)
    assert bad.margin == pytest.approx(gone - 0.3, abs=1e-6)
    assert good.line() == "- pelvis lowered by 0.15 m: holds, with 0.05 m to spare"
    assert bad.line() == "- pelvis lowered by 0.3 m: FAILS, by 0.10 m"
    assert penalty([good, bad]) == (1, pytest.approx(10 * (0.3 - gone)))
    seat = measure(skeleton, start, start, {"s": parse("pelvis on seat")}, load_scene(None))
    assert seat[0].line() == "- s: FAILS, the figure or the scene has no such thing"


def test_a_rigid_move_keeps_every_angle(skeleton, start) -> None:
    out = apply(skeleton, start, PelvisWithoutSupport((0.0, 0.0, 1.4)), [])
    assert np.array_equal(out.pose.angles, start.angles)
