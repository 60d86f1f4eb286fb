"""Committed results: no speed without its error and density, no claim that the rows contradict."""

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def load(name):
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"{path.name} belongs to the repository, not to the package")
    return json.loads(path.read_text())


def test_speeds_have_their_density_error_and_selection() -> None:
    suite = load("cpu_speed--cpu")
    assert suite["commit"]
    for row in suite["rows"]:
        assert 0 < row["density"] <= 1
        assert row["relative_l2_error"] >= 0
        both, parts = row["both_ms"]["median"], row["select_ms"]["median"]
        assert both > parts > 0
        assert row["speedup"] == pytest.approx(row["dense_ms"]["median"] / both)


def test_precision_is_judged_on_outliers_too() -> None:
    rows = [r for r in load("precision--cpu")["rows"] if r["tensors"] == "outliers"]

    def error(**settings):
        (row,) = [r for r in rows if settings == (r["settings"] or {})]
        return row["relative_l1"]

    int4 = {
        (k, q): error(mode="int4-fp16", smooth_k=k, smooth_q=q)
        for k in (False, True)
        for q in (False, True)
    }
    assert int4[True, True] < min(int4[True, False], int4[False, True])
    assert max(int4[True, False], int4[False, True]) < int4[False, False]


def test_the_parity_fix_is_no_worse_anywhere_and_finds_even_slashes() -> None:
    suite = load("selection--cpu")
    for row in suite["planted"]:
        if row["distance"] == "even":
            if row["alternate"]:
                assert row["found"] > 2 * row["chance"]
            else:
                assert row["found"] < 2 * row["chance"]
