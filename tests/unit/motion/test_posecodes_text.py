"""Sentences of pose facts: what is read, that it is written back the same, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import ArgumentError
from foveal.motion import humanoid
from foveal.motion.posecodes import mirror, parse, to_text
from foveal.motion.posecodes.actions import action_facts
from foveal.motion.posecodes.facts import (
    All,
    AnyOf,
    Hold,
    Loops,
    Not,
    Order,
    Times,
    When,
    Within,
)
from foveal.motion.posecodes.points import LINES, NORMALS, POINTS, UPRIGHT
from foveal.motion.posecodes.terms import (
    AXES,
    DIRECTIONS,
    GAITS,
    HEADINGS,
    RELATIONS,
    STATISTICS,
    Aim,
    Clearance,
    Distance,
    FrameMeasure,
    Gait,
    Gap,
    Height,
    Hinge,
    Keys,
    Lean,
    Shift,
    Speed,
    Statistic,
    Tilt,
    Travel,
    Turn,
)

# a run-time type checker looks at random items of the tuples that strategies make
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

SAME = {
    "left hand above head": Within(Gap("left hand", "above", "head"), 0, None),
    "left hand in front of chest by 0.2 m":
        Within(Gap("left hand", "in front of", "chest"), 0.2, None),
    "The left hand is 20 cm ahead of the chest.":
        Within(Gap("left hand", "in front of", "chest"), 0.2, None),
    "LEFT HAND OVER HIS HEAD": Within(Gap("left hand", "above", "head"), 0, None),
    "hands 0.1 to 0.3 m apart": Within(Distance("left hand", "right hand"), 0.1, 0.3),
    "hands between 10 and 30 cm apart": Within(Distance("left hand", "right hand"), 0.1, 0.3),
    "left hand at mouth": Within(Distance("left hand", "mouth"), None, 0.12),
    "left foot behind right foot": Within(Gap("left foot", "behind", "right foot"), 0, None),
    "left foot behind the other foot": Within(Gap("left foot", "behind", "right foot"), 0, None),
    "left hand above shoulder": Within(Gap("left hand", "above", "left shoulder"), 0, None),
    "left knee 80 to 100 degrees": Within(Hinge("left_knee_flexion"), 80, 100),
    "left knee 80-100 deg": Within(Hinge("left_knee_flexion"), 80, 100),
    "left knee at 90°": Within(Hinge("left_knee_flexion"), 80, 100),
    "left knee bent by at least 80 degrees": Within(Hinge("left_knee_flexion"), 80, None),
    "left elbow straight": Within(Hinge("left_elbow_flexion"), None, 20),
    "spine lean -5 to 10 degrees": Within(Hinge("spine_lean"), -5, 10),
    "facing +x": Within(Aim("pelvis", "facing", "+x"), None, 45),
    "left palm down": Within(Aim("left palm", "facing", "down"), None, 45),
    "left thigh pointing forward within 30 deg":
        Within(Aim("left thigh", "pointing", "forward"), None, 30),
    "trunk within 20 degrees of vertical": Within(Tilt("trunk", "vertical"), None, 20),
    "torso upright": Within(Tilt("trunk", "vertical"), None, 20),
    "torso bent forward at least 30 degrees": Within(Lean("trunk", "forward"), 30, None),
    "pelvis lowered by 0.2 m": Within(Shift("pelvis", "down"), 0.2, None),
    "pelvis moved +x by 0.5 to 1.5 m": Within(Travel("pelvis", "+x"), 0.5, 1.5),
    "left foot on floor": Within(Clearance("left foot"), -0.06, 0.03),
    "pelvis on chair": Within(Clearance("pelvis", "seat"), -0.06, 0.03),
    "left foot off the ground by 10 cm": Within(Clearance("left foot"), 0.1, None),
    "left hand faster than 3 m/s": Within(Speed("left hand"), 3, None),
    "left hand slower than 1.8 km/h": Within(Speed("left hand"), None, 0.5),
    "left hand moving forward at least 3 m/s against pelvis":
        Within(Speed("left hand", "forward", "pelvis"), 3, None),
    "left hand 1 to 1.2 m above the table": Within(Height("left hand", "table"), 1, 1.2),
    "left hand at least 1 m high": Within(Height("left hand", "floor"), 1, None),
    "hands on knees": All((Within(Distance("left hand", "left knee"), None, 0.12),
                           Within(Distance("right hand", "right knee"), None, 0.12))),
    "either hand above head": AnyOf((Within(Gap("left hand", "above", "head"), 0, None),
                                     Within(Gap("right hand", "above", "head"), 0, None))),
    "never left foot on floor": When("always", Not(Within(Clearance("left foot"), -0.06, 0.03))),
    "left foot is not on floor": Not(Within(Clearance("left foot"), -0.06, 0.03)),
    "left hand above head at the end": When("at the end", Within(Gap("left hand", "above", "head"),
                                                                  0, None)),
    "left hand above head twice": Times(2, 2, Within(Gap("left hand", "above", "head"), 0, None)),
    "at least 3 times alternating left and right left foot off floor":
        Times(3, None, Within(Clearance("left foot"), 0.03, None), True),
    "for 500 ms left foot off floor": Hold(0.5, Within(Clearance("left foot"), 0.03, None)),
    "first left foot off floor, then left foot on floor":
        Order((Within(Clearance("left foot"), 0.03, None),
               Within(Clearance("left foot"), -0.06, 0.03))),
    "in this order: left foot off floor, then left foot on floor":
        Order((Within(Clearance("left foot"), 0.03, None),
               Within(Clearance("left foot"), -0.06, 0.03))),
    "all of (loops; left foot on floor)":
        All((Loops(), Within(Clearance("left foot"), -0.06, 0.03))),
    "gait speed at least 1.2 times neutral": Within(Gait("speed"), 1.2, None, "times"),
    "gait speed at most 0.5 m/s less than neutral": Within(Gait("speed"), -0.5, None, "more"),
    "mean of (trunk leaned forward) at least 8 degrees more than neutral":
        Within(Statistic("mean", Lean("trunk", "forward")), 8, None, "more"),
}  # fmt: skip


@pytest.mark.parametrize("text", list(SAME))
def test_sentences_mean_what_they_say(text):
    assert parse(text) == SAME[text]


REFUSED = {
    "left hnd above head": ["'hnd' (character 6)", "did you mean 'hand'"],
    "left hand abve head": ["'abve' (character 11)", "above, over", "did you mean 'above'"],
    "left hand above hed": ["'hed' (character 17)", "did you mean 'head'"],
    "left hand above": ["after its end (character 16)", "head"],
    "left knee 80 to 100 m": ["'m' (character 21)", "degrees"],
    "left hand above head by 3": ["after its end (character 26)", "cm"],
    "hand above head": ["'above' (character 6)", "left, right, both, either"],
    "left ankle 80 degrees": ["ankle flexion", "ankle inversion", "'80'"],
    "left hand between 1 m above head": ["and"],
    "left hand on cloud": ["floor, seat", "'cloud' (character 14)"],
    "left hand above head and": ["after its end"],
    "(left hand above head": [")", "after its end"],
    "left hand above head)": ["')' (character 21)", "and, or"],
    "in this order: left foot on floor": ["then"],
    "head 0.2 m apart": ["a pair such as 'hands'"],
    "gait pace at least 1 m/s": ["'pace'", "speed, stride"],
    "mean of (left hand above head and loops) 1 m": [")", "'and'"],
    "pelvis moved sideways by 1 m": ["'sideways' (character 14)", "forward"],
    "at least 2.5 times left foot on floor": ["a whole number of times"],
    "hands not above head": ["for a pair"],
    "left palm sideways": ["'sideways'"],
    "left forearm facing down": ["left palm", "no direction for 'facing'"],
    "left hand left of floor": ["a surface is level"],
}


@pytest.mark.parametrize("text", list(REFUSED))
def test_what_is_not_known_is_refused_with_the_place_and_what_fits(text):
    with pytest.raises(ArgumentError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith(f"parse: text is {text!r}, must have one of ")
    for words in REFUSED[text]:
        assert words in message


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_sentence_is_refused(text):
    with pytest.raises(ArgumentError, match=rf"parse: text is '{text}', must be a sentence; say"):
        parse(text)


@pytest.mark.parametrize("text", [None, 3])
def test_what_is_no_sentence_is_refused(text):
    with pytest.raises(ArgumentError, match=rf"parse: text is {text}, must be a sentence; say"):
        parse(text)


def test_names_of_other_bodies_and_scenes_can_be_given():
    with pytest.raises(ArgumentError, match="'sofa'"):
        parse("pelvis on sofa")
    assert parse("pelvis on sofa", surfaces=["Sofa"]) == Within(
        Clearance("pelvis", "sofa"), -0.06, 0.03
    )
    assert parse("left foot on step 3") == Within(Clearance("left foot", "step 3"), -0.06, 0.03)


def test_the_sentences_of_the_manual_are_read():
    manual = Path(__file__).parents[3] / "docs" / "motion" / "predicates.md"
    rows = [line for line in manual.read_text("utf-8").splitlines() if line.startswith("| `")]
    sentences = [row.split("`")[1] for row in rows]
    whole = [words for row in rows for words in row.split("`")[1::2] if len(words.split()) > 4]
    assert len(rows) > 15
    for sentence in (*sentences, *(words for words in whole if not words.startswith("by "))):
        assert parse(to_text(parse(sentence))) == parse(sentence)


def test_the_facts_of_all_actions_are_written_back_the_same():
    for action in action_facts().values():
        for fact in action.facts():
            assert parse(to_text(fact)) == fact
            assert mirror(mirror(fact)) == fact


numbers = st.integers(-4000, 4000).map(lambda n: n / 1000)
points = st.sampled_from(sorted(POINTS))
surfaces = st.sampled_from(["floor", "seat", "support", "step 2"])
sided_part = st.sampled_from(LINES)
frame_measures = st.one_of(
    st.builds(Gap, points, st.sampled_from(RELATIONS), points),
    st.builds(Distance, points, points | surfaces),
    st.builds(Hinge, st.sampled_from(humanoid().hinge_names)),
    st.builds(Tilt, sided_part, st.sampled_from(["vertical", "horizontal"])),
    st.builds(Lean, st.sampled_from(UPRIGHT), st.sampled_from(HEADINGS)),
    st.builds(Turn, st.sampled_from(["pelvis", "chest", "head"]),
              st.sampled_from(["left", "right"]), st.sampled_from(["start", "pelvis"])),
    st.builds(Aim, st.sampled_from(NORMALS), st.just("facing"), st.sampled_from(DIRECTIONS)),
    st.builds(Aim, sided_part, st.just("pointing"), st.sampled_from(DIRECTIONS)),
    st.builds(Height, points, surfaces),
    st.builds(Shift, points, st.sampled_from([*DIRECTIONS, "away"])),
    st.builds(Clearance, points, surfaces),
    st.builds(Speed, points, st.sampled_from(["", *DIRECTIONS]), st.just("") | points),
)  # fmt: skip
whole_measures = st.one_of(
    st.builds(Travel, points, st.sampled_from([*HEADINGS, *AXES, "up", "away"])),
    st.builds(Gait, st.sampled_from(GAITS)),
    st.builds(Statistic, st.sampled_from(STATISTICS), frame_measures),
    st.just(Keys()),
)


@st.composite
def bands(draw, measures, neutral):
    low, high = draw(st.tuples(numbers, numbers).map(sorted))
    kind = draw(st.sampled_from(["least", "most", "both"]))
    return Within(
        draw(measures), None if kind == "most" else low, None if kind == "least" else high,
        draw(st.sampled_from(neutral)),
    )  # fmt: skip


leaves = st.one_of(
    bands(frame_measures, [""]), bands(whole_measures, ["", "times", "more"]), st.just(Loops())
)


def _compound(inner):
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Not, inner),
        st.builds(All, several),
        st.builds(AnyOf, several),
        st.builds(Order, several),
        st.builds(When, st.sampled_from(["once", "always", "at the start", "at the end"]), inner),
        st.builds(Hold, st.integers(1, 3000).map(lambda n: n / 1000), inner),
        st.builds(
            lambda low, more, *rest: Times(low, None if more is None else low + more, *rest),
            st.integers(0, 5), st.none() | st.integers(0, 3), inner, st.booleans(),
        ),
    )  # fmt: skip


facts = st.recursive(leaves, _compound, max_leaves=5)


@settings(deadline=None, max_examples=300)
@given(facts)
def test_every_fact_is_written_so_that_it_reads_back_the_same(fact):
    assert parse(to_text(fact)) == fact


@settings(deadline=None, max_examples=200)
@given(facts)
def test_mirroring_twice_changes_nothing_and_keeps_the_frame_measures(fact):
    assert mirror(mirror(fact)) == fact
    assert parse(to_text(mirror(fact))) == mirror(fact)


WORDS = (
    "left right hand knee above head by 0.2 m cm degrees 80 to at least not always ( ) , then "
    "times 3 floor on facing moved +x gait speed mean of neutral more than loops or and 100"
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=9).map(" ".join))
def test_any_words_are_a_fact_or_an_error_that_names_them(text):
    fact = message = None
    try:
        fact = parse(text)
    except ArgumentError as error:
        message = str(error)
    assert (fact is None) == (message or "").startswith(f"parse: text is {text!r}, must")
    assert fact is None or parse(to_text(fact)) == fact


def test_bands_that_cannot_be_are_refused_with_the_text():
    with pytest.raises(ArgumentError, match="parse: text is 'left knee 100 to 80 deg.*swap them"):
        parse("left knee 100 to 80 degrees")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Within(Travel("pelvis", "up")), "low and high are None and None, must be finite"),
        (lambda: Within(Travel("pelvis", "up"), float("nan")), "low and high are nan and None"),
        (lambda: Within(Travel("pelvis", "up"), 2, 1), "low is 2, must be at most high, 1; swap"),
        (lambda: Within(Travel("pelvis", "up"), 2, 3, "less"), "neutral is 'less', must be"),
        (lambda: Within(Hinge("neck_bend"), 2, 3, "more"), "neutral is 'more' for a Hinge, must"),
        (lambda: All((Loops(),)), "All: facts has 1 facts, must have at least two"),
        (lambda: Order(()), "Order: facts has 0 facts, must have at least two"),
    ],
)
def test_facts_that_cannot_be_are_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


def test_frame_measures_are_told_from_those_of_the_clip():
    assert isinstance(Gap("head", "above", "chest"), FrameMeasure)
    assert not isinstance(Travel("pelvis", "up"), FrameMeasure)
