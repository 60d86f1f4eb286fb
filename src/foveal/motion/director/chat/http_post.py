"""One POST with a key, from which the key never comes back.

`post` is the only function that sees a key. It never raises: an exception would carry frames that
hold it. Failures are returned as values, and what a server echoes is struck out.
"""

import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
STRUCK = "[key]"
_SECRET = 8  # shorter ones are placeholders ("EMPTY", "ollama") and may well be words of an answer
_CHUNK = 1 << 16

Reason = Literal["timeout", "cut", "connection", "certificate", "too large", "key", "other"]


@dataclass(frozen=True)
class Answered:
    """What a server answered, whatever its status."""

    status: int
    content_type: str
    retry_after: str
    location: str
    body: bytes


@dataclass(frozen=True)
class Failed:
    """Why there is no answer; `sent` when the server may have worked on it all the same."""

    reason: Reason
    text: str
    sent: bool = False


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Hand every status back, so that no redirect is followed with the key."""

    def http_response(
        self, request: urllib.request.Request, response: http.client.HTTPResponse
    ) -> http.client.HTTPResponse:
        return response

    https_response = http_response


def post(
    url: str,
    body: bytes,
    *,
    key_env: str | None,
    timeout: float,
    max_bytes: int,
    ca_file: str | None = None,
) -> Answered | Failed:
    """Send JSON and wait for the whole answer.

    Proxies are those of the environment, but for this machine's own addresses.

    Args:
        url: http or https, checked by the caller.
        body: JSON.
        key_env: Environment variable of the key, sent as a bearer token; None sends none.
        timeout: Time for the whole answer, s.
        max_bytes: Longest answer that is read.
        ca_file: PEM file of further certificate authorities.
    """
    deadline = time.monotonic() + timeout
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": "foveal",
    }
    key = ""
    if key_env is not None:
        key = os.environ.get(key_env, "").strip()
        if problem := _key_problem(key, key_env):
            return Failed("key", problem)
        headers["Authorization"] = f"Bearer {key}"
    started = False
    try:
        proxies = {} if urlsplit(url).hostname in LOOPBACK else None
        context = ssl.create_default_context()
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies),
            urllib.request.HTTPSHandler(context=context),
            _AsItIs(),
        )
        request = urllib.request.Request(url, body, headers, method="POST")
        started = True
        with opener.open(request, timeout=timeout) as response:
            return _read(response, key, deadline, max_bytes)
    except Exception as error:  # noqa: BLE001 - no frame that has seen the key may leave
        failed = _explain(error, started)
        return Failed(failed.reason, _strike(failed.text, key), failed.sent)


def _key_problem(key: str, key_env: str) -> str:
    if not key:
        return (
            f"the environment variable {key_env} is not set, must hold the key; export it, or pass "
            "key_env=None for a server that wants none"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        return (
            f"the environment variable {key_env} has blanks or characters that no key has; copy "
            "the key again"
        )
    return ""


def _read(
    response: http.client.HTTPResponse, key: str, deadline: float, max_bytes: int
) -> Answered | Failed:
    chunks: list[bytes] = []
    size = 0
    promised = response.headers.get("Content-Length", "")
    while chunk := response.read1(_CHUNK):
        size += len(chunk)
        if size > max_bytes:
            return Failed("too large", f"the answer is longer than {max_bytes} bytes", sent=True)
        if time.monotonic() > deadline:
            return Failed("timeout", "the answer did not end in time", sent=True)
        chunks.append(chunk)
    if promised.isdecimal() and size < int(promised):
        return Failed("cut", f"the answer ended after {size} of {promised} bytes", sent=True)
    return Answered(
        response.status,
        _strike(response.headers.get("Content-Type", ""), key),
        response.headers.get("Retry-After", ""),
        _strike(response.headers.get("Location", ""), key),
        _strike(b"".join(chunks).decode("latin-1"), key).encode("latin-1"),
    )


def _strike(text: str, key: str) -> str:
    if len(key) >= _SECRET:
        for form in (key, quote(key, safe="")):
            text = text.replace(form, STRUCK)
    return text


def _explain(error: Exception, started: bool) -> Failed:
    # urllib wraps what happens until the request is sent, and nothing after that
    sent = started and not isinstance(error, urllib.error.URLError)
    reason: Any = error.reason if isinstance(error, urllib.error.URLError) else error
    text = f"{type(reason).__name__}: {reason}"
    if not started:
        return Failed("other", text)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Failed("certificate", reason.verify_message or text)
    if isinstance(reason, ssl.SSLError) and "WRONG_VERSION_NUMBER" in text:
        return Failed("other", "the server does not speak TLS; its URL may start with http://")
    if isinstance(reason, TimeoutError):
        return Failed("timeout", "there was no answer in time", sent)
    if isinstance(reason, http.client.IncompleteRead):
        return Failed("cut", f"the answer ended after {len(reason.partial)} bytes or more", sent)
    if isinstance(reason, OSError | http.client.HTTPException):
        return Failed("connection", text, sent)
    return Failed("other", text, sent)
