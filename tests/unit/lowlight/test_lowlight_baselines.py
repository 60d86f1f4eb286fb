import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import exposure
from torch.nn.functional import interpolate

from foveal.data.sensor_noise import linear_to_srgb, srgb_to_linear
from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight import baselines
from foveal.lowlight.baselines.fusion import collapse, fuse, fusion_weights, laplacian_pyramid
from foveal.lowlight.baselines.histograms import _limit
from foveal.lowlight.baselines.lime import box_mean, guided_filter
from foveal.lowlight.concave_curve import ConcaveCurve

UNTRAINED = {"zero-dce": baselines.ZeroDCE, "sci": baselines.SCI}
OPTIONS = {"linear-oracle": {"k": 0.02}}
NAMES = sorted(baselines.BASELINES)
CLASSIC = [n for n in NAMES if n not in (*UNTRAINED, "identity", "random-curve")]


def _make(name: str) -> baselines.Baseline:
    if name in UNTRAINED:
        torch.manual_seed(0)
        return UNTRAINED[name]().eval().requires_grad_(False)
    return baselines.make(name, **OPTIONS.get(name, {}))


def _scene(b: int = 2, height: int = 48, width: int = 64, *, k: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(b, 3, 6, 6, generator=generator)
    x = interpolate(coarse, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)
    x[:, :, : height // 2, : width // 3] *= 0.3
    return linear_to_srgb(srgb_to_linear(x) * k)


@pytest.mark.parametrize("name", NAMES)
def test_the_protocol_is_kept(name: str) -> None:
    baseline = _make(name)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = _scene(k=0.02).to(dtype)
        before = x.clone()
        y = baseline(x)
        assert (y.dtype, y.shape) == (x.dtype, x.shape)
        assert ((y >= 0) & (y <= 1)).all()
        assert torch.equal(x, before)
    x = _scene(k=0.02)
    alone = torch.cat([baseline(one[None]) for one in x])
    assert torch.allclose(baseline(x), alone, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2), (33, 17)])
def test_odd_sizes_and_flat_pictures(name: str, size: tuple[int, int]) -> None:
    baseline = _make(name)
    for value in (0.0, 1.0, 0.01, 0.5):
        x = torch.full((1, 3, *size), value)
        y = baseline(x)
        assert y.shape == x.shape
        assert ((y >= 0) & (y <= 1)).all()  # NaN is not
        assert (y.std((2, 3), correction=0) < (0.2 if name in UNTRAINED else 1e-4)).all()


@pytest.mark.parametrize("name", CLASSIC)
def test_dark_becomes_brighter_and_white_stays(name: str) -> None:
    x = _scene(k=0.02)
    assert (_make(name)(x).mean((1, 2, 3)) > 1.3 * x.mean((1, 2, 3))).all()
    if name != "gray-world":
        assert _make(name)(torch.ones(1, 3, 9, 9)).min() > 0.999


@pytest.mark.parametrize("name", NAMES)
def test_bad_pictures_are_named(name: str) -> None:
    baseline = _make(name)
    x = torch.rand(1, 3, 8, 8)
    x[0, 0, 0, 0] = math.nan
    with pytest.raises(ArgumentError, match=r"\w+: images has values from nan"):
        baseline(x)
    with pytest.raises(ArgumentError, match=r"images has values .*divide 8 bit by 255"):
        baseline(torch.full((1, 3, 8, 8), 12.0))


@pytest.mark.parametrize("name", NAMES)
def test_baselines_wrong_shapes_and_types(name: str) -> None:
    baseline = _make(name)
    for shape in ((3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (0, 3, 8, 8), (1, 3, 0, 8)):
        with pytest.raises(ShapeError, match=r"\w+: images has shape .*must be \(b, 3, height"):
            baseline(torch.zeros(shape))
    with pytest.raises(ArgumentError, match=r"images is torch.uint8"):
        baseline(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_make_names_what_it_does_not_know() -> None:
    with pytest.raises(
        ArgumentError, match=r"make: name is 'retinexnet', must be one of \['clahe'"
    ):
        baselines.make("retinexnet")
    with pytest.raises(ArgumentError, match=r"gamma has no option 'a', must be one of \['gamma'\]"):
        baselines.make("gamma", a=1)
    with pytest.raises(ArgumentError, match="linear-oracle wants k="):
        baselines.make("linear-oracle")
    for name, option, value in (
        ("gamma", "gamma", 0), ("target-gamma", "target", math.nan), ("log", "c", -1),
        ("reciprocal", "a", 0), ("histogram", "levels", 1), ("clahe", "tiles", 0),
        ("clahe", "limit", 2), ("gray-world", "target", 0), ("lime", "radius", 0),
        ("lime", "gamma", 2), ("fusion", "num_exposures", 1), ("linear-oracle", "k", 0),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=rf"\w+: {option} is {value}, must be in \["):
            baselines.make(name, **{option: value})


def test_curves_by_hand() -> None:
    x = torch.tensor([0.0, 0.01, 0.25, 1.0]).expand(1, 3, 1, 4)
    for name, options, wanted in (
        ("gamma", {"gamma": 0.5}, [0, 0.1, 0.5, 1]),
        ("reciprocal", {"a": 0.25}, [0, 0.0125 / 0.26, 0.625, 1]),
        ("log", {"c": 99.0}, [0, math.log10(1.99) / 2, math.log10(25.75) / 2, 1]),
        ("linear-oracle", {"k": 1.0}, [0, 0.01, 0.25, 1]),
        ("identity", {}, [0, 0.01, 0.25, 1]),
    ):
        found = baselines.make(name, **options)(x)[0, 0, 0].tolist()
        assert found == pytest.approx(wanted, abs=1e-6)
    grid = baselines.reciprocal_grid()
    assert len(grid) == 9
    assert [m.a for m in grid.values()] == pytest.approx(
        [10 ** (-2.3 + 2.6 * i / 8) for i in range(9)], rel=1e-5
    )


def test_random_curve_is_the_untrained_network() -> None:
    x = _scene(k=0.05)
    torch.manual_seed(3)
    assert torch.equal(baselines.RandomCurve(seed=3)(x), ConcaveCurve()(x))
    assert not torch.equal(baselines.RandomCurve(seed=3)(x), baselines.RandomCurve(seed=4)(x))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 0.9), st.floats(0.002, 0.2))
def test_target_gamma_meets_its_target(target: float, k: float) -> None:
    x = _scene(k=k).clamp_min(1e-3)
    method = baselines.TargetGamma(target=target, least=0.01)
    y, means = method(x), x.mean((1, 2, 3))
    for i in range(len(x)):
        wanted = max(target, float(means[i]))
        assert y[i].mean().item() == pytest.approx(wanted, abs=1e-3)


def test_histogram_equalization_is_scikit_images() -> None:
    generator = torch.Generator().manual_seed(0)
    values = (torch.rand(1, 1, 64, 64, generator=generator) ** 3 * 80).round()
    y = baselines.HistogramEqualization()(values.expand(1, 3, 64, 64) / 255)[0, 0]
    theirs = torch.from_numpy(exposure.equalize_hist(values[0, 0].byte().numpy())).float()
    # theirs is the distribution itself; the darkest value is to be black
    wanted = (theirs - theirs.min()) / (1 - theirs.min())
    assert torch.allclose(y, wanted, atol=1e-6)


def test_histogram_equalization_by_its_definition_and_keeps_hue() -> None:
    x = torch.tensor([[[2.0, 2, 4, 10]], [[1, 1, 2, 5]], [[0, 0, 0, 0]]])[None] / 255
    y = baselines.HistogramEqualization()(x)
    assert y[0, 0, 0].tolist() == pytest.approx([0, 0, 0.5, 1])
    assert y[0, 1, 0].tolist() == pytest.approx([0, 0, 0.25, 0.5])
    deep = _scene(1, k=0.001)
    fine = baselines.HistogramEqualization(levels=65536)(deep).amax(1)
    assert fine.unique().numel() > baselines.HistogramEqualization()(deep).amax(1).unique().numel()


@pytest.mark.parametrize("limit", [0.01, 0.05])
@pytest.mark.parametrize("k", [1.0, 0.02])
def test_clahe_is_close_to_scikit_images(limit: float, k: float) -> None:
    x = _scene(1, 192, 256, k=k)
    value = x.amax(1)[0]
    wanted = exposure.equalize_adapthist(value.double().numpy(), clip_limit=limit)
    found = baselines.Clahe(limit=limit)(x).amax(1)[0].numpy()
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98
    assert np.abs(found - wanted).mean() < 0.04


def test_clahe_with_one_tile_and_no_limit_is_the_distribution() -> None:
    x = _scene(1)
    y = baselines.Clahe(tiles=1, limit=1, stretch=False)(x).amax(1).flatten()
    level = (x.amax(1).flatten() * 255).round()
    wanted = torch.stack([(level <= v).float().mean() for v in level])
    assert torch.allclose(y, wanted, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 200))
def test_the_limit_keeps_the_number_of_pixels(seed: int, most: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    counts = (torch.rand(3, 16, generator=generator) ** 6 * 100).round()
    counts = counts * 100 / counts.sum(1, keepdim=True)
    cut = _limit(counts, most)
    assert torch.allclose(cut.sum(1), counts.sum(1), atol=0.01)
    assert cut.max() <= max(most, 100 / 16) + 0.01
    assert (cut >= counts.clamp_max(most) - 1e-4).all()


def test_gray_world_balances_linear_means() -> None:
    x = _scene(k=0.01) * torch.tensor([1.0, 0.6, 0.3])[:, None, None]
    y = srgb_to_linear(baselines.GrayWorld(target=0.05)(x)).mean((2, 3))
    assert torch.allclose(y, torch.full((2, 3), 0.05), atol=2e-3)
    x[:, 2] = 0
    assert not baselines.GrayWorld()(x)[:, 2].any()


def test_box_mean_is_scipys_inside_and_a_mean_at_the_border() -> None:
    x = torch.rand(1, 1, 20, 23, dtype=torch.float64)
    ours = box_mean(x, 3)[0, 0].numpy()
    theirs = ndimage.uniform_filter(x[0, 0].numpy(), 7)
    assert np.abs(ours - theirs)[3:-3, 3:-3].max() < 1e-12
    assert ours[0, 0] == pytest.approx(x[0, 0, :4, :4].mean().item())


def test_guided_filter_by_least_squares() -> None:
    guide, x = torch.rand(2, 1, 1, 12, 13, dtype=torch.float64)
    radius, epsilon = 2, 0.02
    lines = np.zeros((2, 12, 13))
    for i in range(12):
        for j in range(13):
            here = (slice(max(i - 2, 0), i + 3), slice(max(j - 2, 0), j + 3))
            g, p = guide[0, 0][here].flatten().numpy(), x[0, 0][here].flatten().numpy()
            # minimize sum (a g + b - p)^2 + epsilon a^2 per pixel
            rows = np.stack([g, np.ones_like(g)], 1)
            normal = rows.T @ rows + np.diag([epsilon * len(g), 0])
            lines[:, i, j] = np.linalg.solve(normal, rows.T @ p)
    ones = torch.from_numpy(lines)[None]
    a, b = box_mean(ones, radius)[0]
    found = guided_filter(guide, x, radius=radius, epsilon=epsilon)[0, 0]
    assert torch.allclose(found, a * guide[0, 0] + b, atol=1e-9)


def test_lime_follows_edges_and_divides_by_the_light() -> None:
    x = torch.full((1, 3, 60, 60), 0.02)
    x[..., 30:] = 0.2
    t = baselines.Lime(radius=5).illumination(x)
    assert t[..., :25].max() < 0.03
    assert t[..., 35:].min() > 0.19
    # at the edge a plain mean of 11 pixels would give 0.1
    assert t[..., 27].max() < 0.03
    y = baselines.Lime(radius=5)(x)
    assert y[0, 0, 30, 5].item() == pytest.approx(0.02**0.2, abs=0.02)
    assert torch.allclose(baselines.Lime(gamma=0)(x), x)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 33), st.integers(1, 33), st.integers(1, 6))
def test_pyramids_collapse_to_the_picture(height: int, width: int, levels: int) -> None:
    x = torch.rand(1, 2, height, width, dtype=torch.float64)
    assert torch.allclose(collapse(laplacian_pyramid(x, levels)), x, atol=1e-12)


def test_pyramids_halve_and_double_by_the_binomial_filter() -> None:
    x = torch.rand(1, 1, 20, 31, dtype=torch.float64)
    taps = np.array([1, 4, 6, 4, 1]) / 16

    def blur(picture: np.ndarray, mode: str) -> np.ndarray:
        rows = ndimage.correlate1d(picture, taps, axis=0, mode=mode)
        return ndimage.correlate1d(rows, taps, axis=1, mode=mode)

    lost, small = laplacian_pyramid(x, 2)
    halved = blur(x[0, 0].numpy(), "nearest")[::2, ::2]
    assert np.abs(small[0, 0].numpy() - halved).max() < 1e-12
    zeros = np.zeros((20, 32))
    zeros[::2, ::2] = halved
    doubled = 4 * blur(zeros, "constant")[:, :31]
    difference = np.abs(x[0, 0].numpy() - doubled - lost[0, 0].numpy())
    assert difference[2:-2, 2:-2].max() < 1e-12


def test_a_flat_picture_loses_nothing_by_halving() -> None:
    pyramid = laplacian_pyramid(torch.full((1, 1, 21, 34), 0.7), 4)
    assert all(lost.abs().max() < 1e-6 for lost in pyramid[:-1])
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    inner = laplacian_pyramid(ramp, 3)[0][..., 8:-8, 8:-8]
    assert inner.abs().max() < 1e-6  # a shift by half a pixel would leave 1 / 126


def test_fusion_weights_by_hand() -> None:
    x = torch.tensor([0.5, 0.3, 0.1])[:, None, None].expand(3, 3, 3).clone()[None].double()
    x[0, :, 1, 1] += 0.1
    laplacian = 4 * 0.1
    saturation = np.std([0.6, 0.4, 0.2])
    nearness = np.exp(-(0.1**2 + 0.1**2 + 0.3**2) / (2 * 0.2**2))
    found = fusion_weights(x)[0, 0]
    assert found[1, 1].item() == pytest.approx(laplacian * saturation * nearness)
    assert found[0, 0].item() == pytest.approx(0, abs=1e-9)


def test_fusion_takes_each_place_from_the_exposure_that_shows_it() -> None:
    scene = _scene(1, 64, 128) * 0.6 + 0.2
    left, right = scene.clone(), scene.clone()
    left[..., 64:] = 0.99  # burnt out on the right
    right[..., :64] = 0.01  # drowned on the left
    y = fuse([left, right])
    assert (y - scene)[..., :32].abs().mean() < 0.03
    assert (y - scene)[..., 96:].abs().mean() < 0.03
    error = (y - scene).abs().mean()
    assert all(error < 0.4 * (x - scene).abs().mean() for x in (left, right))
    assert error < 0.5 * ((left + right) / 2 - scene).abs().mean()
    assert torch.allclose(fuse([scene]), scene, atol=1e-5)
    assert torch.allclose(fuse([scene] * 3), scene, atol=1e-5)
    with pytest.raises(ShapeError, match="fuse: exposures has shapes"):
        fuse([scene, scene[..., 1:]])
    with pytest.raises(ShapeError, match="one or more"):
        fuse([])


def test_linear_oracle_undoes_the_darkening() -> None:
    day = _scene()
    dark = linear_to_srgb(srgb_to_linear(day.double()) * 0.01)
    assert torch.allclose(baselines.LinearOracle(0.01)(dark), day.double(), atol=1e-6)


def test_best_reciprocal_is_the_best_of_all() -> None:
    day, dark = _scene(4), _scene(4, k=0.02)
    dark[3] = day[3]  # needs nothing

    def scorer(x: torch.Tensor) -> torch.Tensor:
        return -(x - day).square().mean((1, 2, 3))

    best = baselines.best_reciprocal(dark, scorer)
    tried = [m(dark) for m in baselines.reciprocal_grid().values()]
    every = torch.stack([scorer(y) for y in [*tried, dark]])
    assert torch.allclose(best.scores, every.amax(0))
    assert best.a[3] == math.inf
    assert torch.equal(best.images[3], dark[3])
    for i in range(3):
        assert torch.allclose(best.images[i], tried[int(every[:, i].argmax())][i], atol=1e-6)
    # equal scores: the untouched picture
    assert (baselines.best_reciprocal(dark, lambda x: torch.zeros(4)).a == math.inf).all()


def test_best_reciprocal_names_what_is_wrong() -> None:
    x = _scene()
    with pytest.raises(ArgumentError, match=r"grid is \[\], must be one or more"):
        baselines.best_reciprocal(x, lambda y: y.mean((1, 2, 3)), grid=[])
    with pytest.raises(ArgumentError, match=r"grid is \[-1.0\]"):
        baselines.best_reciprocal(x, lambda y: y.mean((1, 2, 3)), grid=[-1.0])
    with pytest.raises(ShapeError, match=r"scorer gives shape \(\), must be \(2,\)"):
        baselines.best_reciprocal(x, lambda y: y.mean())
    with pytest.raises(ArgumentError, match="scorer gives NaN"):
        baselines.best_reciprocal(x, lambda y: y.mean((1, 2, 3)) * math.nan)
