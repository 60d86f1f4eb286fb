"""Training on a source with known scales: what side symbols are worth, and who learns."""

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.codec.prior.base import (
    LOG_STEP,
    PriorOut,
    latent_bits,
    make_prior,
    round_straight_through,
    scale_of,
    table_index,
)
from foveal.codec.prior.codebook_vq import CodebookVQPrior
from foveal.codec.prior.config import KINDS, PriorConfig
from foveal.codec.prior.hyper import coefficients, effective_number

CHANNELS, SIZE = 6, 4
ZERO = torch.zeros(1)


def draw(images: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Laplace latents whose levels vary along two fixed channel profiles per image."""
    profiles = 10 * torch.randn(2, CHANNELS, 1, 1, generator=torch.Generator().manual_seed(7))
    factors = torch.randn(images, 2, generator=generator)
    levels = 22 + torch.einsum("bk,kchw->bchw", factors, profiles).expand(-1, -1, SIZE, SIZE)
    uniform = torch.rand(levels.shape, generator=generator) - 0.5
    tail = torch.log1p(-2 * uniform.abs().clamp_max(0.49999))
    return -scale_of(levels.clamp(0, 63)) * uniform.sign() * tail, levels


RATES = (-15.0, 0.0, 15.0)
"""Log-gains in levels: steps of 4.2, 1 and 0.24."""


def trained(kind: str, steps: int = 160) -> tuple[list[float], list[float], float]:
    """Train over all rates at once.

    Returns: Bits per image at each rate, those that knowing the scales would take, perplexity.
    """
    generator = torch.Generator().manual_seed(1)
    prior = make_prior(PriorConfig(kind, CHANNELS, SIZE, SIZE, side=2, codewords=8, hidden=24))
    prior.start(draw(256, generator)[0])
    optimizer = torch.optim.Adam(prior.parameters(), 6e-3)
    for step in range(steps):
        prior.anneal(step / (0.75 * steps))
        if step % 40 == 39:
            prior.revive()
        for group in optimizer.param_groups:
            group["lr"] = 6e-3 * min(1.0, 2 - 2 * step / steps)
        hard = step > 0.75 * steps
        y, _ = draw(64, generator)
        extra = 40 * torch.rand(64, 1, 1, 1, generator=generator) - 20
        gained = y * torch.exp(LOG_STEP * extra)
        out = prior(y, gained, extra, hard=hard)
        loss = (latent_bits(gained, out.levels + extra, not hard) + out.side_bits).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    prior.eval()
    y, levels = draw(500, torch.Generator().manual_seed(2))
    bits: list[float] = []
    known: list[float] = []
    with torch.no_grad():
        for rate in RATES:
            extra = torch.tensor(rate)
            gained = y * torch.exp(LOG_STEP * extra)
            out = prior(y, gained, extra, hard=True)
            cost = latent_bits(gained, out.levels + extra, False) + out.side_bits
            bits.append(float(cost.mean()))
            known.append(float(latent_bits(gained, levels + extra, False).mean()))
        return bits, known, prior.perplexity(out.side)


def test_codebooks_learn_a_low_dimensional_source_at_every_rate() -> None:
    static, known, one = trained("factorized")
    assert one == 1
    assert all(s > 1.15 * k for s, k in zip(static, known, strict=True))
    for kind in ("codebook-global", "codebook-local", "codebook-vq", "spatial"):
        bits, _, perplexity = trained(kind)
        for b, s, k in zip(bits, static, known, strict=True):
            # At least half of what knowing the scales is worth, side symbols paid.
            assert b < s - 0.5 * (s - k), kind
        assert perplexity > 1.3, kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hard", [False, True])
def test_every_parameter_has_a_gradient(kind: str, hard: bool) -> None:
    prior = make_prior(PriorConfig(kind, 6, 5, 7, side=3, codewords=4, hidden=8))
    y = 4 * torch.randn(64, 6, 5, 7) * torch.exp(torch.randn(64, 6, 1, 1))
    prior.start(y)
    out = prior(y, y, ZERO, hard=hard)
    (latent_bits(y, out.levels, not hard).sum() + out.side_bits.sum()).backward()
    for name, value in prior.named_parameters():
        assert value.grad is not None, name
        assert torch.isfinite(value.grad).all(), name
        assert value.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", ["codebook-global", "codebook-local", "spatial"])
def test_side_symbols_do_not_depend_on_the_gain(kind: str) -> None:
    prior = make_prior(PriorConfig(kind, 3, 4, 4, side=3, codewords=4, hidden=8)).eval()
    y = 9 * torch.randn(2, 3, 4, 4)
    one = prior(y, y, ZERO, hard=True)
    two = prior(y, 5 * y, torch.full((2, 1, 1, 1), 17.0), hard=True)
    assert torch.equal(one.side, two.side)
    assert torch.equal(one.levels, two.levels)


@pytest.mark.parametrize("tied", [True, False])
def test_the_static_part_starts_at_the_likeliest_scales(tied: bool) -> None:
    prior = make_prior(PriorConfig("factorized", 2, 1, 2, tied=tied))
    y = torch.tensor([[[[1.0, -2.0]], [[0.0, 0.0]]], [[[3.0, 4.0]], [[0.0, 0.0]]]])
    prior.start(y)
    scales = scale_of(prior(y, y, ZERO, hard=True).levels)[0]
    wanted = [[2.0, 3.0], [0.05, 0.05]] if tied else [[2.5, 2.5], [0.05, 0.05]]
    torch.testing.assert_close(scales[:, 0], torch.tensor(wanted))


def vq(**changes: int) -> CodebookVQPrior:
    prior = make_prior(
        PriorConfig("codebook-vq", 5, 2, 3, **({"side": 2, "codewords": 6} | changes))
    )
    assert isinstance(prior, CodebookVQPrior)
    return prior


def test_vq_takes_the_cheapest_codeword() -> None:
    prior = vq().eval()
    with torch.no_grad():
        prior.logits.normal_()
        prior.codebook.normal_(std=0.2)
    gained, extra = 3 * torch.randn(7, 5, 2, 3), 5 * torch.randn(7, 1, 1, 1)
    with torch.no_grad():
        side = prior(gained, gained, extra, hard=True).side.long()
        symbol = prior.symbol_bits()
    groups = prior.config.groups()
    assert groups.tolist() == [0, 0, 0, 1, 1]
    for group in range(2):
        channels = torch.from_numpy(np.flatnonzero(groups == group))
        for image in range(7):
            part = gained[image : image + 1, channels]
            bits = [
                # Levels of at least 1/2, since here nothing may be skipped for free.
                latent_bits(
                    part, (word[channels] + extra[image]).clamp_min(0.5) * 1.0, False
                ).item()
                + symbol[group, k].item()
                for k, word in enumerate(prior.words.detach())
            ]
            chosen = bits[int(side[image, group])]
            assert chosen <= min(bits) + 0.7


def test_vq_costs_count_what_a_codeword_would_skip() -> None:
    prior = vq(side=1, codewords=2)
    with torch.no_grad():
        prior.base.zero_()
        prior.codebook[0] = 0.0
        prior.codebook[1] = 0.5  # level 32, scale 1.05
    y = torch.zeros(2, 5, 2, 3)
    y[1, 0, 0, :] = 2.0
    side = prior(y, y, ZERO, hard=True).side
    assert side.tolist() == [[0.0], [1.0]]


def test_vq_hardens() -> None:
    prior, y = vq(), 3 * torch.randn(8, 5, 2, 3)

    @torch.no_grad()
    def gap() -> float:
        soft = prior(y, y, ZERO, hard=False).levels
        return float((soft - prior(y, y, ZERO, hard=True).levels).abs().mean())

    hot = gap()
    prior.anneal(0.5)
    warm = gap()
    prior.anneal(7.0)
    assert prior.temperature.item() == 0.5
    assert hot > warm > gap()


def test_dead_codewords_come_back() -> None:
    prior, y = vq(), torch.randn(64, 5, 2, 3) * (3 + 30 * torch.rand(64, 1, 1, 1))
    prior.start(y)
    with torch.no_grad():
        prior.codebook[2:] = -1.0  # levels far below any latent's
        prior.codebook[2:, 0] = 2.0
    for _ in range(400):
        prior(y, y, ZERO, hard=True)
    before = prior.perplexity(prior(y, y, ZERO, hard=True).side)
    assert before < 2.1
    assert prior.revive() == 8  # 4 codewords in each of 2 groups
    assert prior.perplexity(prior(y, y, ZERO, hard=True).side) > 1.5 * before
    assert prior.usage.sum(dim=1).tolist() == pytest.approx([1.0, 1.0], abs=0.05)


def test_evaluation_does_not_count_usage() -> None:
    prior, y = vq().eval(), torch.randn(4, 5, 2, 3)
    before = prior.usage.clone()
    prior(y, y, ZERO, hard=True)
    assert torch.equal(prior.usage, before)


def test_effective_numbers_by_hand() -> None:
    assert effective_number(torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])) == pytest.approx(4.0)
    assert effective_number(torch.tensor([0.0, 5.0])) == 1.0
    assert effective_number(torch.zeros(3)) == 1.0


def test_coefficients_are_int8_steps() -> None:
    values = torch.tensor([0.0, 0.04, -9.0, 100.0], requires_grad=True)
    out = coefficients(values)
    assert (32 * out).tolist() == [0, 1, -127, 127]
    out[1].backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 0, 0]
    assert round_straight_through(torch.tensor(1.7)).item() == 2


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_latents_give_full_precision_side_bits(kind: str) -> None:
    prior = make_prior(PriorConfig(kind, 6, 4, 4, side=3, codewords=4, hidden=8)).eval()
    y = 3 * torch.randn(2, 6, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        out: PriorOut = prior(y, y, ZERO, hard=True)
    assert torch.equal(out.side, out.side.round())
    assert table_index(out.levels.float()).shape == y.shape
    assert out.side_bits.dtype == torch.float32
