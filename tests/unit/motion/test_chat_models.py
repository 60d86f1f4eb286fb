"""Requests and their checks, functions as models, pictures."""

import io
import json
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from foveal.errors import ArgumentError, ProviderError, ShapeError
from foveal.motion.director.chat import (
    AnswerError,
    Budget,
    BudgetError,
    CallbackModel,
    ChatModel,
    Message,
    Request,
)
from foveal.motion.director.chat.request import plain

SCHEMA = {"type": "object", "properties": {"dt": {"type": "number"}}, "required": ["dt"]}
PICTURE = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)


def request(**change) -> Request:
    parts = {
        "instruction": "wave",
        "role": "designer",
        "turn": 0,
        "prompt_version": "d1",
        "system": "You design poses.",
        "messages": (Message("What is next?", (PICTURE,)),),
        "schema": SCHEMA,
    }
    return Request(**parts | change)


def png(*shape: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"instruction": "  "}, "instruction is '  ', must be words"),
        ({"role": "../up"}, "role is '../up', must be a short lower-case name"),
        ({"role": "Designer"}, "role is 'Designer'"),
        ({"role": "a" * 33}, "role is"),
        ({"turn": -1}, "turn is -1, must be in .0, 999999."),
        ({"turn": 10**6}, "turn is 1000000"),
        ({"prompt_version": ""}, "prompt_version is '', must be a name"),
        ({"messages": ()}, "messages is .., must be at least one"),
        ({"max_tokens": 0}, "max_tokens is 0, must be in .1, 1000000."),
        ({"state": (0.0, float("nan"))}, "state is .0.0, nan., must be finite"),
        ({"schema": {"type": "array"}}, "Request: schema.type is 'array', must be 'object'"),
    ],
)
def test_requests_that_cannot_be_are_refused(change, problem) -> None:
    with pytest.raises(ArgumentError, match=problem):
        request(**change)


def test_a_request_keeps_its_own_copy_of_the_schema() -> None:
    schema = json.loads(json.dumps(SCHEMA))
    asked = request(schema=schema)
    key = asked.key
    schema["required"].clear()
    assert asked.key == key


@pytest.mark.parametrize("shape", [(2, 2, 4), (2,), (0, 3, 3), (2, 9000)])
def test_shapes_that_are_no_picture_are_named(shape) -> None:
    with pytest.raises(ShapeError, match="pictures has"):
        Message("?", (np.zeros(shape, np.uint8),))


def test_other_bytes_and_types_are_no_picture() -> None:
    with pytest.raises(ArgumentError, match=r"2 bytes that start with b'GI', must be a PNG file"):
        Message("?", (b"GI",))
    with pytest.raises(ArgumentError, match="must be a PNG file"):
        Message("?", (png(4, 4)[:20],))
    # where annotations are checked at run time, that speaks first
    with pytest.raises((ShapeError, TypeError), match="uint8"):
        Message("?", (np.zeros((2, 2, 3)),))


def test_a_function_gets_messages_pictures_and_schema_and_returns_text_or_an_object() -> None:
    seen = []

    def function(messages, pictures, schema):
        seen.append((messages, pictures, schema))
        return {"dt": np.float64(0.5)} if len(seen) > 1 else 'I say {"dt": 0.5}'

    model = CallbackModel(function, name="mine")
    assert isinstance(model, ChatModel)
    gray = png(5, 6)
    talk = (
        Message("One?", (PICTURE,)),
        Message("No.", author="assistant"),
        Message("Two?", (gray, PICTURE)),
    )
    first, second = (model.complete(request(messages=talk)) for _ in range(2))
    assert first.value == second.value == {"dt": 0.5}
    assert (first.rung, first.reasks, first.usage.model) == ("callback", 0, "mine")
    messages, pictures, schema = seen[0]
    assert messages == [
        {"role": "system", "content": "You design poses.", "pictures": []},
        {"role": "user", "content": "One?", "pictures": [0]},
        {"role": "assistant", "content": "No.", "pictures": []},
        {"role": "user", "content": "Two?", "pictures": [1, 2]},
    ]
    assert pictures[1] == gray  # as it came
    for i in (0, 2):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(pictures[i]))), PICTURE)
    assert schema == SCHEMA


def test_a_function_is_asked_once_more_with_the_problem() -> None:
    answers = ['{"dt": "soon"}', '{"dt": 1}']
    seen = []

    def function(messages, pictures, schema):
        seen.append(messages)
        return answers[len(seen) - 1]

    reply = CallbackModel(function).complete(request())
    assert (reply.value, reply.reasks) == ({"dt": 1}, 1)
    assert "answer.dt is 'soon', must be of type number" in seen[1][-1]["content"]


def test_functions_that_fail_are_named() -> None:
    def raises(*_):
        raise KeyError("token")

    with pytest.raises(ProviderError, match="mine: function raised KeyError: 'token'") as caught:
        CallbackModel(raises, name="mine").complete(request())
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(ProviderError, match="function raised TypeError: a set is no JSON value"):
        CallbackModel(lambda *_: {"dt": {1}}).complete(request())
    with pytest.raises(AnswerError, match="the same answer twice") as looped:
        CallbackModel(lambda *_: {"dt": float("nan")}).complete(request())
    assert looped.value.raw == '{"dt": NaN}'

    def own(*_):
        raise BudgetError("mine is spent", Budget().spent, Budget().spent)

    with pytest.raises(BudgetError, match="mine is spent"):
        CallbackModel(own).complete(request())


def test_a_budget_stops_a_function_before_its_reask() -> None:
    budget = Budget(calls=1)
    with pytest.raises(BudgetError):
        CallbackModel(lambda *_: "no", budget=budget).complete(request())
    assert (budget.spent.calls, budget.spent.tokens_out) == (1, 1)


def test_foreign_text_is_shown_on_one_line() -> None:
    assert plain("a\x1b[31mb\n\t c\u202e") == "a [31mb c"
    assert plain("x" * 400) == "x" * 297 + "..."


def test_arrays_and_mappings_in_objects_become_json_and_others_are_named() -> None:
    schema = {"type": "object", "properties": {"at": {"type": "array"}, "more": {"type": "object"}}}
    answer = MappingProxyType({"at": np.array([1.5, 2.0]), "more": MappingProxyType({"a": 1})})
    reply = CallbackModel(lambda *_: answer).complete(request(schema=schema))
    assert reply.value == {"at": [1.5, 2.0], "more": {"a": 1}}
    with pytest.raises(ProviderError, match="returned list, must return text or a mapping"):
        CallbackModel(lambda *_: [{"dt": 1}]).complete(request())
    assert repr(CallbackModel(lambda *_: "", name="mine")) == "CallbackModel(name='mine')"
