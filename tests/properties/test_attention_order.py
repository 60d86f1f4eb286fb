"""Properties of Hilbert orders."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.attention.order import TokenOrder, hilbert_order, invert_order

SIZES = st.integers(1, 13)


def _places(order, frames, height, width):
    return torch.stack([order // (height * width), order // width % height, order % width], 1)


@settings(max_examples=60, deadline=None)
@given(frames=SIZES, height=SIZES, width=SIZES)
def test_every_grid_gets_a_permutation_and_its_inverse(frames, height, width):
    order = hilbert_order(frames, height, width)
    numbers = torch.arange(frames * height * width)
    assert torch.equal(order.sort().values, numbers)
    assert torch.equal(invert_order(order)[order], numbers)
    assert torch.equal(order[invert_order(order)], numbers)


@settings(max_examples=20, deadline=None)
@given(num_bits=st.integers(0, 4), axes=st.integers(1, 3))
def test_in_a_cube_of_a_power_of_two_consecutive_tokens_are_neighbors(num_bits, axes):
    sizes = (1,) * (3 - axes) + (2**num_bits,) * axes
    places = _places(hilbert_order(*sizes), *sizes)
    assert bool((places.diff(dim=0).abs().sum(1) == 1).all())


@settings(max_examples=20, deadline=None)
@given(num_bits=st.integers(1, 4), level=st.integers(1, 3))
def test_every_aligned_subcube_is_one_run(num_bits, level):
    level = min(level, num_bits)
    side = 2**num_bits
    places = _places(hilbert_order(side, side, side), side, side, side)
    runs = (places // 2**level).split(8**level)
    assert all(bool((run == run[0]).all()) for run in runs)
    assert len({tuple(run[0].tolist()) for run in runs}) == 8 ** (num_bits - level)


@settings(max_examples=40, deadline=None)
@given(frames=SIZES, height=SIZES, width=SIZES)
def test_a_grid_inside_a_cube_keeps_the_order_of_the_cube(frames, height, width):
    if min(frames, height, width) == 1:
        return  # the curve of the plane
    side = 1 << (max(frames, height, width) - 1).bit_length()
    cube = _places(hilbert_order(side, side, side), side, side, side)
    inside = cube[(cube < torch.tensor([frames, height, width])).all(1)]
    assert torch.equal(_places(hilbert_order(frames, height, width), frames, height, width), inside)


@settings(max_examples=40, deadline=None)
@given(sizes=st.tuples(SIZES, SIZES, SIZES), before=st.integers(0, 9), after=st.integers(0, 9))
def test_apply_and_undo_are_inverses(sizes, before, after):
    order = TokenOrder.hilbert(*sizes, first_token=before)
    length = before + len(order.order) + after
    x = torch.arange(2.0 * length).view(1, 2, length, 1)
    moved = order.apply(x)
    assert torch.equal(order.undo(moved), x)
    outside = itertools.chain(range(before), range(length - after, length))
    assert all(torch.equal(moved[:, :, i], x[:, :, i]) for i in outside)
