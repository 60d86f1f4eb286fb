"""The model as a whole: starting, gradients, finalising, identity, files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal._core import weights
from foveal._core.weights import load_weights, save_weights
from foveal.codec import model_file
from foveal.codec.config import CodecConfig, Head, Source
from foveal.codec.integer_model import IntegerModel
from foveal.codec.model import FeatureCodec
from foveal.codec.model_file import file_tensors, stream_hash
from foveal.codec.prior.config import KINDS
from foveal.codec.rates import OFF
from foveal.codec.schemes import Sizes, conditional, joint, separate
from foveal.codec.stream import decode, encode, load
from foveal.errors import ArgumentError

SOURCES = (
    Source("a", 3, height=5, width=4, nonnegative=True),
    Source("b", 2, height=5, width=4),
)
SIZES = Sizes(4, 2, 6, 6, 1, "codebook-global", side=2, codewords=3, hyper_hidden=4)
SCHEMES: dict[str, Callable[..., CodecConfig]] = {
    "separate": separate,
    "joint": joint,
    "conditional": conditional,
}
Features = dict[str, Tensor]


def features(count: int = 32) -> Features:
    out = {s.name: 3 + 2 * torch.randn(count, *s.shape) for s in SOURCES}
    return {"a": out["a"].relu(), "b": out["b"]}


def started(scheme: str = "separate", prior: str = "codebook-global") -> FeatureCodec:
    """Return an unfinalised model whose contexts say something."""
    torch.manual_seed(3)
    model = FeatureCodec(SCHEMES[scheme](SOURCES, replace(SIZES, prior=prior)))
    model.start(features())
    with torch.no_grad():
        for key, value in model.named_parameters():
            if ".context.last" in key:
                value.normal_(0, 0.1)
    return model


def all_before(model: FeatureCodec, images: int) -> Tensor:
    layers = len(model.config.layers)
    return torch.ones(layers, layers).tril(-1).expand(images, -1, -1)


# Starting.


def test_latents_and_levels_start_from_the_features() -> None:
    model, x = started(), features(300)
    model.start(x)
    for layer in model.config.layers:
        latents = model.latents(layer, x)
        assert latents.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0] * 4, abs=1e-4)
        assert float(latents.square().mean()) == pytest.approx(1, abs=1e-3)
        scale = latents.abs().mean(dim=0)  # the likeliest Laplace scale
        level = 16 * model.layer(layer.name).prior.base
        assert torch.allclose(0.05 * torch.exp(level * 0.09510), scale, rtol=1e-2)
    assert model.scale("b").mean.tolist() == pytest.approx([3, 3], abs=0.3)
    maps = model.normalise("b", x["b"])
    assert float(maps.std()) == pytest.approx(1, abs=0.05)


def test_features_without_variance_start_too() -> None:
    model = FeatureCodec(separate(SOURCES, SIZES))
    x = {s.name: torch.ones(4, *s.shape) for s in SOURCES}
    model.start(x)
    model.finalise(x)
    assert decode(model, encode(model, x).payload)["b"].isfinite().all()


def test_one_image_starts_a_vector_model() -> None:
    source = Source("v", 4, "vector")
    model = FeatureCodec(separate((source,), replace(SIZES, prior="factorized")))
    model.start({"v": torch.randn(1, 4)})
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("where", ["start", "finalise"])
def test_features_that_are_missing(where: str) -> None:
    model, x = started(), features()
    with pytest.raises(ArgumentError, match=rf"{where}: features has no \['b'\], must have"):
        getattr(model, where)({"a": x["a"]})


def test_features_that_are_not_finite() -> None:
    x = features()
    x["b"][3, 1, 2, 2] = float("nan")
    with pytest.raises(ArgumentError, match="start: features b has NaN, infinite or too large"):
        started().start(x)


# Forward.


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("hard", [False, True])
def test_a_layer_whose_tasks_are_off_costs_nothing_and_is_zero(scheme: str, hard: bool) -> None:
    model, x = started(scheme), features(3)
    quality = torch.full((3, len(model.pairs)), 40.0)
    if scheme == "joint":
        quality[1] = OFF
    else:
        quality[1, 0] = OFF
    out = model(x, quality, hard=hard, before=all_before(model, 3))
    first = model.config.layers[0].name
    for bits in (out.latent_bits[first], out.side_bits[first]):
        assert bits[1] == 0
    assert out.latent_bits[first][0] > 0
    size = model.layer(first).size
    zero = torch.zeros(1, 4, *model.config.layers[0].latent_size(*size))
    silent = model.synthesise("a", {first: zero})
    if scheme != "conditional":
        assert torch.allclose(out.features["a"][1:2], silent, atol=1e-5)
    if scheme == "conditional":
        alone = model(x, quality, hard=True, before=torch.zeros(3, 2, 2))
        both = model(x, quality, hard=True, before=all_before(model, 3))
        assert torch.equal(alone.latent_bits["b"][1], both.latent_bits["b"][1])
        assert alone.latent_bits["b"][0] != both.latent_bits["b"][0]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("hard", [False, True])
def test_gradients_reach_transforms_gains_and_contexts(scheme: str, hard: bool) -> None:
    model, x = started(scheme), features(8)
    quality = torch.rand(8, len(model.pairs)) * 63
    out = model(x, quality, hard=hard, before=all_before(model, 8))
    loss = out.bits.mean() + sum(v.square().mean() for v in out.features.values())
    loss.backward()
    silent = {
        name
        for name, value in model.named_parameters()
        if value.grad is None or not bool((value.grad != 0).any())
    }
    # Without an earlier layer the first context has nothing to say; side symbols may all be 0.
    apart = ("layers.a.context", "layers.joint.prior.", "layers.a.prior.", "layers.b.prior.")
    assert {name for name in silent if not name.startswith(apart)} == set()
    assert not {name for name in silent if name.endswith("prior.base")}


def test_gradients_of_bits_and_errors_pull_gains_apart() -> None:
    model, x = started(), features(32)
    quality = torch.full((32, len(model.pairs)), 30.0)
    gains = model.layer("b").gains.log_gain
    out = model(x, quality)
    (more_bits,) = torch.autograd.grad(out.bits.sum(), gains, retain_graph=True)
    assert float(more_bits.sum()) > 0
    # The error of the latents alone: (round(g y) / g - y)^2 falls as the gain rises.
    latent = model.analyse(model.config.layers[1], x)
    with torch.no_grad():
        latent = latent.detach()
    factor = torch.exp(model.layer("b").gains(quality[:, :1])[..., None, None] * 0.09510)
    rounded = latent * factor + (torch.round(latent * factor) - latent * factor).detach()
    error = (rounded / factor - latent).square().sum()
    (less_error,) = torch.autograd.grad(error, gains)
    assert float(less_error.sum()) == pytest.approx(-2 * float(error.detach()), rel=1e-3)


def test_values_below_0_of_nonnegative_features_can_come_back() -> None:
    model = started()
    latent = torch.zeros(1, 4, 3, 2)
    with torch.no_grad():
        bias = model.head("a").last.bias
        assert bias is not None
        bias.fill_(-100.0)
    out = model.synthesise("a", {"a": latent})
    assert not out.any()
    out.backward(-torch.ones_like(out))  # the error falls as the output rises
    assert bias.grad is not None
    assert bool((bias.grad < 0).all())
    bias.grad = None
    out = model.synthesise("a", {"a": latent})
    out.backward(torch.ones_like(out))
    assert not bias.grad.any()


def test_features_in_double_precision_train_too() -> None:
    model, x = started(), {k: v.double() for k, v in features(4).items()}
    quality = torch.full((4, len(model.pairs)), 30.0)
    wanted = model({k: v.float() for k, v in x.items()}, quality, hard=True)
    found = model(x, quality, hard=True)
    assert torch.allclose(found.bits, wanted.bits, rtol=1e-3)


def test_optional_layers_that_are_absent_are_zeros() -> None:
    model = started("conditional")
    a, b = torch.randn(2, 4, 3, 2), torch.randn(2, 4, 3, 2)
    alone = model.synthesise("a", {"a": a})
    assert torch.equal(alone, model.synthesise("a", {"a": a, "b": torch.zeros_like(b)}))
    assert not torch.equal(alone, model.synthesise("a", {"a": a, "b": b}))


def test_contexts_lower_the_bits_where_layers_repeat_each_other() -> None:
    model = started("conditional")
    x = {"a": torch.randn(64, 3, 5, 4), "b": torch.randn(64, 2, 5, 4)}
    layer = model.layer("b").context
    assert layer is not None
    quality = torch.full((64, 2), 63.0)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    x["b"] = x["a"][:, :2]
    alone = model(x, quality, hard=True).latent_bits["b"].mean().detach()
    for _ in range(50):
        optimizer.zero_grad()
        model(x, quality, before=all_before(model, 64)).latent_bits["b"].mean().backward()
        optimizer.step()
    given = model(x, quality, hard=True, before=all_before(model, 64)).latent_bits["b"].mean()
    assert given < 0.95 * alone


# Finalising and identity.


def test_an_unfinished_model_says_what_to_do(tmp_path: Path) -> None:
    for action in (
        lambda m: m.integers,
        lambda m: m.model_id,
        lambda m: m.save(tmp_path / "x.safetensors"),
        lambda m: encode(m, features()),
        lambda m: decode(m, b""),
    ):
        with pytest.raises(ArgumentError, match="has no integer tables, must be finalised; call"):
            action(started())


def test_a_new_start_makes_finalising_necessary_again() -> None:
    model = started().finalise()
    model.start(features())
    with pytest.raises(ArgumentError, match="must be finalised"):
        _ = model.integers


@pytest.mark.parametrize("prior", KINDS)
def test_finalising_twice_changes_nothing(prior: str) -> None:
    model, x = started("conditional", prior), features()
    first = model.finalise(x).model_id
    payload = encode(model, x, quality=20).payload
    assert model.finalise(x).model_id == first
    assert encode(model, x, quality=20).payload == payload


def test_weights_beyond_fp16_are_named() -> None:
    model = started()
    model.scale("b").mean[1] = 1e5
    with pytest.raises(ArgumentError, match=r"finalise: scales\.b\.mean has values that are not"):
        model.finalise()


@pytest.mark.parametrize("qualities", [(), (64,), (-1, 3)])
def test_qualities_to_count_at(qualities: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"finalise: qualities is .*, must be some of 0\.\.63"):
        started().finalise(features(), qualities=qualities)


def test_counted_tables_cost_fewer_bytes_than_those_of_the_density() -> None:
    x = features(128)
    plain, counted = started().finalise(), started().finalise(x)
    assert len(encode(counted, x, quality=20).payload) < len(encode(plain, x, quality=20).payload)


def test_the_id_depends_on_what_gives_streams_their_meaning() -> None:
    def changed(name: str, amount: float = 0.5) -> bytes:
        model = started()
        with torch.no_grad():
            {**dict(model.named_parameters()), **dict(model.named_buffers())}[name].add_(amount)
        return model.finalise().model_id

    own = started().finalise().model_id
    assert len(own) == 4
    assert started().finalise().model_id == own
    assert changed("heads.a.last.bias") == own
    for name in (
        "layers.a.analysis.parts.0.weight",
        "layers.b.prior.base",
        "layers.a.gains.log_gain",
        "scales.b.mean",
    ):
        assert changed(name) != own, name
    other = FeatureCodec(replace(started().config, order=("b", "a")))
    other.load_state_dict(started().state_dict())
    assert other.finalise().model_id != own
    assert started().finalise(features()).model_id != own


def test_the_id_depends_on_every_number_that_a_decoder_reads() -> None:
    model = started("conditional").finalise()
    own, tensors = model.model_id, file_tensors(model, model.integers)
    read = [name for name in tensors if name.startswith("int.")]
    assert len(read) > 20
    for name in read:
        value = tensors[name].clone()
        value.view(-1)[-1] += 1
        found = tensors | {name: value}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model_file, "file_tensors", lambda *_, found=found: found)
            assert stream_hash(model, model.integers) != own, name
    assert stream_hash(model, model.integers) == own


def test_side_symbols_are_counted_too() -> None:
    """Tables of side symbols follow the training images, not the density that they began as."""
    plain, counted = started().finalise(), started().finalise(features(128))
    for one, other in zip(plain.integers.layers, counted.integers.layers, strict=True):
        tables, fitted = one.prior.side_tables, other.prior.side_tables
        assert tables.sizes.tolist() == fitted.sizes.tolist()
        assert not np.array_equal(tables.frequencies, fitted.frequencies)
        x = features(128)
        layer = next(layer for layer in counted.config.layers if layer.name == other.name)
        log_gain = counted.integers.log_gains(np.full((128, 2), 40))[0]
        side, _, _ = counted.symbols(other, counted.latents(layer, x), log_gain)
        index = np.broadcast_to(other.prior.side_layout(3, 2), side.shape)
        assert fitted.ideal_bits(side, index) < tables.ideal_bits(side, index)


def test_a_head_that_is_added_leaves_id_and_bytes(tmp_path: Path) -> None:
    model, x = started().finalise(), features(4)
    own, payload = model.model_id, encode(model, x).payload
    source = Source("late", 2, "map", 5, 4, nonnegative=True)
    model.extend(source, Head("late", ("a", "b"), external=True), torch.rand(9, 2, 5, 4))
    assert model.model_id == own
    assert decode(model, payload)["late"].shape == (4, 2, 5, 4)
    assert encode(model, x, tasks=["a", "b"]).payload == payload
    model.save(tmp_path / "late.safetensors")
    loaded = load(tmp_path / "late.safetensors")
    assert loaded.model_id == own
    assert loaded.config == model.config
    model.adopt(model.integers)
    assert model.model_id == own


def test_an_order_belongs_to_the_id() -> None:
    model = started("conditional").finalise()
    own = model.model_id
    model.config = replace(model.config, order=("b", "a"))
    model.adopt(IntegerModel(model.integers.layers, (1, 0)))
    assert model.model_id != own


# Files.


@pytest.mark.parametrize("prior", KINDS)
@pytest.mark.parametrize("scheme", ["separate", "conditional"])
def test_a_saved_model_is_the_same_model(scheme: str, prior: str, tmp_path: Path) -> None:
    model, x = started(scheme, prior).finalise(features()), features(6)
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = load(path)
    assert loaded.config == model.config
    assert loaded.model_id == model.model_id
    assert not loaded.training
    for quality in (0, 63):
        payload = encode(model, x, quality=quality).payload
        assert encode(loaded, x, quality=quality).payload == payload
        wanted = decode(model, payload)
        for task, value in decode(loaded, payload).items():
            assert torch.equal(value, wanted[task])
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_model_larger_than_other_weights_may_be_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A codec that trained for hours must not be refused for its size when it is loaded."""
    path = tmp_path / "model.safetensors"
    model = started().finalise()
    model.save(path)
    monkeypatch.setattr(weights, "MAX_BYTES", 100)
    with pytest.raises(ArgumentError, match="must have at most 100"):
        load_weights(path)
    assert load(path).model_id == model.model_id


def test_a_context_of_another_width_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    started("conditional").finalise().save(path)
    config, tensors = load_weights(path)
    tensors = {k: v.half() if k.startswith("net.") else v for k, v in tensors.items()}
    tensors["int.a.context.bias1"] = tensors["int.a.context.bias1"][:6].clone()
    tensors["int.a.context.weight1"] = tensors["int.a.context.weight1"][:6].clone()
    save_weights(path, tensors, config)
    with pytest.raises(ArgumentError, match="context of layer a is for 3 channels, must be for 4"):
        load(path)


def test_training_leaves_out_what_is_not_sent() -> None:
    """Latents of table 0 are 0 in training as in decoding, though they would round to more."""
    model, x = started("separate", "factorized"), features(48)
    with torch.no_grad():
        for name in ("a", "b"):
            model.layer(name).prior.base.sub_(3 * torch.rand_like(model.layer(name).prior.base))
    model.finalise(x)
    lost = 0
    for layer, part in zip(model.config.layers, model.integers.layers, strict=True):
        latent, gain = model.latents(layer, x), model.integers.log_gains(np.full((48, 2), 40))[0]
        index = model.symbols(part, latent, gain)[2].reshape(latent.shape)
        lost += int(((index == 0) & (latent.abs() > 1).numpy()).sum())
    assert lost > 20
    decoded = decode(model, encode(model, x, quality=40).payload)
    with torch.no_grad():
        out = model(x, torch.full((48, 2), 40.0), hard=True)
    for task, wanted in decoded.items():
        near = (out.features[task] - wanted).abs().flatten(1).amax(1) < 1e-3
        assert near.float().mean() > 0.9, task


def test_symbols_lie_within_the_coders_range() -> None:
    model = started().finalise()
    layer, integers = model.config.layers[0], model.integers.layers[0]
    latent = torch.full((1, 4, 3, 2), 1e30)
    log_gain = model.integers.log_gains(np.full((1, 2), 63))[0]
    _, y, indices = model.symbols(integers, latent, log_gain)
    assert set(np.unique(y).tolist()) == {1 << 15}
    assert layer.name == integers.name
    assert (indices > 0).all()
