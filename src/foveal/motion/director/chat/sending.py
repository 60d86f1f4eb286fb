"""Send to one endpoint until there is an answer worth reading: retries, waits, errors in words."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from foveal.errors import ArgumentError, ProviderError
from foveal.motion.director.chat.http_post import LOOPBACK, Answered, Failed, post
from foveal.motion.director.chat.request import plain
from foveal.motion.director.chat.wire import decode, error_text, mentions_form, wait_asked

_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529)
_STATUS_MENDS = {
    401: "check the key in {key}",
    402: "the account behind {key} has no credit",
    403: "the key in {key} may not use this model",
    404: "check base_url (most end in /v1) and the name of the model",
    405: "check base_url (most end in /v1)",
    413: "send smaller or fewer pictures",
    429: "wait, or check the quota of the account behind {key}",
}


@dataclass(frozen=True)
class Endpoint:
    """Where to send, and how patiently.

    Args:
        url: Of the chat completions.
        key_env: Environment variable of the key, or None.
        timeout: Longest wait for one answer, s.
        total_timeout: Longest time for one request with its retries, s.
        retries: Most retries.
        backoff: First wait before a retry, s; doubles each time.
        max_answer_bytes: Longest answer that is read.
        ca_file: PEM file of further certificate authorities.

    Raises:
        ArgumentError: a time or count is out of range.
    """

    url: str
    key_env: str | None
    timeout: float
    total_timeout: float
    retries: int
    backoff: float
    max_answer_bytes: int
    ca_file: str | None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, low in (
            ("timeout", 1e-3),
            ("total_timeout", 1e-3),
            ("retries", 0),
            ("backoff", 0),
            ("max_answer_bytes", 1),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise ArgumentError(
                    f"OpenAICompatible: {name} is {value}, must be finite and at least {low}; "
                    "leave it out for what suits most"
                )

    def send(
        self,
        body: bytes,
        deadline: float,
        *,
        admit: Callable[[], None],
        lost: Callable[[], None],
    ) -> Answered:
        """Return the first answer that a retry would not change.

        Args:
            body: JSON.
            deadline: On the clock of `time.monotonic`, s.
            admit: Called before each call; may refuse it by raising.
            lost: Called when a call may have been worked on, and paid for, without an answer.

        Raises:
            ProviderError: there is none in time, or what stands in the way will not go away.
        """
        attempt = 0
        while True:
            admit()
            left = deadline - time.monotonic()
            got = post(
                self.url,
                body,
                key_env=self.key_env,
                timeout=max(1e-3, min(self.timeout, left)),
                max_bytes=self.max_answer_bytes,
                ca_file=self.ca_file,
            )
            if isinstance(got, Answered):
                got = _as_error(got)
                if not _may_pass(got):
                    return got
                wait, failure = wait_asked(got.retry_after), self.refused(got)
            else:
                if got.sent:
                    lost()
                wait, failure = None, self._failed(got)
                if got.reason not in ("timeout", "cut", "connection"):
                    raise failure
            if attempt == self.retries:
                raise failure
            pause = self.backoff * 2**attempt if wait is None else wait
            if time.monotonic() + pause >= deadline:
                raise ProviderError(
                    f"{failure} (a retry in {pause:.3g} s would pass "
                    f"total_timeout={self.total_timeout} s)"
                )
            time.sleep(pause)
            attempt += 1

    def refused(self, answered: Answered) -> ProviderError:
        """Say in words what a status other than 200 means."""
        where = f"OpenAICompatible: {self.url}"
        if 300 <= answered.status < 400:
            target = plain(answered.location, 200) or "nowhere"
            return ProviderError(
                f"{where} redirects to {target} ({answered.status}), which is not followed, since "
                "it would get the key; set base_url to it if you trust it"
            )
        page = answered.body.lstrip()[:1] == b"<"
        said = "answers with a web page" if page else f"says {error_text(answered.body)[0]!r}"
        key = "no variable, since key_env is None" if self.key_env is None else self.key_env
        mend = _STATUS_MENDS.get(answered.status, "see what it says").format(key=key)
        return ProviderError(f"{where} {said} (status {answered.status}); {mend}")

    def _failed(self, failed: Failed) -> ProviderError:
        mends = {
            "timeout": f"raise timeout={self.timeout} s or total_timeout={self.total_timeout} s",
            "cut": "try again, or look at what stands between",
            "connection": "check base_url and the network",
            "certificate": "if the server is your own, pass ca_file= with its authority",
            "too large": "raise max_answer_bytes, or lower max_tokens",
            "key": "a key is never passed as an argument",
            "other": "check base_url and ca_file",
        }
        what = "its certificate cannot be trusted: " if failed.reason == "certificate" else ""
        return ProviderError(
            f"OpenAICompatible: {self.url}: {what}{plain(failed.text)}; {mends[failed.reason]}"
        )


def _may_pass(answered: Answered) -> bool:
    """Whether a retry of the same call may end better."""
    if answered.status not in _AGAIN:
        return False
    message, code = error_text(answered.body)
    return code != "insufficient_quota" and not (answered.status >= 500 and mentions_form(message))


def _as_error(answered: Answered) -> Answered:
    """Give an error that came with status 200, as gateways send them, the status that it names."""
    if answered.status != 200 or b'"error"' not in answered.body:
        return answered
    try:
        value = decode(answered.body, "")
    except ProviderError:
        return answered
    error = value.get("error")
    if not error or value.get("choices"):
        return answered
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    return Answered(status, "", answered.retry_after, "", answered.body)


def checked_url(base_url: str, key_env: str | None, *, allow_plain_key: bool) -> str:
    """Return a base URL without what comes after it.

    Raises:
        ArgumentError: it is none, holds a password or a query, or would carry a key in the clear.
    """
    where = "OpenAICompatible: base_url"
    mend = "give it as https://host/v1"
    url = base_url.strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        shown = "a text with '@'" if "@" in url else repr(plain(url, 200))
        raise ArgumentError(f"{where} is {shown}, must be an http or https URL; {mend}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ArgumentError(
            f"{where} (of {host}) has a user name, a query or a fragment, must have none, since "
            f"URLs are shown in errors; {mend}, and the key by key_env"
        )
    plain_key = parts.scheme == "http" and key_env is not None and host not in LOOPBACK
    if plain_key and not allow_plain_key:
        raise ArgumentError(
            f"{where} is {url!r}, must be https to carry a key to another machine; pass "
            "key_env=None if it wants none, or allow_plain_key=True"
        )
    return url.rstrip("/").removesuffix("/chat/completions").rstrip("/")
