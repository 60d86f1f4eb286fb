"""Endpoints: the ladder and its memory, re-asks, pictures, budgets; a local server plays them."""

import base64
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.errors import ArgumentError, ProviderError
from foveal.motion.director.chat import (
    AnswerError,
    Budget,
    BudgetError,
    ChatModel,
    Message,
    OpenAICompatible,
    Request,
)

_spec = importlib.util.spec_from_file_location(
    "chat_server", Path(__file__).with_name("test_chat_server.py")
)
play = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(play)
Server, chat, error = play.Server, play.chat, play.error

SCHEMA = {
    "type": "object",
    "properties": {"dt": {"type": "number", "maximum": 5}, "note": {"type": "string"}},
    "required": ["dt"],
    "additionalProperties": False,
}
PICTURE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
GOOD = '{"dt": 0.5, "note": null}'


def request(**change) -> Request:
    parts = {
        "instruction": "wave",
        "role": "designer",
        "turn": 0,
        "prompt_version": "d1",
        "system": "You design poses.",
        "messages": (Message("What is next?", (PICTURE,)),),
        "schema": SCHEMA,
        "max_tokens": 100,
    }
    return Request(**parts | change)


def model(server, **options) -> OpenAICompatible:
    return OpenAICompatible(server.url, "m", None, **{"backoff": 0.001, "timeout": 20} | options)


def test_a_strict_answer_is_checked_and_counted() -> None:
    with Server(chat(GOOD)) as server:
        m = model(server, extra={"temperature": 0.2}, picture_detail="low")
        reply = m.complete(request())
    assert isinstance(m, ChatModel)
    assert reply.value == {"dt": 0.5}
    assert reply.text == GOOD
    assert (reply.rung, reply.reasks, reply.replayed) == ("json_schema", 0, False)
    usage = reply.usage
    assert (usage.tokens_in, usage.tokens_out, usage.model) == (11, 7, "served-1")
    assert (usage.calls, usage.estimated) == (1, False)
    assert 0 < usage.seconds < 20
    (body,) = server.asked
    assert body["temperature"] == 0.2
    assert (body["model"], body["max_tokens"]) == ("m", 100)
    strict = body["response_format"]["json_schema"]
    assert strict["strict"] is True
    assert strict["schema"]["required"] == ["dt", "note"]
    assert body["messages"][0] == {"role": "system", "content": "You design poses."}
    text, picture = body["messages"][1]["content"]
    assert text == {"type": "text", "text": "What is next?"}
    assert picture["image_url"]["detail"] == "low"
    png = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), PICTURE)
    assert "Authorization" not in server.headers[0]


def _takes(*rungs):
    """An endpoint that takes only these rungs, and refuses others as servers do."""

    def answer(body, _):
        kind = body.get("response_format", {}).get("type", "tool" if "tools" in body else "text")
        if kind not in rungs:
            return error(400, f"{kind} is not supported here")
        if kind == "tool":
            call = {"function": {"name": "answer", "arguments": GOOD}}
            return chat(None, tool_calls=[{"type": "function", **call}])
        return chat("Sure! ```json\n" + GOOD + "\n```" if kind == "text" else GOOD)

    return answer


@pytest.mark.parametrize(
    ("rung", "calls"), [("json_schema", 1), ("tool", 2), ("json_object", 3), ("text", 4)]
)
def test_the_ladder_is_walked_down_once_and_remembered(rung, calls) -> None:
    with Server(_takes(rung)) as server:
        m = model(server)
        assert m.complete(request()).rung == rung
        assert len(server.asked) == calls
        reply = m.complete(request(turn=1))
        assert (reply.rung, reply.value) == (rung, {"dt": 0.5})
        assert len(server.asked) == calls + 1
    last = server.asked[-1]
    in_words = '"dt" (a number, at most 5)' in last["messages"][0]["content"]
    assert in_words == (rung in ("json_object", "text"))
    assert ("tool_choice" in last) == (rung == "tool")


@pytest.mark.parametrize("status", [404, 500])
def test_other_errors_that_speak_of_the_form_go_down_too(status) -> None:
    def answer(body, _):
        if "response_format" in body:
            return error(status, "No endpoints support response_format")
        return _takes("tool")(body, _)

    with Server(answer) as server:
        assert model(server).complete(request()).rung == "tool"
    assert len(server.asked) == 2


def test_an_endpoint_that_passes_over_the_form_is_asked_with_the_schema_in_words() -> None:
    def answer(body, _):
        spoken = json.dumps(body["messages"])
        return chat(GOOD if "a number, at most 5" in spoken else "I would raise the arm.")

    with Server(answer) as server:
        m = model(server)
        reply = m.complete(request())
        assert (reply.value, reply.reasks, reply.rung) == ({"dt": 0.5}, 1, "tool")
        m.rung = "json_object"
        assert m.complete(request()).reasks == 0


def test_when_no_rung_helps_the_error_is_the_last_one_and_the_memory_is_kept() -> None:
    with Server(error(400, "this model reads no pictures")) as server:
        m = model(server)
        with pytest.raises(ProviderError, match=r"'this model reads no pictures' \(status 400\)"):
            m.complete(request())
    assert len(server.asked) == 4
    assert m.rung == "json_schema"


def test_a_newer_name_of_the_token_limit_is_learned() -> None:
    def answer(body, _):
        if "max_tokens" in body:
            return error(400, "Unsupported parameter: use 'max_completion_tokens' instead")
        return chat(GOOD)

    with Server(answer) as server:
        m = model(server)
        assert m.complete(request()).rung == "json_schema"
        m.complete(request())
    assert [("max_completion_tokens" in body) for body in server.asked] == [False, True, True]
    assert server.asked[-1]["max_completion_tokens"] == 100


def test_one_reask_carries_the_answer_and_the_validators_message() -> None:
    with Server(chat('{"dt": 9}'), chat(GOOD)) as server:
        reply = model(server).complete(request())
    assert (reply.reasks, reply.usage.calls) == (1, 2)
    assert (reply.usage.tokens_in, reply.usage.tokens_out) == (22, 14)
    assert server.asked[1]["messages"][:2] == server.asked[0]["messages"]
    said, asked = server.asked[1]["messages"][2:]
    assert said == {"role": "assistant", "content": '{"dt": 9}'}
    assert "answer.dt is 9, must be at most 5" in asked["content"]
    assert '"dt" (a number, at most 5)' in asked["content"]


def test_after_the_reask_the_error_keeps_the_raw_answer() -> None:
    long = json.dumps({"dt": 1, "note": 7, "x": "y" * 5000})
    problem = "answer.note is 7, must be of type string"
    with (
        Server(chat('{"dt": 9}'), chat(long)) as server,
        pytest.raises(AnswerError, match=problem) as caught,
    ):
        model(server).complete(request())
    assert len(server.asked) == 2
    assert caught.value.raw == long[:1997] + "..."
    assert "after 2 tries" in str(caught.value)
    assert "twice" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_model_that_loops_is_named() -> None:
    with (
        Server(chat('{"dt": "soon"}')) as server,
        pytest.raises(AnswerError, match="same .* twice"),
    ):
        model(server).complete(request())
    assert len(server.asked) == 2


def test_answers_that_are_cut_off_are_not_asked_again() -> None:
    with Server(chat('{"dt": 0.5, "no', end="length")) as server:
        with pytest.raises(AnswerError, match=r"cut off by max_tokens=100.*raise max_tokens"):
            model(server).complete(request())
        server.answers = [chat("", end="content_filter")]
        with pytest.raises(AnswerError, match="content filter"):
            model(server).complete(request())
        server.answers = [chat(None, refusal="I do not do that")]
        with pytest.raises(ProviderError, match="refuses .'I do not do that'"):
            model(server).complete(request())
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "text", "text": '{"dt": '}, {"type": "text", "text": "0.5}"}]},
        {"content": "", "tool_calls": [{"function": {"arguments": {"dt": 0.5}}}]},
        {"content": '{"dt": 0.5}', "tool_calls": []},
        {"content": '{"dt": 0.5}', "tool_calls": [None], "refusal": None},
    ],
)
def test_other_shapes_of_messages_are_read(message) -> None:
    with Server((200, {"choices": [{"message": message}]})) as server:
        reply = model(server).complete(request())
    assert reply.value == {"dt": 0.5}
    assert reply.usage.model == "m"  # it does not say
    assert reply.usage.estimated


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": [None]},
        {"choices": [{"text": "old"}]},
        {"choices": {"message": 1}},
        {"object": "list", "data": []},
    ],
)
def test_other_apis_are_named(body) -> None:
    with Server((200, body)) as server, pytest.raises(ProviderError, match=r"no choices\[0\]"):
        model(server).complete(request())


def test_budget_counts_reasks_and_stops_before_the_call_that_would_pass_it() -> None:
    bad = chat('{"dt": 9}')
    with Server(bad, chat(GOOD)) as server:
        budget = Budget(calls=2)
        model(server, budget=budget).complete(request())
        assert budget.spent.calls == 2
        assert (budget.spent.tokens_in, budget.spent.tokens_out) == (22, 14)
        with pytest.raises(BudgetError, match="calls: 2 spent"):
            model(server, budget=budget).complete(request())
        assert len(server.asked) == 2
        server.answers = [bad]
        budget = Budget(calls=1)
        with pytest.raises(BudgetError) as caught:
            model(server, budget=budget).complete(request())
    assert len(server.asked) == 3
    assert caught.value.spent == budget.spent
    assert caught.value.spent.calls == 1


def test_refused_calls_cost_nothing_and_useless_answers_do() -> None:
    with Server(error(400, "no json_schema"), error(503, "busy"), chat(GOOD)) as server:
        budget = Budget(calls=1)
        assert model(server, budget=budget).complete(request()).rung == "tool"
        assert budget.spent.calls == 1
        server.answers = [(200, {"choices": [], "usage": chat()[1]["usage"]})]
        budget = Budget()
        with pytest.raises(ProviderError):
            model(server, budget=budget).complete(request())
        assert (budget.spent.calls, budget.spent.tokens_in) == (1, 11)
        server.answers = [chat(GOOD, tokens=None)]
        model(server, budget=budget).complete(request())
    assert budget.spent.estimated


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "'', must be an http or https URL"),
        ("api.openai.com/v1", "'api.openai.com/v1', must be an http or https URL"),
        ("ftp://x/v1", "must be an http or https URL"),
        ("https://", "must be an http or https URL"),
        ("http://[::1/v1", "must be an http or https URL"),
        ("https://a b/v1", "must be an http or https URL"),
        ("https://x:port/v1", "must be an http or https URL"),
        ("https://x/v1?key=1", "user name, a query or a fragment"),
        ("https://x/v1#a", "user name, a query or a fragment"),
        ("http://example.com/v1", "must be https to carry a key"),
    ],
)
def test_urls_that_cannot_be_are_refused(url, problem) -> None:
    with pytest.raises(ArgumentError, match="base_url.*" + problem):
        OpenAICompatible(url, "m")


def test_urls_are_taken_with_what_people_paste() -> None:
    for url in ("https://x/v1", " https://x/v1/ ", "https://x/v1/chat/completions"):
        assert OpenAICompatible(url, "m").base_url == "https://x/v1"
    OpenAICompatible("http://example.com/v1", "m", None)
    OpenAICompatible("http://example.com/v1", "m", allow_plain_key=True)
    OpenAICompatible("http://[::1]:8000/v1", "m")


def test_options_out_of_range_are_refused() -> None:
    for name, value in [
        ("timeout", 0.0),
        ("total_timeout", float("inf")),
        ("retries", -1),
        ("backoff", float("nan")),
        ("max_answer_bytes", 0),
    ]:
        with pytest.raises(ArgumentError, match=f"{name} is {value}"):
            OpenAICompatible("https://x/v1", "m", **{name: value})
    with pytest.raises(ArgumentError, match="model is ' '"):
        OpenAICompatible("https://x/v1", " ")
    with pytest.raises(ArgumentError, match="extra has 'stream'"):
        OpenAICompatible("https://x/v1", "m", extra={"stream": True})
    with pytest.raises(ArgumentError, match="ca_file is '/nowhere.pem'"):
        OpenAICompatible("https://x/v1", "m", ca_file="/nowhere.pem")
