"""A recorded direction: replayed without a model, byte for byte, and honest about misses."""

import json
from pathlib import Path

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ProviderError
from foveal.motion.director.chat import Cassette, ManualModel, Recorded
from foveal.motion.director.commands_pose import EndEffectorMove, read_command
from foveal.motion.director.loop import Limits

TAPE = Path(__file__).parent / "wave.cassette.jsonl"
WORDS = "wave with the right hand"


def replay(words: str = WORDS, tape: Path = TAPE):
    return motion.generate(
        words, provider=Recorded(None, Cassette(tape)), track="kinematic",
        limits=Limits(picture_size=256),
    )  # fmt: skip


@pytest.fixture(scope="module")
def clip():
    return replay()


def test_the_recording_waves_without_a_model(clip) -> None:
    details = clip.receipt.details
    assert details["complete"], details["marks"]
    assert details["action"] == "wave"
    assert all(fact["truth"] for fact in details["facts"])
    cost = details["direction"]["cost"]
    assert (cost["calls"], cost["replayed"], cost["seconds"]) == (0, 15, 0.0)
    assert clip.seconds == pytest.approx(3.1, abs=0.1)


def test_it_says_who_answered() -> None:
    header = json.loads(TAPE.read_text().splitlines()[0])
    assert "from prompt.md and picture.png of a ManualModel folder alone" in header["note"]
    assert len(Cassette(TAPE)) == 15


def test_it_is_replayed_in_the_places_it_was_recorded_in(clip) -> None:
    drifts = [entry["drift"] for entry in clip.receipt.details["direction"]["transcript"]]
    assert len(drifts) == 15
    assert max(drifts) < 0.02  # rad and m


def test_the_same_recording_gives_the_same_bytes(clip, tmp_path) -> None:
    again = replay()
    assert np.array_equal(again.angles, clip.angles)
    assert np.array_equal(again.root_positions, clip.root_positions)
    names = [c.save(tmp_path / f"{i}.npz").read_bytes() for i, c in enumerate((clip, again))]
    assert names[0] == names[1]


def test_the_right_hand_waves_where_the_answers_put_it(clip) -> None:
    """Each keyframe's hand is where the last reaching command of its answers said."""
    targets: dict[int, np.ndarray] = {}
    for entry in clip.receipt.details["direction"]["transcript"]:
        if entry["role"] == "animator":
            for command in map(read_command, entry["answer"]["commands"]):
                if isinstance(command, EndEffectorMove):
                    targets[entry["keyframe"]] = np.array(command.target)
    assert sorted(targets) == [1, 2, 3, 4, 5, 6]
    hand = clip.skeleton.body("right_hand")
    for number, target in targets.items():
        frame = round(clip.keyframe_times[number] * clip.fps)
        wrist = clip.positions[frame, hand]
        # the palm's middle is within a hand of the wrist; balance may shift all by centimeters
        assert np.linalg.norm(wrist - target) < 0.12


def test_another_instruction_is_a_miss_that_says_so() -> None:
    with pytest.raises(ProviderError, match="none for instruction 'wave with the left hand'"):
        replay("wave with the left hand")


def test_a_run_by_hand_asks_with_text_and_picture(tmp_path) -> None:
    model = ManualModel(tmp_path / "run", timeout=0.2, poll=0.05)
    with pytest.raises(ProviderError, match="001-designer has no answer"):
        motion.generate(WORDS, provider=model, track="kinematic")
    place = tmp_path / "run" / "001-designer"
    assert sorted(p.name for p in place.iterdir()) == ["picture.png", "prompt.md", "question.json"]
    text = (place / "prompt.md").read_text()
    for part in (
        WORDS,
        "- right hand: [",
        "- right palm faces [",
        "balance: the center of mass is",
        "You are the Keyframe Designer",
        '- "finished" (true or false)',
    ):
        assert part in text
