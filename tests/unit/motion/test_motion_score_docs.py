"""The page on scores says what `score` returns; a long clip is scored quickly."""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from foveal import motion

PAGE = Path(__file__).parents[3] / "docs" / "motion" / "score.md"


def test_code_blocks_give_what_they_say():
    names = {}
    told = 0
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        for line in block.splitlines():
            code, _, says = line.partition("  # ")
            if says:
                value = eval(code, names)
                assert str(value) == says.partition(":")[0], line
                told += 1
            else:
                exec(code, names)
    assert told == 3


def test_every_name_is_on_the_page_and_every_name_on_the_page_is_returned():
    clip = motion.generate("wave", track="kinematic")
    scores = motion.score(
        clip, reference=clip, facts=["loops"], keyframe_times=clip.keyframe_times, cyclic=True
    )
    rows = re.findall(r"^\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.M)
    always = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[0])}
    given = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    arguments = {"reference", "action", "facts", "keyframe_times", "keys", "cyclic"}
    assert (always | given) - arguments | {"facts"} == set(scores)
    plain = motion.score(clip)
    assert always - arguments == set(plain)


def test_ten_seconds_are_scored_in_a_few():
    clip = motion.generate("walk", track="kinematic", fps=60)
    rows = np.resize(np.arange(clip.num_frames), 601)
    long = replace(
        clip,
        root_positions=clip.root_positions[rows],
        root_rotations=clip.root_rotations[rows],
        angles=clip.angles[rows],
        contacts=clip.contacts[rows],
    )
    spent = []
    for _ in range(3):
        began = time.process_time()
        motion.score(long, reference=long, cyclic=True)
        spent.append(time.process_time() - began)
    assert min(spent) < 6.0  # .3 on an idle core
