"""What an instruction asks for: actions, styles, sides, ways, numbers; and what it cannot."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError, ProviderError
from foveal.motion.between import in_between
from foveal.motion.contacts import contact_plan
from foveal.motion.director.commands import FootTarget, Keyframe
from foveal.motion.director.library.keys import (
    Place,
    foot,
    key,
    mirrored,
    moved,
    placed,
    rolled,
)
from foveal.motion.director.library.reach import Hand, chest_pose, reach
from foveal.motion.director.providers.grammar import parse
from foveal.motion.inbetween import resolve
from foveal.motion.metrics import foot_skate, ground_penetration
from foveal.motion.posecodes.actions import action_facts
from foveal.motion.skeleton import humanoid


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("walk proudly to the left, then bow", [("proud walk", "right"), ("bow", "right")]),
        ("bow and then wave with the left hand", [("bow", "right"), ("wave", "left")]),
        ("sits down, stands and waves twice", [("sit", "right"), ("stand", "right"),
                                               ("wave", "right"), ("wave", "right")]),
        ("picks up a coin from the floor", [("pick up from floor", "right")]),
        ("turn the steering wheel", [("turn steering wheel", "right")]),
        ("turn left", [("turn", "left")]),
        ("turn around", [("turn in place", "left")]),
        ("front kick with the left leg", [("front kick", "left")]),
        ("kick", [("kick", "right")]),
        ("side step to the left", [("side step", "left")]),
        ("walking backwards", [("backward walk", "right")]),
        ("walk like an old man", [("old walk", "right")]),
        ("walk up the stairs", [("stairs", "right")]),
        ("climb the box and wave", [("step up 30 cm", "right"), ("wave", "right")]),
        ("step up the 12 cm box", [("step up 12 cm", "right")]),
        ("lying down on the bed", [("lie on bed", "right")]),
        ("drinking a glass of water", [("drink", "right")]),
        ("stand on one leg", [("balance on one leg", "right")]),
        ("take two steps walking", [("walk", "right")]),
        ("jump 3 times", [("jump", "right")] * 3),
    ],
)  # fmt: skip
def test_what_is_said_is_what_is_asked(words: str, asked: list[tuple[str, str]]) -> None:
    assert [(one.name, one.side) for one in parse(words)] == asked


def test_ways_and_numbers_go_with_their_action() -> None:
    walk, turn, hop = parse("walk six steps to the right, turn 45 degrees, hop four times")
    assert (walk.steps, walk.heading) == (6, -90.0)
    assert turn.degrees == 45.0
    assert (hop.name, hop.steps) == ("hop", 4)
    assert parse("turn around")[0].degrees == 180.0
    assert [one.name for one in parse("sit", {"seat"})] == ["sit on chair"]


@pytest.mark.parametrize(
    ("words", "unknown"),
    [("juggle", "juggle"), ("walk and juggle", "juggle"), ("wave 7", "7"),
     ("moonwalk proudly", "moonwalk")],
)  # fmt: skip
def test_an_unknown_word_is_named_with_what_is_known(words: str, unknown: str) -> None:
    with pytest.raises(ProviderError) as caught:
        parse(words)
    text = str(caught.value)
    assert f"has the unknown word {unknown!r}" in text
    for known in ("walk", "tennis serve", "stepping stones", "proudly"):
        assert known in text


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ArgumentError, match="instruction is ' ', must be words"):
        parse(" ")
    with pytest.raises(ProviderError, match="style 'proud' .* must go with a walk"):
        parse("bow proudly")
    with pytest.raises(ProviderError, match=r"asks for 99 times .* must be in \[1, 24\]"):
        parse("wave 99 times")
    with pytest.raises(ProviderError, match="must name one of the actions"):
        parse("to the left")
    with pytest.raises(ProviderError, match="scene has floor, must have a box called 'seat'"):
        motion.Scripted(scene={}).plan("sit on the chair")
    with pytest.raises(ArgumentError, match="keyframes has 1 keyframes, must have at least 2"):
        in_between([Keyframe(0.0)])
    with pytest.raises(ArgumentError, match="in_between: fps is 500, must be in"):
        in_between([Keyframe(0.0), Keyframe(1.0)], fps=500)


def test_actions_follow_each_other_where_the_last_one_ended() -> None:
    """A walk to the left ends facing left; from there four steps more go on to the left."""
    one = motion.generate("walk to the left", track="kinematic")
    two = motion.generate("walk to the left, then walk four steps", track="kinematic")
    before, after = one.root_positions[-1], two.root_positions[-1]
    assert after[1] - before[1] > 1.2
    assert abs(after[0] - before[0]) < 0.05
    assert foot_skate(two) < 0.003


@pytest.mark.parametrize("words", ["sit, then walk", "crawl, then wave", "lie down, then bow"])
def test_who_sits_lies_or_crawls_gets_up_first(words: str) -> None:
    clip = motion.generate(words, track="kinematic")
    assert clip.root_positions[-1, 2] > 0.88
    assert ground_penetration(clip) < 0.02
    assert foot_skate(clip) < 0.006


def test_physics_gets_the_careful_form_and_kinematics_the_natural_one() -> None:
    careful, natural = motion.Scripted(careful=True).plan("walk"), motion.Scripted().plan("walk")
    assert sum(k.dt for k in careful.keyframes) > sum(k.dt for k in natural.keyframes) / 2
    pace = [
        (plan.keyframes[-1].pelvis[0]) / sum(key.dt for key in plan.keyframes)
        for plan in (careful, natural)
    ]
    assert pace[0] < 0.35
    assert pace[1] > 0.6
    assert motion.Scripted(careful=True).plan("bow") == motion.Scripted().plan("bow")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("at", [(0.4, 0.1, 0.1), (0.2, 0.3, 0.5), (0.1, 0.4, -0.2)])
def test_a_palm_goes_where_it_is_asked(side: str, at: tuple[float, float, float]) -> None:
    body = humanoid()
    name = "lh" if side == "left" else "rh"
    pose = resolve([key(0.0, "", tilt=20, turn=30, trunk=(10, 5, 8), **{name: Hand(at)})], body)  # type: ignore[arg-type]
    local = body.local_rotations(pose.root_rotations, pose.angles)
    places, world = body.forward(pose.root_positions, local)
    from foveal.motion import rotations as rot

    hand, chest = body.body(f"{side}_hand"), body.body("chest")
    palm = places[0, hand] + rot.rotate(world[0, hand], np.array([0.0, 0.0, -0.044]))
    found = rot.rotate(rot.conjugate(world[0, chest]), palm - places[0, chest])
    wanted = np.array(at) * [1, 1 if side == "left" else -1, 1]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_palm_out_of_reach_comes_as_near_as_it_can() -> None:
    still = chest_pose((0.0, 0.0, 0.0), 0.0, 0.0, 0.0, {})
    angles = reach("left", Hand((2.0, 0.18, 0.126)), still)
    assert angles["left_elbow_flexion"] < math.radians(8)
    assert angles["left_shoulder_flexion"] == pytest.approx(math.radians(90), abs=0.1)


def test_a_foot_rolls_over_its_ball_and_its_heel() -> None:
    """By hand: tiptoe at 30 degrees puts the ankle 0.125 sin 30 - 0.066 (1 - cos 30) higher."""
    up = rolled(foot(), -30.0)
    s, c = 0.5, math.sqrt(0.75)
    assert up.position[2] == pytest.approx(0.125 * s - 0.066 * (1 - c))
    assert up.position[0] == pytest.approx(0.125 * (1 - c) + 0.066 * s)
    heel = rolled(foot(), 20.0)
    assert heel.position[2] > 0
    assert heel.position[0] < 0


def test_mirroring_twice_and_moving_there_and_back_change_nothing() -> None:
    plan = motion.Scripted().plan("tennis serve")
    for k in plan.keyframes:
        again = mirrored(mirrored(k))
        assert again.to_dict() == k.to_dict()
    quarter = Place(1.0, 2.0, 0.0, math.pi / 2)
    there = moved(key(0.0, "", left=placed("left", 0.3, 0), right=placed("right", 0.3, 0)), quarter)
    assert there.pelvis == pytest.approx((1.0, 2.0, -0.01))
    # 0.3 m ahead is along +y; the left foot is to the left of that, at -x
    assert there.feet["left"].position[:2] == pytest.approx((1.0 - 0.09, 2.3 - 0.09))
    assert there.feet["left"].yaw == pytest.approx(math.pi / 2)
    assert Place().after(there).y == pytest.approx(2.3)


def test_a_kneeling_leg_is_solved_back_to_itself() -> None:
    """The hip of a figure on its knees is below the plane of the stretched foot."""
    body = humanoid()
    names = {"hip_flexion": 80.0, "knee_flexion": 98.0, "ankle_flexion": -54.0}
    angles = {
        f"{side}_{name}": math.radians(v) for side in ("left", "right") for name, v in names.items()
    }
    pose = resolve([Keyframe(0.0, angles=angles, tilt=math.radians(78))], body)
    from foveal.motion.legs import leg_hinges, solve_leg

    local = body.local_rotations(pose.root_rotations, pose.angles)
    places, world = body.forward(pose.root_positions, local)
    for side in ("left", "right"):
        ankle = body.body(f"{side}_foot")
        found = solve_leg(
            body, side, pose.root_positions, pose.root_rotations, places[:, ankle], world[:, ankle]
        )
        columns = leg_hinges(body, side)
        np.testing.assert_allclose(found[0], pose.angles[0, columns], atol=1e-9)


def test_a_foot_that_travels_between_keyframes_is_lifted() -> None:
    ahead = FootTarget((0.3, 0.0, 0.0))
    keys = [
        Keyframe(0.0, feet={"left": FootTarget(), "right": FootTarget()}),
        Keyframe(0.8, feet={"left": FootTarget(), "right": ahead},
                 contacts=frozenset({"left_foot"}), pelvis=(0.1, 0.0, -0.05)),
    ]  # fmt: skip
    clip = in_between(keys)
    soles = clip.skeleton.sole_points(clip.positions, clip.world_rotations, "right")
    assert soles[..., 2].min(axis=1).max() > 0.03
    assert clip.seconds == pytest.approx(0.8)
    assert list(clip.keyframe_times) == pytest.approx([0.0, 0.8])


def test_a_frame_after_the_last_keyframe_has_its_contacts() -> None:
    """At 30 frames a second 1.02 s end in a frame at 1.033 s, whose feet are not in the air."""
    keys = [Keyframe(0.0), Keyframe(1.02)]
    assert contact_plan(keys, np.arange(32) / 30)[-1].all()


def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[3] / "docs" / "motion" / "actions.md"
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, str(page), "exec"), names)
    assert "5 of 5 facts hold" in capsys.readouterr().out
    text = page.read_text()
    for name in action_facts():
        assert name.removesuffix(" walk").removeprefix("in-between ") in text
