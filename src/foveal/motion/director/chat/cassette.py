"""Recorded answers: one JSON line each, found again by what was asked and never by pictures.

The first line names the format and its version. A key is the SHA-256 of instruction, role, turn,
prompt version and schema hash; the state that a request came with is stored beside the answer, and
its drift is reported. The last entry of a key counts. Request headers are no part of it.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from foveal.errors import ArgumentError, BitstreamError, ProviderError
from foveal.motion.director.chat.cassette_file import HEADER, append_line, check_header
from foveal.motion.director.chat.request import Json, Reply, Request, Usage, key_of, plain
from foveal.motion.director.chat.schema import conform, problems

Mode = Literal["replay", "record", "record-missing", "off"]
_MAX_BYTES = 1 << 28
_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_RUNGS = ["json_schema", "tool", "json_object", "text", "manual", "callback"]


def _record(**parts: Json) -> Json:
    return {"type": "object", "properties": parts, "required": list(parts)}


_ENTRY = _record(
    key=_TEXT,
    parts=_record(
        instruction=_TEXT, role=_TEXT, turn=_COUNT, prompt_version=_TEXT, schema_sha256=_TEXT
    ),
    state={"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]},
    answer={"type": "object"},
    text=_TEXT,
    rung={"enum": _RUNGS},
    reasks=_COUNT,
    usage=_record(
        tokens_in=_COUNT,
        tokens_out=_COUNT,
        seconds={"type": "number"},
        model=_TEXT,
        calls=_COUNT,
        estimated={"type": "boolean"},
    ),
)


class Cassette:
    """A file of recorded answers.

    Args:
        path: A JSONL file; made when first recorded to.
        mode: "replay" answers from the file and never asks; "record" always asks; "record-missing"
            asks for what is not there; "off" neither reads nor writes.

    Raises:
        ArgumentError: an unknown mode, a file to replay that is not there or cannot be read.
        BitstreamError: the file is no cassette or damaged; names the line.
        UnsupportedError: it is of a newer version.
    """

    def __init__(self, path: str | Path, mode: Mode = "replay") -> None:
        if mode not in get_args(Mode):
            raise ArgumentError(
                f"Cassette: mode is {mode!r}, must be one of {get_args(Mode)}; choose one"
            )
        self.path, self.mode = Path(path), mode
        self.warnings: tuple[str, ...] = ()
        self._entries: dict[str, Json] = {}
        if mode == "off":
            return
        if self.path.exists():
            self._load()
        elif mode == "replay":
            raise ArgumentError(
                f"Cassette: path is {str(self.path)!r}, must be there to be replayed; record it "
                "with mode='record-missing' first"
            )

    def __len__(self) -> int:
        """Answers that can be replayed."""
        return len(self._entries)

    def __contains__(self, request: object) -> bool:
        return isinstance(request, Request) and request.key in self._entries

    def replay(self, request: Request) -> Reply:
        """Return the recorded answer, and how far the state has drifted since.

        Raises:
            ProviderError: there is none; names the parts of the key, and what is nearest.
            BitstreamError: it does not fit the schema, as nothing that is recorded does.
        """
        entry = self._entries.get(request.key)
        if entry is None:
            raise ProviderError(self._miss(request))
        answer = conform(entry["answer"], request.schema)
        if found := problems(answer, request.schema):
            raise BitstreamError(
                f"Cassette: {self.path.name}: the answer to {request.role} turn {request.turn} has "
                f"been changed ({found[0]}), must fit its schema; record it again"
            )
        usage = Usage(**{name: entry["usage"][name] for name in _usage_names()})
        return Reply(
            answer,
            entry["text"],
            usage,
            entry["rung"],
            entry["reasks"],
            replayed=True,
            drift=drift(request.state, entry["state"]),
            warnings=self.warnings,
        )

    def append(self, request: Request, reply: Reply) -> None:
        """Record an answer: all of its line reaches the disk, or nothing.

        Raises:
            ArgumentError: the file cannot be written.
            BitstreamError: what is there by now is no cassette.
        """
        entry: Json = {
            "key": request.key,
            "parts": request.parts,
            "state": None if request.state is None else [float(x) for x in request.state],
            "answer": reply.value,
            "text": reply.text,
            "rung": reply.rung,
            "reasks": reply.reasks,
            "usage": asdict(reply.usage),
        }
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, line, lambda tail: _read_entry(tail)[0] is not None)
        except OSError as error:
            raise ArgumentError(
                f"Cassette: path is {str(self.path)!r}, must be a file that can be written "
                f"({error.strerror}); choose another"
            ) from error
        self._entries[request.key] = json.loads(line)

    def _load(self) -> None:
        try:
            size = self.path.stat().st_size
            data = self.path.read_bytes() if size <= _MAX_BYTES else b""
        except OSError as error:
            raise ArgumentError(
                f"Cassette: path is {str(self.path)!r}, must be a file that can be read "
                f"({error.strerror}); choose another"
            ) from error
        if size > _MAX_BYTES:
            raise BitstreamError(
                f"Cassette: {self.path.name} has {size} bytes, must have at most {_MAX_BYTES}; "
                "split it"
            )
        if not data or (len(data) < len(HEADER) and HEADER.startswith(data)):
            if data:
                self._warn("only a part of its first line is there")
            return
        first, *lines = data.split(b"\n")
        check_header(first, self.path.name)
        for number, line in enumerate(lines, 2):
            if not line.strip():
                continue
            entry, problem = _read_entry(line)
            if entry is not None:
                self._entries[entry["key"]] = entry
            elif number == len(lines) + 1:
                self._warn(f"its last line ({number}) was cut off, and is left out")
            else:
                raise BitstreamError(
                    f"Cassette: {self.path.name}: line {number} is damaged ({problem}), must be an "
                    "entry as it was recorded; remove the line, or record anew"
                )

    def _warn(self, text: str) -> None:
        self.warnings = (*self.warnings, f"cassette {self.path.name}: {text}")

    def _miss(self, request: Request) -> str:
        asked = request.parts
        shown = ", ".join(f"{name} {plain(str(value), 80)!r}" for name, value in asked.items())
        text = f"Cassette: {self.path.name} ({len(self)} answers) has none for {shown}"
        nearest: list[str] | None = None
        for entry in self._entries.values():
            other = [
                f"{name} {plain(str(entry['parts'][name]), 80)!r}"
                for name, value in asked.items()
                if entry["parts"][name] != value
            ]
            if nearest is None or len(other) < len(nearest):
                nearest = other
        if nearest:
            text += f"; the nearest has {', '.join(nearest)}"
        return f"{text}; record it with mode='record-missing'"


def drift(asked: tuple[float, ...] | None, recorded: list[float] | None) -> float | None:
    """Return the largest absolute difference of two states, in their own units.

    Infinite if their lengths differ, None if either is None, 0 if both are empty.
    """
    if asked is None or recorded is None:
        return None
    if len(asked) != len(recorded):
        return math.inf
    return max((abs(a - b) for a, b in zip(asked, recorded, strict=True)), default=0.0)


def _usage_names() -> list[str]:
    return list(_ENTRY["properties"]["usage"]["properties"])


def _read_entry(line: bytes) -> tuple[Json | None, str]:
    try:
        entry: Any = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        return None, plain(str(error), 100)
    if found := problems(entry, _ENTRY, "entry"):
        return None, found[0]
    if key_of({name: entry["parts"][name] for name in _ENTRY["properties"]["parts"]["required"]}) \
            != entry["key"]:  # fmt: skip
        return None, "its key is not that of its parts"
    return entry, ""
