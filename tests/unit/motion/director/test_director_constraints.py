"""What the user fixes: own keyframes exactly, durations, paths and cycles; and loops that close."""

from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.director.apply import apply
from foveal.motion.director.chat import CallbackModel
from foveal.motion.director.commands import Keyframe
from foveal.motion.director.commands_pose import EndEffectorMove, PelvisWithSupport
from foveal.motion.director.constraints import Constraints, fit_seconds
from foveal.motion.director.cycle import close, repeat
from foveal.motion.director.direction import contact_plan, key_times
from foveal.motion.director.loop import direct
from foveal.motion.director.pose import from_keyframe, heading, moved, points, to_keyframe
from foveal.motion.director.scene_facts import load_scene
from foveal.motion.posecodes import evaluate, parse

FLOOR = load_scene(None)
FEET = frozenset({"left_foot", "right_foot"})


class Swinging:
    """Designs keyframes that swing the right hand before the chest, each of half a second."""

    def __init__(self, count: int, **last) -> None:
        self.count, self.last, self.heard = count, last, []

    def __call__(self, messages, pictures, schema):
        text = messages[1]["content"]
        if "Keyframe Designer" not in messages[0]["content"]:
            out = -0.35 if "out" in text.split("## The pose to make")[1][:20] else -0.05
            move = {
                "command": "end_effector_move", "effector": "right hand", "target": [0.4, out, 1.3],
            }  # fmt: skip
            return {"commands": [move], "done": ["right_arm"]}
        self.heard.append(text)
        number = len(self.heard)
        key = {
            "description": f"hand {'out' if number % 2 else 'in'} ({number})",
            "parts": [{"part": "right_arm", "pose": "before the chest"}],
            "dt": 0.5, "contacts": ["left_foot", "right_foot"], "facts": [],
            "finished": number == self.count,
        }  # fmt: skip
        return key | self.last


def run(model, skeleton, small, **options):
    return direct(
        "swing the hand", CallbackModel(model), skeleton=skeleton, scene=FLOOR, limits=small,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def own(skeleton, start) -> Keyframe:
    """The user's own pose: both hands up, crouched a little, turned."""
    pose = apply(skeleton, start, PelvisWithSupport((-0.03, 0.0, 0.82), turn_left=10), FEET).pose
    for side, y in (("left", 0.35), ("right", -0.25)):
        pose = apply(skeleton, pose, EndEffectorMove(f"{side} hand", (0.1, y, 1.6)), FEET).pose
    return replace(to_keyframe(pose, skeleton, Keyframe(0.0)), description="both hands up")


def test_the_users_keyframe_stands_to_the_last_digit(skeleton, small, own) -> None:
    model = Swinging(5)
    constraints = Constraints(keyframes=((1.2, own),))
    clip = motion.generate(
        "swing the hand", provider=CallbackModel(model), track="kinematic", limits=small,
        constraints=constraints, fps=30,
    )  # fmt: skip
    pose = from_keyframe(own, skeleton)
    frame = round(1.2 * 30)
    assert np.array_equal(clip.angles[frame], pose.angles)
    assert np.array_equal(clip.root_positions[frame], pose.root)
    assert abs(np.dot(clip.root_rotations[frame], pose.turn)) == pytest.approx(1, abs=1e-12)
    assert "At t = 1.20 s the pose is fixed: both hands up." in model.heard[0]
    assert any("both hands up (fixed)" in text for text in model.heard)
    # it is led into: no jump of more than what a quick arm does in a frame
    assert np.abs(np.diff(clip.angles, axis=0)).max() < 16.0 / 30
    keys = clip.receipt.details["direction"]["kept"]
    assert clip.keyframe_times[keys[0]] == pytest.approx(1.2)


def test_a_users_keyframe_after_the_end_is_still_reached(skeleton, small, own) -> None:
    direction = run(Swinging(1), skeleton, small, constraints=Constraints(keyframes=((13.0, own),)))
    assert direction.times[-1] == pytest.approx(13.0)
    assert direction.kept == (len(direction.keyframes) - 1,)
    assert max(key.dt for key in direction.keyframes) <= 5.0
    assert (
        from_keyframe(direction.keyframes[-1], skeleton).state == from_keyframe(own, skeleton).state
    )


def test_a_duration_is_kept(skeleton, small) -> None:
    direction = run(Swinging(4), skeleton, small, constraints=Constraints(seconds=3.0))
    assert direction.times[-1] == pytest.approx(3.0)
    assert [key.dt for key in direction.keyframes[1:]] == pytest.approx([0.75] * 4)
    assert direction.complete


def test_a_duration_that_cannot_be_kept_is_marked(skeleton, small) -> None:
    direction = run(Swinging(2), skeleton, small, constraints=Constraints(seconds=60.0))
    assert any("it takes 10.00 s and not 60.00 s" in mark for mark in direction.marks)


def test_times_before_a_kept_keyframe_stay() -> None:
    plan = [Keyframe(0.0), Keyframe(1.0), Keyframe(1.0), Keyframe(1.0)]
    assert [k.dt for k in fit_seconds(plan, 4.0, [1])] == [0.0, 1.0, 1.5, 1.5]
    assert fit_seconds(plan, None, []) == tuple(plan)


def test_the_pelvis_keeps_to_a_path_in_reach(skeleton, small) -> None:
    path = ((0.0, 0.5, 0.2), (2.0, 0.58, 0.2))
    direction = run(Swinging(4), skeleton, small, constraints=Constraints(path=path))
    for time, key in zip(direction.times, direction.keyframes, strict=True):
        root = from_keyframe(key, skeleton).root
        assert root[:2] == pytest.approx([0.5 + 0.04 * time, 0.2], abs=2e-3)
    first, last = (
        points(skeleton, from_keyframe(direction.keyframes[i], skeleton)) for i in (0, -1)
    )
    assert np.linalg.norm(first["left foot"] - last["left foot"]) < 2e-3
    assert first["left foot"][1] == pytest.approx(0.2 + first["left hip"][1] - 0.2, abs=0.02)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"seconds": 0.0}, r"seconds is 0.0, must be in \[0.05, 120.0\]; split it"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"cycles": 0}, r"cycles is 0, must be in \[1, 50\]"),
        ({"cycles": 2, "seconds": 3.0}, "cycles is 2, must be 1 with seconds or keyframes"),
        ({"keyframes": ((0.0, Keyframe(0.1)),)}, "keyframes has the time 0.0, must rise"),
        (
            {"keyframes": ((1.0, Keyframe(0.1)), (1.01, Keyframe(0.1)))},
            "keyframes has the time 1.01",
        ),
        ({"keyframes": ((4.0, Keyframe(0.1)),), "seconds": 3.0}, "be at most 3.0 s"),
        ({"path": ((0.0, 1.0, 1.0),)}, "path is .*, must hold at least two finite"),
        ({"path": ((0.0, 1.0, 1.0), (1.0, float("inf"), 0.0))}, "must hold at least two finite"),
    ],
    ids=["zero", "nan", "cycles", "both", "start", "close", "late", "one", "inf"],
)
def test_wrong_constraints_are_named(given, text) -> None:
    with pytest.raises(ArgumentError, match=text):
        Constraints(**given)


def test_a_users_keyframe_that_is_not_valid_is_named_before_anything_is_asked(
    skeleton, small
) -> None:
    model = Swinging(2)
    wrong = Constraints(keyframes=((1.0, Keyframe(0.1, angles={"left_elbow_flexion": 9.0})),))
    with pytest.raises(ArgumentError, match=r"angles\['left_elbow_flexion'\] is 9.000"):
        run(model, skeleton, small, constraints=wrong)
    assert model.heard == []


def test_a_cycle_is_closed_and_repeated(skeleton, small) -> None:
    once = run(Swinging(2, cyclic=True, starts_cycle=True), skeleton, small)
    assert once.loop == (1, 3)
    assert len(once.keyframes) == 4
    first, last = (from_keyframe(once.keyframes[i], skeleton) for i in once.loop)
    assert np.array_equal(first.angles, last.angles)
    assert "the cycle was closed by a keyframe" in once.notes
    thrice = run(
        Swinging(2, cyclic=True, starts_cycle=True), skeleton, small,
        constraints=Constraints(cycles=3),
    )  # fmt: skip
    assert len(thrice.keyframes) == 4 + 2 * 2
    for i in (3, 5, 7):
        assert from_keyframe(thrice.keyframes[i], skeleton).angles == pytest.approx(first.angles)
    assert [key.finished for key in thrice.keyframes] == [False] * 7 + [True]


def plan_of(skeleton, poses, bearing, dt: float = 0.4):
    return [
        to_keyframe(pose, skeleton, Keyframe(dt if i else 0.0, contacts=held & FEET))
        for i, (pose, held) in enumerate(zip(poses, bearing, strict=True))
    ]


def test_a_cycle_that_travels_keeps_its_stance_foot(skeleton, start) -> None:
    """The pose comes back after a step; the planted foot decides where."""
    ahead = apply(skeleton, start, EndEffectorMove("left foot", (0.3, 0.1, 0.05)), ["right_foot"])
    poses = [start, ahead.pose, moved(start, np.array([0.25, 0.0, 0.0]))]
    bearing = [FEET, frozenset({"right_foot"}), FEET]
    closed = close(plan_of(skeleton, poses, bearing), poses, bearing, 0, skeleton)
    assert not closed.added
    assert closed.loop == (0, 2)
    before, after = (points(skeleton, p) for p in (poses[2], closed.poses[-1]))
    assert np.linalg.norm(after["left foot"] - before["left foot"]) < 1e-9
    twice = repeat(closed, 3, skeleton)
    assert [round(float(p.root[0]), 6) for p in twice.poses[::2]] == [0.0, 0.25, 0.5, 0.75]
    assert twice.bearing == (FEET, *[frozenset({"right_foot"}), FEET] * 3)


def test_a_cycle_that_turns_goes_on_turning(skeleton, start) -> None:
    quarter = rot.from_axis_angle(np.array([0.0, 0.0, 1.0]), np.array(np.pi / 2))
    poses = [start, moved(start, np.array([0.2, 0.1, 0.1])), moved(start, np.zeros(3), quarter)]
    bearing = [FEET, frozenset(), frozenset()]
    closed = close(plan_of(skeleton, poses, bearing), poses, bearing, 0, skeleton)
    four = repeat(closed, 4, skeleton)
    turns = [round(float(np.degrees(heading(p))), 6) % 360 for p in four.poses[::2]]
    assert turns == [0, 90, 180, 270, 0]
    assert four.poses[-1].root == pytest.approx(start.root, abs=1e-9)


def test_a_last_pose_that_is_the_first_again_closes_the_cycle_itself(skeleton, small) -> None:
    direction = run(Swinging(3, cyclic=True, starts_cycle=True), skeleton, small)
    assert direction.loop == (1, 3)
    assert len(direction.keyframes) == 4
    assert "the cycle was closed" in direction.notes
    first, last = (from_keyframe(direction.keyframes[i], skeleton) for i in (1, 3))
    assert np.array_equal(first.angles, last.angles)


def test_closed_cycles_loop_as_the_facts_say(skeleton, start) -> None:
    up = apply(skeleton, start, EndEffectorMove("left hand", (0.3, 0.3, 1.5)), FEET).pose
    poses = [start, up, apply(skeleton, up, EndEffectorMove("left hand", (0.3, 0, 1.2)), FEET).pose]
    bearing = [FEET] * 3
    closed = close(plan_of(skeleton, poses, bearing), poses, bearing, 0, skeleton)
    assert closed.added
    from foveal.motion.director.planning import preview

    clip = preview(closed.keyframes, skeleton)
    assert evaluate(parse("loops"), clip).truth


def test_cycles_need_two_keys(skeleton, start) -> None:
    with pytest.raises(ArgumentError, match=r"close: first is 0, must be in \[0, -1\]"):
        close([Keyframe(0.0)], [start], [FEET], 0, skeleton)
    poses, bearing = [start, start, start], [FEET] * 3
    closed = close(plan_of(skeleton, poses, bearing), poses, bearing, 0, skeleton)
    with pytest.raises(ArgumentError, match="repeat: cycles is 0, must be >= 1"):
        repeat(closed, 0, skeleton)


def test_the_contact_plan_joins_what_stays(skeleton, start) -> None:
    poses = [start, start, moved(start, np.array([0.0, 0.0, 0.3])), start, start]
    right = frozenset({"right_foot"})
    bearing = [FEET, right, frozenset(), FEET, FEET]
    plan = contact_plan(plan_of(skeleton, poses, bearing), poses, bearing, skeleton)
    told = [(c.part, round(c.start, 3), round(c.end, 3)) for c in plan]
    assert told == [
        ("left_foot", 0.0, 0.0),
        ("right_foot", 0.0, 0.4),
        ("left_foot", 1.2, 1.6),
        ("right_foot", 1.2, 1.6),
    ]
    assert plan[2].position == pytest.approx(tuple(points(skeleton, start)["left foot"]))
    assert key_times(plan_of(skeleton, poses, bearing)) == pytest.approx((0, 0.4, 0.8, 1.2, 1.6))
    with pytest.raises(ArgumentError, match="bearing has 4, must have 5 as keyframes"):
        contact_plan(plan_of(skeleton, poses, bearing), poses, bearing[:4], skeleton)
