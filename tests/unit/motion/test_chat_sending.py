"""Sending: retries within a total time, and a clear error for all that can stand in the way."""

import email.utils
import importlib.util
import os
import shutil
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from foveal.errors import ProviderError
from foveal.motion.director.chat import Budget, Message, OpenAICompatible, Request
from foveal.motion.director.chat.wire import wait_asked

_spec = importlib.util.spec_from_file_location(
    "chat_server", Path(__file__).with_name("test_chat_server.py")
)
play = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(play)
Server, chat, error = play.Server, play.chat, play.error

SCHEMA = {"type": "object", "properties": {"dt": {"type": "number"}}, "required": ["dt"]}
REQUEST = Request("wave", "designer", 0, "d1", "", (Message("Next?"),), SCHEMA, 100)
GOOD = chat('{"dt": 0.5}')


def model(server, **options) -> OpenAICompatible:
    return OpenAICompatible(server.url, "m", None, **{"backoff": 0.001, "timeout": 20} | options)


def fails(server, match, **options) -> str:
    with pytest.raises(ProviderError, match=match) as caught:
        model(server, **options).complete(REQUEST)
    return str(caught.value)


def _hang_up(_, handler):
    handler.close_connection = True
    handler.connection.shutdown(2)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_tried_again(status) -> None:
    with Server(error(status, "busy"), error(status, "busy"), GOOD) as server:
        assert model(server).complete(REQUEST).value == {"dt": 0.5}
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "first",
    [
        _hang_up,
        lambda _, handler: play.send(handler, *GOOD, length=100_000),
        lambda _, handler: play.send(
            handler, 200, "5\r\n{\"cho", {"Transfer-Encoding": "chunked"}, length=""
        ),
    ],
    ids=["hang up", "shorter than promised", "cut in a chunk"],
)  # fmt: skip
def test_broken_connections_are_tried_again_and_may_have_cost_something(first) -> None:
    budget = Budget()
    with Server(first, GOOD) as server:
        assert model(server, budget=budget).complete(REQUEST).value == {"dt": 0.5}
    assert len(server.asked) == 2
    assert budget.spent.calls == 2
    assert budget.spent.estimated
    assert budget.spent.tokens_out == 100 + 7


def test_an_answer_that_never_ends_whole_is_named() -> None:
    with Server(lambda _, handler: play.send(handler, *GOOD, length=100_000)) as server:
        fails(server, r"ended after \d+ of 100000 bytes", retries=1)
        assert len(server.asked) == 2


def test_retries_end_and_waits_double() -> None:
    times = []

    def answer(*_):
        times.append(time.perf_counter())
        return error(503, "no worker free")

    with Server(answer) as server:
        fails(server, r"'no worker free' \(status 503\)", retries=3, backoff=0.15)
    assert len(times) == 4
    for i in range(3):
        assert times[i + 1] - times[i] >= 0.15 * 2**i - 0.01


def test_the_server_says_how_long_to_wait() -> None:
    with Server(error(429, "slow down", {"Retry-After": "0.3"}), GOOD) as server:
        started = time.perf_counter()
        model(server).complete(REQUEST)
        assert time.perf_counter() - started >= 0.3
        server.answers = [error(429, "slow down", {"Retry-After": "3600"})]
        started = time.perf_counter()
        text = fails(server, "a retry in 3.6e.03 s would pass total_timeout=300.0 s")
        assert "check the quota of the account" in text
        assert time.perf_counter() - started < 60
        assert len(server.asked) == 3


def test_retry_after_in_all_its_forms() -> None:
    assert wait_asked("2") == 2
    assert wait_asked("") is None
    assert wait_asked("-1") is None
    assert wait_asked("nan") is None
    assert wait_asked("inf") is None
    assert wait_asked("soon") is None
    soon = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 90 < wait_asked(soon) <= 100
    assert wait_asked("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_an_empty_account_is_not_tried_again() -> None:
    with Server(error(429, "You have no credit", code="insufficient_quota")) as server:
        fails(server, "You have no credit")
        assert len(server.asked) == 1


def _late(_, handler):
    time.sleep(4.0)
    return GOOD


def _drips(_, handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(250):
        handler.wfile.write(b" ")
        time.sleep(0.02)


@pytest.mark.parametrize("slow", [_late, _drips])
def test_a_provider_that_times_out(slow) -> None:
    budget = Budget()
    with Server(slow) as server:
        started = time.perf_counter()
        fails(
            server,
            r"did not end in time|no answer in time; raise timeout=0.6 s",
            timeout=0.6,
            total_timeout=1.0,
            budget=budget,
        )
        assert time.perf_counter() - started < 3.9
    assert 1 <= budget.spent.calls <= 3


@pytest.mark.parametrize("status", [200, 404, 502])
def test_a_web_page_is_named(status) -> None:
    page = "  <!DOCTYPE html><html><title>Log in</title></html>"
    with Server((status, page)) as server:
        text = fails(server, "web page", retries=0)
    if status != 502:
        assert "/v1" in text


def test_wrong_urls_keys_and_sizes_are_named() -> None:
    with Server(error(404, "The model `m` does not exist")) as server:
        fails(server, r"does not exist' \(status 404\); check base_url .* name of the model")
        assert len(server.asked) == 1
        server.answers = [error(401, "bad key")]
        fails(server, r"\(status 401\); check the key in no variable, since key_env is None")
        server.answers = [(413, "too big")]
        fails(server, r"says 'too big' \(status 413\); send smaller or fewer pictures")
        server.answers = [(405, {"detail": "Method Not Allowed"})]
        fails(server, r"says 'Method Not Allowed' \(status 405\)")
        server.answers = [(418, {"error": "teapot\x1b[31m\nred"})]
        fails(server, r"says 'teapot \[31m red' \(status 418\)")
        assert len(server.asked) == 5
    fails(server, r"connection|refused", retries=1)  # it is closed now


def test_an_error_with_status_200_is_one() -> None:
    with Server((200, {"error": {"message": "upstream busy", "code": 429}}), GOOD) as server:
        assert model(server).complete(REQUEST).value == {"dt": 0.5}
        server.answers = [(200, {"error": {"message": "no such model", "code": 404}})]
        fails(server, r"no such model' \(status 404\)")
        server.answers = [(200, {"error": "strange"})]
        fails(server, r"'strange' \(status 502\)", retries=0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status) -> None:
    with Server(GOOD) as other, Server((status, "", {"Location": other.url})) as server:
        text = fails(server, "redirects to http://localhost")
        assert f"({status})" in text
        assert "set base_url to it if you trust it" in text
        assert not other.asked


def test_answers_that_are_too_long_or_no_json() -> None:
    with Server(chat('{"dt": 0.5}' + " " * 5000)) as server:
        fails(server, "longer than 4000 bytes; raise max_answer_bytes", max_answer_bytes=4000)
        assert len(server.asked) == 1
        for body, problem in [
            (b'{"choices": "\xff"}', "not UTF-8 .byte 13 of 16."),
            (b"ok", "is 'ok', must be a JSON object; check base_url"),
            (b"[1]", "must be a JSON object"),
            (b"", "is '', must be a JSON object"),
            (b'data: {"choices": []}\n\n', "it is streamed, which was not asked for"),
            (b'{"a":' * 100_000, "must be a JSON object"),
        ]:
            server.answers = [(200, body)]
            fails(server, problem)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of this test, and is not there")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


def test_certificates_are_checked_and_can_be_given(certificate) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with Server(GOOD, tls=tls) as server:
        fails(server, "its certificate cannot be trusted: self.signed.*pass ca_file=")
        assert not server.asked
        own = model(server, ca_file=certificate / "cert.pem")
        assert own.complete(REQUEST).value == {"dt": 0.5}
        asked = len(server.asked)
        server.answers = [(307, "", {"Location": "/elsewhere"})]
        fails(server, "redirects to /elsewhere .307.", ca_file=certificate / "cert.pem")
        server.answers = [(503, "busy")]
        fails(server, "says 'busy'", ca_file=certificate / "cert.pem", retries=0)
        assert len(server.asked) == asked + 2
        server.url = server.url.replace("localhost", "127.0.0.1")
        fails(server, "its certificate cannot be trusted", ca_file=certificate / "cert.pem")
        fails(server, "check base_url and ca_file", ca_file=certificate / "key.pem")
    with Server(GOOD) as server:
        server.url = server.url.replace("http:", "https:")
        fails(server, "does not speak TLS; its URL may start with http://")


def test_this_machine_is_never_reached_by_a_proxy(monkeypatch) -> None:
    with Server(GOOD) as server, Server(error(500, "proxy")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://localhost:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert model(server).complete(REQUEST).value == {"dt": 0.5}
        assert not proxy.asked
        # another machine is: the proxy of the environment sees the whole address
        monkeypatch.delenv("REQUEST_METHOD", raising=False)
        far = OpenAICompatible("http://endpoint.invalid/v1", "m", None, retries=0)
        with pytest.raises(ProviderError, match="'proxy' .status 500."):
            far.complete(REQUEST)
        assert proxy.paths == ["http://endpoint.invalid/v1/chat/completions"]
        assert "no_proxy" not in os.environ
