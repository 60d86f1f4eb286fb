"""What the table of the bench keeps, forgets and joins."""

import copy

import pytest

from foveal.data.sensor_noise import TRIPLES
from foveal.errors import ArgumentError
from foveal.lowlight.bench_table import Table, differences
from foveal.lowlight.evaluate_human import MEASURES, Looks
from foveal.lowlight.outcomes import UNTOUCHED, Outcomes


def made(*methods: str, triple: int = 0, seed: int = 0) -> Table:
    table = Table({"draws": 1, "seed": seed}, [0, 1, 1])
    names = (UNTOUCHED, *methods)
    table.use({name: f"mark of {name}" for name in names})
    counts = {name: [1, 0, 1] for name in names}
    table.add(Outcomes(TRIPLES[triple], [0, 1, 1], [1, 1, 1], 1, counts, copy.deepcopy(counts)))
    values = {name: {m: [0.5, 0.25] for m in MEASURES} for name in names}
    table.add(Looks(TRIPLES[triple], [1, 2], 1, values))
    table.regimes[TRIPLES[triple]] = {"well-lit": 3}
    return table


def test_a_name_that_means_another_method_is_forgotten_everywhere() -> None:
    table = made("curve")
    table.use({"curve": "mark of curve"})
    (outcomes,), (looks,) = table.machine.values(), table.human.values()
    assert outcomes.methods == looks.methods == (UNTOUCHED, "curve")
    table.use({"curve": "another"})
    assert outcomes.methods == looks.methods == (UNTOUCHED,)
    assert list(outcomes.false) == [UNTOUCHED]
    assert table.methods["curve"] == "another"


def test_join_takes_darknesses_and_methods_and_refuses_others(tmp_path) -> None:
    table = made("a")
    table.join(made("b"))
    table.join(made("a", triple=3))
    assert table.machine[TRIPLES[0]].methods == (UNTOUCHED, "a", "b")
    assert table.human[TRIPLES[0]].methods == (UNTOUCHED, "a", "b")
    assert list(table.machine) == list(table.human) == [TRIPLES[0], TRIPLES[3]]
    assert len(table.regimes) == 2
    assert len(table.seen()) == len(table.shown()) == 5
    other = made("a")
    other.methods["a"] = "another"
    with pytest.raises(ArgumentError, match="'a' is another method in both"):
        table.join(other)
    with pytest.raises(ArgumentError, match="another seed"):
        table.join(made("a", seed=1))
    table.write(tmp_path / "t.json")
    assert Table.read(tmp_path / "t.json") == table
    text = (tmp_path / "t.json").read_text()
    (tmp_path / "t.json").write_text(text.replace('"draws": ', '"draws": 1e999, "was": '))
    with pytest.raises(ArgumentError, match="holds no table"):
        Table.read(tmp_path / "t.json")


def test_differences_are_named() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == "b, c"
    assert differences({"a": 1}, {"a": 1}) == ""
