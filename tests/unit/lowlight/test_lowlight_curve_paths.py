"""The published network, and the three paths that agree: torch, NumPy and tables."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal import lowlight
from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight import numpy_curve
from foveal.lowlight.concave_curve import NUM_KNOTS
from foveal.lowlight.lookup import translate
from foveal.lowlight.numpy_curve import NumpyCurve

PACKAGED = [0.50803, 0.93946, 0.99897, 0.57006, 0.96982, 0.99809, 0.68531, 0.99478, 1.0]


def _curvature(seed: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(batch, NUM_KNOTS, 3, generator=generator, dtype=torch.float64)
    return u * (torch.rand(u.shape, generator=generator) > 0.9)


def _numpy(model: lowlight.ConcaveCurve) -> NumpyCurve:
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    return NumpyCurve(state, model.thumbnail, model.mode, model.coupled)


def _published_by_hand(image: np.ndarray, model: lowlight.ConcaveCurve) -> np.ndarray:
    """The released pipeline step by step: nearest thumbnail, min(i, j) matrix, maximum, gather."""
    height, width = image.shape[1:]
    rows, columns = (np.arange(16) * n // 16 for n in (height, width))
    small = torch.from_numpy(image[:, rows][:, :, columns].copy())[None]
    relu = torch.relu
    x1 = relu(model.conv1(small))
    x2 = relu(model.conv2(x1))
    x3 = relu(model.conv3(x2))
    x4 = relu(model.conv4(torch.cat([x2, x3], 1)))
    x5 = relu(model.conv5(torch.cat([x1, x4], 1)))
    features = model.down2(model.down1(x5)).mean((2, 3))
    u = relu(model.fc(features)).reshape(255, 3).double().numpy()
    matrix = np.minimum(np.arange(256)[:, None], np.arange(1, 256)[None])
    curve = matrix @ u
    curve = curve / (curve.max(0) + 1e-10)
    index = np.floor(image * np.float32(255)).astype(int)
    return np.stack([curve[index[c], c] for c in range(3)])


@pytest.mark.parametrize("size", [(16, 16), (37, 53), (200, 90)])
def test_the_published_mode_is_the_released_pipeline(size) -> None:
    model = lowlight.ConcaveCurve.published().eval().requires_grad_(False)
    model.load_state_dict(lowlight.ConcaveCurve.load().state_dict())
    image = torch.rand(3, *size) * 0.4
    wanted = _published_by_hand(image.numpy(), model)
    assert np.abs(model(image[None])[0].numpy() - wanted).max() < 1e-5
    assert sum(p.numel() for p in model.parameters()) == 158_061


def test_the_published_mode_makes_black_what_the_default_leaves() -> None:
    u = torch.zeros(1, NUM_KNOTS, 3)
    image = torch.rand(1, 3, 4, 4)
    black = lowlight.apply_curve(image, lowlight.integrate(u, mode="published"), mode="published")
    assert black.max() == 0
    assert (lowlight.apply_curve(image, lowlight.integrate(u)) - image).abs().max() < 1e-6


def test_a_dead_network_is_the_identity_in_every_path() -> None:
    model = lowlight.ConcaveCurve().requires_grad_(False)
    for value in model.parameters():
        value.zero_()
    levels = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, 2)
    curve = model.predict(torch.rand(1, 3, 20, 20))
    assert np.array_equal(_numpy(model).enhance(levels), levels)
    assert np.array_equal(lowlight.apply_table(levels, lowlight.lookup_table(curve[0])), levels)
    # an untrained network sees an all-black picture, and there is no bias: u = 0 again
    black = torch.zeros(1, 3, 20, 20)
    untrained = lowlight.ConcaveCurve().requires_grad_(False)
    assert untrained.curvature(black).max() == 0
    assert (untrained.predict(black)[0, 0] - torch.linspace(0, 1, 256)).abs().max() < 1e-6


def test_the_floor_changes_no_living_curve() -> None:
    u = _curvature(3)
    exact = lowlight.integrate(u)
    assert (exact - lowlight.integrate(u, mode="published")).abs().max() < 1e-9
    tiny = lowlight.integrate(u * 1e-12)
    step = tiny.diff()
    assert (step >= -1e-12).all()
    assert (step.diff() <= 1e-12).all()
    assert (tiny[..., -1] - 1).abs().max() < 1e-9


@given(st.integers(0, 500), st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_interpolation_is_the_closed_form_at_every_value(seed: int, at: int) -> None:
    u = _curvature(seed, batch=2)
    x = torch.rand(2, 3, 40, generator=torch.Generator().manual_seed(at), dtype=torch.float64)
    fast = lowlight.apply_curve(x[..., None], lowlight.integrate(u))[..., 0]
    assert (fast - lowlight.closed_form(x, u)).abs().max() < 1e-9


def test_gradients_of_the_closed_form_are_those_of_the_fast_path() -> None:
    grads = []
    for closed in (True, False):
        u = _curvature(5).requires_grad_()
        x = torch.linspace(0.001, 0.998, 33, dtype=torch.float64).expand(1, 3, -1).clone()
        x.requires_grad_()
        if closed:
            y = lowlight.closed_form(x, u)
        else:
            y = lowlight.apply_curve(x[..., None], lowlight.integrate(u))[..., 0]
        grads.append(torch.autograd.grad((y**2).sum(), (x, u)))
    for ours, theirs in zip(*grads, strict=True):
        assert (ours - theirs).abs().max() < 1e-9
    assert grads[0][0][..., 0].abs().min() > 1e-3
    # the released gather: none reaches the pixels
    x = torch.rand(1, 3, 4, 4, requires_grad=True)
    y = lowlight.apply_curve(x, lowlight.integrate(_curvature(5).float()), mode="published")
    assert not y.requires_grad


@pytest.mark.parametrize("mode", ["closed", "published"])
@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (17, 300), (64, 48)])
def test_torch_and_numpy_agree(mode, coupled, size) -> None:
    model = lowlight.ConcaveCurve(mode=mode, coupled=coupled).eval().requires_grad_(False)
    model.load_state_dict(lowlight.ConcaveCurve.load().state_dict())
    twin = _numpy(model)
    image = torch.rand(3, *size) * 0.3
    array = image.permute(1, 2, 0).numpy()
    curve = model.predict(image[None])[0]
    assert np.abs(twin.predict(array) - curve.numpy()).max() < 1e-5
    bright = model(image[None])[0].permute(1, 2, 0).numpy()
    far = np.abs(twin.enhance(array) - bright) > 1e-5
    assert far.mean() < (0.01 if mode == "published" else 1e-9)
    assert twin.enhance(array).dtype == np.float32
    assert twin.enhance(array.astype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("mode", ["closed", "published"])
def test_tables_are_the_curve_at_every_level(bits, mode) -> None:
    curve = lowlight.integrate(_curvature(7), mode=mode)
    top = (1 << bits) - 1
    levels = torch.arange(top + 1, dtype=torch.float64) / top
    exact = lowlight.apply_curve(levels.expand(1, 3, 1, -1), curve, mode=mode)[0, :, 0] * top
    if mode == "published":  # floor(v / top * 255) of the whole numbers, not of rounded quotients
        index = (torch.arange(top + 1) * 255).div(top, rounding_mode="floor")
        exact = curve[0][:, index] * top
    table = lowlight.lookup_table(curve[0], bit_depth=bits, mode=mode)
    assert table.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert np.abs(table - exact.numpy()).max() <= 0.5 + 1e-9
    assert (table[:, 0] == 0).all()
    assert (table[:, -1] == top).all()
    assert (np.diff(table.astype(int)) >= 0).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (300, 401), (3, 3)])
def test_every_layout_gives_the_same_levels(kind, same, size) -> None:
    curve = lowlight.integrate(_curvature(9))[0].float()
    curve = curve[:1].expand(3, -1) if same else curve
    tables = lowlight.lookup_table(curve, bit_depth=8 * np.dtype(kind).itemsize)
    image = np.random.default_rng(0).integers(0, tables.shape[1], (*size, 3), kind)
    wanted = numpy_curve.apply(image, curve.double().numpy())
    flat = lowlight.apply_table(image, tables)
    planar = lowlight.apply_table(np.ascontiguousarray(np.moveaxis(image, -1, 0)), tables)
    assert np.array_equal(flat, wanted)
    if size[1] != 3:  # else the last axis is the channels
        assert np.array_equal(np.moveaxis(planar, 0, -1), wanted)
    turned = np.rot90(image)
    assert np.array_equal(lowlight.apply_table(turned, tables), np.rot90(wanted))
    assert flat.flags.writeable
    assert np.array_equal(translate(image[..., 0], tables[0]), wanted[..., 0])


def test_levels_above_a_short_table_become_its_last() -> None:
    tables = lowlight.lookup_table(lowlight.integrate(_curvature(1))[0], bit_depth=10)
    image = np.full((2, 2, 3), 5000, np.uint16)
    assert (lowlight.apply_table(image, tables) == 1023).all()
    assert (lowlight.apply_table(np.moveaxis(image, -1, 0).copy(), tables) == 1023).all()


def test_16_bit_input_is_not_banded() -> None:
    """A ramp of 1 % of the range: 655 levels, which 8 bits would fold into three."""
    curve = lowlight.integrate(torch.ones(1, NUM_KNOTS, 3, dtype=torch.float64))
    ramp = np.arange(655, dtype=np.uint16)[None, :, None].repeat(3, 2)
    out = lowlight.apply_table(ramp, lowlight.lookup_table(curve[0], bit_depth=16))
    assert len(np.unique(out)) == 655
    floats = torch.arange(655, dtype=torch.float64).expand(1, 3, 1, -1) / 65535
    assert len(lowlight.apply_curve(floats, curve).unique()) == 655
    assert len(lowlight.apply_curve(floats, curve, mode="published").unique()) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_fp32(dtype) -> None:
    curve = lowlight.integrate(_curvature(2).float())
    image = (torch.rand(1, 3, 50, 50) ** 3).to(dtype)
    out = lowlight.apply_curve(image, curve)
    assert out.dtype == dtype
    assert torch.equal(out, lowlight.apply_curve(image.float(), curve).to(dtype))
    assert lowlight.integrate(_curvature(2).to(dtype)).dtype == torch.float32


def test_nan_stays_where_it_is() -> None:
    image = torch.rand(1, 3, 4, 4)
    image[0, 1, 2, 3] = float("nan")
    out = lowlight.apply_curve(image, lowlight.integrate(_curvature(2).float()))
    assert torch.equal(out.isnan(), image.isnan())


def test_arguments_are_named() -> None:
    curve = lowlight.integrate(_curvature(0))
    table = lowlight.lookup_table(curve[0])
    image = np.zeros((4, 4, 3), np.uint8)
    for call, kind, words in (
        (lambda: lowlight.lookup_table(curve[0], bit_depth=7), ArgumentError, "bit_depth is 7"),
        (lambda: lowlight.lookup_table(curve[0] * float("nan")), ArgumentError, "NaN"),
        (lambda: lowlight.lookup_table(curve[0, :2]), ShapeError, r"\(2, 256\)"),
        (lambda: lowlight.apply_table(image[..., 0], table), ShapeError, r"\(4, 4\)"),
        (lambda: lowlight.apply_table(image.astype(np.int16), table), ArgumentError, "int16"),
        (lambda: lowlight.apply_table(image.astype(np.uint16), table), ArgumentError, "bit depth"),
        (lambda: lowlight.apply_table(image, table[:, :9]), ShapeError, r"\(3, 9\)"),
        (lambda: lowlight.integrate(curve, mode="x"), ArgumentError, "mode is 'x'"),
        (lambda: lowlight.ConcaveCurve(mode="x"), ArgumentError, "mode is 'x'"),
    ):
        with pytest.raises(kind, match=words):
            call()


def test_normalised_tensors_are_refused_and_overshoot_is_clipped() -> None:
    model, image = lowlight.ConcaveCurve.load(), torch.rand(3, 8, 8) * 0.2
    for bad in ((image - 0.45) / 0.225, image * 255):
        with pytest.raises(ArgumentError, match="undo your model's normalisation"):
            lowlight.enhance(bad, model)
    bent = image.clone()
    bent[0, 0, 0], bent[1, 0, 0] = -0.05, 1.05
    same = lowlight.enhance(bent.clamp(0, 1), model)
    assert torch.equal(lowlight.enhance(bent, model).image, same.image)


def test_each_image_and_channel_is_normalised_alone() -> None:
    model = lowlight.ConcaveCurve.load()
    batch = torch.rand(3, 3, 20, 20) * torch.tensor([0.02, 0.2, 0.9])[:, None, None, None]
    together = model.predict(batch)
    for image, curve in zip(batch, together, strict=True):
        assert (model.predict(image[None])[0] - curve).abs().max() < 1e-5
    assert (together[..., -1] == 1).all()
    scaled = _curvature(4) * torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64)
    assert (lowlight.integrate(scaled) - lowlight.integrate(_curvature(4))).abs().max() < 1e-9


def test_settings_are_saved_with_the_weights(tmp_path) -> None:
    model = lowlight.ConcaveCurve(thumbnail="nearest", mode="published", coupled=True)
    model.save(tmp_path / "c.safetensors")
    back = lowlight.ConcaveCurve.load(tmp_path / "c.safetensors")
    assert back.config() == model.config()
    image = torch.rand(1, 3, 20, 20)
    assert torch.equal(back(image), model(image))
    with pytest.raises(ArgumentError, match=r"must end in \.safetensors"):
        model.save(tmp_path / "c.pt")


def test_the_packaged_weights_give_what_they_gave() -> None:
    """Levels 26, 64 and 128 of the curve for a flat picture, as the card's figures were made."""
    curve = lowlight.ConcaveCurve.load().predict(torch.full((1, 3, 32, 32), 0.05))[0]
    assert curve[:, [26, 64, 128]].flatten().tolist() == pytest.approx(PACKAGED, abs=2e-4)
