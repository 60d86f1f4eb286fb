import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from foveal._core.media import write_image
from foveal._core.weights import save_weights
from foveal.data.sensor_noise import linear_to_srgb, srgb_to_linear
from foveal.errors import ArgumentError
from foveal.lowlight.baselines import SCI, TrainingStep, ZeroDCE, make, train_sci, train_zero_dce
from foveal.lowlight.baselines.sci import NUM_STAGES, Calibrator, sci_losses, smoothness
from foveal.lowlight.baselines.zero_dce import apply_maps, zero_dce_losses

TRAINERS = {"zero-dce": train_zero_dce, "sci": train_sci}
NETWORKS = {"zero-dce": ZeroDCE, "sci": SCI}


def _pictures(num: int = 4, size: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(num, 3, 6, 6, generator=generator)
    day = interpolate(coarse, (size, size), mode="bicubic", align_corners=True).clamp(0, 1)
    factors = torch.logspace(-2, -1, num)[:, None, None, None]
    return linear_to_srgb(srgb_to_linear(day) * factors)


def test_zero_dce_is_as_large_as_published_and_starts_as_no_change() -> None:
    model = ZeroDCE()
    assert sum(p.numel() for p in model.parameters()) == 79_416
    assert [tuple(m.weight.shape[:2]) for m in (*model.down, model.middle, *model.up)] == [
        (32, 3), (32, 32), (32, 32), (32, 32), (32, 64), (32, 64), (24, 64),
    ]  # fmt: skip
    x = _pictures()
    assert model.maps(x).shape == (4, 8, 3, 48, 48)
    assert torch.allclose(model(x), x, atol=0.01)


def test_zero_dce_joins_layers_symmetrically() -> None:
    """Each layer on the way up reads the one before and its mirror image."""
    model = ZeroDCE()
    x = _pictures(1, 32)
    with torch.no_grad():
        for layer in (*model.down, model.middle, *model.up):
            layer.weight.mul_(8)
    down = []
    h = x
    for layer in model.down:
        h = layer(h).relu()
        down.append(h)
    x4 = model.middle(h).relu()
    x5 = model.up[0](torch.cat([down[2], x4], 1)).relu()
    x6 = model.up[1](torch.cat([down[1], x5], 1)).relu()
    wanted = model.up[2](torch.cat([down[0], x6], 1)).tanh()
    assert wanted.std() > 0.01
    assert torch.allclose(model.maps(x).flatten(1, 2), wanted)


def test_zero_dce_curve_by_hand() -> None:
    x = torch.full((1, 3, 1, 1), 0.25)
    maps = torch.tensor([-1.0, 0.5]).view(1, 2, 1, 1, 1).expand(1, 2, 3, 1, 1)
    once = 0.25 + 0.25 * 0.75
    twice = once - 0.5 * once * (1 - once)
    assert apply_maps(x, maps).flatten().tolist() == pytest.approx([twice] * 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8))
def test_zero_dce_curves_rise_inside_the_range(a: list[float]) -> None:
    x = torch.linspace(0, 1, 101, dtype=torch.float64).expand(1, 3, 1, 101)
    maps = torch.tensor(a, dtype=torch.float64).view(1, 8, 1, 1, 1).expand(1, 8, 3, 1, 101)
    y = apply_maps(x, maps)[0, 0, 0]
    assert y[0] == 0
    assert y[-1] == 1
    assert (y.diff() >= -1e-12).all()


def test_zero_dce_losses_by_their_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    dark, bright = torch.rand(2, 2, 3, 32, 32, generator=generator, dtype=torch.float64)
    maps = torch.rand(2, 8, 3, 32, 32, generator=generator, dtype=torch.float64)
    found = zero_dce_losses(dark, bright, maps)

    patches = [
        bright[n, :, i : i + 16, j : j + 16].mean()
        for n in range(2)
        for i in (0, 16)
        for j in (0, 16)
    ]
    exposure = sum((p - 0.6) ** 2 for p in patches) / len(patches)
    assert found["exposure"].item() == pytest.approx(10 * exposure.item())

    r, g, b = bright.mean((2, 3)).unbind(1)
    color = ((r - g) ** 2 + (r - b) ** 2 + (g - b) ** 2).mean()
    assert found["color"].item() == pytest.approx(5 * color.item())

    def cells(x: torch.Tensor) -> torch.Tensor:
        return x.mean(1).unflatten(2, (8, 4)).unflatten(1, (8, 4)).mean((2, 4))

    y, i = cells(bright), cells(dark)
    spatial = 0.0
    for row in range(8):
        for column in range(8):
            for up, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                p, q = row + up, column + right
                if 0 <= p < 8 and 0 <= q < 8:
                    d = (y[:, row, column] - y[:, p, q]) - (i[:, row, column] - i[:, p, q])
                    spatial += d.square().sum().item()
    assert found["spatial"].item() == pytest.approx(spatial / (2 * 64))

    flat = maps.flatten(1, 2)
    total = 0.0
    for n in range(24):
        across, down = flat[:, n].diff(dim=2), flat[:, n].diff(dim=1)
        total += 2 * (across.square().mean() + down.square().mean()).item()
    assert found["smoothness"].item() == pytest.approx(200 * total)


def test_zero_dce_has_nothing_to_lose_on_the_perfect_picture() -> None:
    x = torch.full((1, 3, 32, 32), 0.6)
    losses = zero_dce_losses(x, x, torch.zeros(1, 8, 3, 32, 32))
    assert all(value.item() == pytest.approx(0, abs=1e-10) for value in losses.values())


def test_sci_is_as_large_as_published() -> None:
    assert sum(p.numel() for p in SCI().parameters()) == 258
    x = _pictures(2, 33)
    model = SCI().eval()
    light = model.illumination(x)
    assert (light >= x).all()  # it only brightens
    assert light.max() <= 1
    assert torch.allclose(model(x), x / light)


def test_sci_smoothness_by_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1, 3, 7, 9, generator=generator, dtype=torch.float64)
    r, g, b = y[0]
    ycc = torch.stack(
        [
            (65.481 * r + 128.553 * g + 24.966 * b) / 255,
            (-37.797 * r - 74.203 * g + 112.0 * b) / 255,
            (112.0 * r - 93.786 * g - 18.214 * b) / 255,
        ]
    )
    total = 0.0
    for down in range(-2, 3):
        for right in range(-2, 3):
            terms = []
            for i in range(7):
                for j in range(9):
                    p, q = i + down, j + right
                    if (down, right) != (0, 0) and 0 <= p < 7 and 0 <= q < 9:
                        w = math.exp(-(ycc[:, i, j] - ycc[:, p, q]).square().sum() / (2 * 0.1**2))
                        terms += (w * (x[0, :, i, j] - x[0, :, p, q]).abs()).tolist()
            total += sum(terms) / max(len(terms), 1)
    assert smoothness(x, y, sigma=0.1).item() == pytest.approx(total)
    plain = smoothness(x, y, sigma=1e6).item()
    assert smoothness(x, y, sigma=10).item() == pytest.approx(plain, rel=0.02)


def test_sci_stages_share_the_network_and_are_calibrated() -> None:
    torch.manual_seed(1)
    model, calibrator = SCI().eval(), Calibrator().eval()
    x = _pictures(2)
    found = sci_losses(model, calibrator, x, sigma=0.1)
    seen, fidelity, smooth = x, 0.0, 0.0
    for _ in range(3):
        light = model.illumination(seen)
        fidelity += 1.5 * (light - seen).square().mean().item()
        smooth += smoothness(light, seen, sigma=0.1).item()
        seen = x + calibrator((x / light).clamp(0, 1))
    assert NUM_STAGES == 3
    assert found["fidelity"].item() == pytest.approx(fidelity, rel=1e-5)
    assert found["smoothness"].item() == pytest.approx(smooth, rel=1e-5)
    (found["fidelity"] + found["smoothness"]).backward()
    for parameter in (*model.parameters(), *calibrator.parameters()):
        assert parameter.grad is not None
    assert all(m.weight.grad.abs().sum() > 0 for m in (model.first, calibrator.tail))


@pytest.mark.parametrize("name", sorted(TRAINERS))
def test_training_lowers_the_loss_and_brightens(name: str) -> None:
    steps: list[TrainingStep] = []
    before = torch.random.get_rng_state()
    model = TRAINERS[name](
        _pictures(), num_steps=40, batch_size=2, size=32, learning_rate=3e-3, on_step=steps.append
    )
    assert torch.equal(before, torch.random.get_rng_state())
    losses = [s.loss for s in steps]
    assert [s.step for s in steps] == list(range(1, 41))
    assert steps[0].loss == pytest.approx(sum(steps[0].parts.values()), rel=1e-5)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    x = _pictures()
    assert (model(x).mean((1, 2, 3)) > x.mean((1, 2, 3))).all()


@pytest.mark.parametrize("name", sorted(TRAINERS))
def test_seeds_decide_and_files_do_as_tensors(name: str, tmp_path: Path) -> None:
    pictures = (_pictures(3) * 255).round() / 255
    for i, picture in enumerate(pictures):
        write_image(tmp_path / f"{i}.png", picture)
    options = {"num_steps": 3, "batch_size": 2, "size": 32}
    first = TRAINERS[name](pictures, **options).state_dict()
    again = TRAINERS[name]([tmp_path / f"{i}.png" for i in range(3)], **options).state_dict()
    other = TRAINERS[name](pictures, seed=1, **options).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


@pytest.mark.parametrize("name", sorted(TRAINERS))
def test_training_names_what_is_wrong(name: str) -> None:
    train, where = TRAINERS[name], "train_" + name.replace("-", "_")
    good = _pictures()
    for option, value in (
        ("num_steps", 0), ("batch_size", 0), ("size", 16), ("learning_rate", 0),
        ("learning_rate", math.nan), ("clip", 0), ("weight_decay", -1), ("device", "nowhere"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=f"{where}: {option} is "):
            train(good, **{option: value})
    options = {"num_steps": 1, "size": 32}
    with pytest.raises(ArgumentError, match=f"{where}: pictures is 'empty'"):
        train([], **options)
    with pytest.raises(ArgumentError, match=f"{where}: pictures holds a picture .*NaN"):
        train(good * math.nan, **options)
    with pytest.raises(ArgumentError, match=f"{where}: pictures holds clips"):
        train(good[None].repeat(2, 1, 1, 1, 1), **options)
    with pytest.raises(ArgumentError, match=f"{where}: learning_rate is 1e.30.*lower it"):
        train(good, num_steps=5, size=32, learning_rate=1e30)


def test_on_step_can_stop_by_raising() -> None:
    def stop(step: TrainingStep) -> None:
        if step.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sci(_pictures(), num_steps=100, size=32, on_step=stop)
    with pytest.raises(ArgumentError, match="sigma is 0"):
        train_sci(_pictures(), sigma=0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(TRAINERS))
def test_training_on_a_gpu(name: str) -> None:
    model = TRAINERS[name](_pictures(), num_steps=5, batch_size=2, size=32, device="cuda")
    on_cpu = TRAINERS[name](_pictures(), num_steps=5, batch_size=2, size=32)
    x = _pictures().cuda()
    assert torch.allclose(model(x).cpu(), on_cpu(_pictures()), atol=1e-2)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_weights_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = NETWORKS[name]()
    with torch.no_grad():
        for buffer in model.buffers():
            buffer += 1
    path = tmp_path / "own.safetensors"
    model.save(path)
    back = NETWORKS[name].load(path)
    assert all(torch.equal(v, back.state_dict()[k]) for k, v in model.state_dict().items())
    x = _pictures()
    assert torch.equal(make(name, source=path)(x), model.eval()(x))
    assert not back.training


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_missing_and_foreign_weights_are_named(name: str, tmp_path: Path) -> None:
    network, other = NETWORKS[name], NETWORKS[{"sci": "zero-dce", "zero-dce": "sci"}[name]]
    where = network.__name__
    with pytest.raises(ArgumentError, match=f"{where}.load: source is 'nothing', no weights of"):
        network.load("nothing")
    with pytest.raises(ArgumentError, match="gone.safetensors"):
        network.load(tmp_path / "gone.safetensors")
    with pytest.raises(ArgumentError, match=f"{where}.save: path is .*must end in .safetensors"):
        network().save(tmp_path / "own.pth")
    path = tmp_path / "own.safetensors"
    other().save(path)
    with pytest.raises(ArgumentError, match=f"holds '{other.__name__}', must hold '{where}'"):
        network.load(path)
    tensors = network().state_dict()
    key = next(iter(tensors))
    save_weights(path, {k: v for k, v in tensors.items() if k != key}, {"model": where})
    with pytest.raises(ArgumentError, match=f"(?s){where}.load: source is .*{key}"):
        network.load(path)
    save_weights(path, tensors | {key: tensors[key] * math.nan}, {"model": where})
    with pytest.raises(ArgumentError, match=f"{key} has NaN or infinity"):
        network.load(path)
    network().save(path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ArgumentError, match="SHA-256"):
        network.load(path)
    network().save(path)
    path.with_suffix(".json").write_text(json.dumps({"format_version": 1}))
    with pytest.raises(ArgumentError, match="cannot be read"):
        network.load(path)
