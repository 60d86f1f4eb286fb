"""A person as the model: the folder's files, bad answers, resuming, and nothing but data."""

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.errors import ArgumentError, ProviderError
from foveal.motion.director.chat import ChatModel, ManualModel, Message, Request

SCHEMA = {
    "type": "object",
    "properties": {
        "dt": {"type": "number", "minimum": 0.1, "description": "Seconds to get there."},
        "note": {"type": "string"},
    },
    "required": ["dt"],
}
PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
ASK = Request(
    "wave", "designer", 0, "d1", "You design poses.",
    (Message("What is next?", (PICTURE, PICTURE[:, ::-1])),), SCHEMA,
)  # fmt: skip
PLACE = "001-designer"


def manual(folder: Path, **options) -> ManualModel:
    return ManualModel(folder, **{"timeout": 20, "poll": 0.01} | options)


def test_a_question_is_written_whole(tmp_path) -> None:
    said = []
    model = manual(tmp_path / "run", timeout=0.05, on_wait=lambda *words: said.append(words))
    assert isinstance(model, ChatModel)
    with pytest.raises(ProviderError, match="001-designer has no answer that can be used"):
        model.complete(ASK)
    place = tmp_path / "run" / PLACE
    assert said == [(place, "read prompt.md, and put the answer into answer.json")]
    assert sorted(p.name for p in place.iterdir()) == [
        "picture-2.png", "picture.png", "prompt.md", "question.json",
    ]  # fmt: skip
    text = (place / "prompt.md").read_text()
    for part in (
        "You design poses.",
        "What is next?",
        "(Pictures: picture.png, picture-2.png)",
        '- "dt" (a number, at least 0.1): Seconds to get there.',
        '- "note" (text, may be left out)',
    ):
        assert part in text
    sample = json.loads(text.split("```json\n")[1].split("```")[0])
    assert sample == {"dt": 0.1, "note": "..."}
    assert np.array_equal(np.asarray(Image.open(place / "picture.png")), PICTURE)
    assert np.array_equal(np.asarray(Image.open(place / "picture-2.png")), PICTURE[:, ::-1])


def test_an_answer_comes_while_it_waits(tmp_path) -> None:
    def answer(place: Path, _: str) -> None:
        threading.Timer(0.1, lambda: (place / "answer.txt").write_text('Well: {"dt": 1}.')).start()

    reply = manual(tmp_path, on_wait=answer).complete(ASK)
    assert reply.value == {"dt": 1}
    assert reply.text == 'Well: {"dt": 1}.'
    assert (reply.rung, reply.reasks, reply.usage.model) == ("manual", 0, "a person")
    assert reply.usage.seconds >= 0.1


def test_a_bad_answer_gets_a_problem_and_another_try(tmp_path) -> None:
    said = []

    def answer(place: Path, words: str) -> None:
        said.append(words)
        if len(said) == 1:
            (place / "answer.json").write_text('{"dt": 0}')
        else:
            assert "answer.dt is 0, must be at least 0.1" in (place / "problem.md").read_text()
            (place / "answer.json").write_text('{"dt": 0.2}')

    reply = manual(tmp_path, on_wait=answer).complete(ASK)
    assert (reply.value, reply.reasks) == ({"dt": 0.2}, 1)
    assert said[1] == (
        "answer.json cannot be used: answer.dt is 0, must be at least 0.1; see problem.md"
    )
    assert not (tmp_path / PLACE / "problem.md").exists()


def test_a_bad_answer_that_stays_is_judged_once(tmp_path) -> None:
    said = []
    (tmp_path / PLACE).mkdir()
    (tmp_path / PLACE / "answer.json").write_text("{")
    with pytest.raises(ProviderError, match="has no answer that can be used after 1.0 s"):
        manual(tmp_path, timeout=1.0, on_wait=lambda _, words: said.append(words)).complete(ASK)
    assert len(said) == 1
    assert "no JSON object" in said[0]


def test_a_run_that_was_broken_off_goes_on(tmp_path) -> None:
    second = replace(ASK, role="animator", turn=1)
    (tmp_path / PLACE).mkdir()
    (tmp_path / PLACE / "answer.json").write_text('{"dt": 1}')
    model = manual(tmp_path, timeout=0.05)
    assert model.complete(ASK).value == {"dt": 1}
    for _ in range(2):  # asked again, it is the same question and the same folder
        with pytest.raises(ProviderError, match="002-animator"):
            model.complete(second)
    prompt = tmp_path / PLACE / "prompt.md"
    prompt.write_text("kept")
    (tmp_path / "002-animator" / "answer.json").write_text('{"dt": 2}')
    again = manual(tmp_path, timeout=5)
    # another pose or picture: the answers that are there are used all the same
    assert again.complete(replace(ASK, messages=(Message("Now?"),))).value == {"dt": 1}
    assert again.complete(second).value == {"dt": 2}
    assert prompt.read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == [PLACE, "002-animator"]


def test_answers_to_another_question_are_not_used(tmp_path) -> None:
    model = manual(tmp_path, timeout=0.05)
    with pytest.raises(ProviderError, match="no answer"):
        model.complete(ASK)
    other = replace(ASK, instruction="jump")
    with pytest.raises(ProviderError, match="no answer"):
        manual(tmp_path, timeout=0.05).complete(other)  # nobody answered: it is asked anew
    (tmp_path / PLACE / "answer.json").write_text('{"dt": 1}')
    with pytest.raises(
        ProviderError, match="another question, must be to designer turn 0 of 'wave"
    ):
        manual(tmp_path).complete(ASK)
    assert manual(tmp_path).complete(other).value == {"dt": 1}
    (tmp_path / PLACE / "question.json").write_text("{")
    with pytest.raises(ProviderError, match="another question"):
        manual(tmp_path).complete(other)


@pytest.mark.parametrize(
    "data",
    [
        b'{"dt": 1}',
        b'\xef\xbb\xbf{"dt": 1}',
        '{"dt": 1}'.encode("utf-16"),
        b'```json\r\n{"dt": 1}\r\n```\r\n',
    ],
)
def test_what_editors_write_is_read(tmp_path, data) -> None:
    (tmp_path / PLACE).mkdir()
    (tmp_path / PLACE / "answer.txt").write_bytes(data)
    assert manual(tmp_path).complete(ASK).value == {"dt": 1}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b'{"dt": 1, "note": "\xff"}', "it is not UTF-8; save it as UTF-8"),
        (b'{"dt": 1}' + b" " * (1 << 20), "it is longer than 1048576 bytes"),
        (b"\xff\xfe{", "it is not UTF-8"),
        (b'{"dt": 1', "no JSON object|cut off"),
    ],
)
def test_files_that_cannot_be_read_are_a_problem_not_an_end(tmp_path, data, problem) -> None:
    said = []

    def see(place: Path, words: str) -> None:
        said.append(words)
        (place / "answer.json").write_text('{"dt": 1}')

    (tmp_path / PLACE).mkdir()
    (tmp_path / PLACE / "answer.json").write_bytes(data)
    assert manual(tmp_path, on_wait=see).complete(ASK).value == {"dt": 1}
    assert len(said) == 1
    assert any(word in said[0] for word in problem.split("|"))


def test_an_answer_that_is_no_file_is_passed_over(tmp_path) -> None:
    place = tmp_path / PLACE
    (place / "answer.json").mkdir(parents=True)
    (place / "answer.txt").write_text('{"dt": 1}')
    assert manual(tmp_path).complete(ASK).value == {"dt": 1}


def test_an_answer_that_would_block_is_passed_over(tmp_path) -> None:
    (tmp_path / PLACE).mkdir()
    os.mkfifo(tmp_path / PLACE / "answer.json")
    with pytest.raises(ProviderError, match="has no answer"):
        manual(tmp_path, timeout=0.1).complete(ASK)


def test_half_written_answers_are_not_judged(tmp_path) -> None:
    said = []
    place = tmp_path / PLACE
    place.mkdir()

    def write() -> None:
        text = '{"dt": 1, "note": "' + "x" * 30 + '"}'
        for end in range(1, len(text) + 1):
            (place / "answer.json").write_text(text[:end])
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    reply = manual(tmp_path, poll=1.0, on_wait=lambda _, words: said.append(words)).complete(ASK)
    writer.join()
    assert reply.value["dt"] == 1
    assert not any("cannot be used" in words for words in said)


def test_an_answer_cannot_name_a_path(tmp_path) -> None:
    inside = tmp_path / "run"
    (inside / PLACE).mkdir(parents=True)
    answer = {"dt": 1, "note": "../../../evil", "/etc/evil": "__import__('os')"}
    (inside / PLACE / "answer.json").write_text(json.dumps(answer))
    assert manual(inside).complete(ASK).value == answer
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        PLACE, "answer.json", "picture-2.png", "picture.png", "prompt.md", "question.json", "run",
    ]  # fmt: skip


def test_several_messages_say_who_speaks(tmp_path) -> None:
    talk = (Message("One?"), Message("Two.", author="assistant"), Message("Three?", (PICTURE,)))
    (tmp_path / PLACE).mkdir()
    (tmp_path / PLACE / "answer.json").write_text('{"dt": 1}')
    manual(tmp_path).complete(replace(ASK, messages=talk, system=""))
    text = (tmp_path / PLACE / "prompt.md").read_text()
    assert "**user:** One?\n\n**assistant:** Two.\n\n**user:** Three?" in text


def test_bad_arguments_are_named(tmp_path) -> None:
    for name, value in [("timeout", 0.0), ("poll", float("nan")), ("poll", -1.0)]:
        with pytest.raises(ArgumentError, match=f"ManualModel: {name} is {value}"):
            ManualModel(tmp_path, **{name: value})
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="cannot be written"):
        ManualModel(tmp_path / "file")
