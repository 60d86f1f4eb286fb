"""Figures of the codec that are shown: what stands beside them."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("chapter", ["external", "external_of_chosen", "external_of_four"])
def test_unseen_tasks_stand_beside_their_controls(chapter: str) -> None:
    """A later task is judged on a random stream and on its own stream too, at equal heads."""
    path = ROOT / "benchmarks" / "results" / "codec-tasks--h200.json"
    rows = json.loads(path.read_text())[chapter]
    assert rows
    for row in rows:
        for key in ("joint", "random", "dedicated", "over_random", "share_of_dedicated"):
            assert row[key]["low"] <= row[key]["value"] <= row[key]["high"], (row["task"], key)
        joint, random, own = (row[key]["value"] for key in ("joint", "random", "dedicated"))
        assert row["over_random"]["value"] == pytest.approx(joint - random)
        assert row["share_of_dedicated"]["value"] == pytest.approx(joint / own)
    page = (ROOT / "docs" / "codec" / "measured.md").read_text()
    assert page.count("| head on the joint stream | on a random stream | own stream, equal") == 3
