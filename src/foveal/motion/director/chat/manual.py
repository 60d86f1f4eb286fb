"""A person with a chat window as the model: questions are folders, answers are files in them.

`NNN-role/` holds `prompt.md`, `picture.png` (`picture-2.png`, ...) and `question.json`; the person
puts `answer.json` or `answer.txt` there. Answers that are there already are used, so a run can be
broken off and started again. Nothing in an answer becomes a path or is executed.
"""

import json
import math
import stat
import time
from collections.abc import Callable
from pathlib import Path

from foveal._core.files import ensure_dir, write_bytes, write_text
from foveal.errors import ArgumentError, ProviderError
from foveal.motion.director.chat.asking import read_answer
from foveal.motion.director.chat.request import Json, Message, Reply, Request, Usage, to_png
from foveal.motion.director.chat.schema import example
from foveal.motion.director.chat.strict import in_words

ANSWERS = ("answer.json", "answer.txt")
_MAX_BYTES = 1 << 20


class ManualModel:
    """A chat model that waits for a person.

    Args:
        folder: Where the questions go; one run a folder.
        timeout: Longest wait for one answer, s; None waits forever.
        poll: Time between two looks, s. What an answer says is judged when it has not changed
            between two looks.
        on_wait: Called with the question's folder and a sentence when a question is there, and
            when its answer cannot be used.

    Raises:
        ArgumentError: the folder cannot be written; a time is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        timeout: float | None = None,
        poll: float = 1.0,
        on_wait: Callable[[Path, str], None] | None = None,
    ) -> None:
        for name, value in (("timeout", timeout), ("poll", poll)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ArgumentError(
                    f"ManualModel: {name} is {value}, must be finite and above 0 s; "
                    "leave it out for what suits most"
                )
        self.folder = ensure_dir(Path(folder))
        self._timeout, self._poll, self._on_wait = timeout, poll, on_wait
        self._answered = 0

    def __repr__(self) -> str:
        return f"ManualModel({str(self.folder)!r})"

    def complete(self, request: Request) -> Reply:
        """Write a question, and wait for its answer.

        Raises:
            ProviderError: no answer in time, or the folder holds the answer to another question.
            ArgumentError: the folder cannot be written.
        """
        started = time.monotonic()
        place = self.folder / f"{self._answered + 1:03d}-{request.role}"
        self._write(place, request)
        problem_file = place / "problem.md"
        judged: tuple[str, bytes] | None = None
        seen: tuple[str, bytes] | None = None
        said, bad = False, 0
        while True:
            found = _find(place)
            if found is not None and found != judged:
                value, text, problem = _judge(found, request)
                if value is not None:
                    problem_file.unlink(missing_ok=True)
                    self._answered += 1
                    usage = Usage(0, 0, time.monotonic() - started, "a person")
                    return Reply(value, text, usage, "manual", reasks=bad)
                if found == seen:  # not in the middle of being saved
                    judged, bad, said = found, bad + 1, True
                    write_text(problem_file, _problem_words(found[0], problem))
                    self._say(place, f"{found[0]} cannot be used: {problem}; see problem.md")
            elif found is None and not said:
                said = True
                self._say(place, "read prompt.md, and put the answer into answer.json")
            seen = found
            if self._timeout is not None and time.monotonic() - started >= self._timeout:
                raise ProviderError(
                    f"ManualModel: {place} has no answer that can be used after {self._timeout} s, "
                    "must hold answer.json or answer.txt; run again, answers that are there are "
                    "used"
                )
            time.sleep(self._poll)

    def _say(self, place: Path, text: str) -> None:
        if self._on_wait is not None:
            self._on_wait(place, text)

    def _write(self, place: Path, request: Request) -> None:
        ensure_dir(place)
        question = place / "question.json"
        if any((place / name).exists() for name in ANSWERS) and question.exists():
            if _stored_key(question) == request.key:
                return  # the person has answered this very text and these pictures
            raise ProviderError(
                f"ManualModel: {place} holds the answer to another question, must be to "
                f"{request.role} turn {request.turn} of {request.instruction[:80]!r}; give an "
                "empty folder"
            )
        pictures = [picture for message in request.messages for picture in message.pictures]
        for i, picture in enumerate(pictures):
            write_bytes(place / _picture_name(i), to_png(picture))
        write_text(place / "prompt.md", _prompt(request))
        write_text(question, json.dumps({"key": request.key} | request.parts, indent=1) + "\n")


def _picture_name(index: int) -> str:
    return "picture.png" if index == 0 else f"picture-{index + 1}.png"


def _stored_key(path: Path) -> str:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(stored.get("key")) if isinstance(stored, dict) else ""


def _find(place: Path) -> tuple[str, bytes] | None:
    """Return name and bytes of the answer that is there; an empty file is none yet."""
    for name in ANSWERS:
        path = place / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                continue
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError:  # not there yet, or just being replaced
            continue
        if data.strip():
            return name, data
    return None


def _judge(found: tuple[str, bytes], request: Request) -> tuple[Json | None, str, str]:
    data = found[1]
    if len(data) > _MAX_BYTES:
        return None, "", f"it is longer than {_MAX_BYTES} bytes"
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")  # what some editors call Unicode
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        return None, "", "it is not UTF-8; save it as UTF-8"
    value, problem = read_answer(text, request)
    return value, text, problem


def _problem_words(name: str, problem: str) -> str:
    return (
        f"# {name} cannot be used\n\n{problem}\n\nMend it and save it again; the program looks "
        "for changes. This file goes when the answer is right.\n"
    )


def _prompt(request: Request) -> str:
    parts = [
        f"# Question to the {request.role} (turn {request.turn})",
        "Give all of this to the model, together with the pictures named in it. Put its answer "
        "into `answer.json` in this folder, or into `answer.txt` with whatever is around it.",
        "---",
    ]
    if request.system:
        parts.append(request.system)
    shown = 0
    for message in request.messages:
        parts.append(_spoken(message, len(request.messages) > 1))
        names = [_picture_name(shown + i) for i in range(len(message.pictures))]
        shown += len(names)
        if names:
            parts.append(f"(Pictures: {', '.join(names)})")
    sample = json.dumps(example(request.schema), indent=2, ensure_ascii=False)
    parts += [
        "## Form of the answer",
        f"Answer with one JSON object and nothing else.\n\n{in_words(request.schema)}",
        f"Its form, with made-up values:\n\n```json\n{sample}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _spoken(message: Message, several: bool) -> str:
    return f"**{message.author}:** {message.text}" if several else message.text
