"""Gains of any tasks and qualities: floats, integers and control bytes say the same."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.codec.context import GAIN_BITS, RECIPROCAL_BITS, gain_tables
from foveal.codec.integer_model import pick
from foveal.codec.prior.base import LOG_STEP
from foveal.codec.rates import (
    OFF,
    QUALITIES,
    SILENT,
    Gains,
    Wish,
    control_bytes,
    gains,
    log_gains,
    masked_width,
    read_controls,
)

SETTINGS = settings(deadline=None, max_examples=60)
QUALITY = st.integers(OFF, QUALITIES - 1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Gains, np.ndarray]:
    tasks, channels, images = (draw(st.integers(1, 4)) for _ in range(3))
    seed, spread = draw(st.integers(0, 1000)), draw(st.floats(0, 2))
    part = Gains(tasks, channels)
    with torch.no_grad():
        noise = torch.randn(part.log_gain.shape, generator=torch.Generator().manual_seed(seed))
        part.log_gain.add_(noise * spread)
    rows = draw(st.lists(st.lists(QUALITY, min_size=tasks, max_size=tasks), min_size=images))
    rows = rows or [[0] * tasks]
    return part, np.array(rows, dtype=np.int64)


@SETTINGS
@given(cases())
def test_floats_equal_integers(case: tuple[Gains, np.ndarray]) -> None:
    part, qualities = case
    table = part.export()
    found = log_gains(table, qualities) / 256
    wanted = part(torch.from_numpy(qualities).float()).detach().numpy()
    assert np.abs(np.where(found == SILENT, 0, found - wanted)).max() < 0.5 / 256 + 1e-3
    assert ((found == SILENT) == (qualities < 0).all(axis=1)[:, None]).all()


@SETTINGS
@given(cases(), st.data())
def test_wanting_more_never_lowers_a_gain(case: tuple[Gains, np.ndarray], data: st.DataObject):
    part, qualities = case
    table = part.export()
    task = data.draw(st.integers(0, qualities.shape[1] - 1))
    fewer = qualities.copy()
    fewer[:, task] = OFF
    assert (log_gains(table, fewer) <= log_gains(table, qualities)).all()


@SETTINGS
@given(cases())
def test_stored_gains_are_those_of_the_logarithms(case: tuple[Gains, np.ndarray]) -> None:
    part, qualities = case
    table = part.export()
    gain, reciprocal = gain_tables(table, LOG_STEP)
    on = (qualities >= 0).any(axis=1)
    real = gains(log_gains(table, qualities))[on]
    found = pick(gain, qualities, np.max, 0)[on]
    assert (np.abs(found - real * (1 << GAIN_BITS)) <= 0.5 + 1e-6 * real).all()
    found = pick(reciprocal, qualities, np.min, 1 << 31)[on]
    assert (np.abs(found - (1 << RECIPROCAL_BITS) / real) <= 0.5 + 1e-6 / real).all()


@SETTINGS
@given(st.data())
def test_control_bytes_give_back_the_qualities_of_what_is_sent(data: st.DataObject) -> None:
    pairs = data.draw(st.integers(1, 20))
    sent = data.draw(st.lists(st.booleans(), min_size=pairs, max_size=pairs))
    some = data.draw(st.sampled_from([st.sampled_from([OFF, 5]), st.just(63), QUALITY]))
    row = st.lists(some, min_size=pairs, max_size=pairs)
    wishes = [Wish(tuple(one)) for one in data.draw(st.lists(row, min_size=1, max_size=4))]
    rows = control_bytes(wishes, sent)
    assert {len(one) for one in rows} <= {1, masked_width(pairs), pairs}
    assert len(rows[0]) <= pairs
    found = read_controls(rows, pairs)
    assert found is not None
    for wish, values in zip(wishes, found.tolist(), strict=True):
        kept = zip(wish.qualities, values, sent, strict=True)
        assert all(quality == value for quality, value, there in kept if there)
