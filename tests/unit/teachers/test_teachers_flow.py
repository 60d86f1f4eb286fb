"""The flow network: its parts by hand, its clips, its files, and that it learns."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from foveal._core import weights
from foveal.data.moving_layers import moving_layers, procedural_textures
from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.flow import FlowNet, FrameConv, cost_volume, warp


def small(seed: int = 0) -> FlowNet:
    torch.manual_seed(seed)
    return FlowNet(widths=(8, 12, 16), hidden=(16, 12), radius=2).eval()


def test_the_cost_volume_is_that_of_the_definition() -> None:
    a, b = torch.randn(2, 2, 3, 4, 5, 6)  # b c t h w
    found = cost_volume(a, b, 1)
    assert found.shape == (2, 9, 4, 5, 6)
    for k, (dy, dx) in enumerate((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
        for y in range(5):
            for x in range(6):
                inside = 0 <= y + dy < 5 and 0 <= x + dx < 6
                other = b[..., y + dy, x + dx] if inside else torch.zeros(2, 3, 4)
                wanted = (a[..., y, x] * other).mean(1)
                torch.testing.assert_close(found[:, k, :, y, x], wanted)


def test_warp_fetches_what_the_flow_points_to() -> None:
    frame = torch.arange(48.0).view(1, 1, 1, 6, 8)
    flow = torch.zeros(1, 2, 1, 6, 8)
    flow[:, 0], flow[:, 1] = 2, -1
    found = warp(frame, flow)[0, 0, 0]
    torch.testing.assert_close(found[1:, :6], frame[0, 0, 0, :5, 2:])
    assert found[0].abs().max() < 1e-4
    assert found[:, 6:].abs().max() < 1e-4
    flow[:, 0], flow[:, 1] = 0.5, 0
    torch.testing.assert_close(warp(frame, flow)[0, 0, 0, :, :7], frame[0, 0, 0, :, :7] + 0.5)


def test_a_clip_is_its_pairs_and_a_frame_convolution_knows_no_other_frame() -> None:
    clip, model = torch.rand(2, 3, 4, 24, 32), small()
    flow = model(clip)
    assert flow.shape == (2, 2, 3, 24, 32)
    for i in range(3):
        torch.testing.assert_close(flow[:, :, i : i + 1], model(clip[:, :, i : i + 2]))
    layer = FrameConv(3, 5, stride=2)
    torch.testing.assert_close(layer(clip)[:, :, 2], F.conv2d(
        clip[:, :, 2], layer.weight, layer.bias, stride=2, padding=1
    ))  # fmt: skip


def test_any_size_is_the_repeated_picture_cut_again() -> None:
    clip, model = torch.rand(1, 3, 2, 37, 41), small()
    wide = torch.cat([clip, clip[..., -1:].expand(-1, -1, -1, -1, 7)], -1)
    wide = torch.cat([wide, wide[..., -1:, :].expand(-1, -1, -1, 3, -1)], -2)
    torch.testing.assert_close(model(clip), model(wide)[..., :37, :41])
    assert model(torch.rand(1, 3, 2, 1, 1)).shape == (1, 2, 1, 1, 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_precisions_come_in(dtype) -> None:
    clip, model = torch.rand(1, 3, 2, 16, 24).to(dtype), small()
    assert torch.equal(model(clip), model(clip.float()))


def test_levels_are_of_full_size_and_gradients_reach_every_part_and_pixel() -> None:
    clip, model = torch.rand(1, 3, 3, 32, 48, requires_grad=True), small()
    levels = model.coarse_to_fine(clip)
    assert [x.shape for x in levels] == [(1, 2, 2, 32, 48)] * 3
    assert torch.equal(levels[-1], model(clip))
    levels[-1].square().sum().backward()
    assert (clip.grad.abs().sum((0, 1, 3, 4)) > 0).all()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_a_coarse_flow_brings_the_later_frame_into_place_before_it_is_compared() -> None:
    """Everything moves 8 pixels right: 1 at the coarsest level, 2 at the next."""
    model = small()
    with torch.no_grad():
        for head in model.heads.values():
            head.weight.zero_()
        model.heads["2"].bias.copy_(torch.tensor([1.0, 0.0]))
    seen: list[torch.Tensor] = []
    model.decoders["1"].register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    texture = procedural_textures(1, 96, torch.Generator().manual_seed(0))
    clip = torch.stack([texture[..., 16:80, 16:80], texture[..., 16:80, 8:72]], 2)
    model(clip)
    costs, here = seen[0][0, :25, 0], seen[0][0, 25:37, 0]  # offsets row by row; features
    alike, product = here.square().mean(0)[2:-2, 2:-2], costs[12, 2:-2, 2:-2]
    assert (product - alike).abs().mean() < 0.15 * alike.mean()
    assert torch.equal(seen[0][0, -14, 0], torch.full((16, 16), 2.0))


def test_modules_put_out_maps_that_align_can_read() -> None:
    model, shapes = small(), {}
    for name, module in model.named_modules():
        if name and not list(module.named_children()):
            module.register_forward_hook(lambda m, i, o, n=name: shapes.update({n: o.shape}))
    model(torch.rand(2, 3, 4, 32, 32))
    assert {s[0] for s in shapes.values()} == {2}
    assert {len(s) for s in shapes.values()} == {5}
    assert {s[2] for s in shapes.values()} == {3, 4}
    assert FlowNet().layers == ("encoder.2", "encoder.3", "encoder.4")
    assert set(FlowNet().layers) <= {name for name, _ in FlowNet().named_modules()}


def test_the_whole_network_has_the_size_that_is_said() -> None:
    count = sum(p.numel() for p in FlowNet().parameters())
    assert count == 1_025_226
    assert 4 * count < 5 << 20


def shifted(count: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of textures that move by whole pixels, and their flow."""
    textures = procedural_textures(count, 32, random)
    steps = torch.randint(-2, 3, (count, 2), generator=random)
    later = [
        x[:, 4 - dy : 28 - dy, 4 - dx : 28 - dx]
        for x, (dx, dy) in zip(textures, steps.tolist(), strict=True)
    ]
    clips = torch.stack([textures[:, :, 4:28, 4:28], torch.stack(later)], 2)
    return clips, steps.float()[:, :, None, None, None].expand(-1, -1, 1, 24, 24)


def test_it_learns_to_tell_motion_of_what_it_never_saw() -> None:
    torch.manual_seed(0)
    model = FlowNet(widths=(8, 8, 8), hidden=(16,), radius=2)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    random = torch.Generator().manual_seed(0)
    for _ in range(100):
        clips, wanted = shifted(4, random)
        loss = sum((x - wanted).norm(dim=1).mean() for x in model.coarse_to_fine(clips))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    clips, wanted = shifted(32, torch.Generator().manual_seed(9))
    with torch.no_grad():
        error = (model(clips) - wanted).norm(dim=1).mean()
    assert error < 0.75 * wanted.norm(dim=1).mean()


PACKAGED = Path(weights.__file__).parent.parent / "weights" / "flow.safetensors"


@pytest.mark.skipif(not PACKAGED.exists(), reason="its weights are not packaged yet")
def test_the_packaged_network_sees_motion() -> None:
    assert PACKAGED.stat().st_size < 5 << 20
    model = FlowNet.load()
    scenes = moving_layers(4, size=(128, 128), num_shapes=2, displacement=10.0, seed=0)
    wanted = scenes.flow.transpose(1, 2)
    with torch.no_grad():
        error = (model(scenes.frames.transpose(1, 2)) - wanted).norm(dim=1).mean()
    assert error < 0.5 * wanted.norm(dim=1).mean()


def test_files_go_there_and_back(tmp_path) -> None:
    model = small()
    model.save(tmp_path / "flow.safetensors")
    again = FlowNet.load(tmp_path / "flow.safetensors")
    assert again.config() == model.config()
    clip = torch.rand(1, 3, 2, 16, 16)
    assert torch.equal(again(clip), model(clip))
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    with pytest.raises(ArgumentError, match=r"must end in \.safetensors"):
        model.save(tmp_path / "flow.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "ConcaveCurve"}, "must hold 'FlowNet'"),
        ({"radius": 3}, "size mismatch"),
        ({"radius": 10**6}, "radius is 1000000"),
        ({"radius": "2"}, "radius is 2"),
        ({"widths": [8, 12]}, "widths is"),
        ({"widths": [8, 12, 10**9]}, "widths is"),
        ({"widths": 8}, "not iterable"),
        ({"hidden": [True, 12]}, "hidden is"),
    ],
    ids=str,
)
def test_hostile_settings_are_refused(tmp_path, change, words) -> None:
    model = small()
    weights.save_weights(
        tmp_path / "x.safetensors", model.state_dict(), {**model.config(), **change}
    )
    with pytest.raises(ArgumentError, match=words):
        FlowNet.load(tmp_path / "x.safetensors")


def test_a_missing_setting_and_an_unknown_name_are_named(tmp_path) -> None:
    small().save(tmp_path / "x.safetensors")
    meta = json.loads((tmp_path / "x.json").read_text())
    del meta["config"]["radius"]
    (tmp_path / "x.json").write_text(json.dumps(meta))
    with pytest.raises(ArgumentError, match="radius"):
        FlowNet.load(tmp_path / "x.safetensors")
    with pytest.raises(ArgumentError, match="name is 'sacc-efficientnet-lite0'"):
        FlowNet.load("sacc-efficientnet-lite0")


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (torch.full((1, 3, 2, 8, 8), math.nan), "from nan"),
        (torch.full((1, 3, 2, 8, 8), 255.0), "divide 8 bit"),
    ],
    ids=["nan", "levels"],
)
def test_bad_values_are_named(clip, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        small()(clip)


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (torch.rand(3, 2, 8, 8), "stack frames"),
        (torch.rand(1, 3, 1, 8, 8), "t >= 2"),
        (torch.rand(1, 1, 2, 8, 8), "clip has shape"),
        (torch.rand(1, 3, 2, 0, 8), "clip has shape"),
        (torch.zeros(1, 3, 2, 8, 8, dtype=torch.uint8), "is torch.uint8"),
    ],
    ids=["no batch", "one frame", "grey", "empty", "8 bit"],
)
def test_wrong_shapes_and_types_are_named(clip, words) -> None:
    with pytest.raises((ShapeError, ArgumentError), match=words):
        small()(clip)
