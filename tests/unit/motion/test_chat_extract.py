"""JSON out of chatty text: what is found, what is named, and that no text takes long."""

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.motion.director.chat.extract import NoObjectError, read_object

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text("ab{}\"\\`'", max_size=5), inner),
    max_leaves=12,
)  # fmt: skip
OBJECTS = st.dictionaries(st.text("abc", min_size=1, max_size=3), VALUES, max_size=4)
# braces and quotes are let in, but for a brace and a quote in a row, which start an object
CHATTER = st.text("ab }\n.,:'`[]", max_size=40)


@settings(deadline=None)
@given(value=OBJECTS, before=CHATTER, after=st.text(max_size=40), indent=st.none() | st.just(2))
def test_an_object_among_words_is_found(value, before, after, indent) -> None:
    text = before + json.dumps(value, indent=indent) + after
    assert read_object(text) == value


@settings(deadline=None)
@given(value=OBJECTS, before=CHATTER, language=st.sampled_from(["", "json", "JSON "]))
def test_a_fenced_object_is_found(value, before, language) -> None:
    before = before.replace("`", "")
    text = f"{before}\n```{language}\n{json.dumps(value, ensure_ascii=False)}\n```\nDone."
    assert read_object(text) == value


@settings(deadline=None)
@given(text=st.text(max_size=80) | st.text('{}"\\[]:, \n`a1', max_size=80))
def test_any_text_gives_an_object_or_our_error(text) -> None:
    with contextlib.suppress(NoObjectError):
        assert isinstance(read_object(text), dict)


@settings(deadline=None)
@given(value=OBJECTS.filter(bool), part=st.floats(0, 1))
def test_no_part_of_a_cut_object_is_taken_for_it(value, part) -> None:
    text = json.dumps({"outer": value, "list": [value]})
    cut = text[: max(2, int(part * (len(text) - 1)))]
    with pytest.raises(NoObjectError, match=r"cut off|no JSON object"):
        read_object("Here: " + cut)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("\ufeff{}", {}),
        ('[{"a": 1}]', {"a": 1}),
        ('Use {braces} and { more }: {"a": {"b": "}"}} ok {"c": 2}', {"a": {"b": "}"}}),
        ('First {"a": 1,} was wrong, so {"a": 2}.', {"a": 2}),
        ('The form is {"x": 0}.\n```json\n{"a": 1}\n```', {"a": 1}),
        ('<think>maybe {"a": 0}?</think>\n{"a": 1}', {"a": 1}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
        ('```\n{"a": "``` in a text"}\n```', {"a": "``` in a text"}),
        ('~ ```json {"a": 1}``` on one line', {"a": 1}),
    ],
)
def test_forms_that_models_write(text, value) -> None:
    assert read_object(text) == value


@pytest.mark.parametrize(
    ("text", "problem", "broken"),
    [
        ("", "no JSON object", False),
        ("I would raise the arm.", "no JSON object", False),
        ('"text"', "no JSON object", False),
        ('[{"a": 1}, {"a": 2}]', "list of 2", True),
        ("[1]", "no JSON object", False),
        ('{"a": 1', "cut off", True),
        ('{"a": "x}', "cut off", True),
        ('{"a": 1, "a": 2}', "'a' is there twice", True),
        ('{"a": NaN}', "NaN is no JSON number", True),
        ('{"a": -Infinity}', "-Infinity is no JSON number", True),
        ('{"a": 1e999}', "1e999 is too large", True),
        ('{"a": ' + "9" * 5000 + "}", "mistake", True),
        ('{"a": "\\ud800"}', "half of a character", True),
        ("{'a': 1}", "no JSON object", False),
        ('{"a": 1,}', "mistake", True),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested too deeply", True),
    ],
)
def test_what_is_wrong_is_said(text, problem, broken) -> None:
    with pytest.raises(NoObjectError, match=problem) as caught:
        read_object(text)
    assert caught.value.broken is broken


@pytest.mark.parametrize(
    "piece", ['{"', '{"a":', "{}}", '{"a" }', '"', "```\n", "``` ", "{ ", "\\", '{"\\', "<think>"]
)
def test_hostile_texts_take_no_long_time(piece) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    with contextlib.suppress(NoObjectError):
        read_object(text)
    assert time.process_time() - started < 5
