"""What goes over the wire of an OpenAI-compatible endpoint: bodies out, answers and errors in."""

import base64
import email.utils
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from foveal.errors import ProviderError
from foveal.motion.director.chat.request import Json, Message, Request, plain, to_png
from foveal.motion.director.chat.strict import in_words, strict_form

WireRung = Literal["json_schema", "tool", "json_object", "text"]
LADDER: tuple[WireRung, ...] = ("json_schema", "tool", "json_object", "text")
TOOL = "answer"
_FORM_WORDS = ("response_format", "json_schema", "json_object", "tool", "function", "grammar",
               "structured", "schema", "requested parameters")  # fmt: skip


def body_of(
    request: Request,
    messages: Sequence[Message],
    *,
    model: str,
    rung: WireRung,
    limit_name: str,
    picture_detail: str | None,
    extra: Mapping[str, Any],
) -> bytes:
    """Write the JSON of one call.

    Args:
        request: The question.
        messages: The conversation, a re-ask's included.
        model: Name of the model at the endpoint.
        rung: How the object is asked for.
        limit_name: "max_tokens" or "max_completion_tokens".
        picture_detail: "low", "high", "auto", or None to leave it out.
        extra: Further fields of the body.
    """
    system = request.system
    if rung in ("json_object", "text"):
        form = f"Answer with one JSON object and nothing else.\n{in_words(request.schema)}"
        system = f"{system}\n\n{form}".strip()
    out: Json = {"model": model, limit_name: request.max_tokens, "messages": []}
    if system:
        out["messages"].append({"role": "system", "content": system})
    out["messages"] += [_message(message, picture_detail) for message in messages]
    strict = strict_form(request.schema)
    form = {"name": TOOL, "strict": strict is not None}
    schema = request.schema if strict is None else strict
    if rung == "json_schema":
        out["response_format"] = {"type": "json_schema", "json_schema": form | {"schema": schema}}
    elif rung == "tool":
        form |= {"description": "Gives the answer.", "parameters": schema}
        out["tools"] = [{"type": "function", "function": form}]
        out["tool_choice"] = {"type": "function", "function": {"name": TOOL}}
    elif rung == "json_object":
        out["response_format"] = {"type": "json_object"}
    return json.dumps(out | dict(extra), allow_nan=False).encode()


def _message(message: Message, detail: str | None) -> Json:
    if not message.pictures:
        return {"role": message.author, "content": message.text}
    parts: list[Json] = [{"type": "text", "text": message.text}]
    for picture in message.pictures:
        url = "data:image/png;base64," + base64.b64encode(to_png(picture)).decode()
        shown = {"url": url} | ({} if detail is None else {"detail": detail})
        parts.append({"type": "image_url", "image_url": shown})
    return {"role": message.author, "content": parts}


def decode(body: bytes, url: str) -> Json:
    """Decode the JSON of an answer.

    Raises:
        ProviderError: it is a web page, no UTF-8, no JSON, or no object; says which.
    """
    where = f"OpenAICompatible: the answer of {url}"
    head = body[:200].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")):
        raise ProviderError(
            f"{where} is a web page ({_head(body)!r}), must be JSON; base_url is probably not that "
            "of an API (one ends in /v1), or a login stands before it"
        )
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ProviderError(
            f"{where} is not UTF-8 (byte {error.start} of {len(body)}), must be JSON in UTF-8; "
            "check base_url and what stands between"
        ) from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        streamed = "; it is streamed, which was not asked for" if head.startswith(b"data:") else ""
        raise ProviderError(
            f"{where} is {_head(body)!r}, must be a JSON object{streamed}; check base_url"
        )
    return value


def _head(body: bytes) -> str:
    return plain(body[:2000].decode(errors="replace"), 120)


def said_text(answer: Json, url: str) -> tuple[str, str]:
    """Return the text of the first choice, or its tool call's arguments, and why it ended.

    Raises:
        ProviderError: there is no choice, or the model refuses.
    """
    choices = answer.get("choices")
    choice: Any = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise ProviderError(
            f"OpenAICompatible: the answer of {url} has no choices[0].message but "
            f"{plain(', '.join(map(str, answer)), 120)!r}, must be a chat completion; base_url is "
            "probably that of another API"
        )
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        raise ProviderError(
            f"OpenAICompatible: the model refuses ({plain(message['refusal'])!r}); rephrase the "
            "instruction"
        )
    end = choice.get("finish_reason")
    return _tool_arguments(message) or _content(message), end if isinstance(end, str) else ""


def _tool_arguments(message: Json) -> str:
    calls = message.get("tool_calls")
    call: Any = calls[0] if isinstance(calls, list) and calls else {}
    function: Any = call.get("function") if isinstance(call, dict) else {}
    arguments: Any = function.get("arguments") if isinstance(function, dict) else None
    if isinstance(arguments, dict):
        return json.dumps(arguments)
    return arguments if isinstance(arguments, str) else ""


def _content(message: Json) -> str:
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def tokens_used(answer: Json) -> tuple[int, int] | None:
    """Return the tokens read and written, or None if the endpoint does not say."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
        return None
    return counts[0], counts[1]  # type: ignore[return-value]


def error_text(body: bytes) -> tuple[str, str]:
    """Return what an error's body says, on one line, and its code; tolerant of any form."""
    try:
        value: Any = json.loads(body.decode())
    except (ValueError, RecursionError):
        return _head(body), ""
    error: Any = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return plain(str(error)), ""
    message: Any = error.get("message") or error.get("detail") or error
    return plain(str(message)), plain(str(error.get("code") or error.get("type") or ""), 60)


def mentions_form(text: str) -> bool:
    """Whether an error speaks of how the object was asked for."""
    return any(word in text.lower() for word in _FORM_WORDS)


def wait_asked(retry_after: str) -> float | None:
    """Read a Retry-After header: s from now, or None if there is none that makes sense."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(retry_after)
            seconds = max(0.0, date.timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
