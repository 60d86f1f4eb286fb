"""The task networks: their shapes, folding, 8-bit files, hashes and refusals."""

import json

import pytest
import torch
from torch.nn import functional as F

from foveal._core import weights
from foveal.data.taskworld import TASKS
from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.task_layers import ARCHITECTURES, Conv, multiply_adds
from foveal.teachers.task_network import (
    TaskBank,
    TaskNetwork,
    dead_channels,
    dequantize,
    load_networks,
    quantize,
    save_networks,
)


def used(task: str, arch="residual", seed: int = 0) -> TaskNetwork:
    """A network whose normalisation has statistics and factors unlike those of a new one."""
    torch.manual_seed(seed)
    network = TaskNetwork(task, arch)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return network.freeze()


def shape_of(task: str) -> tuple[int, ...]:
    if TASKS[task].kind == "class":
        return (2, TASKS[task].channels)
    return (2, TASKS[task].channels, 128, 128)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("task", list(TASKS))
def test_features_and_answers_have_the_shapes_and_the_network_the_size(task, arch) -> None:
    network, images = used(task, arch), torch.rand(2, 3, 256, 256)
    features = network.encode(images)
    assert features.shape == (2, 8, 16, 16)
    assert features.min() == 0
    assert features.max() > 0
    answer = network(images)
    assert answer.shape == shape_of(task)
    assert answer.dtype == torch.float32
    assert torch.equal(answer, network.decode(features))
    assert sum(p.numel() for p in network.parameters()) <= 350_000
    one = images[:1]
    assert multiply_adds(network, lambda: network(one)) < 0.5e9


def test_answers_keep_to_their_units() -> None:
    features = 5 * torch.rand(1, 8, 16, 16)
    lengths = used("normal").decode(features).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    for task in ("reshading", "occlusion_edge", "texture_edge", "keypoints"):
        answer = used(task).decode(features)
        assert answer.min() >= 0
        assert answer.max() <= 1
    assert used("scene").decode(features).min() < 0


def test_multiply_adds_by_hand() -> None:
    layer = Conv(3, 5, 3, stride=2)
    images = torch.rand(4, 3, 8, 8)
    assert multiply_adds(layer, lambda: layer(images)) == 5 * 4 * 4 * 27


def test_a_folded_convolution_by_hand() -> None:
    layer = Conv(1, 1, 1, relu=False).eval()
    with torch.no_grad():
        layer.conv.weight.fill_(3.0)
        layer.norm.running_mean.fill_(2.0)
        layer.norm.running_var.fill_(4.0 - layer.norm.eps)
        layer.norm.weight.fill_(5.0)
        layer.norm.bias.fill_(7.0)
    layer.fold()  # 5 (3 x - 2) / 2 + 7
    torch.testing.assert_close(layer(torch.tensor([[[[4.0]]]])), torch.tensor([[[[32.0]]]]))
    assert float(layer.conv.weight.detach()) == pytest.approx(7.5)
    assert float(layer.conv.bias.detach()) == pytest.approx(2.0)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("task", ["scene", "normal"])
def test_folding_changes_no_answer(task, arch) -> None:
    network, images = used(task, arch), torch.rand(2, 3, 256, 256)
    features, answer = network.encode(images), network(images)
    network.fold()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(network.encode(images), features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network(images), answer, rtol=1e-3, atol=1e-3)


def test_codes_by_hand() -> None:
    weight = torch.tensor([[[[1.27, -0.5]]], [[[0.0, 0.0]]], [[[-2.54, 0.011]]]])
    codes, scale = quantize(weight)
    assert codes.dtype == torch.int8
    assert codes.flatten().tolist() == [127, -50, 0, 0, -127, 1]
    torch.testing.assert_close(scale, torch.tensor([0.01, 1.0, 0.02]))
    back = dequantize(codes, scale)
    torch.testing.assert_close(back.flatten(), torch.tensor([1.27, -0.5, 0, 0, -2.54, 0.02]))


def test_a_weight_is_off_by_half_a_step_at_most() -> None:
    weight = torch.randn(16, 8, 3, 3)
    codes, scale = quantize(weight)
    assert ((dequantize(codes, scale) - weight).abs().amax((1, 2, 3)) <= 0.5001 * scale).all()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_files_hold_networks_in_eight_bits_and_give_nearly_their_answers(tmp_path, arch) -> None:
    path, images = tmp_path / "nets.safetensors", torch.rand(2, 3, 256, 256)
    before = [used("depth", arch), used("scene", arch)]
    save_networks(path, before, about={"commit": "abc"})
    assert any(name.endswith("norm.weight") for name in before[0].state_dict())
    count = sum(p.numel() for n in before for p in n.parameters())
    assert path.stat().st_size < 1.25 * count
    for network in before:
        loaded = TaskNetwork.load(network.task.name, arch, source=path)
        assert not loaded.training
        assert not any(p.requires_grad for p in loaded.parameters())
        wanted, found = network.encode(images), loaded.encode(images)
        assert F.cosine_similarity(found.flatten(1), wanted.flatten(1)).min() > 0.99
        again = load_networks([network.task.name], arch, source=path)[network.task.name]
        assert torch.equal(again(images), loaded(images))
    assert json.loads(path.with_suffix(".json").read_text())["config"]["about"] == {"commit": "abc"}
    assert list(load_networks(arch=arch, source=path)) == ["scene", "depth"]


def test_what_was_loaded_can_be_written_again(tmp_path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_networks(first, [used("curvature")])
    save_networks(second, [TaskNetwork.load("curvature", source=first)])
    images = torch.rand(1, 3, 256, 256)
    torch.testing.assert_close(
        TaskNetwork.load("curvature", source=second)(images),
        TaskNetwork.load("curvature", source=first)(images),
        rtol=1e-4,
        atol=1e-4,
    )


def test_the_hash_is_of_task_architecture_and_numbers(tmp_path) -> None:
    path = tmp_path / "nets.safetensors"
    save_networks(path, [used("depth"), used("reshading", seed=1)])
    loaded = TaskNetwork.load("depth", source=path)
    assert loaded.sha256 == TaskNetwork.load("depth", source=path).sha256
    other = TaskNetwork.load("reshading", source=path)
    hashes = {loaded.sha256, other.sha256}
    other.load_state_dict(loaded.state_dict())
    hashes.add(other.sha256)
    with torch.no_grad():
        loaded.encoder[0].conv.bias[3] += 1e-3
    hashes.add(loaded.sha256)
    assert len(hashes) == 4
    assert all(len(h) == 64 for h in hashes)


def test_a_bank_gives_what_its_networks_give(tmp_path) -> None:
    path, images = tmp_path / "nets.safetensors", torch.rand(2, 3, 256, 256)
    save_networks(path, [used("depth"), used("scene", seed=1)])
    bank = TaskBank.load(["scene", "depth"], source=path)
    assert bank.tasks == ("scene", "depth")
    features = bank.features(images)
    answers = bank.answers(features)
    for task in bank.tasks:
        assert torch.equal(features[task], bank[task].encode(images))
        assert torch.equal(answers[task], bank[task](images))
    with pytest.raises(
        ArgumentError, match=r"TaskBank: task is 'normal', must be one of \['scene'"
    ):
        bank["normal"]
    with pytest.raises(ArgumentError, match="must be of one task or more, each once"):
        TaskBank([used("depth"), used("depth")])
    with pytest.raises(ArgumentError, match="must be of one task or more"):
        TaskBank([])


def test_gradients_reach_features_and_pixels_and_no_weight() -> None:
    network = used("normal")
    images = torch.rand(1, 3, 256, 256, requires_grad=True)
    network(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert bool(images.grad.any())
    features = torch.rand(1, 8, 16, 16, requires_grad=True)
    network.decode(features)[:, 0].sum().backward()
    assert features.grad is not None
    assert bool(features.grad.any())
    assert all(p.grad is None for p in network.parameters())


def test_dead_channels_are_counted() -> None:
    features = torch.zeros(2, 8, 16, 16)
    features[1, [0, 1, 2, 4, 5, 7], 3, 4] = 0.5
    assert dead_channels(features) == [3, 6]


@pytest.mark.parametrize("size", [(100, 300), (256, 256), (512, 400)])
def test_preprocess_brings_any_size_into_the_square(size) -> None:
    images = torch.rand(1, 3, *size)
    square = TaskNetwork.preprocess(images)
    assert square.shape == (1, 3, 256, 256)
    if size == (256, 256):
        assert torch.equal(square, images)


BAD_IMAGES = {
    "size": (torch.rand(1, 3, 255, 256), ShapeError, r"\(1, 3, 255, 256\).*preprocess"),
    "grey": (torch.rand(1, 1, 256, 256), ShapeError, r"\(1, 1, 256, 256\)"),
    "empty": (torch.rand(0, 3, 256, 256), ShapeError, r"\(0, 3, 256, 256\)"),
    "one": (torch.rand(3, 256, 256), ShapeError, r"\(3, 256, 256\)"),
    "whole": (torch.zeros(1, 3, 256, 256, dtype=torch.uint8), ArgumentError, "divide by 255"),
    "bright": (torch.full((1, 3, 256, 256), 255.0), ArgumentError, "255.*divide 8-bit"),
    "nan": (torch.full((1, 3, 256, 256), torch.nan), ArgumentError, "nan.*without NaN"),
}


@pytest.mark.parametrize("case", list(BAD_IMAGES))
def test_images_that_are_none_are_named(case) -> None:
    images, kind, text = BAD_IMAGES[case]
    with pytest.raises(kind, match=r"TaskNetwork.encode \(depth\): images.*" + text):
        used("depth").encode(images)
    with pytest.raises(kind, match="TaskBank.features: images.*" + text):
        TaskBank([used("depth")]).features(images)
    if case not in ("size", "bright", "nan"):
        with pytest.raises(kind, match="TaskNetwork.preprocess: images"):
            TaskNetwork.preprocess(images)


BAD_FEATURES = {
    "shape": (torch.rand(1, 8, 16, 15), ShapeError, r"\(1, 8, 16, 15\), must be \(b, 8, 16, 16\)"),
    "empty": (torch.rand(0, 8, 16, 16), ShapeError, r"\(0, 8, 16, 16\)"),
    "whole": (torch.zeros(1, 8, 16, 16, dtype=torch.int8), ArgumentError, "torch.int8.*dequantize"),
    "nan": (torch.full((1, 8, 16, 16), torch.nan), ArgumentError, "NaN or infinity"),
}


@pytest.mark.parametrize("case", list(BAD_FEATURES))
def test_features_that_are_none_are_named(case) -> None:
    features, kind, text = BAD_FEATURES[case]
    with pytest.raises(kind, match=r"TaskNetwork.decode \(depth\): features.*" + text):
        used("depth").decode(features)


def test_names_that_do_not_exist_are_named(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"task is 'colour', must be one of \['scene'"):
        TaskNetwork("colour")
    with pytest.raises(ArgumentError, match=r"arch is 'vit', must be one of \['residual'"):
        TaskNetwork("depth", "vit")
    with pytest.raises(ArgumentError, match="task is 'colour'"):
        TaskNetwork.load("colour")
    with pytest.raises(ArgumentError, match="must end in .safetensors"):
        TaskNetwork.load("depth", source=tmp_path / "nets.pt")
    with pytest.raises(ArgumentError, match="must end in .safetensors"):
        save_networks(tmp_path / "nets.pt", [used("depth")])
    with pytest.raises(ArgumentError, match="must be of one architecture"):
        save_networks(tmp_path / "a.safetensors", [used("depth"), used("scene", "separable")])
    path = tmp_path / "nets.safetensors"
    save_networks(path, [used("depth")])
    with pytest.raises(ArgumentError, match=r"lacks \['scene'\]; it has \['depth'\]"):
        TaskNetwork.load("scene", source=path)
    with pytest.raises(ArgumentError, match="of architecture 'residual', must hold"):
        TaskNetwork.load("depth", "separable", source=path)
    with pytest.raises(ArgumentError, match=r"tasks is \[\]"):
        load_networks([], source=path)


def test_networks_that_are_not_finite_are_not_written(tmp_path) -> None:
    network = used("depth")
    with torch.no_grad():
        network.decoder[0].conv.weight[0, 0, 0, 0] = torch.inf
    with pytest.raises(ArgumentError, match="depth holds NaN or infinity in decoder.0.conv.weight"):
        save_networks(tmp_path / "nets.safetensors", [network])


NAME = "depth/encoder.0.conv"
HOSTILE = {
    "missing": (f"{NAME}.weight", None, "encoder.0.conv.weight is missing"),
    "dtype": (f"{NAME}.weight", torch.zeros(16, 3, 3, 3), "is torch.float32.*must be torch.int8"),
    "shape": (f"{NAME}.weight", torch.zeros(16, 3, 3, 2, dtype=torch.int8), r"\(16, 3, 3, 2\)"),
    "scales": (f"{NAME}.weight.scale", torch.ones(15), r"\(15,\), must be torch.float32 \(16,\)"),
    "negative": (f"{NAME}.weight.scale", torch.full((16,), -2.0), "has -2.0, must be > 0"),
    "nan": (f"{NAME}.weight.scale", torch.full((16,), torch.nan), "holds NaN"),
    "overflow": (f"{NAME}.weight.scale", torch.full((16,), 3e38), "holds NaN or infinity"),
    "bias": (f"{NAME}.bias", torch.full((16,), torch.inf), "bias holds NaN or infinity"),
}


@pytest.mark.parametrize("case", list(HOSTILE))
def test_files_that_are_not_ours_are_named(tmp_path, case) -> None:
    path = tmp_path / "nets.safetensors"
    save_networks(path, [used("depth")])
    config, tensors = weights.load_weights(path)
    name, value, text = HOSTILE[case]
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    weights.save_weights(path, tensors, config)
    with pytest.raises(ArgumentError, match=text):
        TaskNetwork.load("depth", source=path)


def test_another_model_is_named(tmp_path) -> None:
    path = tmp_path / "other.safetensors"
    weights.save_weights(path, {"x": torch.zeros(1)}, {"model": "FlowNet"})
    with pytest.raises(ArgumentError, match="holds 'FlowNet' of architecture None, must hold"):
        TaskNetwork.load("depth", source=path)
