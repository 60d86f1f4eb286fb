"""Orders of video tokens: exact inverses, text that stays put, rotary embedding, likeness."""

import math
import re

import pytest
import torch
from jaxtyping import TypeCheckError

from foveal.attention.order import (
    TokenOrder,
    hilbert_order,
    invert_order,
    mean_self_similarity,
)
from foveal.attention.policy.sparge import Sparge
from foveal.errors import ArgumentError, ShapeError


def _refuse(words, call, *args, **kwargs):
    """Expect an ArgumentError with these words; with run-time type checks, theirs will do."""
    with pytest.raises((ArgumentError, TypeCheckError)) as found:
        call(*args, **kwargs)
    if isinstance(found.value, ArgumentError):
        assert re.search(words, str(found.value))


def test_curve_of_the_smallest_square_by_hand():
    assert hilbert_order(1, 2, 2).tolist() == [0, 1, 3, 2]
    order = hilbert_order(1, 4, 4)
    places = torch.stack([order // 4, order % 4], 1)
    # Each quarter of the square is finished before the next begins.
    quarters = [set(map(tuple, (part // 2).tolist())) for part in places.split(4)]
    assert [len(q) for q in quarters] == [1, 1, 1, 1]
    assert len(set.union(*quarters)) == 4


def test_a_cell_of_64_tokens_is_a_cube_of_side_4():
    order = hilbert_order(8, 8, 8)
    places = torch.stack([order // 64, order // 8 % 8, order % 8], 1)
    for cell in places.split(64):
        assert (cell.amax(0) - cell.amin(0)).tolist() == [3, 3, 3]


def test_axes_of_size_one_are_left_out():
    assert hilbert_order(1, 1, 9).tolist() == list(range(9))
    assert hilbert_order(9, 1, 1).tolist() == list(range(9))
    plane = hilbert_order(1, 8, 8)
    assert torch.equal(hilbert_order(8, 1, 8), plane)
    assert torch.equal(hilbert_order(8, 8, 1), plane)


def test_row_and_time_major():
    assert TokenOrder.row_major(2, 2, 3).order.tolist() == list(range(12))
    assert TokenOrder.time_major(2, 2, 3).order.tolist() == [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]
    shuffled = TokenOrder.random(2, 2, 3, seed=1)
    assert torch.equal(shuffled.order, TokenOrder.random(2, 2, 3, seed=1).order)
    assert not torch.equal(shuffled.order, TokenOrder.random(2, 2, 3, seed=2).order)


MAKERS = [TokenOrder.hilbert, TokenOrder.row_major, TokenOrder.time_major, TokenOrder.random]


@pytest.mark.parametrize("make", MAKERS)
def test_undo_is_the_exact_inverse_and_text_stays_put(make):
    order = make(3, 5, 7, first_token=11)
    x = torch.randn(2, 3, 11 + 105 + 4, 8)
    moved = order.apply(x)
    assert torch.equal(order.undo(moved), x)
    assert torch.equal(order.apply(order.undo(x)), x)
    assert torch.equal(order.inverse.apply(x), order.undo(x))
    assert torch.equal(moved[:, :, :11], x[:, :, :11])
    assert torch.equal(moved[:, :, 116:], x[:, :, 116:])
    assert torch.equal(moved[:, :, 11:116], x[:, :, 11:116][:, :, order.order])
    assert torch.equal(moved, x) == (make == TokenOrder.row_major)
    assert torch.equal(invert_order(order.order)[order.order], torch.arange(105))


def _rotate(x, places):
    """Turn pairs of channels by angles that grow with the place in the sequence."""
    angle = places[:, None] / 100 ** (torch.arange(x.shape[3] // 2) / (x.shape[3] // 2))
    even, odd = x[..., ::2], x[..., 1::2]
    turned = [even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()]
    return torch.stack(turned, -1).flatten(3)


def test_attention_after_rotation_and_reordering_is_the_same_in_the_end():
    order = TokenOrder.hilbert(3, 5, 7, first_token=11)
    q, k, v = torch.randn(3, 1, 2, 120, 16, dtype=torch.float64)
    attend = torch.nn.functional.scaled_dot_product_attention
    places = torch.arange(120.0, dtype=torch.float64)
    rotated = [_rotate(x, places) for x in (q, k)]
    wanted = attend(*rotated, v)
    moved = [order.apply(x) for x in (*rotated, v)]
    torch.testing.assert_close(order.undo(attend(*moved)), wanted)
    # Rotating after the reordering gives tokens the angles of other places.
    late = [_rotate(order.apply(x), places) for x in (q, k)]
    assert (order.undo(attend(*late, order.apply(v))) - wanted).norm() > 0.1 * wanted.norm()
    # Under a causal rule order has a meaning.
    causal = order.undo(attend(*moved, is_causal=True))
    assert (causal - attend(*rotated, v, is_causal=True)).norm() > 0.1 * wanted.norm()


def _smooth_field(frames, height, width, d=16, waves=24, seed=0):
    """A sum of plane waves, a few tokens long each: features that change slowly in the grid."""
    random = torch.Generator().manual_seed(seed)
    axes = [torch.arange(float(n)) for n in (frames, height, width)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
    waves_in = torch.randn(3, waves, generator=random) * 0.35
    phase = 2 * math.pi * torch.rand(waves, generator=random)
    amplitude = torch.randn(waves, d, generator=random)
    return ((grid @ waves_in + phase).cos() @ amplitude)[None, None]


def test_likeness_inside_cells_is_least_at_random_and_most_along_the_curve():
    grid = (8, 16, 32)
    x = _smooth_field(*grid)
    found = {
        make.__name__: mean_self_similarity(make(*grid).apply(x), smooth=True) for make in MAKERS
    }
    assert found["random"] < 0.05
    assert found["random"] + 0.1 < found["row_major"] < found["hilbert"] - 0.1
    assert found["random"] + 0.1 < found["time_major"] < found["hilbert"] - 0.1


def test_cells_of_neighbors_need_fewer_cells_for_the_same_mass():
    grid = (8, 16, 32)
    x = 2 * _smooth_field(*grid)
    policy = Sparge(threshold=0.9, keep_sink=False, dense_below=0)
    density = {}
    for make in MAKERS:
        moved = make(*grid).apply(x)
        density[make.__name__] = policy.layout(moved, moved, causal=False).density
    assert density["hilbert"] < density["row_major"] < density["random"]


def test_mean_self_similarity_of_equal_and_of_opposite_tokens():
    same = torch.ones(1, 2, 128, 8)
    assert mean_self_similarity(same) == pytest.approx(1.0)
    assert mean_self_similarity(same, smooth=True) == 0.0
    opposite = same * torch.tensor([1.0, -1.0]).repeat(64)[:, None]
    assert mean_self_similarity(opposite) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["frames", "height", "width"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_sizes_out_of_range_are_refused(name, value):
    sizes = {"frames": 2, "height": 2, "width": 2, name: value}
    _refuse(f"hilbert_order: {name} is {value}", hilbert_order, **sizes)
    _refuse(f"TokenOrder.time_major: {name} is {value}", TokenOrder.time_major, **sizes)


def test_other_mistakes_are_refused():
    with pytest.raises(ArgumentError, match="must hold at most"):
        hilbert_order(2**20, 2**20, 2**20)
    for order in (torch.tensor([0, 0]), torch.tensor([1, 2]), torch.zeros(2), torch.arange(0)):
        with pytest.raises(ArgumentError, match="order is torch"):
            TokenOrder(order)
    with pytest.raises(ArgumentError, match="first_token is -1"):
        TokenOrder.hilbert(1, 2, 2, first_token=-1)
    order = TokenOrder.hilbert(1, 8, 8, first_token=1)
    with pytest.raises(ShapeError, match=r"TokenOrder.apply: x has shape \(1, 1, 64, 8\)"):
        order.apply(torch.zeros(1, 1, 64, 8))
    _refuse("TokenOrder.undo: x has shape", order.undo, torch.zeros(65, 8))
