"""Schemas: values by hand, everything unknown refused, strict forms and examples that fit."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import ArgumentError
from foveal.motion.director.chat.schema import check_schema, conform, example, problems
from foveal.motion.director.chat.strict import in_words, strict_form

POSE = {
    "type": "object",
    "properties": {
        "description": {"type": "string", "minLength": 3, "description": "The pose in a sentence."},
        "dt": {"type": "number", "minimum": 0.05, "maximum": 5},
        "count": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 4},
        "side": {"enum": ["left", "right"]},
        "parts": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "at": {"type": ["number", "null"]}},
                "required": ["name"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["description", "dt", "parts"],
    "additionalProperties": False,
}
GOOD = {"description": "arm up", "dt": 0.05, "count": 3, "side": "left", "parts": [{"name": "arm"}]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"dt": 5}, None),
        ({"dt": 5.001}, "answer.dt is 5.001, must be at most 5"),
        ({"dt": 0.049}, "answer.dt is 0.049, must be at least 0.05"),
        ({"dt": "1"}, "answer.dt is '1', must be of type number"),
        ({"dt": True}, "answer.dt is True, must be of type number"),
        ({"dt": 10**400}, "answer.dt is 1000"),
        ({"count": 0}, "answer.count is 0, must be more than 0"),
        ({"count": 4}, "answer.count is 4, must be less than 4"),
        ({"count": 1.5}, "answer.count is 1.5, must be of type integer"),
        ({"count": 1.0}, None),
        ({"side": "up"}, "answer.side is 'up', must be one of ['left', 'right']"),
        ({"description": "ab"}, "answer.description has 2 characters, must have at least 3"),
        ({"parts": []}, "answer.parts has 0 items, must have at least 1"),
        ({"parts": [{"name": "a"}] * 3}, "answer.parts has 3 items, must have at most 2"),
        ({"parts": [{"name": "a"}, {"at": 1}]}, "answer.parts[1] has no 'name', must have it"),
        ({"parts": [{"name": "a", "x": 1}]}, "has 'x', must hold only name, at"),
        ({"more": 1}, "answer has 'more', must hold only description, dt, count, side, parts"),
    ],
)
def test_values_by_hand(change, problem) -> None:
    found = problems(GOOD | change, POSE)
    if problem is None:
        assert not found
    else:
        assert len(found) == 1
        assert problem in found[0]


def test_branches_and_open_objects() -> None:
    schema = {
        "type": "object",
        "properties": {"to": {"anyOf": [{"type": "null"}, {"type": "array", "minItems": 3}]}},
        "additionalProperties": {"type": "number"},
    }
    check_schema(schema)
    assert problems({"to": None, "knee": 1.5}, schema) == []
    assert problems({"to": [1, 2, 3]}, schema) == []
    assert problems({"to": [1]}, schema) == ["answer.to has 1 items, must have at least 3"]
    assert problems({"knee": "x"}, schema) == ["answer.knee is 'x', must be of type number"]


def test_true_is_not_one() -> None:
    assert problems({"a": True}, {"type": "object", "properties": {"a": {"enum": [1]}}})
    assert problems({"a": 1}, {"type": "object", "properties": {"a": {"enum": [True]}}})
    assert not problems({"a": 1.0}, {"type": "object", "properties": {"a": {"enum": [1]}}})


def test_nulls_that_mean_left_out_go_and_whole_floats_become_integers() -> None:
    answer = GOOD | {"side": None, "count": 2.0, "parts": [{"name": "a", "at": None}]}
    clean = conform(answer, POSE)
    # null is a value of "at", and none of "side"
    assert clean == {
        "description": "arm up",
        "dt": 0.05,
        "count": 2,
        "parts": [{"name": "a", "at": None}],
    }
    assert isinstance(clean["count"], int)
    assert problems(clean, POSE) == []
    # a required one stays, for `problems` to name
    assert problems(conform(GOOD | {"dt": None}, POSE), POSE) == [
        "answer.dt is None, must be of type number"
    ]


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"type": "string", "pattern": "a+"}, "'pattern'"),
        ({"type": "text"}, "among"),
        ({"description": "any"}, "no 'type'"),
        ({"type": "number", "minimum": "0"}, "minimum is '0', must be a finite number"),
        ({"type": "number", "maximum": float("inf")}, "maximum is inf"),
        ({"type": "array", "minItems": -1}, "minItems is -1, must be a count"),
        ({"enum": []}, "enum is \\[\\], must be a list of at least one"),
        ({"anyOf": [{"type": "x"}]}, "anyOf\\[0\\].type"),
        ({"type": "array", "items": 3}, "items is 3, must be a schema"),
        ({"type": "object", "properties": [1]}, "properties is \\[1\\], must be a mapping"),
        ({"type": "object", "required": ["b"]}, "required is 'b', must be among"),
        ({"type": "object", "additionalProperties": {"$ref": "x"}}, "'\\$ref'"),
    ],
)
def test_schemas_that_cannot_be_checked_are_refused(part, problem) -> None:
    with pytest.raises(ArgumentError, match=problem):
        check_schema({"type": "object", "properties": {"a": part}})


def test_a_schema_is_of_an_object_and_not_too_deep() -> None:
    with pytest.raises(ArgumentError, match="must be 'object'"):
        check_schema({"type": "array"})
    deep = {"type": "string"}
    for _ in range(30):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(ArgumentError, match="deeper than 24"):
        check_schema(deep)


def test_the_strict_form_closes_every_object_and_asks_for_every_property() -> None:
    strict = strict_form(POSE)
    assert strict["required"] == list(POSE["properties"])
    assert strict["additionalProperties"] is False
    assert strict["properties"]["dt"] == {
        "type": "number",
        "description": "at least 0.05, at most 5",
    }
    assert strict["properties"]["side"] == {
        "anyOf": [{"enum": ["left", "right"], "type": "string"}, {"type": "null"}]
    }
    inner = strict["properties"]["parts"]["items"]
    assert inner["required"] == ["name", "at"]
    assert inner["properties"]["at"] == {"type": ["number", "null"]}  # null is there already
    assert "minItems" not in json.dumps(strict)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": True},
        {"type": "array"},
        {"anyOf": [{"type": "object"}]},
    ],
)
def test_open_objects_have_no_strict_form(part) -> None:
    assert strict_form({"type": "object", "properties": {"a": part}}) is None


def test_words_name_every_field_its_form_and_its_limits() -> None:
    text = in_words(POSE)
    assert '- "description" (text, at least 3 characters): The pose in a sentence.' in text
    assert '- "dt" (a number, at least 0.05, at most 5)' in text
    assert '- "side" (one of "left", "right", may be left out)' in text
    assert '  - "at" (a number or null, may be left out)' in text


def _schemas() -> st.SearchStrategy:
    texts = st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 6), st.integers(0, 3),
    )  # fmt: skip
    numbers = st.builds(
        lambda kind, low, more: {"type": kind, "minimum": low, "maximum": low + more},
        st.sampled_from(["number", "integer"]), st.integers(-9, 9), st.integers(0, 3),
    )  # fmt: skip
    open_numbers = st.builds(
        lambda low, more: {
            "type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + more
        },
        st.integers(-9, 9), st.floats(0.01, 3),
    )  # fmt: skip
    plain = st.sampled_from([{"enum": ["a", 2]}, {"type": "boolean"}, {"type": ["null", "number"]}])

    def grow(inner: st.SearchStrategy) -> st.SearchStrategy:
        arrays = st.builds(
            lambda items, low, more: {
                "type": "array", "items": items, "minItems": low, "maxItems": low + more
            },
            inner, st.integers(0, 2), st.integers(0, 2),
        )  # fmt: skip
        return arrays | _objects(inner) | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)

    return _objects(st.recursive(texts | numbers | open_numbers | plain, grow, max_leaves=6))


def _objects(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(
        lambda parts, keep: {
            "type": "object",
            "properties": parts,
            "required": sorted(parts)[:keep],
            "additionalProperties": False,
        },
        st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3),
        st.integers(0, 3),
    )


@settings(deadline=None)
@given(schema=_schemas())
def test_examples_fit_and_so_do_their_strict_forms(schema) -> None:
    check_schema(schema)
    made = example(schema)
    assert problems(made, schema) == []
    assert conform(made, schema) == made
    strict = strict_form(schema)
    check_schema(strict)
    assert problems(made, strict | {"required": list(made)}) == []
    # all left out, said as null, comes back as left out
    nulls = {name: None for name in schema["properties"] if name not in schema["required"]}
    back = conform({**nulls, **{k: made[k] for k in schema["required"]}}, schema)
    assert problems(back, schema) == []
