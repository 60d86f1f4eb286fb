"""The tables of docs/lowlight/benchmark.md, from a small table made by hand."""

import re
import sys
from pathlib import Path

import pytest

from foveal.cli.bench_lowlight import LowlightOptions
from foveal.data.sensor_noise import TRIPLES
from foveal.lowlight.bench_table import Table
from foveal.lowlight.evaluate_human import MEASURES, Looks
from foveal.lowlight.outcomes import CEILING, FIXED, UNTOUCHED, Outcomes

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "lowlight" / "benchmark.md"


@pytest.fixture(scope="module")
def docs():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import docs_bench_lowlight
        import fill_docs
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return docs_bench_lowlight, fill_docs


def made(answers: str) -> Table:
    """Ten pictures, each seen by the first curves of so many."""
    where = {"teacher": "eye", "source": "ten", "device": "cpu", "torch": "2", "seed": 0}
    where |= {"answers": answers, "pictures": 10, "draws": 1}
    table = Table(where, list(range(10)))

    def first(n: int, of: int = 10) -> list[int]:
        return [int(i < n) for i in range(of)]

    seen = {
        UNTOUCHED: first(2),
        FIXED[0]: first(4),
        FIXED[1]: [0, 0, 0, 0, 1, 1, 1, 0, 0, 0],
        "mine": first(7),
        "random-curve": first(3),
        "sci": first(8),
        "denoise, then mine": first(8),
    }
    table.methods = dict.fromkeys(seen, "mark")
    for triple in TRIPLES:
        false = {name: [0] * 10 for name in seen}
        table.add(Outcomes(triple, table.groups, [1] * 10, 1, dict(seen), false))
        table.regimes[triple] = {"well-lit": 0, "light-limited": 3, "noise-limited": 7}
    values = {m: [0.5] * 10 for m in MEASURES}
    other = {m: [0.5 + 0.1 * i for i in range(10)] for m in MEASURES}
    looks = {UNTOUCHED: values, "mine": other, FIXED[0]: other, FIXED[1]: values}
    table.add(Looks(TRIPLES[2], [1] * 10, 1, looks))
    return table


def cells(text: str) -> list[list[str]]:
    return [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines() if x[:1] == "|"]


def test_tables_for_machines_and_people(docs, tmp_path) -> None:
    ours, fill = docs
    assert ours.machine(tmp_path, fill.table) == ours.NOTHING
    assert ours.targets(tmp_path, fill.table) == ours.NOTHING
    made("classes").write(tmp_path / "lowlight--eye--cpu.json")
    (tmp_path / "lowlight--old.json").write_text('{"suite": "lowlight", "rows": []}')
    text = ours.machine(tmp_path, fill.table)
    assert "### eye: ten" in text
    assert "10 groups. Fewer than 100 groups: an anecdote." in text
    rows = {row[0]: row[1:] for row in cells(text)}
    assert len(rows["method"]) == 5
    assert rows["mine"][0].startswith("70.0: +50.0 (+20.0 to")
    assert rows[UNTOUCHED][0] == "20.0: +0.0 (+0.0 to +0.0)"
    assert rows[CEILING][0].startswith("70.0")
    assert rows["(that best curve)"][0] == FIXED[0].removeprefix("reciprocal ")
    assert rows["(pictures by the gate)"][4] == "30 % light-limited, 70 % noise-limited"
    assert not set(FIXED) & set(rows)
    people = {row[0]: row[1:] for row in cells(ours.human(tmp_path, fill.table))}
    assert people["mine"][0].startswith("0.95 (+0.45: ")
    assert set(people) == {"method", "---", UNTOUCHED, "mine", FIXED[0]}


def test_aims_of_classes(docs) -> None:
    ours, _ = docs
    rows = list(ours.aims(made("classes")))
    assert {row[0] for row in rows} == {"mine", "denoise, then mine", "the gate"}
    dark = {row[2]: row[3:] for row in rows if row[1] == ours.label(ours.DARK)}
    # 70 % against 40 % and a ceiling of 70 %: all of the way
    assert dark["less the best fixed curve"][0].startswith("+30.0 (")
    assert dark["less the best fixed curve"][2] == "yes"
    assert dark["from there to the ceiling"][0].startswith("100 % of the way; less a third of it")
    assert "+20.0 (" in dark["from there to the ceiling"][0]
    assert dark["less random-curve"][2] == "yes"
    assert dark["less sci"][0].startswith("-10.0")
    assert dark["less sci"][2] == "open, mean below"
    assert "less zero-dce" not in dark
    bright = [row for row in rows if row[1] == ours.label(ours.BRIGHT)]
    assert [row[2] for row in bright] == ["less untouched"]
    noisy = {row[2]: row[3] for row in rows if row[1] == ours.label(ours.NOISY)}
    assert noisy["less the curve alone"].startswith("+10.0")
    assert noisy["pictures"] == "30 % light-limited, 70 % noise-limited"


def test_aims_of_boxes(docs) -> None:
    ours, _ = docs
    rows = [r for r in ours.aims(made("boxes")) if r[1] == ours.label(ours.DIM)]
    assert [r[2] for r in rows if r[0] != "mine"] == [
        "lost things found again",
        "less the ceiling of any curve",
    ]
    ((_, _, figure, measured, _, reached),) = (r for r in rows if r[0] == "mine")
    # of eight lost ones five are back: 62 %; 0.7 less 0.6
    assert figure == "lost things found again"
    assert measured.startswith("62 %; less half: +10.0 (")
    assert reached == "open, mean above"


def test_two_ways_to_align_are_compared(docs) -> None:
    ours, _ = docs
    table = made("classes")
    for outcomes in table.machine.values():
        outcomes.again["eye--pretext"] = [0] * 5 + [1] * 5
        outcomes.again["eye--ensemble"] = [1] + [0] * 9
    table.methods |= {"eye--pretext": "a", "eye--ensemble": "b"}
    rows = [r for r in ours.aims(table) if r[2] == "less eye--ensemble"]
    assert len(rows) == len(TRIPLES)
    assert rows[0][3].startswith("+40.0 (")


def test_verdicts(docs) -> None:
    from foveal.stats import Interval

    ours, _ = docs
    for low, mean, high, said in (
        (0.1, 0.2, 0.3, "yes"),
        (-0.3, -0.2, -0.1, "no"),
        (-0.1, 0.1, 0.3, "open, mean above"),
        (-0.2, -0.1, 0.1, "open, mean below"),
    ):
        assert ours.verdict(Interval(mean, low, high, 10, True), 0) == said


def test_the_page_names_options_that_exist(docs) -> None:
    _, fill = docs
    text = PAGE.read_text()
    assert str(PAGE.relative_to(ROOT)) in fill.DOCUMENTS
    for name in re.findall(r"<!-- begin (\w+) -->", text):
        assert name in fill.PARTS
    known = LowlightOptions.__dataclass_fields__
    options = {x for code in re.findall(r"`([^`\n]+)`", text) for x in re.findall(r"(\w+)=", code)}
    options |= set(re.findall(r"-o (\w+)=", text))
    assert options - {"threshold"} <= set(known)
    assert len(options) > 15
