"""The snippets of the how-to pages run."""

import json
import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[3] / "docs" / "attention"


@pytest.mark.parametrize(
    ("page", "needs"),
    [("transformers", "transformers"), ("diffusers", "diffusers"), ("own-models", None)],
)
def test_snippet_runs(page, needs, capsys):
    if needs:
        pytest.importorskip(needs)
    snippets = re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(), re.DOTALL)
    assert len(snippets) == 1
    scope = {}
    exec(compile(snippets[0], f"{page}.md", "exec"), scope)
    said = capsys.readouterr().out
    assert said.startswith("attention: ")
    assert scope["handle"].receipt.details["calls"] > 0
    if page == "diffusers":
        assert scope["handle"].receipt.details["dense_calls"]["fewer than min_tokens keys"] == 6
        assert scope["handle"].density < 1
    if page == "own-models":
        assert scope["handle"].density < 1


def test_committed_overhead_is_what_the_page_says():
    assert "under 3 % at 2048 tokens" in (PAGES / "transformers.md").read_text()
    results = PAGES.parents[1] / "benchmarks" / "results" / "attach_overhead--cpu.json"
    table = json.loads(results.read_text())
    assert table["tokens"] == 2048
    ways = [x for name, x in table["prefill"].items() if name not in ("plain", "aa")]
    assert len(ways) == 3
    assert all(x["overhead"] < 0.03 for x in ways)
    assert all(x == 0 for x in table["relative_l2_error"].values())
