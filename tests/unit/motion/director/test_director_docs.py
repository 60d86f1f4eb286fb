"""The code of the page on the director runs, in order and without a network."""

import re
from pathlib import Path

from foveal.motion.director.commands_pose import NAMES
from foveal.motion.director.loop import Limits

PAGE = Path(__file__).parents[4] / "docs" / "motion" / "director.md"


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "True [] 2"
    assert printed[1] == "kinematic"
    assert printed[2].startswith("2.5 [0.  0.7 1.5")


def test_the_page_tells_of_every_command_and_the_limits() -> None:
    text = PAGE.read_text()
    for name in NAMES:
        assert f"| `{name}` |" in text
    assert Limits() == Limits(keyframes=16, exchanges=8)
    assert "eight questions to the Animator a keyframe, sixteen keyframes" in text
