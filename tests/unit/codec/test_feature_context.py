"""Contexts: the integers against plain loops and against the float twin, absent parents, files."""

from typing import Any

import numpy as np
import pytest
import torch

from foveal.codec.context import (
    CHUNK,
    HIDDEN_BITS,
    HIDDEN_LIMIT,
    VALUE_BITS,
    VALUE_LIMIT,
    Context,
    IntegerContext,
    gain_tables,
    to_centers,
    to_values,
)
from foveal.codec.prior.base import LOG_STEP
from foveal.codec.prior.integers import FRACTION
from foveal.errors import ArgumentError

PARENTS = (3, 2)
CHANNELS = 4
SIZE = (4, 5)


def lively(parents: tuple[int, ...] = PARENTS, hidden: int = 6, spread: float = 0.4) -> Context:
    context = Context(parents, CHANNELS, hidden)
    with torch.no_grad():
        for value in context.last.parameters():
            value.normal_(0, spread)
    return context


def values(seed: int, images: int = 3, parents: tuple[int, ...] = PARENTS) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(-300, 300, (images, n, *SIZE)) for n in parents]


def halves_up(x: int, shift: int) -> int:
    return (x + (1 << shift >> 1)) >> shift


def by_loops(context: IntegerContext, given: list[np.ndarray | None], image: int) -> np.ndarray:
    """Return levels, then centers, in Python integers."""
    a, (rows, columns) = context.arrays, SIZE
    shifts = [int(s) for s in a["shifts"]]
    planes: list[list[list[int]]] = []
    for value, channels in zip(given, context.parents, strict=True):
        empty = np.zeros((channels, rows, columns), dtype=int)
        planes += (empty if value is None else value[image]).tolist()
    planes += [[[0 if value is None else 64] * columns for _ in range(rows)] for value in given]
    out = np.zeros((2 * CHANNELS, rows, columns), dtype=np.int64)
    for i in range(rows):
        for j in range(columns):
            hidden: list[int] = []
            for kernel, bias in zip(a["weight0"].tolist(), a["bias0"].tolist(), strict=True):
                total = bias
                for plane, taps in zip(planes, kernel, strict=True):
                    for u in range(3):
                        for v in range(3):
                            y, x = i + u - 1, j + v - 1
                            if 0 <= y < rows and 0 <= x < columns:
                                total += plane[y][x] * taps[u][v]
                total = halves_up(total, shifts[0] + VALUE_BITS - HIDDEN_BITS)
                hidden.append(min(max(total, 0), HIDDEN_LIMIT))
            for n in range(2 * CHANNELS):
                weights = a["weight1"][n, :, 0, 0].tolist()
                total = int(a["bias1"][n]) + sum(
                    w * h for w, h in zip(weights, hidden, strict=True)
                )
                bits = FRACTION if n < CHANNELS else VALUE_BITS
                total = halves_up(total, shifts[1] + HIDDEN_BITS - bits)
                limit = VALUE_LIMIT if n >= CHANNELS else 1 << 62
                out[n, i, j] = min(max(total, -limit), limit)
    return out


@pytest.mark.parametrize("there", [(True, True), (True, False), (False, True)], ids=str)
@pytest.mark.parametrize("spread", [0.4, 40.0])
def test_integers_are_those_of_a_plain_loop(there: tuple[bool, bool], spread: float) -> None:
    context = lively(spread=spread).export()
    given = [v if on else None for v, on in zip(values(1), there, strict=True)]
    levels, centers = context(given, SIZE)
    for image in range(3):
        found = np.concatenate([levels[image], centers[image]])
        assert np.array_equal(found, by_loops(context, given, image))
    assert spread < 1 or (np.abs(centers) == VALUE_LIMIT).any()


@pytest.mark.parametrize("there", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)], ids=str)
def test_floats_are_near_the_integers(there: tuple[float, float]) -> None:
    context = lively()
    given = values(2)
    levels, centers = context(
        [torch.from_numpy(v / 64).float() for v in given], torch.tensor([there]).expand(3, -1)
    )
    integers = context.export()
    found = integers([v if on else None for v, on in zip(given, there, strict=True)], SIZE)
    # What rounded kernels and one step of a hidden value can do, through the last weights.
    kernel = 2.0 ** -(1 + int(integers.arrays["shifts"][0]))
    hidden = 9 * integers.inputs * 300 / 64 * kernel + 1 / (1 << HIDDEN_BITS)
    rounded = (
        6 * HIDDEN_LIMIT / (1 << HIDDEN_BITS) * 2.0 ** -(1 + int(integers.arrays["shifts"][1]))
    )
    most = context.last.weight.detach().abs().sum(dim=(1, 2, 3)).reshape(2, CHANNELS, 1, 1).numpy()
    levels_off = np.abs(levels.detach().numpy() - found[0] / 256)
    centers_off = np.abs(centers.detach().numpy() - found[1] / 64)
    assert (levels_off < 16 * most[0] * hidden + rounded + 1 / 256).all()
    assert (centers_off < most[1] * hidden + rounded + 1 / 64).all()
    assert levels_off.mean() < 0.03
    assert centers_off.mean() < 1 / 64


def test_an_absent_parent_has_no_influence_and_is_not_a_zero_one() -> None:
    context = lively()
    whole = context.export()
    first, second = values(3)
    alone = whole([first, None], SIZE)
    zeros = whole([first, np.zeros_like(second)], SIZE)
    assert not np.array_equal(alone[0], zeros[0])
    there = torch.tensor([[1.0, 0.0]]).expand(3, -1)
    maps = [torch.from_numpy(v / 64).float() for v in (first, second)]
    one = context(maps, there)
    other = context([maps[0], 100 + maps[1]], there)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_a_new_context_says_nothing() -> None:
    levels, centers = Context(PARENTS, CHANNELS, 6).export()(list(values(4)), SIZE)
    assert not levels.any()
    assert not centers.any()


def test_parts_of_a_batch_give_what_the_batch_gives() -> None:
    context = lively().export()
    some = CHUNK // (context.inputs * SIZE[0] * SIZE[1])
    given = [np.tile(v, (some // 3 + 2, 1, 1, 1)) for v in values(5)]
    assert len(given[0]) > some
    found = context(list(given), SIZE)
    alone = context([v[-2:] for v in given], SIZE)
    assert np.array_equal(found[0][-2:], alone[0])
    assert np.array_equal(found[1][-2:], alone[1])


def test_gradients_reach_every_weight() -> None:
    context = lively()
    maps = [torch.randn(2, n, *SIZE, requires_grad=True) for n in PARENTS]
    levels, centers = context(maps, torch.ones(2, 2))
    (levels.sum() + 2 * centers.sum()).backward()
    for name, value in context.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps)


def test_values_and_centers_by_hand() -> None:
    y = np.array([[[[3, -5, 40000]]]])
    assert to_values(y, np.array([[1 << 15]])).tolist() == [[[[96, -160, VALUE_LIMIT]]]]
    centers = np.array([[[[64, -32, 16, 1]]]])
    assert to_centers(centers, np.array([[3 << 10]])).tolist() == [[[[3, -1, 1, 0]]]]


def test_stored_gains_by_hand() -> None:
    octave = round(256 * np.log(2) / LOG_STEP)
    gain, reciprocal = gain_tables(np.array([[[0, octave, -octave]]], dtype=np.int16), LOG_STEP)
    assert gain[0, 0].tolist() == pytest.approx([1024, 2048, 512], abs=1)
    assert reciprocal[0, 0].tolist() == pytest.approx([65536, 32768, 131072], abs=30)
    gain, reciprocal = gain_tables(np.array([[[32767, -32767]]], dtype=np.int16), LOG_STEP)
    assert 0 <= int(reciprocal.min()) <= int(reciprocal.max()) < 1 << 31
    assert 0 <= int(gain.min()) <= int(gain.max()) < 1 << 31


def arrays(**changes: Any) -> dict[str, Any]:
    return lively().export().arrays | changes


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "weight0": ({"weight0": np.zeros((6, 7, 3, 2), np.int16)}, "must be of 7 inputs"),
    "weight1": ({"weight1": np.zeros((8, 5, 1, 1), np.int16)}, "must be of 7 inputs"),
    "dtype": ({"weight0": np.zeros((6, 7, 3, 3), np.int32)}, "must be of 7 inputs"),
    "bias-scalar": ({"bias0": np.array(3, np.int32)}, "must be of 7 inputs"),
    "odd": (
        {"bias1": np.zeros(7, np.int32), "weight1": np.zeros((7, 6, 1, 1), np.int16)},
        "an even number of outputs",
    ),
    "no-hidden": (
        {
            "bias0": np.zeros(0, np.int32),
            "weight0": np.zeros((0, 7, 3, 3), np.int16),
            "weight1": np.zeros((8, 0, 1, 1), np.int16),
        },
        "must be of 7 inputs",
    ),
    "shifts": ({"shifts": np.array([16, 8], np.int32)}, "must be of 7 inputs"),
    "shifts-low": ({"shifts": np.array([8, 7], np.int32)}, "must be of 7 inputs"),
    "shifts-real": ({"shifts": np.array([8.5, 8.0])}, "must be of 7 inputs"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays(name: str) -> None:
    changes, message = BAD[name]
    with pytest.raises(ArgumentError, match=message):
        IntegerContext(PARENTS, arrays(**changes))


@pytest.mark.parametrize("name", ["weight0", "bias0", "weight1", "bias1", "shifts"])
def test_missing_arrays(name: str) -> None:
    own = arrays()
    del own[name]
    with pytest.raises(ArgumentError, match=f"{name} is missing, must be there; export"):
        IntegerContext(PARENTS, own)
