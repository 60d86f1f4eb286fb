"""Designer and Animator in turn: two actions by models that read the prompt, and models that fail.

Every run ends: with what was asked, with an error that says why there is nothing, or with the best
so far and marks that say what is missing.
"""

import json

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError, ProviderError, UnsupportedError
from foveal.motion.director.animator import ADJUSTMENTS
from foveal.motion.director.chat import Budget, CallbackModel
from foveal.motion.director.constraints import Constraints
from foveal.motion.director.loop import Limits, direct
from foveal.motion.director.planning import known_action
from foveal.motion.director.pose import from_keyframe, points
from foveal.motion.director.scene_facts import load_scene

BOX = {"box": {"box": [[0.2, -0.4, 0.0], [0.9, 0.4, 0.12]]}}
SEAT = {"seat": {"box": [[-0.75, -0.3, 0.0], [-0.2, 0.3, 0.45]]}}
FLOOR = load_scene(None)


def run(model, skeleton, small, words="wave with the right hand", **options):
    options = {"scene": FLOOR, "limits": small} | options
    return direct(words, CallbackModel(model), skeleton=skeleton, **options)


def designed(**changes) -> dict:
    """Return one keyframe: the right hand before the chest."""
    base = {
        "description": "right hand before the chest",
        "parts": [{"part": "right_arm", "pose": "before the chest"}],
        "dt": 0.5,
        "contacts": ["left_foot", "right_foot"],
        "facts": ["right hand in front of chest by 0.2 m"],
        "finished": True,
    }
    return base | changes


def reach(*target: float, effector: str = "right hand", done=("right_arm",)) -> dict:
    move = {"command": "end_effector_move", "effector": effector, "target": list(target)}
    return {"commands": [move], "done": list(done)}


GOOD = reach(0.4, -0.1, 1.3)


class Fixed:
    """Says the same to the Designer's questions in turn, and the same to every Animator's."""

    def __init__(self, keys, acts) -> None:
        self.keys = keys if isinstance(keys, list) else [keys]
        self.acts = acts if isinstance(acts, list) else [acts]
        self.designs, self.animations = 0, 0

    def __call__(self, messages, pictures, schema):
        if "Keyframe Designer" in messages[0]["content"]:
            self.designs += 1
            return self._next(self.keys, self.designs)
        self.animations += 1
        return self._next(self.acts, self.animations)

    @staticmethod
    def _next(answers, count):
        answer = answers[min(count, len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_competent_model_waves_from_the_prompt_alone(wave, small) -> None:
    clip = motion.generate(
        "wave with the right hand", provider=CallbackModel(wave), track="kinematic", limits=small
    )
    details = clip.receipt.details
    assert details["complete"]
    assert details["marks"] == []
    assert details["action"] == "wave"
    assert all(fact["truth"] for fact in details["facts"])
    assert len(clip.keyframe_times) == 7
    direction = details["direction"]
    assert direction["cost"]["calls"] == len(wave.asked) == 12
    assert [e["role"] for e in direction["transcript"][:3]] == ["designer", "animator", "designer"]
    assert [e["keyframe"] for e in direction["transcript"][:4]] == [1, 1, 2, 2]
    assert all(len(prompt.pictures) == 1 for prompt in wave.asked)
    assert [c["part"] for c in direction["contacts"]] == ["left_foot", "right_foot"]
    json.dumps(direction, allow_nan=False)


def test_a_competent_model_sits_down(sit, small) -> None:
    clip = motion.generate(
        "sit down on the chair", provider=CallbackModel(sit), track="kinematic", limits=small,
        scene=SEAT,
    )  # fmt: skip
    details = clip.receipt.details
    assert details["action"] == "sit on chair"
    assert details["complete"], details["marks"]
    contacts = {c["part"]: c for c in details["direction"]["contacts"]}
    assert contacts["pelvis"]["start"] == pytest.approx(1.6)
    assert contacts["pelvis"]["level"] == 0.45
    assert contacts["left_foot"]["start"] == 0.0


def test_a_step_travels_by_its_stance_foot(step, small) -> None:
    """No walking on the spot, no sliding: what is planted stays, the body goes ahead."""
    clip = motion.generate(
        "take a step", provider=CallbackModel(step), track="kinematic", limits=small
    )
    details = clip.receipt.details
    assert details["complete"], details["marks"]
    told = [
        (c["part"], round(c["start"], 3), round(c["end"], 3))
        for c in details["direction"]["contacts"]
    ]
    assert told == [
        ("left_foot", 0.0, 2.0), ("right_foot", 0.0, 0.5),
        ("right_foot", 1.5, 3.5), ("left_foot", 3.0, 3.5),
    ]  # fmt: skip
    scores = motion.score(clip)
    assert scores["foot_skate"] < 1e-3
    assert scores["ground_penetration"] < 1e-3
    for name in ("pelvis", "left_foot", "right_foot"):
        x = clip.positions[:, clip.skeleton.body(name), 0]
        assert x[-1] - x[0] == pytest.approx(0.3, abs=0.03)


def test_the_designer_is_shown_the_pose_that_came_out(wave, skeleton, small) -> None:
    direction = run(wave, skeleton, small)
    prompts = [p for p in wave.asked if p.designer]
    for number, prompt in enumerate(prompts):
        pose = from_keyframe(direction.keyframes[number], skeleton)
        for name in ("right hand", "head", "pelvis"):
            assert prompt.at(name) == pytest.approx(
                np.round(points(skeleton, pose)[name], 2), abs=0.011
            )
        assert prompt.keys == number


def test_any_language_goes_through_to_the_model(skeleton, small) -> None:
    words = "双手叉腰, 然后挥手 — ça va?"
    heard = []

    def model(messages, pictures, schema):
        heard.append(messages[1]["content"])
        return designed() if "Keyframe Designer" in messages[0]["content"] else GOOD

    direction = run(model, skeleton, small, words)
    assert direction.complete
    assert all(words in text for text in heard)
    assert direction.instruction == words


def test_a_lie_that_it_is_done_is_measured(skeleton, small) -> None:
    lazy = Fixed(designed(), {"commands": [], "done": ["right_arm"]})
    direction = run(lazy, skeleton, small)
    assert not direction.complete
    assert "keyframe 1: fact fails: right hand in front of chest by 0.2 m" in direction.marks
    assert lazy.animations == 2  # told once that it is not done, not asked for ever
    assert len(direction.keyframes) == 2


def test_the_animator_is_told_what_fails(skeleton, small) -> None:
    heard = []

    def model(messages, pictures, schema):
        if "Keyframe Designer" in messages[0]["content"]:
            return designed()
        heard.append(messages[1]["content"])
        return GOOD if len(heard) == 2 else {"commands": [], "done": ["right_arm"]}

    assert run(model, skeleton, small).complete
    assert "FAILS, by" in heard[0]
    assert "not done: right hand in front of chest by 0.2 m: FAILS" in heard[1]
    assert len(heard) == 2


def test_a_model_that_swings_to_and_fro_is_stopped_at_the_best(skeleton, small) -> None:
    """The hand goes from one wrong place to another: neither is 0.55 m before the chest."""
    far, near = reach(0.1, -0.6, 1.2, done=()), reach(0.42, -0.2, 1.3, done=())
    key = designed(facts=["right hand in front of chest by 0.55 m"])
    model = Fixed(key, [far, near, far, near, far, near, far, near])
    direction = run(model, skeleton, small)
    assert model.animations <= 4
    assert any("right_arm swings back and forth" in mark for mark in direction.marks)
    hand = points(skeleton, from_keyframe(direction.keyframes[-1], skeleton))["right hand"]
    assert hand == pytest.approx([0.42, -0.2, 1.3], abs=1e-3)


def test_a_part_has_five_adjustments_and_no_more(skeleton, small) -> None:
    answers = [reach(0.1 + 0.05 * i, -0.5, 1.0 + 0.08 * i, done=()) for i in range(20)]
    key = designed(facts=["right hand above crown by 0.5 m"])
    model = Fixed(key, answers)
    direction = run(model, skeleton, small)
    assert model.animations == ADJUSTMENTS
    assert any("fact fails" in mark for mark in direction.marks)
    many = {"commands": answers[0]["commands"] * 3 + answers[9]["commands"] * 3, "done": []}
    again = Fixed(key, many)
    run(again, skeleton, small)
    assert again.animations <= 2


def test_an_animator_that_never_ends_is_ended(skeleton) -> None:
    camera = {"commands": [{"command": "camera", "azimuth": 90}], "done": []}
    model = Fixed(designed(), camera)
    direction = run(model, skeleton, Limits(keyframes=2, exchanges=6, picture_size=256))
    assert model.animations <= 6
    assert not direction.complete
    assert any("not done" in mark or "no command" in mark for mark in direction.marks)


def test_a_designer_that_never_ends_is_ended(skeleton) -> None:
    keys = [designed(description=f"pose {i}", finished=False, facts=[]) for i in range(9)]
    model = Fixed(keys, {"commands": [], "done": ["right_arm"]})
    direction = run(model, skeleton, Limits(keyframes=4, exchanges=3, picture_size=256))
    assert model.designs == 4
    assert "the designer was not finished after 4 keyframes" in direction.marks
    assert len(direction.keyframes) == 5


def test_a_designer_that_repeats_itself_is_stopped(skeleton, small) -> None:
    model = Fixed(designed(finished=False), GOOD)
    direction = run(model, skeleton, small)
    assert model.designs == 3
    assert "the designer gave the same keyframe 3 times; it was stopped" in direction.marks


def test_a_claim_to_be_finished_is_measured_and_refused_twice(skeleton, small) -> None:
    heard = []

    def model(messages, pictures, schema):
        if "Keyframe Designer" not in messages[0]["content"]:
            return GOOD
        heard.append(messages[1]["content"])
        return designed(description=f"try {len(heard)}")

    asked = []

    def judge(keyframes):
        asked.append(len(keyframes))
        return ("at least 2 times right hand above head",)

    direction = run(model, skeleton, small, judge=judge)
    assert len(heard) == 3
    assert "not finished: the motion must still show: at least 2 times right hand" in heard[1]
    assert "the motion does not show: at least 2 times right hand above head" in direction.marks
    assert asked == [2, 3, 4, 4]


def test_a_contradiction_is_put_back_once_and_then_decided(skeleton, small) -> None:
    twice = [
        {"part": "right_arm", "pose": "before the chest"},
        {"part": "right_arm", "pose": "behind the back"},
    ]
    stubborn = Fixed(designed(parts=twice), GOOD)
    direction = run(stubborn, skeleton, small)
    assert stubborn.designs == 2
    assert any("right_arm is described twice, differently" in note for note in direction.notes)
    sorry = Fixed([designed(parts=twice), designed()], GOOD)
    direction = run(sorry, skeleton, small)
    assert direction.complete
    assert [e["turn"] for e in direction.transcript if e["role"] == "designer"] == [0, 1]


def test_facts_that_cannot_be_read_are_told_and_left_out(skeleton, small) -> None:
    heard = []

    def model(messages, pictures, schema):
        if "Keyframe Designer" not in messages[0]["content"]:
            return GOOD
        heard.append(messages[1]["content"])
        last = len(heard) == 2
        facts = ["the vibe is good", "right hand faster than 3 m/s"] if not last else []
        return designed(finished=last, facts=facts, description=f"pose {len(heard)}")

    direction = run(model, skeleton, small)
    assert direction.complete
    assert "the fact 'the vibe is good' cannot be read" in heard[1]
    assert "is about a motion and not about a pose" in heard[1]
    assert len(direction.notes) == 2


def test_web_pages_are_an_error_if_there_is_nothing_yet(skeleton, small) -> None:
    page = "<!DOCTYPE html><html><body>Bad gateway {}</body></html>"
    with pytest.raises(ProviderError, match="Bad gateway"):
        run(lambda *_: page, skeleton, small)


@pytest.mark.parametrize(
    "answer",
    ["<html>502 Bad Gateway</html>", "I would rather not.", '{"commands": "rm -rf /"}', "{" * 5000],
    ids=["html", "prose", "wrong", "broken"],
)
def test_what_was_made_before_nonsense_is_kept(skeleton, small, answer) -> None:
    model = Fixed([designed(finished=False), designed(description="second")], [GOOD, answer])
    direction = run(model, skeleton, small)
    assert not direction.complete
    assert any("the animator could not be asked" in mark for mark in direction.marks)
    assert len(direction.keyframes) == 3
    hand = points(skeleton, from_keyframe(direction.keyframes[1], skeleton))["right hand"]
    assert hand == pytest.approx([0.4, -0.1, 1.3], abs=1e-3)


def test_a_timeout_later_keeps_what_there_is(skeleton, small) -> None:
    late = ProviderError("OpenAICompatible: no answer in time")
    direction = run(Fixed([designed(finished=False), late], GOOD), skeleton, small)
    assert len(direction.keyframes) == 2
    assert any("no answer in time" in mark for mark in direction.marks)
    with pytest.raises(ProviderError, match="no answer in time"):
        run(Fixed(late, GOOD), skeleton, small)


def test_a_budget_that_ends_keeps_what_there_is(wave, skeleton, small) -> None:
    model = CallbackModel(wave, budget=Budget(calls=5))
    direction = direct("wave", model, skeleton=skeleton, scene=FLOOR, limits=small)
    assert direction.cost.calls == 5
    assert 2 <= len(direction.keyframes) <= 4
    assert not direction.complete


def test_what_is_planted_does_not_slide_between_keyframes(skeleton, small) -> None:
    down = {"command": "pelvis_with_support", "target": [0.0, 0.0, 0.7]}
    kick = {"command": "end_effector_move", "effector": "left foot", "target": [0.5, 0.1, 0.5]}
    key = designed(
        description="crouches", facts=["pelvis lowered by 0.1 m"],
        parts=[{"part": "pelvis", "pose": "lower"}],
    )  # fmt: skip
    direction = run(
        Fixed(key, {"commands": [kick, down], "done": ["pelvis"]}), skeleton, small, "crouch"
    )
    first, last = (points(skeleton, from_keyframe(k, skeleton)) for k in direction.keyframes)
    for name in ("left foot", "right foot", "left toes", "right toes"):
        assert np.linalg.norm(first[name] - last[name]) < 1e-3


def test_what_has_nothing_under_it_is_not_planted(skeleton, small) -> None:
    """A hand in the air that is called planted does not hold the pelvis at the next keyframe."""
    first = designed(contacts=["left_foot", "right_foot", "right_hand"], finished=False)
    down = {"command": "pelvis_with_support", "target": [-0.05, 0.0, 0.7]}
    second = designed(
        description="crouches", facts=["pelvis lowered by 0.15 m"],
        parts=[{"part": "pelvis", "pose": "lower"}],
        contacts=["left_foot", "right_foot", "right_hand"],
    )  # fmt: skip
    model = Fixed([first, second], [GOOD, {"commands": [down], "done": ["pelvis"]}])
    direction = run(model, skeleton, small)
    assert any("right_hand is 1." in mark and "too far" in mark for mark in direction.marks)
    assert {c.part for c in direction.contacts} == {"left_foot", "right_foot"}
    assert from_keyframe(direction.keyframes[2], skeleton).root[2] == pytest.approx(0.7, abs=1e-3)


def test_too_short_a_time_is_raised_and_said(skeleton, small) -> None:
    up = reach(0.1, -0.3, 1.75)
    key = designed(dt=0.05, facts=["right hand above head"])
    direction = run(Fixed(key, up), skeleton, small)
    gone = np.abs(
        from_keyframe(direction.keyframes[1], skeleton).angles
        - from_keyframe(direction.keyframes[0], skeleton).angles
    ).max()
    assert direction.keyframes[1].dt == pytest.approx(1.875 * gone / 12.0)
    assert direction.complete
    assert "dt raised from 0.05" in direction.notes[0]


def test_undo_takes_commands_back(skeleton, small) -> None:
    wrong = reach(0.0, -0.7, 1.3, done=())
    mend = reach(0.4, -0.1, 1.3) | {"undo": 1}
    direction = run(Fixed(designed(), [wrong, mend]), skeleton, small)
    straight = run(Fixed(designed(), GOOD), skeleton, small)
    a, b = (from_keyframe(d.keyframes[1], skeleton) for d in (direction, straight))
    assert np.array_equal(a.angles, b.angles)


def test_timing_of_parts_reaches_the_keyframe(skeleton, small) -> None:
    parts = [{"part": "right_arm", "pose": "x", "start": 0.3, "end": 0.8, "ease": "slow_end"}]
    direction = run(Fixed(designed(parts=parts), GOOD), skeleton, small)
    timing = direction.keyframes[1].timing["right_arm"]
    assert (timing.start, timing.end, timing.ease) == (0.3, 0.8, "slow_end")


def test_nothing_of_an_answer_becomes_a_path_or_is_kept_out_of_the_transcript(
    skeleton, small, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = "../../etc/passwd; __import__('os').system('touch owned')"
    direction = run(Fixed(designed(description=evil), GOOD), skeleton, small)
    assert direction.keyframes[1].description == evil
    assert list(tmp_path.iterdir()) == []


def test_fast_mode_asks_once(skeleton, small) -> None:
    asked = []
    key = {k: v for k, v in designed().items() if k != "finished"} | {"commands": GOOD["commands"]}
    rest = key | {
        "description": "down", "facts": ["right hand below chest by 0.2 m"],
        "commands": reach(0.1, -0.3, 0.8)["commands"],
    }  # fmt: skip

    def model(messages, pictures, schema):
        asked.append((messages[0]["content"], len(pictures)))
        return {"keyframes": [key, rest]}

    direction = run(model, skeleton, small, mode="fast")
    assert len(asked) == 1
    assert asked[0][1] == 1
    assert "in one answer" in asked[0][0]
    assert direction.complete
    assert direction.mode == "fast"
    assert [k.description for k in direction.keyframes[1:]] == [key["description"], "down"]
    assert direction.keyframes[-1].finished
    hand = points(skeleton, from_keyframe(direction.keyframes[1], skeleton))["right hand"]
    assert hand == pytest.approx([0.4, -0.1, 1.3], abs=1e-3)


def test_fast_mode_marks_what_does_not_hold(skeleton, small) -> None:
    key = {k: v for k, v in designed().items() if k != "finished"}
    key |= {"commands": reach(5.0, 0.0, 1.0)["commands"], "facts": ["left hand above head"]}
    direction = run(lambda *_: {"keyframes": [key]}, skeleton, small, mode="fast")
    assert any("short" in mark for mark in direction.marks)
    assert "keyframe 1: fact fails: left hand above head" in direction.marks


def test_the_simulated_figure_is_in_the_scene(sit, small) -> None:
    clip = motion.generate(
        "sit down", provider=CallbackModel(sit), scene=SEAT, limits=small, num_samples=8
    )
    assert clip.status == "tracked"
    assert clip.root_positions[-1, 2] > SEAT["seat"]["box"][1][2]
    assert clip.root_positions[-1, 0] < -0.2  # over the seat's front edge


def test_arguments_that_do_not_fit_are_named(wave, small) -> None:
    model = CallbackModel(wave)
    with pytest.raises(UnsupportedError, match=r"scene is .*, must be None with Scripted"):
        motion.generate("sit", scene=SEAT, provider=motion.Scripted(), track="kinematic")
    for name, value in (("mode", "fast"), ("limits", small), ("constraints", Constraints())):
        with pytest.raises(ArgumentError, match=rf"{name} is .*, must be None with Scripted"):
            motion.generate("wave", track="kinematic", **{name: value})
    with pytest.raises(ArgumentError, match=r"provider is 7, must have a method plan"):
        motion.generate("wave", provider=7)
    with pytest.raises(ArgumentError, match="has no floor"):
        motion.generate("wave", provider=model, scene={"floor": None}, track="kinematic")
    assert wave.asked == []


def test_an_unknown_mode_is_named(wave, skeleton, small) -> None:
    with pytest.raises(ArgumentError, match=r"mode is 'slow', must be one of \('faithful', 'fast'"):
        run(wave, skeleton, small, mode="slow")


@pytest.mark.parametrize(
    ("name", "value"), [("keyframes", 0), ("exchanges", 33), ("picture_size", 301)]
)
def test_limits_are_checked(name, value) -> None:
    with pytest.raises(ArgumentError, match=rf"Limits: {name} is {value}, must be in"):
        Limits(**{name: value})


@pytest.mark.parametrize(
    ("words", "scene", "found"),
    [
        ("wave with the right hand", None, ("wave", "right")),
        ("Waving, please!", None, ("wave", None)),
        ("sit down", None, ("sit", None)),
        ("sit down on the chair", SEAT, ("sit on chair", None)),
        ("bow and then wave", None, None),
        ("step up onto the box", BOX, None),
        ("wave at the box", BOX, ("wave", None)),
        ("box", None, ("boxing", None)),
        ("挥手", None, None),
        ("knit a jumper", None, None),
        ("sit on chair", None, None),
    ],
)  # fmt: skip
def test_the_action_of_an_instruction(words, scene, found) -> None:
    assert known_action(words, load_scene(scene)) == found
