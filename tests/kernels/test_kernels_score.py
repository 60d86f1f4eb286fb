"""Masses per cell and the choice of cells by kernels, against plain torch and a plain loop."""

import math
import os

import numpy as np
import pytest
import torch

from foveal.attention import BlockLayout, XAttention
from foveal.attention.layout import num_cells
from foveal.attention.policy import xattention
from foveal.attention.policy.xattention import _smallest_set
from foveal.attention.score import triton as by_kernels
from foveal.attention.score.api import block_mass
from foveal.attention.score.triton import iter_block_mass_triton, select_cells

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
DTYPES = [torch.float16, torch.bfloat16, torch.float32]


def _case(s, t, d=32, *, b=1, h=2, g=1, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(b, h, s, d, generator=random) * 2
    k = torch.randn(b, g, t, d, generator=random)
    return q.to(dtype), k.to(dtype)


def _check_mass(q, k, *, stride, causal=True, alternate=False, scale=None):
    some = {"stride": stride, "causal": causal, "alternate": alternate}
    scale = q.shape[3] ** -0.5 if scale is None else scale
    wanted = block_mass(q.cpu(), k.cpu(), scale=scale, **some)
    chunks = list(iter_block_mass_triton(q.to(DEVICE), k.to(DEVICE), scale=scale, **some))
    first = 0
    for start, mass in chunks:
        assert start == first
        first += mass.shape[2]
    found = torch.cat([mass for _, mass in chunks], 2)
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.cpu(), wanted, rtol=2e-4, atol=2e-6 * 64 / stride)
    return len(chunks)


@pytest.mark.parametrize("alternate", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("stride", [4, 8, 16, 32, 64])
def test_every_stride(stride, causal, alternate):
    q, k = _case(200, 200)
    _check_mass(q, k, stride=stride, causal=causal, alternate=alternate)


@pytest.mark.parametrize(
    ("s", "t"), [(1, 1), (63, 200), (200, 63), (130, 333), (333, 130), (64, 128), (7, 300)]
)
@pytest.mark.parametrize("alternate", [False, True])
@pytest.mark.parametrize("stride", [8, 16])
def test_ragged_ends_and_more_keys_than_queries(stride, alternate, s, t):
    q, k = _case(s, t, h=1)
    for causal in (True, False):
        _check_mass(q, k, stride=stride, causal=causal, alternate=alternate)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("d", [16, 40, 128, 256])
def test_widths_types_and_grouped_heads(d, dtype):
    q, k = _case(70, 130, d, b=2, h=2, g=1, dtype=dtype)
    _check_mass(q, k, stride=16, alternate=True, scale=0.2)


@pytest.mark.parametrize(("s", "t"), [(600, 600), (530, 700), (700, 300)])
@pytest.mark.parametrize("causal", [False, True])
def test_chunks_and_several_tiles_of_keys(monkeypatch, causal, s, t):
    monkeypatch.setattr(by_kernels, "_SCRATCH_BYTES", 1)
    q, k = _case(s, t, 16, h=1)
    assert _check_mass(q, k, stride=4, causal=causal, alternate=True) == 3


def test_strided_inputs():
    q, k = (x.to(DEVICE) for x in _case(130, 200, h=2, g=2))
    wide = [torch.nn.functional.pad(x, (8, 8, 0, 64), value=math.nan) for x in (q, k)]
    cut = [y[:, :, : x.shape[2], 8:40] for x, y in zip((q, k), wide, strict=True)]
    turned = [x.mT.contiguous().mT for x in (q, k)]
    rows_first = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k)]
    for inputs in (cut, turned, rows_first):
        assert not any(x.is_contiguous() for x in inputs)
        _check_mass(*inputs, stride=16, alternate=True)


def test_large_scores_and_a_nan():
    q, k = _case(200, 200)
    _check_mass(q * 30, k * 30, stride=16)
    q[0, 0, 100, 3] = math.nan
    _, mass = next(
        iter_block_mass_triton(
            q.to(DEVICE), k.to(DEVICE), stride=16, causal=True, alternate=False, scale=0.2
        )
    )
    assert bool(mass[0, 0, 1].isnan().any())
    assert bool(mass[0, 0, [0, 2, 3]].isfinite().all())
    assert bool(mass[0, 1].isfinite().all())


# --- the choice ----------------------------------------------------------------------------------


def _select(mass, forced, threshold, *, s, t, causal=False, step=None):
    """Run `select_cells` on chunks of `step` query cells and return one boolean per cell."""
    b, _, n, m = mass.shape
    step = step or n
    chunks = ((i, mass[:, :, i : i + step].contiguous().to(DEVICE)) for i in range(0, n, step))
    bits = select_cells(
        chunks,
        forced.to(DEVICE),
        torch.tensor(threshold, dtype=torch.float32, device=DEVICE),
        batch=b,
        num_queries=s,
        num_keys=t,
        causal=causal,
    )
    assert bits.shape[3] == -(-m // 8)
    spare = -m % 8  # Bits past the last cell stay clear.
    assert bool((bits[..., -1].cpu() >> (8 - spare) == 0).all()) if spare else True
    return BlockLayout(bits.cpu(), s, t, causal).to_bool()


def _loop(mass, forced, threshold):
    """Keep forced cells, then the heaviest from left to right while too little is held."""
    b, h, n, _ = mass.shape
    kept = forced.expand_as(mass).clone()
    for i in range(b):
        for j in range(h):
            for row in range(n):
                values = mass[i, j, row].numpy()
                free = np.where(forced[row].numpy(), np.float32(0), values)
                if threshold[j] >= 1 or not np.isfinite(values.sum()):
                    kept[i, j, row] = True
                    continue
                needed = values.sum() * np.float32(threshold[j])
                held = values[forced[row].numpy()].sum()
                order = np.argsort(-free, kind="stable")
                if not forced[row].any():
                    kept[i, j, row, order[0]] = True
                for cell in order:
                    if not (held < needed and free[cell] > 0):
                        break
                    kept[i, j, row, cell] = True
                    held += free[cell]
    return kept


def _masses(b, h, n, m, *, ties, seed=0):
    """Multiples of a power of two, whose sums are exact in any order."""
    random = torch.Generator().manual_seed(seed)
    if ties:
        return torch.randint(0, 4, (b, h, n, m), generator=random) / 8
    rows = [torch.randperm(m, generator=random) + 1 for _ in range(b * h * n)]
    return torch.stack(rows).view(b, h, n, m) / 1024


@pytest.mark.parametrize("share", [0.0, 0.2, 1.1])
@pytest.mark.parametrize("m", [1, 16, 37])
def test_the_smallest_set(m, share):
    mass = _masses(2, 4, 2, m, ties=False)
    forced = torch.rand(2, m, generator=torch.Generator().manual_seed(1)) < share
    threshold = (0.0, 0.3, 0.9, 1.0)
    found = _select(mass, forced, threshold, s=2 * 64, t=m * 64)
    assert torch.equal(found, _smallest_set(mass, forced, torch.tensor(threshold)))
    assert torch.equal(found, _loop(mass, forced, threshold))


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_equal_masses_are_kept_from_left_to_right(seed, share):
    mass = _masses(1, 4, 4, 19, ties=True, seed=seed)
    forced = torch.rand(4, 19, generator=torch.Generator().manual_seed(seed)) < share
    threshold = (0.1, 0.5, 0.8, 0.99)
    found = _select(mass, forced, threshold, s=4 * 64, t=19 * 64)
    assert torch.equal(found, _loop(mass, forced, threshold))


def test_equal_masses_all_over():
    mass = torch.full((1, 2, 1, 16), 0.25)
    forced = torch.zeros(1, 16, dtype=torch.bool)
    found = _select(mass, forced, (0.5, 0.49), s=64, t=1024)
    assert found[0, 0, 0].tolist() == [True] * 8 + [False] * 8
    assert found[0, 1, 0].tolist() == [True] * 8 + [False] * 8  # the one that crosses counts


def test_rows_of_zeros_and_rows_that_are_not_finite():
    mass = _masses(1, 2, 5, 11, ties=False)
    mass[:, :, 0] = 0.0
    mass[0, 0, 1, 4] = math.nan
    mass[0, 0, 2, 4] = math.inf
    forced = torch.zeros(5, 11, dtype=torch.bool)
    found = _select(mass, forced, (0.5, 0.5), s=320, t=700)
    assert bool((found[:, :, 0].sum(-1) == 1).all())
    assert bool(found[0, 0, 1:3].all())
    assert torch.equal(found[0, 1], _loop(mass, forced, (0.5, 0.5))[0, 1])
    forced[0, 7] = True
    found = _select(mass, forced, (0.5, 0.5), s=320, t=700)
    assert found[0, 0, 0].nonzero()[:, 0].tolist() == [7]


@pytest.mark.parametrize(("s", "t"), [(300, 300), (200, 333), (333, 200), (64, 64)])
@pytest.mark.parametrize("step", [1, 2, None])
def test_the_causal_rule_and_chunks(step, s, t):
    n, m = num_cells(s), num_cells(t)
    mass = _masses(1, 2, n, m, ties=False)
    forced = torch.zeros(n, m, dtype=torch.bool)
    forced[:, 0] = True
    threshold = (0.7, 1.0)
    found = _select(mass, forced, threshold, s=s, t=t, causal=True, step=step)
    wanted = BlockLayout.from_bool(
        _smallest_set(mass, forced, torch.tensor(threshold)), num_queries=s, num_keys=t
    )
    assert torch.equal(found, wanted.to_bool())


def test_more_cells_than_one_warp_takes():
    mass = _masses(1, 2, 2, 700, ties=False)
    forced = torch.zeros(2, 700, dtype=torch.bool)
    found = _select(mass, forced, (0.5, 0.95), s=128, t=700 * 64)
    assert torch.equal(found, _smallest_set(mass, forced, torch.tensor((0.5, 0.95))))


# --- the policy ----------------------------------------------------------------------------------


def _plain_layout(monkeypatch, policy, q, k, **rule):
    with monkeypatch.context() as patch:
        patch.setattr(xattention, "triton_refusal", lambda x: "not here")
        return policy.layout(q.cpu(), k.cpu(), **rule)


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"stride": 16, "threshold": (0.5, 0.9)},
        {"stride": 8, "keep_sink": False, "keep_diagonal": False, "alternate": False},
        {"stride": 16, "num_local_cells": 1, "num_dense_last": 70},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("s", "t", "causal"), [(320, 320, True), (200, 333, True), (150, 330, False), (300, 170, True)]
)
def test_the_policy_chooses_the_same_cells(monkeypatch, s, t, causal, switches):
    q, k = _case(s, t)
    policy = XAttention(dense_below=0, **{"threshold": 0.8, **switches})
    called = []
    select = by_kernels.select_cells
    monkeypatch.setattr(
        by_kernels, "select_cells", lambda *x, **y: called.append(1) or select(*x, **y)
    )
    found = policy.layout(q.to(DEVICE), k.to(DEVICE), causal=causal)
    assert called
    wanted = _plain_layout(monkeypatch, policy, q, k, causal=causal)
    assert (found.num_queries, found.num_keys, found.causal) == (s, t, causal)
    # Masses differ in their last bits, so that a cell on the threshold may change.
    differing = int((found.to_bool().cpu() != wanted.to_bool()).sum())
    assert differing <= 1
    assert 0 < found.density <= 1


def test_density_grows_with_the_threshold():
    q, k = (x.to(DEVICE) for x in _case(320, 320))
    shares = [
        XAttention(stride=16, threshold=share, dense_below=0).layout(q, k).density
        for share in (0.0, 0.6, 0.9, 1.0)
    ]
    assert shares == sorted(shares)
    assert shares[0] < shares[1] < shares[3] == 1.0


@pytest.mark.gpu
@pytest.mark.parametrize("stride", [4, 16])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long_inputs(monkeypatch, stride, dtype):
    q, k = _case(5000, 5100, 128, dtype=dtype)
    _check_mass(q, k, stride=stride, alternate=True)
    policy = XAttention(stride=stride, threshold=0.9, dense_below=0)
    found = policy.layout(q.to(DEVICE), k.to(DEVICE))
    wanted = _plain_layout(monkeypatch, policy, q, k)
    differing = (found.to_bool().cpu() != wanted.to_bool()).sum() / wanted.num_kept
    assert float(differing) <= 2e-3
