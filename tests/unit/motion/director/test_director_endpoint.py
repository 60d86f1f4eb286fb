"""The director over a real endpoint: what is sent, and pages, waits and keys on the way."""

import base64
import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal import motion
from foveal.errors import ProviderError

_spec = importlib.util.spec_from_file_location(
    "chat_server", Path(__file__).parents[1] / "test_chat_server.py"
)
assert _spec is not None
assert _spec.loader is not None
chat_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(chat_server)

KEY = "sk-director-0123456789abcdef"
PAGE = (
    200,
    "<!DOCTYPE html><html><body>Please log in</body></html>",
    {"Content-Type": "text/html"},
)
DESIGN = {
    "description": "right hand before the chest",
    "parts": [
        # as strict servers do: every field is there, null where there is nothing to say
        {"part": "right_arm", "pose": "before it", "start": None, "end": None, "ease": None}
    ],
    "dt": 0.5, "contacts": ["left_foot", "right_foot"], "starts_cycle": None, "cyclic": None,
    "facts": ["right hand in front of chest by 0.2 m"], "finished": True,
}  # fmt: skip
ACT = {
    "thought": None, "undo": None, "done": ["right_arm"],
    "commands": [
        {
            "command": "end_effector_move", "effector": "right hand", "target": [0.4, -0.1, 1.3],
            "bend": None, "reach": None,
        },
    ],
}  # fmt: skip


def answer(design=DESIGN, act=ACT):
    def play(asked, _handler):
        said = design if "Keyframe Designer" in json.dumps(asked["messages"][0]) else act
        return said if isinstance(said, tuple) else chat_server.chat(json.dumps(said))

    return play


def run(server, small, **options):
    model = motion.OpenAICompatible(server.url, "served-1", key_env="DIRECTOR_KEY", **options)
    return motion.generate("reach out", provider=model, track="kinematic", limits=small)


@pytest.fixture(autouse=True)
def _key(monkeypatch) -> None:
    monkeypatch.setenv("DIRECTOR_KEY", KEY)


def test_both_agents_are_asked_with_picture_and_strict_form(small, tmp_path) -> None:
    with chat_server.Server(answer()) as server:
        clip = run(server, small)
    details = clip.receipt.details
    assert details["complete"], details["marks"]
    assert details["direction"]["cost"]["calls"] == len(server.asked) == 2
    assert details["direction"]["cost"]["tokens_in"] == 22
    for asked in server.asked:
        form = asked["response_format"]["json_schema"]
        assert form["strict"]
        pictures = [
            part["image_url"]["url"]
            for message in asked["messages"]
            if isinstance(message["content"], list)
            for part in message["content"]
            if part["type"] == "image_url"
        ]
        assert len(pictures) == 1
        head, _, data = pictures[0].partition(",")
        assert head == "data:image/png;base64"
        path = tmp_path / "seen.png"
        path.write_bytes(base64.b64decode(data))
        with Image.open(path) as seen:
            assert np.asarray(seen).shape == (256, 256, 3)


def test_the_key_is_in_the_header_and_nowhere_else(small, tmp_path, caplog) -> None:
    with chat_server.Server(answer()) as server:
        model = motion.OpenAICompatible(server.url, "served-1", key_env="DIRECTOR_KEY")
        tape = motion.Cassette(tmp_path / "tape.jsonl", "record")
        clip = motion.generate(
            "reach out", provider=motion.Recorded(model, tape), track="kinematic", limits=small
        )
    assert KEY in server.headers[0]["Authorization"]
    told = [json.dumps(clip.receipt.details), (tmp_path / "tape.jsonl").read_text(), caplog.text]
    told += [repr(clip.receipt), json.dumps(server.asked), clip.title]
    assert not any(KEY in text for text in told)


def test_a_web_page_at_first_is_an_error_and_later_a_mark(small) -> None:
    with (
        chat_server.Server(answer(design=PAGE)) as server,
        pytest.raises(ProviderError, match=r"localhost.*(web page|no JSON|not JSON)"),
    ):
        run(server, small)
    with chat_server.Server(answer(act=PAGE)) as server:
        details = run(server, small).receipt.details
    assert not details["complete"]
    assert any("the animator could not be asked" in mark for mark in details["marks"])
    assert not any(KEY in mark for mark in details["marks"])


def test_an_endpoint_that_does_not_answer_in_time_is_an_error(small) -> None:
    def slow(_asked, _handler):
        time.sleep(1.5)
        return chat_server.chat("{}")

    with (
        chat_server.Server(slow) as server,
        pytest.raises(ProviderError, match=r"raise timeout=0.3 s"),
    ):
        run(server, small, timeout=0.3, total_timeout=1.0, retries=0)
