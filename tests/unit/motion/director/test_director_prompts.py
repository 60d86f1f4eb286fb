"""Prompts are versioned files, and the forms of answers are ones that every rung can ask."""

import hashlib

import pytest

from foveal.errors import ArgumentError
from foveal.motion.director.animator import animator_schema, world_prompt
from foveal.motion.director.chat.schema import check_schema, example, problems
from foveal.motion.director.commands_pose import NAMES
from foveal.motion.director.designer import fast_schema
from foveal.motion.director.parts import PARTS
from foveal.motion.director.prompts import (
    ANIMATOR,
    DESIGNER,
    FACTS,
    FAST,
    VERSIONS,
    fill_in,
    prompt,
)
from foveal.motion.director.target import (
    contradictions,
    designer_schema,
    is_about_pose,
    read_target,
)
from foveal.motion.posecodes import parse

HASHES = {
    "designer.v1": "b052f006631c9dbc",
    "animator.v1": "5bb1f4a207c83b6d",
    "fast.v1": "81ad4bbb51a4e179",
    "world.v1": "2fe152958e63f133",
    "facts.v1": "2c685a7ce9ea5068",
}
FORMS = {"designer": designer_schema, "animator": animator_schema, "fast": fast_schema}


@pytest.mark.parametrize("version", VERSIONS)
def test_published_words_do_not_change(version) -> None:
    """Recordings are found by the version; new words need a new file beside the old one."""
    assert hashlib.sha256(prompt(version).encode()).hexdigest()[:16] == HASHES[version]


def test_unknown_versions_and_places_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"version is '\.\./secret', must be one of designer"):
        prompt("../secret")
    with pytest.raises(ArgumentError, match=r"facts.v1 has no \{\{mood\}\}"):
        fill_in(FACTS, mood="x")
    with pytest.raises(ArgumentError, match=r"designer.v1 still has \{\{facts\}\}"):
        fill_in(DESIGNER, world="x")


def test_the_prompts_name_what_the_forms_allow(skeleton) -> None:
    world = world_prompt(skeleton)
    assert "1.70 m tall" in world
    assert all(part in world for part in PARTS)
    animator = fill_in(ANIMATOR, world=world, adjustments="5")
    for name in NAMES:
        assert f"- {name} {{" in animator
    for version in (DESIGNER, FAST):
        text = fill_in(version, world=world, facts=prompt(FACTS))
        assert "{{" not in text
        for word in ("contacts", "facts", "starts_cycle"):
            assert f'"{word}"' in text


def test_units_and_sides_are_the_same_everywhere(skeleton) -> None:
    """Lengths in meters alone; left and right are the figure's; axes are said."""
    import re

    texts = [prompt(version) for version in VERSIONS]
    assert not any(re.search(r"\d ?(cm|mm|inch|radian)", text) for text in texts)
    world = world_prompt(skeleton)
    assert "x points where the figure faced at the start, y to its left" in world
    assert "Left and right are always the figure's own" in world
    assert "left limbs are blue" in world


def test_the_facts_in_the_prompt_can_be_read_and_are_about_poses() -> None:
    import re

    told = re.findall(r'"([^"]+)"', prompt(FACTS).split("Forms, with examples:")[1])
    facts = [sentence for sentence in told if sentence not in ("then",)]
    assert len(facts) > 15
    for sentence in facts:
        assert is_about_pose(parse(sentence)), sentence


@pytest.mark.parametrize("name", FORMS)
def test_forms_are_checked_and_have_an_example_that_fits(name) -> None:
    schema = FORMS[name]()
    check_schema(schema)
    sample = example(schema)
    assert problems(sample, schema) == []
    assert schema == FORMS[name]()  # the same each time: recordings are found by its hash


def test_the_example_of_the_designer_contradicts_nothing(skeleton) -> None:
    sample = example(designer_schema())
    assert contradictions(sample) == []
    target = read_target(sample, skeleton)
    assert target.remarks == ()
    assert len(target.facts) == 2
    assert target.timing["head"].end == 0.9


ANSWER = {
    "description": "x", "parts": [], "dt": 0.5, "contacts": [], "facts": [], "finished": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"parts": [{"part": "head", "pose": "up"}, {"part": "head", "pose": "down"}]},
            "head is described twice, differently",
        ),
        (
            {"parts": [{"part": "head", "pose": "up", "start": 0.8, "end": 0.2}]},
            "head ends before it starts",
        ),
        ({"cyclic": False, "starts_cycle": True}, "the action is not cyclic"),
    ],
    ids=["twice", "backward", "cycle"],
)
def test_contradictions_are_named_and_the_first_words_count(skeleton, change, text) -> None:
    answer = ANSWER | change
    assert text in contradictions(answer)[0]
    target = read_target(answer, skeleton)
    assert text in target.remarks[0]
    assert target.parts == ({"head": "up"} if change.get("parts") else {})
    assert target.timing == {}


@pytest.mark.parametrize(
    ("sentence", "about"),
    [
        ("left hand above head", True),
        ("not (left foot on floor or right foot on floor)", True),
        ("left hand faster than 1 m/s", False),
        ("loops", False),
        ("once left hand above head", False),
        ("pelvis moved forward by 1 m", False),
        ("mean of (left elbow flexion) at least 45 degrees", False),
    ],
)
def test_facts_of_a_pose_and_of_a_motion(sentence, about) -> None:
    assert is_about_pose(parse(sentence)) is about
