"""The key is in no error, traceback, repr, log, file or output, whatever the endpoint does."""

import importlib.util
import io
import json
import logging
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest

from foveal.errors import ArgumentError, ProviderError
from foveal.motion.director.chat import (
    Budget,
    Cassette,
    Message,
    OpenAICompatible,
    Recorded,
    Request,
)

_spec = importlib.util.spec_from_file_location(
    "chat_server", Path(__file__).with_name("test_chat_server.py")
)
play = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(play)
Server, chat, error = play.Server, play.chat, play.error

KEY = "sk-fov/eal+0123456789"
NAME = "SOME_ENDPOINT_KEY"
SCHEMA = {"type": "object", "properties": {"note": {"type": "string"}}, "required": ["note"]}
REQUEST = Request("wave", "designer", 0, "d1", "", (Message("Next?"),), SCHEMA, 100)


def _everything_of(caught: BaseException) -> str:
    """All text that an error carries: messages, chain, frames and what they hold."""
    out, seen, left = io.StringIO(), set(), [caught]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        out.write(repr(one) + str(one) + repr(vars(one)))
        out.write("".join(traceback.TracebackException.from_exception(one, capture_locals=True)
                          .format()))  # fmt: skip
        frame = one.__traceback__
        while frame is not None:
            if "foveal" in frame.tb_frame.f_code.co_filename:
                out.write(_deep(frame.tb_frame.f_locals))
            frame = frame.tb_next
        left += [one.__cause__, one.__context__]
    return out.getvalue()


def _deep(value, depth: int = 0) -> str:
    """Text of a value and of what its attributes hold."""
    text = repr(value)
    if depth < 4:
        parts = list(value.values()) if isinstance(value, dict) else []
        parts += list(vars(value).values()) if hasattr(value, "__dict__") else []
        text += "".join(_deep(part, depth + 1) for part in parts if not callable(part))
    return text


def _echo(status):
    def answer(_, handler):
        told = handler.headers["Authorization"]
        text = f"you sent {told} and {quote(KEY, safe='')}"
        return status, {"error": {"message": text}}, {"Location": f"http://x/?{told}"}

    return answer


def _echo_in_answer(_, handler):
    return chat(json.dumps({"note": handler.headers["Authorization"]}))


def _echo_bad_answer(_, handler):
    return chat(json.dumps({"note": 1, "told": handler.headers["Authorization"]}))


def _echo_page(_, handler):
    return 200, f"<html>{handler.headers['Authorization']}</html>"


def _echo_cut(_, handler):
    play.send(handler, 200, handler.headers["Authorization"], length=1000)


def _echo_status_line(_, handler):
    handler.wfile.write(f"HTTP/1.1 {handler.headers['Authorization']}\r\n\r\n".encode())
    handler.close_connection = True


CASES = {
    "400": _echo(400), "401": _echo(401), "429": _echo(429), "500": _echo(500),
    "307": _echo(307), "bad": _echo_bad_answer, "page": _echo_page, "cut": _echo_cut,
    "status line": _echo_status_line,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_no_error_holds_the_key(case, tmp_path, monkeypatch, caplog, capfd) -> None:
    monkeypatch.setenv(NAME, f" {KEY}\n")  # as it is pasted
    caplog.set_level(logging.DEBUG)
    with Server(CASES[case]) as server:
        model = OpenAICompatible(
            server.url, "m", NAME, budget=Budget(calls=50), retries=1, backoff=0.001
        )
        chat_model = Recorded(model, Cassette(tmp_path / "c.jsonl", "record"))
        with pytest.raises(ProviderError) as caught:
            chat_model.complete(REQUEST)
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"  # it was sent
    written = _everything_of(caught.value) + caplog.text + "".join(capfd.readouterr())
    written += _deep(chat_model) + "".join(p.read_text() for p in tmp_path.rglob("*.*"))
    for form in (KEY, quote(KEY, safe=""), quote(KEY), json.dumps(KEY)[1:-1]):
        assert form not in written
    if case in ("400", "401", "429", "500"):
        assert "you sent Bearer [key] and [key]" in written
    assert len(written) > 1000


def test_the_search_for_the_key_would_find_it() -> None:
    def leaks() -> None:
        held = {"Authorization": [KEY]}
        raise ProviderError(f"no answer to {len(held)}")

    with pytest.raises(ProviderError) as caught:
        leaks()
    assert KEY in _everything_of(caught.value)
    assert KEY in _deep(type("Box", (), {"__init__": lambda s: setattr(s, "x", [KEY])})())


def test_a_recording_never_holds_what_a_server_echoes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(NAME, KEY)
    path = tmp_path / "c.jsonl"
    with Server(_echo_in_answer) as server:
        recorded = Recorded(OpenAICompatible(server.url, "m", NAME), Cassette(path, "record"))
        reply = recorded.complete(REQUEST)
    assert reply.value == {"note": "Bearer [key]"}
    assert KEY not in repr(reply)
    text = path.read_text()
    assert "[key]" in text
    assert KEY not in text
    assert "Authorization" not in text


def test_a_missing_key_names_the_variable(monkeypatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    with Server(chat("{}")) as server:
        model = OpenAICompatible(server.url, "m", NAME)
        for value in ("", "  "):
            with pytest.raises(ProviderError, match=f"variable {NAME} is not set.*key_env=None"):
                model.complete(REQUEST)
            monkeypatch.setenv(NAME, value)
        assert not server.asked


BROKEN = {"line": "sk-secr\net-value", "blank": "sk-secr et-value", "letter": "sk-secrät-value"}


@pytest.mark.parametrize("case", BROKEN)
def test_a_key_that_cannot_be_one_is_not_shown(case, monkeypatch) -> None:
    monkeypatch.setenv(NAME, BROKEN[case])
    with Server(chat("{}")) as server:
        with pytest.raises(ProviderError, match=f"variable {NAME} has blanks or char") as caught:
            OpenAICompatible(server.url, "m", NAME).complete(REQUEST)
        assert not server.asked
    text = _everything_of(caught.value)
    assert "sk-sec" not in text
    assert "t-value" not in text


def test_placeholders_are_words_and_stay_in_answers(monkeypatch) -> None:
    monkeypatch.setenv(NAME, "none")
    with Server(chat('{"note": "none"}')) as server:
        assert OpenAICompatible(server.url, "m", NAME).complete(REQUEST).value == {"note": "none"}


@pytest.mark.parametrize(
    "url",
    [
        "https://user:sk-secret@host/v1",
        "https://sk-secret@host/v1",
        "https://host/v1?key=sk-secret",
        "https://host/v1#sk-secret",
        "htps://user:sk-secret@host/v1",
        "user:sk-secret@host",
        "https://sk-secret@/v1",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_shown(url) -> None:
    with pytest.raises(ArgumentError, match="base_url") as caught:
        OpenAICompatible(url, "m")
    assert "sk-secret" not in str(caught.value)


def test_a_key_never_goes_in_the_clear_to_another_machine(monkeypatch) -> None:
    monkeypatch.setenv(NAME, KEY)
    with pytest.raises(ArgumentError, match="must be https to carry a key"):
        OpenAICompatible("http://10.0.0.7:8000/v1", "m", NAME)
