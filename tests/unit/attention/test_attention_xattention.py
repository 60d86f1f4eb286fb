"""XAttention beyond the paper: chunks, parity, dense tails and steps, broken numbers."""

import math

import pytest
import torch

from foveal.attention import BlockLayout, XAttention, attend
from foveal.attention.policy.xattention import _smallest_set
from foveal.attention.score import block_mass

POLICY = XAttention(stride=8, threshold=0.6, dense_below=0)


def noise(s, t=None, *, h=2, g=1, d=16, seed=0):
    random = torch.Generator().manual_seed(seed)
    q = 2 * torch.randn(1, h, s, d, generator=random)
    return q, torch.randn(1, g, t or s, d, generator=random)


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("alternate", [True, False])
@pytest.mark.parametrize("chunk", [64, 128, 192])
def test_a_prefill_in_chunks_chooses_the_cells_of_one_call(stride, alternate, chunk) -> None:
    q, k = noise(450)
    policy = XAttention(stride=stride, threshold=0.6, alternate=alternate, dense_below=0)
    whole = policy.layout(q, k).to_bool()
    out = attend(q, k, k, policy=policy)
    for first in range(0, 450, chunk):
        stop = min(first + chunk, 450)
        part = policy.layout(q[:, :, first:stop], k[:, :, :stop]).to_bool()
        rows = slice(first // 64, first // 64 + part.shape[2])
        assert torch.equal(part, whole[:, :, rows, : part.shape[3]])
        assert not whole[:, :, rows, part.shape[3] :].any()
        some = attend(q[:, :, first:stop], k[:, :, :stop], k[:, :, :stop], policy=policy)
        torch.testing.assert_close(some, out[:, :, first:stop])


def hits(alternate: bool, distance: int, stride: int) -> float:
    """Share of rows whose four heaviest cells hold a planted single-token slash."""
    q, k = noise(4096, h=1, d=64, seed=distance)
    k = k / k.norm(dim=-1, keepdim=True)
    q = 0.3 * q / q.norm(dim=-1, keepdim=True) * math.sqrt(64)
    q[:, :, distance:] += 8 * math.sqrt(64) * k[:, :, :-distance]
    mass = block_mass(q, k, stride=stride, alternate=alternate)[0, 0]
    rows = range(distance // 64 + 2, 64)
    found = [
        bool(
            {(n * 64 - distance) // 64, (n * 64 + 63 - distance) // 64}
            & set(mass[n].topk(4).indices.tolist())
        )
        for n in rows
    ]
    return sum(found) / len(found)


@pytest.mark.parametrize("stride", [4, 8])
def test_the_published_residue_misses_even_distances_and_the_alternating_one_does_not(stride):
    even, odd = (1400, 1814), (1401, 1813)
    published = [sum(hits(False, x, stride) for x in some) / 2 for some in (even, odd)]
    fixed = [sum(hits(True, x, stride) for x in some) / 2 for some in (even, odd)]
    assert published[0] < 0.4 < 0.95 < published[1]
    assert min(fixed) > 0.8


def test_the_last_queries_may_keep_everything() -> None:
    q, k = noise(500)
    plain = XAttention(stride=8, threshold=0.3, dense_below=0)
    kept = plain.layout(q, k).to_bool()
    tail = XAttention(stride=8, threshold=0.3, dense_below=0, num_dense_last=60).layout(q, k)
    full = BlockLayout.causal_like(q, k).to_bool()
    # Queries 440..499 lie in cells 6 and 7.
    assert torch.equal(tail.to_bool()[:, :, :6], kept[:, :, :6])
    assert torch.equal(tail.to_bool()[:, :, 6:], full[:, :, 6:])
    assert not torch.equal(kept[:, :, 6:], full[:, :, 6:])


def test_64_last_queries_are_one_cell_and_not_two() -> None:
    q, k = noise(512)
    plain = XAttention(stride=8, threshold=0.3, dense_below=0).layout(q, k).to_bool()
    tail = XAttention(stride=8, threshold=0.3, dense_below=0, num_dense_last=64).layout(q, k)
    assert torch.equal(tail.to_bool()[:, :, :7], plain[:, :, :7])
    assert bool(tail.to_bool()[:, :, 7].all())
    assert not bool(plain[:, :, 6, :7].all())


def test_blocks_of_128_begin_at_even_cells_in_every_chunk() -> None:
    q, k = noise(24 * 64)  # a causal call goes through it by chunks of three cells
    kept = XAttention(stride=8, threshold=0.3, block=128, dense_below=0).layout(q, k).to_bool()
    pairs = kept.unflatten(3, (-1, 2)).transpose(3, 4).unflatten(2, (-1, 2))
    below = torch.ones(12, 12, dtype=torch.bool).tril(-1)
    some = pairs.any(3).any(3)[..., below]
    assert torch.equal(some, pairs.all(3).all(3)[..., below])
    assert bool(some.any())
    assert not bool(some.all())


@pytest.mark.parametrize("size", [320, 300, 65])
def test_the_last_block_of_128_may_be_half_there(size) -> None:
    q, k = noise(size)
    kept = XAttention(stride=8, threshold=0.0, block=128, dense_below=0).layout(q, k).to_bool()
    n = kept.shape[2]
    assert bool(kept[:, :, range(n), range(n)].all())
    assert bool(kept[..., 0].all())


def test_blocks_of_128_are_judged_by_the_mass_of_all_their_cells() -> None:
    q, k = noise(1024, h=4)
    policy = XAttention(stride=8, threshold=0.6, block=128, dense_below=0, keep_sink=False)
    kept = policy.layout(q, k, causal=False).to_bool()[:, :, ::2, ::2]
    mass = block_mass(q, k, stride=8, alternate=True, causal=False)
    mass = mass.unflatten(3, (-1, 2)).sum(4).unflatten(2, (-1, 2)).sum(3)
    held, wanted = (mass * kept).sum(-1), 0.6 * mass.sum(-1)
    lightest = mass.masked_fill(~kept, math.inf).amin(-1)
    assert bool((held >= wanted - 1e-4).all())
    assert bool((held - lightest < wanted + 1e-4).all())
    assert bool((lightest + 1e-4 >= mass.masked_fill(kept, 0.0).amax(-1)).all())


def test_a_row_without_forced_cells_keeps_its_heaviest() -> None:
    q, k = noise(640)
    policy = XAttention(
        stride=8, threshold=0.0, keep_sink=False, keep_diagonal=False, dense_below=0
    )
    kept = policy.layout(q, k).to_bool()
    heaviest = block_mass(q, k, stride=8, alternate=True).argmax(-1, keepdim=True)
    assert torch.equal(kept, torch.zeros_like(kept).scatter_(-1, heaviest, True))


def test_cells_without_mass_are_left_out_however_sums_round() -> None:
    random = torch.rand(1, 1, 200, 1000, generator=torch.Generator().manual_seed(0))
    mass = torch.cat([random, torch.zeros_like(random)], -1)
    forced = torch.zeros(200, 2000, dtype=torch.bool)
    # A running sum ends a little below the sum of all, and below this share of it.
    kept = _smallest_set(mass, forced, torch.tensor([0.99999994]))
    assert not bool(kept[..., 1000:].any())
    assert bool((mass.cumsum(-1)[..., -1] < 0.99999994 * mass.sum(-1)).any())


def test_inputs_are_sparse_from_the_given_length_on() -> None:
    q, k = noise(640)
    sparse, full = (
        XAttention(stride=8, threshold=0.3, dense_below=x).layout(q, k) for x in (640, 641)
    )
    assert not sparse.is_full
    assert full.is_full


def test_the_scale_of_the_caller_counts() -> None:
    q, k = noise(640)
    for causal in (True, False):
        kept = POLICY.layout(q, k, causal=causal, scale=1.0)  # 1/sqrt(16) by default
        assert torch.equal(kept.bits, POLICY.layout(4 * q, k, causal=causal).bits)
        assert not torch.equal(kept.bits, POLICY.layout(q, k, causal=causal).bits)


def test_first_steps_keep_everything() -> None:
    q, k = noise(300)
    policy = XAttention(stride=8, threshold=0.3, dense_below=0, num_dense_steps=5)
    assert policy.for_step(4).layout(q, k).is_full
    assert policy.for_step(5) is policy
    assert (policy | POLICY).for_step(0).layout(q, k).is_full
    assert not (policy & POLICY).for_step(0).layout(q, k).is_full


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_rows_that_are_not_finite_keep_everything_and_harm_no_other_head(value) -> None:
    q, k = noise(400, h=4, g=2)
    wanted = POLICY.layout(q, k).to_bool()
    k[0, 1, 10] = value
    kept = POLICY.layout(q, k).to_bool()
    assert torch.equal(kept[:, :2], wanted[:, :2])
    full = BlockLayout.causal_like(q, k).to_bool()
    assert torch.equal(kept[:, 2:], full[:, 2:])


def test_density_grows_with_the_threshold_and_ends_at_full() -> None:
    q, k = noise(640, h=4)
    densities = [
        XAttention(stride=8, threshold=x, dense_below=0).layout(q, k).density
        for x in (0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 0.9999, 1.0)
    ]
    assert densities == sorted(densities)
    assert densities[-1] == 1.0


def test_nearly_everything_against_a_full_layout() -> None:
    q, k = noise(300)
    full = attend(q, k, k, policy=XAttention(threshold=1.0, dense_below=0))
    assert torch.equal(full, attend(q, k, k))
    nearly = XAttention(stride=8, threshold=0.9999, dense_below=0)
    torch.testing.assert_close(attend(q, k, k, policy=nearly), full, rtol=0, atol=2e-2)
