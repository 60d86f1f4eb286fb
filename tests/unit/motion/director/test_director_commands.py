"""The six commands, each against values worked out by hand from bone lengths and angles."""

from dataclasses import replace

import numpy as np
import pytest

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.director.apply import apply
from foveal.motion.director.chat.schema import check_schema, problems
from foveal.motion.director.commands import Keyframe
from foveal.motion.director.commands_pose import (
    BONES,
    EFFECTORS,
    JOINTS,
    Camera,
    EndEffectorMove,
    JointMove,
    PelvisWithoutSupport,
    PelvisWithSupport,
    Roll,
    command_schema,
    part_of,
    read_command,
)
from foveal.motion.director.parts import PARTS, hinges_of
from foveal.motion.director.pose import POINTS, Pose, from_keyframe, place, points

FEET = ["left_foot", "right_foot"]
X, Y, Z = np.eye(3)


@pytest.fixture(scope="module")
def zero(skeleton) -> Pose:
    """Every hinge at 0: arms and legs hang straight down."""
    return from_keyframe(Keyframe(0.0), skeleton)


def bone(skeleton, name: str) -> float:
    return float(np.linalg.norm(skeleton.offsets[skeleton.body(name)]))


def lengths(skeleton, pose) -> np.ndarray:
    positions, _ = place(skeleton, pose)
    child = np.arange(1, skeleton.num_bodies)
    return np.linalg.norm(positions[child] - positions[list(skeleton.parents[1:])], axis=1)


def angle(skeleton, pose, name: str) -> float:
    return float(np.degrees(pose.angles[skeleton.hinge(name)]))


def test_joint_move_lifts_an_upper_arm_to_the_side(skeleton, zero) -> None:
    shoulder = points(skeleton, zero)["right shoulder"]
    target = tuple(shoulder - 2.0 * Y)  # farther than the bone is long: only its direction counts
    out = apply(skeleton, zero, JointMove("right elbow", target), FEET)
    at = points(skeleton, out.pose)
    upper, fore = bone(skeleton, "right_forearm"), bone(skeleton, "right_hand")
    assert at["right elbow"] == pytest.approx(shoulder - upper * Y, abs=1e-5)
    # the forearm is carried along, as straight as it was
    assert at["right wrist"] == pytest.approx(shoulder - (upper + fore) * Y, abs=1e-4)
    assert angle(skeleton, out.pose, "right_shoulder_abduction") == pytest.approx(90, abs=0.01)
    assert out.left < 1e-5
    assert "is there" in out.note
    assert lengths(skeleton, out.pose) == pytest.approx(lengths(skeleton, zero), abs=1e-12)


def test_joint_move_bends_a_hinge_and_nothing_else(skeleton, zero) -> None:
    at = points(skeleton, zero)
    fore = bone(skeleton, "left_hand")
    forward = tuple(at["left elbow"] + 0.01 * X)  # nearer than the bone is long
    out = apply(skeleton, zero, JointMove("left wrist", forward), FEET)
    assert points(skeleton, out.pose)["left wrist"] == pytest.approx(
        at["left elbow"] + fore * X, abs=1e-5
    )
    changed = np.flatnonzero(np.abs(out.pose.angles - zero.angles) > 1e-9)
    assert [skeleton.hinge_names[i] for i in changed] == ["left_elbow_flexion"]
    assert angle(skeleton, out.pose, "left_elbow_flexion") == pytest.approx(90, abs=0.01)


def test_joint_move_stops_at_a_limit_and_says_by_how_much(skeleton, zero) -> None:
    at = points(skeleton, zero)
    fore = bone(skeleton, "left_hand")
    behind = tuple(at["left elbow"] - X)
    out = apply(skeleton, zero, JointMove("left wrist", behind), FEET)
    # an elbow does not bend backward: the forearm hangs on, a quarter turn short
    assert angle(skeleton, out.pose, "left_elbow_flexion") == pytest.approx(0, abs=0.5)
    assert out.left == pytest.approx(np.sqrt(2) * fore, abs=0.01)
    assert "short" in out.note
    assert "left_elbow_flexion" in out.note


def test_joint_move_of_a_thigh_needs_a_free_foot(skeleton, zero) -> None:
    at = points(skeleton, zero)
    move = JointMove("left knee", tuple(at["left hip"] + X))
    refused = apply(skeleton, zero, move, FEET)
    assert refused.refused
    assert "left_foot is planted" in refused.note
    assert refused.pose is zero
    out = apply(skeleton, zero, move, ["right_foot"])
    thigh, shin = bone(skeleton, "left_shin"), bone(skeleton, "left_foot")
    found = points(skeleton, out.pose)
    assert found["left knee"] == pytest.approx(at["left hip"] + thigh * X, abs=1e-4)
    # the knee stays straight, so the shin points on
    assert found["left ankle"] == pytest.approx(at["left hip"] + (thigh + shin) * X, abs=1e-3)
    assert found["right ankle"] == pytest.approx(at["right ankle"], abs=1e-12)


def test_joint_move_to_its_own_start_is_refused(skeleton, zero) -> None:
    at = points(skeleton, zero)["right shoulder"]
    out = apply(skeleton, zero, JointMove("right elbow", tuple(at)), FEET)
    assert out.refused
    assert "no direction" in out.note


def test_joint_move_of_the_neck_bends_the_trunk_alone(skeleton, zero) -> None:
    at = points(skeleton, zero)
    target = at["pelvis"] + [0.2, 0, 0.9]
    out = apply(skeleton, zero, JointMove("neck", tuple(target)), FEET)
    changed = {i for i in range(len(zero.angles)) if abs(out.pose.angles[i]) > 1e-6}
    assert changed
    assert changed <= set(hinges_of(skeleton, "trunk"))
    assert out.pose.root == pytest.approx(zero.root, abs=0)
    away = points(skeleton, out.pose)["neck"] - at["pelvis"]
    assert np.degrees(np.arctan2(away[0], away[2])) == pytest.approx(
        np.degrees(np.arctan2(0.2, 0.9)), abs=1.0
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_end_effector_move_puts_a_palm_at_a_place(skeleton, start, side) -> None:
    out_ = 0.3 if side == "left" else -0.3
    target = (0.25, out_, 1.45)
    out = apply(skeleton, start, EndEffectorMove(f"{side} hand", target), FEET)
    assert points(skeleton, out.pose)[f"{side} hand"] == pytest.approx(target, abs=1e-6)
    others = [i for i in range(len(start.angles)) if i not in hinges_of(skeleton, f"{side}_arm")]
    assert np.array_equal(out.pose.angles[others], start.angles[others])
    assert np.array_equal(out.pose.root, start.root)
    low, high = skeleton.limits.T
    assert ((out.pose.angles >= low) & (out.pose.angles <= high)).all()


def test_end_effector_out_of_reach_stretches_and_tells_what_is_left(skeleton, zero) -> None:
    hip = points(skeleton, zero)["left hip"]
    out = apply(skeleton, zero, EndEffectorMove("left foot", tuple(hip + 5.0 * X)), ["right_foot"])
    found = points(skeleton, out.pose)
    assert angle(skeleton, out.pose, "left_knee_flexion") < 15
    reach = np.linalg.norm(found["left foot"] - hip)
    assert out.left == pytest.approx(5.0 - reach, abs=0.02)
    assert found["left ankle"][0] - hip[0] == pytest.approx(
        bone(skeleton, "left_shin") + bone(skeleton, "left_foot"), abs=0.02
    )
    assert "short" in out.note


def test_end_effector_keeps_the_sole_level(skeleton, start) -> None:
    target = (0.25, 0.1, 0.25)
    out = apply(skeleton, start, EndEffectorMove("left foot", target), ["right_foot"])
    assert points(skeleton, out.pose)["left foot"] == pytest.approx(target, abs=1e-3)
    up = rot.rotate(place(skeleton, out.pose)[1][skeleton.body("left_foot")], Z)
    assert np.degrees(np.arccos(up[2])) < 1.0


def test_the_bend_hint_turns_the_elbow_and_costs_no_reach(skeleton, start) -> None:
    target = (0.25, -0.25, 1.3)
    found = {}
    for name, bend in (("down", (0.0, -0.3, 0.6)), ("out", (0.0, -1.2, 1.4))):
        move = EndEffectorMove("right hand", target, bend)
        out = apply(skeleton, start, move, FEET)
        assert out.left < 2e-3
        found[name] = points(skeleton, out.pose)["right elbow"]
    assert found["out"][1] < found["down"][1] - 0.05
    assert found["out"][2] > found["down"][2] + 0.05


def test_the_trunk_helps_only_if_asked(skeleton, start) -> None:
    far = (0.75, -0.1, 1.1)
    alone = apply(skeleton, start, EndEffectorMove("right hand", far), FEET)
    helped = apply(skeleton, start, EndEffectorMove("right hand", far, reach="trunk"), FEET)
    trunk = hinges_of(skeleton, "trunk")
    assert np.array_equal(alone.pose.angles[trunk], start.angles[trunk])
    assert helped.left < 1e-3 < 0.02 < alone.left


def test_what_is_planted_is_not_moved_by_its_limb(skeleton, start) -> None:
    out = apply(skeleton, start, EndEffectorMove("left foot", (0.3, 0.1, 0.3)), FEET)
    assert out.refused
    held = apply(skeleton, start, EndEffectorMove("head", (0.2, 0.0, 1.5)), [*FEET, "right_hand"])
    assert held.refused
    assert "right_hand is planted" in held.note


def test_pelvis_with_support_bends_the_knees_by_the_law_of_cosines(skeleton, start) -> None:
    before = points(skeleton, start)
    target = start.root + np.array([-0.05, 0.0, -0.25])
    out = apply(skeleton, start, PelvisWithSupport(tuple(target)), FEET)
    after = points(skeleton, out.pose)
    assert out.pose.root == pytest.approx(target, abs=1e-6)
    for side in ("left", "right"):
        for name in ("ankle", "foot", "toes"):
            gap = np.linalg.norm(after[f"{side} {name}"] - before[f"{side} {name}"])
            assert gap < 1e-3
        a, b = bone(skeleton, f"{side}_shin"), bone(skeleton, f"{side}_foot")
        d = np.linalg.norm(before[f"{side} hip"] - start.root + target - before[f"{side} ankle"])
        knee = np.degrees(np.arccos((d**2 - a**2 - b**2) / (2 * a * b)))
        assert angle(skeleton, out.pose, f"{side}_knee_flexion") == pytest.approx(knee, abs=0.1)
    legs = hinges_of(skeleton, "left_leg", "right_leg")
    others = [i for i in range(len(start.angles)) if i not in legs]
    assert np.array_equal(out.pose.angles[others], start.angles[others])


@pytest.mark.parametrize("target", [(0.0, 0.0, 1.5), (0.6, 0.0, 0.8), (0.0, 0.5, 0.9)])
def test_pelvis_with_support_stops_where_the_legs_end(skeleton, start, target) -> None:
    before = points(skeleton, start)
    out = apply(skeleton, start, PelvisWithSupport(target), FEET)
    after = points(skeleton, out.pose)
    for name in ("left foot", "right foot", "left ankle", "right ankle"):
        assert np.linalg.norm(after[name] - before[name]) < 1e-3
    assert out.left == pytest.approx(np.linalg.norm(out.pose.root - target))
    assert out.left > 0.05


def test_pelvis_turns_compose_about_the_vertical_first(skeleton, start) -> None:
    out = apply(skeleton, start, PelvisWithSupport(turn_left=20, lean_forward=15), FEET)
    forward, up = rot.rotate(out.pose.turn, X), rot.rotate(out.pose.turn, Z)
    assert np.degrees(np.arctan2(forward[1], forward[0])) == pytest.approx(20, abs=0.1)
    assert np.degrees(np.arccos(up[2])) == pytest.approx(15, abs=0.1)
    assert np.degrees(np.arctan2(up[1], up[0])) == pytest.approx(20, abs=0.5)
    low = apply(skeleton, start, PelvisWithSupport((-0.05, 0.0, 0.8)), FEET).pose
    left = apply(skeleton, low, PelvisWithSupport(lean_left=10), FEET)
    assert rot.rotate(left.pose.turn, Z)[1] == pytest.approx(np.sin(np.radians(10)), abs=1e-3)
    # nearly straight legs cannot lift one hip so far
    short = apply(skeleton, start, PelvisWithSupport(lean_left=25), FEET)
    assert "degrees short of its turn" in short.note


def test_a_planted_hand_stays_when_the_pelvis_moves(skeleton, start) -> None:
    leaning = apply(skeleton, start, EndEffectorMove("left hand", (0.4, 0.3, 1.2)), FEET).pose
    before = points(skeleton, leaning)["left hand"]
    move = PelvisWithSupport(tuple(leaning.root + np.array([0.05, 0.0, -0.1])))
    out = apply(skeleton, leaning, move, [*FEET, "left_hand"])
    assert np.linalg.norm(points(skeleton, out.pose)["left hand"] - before) < 1e-3
    assert out.left < 1e-3


def test_a_planted_pelvis_turns_and_stays(skeleton, start) -> None:
    low = apply(skeleton, start, PelvisWithSupport((-0.3, 0.0, 0.6)), FEET).pose
    move = PelvisWithSupport((0.3, 0.0, 0.9), lean_forward=20)
    out = apply(skeleton, low, move, [*FEET, "pelvis"])
    assert np.linalg.norm(out.pose.root - low.root) < 1e-3
    assert np.degrees(np.arccos(rot.rotate(out.pose.turn, Z)[2])) == pytest.approx(20, abs=0.5)
    assert "did not move" in out.note


def test_pelvis_with_support_needs_one(skeleton, start) -> None:
    out = apply(skeleton, start, PelvisWithSupport((0.0, 0.0, 0.8)), [])
    assert out.refused
    assert "pelvis_without_support" in out.note


def test_pelvis_without_support_moves_all_rigidly(skeleton, start) -> None:
    before = points(skeleton, start)
    target = start.root + np.array([0.3, -0.2, 0.5])
    out = apply(skeleton, start, PelvisWithoutSupport(tuple(target)), [])
    after = points(skeleton, out.pose)
    for name in POINTS:
        assert after[name] - before[name] == pytest.approx([0.3, -0.2, 0.5], abs=1e-12)
    assert np.array_equal(out.pose.angles, start.angles)
    # a quarter turn forward takes (x, y, z) from the pelvis to (z, y, -x)
    out = apply(skeleton, start, PelvisWithoutSupport(lean_forward=90), [])
    after = points(skeleton, out.pose)
    for name in POINTS:
        x, y, z = before[name] - start.root
        assert after[name] - start.root == pytest.approx([z, y, -x], abs=1e-9)
    out = apply(skeleton, start, PelvisWithoutSupport(), FEET)
    assert out.refused
    assert "pelvis_with_support" in out.note


@pytest.mark.parametrize(("side", "sign"), [("left", 1.0), ("right", -1.0)])
def test_roll_turns_palms_outward_and_moves_no_joint(skeleton, zero, side, sign) -> None:
    before = points(skeleton, zero)
    out = apply(skeleton, zero, Roll(f"{side} upper arm", 40), FEET)
    after = points(skeleton, out.pose)
    for name in ("shoulder", "elbow", "wrist"):  # a straight arm turns about the line of its joints
        assert after[f"{side} {name}"] == pytest.approx(before[f"{side} {name}"], abs=5e-3)
    assert after[f"{side} elbow"] == pytest.approx(before[f"{side} elbow"], abs=1e-12)
    front = rot.rotate(place(skeleton, out.pose)[1][skeleton.body(f"{side}_upper_arm")], X)
    assert front == pytest.approx(
        [np.cos(np.radians(40)), sign * np.sin(np.radians(40)), 0.0], abs=1e-9
    )
    out = apply(skeleton, zero, Roll(f"{side} forearm", 60), FEET)
    inward = rot.rotate(place(skeleton, out.pose)[1][skeleton.body(f"{side}_hand")], -sign * Y)
    assert inward == pytest.approx(
        [np.sin(np.radians(60)), -sign * np.cos(np.radians(60)), 0.0], abs=1e-9
    )
    assert points(skeleton, out.pose)[f"{side} wrist"] == pytest.approx(
        before[f"{side} wrist"], abs=1e-12
    )


def test_roll_stops_at_the_limit_and_spreads_over_the_spine(skeleton, zero) -> None:
    high = skeleton.limits[skeleton.hinge("left_shoulder_rotation"), 1]
    out = apply(skeleton, zero, Roll("left upper arm", 170), FEET)
    assert out.pose.angles[skeleton.hinge("left_shoulder_rotation")] == high
    assert f"{170 - np.degrees(high):.0f} degrees are left" in out.note
    out = apply(skeleton, zero, Roll("trunk", 20), FEET)
    turned = [i for i in hinges_of(skeleton, "trunk") if out.pose.angles[i] > 0]
    assert np.degrees(out.pose.angles[turned].sum()) == pytest.approx(20)
    forward = rot.rotate(place(skeleton, out.pose)[1][skeleton.body("chest")], X)
    assert np.degrees(np.arctan2(forward[1], forward[0])) == pytest.approx(20)


def test_what_cannot_be_rolled_is_refused(skeleton, zero) -> None:
    out = apply(skeleton, zero, Roll("left shin", 20), FEET)
    assert out.refused
    assert "cannot roll its left shin; it can roll head, trunk" in out.note


def test_the_camera_changes_no_pose(skeleton, zero) -> None:
    out = apply(skeleton, zero, Camera(90.0), FEET)
    assert out.pose is zero
    assert not out.refused


EXAMPLES = {
    "joint_move": JointMove("left knee", (0.1, 0.2, 0.3)),
    "end_effector_move": EndEffectorMove("right hand", (0.1, 0.2, 0.3), (1.0, 0.0, 0.0), "trunk"),
    "pelvis_with_support": PelvisWithSupport((0.0, 0.0, 0.7), 10.0),
    "pelvis_without_support": PelvisWithoutSupport(None, 0.0, 5.0, -90.0),
    "roll": Roll("trunk", -20.0),
    "camera": Camera(90.0, 20.0, "left hand"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_command_has_a_form_that_reads_back(name) -> None:
    command = EXAMPLES[name]
    raw = {k: list(v) if isinstance(v, tuple) else v for k, v in command.__dict__.items()}
    raw = {"command": name} | {k: v for k, v in raw.items() if v is not None}
    schema = {"type": "object", "properties": {"one": command_schema()}, "required": ["one"]}
    check_schema(schema)
    assert problems({"one": raw}, schema) == []
    assert read_command(raw) == command
    assert problems({"one": raw | {"path": "/etc/passwd"}}, schema) != []


def test_parts_of_commands() -> None:
    assert part_of(EXAMPLES["camera"]) == ""
    assert part_of(EXAMPLES["pelvis_with_support"]) == "pelvis"
    assert part_of(JointMove("crown", (0, 0, 2))) == "head"
    assert part_of(JointMove("neck", (0, 0, 2))) == "trunk"
    names = [part_of(JointMove(joint, (0, 0, 0))) for joint in JOINTS]
    names += [part_of(EndEffectorMove(effector, (0, 0, 0))) for effector in EFFECTORS]
    names += [part_of(Roll(bone_, 0)) for bone_ in BONES]
    assert set(names) == set(PARTS) - {"pelvis"}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"command": "rm"}, r"command is 'rm', must be one of joint_move, .*; rename it"),
        ({"command": "roll", "bone": "tail", "degrees": 1}, "bone is 'tail', must be one of head"),
        ({"command": "roll", "bone": "trunk"}, "roll has bone, must have the arguments of Roll"),
        (
            {"command": "joint_move", "joint": "neck", "target": [0, 0, float("nan")]},
            "target is .*, must be finite",
        ),
    ],
    ids=["unknown", "name", "missing", "nan"],
)
def test_bad_commands_are_named(raw, text) -> None:
    with pytest.raises(ArgumentError, match=text):
        read_command(raw)


def test_the_pose_goes_through_a_keyframe_unchanged(skeleton, start) -> None:
    from foveal.motion.director.pose import to_keyframe

    turn = rot.multiply(rot.from_axis_angle(Z, 0.4), rot.from_axis_angle(Y, 0.3))
    turn = rot.multiply(turn, rot.from_axis_angle(X, -0.2))
    pose = Pose(start.root + np.array([1.0, -0.5, 0.3]), turn, start.angles)
    key = to_keyframe(pose, skeleton, replace(Keyframe(0.5), description="turned"))
    assert (key.turn, key.tilt, key.lean) == pytest.approx((0.4, 0.3, 0.2))
    back = from_keyframe(key, skeleton)
    assert back.root == pytest.approx(pose.root, abs=1e-12)
    assert abs(np.dot(back.turn, pose.turn)) == pytest.approx(1.0, abs=1e-12)
    assert np.array_equal(back.angles, pose.angles)
