"""The code of the page on providers runs, in order and without a network."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "motion" / "providers.md"


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "Amount(calls=12" in printed
    assert "{'description': 'arms up', 'dt': 0.5} True 0.0" in printed
    assert (tmp_path / "run").is_dir()
