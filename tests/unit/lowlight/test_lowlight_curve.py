import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foveal import lowlight
from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight.concave_curve import NUM_KNOTS, num_multiply_adds
from foveal.lowlight.curve_family import blend

LEVELS = torch.linspace(0, 1, 256, dtype=torch.float64)


def _curvature(seed: int, sparsity: float = 0.9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(1, NUM_KNOTS, 3, generator=generator, dtype=torch.float64)
    keep = torch.rand(1, NUM_KNOTS, 3, generator=generator) > sparsity
    keep[:, -1] = True
    return u * keep


def test_network_is_the_published_size() -> None:
    model = lowlight.ConcaveCurve()
    assert sum(p.numel() for p in model.parameters()) == 158_061
    assert num_multiply_adds() == pytest.approx(9.5e6, rel=0.02)


def test_untrained_curve_is_close_to_the_parabola() -> None:
    curve = lowlight.integrate(torch.ones(1, NUM_KNOTS, 3, dtype=torch.float64))[0, 0]
    assert (curve - (2 * LEVELS - LEVELS**2)).abs().max() < 0.005


def test_single_knots_are_identity_and_step() -> None:
    u = torch.zeros(1, NUM_KNOTS, 3, dtype=torch.float64)
    u[:, -1] = 2.0
    assert (lowlight.integrate(u)[0, 0] - LEVELS).abs().max() < 1e-12
    u = torch.zeros(1, NUM_KNOTS, 3, dtype=torch.float64)
    u[:, 0] = 2.0
    assert (lowlight.integrate(u)[0, 0, 1:] - 1).abs().max() < 1e-12
    assert (lowlight.integrate(torch.zeros_like(u))[0, 0] - LEVELS).abs().max() < 1e-6


@given(st.integers(0, 10_000))
def test_curves_are_concave_increasing_and_brighten(seed: int) -> None:
    curve = lowlight.integrate(_curvature(seed))
    slope = curve.diff()
    assert (curve[..., 0] == 0).all()
    assert (curve[..., -1] - 1).abs().max() < 1e-12
    assert (slope >= -1e-12).all()
    assert (slope.diff() <= 1e-12).all()
    assert (curve >= LEVELS - 1e-9).all()
    half = blend(curve, 0.5)
    assert (half.diff().diff() <= 1e-12).all()
    assert (half <= curve + 1e-12).all()


@given(st.integers(0, 1000))
def test_cumulative_sums_equal_the_closed_form(seed: int) -> None:
    u = _curvature(seed)
    t = torch.arange(1, NUM_KNOTS + 1, dtype=torch.float64) / NUM_KNOTS
    closed = torch.einsum("kc,kx->cx", u[0], torch.minimum(LEVELS[None], t[:, None]))
    closed = closed / (u[0] * t[:, None]).sum(0)[:, None]
    assert (lowlight.integrate(u)[0] - closed).abs().max() < 1e-9


def test_interpolation_equals_the_table_on_8_bit_input() -> None:
    curve = lowlight.integrate(_curvature(1)).float()
    levels = torch.randint(0, 256, (1, 3, 5, 7))
    table = torch.stack([curve[0, c][levels[0, c]] for c in range(3)])
    assert (lowlight.apply_curve(levels / 255, curve)[0] - table).abs().max() < 1e-5


def test_gradients_reach_pixels_and_curvature() -> None:
    u = _curvature(2).requires_grad_()
    x = (torch.rand(1, 3, 2, 2, dtype=torch.float64) * 0.99 + 0.003).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: lowlight.apply_curve(a, lowlight.integrate(b)), (x, u), eps=1e-7, atol=1e-4
    )


def test_channels_have_their_own_curves_and_clips_one() -> None:
    model = lowlight.ConcaveCurve()
    with torch.no_grad():
        model.fc.weight.normal_()
        frames = torch.rand(4, 3, 40, 30)
        curves, clip = model.predict(frames), model.predict_clip(frames)
    assert curves.shape == (4, 3, 256)
    assert clip.shape == (1, 3, 256)
    assert (curves[0, 0] - curves[0, 1]).abs().max() > 1e-3
    assert torch.isfinite(curves).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (17, 3)])
def test_any_size(size) -> None:
    image = torch.rand(3, *size)
    result = lowlight.enhance(image, lowlight.ConcaveCurve())
    assert result.image.shape == image.shape
    assert (result.image >= image - 1e-6).all()
    assert result.receipt.loss is None
    assert result.receipt.spent < result.receipt.full or image.shape[1] * image.shape[2] < 200


def test_strength_and_errors() -> None:
    model, image = lowlight.ConcaveCurve(), torch.rand(3, 8, 8)
    same = lowlight.enhance(image, model, strength=0.0).image
    assert (same - image).abs().max() < 1e-5
    with pytest.raises(ArgumentError, match="strength is 1.5"):
        lowlight.enhance(image, model, strength=1.5)
    with pytest.raises(ArgumentError, match="NaN"):
        lowlight.enhance(image * float("nan"), model)
    with pytest.raises(ArgumentError, match="torch.uint8"):
        lowlight.enhance((image * 255).byte(), model)
    with pytest.raises(ShapeError, match=r"\(1, 3, 8, 8\)"):
        lowlight.enhance(image[None], model)
    with pytest.raises(ArgumentError, match="together"):
        lowlight.enhance(image, model, daylight=image)
    with pytest.raises(ArgumentError, match="thumbnail"):
        lowlight.ConcaveCurve(thumbnail="bad")


def test_strength_of_a_video_is_that_of_its_one_curve(tmp_path) -> None:
    from fractions import Fraction

    from foveal._core.video import VideoWriter, read_video

    source = tmp_path / "a.mp4"
    with VideoWriter(source, fps=Fraction(10), crf=1) as writer:
        for k in range(4):
            writer.write(torch.full((3, 32, 32), 0.1 + k / 20))
    model, means = lowlight.ConcaveCurve(), []
    for strength in (0.0, 0.5, 1.0):
        result = lowlight.enhance_video(source, tmp_path / "b.mp4", model, strength=strength)
        assert result.receipt.details["frames_per_curve"] == result.num_frames == 4
        means.append([f.mean().item() for f in read_video(tmp_path / "b.mp4")])
    dark = [f.mean().item() for f in read_video(source)]
    assert means[0] == pytest.approx(dark, abs=0.02)
    assert [b - a for a, b in zip(dark, means[1], strict=True)] == pytest.approx(
        [(c - a) / 2 for a, c in zip(dark, means[2], strict=True)], abs=0.02
    )
    assert means[2][0] > dark[0] + 0.05
