"""Cassettes: keys, drift, modes, and files that are cut, foreign, newer or damaged."""

import hashlib
import json
import math
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import ArgumentError, BitstreamError, ProviderError, UnsupportedError
from foveal.motion.director.chat import (
    Budget,
    BudgetError,
    CallbackModel,
    Cassette,
    Message,
    Recorded,
    Request,
)
from foveal.motion.director.chat.cassette import drift
from foveal.motion.director.chat.cassette_file import HEADER

SCHEMA = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
ASK = Request(
    "wave", "designer", 3, "d1", "System.", (Message("Next?"),), SCHEMA, 100, (0.0, 1.0, -2.0)
)


class Counter:
    """Answers 0, 1, 2, ...: a replayed answer is seen to be one."""

    def __init__(self, budget=None):
        self.calls = 0
        self.model = CallbackModel(self._answer, name="counter", budget=budget)
        self.budget = budget
        self.complete = self.model.complete

    def _answer(self, messages, pictures, schema):
        self.calls += 1
        return f'Here: {{"n": {self.calls - 1}.25}}'


def test_the_key_is_the_hash_of_its_parts_by_hand() -> None:
    schema = (
        '{"properties":{"n":{"type":"number"}},"required":["n"],"type":"object"}'
    )  # fmt: skip
    parts = (
        '{"instruction":"wave","prompt_version":"d1","role":"designer","schema_sha256":"'
        + hashlib.sha256(schema.encode()).hexdigest()
        + '","turn":3}'
    )
    assert ASK.key == hashlib.sha256(parts.encode()).hexdigest()


def test_what_is_part_of_the_key_and_what_is_not() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    same = [
        replace(ASK, messages=(Message("Other?", (picture,)),)),
        replace(ASK, system="Other."),
        replace(ASK, state=(5.0,)),
        replace(ASK, state=None),
        replace(ASK, max_tokens=7),
    ]
    other = [
        replace(ASK, instruction="Wave"),
        replace(ASK, role="animator"),
        replace(ASK, turn=4),
        replace(ASK, prompt_version="d2"),
        replace(ASK, schema={**SCHEMA, "required": []}),
    ]
    assert {r.key for r in same} == {ASK.key}
    assert len({r.key for r in [ASK, *other]}) == 6


def test_record_then_replay_is_the_same_answer(tmp_path) -> None:
    path = tmp_path / "sub" / "c.jsonl"
    first = Recorded(Counter(), Cassette(path, "record")).complete(ASK)
    assert (first.replayed, first.drift) == (False, None)
    again = Recorded(None, Cassette(path)).complete(replace(ASK, state=(0.0, 1.5, -2.25)))
    assert again == replace(first, replayed=True, drift=0.5)
    assert again.value == {"n": 0.25}
    assert again.text == 'Here: {"n": 0.25}'
    assert again.usage.model == "counter"
    assert again.warnings == ()


def test_drift_by_hand() -> None:
    assert drift((1.0, 2.0), [1.0, 2.0]) == 0
    assert drift((1.0, -2.0), [0.5, -1.0]) == 1.0
    assert drift((), []) == 0
    assert drift((1.0,), []) == math.inf
    assert drift(None, [1.0]) is None
    assert drift((1.0,), None) is None


def test_modes(tmp_path) -> None:
    path = tmp_path / "c.jsonl"
    other = replace(ASK, turn=4)
    model = Counter()
    missing = Recorded(model, Cassette(path, "record-missing"))
    assert [missing.complete(r).value["n"] for r in (ASK, ASK, other, ASK)] == [
        0.25, 0.25, 1.25, 0.25,
    ]  # fmt: skip
    assert model.calls == 2
    assert missing.missing([ASK, other, replace(ASK, turn=5)])[0].turn == 5
    off = Recorded(model, Cassette(path, "off"))
    assert off.complete(ASK).value == {"n": 2.25}
    assert len(off.missing([ASK])) == 1
    record = Recorded(model, Cassette(path, "record"))
    assert record.complete(ASK).value == {"n": 3.25}
    assert len(record.cassette) == 2  # the last one counts
    replay = Recorded(model, Cassette(path, "replay"))
    assert replay.complete(ASK).value == {"n": 3.25}
    assert replay.missing([replace(ASK, turn=9)]) == []
    assert model.calls == 4
    assert len(path.read_text().splitlines()) == 1 + 3


def test_a_miss_names_the_parts_and_the_nearest(tmp_path) -> None:
    path = tmp_path / "c.jsonl"
    Recorded(Counter(), Cassette(path, "record")).complete(ASK)
    with pytest.raises(ProviderError) as caught:
        Recorded(None, Cassette(path)).complete(replace(ASK, prompt_version="d2", turn=0))
    text = str(caught.value)
    sha = ASK.parts["schema_sha256"]
    assert f"instruction 'wave', role 'designer', turn '0', prompt_version 'd2', schema_sha256 '{sha}'" in text  # fmt: skip  # noqa: E501
    assert "the nearest has turn '3', prompt_version 'd1'; record it" in text


def test_what_is_replayed_costs_nothing(tmp_path) -> None:
    path = tmp_path / "c.jsonl"
    budget = Budget(calls=1)
    chat = Recorded(Counter(budget), Cassette(path, "record-missing"))
    with pytest.raises(BudgetError, match="2 calls might take"):
        chat.require([ASK, replace(ASK, turn=4)])
    chat.complete(ASK)
    for _ in range(3):
        chat.complete(ASK)
    assert budget.spent.calls == 1
    assert chat.require([ASK]).calls == 0
    with pytest.raises(BudgetError):
        chat.complete(replace(ASK, turn=4))
    assert Recorded(None, Cassette(path)).require([ASK]) is None
    with pytest.raises(ArgumentError, match="model is None, must be one with mode 'off'"):
        Recorded(None, Cassette(path, "off"))


@settings(max_examples=60, deadline=None)
@given(
    asked=st.lists(
        st.tuples(
            st.text(min_size=1, max_size=8).filter(str.strip),
            st.integers(0, 3),
            st.none() | st.lists(st.floats(-1e9, 1e9), max_size=3),
            st.dictionaries(st.sampled_from("ab"), st.floats(-1e300, 1e300) | st.text(max_size=4)),
        ),
        max_size=5,
    ),
    cut=st.floats(0, 1),
)
def test_any_recording_comes_back_and_survives_a_cut(tmp_path_factory, asked, cut) -> None:
    path = tmp_path_factory.mktemp("cassette") / "c.jsonl"
    schema = {"type": "object"}
    expected, requests = {}, []
    for instruction, turn, state, answer in asked:
        request = Request(
            instruction, "designer", turn, "d1", "", (Message("?"),), schema, 100,
            None if state is None else tuple(state),
        )  # fmt: skip
        try:
            json.dumps(answer, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            continue
        model = CallbackModel(lambda *_, value=answer: value)
        expected[request.key] = Recorded(model, Cassette(path, "record")).complete(request).value
        assert expected[request.key] == answer
        requests.append(request)
    if not requests:
        return
    cassette = Cassette(path)
    assert len(cassette) == len(expected)
    for request in requests:
        reply = cassette.replay(request)
        assert reply.value == expected[request.key]
    last = requests[-1]
    assert cassette.replay(last).drift == (None if last.state is None else 0)

    # cut anywhere, also within a line, and go on recording
    data = path.read_bytes()
    whole = data[: int(cut * len(data))]
    path.write_bytes(whole)
    shorter = Cassette(path, "record-missing")
    assert len(shorter) <= len(expected)
    ended = not whole or whole.endswith(b"\n")
    assert not (shorter.warnings and ended)
    chat = Recorded(CallbackModel(lambda *_: {"new": 1}), shorter)
    lost = bool(chat.missing(requests))
    for request in requests:
        chat.complete(request)
    healed = Cassette(path)
    # a last line of no use is removed by the first one that is written after it
    assert healed.warnings == (() if lost else shorter.warnings)
    assert len(healed) == len(expected)
    assert path.read_bytes().startswith(HEADER)


def test_a_line_that_was_cut_off_is_a_warning_of_every_replay(tmp_path) -> None:
    path = tmp_path / "c.jsonl"
    chat = Recorded(Counter(), Cassette(path, "record"))
    chat.complete(ASK)
    chat.complete(replace(ASK, turn=4))
    path.write_bytes(path.read_bytes()[:-5])
    cassette = Cassette(path)
    assert len(cassette) == 1
    reply = cassette.replay(ASK)
    assert reply.warnings == (
        "cassette c.jsonl: its last line (3) was cut off, and is left out",
    )  # fmt: skip
    with pytest.raises(ProviderError, match="has none"):
        cassette.replay(replace(ASK, turn=4))
    # a whole last line that only lacks its line break is taken
    Recorded(Counter(), Cassette(path, "record")).complete(replace(ASK, turn=5))
    path.write_bytes(path.read_bytes()[:-1])
    assert len(Cassette(path)) == 2
    Recorded(Counter(), Cassette(path, "record")).complete(replace(ASK, turn=6))
    assert (len(Cassette(path)), Cassette(path).warnings) == (3, ())


@pytest.mark.parametrize("left", [0, 1, 20, len(HEADER) - 1, len(HEADER)])
def test_a_first_line_that_was_cut_off_is_written_anew(tmp_path, left) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(HEADER[:left])
    cassette = Cassette(path, "record-missing")
    assert len(cassette) == 0
    assert bool(cassette.warnings) == (0 < left < len(HEADER))
    Recorded(Counter(), cassette).complete(ASK)
    assert path.read_bytes().count(HEADER) == 1
    assert (len(Cassette(path)), Cassette(path).warnings) == (1, ())


@pytest.mark.parametrize(
    ("data", "kind", "problem"),
    [
        (b'{"format": "foveal-chat-cassette", "version": 2}\n', UnsupportedError,
         "version 2, must be 1; update foveal"),
        (b'{"format": "vcr", "version": 1}\n', BitstreamError, "must start with the format"),
        (b"interactions:\n- request\n", BitstreamError, "starts with 'interactions:'"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), BitstreamError, "must start with the format"),
        (b"[" * 100_000, BitstreamError, "must start with the format"),
        (HEADER + b"{}\n" + HEADER, BitstreamError, "line 2 is damaged .entry has no 'key'"),
        (HEADER + b"xx\n", BitstreamError, "line 2 is damaged"),
        (HEADER + b"\xff\n", BitstreamError, "line 2 is damaged"),
    ],
)  # fmt: skip
def test_foreign_newer_and_damaged_files_are_refused_and_stay(tmp_path, data, kind, problem):
    path = tmp_path / "c.jsonl"
    path.write_bytes(data)
    for mode in ("replay", "record", "record-missing"):
        with pytest.raises(kind, match=f"c.jsonl.*{problem}"):
            Cassette(path, mode)
    assert path.read_bytes() == data
    Cassette(path, "off")


def test_entries_that_were_changed_are_refused(tmp_path) -> None:
    path = tmp_path / "c.jsonl"
    Recorded(Counter(), Cassette(path, "record")).complete(ASK)
    line = path.read_text()
    path.write_text(line.replace('"turn": 3', '"turn": 4'))
    with pytest.raises(BitstreamError, match="line 2 is damaged .its key is not that of its parts"):
        Cassette(path)
    path.write_text(line.replace('"answer": {"n": 0.25}', '"answer": {"n": "up"}'))
    with pytest.raises(BitstreamError, match="has been changed .answer.n is 'up'"):
        Cassette(path).replay(ASK)
    path.write_text(line.replace('"seconds": ', '"seconds": -Infinity, "x": '))
    with pytest.raises(BitstreamError, match="usage.seconds is -inf"):
        Cassette(path)


def test_a_file_that_becomes_foreign_is_not_written_to(tmp_path) -> None:
    path = tmp_path / "c.jsonl"
    chat = Recorded(Counter(), Cassette(path, "record"))
    path.write_text("my diary")
    with pytest.raises(BitstreamError, match="'my diary'"):
        chat.complete(ASK)
    assert path.read_text() == "my diary"


def test_paths_that_cannot_be(tmp_path) -> None:
    with pytest.raises(ArgumentError, match="must be there to be replayed"):
        Cassette(tmp_path / "none.jsonl")
    with pytest.raises(ArgumentError, match="must be a file that can be read"):
        Cassette(tmp_path)
    (tmp_path / "file").write_text("")
    chat = Recorded(Counter(), Cassette(tmp_path / "file" / "c.jsonl", "record"))
    with pytest.raises(ArgumentError, match="must be a file that can be written"):
        chat.complete(ASK)


def test_two_writers_never_mix_their_lines(tmp_path) -> None:
    path = tmp_path / "c.jsonl"

    def write(role: str) -> None:
        chat = Recorded(
            CallbackModel(lambda *_: {"n": 1, "long": "x" * 20_000}), Cassette(path, "record")
        )
        for turn in range(15):
            chat.complete(replace(ASK, role=role, turn=turn))

    threads = [threading.Thread(target=write, args=(role,)) for role in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Cassette(path)) == 45


_FULL = """
import resource, sys
from foveal.errors import ArgumentError
from foveal.motion.director.chat import CallbackModel, Cassette, Message, Recorded, Request
path = sys.argv[1]
schema = {"type": "object"}
asks = [Request("wave", "a", turn, "d1", "", (Message("?"),), schema, 100) for turn in range(2)]
chat = Recorded(CallbackModel(lambda *_: {"long": "x" * 2000}), Cassette(path, "record"))
chat.complete(asks[0])
size = len(open(path, "rb").read())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 500, resource.RLIM_INFINITY))
try:
    chat.complete(asks[1])
except ArgumentError as error:
    print(len(open(path, "rb").read()) - size, len(Cassette(path)), error)
"""


def test_a_line_that_finds_no_room_leaves_nothing_behind(tmp_path) -> None:
    command = [sys.executable, "-c", _FULL, str(tmp_path / "c.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 1 Cassette: path is")
    assert "must be a file that can be written (only a part was written)" in done.stdout


def test_unknown_modes_are_named(tmp_path) -> None:
    with pytest.raises((ArgumentError, TypeError), match="mode"):
        Cassette(tmp_path / "c.jsonl", "append")
