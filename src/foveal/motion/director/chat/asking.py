"""From what a model said to a checked object: read, conform, validate, ask once more."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from foveal.motion.director.chat.extract import NoObjectError, read_object
from foveal.motion.director.chat.request import (
    AnswerError,
    Json,
    Message,
    Reply,
    Request,
    Rung,
    Usage,
    plain,
)
from foveal.motion.director.chat.schema import conform, problems
from foveal.motion.director.chat.strict import in_words

_SHOWN = 4


@dataclass(frozen=True)
class Said:
    """One raw answer, and what it took."""

    text: str
    usage: Usage
    rung: Rung


def read_answer(text: str, request: Request) -> tuple[Json | None, str]:
    """Return the object of an answer and an empty text, or None and what is wrong with it."""
    try:
        value = conform(read_object(text), request.schema)
    except NoObjectError as error:
        return None, str(error)
    found = problems(value, request.schema)
    if not found:
        return value, ""
    more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
    return None, "; ".join(found[:_SHOWN]) + more


def converse(
    request: Request, ask: Callable[[tuple[Message, ...]], Said], *, where: str, reasks: int = 1
) -> Reply:
    """Ask until the answer fits, at most `reasks` times more, with the validator's message.

    Args:
        request: The question.
        ask: Makes one call with the messages that it is given.
        where: Name of the model in errors.
        reasks: Further questions after a bad answer.

    Raises:
        AnswerError: the last answer does not fit; holds it, shortened.
    """
    started = time.monotonic()
    messages, texts, usages = request.messages, list[str](), list[Usage]()
    while True:
        said = ask(messages)
        usages.append(said.usage)
        value, problem = read_answer(said.text, request)
        if value is not None:
            usage = _total(usages, time.monotonic() - started)
            return Reply(value, said.text, usage, said.rung, reasks=len(texts))
        loops = said.text in texts
        texts.append(said.text)
        if len(texts) > reasks:
            raise AnswerError(_complaint(where, request, texts, problem, loops), said.text)
        messages = (
            *request.messages,
            Message(said.text or "(nothing)", author="assistant"),
            Message(
                f"This cannot be used: {problem}. Answer again, with one JSON object and nothing "
                f"else.\n{in_words(request.schema)}"
            ),
        )


def _complaint(where: str, request: Request, texts: list[str], problem: str, loops: bool) -> str:
    again = " (the same answer twice)" if loops else ""
    times = f"after {len(texts)} tries" if len(texts) > 1 else "at once"
    return (
        f"{where}: the answer to {request.role} turn {request.turn} is {plain(texts[-1], 200)!r}"
        f"{again}, {times}: {problem}; use a stronger model, or answer by hand with ManualModel"
    )


def _total(usages: list[Usage], seconds: float) -> Usage:
    return Usage(
        sum(u.tokens_in for u in usages),
        sum(u.tokens_out for u in usages),
        seconds,
        usages[-1].model,
        sum(u.calls for u in usages),
        any(u.estimated for u in usages),
    )
