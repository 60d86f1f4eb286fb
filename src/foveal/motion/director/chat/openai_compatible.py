"""Any endpoint that speaks OpenAI's chat completions: hosted models, gateways, local servers.

An object is asked for down a ladder: strict JSON schema, tool call, JSON mode with the schema in
words, plain text with the schema in words. The rung that an endpoint takes is remembered by the
object. Needs no further package.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from foveal.errors import ArgumentError
from foveal.motion.director.chat.asking import Said, converse
from foveal.motion.director.chat.budget import Budget, tokens_of, tokens_of_text
from foveal.motion.director.chat.extract import NoObjectError, read_object
from foveal.motion.director.chat.http_post import Answered
from foveal.motion.director.chat.request import AnswerError, Message, Reply, Request, Usage, plain
from foveal.motion.director.chat.sending import Endpoint, checked_url
from foveal.motion.director.chat.wire import (
    LADDER,
    WireRung,
    body_of,
    decode,
    error_text,
    mentions_form,
    said_text,
    tokens_used,
)

_OURS = ("model", "messages", "max_tokens", "max_completion_tokens", "stream", "tools",
         "tool_choice", "response_format", "n")  # fmt: skip
_UNKNOWN_FORM = (400, 415, 422, 501)
_NOT_THE_FORM = (401, 402, 403, 413, 429)


class OpenAICompatible:
    """A chat model behind an OpenAI-compatible endpoint.

    Args:
        base_url: For example "https://api.openai.com/v1" or "http://localhost:11434/v1".
        model: Name of the model there.
        key_env: Environment variable that holds the key, read at each call and kept nowhere; None
            for a server that wants none.
        budget: Limits; every call that may cost something counts.
        timeout: Longest wait for one answer, s; a stalled one may take twice that.
        total_timeout: Longest time for one request with all its retries, s.
        retries: Most retries of a call that failed by no fault of ours (429, 5xx, no connection).
        backoff: First wait before a retry, s; doubles each time. A Retry-After goes first.
        max_answer_bytes: Longest answer that is read.
        picture_detail: Sent along with each picture if given.
        extra: Further fields of the body, for example {"temperature": 0.2, "seed": 1}.
        rung: Where the ladder starts.
        ca_file: PEM file of further certificate authorities.
        allow_plain_key: Send the key over http to another machine.

    Raises:
        ArgumentError: a URL that is none, holds a password or a query, or would carry a key in the
            clear; an empty model; a time or count out of range; an `extra` that is ours; a
            `ca_file` that is not there.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key_env: str | None = "OPENAI_API_KEY",
        *,
        budget: Budget | None = None,
        timeout: float = 120.0,
        total_timeout: float = 300.0,
        retries: int = 4,
        backoff: float = 1.0,
        max_answer_bytes: int = 4 << 20,
        picture_detail: Literal["auto", "low", "high"] | None = None,
        extra: Mapping[str, Any] | None = None,
        rung: WireRung = "json_schema",
        ca_file: str | Path | None = None,
        allow_plain_key: bool = False,
    ) -> None:
        self.base_url = checked_url(base_url, key_env, allow_plain_key=allow_plain_key)
        if not model.strip():
            raise ArgumentError(
                f"OpenAICompatible: model is {model!r}, must be a name; {self.base_url}/models "
                "lists them on most servers"
            )
        for name in extra or {}:
            if name in _OURS:
                raise ArgumentError(
                    f"OpenAICompatible: extra has {name!r}, must have none of {', '.join(_OURS)}; "
                    "these are set by the request"
                )
        if ca_file is not None and not Path(ca_file).is_file():
            raise ArgumentError(
                f"OpenAICompatible: ca_file is {str(ca_file)!r}, must be a PEM file; check the name"
            )
        self.model, self.budget = model, budget
        self.rung: WireRung = rung
        self._endpoint = Endpoint(
            f"{self.base_url}/chat/completions",
            key_env,
            timeout,
            total_timeout,
            retries,
            backoff,
            max_answer_bytes,
            None if ca_file is None else str(ca_file),
        )
        self._detail, self._extra = picture_detail, dict(extra or {})
        self._limit_name = "max_tokens"

    def __repr__(self) -> str:
        return (
            f"OpenAICompatible({self.base_url!r}, {self.model!r}, "
            f"key_env={self._endpoint.key_env!r}, rung={self.rung!r})"
        )

    def complete(self, request: Request) -> Reply:
        """Answer a request; asks once more if the answer does not fit.

        Raises:
            AnswerError: the second answer does not fit either, or one is cut off.
            BudgetError: a call might pass the budget.
            ProviderError: no answer in time, no key, a refused key, a wrong URL, a redirect, a web
                page, a certificate, an answer too long or not in UTF-8; says which.
        """
        deadline = time.monotonic() + self._endpoint.total_timeout
        return converse(
            request,
            lambda messages: self._ask(request, messages, deadline),
            where=f"OpenAICompatible ({self.model})",
        )

    def _ask(self, request: Request, messages: tuple[Message, ...], deadline: float) -> Said:
        started, first = time.monotonic(), self.rung
        again = sum(tokens_of_text(message.text) for message in messages[len(request.messages) :])
        most = (tokens_of(request) + again, request.max_tokens)

        def admit() -> None:
            if self.budget is not None:
                self.budget.admit(request, extra_tokens=again)

        def lost() -> None:
            self._charge(Usage(*most, 0.0, self.model, estimated=True))

        while True:
            body = body_of(
                request,
                messages,
                model=self.model,
                rung=self.rung,
                limit_name=self._limit_name,
                picture_detail=self._detail,
                extra=self._extra,
            )
            answered = self._endpoint.send(body, deadline, admit=admit, lost=lost)
            if answered.status == 200:
                return self._said(answered, request, most, started)
            message, _ = error_text(answered.body)
            if "max_completion_tokens" in message and self._limit_name == "max_tokens":
                self._limit_name = "max_completion_tokens"
            elif not (_is_about_form(answered.status, message) and self._descend()):
                self.rung = first
                raise self._endpoint.refused(answered)

    def _said(
        self, answered: Answered, request: Request, most: tuple[int, int], started: float
    ) -> Said:
        rung, url = self.rung, self._endpoint.url
        # paid for, whatever it turns out to be worth
        usage = Usage(*most, time.monotonic() - started, self.model, estimated=True)
        try:
            answer = decode(answered.body, url)
            counted, name = tokens_used(answer), answer.get("model")
            usage = Usage(
                *(counted or (most[0], min(most[1], tokens_of_text(str(answer.get("choices")))))),
                usage.seconds,
                plain(name, 200) if isinstance(name, str) else self.model,
                estimated=counted is None,
            )
            text, end = said_text(answer, url)
        finally:
            self._charge(usage)
        if end in ("length", "content_filter"):
            limit = f"max_tokens={request.max_tokens}"
            why, mend = (
                (limit, "raise max_tokens")
                if end == "length"
                else ("a content filter", "rephrase the instruction")
            )
            raise AnswerError(
                f"OpenAICompatible: the answer is cut off by {why} ({plain(text, 200)!r}); {mend}",
                text,
            )
        if not _meant_object(text):
            self._descend()  # the endpoint took the form and passed over it
        return Said(text, usage, rung)

    def _charge(self, usage: Usage) -> None:
        if self.budget is not None:
            self.budget.charge(usage)

    def _descend(self) -> bool:
        at = LADDER.index(self.rung) + 1
        if at == len(LADDER):
            return False
        self.rung = LADDER[at]
        return True


def _is_about_form(status: int, message: str) -> bool:
    return status in _UNKNOWN_FORM or (
        status >= 400 and status not in _NOT_THE_FORM and mentions_form(message)
    )


def _meant_object(text: str) -> bool:
    try:
        read_object(text)
    except NoObjectError as error:
        return error.broken
    return True
