"""The five priors: values by hand, the float twin against the integers, files, bad input."""

import math

import numpy as np
import pytest
import torch

from foveal.codec.entropy import encode_symbols
from foveal.codec.entropy.tables import laplace_tables
from foveal.codec.prior.base import (
    LEVELS,
    LOG_STEP,
    IntegerPrior,
    Prior,
    clip_inward,
    index_of,
    integer_prior_from_tensors,
    latent_bits,
    latent_tables,
    level_of,
    make_prior,
    scale_of,
    table_index,
)
from foveal.codec.prior.codebook_local import upsample
from foveal.codec.prior.config import KINDS, PriorConfig
from foveal.codec.prior.reference import levels_reference
from foveal.errors import ArgumentError, BitstreamError, ShapeError

ONE = laplace_tables([1.0])
ZERO = torch.zeros(1)


def config(kind: str, **changes: object) -> PriorConfig:
    sizes: dict[str, object] = {"side": 4, "codewords": 5, "hidden": 8} | changes
    return PriorConfig(kind, 6, 5, 7, **sizes)  # type: ignore[arg-type]


def latents(seed: int, images: int = 4, size: tuple[int, int] = (5, 7)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    energy = torch.exp(torch.randn(images, 6, 1, 1, generator=generator))
    return 2 * energy * torch.randn(images, 6, *size, generator=generator)


def lively(kind: str, **changes: object) -> Prior:
    """A prior whose levels vary by tens between images, as after training."""
    prior = make_prior(config(kind, **changes))
    prior.start(latents(1, 64))
    with torch.no_grad():
        for name, value in prior.named_parameters():
            if name != "base" and not name.startswith("side"):
                value.mul_(2.5)
    return prior.eval()


def side_of(prior: Prior, y: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return prior(y, y, ZERO, hard=True).side.round().to(torch.int64).numpy()


def test_indices_by_hand() -> None:
    levels = np.array([-(1 << 40), -1, 127, 128, 383, 384, 63 * 256 - 129, 1 << 40])
    assert index_of(levels).tolist() == [0, 0, 0, 1, 1, 2, 62, 63]
    floats = torch.tensor([-9.0, 0.49, 0.5, 1.49, 1.5, 62.5, 99.0])
    assert table_index(floats).tolist() == [0, 0, 1, 1, 2, 63, 63]


def test_scales_are_log_spaced_from_a_twentieth_to_twenty() -> None:
    ends = scale_of(torch.tensor([0.0, LEVELS - 1.0]))
    torch.testing.assert_close(ends, torch.tensor([0.05, 20.0]))
    assert pytest.approx(math.log(400) / 63) == LOG_STEP
    torch.testing.assert_close(level_of(scale_of(torch.tensor([3.0, 40.5]))).sum().item(), 43.5)
    assert level_of(torch.tensor([0.0, 1e9])).tolist() == [0.0, 63.0]


def test_latent_bits_by_hand() -> None:
    level = torch.full((1, 1, 1, 2), 31.0)
    scale = 0.05 * 400 ** (31 / 63)
    zero = -math.log2(1 - math.exp(-0.5 / scale))
    two = -math.log2(0.5 * (math.exp(-1.5 / scale) - math.exp(-2.5 / scale)))
    y = torch.tensor([[[[0.3, -1.6]]]])
    assert latent_bits(y, level, False).item() == pytest.approx(zero + two, rel=1e-5)
    assert latent_bits(y, level.clamp_max(0.4), False).item() == 0
    assert latent_bits(y.half(), level, True).dtype == torch.float32


def test_noise_gives_the_bits_of_the_rounded_latents_on_average() -> None:
    scale = scale_of(torch.tensor(50.0))
    y = torch.distributions.Laplace(0.0, scale).sample((400, 1, 5, 5))
    level = torch.tensor(50.0)
    hard, noisy = latent_bits(y, level, False).mean(), latent_bits(y, level, True).mean()
    assert noisy.item() == pytest.approx(hard.item(), rel=0.01)


def test_a_skipped_latent_that_is_not_zero_raises_its_level() -> None:
    level = torch.tensor([[[[0.0, -3.0, 0.0]]]], requires_grad=True)
    y = torch.tensor([[[[2.0, 2.0, 0.0]]]], requires_grad=True)
    bits = latent_bits(y, level, False)
    bits.sum().backward()
    assert bits.item() == 0
    assert level.grad is not None
    assert y.grad is not None
    assert level.grad[0, 0, 0, :2].max() < -1
    assert y.grad.abs().max() == 0


def test_clipping_lets_only_gradients_pass_that_lead_back() -> None:
    x = torch.tensor([-1.0, -1.0, 0.5, 2.0, 2.0], requires_grad=True)
    out = clip_inward(x, 0.0, 1.0)
    out.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))
    assert out.tolist() == [0, 0, 0.5, 1, 1]
    assert x.grad is not None
    assert x.grad.tolist() == [0, -1, 1, 1, 0]


def build(config: PriorConfig, **arrays: object) -> IntegerPrior:
    """Build an integer prior from nested lists."""
    dtypes = {"codebook": np.int16, "weight0": np.int16, "weight1": np.int16, "weight2": np.int16}
    made = {k: np.array(v, dtype=dtypes.get(k, np.int32)) for k, v in arrays.items()}
    tensors = {k: torch.from_numpy(v) for k, v in made.items()}
    tensors["side_frequencies"] = torch.from_numpy(ONE.frequencies.astype(np.int32))
    tensors["side_sizes"] = torch.from_numpy(ONE.sizes.astype(np.int32))
    tensors["side_lows"] = torch.from_numpy(ONE.lows.astype(np.int32))
    return integer_prior_from_tensors(config, tensors)


def test_global_levels_by_hand() -> None:
    tiny = PriorConfig("codebook-global", 2, 1, 1, side=1, codewords=2)
    prior = build(
        tiny,
        mix=[[3], [-1]],
        mix_bias=[1, 1],
        codebook=[[[[40]], [[-8]]], [[[100]], [[0]]]],
        base=[[[7]], [[64]]],
        shifts=[1, 4],
    )
    # z=5: a = (16 + 1) >> 1 = 8 and (-4 + 1) >> 1 = -2; one more bit goes from the sums.
    # z=127: a = 127 (clipped from 191) and -63.
    wanted = [
        [(8 * 40 - 2 * 100 + 7 + 1) >> 1, (8 * -8 + 64 + 1) >> 1],
        [(127 * 40 - 63 * 100 + 7 + 1) >> 1, (127 * -8 + 64 + 1) >> 1],
    ]
    levels = prior.levels(np.array([[5], [127]]), 1, 1)
    assert levels[:, :, 0, 0].tolist() == wanted == [[64, 0], [-606, -476]]


def test_bilinear_weights_by_hand() -> None:
    two = np.eye(2, dtype=np.int64)
    assert upsample(two, 5, 4, 0).tolist() == [[8, 0], [8, 0], [7, 1], [5, 3], [3, 5]]
    assert upsample(two, 4, 2, 0).tolist() == [[4, 0], [3, 1], [1, 3], [0, 4]]
    assert upsample(two, 4, 2, 1).tolist() == [[4, 3, 1, 0], [0, 1, 3, 4]]
    assert upsample(two[:1, :1], 1, 4, 0).tolist() == [[8]]


def test_local_levels_by_hand() -> None:
    tiny = PriorConfig("codebook-local", 1, 1, 3, side=1, codewords=1, stride=2)
    prior = build(tiny, mix=[[4]], mix_bias=[-2], codebook=[[10]], base=[5], shifts=[0, 3])
    # z = (3, -1): up = 16 * (3, 2, 0), a = 4 * up / 16 - 2
    levels = prior.levels(np.array([[3, -1]]), 1, 3)
    assert levels.ravel().tolist() == [10 * 10 + 5, 6 * 10 + 5, -2 * 10 + 5]


def test_vq_levels_by_hand() -> None:
    tiny = PriorConfig("codebook-vq", 3, 1, 2, side=1, codewords=2, tied=False)
    prior = build(tiny, codebook=[[1, 2, 3], [40, 50, 60]])
    assert prior.levels(np.array([[1], [0]]), 1, 2)[..., 0, 1].tolist() == [[40, 50, 60], [1, 2, 3]]
    assert PriorConfig("codebook-vq", 5, 1, 1, side=2).groups().tolist() == [0, 0, 0, 1, 1]


def test_factorized_levels_by_hand() -> None:
    prior = build(PriorConfig("factorized", 2, 1, 1, tied=False), base=[7, -(1 << 31)])
    assert prior.num_side == 0
    levels = prior.levels(np.zeros((2, 0), dtype=np.int64), 1, 2)
    assert levels.tolist() == [[[[7, 7]], [[-(1 << 31)] * 2]]] * 2


def test_spatial_levels_by_hand() -> None:
    tiny = PriorConfig("spatial", 1, 1, 3, side=1, codewords=1, hidden=1, stride=2)
    left, center = [[0, 0, 0], [1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    kernels = {
        "weight0": [[(np.array(center) * 100).tolist()]],
        "weight1": [[(np.array(center) * 3).tolist()]],
        "weight2": [[(np.array(left) * 5).tolist()]],
    }
    prior = build(tiny, **kernels, bias0=[20], bias1=[1], bias2=[-4], shifts=[8, 1, 0])
    # z = (20, -9) -> (2020, 0 after ReLU) -> (6061 + 1) >> 1 = 3031 and (1 + 1) >> 1 = 1
    # -> upsampled (3031, 3031, 1) -> each reads its left neighbor.
    levels = prior.levels(np.array([[20, -9]]), 1, 3)
    assert levels.ravel().tolist() == [-4, 5 * 3031 - 4, 5 * 3031 - 4]
    high = prior.levels(np.array([[127, 127]]), 1, 3)  # clipped at 4095 twice
    assert high.ravel().tolist() == [-4, 5 * 4095 - 4, 5 * 4095 - 4]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [2, 4])
def test_integers_follow_the_float_twin(kind: str, stride: int) -> None:
    prior, y = lively(kind, stride=stride), latents(2, 40)
    with torch.no_grad():
        floats = prior(y, y, ZERO, hard=True).levels
    side = side_of(prior, y)
    assert kind == "factorized" or len(np.unique(side, axis=0)) > 5
    levels = prior.export().levels(side, 5, 7)
    error = np.abs(levels / 256 - floats.numpy())
    # Half a unit for rounding; codewords have 2**-9 to 2**-14 units of rounding each, the
    # convolutions of int16 weights pass on their own and that of the activations.
    assert error.max() < (0.3 if kind == "spatial" else 0.02)
    same = index_of(levels) == table_index(floats).numpy()
    near = np.abs(floats.numpy() % 1 - 0.5) <= error
    assert (same | near).all()
    assert same.mean() > 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_estimated_bits_are_the_coded_bytes(kind: str) -> None:
    prior, y = lively(kind), latents(3, 60)
    extra = 4.0 * torch.randn(60, 1, 1, 1)
    with torch.no_grad():
        out = prior(y, y, extra, hard=True)
        scales = scale_of((out.levels + extra).clamp(0, LEVELS - 1))
        gained = torch.distributions.Laplace(0.0, scales).sample()
        estimate = latent_bits(gained, out.levels + extra, False) + out.side_bits
    integers = prior.export()
    side = out.side.to(torch.int64).numpy()
    fixed = np.rint(extra.numpy() * 256).astype(np.int64)
    indices = index_of(integers.levels(side, 5, 7) + fixed)
    symbols, tables = torch.round(gained).to(torch.int64).numpy(), latent_tables()
    coded = 0
    for i in range(60):
        kept = indices[i] > 0
        layers = [
            (integers.side_tables, side[i], integers.side_indices),
            (tables, symbols[i][kept], indices[i][kept]),
        ]
        coded += 8 * len(encode_symbols(layers))
    # Each stream has up to 3 bytes that belong to no symbol, 12 bits on average.
    assert coded == pytest.approx(estimate.sum().item() + 12 * 60, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_files_round_trip(kind: str) -> None:
    prior, y = lively(kind), latents(4)
    side = side_of(prior, y)
    prior.fit_side(side)
    one = prior.export()
    tensors = one.to_tensors()
    assert {t.dtype for t in tensors.values()} <= {torch.int16, torch.int32}
    two = integer_prior_from_tensors(prior.config, tensors)
    assert two.kind == kind
    assert two.num_side == side.shape[1] == two.side_indices.size
    assert np.array_equal(one.levels(side, 5, 7), two.levels(side, 5, 7))
    assert np.array_equal(one.levels(side, 5, 7), levels_reference(two, side, 5, 7))
    assert np.array_equal(one.side_tables.frequencies, two.side_tables.frequencies)
    assert len(two.side_tables) == prior.config.num_tables


@pytest.mark.parametrize("kind", ["codebook-local", "spatial", "codebook-vq", "factorized"])
def test_other_sizes_than_the_config(kind: str) -> None:
    prior, y = lively(kind, tied=False), latents(5, 3, (9, 2))
    side = side_of(prior, y)
    integers = prior.export()
    assert integers.side_layout(9, 2).size == side.shape[1]
    levels = integers.levels(side, 9, 2)
    assert levels.shape == (3, 6, 9, 2)
    with torch.no_grad():
        floats = prior(y, y, ZERO, hard=True).levels.numpy()
    assert np.abs(levels / 256 - floats).max() < 0.3


@pytest.mark.parametrize("kind", ["codebook-global", "codebook-vq", "factorized"])
def test_tied_priors_refuse_another_size(kind: str) -> None:
    prior = make_prior(config(kind))
    y = latents(6, 1, (7, 5))
    with pytest.raises(ShapeError, match="7x5, must be 5x7.*codebook-local"):
        prior(y, y, ZERO, hard=True)
    integers = prior.export()
    with pytest.raises(ShapeError, match="7x5"):
        integers.levels(np.zeros((1, integers.num_side), dtype=np.int64), 7, 5)
    with pytest.raises(ShapeError, match=r"\(b, 6, h, w\)"):
        prior(y[:, :5], y[:, :5], ZERO, hard=True)


@pytest.mark.parametrize("kind", ["codebook-local", "spatial"])
def test_huge_sizes_are_refused_before_memory(kind: str) -> None:
    with pytest.raises(ShapeError, match="split the input"):
        make_prior(config(kind)).export().side_layout(1 << 20, 1 << 20)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_side_symbols(kind: str) -> None:
    integers = make_prior(config(kind)).export()
    with pytest.raises(ShapeError, match="side is int64"):
        integers.levels(np.zeros((2, integers.num_side + 1), dtype=np.int64), 5, 7)
    with pytest.raises(ShapeError, match="float64"):
        integers.levels(np.zeros((2, integers.num_side)), 5, 7)
    assert integers.levels(np.zeros((0, integers.num_side), np.int64), 5, 7).shape == (0, 6, 5, 7)
    low, high = integers.side_range
    for value in (low - 1, high + 1, 1 << 62):
        if integers.num_side:
            bad = np.zeros((2, integers.num_side), dtype=np.int64)
            bad[1, -1] = value
            with pytest.raises(BitstreamError, match=f"{value}.*damaged"):
                integers.levels(bad, 5, 7)


def test_big_batches_run_in_parts() -> None:
    prior = make_prior(PriorConfig("spatial", 2, 16, 16, side=2, hidden=64)).export()
    side = np.random.default_rng(7).integers(-9, 10, (40, prior.num_side))
    levels = prior.levels(side, 16, 16)
    assert 40 * 9 * 64 * 256 > 1 << 22
    for i in (0, 27, 28, 39):
        assert np.array_equal(levels[i], prior.levels(side[i : i + 1], 16, 16)[0])


def test_parameters_that_are_not_finite_are_not_exported() -> None:
    for kind in KINDS:
        prior = make_prior(config(kind))
        with torch.no_grad():
            prior.base.view(-1)[3] = math.nan
        with pytest.raises(ArgumentError, match="NaN or infinite"):
            prior.export()


def test_large_parameters_are_scaled_or_refused() -> None:
    prior = make_prior(config("codebook-global"))
    with torch.no_grad():
        prior.codebook.mul_(2000)
    words = prior.export().arrays
    assert int(words["shifts"][1]) < 8
    assert np.abs(words["codebook"].astype(np.int64)).max() <= 32767
    with torch.no_grad():
        prior.base.fill_(1e8)
    with pytest.raises(ArgumentError, match="codebook can sum to"):
        prior.export()


def test_fit_side_counts() -> None:
    prior = make_prior(config("codebook-global"))
    side = np.tile(np.array([[0, 3, -7, 9]]), (4000, 1))
    before = prior.export().side_tables.ideal_bits(side, np.broadcast_to(np.arange(4), side.shape))
    prior.fit_side(side)
    after = prior.export().side_tables.ideal_bits(side, np.broadcast_to(np.arange(4), side.shape))
    assert after < 0.05 * before
    for bad in (side[:, :3], side[0], side.astype(float)):
        with pytest.raises(ShapeError, match=r"fit_side: side is .*\(images, 4\)"):
            prior.fit_side(bad)
