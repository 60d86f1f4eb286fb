"""Inverse kinematics: exact limits, pins, what is out of reach, and the same answer every time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import ArgumentError, MissingExtraError
from foveal.motion import Skeleton, humanoid
from foveal.motion.director.apply import pins_of
from foveal.motion.director.commands import Keyframe
from foveal.motion.director.ik import Goal, Solver, solver
from foveal.motion.director.parts import hinges_of
from foveal.motion.director.pose import Pose, from_keyframe, points, standing

FEET = ["left_foot", "right_foot"]
place = st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-1, 3))


@settings(max_examples=8, deadline=None)
@given(place)
def test_limits_hold_exactly_and_what_may_not_move_does_not(target) -> None:
    skeleton = humanoid()
    start = standing(skeleton)
    arm = hinges_of(skeleton, "left_arm")
    out = solver(skeleton).solve(start, Goal({"left hand": np.array(target)}), hinges=arm)
    low, high = skeleton.limits.T
    assert ((out.pose.angles >= low) & (out.pose.angles <= high)).all()
    rest = [i for i in range(len(low)) if i not in arm]
    assert np.array_equal(out.pose.angles[rest], start.angles[rest])
    assert np.array_equal(out.pose.root, start.root)
    at = points(skeleton, out.pose)["left hand"]
    assert out.left["left hand"] == pytest.approx(np.linalg.norm(at - target))


@settings(max_examples=10, deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.2, 1.6))
def test_pins_hold_to_a_millimeter_whatever_the_pelvis_is_asked(x, y, z) -> None:
    skeleton = humanoid()
    start = standing(skeleton)
    pins = pins_of(skeleton, start, FEET)
    legs = hinges_of(skeleton, "left_leg", "right_leg")
    goal = Goal(pelvis=(np.array([x, y, z]), start.turn))
    out = solver(skeleton).solve(start, goal, hinges=legs, pins=pins)
    assert out.slipped < 1e-3
    before, after = points(skeleton, start), points(skeleton, out.pose)
    for name in ("left toes", "right toes", "left ankle", "right ankle"):
        assert np.linalg.norm(after[name] - before[name]) < 2e-3  # the foot does not turn either


def test_the_same_question_has_the_same_answer(skeleton, start) -> None:
    goal = Goal({"right hand": np.array([0.3, -0.1, 1.5])})
    arm = hinges_of(skeleton, "right_arm")
    first = Solver(skeleton).solve(start, goal, hinges=arm).pose
    second = Solver(skeleton).solve(start, goal, hinges=arm).pose
    assert first.state == second.state
    assert np.array_equal(first.angles, second.angles)


def test_a_straight_arm_can_be_drawn_in_along_its_own_line(skeleton) -> None:
    """The gradient at a straight elbow is zero: without a nudge nothing would move."""
    straight = from_keyframe(Keyframe(0.0), skeleton)
    at = points(skeleton, straight)
    away = at["left hand"] - at["left shoulder"]
    target = at["left shoulder"] + 0.6 * away
    arm = [skeleton.hinge("left_elbow_flexion"), *hinges_of(skeleton, "left_arm")[:5]]
    out = solver(skeleton).solve(straight, Goal({"left hand": target}), hinges=sorted(set(arm)))
    assert out.worst < 1e-3


def test_what_is_reached_is_near_where_it_was(skeleton, start) -> None:
    """A target that is there already moves nothing."""
    at = points(skeleton, start)["left hand"]
    arm = hinges_of(skeleton, "left_arm")
    out = solver(skeleton).solve(start, Goal({"left hand": at}), hinges=arm)
    assert out.pose.angles == pytest.approx(start.angles, abs=1e-6)


def test_a_figure_of_another_size_has_its_own_reach() -> None:
    small = humanoid(height=0.85)
    start = standing(small)
    arm = hinges_of(small, "right_arm")
    near = solver(small).solve(start, Goal({"right hand": np.array([0.2, -0.1, 0.7])}), hinges=arm)
    assert near.worst < 1e-4
    far = solver(small).solve(start, Goal({"right hand": np.array([0.6, -0.1, 0.7])}), hinges=arm)
    assert far.worst > 0.2


def test_targets_that_are_not_finite_are_an_error(skeleton, start) -> None:
    arm = hinges_of(skeleton, "right_arm")
    goal = Goal({"right hand": np.array([np.nan, 0.0, 1.0])})
    with pytest.raises(ArgumentError, match=r"right hand is \[nan, 0.0, 1.0\], must be finite"):
        solver(skeleton).solve(start, goal, hinges=arm)


def test_without_mink_the_extra_is_named(skeleton: Skeleton, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "mink", None)
    with pytest.raises(MissingExtraError, match=r"mink is not installed; .*foveal\[motion\]"):
        Solver(skeleton)


def test_poses_are_read_only(start: Pose) -> None:
    with pytest.raises(ValueError, match="read-only"):
        start.angles[0] = 1.0
