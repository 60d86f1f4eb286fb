"""What is asked of a chat model and what comes back: the layer below Designer and Animator."""

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from foveal.errors import ArgumentError, ProviderError, ShapeError
from foveal.motion.director.chat.schema import Json, check_schema

Picture = NDArray[np.uint8] | bytes
Rung = Literal["json_schema", "tool", "json_object", "text", "manual", "callback"]
_PNG = b"\x89PNG\r\n\x1a\n"
_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MAX_SIDE = 8192
_RAW_KEPT = 2000


class AnswerError(ProviderError):
    """A model answered, and the answer could not be used; `raw` is its text, at most 2000 long."""

    def __init__(self, text: str, raw: str) -> None:
        super().__init__(text)
        self.raw = raw if len(raw) <= _RAW_KEPT else raw[: _RAW_KEPT - 3] + "..."


@dataclass(frozen=True, eq=False)
class Message:
    """One turn of a conversation.

    Args:
        text: What is said.
        pictures: Pictures shown with it: uint8 arrays (height, width, 3) or (height, width), or
            the bytes of PNG files.
        author: "user" or "assistant".
    """

    text: str
    pictures: tuple[Picture, ...] = ()
    author: Literal["user", "assistant"] = "user"

    def __post_init__(self) -> None:
        """Check the pictures."""
        for picture in self.pictures:
            picture_size(picture)


@dataclass(frozen=True, eq=False)
class Request:
    """One question to a chat model, whose answer is one JSON object.

    Args:
        instruction: What the user wants of the whole motion, in any language.
        role: Who asks, for example "designer" or "animator"; lower-case letters, digits, - and _.
        turn: Number of the question within its role and instruction, from 0.
        prompt_version: Name of the prompt, changed whenever its words change.
        system: The system text.
        messages: The conversation so far, oldest first; at least one message.
        schema: JSON Schema of the answer, within what `check_schema` accepts. A copy is kept.
        max_tokens: Longest answer, in tokens of the model.
        state: Numbers that describe the scene and the pose (m, rad), or None. Cassettes store them
            and say how far they have drifted; they are no part of the key.
    """

    instruction: str
    role: str
    turn: int
    prompt_version: str
    system: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any]
    max_tokens: int = 2000
    state: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check everything, and copy the schema."""
        wrong: list[tuple[str, Any, str]] = []
        if not self.instruction.strip():
            wrong.append(("instruction", self.instruction, "words; say what shall be done"))
        if not _ROLE.fullmatch(self.role):
            wrong.append(("role", self.role, "a short lower-case name; say for example 'designer'"))
        if not 0 <= self.turn < 10**6:
            wrong.append(("turn", self.turn, "in [0, 999999]; count the questions from 0"))
        if not self.prompt_version.strip():
            wrong.append(("prompt_version", self.prompt_version, "a name; say for example 'd1'"))
        if not self.messages:
            wrong.append(("messages", self.messages, "at least one; add the question"))
        if not 1 <= self.max_tokens <= 10**6:
            wrong.append(("max_tokens", self.max_tokens, "in [1, 1000000]; 2000 suits a keyframe"))
        if self.state is not None and not all(math.isfinite(x) for x in self.state):
            wrong.append(("state", self.state, "finite numbers; correct the pose"))
        for name, value, wanted in wrong:
            raise ArgumentError(f"Request: {name} is {value!r}, must be {wanted}")
        check_schema(self.schema, where="Request: schema")
        object.__setattr__(self, "schema", json.loads(_canonical(self.schema)))

    @property
    def parts(self) -> Json:
        """What the key is made of, by name."""
        return {
            "instruction": self.instruction,
            "role": self.role,
            "turn": self.turn,
            "prompt_version": self.prompt_version,
            "schema_sha256": hashlib.sha256(_canonical(self.schema).encode()).hexdigest(),
        }

    @property
    def key(self) -> str:
        """SHA-256 of `parts`: the same on every machine, whatever the pictures look like."""
        return key_of(self.parts)


def key_of(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a key's parts, in hexadecimal."""
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)


@dataclass(frozen=True)
class Usage:
    """What an answer took.

    Args:
        tokens_in, tokens_out: Tokens read and written, all calls together.
        seconds: From the first call to the last answer, waiting included, s.
        model: Identifier of the model, as it gives it.
        calls: Calls that were made for it, re-asks included.
        estimated: Whether tokens were estimated, since the endpoint did not count them.
    """

    tokens_in: int
    tokens_out: int
    seconds: float
    model: str
    calls: int = 1
    estimated: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer that fits its schema.

    Args:
        value: The object.
        text: The answer as it was written.
        usage: What it took; for a replayed answer, what it took when it was recorded.
        rung: How it was had: a rung of the structured-output ladder, "manual" or "callback".
        reasks: How often the model had to be asked again, after the first time.
        replayed: Whether it comes from a cassette and cost nothing now.
        drift: Largest absolute difference between the state asked about and the one recorded;
            infinite if their lengths differ, None if either is not known.
        warnings: What a reader of the result should know.
    """

    value: Json
    text: str
    usage: Usage
    rung: Rung
    reasks: int = 0
    replayed: bool = False
    drift: float | None = None
    warnings: tuple[str, ...] = ()


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers a request: an endpoint, a person, a recording, a function."""

    def complete(self, request: Request) -> Reply:
        """Answer, or raise `ProviderError`."""
        ...


def picture_size(picture: Picture) -> tuple[int, int]:
    """Return height and width of a picture, in pixels.

    Raises:
        ShapeError: an array that is no uint8 picture, or a side over 8192.
        ArgumentError: bytes that are no PNG file.
    """
    if isinstance(picture, bytes):
        if not (picture.startswith(_PNG) and picture[12:16] == b"IHDR" and len(picture) >= 33):
            raise ArgumentError(
                f"Message: pictures has {len(picture)} bytes that start with {picture[:8]!r}, "
                "must be a PNG file; give the pixels as a uint8 array"
            )
        width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    else:
        if picture.dtype != np.uint8 or not (
            picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
        ):
            raise ShapeError(
                f"Message: pictures has shape {picture.shape} and dtype {picture.dtype}, must be "
                "uint8 (height, width, 3) or (height, width); convert it"
            )
        height, width = picture.shape[:2]
    if not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE):
        raise ShapeError(
            f"Message: pictures has a size of {height} x {width}, must be within 1 and {_MAX_SIDE} "
            "pixels a side; resize it"
        )
    return height, width


def to_png(picture: Picture) -> bytes:
    """Return the bytes of a PNG file; bytes stay as they are."""
    if isinstance(picture, bytes):
        return picture
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(out, "PNG")
    return out.getvalue()


def plain(text: str, length: int = 300) -> str:
    """Return foreign text on one line, without control characters, at most `length` long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= length else line[: length - 3] + "..."
