"""Gains and wishes: values by hand, floats against integers, the largest gain over tasks."""

import math

import numpy as np
import pytest
import torch

from foveal.codec.prior.base import LOG_STEP
from foveal.codec.rates import (
    ANCHORS,
    OFF,
    QUALITIES,
    SILENT,
    Gains,
    Wish,
    control_bytes,
    gains,
    log_gains,
    read_controls,
)
from foveal.errors import ArgumentError


def random_gains(tasks: int, channels: int) -> Gains:
    out = Gains(tasks, channels)
    with torch.no_grad():
        out.log_gain.add_(torch.randn(out.log_gain.shape))
    return out


def test_gains_start_from_a_quarter_to_four() -> None:
    found = torch.exp(Gains(1, 2)(torch.tensor([[0.0], [31.5], [63.0]])) * LOG_STEP)
    assert torch.allclose(found, torch.tensor([[0.25], [1.0], [4.0]]).expand(3, 2), atol=1e-5)


def test_between_anchors_logarithms_are_interpolated() -> None:
    part = Gains(1, 1)
    with torch.no_grad():
        part.log_gain[0, :, 0] = torch.tensor([0.0, 1.0, -1.0, 2.0, 4.0, 8.0]) * LOG_STEP
    step = (QUALITIES - 1) / (ANCHORS - 1)
    qualities = torch.tensor([[0.0], [step / 2], [step], [1.5 * step], [4.25 * step], [63.0]])
    wanted = torch.tensor([[0.0], [0.5], [1.0], [0.0], [5.0], [8.0]])
    assert torch.allclose(part(qualities), wanted, atol=1e-4)


def test_the_largest_gain_over_wanted_tasks_counts_channel_by_channel() -> None:
    part = Gains(2, 3)
    with torch.no_grad():
        part.log_gain[0] = torch.tensor([1.0, 5.0, 2.0]) * LOG_STEP
        part.log_gain[1] = torch.tensor([4.0, -3.0, 2.0]) * LOG_STEP
    qualities = torch.tensor([[40.0, 7.0], [40.0, OFF], [OFF, 7.0], [OFF, OFF]])
    wanted = [[4.0, 5.0, 2.0], [1.0, 5.0, 2.0], [4.0, -3.0, 2.0], [SILENT] * 3]
    assert torch.allclose(part(qualities), torch.tensor(wanted), atol=1e-4)
    table = part.export()
    found = log_gains(table, qualities.long().numpy())
    assert found.tolist() == [[round(256 * x) for x in row] for row in wanted]


def test_integers_are_the_floats_rounded() -> None:
    part = random_gains(3, 7)
    table = part.export()
    assert (table.dtype, table.shape) == (np.int16, (3, QUALITIES, 7))
    qualities = torch.randint(OFF, QUALITIES, (200, 3), generator=torch.Generator().manual_seed(1))
    found = log_gains(table, qualities.numpy()) / 256
    wanted = part(qualities.float()).detach().double().numpy()
    on = qualities.numpy().max(1) >= 0
    assert np.abs(found - wanted)[on].max() < 0.5 / 256 + 1e-3
    assert (found[~on] == SILENT).all()


def test_extreme_gains_saturate_in_the_table() -> None:
    part = Gains(1, 2)
    with torch.no_grad():
        part.log_gain[..., 0] = 1000.0
        part.log_gain[..., 1] = -1000.0
    assert part.export()[0, 0].tolist() == [32767, -32767]


def test_factors_of_fixed_point_and_of_silence() -> None:
    values = np.array([[0, 256, -512, SILENT << 8]])
    wanted = [[1.0, math.exp(LOG_STEP), math.exp(-2 * LOG_STEP), 1.0]]
    assert np.allclose(gains(values), wanted, rtol=1e-12)


def test_gradients_reach_the_anchors_beside_a_quality_and_no_others() -> None:
    part = Gains(2, 2)
    with torch.no_grad():
        part.log_gain[0] += 1.0
    part(torch.tensor([[15.0, 15.0]])).sum().backward()
    assert part.log_gain.grad is not None
    reached = part.log_gain.grad.abs().sum(2) > 0
    wanted = [[False, True, True, False, False, False], [False] * ANCHORS]
    assert reached.tolist() == wanted


def test_an_off_task_gets_no_gradient() -> None:
    part = Gains(1, 2)
    part(torch.tensor([[float(OFF)]])).sum().backward()
    assert part.log_gain.grad is not None
    assert not part.log_gain.grad.any()


def test_wishes_by_hand() -> None:
    asked = [("a",), ("a", "b"), (), ("b",)]
    assert Wish.of(asked, 7).qualities == (7, 7, OFF, 7)
    assert Wish.of(asked, {"a": 3, "b": 9, "c": 60}).qualities == (3, 9, OFF, 9)


def test_control_bytes_by_hand() -> None:
    wish, every = Wish((7, 7, OFF, 9)), [True] * 4
    assert control_bytes([wish], every) == [bytes([8, 8, 0, 10])]
    assert control_bytes([wish], [True, True, False, False]) == [bytes([8])]
    assert control_bytes([wish], [True, False, False, True]) == [bytes([8, 0, 0, 10])]
    assert control_bytes([wish], [False, False, True, False]) == [bytes([0])]
    assert control_bytes([wish], [False] * 4) == [bytes([0])]
    assert control_bytes([wish], [True, True, True, False]) == [bytes([8, 0b11])]
    rows = control_bytes([wish, Wish((3, 3, 3, 3))], [True, True, False, True])
    assert rows == [bytes([8, 8, 0, 10]), bytes([4, 4, 0, 4])]
    rows = control_bytes([Wish((3, OFF, 3, 3)), Wish((5, 5, 5, 5)), Wish((OFF,) * 4)], every)
    assert rows == [bytes([4, 0b1101]), bytes([6, 0b1111]), bytes([0, 0])]
    assert control_bytes([Wish((3, 3)), Wish((4, 4))], [True, True]) == [b"\4", b"\5"]
    assert control_bytes([Wish((3, OFF))], [True, True]) == [b"\4\0"]
    assert control_bytes([Wish((2, *(OFF,) * 8))], [True] * 9) == [b"\3\1\0"]
    assert control_bytes([Wish((*(OFF,) * 8, 2))], [True] * 9) == [b"\3\0\1"]


def test_control_bytes_that_mean_nothing() -> None:
    assert read_controls([b"\4\20"], 4) is None  # a fifth pair
    assert read_controls([b"\4\1\1"], 4) is None
    assert read_controls([b"\4\1"], 1) is None
    found = read_controls([b"\4\17", b"\1\10"], 4)
    assert found is not None
    assert found.tolist() == [[3, 3, 3, 3], [OFF, OFF, OFF, 0]]


@pytest.mark.parametrize("quality", [-1, 64, True])
def test_bad_qualities(quality: int) -> None:
    message = r"must be an integer in 0\.\.63"
    with pytest.raises(ArgumentError, match=f"encode: quality is {quality!r}, {message}"):
        Wish.of([("a",)], quality)
    with pytest.raises(ArgumentError, match=f"encode: quality of a is {quality!r}, {message}"):
        Wish.of([("a",)], {"a": quality})


def test_a_wanted_task_needs_an_entry() -> None:
    with pytest.raises(ArgumentError, match=r"quality has no entry for \['b'\], must have one"):
        Wish.of([("a",), ("b",)], {"a": 3})


@pytest.mark.parametrize("qualities", [(), (64,), (-2,)])
def test_bad_wishes(qualities: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="must be within"):
        Wish(qualities)
