"""Prior files that were tampered with, and configurations that cannot be."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.codec.prior.base import integer_prior_from_tensors, make_prior
from foveal.codec.prior.config import KINDS, PriorConfig
from foveal.codec.prior.reference import levels_reference
from foveal.errors import ArgumentError

Tensors = dict[str, Tensor]


def exported(kind: str) -> tuple[PriorConfig, Tensors]:
    config = PriorConfig(kind, 4, 3, 3, side=2, codewords=3, hidden=4)
    return config, make_prior(config).export().to_tensors()


def filled(name: str, value: int) -> Callable[[Tensors], object]:
    return lambda t: t.update({name: torch.full_like(t[name], value)})


ANY = {
    "a missing table": lambda t: t.pop("side_lows"),
    "an unknown tensor": lambda t: t.update(more=torch.zeros(1, dtype=torch.int32)),
    "float sizes": lambda t: t.update(side_sizes=t["side_sizes"].float()),
    "sums": lambda t: t["side_frequencies"].__setitem__(0, 60_000),
    "no table": lambda t: t.update({k: t[k][:0] for k in t if k.startswith("side")}),
    "a matrix": lambda t: t.update(side_lows=t["side_lows"][None]),
}
OWN = {
    "codebook-global": ["mix", "mix_bias", "codebook", "base", "shifts"],
    "codebook-local": ["mix", "mix_bias", "codebook", "base", "shifts"],
    "codebook-vq": ["codebook"],
    "factorized": ["base"],
    "spatial": ["weight0", "bias1", "weight2", "shifts"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", list(ANY))
def test_tampered_tables_are_refused(kind: str, how: str) -> None:
    config, tensors = exported(kind)
    ANY[how](tensors)
    with pytest.raises(ArgumentError, match="export the model again"):
        integer_prior_from_tensors(config, tensors)


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in KINDS for n in OWN[k]])
def test_tampered_arrays_are_named(kind: str, name: str) -> None:
    config, tensors = exported(kind)
    whole = tensors[name]
    for bad in (whole.double(), whole.to(torch.int64), whole[:-1], whole[None]):
        with pytest.raises(ArgumentError, match=f"{name} is .*must be .*export the model again"):
            integer_prior_from_tensors(config, tensors | {name: bad})
    del tensors[name]
    with pytest.raises(ArgumentError, match=f"{name} is missing"):
        integer_prior_from_tensors(config, tensors)


@pytest.mark.parametrize("kind", ["codebook-global", "codebook-local", "spatial"])
@pytest.mark.parametrize("value", [-1, 63, 2**31 - 1])
def test_shifts_out_of_range(kind: str, value: int) -> None:
    config, tensors = exported(kind)
    filled("shifts", value)(tensors)
    with pytest.raises(ArgumentError, match=f"shifts has {value}"):
        integer_prior_from_tensors(config, tensors)


@pytest.mark.parametrize("kind", ["codebook-global", "codebook-local"])
def test_sums_up_to_the_limit_are_exact_and_beyond_it_refused(kind: str) -> None:
    config, tensors = exported(kind)
    room = 2**31 - 127 * config.codewords * 2**15
    filled("codebook", -(2**15))(tensors)
    filled("mix", -(2**31))(tensors)
    tensors["shifts"] = torch.tensor([0, 3], dtype=torch.int32)
    filled("base", room - 2)(tensors)
    prior = integer_prior_from_tensors(config, tensors)
    side = np.full((1, prior.num_side), 127)
    levels = prior.levels(side, 3, 3)
    assert np.array_equal(levels, np.full((1, 4, 3, 3), 2**31 - 2))
    assert np.array_equal(levels, levels_reference(prior, side, 3, 3))
    filled("base", room - 1)(tensors)
    with pytest.raises(ArgumentError, match="codebook can sum to .*stay below 2147483648"):
        integer_prior_from_tensors(config, tensors)


def test_tables_of_another_number() -> None:
    config, tensors = exported("codebook-global")
    _, other = exported("factorized")
    with pytest.raises(ArgumentError, match="side_tables has 1 tables, must have 2"):
        integer_prior_from_tensors(
            config, tensors | {k: v for k, v in other.items() if k.startswith("side")}
        )


def test_a_file_of_another_kind() -> None:
    config, _ = exported("codebook-global")
    with pytest.raises(ArgumentError, match="weight0|base|codebook"):
        integer_prior_from_tensors(config, exported("spatial")[1])


def test_later_changes_of_the_tensors_do_not_matter() -> None:
    config, tensors = exported("factorized")
    prior = integer_prior_from_tensors(config, tensors)
    before = prior.arrays["base"].copy()
    tensors["base"].fill_(9)
    assert (prior.arrays["base"] == before).all()


WHOLE = dataclasses.asdict(PriorConfig("codebook-vq", 4, 3, 3, side=2))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "codebook"),
        ("channels", 0),
        ("height", 257),
        ("width", -2),
        ("side", 5),
        ("side", 257),
        ("codewords", 0),
        ("hidden", 1025),
        ("stride", 3),
    ],
)
def test_bad_configs_are_named(name: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=f"PriorConfig: {name} is {value!r}, must be .*; "):
        PriorConfig.from_dict({**WHOLE, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", 3),
        ("channels", True),
        ("width", 2.0),
        ("hidden", "8"),
        ("stride", True),
        ("tied", 1),
    ],
)
def test_configs_of_wrong_types_are_named(name: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=f"PriorConfig: {name} is {value!r}"):
        PriorConfig.from_dict({**WHOLE, name: value})


@pytest.mark.parametrize("kind", KINDS)
def test_configs_that_need_too_much_memory(kind: str) -> None:
    with pytest.raises(ArgumentError, match="values at a time"):
        PriorConfig(kind, 4096, 256, 256)


def test_configs_from_files() -> None:
    assert PriorConfig.from_dict(WHOLE) == PriorConfig("codebook-vq", 4, 3, 3, side=2)
    for bad in (WHOLE | {"more": 1}, {"kind": "spatial"}, [1], None):
        with pytest.raises(ArgumentError, match="PriorConfig: fields are"):
            PriorConfig.from_dict(bad)
